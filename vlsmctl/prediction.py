"""Scans in, masks in native geometry out, one line of a ledger for each prompt.

Reading, computing and writing overlap: threads read and shrink frames ahead, the calling thread runs the
model on batches of frames of any scans, and one thread writes. What is in memory at any time, beside the
model: for each reader one slab of a volume (at most 128 MiB) or one frame, but only one frame of more than
33 megapixels at a time; a few frames at the model's size; one frame's probabilities at its own size; and
the masks of the cases in hand as deflated bits, at most 4 MiB for each prompt and case (the rest on disk).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from vlsmctl.ahead import ahead_of_all
from vlsmctl.cases import Case, Done, Options, all_prompts, targets
from vlsmctl.errors import DiskFull, UnreadableFile
from vlsmctl.files import NO_ROOM, remove, remove_leftovers
from vlsmctl.formats.records import Origin, Problem, Scan
from vlsmctl.formats.scan import open_scan
from vlsmctl.ledger import Entry, Known, append, begun_path, ledger_path, open_ledger, read_ledger
from vlsmctl.machine import Machine
from vlsmctl.predictor import Cut, Predictor, Ready, Segmented, ready
from vlsmctl.runtime import StopFlag
from vlsmctl.writing import Results, failed, results_for, timed, why_not_writable, write_case

_WRITING = 4  # cases that may wait to be written
_LITTLE_ROOM = 2**20  # bytes
_LARGE = 2**25  # pixels; larger frames are read one at a time, whatever the number of readers
_one_at_a_time = Lock()


@dataclass(frozen=True)
class Watch:
    """Who is told of it as it goes. entry: as each is in the ledger; part: of a scan, 0..1, as its frames
    are done; say: what the user should know."""

    entry: Callable[[Entry], None] = lambda entry: None
    part: Callable[[float], None] = lambda part: None
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Outcome:
    """entries: what was done now. before: what was there already."""

    entries: list[Entry]
    before: list[Entry]


def predict(
    predictor: Predictor,
    cases: Sequence[Case],
    out: Path,
    options: Options,
    *,
    stop: StopFlag,
    problems: Sequence[Problem] = (),
    watch: Watch = Watch(),
    known: Known | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> Outcome:
    """Writes the masks of the cases below `out`, and the ledger.

    cases: as `cases.plan_cases` makes them. A scan that cannot be read is entered as failed, with the
    reason; the rest goes on. `problems` (what was found not to be a scan) are entered as skipped. What the
    ledger (or `known`, its content) has as done with the same files, model and options, and whose masks
    are still there, is not done again unless `overwrite`. When a stop is asked for, the scans in hand are
    finished first. rank, ranks: of several processes that share the work, each does its own part of the
    cases and writes its own part of the ledger.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = read_ledger(out) if known is None else known
    done, entries, before, mine = Done(known, out), list[Entry](), list[Entry](), list[Case]()
    for case in cases[rank::ranks]:
        there = [] if options.overwrite else done.entries(case)
        before += there
        if not there:
            mine.append(case)
    skipped = [_skipped(problem) for problem in problems if not problem.harmless] if rank == 0 else []
    for folder in {(out / case.stem).parent for case in mine}:
        remove_leftovers(folder)
    with open_ledger(ledger_path(out, rank, ranks)) as ledger, _begun(out, rank) as begin:

        def enter(made: Sequence[Entry]) -> None:
            for entry in made:
                if not _is_known_failure(entry, known):
                    _remove_outdated(entry, known, out)
                    append(ledger, entry)

        enter(skipped)
        if mine:
            machine = Machine(predictor, all_prompts(cases), _cut(options), options.batch_size, watch.say)
            entries = _work(machine, mine, out, options, begin, enter, stop, watch)
    return Outcome(entries, before)


@contextmanager
def _begun(out: Path, rank: int) -> Iterator[Callable[[Case, Options], None]]:
    """Notes the files of each case before they are written; the notes go when all are in the ledger."""
    path = begun_path(out, rank)
    with path.open("a", encoding="ascii", newline="\n") as stream:

        def begin(case: Case, options: Options) -> None:
            stream.write(json.dumps([target.as_posix() for target in targets(case, options)]) + "\n")
            stream.flush()

        yield begin
    path.unlink()


def _work(
    machine: Machine,
    cases: Sequence[Case],
    out: Path,
    options: Options,
    begin: Callable[[Case, Options], None],
    enter: Callable[[Sequence[Entry]], None],
    stop: StopFlag,
    watch: Watch,
) -> list[Entry]:
    """Reads, computes and writes the cases. begin: is told of each before it is written; enter: into the
    ledger, as each ends."""
    entries: list[Entry] = []
    predictor = machine.predictor
    origin = Origin(predictor.name, "", predictor.base_sha256, predictor.adapter_sha256)

    def end(task: _Task) -> list[Entry]:
        begin(task.case, options)
        made = _written(task, out, origin, options)
        enter(made)
        return made

    def tell(made: list[Entry]) -> None:
        entries.extend(made)
        for entry in made:
            watch.entry(entry)

    with _writer(end, tell, options.workers) as write:
        for task in _computed(machine, cases, options, stop, watch):
            write(task)
    return entries


def _is_known_failure(entry: Entry, known: Known) -> bool:
    """Whether the ledger says so already: the same attempt has failed for the same reason before."""
    before = known.get((entry.input, entry.prompt))
    return entry.output is None and before is not None and replace(before, seconds=entry.seconds) == entry


def _remove_outdated(entry: Entry, known: Known, out: Path) -> None:
    """Of a scan whose files have changed and now fail, the earlier mask: it would be taken for theirs."""
    before = known.get((entry.input, entry.prompt))
    if entry.status == "failed" and before is not None and before.scan not in ("", entry.scan):
        for name in before.files:
            remove(out / name)


def _cut(options: Options) -> Cut:
    needed = options.combine or options.probabilities is not None
    return replace(options.cut, keep_probabilities=needed)


@dataclass
class _Task:
    """A case on its way."""

    case: Case
    started: float = field(default_factory=time.perf_counter)
    scan: Scan | None = None
    results: Results | None = None
    error: str | None = None
    told: float = 0.0

    def tell(self, watch: Watch, part: float) -> None:
        self.told += part
        watch.part(part)


@dataclass(frozen=True)
class _Frame:
    """A frame to segment, or, without a picture, the end of a case."""

    task: _Task
    picture: Ready | None


def _computed(
    machine: Machine, cases: Sequence[Case], options: Options, stop: StopFlag, watch: Watch
) -> Iterator[_Task]:
    """Yields the cases as their last frames are segmented."""
    waiting: list[_Frame] = []

    def flush() -> Iterator[_Task]:
        _segment(machine, [frame for frame in waiting if frame.task.error is None])
        ended = [frame.task for frame in waiting if frame.picture is None]
        for frame in waiting:
            task = frame.task
            count = task.scan.frame_count if task.scan is not None else 1
            task.tell(watch, 1 / count if frame.picture is not None else 1 - task.told)
        waiting.clear()
        yield from ended

    sources = _sources(machine.predictor, cases, options, stop)
    pictures = 0
    for frame in ahead_of_all(sources, workers=options.workers, depth=2 * options.batch_size):
        waiting.append(frame)
        pictures += frame.picture is not None
        if pictures >= options.batch_size or pictures == 0:  # a case that ends with none need not wait
            yield from flush()
            pictures = 0
    yield from flush()


def _sources(
    predictor: Predictor, cases: Sequence[Case], options: Options, stop: StopFlag
) -> Iterator[Iterator[_Frame]]:
    for case in cases:
        if stop.asked:
            return
        yield _frames(predictor, _Task(case), options)


def _is_large(scan: Scan) -> bool:
    height, width = scan.frame_shape
    return height * width > _LARGE


def _frames(predictor: Predictor, task: _Task, options: Options) -> Iterator[_Frame]:
    """Reads a case from its beginning to its end; an error ends it and is kept in the task."""
    found = task.case.found
    task.started = time.perf_counter()
    try:
        scan = open_scan(found, options.reading)
        refusal = why_not_writable(task.case, scan, options)
        if refusal:
            raise UnreadableFile(refusal)
        task.scan, task.results = scan, results_for(task.case, scan, options)
        for number in range(scan.frame_count):
            if task.error is not None:  # it could not be segmented
                break
            with _one_at_a_time if _is_large(scan) else nullcontext():
                frame = _Frame(task, ready(predictor, scan.read_frame(number)))
            yield frame
    except UnreadableFile as error:
        task.error = str(error).removeprefix(f"{found.source}: ")
    except Exception as error:  # whatever a decoder does to one file must not cost the batch
        task.error = f"could not be read ({type(error).__name__})"
    yield _Frame(task, None)


def _segment(machine: Machine, frames: Sequence[_Frame]) -> None:
    """Adds what the frames came to to their cases, or the reason why they came to nothing."""
    pictures = [(frame.task, frame.picture) for frame in frames if frame.picture is not None]
    found = machine.segment([picture for _, picture in pictures], [task.case.rows for task, _ in pictures])
    for (task, _), results in zip(pictures, found, strict=True):
        if isinstance(results, str):
            task.error = task.error or results
        else:
            _keep(task, results)


def _keep(task: _Task, found: Sequence[Segmented]) -> None:
    """Adds what a frame came to. A frame must never be added twice, nor one after a missing one."""
    if task.error is not None or task.results is None:
        return
    try:
        task.results.add(found)
    except Exception as error:  # the disk of the temporary files is full, say
        reason = getattr(error, "strerror", None) or type(error).__name__
        task.error = f"its masks cannot be kept until they are written: {reason}"


@contextmanager
def _writer(
    end: Callable[[_Task], list[Entry]], tell: Callable[[list[Entry]], None], workers: int
) -> Iterator[Callable[[_Task], None]]:
    """Ends cases in a thread of its own (without workers: at once), a few of them waiting at most, and
    tells of them in the calling thread."""
    if workers == 0:
        yield lambda task: tell(end(task))
        return
    pending: list[Future[list[Entry]]] = []

    def write(task: _Task) -> None:
        pending.append(pool.submit(end, task))
        while pending and (pending[0].done() or len(pending) > _WRITING):
            tell(pending.pop(0).result())

    with ThreadPoolExecutor(1) as pool:
        try:
            yield write
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        for future in pending:
            tell(future.result())


def _written(task: _Task, out: Path, origin: Origin, options: Options) -> list[Entry]:
    """Writes the masks of a case whose frames are all there; its entries."""
    try:
        entries = _entries(task, out, origin, options)
    finally:
        if task.results is not None:
            task.results.close()
        task.scan = task.results = None
    return timed(entries, time.perf_counter() - task.started)


def _entries(task: _Task, out: Path, origin: Origin, options: Options) -> list[Entry]:
    if task.error is not None or task.scan is None or task.results is None:
        return failed(task.case, task.error or "could not be read")
    try:
        return write_case(task.case, task.scan, task.results, out, origin=origin, options=options)
    except UnreadableFile as error:
        return failed(task.case, str(error).removeprefix(f"{task.case.found.source}: "))
    except OSError as error:
        _stop_where_disk_is_full(out, error)
        return failed(task.case, f"the mask cannot be written: {error.strerror or error}")
    except Exception as error:  # the writers' own; it must not cost the batch either
        return failed(task.case, f"the mask cannot be written ({type(error).__name__})")


def _stop_where_disk_is_full(out: Path, error: OSError) -> None:
    """Every case to come would fail, too. Pillow does not say why a file could not be written."""
    with suppress(OSError):
        full = error.errno in NO_ROOM or shutil.disk_usage(out).free < _LITTLE_ROOM
        if full:
            raise DiskFull(f"{out}: no space left to write masks to", hint="make room, and run it again")


def _skipped(problem: Problem) -> Entry:
    return Entry(problem.path.as_posix(), None, "", "skipped", problem.reason)
