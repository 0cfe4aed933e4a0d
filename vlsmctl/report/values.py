"""What stands in JSON that others may have changed, and how it is written for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from pathlib import PurePath
from typing import Any

from vlsmctl.figures import figure

NONE = "–"
_SEPARATORS = re.compile(r"[\\/]+")
# The folders of a path, where no word, address or other path goes before them: from the root or a drive on,
# whatever their names hold ...
_PART = r"[^\s\\/:*?\"<>|](?:[^\n\\/:*?\"<>|]*[^\s\\/:*?\"<>|])?"
_FROM_ROOT = re.compile(
    rf"(?<![\w./\\])(?<!http:)(?<!https:)(?:[A-Za-z]:[\\/]*|~?[\\/]+)(?:{_PART}[\\/]+)+"
)
# ... and before what ends as the name of a file does
_BEFORE_A_FILE = re.compile(
    r"(?<![\w.:/\\-])(?:[^\s\\/:*?\"<>|',;()]+[\\/]+)+(?=[^\s\\/:]*\.[A-Za-z]\w{0,7}(?!\w))"
)


def mapping(document: Any, *keys: str) -> Mapping[str, Any]:
    """The object at a key (of a key ...); an empty one where there is none."""
    found = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def entries(document: Any, key: str) -> Sequence[Any]:
    """The list at a key; an empty one where there is none."""
    found = document.get(key) if isinstance(document, Mapping) else None
    return found if isinstance(found, list) else []


def number(document: Any, key: str) -> float | None:
    """The finite number at a key."""
    found = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        return None
    return float(found)


def whole(document: Any, key: str) -> int | None:
    found = number(document, key)
    return None if found is None else round(found)


def words(document: Any, key: str) -> str:
    """The text at a key, or the number as text; "" where there is none."""
    found = document.get(key) if isinstance(document, Mapping) else None
    return "" if found is None or isinstance(found, Mapping | list) else str(found)


def share(value: float | None, *, signed: bool = False) -> str:
    """0.683; three digits."""
    return amount(value, None, signed=signed)


def amount(value: float | None, unit: str | None, *, signed: bool = False) -> str:
    """A number with its unit, as `vlsmctl.figures` writes it."""
    if value is None:
        return NONE
    text = figure(value, unit, signed=signed).replace("-", "−")
    return f"{text} {unit}" if unit else text


def count(value: float | None) -> str:
    """1,234"""
    return NONE if value is None else f"{round(value):,}"


def last_part(path: str) -> str:
    """The bare name of a file or folder, of whatever system."""
    return _SEPARATORS.split(path.rstrip("\\/"))[-1]


def without_folders(text: str, known: Iterable[PurePath | str | None] = ()) -> str:
    """The text with bare names in place of paths, whose folders may be called after people.

    known: files and folders that the text may speak of: their folders are found whatever they are called,
    and also where the path began with one of these. Of other paths the folders from a root or a drive on
    are found, and single words before the name of a file; the ids of cases stay.
    """
    for path in filter(None, known):
        folders = _SEPARATORS.split(str(path).rstrip("\\/"))[:-1]
        text = _ends_of(tuple(folders)).sub("", text)
    return _BEFORE_A_FILE.sub("", _FROM_ROOT.sub("", text))


@lru_cache(1024)
def _ends_of(folders: tuple[str, ...]) -> re.Pattern[str]:
    """Finds folders one below the other, or the last of them, with what parts them from the next name."""
    ends = (r"[\\/]+".join(map(re.escape, folders[start:])) for start in range(len(folders)))
    found = "|".join(filter(None, ends))
    return re.compile(rf"(?<!\w)(?:{found})[\\/]+" if found else "(?!)")
