"""Paired differences: against SciPy, by hand, by enumeration, and under the null."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlsmctl.intervals import bootstrap_interval
from vlsmctl.paired import EXACT_UP_TO, holm, paired_difference, wilcoxon

SMALL = st.lists(st.integers(-4, 4), min_size=1, max_size=8)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def by_enumeration(differences: Sequence[int]) -> float:
    """Every assignment of signs to Pratt's ranks, one by one."""
    values = np.array(differences, dtype=float)
    ranks = scipy.stats.rankdata(np.abs(values))[values != 0]
    found = abs(np.sum(np.sign(values[values != 0]) * ranks))
    every = [abs(np.sum(np.array(signs) * ranks)) for signs in product((-1, 1), repeat=len(ranks))]
    return float(np.mean(np.array(every) >= found - 1e-9))


@given(SMALL)
def test_p_counts_every_assignment_of_signs_with_ties_and_zeros(differences: list[int]) -> None:
    assert wilcoxon(differences).p == pytest.approx(by_enumeration(differences), abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 11, 30, EXACT_UP_TO])
def test_without_ties_and_zeros_p_is_scipys_exact_one(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.2, 1, count)
    expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
    found = wilcoxon(differences)
    assert found.p == pytest.approx(expected, rel=1e-12)
    assert found.exact


@pytest.mark.parametrize("count", [EXACT_UP_TO + 1, 60, 100])
def test_the_approximation_for_many_is_close_to_the_exact_one(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.25, 1, count)
    found = wilcoxon(differences)
    assert not found.exact
    assert found.p == pytest.approx(scipy.stats.wilcoxon(differences, method="exact").pvalue, abs=0.005)


def test_the_approximation_ranks_zeros_as_pratt_does() -> None:
    differences = np.random.default_rng(4).integers(-3, 5, 200).astype(float)
    found = wilcoxon(differences)
    assert 0 < found.n_zero < 100
    expected = scipy.stats.wilcoxon(differences, zero_method="pratt", correction=True)
    dropped = scipy.stats.wilcoxon(differences, zero_method="wilcox", correction=True)
    assert found.p == expected.pvalue != dropped.pvalue


def test_by_hand() -> None:
    # Ranks 1.5, 1.5, 3 and 4: W+ = 1.5 + 3 + 4, W- = 1.5. Of 16 assignments, 6 lie as far out: none of
    # the ranks positive, one of the two 1.5 alone, and the opposite of these three
    found = wilcoxon([0.1, -0.1, 0.2, 0.5])
    assert found.p == pytest.approx(6 / 16)
    assert found.balance == pytest.approx((8.5 - 1.5) / 10)


def test_fewer_than_six_pairs_are_never_below_005() -> None:
    assert wilcoxon([1.0] * 5).p == 2 / 2**5 > 0.05
    assert wilcoxon([1.0] * 6).p == 2 / 2**6 < 0.05


def test_equal_scores_are_no_evidence_however_many() -> None:
    """The normal approximation has 0.03 here."""
    found = wilcoxon([*np.zeros(3000), 1, 2, 3, 4, 5])
    assert (found.p, found.n, found.n_zero) == (0.0625, 3005, 3000)


@pytest.mark.parametrize("differences", [[], [0.0], [0.0] * 100, [-0.0, 0.0]])
def test_no_difference_at_all_has_p_1(differences: list[float]) -> None:
    found = wilcoxon(differences)
    assert (found.p, found.balance, found.n, found.n_zero) == (1, 0, len(differences), len(differences))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        wilcoxon([0.1, bad])
    with pytest.raises(ValueError, match="finite"):
        paired_difference([0.1, bad], [0.1, 0.2], None)
    with pytest.raises(ValueError, match="p values"):
        holm([0.1, bad])


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=70), st.randoms())
@settings(deadline=None)
def test_order_sign_and_scale_do_not_matter(differences: list[int], random: Random) -> None:
    found, turned = wilcoxon(differences), wilcoxon([-one / 8 for one in differences])
    assert 0 < found.p <= 1
    assert turned.p == pytest.approx(found.p, abs=1e-12)
    assert turned.balance == pytest.approx(-found.balance)
    shuffled = list(differences)
    random.shuffle(shuffled)
    assert wilcoxon(shuffled).p == pytest.approx(found.p, abs=1e-12)


def test_holm_of_the_usual_example() -> None:
    """Four hypotheses with p 0.01, 0.04, 0.03 and 0.005: 3 x 0.01, then 2 x 0.03 (which the last may not
    fall below), 4 x 0.005; at 0.05 the first and the fourth are rejected."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_is_itself_and_of_none_nothing() -> None:
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    assert holm([0.5, 0.6, 0.7]) == [1, 1, 1]


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for step, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        if p_values[at] * (len(p_values) - step) > level:
            break
        rejected.add(at)
    assert {at for at, one in enumerate(holm(p_values)) if one <= level} == rejected


@given(P_VALUES)
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for one, more in zip(p_values, adjusted, strict=True):
        assert one <= more <= min(1, one * len(p_values))
    for a, b in product(range(len(p_values)), repeat=2):
        assert p_values[a] > p_values[b] or adjusted[a] <= adjusted[b]
    assert holm(p_values[::-1]) == adjusted[::-1]


def test_a_difference_by_hand() -> None:
    found = paired_difference([0.5, 0.5, 0.5, 0.9, 0.1], [0.6, 0.7, 0.5, 0.8, 0.4], None)
    assert found.mean == pytest.approx(0.1)
    assert (found.n, found.higher, found.lower, found.equal) == (5, 3, 1, 1)
    assert found.interval == pytest.approx(bootstrap_interval([0.1, 0.2, 0.0, -0.1, 0.3], None))
    assert found.test.p == by_enumeration([1, 2, 0, -1, 3])  # 0.1 and 0.1 are equal, in spite of rounding


@pytest.mark.parametrize("scale", [1, 1e-9, 1e6])
def test_what_differs_by_rounding_alone_is_equal(scale: float) -> None:
    first = np.array([0.1 + 0.2, 0.7, 1.0]) * scale
    second = np.array([0.3, 0.1 * 7, 1.0 - 2**-53]) * scale
    found = paired_difference(first, second, None)
    assert not np.array_equal(first, second)
    assert (found.equal, found.test.n_zero, found.test.p) == (3, 3, 1)


def test_each_group_is_one_pair_of_the_test() -> None:
    differences = [0.1, 0.3, -0.1, 0.2, 0.05, 0.4, 0.6, -0.5]
    groups = ["b", "b", "a", "c", "a", "b", "d", "e"]  # means: a -0.025, b 0.2667, c 0.2, d 0.6, e -0.5
    found = paired_difference([0.0] * 8, differences, groups)
    assert found.test.n == 5
    assert found.test.p == by_enumeration([-1, 3, 2, 5, -4])
    assert found.mean == pytest.approx(sum(differences) / 8)  # over cases, as the runs' own means are
    assert found.interval == bootstrap_interval(differences, groups)
    assert (found.n, found.higher, found.lower) == (8, 6, 2)


def test_one_group_has_no_interval_and_no_evidence() -> None:
    found = paired_difference([0.1] * 9, [0.5] * 9, ["patient"] * 9)
    assert np.isnan(found.interval).all()
    assert (found.test.n, found.test.p) == (1, 1)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="found 1 and 2"):
        paired_difference([1], [1, 2], None)
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        paired_difference([1, 2], [1, 2], ["a"])
    with pytest.raises(ValueError, match="found 0 and 0"):
        paired_difference([], [], None)


def null(rng: np.random.Generator, patients: int, each: int) -> NDArray[np.float64]:
    """Differences without an effect: of a patient's own, and of the case's."""
    return np.asarray(np.repeat(rng.normal(0, 1, patients), each) + rng.normal(0, 0.5, patients * each))


def test_under_the_null_one_in_twenty_is_called_a_difference_at_most() -> None:
    """With cases taken for independent that are not, it would be most of them."""
    patients, each, times = 10, 8, 300
    groups = [str(number) for number in np.repeat(np.arange(patients), each)]
    rng = np.random.default_rng(7)
    drawn = [null(rng, patients, each) for _ in range(times)]
    by_group = [paired_difference(np.zeros(len(one)), one, groups).test.p for one in drawn]
    by_case = [wilcoxon(one).p for one in drawn]
    assert np.mean(np.array(by_group) < 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / times)
    assert np.mean(np.array(by_group) < 0.5) > 0.35  # it does find something
    assert np.mean(np.array(by_case) < 0.05) > 0.3


def test_rounded_scores_with_many_zeros_keep_the_level_too() -> None:
    rng, times = np.random.default_rng(8), 400
    p = [wilcoxon(np.round(rng.normal(0, 0.7, 14))).p for _ in range(times)]
    assert 0.005 < np.mean(np.array(p) < 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / times)
