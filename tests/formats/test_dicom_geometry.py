from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.formats.dicom_geometry import (
    SAME_DIRECTION,
    Place,
    place,
    series_geometry,
    slice_order,
    volume_faults,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _places(positions: Any, orientation: Any = AXIAL, thickness: float | None = None) -> list[Place]:
    return [
        place(position=each, orientation=orientation, spacing=(0.5, 0.5), thickness=thickness)
        for each in np.asarray(positions, np.float64)
    ]


def _along_z(heights: Any) -> NDArray[np.float64]:
    return np.outer(heights, (0.0, 0.0, 1.0))


def _off_grid(places: list[Place]) -> float:
    """mm that the slice lies off the grid of the volume which does so most."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series_geometry(places).affine
    corners = affine[:3, 3] + np.outer(np.arange(len(places)), affine[:3, 2])
    return float(np.linalg.norm(corners - [each.position for each in places], axis=1).max())


def _most(distance: float) -> float:
    """mm that a slice of a volume may lie off its grid."""
    return max(0.01, min(0.1, 0.1 * distance))


@pytest.mark.parametrize("spacing", [0.3, 0.625, 1.25, 1 / 3])
@pytest.mark.parametrize("seed", range(4))
def test_positions_written_with_two_decimals_are_even(spacing: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if seed else np.eye(3)
    normal = np.cross(turn[0], turn[1])
    for count in (2, 3, 7, 600):
        exact = rng.uniform(-200, 200, 3) * bool(seed) + np.outer(np.arange(count) * spacing, normal)
        places = _places(exact.round(2), (*turn[0], *turn[1]))
        assert volume_faults(places) is None
        assert _off_grid(places) <= 0.01


@pytest.mark.parametrize(
    ("spacing", "degrees", "oblique"),
    [(0.625, 0, False), (1.25, 0, False), (1.25, 0, True), (5, 20, False), (3, 20, True)],
)
@pytest.mark.parametrize("seed", range(4))
def test_positions_written_with_one_decimal_are_even(
    spacing: float, degrees: float, oblique: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if oblique else np.eye(3)
    step = spacing * (np.cross(turn[0], turn[1]) + turn[1] * np.tan(np.radians(degrees)))
    exact = rng.uniform(-200, 200, 3) + np.outer(np.arange(60), step)
    places = _places(exact.round(1), (*turn[0], *turn[1]))
    assert volume_faults(places) is None
    assert _off_grid(places) <= 0.1


@pytest.mark.parametrize("count", [3, 4, 30])
@pytest.mark.parametrize("spacing", [0.625, 5])
def test_a_missing_slice_is_told_from_positions_that_jitter(spacing: float, count: int) -> None:
    heights = np.arange(count + 1.0) * spacing
    missing = str(volume_faults(_places(_along_z(np.delete(heights, count - 1)))))
    assert "slices are missing" in missing
    assert "jitter" not in missing
    heights[1] += 0.25 * spacing
    jitter = str(volume_faults(_places(_along_z(heights))))
    assert "jitter" in jitter
    assert "missing" not in jitter


@pytest.mark.parametrize(("factor", "is_volume"), [(0.9, True), (1.1, False)])
def test_slices_are_parallel_to_the_same_bound_that_groups_them(factor: float, is_volume: bool) -> None:
    turned = (1.0, 0.0, 0.0, 0.0, 1.0, factor * SAME_DIRECTION)
    reason = volume_faults([*_places([(0, 0, 0), (0, 0, 1)]), *_places([(0, 0, 2)], turned)])
    assert (reason is None) == is_volume


def test_steps_that_drift_to_one_side_make_no_volume() -> None:
    heights = np.cumsum([0.0] + [5.04] * 12 + [4.96] * 12)
    reason = volume_faults(_places(_along_z(heights)))
    assert reason is not None
    assert "off an even spacing" in reason


@pytest.mark.parametrize("seed", range(20))
def test_no_slice_of_a_volume_lies_farther_off_its_grid_than_promised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance = rng.uniform(0.5, 8)
    wander = rng.normal(size=(30, 3)).cumsum(axis=0) * distance * 10 ** rng.uniform(-4, -2)
    places = _places(_along_z(np.arange(30) * distance) + wander)
    if volume_faults(places) is None:
        assert _off_grid(places) <= 1.1 * _most(distance)
    else:
        assert _off_grid(places) > 0.5 * _most(distance)  # and not refused for nothing


def test_even_slices_keep_the_very_numbers_of_their_headers() -> None:
    positions = _along_z(np.arange(-3, 9) * 2.5)
    positions[:, :2] = 1.5, -20.25
    geometry = series_geometry(_places(positions))
    assert geometry.affine[:, 2:].tolist() == [[0, -1.5], [0, 20.25], [2.5, -7.5], [0, 1]]


@pytest.mark.parametrize(("degrees", "is_volume"), [(0, True), (30, True), (44.9, True), (45.1, False)])
@pytest.mark.parametrize("count", [2, 6])
def test_no_gantry_tilts_beyond_45_degrees(degrees: float, is_volume: bool, count: int) -> None:
    step = (0.0, -5 * np.tan(np.radians(degrees)), 5.0)
    reason = volume_faults(_places(np.outer(np.arange(count), step)))
    assert (reason is None) == is_volume
    assert is_volume or f"{degrees} degrees" in str(reason)


def test_two_slices_side_by_side_are_no_volume() -> None:
    assert "88.6 degrees" in str(volume_faults(_places([(0, 0, 0), (200, 0, 5)])))


@pytest.mark.parametrize(
    ("distance", "thickness", "gaps"),
    [(5, 5, False), (5, 2, False), (15, 5, False), (15.1, 5, True), (50, 5, True), (50, None, False)],
)
@pytest.mark.parametrize("count", [2, 4])
def test_slices_much_thinner_than_they_are_apart_have_gaps_and_no_millilitres(
    distance: float, thickness: float | None, gaps: bool, count: int
) -> None:
    places = _places(_along_z(np.arange(count) * distance), thickness=thickness)
    assert volume_faults(places) is None
    geometry = series_geometry(places)
    assert (geometry.gaps, geometry.thickness_assumed) == (gaps, False)
    assert geometry.voxel_ml == (None if gaps else pytest.approx(0.25 * distance / 1000))
    assert not series_geometry(places[:1]).gaps


def test_a_long_way_sideways_is_no_gap() -> None:
    step = (0.0, 5.0 * np.tan(np.radians(40)), 5.0)
    assert not series_geometry(_places(np.outer(range(3), step), thickness=2)).gaps


def test_slices_in_any_order_come_out_along_their_normal() -> None:
    heights = [3.0, 0.0, 1.0, 2.0]
    upside_down = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    assert slice_order(_places(_along_z(heights))) == [1, 2, 3, 0]
    assert slice_order(_places(_along_z(heights), upside_down)) == [0, 3, 2, 1]
