"""The Foot Ulcer Segmentation Challenge: 512 x 512 photographs of foot ulcers.

Layout: {train,validation}/{images,labels}/*.png; test/images has no masks and is not used. The
official validation set is the only one with masks that nobody trains on, so it becomes our split
"test"; "val", which early stopping looks at, is a seeded tenth of the official training set.

Source: https://github.com/uwm-bigdata/wound-segmentation, folder data/Foot Ulcer Segmentation Challenge.
"""

from __future__ import annotations

import re
from pathlib import Path

from vlsmctl.datasets.download import Download
from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.records import Item, Kind, LeftOut, Listing

_NAME = re.compile(r"foot.*ulcer|fuseg|wound", re.IGNORECASE)
_SPLITS = {"train": "train", "validation": "test"}


def matches(folder: Folder) -> bool:
    """Both parts with images/ and labels/ of pictures called by four digits, or one of them in a folder
    that has the challenge's name: other people, too, have train/images and train/labels."""
    parts = [part for part in _SPLITS if _is_part(folder.below(part))]
    return len(parts) == len(_SPLITS) or (bool(parts) and bool(_NAME.search(folder.path.name)))


def _is_part(folder: Folder | None) -> bool:
    images, labels = (folder.below(name) if folder else None for name in ("images", "labels"))
    return images is not None and labels is not None and _are_numbers(images.files)


def _are_numbers(names: tuple[str, ...]) -> bool:
    return bool(names) and all(re.fullmatch(r"\d{4}\.png", name) for name in names[:20])


def list_items(root: Path) -> Listing:
    """The pairs of the official training and validation set; ids are "train-0011", "validation-0502"."""
    items: list[Item] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    for part, split in _SPLITS.items():
        if not _has_labels(root, part):
            notes.append(f"there is no {part}/images with {part}/labels")
            continue
        folder = root / part
        listing = pair_folders(root, folder / "images", folder / "labels", prefix=f"{part}-", split=split)
        items += listing.items
        left_out += listing.left_out
    if (root / "test" / "images").is_dir():
        notes.append("test/images is not used: its masks were never published")
    return Listing(tuple(items), tuple(left_out), tuple(notes))


def _has_labels(root: Path, part: str) -> bool:
    return (root / part / "images").is_dir() and (root / part / "labels").is_dir()


FUSEG = Kind(
    title="Foot Ulcer Segmentation Challenge: photographs of feet",
    layout="train/images, train/labels, validation/images, validation/labels (0011.png, ...)",
    source="https://github.com/uwm-bigdata/wound-segmentation, data/Foot Ulcer Segmentation Challenge",
    licence="CC BY-NC (research use), as its authors state",
    split_rule="test is the official validation set (the official test set has no masks); val is a seeded"
    " 10 % of the official training set, identical images kept together; train is the rest of it",
    matches=matches,
    list_items=list_items,
    expected=1010,
    archives=("wound-segmentation*.zip", "fuseg*.zip", "foot*ulcer*.zip"),
    downloads=(
        Download(
            "https://github.com/uwm-bigdata/wound-segmentation/archive/refs/heads/master.zip",
            "wound-segmentation.zip",
        ),
    ),
    terms="CC BY-NC: for non-commercial use, with attribution",
)
