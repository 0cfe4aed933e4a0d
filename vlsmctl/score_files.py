"""Scores on disk: `scores.csv`, a row a case, and `summary.json`; written, and read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlsmctl.errors import UsageError
from vlsmctl.evaluation import SIZE_UNITS, Row, Scores, Tolerance
from vlsmctl.files import write_json, write_text
from vlsmctl.mask_files import shown
from vlsmctl.metrics import METRICS
from vlsmctl.pairing import CasePair

SCORES, SUMMARY = "scores.csv", "summary.json"
COLUMNS = (
    "id", "data_set", "prompt", "prompt_key", "group", "size_class", "outcome", *METRICS, "hd95_inf", "unit",
    "size_unit", "target_foreground", "predicted_foreground", "elements", "prediction", "prediction_label",
    "target", "target_label", "image", "note",
)  # fmt: skip
FURTHER = "by_"  # begins the names of further columns, which hold what cases may be told apart by


def write_scores(folder: Path, scores: Scores, summary: Mapping[str, Any]) -> None:
    """`scores.csv` (`COLUMNS`, then a column for each further one of the pairs; full precision; files below
    the folder relative to it, others absolute) and `summary.json`, each whole or not there at all."""
    further = sorted({name for row in scores.rows for name in row.pair.columns})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*COLUMNS, *(FURTHER + name for name in further)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(row, folder) for row in scores.rows)
    write_text(folder / SCORES, stream.getvalue())
    write_json(folder / SUMMARY, summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json as a dict. Raises UsageError: it is not there, or damaged."""
    path = folder / SUMMARY
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"no scores in {str(folder)!r} (expected {SUMMARY} in it)", hint="vlsmctl eval makes them"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="score again: vlsmctl eval") from error
    if not isinstance(document, dict) or "metrics" not in document:
        raise UsageError(f"{path}: expected the summary of an evaluation", hint="score again: vlsmctl eval")
    return document


def read_scores(folder: Path) -> Scores:
    """The rows of `scores.csv`, as they were scored. Raises UsageError: not there, damaged, or without a
    column that is needed."""
    path, summary = folder / SCORES, read_summary(folder)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f"expected the columns {', '.join(sorted(missing))}")
            rows = tuple(_row(line, folder) for line in reader)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="score again: vlsmctl eval") from error
    return Scores(
        rows, tuple(Path(name) for name in summary["extra_predictions"]), Tolerance(**summary["tolerance"])
    )


def _csv_row(row: Row, folder: Path) -> dict[str, Any]:
    pair = row.pair
    return {
        "id": pair.id, "data_set": pair.data_set, "prompt": pair.prompt, "prompt_key": pair.prompt_key,
        "group": pair.group, "size_class": row.size_class, "outcome": row.outcome, **row.scores,
        "hd95_inf": row.hd95_inf, "unit": row.unit, "size_unit": SIZE_UNITS.get(str(row.unit)),
        "target_foreground": row.target_foreground, "predicted_foreground": row.predicted_foreground,
        "elements": row.elements, "prediction": _name(pair.prediction, folder),
        "prediction_label": pair.prediction_label, "target": _name(pair.target, folder),
        "target_label": pair.target_label, "image": _name(pair.image, folder), "note": row.note,
        **{FURTHER + name: value for name, value in pair.columns.items()},
    }  # fmt: skip


def _name(path: Path | None, folder: Path) -> str | None:
    if path is None:
        return None
    own, absolute = folder.absolute(), path.absolute()
    return shown((absolute.relative_to(own) if absolute.is_relative_to(own) else absolute).as_posix())


def _row(line: Mapping[str, str], folder: Path) -> Row:
    def text(name: str) -> str | None:
        return line[name] or None

    def number(name: str) -> int | None:
        return int(line[name]) if line[name] else None

    def file(name: str) -> Path | None:
        return folder / line[name] if line[name] else None

    pair = CasePair(
        id=line["id"],
        prediction=file("prediction"),
        target=folder / line["target"],
        group=text("group"),
        prompt=line["prompt"] if line["prompt_key"] else text("prompt"),
        prompt_key=text("prompt_key"),
        prediction_label=number("prediction_label"),
        target_label=number("target_label"),
        image=file("image"),
        data_set=text("data_set"),
        columns={
            name.removeprefix(FURTHER): value
            for name, value in line.items()
            if name.startswith(FURTHER) and value
        },
    )
    return Row(
        pair,
        {name: float(line[name]) for name in METRICS if line[name]},
        text("unit"),
        number("target_foreground"),
        number("predicted_foreground"),
        number("elements"),
        text("note"),
    )
