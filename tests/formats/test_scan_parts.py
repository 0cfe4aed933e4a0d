"""What one series is taken apart into, by what its files say that they show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.generators import AXIAL, plane, write_dicom, write_enhanced
from vlsmctl.formats.scan import find_scans, open_scan

PIXELS = np.zeros((3, 4), np.int16)


def _slice(path: Path, z: float, **elements: Any) -> Path:
    return write_dicom(path, PIXELS, **{"ImagePositionPatient": [0.0, 0.0, float(z)], **elements})


def _stack(folder: Path, heights: Iterable[float], prefix: str = "", **elements: Any) -> None:
    for z in heights:
        _slice(folder / f"{prefix}{z:04.1f}.dcm", z, **elements)


def _volumes(*inputs: Path) -> list[tuple[list[str], float]]:
    """The files of each scan, and the distance of its slices, mm; every one is a volume."""
    founds, problems = find_scans(inputs)
    assert not problems
    scans = []
    for found in founds:
        scan = open_scan(found)
        assert scan.no_volume is None
        assert scan.geometry is not None
        scans.append(([path.name for path in found.files], round(scan.geometry.spacing[2], 6)))
    return scans


def _sizes(*inputs: Path) -> list[tuple[int, float]]:
    return [(len(files), distance) for files, distance in _volumes(*inputs)]


OTHERS: list[tuple[str, Any, Any]] = [
    ("FrameOfReferenceUID", "1.2.8.1", "1.2.8.2"),
    ("PatientID", "A", "B"),
    ("PatientName", "A^B", "A^C"),
    ("IssuerOfPatientID", "here", "there"),
    ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]),
    ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "SECONDARY", "AXIAL"]),
    ("ImageType", ["DERIVED", "SECONDARY", "MPR"], ["DERIVED", "SECONDARY", "MIP"]),
    ("EchoTime", 10.0, 80.0),
    ("EchoTime", 0.0, 2.5),
    ("DiffusionBValue", 0.0, 1000.0),
]


@pytest.mark.parametrize(("name", "one", "other"), OTHERS)
def test_what_is_another_image_stands_apart_above_or_between(
    tmp_path: Path, name: str, one: Any, other: Any
) -> None:
    _stack(tmp_path / "above", (0, 5, 10, 15), **{name: one})
    _stack(tmp_path / "above", (20, 25, 30), **{name: other})
    _stack(tmp_path / "between", (0, 5, 10, 15), SeriesInstanceUID="1.2.4", **{name: one})
    _stack(tmp_path / "between", (2.5, 7.5, 12.5), SeriesInstanceUID="1.2.4", **{name: other})
    assert _sizes(tmp_path / "above") == _sizes(tmp_path / "between") == [(4, 5.0), (3, 5.0)]
    names = [(found.relative.name, found.series_number) for found in find_scans([tmp_path / "above"])[0]]
    assert names == [("above", 1), ("above", 2)]


@pytest.mark.parametrize(("name", "one", "other"), OTHERS)
def test_files_that_do_not_say_join_the_others_unless_these_differ(
    tmp_path: Path, name: str, one: Any, other: Any
) -> None:
    _stack(tmp_path / "a", (0, 1, 2), **{name: one})
    _stack(tmp_path / "a", (3, 4), **dict[str, Any]({name: None}))
    assert _sizes(tmp_path / "a") == [(5, 1.0)]
    _stack(tmp_path / "a", (5, 6, 7, 8), **{name: other})
    assert _sizes(tmp_path / "a") == [(3, 1.0), (2, 1.0), (4, 1.0)]


def test_two_patients_in_two_folders_are_not_fused(tmp_path: Path) -> None:
    _stack(tmp_path / "A", (0, 5, 10), PatientID="A")
    _stack(tmp_path / "B", (2.5, 7.5, 12.5), PatientID="B")
    founds, _ = find_scans([tmp_path])
    assert [(found.relative.as_posix(), len(found.files)) for found in founds] == [("A", 3), ("B", 3)]


def test_one_patient_written_in_two_ways_is_one(tmp_path: Path) -> None:
    for z, name in enumerate(("Secret^Person", "SECRET^PERSON", "Secret^Person^^^", None)):
        _slice(tmp_path / f"{z}", z, PatientName=name)
    assert _sizes(tmp_path) == [(4, 1.0)]


def test_the_noise_of_echo_times_parts_nothing(tmp_path: Path) -> None:
    for z, time in enumerate((92.0, 92.0000001, 91.9, 92.4)):
        _slice(tmp_path / f"a{z}", z, EchoTime=time)
        _slice(tmp_path / f"b{z}", z + 0.5, EchoTime=time * 1.1)
    assert _volumes(tmp_path) == [([f"{echo}{z}" for z in range(4)], 1.0) for echo in "ab"]


PHASES = ("TemporalPositionIdentifier", "EchoNumbers", "AcquisitionNumber")


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("count", [2, 5])
def test_a_number_for_each_slice_parts_nothing(tmp_path: Path, name: str, count: int) -> None:
    for z in range(count):
        _slice(tmp_path / f"{z}", z, **{name: 10 - z})
    assert _sizes(tmp_path) == [(count, 1.0)]


@pytest.mark.parametrize("name", PHASES)
def test_interleaved_slices_are_one_volume_until_positions_repeat(tmp_path: Path, name: str) -> None:
    _stack(tmp_path, range(0, 30, 6), "", **{name: 1})
    _stack(tmp_path, range(3, 30, 6), "", **{name: 2})
    assert _sizes(tmp_path) == [(10, 3.0)]
    _stack(tmp_path, range(0, 24, 3), "again", **{name: 3})
    _stack(tmp_path, range(0, 12, 3), "short", **{name: 4})
    assert [count for count, _ in _sizes(tmp_path)] == [5, 5, 8, 4]


def test_phases_of_unlike_length_within_phases_are_told_apart(tmp_path: Path) -> None:
    for time, acquisition in ((1, 1), (1, 2), (2, 1), (2, 2)):
        numbers = {"TemporalPositionIdentifier": time, "AcquisitionNumber": acquisition}
        _stack(tmp_path, range(3 + time), f"{time}{acquisition}", **numbers)
    assert _sizes(tmp_path) == [(4, 1.0), (4, 1.0), (5, 1.0), (5, 1.0)]


@pytest.mark.parametrize("name", ["FrameOfReferenceUID", "PatientID", "PatientName"])
def test_a_mark_of_its_own_for_each_file_parts_nothing(tmp_path: Path, name: str) -> None:
    for z in range(12):  # of which two share one
        _slice(tmp_path / f"{z:02}", z, **{name: f"1.2.9.{max(z, 1)}"})
    assert _sizes(tmp_path) == [(12, 1.0)]


@pytest.mark.parametrize(
    ("number_of", "sizes"),
    [
        (lambda z: z // 4, [(12, 1.0)]),  # positions of a table
        (lambda z: 2 - z // 4, [(12, 1.0)]),
        (lambda z: z, [(12, 1.0)]),
        (lambda z: z % 2, [(12, 1.0)]),
        (lambda z: None if z > 5 else 1, [(12, 1.0)]),
    ],
)
def test_acquisitions_one_after_or_between_another_are_one_volume(
    tmp_path: Path, number_of: Callable[[int], int | None], sizes: list[tuple[int, float]]
) -> None:
    for z in range(12):
        _slice(tmp_path / f"{z:02}", z, AcquisitionNumber=number_of(z))
    assert _sizes(tmp_path) == sizes


def test_acquisitions_that_overlap_are_parted_all(tmp_path: Path) -> None:
    for number, heights in enumerate([(0, 1, 2, 3, 4), (3, 4, 5), (8, 9)]):
        _stack(tmp_path, heights, f"{number}-", AcquisitionNumber=number)
    assert _sizes(tmp_path) == [(5, 1.0), (3, 1.0), (2, 1.0)]


# Enhanced objects of one frame a file


def _enhanced(path: Path, z: float, echo: float | None = None, **elements: Any) -> Path:
    own = plane((1, 2, z))
    if echo is not None:
        own["MREchoSequence"] = {"EffectiveEchoTime": echo}
    return write_enhanced(path, PIXELS[np.newaxis], [own], plane(None, AXIAL, (1, 1)), **elements)


def test_enhanced_objects_of_one_frame_stack_like_slices(tmp_path: Path) -> None:
    for name, z in {"a": 4, "b": 0, "c": 8}.items():
        _enhanced(tmp_path / "ct" / f"{name}.dcm", z)
    assert _volumes(tmp_path) == [(["a.dcm", "b.dcm", "c.dcm"], 4.0)]
    (found,) = find_scans([tmp_path])[0]
    geometry = open_scan(found).geometry
    assert geometry is not None
    assert geometry.affine[:3, 3] == pytest.approx((-1, -2, 0))


def test_enhanced_objects_are_told_apart_by_their_groups_and_from_slices(tmp_path: Path) -> None:
    for z in range(0, 12, 4):
        _enhanced(tmp_path / f"a{z}", z, echo=10)
        _enhanced(tmp_path / f"b{z}", z + 2, echo=80)
        _slice(tmp_path / f"c{z}", z + 12)
    assert _sizes(tmp_path) == [(3, 4.0)] * 3


@pytest.mark.parametrize("damage", ["place", "echo"])
def test_a_damaged_group_hides_no_file(tmp_path: Path, damage: str) -> None:
    files = [_enhanced(tmp_path / f"{z}.dcm", z, echo=12.0) for z in (0, 4)]
    content = files[1].read_bytes()
    old, new = (b"1.0\\2.0\\4.0", b"1.0\\2.0\\4.x") if damage == "place" else (b"FD\x08\0", b"FD\x07\0")
    assert content.count(old) == 1
    files[1].write_bytes(content.replace(old, new))
    founds, problems = find_scans([tmp_path])
    told = {problem.path for problem in problems if not problem.harmless}
    assert {path for found in founds for path in found.files} | told == set(files)


# Slices that were lost


SIDE_FILES = ("VERSION", "LOCKFILE", "README", "ReadMe.1st", "README2", "LICENSE", "DICOMDIR", "MD5SUMS")
BESIDE = (
    *("INDEX", "checksum", "md5", "manifest", "FILELIST", "LOG", "DISCINFO", "notes", "PATIENT"),
    *("StudyInfo", "DONE", "COMPLETE"),
)


@pytest.mark.parametrize("content", [b"", b"\0" * 400, b"noise" * 100])
@pytest.mark.parametrize("ending", ["", ".MR", ".dcm", ".12"])
def test_a_slice_that_is_no_dicom_any_more_is_a_problem(
    tmp_path: Path, content: bytes, ending: str
) -> None:
    for z in range(3):
        _slice(tmp_path / "ct" / f"IM{z}{ending}", z)
    lost = tmp_path / "ct" / f"IM3{ending}"
    lost.write_bytes(content)
    (problem,) = find_scans([tmp_path])[1]
    assert (problem.path, problem.harmless) == (lost, False)
    expected = "0 bytes" if not content and ending != ".dcm" else "not a DICOM file" if content else ""
    assert expected in problem.reason


@pytest.mark.parametrize("ending", ["", ".dcm"])
def test_what_is_not_called_as_the_slices_are_is_no_problem(tmp_path: Path, ending: str) -> None:
    for z in range(3):
        _slice(tmp_path / "ct" / f"IM{z}{ending}", z)
    beside = ("a.txt", "b.xml", "c.7z", *SIDE_FILES, *BESIDE, *(["IM3"] if ending else []))
    for name in ("other/3", *(f"ct/{name}" for name in beside)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (problem,) = find_scans([tmp_path])[1]
    assert (problem.path, problem.harmless) == (tmp_path, True)
    assert f"{len(beside)} others" in problem.reason  # and a DICOMDIR, which is none


@pytest.mark.parametrize(
    ("slices", "lost"),
    [
        (("1.2.840.1", "1.2.840.2"), "1.2.840.77.3"),
        (("1", "2"), "003"),
        (("image-9", "image-10"), "IMAGE-111"),
        (("I0A3F", "I77BC"), "IC4D1"),
        (("a.dcm", "2"), "x3.dcm"),
        (("a.dcm", "2"), "3"),
    ],
)
def test_what_is_called_as_the_slices_are_is_a_problem(
    tmp_path: Path, slices: tuple[str, ...], lost: str
) -> None:
    for z, name in enumerate(slices):
        _slice(tmp_path / name, z)
    (tmp_path / lost).write_bytes(b"noise")
    (problem,) = find_scans([tmp_path])[1]
    assert (problem.path, problem.harmless) == (tmp_path / lost, False)


def test_beside_masks_alone_nothing_is_lost(tmp_path: Path) -> None:
    _slice(tmp_path / "mask", 0, Modality="SEG")
    (tmp_path / "notes").write_text("x")
    assert all(problem.harmless for problem in find_scans([tmp_path])[1])
