"""CAMUS in its new layout (NIfTI, official split) and its old one (MetaImage, training/ and testing/)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tests.datasets.fakes import picture

PATIENTS = 8
OLD_TESTING = 2  # of them; numbered again from 0001
SPLIT = {"training": range(1, 6), "validation": range(6, 7), "testing": range(7, 9)}
WITHOUT_ATRIUM = (2, "4CH", "ES")
WITHOUT_SEX = 3  # its side files do not tell
SPACING = (0.5, 0.25)  # mm from column to column and from row to row, as in the original not square


def size(patient: int) -> tuple[int, int]:
    """(rows, columns) of the images of a patient."""
    return 40 + patient, 32 + 2 * patient


def image(patient: int, view: str, phase: str) -> NDArray[np.uint8]:
    """uint8 [rows, columns], as it is to be shown."""
    number = 100 * patient + 10 * (view == "4CH") + (phase == "ES")
    return picture(number, *size(patient))[..., 0]


def labels(patient: int, view: str, phase: str) -> NDArray[np.uint8]:
    """uint8 [rows, columns] of 0 to 3; up and down, left and right differ."""
    drawn = np.zeros(size(patient), np.uint8)
    drawn[4:20, 6:20] = 2
    drawn[6:18, 8 : 16 + (view == "4CH")] = 1
    if (patient, view, phase) != WITHOUT_ATRIUM:
        drawn[22:30, 7 : 14 + (phase == "ES")] = 3
    return drawn


def write(root: Path, *, old: bool = False, parent: str | None = None) -> Path:
    """Eight patients, 32 images, 96 records. old: the .mhd layout. parent: a folder around it all."""
    top = root / (parent or "")
    for number in range(1, PATIENTS + 1):
        testing = number - (PATIENTS - OLD_TESTING)
        name = f"patient{testing if old and testing > 0 else number:04d}"
        part = ("testing" if testing > 0 else "training") if old else "database_nifti"
        folder = top / part / name
        folder.mkdir(parents=True)
        for view in ("2CH", "4CH"):
            (folder / f"Info_{view}.cfg").write_text(_info(number, view, old), encoding="utf-8")
            for phase in ("ED", "ES"):
                shown = image(number, view, phase)
                _save(folder / f"{name}_{view}_{phase}", shown, old)
                _save(folder / f"{name}_{view}_{phase}_gt", labels(number, view, phase), old)
            sequence = "sequence" if old else "half_sequence"
            _save(folder / f"{name}_{view}_{sequence}", np.stack([shown, shown]), old)
    if not old:
        _write_split(top / "database_split")
    return root


def write_metaimage(
    path: Path,
    values: NDArray[Any],
    spacing: tuple[float, ...],
    *,
    compressed: bool = False,
    keys: Mapping[str, str] | None = None,
) -> Path:
    """values: [k, y, x] or [y, x]; spacing: mm along x, y (and k). keys: in place of the header's own, or
    besides; "" leaves one out."""
    types = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "float32": "MET_FLOAT", "uint16": "MET_USHORT"}
    data = path.with_suffix(".zraw" if compressed else ".raw")
    big = values.dtype.byteorder == ">"
    header = {
        "ObjectType": "Image",
        "NDims": str(values.ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(big),
        "CompressedData": str(compressed),
        "DimSize": " ".join(map(str, values.shape[::-1])),
        "ElementSpacing": " ".join(map(str, spacing)),
        "ElementType": types[values.dtype.newbyteorder("=").name],
        "ElementDataFile": data.name,
    }
    lines = [f"{key} = {value}" for key, value in {**header, **(keys or {})}.items() if value]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data.write_bytes(zlib.compress(values.tobytes()) if compressed else values.tobytes())
    return path


def _save(stem: Path, shown: NDArray[np.uint8], old: bool) -> None:
    """shown: [rows, columns], or several of them."""
    if old:
        stacked = shown if shown.ndim == 3 else shown[np.newaxis]
        spacing = (*SPACING, 1.0)
        write_metaimage(stem.with_name(stem.name + ".mhd"), stacked, spacing, compressed="4CH" in stem.name)
        return
    # As ITK writes an image that is not turned: x to the right is towards the patient's left.
    affine = np.diag([-SPACING[0], -SPACING[1], 1.0, 1.0])
    array = np.moveaxis(shown, (-1, -2), (0, 1))
    nib.save(nib.Nifti1Image(array, affine), stem.with_name(stem.name + ".nii.gz"))


def _info(patient: int, view: str, old: bool) -> str:
    lines = ["ED: 1", "ES: 12", "NbFrame: 12"]
    if patient != WITHOUT_SEX:
        lines.append(f"Sex: {'F' if patient % 2 else 'M'}")
    quality = ("Good", "Medium", "Poor")[patient % 3 if view == "2CH" else 0]
    lines += [f"Age: {70 + patient}", f"ImageQuality: {quality}"]
    lines += ["LVedv: 94.2", "LVesv: 50.1", "LVef: 46.8"] if old else ["EF: 46", "FrameRate: 40.5"]
    return "\n".join(lines) + "\n"


def _write_split(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, numbers in SPLIT.items():
        text = "\n".join(f"patient{number:04d}" for number in numbers)
        (folder / f"subgroup_{name}.txt").write_text(text, encoding="utf-8")
