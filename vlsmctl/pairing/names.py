"""Which names belong together: text alone, no file is looked at.

Names are paths relative to a folder, with forward slashes and without the extension ("a/case1"). First
those that are equal go together. What is left over gets a second try: with a word that says that a file is
a mask (`_mask`; `_pred` of predictions, `_gt` of targets) taken off the names of one side, "case1/mask"
read as "case1", and whatever the case of letters; but only where that leaves no choice.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlsmctl.datasets.affixes import FIRST_CHANNEL, LABEL_WORDS
from vlsmctl.formats.naming import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, SEG_SUFFIX

Claim = tuple[str, str | None]  # a case that a name may stand for, and the prompt that it names
Slots = Callable[[int], Collection[Hashable] | None]

_JOINS = "_-. /"
_SEGMENTED = ("mask", "masks", "seg", "segs", "segmentation", "segmentations")
# A prediction that is called "gt" is a copy of a target
OF_PREDICTIONS = frozenset((*_SEGMENTED, "pred", "preds", "prediction", "predictions", "predicted"))
OF_TARGETS = frozenset((*_SEGMENTED, *LABEL_WORDS, "truth", "groundtruth"))
MASK_WORDS = OF_PREDICTIONS | OF_TARGETS
_SECOND_CHANNEL = "_0001"
_SUFFIXES = tuple(
    sorted(
        (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *DICOM_SUFFIXES, SEG_SUFFIX, ".mha", ".mhd"),
        key=len,
        reverse=True,
    )
)


def without_extension(name: str) -> str:
    """ "a/case1.nii.gz" -> "a/case1", "head.seg.dcm" -> "head"."""
    low = name.lower()
    if not low.endswith(_SUFFIXES):
        return name
    suffix = next(one for one in _SUFFIXES if low.endswith(one))
    return name[: -len(suffix)] if len(name) > len(suffix) else name


def composed(name: str) -> str:
    """One spelling of letters with accents; macOS may use another."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def key(relative: str) -> str:
    """The name of a case, from the relative path of a file."""
    return composed(without_extension(relative))


def image_claims(name: str) -> Iterator[Claim]:
    """The cases that a name may stand for, the likeliest first: two scans that would collide keep their
    extension (case1.jpg.png)."""
    yield name, None
    bare = without_extension(name)
    if bare != name:
        yield bare, None


def mask_claims(name: str) -> Iterator[Claim]:
    """The same with the prompt in it, as `predict` names the masks of several: case1__polyp."""
    yield from image_claims(name)
    bare = without_extension(name)
    case, mark, slug = bare.rpartition("__")
    if mark and slug and "/" not in slug:
        for stem, _ in image_claims(case):
            yield stem, slug


@dataclass(frozen=True)
class Links:
    """found: of an item, the number of the name that it belongs to, and the prompt that it names.
    rivals: two items that claim one place, and the number of its name. notes: how names differ that were
    taken for the same at the second try, or why there was none."""

    found: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    rivals: list[tuple[int, int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _one_place(_: int) -> None:
    return None


def link(
    items: Sequence[Sequence[Claim]],
    names: Sequence[Sequence[str]],
    what: str = "predictions",
    slots: Slots = _one_place,
    words: Collection[str] = OF_PREDICTIONS,
) -> Links:
    """Which item belongs to which name.

    items: the claims of each, its whole name first. names: of each, all that it goes by, the proper one
    first; what two of them go by is the name of neither. what: the items are, for notes. slots: the places
    of a name that an item takes (prompts that it answers); None: the one of the prompt that its name
    holds; None among them leaves room for no other. words: that may be taken off the end of an item.
    """
    by_name = index(names)
    links = Links()
    taken: _Taken = defaultdict(dict)
    for number, claims in enumerate(items):
        hit = next(((by_name[case], slug) for case, slug in claims if case in by_name), None)
        if hit is None:
            continue
        rival = _take(taken[hit[0]], number, slots(number), hit[1])
        if rival is None:
            links.found[number] = hit
        else:
            links.rivals.append((rival, number, hit[0]))
    free = [number for number in range(len(items)) if number not in links.found]
    if not links.rivals and free and len(taken) < len(names):
        near, why = _second_try(items, names, slots, taken, free, words)
        links.found.update((number, (one.target, one.slug)) for number, one in near.items())
        links.notes.extend(_ways(near, items, names, what))
        if why is not None:
            links.notes.append(f"{what} whose names only resemble a target's were not matched: {why}")
    return links


def index(names: Sequence[Sequence[str]]) -> dict[str, int]:
    """The number of each name. Proper names come before the others, and those of two are left out."""
    proper = {own[0]: number for number, own in enumerate(names) if own}
    further: dict[str, int] = {}
    doubled: set[str] = set()
    for number, own in enumerate(names):
        for name in own[1:]:
            if further.setdefault(name, number) != number:
                doubled.add(name)
    return {**{name: number for name, number in further.items() if name not in doubled}, **proper}


_Taken = defaultdict[int, dict[Hashable, int]]  # of each name, its places and the items in them


def _take(
    taken: dict[Hashable, int], number: int, own: Collection[Hashable] | None, slug: str | None
) -> int | None:
    """Takes the item's places; or, where there is no room for all of them, the item that is there."""
    places = (slug,) if own is None else own
    for place in places:
        there = taken.values() if place is None else [taken[one] for one in (place, None) if one in taken]
        rival = next((other for other in there if other != number), None)
        if rival is not None:
            return rival
    taken.update(dict.fromkeys(places, number))
    return None


@dataclass(frozen=True)
class _Near:
    """A name that an item resembles, and what was taken off both to make them equal."""

    target: int
    slug: str | None
    off_item: str
    off_name: str

    @property
    def counts(self) -> bool:
        """An ending is taken off one side only; a file that is called "mask" or "pred", and nothing else,
        goes by its folder on both."""
        return not self.off_item or not self.off_name or self.off_item[0] == self.off_name[0] == "/"


def _second_try(
    items: Sequence[Sequence[Claim]],
    names: Sequence[Sequence[str]],
    slots: Slots,
    taken: _Taken,
    free: Sequence[int],
    words: Collection[str],
) -> tuple[dict[int, _Near], str | None]:
    """What resembles; and the choice, if any, that this leaves somewhere: there, nothing is matched."""
    bare: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for number, own in enumerate(names):
        for ending, stem in sorted({one for name in own for one in endings(name, OF_TARGETS)}):
            bare[stem].setdefault(number, ending)
    called = {claims[0][0].casefold() for claims in items}
    hits = {number: _hits(items[number], bare, called, words) for number in free}
    closed, whys = _choices(hits, items, names, slots, taken)
    near = {
        number: hit
        for number, own in hits.items()
        for target, hit in own.items()
        if target not in closed and hit.counts
    }
    sides = [
        next((number for number, hit in near.items() if hit.off_item and not hit.off_name), None),
        next((number for number, hit in near.items() if hit.off_name and not hit.off_item), None),
    ]
    pairs = [f"{items[n][0][0]!r} and {names[near[n].target][0]!r}" for n in sides if n is not None]
    if len(pairs) > 1:  # a habit that changes within a folder makes all of it a guess
        return {}, f"endings would be taken off both sides: {' but '.join(pairs)}"
    return near, next(iter(whys), None)


def _choices(
    hits: Mapping[int, Mapping[int, _Near]],
    items: Sequence[Sequence[Claim]],
    names: Sequence[Sequence[str]],
    slots: Slots,
    taken: _Taken,
) -> tuple[set[int], list[str]]:
    """The names that an item may belong to, or another, or for which there are two; with the reasons."""
    closed: set[int] = set()
    whys: list[str] = []
    places: _Taken = defaultdict(dict)
    for number, own in hits.items():
        item = items[number][0][0]
        if len(own) > 1:
            one, other = (names[target][0] for target in sorted(own)[:2])
            whys.append(f"{item!r} could be for {one!r} or {other!r}")
            closed.update(own)
        for target, hit in own.items():
            there = places.setdefault(target, {**taken.get(target, {})})
            rival = _take(there, number, slots(number), hit.slug)
            if rival is not None and len(own) == 1:
                whys.append(f"{items[rival][0][0]!r} and {item!r} could both be for {names[target][0]!r}")
            if rival is not None:
                closed.add(target)
    return closed, whys


def _hits(
    claims: Iterable[Claim],
    bare: Mapping[str, Mapping[int, str]],
    called: Collection[str],
    words: Collection[str],
) -> dict[int, _Near]:
    """The names that an item may belong to. The first claim that fits any decides. called: what items
    are called; a first channel beside a second one is no mask."""
    for case, slug in claims:
        ways = list(endings(case, words))
        rest = ways[0][1].removesuffix(FIRST_CHANNEL)
        if rest and rest != ways[0][1] and rest + _SECOND_CHANNEL not in called:
            ways.append((FIRST_CHANNEL, rest))
        hits: dict[int, _Near] = {}
        for ending, stem in ways:
            for target, other in bare.get(stem, {}).items():
                hits.setdefault(target, _Near(target, slug, ending, other))
        if hits:
            return hits
    return {}


def endings(name: str, words: Collection[str]) -> Iterator[tuple[str, str]]:
    """What may be taken off a name, and what is left of it in small letters: of "A/case1_mask" nothing,
    and "_mask"; of "case1/mask" nothing, and "/mask". words: that may be."""
    low = name.casefold()
    yield "", low
    cut = max(low.rfind(join) for join in _JOINS)
    rest = low[: max(cut, 0)].rstrip(" " if low[cut : cut + 1] == "/" else _JOINS.replace("/", ""))
    if low[cut + 1 :] in words and rest and not rest.endswith("/"):
        yield low[len(rest) :], rest


def resembling(
    items: Sequence[Sequence[Claim]], names: Sequence[Sequence[str]], free: Collection[int]
) -> list[tuple[str, str]]:
    """Items and names (the proper ones) that are the same with all words for masks taken off both,
    whatever the case of letters. free: the numbers of the names that may be."""
    stems: dict[str, str] = {}
    for name, number in index(names).items():
        if number in free:
            stems.setdefault(_bare(name), names[number][0])
    found: list[tuple[str, str]] = []
    for claims in items:
        stem = next((stem for stem in (_bare(case) for case, _ in claims) if stem in stems), None)
        if stem is not None:
            found.append((claims[0][0], stems[stem]))
    return found


def _bare(name: str) -> str:
    """A name without any words for masks at its end, in small letters."""
    while True:
        *_, (ending, name) = endings(name, MASK_WORDS)
        if not ending:
            return name


def _ways(
    near: Mapping[int, _Near], items: Sequence[Sequence[Claim]], names: Sequence[Sequence[str]], what: str
) -> Iterator[str]:
    """A line for each way in which names differ that were taken for the same."""
    ways: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, hit in near.items():
        ways[hit.off_item, hit.off_name].append(number)
    for (off_item, off_name), numbers in sorted(ways.items()):
        off = ((off_item, what.removesuffix("s")), (off_name, "target"))
        said = [f"{ending!r} taken off the name of the {whose}" for ending, whose in off if ending]
        how = " and ".join(said) or "upper and lower case taken for the same"
        example = f"{items[numbers[0]][0][0]!r} for {names[near[numbers[0]].target][0]!r}"
        yield f"{len(numbers)} {what} matched with {how}: {example}"
