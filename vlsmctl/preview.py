"""Pictures to look at: a contact sheet of images with the outlines of true and predicted masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, binary_erosion

# Okabe and Ito's palette, safe for the colour-blind
TRUTH = (0, 158, 115)
PREDICTION = (230, 159, 0)
TILE, CAPTION, GAP = 240, 34, 6


@dataclass(frozen=True)
class Tile:
    """image: uint8 [H, W, 3]; outlines: (bool mask [H, W], colour) pairs; caption: up to two lines."""

    image: NDArray[np.uint8]
    outlines: tuple[tuple[NDArray[np.bool_], tuple[int, int, int]], ...]
    caption: str


def outlined(tile: Tile, size: int = TILE) -> Image.Image:
    """The picture, scaled to fit into `size` x `size` pixels, with its outlines two pixels wide."""
    height, width = tile.image.shape[:2]
    scale = size / max(height, width)
    picture = Image.fromarray(tile.image).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC
    )
    pixels = np.array(picture)
    for mask, colour in tile.outlines:
        small = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
        edge = binary_dilation(small) & ~binary_erosion(small)
        pixels[edge] = colour
    return Image.fromarray(pixels)


def contact_sheet(rows: Sequence[Sequence[Tile]], legend: str) -> Image.Image:
    """A sheet with one row of tiles for each row given, captions below, and a legend at the top."""
    columns = max(len(row) for row in rows)
    width = columns * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (TILE + CAPTION + GAP) + 2 * GAP + 14), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), legend, fill="black")
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            x, y = GAP + column * (TILE + GAP), 2 * GAP + 14 + number * (TILE + CAPTION + GAP)
            sheet.paste(outlined(tile), (x, y))
            draw.multiline_text((x, y + TILE + 2), tile.caption, fill="black", spacing=2)
    return sheet
