"""Scores a model on a split: its masks are written as files, then files are scored against files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.datasets.prompts import askable, prompt_keys
from vlsmctl.errors import UsageError
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

    choice: random, one of p0..pN, or all: every key in turn, each into a folder of its own. Pictures
    without a prompt of that key are left out of it. Raises UsageError when the data set has no such key.
    """
    there = prompt_keys(manifest)
    if choice not in ("random", "all", *there):
        known = ", ".join(("random", "all", *there))
        raise UsageError(f"no prompt {choice!r} in {manifest.folder}; there is: {known}")
    pairs: list[CasePair] = []
    for key in there if choice == "all" else [choice]:
        records = [record for record in manifest.split(split) if askable(record, key)]
        below = folder / key if choice == "all" else folder
        done = predict_records(
            predictor, manifest, tick(records, f"{split}, prompts {key}"), key, seed, below,
            batch_size=batch_size,
        )  # fmt: skip
        pairs += [
            CasePair(
                id=one.record.id,
                prediction=one.path,
                target=manifest.folder / one.record.mask,
                group=one.record.group,
                prompt=one.prompt,
                prompt_key=key if choice == "all" else None,
                error=one.error,
            )
            for one in done
        ]
    return pairs
