"""Metrics against MONAI where MONAI is defined, and against the stated rule elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from vlsmctl.metrics import METRICS, Mask, bootstrap_interval, diagonal, dice, hd95, iou

SPACINGS = [(1.0, 1.0), (0.5, 2.0), (1.0, 1.0, 1.0), (0.7, 0.7, 5.0)]


def blobs(seed: int, ndim: int) -> Mask:
    """A few smooth blobs, some touching the border."""
    size = (48, 40) if ndim == 2 else (20, 18, 12)
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(size), 2.5)
    mask: Mask = field > np.quantile(field, 0.85)
    return mask


def noise(seed: int, ndim: int) -> Mask:
    size = (32, 40) if ndim == 2 else (12, 10, 9)
    mask: Mask = np.random.default_rng(seed).random(size) > 0.7
    return mask


def box(size: tuple[int, ...], start: tuple[int, ...], length: int) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[tuple(slice(at, at + length) for at in start)] = True
    return mask


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # within MONAI 1.6
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("make", [blobs, noise])
@pytest.mark.parametrize("seed", range(4))
def test_equals_monai(seed: int, make: object, spacing: tuple[float, ...]) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import DiceMetric, compute_hausdorff_distance, compute_iou

    assert callable(make)
    prediction, target = make(seed, len(spacing)), make(seed + 100, len(spacing))
    a, b = (torch.from_numpy(mask)[None, None] for mask in (prediction, target))
    theirs = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
    assert hd95(prediction, target, spacing) == pytest.approx(theirs.item(), rel=1e-5)
    assert dice(prediction, target) == pytest.approx(DiceMetric()(a.float(), b.float()).item(), rel=1e-6)
    assert iou(prediction, target) == pytest.approx(compute_iou(a, b).item(), rel=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_symmetric_and_zero_on_itself(spacing: tuple[float, ...]) -> None:
    a, b = blobs(1, len(spacing)), blobs(2, len(spacing))
    for metric in METRICS.values():
        assert metric.compute(a, b, spacing) == metric.compute(b, a, spacing)
    assert (dice(a, a), iou(a, a), hd95(a, a, spacing)) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_margins_around_the_masks_change_nothing(spacing: tuple[float, ...]) -> None:
    a, b = blobs(3, len(spacing)), blobs(4, len(spacing))
    padding = [(9, 2)] * len(spacing)
    for metric in METRICS.values():
        assert metric.compute(np.pad(a, padding), np.pad(b, padding), spacing) == metric.compute(
            a, b, spacing
        )


@pytest.mark.parametrize(("shift", "distance"), [((3, 0), 6.0), ((0, -5), 2.5), ((2, 6), 5.0)])
def test_a_translated_point_is_its_shift_away(shift: tuple[int, int], distance: float) -> None:
    a, b = box((40, 40), (20, 20), 1), box((40, 40), (20 + shift[0], 20 + shift[1]), 1)
    assert hd95(a, b, (2.0, 0.5)) == pytest.approx(distance)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_translated_block_is_its_shift_away(axis: int) -> None:
    start, spacing = [4, 4, 4], (0.5, 1.0, 3.0)
    start[axis] += 3
    moved, still = box((20, 20, 20), tuple(start), 8), box((20, 20, 20), (4, 4, 4), 8)
    assert hd95(moved, still, spacing) == pytest.approx(3 * spacing[axis])


def test_the_95th_percentile_forgives_few_and_not_many() -> None:
    target = box((64, 64), (10, 10), 30)
    speck = target.copy()
    speck[63, 63] = True
    assert hd95(speck, target, (1, 1)) == 0
    assert hd95(box((64, 64), (14, 10), 30), target, (1, 1)) == 4
    lost_a_part = target | box((64, 64), (50, 50), 10)
    assert hd95(target, lost_a_part, (1, 1)) > 10  # though every point of the first is in the second


def test_a_sheared_grid_measures_along_its_true_steps() -> None:
    a, b = np.zeros((2, 8, 8), dtype=bool), np.zeros((2, 8, 8), dtype=bool)
    a[0, 0, 0], b[0, 3, 4] = True, True
    steps = np.array([[4.0, 0, 0], [0, 1.0, 0], [0, 1.0, 2.0]])  # the last axis leans towards the second
    assert hd95(a, b, steps) == pytest.approx(np.hypot(3 + 4, 8))
    assert hd95(a, b, np.diag([4.0, 1.0, 2.0])) == hd95(a, b, (4.0, 1.0, 2.0))


def test_empty_masks_follow_the_rule() -> None:
    empty, full = np.zeros((30, 40), dtype=bool), box((30, 40), (3, 3), 5)
    assert (dice(empty, empty), iou(empty, empty), hd95(empty, empty, (1, 1))) == (1.0, 1.0, 0.0)
    for a, b in ((empty, full), (full, empty)):
        assert (dice(a, b), iou(a, b)) == (0.0, 0.0)
        assert hd95(a, b, (1, 1)) == pytest.approx(50)
        assert hd95(a, b, (2.0, 2.0)) == pytest.approx(100)


def test_no_distance_in_an_image_exceeds_its_diagonal() -> None:
    a, b = box((30, 40), (0, 0), 1), box((30, 40), (29, 39), 1)
    assert hd95(a, b, (0.3, 0.7)) < diagonal((30, 40), (0.3, 0.7))
    sheared = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert diagonal((3, 2), sheared) == pytest.approx(np.hypot(5, 2))


def test_shapes_and_spacing_must_fit() -> None:
    mask = np.ones((4, 4), dtype=bool)
    for metric in METRICS.values():
        with pytest.raises(ValueError, match="differ in shape"):
            metric.compute(mask, mask[:2], (1, 1))
    with pytest.raises(ValueError, match="spacing"):
        hd95(mask, mask, (1, 1, 1))


# --- intervals


def covered(values: NDArray[np.float64], truth: float, seed: int) -> bool:
    low, high = bootstrap_interval(values, None, resamples=400, seed=seed)
    return low <= truth <= high


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = sum(covered(rng.beta(8, 2, size=60), 0.8, seed) for seed in range(300))
    assert 0.90 <= hits / 300 <= 0.985


def test_interval_narrows_with_the_level_and_is_deterministic() -> None:
    values = np.random.default_rng(1).random(50)
    wide, narrow = bootstrap_interval(values, None), bootstrap_interval(values, None, level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert wide == bootstrap_interval(list(values), None)
    assert wide != bootstrap_interval(values, None, seed=1)


def test_cases_of_one_patient_are_not_independent() -> None:
    rng = np.random.default_rng(2)
    patients = [f"p{number}" for number in range(12) for _ in range(10)]
    values = np.repeat(rng.random(12), 10) + 0.01 * rng.random(120)
    grouped, alone = bootstrap_interval(values, patients), bootstrap_interval(values, None)
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])
    each_its_own = [f"{number:03}" for number in range(120)]
    assert bootstrap_interval(values, each_its_own) == pytest.approx(alone)


def test_groups_of_unequal_size_keep_the_mean_of_cases() -> None:
    low, high = bootstrap_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize(("values", "groups"), [([], None), ([0.5], None), ([0.1, 0.9], ["a", "a"])])
def test_one_group_says_nothing_of_the_spread(values: list[float], groups: list[str] | None) -> None:
    assert all(np.isnan(bootstrap_interval(values, groups)))


def test_every_value_needs_its_group() -> None:
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        bootstrap_interval([0.1, 0.2], ["a"])


def test_drawing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random(40)
    whole = bootstrap_interval(values, None)
    monkeypatch.setattr("vlsmctl.metrics._DRAWS_AT_ONCE", 1000)
    assert bootstrap_interval(values, None) == whole
