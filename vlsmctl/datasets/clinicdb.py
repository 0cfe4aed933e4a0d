"""CVC-ClinicDB (CVC-612): 612 colonoscopy frames of 384 x 288 pixels from 29 video sequences.

Layout: Original/<n>.tif and "Ground Truth"/<n>.tif, n = 1 .. 612; Kaggle's copy has that twice, below TIF/
and PNG/; PraNet's copies have CVC-ClinicDB/{images,masks}/<n>.png. The images are TIFF files that call
their three channels grey; a good fifth of the masks have values between 0 and 255.

Source: https://polyp.grand-challenge.org/CVCClinicDB/; the sequences stand in the README.txt of the set.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.polyp_folders import Parts, find_parts, mostly, pictures, plain_name
from vlsmctl.datasets.records import Item, Kind, Listing

# The first frame of each sequence; a sequence ends where the next one begins, the last one at 612.
STARTS = (
    1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298,
    318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592,
)  # fmt: skip
FRAMES = 612

_FRAME = re.compile(r"0*(?:[1-9][0-9]?|[1-5][0-9]{2}|60[0-9]|61[0-2])")  # 1 .. 612
_NAMES = ("cvcclinicdb", "clinicdb", "cvc612")
_OTHERS = ("etis", "cvccolondb", "colondb", "cvc300")


def sequence(frame: int) -> str:
    """The video sequence of a frame, "sequence-01" .. "sequence-29". Raises ValueError: not 1 .. 612."""
    if not 1 <= frame <= FRAMES:
        raise ValueError(f"CVC-ClinicDB has the frames 1 to {FRAMES}, not {frame}")
    return f"sequence-{bisect_right(STARTS, frame):02d}"


def matches(folder: Folder) -> bool:
    """Original/ and "Ground Truth"/, or, in a folder called CVC-ClinicDB, images/ and masks/; with the
    numbers 1 to 612 for names."""
    name = plain_name(folder)
    original = _original(folder)
    if original is not None and not name.startswith(_OTHERS):
        return mostly(pictures(original.images), _FRAME)
    copy = find_parts(folder)
    return copy is not None and name.startswith(_NAMES) and mostly(pictures(copy.images), _FRAME)


def list_items(root: Path) -> Listing:
    """The pairs; ids are the frames' numbers, groups their video sequences."""
    folder = read_folder(root)
    parts = _original(folder) or find_parts(folder)
    if parts is None:
        return Listing(())
    listing = pair_folders(root, parts.images.path, parts.masks.path)
    strange = [item.id for item in listing.items if not _FRAME.fullmatch(item.id)]
    if strange:
        warning = (
            f"{len(strange)} names are none of the original numbers 1 to {FRAMES} ('{strange[0]}'), so the"
            " video sequences are not known: frames of one sequence may come into several splits"
        )
        return replace(listing, warnings=(*listing.warnings, warning))
    return replace(listing, items=tuple(_grouped(item) for item in listing.items))


def _grouped(item: Item) -> Item:
    return replace(item, group=sequence(int(item.id)))


def _original(folder: Folder) -> Parts | None:
    return find_parts(folder, ("Original",), ("Ground Truth", "Ground_Truth", "GroundTruth"))


CLINICDB = Kind(
    title="CVC-ClinicDB",
    layout="Original/ and Ground Truth/ with the same numbers (1.tif to 612.tif, or .png), or PraNet's"
    " CVC-ClinicDB/images and masks",
    source="https://polyp.grand-challenge.org/CVCClinicDB/",
    licence="research and education only, no commercial use (README.txt of the set)",
    split_rule="whole video sequences (29 of them, README.txt of the set) are drawn with a seed, about"
    " 70/10/20 % of the frames",
    matches=matches,
    list_items=list_items,
    expected=FRAMES,
    annotations="clinicdb_polyp",
    archives=("cvc-clinicdb*.rar", "cvc-clinicdb*.zip", "cvcclinicdb*.zip", "cvcclinicdb*.rar"),
    terms="for research and education only, with a citation of its authors (Bernal et al.); commercial use"
    " is forbidden",
)
