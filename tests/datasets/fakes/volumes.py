"""Volumes of one's own with label volumes: NIfTI in several layouts, and DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from tests.datasets.fakes import picture
from tests.formats.generators import write_dicom

COUNT = 6
SHAPE = (32, 36, 3)  # voxels along R, A and S
AFFINE = np.array([[0.9, 0, 0, -11], [0, 0.8, 0, 7], [0, 0, 3, 23], [0, 0, 0, 1.0]])
LABELS = {1: "left ventricle", 2: "myocardium"}


def values(number: int) -> NDArray[np.int16]:
    """int16 [R, A, S]."""
    planes = [picture(10 * number + k, *SHAPE[:2])[..., 0] for k in range(SHAPE[2])]
    return np.stack(planes, axis=2).astype(np.int16) * 4


def labels(number: int) -> NDArray[np.uint8]:
    """uint8 [R, A, S] of 0, 1 and 2; the last slice is empty."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[5:17, 8:20, 0] = 1
    drawn[18:29, 8 : 16 + number, 0] = 2
    drawn[6:16, 20:31, 1] = 2
    return drawn


def turned(
    array: NDArray[Any], affine: NDArray[np.float64], towards: str
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same voxels at the same places, stored along other axes, such as "LPS"."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(towards)))
    return apply_orientation(array, turn), affine @ inv_ornt_aff(turn, array.shape)


def save(
    path: Path, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE, towards: str = "RAS"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(*turned(array, affine, towards)), path)
    return path


def write_nnunet(root: Path) -> Path:
    """imagesTr with two channels and labelsTr; the labels of odd cases are stored along other axes."""
    for number in range(COUNT):
        name = f"heart_{number:03d}"
        for channel in range(2):
            save(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", values(number) + channel)
        save(root / "labelsTr" / f"{name}.nii.gz", labels(number), towards="PIR" if number % 2 else "RAS")
    (root / "dataset.json").write_text('{"labels": {"background": 0}}', encoding="utf-8")
    return root


def write_suffixes(root: Path, suffix: str = "_seg") -> Path:
    """X.nii.gz with X_seg.nii.gz in one folder."""
    for number in range(COUNT):
        save(root / f"case{number}.nii.gz", values(number), towards="LPS")
        save(root / f"case{number}{suffix}.nii.gz", labels(number), towards="LPS")
    return root


def write_dicom_pairs(root: Path, label_series: bool = False) -> Path:
    """images/caseN with the files of a series in no order, and labels/caseN.nii.gz, or a label series."""
    for number in range(COUNT):
        _series(root / "images" / f"case{number}", values(number).astype(np.uint16))
        if label_series:
            _series(root / "labels" / f"case{number}", labels(number).astype(np.uint16))
        else:
            save(root / "labels" / f"case{number}.nii.gz", labels(number))
    return root


def _series(folder: Path, array: NDArray[np.uint16]) -> None:
    """array: [R, A, S] on AFFINE."""
    stored, affine = turned(array, AFFINE, "LPS")  # columns towards the left, rows towards the back
    for k in range(array.shape[2]):
        position = np.diag([-1.0, -1, 1, 1]) @ affine @ (0, 0, k, 1)
        write_dicom(
            folder / f"{(3 * k + 1) % 5}.dcm",
            np.ascontiguousarray(stored[:, :, k].T),
            SeriesInstanceUID=f"1.2.3.{sum(folder.as_posix().encode())}",
            ImagePositionPatient=[float(each) for each in position[:3]],
            PixelSpacing=[0.8, 0.9],
            SliceThickness=3.0,
        )
