"""Metrics against MONAI where MONAI is defined, against the stated rule elsewhere, and by hand."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Sequence
from math import isfinite, isnan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist

from vlsmctl.metrics import METRICS, Mask, Spacing, compare, diagonal, hd95, nsd

FLAT: list[tuple[float, ...]] = [(1.0, 1.0), (0.5, 2.0), (0.7, 0.3)]
DEEP: list[tuple[float, ...]] = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (0.1, 1.25, 0.3)]
TOLERANCES = [0.0, 0.3, 0.5, 1.0, 2.0, 2.1, 3.5]


def scores(prediction: Mask, target: Mask, spacing: Spacing, tolerance: float = 1.0) -> dict[str, float]:
    """Every metric, by its name."""
    found = compare(prediction, target, spacing)
    return {name: metric.compute(found, tolerance) for name, metric in METRICS.items()}


def blobs(seed: int, ndim: int) -> Mask:
    """A few smooth blobs, some touching the border."""
    size = (48, 40) if ndim == 2 else (20, 18, 12)
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(size), 2.5)
    mask: Mask = field > np.quantile(field, 0.85)
    return mask


def box(size: tuple[int, ...], start: tuple[int, ...], length: int) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[tuple(slice(at, at + length) for at in start)] = True
    return mask


# --- against MONAI


def monai_scores(
    prediction: Mask, target: Mask, spacing: Sequence[float], tolerance: float
) -> dict[str, float]:
    """The same scores by MONAI, one case at a time."""
    torch = pytest.importorskip("torch")
    from monai.metrics import (
        compute_confusion_matrix_metric,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_surface_dice,
        get_confusion_matrix,
    )

    a, b = (torch.from_numpy(mask.copy())[None, None] for mask in (prediction, target))
    with warnings.catch_warnings():  # of empty masks, and of its own deprecations
        warnings.simplefilter("ignore")
        counts = get_confusion_matrix(a.float(), b.float())
        made = {
            "dice": compute_dice(a.float(), b.float()),
            "iou": compute_iou(a, b),
            "hd95": compute_hausdorff_distance(
                a, b, include_background=True, percentile=95, spacing=list(spacing)
            ),
            "nsd": compute_surface_dice(a, b, [tolerance], include_background=True, spacing=list(spacing)),
            "precision": compute_confusion_matrix_metric("precision", counts),
            "recall": compute_confusion_matrix_metric("sensitivity", counts),
        }
    return {name: float(value) for name, value in made.items()}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Mask, Mask, tuple[float, ...]]:
    """Two masks of one shape, noise or a few boxes, empty and full ones among them; and a spacing."""
    ndim = draw(st.sampled_from([2, 3]))
    shape = draw(arrays.array_shapes(min_dims=ndim, max_dims=ndim, min_side=1, max_side=9))
    noise = arrays.arrays(np.bool_, shape)
    few = arrays.arrays(np.bool_, shape, fill=st.just(False))

    @st.composite
    def boxes(draw: st.DrawFn) -> Mask:
        mask = np.zeros(shape, dtype=bool)
        for _ in range(draw(st.integers(0, 2))):
            ends = [sorted(draw(st.tuples(st.integers(0, side), st.integers(0, side)))) for side in shape]
            mask[tuple(slice(*pair) for pair in ends)] = True
        return mask

    kinds = st.one_of(noise, few, boxes(), st.just(np.ones(shape, dtype=bool)))
    prediction, target = draw(kinds), draw(kinds)
    if draw(st.booleans()):  # as NIfTI files are stored
        target = np.asfortranarray(target)
    return prediction, target, draw(st.sampled_from(FLAT if ndim == 2 else DEEP))


NOTHING, SOMETHING = np.zeros((6, 5), dtype=bool), box((6, 5), (1, 1), 3)


@settings(max_examples=100, deadline=None)
@given(case=cases(), tolerance=st.sampled_from(TOLERANCES))
@example(case=(NOTHING, NOTHING, (1.0, 1.0)), tolerance=1.0)
@example(case=(SOMETHING, NOTHING, (1.0, 1.0)), tolerance=1.0)
@example(case=(NOTHING, SOMETHING, (1.0, 1.0)), tolerance=1.0)
@example(case=(SOMETHING, ~NOTHING, (0.7, 0.3)), tolerance=0.3)
def test_equals_monai_where_it_is_defined_and_the_rule_where_it_is_not(
    case: tuple[Mask, Mask, tuple[float, ...]], tolerance: float
) -> None:
    prediction, target, spacing = case
    ours, theirs = (
        scores(prediction, target, spacing, tolerance),
        monai_scores(prediction, target, spacing, tolerance),
    )
    size = float(np.linalg.norm(np.multiply(target.shape, spacing)))
    both_empty = not prediction.any() and not target.any()
    one_empty = prediction.any() != target.any()
    rule = dict.fromkeys(theirs, 1.0 if both_empty else 0.0) | {"hd95": 0.0 if both_empty else size}
    for name, value in theirs.items():
        if isfinite(value):
            assert ours[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        else:
            assert both_empty or one_empty, name
            assert ours[name] == pytest.approx(rule[name]), name
    if both_empty or one_empty:
        assert not isfinite(theirs["hd95"])  # which a mean over cases leaves out, or is spoilt by
        assert {name: ours[name] for name in rule} == pytest.approx(rule)
    difference = int(prediction.sum()) - int(target.sum())
    assert (ours["volume_error"], ours["abs_volume_error"]) == (difference, abs(difference))


@pytest.mark.parametrize(("predicted", "undefined"), [
    (NOTHING, {"hd95", "precision"}), (SOMETHING, {"dice", "iou", "hd95", "recall"}),
])  # fmt: skip
def test_what_monai_leaves_out_of_its_means_counts_as_0_here(predicted: Mask, undefined: set[str]) -> None:
    """Missed targets and false alarms: so that leaving them out cannot improve a score."""
    target = SOMETHING if predicted is NOTHING else NOTHING
    theirs, ours = monai_scores(predicted, target, (1, 1), 1), scores(predicted, target, (1, 1))
    assert {name for name, value in theirs.items() if isnan(value)} == undefined
    assert all(ours[name] == 0 for name in ("dice", "iou", "nsd", "precision", "recall"))
    assert ours["hd95"] == pytest.approx(sqrt(6**2 + 5**2))


@pytest.mark.parametrize("spacing", FLAT + DEEP, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_equals_monai_on_smooth_masks(seed: int, spacing: tuple[float, ...]) -> None:
    prediction, target = blobs(seed, len(spacing)), blobs(seed + 100, len(spacing))
    theirs = monai_scores(prediction, target, spacing, 2.1)
    ours = scores(prediction, target, spacing, 2.1)
    assert 0 < theirs["nsd"] < 1
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-5)


# --- against every distance worked out, on any grid


def surface_of(mask: Mask) -> NDArray[np.float64]:
    return np.argwhere(mask & ~binary_erosion(mask)).astype(np.float64)


STEPS = [
    np.diag([0.5, 1.0, 3.0]),
    np.array([[4.0, 0, 0], [0, 1.0, 0], [0, 1.0, 2.0]]),  # the last axis leans towards the second
    np.array([[0.36, -0.48, 0.8], [-0.8, -0.6, 0.0], [1.44, -1.92, -1.8]]),  # an oblique scan
    np.array([[0.7, 0.0], [0.2, 0.9], [0.0, 1.1]]),  # three axes in a plane: no scan, but a distance
]


@pytest.mark.parametrize("steps", STEPS, ids=range(len(STEPS)))
@pytest.mark.parametrize("order", ["C", "F"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.02, 0.3, 0.9]))
def test_equals_all_distances_worked_out(steps: NDArray[Any], order: Any, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.asarray(rng.random((9, 7, 8)) < share, order=order) for _ in range(2))
    if not a.any() or not b.any():
        return
    apart = cdist(surface_of(a) @ steps, surface_of(b) @ steps)
    expected = apart.min(axis=1), apart.min(axis=0)
    found = compare(a, b, steps)
    assert found.distances is not None
    for ours, theirs in zip(found.distances, expected, strict=True):
        assert np.sort(ours) == pytest.approx(np.sort(theirs), abs=1e-9)
    assert hd95(found) == pytest.approx(max(np.percentile(each, 95) for each in expected), abs=1e-9)


def test_a_diagonal_matrix_of_steps_is_a_spacing() -> None:
    a, b = blobs(1, 3), blobs(2, 3)
    assert scores(a, b, np.diag([4.0, 1.0, 2.0])) == scores(a, b, (4.0, 1.0, 2.0))


def test_the_order_in_memory_changes_nothing() -> None:
    a, b = blobs(1, 3), blobs(2, 3)
    steps = STEPS[1]
    expected = scores(a, b, steps)
    fortran = np.asfortranarray(a), np.asfortranarray(b)
    turned = np.ascontiguousarray(a[::-1])[::-1], b
    for one, other in (fortran, (fortran[0], b), (a, fortran[1]), turned):
        assert scores(one, other, steps) == pytest.approx(expected)


def test_numbers_other_than_bool_count_as_masks() -> None:
    a, b = blobs(1, 2), blobs(2, 2)
    assert scores(a.astype(np.uint8) * 255, b.astype(float), (1, 1)) == scores(a, b, (1, 1))  # type: ignore[arg-type]


# --- properties


@pytest.mark.parametrize("spacing", FLAT + DEEP, ids=str)
def test_symmetric_and_perfect_on_itself(spacing: tuple[float, ...]) -> None:
    a, b = blobs(1, len(spacing)), blobs(2, len(spacing))
    there, back = scores(a, b, spacing), scores(b, a, spacing)
    assert all(there[name] == back[name] for name in ("dice", "iou", "hd95", "nsd", "abs_volume_error"))
    assert there["precision"] == back["recall"]
    assert there["recall"] == back["precision"]
    assert there["volume_error"] == -back["volume_error"]
    perfect = {name: float(name in ("dice", "iou", "nsd", "precision", "recall")) for name in METRICS}
    assert scores(a, a, spacing, tolerance=0) == perfect


@pytest.mark.parametrize("spacing", FLAT + DEEP, ids=str)
def test_margins_around_the_masks_change_nothing(spacing: tuple[float, ...]) -> None:
    a, b = blobs(3, len(spacing)), blobs(4, len(spacing))
    padding = [(9, 2)] * len(spacing)
    wide = scores(np.pad(a, padding), np.pad(b, padding), spacing)
    assert wide == pytest.approx(scores(a, b, spacing))


@pytest.mark.parametrize(("shift", "distance"), [((3, 0), 6.0), ((0, -5), 2.5), ((2, 6), 5.0)])
def test_a_translated_pixel_is_its_shift_away(shift: tuple[int, int], distance: float) -> None:
    a, b = box((40, 40), (20, 20), 1), box((40, 40), (20 + shift[0], 20 + shift[1]), 1)
    found = scores(a, b, (2.0, 0.5), tolerance=distance)
    assert found["hd95"] == pytest.approx(distance)
    assert found["nsd"] == 1
    assert scores(a, b, (2.0, 0.5), tolerance=distance - 0.01)["nsd"] == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_translated_block_is_its_shift_away(axis: int) -> None:
    start, spacing = [4, 4, 4], (0.5, 1.0, 3.0)
    start[axis] += 3
    moved, still = box((20, 20, 20), tuple(start), 8), box((20, 20, 20), (4, 4, 4), 8)
    assert scores(moved, still, spacing)["hd95"] == pytest.approx(3 * spacing[axis])


def test_the_whole_image_has_its_border_for_a_surface() -> None:
    whole, inside = np.ones((40, 30), dtype=bool), box((40, 30), (10, 10), 10)
    assert compare(whole, inside, (1, 1)).distances[0].shape == (2 * 40 + 2 * 28,)  # type: ignore[index]
    found = scores(whole, whole, (1, 1), tolerance=0)
    assert (found["hd95"], found["nsd"]) == (0, 1)
    moved_to_the_border = box((40, 30), (0, 0), 10)
    assert scores(moved_to_the_border, box((40, 30), (0, 3), 10), (1, 1))["hd95"] == 3


def test_the_95th_percentile_forgives_few_and_not_many() -> None:
    target = box((64, 64), (10, 10), 30)
    speck = target.copy()
    speck[63, 63] = True
    assert scores(speck, target, (1, 1))["hd95"] == 0
    assert scores(box((64, 64), (14, 10), 30), target, (1, 1))["hd95"] == 4
    lost_a_part = target | box((64, 64), (50, 50), 10)
    assert scores(target, lost_a_part, (1, 1))["hd95"] > 10  # all points of the first are in the second


def test_precision_recall_and_size_errors_by_hand() -> None:
    prediction, target = box((20, 20), (0, 0), 4), box((20, 20), (2, 0), 4)
    prediction[10:12, 10:14] = True  # 24 predicted, 16 true, 8 of them in both
    found = compare(prediction, target, (1, 1), element=0.5)
    values = {name: metric.compute(found, 1) for name, metric in METRICS.items()}
    expected = {"precision": 8 / 24, "recall": 8 / 16, "dice": 16 / 40, "iou": 8 / 32}
    expected |= {"volume_error": 4, "abs_volume_error": 4}
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    back = compare(target, prediction, (1, 1), element=0.5)
    assert METRICS["volume_error"].compute(back, 1) == -4
    assert METRICS["abs_volume_error"].compute(back, 1) == 4


# --- the tolerance


@pytest.mark.parametrize("step", [0.1, 0.3, 0.7, 1 / 3, float(np.float32(0.7)), float(np.float32(0.1))])
@pytest.mark.parametrize("count", range(1, 11))
def test_a_distance_of_exactly_the_tolerance_is_within_it(step: float, count: int) -> None:
    """As a person writes it down, whatever the rounding: 3 x 0.1 is more than 0.3 in floating point."""
    a, b = box((30, 30), (5, 5), 1), box((30, 30), (5, 5 + count), 1)
    written = round(count * step, 8)
    assert nsd(compare(a, b, (1.0, step)), written) == 1
    assert nsd(compare(a, b, (1.0, step)), written * 0.999) == 0
    across = box((30, 30), (5 + count, 5 + count), 1)
    assert nsd(compare(a, across, (step, step)), sqrt(2) * count * step) == 1
    assert monai_scores(a, b, (1.0, step), count * step)["nsd"] == 1


def test_nsd_counts_both_surfaces() -> None:
    small, large = box((40, 40), (10, 10), 5), box((40, 40), (10, 10), 11)
    found = compare(small, large, (1, 1))
    # of the small one's 16, the 9 on the edges they share; of the large one's 40, the same 9
    assert nsd(found, 0) == pytest.approx(18 / 56)
    assert nsd(found, 100) == 1


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_is_a_length(tolerance: float) -> None:
    for target in (SOMETHING, NOTHING):
        with pytest.raises(ValueError, match="a tolerance is 0 or more"):
            nsd(compare(SOMETHING, target, (1, 1)), tolerance)


# --- the image


def test_empty_masks_have_the_diagonal_in_the_unit_of_the_spacing() -> None:
    empty, some = np.zeros((30, 40), dtype=bool), box((30, 40), (3, 3), 5)
    for a, b in ((empty, some), (some, empty)):
        assert scores(a, b, (1, 1))["hd95"] == pytest.approx(50)
        assert scores(a, b, (2.0, 2.0))["hd95"] == pytest.approx(100)


@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_no_distance_in_an_image_reaches_its_diagonal(case: tuple[Mask, Mask, tuple[float, ...]]) -> None:
    """So that a missed case is never better than a bad one."""
    prediction, target, spacing = case
    found = compare(prediction, target, spacing)
    for distances in found.distances or ():
        assert distances.max() < found.diagonal
    assert hd95(found) <= found.diagonal


def test_the_diagonal_of_a_sheared_grid_is_its_longest() -> None:
    assert diagonal((3, 2), np.array([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(np.hypot(5, 2))
    assert diagonal((3, 2), np.array([[1.0, 0.0], [-1.0, 1.0]])) == pytest.approx(np.hypot(5, 2))


def test_shapes_and_spacing_must_fit() -> None:
    mask = np.ones((4, 4), dtype=bool)
    with pytest.raises(ValueError, match="differ in shape"):
        compare(mask, mask[:2], (1, 1))
    with pytest.raises(ValueError, match="does not fit a mask of 2 dimensions"):
        compare(mask, mask, (1, 1, 1))
    for spacing in ((1, 0), (1, np.nan), (np.inf, 1)):
        with pytest.raises(ValueError, match="finite and not 0"):
            compare(mask, mask, spacing)


# --- memory and time


def peak_of(prediction: Mask, target: Mask) -> float:
    """The memory that a comparison needs at most beside the masks, in sizes of one mask."""
    tracemalloc.start()
    try:
        compare(prediction, target, np.ones(target.ndim))
        return tracemalloc.get_traced_memory()[1] / target.nbytes
    finally:
        tracemalloc.stop()


def test_a_million_pixels_need_no_more_than_themselves() -> None:
    lesion, moved = box((1000, 1000), (100, 100), 400), box((1000, 1000), (120, 90), 420)
    assert peak_of(lesion, moved) < 1
    assert peak_of(np.ones((1000, 1000), dtype=bool), moved) < 2


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_volume_with_small_masks_needs_next_to_nothing(order: Any) -> None:
    corners = [np.zeros((256, 256, 256), dtype=bool, order=order) for _ in range(2)]
    corners[0][5:20, 5:20, 5:20] = True
    corners[1][230:250, 230:250, 230:250] = True
    assert peak_of(*corners) < 0.1


def test_the_worst_case_stays_within_bounds() -> None:
    """Every pixel of a chequerboard is surface, and none lies on the other's: 64 bytes a pixel are what
    the points, the tree and the distances may take."""
    board = np.indices((1000, 1000)).sum(axis=0) % 2 == 0
    assert peak_of(board, ~board) < 64
    found = scores(board, ~board, (1, 1))
    assert (found["dice"], found["hd95"], found["nsd"]) == (0, 1, 1)


def test_searching_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = blobs(5, 3), blobs(6, 3)
    whole = compare(a, b, STEPS[1]).distances
    monkeypatch.setattr("vlsmctl.metrics._BLOCK", 7)
    parts = compare(a, b, STEPS[1]).distances
    assert whole is not None
    assert parts is not None
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))
