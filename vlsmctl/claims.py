"""Which process works in a folder, so that no two write the same files at once."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from vlsmctl.errors import UsageError

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
STALE_SECONDS = 24 * 3600  # after which a process of another machine, which cannot be asked, counts as gone


def is_running(process: int, since: float) -> bool:
    """Whether that process is there; one that began later has only the same number."""
    try:
        return psutil.Process(process).create_time() <= since
    except psutil.Error:
        return False


@contextmanager
def claimed(folder: Path, work: str) -> Iterator[None]:
    """Within it, this process alone does `work` ("predict") in the folder. What killed processes left of
    their claims goes.

    Raises UsageError: another one is at it.
    """
    own = folder / f".{work}.{HOST}-{os.getpid()}.lock"
    own.touch()
    try:
        begun = own.stat().st_mtime_ns
        for other in folder.glob(f".{work}.*.lock"):
            if other != own:
                _check(other, begun, work)
        yield
    finally:
        with suppress(OSError):
            own.unlink()


def _check(other: Path, begun: int, work: str) -> None:
    host, _, process = other.name.removesuffix(".lock").rpartition(".")[2].partition("-")
    try:
        since = other.stat().st_mtime_ns
    except FileNotFoundError:
        return  # it has just ended
    ours = host == HOST and process.isdecimal()
    gone = not is_running(int(process), since / 1e9) if ours else time.time() - since / 1e9 > STALE_SECONDS
    if gone:
        with suppress(OSError):
            other.unlink()
    elif (since, other.name) < (begun, ""):  # of two that begin at once, the first goes on
        where = f"process {process}" if ours else "on another machine"
        raise UsageError(
            f"another vlsmctl {work} ({where}) is writing to {str(other.parent)!r}",
            hint=f"wait for its end, or choose another folder with --out; if it is gone, remove {other}",
        )
