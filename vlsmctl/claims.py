"""Which process works in a folder, so that no two write the same files at once."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import psutil

from vlsmctl.errors import UsageError

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
STALE_SECONDS = 24 * 3600  # after which what a process of another machine makes counts as left behind
_HEARTBEAT, _SILENT = 60.0, 600.0  # seconds: a claim is renewed so often; one not renewed so long is void


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
    ended = Event()
    heart = Thread(target=_renew, args=(own, ended), daemon=True)
    try:
        begun = own.stat().st_mtime_ns
        for other in folder.glob(f".{work}.*.lock"):
            if other != own:
                _check(other, (begun, own.name), work)
        heart.start()
        yield
    finally:
        ended.set()
        with suppress(RuntimeError):  # it was never started
            heart.join()
        with suppress(OSError):
            own.unlink()


def _renew(own: Path, ended: Event) -> None:
    while not ended.wait(_HEARTBEAT):
        with suppress(OSError):
            own.touch()


def _check(other: Path, own: tuple[int, str], work: str) -> None:
    """own: when our claim was made, and its name."""
    host, _, process = other.name.removesuffix(".lock").rpartition(".")[2].partition("-")
    try:
        since = other.stat().st_mtime_ns
    except FileNotFoundError:
        return  # it has just ended
    ours = host == HOST and process.isdecimal()
    gone = not is_running(int(process), since / 1e9) if ours else time.time() - since / 1e9 > _SILENT
    if gone:
        with suppress(OSError):
            other.unlink()
    elif (since, other.name) < own:  # of two that begin at once, one goes on
        where = f"process {process}" if ours else "on another machine"
        raise UsageError(
            f"another vlsmctl {work} ({where}) is writing to {str(other.parent)!r}",
            hint=f"wait for its end, or choose another folder with --out; if it is gone, remove {other}",
        )
