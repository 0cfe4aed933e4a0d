"""NIfTI volumes (.nii, .nii.gz, .hdr/.img; 3D and 4D) in, masks on the same grid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.formats.intensity import as_rgb, robust_range, sampled_frames, thinned, to_grey
from vlsmctl.formats.nifti_voxels import PlaneReader, Stored, read_stored, refusing
from vlsmctl.formats.nifti_writing import write_like
from vlsmctl.formats.records import Found, Frames, Geometry, Reading, Scan, Window, check_frames

MAX_FRAME_PIXELS = 178_956_970  # as for pictures
# Name of the slices -> the world axis (R, A, S) that they follow one another along
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_NEARLY_EQUAL = 0.95
_SUPERIOR = 2


@dataclass(frozen=True)
class SliceView:
    """How the slices of a volume are shown: which axis is walked, and the exact flips and transpose
    that bring a slice into the conventional orientation.

    axis: the voxel axis that the slices follow one another along.
    transposed: whether the first of the two other axes runs across the picture (to the right).
    flip_rows, flip_columns: applied after the transpose.
    """

    axis: int
    transposed: bool
    flip_rows: bool
    flip_columns: bool

    def to_picture(self, plane: NDArray[Any]) -> NDArray[Any]:
        """[first other axis, second other axis, ...] -> [H, W, ...]"""
        turned = plane.swapaxes(0, 1) if self.transposed else plane
        return turned[self._flips]

    def from_picture(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `to_picture`."""
        turned = picture[self._flips]
        return turned.swapaxes(0, 1) if self.transposed else turned

    @property
    def _flips(self) -> tuple[slice, slice]:
        return slice(None, None, -1 if self.flip_rows else 1), slice(
            None, None, -1 if self.flip_columns else 1
        )


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    affine: float64 [4, 4], voxel index -> mm, RAS+. shape: voxels along the three axes. volumes: of a
    4D file, else 1.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    volumes: int = 1


def parse_axis(text: str) -> int | str | None:
    """What `--axis` names: auto (None), a voxel axis 0, 1 or 2, or axial, coronal or sagittal slices.
    Raises UsageError."""
    name = text.strip().lower()
    if name in PLANES:
        return name
    if name in ("0", "1", "2"):
        return int(name)
    if name == "auto":
        return None
    raise UsageError(
        f"--axis {text!r}: expected auto, {', '.join(sorted(PLANES))}, or a voxel axis 0, 1 or 2",
        hint="--axis axial",
    )


def slice_view(
    affine: NDArray[np.float64], shape: tuple[int, ...], axis: int | str | None = None
) -> SliceView:
    """The way to show a volume slice by slice.

    affine: [4, 4], voxel index -> mm, RAS+, invertible. shape: voxels along the three axes. axis: where
    it is not to be chosen, the voxel axis to follow, 0 to 2, or the slices to make: "axial", "coronal"
    or "sagittal" (along the voxel axis nearest to S-I, A-P or L-R; each is nearest to one of them).

    Slices follow the axis with the largest spacing; of (nearly, within 5 %) equal ones the axis
    nearest to superior-inferior. An axis of one voxel, when there is exactly one, is that of the slices.
    Pictures are shown as radiologists do: axial with anterior up, coronal and sagittal with superior
    up; the patient's left (in sagittal slices: the back) on the right of the picture.
    """
    world = io_orientation(affine)  # for each voxel axis: the nearest world axis, and +1 or -1
    if axis is None:
        axis = _through_plane(affine, shape)
    elif isinstance(axis, str):
        axis = [int(nearest) for nearest in world[:, 0]].index(PLANES[axis])
    first, second = (other for other in range(3) if other != axis)
    # Top to bottom runs along the more superior of the two world axes (of R, A, S: the later one).
    transposed = bool(world[first, 0] < world[second, 0])
    rows, columns = (second, first) if transposed else (first, second)
    return SliceView(
        axis=axis,
        transposed=transposed,
        flip_rows=bool(world[rows, 1] > 0),  # down is posterior or inferior
        flip_columns=bool(world[columns, 1] > 0),  # right is left or posterior
    )


def _through_plane(affine: NDArray[np.float64], shape: tuple[int, ...]) -> int:
    flat = [axis for axis in range(3) if shape[axis] == 1]
    if len(flat) == 1:
        return flat[0]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    candidates = [axis for axis in range(3) if spacing[axis] >= _NEARLY_EQUAL * spacing.max()]
    upright = np.abs(affine[_SUPERIOR, :3] / spacing)
    return max(candidates, key=lambda each: (upright[each], each))


def read_grid(path: Path) -> Grid:
    """Where the voxels of a NIfTI file lie, by its header alone. Raises UnreadableFile, as `open_nifti`."""
    stored = read_stored(path)
    return Grid(stored.affine_mm, stored.space, stored.volumes)


def read_planes(path: Path, axis: int) -> Callable[[int], NDArray[Any]]:
    """Number of the plane across a voxel axis -> its values along the two other axes, scaled by the
    header, read in slabs as `open_nifti` does. Raises UnreadableFile, as that does."""
    stored = read_stored(path)
    read = PlaneReader(stored, axis)

    def read_scaled(number: int) -> NDArray[Any]:
        plane = read(number)
        if plane.dtype.names:
            return plane
        with np.errstate(all="ignore"):
            scaled: NDArray[Any] = apply_read_scaling(plane, stored.slope, stored.inter)
        return scaled

    return read_scaled


def open_nifti(found: Found, reading: Reading | None = None, view: SliceView | None = None) -> Scan:
    """A NIfTI file as a scan; the frames of a 4D file are the slices of its first volume, then of
    its second, and so on. view: how to show them, where not as `slice_view` says for `reading.axis`.

    Values are brought to 0..255 by the window of `reading`, else by the 0.5th and 99.5th percentile of
    the whole file; colours stay as they are. A NIfTI file does not say whether it is a CT, so a named CT
    window is taken at its word. Slices are read when asked for, in slabs of at most 128 MiB of which one
    is kept until the last slice has been read; see `nifti_voxels.PlaneReader`. What is written lies on
    the grid of the source, see `nifti_writing`.

    Raises UnreadableFile: as `nifti_voxels.read_stored`, and for slices of more than 178 megapixels.
    """
    reading = reading or Reading()
    stored = read_stored(found.source, found.files)
    view = view or slice_view(stored.affine, stored.space, reading.axis)
    others = [axis for axis in range(3) if axis != view.axis]
    columns, rows = (stored.space[axis] for axis in (others if view.transposed else others[::-1]))
    if rows * columns > MAX_FRAME_PIXELS:
        raise UnreadableFile(
            f"{found.source}: slices of {columns} x {rows} voxels, more than"
            f" {MAX_FRAME_PIXELS // 1_000_000} megapixels",
            hint="slice it along another axis with --axis",
        )
    count = stored.space[view.axis] * stored.volumes

    def write_volume(frames: Frames, target: Path) -> None:
        check_frames(frames, count, (rows, columns))
        write_like(stored.header, frames, target, axis=view.axis, to_plane=view.from_picture)

    return Scan(
        source=found.source,
        kind="nifti",
        frame_count=count,
        frame_shape=(rows, columns),
        geometry=Geometry(stored.affine_mm),
        read_frame=_frame_reader(stored, view, reading.window, count),
        write_volume=write_volume,
        volumes=stored.volumes,
    )


def _frame_reader(
    stored: Stored, view: SliceView, wanted: Window | None, count: int
) -> Callable[[int], NDArray[np.uint8]]:
    read = PlaneReader(stored, view.axis)

    @cache
    def window() -> tuple[float, float]:
        return (wanted.low, wanted.high) if wanted else _robust_window(stored, view.axis, read, count)

    def read_frame(number: int) -> NDArray[np.uint8]:
        if not 0 <= number < count:
            raise IndexError(f"frame {number} of {count}")
        if stored.dtype.names:
            picture = np.ascontiguousarray(view.to_picture(_colours(read(number))))
        else:
            low, high = window()
            plane = view.to_picture(read(number))
            picture = as_rgb(to_grey(plane, low, high, stored.slope, stored.inter))
        if number == count - 1:
            read.close()  # a scan may wait long for its masks to be written
        return picture

    return read_frame


def _robust_window(stored: Stored, axis: int, read: PlaneReader, count: int) -> tuple[float, float]:
    """By one pass over the file, even where reading all of it takes several."""
    sampler = read if read.keeps_all else PlaneReader(stored, axis, sampled_frames(count))

    def values(number: int) -> NDArray[Any]:
        scaled: NDArray[Any] = apply_read_scaling(thinned(sampler(number)), stored.slope, stored.inter)
        return scaled

    with refusing(stored.path):
        return robust_range(values, count)


def _colours(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Structured R, G, B or R, G, B, A of uint8 [..] -> uint8 [.., 3]; transparency is laid on black."""
    colours = np.stack([plane[channel] for channel in "RGB"], axis=-1)
    if "A" in (plane.dtype.names or ()):
        colours = np.rint(colours * (plane["A"][..., np.newaxis] / 255.0))
    return colours.astype(np.uint8)
