"""MedVLSM's own words for count, size and place, for prompts that compare with the published ones.

The rules are the published ones, mistake included: the thirds between left, center and right are taken
from the image's height. They are held against the published annotations of CVC-ClinicDB and Kvasir-SEG
in the tests. Source: Poudel et al., arXiv 2308.07706, appendix, and its published annotation files.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vlsmctl.datasets.attributes import DUST, PLACES, bands, count_word, join_sizes, plural, size_word

Grey: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.int32]
Box: TypeAlias = tuple[int, int, int, int]

LEVEL = 128  # outlines are drawn where grey values pass it
WHITE = 255  # sizes and shares are counted over pixels of exactly this value
SHARE = 0.10  # of an object, that a cell must hold to count
_SMALLEST_BOX = 4  # square pixels: outlines in boxes no larger are dropped
_NAMES = np.array([name for row in PLACES for name in row], object)


def describe_published(grey: Grey) -> tuple[dict[str, str], dict[str, Any]]:
    """The published words for a mask, and the attributes that are stored.

    grey: uint8 [H, W], the mask as it is stored, with 255 for what it shows. Words: count (dust
    included), size, place (every object's, repeats kept) and s, the plural's ending. A mask of dust alone
    has no size, an empty mask no words. Attributes: components, count, size, place, and bbox in pixels
    (see `bounding_box`).
    """
    labels, count = ndimage.label(grey >= LEVEL)
    bbox = list(bounding_box(grey))
    if not count:
        return {}, {"components": 0, "bbox": bbox}
    white = np.bincount(labels[grey == WHITE], minlength=count + 1)[1:] / grey.size
    sizes = join_sizes({size_word(float(share)) for share in white[white > DUST]})
    places = _NAMES[_cells(grey, labels, count)].tolist()
    known = {"count": count_word(count), "size": sizes, "place": ", ".join(places)}
    if not sizes:
        del known["size"]
    return {**known, "s": plural(count)}, {"components": count, **known, "bbox": bbox}


def _cells(grey: Grey, labels: Labels, count: int) -> NDArray[np.uint8]:
    """The cell 0..8 that holds each object 1..count: the only one with a share in it, else the only one
    with a tenth of it, else the one under the middle of its box. An object without white lies in cell 0."""
    white = grey == WHITE
    parts = [labels[part][white[part]] for part in _grid(*grey.shape)]
    touched, cells = np.zeros((2, count + 1), np.uint8)
    for cell, part in enumerate(parts):
        there = np.zeros(count + 1, bool)
        there[part] = True
        touched += there
        cells[there] = cell
    several = np.flatnonzero(touched > 1)  # few: an object must lie across a line of the grid for that
    number = np.zeros(count + 1, np.int32)
    number[several] = np.arange(1, len(several) + 1)
    pixels = np.stack([np.bincount(number[part], minlength=len(several) + 1)[1:] for part in parts])
    enough = pixels / pixels.sum(axis=0) >= SHARE
    boxes = ndimage.find_objects(number[labels])
    under = np.array([_cell_under_middle(box, grey.shape[0]) for box in boxes], np.int64)
    cells[several] = np.where(enough.sum(axis=0) == 1, enough.argmax(axis=0), under)
    return cells[1:]


def _grid(height: int, width: int) -> list[tuple[slice, slice]]:
    """The rows and columns of the nine cells."""
    down, across = (
        [slice(0, length // 3), slice(length // 3, 2 * length // 3), slice(2 * length // 3, length)]
        for length in (height, width)
    )
    return [(rows, columns) for rows in down for columns in across]


def _cell_under_middle(box: tuple[slice, slice], height: int) -> int:
    """The published box reaches one pixel out on all sides, which leaves its middle where it is. Columns go
    by the height, too: the published mistake."""
    row, column = ((part.start + part.stop - 1) / 2 for part in box)
    return 3 * _third(row, height) + _third(column, height)


def _third(at: float, length: int) -> int:
    return int(at >= length / 3) + int(at > 2 * length / 3)


def bounding_box(grey: Grey) -> Box:
    """The published box [left, top, right, bottom] around a mask, uint8 [H, W], in pixels: one pixel out
    to the left and top, exclusive to the right and bottom; (W, H, 0, 0) when there is nothing.

    The outline at level 128, its points rounded down, is drawn as pixels; the box is that around the
    8-connected pieces of it whose own boxes are larger than 4 pixels. So a stray pixel counts where its
    outline touches that of something else.
    """
    outline = _outline(grey)
    pieces, count = ndimage.label(outline, np.ones((3, 3)))
    top, left, bottom, right = _boxes(pieces, count)
    kept = (bottom - top) * (right - left) > _SMALLEST_BOX
    if not kept.any():
        return grey.shape[1], grey.shape[0], 0, 0
    return int(left[kept].min()), int(top[kept].min()), int(right[kept].max()), int(bottom[kept].max())


def _boxes(pieces: Labels, count: int) -> NDArray[np.int64]:
    """The tops, lefts, bottoms and rights [4, count] of pieces 1..count, the last two exclusive."""
    start, end = np.full((2, count + 1), max(pieces.shape)), np.zeros((2, count + 1), np.int64)
    for top, band in bands(pieces):
        down, across = np.nonzero(band)
        of = band[down, across]
        for axis, at in enumerate((down + top, across)):
            np.minimum.at(start[axis], of, at)
            np.maximum.at(end[axis], of, at + 1)
    return np.concatenate([start, end])[:, 1:]


def _outline(grey: Grey) -> NDArray[np.bool_]:
    """Where the outline at LEVEL crosses between neighbours, at the pixel that is the upper or left one;
    at the other one where the crossing lies exactly on that (its value is LEVEL itself)."""
    inside = grey > LEVEL
    outline = np.zeros(grey.shape, bool)
    for axis in (0, 1):
        ahead = tuple(slice(None, -1) if each == axis else slice(None) for each in (0, 1))
        behind = tuple(slice(1, None) if each == axis else slice(None) for each in (0, 1))
        crosses = inside[ahead] != inside[behind]
        exact = crosses & (grey[behind] == LEVEL)
        outline[ahead] |= crosses & ~exact
        outline[behind] |= exact
    return outline
