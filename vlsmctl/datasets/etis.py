"""ETIS-Larib Polyp DB: 196 colonoscopy frames of 1225 x 966 pixels.

Layout: PraNet's ETIS-LaribPolypDB/{images,masks}/<n>.png, n = 1 .. 196 (8-bit masks, 0 and 255); the
original has TIFF files and calls the mask of <n>.tif p<n>.tif, in a folder of masks or beside the image;
Kaggle's copy is ETIS-Larib/{images,masks}/*.jpg. The folder's name is often misspelt (ETIS-LaribPolyDB).

Source: TestDataset of https://github.com/DengPingFan/PraNet; https://polyp.grand-challenge.org/ETISLarib/.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.polyp_folders import (
    IMAGES,
    MASKS,
    NUMBER,
    PRANET_LICENCE,
    PRANET_SOURCE,
    PRANET_TERMS,
    Parts,
    find_parts,
    is_marked,
    mostly,
    pair_marked,
    pictures,
    plain_name,
    split_rule,
)
from vlsmctl.datasets.records import Kind, Listing

_NOTE = (
    "which of its videos a frame comes from is not told by the names: frames of one video may come into"
    " several splits"
)


def matches(folder: Folder) -> bool:
    """images/ and masks/ with numbers for names, in a folder called ETIS-Larib..., or images/<n>.tif with
    masks/p<n>.tif in one of any name."""
    parts = _parts(folder)
    named = _is_named(folder)
    if parts is None:
        return named and is_marked(Parts(folder, folder), "p")
    if is_marked(parts, "p", "" if named else ".tif"):
        return True
    return named and mostly(pictures(parts.images), NUMBER)


def list_items(root: Path) -> Listing:
    """The pairs; ids are the frames' numbers."""
    folder = read_folder(root)
    parts = _parts(folder) or Parts(folder, folder)
    if is_marked(parts, "p"):
        listing = pair_marked(root, parts, "p")
    elif parts.images is not parts.masks:
        listing = pair_folders(root, parts.images.path, parts.masks.path)
    else:
        return Listing(())
    return replace(listing, notes=(*listing.notes, _NOTE))


def _parts(folder: Folder) -> Parts | None:
    return find_parts(folder, (*IMAGES, "Original"), (*MASKS, "Ground Truth", "GroundTruth"))


def _is_named(folder: Folder) -> bool:
    name = plain_name(folder)
    return name == "etis" or name.startswith("etislarib")


ETIS = Kind(
    title="ETIS-Larib Polyp DB",
    layout="a folder ETIS-LaribPolypDB with images/ and masks/ of the same numbers (1.png to 196.png), as"
    " in PraNet's TestDataset, or the original <n>.tif with p<n>.tif for its mask",
    source=PRANET_SOURCE,
    licence=PRANET_LICENCE,
    split_rule=split_rule("etis"),
    matches=matches,
    list_items=list_items,
    expected=196,
    annotations="etis_polyp",
    archives=("etis-larib*.zip", "etis-larib*.rar", "etislarib*.zip", "testdataset*.zip"),
    terms=PRANET_TERMS,
)
