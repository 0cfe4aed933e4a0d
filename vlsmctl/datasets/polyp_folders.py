"""What the folders of the polyp sets have in common: two folders of pictures, numbered names."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import SUFFIXES, is_picture, relative, split_name
from vlsmctl.datasets.records import Item, LeftOut, Listing
from vlsmctl.datasets.sources import MaskFiles, Picture

IMAGES, MASKS = ("images", "image"), ("masks", "mask")
NUMBER = re.compile(r"[0-9]{1,4}")
PRANET_SOURCE = "https://github.com/DengPingFan/PraNet (TestDataset)"
PRANET_TERMS = "for research and education only, as PraNet's page says"
PRANET_LICENCE = "research and education only, as PraNet's page says; no licence text of its own was found"
_MOSTLY = 0.9  # a stray file does not make it another data set
_SPLIT_LATER = (
    "no split of its own: train, val and test are drawn with a seed (70/10/20). PraNet's protocol trains on"
    " other sets and tests on all of this one: vlsmctl eval RUN --data data/{name} --split all"
)


@dataclass(frozen=True)
class Parts:
    """The folder of the images and that of the masks; they may be one."""

    images: Folder
    masks: Folder


def find_parts(
    folder: Folder, images: tuple[str, ...] = IMAGES, masks: tuple[str, ...] = MASKS
) -> Parts | None:
    """The subfolders of images and masks, under the first of their possible names that is there."""
    found = [
        next((part for name in names if (part := folder.below(name)) is not None), None)
        for names in (images, masks)
    ]
    return Parts(found[0], found[1]) if found[0] and found[1] else None


def plain_name(folder: Folder) -> str:
    """A folder's name in small letters and digits alone: "ETIS-Larib Polyp DB" -> "etislaribpolypdb"."""
    path = folder.path
    name = path.resolve().name if path.name in ("", "..") else path.name  # "." has no name of its own
    return "".join(letter for letter in name.lower() if letter.isalnum())


def pictures(folder: Folder) -> list[str]:
    """The stems of the pictures in a folder."""
    return [split_name(name)[0] for name in folder.files if is_picture(name)]


def mostly(stems: list[str], pattern: re.Pattern[str]) -> bool:
    """Whether nine in ten stems, and at least one, have the pattern."""
    return bool(stems) and sum(bool(pattern.fullmatch(stem)) for stem in stems) >= _MOSTLY * len(stems)


def is_marked(parts: Parts, mark: str, suffix: str = "") -> bool:
    """Whether most images <n>.* have a mask <mark><n>.*, all of it with `suffix` (any, if empty)."""
    images, masks = (
        _numbered(folder, start, suffix) for folder, start in ((parts.images, ""), (parts.masks, mark))
    )
    both = len(images.keys() & masks.keys())
    return both > 0 and both >= _MOSTLY * max(len(images), len(masks))


def pair_marked(root: Path, parts: Parts, mark: str, others: str = "") -> Listing:
    """Pairs the image <n>.* with the mask <mark><n>.* by names alone; the id is the image's stem.

    `others`: marks of further pictures <other><n>.*, which are passed over. What has no partner, shares
    its number with another file, or is no such picture is left out.
    """
    images, masks = _numbered(parts.images, ""), _numbered(parts.masks, mark)
    left_out = _strangers(root, parts, mark, others)
    items: list[Item] = []
    for number in sorted(images.keys() | masks.keys()):
        image, mask = images.get(number, []), masks.get(number, [])
        if len(image) == len(mask) == 1:
            source, target = parts.images.path / image[0], parts.masks.path / mask[0]
            items.append(Item(split_name(image[0])[0], Picture(source), MaskFiles((target,))))
            continue
        folder, name = (parts.images, image[0]) if image else (parts.masks, mask[0])
        expected = f"one image {number}.* and one mask {mark}{number}.*"
        found = ", ".join(image + mask) + " alone" * (len(image + mask) == 1)
        left_out.append(LeftOut(relative(folder.path / name, root), expected, found))
    return Listing(tuple(items), tuple(sorted(left_out, key=lambda each: each.file)))


def split_rule(name: str) -> str:
    """How the sets that PraNet only tests on are split here."""
    return _SPLIT_LATER.format(name=name)


def read_parts(root: Path) -> Parts | None:
    """The folders images/ and masks/ of a raw folder."""
    return find_parts(read_folder(root))


def _numbered(folder: Folder, mark: str, suffix: str = "") -> dict[int, list[str]]:
    """The pictures called <mark><n>.*, by their numbers."""
    named = re.compile(re.escape(mark) + r"([0-9]{1,9})", re.IGNORECASE)
    files: dict[int, list[str]] = defaultdict(list)
    for name in folder.files:
        if name.lower().endswith(suffix or SUFFIXES) and (match := named.fullmatch(split_name(name)[0])):
            files[int(match[1])].append(name)
    return dict(files)


def _strangers(root: Path, parts: Parts, mark: str, others: str) -> list[LeftOut]:
    """The files that are neither image nor mask by their names."""
    one_folder = parts.images.path == parts.masks.path
    rows = (
        [(parts.images, ("", mark, *others))]
        if one_folder
        else [(parts.images, ("", *others)), (parts.masks, (mark, *others))]
    )
    left_out: list[LeftOut] = []
    for folder, marks in rows:
        known = {name for each in marks for names in _numbered(folder, each).values() for name in names}
        expected = "pictures called " + " or ".join(f"{each}<n>" for each in marks if each not in others)
        left_out += [
            LeftOut(relative(folder.path / name, root), expected, "another name", "kind")
            for name in folder.files
            if name not in known
        ]
    return left_out
