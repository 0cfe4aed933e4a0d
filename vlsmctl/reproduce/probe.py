"""How long a grid may take: each way of training is tried for two epochs on a few pictures, in a temporary
folder of which nothing stays."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from vlsmctl import runs
from vlsmctl.config import Preset
from vlsmctl.datasets.manifest import SPLITS, Manifest
from vlsmctl.evaluation import score_cases
from vlsmctl.models.build import build
from vlsmctl.predictor import predictor_from_run, usual_cut
from vlsmctl.reproduce.grid import FINISHED, PARTLY, SPLIT, TRAINED, Cell, Grid, Problem
from vlsmctl.reproduce.running import FAILED, RECOVERABLE, explained
from vlsmctl.reproduce.standing import Standing, standing
from vlsmctl.resume import EpochLine, Progress
from vlsmctl.runtime import StopFlag, pick_device
from vlsmctl.scoring import predict_split
from vlsmctl.training import fit, resolved

T = TypeVar("T")

BATCHES = 2  # of training pictures in an epoch of the probe
CPU_BATCH = 8  # on a CPU larger batches are hardly faster, and the probe is to be short
FEW = 8  # pictures of val and of test
SLOW = 15.0  # seconds of an epoch after which a second one, which tells a little better, is spared


@dataclass(frozen=True)
class Estimate:
    """Seconds that a cell still needs at least (it stops as early as it may) and at most (all epochs)."""

    least: float
    most: float


@dataclass(frozen=True)
class Planned:
    """A cell in the plan. pictures: in train, val and test; None where the data are not there. estimate:
    None where it cannot be known, for which `problem` is the reason."""

    cell: Cell
    standing: Standing
    pictures: tuple[int, ...] | None
    estimate: Estimate | None
    problem: Problem | None = None


@dataclass(frozen=True)
class Rates:
    """Seconds before the first epoch, and for each picture trained and validated."""

    start: float
    train: float
    val: float


def planned(grid: Grid, *, begins: Callable[[str], None] = lambda what: None) -> list[Planned]:
    """The chosen cells of the grid, of all shards, each with its estimate. begins: told what is measured.

    Cells that train alike (model, method, input size, batch) are measured once, on the first one's data;
    predicting and scoring once for each data set, whose pictures differ in size. Nothing is left on disk.
    """
    with tempfile.TemporaryDirectory(prefix="vlsmctl-probe-", ignore_cleanup_errors=True) as folder:
        bench = _Bench(Path(folder), begins)
        return [_planned(cell, grid.protocol, bench) for cell in grid.chosen]


def estimate(preset: Preset, pictures: Sequence[int], rates: Rates, test: float, done: int) -> Estimate:
    """pictures: in train, val and test. test: seconds to predict and score one. done: epochs.

    At least: training stops once validation Dice has not improved for `patience` epochs, and not before
    `min_epochs`. Both ends with one validation more, for presence, and the scores of the test split.
    """
    config, (trained, validated, tested) = preset.train, pictures
    epochs = config.epochs if preset.method != "none" else 1
    earliest = min(epochs, max(config.min_epochs, config.patience + 1))
    once = rates.start + validated * rates.val + tested * test
    epoch = trained * rates.train + validated * rates.val
    return Estimate(*(once + max(0, number - done) * epoch for number in (earliest, epochs)))


@dataclass
class _Bench:
    """What was measured so far, or why it could not be."""

    folder: Path
    begins: Callable[[str], None]
    rates: dict[Hashable, Rates | Problem] = field(default_factory=dict)
    tests: dict[Hashable, float | Problem] = field(default_factory=dict)
    runs: dict[Hashable, Path] = field(default_factory=dict)


def _planned(cell: Cell, protocol: str, bench: _Bench) -> Planned:
    now, manifest = standing(cell, protocol), cell.manifest
    pictures = None if manifest is None else _pictures(manifest)
    if now.state == FINISHED:
        return Planned(cell, now, pictures, Estimate(0.0, 0.0))
    if now.problem is not None or manifest is None or pictures is None:
        return Planned(cell, now, pictures, None, now.problem)
    preset = resolved(cell.preset)
    rates = _measured(bench.rates, _kind(preset), lambda: _train_rates(preset, manifest, bench))
    if isinstance(rates, Problem):
        return Planned(cell, now, pictures, None, rates)
    where = (_base(preset), manifest.folder)
    test = _measured(bench.tests, where, lambda: _test_rate(preset, manifest, bench))
    if isinstance(test, Problem):
        return Planned(cell, now, pictures, None, test)
    if now.state in (TRAINED, PARTLY):
        return Planned(cell, now, pictures, Estimate(pictures[2] * test, pictures[2] * test))
    return Planned(cell, now, pictures, estimate(preset, pictures, rates, test, _epochs_done(cell)))


def _pictures(manifest: Manifest) -> tuple[int, ...]:
    return tuple(sum(record.split == split for record in manifest.records) for split in SPLITS)


def _measured(known: dict[Hashable, T | Problem], what: Hashable, measure: Callable[[], T]) -> T | Problem:
    if what not in known:
        try:
            known[what] = measure()
        except RECOVERABLE as error:
            known[what] = explained(error, FAILED)
    return known[what]


def _base(preset: Preset) -> Hashable:
    return preset.model, preset.weights, preset.image_size


def _kind(preset: Preset) -> Hashable:
    """What the time of a step hangs on."""
    train = preset.train
    return (
        _base(preset), preset.method, preset.adapter.bottleneck, train.batch_size, train.loss,
        train.precision, train.augment, train.deterministic,
    )  # fmt: skip


def _train_rates(preset: Preset, manifest: Manifest, bench: _Bench) -> Rates:
    bench.begins(f"{preset.model} {preset.method}")
    began = time.perf_counter()
    size = (
        preset.train.batch_size if pick_device().type != "cpu" else min(preset.train.batch_size, CPU_BATCH)
    )
    train, val = manifest.split("train")[: BATCHES * size], manifest.split("val")[:FEW]
    short = preset.model_copy(
        update={"train": preset.train.model_copy(update={"epochs": 2, "batch_size": size})}
    )
    run = bench.folder / f"{len(bench.rates)}"
    run.mkdir()
    watch = _Stopwatch()
    few = replace(manifest, records=(*train, *val))
    fit(short, build(preset.model, preset.weights), few, run, stop=watch.stop, watcher=watch)
    spent = time.perf_counter() - began
    bench.runs.setdefault(_base(preset), run)
    if not watch.lines:  # the method none: it is validated and calibrated
        return Rates(0.0, 0.0, spent / (2 * len(val)))
    line = watch.lines[-1]
    trained = 1 / max(line.images_per_second, 1e-9)
    return Rates(
        start=max(0.0, spent - sum(each.seconds for each in watch.lines)),
        train=trained,
        val=max(0.0, line.seconds - len(train) * trained) / len(val),
    )


def _test_rate(preset: Preset, manifest: Manifest, bench: _Bench) -> float:
    """Seconds for a picture predicted, written and scored at its native size."""
    bench.begins(f"scoring {manifest.folder.name}")
    predictor = predictor_from_run(bench.runs[_base(preset)], device=pick_device(), weights=preset.weights)
    few = replace(manifest, records=manifest.split(SPLIT)[:FEW])
    began = time.perf_counter()
    pairs = predict_split(
        predictor, few, SPLIT, preset.prompts.eval, preset.train.seed,
        bench.folder / f"masks-{len(bench.tests)}", usual_cut(predictor),
    )  # fmt: skip
    score_cases(pairs)
    return (time.perf_counter() - began) / len(few.records)


def _epochs_done(cell: Cell) -> int:
    """Whole epochs in metrics.jsonl; a line that a killed process cut off counts as none."""
    if cell.folder is None or not (cell.folder / runs.STATE).is_file():
        return 0
    try:
        lines = (cell.folder / runs.METRICS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return lines.count("\n")


class _Stopwatch:
    """Keeps the lines of a short training, and ends it when one epoch takes long enough to tell."""

    def __init__(self) -> None:
        self.stop, self.lines = StopFlag(), list[EpochLine]()

    def started(self, trainable: int, total: int, images: int, device: str) -> None: ...

    def batch_done(self, epoch: int, batch: int, batches: int, loss: Tensor) -> None: ...

    def epoch_done(self, line: EpochLine, progress: Progress) -> None:
        self.lines.append(line)
        self.stop.asked = line.seconds > SLOW
