"""Elements of DICOM headers, checked before they are used. What is wrong is told by the element's name,
never by its value: in a damaged file that may be a patient's.

Source: DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 and C.11.2 (lookup tables).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_header import refusing_dicom

# What `pixel_layout` looks at
LAYOUT_ELEMENTS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"),
)
_BITS_ALLOCATED = (1, 8, 16, 32, 64)
_MOST_FRAMES = 2**31 - 1
_WORD = 2**16


class WrongElement(Exception):
    """An element cannot be used. The text names it and says why, and quotes nothing of the file."""


@contextmanager
def naming_elements(path: Path) -> Iterator[None]:
    """As `refusing_dicom`; and a WrongElement comes out as UnreadableFile."""
    with refusing_dicom(path):
        try:
            yield
        except WrongElement as error:
            raise UnreadableFile(f"{path}: damaged: its {error}") from None


def value_of(dataset: Any, name: str) -> Any:
    """The value of an element, None where it is absent or empty. Raises WrongElement: it is not written as
    its kind of data is."""
    try:
        value = dataset.get(name)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # pydicom decodes a value when it is asked for, and raises whatever comes of that
        raise WrongElement(f"{name} cannot be read") from None
    return None if value is None or (isinstance(value, Sized) and not len(value)) else value


def text_of(dataset: Any, name: str) -> str:
    """The printable characters of an element; "" where it is absent or cannot be read."""
    try:
        value = value_of(dataset, name)
    except WrongElement:
        return ""
    return "".join(filter(str.isprintable, str(value or ""))).strip()


def numbers(dataset: Any, name: str) -> list[float]:
    """The values of an element, none where it is absent or empty. Raises WrongElement."""
    value = value_of(dataset, name)
    if value is None:
        return []
    many = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    try:
        return [float(number) for number in (value if many else [value])]
    except (ValueError, TypeError, OverflowError):
        raise WrongElement(f"{name} is not a number") from None


def whole(dataset: Any, name: str, low: int, high: int, default: int | None = None) -> int:
    """The one whole number of an element. Raises WrongElement: it is none of low to high, or is absent or
    empty and has no default."""
    value = value_of(dataset, name)
    if value is None:
        if default is None:
            raise WrongElement(f"{name} is missing")
        return default
    try:
        number = int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise WrongElement(f"{name} is not one whole number from {low} to {high}")
    return number


def item_of(dataset: Any, name: str) -> Any:
    """The first item of a sequence; None where it is absent or empty. Raises WrongElement."""
    items = items_of(dataset, name)
    return items[0] if items else None


def items_of(dataset: Any, name: str) -> Any:
    """The items of a sequence, in order. Raises WrongElement."""
    items = value_of(dataset, name)
    if items is None:
        return ()
    if not isinstance(items, Sequence) or not isinstance(items[0], Dataset):
        raise WrongElement(f"{name} is not a sequence")
    return items


@dataclass(frozen=True)
class Layout:
    """How a header says that pixels are stored, in numbers that make sense each.

    frames: at least 1. samples: of a pixel, 1 or 3. planar: 1 where colours are stored plane by plane.
    signed: 1 where values are.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    planar: int
    bits_allocated: int
    bits_stored: int
    signed: int
    photometric: str


def pixel_layout(header: Any) -> Layout:
    """Of a header with `LAYOUT_ELEMENTS`. Raises WrongElement."""
    samples = whole(header, "SamplesPerPixel", 1, 3)
    if samples == 2:
        raise WrongElement("SamplesPerPixel is neither 1 nor 3")
    allocated = whole(header, "BitsAllocated", 1, 64)
    if allocated not in _BITS_ALLOCATED:
        raise WrongElement(f"BitsAllocated is none of {', '.join(map(str, _BITS_ALLOCATED))}")
    stored = whole(header, "BitsStored", 1, allocated, default=allocated)
    if whole(header, "HighBit", 0, 63, default=stored - 1) != stored - 1:
        raise WrongElement("HighBit is not BitsStored - 1: values that begin above bit 0 are not supported")
    return Layout(
        rows=whole(header, "Rows", 1, _WORD - 1),
        columns=whole(header, "Columns", 1, _WORD - 1),
        frames=max(1, whole(header, "NumberOfFrames", 0, _MOST_FRAMES, default=1)),
        samples=samples,
        planar=whole(header, "PlanarConfiguration", 0, 1, default=0) if samples > 1 else 0,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=whole(header, "PixelRepresentation", 0, 1, default=0),
        photometric=str(value_of(header, "PhotometricInterpretation") or ""),
    )


@dataclass(frozen=True)
class LookupTable:
    """first: the value that the first entry is for, as it is written (of negative ones, some write the
    complement). entries: uint16, as bytes. bits: of an entry, as stated."""

    first: int
    entries: bytes
    bits: int

    @property
    def values(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        """[entries], at least one"""
        return np.frombuffer(self.entries, np.uint16)


def lookup_table(dataset: Any, descriptor: str, data: str, *, little_endian: bool) -> LookupTable:
    """descriptor, data: the names of the elements that hold a table, whichever way it is written.
    little_endian: how the file is stored. Raises WrongElement."""
    described = numbers(dataset, descriptor)
    if len(described) != 3 or not all(n.is_integer() and -_WORD < n < _WORD for n in described):
        raise WrongElement(f"{descriptor} is {'not 3 whole numbers' if described else 'missing'}")
    count, first, bits = (int(number) for number in described)
    count = count % _WORD or _WORD  # written as signed by some
    written = value_of(dataset, data)
    if written is None:
        raise WrongElement(f"{data} is missing")
    if isinstance(written, bytes):
        wide = len(written) >= 2 * count
        kind = f"{'<' if little_endian else '>'}u2" if wide else "u1"
        entries = np.frombuffer(written[: 2 * count] if wide else written, kind)
    else:
        try:
            entries = np.atleast_1d(np.asarray(written, np.int64))
        except (ValueError, TypeError, OverflowError):
            raise WrongElement(f"{data} is not a table of numbers") from None
    return LookupTable(first, entries[:count].astype(np.uint16).tobytes(), bits)
