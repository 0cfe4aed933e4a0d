"""How scores are written, on the terminal and on the page, and which of them the paper has figures for."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

COUNTS = {
    "n": ("cases", "scored, and in every mean"),
    "n_missed": ("missed", "target there, nothing predicted"),
    "n_false_alarm": ("false alarms", "target empty, something predicted"),
    "n_both_empty": ("both empty", "rightly nothing predicted"),
    "n_failed": ("failed", "could not be scored, in no mean"),
    "n_not_asked": ("not asked", "pictures without such a prompt, in no mean"),
}  # of a summary and of each of its parts: (label, meaning)
PAPER_HD95 = "hd95_defined_px"  # the paper's leaves out cases with an empty mask, and so does this alone


def figure(value: float, unit: str | None, *, signed: bool = False) -> str:
    """A number without its unit: shares with three digits, lengths and areas with one, volumes with three;
    a zero has no sign."""
    digits = 1 if unit in ("mm", "px") else 3
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def published(paper: Mapping[str, Any] | None, metrics: Container[str]) -> dict[str, float]:
    """The paper's figures for those of our metrics that mean the same: shares of 1, and px."""
    theirs = {"dice": ("dice", 100), "iou": ("iou", 100), PAPER_HD95: ("hd95", 1)}
    found = {}
    for name, (key, divisor) in theirs.items():
        value = (paper or {}).get(key)
        if name in metrics and isinstance(value, int | float):
            found[name] = value / divisor
    return found
