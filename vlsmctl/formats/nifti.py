"""NIfTI volumes (.nii, .nii.gz, .hdr/.img; 3D and 4D) in, masks on the same grid out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.files import atomic_path
from vlsmctl.formats.intensity import as_rgb, robust_range, to_grey
from vlsmctl.formats.records import Found, Geometry, Mask, Scan, checked_masks
from vlsmctl.quiet import without_warnings

SLAB_BYTES = 256 * 2**20
_NEARLY_EQUAL = 0.95
_DEFLATE_AT_BEST = 1100  # no gzip file expands further than about 1032 times
_SUPERIOR = 2
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}

# nibabel repairs odd headers and tells so on stderr; what matters of it is checked here.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


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


def slice_view(affine: NDArray[np.float64], shape: tuple[int, ...], axis: int | None = None) -> SliceView:
    """The way to show a volume slice by slice.

    affine: [4, 4], voxel index -> mm, RAS+, invertible. shape: voxels along the three axes. axis: the
    voxel axis to follow, 0 to 2, where it is not to be chosen.

    Slices follow the axis with the largest spacing; of (nearly, within 5 %) equal ones the axis
    nearest to superior-inferior. An axis of one voxel, when there is exactly one, is that of the slices.
    Pictures are shown as radiologists do: axial with anterior up, coronal and sagittal with superior
    up; the patient's left (in sagittal slices: the back) on the right of the picture.
    """
    world = io_orientation(affine)  # for each voxel axis: the nearest world axis, and +1 or -1
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    flat = [axis for axis in range(3) if shape[axis] == 1]
    candidates = [axis for axis in range(3) if spacing[axis] >= _NEARLY_EQUAL * spacing.max()]
    unit = affine[_SUPERIOR, :3] / spacing
    if axis is None:
        axis = flat[0] if len(flat) == 1 else max(candidates, key=lambda each: (abs(unit[each]), each))
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


def read_grid(path: Path) -> Grid:
    """Where the voxels of a NIfTI file lie, by its header alone. Raises UnreadableFile, as `open_nifti`."""
    image, space = _load(path)
    volumes = int(np.prod(image.shape[3:]))
    return Grid(_in_mm(np.asarray(image.affine, np.float64), image.header), space, volumes)


def read_planes(path: Path, axis: int) -> Callable[[int], NDArray[Any]]:
    """Number of the plane across a voxel axis -> its values along the two other axes, scaled by the
    header, read in slabs as `open_nifti` does. Raises UnreadableFile, as that does."""
    image, space = _load(path)
    return _plane_reader(path, image.dataobj, axis, space, int(np.prod(image.shape[3:])))


def open_nifti(found: Found, view: SliceView | None = None) -> Scan:
    """A NIfTI file as a scan; the frames of a 4D file are the slices of its first volume, then of
    its second, and so on. view: how to show them, where not as `slice_view` says.

    Intensities are brought to 0..255 by the 0.5th and 99.5th percentile of the whole file. Slices are
    read when asked for, in slabs of at most 256 MiB of which one is kept (a compressed file cannot be
    entered in the middle, so slab by slab is much faster than slice by slice). The file stays open from
    the first slab to the last, which closes it, as does the end of the scan. The mask is a uint8 NIfTI
    (0, 1) with the shape, affine, form codes, zooms and units of the source; free text and extensions of
    the header are left out, as they may hold patient data.

    Raises UnreadableFile: damaged or cut off, not NIfTI, an affine that is not finite or not
    invertible, more than four dimensions, complex numbers.
    """
    path = found.source
    image, space = _load(path)
    affine = np.asarray(image.affine, dtype=np.float64)
    shape = tuple(int(length) for length in image.shape)
    view = view or slice_view(affine, space)
    slices, volumes = space[view.axis], int(np.prod(shape[3:]))
    height, width = view.to_picture(np.empty([space[axis] for axis in range(3) if axis != view.axis])).shape
    read_plane = _plane_reader(path, image.dataobj, view.axis, space, volumes)

    def write_mask(masks: Iterable[Mask], target: Path) -> None:
        lit = np.zeros((*space, volumes), dtype=np.uint8, order="F")
        for number, mask in enumerate(checked_masks(masks, slices * volumes, (height, width))):
            volume, index = divmod(number, slices)
            np.moveaxis(lit[..., volume], view.axis, 0)[index] = view.from_picture(mask)
        _save(image, lit.reshape(shape, order="F"), target)

    return Scan(
        source=path,
        kind="nifti",
        frame_count=slices * volumes,
        frame_shape=(height, width),
        geometry=Geometry(_in_mm(affine, image.header)),
        read_frame=_frame_reader(read_plane, view, slices * volumes),
        write_mask=write_mask,
        suffix=".nii.gz",
    )


def _load(path: Path) -> tuple[Any, tuple[int, int, int]]:
    """The file, its header checked, and its voxels along three axes."""
    with _refusing(path):
        image = nib.load(path)
        _check(path, image)
        first, second, third = (*(int(length) for length in image.shape), 1, 1, 1)[:3]
        return image, (first, second, third)


def _frame_reader(
    read_plane: Callable[[int], NDArray[Any]], view: SliceView, count: int
) -> Callable[[int], NDArray[np.uint8]]:
    @cache
    def window() -> tuple[float, float]:
        return robust_range(read_plane, count)

    def read_frame(number: int) -> NDArray[np.uint8]:
        if not 0 <= number < count:
            raise IndexError(f"frame {number} of {count}")
        plane = read_plane(number)
        if plane.dtype.names:
            return np.ascontiguousarray(view.to_picture(_colours(plane)))
        return as_rgb(view.to_picture(to_grey(plane, *window())))

    return read_frame


def _plane_reader(
    path: Path, data: Any, axis: int, space: tuple[int, ...], volumes: int
) -> Callable[[int], NDArray[Any]]:
    """Number of the frame -> its values along the two other axes, scaled by the header."""
    slices = space[axis]
    voxel_bytes = max(8, data.dtype.itemsize)  # scaling makes float64
    thickness = max(1, SLAB_BYTES // (voxel_bytes * int(np.prod(space)) // slices))
    last = (volumes - 1, (slices - 1) // thickness)
    kept: dict[tuple[int, int], NDArray[Any]] = {}
    opened: list[Any] = []  # going on in an open file spares inflating it from its start for each slab

    def read_plane(number: int) -> NDArray[Any]:
        volume, index = divmod(number, slices)
        key = (volume, index // thickness)
        slab = kept.get(key)
        if slab is None:
            start = key[1] * thickness
            if not opened:
                opened.append(_kept_open(path))
            goes_on = False
            try:
                slab = _read_slab(path, opened[0], axis, slice(start, start + thickness), volume)
                goes_on = key != last
            finally:
                if not goes_on:
                    opened.clear()  # nibabel closes the file with the last reference to its data
            kept.clear()
            kept[key] = slab
        plane: NDArray[Any] = slab[index % thickness]
        return plane

    return read_plane


def _kept_open(path: Path) -> Any:
    with _refusing(path):
        return nib.load(path, keep_file_open=True).dataobj


def _read_slab(path: Path, data: Any, axis: int, part: slice, volume: int) -> NDArray[Any]:
    """Values [slices of the slab, first other axis, second other axis]."""
    where: list[Any] = [slice(None)] * len(data.shape)
    if axis < len(where):
        where[axis] = part
    where[3:] = [volume if position == 0 else 0 for position in range(len(where) - 3)]
    with _refusing(path):
        values = np.asarray(data[tuple(where)])
        values = values.reshape(values.shape + (1,) * (3 - values.ndim))
        slab: NDArray[Any] = np.moveaxis(values, axis, 0)
    return slab


def _colours(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Structured R, G, B or R, G, B, A of uint8 [..] -> uint8 [.., 3]; transparency is laid on black."""
    colours = np.stack([plane[channel] for channel in "RGB"], axis=-1)
    if "A" in (plane.dtype.names or ()):
        colours = np.rint(colours * (plane["A"][..., np.newaxis] / 255.0))
    return colours.astype(np.uint8)


def _check(path: Path, image: Any) -> None:
    if not isinstance(image, nib.Nifti1Pair):
        raise UnreadableFile(
            f"{path}: not a NIfTI file, but {type(image).__name__.removesuffix('Image')}",
            hint="convert it to NIfTI (.nii.gz) first",
        )
    shape, dtype = image.shape, image.dataobj.dtype
    if len(shape) < 2 or 0 in shape or any(length != 1 for length in shape[4:]):
        raise UnreadableFile(f"{path}: has the shape {shape}; only 3D and 4D volumes are supported")
    if dtype.kind == "c":
        raise UnreadableFile(f"{path}: holds complex numbers; store the magnitude instead")
    _check_affine(path, np.asarray(image.affine, dtype=np.float64))
    _check_length(path, image, int(np.prod(shape)) * dtype.itemsize)


def _check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    if not np.isfinite(affine).all():
        raise UnreadableFile(
            f"{path}: its affine holds numbers that are not finite, so its place is unknown"
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # Relative to the spacings, so that micrometre grids are not taken for flat ones.
    if not lengths.all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise UnreadableFile(f"{path}: its affine is not invertible, so its orientation is unknown")


def _check_length(path: Path, image: Any, expected: int) -> None:
    """Refuses, before any memory is taken, a file that cannot hold what its header announces."""
    data_path = Path(image.file_map["image"].filename)
    stored = data_path.stat().st_size
    compressed = data_path.suffix.lower() in (".gz", ".bz2", ".zst")
    holds = stored * _DEFLATE_AT_BEST if compressed else stored - int(image.dataobj.offset)
    if holds < expected:
        raise UnreadableFile(
            f"{path}: cut off: its header announces {expected} bytes of data, more than there are"
        )


def _in_mm(affine: NDArray[np.float64], header: Any) -> NDArray[np.float64]:
    scale = _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    return np.diag([scale, scale, scale, 1.0]) @ affine


def _save(source: Any, lit: NDArray[np.uint8], target: Path) -> None:
    kept = source.header
    version2 = int(kept["sizeof_hdr"]) == nib.Nifti2Header.sizeof_hdr
    image_class = nib.Nifti2Image if version2 else nib.Nifti1Image
    # From the bytes of the header: nibabel's own conversion from a pair drops the form codes.
    header = image_class.header_class(kept.binaryblock, endianness=kept.endianness, check=False)
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    for text in ("descrip", "aux_file", "db_name", "data_type"):
        if text in header:
            header[text] = b""
    with atomic_path(target) as temporary, without_warnings():
        nib.save(image_class(lit, None, header), temporary)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes the readers raise comes out as UnreadableFile."""
    try:
        with without_warnings():
            yield
    except UnreadableFile:
        raise
    except Exception as error:  # gzip, zlib, nibabel and NumPy each raise their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableFile(f"{path}: not a NIfTI file, or damaged ({reason})") from error
