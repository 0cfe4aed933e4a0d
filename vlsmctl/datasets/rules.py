"""How images and masks go together in a folder that nobody has described, found by names alone.

A layout is two patterns of folders, one of images and one of masks, or the same for both: "images" and
"masks", "train/images" and "train/masks", "*/images" and "*/masks" or "*" ("*": any folder, a patient).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlsmctl.datasets.affixes import Affix, match
from vlsmctl.datasets.cases import are_cases, called_by_folder, is_inner, may_be_cases
from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.pairs import Named, Place, Side, is_picture, picture_names
from vlsmctl.datasets.volumes import is_series, may_be_series, volume_names
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.formats.naming import scan_suffix

_IMAGES = (
    "images", "image", "imgs", "img", "photos", "photo", "pictures", "frames", "scans", "volumes", "input",
    "inputs", "data", "x", "imagestr", "jpegimages", "original", "originals", "originalimages",
)  # fmt: skip
_MASKS = (
    "masks", "mask", "labels", "label", "gt", "groundtruth", "groundtruths", "annotations", "annotation",
    "segmentations", "segmentation", "seg", "labelstr", "segmentationclass", "targets", "target", "y",
)  # fmt: skip
SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_DEEPEST = 5
_TOLD = 5


@dataclass(frozen=True)
class Part:
    """Two patterns of folders with images and masks, or one that holds both.

    kind: "pictures" or "volumes". images, masks: patterns below the root, with forward slashes ("" is the
    root). is_deep: folders below them count too. image, mask: how they are called. stems: of the images
    that have a mask. text: the rule in words. split: as the folders say.
    """

    kind: str
    images: str
    masks: str
    is_deep: bool
    image: Affix
    mask: Affix
    stems: frozenset[str]
    text: str
    split: str | None = None

    def sides(self, root: Folder) -> tuple[Side, Side]:
        """The folders of the images and of the masks."""
        images = Side(_places(root, self.kind, self.images, self.is_deep), self.images, self.image)
        if self.images == self.masks:
            return images, replace(images, affix=self.mask)
        return images, Side(_places(root, self.kind, self.masks, self.is_deep), self.masks, self.mask)


@dataclass(frozen=True)
class Rule:
    """How images and masks go together below a folder. kind: "pictures" or "volumes". text: in words."""

    kind: str
    parts: tuple[Part, ...]
    text: str


def find_rule(folder: Folder, named: bool = False) -> Rule | None:
    """How the images and masks of a folder go together, by names alone; the rule with the most pairs.
    None: at least half of the images, or of the masks, must find their partners by it.

    named: somebody says that the folder is one data set. Else folders beside one another that hold pairs
    are one only where they look like patients, see `cases.are_cases`.
    """
    layouts = [*_side_by_side(folder), _splits_above(folder)]
    if one := _part(folder, "", ""):
        layouts.append([one])
    layouts += _patients(folder, named)
    best = max(layouts, key=_pairs)
    if not best:
        return None
    texts = " or ".join(dict.fromkeys(part.text for part in best))
    splits = [f"{part.split} ({len(part.stems)})" for part in best if part.split]
    text = f"{texts}; split by folders: {', '.join(splits)}" if splits else texts
    return Rule(best[0].kind, tuple(best), text)


def _pairs(parts: list[Part]) -> int:
    return sum(len(part.stems) for part in parts)


def _side_by_side(folder: Folder) -> Iterator[list[Part]]:
    """The ways in which two folders beside one another go together, each as its parts."""
    for images, masks in _pairs_of_names(folder):
        left, right = folder.below(images), folder.below(masks)
        if left is None or right is None:
            continue
        whole = _part(folder, images, masks)
        split = list(_splits_below(folder, images, masks))
        if whole and _plain(images) == "imagestr" and (tests := _tests(folder)):
            yield [replace(whole, split="train"), tests]
        elif whole and len(whole.stems) > _pairs(split):
            yield [whole]
        elif split:
            yield split
        if not split and (deep := _part(folder, images, masks, is_deep=True)):
            yield [deep]


def _pairs_of_names(folder: Folder) -> Iterator[tuple[str, str]]:
    """Folders that are called as those of images and of masks are."""
    masks = [name for name in folder.folders if _plain(name) in _MASKS]
    for images in folder.folders:
        if _plain(images) in _IMAGES:
            yield from ((images, name) for name in masks if name != images)


def _tests(folder: Folder) -> Part | None:
    """nnU-Net's test images, where they have labels."""
    images, masks = folder.below("imagesTs"), folder.below("labelsTs")
    if images is None or masks is None:
        return None
    part = _part(folder, images.path.name, masks.path.name)
    return replace(part, split="test") if part else None


def _splits_below(folder: Folder, images: str, masks: str) -> Iterator[Part]:
    """images/train with masks/train, and so on."""
    left, right = folder.below(images), folder.below(masks)
    for name in left.folders if left is not None else ():
        if name.lower() not in SPLIT_FOLDERS or right is None or right.below(name) is None:
            continue
        patterns = f"{images}/{name}", f"{masks}/{name}"
        found = [_part(folder, *patterns), _part(folder, *patterns, is_deep=True)]
        part = max((each for each in found if each), key=lambda each: len(each.stems), default=None)
        if part is not None:
            yield replace(part, split=SPLIT_FOLDERS[name.lower()])


def _splits_above(folder: Folder) -> list[Part]:
    """train/images with train/masks, and so on."""
    parts: list[Part] = []
    for name in folder.folders:
        here = folder.below(name) if name.lower() in SPLIT_FOLDERS else None
        if here is None:
            continue
        one = _part(here, "", "")
        layouts = [*_side_by_side(here), [one] if one else [], *_patients(here, named=True)]
        parts += [
            replace(
                part,
                images=f"{name}/{part.images}".rstrip("/"),
                masks=f"{name}/{part.masks}".rstrip("/"),
                split=SPLIT_FOLDERS[name.lower()],
            )
            for part in max(layouts, key=_pairs)
        ]
    return parts


def _patients(folder: Folder, named: bool) -> Iterator[list[Part]]:
    """Folders of patients or cases that each hold pairs, by one rule for all."""
    if len(folder.folders) < 2 or not (named or may_be_cases(folder.folders)):
        return
    children = [child for name in folder.folders if (child := folder.below(name)) is not None]
    inner = Counter(
        (_plain(images), _plain(masks)) for child in children for images, masks in _pairs_of_names(child)
    )
    patterns = [("*", "*")]
    for (images, masks), _ in inner.most_common(1):
        first = {_plain(name): name for child in children for name in child.folders}
        patterns.append((f"*/{first[images]}", f"*/{first[masks]}"))
    for left, right in patterns:
        for is_deep in (False, True):
            part = _part(folder, left, right, is_deep)
            if part is not None and _is_one_set(folder, part, named):
                yield [part]


def _is_one_set(folder: Folder, part: Part, named: bool) -> bool:
    """Whether two thirds of all folders hold pairs, and those look like patients (or are said to be)."""
    holders = sorted({stem.split("/")[0] for stem in part.stems})
    if len(holders) < 2 or 3 * len(holders) < 2 * len(folder.folders):
        return False
    return named or are_cases(holders, called_by_folder(part.stems))


def _part(root: Folder, images: str, masks: str, is_deep: bool = False) -> Part | None:
    """How the folders of two patterns go together."""
    found = [
        part
        for kind in ("pictures", "volumes")
        if (part := _part_of_kind(kind, root, images, masks, is_deep)) is not None
    ]
    return max(found, key=lambda part: len(part.stems), default=None)


def _part_of_kind(kind: str, root: Folder, left: str, right: str, is_deep: bool) -> Part | None:
    same = left == right
    images = _places(root, kind, left, is_deep)
    masks = images if same else _places(root, kind, right, is_deep)
    if is_deep and images == _places(root, kind, left, False):
        return None  # there are no folders below
    names = _names(kind, images, not same, labels=False)
    mask_names = _names(kind, masks, not same, labels=True)
    found = match(kind, names.keys(), mask_names.keys(), same)
    if found is None:
        return None
    keys, image, mask = found
    key = min(keys)
    first, second = names[keys[key][0]], mask_names[keys[key][1]]
    if not all(_may_be_volume(places, name) for places, name in ((images, first), (masks, second))):
        return None
    endings = [each.name[len(each.stem.split("/")[-1]) :] or "/" for each in (first, second)]
    text = _in_words((left, right), (image, mask), endings, first, is_deep)
    return Part(kind, left, right, is_deep, image, mask, frozenset(pair[0] for pair in keys.values()), text)


def _in_words(
    patterns: tuple[str, str],
    affixes: tuple[Affix, Affix],
    endings: Sequence[str],
    first: Named,
    is_deep: bool,
) -> str:
    """A part's rule, such as "images/NAME.png with masks/NAME_mask.png"."""
    folders = first.stem.split("/")[:-1]
    called = []
    for pattern, affix, ending in zip(patterns, affixes, endings, strict=True):
        between = "".join(f"{each}/" for each in folders[1:]) if "*" in pattern else "FOLDER/" * is_deep
        path = f"{pattern.replace('*', 'CASE')}/{between}".removeprefix("/")
        called.append(path + ("" if first.name == "." and affix == affixes[0] else affix.called(ending)))
    left, right = patterns
    if left == right:
        return f"{called[0]} with {called[1]}" + ("" if left else " in one folder")
    if affixes == (Affix(), Affix()):
        below = " in the folders below them" if is_deep else ""
        return f"{left.replace('*', 'CASE')}/ and {right.replace('*', 'CASE')}/ with equal names{below}"
    return f"{called[0]} with {called[1]}"


def _places(root: Folder, kind: str, pattern: str, is_deep: bool) -> tuple[Place, ...]:
    """The folders of a pattern, and those below them where they count."""
    found = [Place(root)]
    for name in pattern.split("/") if pattern else ():
        if name == "*":
            found = [
                Place(child, f"{place.within}{each}/")
                for place in found
                for each in place.folder.folders
                if (child := place.folder.below(each)) is not None
            ]
        else:
            inside = ((place, place.folder.below(name)) for place in found)
            found = [Place(child, place.within) for place, child in inside if child is not None]
    if is_deep:
        only_inner = pattern.endswith("*")
        found = [each for place in found for each in (place, *_below(place, kind, only_inner, 1))]
    return tuple(found)


def _below(place: Place, kind: str, only_inner: bool, depth: int) -> Iterator[Place]:
    """The folders below one; those that hold a DICOM series are no places but volumes."""
    for name in place.folder.folders if depth <= _DEEPEST else ():
        child = place.folder.below(name)
        if child is None or (only_inner and not is_inner(name)):
            continue
        if kind == "volumes" and is_series(place.folder, name):
            continue
        here = Place(child, f"{place.within}{name}/")
        yield here
        yield from _below(here, kind, only_inner, depth + 1)


def _names(kind: str, places: Sequence[Place], series: bool, labels: bool) -> dict[str, Named]:
    """Stem -> what is called so."""
    named = volume_names(places, series, labels) if kind == "volumes" else picture_names(places)
    return {each.stem: each for each in named}


def _may_be_volume(places: Sequence[Place], named: Named) -> bool:
    """False for a folder that is taken for a DICOM series and has no files by such names."""
    place = next(place for place in places if place.folder.path == named.folder)
    return named.name not in place.folder.folders or may_be_series(place.folder, named.name)


def _plain(name: str) -> str:
    """A folder's name for comparing: "Ground Truth" and "ground_truth" are the same."""
    return re.sub(r"[\s_-]+", "", name.lower())


def passed_over(folder: Folder, rule: Rule) -> tuple[str, ...]:
    """The folders that the rule has no use for."""
    used = {path.split("/")[0] for part in rule.parts for path in (part.images, part.masks)}
    if "*" in used:
        beside = [name for name in folder.files if is_picture(name) or scan_suffix(name)]
        return (f"not used: {len(beside)} files beside the folders, {beside[0]} first",) if beside else ()
    if "" in used:
        return ()  # a folder that holds images and masks: each stray is left out by name
    unused = [f"{name}/" for name in folder.folders if name not in used]
    return (f"not used: {listed(unused, shown=_TOLD)}",) if unused else ()


def nothing_pairs(folder: Folder) -> UsageError:
    """Says what was looked for, and shows names where folders are right and names are not."""
    left = next((name for name in folder.folders if _plain(name) in _IMAGES), None)
    right = next((name for name in folder.folders if _plain(name) in _MASKS and name != left), None)
    found = f"the folders {', '.join(folder.folders[:_TOLD]) or 'none'} and {len(folder.files)} files"
    if left and right:
        firsts = [next(iter((*each.files, *each.folders)), "nothing") for name in (left, right)
                  if (each := folder.below(name)) is not None]  # fmt: skip
        found = (
            f"{left}/ ({firsts[0]}, ...) and {right}/ ({firsts[-1]}, ...), whose names do not go together"
        )
    return UsageError(
        f"{folder.path}: expected images/ and masks/ with equal names, or NAME.png with NAME_mask.png, or "
        f"such in a folder for each patient; found {found}",
        hint="rename or link your files so; train/, val/ and test/ above them give the split",
    )
