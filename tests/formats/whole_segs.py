"""DICOM SEG objects as another writer (highdicom) makes them, of labels on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.formats.generators import write_dicom

_EMPTY: dict[str, Any] = dict.fromkeys(
    (
        *("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"),
        *("StudyDate", "StudyTime", "PositionReferenceIndicator"),
    ),
    "",
)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
UPRIGHT = _LPS @ np.array([[0.7, 0, 0, -12.5], [0, 0.9, 0, 3.25], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])


def oblique(affine: NDArray[np.float64] = UPRIGHT) -> NDArray[np.float64]:
    """The grid, turned about two axes."""
    a, b = np.radians(20), np.radians(-35)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turned = np.eye(4)
    turned[:3, :3] = about_z @ about_x
    return np.asarray(turned @ affine, np.float64)


def write_whole(
    path: Path,
    labels: NDArray[Any],
    affine: NDArray[np.float64] = UPRIGHT,
    *,
    kind: str = "BINARY",
    full: int = 255,
    keep_empty: bool = False,
    syntax: UID | None = None,
    series: str = "1.2.3.4.5",
    **elements: Any,
) -> Path:
    """labels: [columns, rows, slices] of segment numbers (of fractions, where FRACTIONAL), on an affine
    (RAS+). elements: of the object, to set or, with None, to leave out."""
    from highdicom.seg import Segmentation

    planes = np.ascontiguousarray(labels.transpose(2, 1, 0))
    count = 1 if kind == "FRACTIONAL" else max(1, int(labels.max()))
    seg = Segmentation(
        source_images=_sources(path.parent / "sources" / path.stem, planes.shape, affine, series),
        pixel_array=planes.astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=[_description(number) for number in range(1, count + 1)],
        series_instance_uid="1.2.3.77",
        series_number=1,
        sop_instance_uid="1.2.3.78",
        instance_number=1,
        manufacturer="other",
        manufacturer_model_name="other",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=full,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=not keep_empty,
    )
    for name, value in elements.items():
        if value is None:
            delattr(seg, name)
        else:
            setattr(seg, name, value)
    if syntax is not None and syntax.is_encapsulated:
        seg.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax is not None:
        seg.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, seg, enforce_file_format=True)
    return path


def reorder(path: Path, order: Sequence[int]) -> None:
    """Keeps these frames of a SEG, in this order."""
    dataset = pydicom.dcmread(path)
    size = dataset.Rows * dataset.Columns
    stored = np.frombuffer(dataset.PixelData, np.uint8)
    bits = dataset.BitsAllocated == 1
    pixels = np.unpackbits(stored, bitorder="little") if bits else stored
    kept = np.concatenate([pixels[number * size : (number + 1) * size] for number in order])
    content = (np.packbits(kept, bitorder="little") if bits else kept).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [groups[number] for number in order]
    dataset.NumberOfFrames = len(order)
    pydicom.dcmwrite(path, dataset)


def _sources(
    folder: Path, shape: tuple[int, ...], affine: NDArray[np.float64], series: str
) -> list[pydicom.Dataset]:
    count, rows, columns = shape
    lps = _LPS @ affine
    lengths = np.linalg.norm(lps[:3, :2], axis=0)
    across, down = lps[:3, 0] / lengths[0], lps[:3, 1] / lengths[1]
    thickness = abs(float(np.cross(across, down) @ lps[:3, 2]))
    return [
        pydicom.dcmread(
            write_dicom(
                folder / f"{number}.dcm",
                np.zeros((rows, columns), np.uint8),
                SOPInstanceUID=f"{series}.{number + 1}",
                SeriesInstanceUID=series,
                StudyInstanceUID="1.2.3.4",
                FrameOfReferenceUID=f"{series}.0",
                ImagePositionPatient=[float(each) for each in (lps @ (0, 0, number, 1))[:3].round(9)],
                ImageOrientationPatient=[float(each) for each in np.concatenate([across, down]).round(12)],
                PixelSpacing=[round(float(each), 9) for each in lengths[::-1]],
                SliceThickness=round(thickness, 9),
                **_EMPTY,
            )
        )
        for number in range(count)
    ]


def _description(number: int) -> Any:
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    code = CodedConcept("123037004", "SCT", "Anatomical Structure")
    return SegmentDescription(number, f"part {number}", code, code, "MANUAL")
