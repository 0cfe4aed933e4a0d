"""Names that say something else than the content; and that nothing is passed over without a word."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.formats.generators import write_dicom
from vlsmctl.formats import candidates
from vlsmctl.formats.dicom_header import has_preamble
from vlsmctl.formats.records import Found, Problem
from vlsmctl.formats.scan import find_scans, open_scan


def _slice(path: Path, z: float = 0.0, **elements: Any) -> Path:
    return write_dicom(
        path, np.zeros((3, 3), np.uint8), **{"ImagePositionPatient": [0.0, 0.0, float(z)], **elements}
    )


def _text(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def _picture(path: Path) -> Path:
    Image.new("L", (4, 3)).save(path)
    return path


def _told(*inputs: Path) -> tuple[list[Found], dict[Path, str]]:
    """What is found, and what is said of the folders that are inputs; no other problems."""
    founds, problems = find_scans(inputs)
    assert all(problem.harmless and problem.path in inputs for problem in problems)
    assert len({problem.path for problem in problems}) == len(problems)
    return founds, {problem.path: problem.reason for problem in problems}


# Content decides


@pytest.mark.parametrize("extension", [".png", ".JPG", ".tif", ".nii", ".nii.gz", ".hdr", ".img"])
def test_dicom_under_the_names_of_pictures_and_nifti_joins_its_series(
    tmp_path: Path, extension: str
) -> None:
    for z in range(3):
        _slice(tmp_path / "ct" / (f"{z}{extension}" if z else "0.dcm"), z)
    founds, said = _told(tmp_path)
    assert said == {}
    assert [(found.kind, len(found.files)) for found in founds] == [("dicom", 3)]
    assert open_scan(founds[0]).frame_count == 3
    (alone,) = find_scans([tmp_path / "ct" / f"1{extension}"])[0]
    assert alone.kind == "dicom"


def test_a_dicom_mask_under_the_name_of_a_picture_is_no_scan(tmp_path: Path) -> None:
    _slice(tmp_path / "1.png", Modality="SEG")
    founds, said = _told(tmp_path)
    assert (founds, "without an image" in said[tmp_path]) == ([], True)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".nii", ".nii.gz"])
def test_what_only_calls_itself_dicom_is_told_what_it_is(tmp_path: Path, extension: str) -> None:
    if "nii" in extension:
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / f"a{extension}")
    else:
        _picture(tmp_path / f"a{extension}")
    path = tmp_path / "image.dcm"
    (tmp_path / f"a{extension}").rename(path)
    words = {
        **{".png": "a PNG picture", ".jpg": "a JPEG picture", ".tif": "a TIFF picture"},
        **{".nii": "a NIfTI file", ".nii.gz": "a NIfTI file"},
    }
    reason = f"is {words[extension]}, whatever its name says; give it the extension {extension}"
    for given in (tmp_path, path):
        assert find_scans([given]) == ([], [Problem(path, reason)])
    shutil.copy(path, tmp_path / f"a{extension}")
    assert len(find_scans([tmp_path / f"a{extension}"])[0]) == 1  # the advice helps


# What is passed over is counted


def test_a_folder_of_nothing_but_scans_says_nothing(tmp_path: Path) -> None:
    _slice(tmp_path / "ct" / "1.dcm")
    _picture(tmp_path / "a.png")
    nib.save(nib.Nifti1Pair(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "pair.img")
    founds, said = _told(tmp_path)
    assert (len(founds), said) == (3, {})


def test_everything_that_is_passed_over_is_counted_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for name, modality in {"mask": "SEG", "report": "SR", "deep/plan": "RTPLAN"}.items():
        _slice(folder / f"{name}.dcm", Modality=modality)
    _text(*(folder / f"{number}.txt" for number in range(4)))
    _text(folder / "x" / "A.PDF", folder / "b.pdf", folder / "readme", folder / "c.csv", folder / "d.xml")
    _text(folder / ".notes", folder / ".image.png")
    _slice(folder / ".1.dcm")
    _slice(folder / "deep" / ".2")
    _text(folder / ".cache" / "a", folder / ".cache" / "b")
    _picture(folder / "a.png")
    founds, said = _told(folder)
    assert len(founds) == 1
    assert said == {
        folder: "16 files not taken for scans: "
        "3 DICOM objects without an image (segmentations, reports, plans), 2 hidden DICOM files, 2 hidden, "
        "9 others (.txt, .pdf, .csv, ...); 1 hidden folder"
    }


def test_few_things_are_said_in_the_singular(tmp_path: Path) -> None:
    _text(tmp_path / "a.txt")
    assert _told(tmp_path)[1] == {tmp_path: "1 file not taken for scans: 1 other (.txt)"}
    (tmp_path / "a.txt").rename(tmp_path / "1.2.840.10008")  # the end of a UID is no extension
    assert _told(tmp_path)[1] == {tmp_path: "1 file not taken for scans: 1 other"}
    (tmp_path / "1.2.840.10008").unlink()
    _text(tmp_path / ".a" / "b.dcm")
    assert _told(tmp_path)[1] == {tmp_path: "1 hidden folder"}


def test_what_the_system_leaves_behind_is_not_counted(tmp_path: Path) -> None:
    _text(
        *(tmp_path / name for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "DICOMDIR", ".localized"))
    )
    for name in ("__MACOSX", ".Trashes", ".Spotlight-V100", ".fseventsd", ".Trash-1000", "$RECYCLE.BIN"):
        _text(tmp_path / name / "a.txt", tmp_path / name / ".b")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(300))
    assert _told(tmp_path) == ([], {})
    _slice(tmp_path / "._image")
    assert _told(tmp_path)[1] == {tmp_path: "1 file not taken for scans: 1 hidden DICOM file"}


def test_each_input_folder_counts_its_own_and_each_file_once(tmp_path: Path) -> None:
    _text(
        tmp_path / "a" / "x.txt",
        tmp_path / "a" / "sub" / "y.txt",
        tmp_path / "b" / ".z",
        tmp_path / "b" / "w",
    )
    (tmp_path / "c").mkdir()
    inputs = [tmp_path / "a" / "sub", tmp_path / "a", tmp_path / "b", tmp_path / "b", tmp_path / "c"]
    assert _told(*inputs)[1] == {
        tmp_path / "a" / "sub": "1 file not taken for scans: 1 other (.txt)",
        tmp_path / "a": "1 file not taken for scans: 1 other (.txt)",
        tmp_path / "b": "2 files not taken for scans: 1 hidden, 1 other",
    }


@pytest.mark.parametrize("turn", [1, -1])
def test_a_hidden_file_that_is_an_input_itself_is_a_scan(tmp_path: Path, turn: int) -> None:
    path = _slice(tmp_path / ".1.dcm")
    founds, said = _told(*[path, tmp_path][::turn])
    assert ([found.source for found in founds], said) == ([path], {})


def test_nothing_of_a_file_but_a_short_extension_is_said(tmp_path: Path) -> None:
    _text(
        tmp_path / "x.Secret Person",
        tmp_path / "y.secretperson1970",
        tmp_path / "z.1970",
        tmp_path / "w.doc",
    )
    assert _told(tmp_path)[1] == {tmp_path: "4 files not taken for scans: 4 others (.doc, ...)"}


def test_pipes_and_what_may_not_be_read_are_counted_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        for name in ("a.png", "b.dcm", ".c", "d"):
            os.mkfifo(tmp_path / name)
        (tmp_path / ".gone").symlink_to(tmp_path / "nowhere")
    except (OSError, AttributeError):
        pytest.skip("no pipes or links here")
    _text(tmp_path / ".shut")

    def guarded(path: Path) -> bool:
        if path.name == ".shut":
            raise PermissionError(13, "Permission denied")
        return has_preamble(path)

    monkeypatch.setattr(candidates, "has_preamble", guarded)
    assert _told(tmp_path) == (
        [], {tmp_path: "6 files not taken for scans: 3 hidden, 3 pipes or devices"}
    )  # fmt: skip


# Several acquisitions in one series


def test_two_interleaved_phases_become_two_volumes(tmp_path: Path) -> None:
    for z in range(4):
        for phase in (1, 2):
            _slice(tmp_path / "ct" / f"{z}{phase}.dcm", z, AcquisitionNumber=phase)
    founds, _ = _told(tmp_path)
    assert [found.series_number for found in founds] == [1, 2]
    for found in founds:
        scan = open_scan(found)
        assert (scan.frame_count, scan.no_volume) == (4, None)
        assert scan.write_volume is not None


def test_phases_that_cannot_be_told_apart_stay_one_scan_without_a_volume(tmp_path: Path) -> None:
    for z in range(4):
        for phase in (1, 2):
            _slice(tmp_path / "ct" / f"{z}{phase}.dcm", z, AcquisitionNumber=phase + z)
    (found,) = _told(tmp_path)[0]
    scan = open_scan(found)
    assert scan.frame_count == 8
    assert "position of another one" in (scan.no_volume or "")
