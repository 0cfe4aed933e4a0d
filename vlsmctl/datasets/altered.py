"""Prompts that say the same in other words, or something that is wrong for the picture.

By asking a model these beside a record's right prompt, one sees whether it reads them. They are made from
the right prompt's text: what names the class is found first, and nothing within it is ever taken for a
place or a size ("left ventricular cavity", "small bowel").
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import dist
from typing import TypeAlias

from vlsmctl.datasets.attributes import COUNT_WORDS, PLACES, SIZES
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.datasets.prompts import choose_prompt

Span: TypeAlias = tuple[int, int]
Cell: TypeAlias = tuple[int, int]  # row and column in PLACES

RIGHT = "right"
LABELS = {  # the keys of all questions, in the order in which they are asked
    RIGHT: "the right prompt",
    "class-alone": "the class alone (p1)",
    "paraphrase": "the same in other words",
    "empty": "no words at all",
    "other-class": "another class",
    "wrong-place": "a wrong place",
    "wrong-size": "a wrong size",
}
FRAME = "a picture that shows "
# What a set of a single class is asked instead of it: the first class here no part of whose family, by the
# beginnings of words, is named by the set's class or by the prompt.
STRANGERS = {
    "polyp": (
        "polyp", "adenoma", "colon", "colorectal", "bowel", "rectum", "rectal", "intestin", "stomach",
        "gastr", "endoscop",
    ),
    "foot ulcer": ("foot", "feet", "ulcer", "wound", "sore", "toe", "heel", "diabet"),
    "skin melanoma": ("skin", "melanoma", "nevus", "naevus", "mole", "derm"),
    "breast tumor": ("breast", "mamm", "tumor", "tumour", "mass", "nodule", "cancer"),
}  # fmt: skip
# Words of a set's findings that stand for one of its classes
ALIASES = {"lung opacity": "airspace opacity"}

_SYNONYMS = {
    "round": "circular", "circle": "round", "oval": "elliptical", "irregular": "uneven",
    "square": "box-like", "rectangular": "oblong", "rectangle": "oblong", "triangular": "three-cornered",
    "triangle": "three-cornered", "black": "blackish", "gray": "grey", "white": "whitish", "red": "reddish",
    "pink": "rosy", "orange": "orange-coloured", "brown": "brownish", "tan": "beige", "yellow": "yellowish",
    "purple": "violet", "green": "greenish", "blue": "bluish",
}  # fmt: skip
_COUNTS = {"one": "a single", "two": "a pair of"} | {
    word: str(number) for number, word in enumerate(COUNT_WORDS) if number > 2
}
_SIZES = {"tiny": "minuscule", "small": "little", "medium": "mid-sized", "large": "big"}
_PLACES = {
    (0, 0): "upper left", (0, 1): "upper", (0, 2): "upper right",
    (1, 0): "left-hand", (1, 1): "middle", (1, 2): "right-hand",
    (2, 0): "lower left", (2, 1): "lower", (2, 2): "lower right",
}  # fmt: skip
_GRID: dict[Cell, str] = {(row, column): PLACES[row][column] for row in range(3) for column in range(3)}

_BEGIN, _END = r"(?<![\w-])", r"(?![\w-])"
_MIDDLE = r"(?:cent(?:er|re)|middle)"
_PLACE = (
    rf"{_BEGIN}(?:(?:top|bottom|upper|lower|{_MIDDLE})(?:[ -](?:left|right|{_MIDDLE}))?|left|right){_END}"
)
_PLACE_LIST = rf"{_PLACE}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+){_PLACE})*"
_PARTS = r"corner|part|side|third|half|region|area|quadrant|edge"
# "located in top left, bottom of the image"; not "in the left lung"
_LOCATED = re.compile(
    rf"\b(?:(?:located|lying|situated|found)\s+(?:in|at|on)|in|at|on)\s+(?:the\s+)?(?P<places>{_PLACE_LIST})"
    rf"(?!\s*,\s*{_PLACE})(?=\s*(?:$|[.,;:)])|\s+(?:of|in|and|{_PARTS})\b)",
    re.IGNORECASE,
)
_SIZE = rf"{_BEGIN}(?:{'|'.join(SIZES)}){_END}"
_SIZE_LIST = re.compile(rf"{_SIZE}(?:\s*,\s*{_SIZE})*(?!\s+(?:image\s+)?quality\b)", re.IGNORECASE)
_COUNT = re.compile(rf"\s*(?P<count>{'|'.join(_COUNTS)}){_END}(?!\s+hundred)", re.IGNORECASE)
_LOOKS = re.compile(rf"{_BEGIN}(?:{'|'.join(_SYNONYMS)})(?=-shaped\b|{_END})", re.IGNORECASE)
# What is said of a class in a clause of its own: "polyp which is a smooth bump"
_CLAUSE = re.compile(r"\bwhich\b(?:(?!,?\s*\blocated\b)[^.;])*", re.IGNORECASE)
_ABSENT = re.compile(r"\s*(?:no|without)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Altered:
    """A prompt for one record. key: what is asked by it, one of LABELS."""

    key: str
    prompt: str


@dataclass(frozen=True)
class SetFacts:
    """What a whole set tells of the words in its prompts.

    class_word: the set's; None for a pool, where records differ. classes: all that the set has, sorted.
    shown: image -> what is marked in it or said to be in it, in lower case; of sets with several classes.
    descriptions: texts that tell what the class looks like.
    """

    class_word: str | None
    classes: tuple[str, ...] = ()
    shown: Mapping[str, frozenset[str]] | None = None
    descriptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """What a prompt's text names, and where. located: "located in top left", places: "top left" alone;
    sizes: "small, medium", the first of the text."""

    text: str
    classes: list[Span]
    described: list[Span]
    located: list[Span]
    places: list[Span]
    sizes: Span | None


def set_facts(manifest: Manifest) -> SetFacts:
    """The facts of a prepared set, from all of its records, whatever split is asked."""
    word = manifest.info.get("class")
    own = str(word) if isinstance(word, str) and word else None
    classes = sorted({name for each in manifest.records if (name := _class_of(each, own)) is not None})
    descriptions = manifest.info.get("descriptions") or ()
    return SetFacts(
        class_word=own,
        classes=tuple(classes),
        shown=_shown(manifest.records, own) if len(classes) > 1 else None,
        descriptions=tuple(text for text in descriptions if isinstance(text, str) and text),
    )


def questions(record: Record, facts: SetFacts, seed: int) -> tuple[Altered, ...]:
    """What to ask of a record, the right prompt first; see LABELS. Always the same for the same arguments.

    Questions that make no sense for it are left out: a wrong place where the prompt names none, say.
    Nothing is asked where nothing is marked, or where the prompt says that nothing is there.
    """
    name = _class_of(record, facts.class_word)
    found = _right(record, name, facts.descriptions, seed) if record.foreground > 0 else None
    if found is None:
        return ()
    p1 = choose_prompt(record, "p1", seed, 0) if "p1" in record.prompts else None
    texts = {
        RIGHT: found.text,
        "class-alone": p1,
        "paraphrase": _paraphrased(found, name),
        "empty": "",
        "other-class": _other_class(found, record, name, facts, seed),
        "wrong-place": _wrong_place(found, record, seed),
        "wrong-size": _wrong_size(found, record),
    }
    asked = {key: texts[key] for key in LABELS}
    return tuple(
        Altered(key, text)
        for key, text in asked.items()
        if text is not None and (key == RIGHT or text != found.text)
    )


def _read(text: str, class_word: str | None, record: Record, descriptions: Sequence[str] = ()) -> _Read:
    """Finds in a prompt what names the class, and, outside of that, places and sizes."""
    classes = _class_spans(text, class_word)
    told = [span for each in descriptions for span in _spans(re.escape(each), text, classes)]
    taken = [*classes, *told]
    found = [match for match in _LOCATED.finditer(text) if _free(match.span(), taken)]
    located, places = [match.span() for match in found], [match.span("places") for match in found]
    own = record.attributes.get("place")
    if not places and isinstance(own, str) and own:  # a template such as "{place} {class}"
        located = places = _spans(rf"{_BEGIN}{re.escape(own)}{_END}", text, taken)[:1]
    for match in _CLAUSE.finditer(text):
        start, end = match.span()
        end = min([end, *(at for at, _ in located if at > start)])
        if _free((start, end), taken):
            told.append((start, end))
    taken = [*classes, *told, *located]
    sizes = next((match.span() for match in _SIZE_LIST.finditer(text) if _free(match.span(), taken)), None)
    return _Read(text, classes, told, located, places, sizes)


def _paraphrased(read: _Read, class_word: str | None) -> str:
    """The same in other words: synonyms for count, size, place, shape and colour, within a frame. What
    names or describes the class stays as it is."""
    text = read.text
    new: dict[Span, str] = {}
    for phrase, places in zip(read.located, read.places, strict=True):
        words = dict.fromkeys(_PLACES[cell] for cell in _cells(text[slice(*places)]))
        whole = phrase != places and not re.match(rf"\s+(?:{_PARTS})\b", text[places[1] :])
        parts = " and ".join(f"in the {word} part" for word in words)
        new[phrase if whole else places] = parts if whole else ", ".join(words)
    if read.sizes is not None:
        new[read.sizes] = _translated(text[slice(*read.sizes)], _SIZES)
    taken = [*read.classes, *read.described, *new]
    count = _COUNT.match(text)
    if count is not None and _free(count.span("count"), taken):
        new[count.span("count")] = _translated(count["count"], _COUNTS)
    for match in _LOOKS.finditer(text):
        if _free(match.span(), taken):
            new[match.span()] = _like(match[0], _SYNONYMS[match[0].lower()])
    body = _replaced(text, new).strip()
    name = class_word is not None and class_word[:1].isupper()
    return FRAME + (body if name else body[:1].lower() + body[1:])


def _right(record: Record, name: str | None, descriptions: Sequence[str], seed: int) -> _Read | None:
    """The most telling prompt: of those that name place and size, or else one of them, or else of all, the
    one with the highest number. None where that says nothing, or that nothing is there."""
    keys = [key for key in record.prompts if re.fullmatch(r"p[1-9]\d*", key)]
    reads = {key: _read(choose_prompt(record, key, seed, 0), name, record, descriptions) for key in keys}
    best = max(keys, key=lambda key: (_telling(reads[key]), int(key[1:])), default=None)
    if best is None or not reads[best].text.strip() or _ABSENT.match(reads[best].text):
        return None
    return reads[best]


def _telling(read: _Read) -> int:
    return bool(read.places) + bool(read.sizes)


def _other_class(read: _Read, record: Record, name: str | None, facts: SetFacts, seed: int) -> str | None:
    """The prompt with another class, without what describes the own one; the other class alone where the
    own is not found in it."""
    other = _another(read.text, record, name, facts, seed)
    if other is None or not read.classes:
        return other
    new = {span: _named_like(read.text[slice(*span)], name or "", other) for span in read.classes}
    text = _replaced(read.text, {**new, **dict.fromkeys(read.described, "")})
    return re.sub(r"\s+([,.;]|$)", r"\1", re.sub(r"\s{2,}", " ", text)).strip()


def _another(text: str, record: Record, name: str | None, facts: SetFacts, seed: int) -> str | None:
    """Another class of the same set, one that is not in the picture where there is such a one; else one of
    STRANGERS."""
    own = (name or "").casefold()
    others = [each for each in facts.classes if each.casefold() != own]
    if others and name is not None:
        shown = (facts.shown or {}).get(record.image, frozenset())
        absent = [each for each in others if each.casefold() not in shown]
        return _drawn(absent or others, record, seed)
    said = f"{name or ''} {text}"
    return next((each for each, family in STRANGERS.items() if not _begins(family, said)), None)


def _wrong_place(read: _Read, record: Record, seed: int) -> str | None:
    """All places replaced by the one that is farthest from each of them and from the record's own."""
    if not read.places:
        return None
    named = ", ".join(
        [str(record.attributes.get("place", "")), *(read.text[slice(*at)] for at in read.places)]
    )
    true = _cells(named)
    distances = {cell: min((dist(cell, each) for each in true), default=0.0) for cell in _GRID}
    farthest = max(distances.values())
    if not farthest:
        return None  # they are all over the picture
    word = _drawn([_GRID[cell] for cell in _GRID if distances[cell] == farthest], record, seed)
    return _replaced(read.text, {at: _like(read.text[at[0] :], word) for at in read.places})


def _wrong_size(read: _Read, record: Record) -> str | None:
    """The sizes replaced by the one that is farthest from each of them and from the record's own."""
    if read.sizes is None:
        return None
    there = read.text[slice(*read.sizes)]
    named = re.findall(_SIZE, f"{record.attributes.get('size', '')}, {there}", re.IGNORECASE)
    true = [SIZES.index(word.lower()) for word in named]
    apart = [min(abs(number - each) for each in true) for number in range(len(SIZES))]
    if not max(apart):
        return None
    return _replaced(read.text, {read.sizes: _like(there, SIZES[apart.index(max(apart))])})


def _class_of(record: Record, class_word: str | None) -> str | None:
    """What the record's mask shows: its own class, else that of its set, else what its p1 names."""
    own = record.attributes.get("class")
    if isinstance(own, str) and own:
        return own
    if class_word is not None:
        return class_word
    p1 = record.prompts.get("p1", "")
    text = (p1 if isinstance(p1, str) else p1[0]).strip()
    words = set(re.findall(r"\w+", text.lower()))
    known = next((each for each in STRANGERS if set(each.split()) <= words), None)
    return known or (text if 0 < len(text.split()) <= 4 and text[-1].isalnum() else None)


def _shown(records: Iterable[Record], class_word: str | None) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        name, findings = _class_of(record, class_word), record.attributes.get("findings")
        if name is not None and record.foreground > 0:
            found[record.image].add(name.casefold())
        said = {str(each).casefold() for each in findings} if isinstance(findings, list) else set()
        found[record.image] |= said | {ALIASES[each] for each in said if each in ALIASES}
    return {image: frozenset(names) for image, names in found.items()}


def _class_spans(text: str, class_word: str | None) -> list[Span]:
    """Where the class is named, in whatever case or number; where it is nowhere, its last word ("tumor" of
    "breast tumor")."""
    words = (class_word or "").split()
    for part in (words, words[-1:]):
        pattern = r"[\s_-]+".join(map(re.escape, part))
        found = _spans(rf"(?<!\w){pattern}(?:e?s)?(?!\w)", text, ()) if part else []
        if found:
            return found
    return []


def _named_like(found: str, own: str, other: str) -> str:
    """The other class, in number and case as the own one was found."""
    ending = found.lower()
    several = not any(ending.endswith(end.lower()) for end in (own, own.split()[-1]))
    return _like(found, _plural(other) if several else other)


def _plural(name: str) -> str:
    if re.search(r"[^aeiou]y$", name, re.IGNORECASE):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(?:s|x|ch|sh)$", name, re.IGNORECASE) else "s")


def _cells(places: str) -> list[Cell]:
    """Each place of a list such as "top left, bottom", as row and column."""
    cells = []
    for place in re.findall(_PLACE, places, re.IGNORECASE):
        words = set(re.split(r"[ -]", place.lower()))
        row = 0 if words & {"top", "upper"} else 2 if words & {"bottom", "lower"} else 1
        cells.append((row, 0 if "left" in words else 2 if "right" in words else 1))
    return cells


def _drawn(choices: Sequence[str], record: Record, seed: int) -> str:
    """One of several, by the seed and the record's id alone."""
    digest = hashlib.sha256(f"{seed}\0{record.id}\0altered".encode()).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]


def _begins(family: Iterable[str], text: str) -> bool:
    return any(re.search(rf"\b{re.escape(stem)}", text, re.IGNORECASE) for stem in family)


def _spans(pattern: str, text: str, taken: Iterable[Span]) -> list[Span]:
    taken = list(taken)
    found = (match.span() for match in re.finditer(pattern, text, re.IGNORECASE))
    return [span for span in found if _free(span, taken)]


def _free(span: Span, taken: Iterable[Span]) -> bool:
    return all(span[1] <= start or end <= span[0] for start, end in taken)


def _replaced(text: str, new: Mapping[Span, str]) -> str:
    for (start, end), words in sorted(new.items(), reverse=True):
        text = text[:start] + words + text[end:]
    return text


def _translated(text: str, words: Mapping[str, str]) -> str:
    """Each word of a list such as "small, medium" in its other form, in the case of the first."""
    parts = re.split(r"(\W+)", text)
    return _like(text, "".join(words.get(part.lower(), part) for part in parts))


def _like(found: str, new: str) -> str:
    """With a capital where what it replaces had one."""
    return new[:1].upper() + new[1:] if found[:1].isupper() else new
