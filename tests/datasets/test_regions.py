from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.datasets.fakes.chexlocalize import run_lengths as pack
from vlsmctl.datasets.regions import MAX_PIXELS, fill_polygons, run_lengths, unpack_run_lengths

MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(MASKS)
def test_masks_come_back_as_they_were_written(mask: np.ndarray) -> None:
    found = unpack_run_lengths(pack(mask), *mask.shape)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, mask)


def test_runs_of_a_large_mask_with_long_differences() -> None:
    mask = np.zeros((2320, 2828), bool)
    mask[5:2000, 3] = mask[100:105, 700:703] = mask[:, -1] = True
    np.testing.assert_array_equal(unpack_run_lengths(pack(mask), *mask.shape), mask)


@pytest.mark.parametrize(
    ("text", "height", "width"), [("PVWX6", 2320, 2828), ("nefl3", 2022, 2021)], ids=["first", "second"]
)
def test_empty_masks_as_published(text: str, height: int, width: int) -> None:
    assert run_lengths(text, height * width) == [height * width]
    assert not unpack_run_lengths(text, height, width).any()


def test_columns_run_downwards_and_start_with_off() -> None:
    # 1 off, 3 on, 2 off; 0 off, 6 on
    mask = unpack_run_lengths("132", 3, 2)
    np.testing.assert_array_equal(mask, [[False, True], [True, False], [True, False]])
    assert unpack_run_lengths("06", 3, 2).all()


def test_the_fourth_run_is_a_difference_to_the_second() -> None:
    # 2, 3, 4, then 3 - 1 = 2 as "O" (-1)
    assert run_lengths("234O", 11) == [2, 3, 4, 2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "end after 0 of 6"),
        ("13", "end after 4 of 6"),
        ("133", "3 is 3 long"),
        ("O7", "1 is -1 long"),
        ("1 2", "' '"),
        ("1é", "'é'"),
        ("1p5", "'p'"),
        ("13P", "end after 4 of 6"),
        ("ooooooooooo", "no end"),
        ("oooooo?", "long"),
        ("0" * 100, "100 characters"),
        ("\x00", "character 1"),
    ],
)
def test_what_is_no_run_lengths_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        unpack_run_lengths(text, 3, 2)


@given(st.text(alphabet=[chr(number) for number in range(44, 118)], max_size=60))
def test_no_text_does_harm(text: str) -> None:
    try:
        mask = unpack_run_lengths(text, 8, 9)
    except ValueError:
        return
    assert mask.shape == (8, 9)


@given(MASKS, st.data())
def test_a_text_that_is_cut_off_is_refused(mask: np.ndarray, data: st.DataObject) -> None:
    text = pack(mask)
    length = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError, match=r"end after|long|no end"):
        unpack_run_lengths(text[:length], *mask.shape)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (MAX_PIXELS, 2), (10**9, 10**9)])
def test_no_memory_is_taken_for_a_size_that_no_picture_has(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a mask of"):
        unpack_run_lengths("0", *size)
    with pytest.raises(ValueError, match="a mask of"):
        fill_polygons([], *size)


def test_polygons_are_x_then_y_with_their_border() -> None:
    mask = fill_polygons([[(2, 1), (5, 1), (5, 3), (2, 3)]], 6, 9)
    expected = np.zeros((6, 9), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_polygons_unite_and_are_cut_at_the_border() -> None:
    first, second = [(0, 0), (3, 0), (3, 3), (0, 3)], [(2.0, 2.0), (90.5, 2.0), (90.5, 90.5), (2.0, 90.5)]
    both = fill_polygons([first, second], 8, 10)
    np.testing.assert_array_equal(both, fill_polygons([first], 8, 10) | fill_polygons([second], 8, 10))
    assert both[2:, 2:].all()
    assert both[1, 1]
    assert not both[:2, 4:].any()


def test_outlines_without_an_inside_are_empty() -> None:
    assert not fill_polygons([[], [(1, 1)], [(1, 1), (4, 4)]], 6, 6).any()


@pytest.mark.parametrize("corner", [(float("nan"), 0.0), (0.0, float("inf")), (-1e30, 2.0)])
def test_corners_that_no_picture_has_are_refused(corner: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="corner"):
        fill_polygons([[(0, 0), (4, 0), corner]], 6, 6)
