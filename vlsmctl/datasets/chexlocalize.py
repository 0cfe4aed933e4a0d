"""CheXlocalize: chest X-rays of CheXpert, on which radiologists outlined ten findings.

Layout: CheXpert/{val,test}/patient64541/study1/view1_frontal.jpg, CheXpert/{val,test}_labels.csv and
CheXlocalize/gt_segmentations_{val,test}.json: image -> finding -> COCO run lengths, all ten findings
listed, those that are not there as empty masks. Without that file, gt_annotations_{val,test}.json: image
-> "img_size" [height, width] and finding -> polygons of [x, y]. The older release has CheXpert-v1.0/valid,
CheXpert-v1.0/valid.csv and the JSON files beside them.

The labels are said for whole images, also for findings that nobody outlined.

Source: https://stanfordaimi.azurewebsites.net/datasets/23c56a0d-15de-405b-87c8-99c30138950c and
https://github.com/rajpurkarlab/cheXlocalize
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import merged, relative
from vlsmctl.datasets.records import Item, Kind, LeftOut, Listing
from vlsmctl.datasets.regions import FARTHEST, check_size, run_lengths
from vlsmctl.datasets.sources import MaskSource, Nothing, Picture, Polygons, RunLengths
from vlsmctl.errors import UnreadableFile

PATHOLOGIES = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema",
    "Consolidation", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices",
)  # fmt: skip
_OBSERVED = {  # the columns of CheXpert's labels that name a finding -> the word for it
    name: name
    for name in (*PATHOLOGIES, "Lung Opacity", "Pneumonia", "Pleural Other", "Fracture")
} | {"Airspace Opacity": "Lung Opacity"}  # fmt: skip
_SPLITS = {"val": "train", "test": "test"}
_PARTS = {"val": ("val", "valid"), "test": ("test",)}
_IMAGES = ("CheXpert", "CheXpert-v1.0", "CheXpert-v1.0-small", "")
_OUTLINES = ("CheXlocalize", "")
_KEY = re.compile(
    r"(?P<patient>patient[0-9]+)_(?P<study>study[0-9]+)_(?P<image>view[0-9]+_(?P<view>[a-z]+))"
)
_VIEWS = ("frontal", "lateral")
_SHORT = 16  # an empty mask is one run, of at most seven characters


@dataclass(frozen=True)
class _Part:
    """The official validation or test set. images: the folder of the patients. outlines: the JSON file;
    polygons: whether it holds polygons. labels: the table, where there is one."""

    name: str
    root: Path
    images: Path
    outlines: Path
    polygons: bool
    labels: Path | None


def matches(folder: Folder) -> bool:
    """Patients' folders and the JSON file for them, of one official set at least."""
    return any(_part(folder, name) is not None for name in _PARTS)


def list_items(root: Path) -> Listing:
    """An item for each image and each of the ten findings; the mask is `Nothing` for those not there."""
    here = read_folder(root)
    parts = {name: _part(here, name) for name in _PARTS}
    absent = [name for name, part in parts.items() if part is None]
    notes = tuple(f"there is no {name} set: its images or its JSON file are not there" for name in absent)
    return merged((*(_of_part(part) for part in parts.values() if part), Listing((), notes=notes)))


def published(_img_name: str, mask_name: str) -> str:
    """The id of an entry of MedVLSM's annotations: the mask's stem."""
    return PurePosixPath(mask_name).stem


def _part(root: Folder, name: str) -> _Part | None:
    images = next(_patients(root, name), None)
    outlines = next(_json_files(root, name), None)
    if images is None or outlines is None:
        return None
    base, folder = images
    tables = (f"{name}_labels.csv", f"{folder.path.name}.csv", f"{folder.path.name}_labels.csv")
    labels = next((base.path / table for table in tables if table in base.files), None)
    path, polygons = outlines
    return _Part(name, root.path, folder.path, path, polygons, labels)


def _patients(root: Folder, name: str) -> Iterator[tuple[Folder, Folder]]:
    for below in _IMAGES:
        base = root.below(below) if below else root
        for called in _PARTS[name] if base else ():
            folder = base.below(called) if base else None
            if base and folder and any(re.fullmatch(r"patient[0-9]+", each) for each in folder.folders):
                yield base, folder


def _json_files(root: Folder, name: str) -> Iterator[tuple[Path, bool]]:
    for content, polygons in (("segmentations", False), ("annotations", True)):
        for below in _OUTLINES:
            base = root.below(below) if below else root
            file = f"gt_{content}_{name}.json"
            if base is not None and file in base.files:
                yield base.path / file, polygons


def _of_part(part: _Part) -> Listing:
    try:
        images = _read_json(part.outlines)
    except UnreadableFile as error:
        broken = LeftOut(relative(part.outlines, part.root), "a JSON object", str(error), "unreadable")
        return Listing((), (broken,))
    findings, warnings = _read_labels(part)
    items: list[Item] = []
    left_out: list[LeftOut] = []
    for key in sorted(images):
        for found in _of_image(part, key, images[key], findings):
            if isinstance(found, Item):
                items.append(found)
            else:
                left_out.append(found)
    unlabelled = {item.image_name for item in items if "findings" not in item.attributes}
    if findings and unlabelled:
        warnings += (f"{len(unlabelled)} images of the {part.name} set are not in its table of labels",)
    return Listing(tuple(items), tuple(left_out), warnings=warnings)


def _read_json(path: Path) -> dict[str, Any]:
    """Raises UnreadableFile, with the reason alone."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UnreadableFile(f"a file that cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"no JSON ({error})"[:200]) from error
    if not isinstance(document, dict):
        raise UnreadableFile(f"JSON of another kind ({type(document).__name__})")
    return document


def _of_image(
    part: _Part, key: str, entry: Any, findings: Mapping[str, list[str]]
) -> Iterator[Item | LeftOut]:
    """The items of one image, or what is wrong with it."""
    file = relative(part.outlines, part.root)
    known = _KEY.fullmatch(key)
    if known is None or known["view"] not in _VIEWS:
        expected = "images called as 'patient64541_study1_view1_frontal'"
        yield LeftOut(file, expected, _shown(key), "kind")
        return
    image = part.images / known["patient"] / known["study"] / f"{known['image']}.jpg"
    if not image.is_file():
        yield LeftOut(file, f"the image {relative(image, part.root)}", "none")
        return
    if not isinstance(entry, dict):
        yield LeftOut(file, f"an object for {key}", _shown(entry), "unreadable")
        return
    for name in sorted(entry.keys() - {*PATHOLOGIES, "img_size"}):
        yield LeftOut(file, f"one of the ten findings in {key}", _shown(name), "kind")
    positive = findings.get(key, findings.get(f"{known['patient']}_{known['study']}"))
    for pathology in PATHOLOGIES:
        try:
            mask = _mask(part, entry, pathology)
        except ValueError as error:
            yield LeftOut(file, f"a mask of {pathology} in {key}", str(error), "unreadable")
            continue
        yield _item(key, Picture(image), mask, pathology, known, _SPLITS[part.name], positive)


def _item(
    key: str,
    image: Picture,
    mask: MaskSource,
    pathology: str,
    known: re.Match[str],
    split: str,
    findings: list[str] | None,
) -> Item:
    words = {"class": pathology, "view": known["view"]}
    attributes = {} if findings is None else {"findings": findings}
    if findings:
        words["findings"] = ", ".join(findings)
    return Item(
        f"{key}_{pathology.lower().replace(' ', '_')}",
        image,
        mask,
        image_name=key,
        split=split,
        group=known["patient"],
        stratum=known["view"],
        words=words,
        attributes=attributes,
    )


def _mask(part: _Part, entry: Mapping[str, Any], pathology: str) -> MaskSource:
    """The mask of one finding. Raises ValueError: what was found instead of one."""
    if pathology not in entry:
        return Nothing()
    if part.polygons:
        size = _size(entry.get("img_size"))
        return Polygons(part.outlines, _polygons(entry[pathology]), size)
    mask = entry[pathology]
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
        raise ValueError(_shown(mask))
    height, width = _size(mask.get("size"))
    counts: str = mask["counts"]
    if len(counts) <= _SHORT and len(run_lengths(counts, height * width)) < 2:
        return Nothing()
    return RunLengths(part.outlines, counts, (height, width))


def _size(found: Any) -> tuple[int, int]:
    """(height, width)."""
    if not isinstance(found, list) or len(found) != 2 or not all(type(side) is int for side in found):
        raise ValueError(f"a size of {_shown(found)}")
    height, width = found
    check_size(height, width)
    return height, width


def _polygons(found: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    if not isinstance(found, list) or not all(isinstance(outline, list) for outline in found):
        raise ValueError(_shown(found))
    return tuple(tuple(_corner(corner) for corner in outline) for outline in found)


def _corner(found: Any) -> tuple[float, float]:
    if (
        isinstance(found, list)
        and len(found) == 2
        and all(type(each) in (int, float) and abs(each) <= FARTHEST for each in found)
    ):
        return float(found[0]), float(found[1])
    raise ValueError(f"a corner at {found}"[:80])


def _read_labels(part: _Part) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Image (or study) -> its positive findings, in the order of the table's columns; and warnings."""
    missing = "its prompts that name the other findings are left out"
    if part.labels is None:
        return {}, (f"the {part.name} set has no table {part.name}_labels.csv: {missing}",)
    try:
        with part.labels.open(encoding="utf-8-sig", newline="") as stream:
            return _findings(csv.DictReader(stream)), ()
    except (OSError, ValueError, csv.Error) as error:
        name = relative(part.labels, part.root)
        return {}, (f"{name} cannot be used ({str(error)[:200]}): {missing}",)


def _findings(rows: csv.DictReader[str]) -> dict[str, list[str]]:
    """Raises ValueError: a table without patients or without findings."""
    columns = rows.fieldnames or ()
    path = next((name for name in ("Path", "Study") if name in columns), None)
    observed = [name for name in columns if name in _OBSERVED]
    if path is None or not observed:
        raise ValueError("expected the columns Path, Cardiomegaly, ...")
    found: dict[str, list[str]] = {}
    for row in rows:
        parts = re.sub(r"\.jpe?g$", "", row[path] or "").replace("\\", "/").split("/")
        start = next((at for at, name in enumerate(parts) if re.fullmatch(r"patient[0-9]+", name)), None)
        if start is not None:
            found["_".join(parts[start:])] = [_OBSERVED[name] for name in observed if _is_one(row[name])]
    if not found:
        raise ValueError("no row is of a patient")
    return found


def _is_one(text: str | None) -> bool:
    try:
        return float(text or 0) == 1
    except ValueError:
        return False


def _shown(found: Any) -> str:
    """A value from a file, for a message."""
    text = repr(found) if isinstance(found, (str, int, float)) else type(found).__name__
    return text if len(text) <= 60 else text[:57] + "..."


CHEXLOCALIZE = Kind(
    title="CheXlocalize: chest X-rays, ten findings outlined by radiologists",
    layout="CheXpert/{val,test}/patient*/study*/view*.jpg, CheXpert/{val,test}_labels.csv,"
    " CheXlocalize/gt_segmentations_{val,test}.json",
    source="https://stanfordaimi.azurewebsites.net/datasets/23c56a0d-15de-405b-87c8-99c30138950c",
    licence="the terms of Stanford AIMI, accepted at registration",
    split_rule="test is the official test set; of the official validation set, a seeded 10 % is val and the"
    " rest train; all images of a patient are in one split",
    matches=matches,
    list_items=list_items,
    expected=2177,
    empty="drop",
    annotations="chexlocalize",
    published=published,
    words=("view", "findings"),
    archives=("chexlocalize*.zip", "chexlocalize*.tar*"),
    terms="registration at Stanford AIMI and its terms of use; the data are not to be passed on",
)
