"""`vlsmctl weights`: base models onto this machine, and the embedded one from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vlsmctl.console import console, out
from vlsmctl.errors import UsageError


def fetch(
    name: Annotated[str, typer.Argument(help="The base model: clipseg.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="A folder to take to another machine (default: the Hugging Face cache)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Download a base model's weights. Besides this, only `prepare` uses the network, when told to."""
    from vlsmctl.models import weights

    if name not in weights.REPOSITORIES:
        known = ", ".join(weights.REPOSITORIES)
        raise UsageError(f"nothing to fetch for {name!r}; these have weights to fetch: {known}")
    got = weights.fetch(name, folder)
    weights.load_network(got)  # a damaged or foreign file is noticed now, not in the first training
    if folder is not None:
        console().print(f"take the folder along and set VLSMCTL_WEIGHTS={folder}", markup=False)
    out().print(json.dumps({"name": name, "folder": str(got)}) if as_json else str(got), markup=False)


def build(
    name: Annotated[str, typer.Argument(help="The embedded model: tiny.")] = "tiny",
    folder: Annotated[Path, typer.Option("--out", help="Where the weights go.")] = Path("tiny-weights"),
    pictures: Annotated[int, typer.Option(min=64, help="How many pictures to learn from.")] = 204_800,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw pictures.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Pretrain the embedded tiny model from nothing (hours on two CPU cores)."""
    from vlsmctl.pretraining import pretrain
    from vlsmctl.runtime import pick_device

    if name != "tiny":
        raise UsageError(f"{name!r} cannot be built here; only the embedded model can: tiny")

    def report(line: dict[str, Any]) -> None:
        console().print(json.dumps(line), markup=False)

    summary = pretrain(
        folder, pictures=pictures, seed=seed, workers=workers, device=pick_device(device), report=report
    )
    if as_json:
        out().print(json.dumps({"folder": str(folder), **summary}), markup=False)
        return
    out().print(
        f"held-out Dice {summary['dice']:.3f}, right choice of two {summary['choice']:.3f}, "
        f"absent targets left empty {summary['absent_kept_empty']:.3f}; {summary['minutes']} minutes",
        markup=False,
    )
    out().print(str(folder), markup=False)
