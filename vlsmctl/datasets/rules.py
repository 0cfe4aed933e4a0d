"""How images and masks go together in a folder that nobody has described, found by names alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.pairs import ends_with, is_picture, split_name
from vlsmctl.datasets.volumes import FIRST_CHANNEL, may_be_series, volume_stems
from vlsmctl.errors import UsageError

_IMAGES = (
    "images", "image", "imgs", "img", "photos", "photo", "pictures", "frames", "scans", "volumes", "input",
    "inputs", "data", "x", "imagestr", "jpegimages", "original", "originals", "originalimages",
)  # fmt: skip
_MASKS = (
    "masks", "mask", "labels", "label", "gt", "groundtruth", "groundtruths", "annotations", "annotation",
    "segmentations", "segmentation", "seg", "labelstr", "segmentationclass", "targets", "target", "y",
)  # fmt: skip
_WORDS = (
    "mask", "masks", "seg", "segmentation", "gt", "label", "labels", "annotation", "annotations",
)  # fmt: skip
_MASK_SUFFIXES = tuple(join + word for word in _WORDS for join in "_-")
_IMAGE_SUFFIXES = ("", "_image", "-image", "_img", "-img", FIRST_CHANNEL)
SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_TOLD = 5


@dataclass(frozen=True)
class Part:
    """Two folders of images and masks, or one that holds both.

    kind: "pictures" or "volumes". images, masks: below the root, with forward slashes ("" is the root).
    A mask is called as its image, less `image_suffix`, plus `mask_suffix`. stems: of the images that have
    a mask. text: the rule in words. split: as the folders say.
    """

    kind: str
    images: str
    masks: str
    image_suffix: str
    mask_suffix: str
    stems: frozenset[str]
    text: str
    split: str | None = None


@dataclass(frozen=True)
class Rule:
    """How images and masks go together below a folder. kind: "pictures" or "volumes". text: in words."""

    kind: str
    parts: tuple[Part, ...]
    text: str


def find_rule(folder: Folder) -> Rule | None:
    """How the images and masks of a folder go together, by names alone; the rule with the most pairs.
    None: at least half of the images, or of the masks, must find their partners by it."""
    layouts = [*_side_by_side(folder), _splits_above(folder)]
    if one := _part(folder, folder, "", ""):
        layouts.append([one])
    best = max(layouts, key=_pairs, default=[])
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
    for images in folder.folders:
        for masks in folder.folders if _plain(images) in _IMAGES else ():
            left, right = folder.below(images), folder.below(masks)
            if masks == images or _plain(masks) not in _MASKS or left is None or right is None:
                continue
            whole = _part(left, right, images, masks)
            if whole is None:
                yield _splits_below(left, right, images, masks)
            elif _plain(images) == "imagestr" and (tests := _tests(folder)):
                yield [replace(whole, split="train"), tests]
            else:
                yield [whole]


def _tests(folder: Folder) -> Part | None:
    """nnU-Net's test images, where they have labels."""
    images, masks = folder.below("imagesTs"), folder.below("labelsTs")
    if images is None or masks is None:
        return None
    part = _part(images, masks, images.path.name, masks.path.name)
    return replace(part, split="test") if part else None


def _splits_below(left: Folder, right: Folder, images: str, masks: str) -> list[Part]:
    """images/train with masks/train, and so on."""
    parts = []
    for name in left.folders:
        first, second = left.below(name), right.below(name)
        if name.lower() in SPLIT_FOLDERS and first is not None and second is not None:
            part = _part(first, second, f"{images}/{name}", f"{masks}/{name}")
            parts += [replace(part, split=SPLIT_FOLDERS[name.lower()])] if part else []
    return parts


def _splits_above(folder: Folder) -> list[Part]:
    """train/images with train/masks, and so on."""
    parts: list[Part] = []
    for name in folder.folders:
        here = folder.below(name) if name.lower() in SPLIT_FOLDERS else None
        if here is None:
            continue
        one = _part(here, here, "", "")
        found = max([*_side_by_side(here), [one] if one else []], key=_pairs)
        parts += [
            replace(
                part,
                images=f"{name}/{part.images}".rstrip("/"),
                masks=f"{name}/{part.masks}".rstrip("/"),
                split=SPLIT_FOLDERS[name.lower()],
            )
            for part in found
        ]
    return parts


def _part(images: Folder, masks: Folder, left: str, right: str) -> Part | None:
    """How two folders, or one, go together; left, right: what they are called in the part."""
    found = [
        part
        for kind in ("pictures", "volumes")
        if (part := _part_of_kind(kind, images, masks, left, right)) is not None
    ]
    return max(found, key=lambda part: len(part.stems), default=None)


def _part_of_kind(kind: str, images: Folder, masks: Folder, left: str, right: str) -> Part | None:
    same = images is masks
    names = _stems(kind, images, not same)
    mask_names = names if same else _stems(kind, masks, not same)
    match = _match(set(names), set(mask_names), same)
    if match is None:
        return None
    stems, image_suffix, mask_suffix = match
    stem = min(stems)
    key = stem[: len(stem) - len(image_suffix)]
    image = names[stem]
    mask = next(name for each, name in mask_names.items() if each.lower() == (key + mask_suffix).lower())
    if not all(
        name not in folder.folders or may_be_series(folder, name)
        for folder, name in ((images, image), (masks, mask))
    ):
        return None
    endings = (image[len(stem) :] or "/", mask[len(key + mask_suffix) :] or "/")
    called = (f"NAME{image_suffix}{endings[0]}", f"NAME{mask_suffix}{endings[1]}")
    if same:
        text = f"{called[0]} with {called[1]} in one folder"
    elif image_suffix or mask_suffix:
        text = f"{left}/{called[0]} with {right}/{called[1]}"
    else:
        text = f"{left}/ and {right}/ with equal names"
    return Part(kind, left, right, image_suffix, mask_suffix, frozenset(stems), text)


def _stems(kind: str, folder: Folder, series: bool) -> dict[str, str]:
    """Name without its extension -> name."""
    if kind == "volumes":
        return dict(volume_stems(folder, series))
    return {split_name(name)[0]: name for name in folder.files if is_picture(name)}


def _match(images: set[str], masks: set[str], same: bool) -> tuple[set[str], str, str] | None:
    """The stems of the images that have a mask, and the suffixes of image and mask by which they do."""
    if not same and _enough(equal := images & masks, images, masks):
        return equal, "", ""
    best: tuple[set[str], str, str] | None = None
    for mask_suffix in _MASK_SUFFIXES if same else ("", *_MASK_SUFFIXES):
        own = {stem for stem in masks if ends_with(stem, mask_suffix)}
        keys = {stem[: len(stem) - len(mask_suffix)] for stem in own}
        rest = images - own if same else images
        for image_suffix in _IMAGE_SUFFIXES if keys else ():
            partners = {
                stem
                for stem in rest
                if ends_with(stem, image_suffix) and stem[: len(stem) - len(image_suffix)] in keys
            }
            if _enough(partners, rest, own) and (best is None or len(partners) > len(best[0])):
                best = partners, image_suffix, mask_suffix
    return best


def _enough(pairs: set[str], images: set[str], masks: set[str]) -> bool:
    return bool(pairs) and 2 * len(pairs) >= min(len(images), len(masks))


def _plain(name: str) -> str:
    """A folder's name for comparing: "Ground Truth" and "ground_truth" are the same."""
    return re.sub(r"[\s_-]+", "", name.lower())


def passed_over(folder: Folder, rule: Rule) -> tuple[str, ...]:
    """The folders that the rule has no use for."""
    used = {path.split("/")[0] for part in rule.parts for path in (part.images, part.masks)}
    if "" in used:
        return ()  # a folder that holds images and masks: each stray is left out by name
    unused = [f"{name}/" for name in folder.folders if name not in used]
    more = f" and {len(unused) - _TOLD} more" if len(unused) > _TOLD else ""
    return (f"not used: {', '.join(unused[:_TOLD])}{more}",) if unused else ()


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
        f"{folder.path}: expected images/ and masks/ with equal names, or NAME.png with NAME_mask.png; "
        f"found {found}",
        hint="rename or link your files so; train/, val/ and test/ above them give the split",
    )
