"""MedVLSM's annotation files: splits and prompts taken from them, and prepared sets written as such files.

A set's annotations are `anns/train.json`, `val.json` and `test.json`, each a list of entries with, among
others, `img_name`, `mask_name`, `prompts` and `bbox`. They come from elsewhere and are read strictly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.manifest import SPLITS, Prompts, Record
from vlsmctl.datasets.published import Box, bounding_box
from vlsmctl.datasets.records import Item
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.files import atomic_path
from vlsmctl.formats.raster import read_mask_picture

FOLDER = "anns"
OLD_TESTS = ("testA.json", "testB.json")  # of older releases, which have them instead of test.json

Published: TypeAlias = Callable[[str, str], str]  # (img_name, mask_name) of an entry -> id of an item

_KEY = re.compile(r"p(0|[1-9]\d*)")
_SUFFIX = re.compile(r"\.(png|jpe?g|tiff?|bmp)$")
_NAMED = 5


@dataclass(frozen=True)
class Annotation:
    """One entry. bbox: left, top, right, bottom in pixels, where the entry has it."""

    img_name: str
    mask_name: str
    split: str
    prompts: Prompts
    bbox: Box | None


@dataclass(frozen=True)
class Annotations:
    """The entries of all splits in the order train, val, test; `hashes`: sha256 of each file, by name."""

    folder: Path
    entries: tuple[Annotation, ...]
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Applied:
    """Items with what the annotations say of them. notes, warnings: for people. unmatched: entries whose
    raw file is not there (image and mask name). left_out: ids that the annotations do not have. repeated:
    ids that several entries name, with the splits of these."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    unmatched: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    repeated: Mapping[str, tuple[str, ...]]


def find_annotations(folder: Path, name: str) -> Path:
    """The folder with the annotation files of the set that MedVLSM calls `name`: `folder` itself, its
    anns/, or NAME/anns (or NAME) in it or one folder below, as in a copy of MedVLSM's repository.

    Raises UsageError: there is none.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder of annotations: '{folder}'")
    below = [folder / inner for inner in read_folder(folder).folders]
    places = [folder, folder / FOLDER]
    for parent in (folder, *below):
        places += [parent / name / FOLDER, parent / name]
    for place in places:
        if _files(place):
            return place
    found = ", ".join(path.name for path in below[:_NAMED]) or "no folders"
    raise UsageError(
        f"no annotations of '{name}' in '{folder}': expected train.json, val.json and test.json there, in"
        f" {FOLDER}/ or in {name}/{FOLDER}/; found {found}"
    )


def read_annotations(folder: Path) -> Annotations:
    """Reads train.json, val.json and test.json (older releases: testA.json and testB.json) in a folder or
    in its anns/. Not all need be there.

    Raises UsageError: none is there, or one is not what it should be; file and entry are named.
    """
    folder = folder if _files(folder) else folder / FOLDER
    files = _files(folder)
    if not files:
        raise UsageError(f"no annotations in '{folder.parent}': expected train.json, val.json or test.json")
    entries: dict[tuple[str, str, str], list[Annotation]] = {}
    hashes = {}
    for path, split in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
        hashes[path.name] = hashlib.sha256(content).hexdigest()
        here = defaultdict(list)
        for entry in _parsed(content, path, split):
            here[(split, entry.img_name, entry.mask_name)].append(entry)
        for key, same in here.items():
            entries.setdefault(key, same)  # what stands in testA.json and in testB.json counts once
    return Annotations(folder, tuple(each for same in entries.values() for each in same), hashes)


def apply(
    items: Sequence[Item],
    annotations: Annotations,
    published: Published,
    *,
    protocol: bool,
    published_test: Published | None = None,
) -> Applied:
    """Gives items the prompts of their entries, as they are; with `protocol` their splits too.

    published: the item's id for (img_name, mask_name) of an entry; published_test: the same for test
    entries, where they are named otherwise. An id that no item has is looked for without regard to case
    and suffix, then by the mask's name, as `export_medvlsm` writes it. With `protocol`, items that have
    no entry are left out, and one that several entries name becomes one item for each, the second with
    the id "ID-2" and so on, of the same image; without it, the first entry counts.

    Raises UsageError: no entry names any of the items.
    """
    of_item, unmatched = _matched(items, annotations.entries, published, published_test or published)
    if not of_item:
        raise UsageError(_nothing_matches(items, annotations))
    chosen: list[Item] = []
    left_out: list[str] = []
    taken = {item.id for item in items}
    for item in items:
        entries = of_item.get(item.id, [])
        if not entries:
            left_out.append(item.id)
        if protocol:
            chosen += _by_protocol(item, entries, taken)
        else:
            chosen.append(replace(item, prompts=_prompts(entries[0])) if entries else item)
    repeated = {name: tuple(each.split for each in of_item[name]) for name in of_item}
    repeated = {name: splits for name, splits in repeated.items() if len(splits) > 1}
    return Applied(
        tuple(chosen),
        _notes(annotations, of_item, left_out, protocol),
        _warnings(unmatched, repeated, protocol),
        tuple((each.img_name, each.mask_name) for each in unmatched),
        tuple(left_out),
        repeated,
    )


def exported_id(img_name: str, mask_name: str) -> str:
    """The record's id for an entry that `export_medvlsm` wrote."""
    return "-".join(PurePosixPath(mask_name).with_suffix("").parts)


def export_medvlsm(records: Sequence[Record], folder: Path, target: Path | None = None) -> tuple[Path, ...]:
    """Writes anns/train.json, val.json and test.json, as MedVLSM has them, for a prepared data set.

    folder: of the data set, whose masks are read for `bbox`. target: where anns/ goes, by default into
    the data set's folder, which then has MedVLSM's layout: anns/, images/ and masks/. Names are those of
    the prepared files. Returns the files. Raises UnreadableFile: a mask that is not there or damaged.
    """
    written = []
    for split in SPLITS:
        final = (target or folder) / FOLDER / f"{split}.json"
        chosen = ((number, record) for number, record in enumerate(records) if record.split == split)
        with atomic_path(final) as path, path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write("[")
            for at, (number, record) in enumerate(chosen):
                stream.write(", " if at else "")
                json.dump(_entry(record, number, folder), stream)
            stream.write("]")
        written.append(final)
    return tuple(written)


def _entry(record: Record, number: int, folder: Path) -> dict[str, Any]:
    img_name = record.image.removeprefix("images/")
    return {
        "bbox": list(bounding_box(read_mask_picture(folder / record.mask))),
        "cat": 0,
        "segment_id": PurePosixPath(img_name).stem,
        "img_name": img_name,
        "mask_name": record.mask.removeprefix("masks/"),
        "sentences": [{"idx": 0, "sent_id": number, "sent": ""}],
        "prompts": record.prompts,
        "sentences_num": 1,
    }


def _files(folder: Path) -> list[tuple[Path, str]]:
    """The annotation files in a folder, each with its split."""
    wanted = [(f"{split}.json", split) for split in SPLITS]
    if not (folder / "test.json").is_file():
        wanted += [(name, "test") for name in OLD_TESTS]
    return [(folder / name, split) for name, split in wanted if (folder / name).is_file()]


def _parsed(content: bytes, path: Path, split: str) -> Iterator[Annotation]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected JSON, found something else ({error})") from error
    if not isinstance(document, list):
        raise UsageError(f"{path}: expected a list of entries, found {type(document).__name__}")
    for number, entry in enumerate(document, start=1):
        try:
            yield _annotation(entry, split)
        except ValueError as error:
            raise UsageError(f"{path}, entry {number}: {error}") from error


def _annotation(entry: Any, split: str) -> Annotation:
    """A checked entry; raises ValueError with expected and found. Other fields are passed over."""
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, found {type(entry).__name__}")
    img_name, mask_name = _checked_name(entry, "img_name"), _checked_name(entry, "mask_name")
    return Annotation(img_name, mask_name, split, _checked_prompts(entry), _checked_bbox(entry))


def _checked_name(entry: dict[str, Any], field: str) -> str:
    name = entry.get(field)
    if not _is_text(name) or not name:
        raise ValueError(f"expected '{field}' to be a file name, found {name!r}"[:300])
    return str(name)


def _checked_prompts(entry: dict[str, Any]) -> Prompts:
    prompts = entry.get("prompts")
    if not isinstance(prompts, dict) or not prompts:
        raise ValueError(f"expected 'prompts' to be p0, p1, ... with their texts, found {prompts!r}"[:300])
    for key, prompt in prompts.items():
        texts = prompt if isinstance(prompt, list) and prompt else [prompt]
        if not _KEY.fullmatch(key) or not all(_is_text(text) for text in texts):
            raise ValueError(
                "expected each of 'prompts' to be p0, p1, ... with a text or a list of texts,"
                f" found {key!r}: {prompt!r}"[:250]
            )
    return prompts


def _checked_bbox(entry: dict[str, Any]) -> Box | None:
    box = entry.get("bbox")
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"expected 'bbox' to be four numbers, found {box!r}"[:300])
    return int(box[0]), int(box[1]), int(box[2]), int(box[3])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_text(value: Any) -> bool:
    """Whether it is a text that can be written to a file again: JSON may hold halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _matched(
    items: Sequence[Item], entries: Sequence[Annotation], published: Published, published_test: Published
) -> tuple[dict[str, list[Annotation]], list[Annotation]]:
    """The entries of each item, and those of none."""
    ids = {item.id for item in items}
    folded: dict[str, set[str]] = defaultdict(set)
    for item in items:
        folded[_folded(item.id)].add(item.id)
    alike = {key: next(iter(same)) for key, same in folded.items() if len(same) == 1}
    of_item: dict[str, list[Annotation]] = defaultdict(list)
    unmatched = []
    for entry in entries:
        named = published_test if entry.split == "test" else published
        guesses = [_id(rule, entry) for rule in (named, exported_id)]
        found = [guess if guess in ids else alike.get(_folded(guess)) for guess in guesses if guess]
        match = next((each for each in found if each), None)
        if match is None:
            unmatched.append(entry)
        else:
            of_item[match].append(entry)
    return dict(of_item), unmatched


def _id(rule: Published, entry: Annotation) -> str | None:
    """A name that is none of the set's may be more than its rule can take apart."""
    try:
        return rule(entry.img_name, entry.mask_name)
    except (ValueError, LookupError):
        return None


def _folded(name: str) -> str:
    return _SUFFIX.sub("", name.lower())


def _by_protocol(item: Item, entries: Sequence[Annotation], taken: set[str]) -> Iterator[Item]:
    """One item an entry, of one image. `taken`: ids in use; new ones are added."""
    shared = item.image_name or item.id
    for number, entry in enumerate(entries, start=1):
        name = item.id if number == 1 else _free(f"{item.id}-{number}", taken)
        taken.add(name)
        image_name = item.image_name if len(entries) == 1 else shared
        yield replace(item, id=name, image_name=image_name, split=entry.split, prompts=_prompts(entry))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "-again"
    return name


def _prompts(entry: Annotation) -> Prompts:
    """As they are, and p0, which every record has."""
    return {"p0": "", **entry.prompts}


def _notes(
    annotations: Annotations,
    of_item: Mapping[str, Sequence[Annotation]],
    left_out: list[str],
    protocol: bool,
) -> tuple[str, ...]:
    used = sum(map(len, of_item.values()))
    notes = [f"prompts of {used} entries of {annotations.folder} taken as they are"]
    if left_out:
        what = "left out" if protocol else "keep prompts of our own"
        notes.append(f"{len(left_out)} raw items are not in the annotations and {what}: {_first(left_out)}")
    missing = [split for split in SPLITS if not any(each.split == split for each in annotations.entries)]
    if missing and protocol:
        notes.append(f"the annotations have no entries for {' and '.join(missing)}")
    return tuple(notes)


def _warnings(
    unmatched: Sequence[Annotation], repeated: Mapping[str, tuple[str, ...]], protocol: bool
) -> tuple[str, ...]:
    warnings = []
    if unmatched:
        names = [each.mask_name for each in unmatched]
        warnings.append(f"{len(names)} entries of the annotations have no raw file: {_first(names)}")
    if repeated:
        shown = [f"{name} ({' and '.join(splits)})" for name, splits in repeated.items()]
        what = "each entry becomes a record" if protocol else "the first entry counts"
        torn = sum(len(set(splits)) > 1 for splits in repeated.values())
        warnings.append(
            f"{len(repeated)} names stand in the annotations more than once, {torn} of them in several"
            f" splits; {what}: {_first(shown)}"
        )
    return tuple(warnings)


def _first(names: Sequence[str]) -> str:
    return listed([_printable(name) for name in names[:_NAMED]], len(names), _NAMED)


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _nothing_matches(items: Sequence[Item], annotations: Annotations) -> str:
    names = [entry.mask_name for entry in annotations.entries]
    return (
        f"none of the {len(names)} entries in '{annotations.folder}' is of this data set: expected names"
        f" such as {_first([item.id for item in items]) or 'none'}; found {_first(names) or 'none'}"
    )
