"""What the prompts of a data set are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlsmctl.config import find_preset, read_preset
from vlsmctl.datasets.manifest import Prompts
from vlsmctl.datasets.prompts import DEFAULT_TEMPLATES, check_templates, fill_templates
from vlsmctl.datasets.records import Kind


@dataclass(frozen=True)
class Recipe:
    """What the prompts of a set are made of: the class word, templates p0..pN, descriptions of the class,
    templates for empty masks, and the words that its side files add."""

    class_word: str
    templates: Mapping[str, str | list[str]]
    descriptions: Sequence[str]
    absent: Mapping[str, str | list[str]] | None
    extra: tuple[str, ...]

    def prompts(self, words: Mapping[str, str]) -> Prompts:
        """The prompts of one record. words: from its mask and image, and from side files."""
        return fill_templates(
            self.templates,
            {"class": self.class_word, **words},
            descriptions=self.descriptions,
            absent=self.absent,
            extra=self.extra,
        )


def find_recipe(target: str, name: str, kind: Kind, class_word: str | None) -> Recipe:
    """The recipe in the preset of the set's name (`target`), else in that of its kind's, else our own.

    Raises UsageError: templates that cannot be filled.
    """
    preset = next((each for each in (target, name) if find_preset(each)), None)
    given: dict[str, Any] = (read_preset(preset).get("prompts_from") if preset else None) or {}
    own_class = str(given.get("class") or target.replace("-", " "))
    recipe = Recipe(
        class_word=class_word or own_class,
        templates=dict(given.get("templates") or DEFAULT_TEMPLATES),
        # they describe the preset's class, not another one
        descriptions=list(given.get("descriptions") or ()) if class_word in (None, own_class) else [],
        absent=given.get("absent"),
        extra=kind.words,
    )
    check_templates({**recipe.templates, **(recipe.absent or {})}, extra=kind.words)
    return recipe
