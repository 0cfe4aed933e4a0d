"""What stands in JSON that others may have changed, and how it is written for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

NONE = "–"
# A path with a folder or a drive before its last part, where no word, address or other path goes before it
_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/](?:[^\\/\s:*?\"<>|']+[\\/])+")


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
    return _written(value, 3, signed=signed)


def amount(value: float | None, unit: str | None, *, signed: bool = False) -> str:
    """A number with its unit: shares with three digits, lengths and areas with one, volumes with three."""
    if value is None:
        return NONE
    digits = 1 if unit in ("mm", "px") else 3
    text = _written(value, digits, signed=signed)
    return f"{text} {unit}" if unit else text


def count(value: float | None) -> str:
    """1,234"""
    return NONE if value is None else f"{round(value):,}"


def counted(value: int, what: str) -> str:
    """ "1 case", "1,234 cases"."""
    return f"{value:,} {what}{'s' * (value != 1)}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def without_folders(text: str, known: Iterable[Path | None] = ()) -> str:
    """The text with file names in place of whole paths, which may hold the names of people."""
    folders = {str(path.parent) for path in known if path is not None and path.is_absolute()}
    for folder in sorted(folders, key=len, reverse=True):
        for spelling in (folder, folder.replace("\\", "/")):
            text = text.replace(spelling.rstrip("\\/") + "/", "").replace(spelling.rstrip("\\/") + "\\", "")
    return _FOLDERS.sub("", text)


def _written(value: float | None, digits: int, *, signed: bool) -> str:
    if value is None:
        return NONE
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    zero = not any(digit in text for digit in "123456789")
    if zero:
        return text.lstrip("+-")
    return text.replace("-", "−")
