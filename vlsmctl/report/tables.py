"""The tables of the page, from summary.json: scores, what they are told apart by, prompt sensitivity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlsmctl.evaluation import Row
from vlsmctl.figures import COUNTS, PAPER_HD95, published
from vlsmctl.intervals import FEWEST, units
from vlsmctl.report.values import (
    NONE,
    amount,
    count,
    entries,
    mapping,
    number,
    share,
    whole,
    without_folders,
    words,
)

TILES = ("dice", "iou", "hd95_mm", "hd95_px", "nsd_mm", "nsd_px")
TOLD_APART = ("dice", "iou", "hd95_mm", "hd95_px")
MOST_VALUES = 60  # rows of a table that tells results apart
_UNKNOWN = "unknown"
_TITLES = {"prompt": "prompt", "data_set": "data set", "size_class": "size of the target"}


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
    """The published figures that stand beside ours. comparable: whether they were made in the same way, so
    that the difference means something; apart: the HD95, where none of ours means the same."""

    row: str
    source: str
    remarks: tuple[str, ...]
    comparable: bool
    apart: str


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
    """headings, counted: of the scores and of the counts. left: how many values are not shown. unknown:
    why some have no interval, "" where all have one."""

    title: str
    headings: tuple[str, ...]
    counted: tuple[str, ...]
    lines: tuple[GroupLine, ...]
    left: int
    unknown: str


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
        Count(key, count(number(summary, key)), *COUNTS[key])
        for key in COUNTS
        if number(summary, key) is not None and (key != "n_not_asked" or number(summary, key))
    )


def resampled(summary: Mapping[str, Any]) -> str:
    """What the intervals rest on, or why there are none."""
    groups = whole(summary, "n_groups")
    if groups is None:
        return "Means with 95 % intervals."
    of = units(groups, grouped=summary.get("grouped") is True)
    if groups < FEWEST:
        return f"Means; intervals are unknown: {of} are too few, as {FEWEST} are needed."
    return f"Means; 95 % intervals resample {of}."


def score_lines(summary: Mapping[str, Any]) -> tuple[ScoreLine, ...]:
    """A line for each score, beside the paper's figure where it has one."""
    row = mapping(summary, "about", "paper")
    theirs = published(row, mapping(summary, "metrics"))
    comparable = row.get("comparable") is True
    lines = []
    for name, metric in mapping(summary, "metrics").items():
        mean, unit = number(metric, "mean"), words(metric, "unit")
        if mean is None:
            continue
        paper = theirs.get(name)
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
                "" if paper is None or not comparable else amount(mean - paper, unit, signed=True),
            )
        )
    return tuple(lines)


def paper_row(summary: Mapping[str, Any]) -> PaperRow | None:
    paper = mapping(summary, "about", "paper")
    if not paper:
        return None
    hd95 = number(paper, "hd95")
    return PaperRow(
        words(paper, "row"),
        words(paper, "source"),
        _texts(paper, "remarks"),
        paper.get("comparable") is True,
        amount(hd95, "px") if hd95 is not None and PAPER_HD95 not in mapping(summary, "metrics") else "",
    )


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
        not_asked = mapping(summary, "not_asked") if column == "prompt" else {}
        parts = [(name, {**part, "n_not_asked": number(not_asked, name) or 0}) for name, part in members]
        counted = [key for key in COUNTS if key != "n_not_asked" or not_asked]
        lines = tuple(
            _group_line(str(name), asked.get(name, ""), part, labels, counted, alone=len(members) == 1)
            for name, part in parts[:MOST_VALUES]
        )
        unknown = any(_UNKNOWN in cell for line in lines for cell in line.cells)
        tables.append(
            GroupTable(
                f"By {_TITLES.get(column, str(column))}",
                tuple(labels.values()),
                tuple(COUNTS[key][0] for key in counted),
                lines,
                max(0, len(members) - MOST_VALUES),
                f"unknown: fewer than {FEWEST} patients, sequences or cases" if unknown else "",
            )
        )
    return tuple(tables)


def _group_line(
    name: str,
    example: str,
    part: Mapping[str, Any],
    metrics: Iterable[str],
    counted: Iterable[str],
    *,
    alone: bool,
) -> GroupLine:
    """alone: whether it is the only value, so that there is nothing to compare."""
    return GroupLine(
        without_folders(name),
        "" if example == name else example,
        None if alone else whisker(mapping(part, "metrics", "dice")),
        tuple(_cell(mapping(part, "metrics", metric)) for metric in metrics),
        tuple(count(number(part, key)) for key in counted),
    )


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
    units_of = words(document, "resampled_units")
    resample = f" The intervals resample {units_of}." if units_of else ""
    return f"Asked of {asked:,}{of} pictures with a target{unread}.{resample}"


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
        return _UNKNOWN
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
