"""What `vlsmctl eval --compare` prints: means and differences as tables that fit into 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 78
_MEANS = ("dice", "iou", "hd95_px", "hd95_mm", "nsd_px", "nsd_mm")


def comparison_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """The means of the runs on the cases that they share, then a table of differences for each pair."""
    yield means_table(document)
    by_pair = groupby(document["differences"], key=lambda one: (one["first"], one["second"]))
    for (first, second), differences in by_pair:
        yield differences_table(first, second, list(differences), document)


def comparison_notes(document: Mapping[str, Any]) -> list[str]:
    """What to know when reading the tables, a line each; not markup."""
    return [f"note: {note}" for note in document["notes"]]


def means_table(document: Mapping[str, Any]) -> Table:
    """A row a run; in each cell the mean, and below it the interval."""
    from rich.table import Table
    from rich.text import Text

    metrics = document["runs"][0]["metrics"]
    shown = [name for name in _MEANS if name in metrics]
    cases = f"{document['n']:,} case{'s' * (document['n'] != 1)}"
    table = Table(caption=f"means and 95 % intervals on the {cases} that all have scored")
    table.add_column("run", overflow="fold")
    for name in shown:
        table.add_column(Text(metrics[name]["label"]))
    for run in document["runs"]:
        cells = [_mean(run["metrics"][name]) for name in shown]
        table.add_row(Text(run["name"]), *cells)
    return table


def differences_table(
    first: str, second: str, differences: list[Mapping[str, Any]], document: Mapping[str, Any]
) -> Table:
    """A row a metric. Its caption says what was tested, and which run is better in what."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{first} -> {second}"), caption=Text(_said(differences, document)))
    table.add_column("score")
    for heading in ("differ-\nence", "95 % interval", "p", "p\n(Holm)", "better / worse\n/ equal"):
        table.add_column(heading, no_wrap=True)
    for one in differences:
        low, high = (_signed(end, one["unit"]) for end in one["interval"])
        interval = f"{low} to {high}" if one["interval"][0] is not None else "unknown"
        counts = " / ".join(str(one[f"n_{which}"]) for which in ("second_better", "second_worse", "equal"))
        difference = _signed(one["mean"], one["unit"])
        table.add_row(Text(one["label"]), difference, interval, _p(one["p"]), _p(one["p_holm"]), counts)
    return table


def _said(differences: list[Mapping[str, Any]], document: Mapping[str, Any]) -> str:
    said = [
        "second minus first; cases in which the second is better / worse / equal; "
        f"tested by {document['tested_units']}"
    ]
    better: dict[str, list[str]] = {}
    for one in differences:
        if one["better"] is not None:
            better.setdefault(one["better"], []).append(one["label"])
    said += [f"better: {name} in {', '.join(labels)}" for name, labels in better.items()]
    if not better:
        said.append("neither is better: p (Holm) is 0.05 or more, or mean and ranks disagree")
    return "\n".join(textwrap.fill(line, _WIDTH, break_on_hyphens=False) for line in said)


def _mean(metric: Mapping[str, Any]) -> str:
    digits = _digits(metric["unit"])
    low, high = metric["interval"]
    interval = "unknown" if low is None else f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{metric['mean']:.{digits}f}\n{interval}"


def _signed(value: float | None, unit: str | None) -> str:
    """+0.012; without a sign where nothing is left of it."""
    if value is None:
        return ""
    text = f"{value:+.{_digits(unit)}f}"
    return text if float(text) else text[1:]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _digits(unit: str | None) -> int:
    """Three for a share, one for a length or an area; volumes may be small."""
    return 1 if unit in ("mm", "px") else 3
