"""The command line in processes that begin with the libraries in place: started, and killed, in no time."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Imported once, by the server that the processes are forked from
_PRELOADED = [
    "vlsmctl.cli",
    "vlsmctl.prediction",
    "vlsmctl.models.tiny",
    "highdicom",
    "tests.commands.scans",
]


def forked(arguments: Sequence[object], said: Path, env: Mapping[str, str] | None = None) -> Any:
    """A started process; not on Windows. said: gets its standard output, and with `.err` what it says
    besides."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_run, args=([str(each) for each in arguments], said, dict(env or {})))
    process.start()
    return process


def forked_ranks(arguments: Sequence[object], said: Path, ranks: int = 2) -> list[Any]:
    """As a launcher starts them, on one machine. said: of the first one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks),
              "LOCAL_WORLD_SIZE": str(ranks)}  # fmt: skip
    return [
        forked(arguments, said.with_name(f"{said.name}{rank or ''}"),
               {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]  # fmt: skip


def _run(arguments: list[str], said: Path, env: dict[str, str]) -> None:
    from vlsmctl.cli import main

    os.environ.update(env)
    errors = said.with_name(f"{said.name}.err")
    with said.open("w", encoding="utf-8") as sys.stdout, errors.open("w", encoding="utf-8") as sys.stderr:
        sys.argv = ["vlsmctl", *arguments]
        main()
