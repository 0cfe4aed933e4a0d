from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.preview import CAPTION, GAP, PREDICTION, TILE, TRUTH, Tile, contact_sheet, outlined


def tile(height: int, width: int, *masks: NDArray[np.bool_]) -> Tile:
    colours = (TRUTH, PREDICTION)
    image = np.full((height, width, 3), 50, np.uint8)
    return Tile(image, tuple(zip(masks, colours, strict=False)), "caption\nof two lines")


def square(height: int, width: int, start: int, stop: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[start:stop, start:stop] = True
    return mask


def where(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (picture == np.array(colour)).all(axis=2)
    return found


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((480, 960), (120, 240)), ((60, 30), (240, 120)), ((240, 240), (240, 240)), ((1, 999), (1, 240))],
)
def test_pictures_are_scaled_to_fit_and_keep_their_proportions(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert outlined(tile(*shape), 240).size == expected[::-1]


def test_an_outline_runs_along_the_edge_and_leaves_the_rest() -> None:
    mask = square(240, 240, 60, 180)
    picture = np.asarray(outlined(tile(240, 240, mask)))
    edge = where(picture, TRUTH)
    rows, columns = np.nonzero(edge)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (59, 180, 59, 180)
    assert not edge[61:179, 61:179].any()
    assert edge[59:61, 60:180].all()
    assert (picture[~edge] == 50).all()


def test_the_outline_is_where_the_mask_is_after_scaling() -> None:
    picture = np.asarray(outlined(tile(60, 120, square(60, 120, 15, 45))))
    rows, columns = np.nonzero(where(picture, TRUTH))
    assert picture.shape[:2] == (120, 240)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 90, 29, 90)


def test_empty_and_full_masks() -> None:
    empty, full = np.zeros((240, 240), bool), np.ones((240, 240), bool)
    assert not where(np.asarray(outlined(tile(240, 240, empty))), TRUTH).any()
    border = where(np.asarray(outlined(tile(240, 240, full))), TRUTH)
    assert border[0].all()
    assert not border[2:-2, 2:-2].any()


def test_two_outlines_have_two_colours() -> None:
    picture = np.asarray(outlined(tile(240, 240, square(240, 240, 20, 90), square(240, 240, 120, 200))))
    assert where(picture, TRUTH)[:100].any()
    assert where(picture, PREDICTION)[100:].any()
    assert not where(picture, PREDICTION)[:100].any()


def test_a_sheet_has_a_place_for_every_tile() -> None:
    one = tile(240, 240, square(240, 240, 60, 180))
    sheet = np.asarray(contact_sheet([[one, one, one], [one]], "a legend"))
    assert sheet.shape == (2 * (TILE + CAPTION + GAP) + 2 * GAP + 14, 3 * (TILE + GAP) + GAP, 3)
    grey = (sheet == 50).all(axis=2)
    top = 2 * GAP + 14
    for row, count in ((0, 3), (1, 1)):
        for column in range(3):
            y, x = top + row * (TILE + CAPTION + GAP), GAP + column * (TILE + GAP)
            assert grey[y : y + TILE, x : x + TILE].any() == (column < count)
            words = sheet[y + TILE : y + TILE + CAPTION, x : x + TILE]
            assert (words < 128).any() == (column < count)
    assert (sheet[:top] < 128).any()  # the legend
