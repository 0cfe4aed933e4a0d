"""Scores a model on a split: its masks are written as files, then files are scored against files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.datasets.prompts import prompt_keys
from vlsmctl.evaluation import CasePair
from vlsmctl.prediction import Predictor, predict_records

Tick = Callable[[Iterable[Record], str], Iterable[Record]]


def predict_split(
    predictor: Predictor,
    manifest: Manifest,
    split: str,
    choice: str,
    seed: int,
    folder: Path,
    *,
    batch_size: int = 16,
    tick: Tick = lambda records, title: records,
) -> list[CasePair]:
    """Predicts the records of a split into `folder`; the pairs to score.

    choice: random, one of p0..pN, or all: every key in turn, each into a folder of its own.
    """
    records = manifest.split(split)
    keys = prompt_keys(manifest) if choice == "all" else [choice]
    pairs: list[CasePair] = []
    for key in keys:
        below = folder / key if choice == "all" else folder
        done = predict_records(
            predictor, manifest, tick(records, f"{split}, prompts {key}"), key, seed, below,
            batch_size=batch_size,
        )  # fmt: skip
        pairs += [
            CasePair(
                id=record.id,
                prediction=path,
                target=manifest.folder / record.mask,
                group=record.group,
                prompt=key if choice == "all" else prompt,
            )
            for record, prompt, path in done
        ]
    return pairs
