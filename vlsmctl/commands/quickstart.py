"""`vlsmctl quickstart`: the whole job, offline, on synthetic data."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlsmctl.console import console, out, table

if TYPE_CHECKING:
    from vlsmctl.quickstart import Quickstart


def quickstart(
    folder: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path(
        "vlsmctl-quickstart"
    ),
    seed: Annotated[int, typer.Option(min=0)] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Do the whole job on synthetic data, offline: prepare, train, score, predict (under two minutes)."""
    console().print("loading ...", markup=False)

    from vlsmctl.commands.train import Live
    from vlsmctl.quickstart import quickstart as run
    from vlsmctl.runtime import polite_stop

    with ExitStack() as stack:
        stop = stack.enter_context(polite_stop())
        done = run(
            folder,
            seed=seed,
            stop=stop,
            watch=lambda epochs, model, method: stack.enter_context(Live(epochs, model, method)),
            say=lambda text: console().print(text, markup=False),
        )
    if as_json:
        document = {
            "run": str(done.run), "zero_shot": done.zero_shot, "adapter": done.adapter,
            "trainable": done.fitted.trainable, "total": done.fitted.total,
            "predictions": [asdict(entry) for entry in done.entries], "preview": str(done.preview),
            "report": str(done.report),
            "seconds": round(done.seconds, 1),
        }  # fmt: skip
        out().print(json.dumps(document), markup=False)
    else:
        _show(done, folder)


def _show(done: Quickstart, folder: Path) -> None:
    screen = out()
    rows = []
    for title, trained, summary in (
        ("zero-shot", "0", done.zero_shot),
        ("adapter", f"{done.fitted.trainable:,}", done.adapter),
    ):
        cells = [title, trained]
        for name, digits in (("dice", 3), ("iou", 3), ("hd95_px", 1)):
            metric = summary["metrics"][name]
            low, high = metric["interval"]
            cells.append(f"{metric['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
        rows.append(cells)
    n = done.adapter["n"]
    screen.print(f"\nphantom test split, {n} pictures, mean and 95 % interval:", markup=False)
    screen.print(table(["", "trained parameters", "Dice", "IoU", "HD95 (px)"], rows))
    for entry in done.entries:
        volume = f", {entry.volume_ml:.2f} ml" if entry.volume_ml is not None else ""
        screen.print(
            f"  {entry.input} -> {folder / 'predictions' / (entry.output or '')} "
            f"({entry.foreground} marked{volume})",
            markup=False,
        )
    screen.print(
        f"\npicture: {done.preview}\nreport:  {done.report}\nrun:     {done.run}\n"
        f"{done.seconds:.0f} seconds\n\n"
        "next, with your own pictures and masks (folders images/ and masks/, equal names):\n"
        '  vlsmctl prepare mydata --raw MYDATA --class "polyp"\n'
        "  vlsmctl train --preset generic\n"
        "  vlsmctl eval\n"
        '  vlsmctl predict SCANS --prompt "polyp"',
        markup=False,
    )
