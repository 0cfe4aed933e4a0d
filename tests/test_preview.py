from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.preview import (
    CAPTION,
    COLOURS,
    GAP,
    LINE,
    PREDICTION,
    TILE,
    TRUTH,
    Tile,
    contact_sheet,
    fitted,
    legible,
    outlined,
)


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


def test_outlines_over_one_another_all_stay_visible() -> None:
    mask = square(240, 240, 60, 180)
    picture = np.asarray(outlined(Tile(tile(240, 240).image, tuple((mask, c) for c in COLOURS[:3]), "")))
    shares = [where(picture, colour).sum() for colour in COLOURS[:3]]
    alone = where(np.asarray(outlined(tile(240, 240, mask))), TRUTH).sum()
    assert sum(shares) == alone
    assert min(shares) > alone / 6


@pytest.mark.parametrize("at", [(0, 0), (500, 501), (1023, 767), (1, 766)])
def test_a_single_pixel_stays_visible_however_small_the_picture_gets(at: tuple[int, int]) -> None:
    mask = np.zeros((1024, 768), np.bool_)
    mask[at] = True
    small = fitted(tile(1024, 768, mask), 100)
    ((scaled, _),) = small.outlines
    assert small.image.shape[:2] == scaled.shape == (100, 75)
    assert np.argwhere(scaled).tolist() == [[at[0] * 100 // 1024, at[1] * 75 // 768]]


def test_what_fits_already_is_left_alone() -> None:
    small = fitted(tile(999, 500, square(999, 500, 3, 400)), 64)
    assert fitted(small, 64) is small


def test_a_row_is_as_high_as_its_highest_picture() -> None:
    flat, high = tile(60, 240), tile(120, 240)
    sheet = np.asarray(contact_sheet([[flat, flat], [flat, high]], "", size=240))
    assert sheet.shape[0] == 60 + 120 + 2 * (CAPTION + GAP) + 2 * GAP + LINE
    assert np.flatnonzero((sheet == 50).all(axis=2)[:, GAP + 5]).tolist() == [
        *range(2 * GAP + LINE, 2 * GAP + LINE + 60),
        *range(3 * GAP + LINE + 60 + CAPTION, 3 * GAP + LINE + 120 + CAPTION),
    ]


def test_the_legend_says_what_each_colour_means() -> None:
    keys = [(COLOURS[0], "polyp"), (COLOURS[1], "wound")]
    sheet = np.asarray(contact_sheet([[tile(240, 240)]], "legend", keys=keys))
    plain = np.asarray(contact_sheet([[tile(240, 240)]], "legend"))
    assert sheet.shape[0] == plain.shape[0] + 2 * LINE
    rows = [np.flatnonzero(where(sheet, colour).any(axis=1)) for colour, _ in keys]
    assert rows[0].max() < rows[1].min()
    for row in rows:
        assert (sheet[row.min() : row.max(), GAP + 16 : 100] < 128).any()  # the words beside it


@pytest.mark.parametrize(
    ("text", "shown"),
    [("polyp", "polyp"), ("l\u00e9sion cutan\u00e9e", "lesion cutanee"), ("\u606f\u8089 a", "?? a"),
     ("\U0001f600", "?"), ("\udcff", "?"), ("e\u0301", "e"), ("\ufb01ne\u2026", "fine...")],
)  # fmt: skip
def test_any_text_can_be_shown_in_the_letters_of_the_font(text: str, shown: str) -> None:
    assert legible(text) == shown
    sheet = contact_sheet([[Tile(tile(9, 9).image, (), text)]], text, keys=[(TRUTH, text)])
    assert sheet.mode == "RGB"


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
