"""The calibration of presence: what must hold for any validation set, and the sets that have nothing to
learn from."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vlsmctl.presence import Presence, calibrate, presence_score, probability, why_uncalibrated

Case = tuple[float, bool, float]  # score, present, Dice

numbers = st.floats(-60, 60, width=32) | st.integers(-4, 4).map(float)  # the latter: many equal ones
with_target = st.tuples(numbers, st.just(True), st.floats(0, 1))
without_target = st.tuples(numbers, st.just(False), st.sampled_from([0.0, 1.0]))
validation_sets = st.tuples(
    st.lists(with_target, min_size=1, max_size=12), st.lists(without_target, min_size=1, max_size=12)
).map(lambda both: [*both[0], *both[1]])


def calibrated(cases: list[Case]) -> Presence:
    presence = calibrate(*columns(cases))
    assert presence is not None
    return presence


def columns(cases: list[Case]) -> tuple[list[float], list[bool], list[float]]:
    return [case[0] for case in cases], [case[1] for case in cases], [case[2] for case in cases]


def mean_dice(cases: list[Case], chances: list[float], threshold: float) -> float:
    """With every picture below the threshold suppressed."""
    return sum(
        float(not present) if chance < threshold else dice
        for (_, present, dice), chance in zip(cases, chances, strict=True)
    ) / len(cases)


@settings(deadline=None, max_examples=60)
@given(validation_sets)
def test_any_calibration_is_a_rising_probability_and_never_lowers_dice(cases: list[Case]) -> None:
    presence = calibrated(cases)
    chances = probability(presence, torch.tensor(columns(cases)[0])).tolist()
    assert all(0 <= chance <= 1 for chance in chances)
    for (one, left), (other, right) in product(zip(cases, chances, strict=True), repeat=2):
        assert one[0] > other[0] or left <= right + 1e-12
    assert (presence.positives, presence.negatives) == (
        sum(case[1] for case in cases), sum(not case[1] for case in cases)
    )  # fmt: skip
    got = mean_dice(cases, chances, presence.threshold)
    assert got >= mean_dice(cases, chances, 0) - 1e-9
    # No other cut between two of the pictures does better, and no lower one as well
    for other_threshold in {0.0, *chances}:
        there = mean_dice(cases, chances, other_threshold)
        assert there <= got + 1e-9
        if other_threshold < presence.threshold and any(
            other_threshold <= chance < presence.threshold for chance in chances
        ):
            assert there < got


@settings(deadline=None, max_examples=60)
@given(validation_sets)
def test_auc_is_the_share_of_pairs_ranked_rightly(cases: list[Case]) -> None:
    pairs = [
        (one[0] > other[0]) + (one[0] == other[0]) / 2
        for one in cases if one[1]
        for other in cases if not other[1]
    ]  # fmt: skip
    assert calibrated(cases).auc == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(validation_sets, st.sampled_from([1e-3, 1.0, 1e3]), st.sampled_from([-1e3, 0.0, 20.0]))
def test_the_scale_of_the_scores_changes_nothing(cases: list[Case], scale: float, shift: float) -> None:
    moved = [(score * scale + shift, present, dice) for score, present, dice in cases]
    for presence, those in ((calibrated(cases), cases), (calibrated(moved), moved)):
        chances = probability(presence, torch.tensor(columns(those)[0], dtype=torch.float64))
        # The likelihood is at its top: in sum as many are foretold as there are (Platt's) targets
        n, m = presence.positives, presence.negatives
        expected = n * (n + 1) / (n + 2) + m / (m + 2)
        assert float(chances.sum()) == pytest.approx(expected, abs=2e-3)


def test_known_values() -> None:
    """Two scores only, so that logistic regression meets Platt's targets exactly: 3/4 of two pictures with
    a target, 1/5 of three without."""
    presence = calibrated([(2.0, True, 0.8)] * 2 + [(-1.0, False, 0.0)] * 3)
    low, high = probability(presence, torch.tensor([-1.0, 2.0])).tolist()
    assert (low, high) == (pytest.approx(0.2, abs=1e-6), pytest.approx(0.75, abs=1e-6))
    assert presence.slope == pytest.approx((math.log(3) + math.log(4)) / 3, abs=1e-5)
    assert presence.auc == 1
    middle = float(probability(presence, torch.tensor([0.5])))
    assert presence.threshold == pytest.approx(middle, abs=1e-12)


def test_separated_scores_stay_finite_however_far_apart() -> None:
    for gap in (1e-6, 1.0, 1e6, 1e30):
        cases = [(gap + k * gap / 100, True, 0.9) for k in range(20)]
        cases += [(-gap - k * gap / 100, False, 0.0) for k in range(5)]
        presence = calibrated(cases)
        chances = probability(presence, torch.tensor(columns(cases)[0], dtype=torch.float64))
        assert bool(chances.isfinite().all())
        assert float(chances[:20].min()) > 0.5
        assert float(chances[20:].max()) < 0.5
        assert mean_dice(cases, chances.tolist(), presence.threshold) == pytest.approx(0.92)


def test_scores_that_say_nothing_suppress_nothing() -> None:
    equal = [(3.0, True, 0.1)] * 4 + [(3.0, False, 0.0)] * 2
    reversed_ = [(-k - 1.0, True, 0.5) for k in range(4)] + [(k + 1.0, False, 0.0) for k in range(4)]
    for cases, auc in ((equal, 0.5), (reversed_, 0.0)):
        presence = calibrated(cases)
        assert (presence.slope, presence.threshold, presence.auc) == (0, 0, auc)
    assert float(probability(calibrated(equal), torch.tensor([9.0]))) == pytest.approx(
        (4 * 5 / 6 + 2 / 4) / 6, abs=1e-6
    )


def test_pictures_already_empty_need_no_threshold() -> None:
    """Nothing is marked where there is nothing, so that suppressing gains nothing."""
    cases = [(5.0 + k, True, 0.9) for k in range(5)] + [(-5.0 - k, False, 1.0) for k in range(5)]
    assert calibrated(cases).threshold == 0


def test_the_threshold_is_not_bought_with_pictures_that_are_found() -> None:
    """One empty picture scores above a well-found one: suppressing both would lose more than it gains."""
    cases = [(5.0, True, 0.9), (1.0, True, 0.9), (0.5, True, 0.9), (2.0, False, 0.0), (-3.0, False, 0.0)]
    presence = calibrated(cases)
    scores = torch.tensor(columns(cases)[0])
    assert (probability(presence, scores) < presence.threshold).tolist() == [False] * 4 + [True]


def test_sets_with_nothing_to_learn_from() -> None:
    for present, reason in (([True] * 3, "without a target"), ([False] * 3, "with a target")):
        assert calibrate([1.0, 2.0, 3.0], present, [0.0, 1.0, 1.0]) is None
        assert str(why_uncalibrated([1.0, 2.0, 3.0], present)).endswith(reason)
    assert calibrate([1.0, math.nan], [True, False], [1.0, 1.0]) is None
    assert "not finite" in str(why_uncalibrated([1.0, math.inf], [True, False]))
    assert why_uncalibrated([1.0, 2.0], [True, False]) is None


def test_the_score_is_the_mean_of_the_largest_half_percent() -> None:
    logits = torch.arange(64 * 64, dtype=torch.float32).reshape(1, 1, 64, 64)
    both = torch.cat([logits, -logits])
    assert presence_score(both).tolist() == [np.arange(4076, 4096).mean(), -np.arange(20).mean()]
    assert float(presence_score(torch.tensor([[[[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]]]]))) == 4.5
    assert float(presence_score(torch.tensor([[[[3.0]]]]))) == 3
    assert presence_score(both.bfloat16()).dtype == torch.float32


def test_a_stray_pixel_hardly_moves_the_score_but_a_small_target_does() -> None:
    blank = torch.full((1, 1, 352, 352), -8.0)
    stray, target = blank.clone(), blank.clone()
    stray[..., 7, 7] = 8
    target[..., 100:125, 100:125] = 8  # half a percent of the picture
    assert float(presence_score(stray)) < -7.9
    assert float(presence_score(target)) == 8


@pytest.mark.parametrize(
    "changed", [{"threshold": 1.5}, {"slope": -1.0}, {"intercept": math.nan}, {"auc": None}, {"extra": 1}]
)
def test_facts_that_cannot_be(changed: dict[str, object]) -> None:
    known = {"slope": 1.0, "intercept": 0.0, "threshold": 0.5, "positives": 3, "negatives": 1, "auc": 0.9}
    Presence.model_validate(known)
    with pytest.raises(ValidationError):
        Presence.model_validate(known | changed)
