"""Masks of a model for records of a prepared data set, each picture asked one or several prompts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vlsmctl.ahead import ahead
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.raster import read_picture, write_mask_picture
from vlsmctl.models.tokens import distinct
from vlsmctl.predictor import Cut, Picture, Predictor, encode, ready, segment

T = TypeVar("T")
Tick = Callable[[Iterable[Record], str], Iterable[Record]]  # shows progress over records


@dataclass(frozen=True)
class Question:
    """One prompt for one picture. key: the name of its kind, such as p1; the folder its masks go to, below
    the one given, where each kind gets its own; "" for none."""

    key: str
    prompt: str


@dataclass(frozen=True)
class RecordMask:
    """The mask that answers a question, or the reason why there is none."""

    record: Record
    question: Question
    path: Path | None
    error: str | None = None


def predict_records(
    predictor: Predictor,
    manifest: Manifest,
    records: Iterable[Record],
    ask: Callable[[Record], Sequence[Question]],
    folder: Path,
    cut: Cut,
    *,
    batch_size: int,
) -> Iterator[RecordMask]:
    """Masks as PNG files below `folder`, of every record and, in turn, every question asked of it. The
    image encoder runs once a picture."""
    pictures = ahead(_readable(manifest, records), depth=2 * batch_size)
    for chunk in _chunks(pictures, batch_size):
        asked = [ask(record) for record, _ in chunk]
        paths = _answered(predictor, chunk, asked, folder, cut)
        for (record, what), questions in zip(chunk, asked, strict=True):
            for question in questions:
                if isinstance(what, str):
                    yield RecordMask(record, question, None, what)
                else:
                    yield RecordMask(record, question, paths[record.id, question.key])


def _answered(
    predictor: Predictor,
    chunk: Sequence[tuple[Record, Picture | str]],
    asked: Sequence[Sequence[Question]],
    folder: Path,
    cut: Cut,
) -> dict[tuple[str, str], Path]:
    """Where the masks are, by record and key of the question."""
    whole = [
        (record, what, questions)
        for (record, what), questions in zip(chunk, asked, strict=True)
        if not isinstance(what, str) and questions
    ]
    if not whole:
        return {}
    words, which = distinct([question.prompt for _, _, questions in whole for question in questions])
    rows = iter(which.tolist())
    found = segment(
        predictor,
        [ready(predictor, what) for _, what, _ in whole],
        [[next(rows) for _ in questions] for _, _, questions in whole],
        encode(predictor, words),
        cut,
    )
    paths = {}
    for (record, _, questions), results in zip(whole, found, strict=True):
        for question, result in zip(questions, results, strict=True):
            path = folder / question.key / f"{record.id}.png"
            write_mask_picture(result.mask, path)
            paths[record.id, question.key] = path
    return paths


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
