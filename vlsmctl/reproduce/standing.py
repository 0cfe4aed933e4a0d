"""What is done of a cell of the grid, read from its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vlsmctl import runs
from vlsmctl.config import Preset
from vlsmctl.errors import MissingWeights, UsageError
from vlsmctl.models.weights import locate
from vlsmctl.reproduce.grid import (
    BEGUN,
    FINISHED,
    NO_WEIGHTS,
    PARTLY,
    SPLIT,
    TODO,
    TRAINED,
    UNUSABLE,
    Cell,
    Problem,
    problem_of,
)
from vlsmctl.score_files import read_summary
from vlsmctl.training import preset_hash


@dataclass(frozen=True)
class Standing:
    """What is done of a cell. document: run.json, where there is one. summary: of the scores, where they
    are those of this adapter, data and protocol; of a finished cell, of all pictures. problem: why nothing
    more can be done."""

    state: str
    document: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    problem: Problem | None = None


def standing(cell: Cell, protocol: str) -> Standing:
    """What is done of the cell, from its folder. A finished cell needs neither data nor weights."""
    try:
        document = _document(cell)
    except UsageError as error:
        return Standing(UNUSABLE, problem=problem_of(error, UNUSABLE))
    state, summary = TODO if document is None else BEGUN, None
    if document is not None and document["status"] == "finished":
        summary = _scores_of(cell, document, protocol)
        state = TRAINED if summary is None else PARTLY if summary["n_failed"] else FINISHED
    if state == FINISHED:
        return Standing(state, document, summary)
    problem = cell.problem or _missing_weights(cell.preset)
    return Standing(problem.state if problem else state, document, summary, problem)


def scores_folder(folder: Path, protocol: str) -> Path:
    """Where the grid scores a run: a folder of its own, that no `vlsmctl eval` of the run writes to."""
    return folder / runs.EVALUATIONS / f"reproduce-{protocol}"


def training_seconds(cell: Cell, document: Mapping[str, Any]) -> float:
    """As run.json tells it, but no less than the epochs took: what a killed process spent is not in it."""
    told = float(document["seconds"])
    if cell.folder is None:
        return told
    try:
        lines = (cell.folder / runs.METRICS).read_text(encoding="utf-8").splitlines()
        return max(told, sum(float(json.loads(line)["seconds"]) for line in lines))
    except (OSError, ValueError, KeyError, TypeError):
        return told


def _document(cell: Cell) -> dict[str, Any] | None:
    """run.json; None where there is none. Raises UsageError: it is damaged, or of another run."""
    if cell.folder is None or not (cell.folder / runs.RUN).is_file():
        return None
    path, document = cell.folder / runs.RUN, runs.read_run(cell.folder)
    try:
        found = document["preset_sha256"], document["data"]["manifest_sha256"], document["status"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path} is not whole: {error}", hint=f"move {cell.folder} away") from error
    if cell.manifest is not None and found[:2] != (preset_hash(cell.preset), cell.manifest.hash):
        raise UsageError(
            f"{path} is of other settings or data than its folder's name stands for",
            hint=f"move {cell.folder} away",
        )
    return document


def _scores_of(cell: Cell, document: Mapping[str, Any], protocol: str) -> dict[str, Any] | None:
    """The summary of the test split's scores with the adapter as it is now, whole and of this protocol."""
    if cell.folder is None:
        return None
    adapter = _adapter_hash(cell.folder / runs.ADAPTER)
    wanted = {
        "adapter_sha256": adapter,
        "manifest_sha256": document["data"]["manifest_sha256"],
        "split": SPLIT,
        "prompts": cell.preset.prompts.eval,
        "protocol": protocol,
        "presence_asked": None,
    }
    try:
        summary = read_summary(scores_folder(cell.folder, protocol))
    except UsageError:
        return None  # it is scored again
    about = summary.get("about")
    same = adapter is not None and isinstance(about, dict) and wanted.items() <= about.items()
    return summary if same and summary.get("n") and isinstance(summary.get("n_failed"), int) else None


def _adapter_hash(path: Path) -> str | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return _hash_as_of(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash_as_of(path: Path, _size: int, _modified: int) -> str:
    """Large adapters (of the method full) are asked for after every cell, and read once."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _missing_weights(preset: Preset) -> Problem | None:
    if preset.model == "tiny" and preset.weights is None:
        return None  # it is part of the package
    try:
        locate(preset.model, preset.weights)
    except MissingWeights as error:
        return problem_of(error, NO_WEIGHTS)
    return None
