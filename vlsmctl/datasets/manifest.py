"""The prepared data set on disk: `manifest.jsonl`, one record a line, and `dataset.json`.

`dataset.json` is written last: a folder without it is not finished. It carries the manifest's hash,
so that a manifest that was cut off or changed afterwards is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vlsmctl.errors import UsageError
from vlsmctl.files import atomic_path, write_json

FORMAT = 1
SPLITS = ("train", "val", "test")
ALL = "all"
MANIFEST, INFO = "manifest.jsonl", "dataset.json"

Prompts = dict[str, str | list[str]]


@dataclass(frozen=True)
class Record:
    """One image with its mask.

    `image`, `mask`: paths relative to the data set's folder, with forward slashes. `split`: "train",
    "val" or "test". `prompts`: p0..pN, each a text or a list of texts to draw from. `attributes`: what
    the mask shows, in words and numbers. `group`: patient or sequence, when known. `width`, `height`:
    pixels. `foreground`: fraction of the mask that is set, 0..1. `sha256`: of the image's RGB pixels.
    """

    id: str
    image: str
    mask: str
    split: str
    prompts: Prompts
    attributes: dict[str, Any]
    group: str | None
    width: int
    height: int
    foreground: float
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A prepared data set: its folder, its records in file order, and `dataset.json` as `info`."""

    folder: Path
    records: tuple[Record, ...]
    info: dict[str, Any]
    hash: str

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of one split, in file order; "all": of all three. Raises UsageError: no such
        split, or it is empty."""
        chosen = tuple(record for record in self.records if name in (ALL, record.split))
        if not chosen:
            counts = {split: sum(record.split == split for record in self.records) for split in SPLITS}
            there = ", ".join(f"{split} ({count})" for split, count in counts.items() if count)
            raise UsageError(
                f"no images in split='{name}' of {self.folder}; there is: {there or 'nothing'}"
            )
        return chosen


def data_set_of(record: Record, manifest: Manifest) -> str:
    """The name of the data set that a record is of: its own, in one that was pooled of several."""
    return str(record.attributes.get("dataset") or manifest.folder.resolve().name)


def columns_of(record: Record) -> dict[str, str]:
    """What a record may be told apart by: its split, its size in pixels, and its attributes."""
    told = {"split": record.split, "width": record.width, "height": record.height, **record.attributes}
    return {name: str(value) for name, value in told.items() if isinstance(value, str | int | float | bool)}


def data_folder(data: Path, name: str) -> Path:
    """`data` itself when it is a prepared data set, else the data set `name` below it."""
    return data if (data / INFO).is_file() else data / name


def read_manifest(folder: Path) -> Manifest:
    """Reads a prepared data set.

    Raises UsageError: not prepared, not finished, another format version, a line that is no record
    (file and line are named), or a manifest that is not the one `dataset.json` was written for.
    """
    path = folder / MANIFEST
    if not (folder / INFO).is_file() or not path.is_file():
        raise UsageError(
            f"no manifest in data='{folder}'; run: vlsmctl prepare {folder.name} --raw PATH",
            hint="--data is the folder of prepared data sets, or one of them; vlsmctl presets lists them",
        )
    info = _read_info(folder / INFO)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if info.get("manifest_hash", digest) != digest:
        raise UsageError(
            f"{path} is not the file that {INFO} was written for (cut off or changed since)",
            hint=f"run vlsmctl prepare {folder.name} --raw PATH again,"
            f' or, if the change is wanted, remove "manifest_hash" from {folder / INFO}',
        )
    return Manifest(folder, _records(content, path), info, digest)


def write_manifest(folder: Path, records: Iterable[Record], info: dict[str, Any]) -> None:
    """Writes both files, each atomically, `dataset.json` last; `info` gains `format` and
    `manifest_hash`. The bytes depend on the arguments only. Records are taken one at a time."""
    (folder / INFO).unlink(missing_ok=True)  # until the new one is there, the folder is not finished
    digest = hashlib.sha256()
    with atomic_path(folder / MANIFEST) as path, path.open("wb") as stream:
        for record in records:
            line = (json.dumps(asdict(record), ensure_ascii=False) + "\n").encode()
            digest.update(line)
            stream.write(line)
    write_json(folder / INFO, {"format": FORMAT, **info, "manifest_hash": digest.hexdigest()})


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: expected JSON, found something else ({error})") from error
    version = info.get("format") if isinstance(info, dict) else None
    if version != FORMAT:
        raise UsageError(
            f"{path}: format version {version!r}, this vlsmctl reads {FORMAT}",
            hint=f"prepare the data again with this version: vlsmctl prepare {path.parent.name} --raw PATH",
        )
    return dict(info)


def _records(content: bytes, path: Path) -> tuple[Record, ...]:
    records: list[Record] = []
    seen: set[str] = set()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _record(json.loads(line))
            if record.id in seen:
                raise ValueError(f"the id {record.id!r} is there twice")
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        seen.add(record.id)
        records.append(record)
    return tuple(records)


_KINDS: dict[str, tuple[type, ...]] = {
    "id": (str,), "image": (str,), "mask": (str,), "split": (str,), "prompts": (dict,),
    "attributes": (dict,), "group": (str, type(None)), "width": (int,), "height": (int,),
    "foreground": (float, int), "sha256": (str,),
}  # fmt: skip


def _record(document: Any) -> Record:
    """A checked record; raises ValueError with expected and found. Unknown fields are passed over."""
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object, found {type(document).__name__}")
    for field, kinds in _KINDS.items():
        if field not in document:
            raise ValueError(f"expected the field '{field}', found none")
        found = document[field]
        if not isinstance(found, kinds) or isinstance(found, bool):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"expected '{field}' to be {wanted}, found {found!r}"[:300])
    if document["split"] not in SPLITS:
        raise ValueError(f"expected 'split' to be one of {', '.join(SPLITS)}, found {document['split']!r}")
    for field in ("image", "mask"):
        _check_inside(field, document[field])
    for key, prompt in document["prompts"].items():
        texts = prompt if isinstance(prompt, list) and prompt else [prompt]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"expected prompt '{key}' to be a text or a list of texts, found {prompt!r}"[:300]
            )
    return Record(**{field: document[field] for field in _KINDS})


def _check_inside(field: str, value: str) -> None:
    path = PurePosixPath(value)
    outside = path.is_absolute() or ".." in path.parts or "\\" in value or ":" in value
    if outside or not path.parts:
        raise ValueError(f"expected '{field}' to be a path below the data set's folder, found {value!r}")
