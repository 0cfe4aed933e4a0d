from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from tests.datasets import fakes
from vlsmctl.datasets import attributes
from vlsmctl.datasets.attributes import (
    COLOURS,
    DUST,
    WORDS,
    colour_difference,
    colour_word,
    count_word,
    describe,
    place_word,
    shape_word,
    to_lab,
)

# Sharma, Wu and Dalal 2005, table 1: L, a, b of two colours, and their CIEDE2000 difference.
SHARMA = [
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]
Points = list[tuple[float, float]]


def _picture(mask: NDArray[np.bool_], colour: tuple[int, int, int] = (90, 90, 90)) -> NDArray[np.uint8]:
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    pixels[mask] = colour
    return pixels


def _drawn(corners: Points, side: int = 200) -> NDArray[np.bool_]:
    canvas = Image.new("1", (side, side))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    mask = np.asarray(canvas)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _turned(corners: Points, degrees: float) -> Points:
    """Around the middle of a 200-pixel canvas."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(100 + c * x - s * y, 100 + s * x + c * y) for x, y in corners]


def _ellipse(a: float, b: float) -> Points:
    return [(a * math.cos(t / 20 * math.pi), b * math.sin(t / 20 * math.pi)) for t in range(40)]


SHAPES: dict[str, Points] = {
    "round": _ellipse(40, 38),
    "oval": _ellipse(60, 32),
    "square": [(-40, -40), (40, -40), (40, 40), (-40, 40)],
    "rectangular": [(-60, -30), (60, -30), (60, 30), (-60, 30)],
    "triangular": [(-60, 40), (60, 40), (0, -50)],
    "irregular": [(-60, -60), (60, -60), (60, -40), (-40, -40), (-40, 60), (-60, 60)],
}


def test_words_of_a_mask() -> None:
    mask = fakes.blob(0, 0, 3, height=100, width=200) | fakes.blob(40, 80, 60, height=100, width=200)
    mask[99, 0] = True  # 1 of 20000 pixels: dust
    words, attributes = describe(mask, _picture(mask))
    expected = {
        "count": "two",
        "size": "tiny, medium",
        "place": "top left, bottom",
        "shape": "square",
        "colour": "gray",
    }
    assert words == {**expected, "s": "s"}
    assert attributes == {"components": 2, **expected}
    assert set(words) == set(WORDS)


def test_an_empty_mask_has_no_words() -> None:
    mask = np.zeros((20, 30), bool)
    assert describe(mask, _picture(mask)) == ({}, {"components": 0})


def test_a_mask_of_dust_alone_still_has_words() -> None:
    mask = np.zeros((200, 200), bool)
    mask[10, 10] = mask[190, 190] = mask[190, 191] = True
    words, _ = describe(mask, _picture(mask))
    assert (words["count"], words["size"], words["place"], words["s"]) == (
        "one",
        "tiny",
        "bottom right",
        "",
    )


def test_components_that_touch_at_a_corner_are_two() -> None:
    mask = fakes.blob(0, 0, 8) | fakes.blob(8, 8, 8)
    assert describe(mask, _picture(mask))[0]["count"] == "two"


def test_columns_go_by_thirds_of_the_width() -> None:
    # 100 x 300: column 120 lies in the middle third of the width, though beyond two thirds of the height.
    mask = fakes.blob(40, 110, 20, height=100, width=300)
    assert describe(mask, _picture(mask))[0]["place"] == "center"


def test_counts_are_words_up_to_twenty() -> None:
    assert [count_word(n) for n in (0, 1, 11, 19, 20, 21)] == [
        "no",
        "one",
        "eleven",
        "nineteen",
        "twenty",
        "21",
    ]


def test_the_colour_difference_is_the_published_one() -> None:
    table = np.array(SHARMA)
    one, other = table[:, :3], table[:, 3:6]
    np.testing.assert_allclose(colour_difference(one, other), table[:, 6], atol=5e-5)
    np.testing.assert_allclose(colour_difference(other, one), table[:, 6], atol=5e-5)


def test_srgb_becomes_the_known_lab() -> None:
    # White, black, the middle grey, and the primaries, as commonly tabled for D65.
    pixels = np.array([[255, 255, 255], [0, 0, 0], [119, 119, 119], [255, 0, 0], [0, 0, 255]], np.uint8)
    lab = np.array([[100, 0, 0], [0, 0, 0], [50.03, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]])
    np.testing.assert_allclose(to_lab(pixels), lab, atol=0.02)


@pytest.mark.parametrize("word", COLOURS)
def test_each_colour_has_its_own_name(word: str) -> None:
    assert colour_word(to_lab(np.array(COLOURS[word], np.uint8))) == word


@pytest.mark.parametrize(
    ("pixel", "word"),
    [
        ((0, 0, 0), "black"), ((255, 255, 255), "white"), ((150, 150, 150), "gray"), ((255, 0, 0), "red"),
        ((255, 192, 203), "pink"), ((255, 165, 0), "orange"), ((139, 69, 19), "brown"),
        ((210, 180, 140), "tan"), ((255, 255, 0), "yellow"), ((128, 0, 128), "purple"),
        ((0, 128, 0), "green"), ((0, 0, 255), "blue"),
    ],
)  # fmt: skip
def test_screen_colours_have_their_names(pixel: tuple[int, int, int], word: str) -> None:
    mask = fakes.blob()
    assert describe(mask, _picture(mask, pixel))[0]["colour"] == word


@given(st.integers(0, 255))
def test_grey_pictures_are_black_gray_or_white(value: int) -> None:
    assert colour_word(to_lab(np.full(3, value, np.uint8))) in ("black", "gray", "white")


def test_the_colour_is_that_of_the_mask_alone() -> None:
    mask = fakes.blob(height=200, width=200, side=120)  # large enough to be sampled
    pixels = np.full((200, 200, 3), (0, 200, 0), np.uint8)
    pixels[mask] = (190, 40, 45)
    assert describe(mask, pixels)[0]["colour"] == "red"


@pytest.mark.parametrize("word", SHAPES)
@settings(max_examples=25, deadline=None)
@given(degrees=st.floats(0, 360))
def test_shapes_keep_their_word_when_turned(word: str, degrees: float) -> None:
    assert shape_word(_drawn(_turned(SHAPES[word], degrees))) == word


def test_holes_do_not_change_the_shape() -> None:
    ring = _drawn(_turned(_ellipse(40, 40), 0)).copy()
    ring[25:55, 25:55] = False
    assert shape_word(ring) == "round"


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_the_smallest_objects_have_a_shape(shape: tuple[int, int]) -> None:
    assert shape_word(np.ones(shape, bool)) == ("square" if shape[0] == shape[1] else "rectangular")


def test_the_shape_is_that_of_the_largest_object() -> None:
    mask = np.zeros((100, 100), bool)
    mask[5:10, 5:90] = True
    mask[30:80, 30:80] = True
    assert describe(mask, _picture(mask))[0]["shape"] == "square"


@pytest.mark.parametrize("band", [1, 50, 300])
def test_the_words_do_not_depend_on_how_the_image_is_cut_into_bands(
    monkeypatch: pytest.MonkeyPatch, band: int
) -> None:
    rng = np.random.default_rng(band)
    masks = [rng.random((height, 31)) < share for height in (1, 20, 70) for share in (0.05, 0.5, 0.95)]
    pixels = [rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8) for mask in masks]
    monkeypatch.setattr(attributes, "_SAMPLE", 16)
    whole = [describe(mask, image) for mask, image in zip(masks, pixels, strict=True)]
    monkeypatch.setattr(attributes, "_BAND", band)
    assert [describe(mask, image) for mask, image in zip(masks, pixels, strict=True)] == whole


def test_places_are_those_of_the_objects_one_by_one() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mask = rng.random(rng.integers(2, 40, 2)) < rng.uniform(0.1, 0.9)
        labels, count = ndimage.label(mask)
        objects = [np.argwhere(labels == label) for label in range(1, count + 1)]
        kept = [at for at in objects if len(at) > DUST * mask.size]
        expected = dict.fromkeys(place_word(*at.mean(axis=0), *mask.shape) for at in kept)
        assert describe(mask, _picture(mask))[0]["place"] == ", ".join(expected)


def test_millions_of_single_pixels_take_little_time_and_memory() -> None:
    mask = np.zeros((4000, 4000), bool)
    mask[::2, ::2] = True
    pixels = np.zeros((4000, 4000, 3), np.uint8)
    start = time.process_time()
    tracemalloc.start()
    words, _ = describe(mask, pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (words["count"], words["place"], words["shape"]) == ("one", "top left", "square")
    assert peak < 20 * mask.size
    assert time.process_time() - start < 5  # half a second; the rest is for slow machines


def test_describing_takes_a_few_milliseconds() -> None:
    rows, columns = np.mgrid[:512, :512]
    mask = (rows - 250) ** 2 + (columns - 280) ** 2 < 110**2
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    taken = []
    for _ in range(5):
        start = time.process_time()
        describe(mask, pixels)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.02  # about 3 ms; the rest is for slow machines
