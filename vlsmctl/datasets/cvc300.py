"""CVC-300: 60 colonoscopy frames of 574 x 500 pixels, one of the test sets of PraNet.

Layout: CVC-300/{images,masks}/<n>.png, n = 149 .. 208 (8-bit masks, 0 and 255). They are the frames 149 to
208 of CVC-ColonDB as PraNet numbers it. MedVLSM's published annotations for this set are those of
CVC-ColonDB, so that only the entries of these 60 frames apply.

Source: TestDataset of https://github.com/DengPingFan/PraNet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.polyp_folders import (
    NUMBER,
    PRANET_LICENCE,
    PRANET_SOURCE,
    PRANET_TERMS,
    find_parts,
    mostly,
    pictures,
    plain_name,
    read_parts,
    split_rule,
)
from vlsmctl.datasets.records import Kind, Listing

_NOTE = (
    "the 60 frames of CVC-300 are the frames 149 to 208 of CVC-ColonDB: one of the two sets tells nothing"
    " new about a model that was trained on the other"
)


def matches(folder: Folder) -> bool:
    """images/ and masks/ with numbers for names, in a folder called CVC-300."""
    parts = find_parts(folder)
    return (
        parts is not None
        and plain_name(folder).startswith("cvc300")
        and mostly(pictures(parts.images), NUMBER)
    )


def list_items(root: Path) -> Listing:
    """The pairs; ids are the frames' numbers."""
    parts = read_parts(root)
    if parts is None:
        return Listing(())
    listing = pair_folders(root, parts.images.path, parts.masks.path)
    return replace(listing, notes=(*listing.notes, _NOTE))


CVC300 = Kind(
    title="CVC-300",
    layout="a folder CVC-300 with images/ and masks/ of the same numbers (149.png to 208.png), as in"
    " PraNet's TestDataset",
    source=PRANET_SOURCE,
    licence=PRANET_LICENCE,
    split_rule=split_rule("cvc300"),
    matches=matches,
    list_items=list_items,
    expected=60,
    annotations="cvc300_polyp",
    archives=("cvc-300*.zip", "testdataset*.zip"),
    terms=PRANET_TERMS,
)
