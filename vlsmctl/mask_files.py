"""Mask files, whoever wrote them, as pairs of masks on one grid."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.naming import PICTURE_SUFFIXES
from vlsmctl.formats.raster import read_mask_picture
from vlsmctl.metrics import Mask

FOREGROUND_RULE = (
    "pictures: values above 127, or above 0 where the largest value in the file is 1; NIfTI: values above 0"
)
AFFINE_TOLERANCE = 1e-3  # mm
_VOLUMES = (".nii.gz", ".nii")
MASK_SUFFIXES = (*_VOLUMES, *PICTURE_SUFFIXES)
_MM = {"meter": 1000.0, "micron": 0.001}


def shown(name: str) -> str:
    """A file name that may hold undecodable bytes, as text that can be written."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class MaskFile:
    """mask: bool, axes of length 1 dropped in volumes; size and affine (mm, RAS+; None for pictures):
    as in the file; steps: step vectors of the mask's axes [ndim, K], in `unit`, "mm" or "px"; element:
    volume of a voxel in ml, or 1 for a pixel; caution: what a person should know about the values."""

    mask: Mask
    size: tuple[int, ...]
    affine: NDArray[np.float64] | None
    steps: NDArray[np.float64]
    unit: str
    element: float
    caution: str | None = None


@dataclass(frozen=True)
class MaskPair:
    """A prediction and its target on one grid, bool arrays of equal shape; see `MaskFile` for the rest."""

    prediction: Mask
    target: Mask
    steps: NDArray[np.float64]
    unit: str
    element: float
    caution: str | None


def read_pair(
    prediction: Path | None,
    target: Path,
    *,
    prediction_label: int | None = None,
    target_label: int | None = None,
) -> MaskPair:
    """Both masks, read; None: no prediction, which counts as an empty one.

    Labels: take this value of a label map (or segment of a DICOM SEG) alone; None: all foreground, by
    `FOREGROUND_RULE`. Raises UnreadableFile, also where the two do not lie on the same pixels.
    """
    true = read_mask_file(target)
    if prediction is None:
        found, cautions = None, []
    else:
        found = read_mask_file(prediction)
        _refuse_other_grid(prediction, found, target, true)
        cautions = [f"prediction: {found.caution}"] if found.caution else []
    if true.caution:
        cautions.insert(0, f"target: {true.caution}")
    if found is None:
        cautions.append("no prediction file")
    mask = np.zeros_like(true.mask) if found is None else found.mask
    return MaskPair(mask, true.mask, true.steps, true.unit, true.element, "; ".join(cautions) or None)


def _refuse_other_grid(prediction: Path, found: MaskFile, target: Path, true: MaskFile) -> None:
    """Scores compare pixel by pixel, so both masks must lie on the same ones."""
    where = f"{prediction}: expected the grid of {target}"
    if (found.affine is None) != (true.affine is None):
        kinds = ["picture" if mask.affine is None else "NIfTI" for mask in (true, found)]
        raise UnreadableFile(f"{where}, a {kinds[0]} file, found a {kinds[1]} file")
    if found.size != true.size:
        raise UnreadableFile(f"{where}, {by(true.size)}, found {by(found.size)}")
    if found.affine is not None and true.affine is not None:
        difference = float(np.abs(found.affine - true.affine).max())
        if difference > AFFINE_TOLERANCE:
            raise UnreadableFile(
                f"{where}, found an affine that differs from its by up to {difference:.4g} mm"
            )


def read_mask_file(path: Path) -> MaskFile:
    """A picture or a NIfTI as a mask; foreground by `FOREGROUND_RULE`. Raises UnreadableFile."""
    return _read_volume(path) if path.name.lower().endswith(_VOLUMES) else _read_picture(path)


def _read_picture(path: Path) -> MaskFile:
    grey = read_mask_picture(path)
    largest = int(grey.max(initial=0))
    mask = grey > (0 if largest <= 1 else 127)
    caution = f"values reach {largest} only, so nothing is foreground" if 1 < largest <= 127 else None
    return MaskFile(mask, grey.shape, None, np.eye(2), "px", 1.0, caution)


def _read_volume(path: Path) -> MaskFile:
    """NIfTI, 2D or 3D. Axes of length 1 are dropped: all of a single slice would count as surface."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    damaged = (
        OSError, EOFError, ValueError, KeyError, MemoryError, zlib.error,
        ImageFileError, HeaderDataError,
    )  # fmt: skip
    try:
        image = nibabel.load(path, mmap=False)
        affine = np.array(image.affine, dtype=np.float64)
        affine[:3] *= _MM.get(image.header.get_xyzt_units()[0], 1.0)
        values = np.asanyarray(image.dataobj)
    except damaged as error:
        raise UnreadableFile(
            f"{path}: not a NIfTI file that can be read ({type(error).__name__})"
        ) from error
    size = tuple(int(length) for length in values.shape)
    if values.dtype.fields is not None or any(length != 1 for length in size[3:]):
        raise UnreadableFile(f"{path}: expected a 2D or 3D mask, found {by(size)} of {values.dtype}")
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 0:
        raise UnreadableFile(
            f"{path}: the affine is not finite and invertible, so there are no millimetres"
        )
    kept = [axis for axis, length in enumerate(size) if length != 1] or [0]
    mask = (values > 0).reshape([size[axis] for axis in kept])
    element = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    return MaskFile(mask, (*size, 1, 1)[:3], affine, affine[:3, kept].T, "mm", element)


def by(size: Sequence[int]) -> str:
    """(64, 32) -> "64 x 32"."""
    return " x ".join(map(str, size))
