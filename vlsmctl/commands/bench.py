"""`vlsmctl bench`: how fast `predict` is on this machine, against the model's bare forward pass; and how
fast `eval` scores, against MONAI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vlsmctl.commands.model_choice import (
    RUNNING,
    BatchSize,
    Device,
    Workers,
    check_choice,
    chosen_predictor,
    usual_batch,
    usual_readers,
)
from vlsmctl.console import live_count, out, table
from vlsmctl.errors import UsageError

MODEL = "tiny"


def bench(
    run: Annotated[Path | None, typer.Option(help="A run folder.", show_default=False)] = None,
    adapter: Annotated[Path | None, typer.Option(help="An adapter file.", show_default=False)] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"A base model alone: clipseg or tiny. Default: {MODEL}.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The folder of the base model's weights.", show_default=False)
    ] = None,
    scoring: Annotated[bool, typer.Option("--eval", help="Measure eval's scoring instead.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="Slices of the volume; pictures.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, help="With --eval: pairs of masks.")] = 500,
    size: Annotated[int, typer.Option(min=16, help="Pixels along each side of them.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Times each part is measured.")] = 3,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=RUNNING)
    ] = False,
) -> None:
    """Measure predict on a volume and on pictures that it draws, against the bare model; or eval's scoring
    of masks that it draws, against MONAI."""
    check_choice(run, adapter, model)
    if scoring:
        if any(choice is not None for choice in (run, adapter, model, weights, batch_size)):
            raise UsageError(
                "--eval compares mask files, which takes no model and no batches",
                hint="leave out --run, --adapter, --model, --weights and --batch-size",
            )
        _bench_scoring(pairs, size, repeats, workers, as_json)
        return
    from vlsmctl.bench import PARTS, bench_document, run_bench

    chosen = model or (MODEL if run is None and adapter is None else None)
    predictor = chosen_predictor(run, adapter, chosen, device=device, weights=weights)
    with live_count("measuring", len(PARTS) * repeats) as tick:
        measured = run_bench(
            predictor,
            frames=frames,
            size=size,
            repeats=repeats,
            batch_size=batch_size or usual_batch(predictor.device),
            workers=usual_readers() if workers is None else workers,
            told=tick,
        )
    document = bench_document(measured)
    if as_json:
        out().print(json.dumps(document), markup=False)
    else:
        _show(document)


def _show(document: dict[str, Any]) -> None:
    rows = [
        [
            part["what"],
            f"{part['per_second']:.1f}",
            f"{part['ratio']:.2f}",
            f"{min(part['seconds']):.2f} to {max(part['seconds']):.2f}",
            *(_mib(part[key]) for key in ("peak_bytes", "gpu_peak_bytes") if part[key] is not None),
        ]
        for part in document["parts"].values()
    ]
    headings = ["part", "frames/s", "of the model alone", "seconds", "memory at most", "on the GPU"]
    out().print(table(headings[: len(rows[0])], rows))
    side, frames, size = document["input_size"], document["frames"], document["size"]
    out().print(
        f"{document['model']}, input {side} x {side}; {frames} frames of {size} x {size}, in batches of "
        f"{document['batch_size']}; {document['workers']} reading threads, {document['threads']} of torch; "
        f"medians of {len(document['parts']['forward']['seconds'])}; "
        f"{_mib(document['before_bytes'])} in memory before",
        markup=False,
    )
    out().print(table(["machine", ""], [[name, fact] for name, fact in document["machine"].items()]))


def _bench_scoring(pairs: int, size: int, repeats: int, workers: int | None, as_json: bool) -> None:
    from vlsmctl.bench_scoring import PARTS, run_scoring_bench, scoring_document

    with live_count("measuring", len(PARTS) * repeats) as tick:
        measured = run_scoring_bench(pairs=pairs, size=size, repeats=repeats, workers=workers, told=tick)
    document = scoring_document(measured)
    if as_json:
        out().print(json.dumps(document), markup=False)
    else:
        _show_scoring(document)


def _show_scoring(document: dict[str, Any]) -> None:
    rows = [
        [
            part["what"],
            f"{part['per_second']:.1f}",
            f"{part['times_as_fast']:.2f}",
            f"{min(part['seconds']):.2f} to {max(part['seconds']):.2f}",
        ]
        for part in document["parts"].values()
    ]
    out().print(table(["part", "pairs/s", "times as fast as MONAI", "seconds"], rows))
    out().print(
        f"{document['pairs']} pairs of {document['size']} x {document['size']} PNG masks, read in the same "
        f"way; {document['workers']} workers, {document['threads']} threads of torch; medians of "
        f"{len(document['parts']['all']['seconds'])}; {', '.join(document['metrics'])} agree within "
        f"{document['difference']:.1g}",
        markup=False,
    )
    out().print(table(["machine", ""], [[name, fact] for name, fact in document["machine"].items()]))


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
