"""Words for what a mask shows: how many, how large, where, of what shape, of what colour.

Count, size and place take the words and thresholds of MedVLSM (arXiv 2308.07706, appendix); the place
rule is the corrected one, with thirds of the width for columns and thirds of the height for rows.
MedVLSM's words for shape and colour are answers of a model; those here are measured, so that the same
picture always gets the same words:

- shape: of the largest object, its holes filled. Its area as a share of its convex hull (solidity) and
  of the smallest rectangle around it, at whatever angle (fill), and that rectangle's shorter side as a
  share of the longer (ratio). Solidity below 0.85: irregular. Fill from 0.88: square where the ratio is
  at least 0.8, else rectangular. Fill below 0.62: triangular. Else round where the ratio is at least
  0.8, else oval. (A triangle fills 0.5 of its rectangle, an ellipse 0.785.)
- colour: of the mask's mean colour in CIELAB, the nearest of twelve by CIEDE2000.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

Mask: TypeAlias = NDArray[np.bool_]
Labels: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Pixel = TypeVar("Pixel", np.bool_, np.int32)

WORDS = ("count", "size", "place", "shape", "colour", "s")  # what `describe` tells
SIZES = ("tiny", "small", "medium", "large")
PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
COUNT_WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
# sRGB, 0..255. Duller than the screen colours of these names: such as flesh, skin and wounds have them
COLOURS = {
    "black": (20, 20, 20), "gray": (128, 128, 128), "white": (245, 245, 245), "red": (190, 40, 45),
    "pink": (235, 150, 150), "orange": (230, 130, 35), "brown": (115, 70, 45), "tan": (205, 165, 120),
    "yellow": (235, 205, 90), "purple": (115, 50, 115), "green": (60, 130, 60), "blue": (50, 80, 170),
}  # fmt: skip

DUST = 1e-4
SMALL_FROM, MEDIUM_FROM, LARGE_FROM = 0.001, 0.08, 0.30
SOLID_FROM, BOX_FROM, TRIANGLE_BELOW, EVEN_FROM = 0.85, 0.88, 0.62, 0.8
_BAND = 1 << 22  # pixels looked at in one go: bounds the memory
_SAMPLE = 4096  # pixels that the mean colour is taken from: a larger mask gives every n-th of its own


def describe(mask: Mask, pixels: NDArray[np.uint8]) -> tuple[dict[str, str], dict[str, Any]]:
    """The words for a mask, and the attributes that are stored.

    mask: bool [H, W]. pixels: uint8 RGB [H, W, 3], the image. Words: count, size, place, shape, colour
    and s, the ending of the plural ("" for one object). Objects are 4-connected; those of at most 1e-4
    of the image are dust and ignored, unless there is nothing else. Several sizes are joined from tiny to
    large, several places in reading order of the objects, each once. An empty mask has no words.
    """
    labels, count = ndimage.label(mask)
    if not count:
        return {}, {"components": 0}
    areas = _areas(labels, count)
    largest = int(areas.argmax())
    kept = np.flatnonzero(areas > DUST * mask.size)
    kept = kept if len(kept) else np.array([largest])
    places = (place_word(row, column, *mask.shape) for row, column in _centres(labels, kept, count))
    known = {
        "count": count_word(len(kept)),
        "size": join_sizes({size_word(float(areas[label] / mask.size)) for label in kept}),
        "place": ", ".join(dict.fromkeys(places)),
        "shape": shape_word(_cut_out(labels == largest)),
        "colour": colour_word(mean_lab(mask, pixels)),
    }
    return {**known, "s": plural(len(kept))}, {"components": len(kept), **known}


def size_word(coverage: float) -> str:
    """The size word of an object that covers `coverage` (0..1) of the image."""
    if coverage > LARGE_FROM:
        return "large"
    if coverage > MEDIUM_FROM:
        return "medium"
    return "small" if coverage >= SMALL_FROM else "tiny"


def join_sizes(sizes: set[str]) -> str:
    """The words of several objects, from tiny to large."""
    return ", ".join(word for word in SIZES if word in sizes)


def place_word(row: float, column: float, height: int, width: int) -> str:
    """The cell of a 3 x 3 grid in which a point (in pixels) lies."""
    return PLACES[min(2, int(3 * row / height))][min(2, int(3 * column / width))]


def count_word(count: int) -> str:
    """`count` as a word, up to twenty; digits above."""
    return COUNT_WORDS[count] if count < len(COUNT_WORDS) else str(count)


def plural(count: int) -> str:
    """The ending of a noun for so many."""
    return "" if count == 1 else "s"


def bands(image: NDArray[Pixel]) -> Iterator[tuple[int, NDArray[Pixel]]]:
    """An image [H, W, ...] in bands of whole rows, each with the number of its first row: what is computed
    of a band takes little memory, whatever the size of the image."""
    height = max(1, _BAND // max(1, image.shape[1]))
    for top in range(0, len(image), height):
        yield top, image[top : top + height]


def _areas(labels: Labels, count: int) -> NDArray[np.int64]:
    """The pixels of each label, 0 (the background, which has none here) to `count`."""
    areas = np.zeros(count + 1, np.int64)
    for _, band in bands(labels):
        there = band[band > 0]
        if there.size:
            first = int(there.min())  # labels rise from top to bottom: a band has few of them
            found = np.bincount(there - first)
            areas[first : first + len(found)] += found
    return areas


def _centres(labels: Labels, kept: NDArray[np.int64], count: int) -> Iterator[tuple[float, float]]:
    """The mean row and column of each of the objects `kept`."""
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    pixels, rows, columns = np.zeros((3, len(kept) + 1))
    for top, band in bands(labels):
        of = number[band]
        down, across = np.nonzero(of)
        of = of[down, across]
        pixels += np.bincount(of, minlength=len(pixels))
        rows += np.bincount(of, down + top, minlength=len(pixels))
        columns += np.bincount(of, across, minlength=len(pixels))
    means = zip(rows[1:] / pixels[1:], columns[1:] / pixels[1:], strict=True)
    return ((float(row), float(column)) for row, column in means)


def _cut_out(component: Mask) -> Mask:
    """A mask that is not empty, cut to its bounding box."""
    rows, columns = (np.flatnonzero(component.any(axis=axis)) for axis in (1, 0))
    return component[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def shape_word(component: Mask) -> str:
    """The shape of one object, bool [h, w] cut to its bounding box: irregular, square, rectangular,
    triangular, round or oval."""
    filled = _without_holes(component)
    area = float(np.count_nonzero(filled))
    hull = ConvexHull(_outline(filled))
    if area / float(hull.volume) < SOLID_FROM:  # what scipy calls volume is the area, in two dimensions
        return "irregular"
    short, long = _smallest_rectangle(hull.points[hull.vertices])
    fill, ratio = area / (short * long), short / long
    if fill >= BOX_FROM:
        return "square" if ratio >= EVEN_FROM else "rectangular"
    if fill < TRIANGLE_BELOW:
        return "triangular"
    return "round" if ratio >= EVEN_FROM else "oval"


def _without_holes(component: Mask) -> Mask:
    """The object with the background that does not reach its border (4-connected) filled."""
    ground, _ = ndimage.label(np.pad(~component, 1, constant_values=True))
    filled: Mask = ground[1:-1, 1:-1] != ground[0, 0]
    return filled


def _outline(component: Mask) -> Floats:
    """Corners of pixels among which all the corners of the convex hull are: [4 h, 2] of (row, column),
    those of the first and of the last pixel in each row."""
    rows = np.flatnonzero(component.any(axis=1))
    first = component[rows].argmax(axis=1)
    last = component.shape[1] - component[rows, ::-1].argmax(axis=1)  # one behind the last pixel
    corners = [(rows, first), (rows + 1, first), (rows, last), (rows + 1, last)]
    return np.concatenate([np.stack(pair, axis=1) for pair in corners]).astype(np.float64)


def _smallest_rectangle(corners: Floats) -> tuple[float, float]:
    """The shorter and the longer side of the smallest rectangle around a convex polygon [N, 2]. One of its
    sides lies along a side of the polygon."""
    edges = np.roll(corners, -1, axis=0) - corners
    along = edges / np.linalg.norm(edges, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    sides = np.stack([np.ptp(corners @ along.T, axis=0), np.ptp(corners @ across.T, axis=0)])
    best = sides[:, int(sides.prod(axis=0).argmin())]
    return float(best.min()), float(best.max())


def mean_lab(mask: Mask, pixels: NDArray[np.uint8]) -> Floats:
    """The mean CIELAB colour [3] under a mask that is not empty."""
    step = -(-np.count_nonzero(mask) // _SAMPLE)
    chosen, seen = [], 0
    for top, band in bands(mask):
        at = np.flatnonzero(band)
        chosen.append(pixels[top : top + len(band)].reshape(-1, 3)[at[-seen % step :: step]])
        seen += len(at)
    mean: Floats = to_lab(np.concatenate(chosen)).mean(axis=0)
    return mean


def colour_word(lab: Floats) -> str:
    """The nearest of COLOURS to a CIELAB colour [3]."""
    return tuple(COLOURS)[int(colour_difference(lab, _PROTOTYPES).argmin())]


def to_lab(pixels: NDArray[np.uint8]) -> Floats:
    """sRGB, uint8 [..., 3] -> CIELAB under D65, L 0..100. Source: IEC 61966-2-1, CIE 15."""
    shares = pixels / 255.0
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    bent = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _TO_XYZ.sum(axis=1)


def colour_difference(one: Floats, other: Floats) -> Floats:
    """CIEDE2000 between CIELAB colours [..., 3], which may broadcast -> [...].

    Source: Sharma, Wu and Dalal, Color Research and Application 30 (2005) 21-30.
    """
    (light_1, a_1, b_1), (light_2, a_2, b_2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    grey = 1.5 - 0.5 * _saturation((np.hypot(a_1, b_1) + np.hypot(a_2, b_2)) / 2)
    chroma_1, hue_1 = np.hypot(grey * a_1, b_1), np.degrees(np.arctan2(b_1, grey * a_1)) % 360
    chroma_2, hue_2 = np.hypot(grey * a_2, b_2), np.degrees(np.arctan2(b_2, grey * a_2)) % 360
    coloured = chroma_1 * chroma_2 > 0
    turn = np.where(coloured, (hue_2 - hue_1 + 180) % 360 - 180, 0.0)
    # Hues that lie opposite: the published formula turns by +180, not by -180.
    turn = np.where(turn == -180, np.where(hue_2 > hue_1, 180.0, -180.0), turn)
    lightness, chroma = (light_1 + light_2) / 2, (chroma_1 + chroma_2) / 2
    hue = np.where(coloured, _mean_hue(hue_1, hue_2), hue_1 + hue_2)
    weight = (
        1 - 0.17 * _cosine(hue - 30) + 0.24 * _cosine(2 * hue) + 0.32 * _cosine(3 * hue + 6)
        - 0.20 * _cosine(4 * hue - 63)
    )  # fmt: skip
    off = (lightness - 50) ** 2
    by_light = (light_2 - light_1) / (1 + 0.015 * off / np.sqrt(20 + off))
    by_chroma = (chroma_2 - chroma_1) / (1 + 0.045 * chroma)
    by_hue = 2 * np.sqrt(chroma_1 * chroma_2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    turned = np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))
    mixed = -np.sin(turned) * 2 * _saturation(chroma) * by_chroma * by_hue
    distance: Floats = np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + mixed)
    return distance


def _saturation(chroma: Floats) -> Floats:
    seventh: Floats = chroma**7
    return np.sqrt(seventh / (seventh + 25.0**7))


def _cosine(degrees: Floats) -> Floats:
    return np.cos(np.radians(degrees))


def _mean_hue(one: Floats, other: Floats) -> Floats:
    total = one + other
    wrapped = np.where(total < 360, total + 360, total - 360)
    return np.where(np.abs(one - other) <= 180, total, wrapped) / 2


_PROTOTYPES = to_lab(np.array(list(COLOURS.values()), np.uint8))
