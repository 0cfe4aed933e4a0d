from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlsmctl.formats.dicom_header import REPEATS, Header
from vlsmctl.formats.dicom_series import DicomFile, group_scans, is_alone
from vlsmctl.formats.records import Found

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ROOT = Path("scans")


def _header(z: float = 0.0, **changes: Any) -> Header:
    values: dict[str, Any] = {
        "study": "1.1",
        "series": "1.2",
        "instance": f"1.3.{changes.get('series', '')}{z}",
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "modality": "CT",
        "shape": (64, 64),
        "frames": 1,
        "position": (0.0, 0.0, z),
        "orientation": AXIAL,
        "spacing": (1.0, 1.0),
        "positioned": True,
        "repeats": (None,) * len(REPEATS),
        "localiser": False,
        "enhanced": False,
        "directory": False,
        "image": True,
        "marks": (None,) * 7,
    }
    return Header(**{**values, **changes})


def _unplaced(**changes: Any) -> Header:
    nowhere = {"position": None, "orientation": None, "spacing": None, "positioned": False}
    return _header(**{**nowhere, **changes})


def _scans(files: dict[str, Header], *, named: bool = False) -> dict[str, list[str]]:
    """Name and number -> its files, in the order in which they are found."""
    founds, problems = _grouped(files, named=named)
    assert not problems
    return {
        f"{found.relative.as_posix()}#{found.series_number}": [path.as_posix() for path in found.files]
        for found in founds
    }


def _grouped(
    files: dict[str, Header], *, named: bool = False, digest: Any = lambda path: str(path).encode()
) -> tuple[list[Found], list[Any]]:
    paths = [Path(name) if named else ROOT / name for name in files]
    dicom = [
        DicomFile(number, path if named else ROOT, path, named, header)
        for number, (path, header) in enumerate(zip(paths, files.values(), strict=True))
    ]
    scans, problems = group_scans(dicom, digest)
    return [found for _, found in sorted(scans, key=lambda pair: pair[0])], problems


def test_studies_and_series_stand_apart() -> None:
    files = {
        "a/1": _header(1),
        "a/2": _header(2, series="1.9"),
        "a/3": _header(3),
        "a/4": _header(4, study="1.8"),
        "a/5": _header(5, series="1.9"),
    }
    assert _scans(files) == {
        "a#1": ["scans/a/1", "scans/a/3"],
        "a#2": ["scans/a/2", "scans/a/5"],
        "a#3": ["scans/a/4"],
    }


def test_scouts_sizes_and_tilts_of_one_series_stand_apart_and_the_largest_has_the_plain_name() -> None:
    tilted = (1.0, 0.0, 0.0, 0.0, float(np.cos(0.01)), float(-np.sin(0.01)))
    files = {
        "ct/0": _header(0, localiser=True, orientation=CORONAL),
        "ct/1": _header(1, localiser=True),
        "ct/2": _header(2, shape=(64, 32)),
        "ct/3": _header(3, orientation=tilted),
        **{f"ct/4{z}": _header(z) for z in range(5, 9)},
    }
    scans = _scans(files)
    assert scans["ct#1"] == ["scans/ct/45", "scans/ct/46", "scans/ct/47", "scans/ct/48"]
    assert [scans[f"ct#{number}"] for number in (2, 3, 4, 5)] == [
        [f"scans/ct/{name}"] for name in (0, 1, 2, 3)
    ]


def test_the_rounding_of_written_cosines_does_not_part_a_series() -> None:
    exact = (0.9659258, 0.258819, 0.0, 0.0, 0.0, -1.0)
    written = tuple(round(each, 3) for each in exact)
    files = {"1": _header(1, orientation=exact), "2": _header(2, orientation=written), "3": _header(3)}
    assert sorted(map(len, _scans(files).values())) == [1, 2]


def test_multi_frame_enhanced_and_unplaced_pictures_are_scans_of_their_own() -> None:
    files = {
        "us/a.dcm": _unplaced(frames=30, modality="US"),
        "us/b.dcm": _unplaced(modality="US", instance="1"),
        "us/c.dcm": _unplaced(modality="US", instance="2"),
        "us/d.dcm": _unplaced(enhanced=True, instance="4"),
        "us/e.dcm": _unplaced(sop_class=CAPTURE, instance="3"),
        "us/f.dcm": _header(5, series=""),
    }
    assert list(_scans(files)) == [f"{name}#1" for name in files]
    founds, _ = _grouped(files)
    assert [found.single for found in founds] == [False, True, True, True, True, True]
    assert [found.source for found in founds] == [found.files[0] for found in founds]


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_slices_that_do_not_say_where_they_lie_stay_together(modality: str) -> None:
    # Written apart, they would be taken for whole pictures; opened together, they are refused by name.
    files = {name: _unplaced(modality=modality, instance=name) for name in ("1", "2", "3")}
    assert len(_scans(files)) == 1
    assert not is_alone(_unplaced())


def test_a_slice_without_orientation_does_not_hide_among_the_others() -> None:
    files = {"1": _header(1), "2": _header(2), "3": _header(3, orientation=None)}
    assert sorted(map(len, _scans(files).values())) == [1, 2]


def test_one_series_in_many_folders_is_one_scan_named_after_the_folder_above_them() -> None:
    files = {f"disc/SE{z % 2}/IM{z}/file": _header(z) for z in range(6)}
    files |= {f"disc/SE0/IM{z}/other": _header(z, series="1.9") for z in range(3)}
    scans = _scans(files)
    assert {name: len(paths) for name, paths in scans.items()} == {"disc#1": 6, "disc/SE0#1": 3}
    founds, _ = _grouped(files)
    assert founds[0].source == ROOT / "disc"
    assert founds[0].files == tuple(sorted(founds[0].files))
    at_the_top = _scans({"1/x": _header(1), "2/x": _header(2)})
    assert list(at_the_top) == ["scans#1"]


def test_folders_with_the_same_instances_are_copies_and_stay_apart() -> None:
    one = {f"ct/{z}/x": _header(z) for z in range(3)}
    other = {f"backup/ct/{z}/x": _header(z) for z in range(3)}
    assert {name: len(paths) for name, paths in _scans({**one, **other}).items()} == {
        "ct#1": 3,
        "backup/ct#1": 3,
    }


def test_patients_who_share_identifiers_are_not_mixed() -> None:
    # Careless anonymising gives all patients one series; the slices lie at the same places.
    files = {
        f"patient{who}/{z}": _header(z, instance=f"1.{who}.{z}", study="", series="1.2.3")
        for who in range(3)
        for z in range(4)
    }
    assert {name: len(paths) for name, paths in _scans(files).items()} == {
        "patient0#1": 4,
        "patient1#1": 4,
        "patient2#1": 4,
    }


def test_a_second_copy_in_a_folder_is_passed_over_and_said() -> None:
    files = {name: _header(float(name[0])) for name in ("1", "1 copy", "1 more", "2")}
    founds, problems = _grouped(files, digest=lambda path: path.name[:1].encode())
    assert [path.name for path in founds[0].files] == ["1", "2"]
    assert [(problem.path.name, problem.reason, problem.harmless) for problem in problems] == [
        ("1 copy", "a second copy of 1", True),
        ("1 more", "a second copy of 1", True),
    ]


@pytest.mark.parametrize("digest", [lambda path: path.name.encode(), lambda _: None])
def test_equal_identifiers_alone_are_not_a_copy(digest: Any) -> None:
    files = {name: _header(float(name), instance="1.2.3") for name in ("1", "2", "3")}
    founds, problems = _grouped(files, digest=digest)
    assert ([len(found.files) for found in founds], problems) == ([3], [])


def test_files_are_not_read_whole_without_need() -> None:
    def never(path: Path) -> bytes:
        raise AssertionError(path)

    files = {
        "a/1": _header(1),
        "b/1": _header(1),
        "2": _header(2, instance=""),
        "3": _header(3, instance=""),
    }
    assert _grouped(files, digest=never)[1] == []


def test_files_named_one_by_one_join_from_wherever_they_are_named(tmp_path: Path) -> None:
    files = {str(tmp_path / "ct" / str(z) / "x.dcm"): _header(z) for z in range(3)}
    assert {name: len(paths) for name, paths in _scans(files, named=True).items()} == {"ct#1": 3}
    detour = {str(tmp_path / "ct" / ".." / "ct" / f"{z}.dcm"): _header(z) for z in range(2)}
    straight = {str(tmp_path / "ct" / "2.dcm"): _header(2)}
    assert [len(paths) for paths in _scans({**detour, **straight}, named=True).values()] == [3]
    alone = {str(tmp_path / "ct" / "2.dcm"): _header(2)}
    assert list(_scans(alone, named=True)) == ["2.dcm#1"]
    relative = {str(Path("ct", f"{z}.dcm")): _header(z) for z in (1, 2)}
    founds, _ = _grouped(relative, named=True)
    assert founds[0].source == Path("ct")


def test_inputs_stand_apart() -> None:
    files = [
        DicomFile(number, Path(root), Path(root, str(number)), False, _header(number))
        for number, root in enumerate(["a", "a", "b", "b"])
    ]
    scans, _ = group_scans(files)
    assert [(found.source, len(found.files)) for _, found in scans] == [(Path("a"), 2), (Path("b"), 2)]


def test_many_orientations_do_not_take_for_ever() -> None:
    # A rotating acquisition: each slice has its own
    angles = np.linspace(0, np.pi, 500, endpoint=False)
    files = {
        f"{number:04}": _header(
            number, orientation=(float(np.cos(angle)), float(np.sin(angle)), 0.0, 0.0, 0.0, -1.0)
        )
        for number, angle in enumerate(angles)
    }
    assert len(_scans(files)) == 500


# Several acquisitions, phases or echoes in one series


def _repeated(z: float, **repeats: float | None) -> Header:
    """instance: every one its own."""
    values = tuple(repeats.get(name) for name in REPEATS)
    return _header(z, repeats=values, instance=f"1.{z}.{values}".replace(" ", ""))


def _sizes(files: dict[str, Header]) -> list[int]:
    return [len(paths) for paths in _scans(files).values()]


@pytest.mark.parametrize("element", REPEATS)
def test_interleaved_phases_are_scans_of_their_own_in_the_order_of_their_values(element: str) -> None:
    files = {
        f"ct/{z}{phase}": _repeated(z, **{element: {"a": 20.0, "b": 3.0, "c": 100.0}[phase]})
        for z in range(4)
        for phase in "abc"
    }
    assert _scans(files) == {
        f"ct#{number}": [f"scans/ct/{z}{phase}" for z in range(4)]
        for number, phase in ((2, "a"), (1, "b"), (3, "c"))
    }


def test_written_positions_differ_by_rounding() -> None:
    files = {
        f"{z}{phase}": _repeated(z / 3 + 0.0004 * phase, EchoTime=phase)
        for z in range(4)
        for phase in (0, 1)
    }
    assert _sizes(files) == [4, 4]


def test_the_first_element_that_tells_all_apart_is_taken() -> None:
    # Numbered through: each slice is an acquisition of its own, and each has its own trigger time.
    files = {
        f"{z}{echo}": _repeated(z, AcquisitionNumber=2 * z + echo, EchoTime=echo, TriggerTime=7 * z + echo)
        for z in range(4)
        for echo in (0, 1)
    }
    assert _sizes(files) == [4, 4]


@pytest.mark.parametrize(
    "values",
    [
        {"0a": 1, "0b": 2, "1a": 1, "1b": 1},
        {"0a": 1, "0b": 2, "1a": 2, "1b": 3},
        {"0a": 1, "0b": 2, "1a": 1, "1b": None},
        {"0a": None, "0b": None, "1a": None, "1b": None},
        {"0a": 1, "0b": 2, "0c": 3},  # one position: a clip
    ],
)
def test_what_is_told_apart_incompletely_stays_one(values: dict[str, float | None]) -> None:
    files = {name: _repeated(float(name[0]), AcquisitionNumber=value) for name, value in values.items()}
    assert _sizes(files) == [len(values)]


def test_acquisitions_of_unlike_length_that_overlap_are_told_apart() -> None:
    files = {
        f"{phase}{z}": _repeated(z, AcquisitionNumber=phase) for phase in (1, 2) for z in range(3 + phase)
    }
    assert sorted(_sizes(files)) == [4, 5]


def test_a_series_of_two_acquisitions_one_below_the_other_is_one_volume() -> None:
    assert _sizes({str(z): _repeated(z, AcquisitionNumber=1 + z // 3) for z in range(6)}) == [6]


def test_phases_are_found_where_each_slice_has_its_folder_and_in_each_copy() -> None:
    one = {f"ct/{z}{t}/x": _repeated(z, TriggerTime=t) for z in range(3) for t in (0, 1)}
    assert {name: len(paths) for name, paths in _scans(one).items()} == {"ct#1": 3, "ct#2": 3}
    other = {f"backup/{name}": header for name, header in one.items()}
    assert {name: len(paths) for name, paths in _scans({**one, **other}).items()} == {
        **{"ct#1": 3, "ct#2": 3},
        **{"backup/ct#1": 3, "backup/ct#2": 3},
    }


def test_patients_who_share_identifiers_are_not_mixed_by_what_tells_phases_apart() -> None:
    # Each value has every position once, but half of them of the one and half of the other
    files = {
        f"patient{who}/{z}": _repeated(z, TriggerTime=(z + who) % 2) for who in (0, 1) for z in range(4)
    }
    assert {name: len(paths) for name, paths in _scans(files).items()} == {"patient0#1": 4, "patient1#1": 4}
