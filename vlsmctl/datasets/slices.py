"""Slices of volumes, for data sets that are made from NIfTI, MetaImage and DICOM files.

A slice is shown exactly as `predict` shows it, so that a model meets in use what it was trained on;
the label that lies on it is brought to the same orientation by flips and transposes alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from vlsmctl.datasets.segments import find_segmentation, segmentation_misfit, segmentation_planes
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.dicom_frames import SourceFrame, arrange
from vlsmctl.formats.dicom_pixels import open_pixels, stored_values
from vlsmctl.formats.dicom_seg_reading import EXPORT
from vlsmctl.formats.intensity import as_rgb, robust_range, to_grey
from vlsmctl.formats.metaimage import metaimage_files, read_metaimage
from vlsmctl.formats.nifti import Grid, SliceView, open_nifti, read_grid, read_planes, slice_view
from vlsmctl.formats.records import Found, Reading
from vlsmctl.formats.scan import find_scans

METAIMAGE_SUFFIX = ".mhd"
# A stored plane [x, y] is a picture of y rows and x columns, as is a DICOM slice [column, row].
STORED_VIEW = SliceView(axis=2, transposed=True, flip_rows=False, flip_columns=False)
_SAME = 1e-3  # of the spacing: how far a step from voxel to voxel may differ
_DRIFT = 0.1  # of the spacing: how far the last voxel may lie off

Planes = Callable[[int], NDArray[Any]]


@dataclass(frozen=True)
class Volume:
    """An opened volume, of which only headers have been read.

    count: slices (of the first volume, where there are several). view: how they are shown.
    thickness_assumed: whether the distance between slices is not stated. read: index -> uint8 RGB.
    """

    path: Path
    grid: Grid
    view: SliceView
    thickness_assumed: bool
    read: Callable[[int], NDArray[np.uint8]]

    @property
    def count(self) -> int:
        return self.grid.shape[self.view.axis]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm from row to row, from column to column, and from slice to slice."""
        lengths = np.linalg.norm(self.grid.affine[:3, :3], axis=0)
        first, second = (axis for axis in range(3) if axis != self.view.axis)
        rows, columns = (second, first) if self.view.transposed else (first, second)
        return float(lengths[rows]), float(lengths[columns]), float(lengths[self.view.axis])


@dataclass(frozen=True)
class Fit:
    """How a label volume lies on the grid of an image: `axes[n]` of it runs along the image's axis n,
    the other way round where `flipped[n]`."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]


_PAIRED = {".hdr": ".img", ".img": ".hdr"}


def volume_files(path: Path) -> tuple[Path, ...]:
    """All that a volume is read from, `path` first, whether it is there or not: also the other half of a
    NIfTI pair, and the data of a MetaImage header. A folder stands for all that is in it."""
    if path.suffix.lower() == METAIMAGE_SUFFIX:
        return metaimage_files(path)
    packed = path.suffix if path.suffix.lower() == ".gz" else ""
    stem = path.name.removesuffix(packed)
    other = _PAIRED.get(stem[-4:].lower())
    if other is None:
        return (path,)
    return path, path.with_name(stem[:-4] + (other.upper() if stem[-4:].isupper() else other) + packed)


def read_slice(path: Path, index: int, axis: int | None, stored: bool) -> NDArray[np.uint8]:
    """One slice as a picture, uint8 RGB [H, W, 3]; intensities as `predict` shows them.

    path, index, axis, stored: as in `sources.Slice`. The last volumes stay open, so that the slices of
    one volume should be asked for in a row. Raises UnreadableFile.
    """
    volume = open_volume(path, axis, stored)
    _check_index(path, index, volume.count)
    return volume.read(index)


def read_label_slice(
    path: Path, image: Path, index: int, axis: int | None, stored: bool
) -> NDArray[np.int64]:
    """The labels [H, W] that lie on one slice of `image`.

    path: a NIfTI or MetaImage file, the folder of a DICOM series (then its stored values count), or a
        DICOM SEG (then its segments' numbers) or the folder that it lies in alone.
    stored: the two have one array order, whatever their headers say of orientation.

    Raises UnreadableFile: unreadable, not on the grid of the image, or values that are not whole.
    """
    volume = open_volume(image, axis, stored)
    _check_index(image, index, volume.count)
    read = _open_labels(path, image, axis, stored, _stamp(path), _stamp(image))
    values = volume.view.to_picture(read(index))
    if values.dtype.names or values.ndim != 2:
        raise UnreadableFile(f"{path}: expected one label number a voxel, found colours")
    whole = np.rint(values)
    if not (np.isfinite(values) & (np.abs(values - whole) < _SAME)).all():
        raise UnreadableFile(f"{path}: expected whole label numbers, found fractions")
    return np.ascontiguousarray(whole).astype(np.int64)


def open_volume(path: Path, axis: int | None = None, stored: bool = False) -> Volume:
    """A volume by its headers; the last two stay open. Raises UnreadableFile: as the formats do, and
    for a folder that does not hold exactly one DICOM series."""
    return _open_volume(path, axis, stored, _stamp(path))


def label_misfit(path: Path, image: Volume) -> str | None:
    """Where a label volume lies, in words, when that is not the grid of an image; else None. Headers
    alone are read. Raises UnreadableFile."""
    segmentation = find_segmentation(path)
    if segmentation is not None:
        _check_series(segmentation, image)
        return segmentation_misfit(segmentation, image.grid)
    grid = label_grid(path)
    return grid_text(grid) if fit_grids(grid, image.grid) is None else None


def _check_series(segmentation: Path, image: Volume) -> None:
    if not image.path.is_dir():
        raise UnreadableFile(
            f"{segmentation}: a DICOM SEG is for a DICOM series, and {image.path.name} is none; {EXPORT}"
        )


def label_grid(path: Path) -> Grid:
    """Where the voxels of a label volume lie, by headers alone. Raises UnreadableFile."""
    grid = open_volume(path).grid if path.is_dir() else read_grid(path)
    if grid.volumes > 1:
        raise UnreadableFile(f"{path}: expected one label a voxel (3D), found {grid.volumes} (4D)")
    return grid


def fit_grids(label: Grid, image: Grid) -> Fit | None:
    """How two grids of the same voxels lie on one another; None where they are not the same."""
    if sorted(label.shape) != sorted(image.shape):
        return None
    step = np.linalg.solve(label.affine, image.affine)  # voxel index of the image -> of the label
    turn, start = step[:3, :3], step[:3, 3]
    signs = np.rint(turn)
    if (np.abs(signs).sum(axis=0) != 1).any() or (np.abs(signs).sum(axis=1) != 1).any():
        return None
    axes = np.abs(signs).argmax(axis=0)
    lengths = np.array(label.shape)
    if (lengths[axes] != image.shape).any():
        return None
    flipped = signs[axes, range(3)] < 0
    expected = np.zeros(3)
    expected[axes] = np.where(flipped, lengths[axes] - 1, 0)
    corners = np.array(list(itertools.product(*((0, length - 1) for length in image.shape))))
    drift = np.abs(corners @ (turn - signs).T + start - expected).max()
    if max(np.abs(turn - signs).max(), np.abs(start - expected).max()) > _SAME or drift > _DRIFT:
        return None
    first, second, third = (int(axis) for axis in axes)
    return Fit((first, second, third), (bool(flipped[0]), bool(flipped[1]), bool(flipped[2])))


def grid_text(grid: Grid) -> str:
    """A grid in words: its size, spacing, orientation and first voxel."""
    size = " x ".join(str(length) for length in grid.shape)
    spacing = " x ".join(f"{length:.4g}" for length in np.linalg.norm(grid.affine[:3, :3], axis=0))
    towards = "".join(code or "?" for code in aff2axcodes(grid.affine))
    start = ", ".join(f"{number:.5g}" for number in grid.affine[:3, 3] + 0.0)
    return f"{size} voxels of {spacing} mm towards {towards} from ({start})"


@lru_cache(maxsize=2)
def _open_volume(path: Path, axis: int | None, stored: bool, _: tuple[int, ...]) -> Volume:
    if stored:
        return _open_stored(path)
    if path.is_dir():
        return _open_series(path, axis)
    grid = read_grid(path)
    view = slice_view(grid.affine, grid.shape, axis)
    return Volume(path, grid, view, False, open_nifti(_found(path), Reading(), view).read_frame)


@lru_cache(maxsize=2)
def _open_labels(path: Path, image: Path, axis: int | None, stored: bool, *_: tuple[int, ...]) -> Planes:
    """Index of a slice of the image -> the label's values along the image's two other axes."""
    volume = open_volume(image, axis, stored)
    segmentation = None if stored else find_segmentation(path)
    if segmentation is not None:
        _check_series(segmentation, volume)
        return segmentation_planes(segmentation, volume.grid)
    if not stored:
        grid = label_grid(path)
        fit = fit_grids(grid, volume.grid)
        if fit is None:
            expected, found = grid_text(volume.grid), grid_text(grid)
            raise UnreadableFile(f"{path}: expected the grid of {image.name}, {expected}, found {found}")
        across = fit.axes[volume.view.axis]
        return _fitted(_label_planes(path, across), fit, volume)
    is_metaimage = path.suffix.lower() == METAIMAGE_SUFFIX
    shape = _metaimage_shape(path) if is_metaimage else read_grid(path).shape
    if shape != volume.grid.shape:
        sizes = [" x ".join(map(str, each)) for each in (volume.grid.shape, shape)]
        raise UnreadableFile(f"{path}: expected {sizes[0]} voxels as {image.name} has, found {sizes[1]}")
    return _metaimage_planes(path) if is_metaimage else read_planes(path, STORED_VIEW.axis)


def _fitted(planes: Planes, fit: Fit, volume: Volume) -> Planes:
    """The planes of a label by the image's index, along the image's axes."""
    axis = volume.view.axis
    first, second = (other for other in range(3) if other != axis)
    transposed = fit.axes[first] > fit.axes[second]
    flips = tuple(slice(None, None, -1 if fit.flipped[other] else 1) for other in (first, second))

    def read(index: int) -> NDArray[Any]:
        plane = planes(volume.count - 1 - index if fit.flipped[axis] else index)
        turned: NDArray[Any] = (plane.swapaxes(0, 1) if transposed else plane)[flips]
        return turned

    return read


def _open_stored(path: Path) -> Volume:
    """A volume in its array's own order, whatever its header says of orientation."""
    if path.suffix.lower() != METAIMAGE_SUFFIX:
        return Volume(
            path,
            read_grid(path),
            STORED_VIEW,
            False,
            open_nifti(_found(path), Reading(), STORED_VIEW).read_frame,
        )
    image = read_metaimage(path)
    values = image.values
    window = robust_range(values.__getitem__, len(values))
    slices, rows, columns = values.shape
    grid = Grid(np.diag([*image.spacing[::-1], 1.0]), (columns, rows, slices))

    def read(index: int) -> NDArray[np.uint8]:
        return as_rgb(to_grey(values[index], *window))

    return Volume(path, grid, STORED_VIEW, False, read)


def _metaimage_planes(path: Path) -> Planes:
    values = read_metaimage(path).values
    return values.swapaxes(1, 2).__getitem__


def _metaimage_shape(path: Path) -> tuple[int, int, int]:
    slices, rows, columns = read_metaimage(path).values.shape
    return columns, rows, slices


def _open_series(path: Path, axis: int | None) -> Volume:
    if axis not in (None, STORED_VIEW.axis):
        raise UnreadableFile(
            f"{path}: a DICOM series has only the slices that were taken, along axis 2, not axis {axis}",
            hint="convert it to NIfTI to slice it another way",
        )
    found = _series(path)
    scan = open_dicom(found, Reading())
    if scan.geometry is None:
        raise UnreadableFile(f"{path}: {scan.no_volume}, so no label can be laid on it")
    rows, columns = scan.frame_shape
    grid = Grid(scan.geometry.affine, (columns, rows, scan.frame_count))
    return Volume(path, grid, STORED_VIEW, scan.geometry.thickness_assumed, scan.read_frame)


def _series(folder: Path) -> Found:
    """The one DICOM series of a folder."""
    founds, found_problems = find_scans([folder])
    problems = [problem for problem in found_problems if not problem.harmless]
    series = [found for found in founds if found.kind == "dicom"]
    if len(series) == 1 and not problems:
        return series[0]
    if problems:
        name = problems[0].path.name
        raise UnreadableFile(f"{folder}: {len(problems)} of its files, {name} first: {problems[0].reason}")
    raise UnreadableFile(f"{folder}: expected one DICOM series with images, found {len(series) or 'none'}")


def _label_planes(path: Path, axis: int) -> Planes:
    """Number of the plane across a voxel axis -> label values along the two other axes."""
    if not path.is_dir():
        return read_planes(path, axis)
    if axis != STORED_VIEW.axis:
        raise UnreadableFile(
            f"{path}: its slices lie across those of the image",
            hint="store the label as NIfTI, or as a series with the image's slices",
        )
    sources = _ordered_slices(path)

    def read(index: int) -> NDArray[Any]:
        return _stored_values(sources[index]).swapaxes(0, 1)

    return read


def _ordered_slices(folder: Path) -> Sequence[SourceFrame]:
    """The slices of a series in their order. Raises UnreadableFile where they make no volume."""
    arranged = arrange(_series(folder))
    if arranged.no_volume:
        raise UnreadableFile(f"{folder}: {arranged.no_volume}")
    return arranged.sources


def _stored_values(source: SourceFrame) -> NDArray[Any]:
    """The pixels of a DICOM frame as stored, before any transform."""
    values = stored_values(open_pixels(source.path), source.index)
    if values.ndim != 2:
        raise UnreadableFile(f"{source.path}: expected one label number a pixel, found colours")
    return values


def _found(path: Path) -> Found:
    return Found(path.parent, path, Path(path.name), "nifti", (path,))


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when one of a volume's files does, so that a changed one is not taken from memory."""
    try:
        return tuple(
            each.stat().st_mtime_ns for each in volume_files(path) if each.exists() or each == path
        )
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_index(path: Path, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise UnreadableFile(f"{path}: expected a slice {index}, found {count} slices")
