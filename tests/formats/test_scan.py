from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import MediaStorageDirectoryStorage, generate_uid

from tests.formats.generators import write_clip, write_dicom, write_nifti
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.naming import mask_path, mask_suffix, output_stems
from vlsmctl.formats.records import Found, Problem
from vlsmctl.formats.scan import find_scans, open_scan

CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 3)).save(path)
    return path


def _slice(path: Path, number: float, shape: tuple[int, int] = (3, 3), **elements: Any) -> Path:
    position = {"ImagePositionPatient": [0.0, 0.0, float(number)]}
    return write_dicom(path, np.zeros(shape, np.uint8), **{**position, **elements})


def _series(folder: Path, uid: str = "1.2.3", prefix: str = "", count: int = 2) -> Path:
    for number in range(count):
        _slice(folder / f"{prefix}{number}", number, SeriesInstanceUID=uid)
    return folder


def _names(*inputs: Path, wanted: str = "nifti") -> list[str]:
    founds, problems = find_scans(inputs)
    assert not [problem for problem in problems if not problem.harmless]
    return _names_of(founds, wanted)


def _names_of(founds: list[Found], wanted: str = "nifti") -> list[str]:
    suffixes = [mask_suffix(found, wanted) for found in founds]
    stems = output_stems(founds, suffixes)
    return [mask_path(stem, suffix).as_posix() for stem, suffix in zip(stems, suffixes, strict=True)]


def _found(*inputs: Path) -> dict[str, int]:
    """The name of each scan below its input -> how many files it has."""
    founds, problems = find_scans(inputs)
    assert not [problem for problem in problems if not problem.harmless]
    return {f"{found.relative.as_posix()}#{found.series_number}": len(found.files) for found in founds}


def _without_preamble(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[132:])
    return path


def test_a_tree_of_everything(tmp_path: Path) -> None:
    _picture(tmp_path / "a" / "case1.jpg")
    _picture(tmp_path / "a" / "CASE2.PNG")
    write_nifti(tmp_path / "b" / "vol.nii.gz", np.zeros((3, 3, 3), np.uint8), np.eye(4))
    write_nifti(tmp_path / "b" / "pair.hdr", np.zeros((3, 3, 3), np.uint8), np.eye(4))
    _series(tmp_path / "c" / "head.v1")
    _series(tmp_path / "c" / "head.v1", uid="1.2.4", prefix="x")
    for passed_over in ("README.txt", ".hidden.png", "Thumbs.db", "__MACOSX/a.png", "a/table.json"):
        (tmp_path / passed_over).parent.mkdir(exist_ok=True)
        (tmp_path / passed_over).write_text("x")
    assert _names(tmp_path) == [
        "a/CASE2.png",
        "a/case1.png",
        "b/pair.nii.gz",
        "b/vol.nii.gz",
        "c/head.v1.nii.gz",
        "c/head.v1_2.nii.gz",
    ]
    founds, _ = find_scans([tmp_path])
    assert founds[4].source == tmp_path / "c" / "head.v1"
    assert [found.series_number for found in founds[4:]] == [1, 2]
    assert pickle.loads(pickle.dumps(founds)) == founds  # noqa: S301  (travels to worker processes)
    assert [open_scan(found).frame_count for found in founds] == [1, 1, 3, 3, 2, 2]


def test_each_file_once(tmp_path: Path) -> None:
    picture = _picture(tmp_path / "a" / "x.png")
    inputs = [picture, tmp_path, tmp_path / "a", tmp_path / "a" / ".." / "a" / "x.png"]
    try:
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "same.png").symlink_to(picture)
    except OSError:
        pass  # links are not allowed here
    founds, problems = find_scans(inputs)
    assert (len(founds), problems) == (1, [])
    assert founds[0].relative == Path("x.png")


def test_problems_are_named_and_the_rest_is_found(tmp_path: Path) -> None:
    good = _picture(tmp_path / "good.png")
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.dcm").write_text("no image " * 50)
    (tmp_path / "half.img").write_bytes(b"x" * 400)
    (tmp_path / "vol.nrrd").write_text("NRRD0004")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    write_dicom(tmp_path / "cut.dcm", np.zeros((3, 3), np.uint8))
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:150])
    founds, problems = find_scans([tmp_path])
    assert [found.source for found in founds] == [good]
    reasons = {problem.path.name: problem.reason for problem in problems}
    assert set(reasons) == {"empty.nii.gz", "text.dcm", "half.img", "vol.nrrd", "clip.mp4", "cut.dcm"}
    assert "0 bytes" in reasons["empty.nii.gz"]
    assert "not a DICOM file" in reasons["text.dcm"]
    assert "half.hdr" in reasons["half.img"]
    assert "not supported" in reasons["vol.nrrd"]
    assert not [reason for reason in reasons.values() if "\n" in reason or str(tmp_path) in reason]


def test_what_a_folder_passes_over_is_a_problem_when_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    write_dicom(tmp_path / "mask.dcm", np.zeros((3, 3), np.uint8), Modality="SEG")
    founds, problems = find_scans([tmp_path])
    assert (founds, [problem.harmless for problem in problems]) == ([], [True])
    inputs = [tmp_path / "notes.txt", tmp_path / "mask.dcm", tmp_path / "missing"]
    for others in ([], [tmp_path]):  # and if the folder is an input, too
        founds, problems = find_scans([*others, *inputs])
        assert not founds
        assert {problem.path for problem in problems if not problem.harmless} == set(inputs)


def test_dicom_is_known_by_its_preamble_and_files_named_together_make_a_series(tmp_path: Path) -> None:
    folder = _series(tmp_path / "ct")
    (folder / "1").rename(folder / "1.2.840.5")
    founds, problems = find_scans(sorted(folder.iterdir()))
    assert not problems
    assert [len(found.files) for found in founds] == [2]
    assert _names_of(founds) == ["ct.nii.gz"]
    assert _names(folder) == ["ct.nii.gz"]
    assert _names(folder / "1.2.840.5") == ["1.2.840.5.nii.gz"]
    assert open_scan(founds[0]).frame_count == 2


def test_opening_what_turned_out_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("no picture")
    founds, problems = find_scans([tmp_path])
    assert not problems  # of pictures, no more than the beginning is read to list them
    with pytest.raises(UnreadableFile, match="not a picture"):
        open_scan(founds[0])


# The layouts of exports


def test_what_makers_of_discs_add_is_ignored(tmp_path: Path) -> None:
    _series(tmp_path / "DICOM" / "PA0" / "ST0" / "SE0", count=3)
    for name in ("DICOMDIR", "dicomdir", "INDEX.DIR"):
        _index(tmp_path / name)
    junk = ("LOCKFILE", "VERSION", ".DS_Store", "Thumbs.db", "autorun.inf", "viewer.exe", "index.html")
    for name in junk:
        (tmp_path / name).write_bytes(b"MZ" * 100)
    for name, modality in {"report": "SR", "state": "PR", "plan": "RTPLAN", "dose": "RTDOSE"}.items():
        _slice(tmp_path / "DICOM" / name, 0, Modality=modality, SeriesInstanceUID=generate_uid())
    _picture(tmp_path / "VERSION.d" / "a.png")
    assert _found(tmp_path) == {"DICOM/PA0/ST0/SE0#1": 3, "VERSION.d/a.png#1": 1}


def _index(path: Path) -> Path:
    dataset = pydicom.dcmread(_slice(path, 0))
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    pydicom.dcmwrite(path, dataset)
    return path


def test_an_index_stands_for_the_folder_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = _index(tmp_path / "disc" / "DICOMDIR")
    _series(tmp_path / "disc" / "PA0" / "SE0", count=3)
    _picture(tmp_path / "disc" / "a.png")
    found = {"PA0/SE0#1": 3, "a.png#1": 1}
    assert _found(index) == _found(index, tmp_path / "disc") == _found(tmp_path / "disc") == found
    assert find_scans([index])[0][0].root == tmp_path / "disc"
    monkeypatch.chdir(tmp_path / "disc")
    assert _found(Path("DICOMDIR")) == found


def test_an_index_of_another_name_is_told_from_images(tmp_path: Path) -> None:
    (problem,) = find_scans([_index(tmp_path / "x.dcm")])[1]
    assert "DICOMDIR" in problem.reason
    assert "folder" in problem.reason
    assert find_scans([tmp_path]) == ([], [])


def test_scouts_and_sizes_stand_apart_from_the_volume(tmp_path: Path) -> None:
    folder = _series(tmp_path / "ct", count=4)
    _slice(folder / "-scout", 9, ImageOrientationPatient=CORONAL)
    _slice(folder / "-scout2", 10, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    _slice(folder / "large", 11, (5, 5))
    assert _found(tmp_path) == {"ct#2": 1, "ct#3": 1, "ct#1": 4, "ct#4": 1}
    assert sorted(_names(tmp_path)) == ["ct.nii.gz", "ct_2.nii.gz", "ct_3.nii.gz", "ct_4.nii.gz"]
    volume = next(found for found in find_scans([tmp_path])[0] if found.series_number == 1)
    assert open_scan(volume).frame_count == 4
    assert not volume.single


def test_slices_in_one_folder_each_are_one_series(tmp_path: Path) -> None:
    for number in range(3):
        _slice(tmp_path / "export" / f"IM{number}" / "image", number)
    _slice(tmp_path / "other" / "image", 0, SeriesInstanceUID="1.2.9")
    assert _found(tmp_path) == {"export#1": 3, "other#1": 1}
    founds, _ = find_scans([tmp_path])
    assert founds[0].source == tmp_path / "export"
    assert open_scan(founds[0]).frame_count == 3
    assert _found(*(path for path in sorted(tmp_path.glob("export/*/image")))) == {"export#1": 3}


def test_a_copied_folder_is_a_series_of_its_own(tmp_path: Path) -> None:
    for number in range(3):
        _slice(tmp_path / "a" / str(number) / "image", number)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert _found(tmp_path) == {"a#1": 3, "b#1": 3}


def test_a_second_copy_in_one_folder_is_passed_over_and_said(tmp_path: Path) -> None:
    folder = _series(tmp_path / "ct", count=3)
    shutil.copy(folder / "1", folder / "1 (copy)")
    founds, problems = find_scans([tmp_path])
    assert [len(found.files) for found in founds] == [3]
    assert problems == [Problem(folder / "1 (copy)", "a second copy of 1", harmless=True)]


def test_one_series_below_two_inputs_is_two_scans(tmp_path: Path) -> None:
    for number in range(4):
        _slice(tmp_path / "ab"[number % 2] / str(number), number)
    assert _found(tmp_path / "a", tmp_path / "b") == {"a#1": 2, "b#1": 2}
    assert len(set(_names(tmp_path / "a", tmp_path / "b"))) == 2
    assert _found(tmp_path) == {f"{tmp_path.name}#1": 4}


@pytest.mark.parametrize("turn", [1, -1])
def test_a_slice_named_beside_its_folder_stays_in_its_series(tmp_path: Path, turn: int) -> None:
    folder = _series(tmp_path / "ct", count=4)
    write_dicom(
        tmp_path / "ct" / "photo",
        np.zeros((3, 3), np.uint8),
        Modality="XC",
        ImagePositionPatient=None,
        SeriesInstanceUID="1.2.8",
    )
    founds, problems = find_scans([folder / "2", folder / "photo", tmp_path][::turn])
    assert not problems
    (series,) = (found for found in founds if len(found.files) > 1)
    assert series.files == tuple(folder / str(number) for number in range(4))
    assert series.root == tmp_path
    assert len(founds) == 2


def test_the_order_of_names_says_nothing(tmp_path: Path) -> None:
    for name, number in enumerate((3, 0, 5, 1, 4, 2)):
        _slice(tmp_path / "ct" / f"{name}.ima", number)
    (found,) = find_scans([tmp_path])[0]
    geometry = open_scan(found).geometry
    assert geometry is not None
    assert geometry.affine[2, 2:] == pytest.approx([1, 0])


def test_an_earlier_runs_masks_are_passed_over_and_said(tmp_path: Path) -> None:
    _picture(tmp_path / "case.png")
    _picture(tmp_path / "predictions" / "sub" / "case.png")
    (tmp_path / "predictions" / "predictions.jsonl").write_text("{}")
    founds, problems = find_scans([tmp_path])
    assert [found.relative for found in founds] == [Path("case.png")]
    assert problems == [
        Problem(tmp_path / "predictions", "holds the masks of an earlier run", harmless=True)
    ]
    assert _found(tmp_path / "predictions") == {"sub/case.png#1": 1}  # who names it means it
    assert _found(tmp_path / "predictions" / "sub") == {"case.png#1": 1}


@pytest.mark.parametrize("name", ["image.dcm", "IMAGE.IMA", "I0001"])
def test_files_without_a_preamble(tmp_path: Path, name: str) -> None:
    for number in range(2):
        _without_preamble(_slice(tmp_path / "old" / f"{number}{name}", number))
    assert _found(tmp_path) == {"old#1": 2}
    (found,) = find_scans([tmp_path])[0]
    assert open_scan(found).frame_count == 2


def test_what_only_begins_like_dicom_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(b"\x08\0\x05\0CS\x04\0abcd" + b"nothing of the kind" * 40)
    assert not find_scans([tmp_path])[0]
    assert [problem.harmless for problem in find_scans([tmp_path])[1]] == [True]
    (problem,) = find_scans([path])[1]
    assert "not a DICOM file" in problem.reason


def test_dicom_under_the_names_of_nifti(tmp_path: Path) -> None:
    for number in range(2):
        _slice(tmp_path / "ct" / f"I{number}.img", number)
    assert _found(tmp_path) == {"ct#1": 2}


def test_clips_are_scans_of_their_own(tmp_path: Path) -> None:
    for name in "ab":
        write_clip(tmp_path / "us" / f"{name}.dcm", np.zeros((2, 4, 4), np.uint8))
    founds, _ = find_scans([tmp_path])
    assert [found.relative.name for found in founds] == ["a.dcm", "b.dcm"]
    assert not any(found.single for found in founds)


# Faults


def test_patient_data_are_in_no_problem(tmp_path: Path) -> None:
    secret: dict[str, Any] = {
        "PatientName": "Secret^Person",
        "PatientID": "SECRET-1",
        "StudyInstanceUID": "1.2.66.7777",
    }
    folder = tmp_path / "ct"
    for number in range(3):
        _slice(folder / f"{number}.dcm", number, SOPInstanceUID=f"1.2.66.7777.{number}", **secret)
    shutil.copy(folder / "0.dcm", folder / "again.dcm")
    write_dicom(folder / "mask.dcm", np.zeros((3, 3), np.uint8), Modality="SEG", **secret)
    content = (folder / "1.dcm").read_bytes()
    for cut in range(132, len(content), 7):
        (folder / f"cut{cut}.dcm").write_bytes(content[:cut])
    founds, problems = find_scans([folder / "mask.dcm", tmp_path])
    assert len(problems) > 20
    told = " ".join(f"{problem.path} {problem.reason}" for problem in problems)
    assert not [word for word in ("Secret", "SECRET", "7777") if word in told]
    assert all("\n" not in problem.reason for problem in problems)
    assert founds


def test_an_input_that_is_no_path_at_all() -> None:
    inputs = [Path("no\0path"), Path("no such folder", "file.png")]
    founds, problems = find_scans(inputs)
    assert (founds, [problem.path for problem in problems]) == ([], inputs)


def test_pipes_and_broken_links_do_not_stop_the_search(tmp_path: Path) -> None:
    good = _picture(tmp_path / "good.png")
    try:
        os.mkfifo(tmp_path / "pipe.dcm")
        (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
        (tmp_path / "ring.dcm").symlink_to(tmp_path / "ring.dcm")
    except (OSError, AttributeError):
        pytest.skip("no pipes or links here")
    founds, problems = find_scans([tmp_path, tmp_path / "pipe.dcm", tmp_path / "ring.dcm"])
    assert [found.source for found in founds] == [good]
    assert {problem.path.name for problem in problems} == {"gone.dcm", "ring.dcm", "pipe.dcm"}
    (problem,) = find_scans([tmp_path / "pipe.dcm"])[1]
    assert "not a regular file" in problem.reason


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _picture(tmp_path / "open" / "a.png")
    _picture(tmp_path / "shut" / "b.png")
    scandir: Callable[[Any], Iterator[Any]] = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    founds, problems = find_scans([tmp_path])
    assert [found.relative for found in founds] == [Path("open/a.png")]
    assert problems == [Problem(tmp_path / "shut", "cannot be listed (Permission denied)")]


def test_empty_files(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.nii", "c.png", "d", "e.hdr", "e.img"):
        (tmp_path / name).touch()
    founds, problems = find_scans([tmp_path])
    assert not founds
    assert {problem.path.name for problem in problems if not problem.harmless} == {
        *("a.dcm", "b.nii", "c.png", "e.hdr", "e.img")
    }


def test_every_file_that_is_looked_at_ticks(tmp_path: Path) -> None:
    _series(tmp_path / "ct", count=3)
    (tmp_path / "notes.txt").write_text("x")
    ticks: list[None] = []
    find_scans([tmp_path], lambda: ticks.append(None))
    assert len(ticks) == 4
