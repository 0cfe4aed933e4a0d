"""The worst, median and best cases as pictures: the image, with the outlines of both masks drawn over it as
lines that stay sharp at any size. Only the files of the chosen cases are read, one case at a time."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray
from PIL import Image

from vlsmctl.errors import UnreadableFile
from vlsmctl.evaluation import Row
from vlsmctl.formats.nifti import SliceView, slice_view
from vlsmctl.formats.raster import read_picture
from vlsmctl.formats.scan import find_scans, open_scan
from vlsmctl.mask_files import MaskPair, read_mask_file, read_pair
from vlsmctl.metrics import Mask
from vlsmctl.pairing import CasePair
from vlsmctl.preview import PREDICTION, TRUTH, Tile, fitted, outlined
from vlsmctl.report.values import without_folders

SIDE = 480  # pixels, at most
MOST_BYTES = 4_000_000  # of all pictures together
LARGEST = 90_000  # bytes of one
MOST_OUTLINE = 24_000  # letters of one outline; a more ragged one is drawn into the picture
_QUALITIES = (86, 75, 60, 45, 30)
_WHITE, _TRUE_GREY = 255, 216
_ALONE = "outlines on the true mask in grey; the picture itself is not known"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """A picture to show. size: (width, height) of its coordinates. stretch: of the two axes, where pixels
    are not square. image: a data URI. truth, prediction: outlines as SVG paths, "" for empty masks, and
    for those that are drawn in the image already (`in_image`). note: what to know of it."""

    size: tuple[int, int]
    stretch: tuple[float, float]
    image: str
    truth: str
    prediction: str
    in_image: bool = False
    note: str = ""


@dataclass(frozen=True)
class Plane:
    """What is shown of a case, all [H, W]. image: uint8 [H, W, 3], None where it is not known."""

    truth: Mask
    prediction: Mask
    image: Pixels | None
    stretch: tuple[float, float] = (1.0, 1.0)
    note: str = ""


def chosen(rows: Sequence[Row], wanted: int) -> dict[str, list[Row]]:
    """The cases with the lowest Dice ("worst", lowest first), around the median ("median", rising) and with
    the highest ("best", highest first): `wanted` of each, fewer where there are few cases, and no image
    twice. Of the best, cases in which both masks are empty come last: there is nothing to see in them."""
    ranked = sorted(
        (row for row in rows if row.scores),
        key=lambda row: (row.scores["dice"], _identity(row), _prompt(row)),
    )
    images = len({_identity(row) for row in ranked})
    each = min(wanted, -(-images // 3))
    taken: set[tuple[str, str]] = set()

    def take(candidates: Sequence[Row], number: int) -> list[Row]:
        found: list[Row] = []
        for row in candidates:
            if len(found) < number and _identity(row) not in taken:
                taken.add(_identity(row))
                found.append(row)
        return found

    worst = take(ranked, each)
    falling = [row for row in reversed(ranked) if row.outcome != "both_empty"]
    nothing_to_see = [row for row in ranked if row.outcome == "both_empty"]
    best = take([*falling, *nothing_to_see], min(each, images - each))
    centre = (len(ranked) - 1) / 2
    around = [ranked[at] for at in sorted(range(len(ranked)), key=lambda at: (abs(at - centre), at))]
    median = sorted(take(around, each), key=lambda row: row.scores["dice"])
    return {"worst": worst, "median": median, "best": best}


def _identity(row: Row) -> tuple[str, str]:
    return row.pair.data_set or "", row.pair.id


def _prompt(row: Row) -> str:
    return f"{row.pair.prompt_key} {row.pair.prompt}"


def draw(row: Row, budget: int = LARGEST) -> Drawn | str:
    """The picture of a case, or the reason why there is none. budget: bytes that it should not pass."""
    try:
        return _drawn(_plane(row), budget)
    except UnreadableFile as error:
        known = (row.pair.target, row.pair.prediction, row.pair.image)
        return without_folders(str(error), known)
    except (OSError, ValueError, IndexError, KeyError, MemoryError) as error:
        return f"its files cannot be shown ({type(error).__name__})"


def _plane(row: Row) -> Plane:
    """Raises UnreadableFile."""
    pair = row.pair
    masks = read_pair(
        pair.prediction, pair.target,
        prediction_label=pair.prediction_label, target_label=pair.target_label,
    )  # fmt: skip
    if masks.unit == "px" and masks.target.ndim == 2:
        return _with_picture(Plane(masks.target, masks.prediction, None), pair.image)
    affine, shape = _space(pair, masks)
    truth, prediction = masks.target.reshape(shape), masks.prediction.reshape(shape)
    view = slice_view(affine, shape)
    number, count = _fullest(truth, prediction, view.axis), shape[view.axis]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    across, down = (float(spacing[axis]) for axis in _shown_axes(view))
    smaller = min(across, down)
    plane = Plane(
        _picture_of(truth, view, number),
        _picture_of(prediction, view, number),
        None,
        (across / smaller, down / smaller),
        f"slice {number + 1} of {count}" if count > 1 else "",
    )
    return _with_slice(plane, pair.image, affine, view, number, count)


def _space(pair: CasePair, masks: MaskPair) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Affine (mm, RAS+) and size of the grid that both masks were laid on: that of one of the files, or
    else (of two segmentations of different slices) one with the same steps, anywhere.

    Raises UnreadableFile.
    """
    for path, label in ((pair.target, pair.target_label), (pair.prediction, pair.prediction_label)):
        own = None if path is None else read_mask_file(path, label, truth=path == pair.target)
        if own is None or own.affine is None or own.mask.shape != masks.target.shape:
            continue
        if own.steps.shape == masks.steps.shape and np.allclose(own.steps, masks.steps, atol=1e-3):
            return own.affine, (own.size[0], own.size[1], own.size[2])
    if masks.target.ndim != 3 or masks.steps.shape != (3, 3):
        raise UnreadableFile(f"{pair.target}: its place in space is not known")
    affine = np.eye(4)
    affine[:3, :3] = masks.steps.T
    shape = masks.target.shape
    return affine, (shape[0], shape[1], shape[2])


def _fullest(truth: Mask, prediction: Mask, axis: int) -> int:
    """The slice with the largest true area, else the largest predicted one, else the middle."""
    others = tuple(other for other in range(3) if other != axis)
    for mask in (truth, prediction):
        areas = mask.sum(axis=others)
        if areas.any():
            return int(areas.argmax())
    return int(truth.shape[axis]) // 2


def _picture_of(mask: Mask, view: SliceView, number: int) -> Mask:
    plane: Mask = np.take(mask, [number], axis=view.axis).squeeze(view.axis)
    return np.ascontiguousarray(view.to_picture(plane))


def _shown_axes(view: SliceView) -> tuple[int, int]:
    """The voxel axes that run across and down the picture."""
    first, second = (axis for axis in range(3) if axis != view.axis)
    return (first, second) if view.transposed else (second, first)


def _with_picture(plane: Plane, path: Path | None) -> Plane:
    if path is None:
        return replace(plane, note=_ALONE)
    try:
        image = read_picture(path)
    except UnreadableFile as error:
        return replace(plane, note=f"{_ALONE} ({without_folders(str(error), [path])})")
    if image.shape[:2] != plane.truth.shape:
        return replace(plane, note=f"{_ALONE} (its size is another)")
    return replace(plane, image=image)


def _with_slice(
    plane: Plane, path: Path | None, affine: NDArray[np.float64], view: SliceView, number: int, count: int
) -> Plane:
    """With the slice of the scan that the masks belong to, where it lies on the same grid. It is read as it
    is for predicting; the slices of a DICOM series follow the third axis of its masks."""
    alone = replace(plane, note="; ".join(filter(None, (plane.note, _ALONE))))
    if path is None:
        return alone
    try:
        found = find_scans([path])[0]
        if len(found) != 1:
            return alone
        scan = open_scan(found[0])
        there = scan.geometry
        if there is None or scan.frame_count != count or not np.allclose(there.affine, affine, atol=1e-2):
            return alone
        image = scan.read_frame(number)
    except (UnreadableFile, IndexError) as error:
        return replace(alone, note=f"{alone.note} ({without_folders(str(error), [path])})")
    if scan.kind == "dicom":
        if view.axis != 2:
            return alone
        rows, columns = image.shape[:2]  # back to voxel order, so that both are turned alike
        image = np.ascontiguousarray(view.to_picture(image.reshape(rows, columns, 3).swapaxes(0, 1)))
    return replace(plane, image=image) if image.shape[:2] == plane.truth.shape else alone


def _drawn(plane: Plane, budget: int) -> Drawn:
    image = _true_in_grey(plane.truth) if plane.image is None else plane.image
    tile = Tile(image, ((plane.truth, TRUTH), (plane.prediction, PREDICTION)), "")
    if max(image.shape[:2]) > SIDE:
        tile = fitted(tile, SIDE)
    truth, prediction = (outline(mask) for mask, _ in tile.outlines)
    ragged = max(len(truth), len(prediction)) > MOST_OUTLINE
    pixels = np.asarray(outlined(tile, SIDE)) if ragged else tile.image
    height, width = pixels.shape[:2]
    return Drawn(
        (width, height), plane.stretch, jpeg(pixels, budget),
        "" if ragged else truth, "" if ragged else prediction, ragged, plane.note,
    )  # fmt: skip


def _true_in_grey(truth: Mask) -> Pixels:
    grey = np.where(truth, _TRUE_GREY, _WHITE).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def jpeg(pixels: Pixels, budget: int) -> str:
    """uint8 [H, W, 3] as the data URI of a JPEG of at most `budget` bytes, if the lowest quality allows."""
    content = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="JPEG", quality=quality, optimize=True)
        content = stream.getvalue()
        if len(content) <= budget:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


def outline(mask: Mask) -> str:
    """The border of a mask [H, W] as an SVG path in pixels from the upper left corner; "" for an empty one.
    Corners of pixels are cut, and holes have a border of their own."""
    if not mask.any():
        return ""
    padded = np.pad(mask, 1).astype(np.float64)
    lines = contour_generator(z=padded, line_type=LineType.Separate).lines(0.5)
    return "".join(_closed_path(np.asarray(line) - 0.5) for line in lines)


def _closed_path(points: NDArray[np.float64]) -> str:
    """points: [N, 2], x and y, the last equal to the first. Points on a straight line are left out."""
    ring = np.rint(points[:-1] * 2).astype(np.int64)
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    corner = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept = ring[corner]
    steps = np.diff(kept, axis=0)
    first = f"M{_half(kept[0, 0])} {_half(kept[0, 1])}l"
    return first + " ".join(f"{_half(x)} {_half(y)}" for x, y in steps) + "z"


def _half(doubled: int) -> str:
    """13 -> 6.5, -1 -> -.5; as few letters as can be."""
    text = f"{doubled / 2:g}"
    return text.replace("0.", ".") if text.startswith(("0.", "-0.")) else text
