"""The Diabetic Foot Ulcers Grand Challenge 2022: photographs of feet with ulcers outlined.

Layout: DFUC2022_train_release/{DFUC2022_train_images/100001.jpg, DFUC2022_train_masks/100001.png}; masks
hold 0 and 255, or 0 and 1. The masks of the official test set were never published.

Source: https://dfu-challenge.github.io/dfuc2022.html
"""

from __future__ import annotations

import re
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.records import Kind, Listing

_IMAGES, _MASKS = "DFUC2022_train_images", "DFUC2022_train_masks"
_IMAGE = re.compile(r"[0-9]{6}\.jpe?g", re.IGNORECASE)


def matches(folder: Folder) -> bool:
    """Both folders by their names, with images called by six digits."""
    images = folder.below(_IMAGES)
    return (
        images is not None
        and folder.below(_MASKS) is not None
        and any(_IMAGE.fullmatch(name) for name in images.files)
    )


def list_items(root: Path) -> Listing:
    """The pairs of the official training set; ids are "100001"."""
    here = read_folder(root)
    images, masks = here.below(_IMAGES), here.below(_MASKS)
    if images is None or masks is None:
        return Listing(())
    return pair_folders(root, images.path, masks.path)


DFU2022 = Kind(
    title="Diabetic Foot Ulcers Grand Challenge 2022: photographs of feet",
    layout="DFUC2022_train_release with DFUC2022_train_images (100001.jpg, ...) and DFUC2022_train_masks"
    " (100001.png, ...)",
    source="https://dfu-challenge.github.io/dfuc2022.html, https://dfuc2022.grand-challenge.org/dataset/",
    licence="by signed licence of Manchester Metropolitan University, on request",
    split_rule="of the 2000 images with published masks, by seed: 70 % train, 10 % val, 20 % test,"
    " identical images kept together (the masks of the official test set were never published)",
    matches=matches,
    list_items=list_items,
    expected=2000,
    annotations="dfu",
    archives=("dfuc2022*.zip", "dfuc2022*.tar*", "dfuc2022*.7z"),
    terms="a licence to be signed and sent to Manchester Metropolitan University, which sends the link",
)
