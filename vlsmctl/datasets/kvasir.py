"""Kvasir-SEG: 1000 colonoscopy frames with polyps, 332 x 487 to 1920 x 1072 pixels.

Layout: Kvasir-SEG/{images,masks}/<25 characters>.jpg, and kavsir_bboxes.json (sic), which is not used.
Masks are JPEG in three channels with noise around 0 and 255; some have one white pixel at (0, 0). The
copies of HyperKvasir (segmented-images) and of PraNet's TestDataset (100 frames, PNG) are read too.

Source: https://datasets.simula.no/kvasir-seg/; the lists of the official split (880/120) come from
https://github.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from vlsmctl.datasets.download import Download
from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.pairs import is_picture, pair_folders
from vlsmctl.datasets.polyp_folders import find_parts, mostly, pictures, plain_name, read_parts
from vlsmctl.datasets.records import Kind, Listing
from vlsmctl.errors import UsageError

# Their first letters tell when the ids were made; Kvasir-Instrument, which came later, has others.
_ID = re.compile(r"c(j[u-z]|k[0-2])[0-9a-z]{22}")
_NAME = re.compile(r"kvasir(seg.*)?")
_TRAIN, _VAL = "train.txt", "val.txt"


def matches(folder: Folder) -> bool:
    """images/ and masks/, with the ids of Kvasir-SEG or in a folder called Kvasir or Kvasir-SEG..."""
    parts = find_parts(folder)
    if parts is None:
        return False
    stems = pictures(parts.images)
    return mostly(stems, _ID) or (bool(stems) and bool(_NAME.fullmatch(plain_name(folder))))


def list_items(root: Path) -> Listing:
    """The pairs; ids are the names without suffix. Raises UsageError: a list of the official split that
    cannot be read."""
    parts = read_parts(root)
    if parts is None:
        return Listing(())
    return _with_official_split(root, pair_folders(root, parts.images.path, parts.masks.path))


def _with_official_split(root: Path, listing: Listing) -> Listing:
    """train.txt -> train, val.txt -> test, because nobody trains on it; an image that is in neither list
    goes to train, one that is in both to test."""
    there = [(root / name).is_file() for name in (_TRAIN, _VAL)]
    if not all(there):
        lonely = [
            f"{_TRAIN if there[0] else _VAL} is not used: the other list of the official split is missing"
        ]
        return replace(listing, notes=(*listing.notes, *(lonely if any(there) else [])))
    train, test = _names(root / _TRAIN), _names(root / _VAL)
    ids = {item.id for item in listing.items}
    if not ids & train or not ids & test:
        warning = f"{_TRAIN} and {_VAL} are not used: one of them names no image that is here"
        return replace(listing, warnings=(*listing.warnings, warning))
    items = tuple(replace(item, split="test" if item.id in test else "train") for item in listing.items)
    counts = (
        (len(ids - train - test), "images are in neither {0} nor {1}; they go to train"),
        (len((train | test) - ids), "names of {0} and {1} have no image here"),
    )
    notes = [f"{count} {text.format(_TRAIN, _VAL)}" for count, text in counts if count]
    both = len(ids & train & test)
    warnings = [f"{both} images are in both {_TRAIN} and {_VAL}; they go to test"] if both else []
    return replace(
        listing, items=items, notes=(*listing.notes, *notes), warnings=(*listing.warnings, *warnings)
    )


def _names(path: Path) -> set[str]:
    """One name a line, with or without folder and suffix."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    names = (PureWindowsPath(line.strip()) for line in lines)  # takes both kinds of slashes
    return {name.stem if is_picture(name.name) else name.name for name in names if name.name}


KVASIR = Kind(
    title="Kvasir-SEG",
    layout="images/ and masks/ with the same names of 25 characters (cju0qkwl35piu0993l0dewei2.jpg, ...)",
    source="https://datasets.simula.no/kvasir-seg/",
    licence="research and education; commercial use only with the authors' permission (as its page states;"
    " read it there)",
    split_rule="where train.txt and val.txt of the official split (880/120) lie beside images/, val.txt is"
    " test and val is a seeded 10 % of train.txt; else train, val and test are drawn with a seed "
    " (70/10/20). Which patient a frame shows is not published",
    matches=matches,
    list_items=list_items,
    expected=1000,
    annotations="kvasir_polyp",
    archives=("kvasir-seg*.zip", "kvasir_seg*.zip", "kvasirseg*.zip"),
    downloads=(
        Download(
            url="https://datasets.simula.no/downloads/kvasir-seg.zip",
            name="kvasir-seg.zip",
            sha256="03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7",
        ),
    ),
    terms="Kvasir-SEG may be used for research and education, with a citation of Jha et al., Kvasir-SEG: A"
    " Segmented Polyp Dataset (MMM 2020); commercial use needs the authors' permission. The terms are at"
    " https://datasets.simula.no/kvasir-seg/",
)
