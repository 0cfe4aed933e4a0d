"""Text prompts: filled from templates when a data set is prepared, chosen when it is used."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from string import Formatter

from vlsmctl.datasets import attributes
from vlsmctl.datasets.manifest import Manifest, Prompts, Record
from vlsmctl.errors import UsageError

DESCRIPTION = "description"
WORDS = ("class", *attributes.WORDS, DESCRIPTION)
DEFAULT_TEMPLATES: Prompts = {
    "p0": "",
    "p1": "{class}",
    "p2": "{shape} {class}",
    "p3": "{colour} {shape} {class}",
    "p4": "{size} {colour} {shape} {class}",
    "p5": "{count} {size} {colour} {shape} {class}",
    "p6": "{count} {size} {colour} {shape} {class}, located in {place} of the image",
}

_KEY = re.compile(r"p(0|[1-9]\d*)")


def fill_templates(
    templates: Mapping[str, str | list[str]],
    words: Mapping[str, str],
    *,
    descriptions: Sequence[str] = (),
    absent: Mapping[str, str | list[str]] | None = None,
    extra: Collection[str] = (),
) -> Prompts:
    """The prompts of one image.

    templates: p0..pN, each a text or a list of texts with placeholders: {class}, those of the mask
    ({count}, {size}, {place}, {shape}, {colour}, and {s} for the ending of a plural), {description}, and
    those in `extra`, which side files may tell. {Count} gives the word with a capital first letter.
    words: the word for each that is known. A text that needs a word which is not known (the mask is
    empty, the side file is missing) is left out, and so is a list of which nothing stays. descriptions:
    a text with {description} becomes a list, one text for each. absent: used instead of the templates
    where the mask is empty, that is, where no count is known. p0 is always there, empty unless the
    templates say otherwise.

    Raises UsageError: a key that is not p0..pN, or an unknown placeholder; the message names the known.
    """
    chosen = absent if absent and "count" not in words else templates
    filled: Prompts = {"p0": ""}
    for key in sorted(chosen, key=_number):
        template = chosen[key]
        listed = isinstance(template, list)
        texts: list[str] = []
        for text in template if isinstance(template, list) else [template]:
            needed = _needs(key, text, tuple(extra))
            listed = listed or DESCRIPTION in needed.values()
            texts += _filled(text, needed, words, descriptions)
        if texts:
            filled[key] = texts if listed else texts[0]
    return filled


def check_templates(
    templates: Mapping[str, str | list[str]] | None, *, extra: Collection[str] = ()
) -> None:
    """Raises UsageError as `fill_templates` does, whatever the images hold."""
    for key, template in (templates or {}).items():
        _number(key)
        for text in template if isinstance(template, list) else [template]:
            _needs(key, text, tuple(extra))


def choose_prompt(record: Record, choice: str, seed: int, epoch: int) -> str:
    """The prompt for one image in one epoch (evaluation uses epoch 0).

    choice: "random", which draws uniformly over p1..pN and then within a list, or one of p0..pN, drawn
    from where it is a list. The draw hangs on (seed, record id, epoch) alone, through SHA-256, so it is
    the same on every machine, in any order and with any number of workers. An image with an empty mask
    has no prompt of a kind that needs a mask; asked for one, it gets p1.

    Raises UsageError: a choice that the record does not have; the message names those it has.
    """
    digest = hashlib.sha256(f"{seed}\0{record.id}\0{epoch}".encode()).digest()
    keys = sorted((key for key in record.prompts if key != "p0"), key=_number)
    if choice == "random" and keys:
        choice = keys[int.from_bytes(digest[:8], "big") % len(keys)]
    elif choice not in record.prompts and record.foreground == 0 and _KEY.fullmatch(choice):
        choice = "p1"
    if choice not in record.prompts:
        there = ", ".join(sorted(record.prompts, key=_number))
        raise UsageError(f"no prompt '{choice}' for the image '{record.id}'; there is: random, {there}")
    prompt = record.prompts[choice]
    return prompt if isinstance(prompt, str) else prompt[int.from_bytes(digest[8:16], "big") % len(prompt)]


def askable(record: Record, choice: str) -> bool:
    """Whether `choose_prompt` has a prompt of that choice for the record."""
    try:
        choose_prompt(record, choice, 0, 0)
    except UsageError:
        return False
    return True


def prompt_keys(manifest: Manifest) -> list[str]:
    """All prompt keys that occur in a data set, p0 included, in the order of their numbers."""
    return sorted({key for record in manifest.records for key in record.prompts}, key=_number)


def _number(key: str) -> int:
    if not _KEY.fullmatch(key):
        raise UsageError(f"unknown prompt key '{key}'; prompts are named p0, p1, p2, ...")
    return int(key[1:])


def _filled(
    text: str, needed: Mapping[str, str], words: Mapping[str, str], descriptions: Sequence[str]
) -> list[str]:
    """The text with its words; several where it takes a description, none where a word is not known."""
    known = {**words, DESCRIPTION: ""}
    if not set(needed.values()) <= known.keys():
        return []
    every: Iterable[str] = descriptions if DESCRIPTION in needed.values() else ("",)
    return [text.format_map(_spelt(needed, {**known, DESCRIPTION: each})) for each in every]


def _spelt(needed: Mapping[str, str], words: Mapping[str, str]) -> dict[str, str]:
    """The word for each placeholder, with a capital where the placeholder has one."""
    return {
        field: words[word] if field == word else words[word][:1].upper() + words[word][1:]
        for field, word in needed.items()
    }


@lru_cache(maxsize=1024)
def _needs(key: str, template: str, extra: tuple[str, ...]) -> dict[str, str]:
    """The placeholders of a template and the word that each stands for. Plain placeholders only: no
    attributes, indices or formats."""
    known = {word: word for word in (*WORDS, *extra)}
    known |= {word[:1].upper() + word[1:]: word for word in known}
    try:
        fields = [_as_written(part[1], part[2], part[3]) for part in Formatter().parse(template)]
    except ValueError as error:
        raise UsageError(f"prompt template {key} {template!r}: {error}") from error
    needed = [field for field in fields if field is not None]
    for field in needed:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1, cutoff=0.7)
            meant = f" (did you mean {{{near[0]}}}?)" if near else ""
            shown = ", ".join(f"{{{word}}}" for word in dict.fromkeys(known.values()))
            raise UsageError(
                f"prompt template {key} {template!r}: '{field}' is unknown{meant}; known are {shown}"
            )
    return {field: known[field] for field in needed}


def _as_written(field: str | None, form: str | None, conversion: str | None) -> str | None:
    """What stands between a pair of braces: with a format or a conversion it is none of the words."""
    if field is None:
        return None
    return field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
