"""Files written so that nothing half-written is ever found under a final name, and users' tables read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from vlsmctl.errors import UsageError

SAVE_AS_UTF_8 = "save it as CSV UTF-8 (in Excel, a file type of its own)"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # the disk or the quota is full
_ABANDONED = 600  # seconds since the last change of a file that was being written


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """A path beside `final` to write to; on success it is flushed to disk and renamed to `final`, on
    any error it is removed. The temporary name keeps the suffixes, which some writers go by, and
    is cut, because a name may be as long as the file system allows already."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{uuid4().hex[:8]}.part.{final.name[-40:]}")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner may read
        with temporary.open("r+b") as stream:
            os.fsync(stream.fileno())
        temporary.replace(final)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """An empty folder beside `final` to fill; on success its files are flushed to disk and it takes the
    place of `final`, on any error it is removed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:8]
    temporary = final.with_name(f".{mark}.part.{final.name[-40:]}")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("r+b") as stream:
                os.fsync(stream.fileno())
        former = final.with_name(f".{mark}.former.{final.name[-40:]}")
        replaces = final.exists()
        if replaces:
            final.rename(former)
        try:
            temporary.rename(final)
        except BaseException:
            if replaces:
                former.rename(final)
            raise
        if replaces:
            remove(former)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Removes what killed runs left half-written in a folder (not below it), long enough ago that no other
    run can still be writing it."""
    for mark in ("part", "former"):
        for path in folder.glob(f".????????.{mark}.*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    remove(path)


def is_there(path: Path) -> bool:
    """Whether there is something of that name; False for names that the system cannot hold."""
    try:
        return path.exists()
    except OSError:
        return False


def remove(path: Path) -> None:
    """A file, or a folder with what is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def shown(name: str) -> str:
    """A file name that may hold undecodable bytes, as text that can be written."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def read_user_table(path: Path, option: str) -> bytes:
    """The bytes of a table that a user wrote, given as `option`; not yet checked to be UTF-8. Raises
    UsageError: it cannot be read, or is in UTF-16, as some programs save text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read ({error.strerror or error})") from error
    if content.startswith(_UTF_16):
        raise UsageError(f"{path}: expected a text file in UTF-8, found UTF-16", hint=SAVE_AS_UTF_8)
    return content


def write_text(final: Path, text: str) -> None:
    with atomic_path(final) as path:
        path.write_text(text, encoding="utf-8", newline="\n")


def write_json(final: Path, document: Any) -> None:
    write_text(final, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
