"""What is foreground in a picture or a NIfTI volume, by its values.

A target whose values are those of no mask (shades, probabilities, several labels in one picture) is refused
by name: taken for a mask it would be scored as if nothing were wrong. A prediction of such values is cut,
with a caution: a case that cannot be scored is in no mean, so that refusing it could raise the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_seg_grid import empty_mask
from vlsmctl.formats.nifti import read_planes
from vlsmctl.formats.nifti_voxels import Stored
from vlsmctl.formats.raster import read_label_picture, read_mask_picture
from vlsmctl.quiet import without_warnings

_BRIGHT = 127  # in pictures, what is above is foreground
_NEAR = 10  # shades that differ by so much are one in JPEG files
_DARK = 30  # the background of CVC-ClinicDB's masks has areas of up to 23
_FEW_SHADES = 64  # more of them are no label map
_SHADES, _SHADED = 32, 0.25  # more of them, on more of the pixels, than soft edges have
_WHOLE, _ROUNDED = 1e-4, 1e-6  # how far, absolutely and relatively, a scaled whole number may be off
_COUNTABLE = 2**16
_MOST_LABELS, _MOST_SIGNED = 256, 16  # more different values are of an image; of one with values below 0
_HALF = 0.5
_LISTED = 8
_PALETTED = ("PNG", "GIF", "TIFF", "BMP")


@dataclass(frozen=True)
class Marked:
    """mask: bool. cautions: what a person should know about the values, each on its own."""

    mask: NDArray[np.bool_]
    cautions: tuple[str, ...]


def marked_in_picture(path: Path, label: int | None = None, *, truth: bool) -> Marked:
    """[H, W]: where the value is the label; None: above 127, or above 0 where the largest value is 1.

    truth: of a target. Raises UnreadableFile: damaged; targets of values of no mask.
    """
    if label is not None:
        return _label_in_picture(path, label, truth)
    grey = read_mask_picture(path)
    largest = int(grey.max(initial=0))
    if truth:
        _refuse_shades(path, grey, largest)
        _refuse_labels(path, grey)
    mask = grey > (0 if largest <= 1 else _BRIGHT)
    if 1 < largest <= _BRIGHT:
        return Marked(mask, (f"values reach {largest} only, so nothing is marked",))
    if len(numbers := _palette_areas(path)) > 1:
        return Marked(mask, (f"{len(numbers)} colours of a palette, cut at brightness {_BRIGHT}",))
    if largest > _BRIGHT and _has_areas_between(grey):
        shades = np.count_nonzero(_histogram(grey))
        return Marked(mask, (f"not two-valued: {shades} shades, cut at {_BRIGHT}",))
    return Marked(mask, ())


def marked_in_volume(stored: Stored, label: int | None = None, *, truth: bool) -> Marked:
    """[X, Y, Z]: where the value is the label; None: above 0, or, in predictions of fractions within 0..1,
    above 0.5. Read plane by plane: beside the mask, at most 128 MiB of values are held.

    stored: of one volume of numbers. truth: of a target. Raises UnreadableFile: damaged, NaN; targets of
    values of no mask.
    """
    path = stored.path
    mask = empty_mask(path, stored.space)
    read = read_planes(path, 2)
    seen = _Seen()
    for number in range(stored.space[2]):
        values = _whole(path, read(number))
        mask[:, :, number] = values > 0 if label is None else values == label
        seen = seen.and_those_of(values)
        if truth:
            _refuse_values(path, seen, label)
    if label is not None:
        return Marked(mask, _label_cautions(label, seen, bool(mask.any())))
    if seen.low < 0 and seen.high <= 0:
        if truth:
            raise UnreadableFile(f"{path}: expected a mask, found no values above 0, but some below")
        return Marked(mask, ("no values above 0, but some below, so nothing is marked",))
    if seen.fraction is not None and len(seen.values) > 1 and seen.within_one:
        for number in range(stored.space[2]):
            mask[:, :, number] = _whole(path, read(number)) > _HALF
        return Marked(mask, (f"fractions up to {seen.high:.3f}, cut at {_HALF}",))
    return Marked(mask, tuple(_volume_cautions(seen)))


@dataclass(frozen=True)
class _Seen:
    """The values of a volume so far. values: other than 0, of which a few more than a mask has are kept;
    low, high: of all, 0 included; fraction: one of the fractions, None where all are whole."""

    values: frozenset[float] = frozenset()
    low: float = 0.0
    high: float = 0.0
    fraction: float | None = None

    @property
    def many(self) -> bool:
        """Whether there are more than were counted."""
        return len(self.values) > _MOST_LABELS

    @property
    def within_one(self) -> bool:
        return self.low >= -_WHOLE and self.high <= 1 + _WHOLE

    def and_those_of(self, values: NDArray[Any]) -> _Seen:
        low, high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if self.many and self.fraction is not None:  # there is nothing more to find, and fractions are slow
            return _Seen(self.values, low, high, self.fraction)
        more = _different(values)
        fraction = max((value for value in more if not float(value).is_integer()), default=self.fraction)
        kept = self.values if self.many else self.values | frozenset(sorted(more)[: _MOST_LABELS + 1])
        return _Seen(kept, low, high, fraction)


def _volume_cautions(seen: _Seen) -> list[str]:
    cautions = []
    positive = sum(value > 0 for value in seen.values)
    if seen.fraction is not None and len(seen.values) == 1:
        cautions.append(f"a single value, {seen.high:.3g}, is taken as foreground")
    elif seen.fraction is not None:
        cautions.append(f"fractions from {seen.low:.3f} to {seen.high:.3f}, cut at 0")
    elif seen.many:
        cautions.append(f"more than {_MOST_LABELS} different values, cut at 0")
    elif positive > 1:
        cautions.append(f"{positive} labels taken together as foreground")
    return cautions + ["negative values are not foreground"] * (seen.low < 0)


def _refuse_values(path: Path, seen: _Seen, label: int | None) -> None:
    """Of a target. A single value may be a fraction: a mask in other units."""
    if seen.fraction is not None and len(seen.values) > 1:
        raise UnreadableFile(
            f"{path}: expected whole numbers, found fractions such as {seen.fraction:.6g}: probabilities,"
            " or resampled with interpolation? store it as 0 and 1 first"
        )
    most = _MOST_SIGNED if seen.low < 0 < seen.high else _MOST_LABELS
    if label is None and len(seen.values) > most:
        raise UnreadableFile(
            f"{path}: looks like an image, not a mask: more than {most} different values, from"
            f" {seen.low:g} to {seen.high:g}; of a label map, say which is meant with --label"
        )


def _label_in_picture(path: Path, label: int, truth: bool) -> Marked:
    try:
        numbers = read_label_picture(path)
    except UnreadableFile:
        if truth:
            raise
        size = read_mask_picture(path).shape  # raises as well where the file is damaged
        return Marked(
            np.zeros(size, np.bool_), ("no label numbers (colours, fractions): nothing is marked",)
        )
    mask = numbers == label
    seen = _Seen().and_those_of(numbers)
    return Marked(mask, _label_cautions(label, seen, bool(mask.any())))


def _label_cautions(label: int, seen: _Seen, found: bool) -> tuple[str, ...]:
    """A case without this class is a case like others, also where the file holds one other value alone: two
    labels are often found together, and 255 may stand for what is to be ignored."""
    if not found and seen.values:
        high = seen.high if seen.high > 0 else seen.low
        return (f"label {label} is not in this file, which has labels up to {high:g}",)
    if seen.fraction is not None:
        return (f"fractions such as {seen.fraction:.3f} are no labels",)
    return ()


def _refuse_shades(path: Path, grey: NDArray[np.uint8], largest: int) -> None:
    if 1 < largest <= _BRIGHT:
        raise UnreadableFile(
            f"{path}: expected a mask with values above {_BRIGHT}, found values up to {largest} only: of a"
            " label map, say which is meant with --label; else store it as 0 and 255"
        )
    if largest > _BRIGHT and (shaded := _shaded(grey)) > _SHADED:
        raise UnreadableFile(
            f"{path}: looks like a photograph or probabilities, not like a mask: {shaded:.0%} of its pixels"
            " are in between dark and bright; of probabilities, store where they are above the threshold"
        )


def _refuse_labels(path: Path, grey: NDArray[np.uint8]) -> None:
    """Several values that fill areas are labels; those of soft edges and of JPEG's noise fill none."""
    say = "say which is meant with --label"
    if len(numbers := _palette_areas(path)) > 1:
        raise UnreadableFile(
            f"{path}: looks like a label map (numbers {_listed(numbers)} of a palette): {say}"
        )
    if np.count_nonzero(_histogram(grey)) > _FEW_SHADES:
        return
    areas = _areas(grey)
    shades = areas[areas > _DARK]
    if shades.size and int(shades.max()) - int(shades.min()) > _NEAR:
        raise UnreadableFile(f"{path}: looks like a label map (values {_listed(areas)}): {say}")


def _listed(values: NDArray[Any]) -> str:
    some = [str(int(value)) for value in values]
    return ", ".join(some if len(some) <= _LISTED else [*some[: _LISTED - 1], "..", some[-1]])


def _areas(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The values that fill 3 x 3 pixels somewhere, ascending."""
    even = minimum_filter(values, 3) == maximum_filter(values, 3)
    return np.unique(values[1:-1, 1:-1][even[1:-1, 1:-1]])


def _palette_areas(path: Path) -> NDArray[np.uint8]:
    """The numbers, other than 0, that fill areas of a picture with a palette of colours; of other pictures
    none. path: of a picture that has been read."""
    none = np.zeros(0, np.uint8)
    try:
        with without_warnings(), Image.open(path, formats=_PALETTED) as image:
            if image.mode != "P":
                return none
            colours, numbers = np.asarray(image.convert("RGB")), np.asarray(image)
    except Exception:  # of another format, or what has been read in another way
        return none
    if (colours == colours[..., :1]).all():
        return none
    areas = _areas(numbers)
    return areas[areas > 0]


def _histogram(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.array(Image.fromarray(grey).histogram())


def _main_shade(counts: NDArray[np.int64]) -> int:
    """The most frequent bright one."""
    return _BRIGHT + 1 + int(counts[_BRIGHT + 1 :].argmax())


def _has_areas_between(grey: NDArray[np.uint8]) -> bool:
    """Whether what is neither dark nor nearly of the main shade fills 3 x 3 pixels somewhere: soft edges
    do not."""
    bright = _main_shade(_histogram(grey))
    between = (grey > _DARK) & (np.abs(grey.astype(np.int16) - bright) > _DARK)
    return bool(minimum_filter(between, 3)[1:-1, 1:-1].any())


def _shaded(grey: NDArray[np.uint8]) -> float:
    """Share of the pixels that are neither dark nor nearly of the main shade; 0 where there are few
    shades."""
    counts = _histogram(grey)
    if np.count_nonzero(counts) <= _SHADES:
        return 0.0
    bright = _main_shade(counts)
    return float(counts[_NEAR + 1 :].sum() - counts[bright - _NEAR : bright + _NEAR + 1].sum()) / grey.size


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


def _different(values: NDArray[Any]) -> set[float]:
    """The values other than 0."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return {low} - {0.0}
    marked = values[values != 0]
    whole = marked.dtype.kind in "iub" or bool((marked == np.rint(marked)).all())
    if whole and low >= 0 and high < _COUNTABLE:
        return set(np.flatnonzero(np.bincount(marked.astype(np.int64))).tolist())
    return set(np.unique(marked).tolist())
