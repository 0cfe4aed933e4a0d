"""MetaImage volumes (.mhd with .raw or .zraw), read only.

Strict, as the header is a text that anybody can write: the data must lie in one plain file beside it,
and hold exactly what the header announces.

Source: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile

_HEADER_BYTES = 2**16
_DEFLATE_AT_BEST = 1100  # no zlib stream expands further than about 1032 times
_LONGEST_NAME = 255
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class MetaImage:
    """values: [k, y, x] as stored, k slices of y rows and x columns. spacing: mm along k, y and x."""

    values: NDArray[Any]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class _Header:
    """shape: k, y, x. dtype: with its byte order. data: the file with the values."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    dtype: np.dtype[Any]
    data: Path
    compressed: bool

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_metaimage(path: Path) -> MetaImage:
    """A MetaImage of two or three dimensions and one channel.

    path: the header, .mhd; its ElementDataFile must be the plain name of a file beside it.

    Raises UnreadableFile: not a header, a key that is missing or not supported, a path instead of a
    name, or data of another length than announced (seen before any memory is taken).
    """
    header = _header(path)
    try:
        content = _inflated(header) if header.compressed else _plain(header)
    except (OSError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UnreadableFile(f"{header.data}: cannot be read ({reason})") from error
    values = np.frombuffer(content, header.dtype).reshape(header.shape)
    return MetaImage(values, header.spacing)


def metaimage_files(path: Path) -> tuple[Path, ...]:
    """The header and the file with its values; the header alone where that cannot be told from it."""
    try:
        return path, _data_file(path, _keys(path))
    except UnreadableFile:
        return (path,)


def _header(path: Path) -> _Header:
    keys = _keys(path)
    dimensions = _numbers(path, keys, "DimSize")
    if len(dimensions) not in (2, 3) or any(each < 1 or each % 1 for each in dimensions):
        raise _refused(path, "DimSize", "two or three whole numbers above 0", keys)
    if _numbers(path, keys, "NDims") != [len(dimensions)]:
        raise _refused(path, "NDims", str(len(dimensions)), keys)
    spacing = _spacing(path, keys, len(dimensions))
    kind = _TYPES.get(keys.get("elementtype", "").upper())
    if kind is None:
        raise _refused(path, "ElementType", f"one of {', '.join(_TYPES)}", keys)
    for key, expected in (("ElementNumberOfChannels", "1"), ("HeaderSize", "0")):
        if keys.get(key.lower(), expected) != expected:
            raise _refused(path, key, expected, keys)
    if not _flag(path, keys, "BinaryData", True):
        raise _refused(path, "BinaryData", "True", keys)
    order_key = "BinaryDataByteOrderMSB" if "binarydatabyteordermsb" in keys else "ElementByteOrderMSB"
    order = ">" if _flag(path, keys, order_key, False) else "<"
    columns, rows, slices = (int(each) for each in (*dimensions, 1)[:3])
    return _Header(
        shape=(slices, rows, columns),
        spacing=spacing,
        dtype=np.dtype(order + kind),
        data=_data_file(path, keys),
        compressed=_flag(path, keys, "CompressedData", False),
    )


def _keys(path: Path) -> dict[str, str]:
    """The header's "key = value" lines, keys in lower case."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_HEADER_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path}: not a MetaImage header (.mhd): it is no text") from error
    pairs = [line.partition("=") for line in lines if line.strip()]
    if len(text) > _HEADER_BYTES or not pairs or not all(equals for _, equals, _ in pairs):
        raise UnreadableFile(f"{path}: not a MetaImage header (.mhd): expected lines of 'key = value'")
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _numbers(path: Path, keys: dict[str, str], key: str) -> list[float]:
    try:
        numbers = [float(each) for each in keys.get(key.lower(), "").split()]
    except ValueError as error:
        raise _refused(path, key, "numbers", keys) from error
    if not numbers or not all(math.isfinite(each) for each in numbers):
        raise _refused(path, key, "numbers", keys)
    return numbers


def _spacing(path: Path, keys: dict[str, str], dimensions: int) -> tuple[float, float, float]:
    """mm along k, y and x; 1 where the header does not say."""
    key = next((key for key in ("ElementSpacing", "ElementSize") if key.lower() in keys), None)
    if key is None:
        return 1.0, 1.0, 1.0
    numbers = _numbers(path, keys, key)
    if len(numbers) != dimensions or min(numbers) <= 0:
        raise _refused(path, key, f"{dimensions} numbers above 0", keys)
    columns, rows, slices = (*numbers, 1.0)[:3]
    return slices, rows, columns


def _flag(path: Path, keys: dict[str, str], key: str, default: bool) -> bool:
    found = keys.get(key.lower(), str(default)).lower()
    if found not in _TRUE + _FALSE:
        raise _refused(path, key, "True or False", keys)
    return found in _TRUE


def _data_file(path: Path, keys: dict[str, str]) -> Path:
    name = keys.get("elementdatafile", "")
    outside = not name or name in (".", "..") or any(each in name for each in "/\\:%\0")
    if outside or len(name) > _LONGEST_NAME or name.upper().split()[0] in ("LOCAL", "LIST"):
        raise _refused(path, "ElementDataFile", "the plain name of one file beside the header", keys)
    return path.with_name(name)


def _plain(header: _Header) -> bytes:
    stored = header.data.stat().st_size
    if stored != header.bytes:
        raise _wrong_length(header, f"{stored}")
    return header.data.read_bytes()


def _inflated(header: _Header) -> bytes:
    stored = header.data.stat().st_size
    if stored * _DEFLATE_AT_BEST < header.bytes:
        raise _wrong_length(header, f"{stored} compressed ones, which cannot hold them")
    inflater = zlib.decompressobj()
    content = inflater.decompress(header.data.read_bytes(), header.bytes + 1)
    if len(content) != header.bytes or not inflater.eof:
        found = "more" if len(content) > header.bytes else f"{len(content)}, cut off or damaged"
        raise _wrong_length(header, found)
    return content


def _wrong_length(header: _Header, found: str) -> UnreadableFile:
    return UnreadableFile(f"{header.data}: expected {header.bytes} bytes of data, found {found}")


def _refused(path: Path, key: str, expected: str, keys: dict[str, str]) -> UnreadableFile:
    value = keys.get(key.lower())
    found = "none" if value is None else repr(value[:80])
    return UnreadableFile(f"{path}: expected {key} = {expected}, found {found}")
