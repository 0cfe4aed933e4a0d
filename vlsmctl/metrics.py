"""Scores of one predicted mask against one target mask: pure functions.

Masks are bool arrays of equal shape and any number of dimensions, at native size. `compare` does what
several scores need once: counts and surface distances. Where a textbook formula is undefined, because a
mask is empty, `EMPTY_RULE` holds: the scores follow it here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Spacing = Sequence[float] | NDArray[np.float64]
Distances = NDArray[np.float64]
Indices = NDArray[np.int64]

EMPTY_RULE = (
    "both masks empty: Dice, IoU, NSD, precision and recall 1, HD95 and volume error 0; exactly one empty: "
    "Dice, IoU, NSD, precision and recall 0, HD95 the diagonal of the image or volume (infinite in the "
    "column hd95_inf)"
)
PERCENTILE = 95
# Of the tolerance: a distance of exactly the tolerance is within it, though 3 steps of 0.1 mm make
# 0.30000000000000004 and NIfTI, in 32 bits, has 0.1 as 0.1000000015. MONAI rounds distances to 32 bits.
SLACK = 1e-6
_BLOCK = 2**16  # elements whose distances are looked up at once


@dataclass(frozen=True)
class Comparison:
    """What scores are made of.

    both, predicted, target: elements in both masks, in the prediction, in the target. distances: from each
    surface element of the prediction to the nearest of the target, float64 [N], and the other way round
    [M], in the unit of the spacing; None where a mask is empty. diagonal: of the image or volume, in that
    unit. element: area or volume of one pixel or voxel.
    """

    both: int
    predicted: int
    target: int
    distances: tuple[Distances, Distances] | None
    diagonal: float
    element: float = 1.0

    @property
    def one_empty(self) -> bool:
        """Whether exactly one mask is empty: a missed target, or a false alarm."""
        return bool(self.predicted) != bool(self.target)


def compare(prediction: Mask, target: Mask, spacing: Spacing, element: float = 1.0) -> Comparison:
    """Counts and surface distances of two masks.

    The surface of a mask is what an erosion by the face-connected neighbourhood removes; beyond the
    image there is background. As MONAI's `get_edge_surface_distance`.

    prediction, target: bool, of equal shape, [H, W] or [X, Y, Z] or any other.
    spacing: the length of one step along each axis, [ndim]; for a sheared grid (a tilted gantry) the
        step vectors as rows, [ndim, K]. Distances have its unit: mm in, mm out; 1 for pixels.
    element: the area or volume of one pixel or voxel, in the unit that size errors shall have.

    Memory: some bytes for each element of the boxes around the two masks, and at most about a hundred for
    each element of their surfaces; nothing grows with the image.

    Raises: ValueError when the shapes differ, or when `spacing` does not fit them or is no length.
    """
    prediction, target = _checked(prediction, target)
    steps = _step_vectors(spacing, target.ndim)
    if target.flags.f_contiguous:  # as NIfTI files are: the order of the axes is nothing to a distance
        prediction, target, steps = prediction.T, target.T, steps[::-1]
    boxes = [_bounding_box(mask) for mask in (prediction, target)]
    predicted, true = (
        int(np.count_nonzero(mask[box])) for mask, box in zip((prediction, target), boxes, strict=True)
    )
    both, distances = 0, None
    if predicted and true:
        both = int(np.count_nonzero(prediction[boxes[1]] & target[boxes[1]]))
        surfaces = [_surface(mask, box) for mask, box in zip((prediction, target), boxes, strict=True)]
        distances = (
            _distances(surfaces[0], surfaces[1], target.shape, steps),
            _distances(surfaces[1], surfaces[0], target.shape, steps),
        )
    return Comparison(both, predicted, true, distances, diagonal(target.shape, steps), element)


def dice(found: Comparison) -> float:
    """Dice coefficient, 0..1; 1 for two empty masks, 0 where one is."""
    total = found.predicted + found.target
    return 2 * found.both / total if total else 1.0


def iou(found: Comparison) -> float:
    """Intersection over union, 0..1; 1 for two empty masks, 0 where one is."""
    union = found.predicted + found.target - found.both
    return found.both / union if union else 1.0


def precision(found: Comparison) -> float:
    """Share of the prediction that is right, 0..1; 1 for two empty masks, 0 where one is (a library may
    leave the missed targets, of which nothing is predicted, out of its mean)."""
    if not found.predicted:
        return float(not found.target)
    return found.both / found.predicted


def recall(found: Comparison) -> float:
    """Share of the target that was found (sensitivity), 0..1; 1 for two empty masks, 0 where one is."""
    if not found.target:
        return float(not found.predicted)
    return found.both / found.target


def hd95(found: Comparison) -> float:
    """95th percentile of the surface distances in each direction, the larger of the two; in the unit of
    the spacing. 0 for two empty masks, the diagonal where one is.

    Equal to MONAI's `compute_hausdorff_distance(percentile=95)` where that is defined.
    """
    if found.distances is None:
        return found.diagonal if found.one_empty else 0.0
    return max(float(np.percentile(each, PERCENTILE)) for each in found.distances)


def nsd(found: Comparison, tolerance: float) -> float:
    """Normalised surface Dice, 0..1: the share of both surfaces that lies within `tolerance` of the other.
    1 for two empty masks, 0 where one is.

    tolerance: 0 or more, in the unit of the spacing; a distance equal to it is within, see `SLACK`.

    Raises: ValueError for a tolerance that is negative or no number.

    Equal to MONAI's `compute_surface_dice` (`use_subvoxels=False`) where that is defined.
    Source: Nikolov et al., Clinically applicable segmentation of head and neck anatomy, 2021.
    """
    if not tolerance >= 0:
        raise ValueError(f"a tolerance is 0 or more, got {tolerance}")
    if found.distances is None:
        return float(not found.one_empty)
    limit = tolerance * (1 + SLACK)
    within = sum(int(np.count_nonzero(each <= limit)) for each in found.distances)
    return within / sum(map(len, found.distances))


def volume_error(found: Comparison) -> float:
    """Predicted minus true area or volume, signed, in the unit of `Comparison.element`."""
    return (found.predicted - found.target) * found.element


@dataclass(frozen=True)
class Metric:
    """A score of one case.

    compute: from a comparison and NSD's tolerance. measures: a share of 1, a length (mm or px), or a size
    (ml or px); tolerant: whether it hangs on the tolerance.
    """

    label: str
    compute: Callable[[Comparison, float], float]
    measures: Literal["share", "length", "size"] = "share"
    tolerant: bool = False


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", lambda found, _: dice(found)),
    "iou": Metric("IoU", lambda found, _: iou(found)),
    "hd95": Metric("HD95", lambda found, _: hd95(found), "length"),
    "nsd": Metric("NSD", nsd, tolerant=True),
    "precision": Metric("precision", lambda found, _: precision(found)),
    "recall": Metric("recall", lambda found, _: recall(found)),
    "volume_error": Metric("volume error", lambda found, _: volume_error(found), "size"),
    "abs_volume_error": Metric("absolute volume error", lambda found, _: abs(volume_error(found)), "size"),
}


def diagonal(shape: Sequence[int], spacing: Spacing) -> float:
    """Length of the (longest) diagonal of a grid, outer edge to outer edge, in the unit of `spacing`."""
    steps = _step_vectors(spacing, len(shape))
    signs = np.array(list(product((1.0, -1.0), repeat=len(shape))))
    corners: NDArray[np.float64] = signs * np.asarray(shape) @ steps
    return float(np.linalg.norm(corners, axis=1).max())


def _checked(prediction: Mask, target: Mask) -> tuple[Mask, Mask]:
    if prediction.shape != target.shape:
        raise ValueError(f"masks differ in shape: prediction {prediction.shape}, target {target.shape}")
    return prediction.astype(bool, copy=False), target.astype(bool, copy=False)


def _step_vectors(spacing: Spacing, ndim: int) -> NDArray[np.float64]:
    """The step along each axis as rows, [ndim, K]."""
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.ndim not in (1, 2) or len(steps) != ndim:
        raise ValueError(f"spacing of shape {steps.shape} does not fit a mask of {ndim} dimensions")
    steps = np.diag(steps) if steps.ndim == 1 else steps
    if not np.isfinite(steps).all() or not steps.any(axis=1).all():
        raise ValueError(f"spacing must be finite and not 0, got {np.asarray(spacing).tolist()}")
    return steps


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around a mask, of no elements where the mask has none."""
    box: list[slice] = []
    for axis in range(mask.ndim):  # each is cut out before the next is looked for
        part = mask[tuple(box)]
        others = tuple(other for other in range(mask.ndim) if other != axis)
        lit = np.flatnonzero(part.any(axis=others))
        box.append(slice(int(lit[0]), int(lit[-1]) + 1) if len(lit) else slice(0))
    return tuple(box)


def _surface(mask: Mask, box: tuple[slice, ...]) -> Indices:
    """The surface of a mask as ascending flat indices, [N]. box: around all that is in the mask."""
    part = mask[box]
    inner = part.copy()
    for axis in range(part.ndim):
        here, there = np.moveaxis(inner, axis, 0), np.moveaxis(part, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[[0, -1]] = False  # beyond the box there is background
    np.logical_xor(inner, part, out=inner)
    places = np.unravel_index(np.flatnonzero(inner), part.shape)
    moved = tuple(place + side.start for place, side in zip(places, box, strict=True))
    return np.asarray(np.ravel_multi_index(moved, mask.shape), np.int64)


def _distances(
    surface: Indices, other: Indices, shape: tuple[int, ...], steps: NDArray[np.float64]
) -> Distances:
    """From each element of `surface` to the nearest of `other`, [N].

    A tree over the surfaces, not a distance transform of the whole box: five times faster on lesions
    and organs, and its memory grows with the surface instead of the volume. What lies on both surfaces
    needs no search; the rest is looked up in blocks, so that only the distances are held for all.
    """
    distances = np.zeros(len(surface))
    tree = None
    for start in range(0, len(surface), _BLOCK):
        block = surface[start : start + _BLOCK]
        near = np.minimum(np.searchsorted(other, block), len(other) - 1)
        apart = np.flatnonzero(other[near] != block)
        if len(apart):
            tree = tree or _tree(_places(other, shape, steps))
            distances[start + apart] = tree.query(_places(block[apart], shape, steps))[0]
    return distances


def _tree(places: NDArray[np.float64]) -> KDTree:
    return KDTree(places, leafsize=32, balanced_tree=False, compact_nodes=False)


def _places(flat: Indices, shape: tuple[int, ...], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flat indices as points in the unit of the steps, [N, K]. No matrix product: its rounding may hang on
    how many points there are."""
    places = np.zeros((len(flat), steps.shape[1]))
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        for along, step in zip(np.unravel_index(flat[block], shape), steps, strict=True):
            for number in np.flatnonzero(step):
                places[block, number] += along * step[number]
    return places
