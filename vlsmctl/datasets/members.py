"""Where the members of an archive may go, how many there may be, and how much may come out of them."""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vlsmctl.datasets.wording import in_bytes
from vlsmctl.errors import UnreadableFile, UsageError

MEMBERS = 200_000  # files and folders in one archive
CHUNK = 1 << 20  # bytes read, and kept in memory, at a time
LONGEST_NAME, LONGEST_PATH = 255, 1024  # bytes
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')  # on Windows; a colon is that of a drive, too
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
BY_HAND = "download it again from its source; if you trust it as it is, unpack it by hand"


class Reader(Protocol):
    """Gives up to `size` bytes, and none at the end."""

    def read(self, size: int, /) -> bytes: ...


def wrong_name(name: str) -> str:
    """Why a member's name is refused; "" where it is not. The same on every system."""
    try:
        sizes = [len(part.encode("utf-8")) for part in name.split("/")]
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    if name.startswith("/"):
        return "an absolute path"
    if re.match(r"[A-Za-z]:", name):
        return "a path with a drive letter"
    if ".." in name.split("/"):
        return "a path with '..'"
    found = FORBIDDEN.search(name)
    if found:
        return f"a name with {found[0]!r}"
    if max(sizes) > LONGEST_NAME or sum(sizes) + len(sizes) > LONGEST_PATH:
        return "a name that is too long"
    for part in name.split("/"):
        if RESERVED.match(part) or (part.endswith((".", " ")) and part != "."):
            return f"{part!r} is no name for a file on Windows"
    return ""


def is_litter(parts: list[str]) -> bool:
    """What macOS adds to archives."""
    return any(part in ("__MACOSX", ".DS_Store", "Icon\r") or part.startswith("._") for part in parts)


@dataclass
class Place:
    """Where members go, and what may still come. `names`: every path so far, by what it is called where
    case does not count: its spelling, and whether it is a folder."""

    archive: Path
    folder: Path
    allowed: int
    free: int
    members: int = 0
    announced: int = 0
    written: int = 0
    names: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def admit(self, name: str, size: int, is_folder: bool) -> Path | None:
        """Where a member goes; None: nowhere, it is litter. Raises UnreadableFile and UsageError."""
        self.members += 1
        if self.members > MEMBERS:
            raise self.refusal(name, f"more than {MEMBERS} files")
        if size < 0:
            raise damaged(self.archive, f"{shown(name)} has {size} bytes")
        self.announced += size
        self._check_room(name, self.announced)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if is_litter(parts):
            return None
        wrong = wrong_name(name)
        if wrong:
            raise self.refusal(name, wrong)
        if not parts and not is_folder:
            raise self.refusal(name, "a file without a name")
        self._claim(name, parts, is_folder)
        return self.folder.joinpath(*parts)

    def write(self, name: str, content: Reader, path: Path, size: int) -> None:
        """Raises UnreadableFile where another number of bytes comes than was announced."""
        path.parent.mkdir(parents=True, exist_ok=True)
        length = 0
        with path.open("xb") as stream:
            while True:
                with reading(self.archive, name):
                    chunk = content.read(CHUNK)
                if not chunk:
                    break
                length += len(chunk)
                self.written += len(chunk)
                self._check_room(name, self.written)
                stream.write(chunk)
        if length != size:
            raise damaged(self.archive, f"{shown(name)} has {length} bytes, expected {size}")

    def refusal(self, name: str, reason: str) -> UnreadableFile:
        return UnreadableFile(f"{self.archive} is refused: {shown(name)}: {reason}", BY_HAND)

    def _check_room(self, name: str, count: int) -> None:
        if count > self.allowed:
            size = self.archive.stat().st_size
            reason = f"more than {in_bytes(self.allowed)} would come out of {in_bytes(size)}, as in a bomb"
            raise self.refusal(name, reason)
        if count > self.free:
            raise UsageError(
                f"{self.archive} unpacks to more than the {in_bytes(self.free)} that are free in "
                f"{self.folder.parent}",
                "make room, or unpack to another disk",
            )

    def _claim(self, name: str, parts: list[str], is_folder: bool) -> None:
        """Notes a path and the folders it lies in; a folder may be named again, a file not."""
        for count in range(1, len(parts) + 1):
            spelling, folder_here = "/".join(parts[:count]), is_folder or count < len(parts)
            key = unicodedata.normalize("NFC", spelling.casefold())
            known = self.names.setdefault(key, new := (spelling, folder_here))
            if known[0] != spelling:
                raise self.refusal(name, f"on some systems the same name as {shown(known[0])}")
            if known is not new and not (known[1] and folder_here):
                raise self.refusal(name, "there is another file or folder of that name in it")


_FAULTS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, OverflowError, RuntimeError, NotImplementedError,
)  # fmt: skip


@contextmanager
def reading(archive: Path, name: str = "") -> Iterator[None]:
    """What the libraries raise over a damaged archive, as UnreadableFile."""
    try:
        yield
    except _FAULTS as error:
        where = f"{shown(name)}: " if name else ""
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise damaged(archive, where + what) from error


def damaged(archive: Path, found: str) -> UnreadableFile:
    return UnreadableFile(f"{archive} is damaged or not whole: {found}", "download it again")


def shown(name: str) -> str:
    """Safe to print: names may hold anything."""
    return ascii(name if len(name) <= 200 else f"{name[:200]}...")
