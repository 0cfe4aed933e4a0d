"""CAMUS: heart ultrasound of 500 patients, in two- and four-chamber view, at end-diastole and end-systole.

Two layouts. New: database_nifti/patientXXXX/patientXXXX_{2CH,4CH}_{ED,ES}[_gt].nii.gz, the official split
in database_split/subgroup_*.txt. Old: training/ and testing/ with .mhd and .raw; the patients of testing/
are numbered again from 0001, so that their ids and groups begin with "test-" here. Beside the images,
Info_{2CH,4CH}.cfg tells of the patient. Whole sequences (half_sequence, sequence) are not used.

A label map has 1 the cavity of the left ventricle, 2 the myocardium, 3 the left atrium: three records an
image.

Source: https://humanheart-project.creatis.insa-lyon.fr/database/
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import relative
from vlsmctl.datasets.records import Item, Kind, LeftOut, Listing
from vlsmctl.datasets.sources import LabelSlice, Slice
from vlsmctl.datasets.wording import listed

CLASSES = {1: "left ventricular cavity", 2: "myocardium", 3: "left atrium cavity"}
VIEWS = {"2CH": "two-chamber", "4CH": "four-chamber"}
PHASES = {"ED": "diastole", "ES": "systole"}
_SEXES = {"m": "male", "f": "female", "male": "male", "female": "female"}
_QUALITIES = ("good", "medium", "poor")
_FACTS = {"sex": "sex", "age": "age", "quality": "imagequality"}  # attribute -> key of the side file
_SUFFIXES = (".nii.gz", ".nii", ".mhd")
_NIFTI, _SPLIT, _PARTS = "database_nifti", "database_split", ("training", "testing")
_SUBGROUPS = {
    "subgroup_training.txt": "train",
    "subgroup_validation.txt": "val",
    "subgroup_testing.txt": "test",
}
_PATIENT = re.compile(r"patient\d{4}", re.IGNORECASE)
_MASK = re.compile(r"mask_([123])")
_OLDEST = 120
_TEST = "test-"

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@dataclass(frozen=True)
class _Part:
    """A folder of patients. prefix: of their ids and groups. split: patient -> split, or one for all."""

    folder: Folder
    prefix: str = ""
    split: str | Mapping[str, str] | None = None

    def split_of(self, patient: str) -> str | None:
        return self.split.get(patient.lower()) if isinstance(self.split, Mapping) else self.split


def matches(folder: Folder) -> bool:
    """Whether patients of CAMUS lie in the folder, or in database_nifti/, training/ or testing/ of it."""
    return any(_has_patients(part.folder) for part in _parts(folder))


def list_items(root: Path) -> Listing:
    """Three items an image, one a label; the split of the files or folders where there is one."""
    parts = _parts(read_folder(root))
    items: list[Item] = []
    left_out: list[LeftOut] = []
    unsaid: dict[str, list[str]] = defaultdict(list)
    sequences = 0
    for part, patient in _patients(parts):
        sequences += sum("sequence" in file and file.endswith(_SUFFIXES) for file in patient.files)
        for view in VIEWS:
            info = _info(patient, view)
            for phase in PHASES:
                found = list(_items(root, part, patient, view, phase, info))
                items += [each for each in found if isinstance(each, Item)]
                left_out += [each for each in found if isinstance(each, LeftOut)]
            for what, word in _words(info).items():
                unsaid[what] += [] if word else [relative(patient.path, root) + f"/Info_{view}.cfg"]
    notes = (f"{sequences} files of whole sequences are not used",) if sequences else ()
    warnings = [
        f"{len(files)} side files tell no {what}, so that prompts lack it: {listed(files)}"
        for what, files in unsaid.items()
        if files
    ]
    return Listing(tuple(items), tuple(left_out), notes, (*warnings, *_without_split(parts, items)))


def published(img_name: str, mask_name: str) -> str:
    """The id of an entry of MedVLSM's train.json and val.json, which hold the patients of training/:
    ("patient0001_2CH_ED.png", "mask_1/patient0001_2CH_ED_gt.png") -> "patient0001_2CH_ED_1"."""
    label = _MASK.search(mask_name)
    return f"{PurePosixPath(img_name).stem}_{label[1] if label else '?'}"


def published_test(img_name: str, mask_name: str) -> str:
    """As `published`, for test.json, which holds the patients of testing/ under numbers of their own."""
    return _TEST + published(img_name, mask_name)


def age_in_words(age: int) -> str:
    """0 to 120 in words: 76 -> "seventy-six", 101 -> "one hundred and one"."""
    if age >= 100:
        rest = f" and {age_in_words(age % 100)}" if age % 100 else ""
        return f"{_ONES[age // 100]} hundred{rest}"
    if age < len(_ONES):
        return _ONES[age]
    tens, ones = _TENS[age // 10 - 2], age % 10
    return f"{tens}-{_ONES[ones]}" if ones else tens


def _parts(folder: Folder) -> list[_Part]:
    """Where the patients lie below the root of either layout."""
    nifti = folder.below(_NIFTI)
    if nifti is not None:
        return [_Part(nifti, split=_subgroups(folder.below(_SPLIT)))]
    training, testing = (folder.below(name) for name in _PARTS)
    if training is not None or testing is not None:
        both = training is not None and testing is not None
        parts = [_Part(training, split="train" if both else None)] if training is not None else []
        return parts + ([_Part(testing, _TEST, "test")] if testing is not None else [])
    beside = folder.path.parent / _SPLIT if folder.path.name.lower() == _NIFTI else None
    return [_Part(folder, split=_subgroups(read_folder(beside)) if beside else None)]


def _has_patients(folder: Folder) -> bool:
    """Whether the first folder that is called as a patient holds an image of it."""
    name = next((name for name in folder.folders if _PATIENT.fullmatch(name)), None)
    here = folder.below(name) if name else None
    return here is not None and any(_image_file(here, view, phase) for view in VIEWS for phase in PHASES)


def _subgroups(folder: Folder | None) -> Mapping[str, str] | None:
    """patient (lower case) -> split, by the lists of the official split."""
    if folder is None:
        return None
    splits: dict[str, str] = {}
    for name, split in _SUBGROUPS.items():
        try:
            text = (folder.path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        splits.update({patient.lower(): split for patient in _PATIENT.findall(text)})
    return splits or None


def _patients(parts: list[_Part]) -> Iterator[tuple[_Part, Folder]]:
    for part in parts:
        for name in part.folder.folders:
            patient = part.folder.below(name) if _PATIENT.fullmatch(name) else None
            if patient is not None:
                yield part, patient


def _without_split(parts: list[_Part], items: list[Item]) -> tuple[str, ...]:
    """A warning of patients that the official split does not know."""
    if not any(isinstance(part.split, Mapping) for part in parts):
        return ()
    names = sorted({str(item.group) for item in items if item.split is None})
    return (f"patients that are in none of {_SPLIT}/*.txt: {len(names)}, {listed(names)}",) if names else ()


def _items(
    root: Path, part: _Part, patient: Folder, view: str, phase: str, info: Mapping[str, str]
) -> Iterator[Item | LeftOut]:
    """The three items of one image, or what is missing of it."""
    name = patient.path.name
    image, label = _image_file(patient, view, phase), _image_file(patient, view, phase, "_gt")
    if image is None or label is None:
        here = relative(patient.path, root)
        missing = f"{name}_{view}_{phase}{'_gt' if image else ''}"
        yield LeftOut(f"{here}/{image or label or missing}", f"{missing}.nii.gz or .mhd beside it", "none")
        return
    picture = f"{part.prefix}{name}_{view}_{phase}"
    source = Slice(patient.path / image, 0, None, stored=True)
    told = {key: word for key, word in _words(info).items() if word}
    facts = {"view": view, "phase": phase}
    facts |= {name: info[key] for name, key in _FACTS.items() if key in info}
    for number, class_word in CLASSES.items():
        yield Item(
            id=f"{picture}_{number}",
            image=source,
            mask=LabelSlice(patient.path / label, source, (number,)),
            image_name=picture,
            split=part.split_of(name),
            group=part.prefix + name,
            words={"class": class_word, "view": VIEWS[view], "phase": PHASES[phase], **told},
            attributes={"label": number, **facts},
        )


def _image_file(patient: Folder, view: str, phase: str, ending: str = "") -> str | None:
    stem = f"{patient.path.name}_{view}_{phase}{ending}"
    return next((stem + suffix for suffix in _SUFFIXES if stem + suffix in patient.files), None)


def _info(patient: Folder, view: str) -> dict[str, str]:
    """The "Key: value" lines of a side file, keys in lower case; nothing where there is none."""
    try:
        text = (patient.path / f"Info_{view}.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = [line.partition(":") for line in text.splitlines()]
    return {key.strip().lower(): value.strip() for key, colon, value in pairs if colon and value.strip()}


def _words(info: Mapping[str, str]) -> dict[str, str]:
    """Sex, age and quality in words; empty where the side file does not say, or not so that it is known."""
    age = info.get("age", "")
    years = int(float(age)) if re.fullmatch(r"\d{1,3}(\.0*)?", age) else -1
    quality = info.get("imagequality", "").lower()
    return {
        "sex": _SEXES.get(info.get("sex", "").lower(), ""),
        "age": age_in_words(years) if 0 <= years <= _OLDEST else "",
        "quality": quality if quality in _QUALITIES else "",
    }


CAMUS = Kind(
    title="CAMUS: heart ultrasound, left ventricle, myocardium and left atrium",
    layout="database_nifti/patient0001/patient0001_2CH_ED.nii.gz, ..._gt.nii.gz, Info_2CH.cfg, with"
    " database_split/; or training/ and testing/ with .mhd and .raw",
    source="https://humanheart-project.creatis.insa-lyon.fr/database/",
    licence="not stated with the files; research use, see its page",
    split_rule="official: database_split/*.txt, or the folders training/ and testing/; where no val is"
    " given, a seeded share of the training patients; a patient never lies in two splits",
    matches=matches,
    list_items=list_items,
    expected=6000,
    annotations="camus",
    published=published,
    published_test=published_test,
    words=("view", "phase", "sex", "age", "quality"),
    archives=("camus*.zip", "camus*.tar*", "database_nifti*.zip", "database_nifti*.tar*"),
    terms="ask for access on its page; research use",
)
