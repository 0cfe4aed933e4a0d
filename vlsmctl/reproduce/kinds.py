"""Which cells of a preset and method make one line of the table: those of the same settings and data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlsmctl.reproduce.grid import Cell
from vlsmctl.reproduce.standing import Standing
from vlsmctl.training import resolved

Held = tuple[Cell, Standing]
_NO_SETTINGS = {"methods", "prompts_from", "paper", "method"}
DATA = "data (sha256 of the manifest)"


@dataclass(frozen=True)
class Kind:
    """Cells that differ in their seeds only. mark: tells them from others of the same preset and method;
    None where there are no others. settings: by dotted key, as JSON; `DATA` among them where known."""

    name: str
    method: str
    mark: str | None
    settings: Mapping[str, str]
    cells: tuple[Held, ...]


def kinds(held: Sequence[Held]) -> list[Kind]:
    """The cells by preset, then by method, each in the order in which they come first; then by seed."""
    pairs: dict[str, dict[str, list[Held]]] = {}
    for one in held:
        pairs.setdefault(one[0].name, {}).setdefault(one[0].method, []).append(one)
    return [
        kind
        for name, methods in pairs.items()
        for method, cells in methods.items()
        for kind in _told_apart(name, method, cells)
    ]


def differences(found: Sequence[Kind]) -> list[str]:
    """For each preset and method of several kinds, in what these differ."""
    told = []
    for name, method in dict.fromkeys((kind.name, kind.method) for kind in found if kind.mark):
        alike = [kind for kind in found if (kind.name, kind.method) == (name, method)]
        keys = [
            key
            for key in dict.fromkeys(key for kind in alike for key in kind.settings)
            if len({kind.settings.get(key) for kind in alike}) > 1
        ]
        parts = [
            f"({kind.mark}) " + ", ".join(f"{key}={kind.settings.get(key, 'unknown')}" for key in keys)
            for kind in alike
        ]
        told.append(f"{name} {method} was asked for with several settings or data: {'; '.join(parts)}")
    return told


def _told_apart(name: str, method: str, held: Sequence[Held]) -> list[Kind]:
    groups: dict[str, list[Held]] = {}
    held = sorted(held, key=_seed)
    settings = [_settings(*one) for one in held]
    for one, own in zip(held, settings, strict=True):
        groups.setdefault(json.dumps(_with_data(own, settings)), []).append(one)
    return [
        Kind(name, method, _mark(text) if len(groups) > 1 else None, json.loads(text), tuple(cells))
        for text, cells in groups.items()
    ]


def _settings(cell: Cell, now: Standing) -> dict[str, str]:
    document = resolved(cell.preset).model_dump(mode="json", by_alias=True, exclude=_NO_SETTINGS)
    found = _flat(document)
    del found["train.seed"]
    if cell.manifest is not None:
        found[DATA] = cell.manifest.hash[:12]
    elif now.document is not None:
        found[DATA] = str(now.document["data"]["manifest_sha256"])[:12]
    return found


def _with_data(own: dict[str, str], others: Sequence[dict[str, str]]) -> dict[str, str]:
    """Where the data are not at hand, they count as those with which the same settings were run, if these
    are the same in all."""
    alike = {one[DATA] for one in others if DATA in one and {**own, DATA: one[DATA]} == one}
    return {**own, DATA: alike.pop()} if DATA not in own and len(alike) == 1 else own


def _flat(document: Mapping[str, Any], before: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = json.dumps(value)
    return flat


def _seed(one: Held) -> int:
    return one[0].seed


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
