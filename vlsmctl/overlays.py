"""`predict --overlay`: a picture to look at beside each mask, with the outlines of what was found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlsmctl.files import atomic_path
from vlsmctl.formats.records import Frames, Scan
from vlsmctl.preview import COLOURS, Colour, Tile, contact_sheet, fitted, legible

MOST, FEW = 12, 4  # frames shown of a volume or clip; of one in which nothing is marked
COLUMNS = 4
SMALLEST, LARGEST = 512, 1024  # pixels of a tile that stands alone
TILE = 320  # of one of several
NOTHING = "nothing found"
_KEYS, _LONGEST = 20, 60  # prompts in the legend, letters of one
_LETTER = 6  # pixels of one in a caption
_WHITE = (255, 255, 255)


def write_overlay(scan: Scan, masks: Sequence[tuple[str, Frames]], target: Path) -> None:
    """Writes a PNG contact sheet: pictures of the scan with the outlines of its masks, a colour a prompt
    (they begin again after the last), the prompts at the top.

    masks: (prompt, bool frames) pairs, at least one. A scan of one frame gets one large tile. Of others, up
    to 12 frames with marked pixels are shown, evenly spread, among them the first, the last and, for each
    prompt, the largest; where nothing is marked anywhere, 4 evenly spread frames. Frames are read again,
    one at a time, in ascending order. Nothing but pixels, frame numbers and prompts is shown.

    Raises UnreadableFile, as `scan.read_frame` does; OSError where the file cannot be written.
    """
    counts = np.array([[int(np.count_nonzero(mask[n])) for n in range(len(mask))] for _, mask in masks])
    numbers = chosen_frames(counts)
    size = _tile_size(scan, len(numbers))
    coloured = [(mask, COLOURS[k % len(COLOURS)]) for k, (_, mask) in enumerate(masks)]
    tiles = [_tile(scan, coloured, number, counts[:, number], size) for number in numbers]
    keys = [
        (colour, _key_text(number, prompt, found=bool(counts[number - 1].any())))
        for number, ((prompt, _), (_, colour)) in enumerate(zip(masks, coloured, strict=True), 1)
    ]
    if len(keys) > _KEYS:
        keys = [*keys[:_KEYS], (_WHITE, f"and {len(keys) - _KEYS} more")]
    rows = [tiles[at : at + COLUMNS] for at in range(0, len(tiles), COLUMNS)]
    sheet = contact_sheet(rows, _legend(counts), size=size, keys=keys)
    with atomic_path(target) as temporary:
        sheet.save(temporary, format="PNG")


def chosen_frames(counts: NDArray[np.int_]) -> list[int]:
    """The numbers of the frames to show, ascending. counts: marked pixels, [P, frames]."""
    marked = np.flatnonzero(counts.any(axis=0))
    if not len(marked):
        return _spread(np.arange(counts.shape[1]), FEW)
    largest = [int(row.argmax()) for row in counts if row.any()]
    wanted = list(dict.fromkeys([int(marked[0]), int(marked[-1]), *largest]))[:MOST]
    chosen = _spread(marked, MOST)
    for number in wanted:
        if number not in chosen:  # it takes the place of the nearest that nobody asked for
            free = [other for other in chosen if other not in wanted]
            chosen.remove(min(free, key=lambda other: abs(other - number)))
            chosen.append(number)
    return sorted(chosen)


def _spread(numbers: NDArray[np.int_], count: int) -> list[int]:
    """At most `count` of the numbers, evenly spread, the first and the last among them."""
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(np.intp)
    return [int(number) for number in numbers[places]]


def _tile_size(scan: Scan, tiles: int) -> int:
    if tiles == 1:
        return min(max(*scan.frame_shape, SMALLEST), LARGEST)
    return SMALLEST if tiles == 2 else TILE  # so that no sheet is too narrow for its legend


def _tile(
    scan: Scan, masks: Sequence[tuple[Frames, Colour]], number: int, marked: NDArray[np.int_], size: int
) -> Tile:
    """Frame `number` as it will be shown. marked: its pixels, for each mask."""
    image = scan.read_frame(number)
    outlines = tuple(
        (mask[number], colour) for (mask, colour), some in zip(masks, marked, strict=True) if some
    )
    where = f"frame {number + 1} of {scan.frame_count}, " if scan.frame_count > 1 else ""
    pixels = (
        " + ".join(str(count) for count in marked) if len(marked) <= len(COLOURS) else str(marked.sum())
    )
    said = f"{where}{pixels} px" if marked.any() else where + NOTHING
    caption = "\n".join(textwrap.wrap(said, size // _LETTER))
    return fitted(
        Tile(image, outlines, caption), size
    )  # made small at once, so that few large ones are held


def _legend(counts: NDArray[np.int_]) -> str:
    frames, marked = counts.shape[1], int(counts.any(axis=0).sum())
    if not marked:
        return NOTHING
    return "outlines of what was found" if frames == 1 else f"found in {marked} of {frames} frames"


def _key_text(number: int, prompt: str, *, found: bool) -> str:
    """A prompt as the legend shows it: in one line, cut where it is long."""
    text = " ".join(prompt.split())
    if legible(text).count("?") > text.count("?"):
        text = f"prompt {number}: {text}"  # not all of its letters can be shown
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return text if found else f"{text} ({NOTHING})"
