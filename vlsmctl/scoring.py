"""Scores a model on a split: its masks are written as files, then files are scored against files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vlsmctl.ahead import ahead
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.datasets.prompts import askable, choose_prompt, prompt_keys
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.evaluation import CasePair
from vlsmctl.formats.raster import read_picture, write_mask_picture
from vlsmctl.models.tokens import distinct
from vlsmctl.predictor import Picture, Predictor, encode, ready, segment, usual_cut

T = TypeVar("T")
Tick = Callable[[Iterable[Record], str], Iterable[Record]]


@dataclass(frozen=True)
class RecordMask:
    """The mask of one record and the prompt that was asked, or the reason why there is none."""

    record: Record
    prompt: str | None
    path: Path | None
    error: str | None


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


def predict_records(
    predictor: Predictor,
    manifest: Manifest,
    records: Iterable[Record],
    choice: str,
    seed: int,
    folder: Path,
    *,
    batch_size: int,
) -> list[RecordMask]:
    """Masks for records of a prepared data set, as PNG files below `folder`, each with the prompt that
    was chosen for it (of epoch 0, so that scoring twice gives the same scores)."""
    pictures = ahead(_readable(manifest, records), depth=2 * batch_size)
    done: list[RecordMask] = []
    for chunk in _chunks(pictures, batch_size):
        done += [RecordMask(record, None, None, what) for record, what in chunk if isinstance(what, str)]
        whole = [(record, what) for record, what in chunk if not isinstance(what, str)]
        if not whole:
            continue
        words, which = distinct([choose_prompt(record, choice, seed, 0) for record, _ in whole])
        places = which.tolist()
        found = segment(
            predictor,
            [ready(predictor, what) for _, what in whole],
            [[place] for place in places],
            encode(predictor, words),
            usual_cut(predictor),
        )
        for (record, _), (result,), place in zip(whole, found, places, strict=True):
            path = folder / f"{record.id}.png"
            write_mask_picture(result.mask, path)
            done.append(RecordMask(record, words[place], path, None))
    return done


def _readable(manifest: Manifest, records: Iterable[Record]) -> Iterator[tuple[Record, Picture | str]]:
    """Each record with its picture, or with the reason why there is none."""
    for record in records:
        try:
            yield record, read_picture(manifest.folder / record.image)
        except UnreadableFile as error:
            yield record, str(error)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
