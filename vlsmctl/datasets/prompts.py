"""Text prompts: filled from templates when a data set is prepared, chosen when it is used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from string import Formatter

from vlsmctl.datasets.manifest import Manifest, Prompts, Record
from vlsmctl.errors import UsageError

WORDS = ("class", "count", "size", "place")
DEFAULT_TEMPLATES: Prompts = {
    "p0": "",
    "p1": "{class}",
    "p2": "{size} {class}",
    "p3": "{count} {size} {class}",
    "p4": "{count} {size} {class}, located in {place} of the image",
}

_KEY = re.compile(r"p(0|[1-9]\d*)")


def fill_templates(templates: Mapping[str, str | list[str]], words: Mapping[str, str]) -> Prompts:
    """The prompts of one image.

    templates: p0..pN, each a text or a list of texts with `{class}`, `{count}`, `{size}`, `{place}`.
    words: the word for each of these that is known. A text that needs a word which is not known (the
    mask is empty) is left out, and so is a list of which nothing stays. p0 is always there, empty
    unless the templates say otherwise.

    Raises UsageError: a key that is not p0..pN, or a placeholder that is none of the four.
    """
    filled: Prompts = {"p0": ""}
    for key in sorted(templates, key=_number):
        template = templates[key]
        if isinstance(template, str):
            if _needs(key, template) <= words.keys():
                filled[key] = template.format_map(words)
            continue
        texts = [text.format_map(words) for text in template if _needs(key, text) <= words.keys()]
        if texts:
            filled[key] = texts
    return filled


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


def _needs(key: str, template: str) -> set[str]:
    """The words that a template needs. Plain placeholders only: no attributes, indices or formats."""
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UsageError(f"prompt template {key} {template!r}: {error}") from error
    for _, field, form, conversion in parts:
        if field not in WORDS or form or conversion:
            known = ", ".join(f"{{{word}}}" for word in WORDS)
            raise UsageError(f"prompt template {key} {template!r}: '{field}' is unknown; known are {known}")
    return {str(part[1]) for part in parts}
