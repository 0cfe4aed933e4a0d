"""The tables of the page, from summary.json: scores, what they are told apart by, prompt sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlsmctl.evaluation import Row
from vlsmctl.report.values import (
    NONE,
    amount,
    count,
    entries,
    mapping,
    number,
    share,
    whole,
    words,
)

TILES = ("dice", "iou", "hd95_mm", "hd95_px", "nsd_mm", "nsd_px")
TOLD_APART = ("dice", "iou", "hd95_mm", "hd95_px")
MOST_VALUES = 60  # rows of a table that tells results apart
COUNTS = {
    "n": ("cases", "scored, and in every mean"),
    "n_missed": ("missed", "target there, nothing predicted"),
    "n_false_alarm": ("false alarms", "target empty, something predicted"),
    "n_both_empty": ("both empty", "rightly nothing predicted"),
    "n_failed": ("failed", "could not be scored, in no mean"),
}
_TITLES = {"prompt": "prompt", "data_set": "data set", "size_class": "size of the target"}
_PUBLISHED = ("hd95_defined_px", "hd95_px")  # what the paper's HD95 goes beside, the best first


@dataclass(frozen=True)
class Whisker:
    """A mean and its interval on a line, all in % of its length."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Tile:
    """A score in large figures."""

    label: str
    mean: str
    unit: str
    interval: str
    whisker: Whisker | None


@dataclass(frozen=True)
class Count:
    key: str
    value: str
    label: str
    meaning: str


@dataclass(frozen=True)
class ScoreLine:
    label: str
    mean: str
    interval: str
    sd: str
    median: str
    n: str
    paper: str
    difference: str


@dataclass(frozen=True)
class PaperRow:
    """The published figures that stand beside ours."""

    row: str
    source: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class GroupLine:
    """cells: mean and interval of each score of the table."""

    name: str
    example: str
    whisker: Whisker | None
    cells: tuple[tuple[str, str], ...]
    counts: tuple[str, ...]


@dataclass(frozen=True)
class GroupTable:
    """left: how many values are not shown."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[GroupLine, ...]
    left: int


@dataclass(frozen=True)
class SheetLine:
    """A kind of prompt: what was asked, how good the masks were, and what that says."""

    label: str
    example: str
    n: str
    dice: tuple[str, str]
    whisker: Whisker | None
    difference: tuple[str, str]
    agreement: str
    verdict: str


@dataclass(frozen=True)
class Sheet:
    """How much the model reads its prompts."""

    question: str
    answer: str
    sentences: tuple[str, ...]
    lines: tuple[SheetLine, ...]
    rules: tuple[tuple[str, str], ...]
    asked: str


def tiles(summary: Mapping[str, Any]) -> tuple[Tile, ...]:
    metrics = mapping(summary, "metrics")
    made = []
    for name in TILES:
        metric = mapping(metrics, name)
        if number(metric, "mean") is None:
            continue
        unit = words(metric, "unit")
        figure, _, shown_unit = amount(number(metric, "mean"), unit).partition(" ")
        label = words(metric, "label").split(" (")[0] if unit else words(metric, "label")
        made.append(Tile(label or name, figure, shown_unit, interval(metric), whisker(metric)))
    return tuple(made)


def counts(summary: Mapping[str, Any]) -> tuple[Count, ...]:
    return tuple(
        Count(key, count(number(summary, key)), label, meaning)
        for key, (label, meaning) in COUNTS.items()
        if number(summary, key) is not None
    )


def score_lines(summary: Mapping[str, Any]) -> tuple[ScoreLine, ...]:
    """A line for each score, beside the paper's figure where it has one."""
    published = _published(summary)
    lines = []
    for name, metric in mapping(summary, "metrics").items():
        mean, unit = number(metric, "mean"), words(metric, "unit")
        if mean is None:
            continue
        paper = published.get(name)
        signed = "error" in name and not name.startswith("abs")
        lines.append(
            ScoreLine(
                words(metric, "label") or name,
                amount(mean, unit, signed=signed),
                interval(metric, signed=signed),
                amount(number(metric, "sd"), unit),
                amount(number(metric, "median"), unit, signed=signed),
                count(number(metric, "n")),
                "" if paper is None else amount(paper, unit),
                "" if paper is None else amount(mean - paper, unit, signed=True),
            )
        )
    return tuple(lines)


def paper_row(summary: Mapping[str, Any]) -> PaperRow | None:
    paper = mapping(summary, "about", "paper")
    if not paper:
        return None
    return PaperRow(words(paper, "row"), words(paper, "source"), _texts(paper, "remarks"))


def group_tables(summary: Mapping[str, Any], rows: Sequence[Row]) -> tuple[GroupTable, ...]:
    """A table for each column that results are told apart by, a line for each of its values."""
    labels = {
        name: words(mapping(summary, "metrics", name), "label") or name
        for name in TOLD_APART
        if mapping(summary, "metrics", name)
    }
    tables = []
    for column, values in mapping(summary, "by").items():
        members = [(name, part) for name, part in mapping(summary, "by", column).items() if mapping(part)]
        if not members or not isinstance(values, Mapping):
            continue
        asked = _examples(rows) if column == "prompt" else {}
        lines = tuple(
            GroupLine(
                str(name),
                "" if asked.get(name) == name else asked.get(name, ""),
                whisker(mapping(part, "metrics", "dice")) if len(members) > 1 else None,
                tuple(_cell(mapping(part, "metrics", metric)) for metric in labels),
                tuple(count(number(part, key)) for key in ("n", "n_missed", "n_false_alarm", "n_failed")),
            )
            for name, part in members[:MOST_VALUES]
        )
        title = _TITLES.get(column, str(column))
        tables.append(
            GroupTable(f"By {title}", tuple(labels.values()), lines, max(0, len(members) - MOST_VALUES))
        )
    return tuple(tables)


def sheet(summary: Mapping[str, Any]) -> Sheet | None:
    """The prompt-sensitivity sheet, where there is one."""
    document = mapping(summary, "sensitivity")
    found = [row for row in entries(document, "rows") if isinstance(row, Mapping)]
    if not document or not (found or words(document, "answer")):
        return None
    return Sheet(
        words(document, "question") or "Does this model read?",
        words(document, "answer"),
        _texts(document, "sentences"),
        tuple(_sheet_line(row) for row in found),
        rules(document),
        _asked_of(document),
    )


def _asked_of(document: Mapping[str, Any]) -> str:
    asked, there, failed = (whole(document, key) for key in ("n_pictures", "n_with_target", "n_failed"))
    if asked is None:
        return ""
    of = "" if there is None else f" of {there:,}"
    unread = f"; {failed:,} could not be read and are in no mean" if failed else ""
    return f"Asked of {asked:,}{of} pictures with a target{unread}."


def rules(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The rules that numbers were made by: (what of, the rule)."""
    stated = document.get("rules")
    if isinstance(stated, Mapping):
        return tuple((str(name), str(text)) for name, text in stated.items())
    return tuple(("", text) for text in _texts(document, "rules"))


def interval(metric: Mapping[str, Any], *, signed: bool = False) -> str:
    """ "0.602 to 0.761", in the unit of the mean beside it."""
    low, high = _ends(metric)
    if low is None or high is None:
        return "unknown"
    unit = words(metric, "unit")
    ends = (amount(end, unit, signed=signed).removesuffix(f" {unit}") for end in (low, high))
    return " to ".join(ends)


def whisker(metric: Mapping[str, Any]) -> Whisker | None:
    """Of a share; None for lengths, areas and volumes."""
    mean = number(metric, "mean")
    if mean is None or words(metric, "unit"):
        return None
    low, high = _ends(metric)
    ends = (mean if low is None else low, mean, mean if high is None else high)
    return Whisker(*(round(100 * min(max(end, 0.0), 1.0), 2) for end in ends))


def _ends(metric: Mapping[str, Any]) -> tuple[float | None, float | None]:
    ends = entries(metric, "interval")
    if len(ends) != 2:
        return None, None
    return number({"end": ends[0]}, "end"), number({"end": ends[1]}, "end")


def _published(summary: Mapping[str, Any]) -> dict[str, float]:
    """The paper's figures by our names, shares of 1 and pixels."""
    paper, metrics = mapping(summary, "about", "paper"), mapping(summary, "metrics")
    found = {name: number(paper, name) for name in ("dice", "iou")}
    published = {name: value / 100 for name, value in found.items() if value is not None}
    beside = next((name for name in _PUBLISHED if name in metrics), None)
    hd95 = number(paper, "hd95")
    return published | ({beside: hd95} if beside and hd95 is not None else {})


def _cell(metric: Mapping[str, Any]) -> tuple[str, str]:
    mean = number(metric, "mean")
    if mean is None:
        return NONE, ""
    unit = words(metric, "unit")
    return amount(mean, unit).removesuffix(f" {unit}"), interval(metric)


def _examples(rows: Sequence[Row]) -> dict[str, str]:
    """For each kind of prompt one that was asked."""
    found: dict[str, str] = {}
    for row in rows:
        if row.pair.prompt_key is not None and row.pair.prompt is not None:
            found.setdefault(row.pair.prompt_key, row.pair.prompt or "(nothing)")
    return found


def _sheet_line(row: Mapping[str, Any]) -> SheetLine:
    dice, difference = _figure(row, "dice"), _figure(row, "difference")
    return SheetLine(
        words(row, "label") or words(row, "key"),
        words(row, "example"),
        count(number(row, "n")),
        (share(number(dice, "mean")), interval(dice) if entries(dice, "interval") else ""),
        whisker(dice),
        (
            share(number(difference, "mean"), signed=True),
            interval(difference, signed=True) if _ends(difference)[0] is not None else "",
        ),
        share(number(_figure(row, "agreement"), "mean")),
        words(row, "verdict"),
    )


def _figure(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mean with its interval; a bare number is a mean."""
    found = row.get(key)
    return found if isinstance(found, Mapping) else {"mean": found}


def _texts(document: Any, key: str) -> tuple[str, ...]:
    return tuple(str(each) for each in entries(document, key) if isinstance(each, str | int | float))
