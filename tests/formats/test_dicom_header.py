from __future__ import annotations

import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RTDoseStorage,
    SegmentationStorage,
    generate_uid,
)

from tests.formats.generators import plane, write_dicom, write_enhanced
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import dicom_header
from vlsmctl.formats.dicom_header import is_dicom, read_dataset, read_elements, read_header

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)
SECRETS = ("Secret", "SECRET")
UNDEFINED = b"\xff\xff\xff\xff"


def _stored(path: Path, syntax: str, **elements: Any) -> Path:
    dataset = pydicom.dcmread(write_dicom(path, PIXELS, **elements))
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = PIXELS.byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dataset.file_meta.FileMetaInformationVersion = b"\0\1"
    dataset.file_meta.FileMetaInformationGroupLength = 0  # filled in
    pydicom.dcmwrite(path, dataset, little_endian=little, implicit_vr=implicit, force_encoding=True)
    return path


def _start(content: bytes) -> int:
    """Where the data set begins, by the length of the meta information."""
    assert content[132:140] == b"\x02\0\0\0UL\4\0"
    return 132 + 12 + int.from_bytes(content[140:144], "little")


def _bare(path: Path, *, keep_meta: bool = False) -> Path:
    """Without its preamble, and without its meta information."""
    content = path.read_bytes()
    path.write_bytes(content[132 if keep_meta else _start(content) :])
    return path


def _with_front(path: Path, front: bytes) -> Path:
    """An image with elements put before all of its own."""
    content = _stored(path, ExplicitVRLittleEndian).read_bytes()
    start = _start(content)
    path.write_bytes(content[:start] + front + content[start:])
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_header(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not any(secret in message for secret in SECRETS)
    return message


def test_what_finding_needs_of_an_image(tmp_path: Path) -> None:
    header = read_header(
        write_dicom(
            tmp_path / "a",
            np.zeros((4, 6), np.uint8),
            StudyInstanceUID="1.9",
            SOPInstanceUID="1.8",
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            NumberOfFrames=None,
            ImagePositionPatient=[1.5, -2.0, 3.25],
            PixelSpacing=[0.5, 0.75],
            Modality="CT",
        )
    )
    assert (header.study, header.series, header.instance) == ("1.9", "1.2.3", "1.8")
    assert (header.shape, header.frames, header.modality) == ((4, 6), 1, "CT")
    assert (header.position, header.orientation) == ((1.5, -2.0, 3.25), (1, 0, 0, 0, 1, 0))
    assert header.spacing == (0.5, 0.75)
    assert header.positioned
    assert header.localiser
    assert header.image
    assert not header.enhanced
    assert not header.directory


@pytest.mark.parametrize(
    "orientation", [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1e999, 0.0]]
)
def test_a_place_in_the_wrong_numbers_is_stated_but_not_known(
    tmp_path: Path, orientation: list[float]
) -> None:
    with pydicom.config.disable_value_validation():
        path = write_dicom(tmp_path / "a", PIXELS, ImageOrientationPatient=orientation)
    header = read_header(path)
    assert header.orientation is None
    assert header.positioned


def test_what_tells_whom_and_what_an_image_shows_is_kept_for_comparing_alone(tmp_path: Path) -> None:
    elements: dict[str, Any] = {
        **{"PatientID": "SECRET-1", "PatientName": "Secret^Person", "IssuerOfPatientID": None},
        **{"FrameOfReferenceUID": "1.2.77", "ImageType": ["ORIGINAL", "", "AXIAL", "OTHER"]},
    }
    header = read_header(write_dicom(tmp_path / "a", PIXELS, **elements))
    patient, (issuer, name, frame_of_reference, *image_type) = header.marks[0], header.marks[1:]
    assert (issuer, frame_of_reference, image_type) == (None, "1.2.77", ["ORIGINAL", None, "AXIAL"])
    assert isinstance(patient, bytes)
    assert isinstance(name, bytes)
    assert not any(secret in repr((header, header.marks)).upper() for secret in ("SECRET", "PERSON"))
    assert "marks" not in repr(header)
    # The same in another way of writing, and in another encoding
    again = {**elements, "PatientName": "SECRET^PERSON^^", "PatientID": " SECRET-1"}
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        assert read_header(_stored(tmp_path / "b", syntax, **again)).marks == header.marks
    other = read_header(write_dicom(tmp_path / "c", PIXELS, **{**elements, "PatientID": "SECRET-2"}))
    assert [a == b for a, b in zip(other.marks, header.marks, strict=True)] == [False] + [True] * 6
    none: dict[str, Any] = dict.fromkeys(elements)
    assert read_header(write_dicom(tmp_path / "d", PIXELS, **none)).marks == (None,) * 7


def test_what_the_groups_of_an_enhanced_image_of_one_frame_say(tmp_path: Path) -> None:
    own = {
        **plane((1, 2, 3)),
        "MREchoSequence": {"EffectiveEchoTime": 4.5},
        "FrameContentSequence": {"FrameAcquisitionNumber": 7, "TemporalPositionIndex": 2},
        "MRDiffusionSequence": {"DiffusionBValue": 1000.0},
    }
    shared = {**plane((9, 9, 9), (1, 0, 0, 0, 0, -1)), "PixelMeasuresSequence": {"PixelSpacing": [1, 2]}}
    path = write_enhanced(tmp_path / "a", PIXELS[np.newaxis], [own], shared, EchoTime=99)
    header = read_header(path)
    assert (header.position, header.spacing) == ((1, 2, 3), (1, 2))
    assert header.orientation == (1, 0, 0, 0, 0, -1)
    assert header.positioned
    assert header.repeats == (7, 2, None, 4.5, 1000, None)
    several = write_enhanced(tmp_path / "b", np.stack([PIXELS] * 2), [own, own], shared)
    assert read_header(several).position is None  # of each, its own


def test_what_tells_repeats_apart_is_read_and_refuses_no_image(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        **{"AcquisitionNumber": 3, "TemporalPositionIdentifier": 2, "EchoNumbers": [1, 2]},
        **{"EchoTime": 4.5, "DiffusionBValue": 1000.0, "TriggerTime": 12.25},
    }
    path = write_dicom(tmp_path / "a", PIXELS, **told)
    assert read_header(path).repeats == (3, 2, None, 4.5, 1000, 12.25)
    assert read_header(write_dicom(tmp_path / "b", PIXELS)).repeats == (None,) * 6
    damaged = path.read_bytes().replace(b"12.25", b"later")
    path.write_bytes(damaged)
    assert read_header(path).repeats == (3, 2, None, 4.5, 1000, None)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_every_encoding_is_read(tmp_path: Path, syntax: str) -> None:
    path = _stored(tmp_path / "a", syntax)
    assert read_header(path).shape == (8, 8)
    dataset = read_dataset(path)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(dataset.pixel_array, PIXELS)
    assert "PixelData" not in read_dataset(path, stop_before_pixels=True)
    some = read_dataset(path, specific_tags=["Modality"])
    assert some.Modality == "CT"
    assert "PatientName" not in some


@pytest.mark.parametrize("keep_meta", [True, False])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_without_a_preamble_are_read_in_the_encoding_they_show(
    tmp_path: Path, syntax: str, keep_meta: bool
) -> None:
    path = _bare(_stored(tmp_path / "a", syntax), keep_meta=keep_meta)
    assert is_dicom(path)
    assert read_header(path).image
    dataset = read_dataset(path)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(dataset.pixel_array, PIXELS)


def test_a_deflated_file_without_a_preamble(tmp_path: Path) -> None:
    path = _bare(_stored(tmp_path / "a", DeflatedExplicitVRLittleEndian), keep_meta=True)
    assert np.array_equal(read_dataset(path).pixel_array, PIXELS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"no image " * 50,
        b"\0" * 500,
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"and then words" * 20,  # begins well
        b"\x08\x00\x16\x00UI\x06\x001.2.3\x00",  # of a class unknown, and no image
    ],
)
def test_what_is_not_dicom_is_said_not_to_be(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert "not a DICOM file" in _refusal(path)


def test_masks_doses_and_directories_are_no_images(tmp_path: Path) -> None:
    for name, elements in {
        "seg": {"SOPClassUID": SegmentationStorage, "Modality": "OT"},
        "dose": {"SOPClassUID": RTDoseStorage, "Modality": None},
        "report": {"Modality": "SR", "Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"},
    }.items():
        assert not read_header(write_dicom(tmp_path / name, PIXELS, **elements)).image
    index = pydicom.dcmread(write_dicom(tmp_path / "index", PIXELS, Rows=None, SOPClassUID=None))
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    pydicom.dcmwrite(tmp_path / "index", index)
    header = read_header(tmp_path / "index")
    assert header.directory
    assert not header.image


def test_enhanced_by_class(tmp_path: Path) -> None:
    enhanced = write_dicom(tmp_path / "a", PIXELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")
    assert read_header(enhanced).enhanced


def test_elements_out_of_order_are_found(tmp_path: Path) -> None:
    # A stray element of a high group before all others
    path = _with_front(tmp_path / "a", b"\x32\x00\x60\x10LO\x04\x00word")
    assert read_header(path).shape == (8, 8)


def test_headers_of_cut_off_images(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", np.zeros((64, 64), np.uint16))
    whole = path.read_bytes()
    expected = read_header(path)
    path.write_bytes(whole[:1200])  # the pixels are not looked at
    assert read_header(path) == expected
    path.write_bytes(whole[:160])
    assert "cut off" in _refusal(path)


@pytest.mark.parametrize(
    "front",
    [
        b"\x08\x00\x60\x10UT\0\0\xf0\xff\xff\xff",  # text of nearly 4 GiB
        b"\x08\x00\x05\x00CS\xff\xff",
        b"\x08\x00\x15\x11SQ\0\0\xf0\xff\xff\xff",
    ],
)
def test_absurd_lengths_take_no_memory(tmp_path: Path, front: bytes) -> None:
    path = _with_front(tmp_path / "a", front)
    tracemalloc.start()
    try:
        _refusal(path)
        with suppress(UnreadableFile):
            read_dataset(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_sequences_nested_beyond_reason(tmp_path: Path) -> None:
    opening = b"\x08\x00\x15\x11SQ\0\0" + UNDEFINED + b"\xfe\xff\x00\xe0" + UNDEFINED
    path = _with_front(tmp_path / "a", opening * 5000)
    assert "nested too deeply" in _refusal(path)


def test_more_elements_than_any_image_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 2000
    path = _with_front(tmp_path / "a", b"\x08\x00\x15\x11SQ\0\0" + UNDEFINED + items)
    monkeypatch.setattr(dicom_header, "_READS", 2000)
    assert "more elements" in _refusal(path)


def test_a_deflated_file_is_inflated_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _stored(tmp_path / "a", DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    start = _start(content)
    header = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:])
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(content[:start] + deflate.compress(header + b"\0" * 2**24) + deflate.flush())
    monkeypatch.setattr(dicom_header, "INFLATED_AT_MOST", 2**20)
    monkeypatch.setattr(dicom_header, "_INFLATED_HEADER", 2**16)
    tracemalloc.start()
    try:
        assert read_header(path).shape == (8, 8)
        with pytest.raises(UnreadableFile, match="inflates to more than"):
            read_dataset(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20
    path.write_bytes(content[:-20])
    with pytest.raises(UnreadableFile, match="cut off"):
        read_dataset(path)
    path.write_bytes(content[:start] + b"\xff" * 100)
    assert "cannot be inflated" in _refusal(path)


def test_values_that_cannot_be_read_refuse_the_file_and_are_not_quoted(tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        path = write_dicom(tmp_path / "a", PIXELS, NumberOfFrames="1")
    content = path.read_bytes()
    assert content.count(b"IS\x02\x001 ") == 1
    path.write_bytes(content.replace(b"IS\x02\x001 ", b"IS\x02\x00SE"))
    assert "damaged" in _refusal(path)


def test_only_what_was_asked_for_is_read(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", PIXELS, SOPInstanceUID=generate_uid())
    elements = read_elements(path, ["Modality", "PixelSpacing"])
    assert elements.Modality == "CT"
    assert elements.PixelSpacing == [1, 1]
    assert "PatientName" not in elements
    assert "PixelData" not in elements
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_elements(tmp_path / "missing", ["Modality"])
