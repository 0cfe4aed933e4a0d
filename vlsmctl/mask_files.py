"""Mask files, whoever wrote them, as pairs of masks on one grid.

Pictures lie on one another pixel by pixel; NIfTI volumes must have one affine; the frames of a DICOM SEG
are laid, by their own positions, on the grid of the NIfTI file, or on the slices of both segmentations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_header import is_dicom
from vlsmctl.formats.dicom_seg_grid import Lit, SegGrid, common_grid, frame_masks, mask_on
from vlsmctl.formats.dicom_seg_reading import EXPORT, Segmentation, read_segmentation
from vlsmctl.formats.mask_values import marked_in_picture, marked_in_volume
from vlsmctl.formats.naming import DICOM_SUFFIXES, PICTURE_SUFFIXES, SEG_SUFFIX
from vlsmctl.formats.nifti_voxels import read_stored
from vlsmctl.metrics import Mask

FOREGROUND_RULE = (
    "pictures: values above 127, or above 0 where the largest value in the file is 1; NIfTI: values above"
    " 0 (predictions of fractions within 0..1: above 0.5); DICOM SEG: any segment (fractional: more than"
    " half); where a label is given: that value or segment. Refused: NaN; of targets also pictures whose"
    " largest value is 2 to 127, shaded like photographs, or with several values that fill areas; NIfTI"
    " with fractions, nothing above 0 but values below, or as many values as images have. Predictions of"
    " such values are cut by the rule, with a caution"
)
GRID_RULE = (
    "two DICOM SEG objects, or one alone: the volume from the first to the last slice of which either has "
    "a frame; slices left out between them are empty, and a single slice is a volume where the distance of "
    "slices is stated, else a plane. How far the scan reaches beyond is not known, so that HD95 of a "
    "missed case or a false alarm is the diagonal of these slices"
)
NO_PREDICTION = "no prediction file"  # a caution
AFFINE_TOLERANCE = 1e-3  # mm
_VOLUMES = (".nii.gz", ".nii")
MASK_SUFFIXES = (*_VOLUMES, *PICTURE_SUFFIXES, SEG_SUFFIX, ".dcm")
# Masks of other programs, and what makes of them what is read
_OTHERS = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".npy", ".npz", ".json")
_PART = "one mask is empty, and the extent of the scan not known: HD95 is the diagonal of the SEG's slices"


def is_mask_name(name: str) -> bool:
    """Whether a file of this name may be a mask. DICOM files may be images too: see `is_segmentation`."""
    return name.lower().endswith(MASK_SUFFIXES)


@dataclass(frozen=True)
class MaskFile:
    """mask: bool, axes of length 1 dropped in volumes but for those of a SEG, see `GRID_RULE`; size: as in
    the file (of a SEG: of the grid that it is laid on); affine: mm, RAS+, None for what has no place;
    steps: step vectors of the mask's axes [ndim, K], in `unit`, "mm" or "px"; element: volume of a voxel in
    ml, or 1 for a pixel; cautions: what a person should know, without names and "; "; texts of one kind
    differ in their numbers alone; whole: False where the scan may be larger: a volume of a SEG's frames."""

    mask: Mask
    size: tuple[int, ...]
    affine: NDArray[np.float64] | None
    steps: NDArray[np.float64]
    unit: str
    element: float
    cautions: tuple[str, ...] = ()
    whole: bool = True


@dataclass(frozen=True)
class MaskPair:
    """A prediction and its target on one grid, bool arrays of equal shape; see `MaskFile` for the rest."""

    prediction: Mask
    target: Mask
    steps: NDArray[np.float64]
    unit: str
    element: float
    cautions: tuple[str, ...] = ()
    whole: bool = True

    @property
    def caution(self) -> str | None:
        """All of them, parted by "; "."""
        return "; ".join(self.cautions) or None


@dataclass(frozen=True)
class _Asked:
    """A mask file: the header of a SEG, or else None; label: the one that is meant, or None for all; truth:
    of a target."""

    path: Path
    label: int | None
    truth: bool
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
    its axes run; of two SEG see `GRID_RULE`. A single slice of a NIfTI file is measured as a plane.

    Raises UnreadableFile, in one line: damaged, or, with both named, not on the same pixels.
    """
    if prediction is None:
        true = read_mask_file(target, target_label, truth=True)
        mask, cautions = np.zeros_like(true.mask), [*_of("target", true), NO_PREDICTION]
    else:
        found, true, more = _on_one_grid(
            _asked(prediction, prediction_label, truth=False), _asked(target, target_label, truth=True)
        )
        mask, cautions = found.mask, [*_of("target", true), *_of("prediction", found), *more]
    if not true.whole and mask.any() != true.mask.any():
        cautions.append(_PART)
    return MaskPair(mask, true.mask, true.steps, true.unit, true.element, tuple(cautions), true.whole)


def read_mask_file(path: Path, label: int | None = None, *, truth: bool = True) -> MaskFile:
    """One mask file, on its own grid; label, foreground: as for `read_pair`; truth: whether it is a target,
    of which values of no mask are refused. Raises UnreadableFile."""
    asked = _asked(path, label, truth=truth)
    if asked.seg is None:
        return _read_array(asked)
    if not asked.seg.placed:
        lit, sources = frame_masks(asked.seg, label)
        if len(sources) > 1:
            raise UnreadableFile(f"{path}: {_in_time(len(sources))}")
        return _flat(asked.seg, lit, label)
    where = f"{path}: expected slices of one even volume"
    grid = common_grid([asked.seg])
    if isinstance(grid, str):
        raise UnreadableFile(f"{where}, found {grid}")
    return _on_slices(asked.seg, grid, asked, where, grid.cautions)


def by(size: Sequence[int]) -> str:
    """(64, 32) -> "64 x 32"."""
    return " x ".join(map(str, size))


def _asked(path: Path, label: int | None, *, truth: bool) -> _Asked:
    name = path.name.lower()
    if name.endswith(_OTHERS):
        raise UnreadableFile(
            f"{path}: expected a picture, a NIfTI file or a DICOM SEG; store it as NIfTI (.nii.gz) first "
            "(3D Slicer: Save, or Export to files)"
        )
    is_seg = name.endswith(DICOM_SUFFIXES) or (not name.endswith(MASK_SUFFIXES) and _begins_as_dicom(path))
    return _Asked(path, label, truth, read_segmentation(path) if is_seg else None)


def _begins_as_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from None


def _of(side: str, file: MaskFile) -> list[str]:
    return [f"{side}: {caution}" for caution in file.cautions]


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
    lit = _laid(seg, other.affine, space, asked, where)
    return _volume(lit.mask, other.affine, space, _seg_cautions(seg, lit, asked.label))


def _laid(
    seg: Segmentation, affine: NDArray[np.float64], space: tuple[int, int, int], asked: _Asked, where: str
) -> Lit:
    lit = mask_on(seg, affine, space, asked.label)
    if isinstance(lit, str):
        raise UnreadableFile(f"{where}, but {asked.path.name} has {lit}")
    return lit


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
    if len({found.frame_of_reference, true.frame_of_reference} - {""}) > 1:
        raise UnreadableFile(
            f"{where}, found another frame of reference: masks of two scans (if they are of one, {EXPORT})"
        )
    grid = common_grid([true, found])
    if isinstance(grid, str):
        raise UnreadableFile(f"{where}, found {grid}")
    files = [_on_slices(seg, grid, asked, where) for seg, asked in ((found, prediction), (true, target))]
    return files[0], files[1], list(grid.cautions)


def _on_slices(
    seg: Segmentation, grid: SegGrid, asked: _Asked, where: str, more: Sequence[str] = ()
) -> MaskFile:
    """On the grid that frames make themselves. more: cautions about that."""
    lit = _laid(seg, grid.affine, grid.space, asked, where)
    cautions = (*_seg_cautions(seg, lit, asked.label), *more)
    return _volume(lit.mask, grid.affine, grid.space, cautions, of_frames=grid.volume)


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


def _flat(seg: Segmentation, lit: Lit, label: int | None) -> MaskFile:
    return MaskFile(lit.mask, seg.shape, None, np.eye(2), "px", 1.0, _seg_cautions(seg, lit, label))


def _seg_cautions(seg: Segmentation, lit: Lit, label: int | None) -> tuple[str, ...]:
    cautions = []
    if label is None and len(lit.segments) > 1:
        cautions.append(f"{len(lit.segments)} segments taken together as foreground")
    if label is not None and seg.segments and label not in seg.segments:
        cautions.append(
            f"segment {label} is not in this file, which has segments up to {max(seg.segments)}"
        )
    if seg.kind == "FRACTIONAL":
        cautions.append("fractional: more than half counts as foreground")
    return tuple(cautions)


def _volume(
    mask: Mask,
    affine: NDArray[np.float64],
    size: Sequence[int],
    cautions: tuple[str, ...],
    *,
    of_frames: bool = False,
) -> MaskFile:
    """mask: of three axes. Those of length 1 are dropped, as all of a single slice would count as surface,
    unless it is known to be one of several (of_frames), in which it is all surface."""
    kept = [axis for axis, length in enumerate(size) if of_frames or length != 1] or [0]
    element = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    flat = mask.reshape([size[axis] for axis in kept], order="F")
    steps = affine[:3, kept].T
    return MaskFile(flat, tuple(size), affine, steps, "mm", element, cautions, whole=not of_frames)


def _refuse_other_grid(prediction: Path, found: MaskFile, target: Path, true: MaskFile) -> None:
    """Scores compare pixel by pixel, so both masks must lie on the same ones."""
    where = f"{prediction}: expected the grid of {target}"
    if (found.affine is None) != (true.affine is None):
        kinds = ["picture" if mask.affine is None else "NIfTI" for mask in (true, found)]
        raise UnreadableFile(f"{where}, a {kinds[0]} file, found a {kinds[1]} file")
    if found.size != true.size:
        if true.affine is None:  # of pictures, the width is named first
            sizes = by(true.size[::-1]), by(found.size[::-1])
            raise UnreadableFile(f"{where}, {sizes[0]} pixels (width x height), found {sizes[1]}")
        raise UnreadableFile(f"{where}, {by(true.size)}, found {by(found.size)}")
    if found.affine is not None and true.affine is not None:
        difference = float(np.abs(found.affine - true.affine).max())
        if difference > AFFINE_TOLERANCE:
            raise UnreadableFile(
                f"{where}, found another affine, up to {difference:.4g} mm apart: another place, spacing "
                "or order of axes"
            )


def _read_array(asked: _Asked) -> MaskFile:
    is_volume = asked.path.name.lower().endswith(_VOLUMES)
    return (_read_volume if is_volume else _read_picture)(asked.path, asked.label, asked.truth)


def _read_picture(path: Path, label: int | None, truth: bool) -> MaskFile:
    marked = marked_in_picture(path, label, truth=truth)
    return MaskFile(marked.mask, marked.mask.shape, None, np.eye(2), "px", 1.0, marked.cautions)


def _read_volume(path: Path, label: int | None, truth: bool) -> MaskFile:
    """NIfTI, 2D or 3D."""
    stored = read_stored(path)
    if stored.volumes > 1:
        raise UnreadableFile(
            f"{path}: expected a 2D or 3D mask, found {by(stored.shape)}: time is no length, so score each"
            " time point by itself; split it first (fslsplit, or four_to_three of nibabel)"
        )
    if stored.dtype.names:
        raise UnreadableFile(f"{path}: expected a 2D or 3D mask, found {by(stored.shape)} of colours")
    marked = marked_in_volume(stored, label, truth=truth)
    return _volume(marked.mask, stored.affine_mm, stored.space, marked.cautions)
