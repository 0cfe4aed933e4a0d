"""Pictures to look at: a contact sheet of images with the outlines of true and predicted masks."""

from __future__ import annotations

import hashlib
import textwrap
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

# Okabe and Ito's palette, safe for the colour-blind
TRUTH = (0, 158, 115)
PREDICTION = (230, 159, 0)
TILE, CAPTION, GAP = 240, 34, 6
LINE = 14  # pixels of a line of a caption
WRAP = 38  # characters of a line of a caption
COLUMNS = 4


@dataclass(frozen=True)
class Tile:
    """image: uint8 [H, W, 3]; outlines: (bool mask [H, W], colour) pairs; caption: lines below it."""

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
    longest = max(tile.caption.count("\n") + 1 for row in rows for tile in row)
    caption = max(CAPTION, LINE * longest + 6)
    width = columns * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (TILE + caption + GAP) + 2 * GAP + 14), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), legend, fill="black")
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            x, y = GAP + column * (TILE + GAP), 2 * GAP + 14 + number * (TILE + caption + GAP)
            sheet.paste(outlined(tile), (x, y))
            draw.multiline_text((x, y + TILE + 2), tile.caption, fill="black", spacing=2)
    return sheet


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
