"""Small runs and evaluations, made by the real scoring, for the report to be made from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlsmctl.evaluation import Scores, score_cases
from vlsmctl.files import write_json
from vlsmctl.pairing import CasePair
from vlsmctl.score_files import write_scores
from vlsmctl.summary import summarise

SIDE = 48
HASH = "0123456789abcdef" * 4


def disc(row: float, column: float, radius: float, side: int = SIDE) -> NDArray[np.bool_]:
    y, x = np.ogrid[:side, :side]
    near: NDArray[np.bool_] = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return near


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == np.bool_ else pixels).save(
        path
    )
    return path


def data_set(folder: Path, count: int, side: int = SIDE, seed: int = 0) -> list[CasePair]:
    """Pictures, true masks (every ninth empty) and predictions of all quality (every eleventh empty), those
    of the first cases the worst."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        name = f"case-{number:04d}"
        image = rng.integers(60, 140, (side, side, 3)).astype(np.uint8)
        row, column = rng.uniform(0.3, 0.7, 2) * side
        radius = float(np.exp(rng.uniform(np.log(0.05), np.log(0.35)))) * side
        truth = disc(row, column, radius, side) & (number % 9 != 8)
        image[truth] = image[truth] // 2 + np.uint8(110)
        off = radius * (1 - number / count)
        found = disc(row + off, column, radius, side) & (number % 11 != 10) & (number % 18 != 17)
        pairs.append(
            CasePair(
                id=name,
                prediction=save(folder / "predicted" / f"{name}.png", found),
                target=save(folder / "masks" / f"{name}.png", truth),
                image=save(folder / "images" / f"{name}.png", image),
                group=f"patient {number // 3}",
                prompt=("polyp", "one small round polyp", "")[number % 3],
                data_set="phantom",
                columns={"site": ("left", "right")[number % 2]},
            )
        )
    return pairs


def evaluation(
    folder: Path,
    pairs: Sequence[CasePair],
    about: dict[str, Any] | None = None,
    protocol: str = "default",
    **more: Any,
) -> Scores:
    """Scores and summary of the pairs, in `folder`. more: put into the summary."""
    scores = score_cases(pairs, workers=0)
    by = sorted({name for pair in pairs for name in pair.columns})
    write_scores(folder, scores, {**summarise(scores, by=by, about=about, protocol=protocol), **more})
    return scores


def each_prompt(pairs: Sequence[CasePair], keys: Sequence[str] = ("p0", "p1", "p2")) -> list[CasePair]:
    return [
        replace(pair, prompt_key=key, prompt=f"{key} of a polyp" if key != "p0" else "")
        for key in keys
        for pair in pairs
    ]


def about(data: str = "phantom", **more: Any) -> dict[str, Any]:
    """As `scoring.described` has it."""
    return {
        "run": "20260101-120000-42", "method": "dense-vlc", "model": "tiny", "base_sha256": HASH,
        "adapter_sha256": HASH[::-1], "data": data, "data_folder": f"/home/someone/data/{data}",
        "manifest_sha256": HASH, "trained_on": "phantom", "trained_manifest_sha256": HASH,
        "trained_pictures": 0, "split": "test", "prompts": "random", "prompts_from_masks": True,
        "protocol": "default", "threshold": 0.5, "presence": 0.31, "image_size": 96, "seed": 42,
        "device": "cpu", "versions": {"vlsmctl": "0.1.0"}, "paper": None,
        "command": ["vlsmctl", "eval", f"runs/{data}/20260101-120000-42", "--prompts", "all"], **more,
    }  # fmt: skip


PAPER = {
    "row": "clipseg-dense", "dice": 89.10, "iou": 82.39, "hd95": 47.79,
    "comparable": True, "source": "VLSM-Adapter (arXiv 2405.06196), Table 1",
    "remarks": ["this one is another model"],
}  # fmt: skip
SENSITIVITY = {
    "question": "Does this model read?",
    "answer": "Partly: it finds the class by its name, and ignores places.",
    "sentences": ["With the prompt of another class, Dice falls by 0.21."],
    "rows": [
        {"key": "right", "label": "the right prompt", "example": "one small polyp", "n": 40,
         "dice": {"mean": 0.68, "interval": [0.6, 0.75]}, "difference": None, "agreement": None,
         "verdict": ""},
        {"key": "other", "label": "another class", "example": "a kidney", "n": 40,
         "dice": {"mean": 0.47, "interval": [0.38, 0.55]},
         "difference": {"mean": -0.21, "interval": [-0.3, -0.12]}, "agreement": 0.61,
         "verdict": "it tells classes apart"},
    ],
    "rules": {"agreement": "Dice of the two predictions"},
    "n_pictures": 40, "resampled_units": "12 patients or sequences",
}  # fmt: skip


def run_document(**more: Any) -> dict[str, Any]:
    """As `training` writes run.json."""
    from vlsmctl.config import load_preset

    return {
        "status": "finished",
        "preset": load_preset("phantom").model_dump(mode="json", by_alias=True),
        "preset_sha256": HASH,
        "data": {"folder": "/home/someone/data/phantom", "manifest_sha256": HASH},
        "prompt_keys": ["p0", "p1"],
        "base": {"name": "tiny", "sha256": HASH},
        "parameters": {"trainable": 41_234, "total": 1_234_567},
        "seed": 42, "device": "cpu", "precision": "no", "processes": 1,
        "versions": {"vlsmctl": "0.1.0", "torch": "2.9.0", "python": "3.11.9"},
        "seconds": 61.4, "epochs": 12, "best": {"epoch": 9, "val_dice": 0.7123},
        "presence": {"slope": 1.0, "intercept": 0.0, "threshold": 0.31, "positives": 36, "negatives": 4,
                     "auc": 0.91},
        **more,
    }  # fmt: skip


def run(root: Path, epochs: int = 12, **more: Any) -> Path:
    """A run folder, below `runs/phantom`, without evaluations."""
    folder = root / "runs" / "phantom" / "20260101-120000-42"
    folder.mkdir(parents=True)
    write_json(folder / "run.json", run_document(**more))
    lines = [
        {"epoch": n, "loss": 1.2 / n**0.5, "dice": 0.71 - 0.5 / n + (0.01 if n == 9 else 0),
         "lr": 1e-3 * 0.3 ** (n // 5), "seconds": 5.0, "images_per_second": 50.0}
        for n in range(1, epochs + 1)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def age(folder: Path, seconds: int) -> None:
    """Makes scores that much older."""
    for path in folder.glob("s*.*"):
        at = path.stat().st_mtime - seconds
        os.utime(path, (at, at))
