"""What `vlsmctl eval` prints of the prompt-sensitivity sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 80  # columns of a terminal, which the table keeps to
_LONGEST = 2 * WIDTH  # letters of an example; summary.json has all of it


def sensitivity_table(document: Mapping[str, Any]) -> Table:
    """The sheet that `sensitivity.measure` made: the answer on top, a row a question, and below an example
    of each prompt."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(_wrapped(f"{document['question']} {document['answer']}"), "bold"),
        caption=Text("\n".join(map(_wrapped, _below(document)))),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        width=WIDTH,
    )
    table.add_column("asked with", ratio=1)
    for heading in ("Dice", "change", "same mask", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", max_width=14)
    for row in document["rows"]:
        change = _figure(row["difference"], "+.3f", "+.2f")
        figures = [_figure(row[name], ".3f", ".2f") for name in ("dice", "agreement")]
        table.add_row(
            Text(row["label"]), figures[0], change, figures[1], str(row["n"]), Text(row["verdict"] or "")
        )
    return table


def _below(document: Mapping[str, Any]) -> Iterator[str]:
    units = document["resampled_units"]
    below = f"Below each mean its 95 % interval, which resamples {units}."
    if all(row["dice"]["interval"][0] is None for row in document["rows"]):
        below = f"The 95 % intervals are unknown from {units}."
    yield (
        f"{below} Same mask: 1 "
        "where the words changed nothing. Wrong prompts are judged beside the same in other words."
    )
    asked, there = document["n_pictures"], document["n_with_target"]
    failed = (
        f"; {document['n_failed']:,} could not be read and are in no mean" if document["n_failed"] else ""
    )
    yield f"Asked of {asked:,} of {there:,} pictures with a target{failed}. Asked of one of them:"
    for row in document["rows"]:
        if row["example"]:
            yield f'  {row["label"]}: "{textwrap.shorten(row["example"], _LONGEST, placeholder=" ...")}"'


def _wrapped(line: str) -> str:
    """By hand: a console may be told not to wrap what it prints."""
    return textwrap.fill(line, WIDTH, subsequent_indent="    " if line.startswith(" ") else "")


def _figure(found: Mapping[str, Any] | None, mean: str, end: str) -> str:
    """Mean, and below it the interval."""
    if found is None:
        return ""
    low, high = found["interval"]
    written = _written(found["mean"], mean)
    return written if low is None else f"{written}\n{_written(low, end)} to {_written(high, end)}"


def _written(value: float, form: str) -> str:
    shown = format(value, form)
    return shown.replace("-", "+") if float(shown) == 0 else shown
