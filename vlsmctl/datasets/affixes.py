"""How the names of images and of their masks go together: what they share, and what each has beside it.

All of it is text; no file and no folder is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LABEL_WORDS = (
    "mask", "masks", "seg", "segmentation", "gt", "label", "labels", "annotation", "annotations",
)  # fmt: skip
FIRST_CHANNEL = "_0000"  # of nnU-Net, which numbers the channels of a volume
# In the order in which one is taken where examinations have several, and at least four in five have it.
MODALITIES = (
    "flair", "t2f", "t1ce", "t1gd", "t1c", "t2", "t2w", "t1", "t1w", "t1n", "dwi", "adc", "ct", "cta", "mr",
    "mri", "pet", "us", "bold",
)  # fmt: skip
SERIES_WORDS = (
    "dicom", "dcm", "dicoms", "series", "image", "images", "img", "scan", "ct", "mr", "mri", "volume",
)  # fmt: skip
_JOINS = ("_", "-")
_IMAGE_WORDS = ("image", "img", "volume", "vol", "scan", "photo", "frame", "picture", *MODALITIES)
_SUFFIXES = {
    "pictures": ("", "_image", "-image", "_img", "-img", FIRST_CHANNEL),
    "volumes": (
        *("", "_image", "-image", "_img", "-img", FIRST_CHANNEL),
        *(join + word for word in MODALITIES for join in _JOINS),
    ),
}  # fmt: skip
_MOSTLY = 0.8
_WHOLE = ("groundtruth", "ground_truth", *LABEL_WORDS)  # names of masks in a folder of their own


@dataclass(frozen=True)
class Affix:
    """What a name has beside the part that image and mask share: `before` it and `after` it, in any case.

    An `after` that begins with "/" is the whole name, and the folder is what is shared: "/mask" for
    case1/mask.png.
    """

    before: str = ""
    after: str = ""

    def key(self, stem: str) -> str | None:
        """The shared part of a stem (folders, "/", name); None for a name that is not called so."""
        if self.after and not stem.lower().endswith(self.after.lower()):
            return None
        folders, slash, name = stem[: len(stem) - len(self.after)].rpartition("/")
        if len(name) <= len(self.before) or not name.lower().startswith(self.before.lower()):
            return None
        return folders + slash + name[len(self.before) :]

    def stem(self, key: str) -> str:
        """The stem with that shared part."""
        folders, slash, name = key.rpartition("/")
        return f"{folders}{slash}{self.before}{name}{self.after}"

    @property
    def rule(self) -> str:
        """What its names do, in words."""
        ways = (("begins", self.before), ("ends", self.after.removeprefix("/")))
        return " and ".join(f"{way} with '{text}'" for way, text in ways if text)

    def called(self, ending: str) -> str:
        """Its names in words; `ending`: of the file."""
        return f"{self.before}NAME{self.after}{ending}".removeprefix("NAME/")


def match(
    kind: str, images: Iterable[str], masks: Iterable[str], same: bool
) -> tuple[dict[str, tuple[str, str]], Affix, Affix] | None:
    """What image and mask share -> the stems of the two, and how the two are called; of several ways the
    one with the most pairs, of those the first."""
    of_images, of_masks = sorted(images), sorted(masks)
    if not same and _enough(equal := set(of_images) & set(of_masks), of_images, of_masks):
        return {stem: (stem, stem) for stem in equal}, Affix(), Affix()
    best: tuple[dict[str, tuple[str, str]], Affix, Affix] | None = None
    image_ways, mask_ways = _ways(of_images), _ways(of_masks)
    for mask, image in _affixes(kind, same, image_ways, mask_ways):
        own = _keyed(of_masks, mask)
        rest = sorted(set(of_images).difference(own.values())) if same and own else of_images
        others = _keyed(rest, image) if own else {}
        keys = {key: (stem, own[key]) for key, stem in others.items() if key in own}
        # One examination without the preferred modality does not change that of all others.
        both = best is not None and modality(best[1].after) and modality(image.after)
        count = len(keys) * (_MOSTLY if both else 1)
        if _enough(keys, rest, own) and (best is None or count > len(best[0])):
            best = keys, image, mask
    return best


def _keyed(stems: Iterable[str], affix: Affix) -> dict[str, str]:
    return {key: stem for stem in stems if (key := affix.key(stem)) is not None}


def _ways(stems: Iterable[str]) -> frozenset[str]:
    """How names begin and end: of "p1/volume-0_seg" "volume-", "_seg" and "/volume-0_seg". What is not
    there need not be tried."""
    found = {""}
    for stem in stems:
        low = stem.lower()
        name = low.rpartition("/")[2]
        if (last := max(low.rfind(join) for join in "_-/")) >= 0:
            found.add(low[last:])
        if begins := re.match(r"[a-z]+[_-]?", name):
            found.add(begins[0])
        if name != low:
            found.add("/" + name)
    return frozenset(found)


def _affixes(
    kind: str, same: bool, of_images: frozenset[str], of_masks: frozenset[str]
) -> Iterator[tuple[Affix, Affix]]:
    """The ways in which masks and images are called, in the order in which they are preferred."""
    suffixes = [each for each in _SUFFIXES[kind] if each in of_images]
    for ending in (*(() if same else ("",)), *(join + word for word in LABEL_WORDS for join in _JOINS)):
        if ending in of_masks:
            yield from ((Affix("", ending), Affix("", each)) for each in suffixes)
    roles = [
        f"/{word}" for word in dict.fromkeys((*_IMAGE_WORDS, *SERIES_WORDS)) if f"/{word}" in of_images
    ]
    for word in _WHOLE:
        if f"/{word}" in of_masks:
            yield from ((Affix("", f"/{word}"), Affix("", each)) for each in (*roles, ""))
    for word in LABEL_WORDS:
        for join in (*_JOINS, ""):
            if word + join in of_masks:
                befores = [each + join for each in _IMAGE_WORDS if each + join in of_images]
                yield from (
                    (Affix(word + join), Affix(each)) for each in (*befores, *([""] if join else []))
                )


def _enough(pairs: Iterable[str], images: Iterable[str], masks: Iterable[str]) -> bool:
    count = len(list(pairs))
    return count > 0 and 2 * count >= min(len(list(images)), len(list(masks)))


def is_label(stem: str) -> bool:
    """Whether a name ends as those of labels do."""
    return re.split(r"[_/-]", stem.lower())[-1] in LABEL_WORDS


def modality(stem: str) -> str:
    """The modality that a name ends with, in lower case; "" where there is none."""
    last = re.split(r"[_/-]", stem.lower())[-1]
    return last if last in MODALITIES else ""
