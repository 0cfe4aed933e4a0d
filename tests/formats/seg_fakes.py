"""Sources for DICOM SEG objects, and readers that know nothing of how these were written."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    VLPhotographicImageStorage,
    generate_uid,
)

from tests.shared import SHARED
from vlsmctl.formats.dicom_frames import SourceFrame
from vlsmctl.formats.dicom_geometry import Place
from vlsmctl.formats.records import Frames, Origin, Segment
from vlsmctl.formats.segment_codes import code_for
from vlsmctl.formats.spool import Spool

ROWS, COLUMNS = 30, 37  # frames end in the middle of a byte
ORIGIN = Origin("CLIPSeg with the adapter kvasir", "4f1c" * 16)
GE = SHARED / "dicom-ct-ge-head"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


# Sources


def write_source(path: Path, frames: int = 1, **elements: Any) -> Path:
    """One image file that dciodvfy finds no error in. elements: None leaves one out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    given = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[path.name]),
        "StudyInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3.4.5",
        "SeriesNumber": 7,
        "Modality": "CT",
        "PatientName": "Secret^Person",
        "PatientID": "SECRET-1",
        "PatientBirthDate": "19600229",
        "PatientSex": "O",
        "StudyDate": "20200131",
        "StudyTime": "101530.5",
        "StudyID": "S1",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Doctor^Some",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "SamplesPerPixel": 1,
        "BitsAllocated": 8,
        "PhotometricInterpretation": "MONOCHROME2",
        "NumberOfFrames": frames if frames > 1 else None,
        "PixelData": bytes(ROWS * COLUMNS * frames + ROWS * COLUMNS * frames % 2),
        **elements,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some sources are broken on purpose
        for name, value in given.items():
            if value is not None:
                setattr(dataset, name, value)
        meta.MediaStorageSOPClassUID = given["SOPClassUID"] or CTImageStorage
        meta.MediaStorageSOPInstanceUID = given["SOPInstanceUID"] or ""
        path.parent.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(path, dataset)
    return path


def place(z: float, spacing: float = 0.7, orientation: Sequence[float] = AXIAL, x: float = -12.5) -> Place:
    row, column = np.asarray(orientation, float).reshape(2, 3)
    return Place(np.array([x, 3.25, z]), row, column, spacing, spacing + 0.25, 2.5)


def write_series(folder: Path, places: Sequence[Place], **elements: Any) -> list[SourceFrame]:
    """Single-frame files; names are in the opposite order."""
    elements = {"FrameOfReferenceUID": "1.2.3.9", "PositionReferenceIndicator": "", **elements}
    sources = []
    for number, where in enumerate(places):
        path = write_source(folder / f"{len(places) - number:03}.dcm", **elements)
        sources.append(SourceFrame(path, 0, 1, where))
    return sources


def ct_series(folder: Path, count: int = 5, **elements: Any) -> list[SourceFrame]:
    return write_series(folder, [place(2.5 * number) for number in range(count)], **elements)


def clip(folder: Path, count: int = 6) -> list[SourceFrame]:
    """An ultrasound clip: frames in time, without a place; compressed with loss."""
    path = write_source(
        folder / "clip.dcm", count, SOPClassUID=UltrasoundMultiFrameImageStorage, Modality="US",
        LossyImageCompression="01", LossyImageCompressionRatio=["12.5"],
        LossyImageCompressionMethod=["ISO_10918_1"],
    )  # fmt: skip
    return [SourceFrame(path, index, count, None) for index in range(count)]


def enhanced(folder: Path, count: int = 4) -> list[SourceFrame]:
    path = write_source(
        folder / "enhanced.dcm", count, SOPClassUID=EnhancedCTImageStorage, FrameOfReferenceUID="1.2.3.9"
    )
    return [SourceFrame(path, index, count, place(1.25 * index)) for index in range(count)]


def photograph(folder: Path) -> list[SourceFrame]:
    path = write_source(
        folder / "photo.dcm", SOPClassUID=VLPhotographicImageStorage, Modality="XC", PatientID=None
    )
    return [SourceFrame(path, 0, 1, None)]


# Segments


def spooled(frames: Sequence[NDArray[Any]], scale: float = 1.0) -> Spool:
    spool = Spool((ROWS, COLUMNS), frames[0].dtype, scale)
    for frame in frames:
        spool.append(frame)
    return spool


def blobs(count: int, seed: int = 0, empty: Sequence[int] = (0,)) -> list[NDArray[np.bool_]]:
    drawn = np.random.default_rng(seed).random((count, ROWS, COLUMNS)) < 0.3
    return [drawn[number] & (number not in empty) for number in range(count)]


def segment(label: str, frames: Frames) -> Segment:
    return Segment(label, frames, *code_for(label))


def masks(label: str, count: int, seed: int = 0, empty: Sequence[int] = (0,)) -> Segment:
    return segment(label, spooled(blobs(count, seed, empty)))


# Reading back


def frames_of(path: Path) -> Iterator[tuple[int, Dataset, NDArray[np.uint8]]]:
    """Segment number, functional groups and pixels of every frame, by pydicom's header alone."""
    seg = pydicom.dcmread(path)
    size = seg.Rows * seg.Columns
    stored = np.frombuffer(seg.PixelData, np.uint8)
    pixels = np.unpackbits(stored, bitorder="little") if seg.BitsAllocated == 1 else stored
    assert len(seg.PerFrameFunctionalGroupsSequence) == seg.NumberOfFrames
    assert len(stored) == -(-size * seg.NumberOfFrames * seg.BitsAllocated // 16) * 2
    for number, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        frame = pixels[number * size : (number + 1) * size].reshape(seg.Rows, seg.Columns)
        yield int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber), groups, frame


def source_image(groups: Dataset) -> Dataset:
    return groups.DerivationImageSequence[0].SourceImageSequence[0]


def check_frames_against(
    path: Path, sources: Sequence[SourceFrame], segments: Sequence[Sequence[NDArray[Any]]]
) -> None:
    """Every marked frame of every segment is there once, on its own source, and no other."""
    instances = {str(uid_of(source.path)): source.path for source in sources}
    by_source = {(source.path, source.index): number for number, source in enumerate(sources)}
    found = {}
    for number, groups, frame in frames_of(path):
        image = source_image(groups)
        index = int(image.get("ReferencedFrameNumber", 1)) - 1
        found[number - 1, by_source[instances[image.ReferencedSOPInstanceUID], index]] = frame
    expected = {
        (index, number): frame
        for index, frames in enumerate(segments)
        for number, frame in enumerate(frames)
        if frame.any()
    }
    assert found.keys() == expected.keys()
    for key, frame in expected.items():
        np.testing.assert_array_equal(found[key], frame)


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def check_highdicom_reads(
    path: Path, sources: Sequence[SourceFrame], segments: Sequence[Sequence[NDArray[Any]]]
) -> None:
    from highdicom.seg import segread

    seg = segread(path)
    if sources[0].count > 1:
        read = seg.get_pixels_by_source_frame(
            uid_of(sources[0].path),
            [source.index + 1 for source in sources],
            assert_missing_frames_are_empty=True,
            rescale_fractional=False,
        )
    else:
        read = seg.get_pixels_by_source_instance(
            [uid_of(source.path) for source in sources],
            assert_missing_frames_are_empty=True,
            rescale_fractional=False,
        )
    np.testing.assert_array_equal(read, np.stack([np.stack(frames) for frames in segments], axis=-1))


def dciodvfy_errors(path: Path) -> list[str]:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not on the PATH")
    ended = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)  # noqa: S603
    lines = (ended.stdout + ended.stderr).splitlines()
    assert any(line.startswith("Segmentation") for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


def shared_or_own(seg: Dataset, groups: Dataset, name: str) -> Dataset:
    """A functional group must be either in the shared ones or in each frame's own."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert (name in shared) != (name in groups)
    return (shared if name in shared else groups)[name].value[0]


def check_places(path: Path, sources: Sequence[SourceFrame]) -> None:
    seg = pydicom.dcmread(path)
    by_source = {
        (uid_of(each.path), each.index + 1 if each.count > 1 else None): each.place for each in sources
    }
    for _, groups, _ in frames_of(path):
        image = source_image(groups)
        where = by_source[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
        assert where is not None
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        oriented = shared_or_own(seg, groups, "PlaneOrientationSequence").ImageOrientationPatient
        measures = shared_or_own(seg, groups, "PixelMeasuresSequence")
        assert [float(each) for each in position] == where.position.tolist()
        assert [float(each) for each in oriented] == [*where.along_row, *where.along_column]
        assert list(measures.PixelSpacing) == [where.row_spacing, where.column_spacing]
        assert where.thickness in (None, measures.SliceThickness)


def indices_of(path: Path) -> list[tuple[int, ...]]:
    return [tuple(groups.FrameContentSequence[0].DimensionIndexValues) for _, groups, _ in frames_of(path)]


KINDS: dict[str, Callable[[Path], list[SourceFrame]]] = {
    "series": ct_series,
    "clip": clip,
    "enhanced": enhanced,
    "photograph": photograph,
}
