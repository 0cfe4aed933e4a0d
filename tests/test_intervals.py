"""Bootstrap intervals: they cover what they say, and whole patients are drawn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.intervals import FEWEST, bootstrap_interval, units


def covered(values: NDArray[np.float64], groups: list[str] | None, truth: float, seed: int) -> bool:
    low, high = bootstrap_interval(values, groups, resamples=400, seed=seed)
    return low <= truth <= high


# Of the plain percentiles only 83, 90, 93 and 94 % of normal, 83, 89, 92 and 93 % of skewed data
@pytest.mark.parametrize(("number", "least"), [(5, 0.875), (10, 0.915), (20, 0.92), (50, 0.925)])
@pytest.mark.parametrize("skewed", [False, True], ids=["normal", "Dice"])
def test_an_interval_covers_the_mean_about_as_often_as_it_says(
    number: int, least: float, skewed: bool
) -> None:
    rng, times = np.random.default_rng(0), 1000
    drawn = rng.beta(8, 2, (times, number)) if skewed else rng.normal(0.8, 0.1, (times, number))
    hits = sum(covered(values, None, 0.8, seed) for seed, values in enumerate(drawn))
    assert least <= hits / times <= 0.97


def test_an_interval_of_few_patients_covers_their_mean() -> None:
    """Seven patients of three to five images; the plain percentiles cover 86 %."""
    rng, times, hits = np.random.default_rng(5), 800, 0
    for seed in range(times):
        patients = [f"p{number}" for number in range(7) for _ in range(3 + number % 3)]
        of_patient = dict(zip(sorted(set(patients)), rng.normal(0.7, 0.1, 7), strict=True))
        values = np.array([of_patient[one] for one in patients]) + rng.normal(0, 0.02, len(patients))
        hits += covered(values, patients, 0.7, seed)
    assert 0.90 <= hits / times <= 0.97


def test_with_patients_only_intervals_of_patients_cover_the_mean() -> None:
    """Patients differ, and their images hardly do: intervals of images alone are far too narrow."""
    rng = np.random.default_rng(0)
    patients = [f"p{number}" for number in range(40) for _ in range(5)]
    hits, alone = 0, 0
    for seed in range(150):
        values = np.repeat(rng.normal(0.7, 0.1, size=40), 5) + rng.normal(0, 0.01, size=200)
        hits += covered(values, patients, 0.7, seed)
        alone += covered(values, None, 0.7, seed)
    assert 0.88 <= hits / 150 <= 0.985
    assert alone / 150 < 0.75


def every_resample(values: list[float], groups: list[str]) -> NDArray[np.float64]:
    """The mean of each of the ways to draw as many groups as there are, worked out one by one."""
    members = [[value for value, group in zip(values, groups, strict=True) if group == name]
               for name in sorted(set(groups))]  # fmt: skip
    return np.array([np.concatenate(drawn).mean() for drawn in product(members, repeat=len(members))])


@pytest.mark.parametrize(("values", "groups"), [
    ([0.1, 0.2, 0.9, 0.8, 0.4, 0.45, 0.5, 0.3, 0.2], ["a", "a", "b", "b", "c", "c", "c", "d", "e"]),
    ([0.0, 1.0, 0.25, 0.5, 0.75], ["a", "b", "c", "d", "e"]),
    ([3.0, 1.0, 2.0, 9.0, 4.0, 5.0, 6.0], ["z", "b", "z", "a", "b", "y", "x"]),
])  # fmt: skip
def test_equals_the_quantiles_over_every_possible_resample(values: list[float], groups: list[str]) -> None:
    means = every_resample(values, groups)
    low, high = bootstrap_interval(values, groups, level=0.8, resamples=20_000)
    # Student's t with 4 degrees of freedom has 10 % below -1.5332; Phi(-1.5332 sqrt(5 / 4)) = 0.0433
    for end, level in ((low, 0.0433), (high, 0.9567)):  # drawn at random, so within a step of the level
        assert np.quantile(means, level - 0.01) - 1e-12 <= end <= np.quantile(means, level + 0.01) + 1e-12


def test_an_interval_narrows_with_the_level_and_is_deterministic() -> None:
    values = np.random.default_rng(1).random(50)
    wide, narrow = bootstrap_interval(values, None), bootstrap_interval(values, None, level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert wide == bootstrap_interval(list(values), None)
    assert wide != bootstrap_interval(values, None, seed=1)


def test_four_times_the_cases_halve_the_interval() -> None:
    rng = np.random.default_rng(4)
    few, many = (bootstrap_interval(rng.normal(size=number), None) for number in (200, 800))
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(2, rel=0.15)


def test_cases_of_one_patient_are_not_independent() -> None:
    rng = np.random.default_rng(2)
    patients = [f"p{number}" for number in range(12) for _ in range(10)]
    values = np.repeat(rng.random(12), 10) + 0.01 * rng.random(120)
    grouped, alone = bootstrap_interval(values, patients), bootstrap_interval(values, None)
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])
    each_its_own = [f"{number:03}" for number in range(120)]
    assert bootstrap_interval(values, each_its_own) == pytest.approx(alone)


def test_groups_of_unequal_size_keep_the_mean_of_cases() -> None:
    sizes = [1] * 30 + [9] * 30  # patients with one bad image, and with nine good ones: the mean is 0.9
    values = np.repeat([0.0, 1.0], [30, 270])
    low, high = bootstrap_interval(values, [f"{at}" for at, size in enumerate(sizes) for _ in range(size)])
    assert 0.8 < low < 0.9 < high < 0.96


def test_values_that_are_all_alike_have_no_width() -> None:
    assert bootstrap_interval([0.25] * 7, None) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "groups"),
    [([], None), ([], []), ([0.5], None), ([0.1, 0.9, 0.2, 0.3], None), ([0.1, 0.9] * 8, list("abcd") * 4)],
)
def test_fewer_than_five_say_too_little_of_the_spread(
    values: list[float], groups: list[str] | None
) -> None:
    assert all(np.isnan(bootstrap_interval(values, groups)))
    more = [*values, *np.linspace(0, 1, FEWEST)]
    assert all(np.isfinite(bootstrap_interval(more, None if groups is None else [*groups, *"vwxyz"])))


def test_units_are_told_in_words() -> None:
    assert units(1, grouped=False) == "1 case"
    assert units(1200, grouped=True) == "1,200 patients or sequences"
    assert units(2, grouped=False, alone="picture") == "2 pictures"


def test_every_value_needs_its_group() -> None:
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        bootstrap_interval([0.1, 0.2], ["a"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval([0.1, value, 0.3], None)


@pytest.mark.parametrize("groups", [None, [f"{at // 3}" for at in range(40)]], ids=["alone", "grouped"])
def test_drawing_in_blocks_changes_nothing(
    groups: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(3).random(40)
    whole = bootstrap_interval(values, groups)
    monkeypatch.setattr("vlsmctl.intervals._DRAWS_AT_ONCE", 1000)
    assert bootstrap_interval(values, groups) == whole
