"""The files of a run or of an evaluation, as far as they can be read: what is missing or damaged is said,
and costs its own place on the page only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlsmctl import runs
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import Row
from vlsmctl.report.values import number, whole, without_folders
from vlsmctl.score_files import SCORES, SUMMARY, read_rows, read_summary

_UNREADABLE = (UsageError, OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Epoch:
    """A line of metrics.jsonl: mean loss, validation Dice (None: not a number), learning rate."""

    epoch: int
    loss: float | None
    dice: float | None
    lr: float | None


@dataclass(frozen=True)
class Evaluation:
    """A folder of scores. summary: empty where it cannot be read; rows: None where they cannot. missing:
    what is not there, in sentences."""

    name: str
    folder: Path
    summary: Mapping[str, Any]
    rows: tuple[Row, ...] | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run folder: run.json, metrics.jsonl."""

    folder: Path
    document: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    missing: tuple[str, ...] = ()


def is_run(folder: Path) -> bool:
    return (folder / runs.RUN).is_file()


def is_evaluation(folder: Path) -> bool:
    return (folder / SUMMARY).is_file() or (folder / SCORES).is_file()


def read_run(folder: Path) -> Run:
    """run.json and metrics.jsonl of a run folder."""
    missing, document = list[str](), dict[str, Any]()
    try:
        document = runs.read_run(folder)
    except _UNREADABLE:
        missing.append(f"{runs.RUN} cannot be read, so this page does not say what was trained, or how.")
    epochs, damaged = _read_epochs(folder / runs.METRICS)
    if damaged:
        missing.append(damaged)
    return Run(folder, document, epochs, tuple(missing))


def evaluation_folders(run: Path) -> list[Path]:
    """The folders of a run's evaluations, the newest first."""
    try:
        found = [folder for folder in (run / runs.EVALUATIONS).iterdir() if is_evaluation(folder)]
    except OSError:
        return []
    return sorted(sorted(found), key=_written_at, reverse=True)


def read_evaluation(folder: Path, name: str, *, rows: bool = True) -> Evaluation:
    """summary.json and scores.csv of a folder. rows: whether scores.csv is wanted."""
    missing, summary = list[str](), dict[str, Any]()
    try:
        summary = read_summary(folder)
    except _UNREADABLE:
        missing.append(
            f"{SUMMARY} is missing or damaged, so there are no means here; vlsmctl eval makes it again."
        )
    if not rows:
        return Evaluation(name, folder, summary, None, tuple(missing))
    scored: tuple[Row, ...] | None = None
    try:
        scored = tuple(read_rows(folder))
    except _UNREADABLE as error:
        why = without_folders(str(error), [folder / SCORES]) if isinstance(error, UsageError) else "damaged"
        missing.append(f"The single cases are not shown ({why}); vlsmctl eval makes {SCORES} again.")
    stated = whole(summary, "n")
    if scored is not None and stated not in (None, found := sum(bool(row.scores) for row in scored)):
        missing.append(
            f"{SUMMARY} speaks of {stated:,} scored cases and {SCORES} holds {found:,}: the means and the "
            "single cases are not of the same evaluation; vlsmctl eval makes both again."
        )
    return Evaluation(name, folder, summary, scored, tuple(missing))


def _written_at(folder: Path) -> int:
    for name in (SUMMARY, SCORES):
        try:
            return (folder / name).stat().st_mtime_ns
        except OSError:
            continue
    return 0


def _read_epochs(path: Path) -> tuple[tuple[Epoch, ...], str | None]:
    """The lines that can be read, the last of each epoch, and what is wrong."""
    try:
        lines: Sequence[str] = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return (), None
    except OSError as error:
        return (), f"{path.name} cannot be read ({error.strerror}), so there are no training curves."
    found: dict[int, Epoch] = {}
    damaged = 0
    for line in filter(str.strip, lines):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        epoch = whole(document, "epoch")
        if epoch is None:
            damaged += 1
            continue
        found[epoch] = Epoch(epoch, *(number(document, key) for key in ("loss", "dice", "lr")))
    said = f"{path.name} has {damaged} damaged lines, which the curves leave out." if damaged else None
    if damaged == 1:
        said = f"{path.name} has a damaged line, which the curves leave out."
    return tuple(found[epoch] for epoch in sorted(found)), said
