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
_COUNTS = {
    "n_scored": "scored",
    "n_missed": "missed",
    "n_false_alarm": "false alarms",
    "n_both_empty": "both empty",
    "n_failed": "failed",
}


def comparison_tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """Means and counts of the runs on the cases that they share, then a table of differences for each
    pair."""
    yield means_table(document)
    yield counts_table(document)
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
    said = (
        f"means on the {cases} that all have scored; 95 % intervals "
        f"{'resample' if _enough(document) else 'are unknown from'} {document['tested_units']}"
    )
    table = Table(caption=_wrapped(said))
    table.add_column("run", overflow="fold")
    for name in shown:
        table.add_column(Text(metrics[name]["label"]))
    for run in document["runs"]:
        cells = [_mean(run["metrics"][name]) for name in shown]
        table.add_row(Text(run["name"]), *cells)
    return table


def counts_table(document: Mapping[str, Any]) -> Table:
    """A row a run: what its means have counted."""
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="of the cases (and prompts) that all have scored; failed: of all its own")
    table.add_column("run", overflow="fold")
    for heading in _COUNTS.values():
        table.add_column(heading, justify="right")
    for run in document["runs"]:
        table.add_row(Text(run["name"]), *(f"{run[name]:,}" for name in _COUNTS))
    return table


def differences_table(
    first: str, second: str, differences: list[Mapping[str, Any]], document: Mapping[str, Any]
) -> Table:
    """A row a metric. Its caption says what was tested, and which run is better: by the primary metric."""
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
        "second minus first; cases in which the second is better / worse / equal; tested by "
        f"{document['tested_units']}{', which the intervals resample' if _enough(document) else ''}"
    ]
    (primary,) = (one for one in differences if one["metric"] == document["primary"])
    metric = f"{primary['label']}, the primary metric"
    if primary["better"] is not None:
        said.append(f"better: {primary['better']}, in {metric} (p corrected for the pairs of runs)")
    else:
        said.append(f"neither is better in {metric}: p (Holm) is 0.05 or more, or mean and ranks disagree")
    further: dict[str, list[str]] = {}
    for one in differences:
        if one is not primary and one["better"] is not None:
            further.setdefault(one["better"], []).append(one["label"])
    if further:
        named = "; ".join(f"{name} in {', '.join(labels)}" for name, labels in further.items())
        said.append(f"further metrics, each corrected for the pairs of runs alone: {named}")
    return "\n".join(map(_wrapped, said))


def _enough(document: Mapping[str, Any]) -> bool:
    """Whether there are intervals."""
    return document["runs"][0]["metrics"][document["primary"]]["interval"][0] is not None


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _WIDTH, break_on_hyphens=False)


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
