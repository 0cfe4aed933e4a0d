"""Masks, labels and probabilities as NIfTI files, written piece by piece.

Memory stays below 64 MiB beside one frame (as read, turned and stored), however large the volume is:
along the slowest axis frames are written one after another; along the others the output is made in
pieces of 32 MiB, and all frames of a volume are read once for each piece. Equal frames give equal bytes:
gzip's header holds neither a name nor a time.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from vlsmctl.files import atomic_path
from vlsmctl.formats.records import Frames
from vlsmctl.quiet import without_warnings

PIECE_BYTES = 32 * 2**20
CHUNK_BYTES = 2**20  # of what is compressed at once
COMPRESSION = 3  # masks: a quarter smaller than at 1, for a fifth more time; above it, slow
_LONGEST_NIFTI1 = 2**15 - 1  # voxels along one axis
_TEXTS = ("descrip", "aux_file", "db_name", "data_type")
# What a frame may hold -> how it is stored
_STORED_AS = {"bool": "u1", "uint8": "u1", "float32": "<f4"}

ToPlane = Callable[[NDArray[Any]], NDArray[Any]]


def write_grid(frames: Frames, affine: NDArray[np.float64], target: Path, *, sheared: bool) -> None:
    """Frames as a volume with the voxel index (column, row, slice).

    affine: [4, 4], that index -> mm, RAS+; it becomes the sform (code scanner) and, unless it is sheared,
    which a qform cannot hold, the qform too. Too many slices for NIfTI-1 (32,767) give NIfTI-2.
    """
    rows, columns = frames.shape
    shape = (columns, rows, len(frames))
    header_class = nib.Nifti2Header if max(shape) > _LONGEST_NIFTI1 else nib.Nifti1Header
    header = header_class(endianness="<")
    header.set_data_shape(shape)
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    if not sheared:
        header.set_qform(affine, code="scanner")
    _write(header, frames, target, axis=2, to_plane=np.transpose)


def write_like(source: Any, frames: Frames, target: Path, *, axis: int, to_plane: ToPlane) -> None:
    """Frames as a volume on exactly the grid of another one.

    source: the other's nibabel header; its shape (also of four axes, and trailing ones), affine, form
    codes, zooms, units and version are kept; its texts, extensions, intent and display range are not, as
    they may hold patient data or speak of other values. A pair becomes one file.
    axis: the voxel axis that the frames follow one another along. to_plane: frame -> its values along
    the two other axes.
    """
    header_class = nib.Nifti2Header if source.sizeof_hdr == 540 else nib.Nifti1Header
    # From the bytes of the header: nibabel's own conversion from a pair drops the form codes.
    header = header_class(source.binaryblock, endianness=source.endianness, check=False)
    header = header.as_byteswapped("<")
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    for text in _TEXTS:
        if text in header:
            header[text] = b""
    _write(header, frames, target, axis=axis, to_plane=to_plane)


def _write(header: Any, frames: Frames, target: Path, *, axis: int, to_plane: ToPlane) -> None:
    stored = np.dtype(_STORED_AS[frames.dtype.name])
    header.set_data_dtype(stored)
    header.set_slope_inter(frames.scale, 0)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    shape = header.get_data_shape()
    with (
        atomic_path(target) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as stream,
        without_warnings(),
    ):
        stream.write(header.binaryblock + bytes(4))  # and no extensions
        for piece in _pieces(frames, axis, to_plane, shape, stored):
            content = np.ascontiguousarray(piece, stored).reshape(-1).view(np.uint8).data
            for start in range(0, len(content), CHUNK_BYTES):
                stream.write(content[start : start + CHUNK_BYTES])


def _pieces(
    frames: Frames, axis: int, to_plane: ToPlane, shape: tuple[int, ...], stored: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """The values in file order: lines along the first voxel axis, [lines, first axis]."""
    columns, rows, planes = (*shape, 1)[:3]
    volumes, slices = math.prod(shape[3:]), (columns, rows, planes)[axis]
    if axis == 2:
        for number in range(len(frames)):
            yield to_plane(frames[number]).T
        return
    fill = _fill_columns if axis == 0 else _fill_lines
    high = max(1, min(rows * planes, PIECE_BYTES // (columns * stored.itemsize)))
    room = np.empty((high, columns), stored)  # one for all pieces, each of which fills it
    for volume in range(volumes):
        for start in range(0, rows * planes, high):
            piece = room[: rows * planes - start]
            for index in range(slices):
                fill(piece, start, rows, index, to_plane(frames[volume * slices + index]).T)
            yield piece


def _fill_columns(piece: NDArray[Any], start: int, rows: int, index: int, plane: NDArray[Any]) -> None:
    """plane: [third axis, second axis], which is one value of every line."""
    piece[:, index] = plane.reshape(-1)[start : start + len(piece)]


def _fill_lines(piece: NDArray[Any], start: int, rows: int, index: int, plane: NDArray[Any]) -> None:
    """plane: [third axis, first axis], which is every rows-th line, beginning with number `index`."""
    first = max(0, -(-(start - index) // rows))
    past = max(first, -(-(start + len(piece) - index) // rows))
    lines = plane[first:past]
    place = first * rows + index - start
    piece[place : place + len(lines) * rows : rows] = lines
