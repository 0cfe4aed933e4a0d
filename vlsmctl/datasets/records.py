"""What the module of a data set says of its raw layout: its kind, and the images and masks found in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from vlsmctl.datasets.download import Download
from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.manifest import Prompts
from vlsmctl.datasets.sources import ImageSource, MaskSource, Nothing

T = TypeVar("T")
_NOTHING: Mapping[str, Any] = {}


def _nothing() -> Mapping[str, Any]:
    """One for all: there may be a million items."""
    return _NOTHING


class Progress(Protocol):
    """Shows progress over items, as `vlsmctl.console.track` does."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]: ...


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Progress that nobody sees."""
    return items


@dataclass(frozen=True, slots=True)
class Item:
    """A raw image with one mask: one record to be.

    id: unique in the set, safe as a file name. image_name: of the prepared image, shared by the items of
    one image (default: the id). split: "train", "val" or "test", and group: patient, sequence or volume,
    both the set's own, where it has them. stratum: what the split should spread evenly (a diagnosis, a
    view). words: what side files tell, for the templates, such as {"view": "two-chamber"}; "class" here
    replaces the set's class word. attributes: further facts to keep in the manifest. prompts: its own,
    where it has some (they replace those from templates).
    """

    id: str
    image: ImageSource
    mask: MaskSource
    image_name: str | None = None
    split: str | None = None
    group: str | None = None
    stratum: str = ""
    words: Mapping[str, str] = field(default_factory=_nothing)
    attributes: Mapping[str, Any] = field(default_factory=_nothing)
    prompts: Prompts | None = None


@dataclass(frozen=True)
class LeftOut:
    """A raw file that could not be used. `file`: relative to the raw folder. `check`: which check it
    failed: "partner", "kind", "unreadable" or "size"."""

    file: str
    expected: str
    found: str
    check: str = "partner"


def first_left_out(left_out: Sequence[LeftOut]) -> str:
    """The first few as lines of an error message."""
    return "".join(f"\n  {one.file}: expected {one.expected}, found {one.found}" for one in left_out[:5])


@dataclass(frozen=True)
class Listing:
    """What lies in a raw folder, nothing decoded yet. `notes`: worth knowing. `warnings`: worth acting
    upon; --strict makes them count."""

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def without_known_empty(listing: Listing) -> Listing:
    """The listing without the items of which it is known beforehand that nothing is marked."""
    items = tuple(item for item in listing.items if not isinstance(item.mask, Nothing))
    absent = len(listing.items) - len(items)
    if not absent:
        return listing
    note = f"{absent} records in which nothing is marked, by the set's own files, are left out"
    return replace(listing, items=items, notes=(*listing.notes, note))


def image_stem(img_name: str, mask_name: str) -> str:
    """The id that an entry of MedVLSM's annotations has here, for most sets: the image's stem."""
    return PurePosixPath(img_name).stem


@dataclass(frozen=True)
class Kind:
    """A kind of raw data set.

    title: for people. layout: what a folder of it holds. source: its page. licence: in a line.
    split_rule: how the default protocol splits it. matches: whether a folder is the root of this layout.
    list_items: what lies in it. expected: records of the whole set (None: unknown). empty: what happens
    to empty masks unless the user says otherwise: "keep", "drop" or the share to keep, as "0.1".
    annotations: MedVLSM's name for the set; published: (img_name, mask_name) of an entry there -> id
    here; published_test: the same for its test split, where names are given anew there. words: what its
    side files add to the words of templates. archives: patterns (lower case) of the names its archives
    have. downloads: where the licence allows it; terms: what the user agrees to (empty: nothing to agree
    to). make: writes the raw data, for a set that is drawn: (folder, seed, images in train, val and test,
    progress).
    """

    title: str
    layout: str
    source: str
    licence: str
    split_rule: str
    matches: Callable[[Folder], bool]
    list_items: Callable[[Path], Listing]
    expected: int | None = None
    empty: str = "keep"
    annotations: str | None = None
    published: Callable[[str, str], str] = image_stem
    published_test: Callable[[str, str], str] | None = None
    words: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    terms: str = ""
    make: Callable[[Path, int, Sequence[int], Progress], None] | None = None
