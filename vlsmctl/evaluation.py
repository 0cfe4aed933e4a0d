"""Scores mask files against mask files: one row a case, honest about missed and empty ones.

Any tool may have written the masks; no model is imported here. What a missed or an empty case counts
is said in `vlsmctl.summary.RULES`, which every summary carries.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter

from vlsmctl.datasets.attributes import size_word
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.files import shown
from vlsmctl.mask_files import MaskPair, read_pair
from vlsmctl.metrics import METRICS, compare
from vlsmctl.pairing import CasePair
from vlsmctl.processors import MOST, processors

NOTHING = "empty"  # the size class of an empty target
SIZE_UNITS = {"mm": "ml", "px": "px"}  # of areas and volumes, by the unit of lengths

# By which the way to score the cases that are left is chosen; all in seconds, as measured
_PROBE = 0.05  # of scoring in this thread tell how long a case takes
_LOADING = 1.0  # may be what the first case takes because its reader is imported
_LOCKED = 1.2e-3  # of each case hold Python's lock, so that threads cannot share them
_START = 0.6  # until worker processes are there
_AT_ONCE = 0.03  # of work are handed to a worker process at once


@dataclass(frozen=True)
class Tolerance:
    """How far the surfaces may lie apart for NSD, for cases in px and for cases in mm.

    Raises UsageError for a tolerance that is negative, infinite or no number.
    """

    px: float = 2.0
    mm: float = 2.0

    def __post_init__(self) -> None:
        for unit in SIZE_UNITS:
            if not 0 <= self.of(unit) < inf:
                raise UsageError(f"a tolerance is a length of 0 or more, got {self.of(unit):g} {unit}")

    def of(self, unit: str) -> float:
        return self.mm if unit == "mm" else self.px


USUAL_TOLERANCE = Tolerance()


@dataclass(frozen=True)
class Row:
    """The scores of one case, or why there are none.

    scores: by the names of `METRICS`, empty for a failed case; unit: of the lengths, "mm" or "px";
    foregrounds: pixels or voxels, of `elements` in all (0: not known, as of a SEG alone); note: the reason
    of a failure, or a word of caution.
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
        """How much of the image the target covers, in MedVLSM's words, or "empty"; None: a failed case."""
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
    tolerance: Tolerance = Tolerance(),
) -> Scores:
    """One row for each pair, in order; see `RULES` for missing predictions and empty masks.

    workers: how many cases are worked on at once, each by a thread or a process, whichever the first cases
    show to be faster; None: as many as there are processors; 0 or 1: this thread does the work. At most
    one pair of masks is in memory for each worker, however many pairs there are.
    progress: wraps the rows as they come, as `vlsmctl.console.track` does.

    A pair with an `error`, a file that cannot be read, and two files of different size, kind or affine
    make a failed row with the reason; the rest goes on.
    """
    rows = _score_all(pairs, processors() if workers is None else min(workers, MOST), tolerance)
    with closing(rows):  # an interrupt may come anywhere
        return Scores(tuple(rows if progress is None else progress(rows)), tuple(extra), tolerance)


def _score_all(pairs: Sequence[CasePair], workers: int, tolerance: Tolerance) -> Generator[Row, None, None]:
    """Begins in this thread; once it is known how long a case takes, goes on in the fastest way."""
    spent = timed = 0.0
    for done, pair in enumerate(pairs, 1):
        began = perf_counter()
        row = _score(tolerance, pair)
        took = perf_counter() - began
        yield row
        if workers < 2 or (done == 1 and took < _LOADING):
            continue
        spent, timed = spent + took, timed + 1
        if spent > _PROBE:
            way = _fastest_way(len(pairs) - done, spent / timed, workers)
            if way != "here":
                yield from _WAYS[way](pairs[done:], spent / timed, workers, tolerance)
                return


def _fastest_way(cases: int, each: float, workers: int) -> str:
    """Here, or one of `_WAYS`, for so many cases of so many seconds.

    Threads start at once and share large masks well, as decoding and searching free Python's lock, but
    small ones only wait for it; processes need a while to start and then share everything.
    """
    seconds = {
        "here": cases * each,
        "threads": cases * max(each / workers, _LOCKED),
        "processes": cases * each / workers + _START,
    }
    return min(seconds, key=lambda way: seconds[way])


def _in_threads(
    pairs: Sequence[CasePair], each: float, workers: int, tolerance: Tolerance
) -> Iterator[Row]:
    return _in_order(ThreadPoolExecutor(workers), pairs, 1, workers, tolerance)


def _in_processes(
    pairs: Sequence[CasePair], each: float, workers: int, tolerance: Tolerance
) -> Iterator[Row]:
    """Each started afresh (spawn) on every system; an interrupt is for the parent to handle. Where they
    die, because memory runs out or a script starts itself again in each, this thread does the rest."""
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    done = 0
    try:
        for row in _in_order(pool, pairs, max(1, int(_AT_ONCE / each)), workers, tolerance):
            done += 1
            yield row
    except BrokenProcessPool:
        yield from _score_some(tolerance, pairs[done:])


_WAYS = {"threads": _in_threads, "processes": _in_processes}


def _in_order(
    pool: Executor, pairs: Sequence[CasePair], some: int, workers: int, tolerance: Tolerance
) -> Iterator[Row]:
    """The rows of all pairs, `some` of which make a task. Only a few tasks wait at a time, so that neither
    a million cases nor their rows are queued; when nobody wants more rows, they are given up."""
    waiting: deque[Future[list[Row]]] = deque()
    try:
        for start in range(0, len(pairs), some):
            waiting.append(pool.submit(_score_some, tolerance, pairs[start : start + some]))
            if len(waiting) >= 8 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _score_some(tolerance: Tolerance, pairs: Sequence[CasePair]) -> list[Row]:
    return [_score(tolerance, pair) for pair in pairs]


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
        return _scored(pair, masks, tolerance)
    except UnreadableFile as error:
        return Row(pair, {}, note=shown(str(error)))
    except MemoryError:
        return Row(pair, {}, note=shown(f"{pair.target}: not enough memory to compare it"))


def _scored(pair: CasePair, masks: MaskPair, tolerance: Tolerance) -> Row:
    found = compare(masks.prediction, masks.target, masks.steps, masks.element)
    within = tolerance.of(masks.unit)
    return Row(
        pair,
        {name: metric.compute(found, within) for name, metric in METRICS.items()},
        masks.unit,
        found.target,
        found.predicted,
        masks.target.size if masks.whole else 0,
        masks.caution,
    )
