"""Mask files, whoever wrote them, as pairs of masks on one grid.

Pictures lie on one another pixel by pixel; NIfTI volumes must have one affine; the frames of a DICOM SEG
are laid, by their own positions, on the grid of the NIfTI file, or on the slices of both segmentations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_header import is_dicom
from vlsmctl.formats.dicom_seg_grid import Lit, SegGrid, common_grid, empty_mask, frame_masks, mask_on
from vlsmctl.formats.dicom_seg_reading import Segmentation, read_segmentation
from vlsmctl.formats.dicom_seg_reading import is_segmentation as is_segmentation
from vlsmctl.formats.naming import DICOM_SUFFIXES, PICTURE_SUFFIXES, SEG_SUFFIX
from vlsmctl.formats.nifti import read_planes
from vlsmctl.formats.nifti_voxels import read_stored
from vlsmctl.formats.raster import read_label_picture, read_mask_picture
from vlsmctl.metrics import Mask

FOREGROUND_RULE = (
    "pictures: values above 127, or above 0 where the largest value in the file is 1; NIfTI: values above"
    " 0; DICOM SEG: any segment (fractional: more than half); where a label is given: that value or segment"
)
GRID_RULE = (
    "two DICOM SEG objects: the volume from the first to the last slice of which either has a frame; "
    "slices left out are empty"
)
AFFINE_TOLERANCE = 1e-3  # mm
_VOLUMES = (".nii.gz", ".nii")
MASK_SUFFIXES = (*_VOLUMES, *PICTURE_SUFFIXES, SEG_SUFFIX, ".dcm")
# Masks of other programs, and what makes of them what is read
_OTHERS = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".npy", ".npz", ".json")
_FEW_LABELS = 2**16


def shown(name: str) -> str:
    """A file name that may hold undecodable bytes, as text that can be written."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_mask_name(name: str) -> bool:
    """Whether a file of this name may be a mask. DICOM files may be images too: see `is_segmentation`."""
    return name.lower().endswith(MASK_SUFFIXES)


@dataclass(frozen=True)
class MaskFile:
    """mask: bool, axes of length 1 dropped in volumes; size: as in the file (of a SEG: of the grid that it
    is laid on); affine: mm, RAS+, None for what has no place; steps: step vectors of the mask's axes
    [ndim, K], in `unit`, "mm" or "px"; element: volume of a voxel in ml, or 1 for a pixel; caution: what a
    person should know about the values."""

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


@dataclass(frozen=True)
class _Asked:
    """A mask file: the header of a SEG, or else None; label: the one that is meant, or None for all."""

    path: Path
    label: int | None
    seg: Segmentation | None


def read_pair(
    prediction: Path | None,
    target: Path,
    *,
    prediction_label: int | None = None,
    target_label: int | None = None,
) -> MaskPair:
    """Both masks, read; None: no prediction, which counts as an empty one.

    Labels: take this value of a label map (or segment of a DICOM SEG) alone; None: all foreground, by
    `FOREGROUND_RULE`. The grid is that of the files; of a SEG and a NIfTI file the NIfTI's, whatever way
    its axes run; of two SEG see `GRID_RULE`. A single slice is measured as a plane.

    Raises UnreadableFile, in one line: damaged, or, with both named, not on the same pixels.
    """
    if prediction is None:
        true = read_mask_file(target, target_label)
        cautions = [*_of("target", true), "no prediction file"]
        return MaskPair(
            np.zeros_like(true.mask), true.mask, true.steps, true.unit, true.element, "; ".join(cautions)
        )
    found, true, more = _on_one_grid(_asked(prediction, prediction_label), _asked(target, target_label))
    cautions = [*_of("target", true), *_of("prediction", found), *more]
    return MaskPair(found.mask, true.mask, true.steps, true.unit, true.element, "; ".join(cautions) or None)


def read_mask_file(path: Path, label: int | None = None) -> MaskFile:
    """One mask file, on its own grid; label, foreground: as for `read_pair`. Raises UnreadableFile."""
    asked = _asked(path, label)
    if asked.seg is None:
        return _read_array(asked)
    if not asked.seg.placed:
        lit, sources = frame_masks(asked.seg, label)
        if len(sources) > 1:
            raise UnreadableFile(f"{path}: {_in_time(len(sources))}")
        return _flat(asked.seg, lit, label)
    grid = common_grid([asked.seg])
    if isinstance(grid, str):
        raise UnreadableFile(f"{path}: expected slices of one even volume, found {grid}")
    laid = mask_on(asked.seg, grid.affine, grid.space, label)
    if isinstance(laid, str):
        raise UnreadableFile(f"{path}: expected slices of one even volume, found {laid}")
    file = _placed(asked.seg, laid, grid.affine, grid.space, label)
    return replace(file, caution="; ".join(filter(None, [file.caution, grid.caution])) or None)


def by(size: Sequence[int]) -> str:
    """(64, 32) -> "64 x 32"."""
    return " x ".join(map(str, size))


def _asked(path: Path, label: int | None) -> _Asked:
    name = path.name.lower()
    if name.endswith(_OTHERS):
        raise UnreadableFile(
            f"{path}: expected a picture, a NIfTI file or a DICOM SEG; store it as NIfTI (.nii.gz) first "
            "(3D Slicer: Save, or Export to files)"
        )
    is_seg = name.endswith(DICOM_SUFFIXES) or (not name.endswith(MASK_SUFFIXES) and _begins_as_dicom(path))
    return _Asked(path, label, read_segmentation(path) if is_seg else None)


def _begins_as_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from None


def _of(side: str, file: MaskFile) -> list[str]:
    return [f"{side}: {file.caution}"] if file.caution else []


def _on_one_grid(prediction: _Asked, target: _Asked) -> tuple[MaskFile, MaskFile, list[str]]:
    """The prediction, the target, and cautions about the two together."""
    if prediction.seg is not None and target.seg is not None:
        return _both_seg(prediction, prediction.seg, target, target.seg)
    if prediction.seg is not None:
        true = _read_array(target)
        return _seg_on(true, prediction, prediction.seg, _where(prediction, target)), true, []
    found = _read_array(prediction)
    if target.seg is not None:
        return found, _seg_on(found, target, target.seg, _where(prediction, target)), []
    true = _read_array(target)
    _refuse_other_grid(prediction.path, found, target.path, true)
    return found, true, []


def _where(prediction: _Asked, target: _Asked) -> str:
    return f"{prediction.path}: expected the grid of {target.path}"


# One of two is a DICOM SEG


def _seg_on(other: MaskFile, asked: _Asked, seg: Segmentation, where: str) -> MaskFile:
    """A SEG on the grid of a NIfTI file, or of a picture. where: the beginning of a refusal."""
    if seg.placed != (other.affine is not None):
        kind = "picture" if other.affine is None else "NIfTI"
        have = "" if seg.placed else "out"
        raise UnreadableFile(f"{where}, found a {kind} file and a DICOM SEG with{have} places in space")
    if other.affine is None:
        if seg.shape != other.size:
            raise UnreadableFile(
                f"{where}, but {asked.path.name} has {by(seg.shape)} pixels, not {by(other.size)}"
            )
        lit, sources = frame_masks(seg, asked.label)
        if len(sources) > 1:
            raise UnreadableFile(f"{where}, but {asked.path.name} has {_in_time(len(sources))}")
        return _flat(seg, lit, asked.label)
    space = (other.size[0], other.size[1], other.size[2])
    laid = mask_on(seg, other.affine, space, asked.label)
    if isinstance(laid, str):
        raise UnreadableFile(f"{where}, but {asked.path.name} has {laid}")
    return _placed(seg, laid, other.affine, space, asked.label)


# Two DICOM SEG


def _both_seg(
    prediction: _Asked, found: Segmentation, target: _Asked, true: Segmentation
) -> tuple[MaskFile, MaskFile, list[str]]:
    where = _where(prediction, target)
    if found.placed != true.placed:
        words = [
            f"a DICOM SEG with{'' if each.placed else 'out'} places in space" for each in (true, found)
        ]
        raise UnreadableFile(f"{where}, {words[0]}, found {words[1]}")
    if not true.placed:
        return _both_flat(prediction, found, target, true)
    grid = common_grid([true, found])
    if isinstance(grid, str):
        raise UnreadableFile(f"{where}, found {grid}")
    laid = [_laid(seg, grid, asked, where) for seg, asked in ((true, target), (found, prediction))]
    files = [
        _placed(seg, lit, grid.affine, grid.space, asked.label)
        for seg, lit, asked in ((found, laid[1], prediction), (true, laid[0], target))
    ]
    cautions = [grid.caution] if grid.caution else []
    frames = {each.frame_of_reference for each in (true, found)} - {""}
    if len(frames) > 1:
        cautions.append("the two name different frames of reference")
    return files[0], files[1], cautions


def _laid(seg: Segmentation, grid: SegGrid, asked: _Asked, where: str) -> Lit:
    laid = mask_on(seg, grid.affine, grid.space, asked.label)
    if isinstance(laid, str):
        raise UnreadableFile(f"{where}, but {asked.path.name} has {laid}")
    return laid


def _both_flat(
    prediction: _Asked, found: Segmentation, target: _Asked, true: Segmentation
) -> tuple[MaskFile, MaskFile, list[str]]:
    """Frames without places belong together where they were drawn on one frame of one image."""
    where = _where(prediction, target)
    if found.shape != true.shape:
        raise UnreadableFile(f"{where}, {by(true.shape)} pixels, found {by(found.shape)}")
    lit, sources = frame_masks(found, prediction.label)
    wanted, true_sources = frame_masks(true, target.label)
    drawn_on = set(sources) | set(true_sources)
    cautions = []
    if (
        len(sources) == len(true_sources) == 1
        and sources[0][1] == true_sources[0][1]
        and len(drawn_on) == 2
    ):
        cautions = ["the two refer to different images"]
    elif len(drawn_on) > 1:
        raise UnreadableFile(f"{where}, found {_in_time(len(drawn_on))}")
    return _flat(found, lit, prediction.label), _flat(true, wanted, target.label), cautions


def _in_time(count: int) -> str:
    return (
        f"foreground in {count} frames that do not say where they lie: time is no length, so score each"
        " frame by itself, as a picture (vlsmctl predict --format png writes one a frame)"
    )


# As masks


def _placed(
    seg: Segmentation, lit: Lit, affine: NDArray[np.float64], space: Sequence[int], label: int | None
) -> MaskFile:
    return _volume(lit.mask, affine, space, _seg_caution(seg, lit, label))


def _flat(seg: Segmentation, lit: Lit, label: int | None) -> MaskFile:
    return MaskFile(lit.mask, seg.shape, None, np.eye(2), "px", 1.0, _seg_caution(seg, lit, label))


def _seg_caution(seg: Segmentation, lit: Lit, label: int | None) -> str | None:
    cautions = []
    if label is None and len(lit.segments) > 1:
        cautions.append(f"{len(lit.segments)} segments taken together as foreground")
    if label is not None and seg.segments and label not in seg.segments:
        numbers = ", ".join(map(str, sorted(seg.segments)[:8]))
        cautions.append(f"it has no segment {label}, only {numbers}{', ...' * (len(seg.segments) > 8)}")
    if seg.kind == "FRACTIONAL":
        cautions.append("fractional: more than half counts as foreground")
    return "; ".join(cautions) or None


def _volume(mask: Mask, affine: NDArray[np.float64], size: Sequence[int], caution: str | None) -> MaskFile:
    """mask: of three axes. Those of length 1 are dropped: all of a single slice would count as surface."""
    kept = [axis for axis, length in enumerate(size) if length != 1] or [0]
    element = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    flat = mask.reshape([size[axis] for axis in kept], order="F")
    return MaskFile(flat, tuple(size), affine, affine[:3, kept].T, "mm", element, caution)


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


def _read_array(asked: _Asked) -> MaskFile:
    is_volume = asked.path.name.lower().endswith(_VOLUMES)
    return (_read_volume if is_volume else _read_picture)(asked.path, asked.label)


def _read_picture(path: Path, label: int | None) -> MaskFile:
    if label is not None:
        numbers = read_label_picture(path)
        return MaskFile(numbers == label, numbers.shape, None, np.eye(2), "px", 1.0)
    grey = read_mask_picture(path)
    largest = int(grey.max(initial=0))
    mask = grey > (0 if largest <= 1 else 127)
    caution = f"values reach {largest} only, so nothing is foreground" if 1 < largest <= 127 else None
    return MaskFile(mask, grey.shape, None, np.eye(2), "px", 1.0, caution)


def _read_volume(path: Path, label: int | None) -> MaskFile:
    """NIfTI, 2D or 3D, read plane by plane: beside the mask, at most 128 MiB of values are held."""
    stored = read_stored(path)
    if stored.volumes > 1:
        raise UnreadableFile(
            f"{path}: expected a 2D or 3D mask, found {by(stored.shape)}: time is no length, so score each"
            " time point by itself; split it first (fslsplit, or four_to_three of nibabel)"
        )
    if stored.dtype.names:
        raise UnreadableFile(f"{path}: expected a 2D or 3D mask, found {by(stored.shape)} of colours")
    mask = empty_mask(path, stored.space)
    read = read_planes(path, 2)
    labels: set[int] | None = set()
    for number in range(stored.space[2]):
        values = read(number)
        mask[:, :, number] = values > 0 if label is None else values == label
        if label is None and labels is not None:
            more = _labels(values[mask[:, :, number]])
            labels = None if more is None else labels | more
    return _volume(mask, stored.affine_mm, stored.space, _labels_caution(labels))


def _labels(values: NDArray[Any]) -> set[int] | None:
    """Which whole numbers there are among values above 0; None: there are others."""
    if not values.size:
        return set()
    low, high = float(values.min()), float(values.max())
    if low == high and low.is_integer():
        return {int(low)}
    if values.dtype.kind not in "iub" and not (np.isfinite(values) & (values == np.rint(values))).all():
        return None
    whole = values.astype(np.int64)
    found = np.flatnonzero(np.bincount(whole)) if high < _FEW_LABELS else np.unique(whole)
    return set(found.tolist())


def _labels_caution(labels: set[int] | None) -> str | None:
    if labels is None:
        return "its values are no whole numbers: all above 0 count as foreground"
    return f"{len(labels)} labels taken together as foreground" if len(labels) > 1 else None
