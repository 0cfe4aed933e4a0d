"""Pictures to look at: a contact sheet of images with the outlines of true and predicted masks."""

from __future__ import annotations

import hashlib
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, binary_erosion

from vlsmctl.datasets.manifest import SPLITS, Manifest, Record
from vlsmctl.datasets.staging import PREVIEW
from vlsmctl.files import atomic_path
from vlsmctl.formats.raster import read_mask_picture, read_picture

Colour = tuple[int, int, int]

# Okabe and Ito's palette, safe for the colour-blind
TRUTH = (0, 158, 115)
PREDICTION = (230, 159, 0)
COLOURS: tuple[Colour, ...] = (
    PREDICTION, (86, 180, 233), TRUTH, (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
TILE, CAPTION, GAP = 240, 34, 6
LINE = 14  # pixels of a line of a caption
WRAP = 38  # characters of a line of a caption
COLUMNS = 4
DASH = 8  # pixels


@dataclass(frozen=True)
class Tile:
    """image: uint8 [H, W, 3]; outlines: (bool mask [H, W], colour) pairs; caption: lines below it."""

    image: NDArray[np.uint8]
    outlines: tuple[tuple[NDArray[np.bool_], Colour], ...]
    caption: str


def fitted(tile: Tile, size: int = TILE) -> Tile:
    """The tile, scaled to fit into `size` x `size` pixels. A pixel that is made of several is marked where
    one of these is, so that small things stay visible."""
    height, width = tile.image.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    if shape == (height, width):
        return tile
    image = Image.fromarray(tile.image).resize(shape[::-1], Image.Resampling.BICUBIC)
    outlines = tuple((_scaled_mask(mask, shape), colour) for mask, colour in tile.outlines)
    return Tile(np.asarray(image), outlines, tile.caption)


def _scaled_mask(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    scaled = mask
    for axis, (before, after) in enumerate(zip(mask.shape, shape, strict=True)):
        if after < before:
            starts = -(np.arange(after) * -before // after)  # rounded up
            scaled = np.logical_or.reduceat(scaled, starts, axis=axis)
        elif after > before:
            nearest = ((np.arange(after) + 0.5) * before / after).astype(np.intp)
            scaled = scaled.take(nearest, axis=axis)
    return scaled


def outlined(tile: Tile, size: int = TILE) -> Image.Image:
    """The picture, scaled to fit into `size` x `size` pixels, with its outlines two pixels wide; where
    outlines run over one another, they take turns."""
    small = fitted(tile, size)
    pixels = np.array(small.image)
    height, width = pixels.shape[:2]
    dashes = np.add.outer(np.arange(height), np.arange(width)) // DASH
    drawn = np.zeros((height, width), np.bool_)
    for number, (mask, colour) in enumerate(small.outlines):
        edge = binary_dilation(mask) & ~binary_erosion(mask)
        pixels[edge & (~drawn | (dashes % (number + 1) == number))] = colour
        drawn |= edge
    return Image.fromarray(pixels)


def contact_sheet(
    rows: Sequence[Sequence[Tile]],
    legend: str,
    *,
    size: int = TILE,
    keys: Sequence[tuple[Colour, str]] = (),
) -> Image.Image:
    """A sheet with one row of tiles for each row given, captions below, and a legend at the top.

    size: of a tile, in pixels; a row is no higher than its pictures. keys: what the colours mean, a line
    each below the legend.
    """
    columns = max(len(row) for row in rows)
    longest = max(tile.caption.count("\n") + 1 for row in rows for tile in row)
    caption = max(CAPTION, LINE * longest + 6)
    pictures = [[outlined(tile, size) for tile in row] for row in rows]
    heights = [max(picture.height for picture in row) for row in pictures]
    top = 2 * GAP + LINE * (1 + len(keys))
    total = top + sum(height + caption + GAP for height in heights)
    sheet = Image.new("RGB", (columns * (size + GAP) + GAP, total), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), legible(legend), fill="black")
    for number, (colour, text) in enumerate(keys, 1):
        y = GAP + number * LINE
        draw.rectangle((GAP, y + 1, GAP + 14, y + 10), fill=colour)
        draw.text((GAP + 20, y), legible(text), fill="black")
    y = top
    for row, shown, height in zip(rows, pictures, heights, strict=True):
        for column, (tile, picture) in enumerate(zip(row, shown, strict=True)):
            x = GAP + column * (size + GAP)
            sheet.paste(picture, (x, y))
            draw.multiline_text((x, y + height + 2), legible(tile.caption), fill="black", spacing=2)
        y += height + caption + GAP
    return sheet


def legible(text: str) -> str:
    """The text in the letters that Pillow's own font has, which are those of ASCII: accents are left out,
    all others become question marks."""
    plain = unicodedata.normalize("NFKD", text)
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()


def write_data_sheet(manifest: Manifest) -> Path:
    """A sheet of pictures from each split of a prepared data set, with outline, id and prompts, as
    `preview.png` in its folder. Which pictures hangs on their ids alone."""
    rows = []
    for split in SPLITS:
        records = [record for record in manifest.records if record.split == split]
        chosen = sorted(records, key=lambda record: hashlib.sha256(record.id.encode()).digest())
        tiles = [_data_tile(manifest.folder, record) for record in chosen[: 2 * COLUMNS]]
        rows += [tiles[at : at + COLUMNS] for at in range(0, len(tiles), COLUMNS)]
    path = manifest.folder / PREVIEW
    with atomic_path(path) as temporary:
        contact_sheet(rows, f"{manifest.folder.name}: true masks in green, prompts below").save(temporary)
    return path


def _data_tile(folder: Path, record: Record) -> Tile:
    mask = read_mask_picture(folder / record.mask) > 0
    lines = [f"{record.split}: {record.id}"[:WRAP]]
    for key, prompt in record.prompts.items():
        if key != "p0":
            text = prompt if isinstance(prompt, str) else f"{prompt[0]} (1 of {len(prompt)})"
            lines += textwrap.wrap(f"{key} {text}", WRAP)
    return Tile(read_picture(folder / record.image), ((mask, TRUTH),), "\n".join(lines))
