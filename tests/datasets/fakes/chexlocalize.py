"""CheXlocalize: X-rays in CheXpert's folders, outlines as run lengths or polygons in JSON files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.datasets.fakes import blob, picture, save

PATHOLOGIES = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema",
    "Consolidation", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices",
)  # fmt: skip
PEOPLE = ["Sex", "Age", "Frontal/Lateral", "AP/PA"]
LABELS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
]  # fmt: skip
PATIENTS = {"val": range(64541, 64551), "test": range(64741, 64746)}


def views(part: str) -> list[tuple[int, str]]:
    """(patient, image), such as (64541, "view1_frontal"); every third has a lateral view besides."""
    return [
        (patient, view)
        for patient in PATIENTS[part]
        for view in ("view1_frontal", "view2_lateral")
        if view == "view1_frontal" or patient % 3 == 0
    ]


def size(patient: int) -> tuple[int, int]:
    """(height, width)."""
    return (48, 40) if patient % 2 else (40, 56)


def findings(patient: int) -> list[str]:
    """What is outlined on the images of a patient."""
    return [name for at, name in enumerate(PATHOLOGIES) if (patient + at) % 4 == 0]


def square(patient: int, name: str) -> tuple[int, int, int]:
    """Row, column and side of an outline."""
    at = PATHOLOGIES.index(name)
    return 3 + 2 * at, 4 + at, 6 + at


def write(
    root: Path, *, polygons: bool = False, old: bool = False, labels: bool = True, unoutlined: bool = True
) -> Path:
    """Fifteen patients. polygons: only the annotations are there. old: the older release's folders, which
    has no test set. labels: the tables. unoutlined: a lateral view that is in no JSON file."""
    images = root / ("CheXpert-v1.0" if old else "CheXpert")
    outlines = root if old else root / "CheXlocalize"
    outlines.mkdir(parents=True, exist_ok=True)
    for part in ("val",) if old else ("val", "test"):
        folder = images / ("valid" if old else part)
        for number, (patient, view) in enumerate(views(part)):
            height, width = size(patient)
            pixels = picture(patient + 1000 * number, height, width)[..., 0]
            save(folder / f"patient{patient}" / "study1" / f"{view}.jpg", pixels)
        if unoutlined:
            save(folder / "patient64999" / "study1" / "view2_lateral.jpg", picture(64999)[..., 0])
        write_json = _polygons if polygons else _run_lengths
        name = f"gt_{'annotations' if polygons else 'segmentations'}_{part}.json"
        document = {f"patient{patient}_study1_{view}": write_json(patient) for patient, view in views(part)}
        (outlines / name).write_text(json.dumps(document), encoding="utf-8")
        if labels:
            _write_labels(images / ("valid.csv" if old else f"{part}_labels.csv"), part)
    return root


def run_lengths(mask: NDArray[np.bool_]) -> str:
    """COCO's compressed run lengths of a mask."""
    pixels = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(pixels[1:] != pixels[:-1])
    runs = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    if runs[-1] == 0 and len(runs) > 1:
        runs.pop()
    return "".join(_packed(run - (runs[at - 2] if at > 2 else 0)) for at, run in enumerate(runs))


def _packed(value: int) -> str:
    text = ""
    while not -16 <= value < 16:
        text += chr(48 + 32 + (value & 31))
        value >>= 5
    return text + chr(48 + (value & 31))


def _run_lengths(patient: int) -> dict[str, Any]:
    """All ten findings; those that are not there are empty masks."""
    height, width = size(patient)
    there = findings(patient)
    return {
        name: {
            "size": [height, width],
            "counts": run_lengths(blob(*square(patient, name), height, width) & (name in there)),
        }
        for name in PATHOLOGIES
    }


def _polygons(patient: int) -> dict[str, Any]:
    """Only the findings that are there."""
    entry: dict[str, Any] = {"img_size": list(size(patient))}
    for name in findings(patient):
        row, column, side = square(patient, name)
        right, bottom = column + side - 1.0, row + side - 1.0
        entry[name] = [[[column, row], [right, row], [right, bottom], [column, bottom]]]
    return entry


def _write_labels(path: Path, part: str) -> None:
    """The tables of the two sets differ: that of the test set says nothing of people."""
    people = PEOPLE if part == "val" else []
    top = "CheXpert-v1.0/valid" if part == "val" else "test"
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["Path", *people, *LABELS])
        for patient, view in views(part):
            positive = {
                "Lung Opacity" if name == "Airspace Opacity" else name for name in findings(patient)
            }
            positive |= {"Fracture"} if patient % 5 == 0 else set()
            values = [1.0 if name in positive else 0.0 for name in LABELS]
            told = ["Female", 61, view.split("_")[1].title(), "AP"] if people else []
            rows.writerow([f"{top}/patient{patient}/study1/{view}.jpg", *told, *values])
