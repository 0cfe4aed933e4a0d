"""Which names belong together: text alone, no file is looked at.

Names are paths relative to a folder, with forward slashes and without the extension ("a/case1"). First
those that are equal go together. What is left over gets a second try: with an ending such as `_mask`,
which tells what a file is for, taken off, and whatever the case of its letters; but only where that
leaves no choice anywhere in the two folders.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vlsmctl.datasets.affixes import FIRST_CHANNEL, LABEL_WORDS, MODALITIES
from vlsmctl.formats.naming import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, SEG_SUFFIX

Claim = tuple[str, str | None]  # a case that a name may stand for, and the prompt that it names
Slots = Callable[[int], Collection[Hashable] | None]

_JOINS = "_-. /"
_MASK_WORDS = (*LABEL_WORDS, "pred", "preds", "prediction", "predictions", "predicted")
_IMAGE_WORDS = ("image", "img", FIRST_CHANNEL[1:], *MODALITIES)
_WORDS = frozenset((*_MASK_WORDS, *_IMAGE_WORDS))
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
    rivals: two items that claim one place, and the number of its name. near: of those that were found
    at the second try, what was taken off the item and off the name. unsure: two items (or one, twice)
    and two names, one of them twice, that left a choice, so that there was no second try."""

    found: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    rivals: list[tuple[int, int, int]] = field(default_factory=list)
    near: dict[int, tuple[str, str]] = field(default_factory=dict)
    unsure: tuple[int, int, int, int] | None = None


def _one_place(_: int) -> None:
    return None


def link(
    items: Sequence[Sequence[Claim]], names: Sequence[Sequence[str]], slots: Slots = _one_place
) -> Links:
    """Which item belongs to which name.

    items: the claims of each, the likeliest first. names: of each, all that it goes by, the proper one
    first; what two of them go by is the name of neither. slots: the places of a name that an item takes
    (prompts that it answers); None: the one of the prompt that its name holds; None among them leaves
    room for no other.
    """
    by_name = index(names)
    links = Links()
    taken: dict[int, dict[Hashable, int]] = defaultdict(dict)
    for number, claims in enumerate(items):
        hit = next(((by_name[case], slug) for case, slug in claims if case in by_name), None)
        if hit is None:
            continue
        rival = _take(taken[hit[0]], number, _places(slots(number), hit[1]))
        if rival is None:
            links.found[number] = hit
        else:
            links.rivals.append((rival, number, hit[0]))
    free = [number for number in range(len(items)) if number not in links.found]
    if links.rivals or not free or len(taken) == len(names):
        return links
    return _second_try(items, names, slots, links, taken, free)


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


def _places(own: Collection[Hashable] | None, slug: str | None) -> Collection[Hashable]:
    return (slug,) if own is None else own


def _take(taken: dict[Hashable, int], number: int, places: Collection[Hashable]) -> int | None:
    """Takes the places; or, where there is no room for all of them, the item that is there already."""
    for place in places:
        there = taken.values() if place is None else [taken[one] for one in (place, None) if one in taken]
        rival = next((other for other in there if other != number), None)
        if rival is not None:
            return rival
    taken.update(dict.fromkeys(places, number))
    return None


def _second_try(
    items: Sequence[Sequence[Claim]],
    names: Sequence[Sequence[str]],
    slots: Slots,
    links: Links,
    taken: dict[int, dict[Hashable, int]],
    free: Sequence[int],
) -> Links:
    """With endings taken off; all or nothing, as a choice in one place makes the rest a guess, too."""
    alone = _alone(own[0] for own in names if own)
    bare: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, own in enumerate(names):
        for name in own:
            for ending, stem in endings(name, alone):
                if (number, ending) not in bare[stem]:
                    bare[stem].append((number, ending))
    alone = _alone(claims[0][0] for claims in items if claims)
    found: dict[int, tuple[int, str | None]] = {}
    near: dict[int, tuple[str, str]] = {}
    for number in free:
        hits = _hits(items[number], bare, alone)
        for target, slug, *ways in hits:
            other = found.get(number, (target, None))[0]
            if other != target:
                return _unsure(links, number, number, other, target)
            if number in found:
                continue
            rival = _take(taken[target], number, _places(slots(number), slug))
            if rival is not None:
                return _unsure(links, rival, number, target, target)
            found[number], near[number] = (target, slug), (ways[0], ways[1])
    return Links({**links.found, **found}, [], near)


def _unsure(links: Links, item: int, other: int, name: int, other_name: int) -> Links:
    return Links(links.found, links.rivals, {}, (item, other, name, other_name))


def _hits(
    claims: Iterable[Claim], bare: Mapping[str, Sequence[tuple[int, str]]], alone: Collection[str]
) -> list[tuple[int, str | None, str, str]]:
    """The names that an item may belong to: number, prompt, and the two endings. The first claim that
    fits any decides."""
    for case, slug in claims:
        hits = [
            (number, slug, ending, other)
            for ending, stem in endings(case, alone)
            for number, other in bare.get(stem, ())
            if (ending, other) != ("/", "/")  # two names with nothing in common
        ]
        if hits:
            return hits
    return []


def endings(name: str, alone: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """What may be taken off a name, and what is left of it in small letters: of "A/case1_mask" nothing,
    and "_mask"; of "case1/mask" the whole last part. alone: folders with a single file, which the
    folder's name may stand for ("/" is taken off)."""
    low = name.casefold()
    yield "", low
    cut = max(low.rfind(join) for join in _JOINS)
    rest = low[:cut].rstrip() if cut > 0 else ""
    known = low[cut + 1 :] in _WORDS and rest and not rest.endswith("/")
    if known:
        yield low[cut:], rest
    folder = name.rpartition("/")[0]
    if folder in alone and not (known and low[cut] == "/"):
        yield "/", folder.casefold()


def _alone(names: Iterable[str]) -> set[str]:
    """The folders with a single name in them."""
    counts = Counter(name.rpartition("/")[0] for name in names)
    return {folder for folder, count in counts.items() if folder and count == 1}


def said_of_near(
    links: Links, item_names: Sequence[str], names: Sequence[Sequence[str]], what: str
) -> list[str]:
    """A line for each way in which names differ that were taken for the same. what: the items,
    "predictions"."""
    ways: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, way in links.near.items():
        ways[way].append(number)
    lines = []
    for (off_item, off_name), numbers in sorted(ways.items()):
        example = f"{item_names[numbers[0]]!r} for {names[links.found[numbers[0]][0]][0]!r}"
        how = [
            f"{ending!r} taken off the name of the {whose}"
            if ending != "/"
            else f"the {whose}'s folder for its name"
            for ending, whose in ((off_item, what.removesuffix("s")), (off_name, "target"))
            if ending
        ]
        said = " and ".join(how) or "upper and lower case taken for the same"
        lines.append(f"{len(numbers)} {what} matched with {said}: {example}")
    return lines


def said_of_unsure(
    links: Links, item_names: Sequence[str], names: Sequence[Sequence[str]], what: str
) -> list[str]:
    """Why there was no second try, in a line; nothing where there was one, or no need."""
    if links.unsure is None:
        return []
    item, other, name, other_name = links.unsure
    choice = (
        f"{item_names[item]!r} could be for {names[name][0]!r} or {names[other_name][0]!r}"
        if item == other
        else f"{item_names[item]!r} and {item_names[other]!r} could both be for {names[name][0]!r}"
    )
    return [f"{what} whose names only resemble those of targets were not matched, for {choice}"]
