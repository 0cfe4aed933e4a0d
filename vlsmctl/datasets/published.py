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

from vlsmctl.datasets.attributes import DUST, PLACES, count_word, join_sizes, plural, size_word

Grey: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]

LEVEL = 128  # outlines are drawn where grey values pass it
WHITE = 255  # sizes and shares are counted over pixels of exactly this value
SHARE = 0.10  # of an object, that a cell must hold to count
_SMALLEST_BOX = 4  # square pixels: outlines in boxes no larger are dropped


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
    sizes = join_sizes({size_word(float(share)) for share in white if share > DUST})
    places = [
        _place(grey, labels, within, index)
        for index, within in enumerate(ndimage.find_objects(labels), start=1)
    ]
    known = {"count": count_word(count), "size": sizes, "place": ", ".join(places)}
    if not sizes:
        del known["size"]
    return {**known, "s": plural(count)}, {"components": count, **known, "bbox": bbox}


def _place(grey: Grey, labels: NDArray[np.int32], within: tuple[slice, slice], label: int) -> str:
    """The cell that holds an object: the only one with a share in it, else the only one with a tenth of
    it, else the one under the middle of its box."""
    rows, columns = np.nonzero((labels[within] == label) & (grey[within] == WHITE))
    if not len(rows):
        return PLACES[0][0]
    height, width = grey.shape
    row_cells = np.searchsorted(_thirds(height), rows + within[0].start, side="right")
    column_cells = np.searchsorted(_thirds(width), columns + within[1].start, side="right")
    shares = np.bincount(3 * row_cells + column_cells, minlength=9) / len(rows)
    for cells in (np.flatnonzero(shares), np.flatnonzero(shares >= SHARE)):
        if len(cells) == 1:
            return PLACES[cells[0] // 3][cells[0] % 3]
    # The box reaches one pixel out on all sides, which leaves its middle where it is.
    row, column = ((part.start + part.stop - 1) / 2 for part in within)
    return PLACES[_third(row, height)][_third(column, height)]  # height twice: the published mistake


def _thirds(length: int) -> list[int]:
    return [length // 3, 2 * length // 3]


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
    pieces, _ = ndimage.label(outline, np.ones((3, 3)))
    boxes = [(rows, columns) for rows, columns in ndimage.find_objects(pieces) if _counts(rows, columns)]
    if not boxes:
        return grey.shape[1], grey.shape[0], 0, 0
    return (
        min(columns.start for _, columns in boxes),
        min(rows.start for rows, _ in boxes),
        max(columns.stop for _, columns in boxes),
        max(rows.stop for rows, _ in boxes),
    )


def _counts(rows: slice, columns: slice) -> bool:
    return int(rows.stop - rows.start) * int(columns.stop - columns.start) > _SMALLEST_BOX


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
