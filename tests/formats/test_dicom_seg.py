from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from tests.formats.seg_fakes import (
    COLUMNS,
    GE,
    KINDS,
    ORIGIN,
    ROWS,
    blobs,
    check_frames_against,
    check_highdicom_reads,
    check_places,
    ct_series,
    dciodvfy_errors,
    masks,
    segment,
    spooled,
)
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import dicom_seg
from vlsmctl.formats.dicom_frames import arrange
from vlsmctl.formats.dicom_seg import write_seg
from vlsmctl.formats.records import Code, Found, Origin, Segment
from vlsmctl.formats.spool import Spool


def two_overlapping(count: int) -> list[list[NDArray[np.bool_]]]:
    return [blobs(count, 1, (0, 3)), blobs(count, 2, (1,))]


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
