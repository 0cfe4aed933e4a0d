"""What a mean is worth: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

FEWEST = 5  # patients, sequences or cases: of fewer, too few resamples differ to tell the spread
RULE = (
    "95 % bootstrap of the mean: the expanded percentiles (Hesterberg 2015) of 2000 resamples of patients "
    f"or sequences where known, else of cases; unknown with fewer than {FEWEST} of them, somewhat too "
    "narrow with fewer than about 10"
)
_DRAWS_AT_ONCE = 400_000  # which fit into a processor's cache


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    groups: Sequence[str] | None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of the mean of `values`; the same arguments give the same interval.

    values: finite numbers, [N]. groups: the patient or sequence of each value, [N]; whole groups are
    then drawn, as the values of one patient are not independent, and a resample's mean is that of its
    values, however many each group has; None: each value stands alone.
    With fewer than five groups (or values) too little is known of the spread: (nan, nan).

    The ends are the percentiles Phi(-+sqrt(n / (n - 1)) t) of the resamples' means, n groups or values and
    t the quantile of Student's t with n - 1 degrees of freedom: a resample spreads less than a sample of
    few does, so that the plain percentiles at 2.5 and 97.5 % lie too close together. How often the
    95 % interval covers the mean, in 3000 simulated data sets each (in brackets: plain percentiles):

    n                                       5        7        10       20       50
    normal                                  92 (83)  94 (88)  94 (90)  95 (93)  95 (94) %
    Dice of mean 0.80, skewed               91 (83)  93 (88)  94 (89)  94 (92)  94 (93) %
    Dice of mean 0.88, strongly skewed      87 (80)  90 (84)  92 (88)  93 (90)  95 (94) %
    Dice, but 0 for one case in ten         60 (50)  62 (55)  68 (66)  87 (87)  94 (93) %

    In the last line most samples of five or ten hold no case of 0: no interval can know of it.

    Raises: ValueError when `groups` and `values` differ in length, or values are not finite.
    Source: Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015
    (expanded percentiles); Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
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
    if len(sums) < FEWEST:
        return float("nan"), float("nan")
    means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    tail = _expanded((1 - level) / 2, len(sums))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def known_ends(ends: tuple[float, float]) -> list[float | None]:
    """An interval ready for JSON: None where it is unknown."""
    return [end if isfinite(end) else None for end in ends]


def units(number: int, *, grouped: bool, alone: str = "case") -> str:
    """What is resampled, and how many: "1 case", "20 patients or sequences". alone: what is drawn where
    there are no groups."""
    one, many = ("patient or sequence", "patients or sequences") if grouped else (alone, f"{alone}s")
    return f"{number:,} {one if number == 1 else many}"


def _expanded(tail: float, number: int) -> float:
    """The share of resamples to leave out at each end, for `tail` of the samples to lie there. 0..0.5"""
    return float(ndtr(np.sqrt(number / (number - 1)) * stdtrit(number - 1, tail)))


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
