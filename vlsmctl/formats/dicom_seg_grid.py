"""Where the frames of DICOM segmentations (SEG) lie on a grid of voxels, by position and orientation alone;
and the grid that frames make themselves, from which empty slices may have been left out.

What does not lie there is told in words ("frames of 5 x 7 pixels on slices of 7 x 5"), for the message of
whoever asked.

Source: DICOM PS3.3 C.7.6.2.1.1 (the equation that maps pixels to patient coordinates).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_seg_reading import EXPORT, Frame, Pixels, Segmentation, open_frames

_SAME = 1e-3  # of the spacing: how far a step from pixel to pixel may differ
_OFF = 0.1  # of the spacing: how far a pixel may lie from its voxel
_MOST_SLICES = 10_000
_MOST_VOXELS = 2**33
_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], np.float64)
_STATED = 0.01  # how far, relatively, slices may differ from the distance that is stated
_GAP = 1.5  # times the thickness: slices farther apart look as if some were left out between them
_THIN = 0.75  # times the thickness: slices nearer to one another look as if they were of two grids

Affine = NDArray[np.float64]
Space = tuple[int, int, int]


@dataclass(frozen=True)
class Laid:
    """Where a frame lies. axes: the voxel axes that its columns, its rows and the slices follow one another
    along. flipped: whether columns, and rows, run the other way. index: of its slice, which may lie beyond
    the grid."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool]
    index: int

    def inside(self, space: Space) -> bool:
        return 0 <= self.index < space[self.axes[2]]


@dataclass(frozen=True)
class Lit:
    """The foreground of a segmentation, bool. segments: the numbers of those that it is made of."""

    mask: NDArray[np.bool_]
    segments: frozenset[int]


@dataclass(frozen=True)
class SegGrid:
    """affine: voxel index (column, row, slice) -> mm, RAS+. space: voxels along the axes. cautions: what
    no file states of it. volume: whether it is part of a volume, even where it is a single slice: one that
    states how far slices are apart has others beside it."""

    affine: Affine
    space: Space
    cautions: tuple[str, ...]
    volume: bool


def lay(segmentation: Segmentation, number: int, to_voxel: Affine, space: Space) -> Laid | str:
    """Where a frame (from 0, with a place) lies on a grid; or in words, why nowhere.

    to_voxel: float64 [4, 4], mm RAS+ -> voxel index. Axes may be exchanged and run the other way. Steps
    from pixel to pixel must be those of the grid within 0.1 %, all pixels of a slice those of the frame,
    and each of them within 0.1 of a voxel.
    """
    frame, (rows, columns) = segmentation.frames[number], segmentation.shape
    steps = to_voxel[:3, :3] @ np.stack([frame.columns, frame.rows], axis=1)
    ways = np.rint(steps)
    across, down = (int(axis) for axis in np.abs(ways).argmax(axis=0))
    off = float(np.abs(steps - ways).max())
    if off > _SAME or across == down or (np.abs(ways).sum(axis=0) != 1).any():
        return _turned(off)
    if (space[across], space[down]) != (columns, rows):
        return f"frames of {columns} x {rows} pixels on slices of {space[across]} x {space[down]}"
    corners = _CORNERS * (columns - 1, rows - 1)
    found = _voxel(frame, to_voxel) + corners @ steps.T
    through = 3 - across - down
    first = np.zeros(3)
    first[across] = columns - 1 if ways[across, 0] < 0 else 0
    first[down] = rows - 1 if ways[down, 1] < 0 else 0
    first[through] = index = round(float(found[:, through].mean()))
    laid = Laid((across, down, through), (bool(ways[across, 0] < 0), bool(ways[down, 1] < 0)), index)
    off = float(np.abs(found - first - corners @ ways.T).max())
    if off > _OFF and laid.inside(space):
        return f"{beyond(segmentation, number, space[through])} ({off:.2g} of a voxel off)"
    return laid


def beyond(segmentation: Segmentation, number: int, count: int) -> str:
    """That a frame lies on no slice, in words."""
    return f"frame {number + 1} of {len(segmentation.frames)} on none of the {count} slices"


def mask_on(
    segmentation: Segmentation, affine: Affine, space: Space, label: int | None = None
) -> Lit | str:
    """The foreground on a grid; or in words, why the frames do not lie on it.

    label: of one segment, else all. Slices without a frame are empty; frames beyond the first or last slice
    must be. Raises UnreadableFile, as `open_frames` does.
    """
    to_voxel = np.asarray(np.linalg.inv(affine), np.float64)
    found = [lay(segmentation, number, to_voxel, space) for number in range(len(segmentation.frames))]
    if misfit := next((each for each in found if isinstance(each, str)), None):
        return misfit
    laid = [each for each in found if isinstance(each, Laid)]
    if twice := _twice(segmentation, laid):
        return twice
    pixels = open_frames(segmentation)
    mask = empty_mask(segmentation.path, space)
    segments: set[int] = set()
    for number, where in enumerate(laid):
        lit = _lit(segmentation, number, pixels, label)
        if lit is None:
            continue
        if not where.inside(space):
            return f"foreground in {beyond(segmentation, number, space[where.axes[2]])}"
        segments |= lit[1]
        across, down, through = where.axes
        plane = mask.transpose(down, across, through)[:, :, where.index]
        plane |= lit[0][:: -1 if where.flipped[1] else 1, :: -1 if where.flipped[0] else 1]
    return Lit(mask, frozenset(segments))


def empty_mask(path: Path, space: Space) -> NDArray[np.bool_]:
    """A mask with nothing marked, slices along the last axis in one piece each. Raises UnreadableFile, with
    the path, where there is not memory enough."""
    try:
        if math.prod(space) <= _MOST_VOXELS:
            return np.zeros(space, np.bool_, order="F")
    except MemoryError:
        pass
    size = " x ".join(map(str, space))
    raise UnreadableFile(f"{path}: a volume of {size} voxels is more than this machine has memory for")


def frame_masks(
    segmentation: Segmentation, label: int | None = None
) -> tuple[Lit, tuple[tuple[str, int], ...]]:
    """Of frames that do not say where they lie: the foreground [rows, columns] of all together, and the
    sources (see `Frame`) of those that have any. Raises UnreadableFile, as `open_frames` does."""
    mask = np.zeros(segmentation.shape, np.bool_)
    segments: set[int] = set()
    sources: dict[tuple[str, int], None] = {}
    pixels = open_frames(segmentation)
    for number, frame in enumerate(segmentation.frames):
        lit = _lit(segmentation, number, pixels, label)
        if lit is not None:
            mask |= lit[0]
            segments |= lit[1]
            sources[frame.source] = None
    return Lit(mask, frozenset(segments)), tuple(sources)


def common_grid(segmentations: Sequence[Segmentation]) -> SegGrid | str:
    """The grid of the slices of all files together, those left out between them included; or in words, why
    there is none. segmentations: with places; the first says which way the axes run.

    Slices are as far apart as the files state (SpacingBetweenSlices), where all positions agree with that,
    else as the two nearest are; a single slice is as thick as is stated. It is for `mask_on` to see whether
    all frames lie on it.
    """
    first = segmentations[0].frames[0]
    basis = np.eye(4)
    basis[:3, :2] = np.stack([first.columns, first.rows], axis=1)
    normal = np.cross(first.columns, first.rows)
    basis[:3, 2] = normal / np.linalg.norm(normal)
    basis[:3, 3] = first.start
    to_basis = np.asarray(np.linalg.inv(basis), np.float64)
    for segmentation in segmentations:
        if misfit := _other_planes(segmentation, to_basis, segmentations[0].shape):
            return misfit
    starts = [np.stack([_voxel(each, to_basis) for each in one.frames]) for one in segmentations]
    stack = _stack(segmentations, [each[:, 2] for each in starts])
    if isinstance(stack, str):
        return stack
    low, step, count, caution = stack
    origin, shift = _sideways(starts, [np.rint((each[:, 2] - low) / step) for each in starts])
    affine = basis.copy()
    affine[:3, 2] = basis[:3, :3] @ (*shift, step)
    affine[:3, 3] = (basis @ (*origin, low, 1))[:3]
    rows, columns = segmentations[0].shape
    spaced = any(frame.slice_spacing for each in segmentations for frame in each.frames)
    return SegGrid(affine, (columns, rows, count), (caution,) if caution else (), spaced or count > 1)


def _lit(
    segmentation: Segmentation, number: int, pixels: Pixels, label: int | None
) -> tuple[NDArray[np.bool_], set[int]] | None:
    """The foreground of a frame, and the segments that it is made of; None: there is none."""
    segment = segmentation.frames[number].segment
    if label is not None and segment not in (None, label):
        return None
    labels = pixels(number)
    plane = labels != 0 if label is None else labels == label
    if not plane.any():
        return None
    return plane, set(np.unique(labels[plane]).tolist()) if segment is None else {segment}


def _twice(segmentation: Segmentation, laid: Sequence[Laid]) -> str | None:
    """Frames of one segment at one place are phases or repeats, which are no part of one mask."""
    seen: dict[tuple[int | None, int, int], int] = {}
    for number, where in enumerate(laid):
        key = segmentation.frames[number].segment, where.axes[2], where.index
        other = seen.setdefault(key, number)
        if other != number:
            return f"frames {other + 1} and {number + 1} of one segment at one place (repeats, or phases)"
    return None


def _turned(off: float) -> str:
    return (
        f"frames with another spacing or orientation (steps from pixel to pixel {off:.2g} of a voxel off)"
    )


def _voxel(frame: Frame, to_voxel: Affine) -> NDArray[np.float64]:
    first: NDArray[np.float64] = to_voxel[:3, :3] @ frame.start + to_voxel[:3, 3]
    return first


def _other_planes(segmentation: Segmentation, to_basis: Affine, shape: tuple[int, int]) -> str | None:
    """Why a file's frames are not parallel to those of another, pixel by pixel."""
    if segmentation.shape != shape:
        sizes = [f"{columns} x {rows}" for rows, columns in (segmentation.shape, shape)]
        return f"frames of {sizes[0]} pixels on slices of {sizes[1]}"
    for frame in segmentation.frames:
        steps = to_basis[:3, :3] @ np.stack([frame.columns, frame.rows], axis=1)
        off = float(np.abs(steps - np.eye(3)[:, :2]).max())
        if off > _SAME:
            return _turned(off)
    return None


def _stack(
    segmentations: Sequence[Segmentation], heights: Sequence[NDArray[np.float64]]
) -> tuple[float, float, int, str | None] | str:
    """heights: of the frames of each file along the normal, mm -> the lowest, the step, and the number of
    slices, with a caution; or in words, why these are no even slices."""
    frames = [frame for segmentation in segmentations for frame in segmentation.frames]
    stated = _distinct(each.slice_spacing for each in frames)
    thick = _distinct(each.place.thickness for each in frames if each.place)
    pixel = min(float(np.linalg.norm(step)) for step in (frames[0].columns, frames[0].rows))
    near = _OFF * min([*stated, *thick] or [pixel])  # two heights of one slice
    together = np.sort(np.concatenate(heights))
    gaps = _gaps(together, near)
    if not len(gaps):
        caution = None if stated or thick else "no slice thickness is stated: 1 mm is taken"
        return float(together.mean()), next(iter([*stated, *thick]), 1.0), 1, caution
    for step in stated:
        even = _even(together, step)
        if even is not None and abs(even[1] / step - 1) <= _STATED:
            return (*even, None)
    for step in _least(heights, gaps, near, stated, thick):
        even = _even(together, step)
        if even is not None:
            apart = even[1]
            sure = thick and apart <= _GAP * max(thick)
            caution = None if sure else f"slices are taken as {apart:.4g} mm apart, which no file states"
            return (*even, caution)
    return _uneven(float(gaps.min()), float(gaps.max()), thick)


def _uneven(low: float, high: float, thick: Sequence[float]) -> str:
    apart = f"{low:.4g} mm" if high - low < _SAME * low else f"{low:.4g} to {high:.4g} mm"
    thin = ", less than they are thick" if thick and low <= _THIN * min(thick) else ""
    return f"slices on no even grid ({apart} apart{thin}); {EXPORT}"


def _least(
    heights: Sequence[NDArray[np.float64]],
    gaps: NDArray[np.float64],
    near: float,
    stated: Sequence[float],
    thick: Sequence[float],
) -> list[float]:
    """The distance that slices may have where it is not stated, or stated wrong: the least within a file;
    of single slices that between them, unless they are so near that they belong to different grids."""
    within = [float(own.min()) for each in heights if len(own := _gaps(np.sort(each), near))]
    if within:
        return [min(within)]
    apart = float(gaps.min())
    return [] if stated or (thick and apart <= _THIN * min(thick)) else [apart]


def _gaps(ascending: NDArray[np.float64], near: float) -> NDArray[np.float64]:
    found = np.diff(ascending)
    return found[found > near]


def _distinct(lengths: Iterable[float | None]) -> list[float]:
    return list(dict.fromkeys(length for length in lengths if length))


def _even(heights: NDArray[np.float64], step: float) -> tuple[float, float, int] | None:
    """The line of even steps (about `step`) on which ascending heights lie: where it begins, its step, and
    how many there are; None: there is none."""
    ratios = np.diff(heights) / step
    counts = np.rint(ratios)
    total = counts.sum()
    if not 0 < total < _MOST_SLICES or np.abs(ratios - counts).max() > 2 * _OFF:
        return None
    numbers = np.concatenate([[0.0], np.cumsum(counts)])
    centred = numbers - numbers.mean()
    fitted = float(centred @ heights / (centred @ centred))
    low = float(heights.mean() - numbers.mean() * fitted)
    off = np.abs(heights - low - numbers * fitted).max()
    return (low, fitted, int(total) + 1) if off <= _OFF * fitted else None


def _sideways(
    starts: Sequence[NDArray[np.float64]], indices: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the first pixel of the first slice lies, in columns and rows, and how far the next slice is
    shifted, as by a tilted gantry: both 0 where the first file's are upright on one another.

    starts: of the frames of each file [frames, 3]; indices: of their slices.
    """
    within = [each[:, :2] - each[:, :2].mean(axis=0) for each in starts]
    if max(float(np.abs(each).max()) for each in within) <= _OFF:
        return starts[0][:, :2].mean(axis=0), np.zeros(2)
    centred = [each - each.mean() for each in indices]
    slope = sum((n @ at for n, at in zip(centred, within, strict=True)), np.zeros(2))
    shift = slope / max(sum(float(n @ n) for n in centred), 1.0)
    return (starts[0][:, :2] - np.outer(indices[0], shift)).mean(axis=0), shift
