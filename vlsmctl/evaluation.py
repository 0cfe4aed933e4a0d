"""Scores mask files against mask files: folders in, one row a case and an honest summary out.

Any tool may have written the masks; no model is imported here. What a missed or an empty case counts
is said in `RULES`, which every summary carries.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlsmctl.errors import UnreadableFile
from vlsmctl.files import write_json, write_text
from vlsmctl.mask_files import (
    FOREGROUND_RULE,
    CasePair,
    MaskFile,
    by,
    match_folders,
    read_mask_file,
    shown,
)
from vlsmctl.metrics import EMPTY_RULE, METRICS, bootstrap_interval

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "COLUMNS", "RULES", "CasePair", "Row", "Scores", "match_folders", "prompt_table", "score_cases",
    "score_table", "summarise", "write_scores",
]  # fmt: skip

AFFINE_TOLERANCE = 1e-3
RULES = {
    "size": "every case is scored at the native size of its mask files",
    "prompts": "a case with several prompts is scored once for each, and counts that often in the means "
    "over all prompts; the means of each prompt, where prompts have names, are under 'prompts'. Prompts of "
    "a prepared data set that name size, count or place (p2 and up in most) take these words from the true "
    "mask, as in the published protocol; p1 names the class alone, as predict does without a prompt",
    "foreground": FOREGROUND_RULE,
    "empty": EMPTY_RULE,
    "no prediction": "a case without a prediction file is scored as an empty prediction",
    "failed": "cases that cannot be read or compared are listed and are in no mean",
    "unit": "HD95 is in mm where both files carry spacing (NIfTI), else in px; the two are never averaged",
    "HD95": "95th percentile of the surface distances in each direction, the larger of the two",
    "interval": "95 % percentile bootstrap of the mean, 2000 resamples of patients or sequences "
    "where known, else of cases",
}
COLUMNS = (
    "id", "prompt", "prompt_key", "group", "outcome", *METRICS, "unit",
    "target_foreground", "predicted_foreground", "prediction", "target", "note",
)  # fmt: skip
_COUNTS = {
    "n_missed": "missed (target there, nothing predicted)",
    "n_false_alarm": "false alarm (target empty, something predicted)",
    "n_both_empty": "both empty",
    "n_without_prediction": "without a prediction file",
    "n_failed": "failed (in no mean)",
}


@dataclass(frozen=True)
class Row:
    """The scores of one case, or why there are none.

    scores: by the names of `METRICS`, empty for a failed case; unit: of the lengths, "mm" or "px";
    foregrounds: pixels or voxels; note: the reason of a failure, or a word of caution.
    """

    pair: CasePair
    scores: Mapping[str, float]
    unit: str | None = None
    target_foreground: int | None = None
    predicted_foreground: int | None = None
    note: str | None = None

    @property
    def outcome(self) -> str:
        """failed, both_present, missed, false_alarm or both_empty."""
        if not self.scores:
            return "failed"
        if self.target_foreground:
            return "both_present" if self.predicted_foreground else "missed"
        return "false_alarm" if self.predicted_foreground else "both_empty"


@dataclass(frozen=True)
class Scores:
    """One row a case, in the order of the pairs; extra: predictions that belong to no target."""

    rows: tuple[Row, ...]
    extra: tuple[Path, ...] = ()


Progress = Callable[[Iterable[Row]], Iterable[Row]]


def score_cases(
    pairs: Sequence[CasePair],
    *,
    workers: int,
    progress: Progress | None = None,
    extra: Sequence[Path] = (),
) -> Scores:
    """One row for each pair, in order; see `RULES` for missing predictions and empty masks.

    workers: processes; 0 or 1: this one does the work.
    progress: wraps the rows as they come, as `vlsmctl.console.track` does.

    A pair with an `error`, a file that cannot be read, and two files of different size, kind or affine
    make a failed row with the reason; the rest goes on.
    """
    rows = _score_all(pairs, workers)
    return Scores(tuple(rows if progress is None else progress(rows)), tuple(extra))


def _score_all(pairs: Sequence[CasePair], workers: int) -> Iterator[Row]:
    """Processes, not threads: readers silence warnings for the whole process while they work. Each
    started afresh (spawn) on every system; an interrupt is for the parent to handle."""
    if min(workers, len(pairs)) <= 1:
        yield from map(_score, pairs)
        return
    batch = 64 * workers  # so that a million cases are not all queued at once
    chunk = max(1, min(8, len(pairs) // (4 * workers)))
    with ProcessPoolExecutor(
        min(workers, len(pairs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        for start in range(0, len(pairs), batch):
            yield from pool.map(_score, pairs[start : start + batch], chunksize=chunk)


def _score(pair: CasePair) -> Row:
    if pair.error is not None:
        return Row(pair, {}, note=shown(pair.error))
    try:
        target = read_mask_file(pair.target)
        prediction = None if pair.prediction is None else read_mask_file(pair.prediction)
        if prediction is not None:
            _refuse_other_grid(pair, prediction, target)
    except UnreadableFile as error:
        return Row(pair, {}, note=shown(str(error)))
    mask = np.zeros_like(target.mask) if prediction is None else prediction.mask
    return Row(
        pair,
        {name: metric.compute(mask, target.mask, target.steps) for name, metric in METRICS.items()},
        target.unit,
        int(np.count_nonzero(target.mask)),
        int(np.count_nonzero(mask)),
        _caution(prediction, target),
    )


def _refuse_other_grid(pair: CasePair, prediction: MaskFile, target: MaskFile) -> None:
    """Scores compare pixel by pixel, so both masks must lie on the same ones."""
    where = f"{pair.prediction}: expected the grid of {pair.target}"
    if (prediction.affine is None) != (target.affine is None):
        kinds = ["picture" if mask.affine is None else "NIfTI" for mask in (target, prediction)]
        raise UnreadableFile(f"{where}, a {kinds[0]} file, found a {kinds[1]} file")
    if prediction.size != target.size:
        raise UnreadableFile(f"{where}, {by(target.size)}, found {by(prediction.size)}")
    if prediction.affine is not None and target.affine is not None:
        difference = float(np.abs(prediction.affine - target.affine).max())
        if difference > AFFINE_TOLERANCE:
            raise UnreadableFile(
                f"{where}, found an affine that differs from its by up to {difference:.4g} mm"
            )


def _caution(prediction: MaskFile | None, target: MaskFile) -> str | None:
    said = [f"target: {target.caution}"] if target.caution else []
    if prediction is None:
        said.append("no prediction file")
    elif prediction.caution:
        said.append(f"prediction: {prediction.caution}")
    return "; ".join(said) or None


def summarise(scores: Scores) -> dict[str, Any]:
    """Counts, rules, failures, and the mean and interval of each metric, ready for JSON.

    metrics: `dice`, `iou`, and `hd95_mm`, `hd95_px` for the units that occur, each with label, unit,
    n, mean and interval ([None, None] where it is unknown, as for a single case). prompts: for each
    `prompt_key` that occurs, its own `metrics` (none, if all its cases failed).
    """
    done = [row for row in scores.rows if row.scores]
    outcomes = Counter(row.outcome for row in scores.rows)
    units = Counter(row.unit for row in done)
    return {
        "n": len(done),
        "n_missed": outcomes["missed"],
        "n_false_alarm": outcomes["false_alarm"],
        "n_both_empty": outcomes["both_empty"],
        "n_without_prediction": sum(row.pair.prediction is None for row in done),
        "n_failed": outcomes["failed"],
        "n_groups": len(set(_groups(done))),
        "units": dict(sorted((str(unit), number) for unit, number in units.items())),
        "mixed_units": len(units) > 1,
        "metrics": _summaries(done),
        "prompts": _by_prompt(scores.rows),
        "rules": RULES,
        "failed": [_named(row) for row in scores.rows if not row.scores],
        "cautions": [_named(row) for row in done if row.note],
        "extra_predictions": [shown(path.as_posix()) for path in scores.extra],
    }


def _by_prompt(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    members: dict[str, list[Row]] = {}
    for row in rows:
        if row.pair.prompt_key is not None:
            scored = members.setdefault(row.pair.prompt_key, [])
            scored += [row] if row.scores else []
    return {key: _summaries(members[key]) for key in sorted(members, key=_numbers_as_such)}


def _numbers_as_such(key: str) -> list[str | int]:
    """Sorts p2 before p10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", key)]


def _summaries(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    summaries = {}
    for name, metric in METRICS.items():
        for unit in sorted({str(row.unit) for row in rows}) if metric.is_length else [None]:
            members = [row for row in rows if unit in (None, row.unit)]
            if members:
                label = f"{metric.label} ({unit})" if unit else metric.label
                summaries[f"{name}_{unit}" if unit else name] = {
                    "label": label, "unit": unit, **_mean_and_interval(members, name),
                }  # fmt: skip
    return summaries


def _mean_and_interval(rows: Sequence[Row], name: str) -> dict[str, Any]:
    values = [row.scores[name] for row in rows]
    ends = bootstrap_interval(values, _groups(rows))
    return {
        "n": len(values),
        "mean": float(np.mean(values)),
        "interval": [end if isfinite(end) else None for end in ends],
    }


def _groups(rows: Sequence[Row]) -> list[str]:
    """What is resampled: the group, else the case, so that its several prompts stay together."""
    return [f"case {row.pair.id}" if row.pair.group is None else f"group {row.pair.group}" for row in rows]


def _named(row: Row) -> dict[str, str | None]:
    return {"id": row.pair.id, "prompt": row.pair.prompt, "reason": row.note}


def write_scores(folder: Path, scores: Scores) -> None:
    """`scores.csv` (columns `COLUMNS`, one row a case, full precision) and `summary.json`, each whole
    or not there at all."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(row) for row in scores.rows)
    write_text(folder / "scores.csv", stream.getvalue())
    write_json(folder / "summary.json", summarise(scores))


def _csv_row(row: Row) -> dict[str, Any]:
    pair = row.pair
    return {
        "id": pair.id, "prompt": pair.prompt, "prompt_key": pair.prompt_key, "group": pair.group,
        "outcome": row.outcome, **row.scores, "unit": row.unit, "target_foreground": row.target_foreground,
        "predicted_foreground": row.predicted_foreground,
        "prediction": None if pair.prediction is None else shown(pair.prediction.as_posix()),
        "target": shown(pair.target.as_posix()), "note": row.note,
    }  # fmt: skip


def score_table(summary: Mapping[str, Any]) -> Table:
    """The summary as a table for the terminal: a row a metric, then the counts."""
    from rich.table import Table

    table = Table("score", "mean", "95 % interval", "cases")
    for metric in summary["metrics"].values():
        table.add_row(metric["label"], *_figures(metric), str(metric["n"]))
    table.add_section()
    for key, label in _COUNTS.items():
        table.add_row(label, "", "", str(summary[key]))
    if summary["mixed_units"]:
        table.caption = "some cases are in mm, some in px: HD95 is given for each apart"
    return table


def prompt_table(summary: Mapping[str, Any]) -> Table | None:
    """Each prompt's own means and intervals, a row a prompt; None with fewer than two prompts, whose
    means are those of `score_table`."""
    from rich.markup import escape
    from rich.table import Table

    prompts: Mapping[str, Mapping[str, Any]] = summary["prompts"]
    if len(prompts) < 2:
        return None
    labels = {name: metric["label"] for name, metric in summary["metrics"].items()}
    table = Table("prompt", *labels.values(), "cases", caption="mean (95 % interval)")
    for key, metrics in prompts.items():
        cells = ["{} ({})".format(*_figures(metrics[name])) if name in metrics else "" for name in labels]
        # Dice, unlike a length, is there for every case
        table.add_row(escape(key), *cells, str(metrics["dice"]["n"] if metrics else 0))
    return table


def _figures(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Mean and interval, as they are shown."""
    digits = 1 if metric["unit"] else 3
    low, high = metric["interval"]
    interval = "unknown" if low is None else f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{metric['mean']:.{digits}f}", interval
