"""Masks that are written down as text: COCO run lengths and polygons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

MAX_PIXELS = 178_956_970  # what Pillow takes a picture for an attack above
FARTHEST = 1e6  # pixels: no corner of a real outline lies farther off
_BITS, _MORE, _SIGN, _ZERO = 5, 0x20, 0x10, 48
_CHARACTERS = 7  # per run: 35 bits, more than the longest run needs


def unpack_run_lengths(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """COCO's compressed run lengths -> bool [height, width].

    Runs of off and on pixels take turns, off first, down the columns from left to right. See
    `run_lengths` for how they are written.

    Raises ValueError: not such a text, or its runs do not add up to height * width pixels.
    """
    check_size(height, width)
    runs = run_lengths(counts, height * width)
    lit = np.arange(len(runs)) % 2 == 1
    columns: NDArray[np.bool_] = np.repeat(lit, runs).reshape(width, height)
    return columns.T


def run_lengths(counts: str, pixels: int) -> list[int]:
    """The runs of COCO's compressed text, which add up to `pixels`.

    Each character holds five bits above "0", lowest first, and whether more follow; the highest bit of
    the last one is the sign. From the fourth run on, what is written is the difference to the run
    before the last.

    Raises ValueError: a character that means nothing, a run that is cut off, negative or too long, or
    another sum. No more is kept in memory than `pixels` allow, however long the text is.

    Source: the COCO data format, https://cocodataset.org/#format-data (run-length encoding).
    """
    if len(counts) > _CHARACTERS * (pixels + 2):
        raise ValueError(f"run lengths of {len(counts)} characters for {pixels} pixels")
    runs: list[int] = []
    value, shift, total = 0, 0, 0
    for at, character in enumerate(counts):
        bits = ord(character) - _ZERO
        if not 0 <= bits < 2 * _MORE:
            raise ValueError(f"run lengths hold {character!r} (character {at + 1})")
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if bits & _MORE:
            if shift >= _CHARACTERS * _BITS:
                raise ValueError(f"a run length has no end (character {at + 1})")
            continue
        value -= (bits & _SIGN) << (shift - _BITS + 1)  # two's complement
        value += runs[-2] if len(runs) > 2 else 0
        total += value
        if value < 0 or total > pixels:
            raise ValueError(f"run number {len(runs) + 1} is {value} long, in a mask of {pixels} pixels")
        runs.append(value)
        value, shift = 0, 0
    if shift or total != pixels:
        raise ValueError(f"run lengths end after {total} of {pixels} pixels")
    return runs


def fill_polygons(
    outlines: Sequence[Sequence[tuple[float, float]]], height: int, width: int
) -> NDArray[np.bool_]:
    """Outlines of (x, y) corners -> bool [height, width], their insides united.

    Corners are in pixels, (0, 0) the centre of the first; the pixels on the line belong to the inside.
    Parts beyond the picture are cut off; outlines of fewer than three corners have no inside.

    Raises ValueError: a size or a corner that no picture has.
    """
    check_size(height, width)
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        if not all(
            math.isfinite(value) and abs(value) <= FARTHEST for corner in outline for value in corner
        ):
            raise ValueError("an outline has a corner far outside of the picture")
        if len(outline) >= 3:
            pen.polygon([(float(x), float(y)) for x, y in outline], fill=1, outline=1)
    return np.asarray(canvas) > 0


def check_size(height: int, width: int) -> None:
    """Raises ValueError: no picture is `height` by `width` pixels."""
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {width} x {height} pixels")
