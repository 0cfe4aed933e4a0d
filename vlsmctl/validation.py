"""The val split seen by the model: its mean Dice after each epoch, and at the end what it teaches of
presence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from vlsmctl import runs
from vlsmctl.adapters.build import trained
from vlsmctl.batches import Batch, Samples, iterate
from vlsmctl.checkpoint import AdapterFacts, put_trained, read_adapter, save_adapter
from vlsmctl.config import Preset
from vlsmctl.datasets.prompts import choose_prompt
from vlsmctl.models.build import Base
from vlsmctl.models.tokens import distinct, tokenize
from vlsmctl.preprocessing import normalise
from vlsmctl.presence import Presence, calibrate, presence_score, why_uncalibrated
from vlsmctl.processors import processors
from vlsmctl.runtime import mean_over_processes

DECODE_WORKERS = min(16, processors())


def forward(model: torch.nn.Module, image: Tensor, prompts: list[str], device: torch.device) -> Tensor:
    """Logits [B, 1, S, S] of uint8 pictures [B, 3, S, S], one prompt a picture; distinct prompts are
    encoded once."""
    words, which = distinct(prompts)
    logits: Tensor = model(normalise(image.to(device)), tokenize(words).to(device), which.to(device))
    return logits


def scored_with(preset: Preset) -> str:
    """The prompt choice of validation: that of evaluation, or p1 where evaluation goes through all."""
    return "p1" if preset.prompts.eval == "all" else preset.prompts.eval


@torch.no_grad()
def validate(model: torch.nn.Module, samples: Samples, preset: Preset, accelerator: Accelerator) -> float:
    """Mean Dice at the model's input size, threshold as in the preset, prompts of epoch 0; a picture
    without target counts 1 when nothing is marked, else 0. Shared out over the processes."""
    total, number = 0.0, 0
    for _, _, dice in _scored(model, samples, preset, accelerator):
        total, number = total + float(dice.sum()), number + len(dice)
    return mean_over_processes(total, number, accelerator)


def calibrate_adapter(
    run: Path, facts: AdapterFacts, base: Base, samples: Samples, preset: Preset, accelerator: Accelerator
) -> tuple[Presence | None, str | None]:
    """Calibrates presence with the run's best adapter and stores it in the adapter file; or why it cannot
    be had, in words, and then the file stays as it is.

    The model ends with the best adapter in place. Like validation, it is shared out over the processes;
    all of them must call this. Done twice, it leaves the same bytes.
    """
    path = run / runs.ADAPTER
    if accelerator.is_main_process:  # the others may lie on machines that do not see its files
        put_trained(base, read_adapter(path)[1], path)
    parameters = dict(trained(base.model))
    if accelerator.num_processes > 1:
        for value in parameters.values():
            torch.distributed.broadcast(value.data, src=0)
    scores, dice, present = _presence_scores(base.model, samples, preset, accelerator)
    presence = calibrate(scores, present, dice)
    if accelerator.is_main_process and presence is not None:
        save_adapter(path, dict(parameters), facts.model_copy(update={"presence": presence}))
    return presence, why_uncalibrated(scores, present)


@torch.no_grad()
def _presence_scores(
    model: torch.nn.Module, samples: Samples, preset: Preset, accelerator: Accelerator
) -> tuple[list[float], list[float], list[bool]]:
    """Of every picture of the split, on every process: score, Dice, and whether there is a target, by the
    mask at its native size (at the model's size a small one may be gone). Sorted, so that they do not
    depend on how many processes there are."""
    rows: list[tuple[float, float, bool]] = []
    for batch, logits, dice in _scored(model, samples, preset, accelerator):
        present = [record.foreground > 0 for record in batch.records]
        rows += zip(presence_score(logits).tolist(), dice.tolist(), present, strict=True)
    rows = sorted(gather_object(rows))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _scored(
    model: torch.nn.Module, samples: Samples, preset: Preset, accelerator: Accelerator
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """This process's share in batches, with their logits (float32 [B, 1, S, S]) and Dice ([B])."""
    model.eval()
    cut = math.log(preset.threshold / (1 - preset.threshold))
    choice = scored_with(preset)
    mine = range(accelerator.process_index, len(samples), accelerator.num_processes)
    for batch in iterate(samples, mine, preset.train.batch_size, workers=DECODE_WORKERS):
        prompts = [choose_prompt(record, choice, preset.train.seed, 0) for record in batch.records]
        with accelerator.autocast():
            logits = forward(model, batch.image, prompts, accelerator.device)
        logits = logits.float()
        found, mask = (logits > cut).flatten(1), batch.mask.to(accelerator.device).flatten(1) > 0.5
        sizes = found.sum(1) + mask.sum(1)
        yield batch, logits, torch.where(sizes == 0, 1.0, 2 * (found & mask).sum(1) / sizes.clamp(min=1))
