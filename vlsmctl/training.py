"""fit(): the training loop, and what surrounds it: early stop, resume, the run folder."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vlsmctl import runs
from vlsmctl.adapters.build import attach, count, trained
from vlsmctl.batches import Batch, Samples, augment_light, epoch_order, iterate, load_samples
from vlsmctl.checkpoint import AdapterFacts, save_adapter
from vlsmctl.config import Preset, TrainConfig
from vlsmctl.datasets.manifest import Manifest
from vlsmctl.datasets.prompts import choose_prompt, prompt_keys
from vlsmctl.errors import UsageError
from vlsmctl.files import write_json
from vlsmctl.losses import LOSSES
from vlsmctl.models.build import MODELS, Base
from vlsmctl.preprocessing import Preprocessing
from vlsmctl.presence import Presence
from vlsmctl.resume import EpochLine, Progress, append_metrics, restore_progress, save_progress
from vlsmctl.runtime import (
    StopFlag,
    is_main_process,
    make_accelerator,
    make_repeatable,
    mean_over_processes,
    stop_asked_anywhere,
)
from vlsmctl.validation import DECODE_WORKERS, calibrate_adapter, forward, scored_with, validate


@dataclass(frozen=True)
class Fitted:
    """How training ended. interrupted: a stop was asked for; the state is saved up to progress.epoch.
    presence: as stored in the adapter; None where the validation set could not teach it."""

    run: Path
    progress: Progress
    trainable: int
    total: int
    seconds: float
    interrupted: bool
    is_main: bool = True
    presence: Presence | None = None


class Watcher(Protocol):
    """What is told of training as it goes, for a person to see."""

    def started(self, trainable: int, total: int, images: int, device: str) -> None: ...

    def batch_done(self, epoch: int, batch: int, batches: int, loss: Tensor) -> None:
        """loss: of the batch, 0-d; reading its value waits for the GPU."""

    def epoch_done(self, line: EpochLine, progress: Progress) -> None: ...


class _Interrupted(Exception):
    """A stop was asked for within an epoch; the epoch is given up, the state before it stays."""


def fit(
    preset: Preset,
    base: Base,
    manifest: Manifest,
    run: Path,
    *,
    stop: StopFlag,
    watcher: Watcher,
    resume: bool = False,
) -> Fitted:
    """Fine-tunes `base` with the preset's method on the manifest's train split, into folder `run`.

    After each epoch: validation Dice on the val split, learning rate lowered on a plateau, the best
    adapter kept, the resume state written. Stops early when validation Dice has not improved by
    `min_delta` for `patience` epochs. A resumed run goes on after the last whole epoch and, on a CPU,
    ends with the same bits as an uninterrupted one. At the end, presence is calibrated with the best
    adapter and stored in its file. Method `none` trains nothing, and is only scored and calibrated.

    Raises UsageError (an empty split, a picture that cannot be read, an unusable state).
    Source: VLSM-Adapter (arXiv 2405.06196), section 3.2, and its published configuration.
    """
    started = time.perf_counter()
    preset = resolved(preset)
    accelerator = _prepared(preset)
    attach(base.model, preset.method, preset.adapter.bottleneck)
    parameters, total = trained(base.model), sum(value.numel() for value in base.model.parameters())
    train, val = _splits(preset, manifest, accelerator.device)
    facts = adapter_facts(preset, base, manifest)
    if accelerator.is_main_process:
        document = _run_document(preset, base, manifest, accelerator, count(parameters), total)
        if resume and (run / runs.RUN).is_file():
            document["seconds"] = runs.read_run(run).get("seconds", 0.0)
        write_json(run / runs.RUN, document)
    watcher.started(count(parameters), total, len(train), str(accelerator.device))

    interrupted, presence, without = False, None, None
    if parameters:
        progress, interrupted = _train(
            preset, base, train, val, run, facts, accelerator, stop=stop, watcher=watcher, resume=resume
        )
    else:
        progress = Progress(best_dice=validate(base.model.to(accelerator.device), val, preset, accelerator))
        if accelerator.is_main_process:
            save_adapter(run / runs.ADAPTER, {}, facts)
    if not interrupted:
        presence, without = calibrate_adapter(run, facts, base, val, preset, accelerator)
    accelerator.wait_for_everyone()
    fitted = Fitted(
        run, progress, count(parameters), total, time.perf_counter() - started, interrupted,
        accelerator.is_main_process, presence,
    )  # fmt: skip
    if fitted.is_main:
        _write_end(fitted, without)
    return fitted


def _prepared(preset: Preset) -> Accelerator:
    """The machine made ready: device, precision, processes, seeds."""
    config = preset.train
    accelerator = make_accelerator(config.precision, unused_parameters=preset.method == "full")
    on_cpu = accelerator.device.type == "cpu"
    deterministic = on_cpu if config.deterministic is None else config.deterministic
    if deterministic and preset.method == "full" and not on_cpu:
        raise UsageError(
            "train.deterministic=true cannot be had with method='full' on a GPU: the gradient of the "
            "interpolated positions has no deterministic kernel there",
            hint="--set train.deterministic=false",
        )
    make_repeatable(config.seed, deterministic)
    return accelerator


def _splits(preset: Preset, manifest: Manifest, device: torch.device) -> tuple[Samples, Samples]:
    """The train and the val split."""
    preprocessing = Preprocessing(_image_size(preset))
    train, val = (
        load_samples(manifest, split, preprocessing, workers=DECODE_WORKERS, device=device)
        for split in ("train", "val")
    )
    for samples, choice in ((train, preset.prompts.train), (val, scored_with(preset))):
        for record in samples.records:
            choose_prompt(record, choice, preset.train.seed, 0)  # a missing one is said before training
    return train, val


def _train(
    preset: Preset, base: Base, train: Samples, val: Samples, run: Path, facts: AdapterFacts,
    accelerator: Accelerator, *, stop: StopFlag, watcher: Watcher, resume: bool,
) -> tuple[Progress, bool]:  # fmt: skip
    """The epochs; where training stands after them, and whether a stop was asked for."""
    config, model, writer = preset.train, base.model, accelerator.is_main_process
    parameters, progress = trained(model), Progress()
    optimizer = AdamW(
        parameters.values(), lr=_lr(preset), weight_decay=config.weight_decay,
        fused=accelerator.device.type == "cuda",
    )  # fmt: skip
    schedule = ReduceLROnPlateau(optimizer, "max", config.lr_factor, config.lr_patience)
    if resume:
        progress = restore_progress(run, base, parameters, optimizer, schedule, accelerator)
    network, optimizer = accelerator.prepare(model, optimizer)
    with _tensorboard(run, progress.epoch, writer) as board:
        while progress.epoch < config.epochs and not _finished(progress, config):
            epoch, began = progress.epoch + 1, time.perf_counter()
            try:
                loss = _train_epoch(network, optimizer, train, preset, epoch, accelerator, stop, watcher)
            except _Interrupted:
                return progress, True
            rate = len(train) / (time.perf_counter() - began)
            dice = validate(model, val, preset, accelerator)
            seconds, lr = time.perf_counter() - began, float(optimizer.param_groups[0]["lr"])
            schedule.step(dice)
            progress = _advanced(progress, epoch, dice, config.min_delta)
            line = EpochLine(epoch, loss, dice, lr, round(seconds, 3), round(rate, 1))
            if writer:
                if progress.best_epoch == epoch:
                    save_adapter(run / runs.ADAPTER, dict(parameters), facts)
                append_metrics(run, line)
                board(line)
                save_progress(run, progress, parameters, optimizer, schedule, accelerator)
            watcher.epoch_done(line, progress)
    return progress, False


def resolved(preset: Preset) -> Preset:
    """The preset with the values in place that null leaves to the method and the model."""
    return preset.model_copy(
        update={
            "adapter": preset.adapter.model_copy(update={"bottleneck": preset.bottleneck}),
            "image_size": _image_size(preset),
            "train": preset.train.model_copy(update={"lr": preset.lr}),
        }
    )


def adapter_facts(preset: Preset, base: Base, manifest: Manifest) -> AdapterFacts:
    """What the adapter file will say of itself."""
    info = manifest.info
    return AdapterFacts(
        base=base.name,
        base_sha256=base.sha256,
        method=preset.method,
        bottleneck=preset.adapter.bottleneck,
        image_size=_image_size(preset),
        threshold=preset.threshold,
        class_prompt=_class_prompt(manifest),
        classes=[str(info["class"])] if info.get("class") else [],
        prompts=info.get("templates") or {},
        data=preset.data,
        manifest_sha256=manifest.hash,
        licences={"base": MODELS[base.name].licence, "data": str(info.get("licence", "unknown"))},
        vlsmctl=version("vlsmctl"),
    )


def _train_epoch(
    model: torch.nn.Module, optimizer: Any, samples: Samples, preset: Preset, epoch: int,
    accelerator: Accelerator, stop: StopFlag, watcher: Watcher,
) -> float:  # fmt: skip
    config = preset.train
    model.train()
    order = epoch_order(len(samples), config.seed, epoch)
    batches = math.ceil(len(order) / config.batch_size)
    parts = iterate(
        samples, order, config.batch_size, workers=DECODE_WORKERS,
        rank=accelerator.process_index, ranks=accelerator.num_processes,
    )  # fmt: skip
    weighted, seen = torch.zeros((), device=accelerator.device), 0
    for number, batch in enumerate(parts, start=1):
        if stop_asked_anywhere(stop, accelerator, number):
            raise _Interrupted
        loss = _step(model, optimizer, batch, preset, (config.seed, epoch, number), accelerator)
        weighted, seen = weighted + loss * len(batch.records), seen + len(batch.records)
        watcher.batch_done(epoch, number, batches, loss)
    mean = mean_over_processes(weighted.item(), seen, accelerator)
    if not math.isfinite(mean):
        raise UsageError(
            f"the loss of epoch {epoch} is {mean}: training has come apart; the state before it is kept",
            hint=f"--set train.lr={_lr(preset) / 10:g}, or --set train.precision=fp32",
        )
    return mean


def _step(
    model: torch.nn.Module, optimizer: Any, batch: Batch, preset: Preset, where: tuple[int, int, int],
    accelerator: Accelerator,
) -> Tensor:  # fmt: skip
    """One optimiser step; the batch's mean loss, left on the device. where: (seed, epoch, batch number)."""
    config, (seed, epoch, _) = preset.train, where
    image, mask = batch.image, batch.mask
    if config.augment == "light":
        image, mask = augment_light(image, mask, (*where, accelerator.process_index))
    prompts = [choose_prompt(record, preset.prompts.train, seed, epoch) for record in batch.records]
    with accelerator.autocast():
        logits = forward(model, image, prompts, accelerator.device)
    loss = LOSSES[config.loss](logits.float(), mask.to(accelerator.device))
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    if config.grad_clip is not None:
        accelerator.clip_grad_norm_(model.parameters(), config.grad_clip)
    optimizer.step()
    return loss.detach()


def _image_size(preset: Preset) -> int:
    return preset.image_size or MODELS[preset.model].image_size


def _lr(preset: Preset) -> float:
    return preset.lr or 0.0  # only `none` has no rate, and trains nothing


def _class_prompt(manifest: Manifest) -> str | None:
    """The p1 of the data set where all its records agree on one."""
    found = {prompt for record in manifest.records if isinstance(prompt := record.prompts.get("p1"), str)}
    return found.pop() if len(found) == 1 else None


def _advanced(progress: Progress, epoch: int, dice: float, min_delta: float) -> Progress:
    if dice > progress.best_dice + min_delta or progress.best_epoch == 0:
        return Progress(epoch, dice, epoch, 0)
    return replace(progress, epoch=epoch, stale=progress.stale + 1)


def _finished(progress: Progress, config: TrainConfig) -> bool:
    return progress.epoch >= config.min_epochs and progress.stale >= config.patience


def _run_document(
    preset: Preset, base: Base, manifest: Manifest, accelerator: Accelerator, trainable: int, total: int
) -> dict[str, Any]:
    packages = ("vlsmctl", "torch", "transformers", "monai", "accelerate", "open_clip_torch", "numpy")
    return {
        "status": "running",
        "preset": preset.model_dump(mode="json", by_alias=True),
        "preset_sha256": preset_hash(preset),
        "data": {"folder": str(manifest.folder.resolve()), "manifest_sha256": manifest.hash},
        "prompt_keys": prompt_keys(manifest),
        "base": {"name": base.name, "sha256": base.sha256},
        "parameters": {"trainable": trainable, "total": total},
        "seed": preset.train.seed,
        "device": str(accelerator.device),
        "precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }


def preset_hash(preset: Preset) -> str:
    """Tells resolved presets apart by what training goes by; a run is only resumed with the preset that it
    was started with."""
    values = resolved(preset).model_dump(
        mode="json", by_alias=True, exclude={"methods", "prompts_from", "paper"}
    )
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished(run: Path) -> Fitted | None:
    """How a run ended, from what it wrote down; None when it is not finished."""
    document = runs.read_run(run)
    if document["status"] != "finished":
        return None
    best, counts = document["best"], document["parameters"]
    progress = Progress(document["epochs"], best["val_dice"], best["epoch"])
    presence = document.get("presence")
    return Fitted(
        run,
        progress,
        counts["trainable"],
        counts["total"],
        document["seconds"],
        interrupted=False,
        is_main=is_main_process(),
        presence=Presence(**presence) if presence else None,
    )


def _write_end(fitted: Fitted, without: str | None) -> None:
    """Enters into run.json how it ended. without: why there is no calibration of presence."""
    document, progress = runs.read_run(fitted.run), fitted.progress
    document["status"] = "interrupted" if fitted.interrupted else "finished"
    document["seconds"] = round(document.get("seconds", 0.0) + fitted.seconds, 1)
    document["epochs"] = progress.epoch
    document["best"] = {
        "epoch": progress.best_epoch,
        "val_dice": progress.best_dice if math.isfinite(progress.best_dice) else None,
    }
    document["presence"] = fitted.presence.model_dump() if fitted.presence else None
    if without is not None:
        document["presence_missing"] = without
    write_json(fitted.run / runs.RUN, document)


@contextmanager
def _tensorboard(run: Path, epoch: int, writer: bool) -> Iterator[Callable[[EpochLine], None]]:
    if not writer:
        yield lambda line: None
        return
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(run / "tensorboard"), purge_step=epoch + 1)

    def write(line: EpochLine) -> None:
        for name in ("loss", "dice", "lr", "images_per_second"):
            board.add_scalar(name, getattr(line, name), line.epoch)

    try:
        yield write
    finally:
        board.close()
