"""Rows of scores in summary: means with intervals, counts, and the rules by which they were made."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from vlsmctl.datasets.attributes import SIZES
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import NOTHING, SIZE_UNITS, Row, Scores, Tolerance
from vlsmctl.files import shown
from vlsmctl.intervals import RULE, bootstrap_interval, known_ends
from vlsmctl.mask_files import FOREGROUND_RULE, GRID_RULE, NO_PREDICTION
from vlsmctl.metrics import EMPTY_RULE, METRICS

RULES = {
    "size": "every case is scored at the native size of its mask files",
    "prompts": "a case with several prompts is scored once for each, and counts that often in the means "
    "over all prompts; the means of each prompt, where prompts have names, are under 'by'. Prompts of "
    "a prepared data set that name size, count or place (p2 and up in most) take these words from the true "
    "mask, as in the published protocol; p1 names the class alone, as predict does without a prompt",
    "foreground": FOREGROUND_RULE,
    "grid": GRID_RULE,
    "empty": EMPTY_RULE,
    "no prediction": "a case without a prediction file is scored as an empty prediction",
    "failed": "cases that cannot be read or compared are listed and are in no mean",
    "unit": "lengths are in mm and volumes in ml where both files carry spacing (NIfTI, DICOM SEG), else "
    "lengths and areas are in px; the two are never averaged",
    "HD95": "95th percentile of the surface distances in each direction, the larger of the two",
    "NSD": "normalised surface Dice: share of both surfaces within the tolerance of the other",
    "volume error": "predicted minus true area (px) or volume (ml); the mean of the signed one is a bias",
    "size class": "of the share of the image that the target covers: tiny below 0.1 %, small to 8 %, "
    "medium to 30 %, large above; empty for an empty target",
    "interval": RULE,
}
PAPER_RULES = {
    "protocol": "as published (VLSM-Adapter, arXiv 2405.06196): threshold at the model's input size, then "
    "nearest-neighbour resize to the mask's own; nothing is suppressed by presence",
    "HD95": f"{RULES['HD95']}; hd95_defined is its mean over the cases in which neither mask is empty, as "
    "a library gives it that leaves the others out; hd95 counts every case",
}
PROTOCOLS = ("default", "paper")
OUTCOMES = ("missed", "false_alarm", "both_empty", "failed")  # that a mean alone does not show
NO_VALUE = "(none)"
Group = Callable[[Row], str | None]
# What results are always told apart by, where there is more than one
USUAL: dict[str, Group] = {
    "prompt": lambda row: row.pair.prompt_key,
    "data_set": lambda row: row.pair.data_set,
    "size_class": lambda row: row.size_class,
}


def summarise(
    scores: Scores,
    *,
    by: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    protocol: str = "default",
    not_asked: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Counts, rules, failures, and the mean and interval of each metric, ready for JSON.

    metrics: see `summaries`. by: for each column (prompt, data_set, size_class, and those asked for) and
    each of its values (`NO_VALUE` for cases without one), `n`, the counts of outcomes, and `metrics`.
    about: what was scored, as given. not_asked: how many pictures have no prompt of a key.

    Raises UsageError: a column in `by` that no case has.
    """
    rows, done = scores.rows, [row for row in scores.rows if row.scores]
    units = Counter(str(row.unit) for row in done)
    return {
        "about": dict(about or {}),
        "protocol": protocol,
        **counts(rows),
        "n_without_prediction": sum(row.pair.prediction is None for row in done),
        "n_not_asked": sum((not_asked or {}).values()),
        "n_groups": len(set(resampled(done))),
        "grouped": any(row.pair.group is not None for row in done),
        "units": dict(sorted(units.items())),
        "mixed_units": len(units) > 1,
        "tolerance": {"px": scores.tolerance.px, "mm": scores.tolerance.mm},
        "metrics": summaries(done, scores.tolerance, protocol),
        "by": {
            name: _told_apart(rows, group, scores.tolerance, protocol)
            for name, group in _columns(rows, by).items()
        },
        "not_asked": dict(not_asked or {}),
        "rules": {**RULES, **(PAPER_RULES if protocol == "paper" else {})},
        "failed": [_named(row) for row in rows if not row.scores],
        "cautions": [_named(row) for row in done if row.note],
        "caution_kinds": caution_kinds(done),
        "extra_predictions": [shown(path.as_posix()) for path in scores.extra],
    }


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """n, of the cases that have scores; those of which the means need explaining; and the failed."""
    outcomes = Counter(row.outcome for row in rows)
    return {
        "n": len(rows) - outcomes["failed"],
        **{
            f"n_{outcome}": outcomes[outcome]
            for outcome in ("missed", "false_alarm", "both_empty", "failed")
        },
    }


def known_columns(rows: Sequence[Row]) -> list[str]:
    """What results may be told apart by."""
    return [
        *USUAL,
        "group",
        *sorted({name for row in rows for name in row.pair.columns} - {*USUAL, "group"}),
    ]


def value_of(column: str, row: Row) -> str | None:
    """What a row has in a column that results are told apart by."""
    if column in USUAL:
        return USUAL[column](row)
    return row.pair.group if column == "group" else row.pair.columns.get(column)


def _columns(rows: Sequence[Row], asked: Sequence[str]) -> dict[str, Group]:
    known = known_columns(rows)
    for column in asked:
        if column not in known:
            near = difflib.get_close_matches(column, known, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise UsageError(
                f"--by {column!r}: no case has such a column{meant}; known are {', '.join(known)}"
            )
    usual = [name for name in USUAL if name not in asked]
    several = [name for name in usual if len({value_of(name, row) for row in rows} - {None}) > 1]
    return {name: partial(value_of, name) for name in dict.fromkeys((*several, *asked))}


def _told_apart(
    rows: Sequence[Row], group: Group, tolerance: Tolerance, protocol: str
) -> dict[str, dict[str, Any]]:
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(group(row) or NO_VALUE, []).append(row)
    return {
        value: {
            **counts(members[value]),
            "metrics": summaries([row for row in members[value] if row.scores], tolerance, protocol),
        }
        for value in sorted(members, key=_in_order)
    }


def _in_order(value: str) -> tuple[int, list[tuple[int, str]]]:
    """Sorts small before large, and p2 before p10."""
    size = (NOTHING, *SIZES).index(value) if value in (NOTHING, *SIZES) else -1
    parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", value)]
    return size, parts


def caution_kinds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What is to be known of several cases: n, the text of one of them, and its id; the most frequent
    first. Texts that differ in numbers alone are one kind."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for text in (row.note or "").split("; "):
            if text and text != NO_PREDICTION:
                found.setdefault(re.sub(r"\d+(\.\d+)?", "0", text), []).append((text, row.pair.id))
    kinds = sorted(found.values(), key=len, reverse=True)
    return [{"n": len(cases), "text": cases[0][0], "id": cases[0][1]} for cases in kinds]


def summaries(rows: Sequence[Row], tolerance: Tolerance, protocol: str) -> dict[str, dict[str, Any]]:
    """For each metric and unit (`dice`, `hd95_mm`, `nsd_px`, `volume_error_ml`, ...) label, unit, n, mean,
    sd, median and interval ([None, None] where it is unknown, as for a single case)."""
    made: dict[str, dict[str, Any]] = {}
    for name, metric in METRICS.items():
        for unit in sorted({str(row.unit) for row in rows}) if has_unit(name) else [None]:
            members = [row for row in rows if unit in (None, row.unit)]
            if not members:
                continue
            key, label, shown_unit = metric_key(name, unit), metric.label, None
            if unit is not None and metric.tolerant:
                label = f"{metric.label} (within {tolerance.of(unit):g} {unit})"
            elif unit is not None:
                shown_unit = SIZE_UNITS[unit] if metric.measures == "size" else unit
                word = metric.label.replace("volume", "area") if shown_unit == "px" else metric.label
                label = f"{word} ({shown_unit})"
            made[key] = {"label": label, "unit": shown_unit, **_mean_and_interval(members, name)}
            if name == "hd95" and protocol == "paper":
                defined = [row for row in members if row.outcome == "both_present"]
                if defined:
                    made[f"hd95_defined_{unit}"] = {
                        "label": f"HD95 ({unit}), where both are there",
                        "unit": shown_unit,
                        **_mean_and_interval(defined, name),
                    }
    return made


def has_unit(name: str) -> bool:
    """Whether cases in mm and in px are averaged apart: lengths, sizes, and what has a tolerance."""
    return METRICS[name].measures != "share" or METRICS[name].tolerant


def metric_key(name: str, unit: str | None) -> str:
    """What a metric is called in summary.json. unit: of the lengths of its cases; None: it has none."""
    if unit is None:
        return name
    return f"{name}_{SIZE_UNITS[unit] if METRICS[name].measures == 'size' else unit}"


def _mean_and_interval(rows: Sequence[Row], name: str) -> dict[str, Any]:
    values = np.array([row.scores[name] for row in rows])
    ends = bootstrap_interval(values, resampled(rows))
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "median": float(np.median(values)),
        "interval": known_ends(ends),
    }


def resampled(rows: Sequence[Row]) -> list[str]:
    """What is resampled: the group, else the case, so that its several prompts stay together."""
    pairs = [row.pair for row in rows]
    return [
        f"{pair.data_set} case {pair.id}" if pair.group is None else f"{pair.data_set} group {pair.group}"
        for pair in pairs
    ]


def _named(row: Row) -> dict[str, str | None]:
    return {"id": row.pair.id, "prompt": row.pair.prompt, "reason": row.note}
