"""Scores mask files against mask files: one row a case, honest about missed and empty ones.

Any tool may have written the masks; no model is imported here. What a missed or an empty case counts
is said in `vlsmctl.summary.RULES`, which every summary carries.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

from vlsmctl.datasets.attributes import size_word
from vlsmctl.errors import UnreadableFile
from vlsmctl.mask_files import MaskPair, read_pair, shown
from vlsmctl.metrics import METRICS, compare
from vlsmctl.pairing import CasePair

NOTHING = "none"  # the size class of an empty target
SIZE_UNITS = {"mm": "ml", "px": "px"}  # of areas and volumes, by the unit of lengths


@dataclass(frozen=True)
class Tolerance:
    """How far the surfaces may lie apart for NSD, for cases in px and for cases in mm."""

    px: float = 2.0
    mm: float = 2.0

    def of(self, unit: str) -> float:
        return self.mm if unit == "mm" else self.px


USUAL_TOLERANCE = Tolerance()


@dataclass(frozen=True)
class Row:
    """The scores of one case, or why there are none.

    scores: by the names of `METRICS`, empty for a failed case; unit: of the lengths, "mm" or "px";
    foregrounds: pixels or voxels, of `elements` in all; note: the reason of a failure, or a word of
    caution.
    """

    pair: CasePair
    scores: Mapping[str, float]
    unit: str | None = None
    target_foreground: int | None = None
    predicted_foreground: int | None = None
    elements: int | None = None
    note: str | None = None

    @property
    def outcome(self) -> str:
        """failed, both_present, missed, false_alarm or both_empty."""
        if not self.scores:
            return "failed"
        if self.target_foreground:
            return "both_present" if self.predicted_foreground else "missed"
        return "false_alarm" if self.predicted_foreground else "both_empty"

    @property
    def size_class(self) -> str | None:
        """How much of the image the target covers, in MedVLSM's words, or "none"; None: a failed case."""
        if not self.scores or not self.elements:
            return None
        return size_word(self.target_foreground / self.elements) if self.target_foreground else NOTHING

    @property
    def hd95_inf(self) -> float | None:
        """HD95 as the textbook has it: infinite where exactly one mask is empty. None for a failed case."""
        return inf if self.outcome in ("missed", "false_alarm") else self.scores.get("hd95")


@dataclass(frozen=True)
class Scores:
    """One row a case, in the order of the pairs; extra: predictions that belong to no target."""

    rows: tuple[Row, ...]
    extra: tuple[Path, ...] = ()
    tolerance: Tolerance = USUAL_TOLERANCE


Progress = Callable[[Iterable[Row]], Iterable[Row]]


def score_cases(
    pairs: Sequence[CasePair],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    extra: Sequence[Path] = (),
    tolerance: Tolerance = USUAL_TOLERANCE,
) -> Scores:
    """One row for each pair, in order; see `RULES` for missing predictions and empty masks.

    workers: processes; 0 or 1: this one does the work.
    progress: wraps the rows as they come, as `vlsmctl.console.track` does.

    A pair with an `error`, a file that cannot be read, and two files of different size, kind or affine
    make a failed row with the reason; the rest goes on.
    """
    rows = _score_all(pairs, workers, tolerance)
    return Scores(tuple(rows if progress is None else progress(rows)), tuple(extra), tolerance)


def _score_all(pairs: Sequence[CasePair], workers: int | None, tolerance: Tolerance) -> Iterator[Row]:
    """Processes, not threads: readers silence warnings for the whole process while they work. Each
    started afresh (spawn) on every system; an interrupt is for the parent to handle."""
    score = partial(_score, tolerance)
    workers = workers or 0
    if min(workers, len(pairs)) <= 1:
        yield from map(score, pairs)
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
            yield from pool.map(score, pairs[start : start + batch], chunksize=chunk)


def _score(tolerance: Tolerance, pair: CasePair) -> Row:
    if pair.error is not None:
        return Row(pair, {}, note=shown(pair.error))
    try:
        masks = read_pair(
            pair.prediction,
            pair.target,
            prediction_label=pair.prediction_label,
            target_label=pair.target_label,
        )
    except UnreadableFile as error:
        return Row(pair, {}, note=shown(str(error)))
    return _scored(pair, masks, tolerance)


def _scored(pair: CasePair, masks: MaskPair, tolerance: Tolerance) -> Row:
    found = compare(masks.prediction, masks.target, masks.steps, masks.element)
    within = tolerance.of(masks.unit)
    return Row(
        pair,
        {name: metric.compute(found, within) for name, metric in METRICS.items()},
        masks.unit,
        found.target,
        found.predicted,
        masks.target.size,
        masks.caution,
    )
