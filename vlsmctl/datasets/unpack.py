"""Unpacking archives that nobody vouches for.

Everything goes into a hidden folder beside the final one, which gets its name when it is whole. An
archive is refused as a whole for anything in it that could write elsewhere, differ from system to system
or fill the disk; what it says of itself is checked against what comes out of it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

from vlsmctl.datasets.members import CHUNK, MEMBERS, Place, Reader, damaged, reading, wrong_name
from vlsmctl.datasets.records import Progress, silent
from vlsmctl.datasets.wording import in_bytes
from vlsmctl.errors import UsageError

GENEROUS, RATIO = 2 << 30, 20  # bytes that any archive may unpack to; times its size, where that is more
BLOCK = 512  # bytes: what tar is made of
BUFFER = 128 * BLOCK
BESIDE = 4 << 20  # bytes of a tar that may lie between its files: long names, comments, padding
ENTRY = 512  # bytes of a zip's directory for a file, at most in the mean
XZ_MEMORY = 256 << 20  # bytes; the highest preset of xz needs 65 MiB


def unpack(archive: Path, folder: Path, *, progress: Progress = silent, limit: int | None = None) -> Path:
    """Unpacks a zip, tar, tar.gz, tar.bz2 or tar.xz (told by content) into the new `folder`; returns it.

    limit: bytes that may come out of it (default: 2 GiB, or 20 times the archive's size if that is
    more). Files get plain permissions; what macOS adds is left out; archives within stay as they are.
    When anything goes wrong, or when it is stopped, nothing is left behind.

    Raises UsageError (`folder` is there, a kind that is not unpacked, no room) and UnreadableFile
    (damaged, or refused).
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already; nothing is overwritten", "move or remove it first")
    extract = _EXTRACT[_kind(archive, folder)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{uuid4().hex[:8]}.part.{folder.name[-40:]}")
    allowed = max(GENEROUS, RATIO * archive.stat().st_size) if limit is None else limit
    try:
        made.mkdir()
        extract(Place(archive, made, allowed, shutil.disk_usage(made).free), progress)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _kind(archive: Path, folder: Path) -> str:
    """By content: archives are often misnamed. Raises UsageError and UnreadableFile."""
    if not archive.is_file():
        raise UsageError(f"no archive at {archive}")
    with archive.open("rb") as stream:
        head = stream.read(BLOCK)
    for kind, signs in _SIGNS.items():
        if head.startswith(signs):
            if kind in _EXTRACT:
                return kind
            hint = f"unpack it by hand, for instance with 7-Zip, into {folder}"
            raise UsageError(f"{archive} is a {kind} archive, which is not unpacked here", hint)
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        found = "it is empty" if not head else f"it begins with {head[:16]!r}"
        raise damaged(archive, f"expected a zip or tar archive; {found}") from error
    return "tar"


_SIGNS: dict[str, tuple[bytes, ...]] = {
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "gzip": (b"\x1f\x8b",),
    "bzip2": (b"BZh",),
    "xz": (b"\xfd7zXZ\x00",),
    "RAR": (b"Rar!\x1a\x07",),
    "7z": (b"7z\xbc\xaf\x27\x1c",),
    "Zstandard": (b"\x28\xb5\x2f\xfd",),
}


def _zip(place: Place, progress: Progress) -> None:
    """Everything is checked by the directory before the first byte is written."""
    with place.archive.open("rb") as stream:
        with reading(place.archive):
            if _zip_directory(stream) > MEMBERS * ENTRY:  # it would be read into memory
                raise place.refusal("its directory", f"more than {MEMBERS} files")
            opened = zipfile.ZipFile(stream)
        with opened:
            members = [(info, _admit_zipped(info, place)) for info in opened.infolist()]
            for info, path in progress(members, f"unpacking {place.archive.name}", len(members)):
                if path is not None and info.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                elif path is not None:
                    with reading(place.archive, info.filename):
                        content = opened.open(info)
                    with content:
                        place.write(info.filename, content, path, info.file_size)


def _admit_zipped(info: zipfile.ZipInfo, place: Place) -> Path | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise place.refusal(info.filename, "a link" if kind == stat.S_IFLNK else "a device")
    if set(info.orig_filename) & {"\\", "\0"}:  # zipfile itself may change or cut it there
        raise place.refusal(info.orig_filename, wrong_name(info.orig_filename))
    path = place.admit(info.filename, info.file_size, info.is_dir())
    if info.flag_bits & 1:
        raise place.refusal(info.filename, "it is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # rare; the decompressors for the others do not keep to an amount of memory
        reason = f"compressed by method {info.compress_type}, which is not unpacked here"
        raise place.refusal(info.filename, reason)
    return path


def _zip_directory(stream: BinaryIO) -> int:
    """Bytes of a zip's directory, as its last record, and that for large archives before it, tell."""
    stream.seek(0, 2)
    stream.seek(max(0, stream.tell() - (1 << 16) - 98))
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise zipfile.BadZipFile("its directory is missing")
    size: int = struct.unpack_from("<L", tail, at + 12)[0]
    large = at - 20 - 56
    if large >= 0 and tail[large : large + 4] == b"PK\x06\x06":
        size = max(size if size != 0xFFFFFFFF else 0, struct.unpack_from("<Q", tail, large + 40)[0])
    return size


def _tar(place: Place, progress: Progress, decompress: Callable[[BinaryIO], Reader]) -> None:
    """In one go, as it comes: a compressed tar has no directory."""
    steps = place.archive.stat().st_size // CHUNK + 1
    with place.archive.open("rb") as raw:
        source = _Source(decompress(raw), place)
        for _ in progress(_untar(raw, source, place), f"unpacking {place.archive.name} (MiB)", steps):
            pass


def _untar(raw: BinaryIO, source: _Source, place: Place) -> Iterator[None]:
    """A step for each MiB of the archive."""
    steps = 0
    stream = cast("BinaryIO", source)  # all that tarfile asks of it in this mode is read()
    with reading(place.archive):
        opened = tarfile.open(fileobj=stream, mode="r|", bufsize=BUFFER, encoding="utf-8")  # noqa: SIM115
    with opened:
        while (member := _next_member(opened, place)) is not None:
            source.allow(member.size + BESIDE)
            _untar_member(opened, member, place)
            opened.members.clear()  # type: ignore[attr-defined]  # or it would keep them all
            opened.pax_headers = {}
            for _ in range(steps, steps := raw.tell() // CHUNK):
                yield
        if source.block(opened.offset) != bytes(BLOCK):  # tarfile takes a damaged header for the end
            raise damaged(place.archive, "it ends too early, or has no end")
    source.allow(BESIDE)
    while source.read(BUFFER):  # up to the checksum
        pass


def _next_member(opened: tarfile.TarFile, place: Place) -> tarfile.TarInfo | None:
    with reading(place.archive):
        return opened.next()


def _untar_member(opened: tarfile.TarFile, member: tarfile.TarInfo, place: Place) -> None:
    if member.issym() or member.islnk():
        raise place.refusal(member.name, "a link")
    if member.ischr() or member.isblk() or member.isfifo():
        raise place.refusal(member.name, "a device")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise place.refusal(member.name, "neither a plain file nor a folder")
    path = place.admit(member.name, member.size, member.isdir())
    if path is None:
        return
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    with reading(place.archive, member.name):
        content = opened.extractfile(member)
    if content is not None:
        with content:
            place.write(member.name, content, path, member.size)


@dataclass
class _Source:
    """The bytes of a tar, no more at a time than was allowed: tarfile reads names and comments of any
    length into memory."""

    stream: Reader
    place: Place
    left: int = BESIDE
    total: int = 0
    tail: bytes = b""

    def allow(self, count: int) -> None:
        """That many bytes may come from now on."""
        self.left = count + BUFFER

    def read(self, size: int) -> bytes:
        with reading(self.place.archive):
            data = self.stream.read(size)
        self.left -= len(data)
        self.total += len(data)
        if self.left < 0:
            raise self.place.refusal("between its files", f"more than {in_bytes(BESIDE)} that are no file")
        self.tail = (self.tail + data)[-2 * BUFFER :]
        return data

    def block(self, offset: int) -> bytes:
        """A block that was read lately."""
        start = offset - (self.total - len(self.tail))
        return self.tail[start : start + BLOCK] if start >= 0 else b""


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


@dataclass
class _Xz:
    """Decompresses xz within XZ_MEMORY, which lzma.open knows no way to ask for."""

    raw: BinaryIO
    pending: bytes = b""
    decoder: lzma.LZMADecompressor = field(default_factory=_xz_decoder)

    def read(self, size: int) -> bytes:
        data = b""
        while not data:
            if self.decoder.eof:  # another stream may follow, after zeros
                rest = self.decoder.unused_data.lstrip(b"\0")
                while not rest:
                    if not (rest := self.raw.read(BUFFER)):
                        return b""
                    rest = rest.lstrip(b"\0")
                self.decoder, self.pending = _xz_decoder(), rest
            if self.decoder.needs_input and not self.pending:
                self.pending = self.raw.read(BUFFER)
                if not self.pending:
                    raise EOFError("it ends too early")
            given, self.pending = self.pending, b""
            data = self.decoder.decompress(given, size)
        return data


def _as_it_is(raw: BinaryIO) -> Reader:
    return raw


_EXTRACT: dict[str, Callable[[Place, Progress], None]] = {
    "zip": _zip,
    "tar": partial(_tar, decompress=_as_it_is),
    "gzip": partial(_tar, decompress=gzip.open),
    "bzip2": partial(_tar, decompress=bz2.open),
    "xz": partial(_tar, decompress=_Xz),
}
