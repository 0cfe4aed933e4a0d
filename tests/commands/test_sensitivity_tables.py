"""The prompt-sensitivity sheet on a terminal: eighty columns, and texts as they are."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from vlsmctl.commands.sensitivity_tables import WIDTH, sensitivity_table


def document(prompt: str) -> dict[str, Any]:
    figure = {"mean": 0.5, "interval": [0.25, 0.75]}
    row = {"label": "the right prompt", "example": prompt, "n": 12345, "dice": figure, "verdict": None}
    other = {
        **row, "label": "the same in other words", "verdict": "reacts, but not as meant",
        "difference": {"mean": -0.0001, "interval": [None, None]}, "agreement": figure,
    }  # fmt: skip
    return {
        "question": "Does this model read?",
        "answer": "In part: it reads the place [and] the size; it does not read the class. " * 2,
        "sentences": [],
        "rows": [{**row, "difference": None, "agreement": None}, other, {**other, "example": ""}],
        "n_pictures": 12345,
        "n_with_target": 23456,
        "n_failed": 2,
        "resampled_units": "42 patients or sequences",
    }


def printed(prompt: str, **options: Any) -> str:
    stream = io.StringIO()
    screen = Console(file=stream, emoji=False, highlight=False, **options)
    screen.print(sensitivity_table(document(prompt)))
    return stream.getvalue()


@pytest.mark.parametrize("options", [{"width": 80}, {"width": 160, "soft_wrap": True}], ids=["80", "piped"])
@pytest.mark.parametrize(
    "prompt", ["polyp", "one very long prompt " * 40, "x" * 300], ids=["short", "long", "x"]
)
def test_it_keeps_to_eighty_columns(prompt: str, options: dict[str, Any]) -> None:
    shown = printed(prompt, **options)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= WIDTH
    for word in (
        "0.25 to 0.75",
        "12345",
        "not as meant",
        "2 could not be read",
        "+0.000",
        "resamples 42 patients or sequences",
    ):
        assert word in " ".join(shown.split())
    assert "…" not in shown


def test_of_few_patients_the_intervals_are_said_to_be_unknown() -> None:
    stream = io.StringIO()
    few = {**document("polyp"), "resampled_units": "4 pictures"}
    for row in few["rows"]:
        row["dice"] = row["agreement"] = {"mean": 0.5, "interval": [None, None]}
    Console(file=stream, width=80).print(sensitivity_table(few))
    shown = " ".join(stream.getvalue().split())
    assert "The 95 % intervals are unknown from 4 pictures." in shown
    assert "resamples" not in shown


def test_texts_are_no_markup() -> None:
    shown = printed("[red]a [/] polyp[bold]", width=80)
    assert '"[red]a [/] polyp[bold]"' in shown
    assert "the place [and] the size" in shown
