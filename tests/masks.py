"""Masks and mask files for tests, whole and broken."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlsmctl.metrics import Mask

SIZE = (30, 40)


def touch(folder: Path, names: str) -> Path:
    """Empty files below a folder; names: separated by blanks."""
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def block(row: int = 5, column: int = 5, length: int = 8, size: tuple[int, int] = SIZE) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[row : row + length, column : column + length] = True
    return mask


def picture(path: Path, mask: Mask, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * np.uint8(value)).save(path)
    return path


def volume(path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([0.5, 0.5, 3.0, 1.0]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), affine), path)
    return path


def cube(at: int = 2, size: tuple[int, ...] = (12, 12, 10)) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[at : at + 5, 3:8, 3:7] = True
    return mask


def text(path: Path) -> Path:
    path.write_text("no mask")
    return path


def no_bytes(path: Path) -> Path:
    path.touch()
    return path


def truncated_png(path: Path) -> Path:
    noise = np.random.default_rng(0).random(SIZE) > 0.5
    whole = picture(path, noise).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def truncated_nifti(path: Path) -> Path:
    whole = volume(path, np.random.default_rng(0).integers(0, 255, (12, 12, 10))).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def damaged_nifti(path: Path) -> Path:
    whole = bytearray(truncated_nifti(path).read_bytes())
    whole[60:400] = b"\xff" * 340
    path.write_bytes(whole)
    return path


def short_nifti(path: Path) -> Path:
    """A whole gzip stream around half a NIfTI file."""
    volume(path, cube())
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:800]))
    return path


def flat_affine(path: Path) -> Path:
    header = nibabel.Nifti1Header()
    header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    nibabel.save(nibabel.Nifti1Image(cube().astype(np.uint8), None, header), path)
    return path


def four_dimensional(path: Path) -> Path:
    return volume(path, np.ones((12, 12, 10, 3)))


def gone(path: Path) -> Path:
    return path


BROKEN = [
    (text, "b.png"), (no_bytes, "b.png"), (truncated_png, "b.png"), (gone, "b.png"),
    (text, "b.nii"), (text, "b.nii.gz"), (no_bytes, "b.nii"), (no_bytes, "b.nii.gz"), (gone, "b.nii.gz"),
    (truncated_nifti, "b.nii.gz"), (truncated_nifti, "b.nii"), (short_nifti, "b.nii.gz"),
    (damaged_nifti, "b.nii.gz"), (flat_affine, "b.nii.gz"), (four_dimensional, "b.nii.gz"),
]  # fmt: skip
