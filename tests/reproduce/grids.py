"""A grid without training: prepared data sets of no pictures, and runs that were never run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vlsmctl import runs
from vlsmctl.datasets.manifest import Record, write_manifest
from vlsmctl.reproduce.grid import Cell
from vlsmctl.reproduce.standing import scores_folder
from vlsmctl.scoring import Asked, paper_of

NAMES = ("n_missed", "n_false_alarm", "n_both_empty", "n_failed")


def make_data(folder: Path, counts: tuple[int, int, int] = (3, 2, 2), **info: Any) -> Path:
    """A prepared data set, but for its pictures."""
    records = [
        Record(f"{split}-{number}", "images/a.png", "masks/a.png", split, {"p1": "polyp"}, {}, None, 8, 8,
               0.5, f"{split}{number}")
        for split, count in zip(("train", "val", "test"), counts, strict=True)
        for number in range(count)
    ]  # fmt: skip
    folder.mkdir(parents=True)
    write_manifest(folder, records, info)
    return folder


def make_run(cell: Cell, *, status: str = "finished", device: str = "cpu", seconds: float = 36.0,
             processes: int = 1, base: str = "b" * 64) -> Path:  # fmt: skip
    """The cell's folder as training leaves it."""
    from vlsmctl.training import preset_hash, resolved

    assert cell.folder is not None
    assert cell.manifest is not None
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / runs.ADAPTER).write_bytes(cell.key.encode())
    document = {
        "status": status,
        "preset": resolved(cell.preset).model_dump(mode="json", by_alias=True),
        "preset_sha256": preset_hash(cell.preset),
        "data": {"folder": str(cell.manifest.folder), "manifest_sha256": cell.manifest.hash},
        "base": {"name": cell.preset.model, "sha256": base},
        "parameters": {"trainable": 1_130_000, "total": 150_000_000},
        "seed": cell.seed,
        "device": device,
        "processes": processes,
        "seconds": seconds,
    }
    (cell.folder / runs.RUN).write_text(json.dumps(document), encoding="utf-8")
    return cell.folder


def make_scores(cell: Cell, dice: float, *, iou: float = 0.5, hd95: float = 20.0,
                defined: float | None = 10.0, protocol: str = "paper", n: int = 2,
                about: dict[str, Any] | None = None, **counts: int) -> Path:  # fmt: skip
    """The scores of a run of `make_run`. dice, iou: 0..1. defined: HD95 where both masks are there."""
    assert cell.folder is not None
    assert cell.manifest is not None
    metrics = {"dice": dice, "iou": iou, "hd95_px": hd95}
    if defined is not None:
        metrics["hd95_defined_px"] = defined
    summary = {
        "about": {
            "adapter_sha256": hashlib.sha256((cell.folder / runs.ADAPTER).read_bytes()).hexdigest(),
            "manifest_sha256": cell.manifest.hash,
            "data": cell.manifest.folder.name,
            "split": "test",
            "prompts": "random",
            "protocol": protocol,
            "presence_asked": None,
            "trained_pictures": 0,
            "prompts_from_masks": False,
            "paper": paper_of(cell.preset, cell.manifest, Asked("test", "random", protocol=protocol)),
            **(about or {}),
        },
        "n": n,
        **dict.fromkeys(NAMES, 0),
        **counts,
        "metrics": {name: {"mean": value} for name, value in metrics.items()},
    }
    folder = scores_folder(cell.folder, protocol)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder
