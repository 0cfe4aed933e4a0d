"""A data set is built in a hidden folder beside its place and swapped in when it is whole."""

from __future__ import annotations

import filecmp
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from vlsmctl.claims import HOST, STALE_SECONDS, is_running
from vlsmctl.datasets.manifest import INFO, MANIFEST
from vlsmctl.errors import UsageError

FACTS = ".facts.jsonl"  # what was found in each picture, so that the next run need not look again
PREVIEW, EXPORT = "preview.png", "medvlsm"  # made from a prepared set, and old when it is made anew
OURS = ("images", "masks", MANIFEST, INFO, FACTS, PREVIEW, EXPORT)


@contextmanager
def build_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, removed at the end whatever happens. What killed runs left goes.

    Raises UsageError: another run is making that set, or the system refused to write (rights, space).
    """
    work = target.parent / f".{target.name}.{HOST}-{os.getpid()}-{uuid4().hex[:8]}.part"
    try:
        work.mkdir(parents=True)
        for path in target.parent.glob(f".{target.name}.*.part"):
            if path != work:
                _clear(path, target)
        _settle(target, work)
        yield work
    except OSError as error:
        raise UsageError(f"could not make '{target}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _clear(path: Path, target: Path) -> None:
    """Removes what a killed run left. What a run on another machine makes is left alone for a day."""
    host, _, rest = path.name.removesuffix(".part").rpartition(".")[2].partition("-")
    process = rest.partition("-")[0]
    try:
        begun = path.stat().st_mtime
    except FileNotFoundError:
        return  # it has just ended
    if host == HOST and process.isdecimal():
        if is_running(int(process), begun):
            raise UsageError(
                f"'{target}' is being made by another vlsmctl prepare, process {process}",
                hint="wait for its end, or choose another place with --out or another name with --name",
            )
    elif time.time() - begun < STALE_SECONDS:
        return
    shutil.rmtree(path, ignore_errors=True)


def _settle(target: Path, work: Path) -> None:
    """Ends the swap that a killed run left half done, if there is one: puts the former folder back
    where nothing has taken its place, else moves along what is left in it."""
    for former in sorted(target.parent.glob(f".{target.name}.*.former")):
        if (target / INFO).is_file():
            _carry_over(former, target, work)
        else:
            if target.exists():
                target.rmdir()  # empty, or else it would have been refused before
            former.rename(target)


def put_in_place(fresh: Path, target: Path) -> None:
    """Swaps the finished folder in, unless it is the same; files that a user added to the former one move
    along. The former folder goes only when all that is done."""
    if _is_same(fresh, target):
        return
    former = target.parent / f".{target.name}.{uuid4().hex[:8]}.former"
    replaces = target.exists()
    if replaces:
        target.rename(former)
    try:
        fresh.rename(target)
    except BaseException:  # an interrupt, too
        if replaces:
            former.rename(target)
        raise
    if replaces:
        _carry_over(former, target, fresh.parent)


def _is_same(fresh: Path, target: Path) -> bool:
    """Whether the new set is what is there already: then a training that reads it is not disturbed. Of a
    pool nobody can tell, which has no facts."""
    try:
        return all(
            filecmp.cmp(fresh / name, target / name, shallow=False) for name in (INFO, MANIFEST, FACTS)
        )
    except OSError:
        return False


def _carry_over(former: Path, target: Path, work: Path) -> None:
    """Moves along what a user added; `former` then goes whole, into `work`, which is removed."""
    for path in former.iterdir():
        if path.name not in OURS and not (target / path.name).exists():
            path.rename(target / path.name)
    former.rename(work / former.name)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy where the file system has no such links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
