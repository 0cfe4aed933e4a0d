"""The resume state of a training run: written after every epoch, so that a killed run goes on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vlsmctl import runs
from vlsmctl.checkpoint import put_trained, read_adapter, read_state, save_state
from vlsmctl.files import write_text
from vlsmctl.models.build import Base


@dataclass(frozen=True)
class Progress:
    """Where training stands after `epoch`. stale: epochs since the best validation Dice improved."""

    epoch: int = 0
    best_dice: float = -math.inf
    best_epoch: int = 0
    stale: int = 0


@dataclass(frozen=True)
class EpochLine:
    """One line of metrics.jsonl. loss: mean over samples; dice: mean validation Dice at the model's
    input size."""

    epoch: int
    loss: float
    dice: float
    lr: float
    seconds: float
    images_per_second: float


def save_progress(
    run: Path, progress: Progress, parameters: dict[str, torch.nn.Parameter], optimizer: Any,
    schedule: ReduceLROnPlateau, accelerator: Accelerator,
) -> None:  # fmt: skip
    tensors: dict[str, Tensor] = {f"parameter/{name}": value for name, value in parameters.items()}
    states = optimizer.state_dict()["state"]
    for number, name in enumerate(parameters):
        for key, value in states.get(number, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    facts = {
        "progress": asdict(progress),
        "groups": [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
        "schedule": schedule.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
    }
    save_state(run / runs.STATE, tensors, facts)


def restore_progress(
    run: Path, base: Base, parameters: dict[str, torch.nn.Parameter], optimizer: AdamW,
    schedule: ReduceLROnPlateau, accelerator: Accelerator,
) -> Progress:  # fmt: skip
    """Puts the state of the last whole epoch into place; where it stands. Lines of metrics.jsonl that
    lie beyond it are dropped: that epoch is trained again."""
    if not (run / runs.STATE).is_file():
        _cut_metrics(run, 0)
        return Progress()
    facts, tensors = read_state(run / runs.STATE)
    kept = {key.removeprefix("parameter/"): value for key, value in tensors.items() if key[0] == "p"}
    put_trained(base, kept, run / runs.STATE)
    state: dict[int, dict[str, Tensor]] = {}
    numbers = {name: number for number, name in enumerate(parameters)}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, what, name = key.split("/")
            state.setdefault(numbers[name], {})[what] = value
    groups = [{**group, "params": list(range(len(parameters)))} for group in facts["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    schedule.load_state_dict(facts["schedule"])
    if accelerator.scaler and facts["scaler"]:
        accelerator.scaler.load_state_dict(facts["scaler"])
    progress = Progress(**facts["progress"])
    _cut_metrics(run, progress.epoch)
    if progress.best_epoch:
        read_adapter(run / runs.ADAPTER)  # the best adapter must still be there and whole
    return progress


def append_metrics(run: Path, line: EpochLine) -> None:
    with (run / runs.METRICS).open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(asdict(line)) + "\n")


def _cut_metrics(run: Path, epoch: int) -> None:
    """Drops lines after `epoch`, and a last line that was cut off, left by a killed process."""
    path = run / runs.METRICS
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    write_text(path, "".join(kept))
