"""ISIC 2016, task 1: dermoscopic photographs of skin lesions, each with an outline of the lesion.

Layout: the four archives unpacked side by side, ISBI2016_ISIC_Part1_{Training,Test}_{Data,GroundTruth};
images ISIC_0000000.jpg, masks ISIC_0000000_Segmentation.png (8-bit grey, 0 and 255). Unpacking programs
may put a folder into another one of the same name.

Source: https://challenge.isic-archive.com/data/ (2016).
"""

from __future__ import annotations

import re
from pathlib import Path

from vlsmctl.datasets.download import Download
from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import merged, pair_folders
from vlsmctl.datasets.records import Kind, Listing

_NAME = "ISBI2016_ISIC_Part1_{part}_{content}"
_PARTS = {"Training": "train", "Test": "test"}
_IMAGE = re.compile(r"ISIC_[0-9]{7}\.jpe?g", re.IGNORECASE)
_URL = "https://isic-challenge-data.s3.amazonaws.com/2016/"
_MD5 = {
    "Training_Data": "2029f387e62dcc062b1370b1efc1f7fb",
    "Training_GroundTruth": "fbd77134298f3511479a37bac93109c7",
    "Test_Data": "efebcaeaae751007401a40a60d391f93",
    "Test_GroundTruth": "492a7711a2e19b96114cab6c96bd1ad5",
}


def matches(folder: Folder) -> bool:
    """Images and masks of one part, or of both."""
    return any(
        images is not None and _folder(folder, part, "GroundTruth") is not None and _has_images(images)
        for part in _PARTS
        for images in (_folder(folder, part, "Data"),)
    )


def list_items(root: Path) -> Listing:
    """The pairs of both parts; ids are "ISIC_0000000"."""
    here = read_folder(root)
    return merged(_of_part(root, here, part, split) for part, split in _PARTS.items())


def _of_part(root: Path, here: Folder, part: str, split: str) -> Listing:
    images, masks = _folder(here, part, "Data"), _folder(here, part, "GroundTruth")
    if images is not None and masks is not None:
        return pair_folders(root, images.path, masks.path, split=split, mask_suffix="_Segmentation")
    absent = [
        _NAME.format(part=part, content=content)
        for content, found in (("Data", images), ("GroundTruth", masks))
        if found is None
    ]
    return Listing((), notes=(f"there is no {' and no '.join(absent)}: no image of that part is used",))


def _folder(here: Folder, part: str, content: str) -> Folder | None:
    name = _NAME.format(part=part, content=content)
    return here.below(name, name) or here.below(name)


def _has_images(images: Folder) -> bool:
    return any(_IMAGE.fullmatch(name) for name in images.files)


ISIC2016 = Kind(
    title="ISIC 2016, task 1: dermoscopic photographs of skin lesions",
    layout="ISBI2016_ISIC_Part1_Training_Data and _Training_GroundTruth, the same of Test"
    " (ISIC_0000000.jpg with ISIC_0000000_Segmentation.png)",
    source="https://challenge.isic-archive.com/data/, 2016, task 1",
    licence="CC0, as a mirror of the set lists it; its page has the last word",
    split_rule="test is the official test set; val is a seeded 10 % of the official training set, identical"
    " images kept together; train is the rest of it",
    matches=matches,
    list_items=list_items,
    expected=1279,
    annotations="isic",
    archives=("isbi2016_isic_part1_*.zip",),
    downloads=tuple(
        Download(f"{_URL}ISBI2016_ISIC_Part1_{name}.zip", f"ISBI2016_ISIC_Part1_{name}.zip", md5=md5)
        for name, md5 in _MD5.items()
    ),
)
