"""The grid done cell after cell: trained with resume, scored, put into the tables."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlsmctl import runs
from vlsmctl.claims import claimed
from vlsmctl.console import counted, duration, is_verbose
from vlsmctl.datasets.manifest import Manifest, Record, read_manifest
from vlsmctl.errors import SOME_FAILED, UsageError, VlsmctlError
from vlsmctl.evaluation import Progress
from vlsmctl.files import NO_ROOM
from vlsmctl.models.build import build
from vlsmctl.reproduce.files import write_tables
from vlsmctl.reproduce.grid import FINISHED, PARTLY, SPLIT, Cell, Grid, Problem, problem_of
from vlsmctl.reproduce.standing import scores_folder, standing
from vlsmctl.runtime import StopFlag, pick_device
from vlsmctl.score_files import SUMMARY
from vlsmctl.scoring import Asked, score_run
from vlsmctl.split_masks import Tick
from vlsmctl.training import Watcher, fit

FAILED, ELSEWHERE, STOPPED = "failed", "another process is at it", "stopped"
# What a cell may end with that is no bug of ours: the rest of the grid goes on
RECOVERABLE = (VlsmctlError, MemoryError, FloatingPointError, RuntimeError, OSError)


@dataclass(frozen=True)
class Ended:
    """What became of a cell. state: FINISHED, PARTLY, FAILED, ELSEWHERE, STOPPED, or that of the problem.
    seconds: of this process, 0 where there was nothing to do."""

    cell: Cell
    state: str
    problem: Problem | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Told:
    """Who is told of the work as it goes. say: a line. watch: of a cell's training. tick, progress: around
    the pictures that are predicted, and the masks that are scored."""

    say: Callable[[str], None]
    watch: Callable[[Cell], AbstractContextManager[Watcher]]
    tick: Tick = lambda records, title: records
    progress: Progress = lambda rows: rows


class _Stopped(Exception):
    """A stop was asked for; what is done of the cell is kept."""


def reproduce(grid: Grid, *, stop: StopFlag, told: Told) -> list[Ended]:
    """Does the cells of this shard that are not finished, and writes the tables after each.

    What cannot be done is named in the result, and the rest goes on. A cell that another process is doing
    is passed over, and looked at again at the end. When a stop is asked for, the cell in hand is the last
    of the list, STOPPED; called again, all goes on where it was.

    Raises OSError: there is no room on the disk, or nothing can be written there.
    """
    clock, ended = _Clock(grid), list[Ended]()
    for number, cell in enumerate(grid.mine, start=1):
        now = standing(cell, grid.protocol)
        if now.state == FINISHED:
            ended.append(Ended(cell, FINISHED))
        elif now.problem is not None:
            ended.append(Ended(cell, now.problem.state, now.problem))
        elif stop.asked:
            ended.append(Ended(cell, STOPPED))
        else:
            told.say(f"cell {number} of {len(grid.mine)}: {cell.key} ({now.state}){clock.left()}")
            ended.append(_done(cell, grid.protocol, stop, told))
            clock.note(ended[-1])
            if ended[-1].state in (FINISHED, PARTLY):
                write_tables(grid)
        if ended[-1].state == STOPPED:
            break
    ended = [_seen_again(one, grid.protocol) for one in ended]
    if any(one.state in (FINISHED, PARTLY) for one in ended):
        write_tables(grid)
    return ended


def run_cell(cell: Cell, protocol: str, *, stop: StopFlag, told: Told) -> None:
    """Trains the cell's run, from where it is, and scores it.

    Raises UsageError, MissingWeights, and what torch raises where memory is short.
    """
    folder, manifest = _places(cell)
    if read_manifest(manifest.folder).hash != manifest.hash:
        raise UsageError(f"{manifest.folder} was prepared anew meanwhile", hint="the same command again")
    begun = runs.read_run(folder) if (folder / runs.RUN).is_file() else None
    if begun is None or begun["status"] != "finished":
        _train(cell, begun, stop, told)

    def until_stopped(records: Iterable[Record], title: str) -> Iterator[Record]:
        for record in told.tick(records, title):
            if stop.asked:
                raise _Stopped
            yield record

    scored = score_run(
        folder,
        Asked(split=SPLIT, data=manifest.folder, protocol=protocol),
        device=pick_device(),
        out=scores_folder(folder, protocol),
        command=("vlsmctl", "eval", str(folder), "--data", str(manifest.folder), "--protocol", protocol),
        weights=cell.preset.weights,
        tick=until_stopped,
        progress=told.progress,
    )
    if not scored.summary["n"]:
        raise UsageError(f"none of the {SPLIT} pictures could be scored", hint=f"see {scored.folder}")


def explained(error: BaseException, state: str) -> Problem:
    """What made a cell fail, in one line, with what to do about it."""
    if isinstance(error, VlsmctlError):
        return problem_of(error, state)
    line = next(iter(str(error).strip().splitlines()), "")
    short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in line
    if short:
        smaller = "--set train.batch_size=8 (which is another setting: all cells then train with it)"
        return Problem(state, f"out of memory: {line[:200]}".rstrip(": "), smaller, UsageError.exit_code)
    return Problem(state, f"{type(error).__name__}: {line[:300]}".rstrip(": "), None, UsageError.exit_code)


def _places(cell: Cell) -> tuple[Path, Manifest]:
    """Of a cell without a problem. Raises UsageError."""
    if cell.folder is None or cell.manifest is None:
        raise UsageError(f"{cell.key}: {cell.problem.message if cell.problem else 'no data'}")
    return cell.folder, cell.manifest


def _train(cell: Cell, begun: dict[str, Any] | None, stop: StopFlag, told: Told) -> None:
    folder, manifest = _places(cell)
    base = build(cell.preset.model, cell.preset.weights)  # training attaches to it: each cell needs its own
    if begun is not None and begun["base"]["sha256"] != base.sha256:
        raise UsageError(
            f"{folder} was started on another {base.name!r} base model: expected sha256 "
            f"{begun['base']['sha256'][:12]}, found {base.sha256[:12]}",
            hint=f"use the same weights, or move {folder} away",
        )
    with told.watch(cell) as watcher:
        fitted = fit(cell.preset, base, manifest, folder, stop=stop, watcher=watcher, resume=True)
    if fitted.interrupted:
        raise _Stopped


def _done(cell: Cell, protocol: str, stop: StopFlag, told: Told) -> Ended:
    """Does the cell, unless another process is at it or has just done it."""
    began = time.perf_counter()
    folder, _ = _places(cell)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(claimed(folder, "reproduce"))
            except (UsageError, FileNotFoundError):  # the latter: it has just removed the empty folder
                told.say(f"{cell.key}: another process is at it; passed over")
                return Ended(cell, ELSEWHERE)
            state, problem = _attempted(cell, protocol, stop, told)
    finally:
        _remove_empty(folder)
        _free_memory()
    if problem is not None:
        told.say(f"{cell.key}: {state}: {problem.message}")
    return Ended(cell, state, problem, time.perf_counter() - began)


def _seen_again(one: Ended, protocol: str) -> Ended:
    """A cell passed over that the other process has finished meanwhile is finished."""
    done = one.state == ELSEWHERE and standing(one.cell, protocol).state == FINISHED
    return Ended(one.cell, FINISHED) if done else one


def _attempted(cell: Cell, protocol: str, stop: StopFlag, told: Told) -> tuple[str, Problem | None]:
    """FINISHED, STOPPED, or PARTLY or FAILED and why."""
    if standing(cell, protocol).state == FINISHED:
        return FINISHED, None
    try:
        run_cell(cell, protocol, stop=stop, told=told)
    except _Stopped:
        return STOPPED, None
    except RECOVERABLE as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        if is_verbose():
            told.say(traceback.format_exc())
        return FAILED, explained(error, FAILED)
    now = standing(cell, protocol)
    if now.state == PARTLY and now.summary is not None:
        return PARTLY, _not_all(cell, protocol, now.summary["n_failed"])
    if now.state != FINISHED:
        changed = f"{cell.folder}: its data or its files were changed by something else meanwhile"
        return FAILED, Problem(FAILED, changed, "the same command again", UsageError.exit_code)
    return FINISHED, None


def _not_all(cell: Cell, protocol: str, failed: int) -> Problem:
    folder, _ = _places(cell)
    named = scores_folder(folder, protocol) / SUMMARY
    message = f"{counted(failed, f'{SPLIT} picture')} could not be scored, and in no mean"
    hint = f"see 'failed' in {named}; the same command scores again"
    return Problem(PARTLY, message, hint, SOME_FAILED)


def _remove_empty(folder: Path) -> None:
    """A cell that failed before it wrote anything leaves no folders."""
    with suppress(OSError):
        for path in (folder, *folder.parents[:2]):
            path.rmdir()


def _free_memory() -> None:
    """What one cell held is not to make the next one fail."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Clock:
    """How long the rest of a shard may take, from the cells that are finished, here or before: by method
    where one of it is, and in proportion to the pictures."""

    def __init__(self, grid: Grid) -> None:
        self.spent: list[tuple[Cell, float]] = []
        self.waiting: list[Cell] = []
        for cell in grid.mine:
            now = standing(cell, grid.protocol)
            if now.state == FINISHED and now.document is not None:
                self.spent.append((cell, float(now.document["seconds"])))
            elif now.problem is None:
                self.waiting.append(cell)

    def note(self, ended: Ended) -> None:
        self.waiting = [cell for cell in self.waiting if cell.key != ended.cell.key]
        if ended.state == FINISHED and ended.seconds:
            self.spent.append((ended.cell, ended.seconds))

    def left(self) -> str:
        """Words to put after others; none as long as nothing is known."""
        if not self.spent:
            return ""
        return f", about {duration(sum(map(self._expected, self.waiting)))} left"

    def _expected(self, cell: Cell) -> float:
        alike = [one for one in self.spent if one[0].method == cell.method] or self.spent
        seconds, pictures = sum(each for _, each in alike), sum(_pictures(one) for one, _ in alike)
        return seconds * _pictures(cell) / max(1, pictures)


def _pictures(cell: Cell) -> int:
    return len(cell.manifest.records) if cell.manifest else 0
