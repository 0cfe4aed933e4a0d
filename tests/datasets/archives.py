"""Archives, good and bad, and what unpacking a bad one is held to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from vlsmctl.datasets.unpack import unpack
from vlsmctl.errors import UnreadableFile, VlsmctlError

MIB = 1 << 20
NOISE = np.random.default_rng(0).integers(0, 256, 4 * MIB, np.uint8).tobytes()
CONTENT = {
    "set/images/a.png": NOISE[:10_000],
    "set/images/ä b.png": b"",
    "set/masks/a.png": NOISE[: 8 * 512],  # a whole number of a tar's blocks
    "readme.txt": b"text",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    return zipped_entries([(zipfile.ZipInfo(name), data) for name, data in content.items()], method)


def zipped_entries(
    entries: Iterable[tuple[zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # over names that come twice
        for info, data in entries:
            archive.writestr(info, data, method)
    return stream.getvalue()


def tarred(content: dict[str, bytes], *more: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in content.items():
            archive.addfile(member_of(name, size=len(data)), io.BytesIO(data))
        for member in more:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def member_of(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname, member.mode = kind, size, link, 0o4777
    return member


def written(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def attempt(tmp_path: Path, data: bytes, limit: int | None = None) -> Path:
    (tmp_path / "archive.bin").write_bytes(data)
    return unpack(tmp_path / "archive.bin", tmp_path / "out" / "set", limit=limit)


def refused(
    tmp_path: Path,
    data: bytes,
    match: str,
    limit: int | None = None,
    error: type[VlsmctlError] = UnreadableFile,
) -> None:
    """Unpacks in vain: a line that names the archive, and nothing is left behind, here or elsewhere."""
    with pytest.raises(error, match=match) as caught:
        attempt(tmp_path, data, limit)
    assert str(caught.value).isprintable()
    assert str(tmp_path / "archive.bin") in str(caught.value)
    assert caught.value.hint
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} <= {"archive.bin", "out"}
