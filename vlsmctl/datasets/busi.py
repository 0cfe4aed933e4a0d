"""BUSI: breast ultrasound images, benign, malignant and normal.

Layout: {benign,malignant,normal}/"benign (1).png" with "benign (1)_mask.png" and, for further lesions of
the same image, "benign (1)_mask_1.png", ...; the mask of an image is the union of its files. They are
1-bit for the most part, RGB and all black for normal images, and a few are RGBA. Variant:
benign/images and benign/masks (or mask), with the same names.

Some images are near-duplicates of others, also of another diagnosis; nothing in the set names patients.

Source: https://scholar.cu.edu.eg/?q=afahmy/pages/dataset
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import merged, relative
from vlsmctl.datasets.records import Item, Kind, LeftOut, Listing
from vlsmctl.datasets.sources import MaskFiles, Picture

# what an image of each class says of the tumour in it
_WORDS = {
    "benign": {"kind": "benign", "regularity": "regular"},
    "malignant": {"kind": "malignant", "regularity": "irregular"},
    "normal": {},
}
_NAME = re.compile(
    r"(?P<kind>[a-z]+) \((?P<number>[0-9]+)\)(?P<mask>_mask(?:_[0-9]+)?)?\.png", re.IGNORECASE
)


@dataclass(frozen=True)
class _Place:
    """Where the images and the masks of a class lie. apart: the masks have a folder for themselves."""

    images: Folder
    masks: Folder
    apart: bool


def matches(folder: Folder) -> bool:
    """A folder benign, malignant or normal with an image and a mask of that name."""
    return any(
        any(_is_image(name, kind) for name in place.images.files)
        and any(_is_mask(name, kind, place) for name in place.masks.files)
        for kind in _WORDS
        for place in (_place(folder, kind),)
        if place is not None
    )


def list_items(root: Path) -> Listing:
    """The images of the classes that are there; ids are "1_benign", as MedVLSM has them."""
    here = read_folder(root)
    places = {kind: _place(here, kind) for kind in _WORDS}
    absent = [kind for kind, place in places.items() if place is None]
    notes = (f"there is no folder {' and no '.join(absent)}",) if absent else ()
    found = (_of_class(root, kind, place) for kind, place in places.items() if place is not None)
    return merged((*found, Listing((), notes=notes)))


def _place(folder: Folder, kind: str) -> _Place | None:
    here = folder.below(kind)
    if here is None:
        return None
    masks = here.below("masks") or here.below("mask")
    return _Place(here.below("images") or here, masks or here, masks is not None)


def _is_image(name: str, kind: str) -> bool:
    found = _NAME.fullmatch(name)
    return found is not None and found["kind"].lower() == kind and not found["mask"]


def _is_mask(name: str, kind: str, place: _Place) -> bool:
    """In a folder of masks alone, they may be called as the images are."""
    found = _NAME.fullmatch(name)
    return found is not None and found["kind"].lower() == kind and (place.apart or bool(found["mask"]))


def _of_class(root: Path, kind: str, place: _Place) -> Listing:
    images = {
        _number(name): place.images.path / name for name in place.images.files if _is_image(name, kind)
    }
    masks: dict[str, list[Path]] = defaultdict(list)
    for name in sorted(place.masks.files, key=lambda name: (len(name), name)):
        if _is_mask(name, kind, place):
            masks[_number(name)].append(place.masks.path / name)
    items = [
        _item(kind, number, images[number], tuple(masks[number]))
        for number in sorted(images, key=int)
        if number in masks
    ]
    lonely = [
        LeftOut(relative(image, root), f"a mask '{image.stem}_mask.png'", "none")
        for number, image in images.items()
        if number not in masks
    ] + [
        LeftOut(relative(path, root), f"an image '{kind} ({number}).png'", "none")
        for number, paths in masks.items()
        if number not in images
        for path in paths
    ]
    left_out = lonely + _strangers(root, kind, place)
    return Listing(tuple(items), tuple(sorted(left_out, key=lambda each: each.file)))


def _number(name: str) -> str:
    found = _NAME.fullmatch(name)
    return found["number"] if found else ""


def _item(kind: str, number: str, image: Path, masks: tuple[Path, ...]) -> Item:
    return Item(
        f"{number}_{kind}",
        Picture(image),
        MaskFiles(masks),
        stratum=kind,
        words=_WORDS[kind],
        attributes={"diagnosis": kind},
    )


def _strangers(root: Path, kind: str, place: _Place) -> list[LeftOut]:
    """Files that are neither images nor masks of the class."""
    return [
        LeftOut(
            relative(folder.path / name, root),
            f"'{kind} (NUMBER).png' or '{kind} (NUMBER)_mask.png'",
            "another name",
            "kind",
        )
        for folder in {place.images.path: place.images, place.masks.path: place.masks}.values()
        for name in folder.files
        if not (_is_image(name, kind) or _is_mask(name, kind, place))
    ]


BUSI = Kind(
    title="BUSI: breast ultrasound images, benign, malignant and normal",
    layout="benign/, malignant/, normal/ with 'benign (1).png' and 'benign (1)_mask.png', ...",
    source="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    licence="unclear: its page names none; its authors ask to be cited",
    split_rule="by seed: 70 % train, 10 % val, 20 % test, spread evenly over benign, malignant and normal,"
    " identical images kept together (the set does not say which images are of one patient)",
    matches=matches,
    list_items=list_items,
    expected=780,
    annotations="busi",
    words=("kind", "regularity"),
    archives=("dataset_busi*.zip", "busi*.zip", "breast-ultrasound-images-dataset*.zip"),
    terms="none are stated on its page; its authors ask to be cited",
)
