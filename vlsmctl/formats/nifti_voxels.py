"""The header of a NIfTI file, checked, and its voxels plane by plane, in bounded memory.

The header is parsed by nibabel. The voxels are read here, in file order and in pieces, for two reasons:
a compressed file cannot be entered in the middle, and planes across its slower axes would otherwise take
the whole volume into memory. Whether a file is compressed is seen in its content, not in its name.
"""

from __future__ import annotations

import gzip
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.quiet import without_warnings

SLAB_BYTES = 128 * 2**20
CHUNK_BYTES = 4 * 2**20
_GZIP = b"\x1f\x8b"
_DEFLATE_AT_BEST = 1100  # no gzip file expands further than about 1032 times
_HALVES = (".hdr", ".img")
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # metres and micrometres; 2 is mm, and so is taken what says nothing

# nibabel repairs odd headers and tells so on stderr; what matters of it is checked here.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Stored:
    """How the voxels of a NIfTI file are stored; nothing of them has been read.

    path: the file as it was named. header: nibabel's, checked. data_path: where the voxels are (the
    other half of a pair). offset: of the first voxel, bytes. shape: as in the header, two to seven
    axes. dtype: of the stored values, with their byte order. slope, inter: what makes true values of
    them. affine: float64 [4, 4], voxel index -> the header's unit.
    """

    path: Path
    header: Any
    data_path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slope: float
    inter: float
    affine: NDArray[np.float64]

    @property
    def space(self) -> tuple[int, int, int]:
        """Voxels along the three axes."""
        first, second, third = (*self.shape, 1)[:3]
        return first, second, third

    @property
    def volumes(self) -> int:
        return math.prod(self.shape[3:])

    @property
    def affine_mm(self) -> NDArray[np.float64]:
        """float64 [4, 4], voxel index -> mm, RAS+."""
        scale = _MM_PER_UNIT.get(int(self.header["xyzt_units"]) % 8, 1.0)
        in_mm: NDArray[np.float64] = np.diag([scale, scale, scale, 1.0]) @ self.affine
        return in_mm


class PlaneReader:
    """Number of a plane across a voxel axis -> its stored values [first other axis, second other axis];
    planes of a 4D file count on through its volumes.

    Planes are read in slabs of at most 128 MiB, of which one is kept, and at least one plane; beside it
    a pass holds 4 MiB. Along the slowest axis a plain file is read plane by plane, and a compressed one
    once from start to end; along the others, each slab takes one pass over the file. The file stays open
    until its last plane has been read, or until `close`.

    numbers: the planes that will be asked for, ascending, where that is not all of them.
    Raises UnreadableFile: cut off or damaged.
    """

    def __init__(self, stored: Stored, axis: int, numbers: Sequence[int] | None = None) -> None:
        slices = stored.space[axis]
        plane_bytes = stored.dtype.itemsize * math.prod(stored.space) // slices
        self._stored, self._axis, self._slices = stored, axis, slices
        self._numbers = range(slices * stored.volumes) if numbers is None else numbers
        self._thickness = max(1, min(SLAB_BYTES // plane_bytes, len(self._numbers)))
        if axis == 2 and not is_gzipped(stored.path, stored.data_path):
            self._thickness = 1
        self._first = -1
        self._slab: NDArray[Any] | None = None
        self._stream: BinaryIO | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether everything fits into one slab."""
        return self._thickness >= len(self._numbers)

    def __call__(self, number: int) -> NDArray[Any]:
        place = self._numbers.index(number)
        first = place - place % self._thickness
        if self._slab is None or first != self._first:
            self._slab = None  # before the next one takes its memory
            self._slab = self._read(self._numbers[first : first + self._thickness])
            self._first = first
        plane: NDArray[Any] = self._slab[place - first].T
        return plane

    def close(self) -> None:
        """Closes the file and gives the memory back; another plane opens it again."""
        self._slab = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.close()

    def _read(self, numbers: Sequence[int]) -> NDArray[Any]:
        done = False
        try:
            with refusing(self._stored.path):
                if self._stream is None:
                    self._stream = _opened(self._stored.data_path)
                slab = self._gathered(self._stream, numbers)
                done = numbers[-1] == self._numbers[-1]
                if numbers[-1] == self._slices * self._stored.volumes - 1:
                    _check_end(self._stream)
                return slab
        except BaseException:
            done = True
            raise
        finally:
            if done and self._stream is not None:
                self._stream.close()
                self._stream = None

    def _gathered(self, stream: BinaryIO, numbers: Sequence[int]) -> NDArray[Any]:
        """[planes, second other axis, first other axis], as they lie in the file."""
        others = [length for axis, length in enumerate(self._stored.space) if axis != self._axis]
        slab = np.empty((len(numbers), *others[::-1]), self._stored.dtype)
        start = 0
        for volume, group in groupby(numbers, key=lambda number: number // self._slices):
            indices = [number % self._slices for number in group]
            self._fill(slab[start : start + len(indices)], stream, volume, indices)
            start += len(indices)
        return slab

    def _fill(self, part: NDArray[Any], stream: BinaryIO, volume: int, indices: list[int]) -> None:
        columns, rows, planes = self._stored.space
        plane_bytes = columns * rows * self._stored.dtype.itemsize
        volume_start = self._stored.offset + volume * planes * plane_bytes
        if self._axis == 2:
            for place, index in enumerate(indices):
                _go_to(stream, volume_start + index * plane_bytes)
                _read_into(stream, part[place])
            return
        _go_to(stream, volume_start)
        for plane, first_row, block in _blocks(stream, self._stored):
            past_plane, past_row = plane + block.shape[0], first_row + block.shape[1]
            if self._axis == 0:
                part[:, plane:past_plane, first_row:past_row] = np.moveaxis(
                    block[:, :, _run(indices)], 2, 0
                )
                continue
            held = [place for place, index in enumerate(indices) if first_row <= index < past_row]
            if held:
                chosen = _run([indices[place] - first_row for place in held])
                part[_run(held), plane:past_plane] = np.moveaxis(block[:, chosen], 1, 0)


def read_stored(path: Path, files: Sequence[Path] = ()) -> Stored:
    """How a NIfTI file is stored, by its header. files: the header and the image of a pair, where they
    are known; else they are looked for beside each other.

    Raises UnreadableFile: damaged, not NIfTI, an affine that is not finite or not invertible, more than
    four dimensions, complex numbers, less data than announced.
    """
    header_path, data_path = _parts(path, files)
    with refusing(path):
        header = _header(path, header_path, pair=header_path != data_path)
        slope, inter = header.get_slope_inter()
        stored = Stored(
            path=path,
            header=header,
            data_path=data_path,
            offset=int(header.get_data_offset()),
            shape=tuple(int(length) for length in header.get_data_shape()),
            dtype=header.get_data_dtype(),
            slope=1.0 if slope is None else float(slope),
            inter=0.0 if inter is None else float(inter),
            affine=np.asarray(header.get_best_affine(), np.float64),
        )
        _check_values(stored)
        _check_affine(stored)
        _check_length(stored, pair=header_path != data_path)
    return stored


def is_gzipped(path: Path, data_path: Path) -> bool:
    """By its first bytes. path: to name in UnreadableFile."""
    with refusing(path), data_path.open("rb") as stream:
        return stream.read(2) == _GZIP


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes the readers raise comes out as UnreadableFile."""
    try:
        with without_warnings():
            yield
    except UnreadableFile:
        raise
    except (EOFError, gzip.BadGzipFile) as error:
        raise UnreadableFile(f"{path}: cut off or damaged ({_first_line(error)})") from error
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or _first_line(error)})") from error
    except Exception as error:  # zlib, nibabel and NumPy each raise their own
        raise UnreadableFile(f"{path}: not a NIfTI file, or damaged ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _parts(path: Path, files: Sequence[Path]) -> tuple[Path, Path]:
    """The file with the header and the file with the voxels: the same one, but for pairs."""
    ending = _half(path)
    if not ending:
        return path, path
    halves = {_half(file): file for file in (*files, path) if _half(file)}
    for wanted in set(_HALVES) - set(halves):
        halves[wanted] = _partner(path, wanted)
    return halves[".hdr"], halves[".img"]


def _half(path: Path) -> str:
    """.hdr or .img, for one half of a pair, packed or not."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in _HALVES else ""


def _partner(path: Path, ending: str) -> Path:
    stem = path.name[: -3 if path.name.lower().endswith(".gz") else None][:-4]
    names = [stem + written + packed for packed in ("", ".gz") for written in (ending, ending.upper())]
    if path.name.lower().endswith(".gz"):
        names = names[2:] + names[:2]
    there = [path.with_name(name) for name in names if path.with_name(name).is_file()]
    if not there:
        raise UnreadableFile(f"{path}: its other half, {stem}{ending}, is missing beside it")
    return there[0]


def _header(path: Path, header_path: Path, *, pair: bool) -> Any:
    """nibabel's header; extensions are not read, for their announced lengths may be anything."""
    first = nib.Nifti1Pair.header_class if pair else nib.Nifti1Header
    second = nib.Nifti2Pair.header_class if pair else nib.Nifti2Header
    with _opened(header_path) as stream:
        block = stream.read(first.sizeof_hdr)
        if not block:
            raise UnreadableFile(f"{path}: the file is empty (0 bytes)")
        if first.may_contain_header(block):
            return _checked(path, first, block)
        longer = block + stream.read(second.sizeof_hdr - len(block))
        if second.may_contain_header(longer):
            return _checked(path, second, longer)
    if nib.AnalyzeImage.header_class.may_contain_header(block):
        raise UnreadableFile(
            f"{path}: not a NIfTI file, but Analyze 7.5, which does not say how it is oriented",
            hint="convert it to NIfTI (.nii.gz) with the program that wrote it",
        )
    raise UnreadableFile(f"{path}: not a NIfTI file, whatever its name says")


def _checked(path: Path, header_class: Any, block: bytes) -> Any:
    """nibabel repairs what it can; a missing spacing it takes for 1 mm, which would be a guess."""
    plain = header_class(block, check=False)
    lengths, spacings = plain["dim"][1:4], plain["pixdim"][1:4]
    if plain["sform_code"] <= 0 and (spacings[lengths > 1] == 0).any():
        raise UnreadableFile(f"{path}: its header states no spacing, so its geometry is unknown")
    return header_class(block, check=True)


def _check_values(stored: Stored) -> None:
    path, shape, dtype = stored.path, stored.shape, stored.dtype
    if len(shape) < 2 or min(shape) < 1 or any(length != 1 for length in shape[4:]):
        raise UnreadableFile(f"{path}: has the shape {shape}; only 3D and 4D volumes are supported")
    if dtype.kind == "c":
        raise UnreadableFile(f"{path}: holds complex numbers; store the magnitude instead")
    if dtype.itemsize == 0 or (dtype.kind == "V" and not dtype.names):
        code = int(stored.header["datatype"])
        raise UnreadableFile(
            f"{path}: its data type (code {code}) cannot be read here; store it as float32"
        )


def _check_affine(stored: Stored) -> None:
    path, affine = stored.path, stored.affine
    if not np.isfinite(affine).all():
        raise UnreadableFile(
            f"{path}: its affine holds numbers that are not finite, so its place is unknown"
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # Relative to the spacings, so that micrometre grids are not taken for flat ones.
    if not lengths.all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise UnreadableFile(f"{path}: its affine is not invertible, so its orientation is unknown")


def _check_length(stored: Stored, *, pair: bool) -> None:
    """Refuses, before any memory is taken, a file that cannot hold what its header announces."""
    expected = math.prod(stored.shape) * stored.dtype.itemsize
    if stored.offset < (0 if pair else stored.header.sizeof_hdr):
        raise UnreadableFile(f"{stored.path}: its header does not say where its voxels begin")
    holds = stored.data_path.stat().st_size
    if is_gzipped(stored.path, stored.data_path):
        holds *= _DEFLATE_AT_BEST
    if holds - stored.offset < expected:
        raise UnreadableFile(
            f"{stored.path}: cut off: its header announces {expected} bytes of data, more than there are"
        )


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    return cast(BinaryIO, gzip.open(path) if packed else path.open("rb"))


def _go_to(stream: BinaryIO, position: int) -> None:
    if not isinstance(stream, gzip.GzipFile):
        stream.seek(position)
        return
    if position < stream.tell():
        stream.seek(0)
    while (left := position - stream.tell()) > 0:
        if not stream.read(min(left, CHUNK_BYTES)):
            raise EOFError("it ends before its last voxel")


def _read_into(stream: BinaryIO, values: NDArray[Any]) -> None:
    """Fills a contiguous array."""
    free = values.reshape(-1).view(np.uint8).data
    while free:
        content = stream.read(min(len(free), CHUNK_BYTES))
        if not content:
            raise EOFError("it ends before its last voxel")
        free[: len(content)] = content
        free = free[len(content) :]


def _blocks(stream: BinaryIO, stored: Stored) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """The volume that begins here: number of the first plane and of the first row, and values [planes,
    rows, columns] of at most 4 MiB, or of one row."""
    columns, rows, planes = stored.space
    row_bytes = columns * stored.dtype.itemsize
    high = max(1, min(rows, CHUNK_BYTES // row_bytes))
    deep = max(1, CHUNK_BYTES // (row_bytes * rows)) if high == rows else 1
    for plane in range(0, planes, deep):
        for row in range(0, rows, high):
            block = np.empty((min(deep, planes - plane), min(high, rows - row), columns), stored.dtype)
            _read_into(stream, block)
            yield plane, row, block


def _run(numbers: Iterable[int]) -> slice | list[int]:
    """Ascending numbers as a slice, which spares NumPy a copy, where they follow one another."""
    listed = list(numbers)
    whole = listed[-1] - listed[0] + 1 == len(listed)
    return slice(listed[0], listed[-1] + 1) if whole else listed


def _check_end(stream: BinaryIO) -> None:
    """Behind the last voxel, gzip compares its checksum; reading on makes it do so."""
    if isinstance(stream, gzip.GzipFile):
        try:
            stream.read(1)
        except gzip.BadGzipFile as error:
            if "Not a gzipped file" not in str(error):  # something else follows the data: no harm
                raise
