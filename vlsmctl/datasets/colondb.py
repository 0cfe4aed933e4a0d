"""CVC-ColonDB: 380 colonoscopy frames of 574 x 500 pixels.

Layout: PraNet's CVC-ColonDB/{images,masks}/<n>.png, n = 1 .. 380 (8-bit masks, 0 and 255), or the original
download of 300 frames: <n>.bmp, with p<n>.bmp for its polyp, s<n>.bmp and c<n>.bmp (regions without
information, outlines; not used) in one folder.

Source: TestDataset of https://github.com/DengPingFan/PraNet; http://mv.cvc.uab.es/projects/colon-qa/cvccolondb.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.polyp_folders import (
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

_NAMES = ("cvccolondb", "colondb")
_NOTE = (
    "which of its videos a frame comes from is not told by the names: frames of one video may come into"
    " several splits. The frames 149 to 208 of PraNet's numbers are those of CVC-300"
)
_ORIGINAL = (
    "this is the original download, 300 frames; PraNet's copy, which the papers use, has 380, and its"
    " numbers may be others"
)


def matches(folder: Folder) -> bool:
    """images/ and masks/ with numbers for names, in a folder called CVC-ColonDB, or <n>.bmp with p<n>.bmp
    in one folder of any name."""
    if is_marked(Parts(folder, folder), "p", ".bmp"):
        return True
    parts = find_parts(folder)
    return (
        parts is not None
        and plain_name(folder).startswith(_NAMES)
        and mostly(pictures(parts.images), NUMBER)
    )


def list_items(root: Path) -> Listing:
    """The pairs; ids are the frames' numbers."""
    folder = read_folder(root)
    flat = Parts(folder, folder)
    if is_marked(flat, "p", ".bmp"):
        listing = pair_marked(root, flat, "p", others="sc")
        return replace(listing, notes=(*listing.notes, _ORIGINAL, _NOTE))
    parts = find_parts(folder)
    if parts is None:
        return Listing(())
    listing = pair_folders(root, parts.images.path, parts.masks.path)
    return replace(listing, notes=(*listing.notes, _NOTE))


COLONDB = Kind(
    title="CVC-ColonDB",
    layout="a folder CVC-ColonDB with images/ and masks/ of the same numbers (1.png to 380.png), as in"
    " PraNet's TestDataset, or the original <n>.bmp with p<n>.bmp in one folder",
    source=PRANET_SOURCE,
    licence=PRANET_LICENCE,
    split_rule=split_rule("colondb"),
    matches=matches,
    list_items=list_items,
    expected=380,
    annotations="colondb_polyp",
    archives=("cvc-colondb*.zip", "cvc-colondb*.rar", "testdataset*.zip"),
    terms=PRANET_TERMS,
)
