"""Which model a command runs, where, and how much at once: options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlsmctl.console import console
from vlsmctl.errors import UsageError
from vlsmctl.processors import processors

if TYPE_CHECKING:
    import torch

    from vlsmctl.predictor import Predictor

CPU_BATCH, GPU_BATCH = 4, 16  # frames
READERS = 4  # threads, where there are as many processors
RUNNING = "Running"  # the panel of these options

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=RUNNING)]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Frames at once. Default: {CPU_BATCH} on a CPU, {GPU_BATCH} on a GPU.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help=f"Threads that read; 0: none, read between batches. Default: up to {READERS}.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]


def check_choice(run: Path | None, adapter: Path | None, model: str | None) -> None:
    """Raises UsageError where more than one is given."""
    if sum(choice is not None for choice in (run, adapter, model)) > 1:
        raise UsageError("give one of --run, --adapter and --model")


def chosen_predictor(
    run: Path | None, adapter: Path | None, model: str | None, *, device: str, weights: Path | None,
    force: bool = False,
) -> Predictor:  # fmt: skip
    """The model of a run (where none of the three is given: of the latest), an adapter file, or a base
    model alone. One that does not fit on the GPU goes to the CPU, and that is said."""
    import torch

    from vlsmctl.runtime import own_device

    where = own_device(device)
    try:
        return _loaded(run, adapter, model, where, weights, force)
    except torch.OutOfMemoryError:
        console(always=True).print(
            f"out of memory on {where} for the model itself: going on on the CPU, which is slower",
            markup=False,
        )
        return _loaded(run, adapter, model, torch.device("cpu"), weights, force)


def usual_batch(device: torch.device) -> int:
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def usual_readers() -> int:
    return min(READERS, processors())


def _loaded(
    run: Path | None, adapter: Path | None, model: str | None, where: torch.device, weights: Path | None,
    force: bool,
) -> Predictor:  # fmt: skip
    from vlsmctl import predictor, runs
    from vlsmctl.models.build import MODELS

    if model is not None:
        if model not in MODELS:
            raise UsageError(f"--model {model!r}: known are {', '.join(MODELS)}", hint="vlsmctl models")
        return predictor.predictor_from_model(model, device=where, weights=weights)
    if adapter is not None:
        return predictor.predictor_from_adapter(adapter, device=where, weights=weights, force=force)
    return predictor.predictor_from_run(runs.find_run(run), device=where, weights=weights, force=force)
