from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.formats.seg_fakes import (
    COLUMNS,
    ORIGIN,
    ROWS,
    ct_series,
    dciodvfy_errors,
    masks,
    write_source,
)
from vlsmctl.formats.dicom_seg import write_seg

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
EMPTY = dict.fromkeys(PATIENT, "")


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
    pixels = bytes([1]) * (ROWS * COLUMNS)
    write_source(sources[1].path, **{**NO_UIDS, "PixelData": pixels})
    first, second = tmp_path / "a.seg.dcm", tmp_path / "b.seg.dcm"
    for target in (first, second):
        write_seg(sources, [masks("polyp", 5)], ORIGIN, target)
    one, two = pydicom.dcmread(first), pydicom.dcmread(second)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert one[name].value == two[name].value
        assert one[name].value.is_valid
    referred = {str(each.ReferencedSOPInstanceUID) for each in one.SourceImageSequence}
    assert len(referred) == 2  # all files but one are the same, byte by byte
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
