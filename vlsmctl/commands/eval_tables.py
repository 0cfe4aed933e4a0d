"""What `vlsmctl eval` prints: the summary of scores as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

COUNTS = {
    "n_missed": "missed (target there, nothing predicted)",
    "n_false_alarm": "false alarm (target empty, something predicted)",
    "n_both_empty": "both empty",
    "n_without_prediction": "without a prediction file",
    "n_failed": "failed (in no mean)",
}
_TOLD_APART = ("dice", "iou", "hd95_px", "hd95_mm")  # the columns of tables that tell results apart
_OUTCOMES = {  # in tables that tell results apart
    "n_missed": "missed", "n_false_alarm": "false\nalarms", "n_both_empty": "both\nempty",
    "n_failed": "failed",
}  # fmt: skip
MOST_VALUES = 30  # rows of such a table; summary.json has them all


def score_table(summary: Mapping[str, Any]) -> Table:
    """A row a metric, beside the paper's figures where there are some, then the counts."""
    from rich.table import Table

    paper = _published(summary)
    table = Table("score", "mean", "95 % interval", "median", *(["paper"] if paper else []), "cases")
    for name, metric in summary["metrics"].items():
        beside = [paper.get(name, "")] if paper else []
        median = _number(metric["median"], metric)
        table.add_row(metric["label"], *figures(metric), median, *beside, str(metric["n"]))
    table.add_section()
    blanks = [""] * (4 if paper else 3)
    for key, label in COUNTS.items():
        table.add_row(label, *blanks, str(summary[key]))
    table.caption = _caption(summary)
    return table


def _caption(summary: Mapping[str, Any]) -> str:
    """What the intervals rest on, and what is given apart."""
    told = f"95 % intervals resample {_counted_units(summary)}"
    if summary["mixed_units"]:
        told += "; some cases are in mm, some in px: lengths and sizes are given for each apart"
    return told


def _counted_units(summary: Mapping[str, Any]) -> str:
    from vlsmctl.intervals import FEWEST

    number = summary["n_groups"]
    few = ": too few for one" if number < FEWEST else ""
    return f"{number} {'patients or sequences' if summary['grouped'] else 'cases'}{few}"


def paper_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Where the paper's figures are from, and what to know of them."""
    paper = summary["about"].get("paper")
    if paper:
        yield f"paper: {paper['row']}, {paper['source']}"
        yield from (f"  {remark}" for remark in paper["remarks"])


def _published(summary: Mapping[str, Any]) -> dict[str, str]:
    """The paper's figure for each metric that it has one for, in the unit of ours. Its HD95 is that of the
    cases in which both masks are there."""
    paper = summary["about"].get("paper")
    if not paper:
        return {}
    shares = {name: f"{paper[name] / 100:.3f}" for name in ("dice", "iou")}
    return {**shares, "hd95_defined_px": f"{paper['hd95']:.1f}"}


def by_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """For each column that results are told apart by, a row for each of its values."""
    from rich.markup import escape
    from rich.table import Table

    labels = {name: summary["metrics"][name]["label"] for name in _TOLD_APART if name in summary["metrics"]}
    for column, values in summary["by"].items():
        table = Table(escape(column), *labels.values(), *_OUTCOMES.values(), "cases")
        for value, part in list(values.items())[:MOST_VALUES]:
            metrics = part["metrics"]
            cells = ["\n".join(figures(metrics[name])) if name in metrics else "" for name in labels]
            counted = [str(part[name]) for name in (*_OUTCOMES, "n")]
            table.add_row(escape(value), *cells, *counted)
        left = len(values) - MOST_VALUES
        table.caption = f"{left} more in summary.json" if left > 0 else None
        yield table


def figures(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Mean and interval, as they are shown."""
    low, high = metric["interval"]
    interval = "unknown" if low is None else f"{_number(low, metric)} to {_number(high, metric)}"
    return _number(metric["mean"], metric), interval


def _number(value: float, metric: Mapping[str, Any]) -> str:
    """Three digits for a share, one for a length or an area; volumes may be small."""
    return f"{value:.{1 if metric['unit'] in ('mm', 'px') else 3}f}"
