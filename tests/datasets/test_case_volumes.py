"""Folders of patients and cases that hold volumes, prepared as a user would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.fakes import volumes
from tests.datasets.own_data import listed, prepared
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.generic import GENERIC
from vlsmctl.datasets.manifest import Record, read_manifest
from vlsmctl.datasets.recognition import recognise
from vlsmctl.formats.raster import read_mask_picture


def check_volumes(records: dict[str, Record], folder: Path, name: str, number: int, group: str) -> None:
    for k in range(volumes.SHAPE[2]):
        for value, slug in ((1, "left-ventricle"), (2, "myocardium")):
            record = records[f"{name}-{k:04d}-{slug}"]
            assert record.group == group
            assert record.attributes["volume"] == name
            expected = np.equal(volumes.labels(number)[::-1, ::-1, k].T, value)
            assert np.array_equal(read_mask_picture(folder / record.mask), fakes.grey(expected))
            shown = volumes.values(number)[::-1, ::-1, k].T
            pixels = np.asarray(Image.open(folder / record.image).convert("L")).astype(int)
            assert (np.diff(pixels.ravel()[np.argsort(shown.ravel(), kind="stable")]) >= 0).all()
            assert pixels.std() > 1


@pytest.mark.parametrize(
    ("image", "label", "name"),
    [
        ("image", "label", "case{}"),
        ("img", "seg", "{:03d}"),
        ("CT", "mask", "Patient{}"),
        ("scan", "ground_truth", "case{}"),
        ("{}", "{}_seg", "sub-{:02d}"),
        ("volume-{}", "segmentation-{}", "case{}"),
        ("{}_ct", "{}_gt", "case{}"),
    ],
)
def test_a_folder_for_each_volume(tmp_path: Path, image: str, label: str, name: str) -> None:
    raw = volumes.write_cases(tmp_path / "raw" / "mine", image, label, name)
    found = recognise(tmp_path / "raw")
    assert [root.path for root in found.own] == [raw]
    records, folder, notes = prepared(raw, tmp_path / "data", labels=volumes.LABELS, empty="keep")
    assert len(records) == volumes.COUNT * 3 * 2
    for number in range(volumes.COUNT):
        check_volumes(records, folder, name.format(number), number, name.format(number))
    assert any("each a patient or case: 6" in note for note in notes)


def test_brats_shows_one_modality_and_says_which(tmp_path: Path) -> None:
    raw = volumes.write_brats(tmp_path / "raw")
    records, folder, notes = prepared(raw, tmp_path / "data", labels=volumes.LABELS, empty="keep")
    for number in range(volumes.COUNT):
        check_volumes(records, folder, f"BraTS_{number + 1:03d}", number, f"BraTS_{number + 1:03d}")
    assert "CASE/NAME_flair.nii.gz with CASE/NAME_seg.nii.gz" in notes[0]
    assert any(
        "18 further volumes (t1, t1ce, t2) are not used: flair alone is shown" in note for note in notes
    )
    (raw / "BraTS_002" / "BraTS_002_flair.nii.gz").unlink()
    (raw / "BraTS_003" / "BraTS_003_seg.nii.gz").unlink()
    _, listing = listed(raw)
    assert {one.file: one.expected for one in listing.left_out} == {
        "BraTS_002/BraTS_002_seg.nii.gz": "a volume BraTS_002/BraTS_002_flair.*",
        "BraTS_003/BraTS_003_flair.nii.gz": "a label volume BraTS_003/BraTS_003_seg.*",
    }


def test_lits_in_one_folder(tmp_path: Path) -> None:
    raw = volumes.write_lits(tmp_path / "raw")
    records, folder, notes = prepared(raw, tmp_path / "data", labels=volumes.LABELS, empty="keep")
    for number in range(volumes.COUNT):
        check_volumes(records, folder, f"volume-{number}", number, f"volume-{number}")
    assert notes[0].endswith("volume-NAME.nii with segmentation-NAME.nii in one folder")


def test_sessions_of_one_subject_are_one_group(tmp_path: Path) -> None:
    raw = volumes.write_bids(tmp_path / "raw")
    assert GENERIC.matches(read_folder(raw))
    records, folder, _ = prepared(raw, tmp_path / "data", labels=volumes.LABELS, empty="keep")
    for number in range(volumes.COUNT):
        subject = f"sub-{number // 2 + 1:02d}"
        name = {record.attributes["volume"] for record in records.values() if record.group == subject}
        assert len(name) == 2
        check_volumes(records, folder, sorted(name)[number % 2], number, subject)


@pytest.mark.parametrize(
    ("series", "label"),
    [
        ("dicom", "nifti"),
        ("image", "nifti"),
        ("", "nifti"),
        ("dicom", "seg.dcm"),
        ("dicom", "seg/1.dcm"),
        ("", "seg.dcm"),
    ],
)
def test_dicom_series_of_cases(tmp_path: Path, series: str, label: str) -> None:
    raw = volumes.write_dicom_cases(tmp_path / "raw", series, label)
    assert GENERIC.matches(read_folder(raw))
    records, folder, notes = prepared(raw, tmp_path / "data", labels=volumes.LABELS, empty="keep")
    for number in range(volumes.COUNT):
        check_volumes(records, folder, f"case{number}", number, f"case{number}")
    assert not any("not used" in note for note in notes)
    told = repr((records, notes)) + (folder / "dataset.json").read_text(encoding="utf-8")
    assert "SECRET" not in told.upper()


def test_what_is_wrong_with_a_case_is_named(tmp_path: Path) -> None:
    raw = volumes.write_cases(tmp_path / "raw")
    (raw / "case0" / "label.nii.gz").unlink()
    volumes.save(raw / "case1" / "label.nii.gz", volumes.labels(1), np.eye(4))
    volumes.save(raw / "case2" / "label.nii.gz", np.stack([volumes.labels(2)] * 2, axis=3))
    fakes.truncate(raw / "case3" / "image.nii.gz")
    (raw / "case3" / "image.nii.gz").write_bytes(b"")
    volumes.save(raw / "case4" / "brain.nii.gz", volumes.values(9))
    outcome = prepare("generic", raw, tmp_path / "data", labels=volumes.LABELS, workers=1)
    told = {one.file: one for one in outcome.left_out}
    assert set(told) == {
        "case0/image.nii.gz", "case1/label.nii.gz", "case2/label.nii.gz", "case3/image.nii.gz",
    }  # fmt: skip
    assert told["case0/image.nii.gz"].expected == "a label volume case0/label.*"
    assert told["case1/label.nii.gz"].check == "size"
    assert "found 2 (4D)" in told["case2/label.nii.gz"].found
    assert told["case3/image.nii.gz"].check == "unreadable"
    assert any("1 further volumes are not used: brain.nii.gz" in note for note in outcome.notes)
    records = read_manifest(outcome.folder).records
    assert {record.group for record in records} == {"case4", "case5"}
