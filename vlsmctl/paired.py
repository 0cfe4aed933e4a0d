"""Two measurements of the same cases: mean difference, its interval, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import wilcoxon as scipy_wilcoxon

from vlsmctl.intervals import bootstrap_interval

Numbers = Sequence[float] | NDArray[np.float64]

EXACT_UP_TO = 50  # differences other than zero; above, the normal approximation is as good
_ROUNDING = 12  # digits, of the largest value compared, below which a difference is one of arithmetic


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test, two-sided.

    p: 0..1, never NaN; n: pairs; n_zero: of them without a difference; balance: (W+ - W-) / (W+ + W-),
    the matched-pairs rank-biserial correlation, -1..1 and positive where differences are; exact: whether
    p comes from every assignment of signs, or from the normal approximation.
    """

    p: float
    n: int
    n_zero: int
    balance: float
    exact: bool


@dataclass(frozen=True)
class Difference:
    """Second minus first, on the same cases.

    mean: over cases, in the unit of the values; interval: 95 % bootstrap of it, (nan, nan) where it is
    unknown; n: cases; higher, lower, equal: cases in which the second is so; test: over groups where
    there are any, else over cases.
    """

    mean: float
    interval: tuple[float, float]
    n: int
    higher: int
    lower: int
    equal: int
    test: SignedRank


def wilcoxon(differences: Numbers) -> SignedRank:
    """Wilcoxon signed-rank test of paired differences, two-sided.

    Zeros are ranked with the rest and then left out (Pratt), as equal scores are common where a case is
    missed or empty in both; equal sizes share their mean rank. Up to 50 differences other than zero, p is
    exact for just these ranks, ties and zeros included: SciPy's exact distribution knows neither, and what
    it does instead differs from release to release. Above, SciPy's normal approximation with corrections
    for ties, zeros and continuity. Without any difference, p is 1.

    Raises: ValueError for numbers that are not finite.
    Source: Wilcoxon, Biometrics Bulletin 1, 1945; Pratt, JASA 54, 1959.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite")
    there = values != 0
    n_zero = int(np.count_nonzero(~there))
    if n_zero == len(values):
        return SignedRank(1.0, len(values), n_zero, 0.0, exact=True)
    ranks = rankdata(np.abs(values))[there]
    positive = values[there] > 0
    exact = len(ranks) <= EXACT_UP_TO
    if exact:
        p = _exact_p(ranks - n_zero, positive, n_zero)
    else:
        p = float(scipy_wilcoxon(values, zero_method="pratt", correction=True).pvalue)
    balance = float((ranks[positive].sum() - ranks[~positive].sum()) / ranks.sum())
    return SignedRank(min(p, 1.0), len(values), n_zero, balance, exact)


def _exact_p(ranks: NDArray[np.float64], positive: NDArray[np.bool_], n_zero: int) -> float:
    """The share of all 2**n assignments of signs that lie as far from the middle as the one found.

    ranks: among the differences other than zero, [n]; the true ones are higher by `n_zero`. Counted by
    the number of positive differences and the doubled sum of their ranks, which is whole in spite of
    shared ranks; so the table stays small however many zeros there are. Shares are multiples of 2**-50
    at the finest, so sums of them are exact.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)
    share = np.zeros((len(doubled) + 1, int(doubled.sum()) + 1))
    share[0, 0] = 1
    for rank in doubled:
        moved = np.zeros_like(share)
        moved[1:, rank:] = share[:-1, :-rank]
        share = (share + moved) / 2
    numbers, sums = np.indices(share.shape)
    statistic = sums + 2 * n_zero * numbers
    middle = int(doubled.sum()) + 2 * n_zero * len(doubled)  # twice the mean
    found = int(doubled[positive].sum()) + 2 * n_zero * int(positive.sum())
    return float(share[np.abs(2 * statistic - middle) >= abs(2 * found - middle)].sum())


def holm(p_values: Numbers) -> list[float]:
    """Holm's step-down adjustment, in the order given: an adjusted p below 0.05 holds with an error of
    0.05 for all the tests together, however they depend on each other.

    Raises: ValueError for a p outside 0..1.
    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p values lie in 0..1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return [float(one) for one in adjusted]


def paired_difference(first: Numbers, second: Numbers, groups: Sequence[str] | None) -> Difference:
    """Second minus first, of the same cases in the same order, each [N], N > 0.

    groups: the patient or sequence of each case, [N]; whole groups are then resampled for the interval,
    and each group's mean difference is one pair of the test, as cases of one patient are not independent.
    None: each case stands alone. A difference below 1e-12 of the largest value is one of rounding: none.

    Raises: ValueError when lengths differ, without values, or for numbers that are not finite.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(one) != len(other) or not len(one):
        raise ValueError(f"expected as many values in both, and some; found {len(one)} and {len(other)}")
    largest = float(max(np.abs(one).max(), np.abs(other).max()))
    if not isfinite(largest):
        raise ValueError("values must be finite")
    differences = other - one
    signs = np.sign(_without_rounding(differences, largest))
    units = differences if groups is None else _group_means(differences, groups)
    return Difference(
        mean=float(differences.mean()),
        interval=bootstrap_interval(differences, groups),
        n=len(differences),
        higher=int(np.count_nonzero(signs > 0)),
        lower=int(np.count_nonzero(signs < 0)),
        equal=int(np.count_nonzero(signs == 0)),
        test=wilcoxon(_without_rounding(units, largest)),
    )


def _without_rounding(values: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Values as shares of the largest one compared, to 12 digits, so that equal ones tie. [N]"""
    return np.round(values / (largest or 1.0), _ROUNDING)


def _group_means(values: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values but {len(groups)} groups")
    member = np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1]
    return np.asarray(np.bincount(member, weights=values) / np.bincount(member))
