"""What `eval --compare` prints, as a person sees it in 80 columns."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vlsmctl.commands.comparison_tables import comparison_notes, comparison_tables
from vlsmctl.comparison import compare_scores
from vlsmctl.evaluation import Row, Scores
from vlsmctl.metrics import METRICS
from vlsmctl.pairing import CasePair

ODD = "kvasir/[bold]20240101-120000-42[/nothing]"


def scores(shift: float, cases: int = 30, *, units: tuple[str, ...] = ("px",), **pair: Any) -> Scores:
    dice = np.random.default_rng(1).uniform(0.4, 0.6, cases) + shift
    rows = [
        Row(
            CasePair(f"c{number}", None, Path("t.png"), **pair),
            {name: 100 - 90 * one if "hd95" in name or "error" in name else one for name in METRICS},
            units[number % len(units)], 100, 90, 1000,
        )
        for number, one in enumerate(map(float, dice))
    ]  # fmt: skip
    return Scores(tuple(rows))


def printed(document: dict[str, Any]) -> str:
    stream = io.StringIO()
    screen = Console(file=stream, width=80, soft_wrap=True, highlight=False)  # as vlsmctl.console.out
    for table in comparison_tables(document):
        screen.print(table)
    for note in comparison_notes(document):
        screen.print(note, markup=False)
    return stream.getvalue()


def cells(text: str, heading: str, table: int = 0) -> list[str]:
    """Of a row, in the table that has the row as the first, or another that has it."""
    line = [line for line in text.splitlines() if re.match(rf"│ {heading} ", line)][table]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_two_runs_in_80_columns() -> None:
    document = compare_scores([("none", scores(0)), ("dense", scores(0.1))]).document
    text = printed(document)
    assert max(map(len, text.splitlines())) <= 80
    # Every case is 0.1 better: so is each resample
    assert cells(text, "Dice") == ["Dice", "+0.100", "+0.100 to +0.100", "<0.001", "<0.001", "30 / 0 / 0"]
    assert cells(text, "HD95") == ["HD95 (px)", "-9.0", "-9.0 to -9.0", "<0.001", "<0.001", "30 / 0 / 0"]
    assert "none -> dense" in text
    said = " ".join(text.split())
    assert "tested by 30 cases, which the intervals resample" in said
    assert "95 % intervals resample 30 cases" in said
    assert "better: dense, in Dice, the primary metric (p corrected for the pairs of runs)" in said
    assert "each corrected for the pairs of runs alone: dense in IoU, HD95 (px)" in said
    assert cells(text, "dense")[:2] == ["dense", "0.603"]
    assert cells(text, "dense", 1) == ["dense", "30", "0", "0", "0", "0"]


def test_names_are_never_markup_and_never_cut() -> None:
    text = printed(
        compare_scores(
            [(ODD, scores(0, units=("px", "mm"))), ("b", scores(0.1, units=("px", "mm")))]
        ).document
    )
    assert f"{ODD} -> b" in text
    column = "".join(line.split("│")[1].strip() for line in text.splitlines() if line.count("│") == 8)
    assert column.startswith(ODD)
    assert "…" not in text


def test_no_difference_and_no_interval_are_said() -> None:
    text = printed(compare_scores([("a", scores(0, 1)), ("b", scores(0, 1))]).document)
    assert cells(text, "Dice")[1:5] == ["0.000", "unknown", "1.000", "1.000"]
    assert "95 % intervals are unknown from 1 case" in " ".join(text.split())
    assert "resample" not in text
    assert "neither is better in Dice, the primary metric" in text
    assert "note: too few to tell: with 1 cases" not in text
    assert "note: too few to tell" in text


def test_three_runs_have_three_tables_and_groups_are_named() -> None:
    runs = [(name, scores(shift, group="p")) for name, shift in (("a", 0.0), ("b", 0.1), ("c", 0.2))]
    text = printed(compare_scores(runs).document)
    assert re.findall(r"(\w) -> (\w)", text) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert "tested by 1 patient or sequence" in text
