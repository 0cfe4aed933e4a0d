from __future__ import annotations

import logging
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import dicom_seg
from vlsmctl.formats.dicom_frames import SourceFrame, arrange
from vlsmctl.formats.dicom_geometry import Place
from vlsmctl.formats.dicom_seg import write_seg
from vlsmctl.formats.records import Code, Found, Frames, Origin, Segment
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


def two_overlapping(count: int) -> list[list[NDArray[np.bool_]]]:
    return [blobs(count, 1, (0, 3)), blobs(count, 2, (1,))]


KINDS: dict[str, Callable[[Path], list[SourceFrame]]] = {
    "series": ct_series,
    "clip": clip,
    "enhanced": enhanced,
    "photograph": photograph,
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_come_back_on_their_own_sources(tmp_path: Path, kind: str) -> None:
    sources = KINDS[kind](tmp_path)
    frames = two_overlapping(len(sources)) if kind != "photograph" else [blobs(1, 1, ()), blobs(1, 2, ())]
    segments = [segment("polyp", spooled(frames[0])), segment("liver", spooled(frames[1]))]
    target = tmp_path / "out" / "a.seg.dcm"
    write_seg(sources, segments, ORIGIN, target)
    check_frames_against(target, sources, frames)
    check_highdicom_reads(target, sources, frames)
    assert pydicom.dcmread(target).SegmentsOverlap == "YES"
    assert dciodvfy_errors(target) == []


def probabilities(count: int) -> list[NDArray[np.float32]]:
    drawn = np.random.default_rng(3).random((count, ROWS, COLUMNS), np.float32)
    return [drawn[n] * np.float32(n != 1) for n in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 32])
def test_probabilities(tmp_path: Path, kind: str, bits: int) -> None:
    sources = KINDS[kind](tmp_path)
    real = probabilities(len(sources))
    stored = [np.rint(frame * 255).astype(np.uint8) for frame in real]
    frames = spooled(real) if bits == 32 else spooled(stored, 1 / 255)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", frames)], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert (seg.MaximumFractionalValue, seg.BitsAllocated) == (255, 8)
    check_frames_against(target, sources, [stored])
    check_highdicom_reads(target, sources, [stored])
    assert dciodvfy_errors(target) == []


def test_a_mask_among_probabilities_becomes_a_certain_one(tmp_path: Path) -> None:
    sources, mask = ct_series(tmp_path), blobs(5)
    stored = [np.rint(frame * 255).astype(np.uint8) for frame in probabilities(5)]
    target = tmp_path / "a.seg.dcm"
    write_seg(
        sources,
        [segment("polyp", spooled(mask)), segment("liver", spooled(stored, 1 / 255))],
        ORIGIN,
        target,
    )
    check_frames_against(target, sources, [[frame * np.uint8(255) for frame in mask], stored])
    assert pydicom.dcmread(target).SegmentsOverlap == "UNDEFINED"


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_marked_one_empty_frame_is_stored(tmp_path: Path, kind: str) -> None:
    sources = KINDS[kind](tmp_path)
    nothing = [np.zeros((ROWS, COLUMNS), np.bool_)] * len(sources)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", spooled(nothing)), segment("b", spooled(nothing))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert (seg.NumberOfFrames, seg.SegmentsOverlap) == (1, "NO")
    assert len(seg.SegmentSequence) == 2
    assert not np.frombuffer(seg.PixelData, np.uint8).any()
    check_highdicom_reads(target, sources, [nothing, nothing])
    assert dciodvfy_errors(target) == []


def test_masks_that_do_not_overlap(tmp_path: Path) -> None:
    sources, mask = ct_series(tmp_path), blobs(5)
    target = tmp_path / "a.seg.dcm"
    other = [~frame if frame.any() else frame for frame in mask]
    write_seg(sources, [segment("a", spooled(mask)), segment("b", spooled(other))], ORIGIN, target)
    assert pydicom.dcmread(target).SegmentsOverlap == "NO"


# Where frames lie


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
        assert measures.SliceThickness == where.thickness


def indices_of(path: Path) -> list[tuple[int, ...]]:
    return [tuple(groups.FrameContentSequence[0].DimensionIndexValues) for _, groups, _ in frames_of(path)]


PLACES: dict[str, list[Place]] = {
    "even": [place(3.0 * n) for n in range(4)],
    "numbers with all their digits": [place(z) for z in (-0.1, 0.33333333333333, 1234.56789012345, 1e-5)],
    "uneven": [place(z) for z in (0, 1, 5, 5.5)],
    "sheared": [place(3.0 * n, x=0.75 * n) for n in range(4)],
    "doubled": [place(z) for z in (0, 3, 3, 6)],
    "all at one place": [place(0)] * 4,
    "mixed pixel spacing": [place(3.0 * n, spacing=0.5 + 0.25 * (n % 2)) for n in range(4)],
    "mixed orientation": [place(3.0 * n, orientation=(AXIAL, CORONAL)[n % 2]) for n in range(4)],
    "mixed orientation at one place": [place(0, orientation=(AXIAL, CORONAL)[n % 2]) for n in range(4)],
    "downwards": [place(-3.0 * n) for n in range(4)],
}


@pytest.mark.parametrize("name", PLACES)
def test_every_frame_lies_where_its_source_says(tmp_path: Path, name: str) -> None:
    sources = write_series(tmp_path, PLACES[name])
    frames = [blobs(4, 5, ()), blobs(4, 6, (2,))]
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("a", spooled(frames[0])), segment("b", spooled(frames[1]))], ORIGIN, target)
    check_places(target, sources)
    check_frames_against(target, sources, frames)
    check_highdicom_reads(target, sources, frames)
    assert pydicom.dcmread(target).FrameOfReferenceUID == "1.2.3.9"
    assert len(set(indices_of(target))) == 7
    assert dciodvfy_errors(target) == []


def test_the_frames_of_an_enhanced_file_lie_where_it_says(tmp_path: Path) -> None:
    sources = enhanced(tmp_path)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 4)], ORIGIN, target)
    check_places(target, sources)


def test_highdicom_finds_the_volume_between_sparse_frames(tmp_path: Path) -> None:
    """Its own reader goes by positions and the distance between slices, not by the references."""
    from highdicom.seg import segread

    sources, frames = ct_series(tmp_path, 8), blobs(8, empty=(0, 2, 3, 5, 7))
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", spooled(frames))], ORIGIN, target)
    volume = segread(target).get_volume(combine_segments=True, allow_missing_positions=True)
    assert volume.spacing == pytest.approx((2.5, 0.7, 0.95))
    for number in (1, 4, 6):
        index = volume.map_reference_to_indices(np.array([sources[number].place.position]))[0]  # type: ignore[union-attr]
        assert index == pytest.approx(np.rint(index), abs=1e-6)
        np.testing.assert_array_equal(volume.array[int(np.rint(index[0]))], frames[number])


def test_positions_without_a_frame_of_reference_get_one_from_the_series(tmp_path: Path) -> None:
    sources = ct_series(tmp_path, FrameOfReferenceUID=None)
    first, second = tmp_path / "a.seg.dcm", tmp_path / "b.seg.dcm"
    write_seg(sources, [masks("polyp", 5)], ORIGIN, first)
    write_seg(sources, [masks("liver", 5)], ORIGIN, second)
    made = {pydicom.dcmread(each).FrameOfReferenceUID for each in (first, second)}
    assert len(made) == 1
    assert next(iter(made)).startswith("2.25.")
    assert dciodvfy_errors(first) == []


def test_places_in_different_frames_of_reference_are_not_put_into_one(tmp_path: Path) -> None:
    sources = ct_series(tmp_path)
    write_source(sources[2].path, FrameOfReferenceUID="1.2.3.10")
    frames = blobs(5)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", spooled(frames))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert "FrameOfReferenceUID" not in seg
    assert all("PlanePositionSequence" not in groups for _, groups, _ in frames_of(target))
    check_frames_against(target, sources, [frames])
    assert dciodvfy_errors(target) == []


def test_a_picture_without_a_place_keeps_its_pixel_spacing(tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.dcm", PixelSpacing=[0.25, 0.5], FrameOfReferenceUID="1.2.3.9")
    target = tmp_path / "a.seg.dcm"
    write_seg([SourceFrame(path, 0, 1, None)], [masks("polyp", 1, empty=())], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [0.25, 0.5]
    assert dciodvfy_errors(target) == []


# References


def test_all_sources_are_referred_to_and_marked_frames_alone_are_stored(tmp_path: Path) -> None:
    sources = ct_series(tmp_path)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 5, empty=(0, 1, 4))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    uids = [uid_of(each.path) for each in sources]
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4.5"
    assert [each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence] == uids
    assert [each.ReferencedSOPInstanceUID for each in seg.SourceImageSequence] == uids
    marked = [source_image(groups).ReferencedSOPInstanceUID for _, groups, _ in frames_of(target)]
    assert marked == uids[2:4]
    assert all("ReferencedFrameNumber" not in source_image(groups) for _, groups, _ in frames_of(target))


def test_the_frames_of_a_clip_are_numbered_from_one(tmp_path: Path) -> None:
    target = tmp_path / "a.seg.dcm"
    write_seg(clip(tmp_path), [masks("polyp", 6, empty=(0, 1, 4))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    numbers = [source_image(groups).ReferencedFrameNumber for _, groups, _ in frames_of(target)]
    assert numbers == [3, 4, 6]
    assert indices_of(target) == [(1, 1), (1, 2), (1, 3)]
    assert "FrameOfReferenceUID" not in seg
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 12.5)
    assert seg.LossyImageCompressionMethod == "ISO_10918_1"


def test_the_same_work_gives_the_same_object(tmp_path: Path) -> None:
    sources = ct_series(tmp_path / "in")

    def uids(label: str = "polyp", origin: Origin = ORIGIN, count: int = 5) -> tuple[str, ...]:
        target = tmp_path / "a.seg.dcm"
        write_seg(sources[:count], [masks(label, count)], origin, target)
        seg = pydicom.dcmread(target)
        assert seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID
        tracking = str(seg.SegmentSequence[0].TrackingUID)
        return str(seg.SOPInstanceUID), str(seg.SeriesInstanceUID), tracking

    first = uids()
    assert uids() == first
    assert len(set(first)) == 3
    for other in (uids("liver"), uids(origin=Origin(ORIGIN.model, "other")), uids(count=4)):
        assert not set(other) & set(first)


# Texts


def test_the_object_says_what_made_it(tmp_path: Path) -> None:
    target = tmp_path / "a.seg.dcm"
    write_seg(ct_series(tmp_path), [masks("polyp", 5)], ORIGIN, target)
    seg = pydicom.dcmread(target)
    (described,) = seg.SegmentSequence
    (algorithm,) = described.SegmentationAlgorithmIdentificationSequence
    assert (described.SegmentLabel, described.SegmentDescription) == ("polyp", "polyp")
    assert described.SegmentAlgorithmType == "AUTOMATIC"
    assert described.SegmentedPropertyTypeCodeSequence[0].CodeValue == "41329004"
    assert described.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert algorithm.AlgorithmName == "vlsmctl"
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert ORIGIN.model in algorithm.AlgorithmParameters
    assert ORIGIN.fingerprint in algorithm.AlgorithmParameters
    assert (seg.Manufacturer, seg.Modality, seg.SeriesNumber) == ("vlsmctl", "SEG", 1007)
    assert (seg.SeriesDescription, seg.ContentLabel) == ("vlsmctl: polyp", "POLYP")
    assert seg.ContentCreatorName == ""
    assert seg.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("a " * 2000, ("a " * 32).strip()),
        ("left\\right\n\tpolyp\x00", "left/right polyp"),
        ("ポリープ、肝臓", "ポリープ、肝臓"),
        ("\n", "segment 1"),
        ("", "segment 1"),
    ],
)
def test_any_prompt_can_be_a_label(tmp_path: Path, prompt: str, label: str) -> None:
    target = tmp_path / "a.seg.dcm"
    origin = Origin(prompt, prompt)
    write_seg(ct_series(tmp_path), [masks(prompt, 5), masks("b", 5)], origin, target)
    seg = pydicom.dcmread(target)
    assert seg.SegmentSequence[0].SegmentLabel == label
    assert (
        seg.SegmentSequence[0].SegmentDescription
        == (" ".join(prompt.split())[:1024].strip() or label)[:1024]
        .replace("\\", "/")
        .replace("\x00", "")
        .strip()
    )
    assert seg.ContentLabel == "SEGMENTATION"
    assert dciodvfy_errors(target) == []


def test_other_codes_are_written_as_they_are(tmp_path: Path) -> None:
    target = tmp_path / "a.seg.dcm"
    category, kind = Code("SCT", "123037004", "Body structure"), Code("99LOCAL", "A1", "Anything")
    write_seg(ct_series(tmp_path), [Segment("x", spooled(blobs(5)), category, kind)], ORIGIN, target)
    described = pydicom.dcmread(target).SegmentSequence[0]
    coded = described.SegmentedPropertyTypeCodeSequence[0]
    assert (coded.CodingSchemeDesignator, coded.CodeValue, coded.CodeMeaning) == (
        "99LOCAL",
        "A1",
        "Anything",
    )
    assert described.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Body structure"


# The patient


PATIENT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)


def test_the_patient_and_the_study_are_the_sources(tmp_path: Path) -> None:
    target = tmp_path / "a.seg.dcm"
    sources = ct_series(tmp_path, StudyDescription="Abdomen", IssuerOfPatientID="Clinic")
    write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    seg, source = pydicom.dcmread(target), pydicom.dcmread(sources[0].path)
    for name in (*PATIENT, "StudyInstanceUID", "StudyDescription", "IssuerOfPatientID"):
        assert seg[name].value == source[name].value


def test_names_in_any_alphabet(tmp_path: Path) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    sources = ct_series(tmp_path, PatientName=name, SpecificCharacterSet=["", "ISO 2022 IR 87"])
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    assert str(pydicom.dcmread(target).PatientName) == name
    assert dciodvfy_errors(target) == []


MISSING: Mapping[str, Any] = dict.fromkeys((*PATIENT, "SeriesNumber", "Modality"))
NO_UIDS: Mapping[str, Any] = dict.fromkeys(
    ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
)
BROKEN: Mapping[str, Any] = {
    "PatientName": "x" * 70,
    "PatientID": "a\\b",
    "PatientBirthDate": "1960-02-31",
    "PatientSex": "unknown to us",
    "StudyDate": "20200231",
    "StudyTime": "noon",
    "StudyID": "x" * 17,
    "AccessionNumber": "tab\there",
    "ReferringPhysicianName": "a^b^c^d^e^f^g",
}
EMPTY = {name: "" for name in PATIENT}


@pytest.mark.parametrize("elements", [MISSING, BROKEN, EMPTY], ids=["missing", "broken", "empty"])
def test_what_a_source_lacks_is_written_empty(tmp_path: Path, elements: Mapping[str, Any]) -> None:
    sources = ct_series(tmp_path, **elements)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert {name: str(seg[name].value) for name in PATIENT} == EMPTY
    assert dciodvfy_errors(target) == []


def test_uids_that_are_missing_are_made_from_the_source(tmp_path: Path) -> None:
    sources = ct_series(tmp_path, **NO_UIDS)
    first, second = tmp_path / "a.seg.dcm", tmp_path / "b.seg.dcm"
    for target in (first, second):
        write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    one, two = pydicom.dcmread(first), pydicom.dcmread(second)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert one[name].value == two[name].value
        assert one[name].value.is_valid
    referred = {str(each.ReferencedSOPInstanceUID) for each in one.SourceImageSequence}
    assert len(referred) == 1  # the files are the same, byte by byte
    assert dciodvfy_errors(first) == []


def test_a_bad_uid_is_replaced_and_one_with_leading_zeros_kept(tmp_path: Path) -> None:
    sources = ct_series(tmp_path, StudyInstanceUID="1.2.03.4", SeriesInstanceUID="anonymous")
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    seg = pydicom.dcmread(target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert seg.StudyInstanceUID == "1.2.03.4"
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID.startswith("2.25.")


def test_private_rubbish_is_passed_over(tmp_path: Path) -> None:
    sources = ct_series(tmp_path)
    for source in sources:
        dataset = pydicom.dcmread(source.path)
        dataset.private_block(0x0029, "RUBBISH", create=True).add_new(1, "UN", b"\xff" * 31)
        dataset.add_new(0x00281050, "LO", "not a number")
        dataset.add_new(0x00280030, "LO", "x\\y")  # PixelSpacing
        dataset.add_new(0x00200011, "LO", "three")  # SeriesNumber
        dataset.save_as(source.path)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    assert b"RUBBISH" not in target.read_bytes()
    assert pydicom.dcmread(target).SeriesNumber == 1000
    assert dciodvfy_errors(target) == []


def test_deidentification_is_said_with_how(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic Profile"
    for number, (method, codes, said) in enumerate(
        [("scrubbed", None, True), (None, [code], True), (None, None, False), ("", [Dataset()], False)]
    ):
        sources = ct_series(
            tmp_path / str(number), PatientIdentityRemoved="YES", DeidentificationMethod=method,
            DeidentificationMethodCodeSequence=codes,
        )  # fmt: skip
        target = tmp_path / f"{number}.seg.dcm"
        write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
        seg = pydicom.dcmread(target)
        assert ("PatientIdentityRemoved" in seg) == said
        assert seg.get("DeidentificationMethod") == (method or None)
        assert dciodvfy_errors(target) == []


def test_nothing_of_the_patient_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "Secret^Secret^^^^^Secret"  # of a form that readers and writers warn about  # noqa: S105
    sources = ct_series(tmp_path, PatientName=secret, PatientBirthDate="Secret")
    write_seg(sources, [masks("polyp", 5)], ORIGIN, tmp_path / "a.seg.dcm")
    captured = capfd.readouterr()
    assert "secret" not in (caplog.text + captured.out + captured.err).lower()


# Faults


def test_a_source_that_is_gone(tmp_path: Path) -> None:
    sources = ct_series(tmp_path)
    sources[3].path.unlink()
    with pytest.raises(UnreadableFile, match=sources[3].path.name):
        write_seg(sources, [masks("polyp", 5)], ORIGIN, tmp_path / "a.seg.dcm")
    assert not list(tmp_path.glob("*seg*"))


@pytest.mark.parametrize("size", [0, 60])
def test_a_source_that_was_cut_off(tmp_path: Path, size: int) -> None:
    sources = ct_series(tmp_path)
    sources[0].path.write_bytes(sources[0].path.read_bytes()[:size])
    with pytest.raises(UnreadableFile, match=sources[0].path.name):
        write_seg(sources, [masks("polyp", 5)], ORIGIN, tmp_path / "a.seg.dcm")
    assert not list(tmp_path.glob("*seg*"))


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(dicom_seg, "dcmwrite", fail)
    with pytest.raises(OSError, match="disk full"):
        write_seg(ct_series(tmp_path / "in"), [masks("polyp", 5)], ORIGIN, tmp_path / "out" / "a.seg.dcm")
    assert not list((tmp_path / "out").iterdir())


def test_more_pixels_than_an_object_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_seg, "_MOST_BYTES", 4 * ROWS * COLUMNS // 8 - 1)
    sources = ct_series(tmp_path)
    write_seg(sources, [masks("polyp", 5, empty=(0, 1))], ORIGIN, tmp_path / "small.seg.dcm")
    with pytest.raises(UnreadableFile, match="4 marked frames of 37 x 30"):
        write_seg(sources, [masks("polyp", 5)], ORIGIN, tmp_path / "a.seg.dcm")


def test_what_the_caller_must_not_do(tmp_path: Path) -> None:
    sources, target = ct_series(tmp_path), tmp_path / "a.seg.dcm"
    labels = spooled([np.ones((ROWS, COLUMNS), np.uint8)] * 5)
    for these in ([masks("polyp", 4)], [segment("labels", labels)], []):
        with pytest.raises(ValueError, match=r"."):
            write_seg(sources, these, ORIGIN, target)
    assert not target.exists()


# Real images


@pytest.mark.skipif(not GE.is_dir(), reason=f"no series in {GE}")
def test_a_real_series_with_changing_tilt_and_distance(tmp_path: Path) -> None:
    """It has no birth date, no study date and no method of de-identification."""
    files = tuple(sorted(path for path in GE.rglob("*.dcm") if path.is_file()))
    arranged = arrange(Found(GE, GE, Path("ge"), "dicom", files))
    sources, (height, width) = arranged.sources, arranged.shape
    spool = Spool((height, width), np.bool_)
    for number in range(len(sources)):
        frame = np.zeros((height, width), np.bool_)
        frame[100 : 100 + 4 * number, 200:300] = number % 3 > 0
        spool.append(frame)
    target = tmp_path / "ge.seg.dcm"
    write_seg(sources, [segment("polyp", spool)], ORIGIN, target)
    frames = [spool[number] for number in range(len(sources))]
    check_frames_against(target, sources, [frames])
    check_highdicom_reads(target, sources, [frames])
    check_places(target, sources)
    assert dciodvfy_errors(target) == []
