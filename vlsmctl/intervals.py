"""What a mean is worth: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DRAWS_AT_ONCE = 400_000  # which fit into a processor's cache


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
    then drawn, as the values of one patient are not independent, and a resample's mean is that of its
    values, however many each group has; None: each value stands alone.
    With fewer than two groups (or values) nothing is known of the spread: (nan, nan).

    Raises: ValueError when `groups` and `values` differ in length, or values are not finite.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("the mean of values that are not finite has no interval")
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
    alike = bool((counts == counts[0]).all())  # then every resample has as many values
    for start in range(0, resamples, block):
        drawn = rng.integers(number, size=(min(block, resamples - start), number))
        drawn_counts = number * counts[0] if alike else counts[drawn].sum(axis=1)
        means[start : start + block] = sums[drawn].sum(axis=1) / drawn_counts
    return means
