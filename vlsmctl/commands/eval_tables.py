"""What `vlsmctl eval` prints: the summary of scores as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vlsmctl.figures import COUNTS, figure, published

if TYPE_CHECKING:
    from rich.table import Table

_TOLD_APART = ("dice", "iou", "hd95_px", "hd95_mm")  # the columns of tables that tell results apart
_OUTCOMES = ("n_missed", "n_false_alarm", "n_both_empty", "n_failed")
_WITHOUT = "without a prediction file"
MOST_VALUES = 30  # rows of such a table; summary.json has them all


def score_table(summary: Mapping[str, Any]) -> Table:
    """A row a metric, beside the paper's figures where there are some, then the counts."""
    from rich.table import Table

    paper = published(summary["about"].get("paper"), summary["metrics"])
    table = Table("score", "mean", "95 % interval", "median", *(["paper"] if paper else []), "cases")
    for name, metric in summary["metrics"].items():
        theirs = figure(paper[name], metric["unit"]) if name in paper else ""
        median = figure(metric["median"], metric["unit"])
        beside = [theirs] if paper else []
        table.add_row(metric["label"], *figures(metric), median, *beside, str(metric["n"]))
    table.add_section()
    blanks = [""] * (4 if paper else 3)
    for key in (*_OUTCOMES, "n_not_asked"):
        label, meaning = COUNTS[key]
        table.add_row(f"{label} ({meaning})", *blanks, str(summary[key]))
    table.add_row(_WITHOUT, *blanks, str(summary["n_without_prediction"]))
    table.caption = _caption(summary)
    return table


def _caption(summary: Mapping[str, Any]) -> str:
    """What the intervals rest on, and what is given apart."""
    from vlsmctl.intervals import FEWEST

    number = summary["n_groups"]
    units = "patients or sequences" if summary["grouped"] else "cases"
    told = f"95 % intervals resample {number} {units}"
    if number < FEWEST:
        told = f"{number} {units} are too few for an interval"
    if summary["mixed_units"]:
        told += "; some cases are in mm, some in px: lengths and sizes are given for each apart"
    return told


def paper_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Where the paper's figures are from, and what to know of them."""
    paper = summary["about"].get("paper")
    if paper:
        yield f"paper: {paper['row']}, {paper['source']}"
        yield from (f"  {remark}" for remark in paper["remarks"])


def by_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """For each column that results are told apart by, a row for each of its values."""
    from rich.markup import escape
    from rich.table import Table

    labels = {name: summary["metrics"][name]["label"] for name in _TOLD_APART if name in summary["metrics"]}
    counts = [*_OUTCOMES, "n"]
    for column, values in summary["by"].items():
        headings = [COUNTS[name][0].replace(" ", "\n") for name in counts]
        table = Table(escape(column), *labels.values(), *headings)
        for value, part in list(values.items())[:MOST_VALUES]:
            metrics = part["metrics"]
            cells = ["\n".join(figures(metrics[name])) if name in metrics else "" for name in labels]
            table.add_row(escape(value), *cells, *(str(part[name]) for name in counts))
        left = len(values) - MOST_VALUES
        table.caption = f"{left} more in summary.json" if left > 0 else None
        yield table


def figures(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Mean and interval, as they are shown."""
    low, high = metric["interval"]
    unit = metric["unit"]
    interval = "unknown" if low is None else f"{figure(low, unit)} to {figure(high, unit)}"
    return figure(metric["mean"], unit), interval
