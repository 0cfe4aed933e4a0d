"""What is foreground in a picture or a NIfTI volume, by its values.

A file whose values are those of no mask (shades, probabilities, label numbers where all is black up to 127)
is refused by name: taken for an empty or a full mask it would be scored as if nothing were wrong.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_seg_grid import empty_mask
from vlsmctl.formats.nifti import read_planes
from vlsmctl.formats.nifti_voxels import Stored
from vlsmctl.formats.raster import read_label_picture, read_mask_picture

_BRIGHT = 127  # in pictures, what is above is foreground
_WHITE = (255, 65535)  # that masks of one class hold, and label numbers hardly ever are
_NEAR = 10  # shades that differ by so much are one in JPEG files
_SHADES, _SHADED = 32, 0.25  # more of them, on more of the pixels, than soft edges have
_WHOLE, _ROUNDED = 1e-4, 1e-6  # how far, absolutely and relatively, a scaled whole number may be off
_FEW_LABELS = 2**16


@dataclass(frozen=True)
class Marked:
    """mask: bool. cautions: what a person should know about the values, each on its own."""

    mask: NDArray[np.bool_]
    cautions: tuple[str, ...]


def marked_in_picture(path: Path, label: int | None = None) -> Marked:
    """[H, W]: where the value is the label; None: above 127, or above 0 where the largest value is 1.

    Raises UnreadableFile: damaged, values of no mask.
    """
    if label is not None:
        numbers = read_label_picture(path)
        mask = numbers == label
        return Marked(mask, () if mask.any() else _absent(path, label, _different(numbers)))
    grey = read_mask_picture(path)
    largest = int(grey.max(initial=0))
    if 1 < largest <= _BRIGHT:
        raise UnreadableFile(
            f"{path}: expected a mask with values above {_BRIGHT}, found values up to {largest} only: of a"
            " label map, say which is meant with --label (of predictions: --pred-label); else store it as 0"
            " and 255"
        )
    if largest > _BRIGHT and (shaded := _shaded(grey)) > _SHADED:
        raise UnreadableFile(
            f"{path}: looks like a photograph or probabilities, not like a mask: {shaded:.0%} of its pixels"
            " are in between dark and bright; of probabilities, store where they are above the threshold"
        )
    return Marked(grey > (0 if largest <= 1 else _BRIGHT), ())


def marked_in_volume(stored: Stored, label: int | None = None) -> Marked:
    """[X, Y, Z]: where the value is the label; None: above 0. Read plane by plane: beside the mask, at most
    128 MiB of values are held. stored: of one volume of numbers.

    Raises UnreadableFile: damaged, values of no mask.
    """
    path = stored.path
    mask = empty_mask(path, stored.space)
    read = read_planes(path, 2)
    seen: set[float] = set()
    for number in range(stored.space[2]):
        values = _whole(path, read(number))
        mask[:, :, number] = values > 0 if label is None else values == label
        seen |= _different(values)
        _refuse_fractions(path, seen)
    if label is not None:
        return Marked(mask, () if label in seen else _absent(path, label, seen))
    positive = sum(value > 0 for value in seen)
    if seen and not positive:
        raise UnreadableFile(f"{path}: expected a mask, found no values above 0, but some below")
    cautions = [f"{positive} labels taken together as foreground"] * (positive > 1)
    cautions += ["negative values are not foreground"] * (min(seen, default=0) < 0)
    return Marked(mask, tuple(cautions))


def _shaded(grey: NDArray[np.uint8]) -> float:
    """Share of the pixels that are neither dark nor nearly of the most frequent bright shade; 0 where
    there are few shades."""
    counts = np.array(Image.fromarray(grey).histogram())
    if np.count_nonzero(counts) <= _SHADES:
        return 0.0
    bright = _BRIGHT + 1 + int(counts[_BRIGHT + 1 :].argmax())
    return float(counts[_NEAR + 1 :].sum() - counts[bright - _NEAR : bright + _NEAR + 1].sum()) / grey.size


def _absent(path: Path, label: int, values: Set[float]) -> tuple[str, ...]:
    """A case without this class is a case like others: the file of another class alone too, as two labels
    are often found together. values: in the file, other than 0."""
    if not values:
        return ()
    if len(values) == 1 and (only := next(iter(values))) in _WHITE:
        raise UnreadableFile(
            f"{path}: expected label {label}, found the values 0 and {only:g} alone: a mask of one class,"
            " which needs no label (where predict's ledger has one, the file has changed since)"
        )
    return (f"label {label} is not in this file, which has labels up to {max(values):g}",)


def _whole(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """With whole numbers for what scaling has made of them."""
    if values.dtype.kind in "iub":
        return values
    with np.errstate(invalid="ignore"):
        if not np.isfinite([values.min(), values.max()]).all():  # NaN makes both NaN
            raise UnreadableFile(
                f"{path}: expected a mask, found values that are no numbers (NaN, infinity)"
            )
    rounded = np.rint(values)
    near = np.abs(values - rounded) <= _WHOLE + _ROUNDED * np.abs(rounded)
    return rounded if near.all() else values


def _refuse_fractions(path: Path, seen: Set[float]) -> None:
    """A single value may be a fraction: a mask in other units. seen: other than 0."""
    fractions = [value for value in seen if not float(value).is_integer()]
    if fractions and len(seen) > 1:
        raise UnreadableFile(
            f"{path}: expected whole numbers, found fractions such as {max(fractions):.6g}: probabilities,"
            " or resampled with interpolation? store it as 0 and 1 first"
        )


def _different(values: NDArray[Any]) -> set[float]:
    """The values other than 0."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return {low} - {0.0}
    marked = values[values != 0]
    whole = marked.dtype.kind in "iub" or bool((marked == np.rint(marked)).all())
    if whole and low >= 0 and high < _FEW_LABELS:
        return set(np.flatnonzero(np.bincount(marked.astype(np.int64))).tolist())
    return set(np.unique(marked).tolist())
