"""BKAI-IGH NeoPolyp (small): 1000 colonoscopy frames with masks and 200 without, mostly 1280 x 959 pixels.

Layout: train/train/<32 hex digits>.jpeg, train_gt/train_gt/<the same>.jpeg, test/test/*.jpeg (no masks),
sample_submission.csv; the doubled folders may have been undone. Masks are colour JPEG: red for neoplastic,
green for non-neoplastic polyps, with noise between. Both count as polyp; which ones are there becomes the
attribute "lesion".

Source: https://www.kaggle.com/c/bkai-igh-neopolyp/data.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.polyp_folders import Parts, mostly, pictures
from vlsmctl.datasets.records import Item, Kind, Listing
from vlsmctl.datasets.sources import ColourFile

CLASSES = (("neoplastic", (255, 0, 0)), ("non-neoplastic", (0, 255, 0)))

_ID = re.compile(r"[0-9a-f]{32}")


def matches(folder: Folder) -> bool:
    """train/ and train_gt/, doubled or not, with 32 hex digits for names."""
    parts = _parts(folder)
    return parts is not None and mostly(pictures(parts.images), _ID) and mostly(pictures(parts.masks), _ID)


def list_items(root: Path) -> Listing:
    """The labelled pairs; ids are the names without suffix."""
    folder = read_folder(root)
    parts = _parts(folder)
    if parts is None:
        return Listing(())
    listing = pair_folders(root, parts.images.path, parts.masks.path)
    notes = ["test/ is not used: its masks were never published"] if folder.below("test") else []
    return replace(
        listing, items=tuple(_coloured(item) for item in listing.items), notes=(*listing.notes, *notes)
    )


def _coloured(item: Item) -> Item:
    return replace(item, mask=ColourFile(item.mask.files[0], "lesion", CLASSES))


def _parts(folder: Folder) -> Parts | None:
    images, masks = (_undoubled(folder, name) for name in ("train", "train_gt"))
    return Parts(images, masks) if images and masks else None


def _undoubled(folder: Folder, name: str) -> Folder | None:
    return folder.below(name, name) or folder.below(name)


BKAI = Kind(
    title="BKAI-IGH NeoPolyp (small)",
    layout="train/train and train_gt/train_gt with the same names of 32 hex digits (.jpeg); test/test is"
    " not used",
    source="https://www.kaggle.com/c/bkai-igh-neopolyp/data",
    licence="the rules of the Kaggle competition, to be accepted there (research use; nothing more was"
    " found)",
    split_rule="train, val and test are drawn with a seed (70/10/20) from the 1000 frames with masks; the"
    " masks of the official test set were never published, nor which patient a frame shows",
    matches=matches,
    list_items=list_items,
    expected=1000,
    annotations="bkai_polyp",
    archives=("bkai-igh-neopolyp*.zip", "bkai-igh*.zip"),
    terms="a Kaggle account, and the rules of the competition accepted there",
)
