"""One raw image and its mask: found, read, explained and written the way a prepared data set has them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from vlsmctl.datasets.attributes import count_word, place_word, size_word
from vlsmctl.datasets.manifest import Prompts
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.formats.raster import read_mask_picture, read_picture, write_mask_picture
from vlsmctl.quiet import without_warnings

DUST = 1e-4
SIZE_WORDS = ("tiny", "small", "medium", "large")
_ORIENTATION = 0x0112
_GREY_MODES = ("1", "L", "I", "F", "I;16")
_PLAIN = {"PNG": ".png", "JPEG": ".jpg"}

T = TypeVar("T")


class Progress(Protocol):
    """Shows progress over items, as `vlsmctl.console.track` does."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]: ...


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Progress that nobody sees."""
    return items


@dataclass(frozen=True)
class Item:
    """A raw image with its mask. `split` and `group`: the set's own, where it has them; `prompts`: its
    own, where it has some (they then replace those from templates)."""

    id: str
    image: Path
    mask: Path
    split: str | None = None
    group: str | None = None
    prompts: Prompts | None = None


@dataclass(frozen=True)
class LeftOut:
    """A raw file that could not be used. `file`: relative to the raw folder."""

    file: str
    expected: str
    found: str


@dataclass(frozen=True)
class Listing:
    """What lies in a raw folder, nothing opened yet."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of raw data set.

    `find`: the folder of this layout at or just below a folder, or None. `list_items`: what lies in
    it. `make`: writes the raw data to a folder, for a set that is generated: (folder, seed, images
    in train, val and test, progress).
    """

    layout: str
    source: str
    licence: str
    split_rule: str
    find: Callable[[Path], Path | None]
    list_items: Callable[[Path], Listing]
    make: Callable[[Path, int, Sequence[int], Progress], None] | None = None


@dataclass(frozen=True)
class Encoding:
    """How the masks of a data set are stored: foreground is a grey value above `threshold` (0..255)."""

    threshold: int
    notes: tuple[str, ...] = ()


@dataclass
class Survey:
    """The grey values of all masks of a data set: how often each occurs, and in how many masks there
    are others than 0 and 255."""

    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    masks: int = 0
    grey: int = 0
    coloured: int = 0

    def add(self, path: Path) -> None:
        """Counts one mask in. Raises UnreadableFile."""
        counts = np.bincount(read_mask_picture(path).ravel(), minlength=256)
        self.coloured += _is_coloured(path)
        self.histogram += counts
        self.masks += 1
        self.grey += bool(counts[1:255].any())

    def encoding(self) -> Encoding:
        """Decides for the whole set, since one file alone may hold nothing but zeros or noise.

        Raises UsageError: several dim values, as label maps with more than one class have.
        """
        values = [int(value) for value in np.flatnonzero(self.histogram[1:]) + 1]
        notes = []
        if self.coloured:
            notes.append(
                f"{self.coloured} of {self.masks} masks are stored as RGB: the brightest channel counts"
            )
        if not values:
            return Encoding(127, (*notes, "all masks are empty"))
        if max(values) <= 127:
            if len(values) > 1:
                shown = ", ".join(str(value) for value in [0, *values[:8]])
                raise UsageError(
                    f"the masks hold the values {shown}: expected two values, background and foreground",
                    hint="write one mask with 0 and 255 for the class that you mean, then prepare again",
                )
            return Encoding(0, (*notes, f"the masks hold 0 and {values[0]}: read as 0 and 255"))
        share = self.histogram[1:255].sum() / self.histogram.sum()
        if share:
            notes.append(
                f"grey values between 0 and 255 in {self.grey} of {self.masks} masks (JPEG noise or soft"
                f" edges): threshold 127 changes {100 * share:.2g} % of pixels"
            )
        return Encoding(127, tuple(notes))


@dataclass(frozen=True)
class Picture:
    """A pair as written: paths relative to the data set's folder, and what was computed from it."""

    item: Item
    image: str
    mask: str
    width: int
    height: int
    foreground: float
    sha256: str
    words: dict[str, str]
    attributes: dict[str, Any]


class Unequal(Exception):
    """An image and a mask of different sizes; its arguments are expected and found."""


def write_pair(item: Item, encoding: Encoding, folder: Path) -> Picture:
    """Writes image and mask below `folder`. A plain 8-bit PNG or JPEG is copied as it is, anything
    else is decoded and becomes a PNG.

    Raises UnreadableFile, or Unequal when image and mask differ in size.
    """
    pixels = read_picture(item.image)
    mask = read_mask_picture(item.mask) > encoding.threshold
    height, width = mask.shape
    if pixels.shape[:2] != mask.shape:
        expected = f"a mask of {pixels.shape[1]} x {pixels.shape[0]} pixels, as the image"
        raise Unequal(expected, f"{width} x {height} pixels")
    suffix = plain_suffix(item.image)
    image_name, mask_name = f"images/{item.id}{suffix or '.png'}", f"masks/{item.id}.png"
    if suffix:
        shutil.copyfile(item.image, folder / image_name)
    else:
        Image.fromarray(pixels).save(folder / image_name)
    write_mask_picture(mask, folder / mask_name)
    words, attributes = describe(mask)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    share = round(float(mask.mean()), 8)
    return Picture(item, image_name, mask_name, width, height, share, digest, words, attributes)


def plain_suffix(path: Path) -> str | None:
    """ ".png" or ".jpg" when the file is an 8-bit grey or RGB picture of that kind, upright and opaque."""
    try:
        with _opened(path) as picture:
            plain = (
                picture.format in _PLAIN
                and picture.mode in ("L", "RGB")
                and getattr(picture, "n_frames", 1) == 1
                and not picture.has_transparency_data
                and picture.getexif().get(_ORIENTATION, 1) == 1
            )
            return _PLAIN[str(picture.format)] if plain else None
    except Exception:  # what cannot be vouched for is not copied
        return None


def _is_coloured(path: Path) -> bool:
    try:
        with _opened(path) as picture:
            return picture.mode not in _GREY_MODES
    except UnidentifiedImageError:
        return False  # neither PNG nor JPEG


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A PNG or JPEG, its header read. Whoever comes here has read the picture itself before, so
    Pillow's warnings about it have had their answer."""
    with without_warnings(), Image.open(path, formats=("PNG", "JPEG")) as picture:
        yield picture


def describe(mask: NDArray[np.bool_]) -> tuple[dict[str, str], dict[str, Any]]:
    """The words for a mask (bool [H, W]), and the attributes that are stored.

    Components are 4-connected; those of at most 1e-4 of the image are dust and ignored, unless there
    is nothing else. Several sizes are joined from tiny to large, several places in reading order of
    the components, each once. An empty mask has no words.
    """
    labels, count = ndimage.label(mask)
    if not count:
        return {}, {"components": 0}
    rows, columns = np.nonzero(mask)
    at = labels[rows, columns] - 1
    pixels = np.bincount(at)
    areas = pixels / mask.size
    kept = np.flatnonzero(areas > DUST) if (areas > DUST).any() else np.array([int(areas.argmax())])
    sizes = {size_word(float(areas[index])) for index in kept}
    centres = zip(np.bincount(at, rows) / pixels, np.bincount(at, columns) / pixels, strict=True)
    all_places = [place_word(float(row), float(column), *mask.shape) for row, column in centres]
    places = dict.fromkeys(all_places[index] for index in kept)
    words = {
        "count": count_word(len(kept)),
        "size": ", ".join(word for word in SIZE_WORDS if word in sizes),
        "place": ", ".join(places),
    }
    return words, {"components": len(kept), **words}


def reason(error: UnreadableFile, path: Path) -> str:
    """The error's message without the path, which is reported beside it."""
    return str(error).removeprefix(f"{path}: ")
