"""`vlsmctl train`: fine-tune a method on a prepared data set."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.console import bars, configure, console, out
from vlsmctl.errors import INTERRUPTED, UsageError, VlsmctlError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from torch import Tensor

    from vlsmctl.config import Preset
    from vlsmctl.presence import Presence
    from vlsmctl.resume import EpochLine, Progress
    from vlsmctl.training import Fitted

# seconds between looks at the loss within an epoch, each of which waits for the GPU
REFRESH, PLAIN_REFRESH = 0.5, 30


def train(
    preset: Annotated[str, typer.Option(help="A shipped preset, or a YAML file.")],
    data: Annotated[
        Path, typer.Option(help="The folder of prepared data sets, or one prepared data set.")
    ] = Path("data"),
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a preset key; repeat.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same as --set train.seed=N.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the newest run of these settings; start one if there is no run yet.",
        ),
    ] = False,
    runs_folder: Annotated[Path, typer.Option("--out", help="Where run folders go.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fine-tune an adapter; prints the run folder last."""
    from vlsmctl.config import load_preset

    loaded = load_preset(preset, overrides or [], seed)
    fitted = start(loaded, data, runs_folder, resume=resume)
    best = fitted.progress
    document = {
        "run": str(fitted.run),
        "best_epoch": best.best_epoch,
        "val_dice": best.best_dice if math.isfinite(best.best_dice) else None,
        "trainable": fitted.trainable,
        "total": fitted.total,
        "presence": fitted.presence.model_dump() if fitted.presence else None,
        "seconds": round(fitted.seconds, 1),
        "status": "interrupted" if fitted.interrupted else "finished",
    }
    if fitted.is_main:
        if document["val_dice"] is not None:
            console().print(
                f"best validation Dice {best.best_dice:.4f} in epoch {best.best_epoch}, "
                f"after {best.epoch} epoch{'s' * (best.epoch != 1)}; "
                f"{fitted.trainable:,} of {fitted.total:,} parameters trained; {fitted.seconds:.0f} s",
                markup=False,
            )
        if fitted.presence is not None:
            console().print(presence_line(fitted.presence), markup=False)
        out().print(json.dumps(document) if as_json else str(fitted.run), markup=False)
    if fitted.interrupted:
        console().print("stopped; the same command with --resume goes on where it was", markup=False)
        raise typer.Exit(INTERRUPTED)


def presence_line(presence: Presence) -> str:
    """What the validation set taught of whether the target is there at all."""
    cut = presence.threshold
    return (
        f"presence: ROC AUC {presence.auc:.2f} on {presence.positives} pictures with and "
        f"{presence.negatives} without a target; "
        f"{f'nothing found below {cut:.2f}' if cut else 'nothing is suppressed'}"
    )


def start(preset: Preset, data: Path, runs_folder: Path, *, resume: bool = False) -> Fitted:
    """Trains with live progress, in a folder named after the data set; with `resume`, goes on with the
    newest run of these settings."""
    from vlsmctl import runs
    from vlsmctl.datasets.manifest import data_folder, read_manifest
    from vlsmctl.models.build import build
    from vlsmctl.runtime import decided_by_main, is_main_process, polite_stop
    from vlsmctl.training import finished, fit

    if not is_main_process():
        configure(quiet=True, verbose=False)
    manifest = read_manifest(data_folder(data, preset.data))
    name = manifest.folder.resolve().name
    last = decided_by_main(lambda: _resumable(preset, name, runs_folder, manifest.hash) if resume else None)
    if last is not None and (done := finished(last)) is not None:
        console().print(f"{last} is finished already", markup=False)
        return done
    base = build(preset.model, preset.weights)  # before a run folder is made, for it may not be here
    if last is not None and (known := runs.read_run(last)["base"]["sha256"]) != base.sha256:
        raise UsageError(
            f"{last} was started on another {base.name!r} base model: expected sha256 {known[:12]}, found "
            f"{base.sha256[:12]}",
            hint="use the same weights, or leave --resume out",
        )
    run = last or decided_by_main(lambda: runs.new_run(runs_folder, name, preset.train.seed))
    try:
        with polite_stop() as stop, Live(preset.train.epochs, base.name, preset.method) as watcher:
            fitted = fit(preset, base, manifest, run, stop=stop, watcher=watcher, resume=last is not None)
    except VlsmctlError:
        with suppress(OSError):
            run.rmdir()  # only if nothing was written yet
        raise
    if fitted.is_main and (run / runs.ADAPTER).is_file():
        runs.point_latest(runs_folder, run)
    return fitted


def _resumable(preset: Preset, name: str, runs_folder: Path, manifest_hash: str) -> Path | None:
    """The newest run of `name` with these settings on this data; None when there is no run at all.
    Raises UsageError when there are only others."""
    from vlsmctl import runs
    from vlsmctl.training import preset_hash

    there = runs.runs_of(runs_folder, name)
    wanted = preset_hash(preset), manifest_hash
    for run in there:
        document = runs.read_run(run)
        if (document["preset_sha256"], document["data"]["manifest_sha256"]) == wanted:
            return run
    if there:
        raise UsageError(
            f"no run below {runs_folder / name} was started with these settings on this data, so there is "
            f"nothing to resume (the newest is {there[0].name})",
            hint=f"give --set and --seed as then (see {there[0] / runs.RUN}), or leave --resume out",
        )
    console().print(f"nothing to resume below {runs_folder / name}; starting", markup=False)
    return None


class Live:
    """Shows training on stderr: a bar with loss, Dice, speed and time left, or a plain line an epoch."""

    def __init__(self, epochs: int, model: str, method: str) -> None:
        self.epochs, self.title = epochs, f"{model} {method}"
        self.bars: Bars | None = bars("loss", "dice", "speed") if console().is_terminal else None
        self.task: Any = None
        self.shown = self.first_batch = time.perf_counter()

    def __enter__(self) -> Live:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def started(self, trainable: int, total: int, images: int, device: str) -> None:
        console().print(
            f"{self.title}: {trainable:,} of {total:,} parameters train on {images} images, on {device}",
            markup=False,
        )
        if self.bars is not None and trainable:
            self.task = self.bars.add_task("epoch 0", total=self.epochs, loss="-", dice="-", speed="")

    def batch_done(self, epoch: int, batch: int, batches: int, loss: Tensor) -> None:
        now = time.perf_counter()
        if batch == 1:
            self.first_batch = now
        if now - self.shown < (REFRESH if self.bars is not None else PLAIN_REFRESH):
            return
        self.shown = now
        if self.bars is not None:
            self.bars.update(
                self.task,
                description=f"epoch {epoch}/{self.epochs}",
                completed=epoch - 1 + batch / (batches + 0.3),
                loss=f"{loss.item():.3f}",
            )
        elif batch > 1:
            left = (batches - batch) * (now - self.first_batch) / (batch - 1)
            console().print(
                f"epoch {epoch}/{self.epochs} batch {batch}/{batches} loss {loss.item():.4f}, "
                f"{left:.0f} s left in this epoch",
                markup=False,
            )

    def epoch_done(self, line: EpochLine, progress: Progress) -> None:
        best = " (best)" if progress.best_epoch == line.epoch else ""
        if self.bars is not None:
            self.bars.update(
                self.task,
                completed=line.epoch,
                loss=f"{line.loss:.3f}",
                dice=f"{line.dice:.4f} best {progress.best_dice:.4f}",
                speed=f"{line.images_per_second:.0f} images/s",
            )
            return
        console().print(
            f"epoch {line.epoch}/{self.epochs} loss {line.loss:.4f} dice {line.dice:.4f}{best} "
            f"lr {line.lr:.1e} {line.images_per_second:.0f} images/s, at most "
            f"{(self.epochs - line.epoch) * line.seconds / 60:.1f} min left",
            markup=False,
        )
