"""Volumes of one's own with label volumes: NIfTI in several layouts, and DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import pack_bits

from tests.datasets.fakes import picture
from tests.formats.generators import write_dicom

COUNT = 6
SHAPE = (32, 36, 3)  # voxels along R, A and S
AFFINE = np.array([[0.9, 0, 0, -11], [0, 0.8, 0, 7], [0, 0, 3, 23], [0, 0, 0, 1.0]])
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
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


def write_cases(root: Path, image: str = "image", label: str = "label", name: str = "case{}") -> Path:
    """case0/image.nii.gz with case0/label.nii.gz, and a side file; names may hold the case: "{}_ct"."""
    for number in range(COUNT):
        case = name.format(number)
        save(root / case / f"{image.format(case)}.nii.gz", values(number), towards="LPS")
        save(root / case / f"{label.format(case)}.nii.gz", labels(number))
        (root / case / "info.json").write_text("{}", encoding="utf-8")
    return root


def write_brats(root: Path, modalities: tuple[str, ...] = ("t1", "t1ce", "t2", "flair")) -> Path:
    """BraTS_001/BraTS_001_flair.nii.gz, _t1, _t1ce, _t2 and _seg; only flair shows `values`."""
    for number in range(COUNT):
        case = f"BraTS_{number + 1:03d}"
        for modality in modalities:
            shown = values(number) if modality == "flair" else np.zeros(SHAPE, np.int16)
            save(root / case / f"{case}_{modality}.nii.gz", shown)
        save(root / case / f"{case}_seg.nii.gz", labels(number))
    return root


def write_lits(root: Path) -> Path:
    """volume-0.nii with segmentation-0.nii in one folder."""
    for number in range(COUNT):
        save(root / f"volume-{number}.nii", values(number))
        save(root / f"segmentation-{number}.nii", labels(number))
    return root


def write_bids(root: Path) -> Path:
    """sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz with _seg, two sessions a subject."""
    for number in range(COUNT):
        subject, session = f"sub-{number // 2 + 1:02d}", f"ses-{number % 2 + 1}"
        folder = root / subject / session / "anat"
        save(folder / f"{subject}_{session}_T1w.nii.gz", values(number))
        save(folder / f"{subject}_{session}_seg.nii.gz", labels(number))
    return root


def write_dicom_cases(root: Path, series: str = "dicom", label: str = "nifti") -> Path:
    """case0/dicom/*.dcm (or in case0 itself) with case0/label.nii.gz, case0/seg.dcm or case0/seg/1.dcm."""
    for number in range(COUNT):
        case = root / f"case{number}"
        _series(case / series, values(number).astype(np.uint16))
        if label == "nifti":
            save(case / "label.nii.gz", labels(number))
        else:
            write_segmentation(case / label, labels(number))
    return root


def write_segmentation(
    path: Path,
    array: NDArray[np.uint8],
    affine: NDArray[np.float64] = AFFINE,
    kind: str = "BINARY",
    **elements: Any,
) -> Path:
    """A DICOM SEG of labels [R, A, S]: a frame for each slice and segment that is not empty, in no order.
    elements: to set or, with None, to leave out."""
    stored, towards = turned(array, affine, "LPS")
    spacing = np.linalg.norm(towards[:3, :3], axis=0)
    numbers = range(1, int(array.max()) + 1) if kind != "LABELMAP" else [0]
    frames = [(n, k) for n in numbers for k in range(array.shape[2])]
    planes = {(n, k): np.where(n, np.equal(stored[:, :, k].T, n), stored[:, :, k].T) for n, k in frames}
    frames = sorted(
        (each for each in frames if planes[each].any()), key=lambda each: (2 * each[1] + each[0]) % 3
    )
    pixels = np.stack([planes[each] for each in frames]).astype(np.uint8)
    groups = [_groups(number, np.diag([-1.0, -1, 1, 1]) @ towards @ (0, 0, k, 1)) for number, k in frames]
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[float(spacing[1]), float(spacing[0])])]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0])]
    bits = 1 if kind == "BINARY" else 8
    write_dicom(
        path,
        pixels[0],
        **{
            "SOPClassUID": SEGMENTATION, "Modality": "SEG", "SegmentationType": kind,
            "NumberOfFrames": len(frames), "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
            "SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": groups,
            "ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None, **elements,
        },
    )  # fmt: skip
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pack_bits(pixels) if bits == 1 else pixels.tobytes() + b"\0" * (pixels.size % 2)
    pydicom.dcmwrite(path, dataset)
    return path


def _groups(number: int, position: NDArray[np.float64]) -> Dataset:
    own = Dataset()
    own.PlanePositionSequence = [_item(ImagePositionPatient=[float(each) for each in position[:3]])]
    if number:
        own.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=number)]
    return own


def _item(**elements: Any) -> Dataset:
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


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
