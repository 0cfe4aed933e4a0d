from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from tests.formats.generators import AXIAL, found, plane, write_clip, write_dicom, write_enhanced
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.dicom_frames import SourceFrame
from vlsmctl.formats.records import Code, Origin, Reading, Scan, Segment
from vlsmctl.formats.spool import Spool

ROWS, COLUMNS, SLICES = 6, 8, 5
SPACING = (0.5, 0.75)  # from row to row, from column to column
NOWHERE: dict[str, Any] = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
# Every way to store a volume along the patient's axes: that of rows, of columns, and towards which end
ORIENTATIONS = [
    (signs[0] * np.eye(3)[axes[0]], signs[1] * np.eye(3)[axes[1]], signs[2])
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
serial = itertools.count()


def _spooled(masks: Sequence[NDArray[np.bool_]]) -> Spool:
    spool = Spool(masks[0].shape, bool)
    for mask in masks:
        spool.append(mask)
    return spool


def _rotated(seed: int) -> tuple[float, ...]:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return tuple(turn[:2].ravel())


def _positions(
    orientation: Sequence[float], step: float, tilt: float, count: int = SLICES
) -> NDArray[np.float64]:
    """tilt: mm that each slice is shifted along its own columns."""
    along_row, along_column = np.reshape(orientation, (2, 3))
    stride = np.cross(along_row, along_column) * step + along_column * tilt
    return np.array([-30.0, 20.0, 10.0]) + np.arange(count)[:, np.newaxis] * stride


STRAIGHT = _positions(AXIAL, 2.5, 0.0)


def _series(
    folder: Path, positions: NDArray[np.float64] = STRAIGHT, number_of_last: int = 0, **elements: Any
) -> Path:
    """Names and instance numbers say nothing of the order of the slices; pixel [0, 0] does."""
    shuffled = np.random.default_rng(3).permutation(len(positions))
    for number, position in enumerate(positions):
        pixels = np.full((ROWS, COLUMNS), 100, dtype=np.int16)
        pixels[0, 0] = 100 + number
        write_dicom(
            folder / f"IM{shuffled[number]:03}",
            pixels,
            **{
                "ImagePositionPatient": list(position),
                "PixelSpacing": list(SPACING),
                "InstanceNumber": int(shuffled[(number + 2) % len(positions)]),
                "WindowCenter": 105,
                "WindowWidth": 13,
                **elements,
            },
        )
    return folder


def _opened(path: Path, reading: Reading | None = None) -> Scan:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return open_dicom(found(path, "dicom", files), reading or Reading())


def _order(scan: Scan) -> list[int]:
    return [int(scan.read_frame(number)[0, 0, 0]) for number in range(scan.frame_count)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    way=st.sampled_from(ORIENTATIONS),
    oblique=st.booleans(),
    tilt=st.sampled_from([0.0, 0.5, -0.9]),
    enhanced=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_blob_keeps_its_place_in_mm(
    tmp_path: Path, way: tuple[Any, ...], oblique: bool, tilt: float, enhanced: bool, seed: int
) -> None:
    _check_blob(tmp_path / str(next(serial)), way, oblique, tilt, enhanced, seed)


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_blob_keeps_its_place_in_all_48_orientations(tmp_path: Path, enhanced: bool) -> None:
    for number, way in enumerate(ORIENTATIONS):
        _check_blob(tmp_path / str(number), way, False, 0.0, enhanced, number)


def _check_blob(
    folder: Path, way: tuple[Any, ...], oblique: bool, tilt: float, enhanced: bool, seed: int
) -> None:
    """A blob drawn at known millimetres, predicted by a threshold, and found again by nibabel.

    tilt: how far each slice is shifted along its own columns, as a part of the slice distance."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if oblique else np.eye(3)
    along_row, along_column = turn @ way[0], turn @ way[1]
    spacing, step, shape = rng.uniform(0.4, 2.5, 2), float(rng.uniform(0.5, 4)), rng.integers(4, 9, 3)
    stride = np.cross(along_row, along_column) * step * way[2] + along_column * tilt * step
    positions = rng.uniform(-90, 90, 3) + np.arange(shape[0])[:, np.newaxis] * stride
    lit = np.zeros(shape, np.bool_)
    corner = rng.integers(0, shape - 2)
    lit[tuple(slice(start, start + 2) for start in corner)] = True
    pixels = np.where(lit, 900, 0).astype(np.int16)
    _store(
        folder, pixels, positions, [*along_row, *along_column], spacing, rng.permutation(len(lit)), enhanced
    )
    # PS3.3 equation C.7.6.2.1-1, and LPS to RAS; uses nothing of ours
    slices, rows, columns = np.argwhere(lit).T
    expected = (
        positions[slices]
        + np.outer(columns, along_row * spacing[1])
        + np.outer(rows, along_column * spacing[0])
    )
    scan = _opened(folder)
    masks = [scan.read_frame(number)[..., 0] > 128 for number in range(scan.frame_count)]
    assert scan.write_volume is not None
    scan.write_volume(_spooled(masks), folder / "m.nii.gz")
    mask = nib.load(folder / "m.nii.gz")
    found_at = apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))
    assert len(found_at) == len(expected)
    center = expected.mean(axis=0) * (-1, -1, 1)
    assert np.allclose(found_at.mean(axis=0), center, atol=1e-3)
    assert scan.geometry is not None
    assert scan.geometry.voxel_ml == pytest.approx(float(np.prod(spacing)) * step / 1000, rel=1e-5)
    assert int(mask.header["sform_code"]) == 1
    assert int(mask.header["qform_code"]) == (0 if tilt else 1)  # a qform cannot hold a shear


def _store(
    folder: Path,
    pixels: NDArray[np.int16],
    positions: NDArray[np.float64],
    orientation: list[float],
    spacing: NDArray[np.float64],
    shuffled: NDArray[np.int64],
    enhanced: bool,
) -> None:
    if enhanced:
        own = [plane(list(positions[number])) for number in shuffled]
        shared = plane(None, orientation, list(spacing))
        write_enhanced(folder / "enhanced", pixels[shuffled], own, shared)
        return
    for number, position in enumerate(positions):
        elements: dict[str, Any] = {
            "ImagePositionPatient": [f"{each:.10f}" for each in position],
            "ImageOrientationPatient": [f"{each:.10f}" for each in orientation],
            "PixelSpacing": list(spacing),
            "WindowCenter": 450,
            "WindowWidth": 900,
        }
        write_dicom(folder / f"IM{shuffled[number]:03}", pixels[number], **elements)


def test_frames_come_in_the_order_of_their_positions(tmp_path: Path) -> None:
    marks = _order(_opened(_series(tmp_path / "ct")))
    assert marks == sorted(set(marks))


@pytest.mark.parametrize(
    ("elements", "step", "voxel_ml"),
    [
        ({"SliceThickness": 4.0, "SpacingBetweenSlices": 5.0}, 4.0, 0.004),
        ({"SliceThickness": 0.0, "SpacingBetweenSlices": 5.0}, 5.0, 0.005),
        ({"SliceThickness": 0.0}, 1.0, None),
        ({}, 1.0, None),  # a thickness to place the mask with, and no volume made up from it
    ],
)
def test_single_slice(
    tmp_path: Path, elements: dict[str, Any], step: float, voxel_ml: float | None
) -> None:
    geometry = _opened(write_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), **elements)).geometry
    assert geometry is not None
    assert geometry.spacing == pytest.approx((1.0, 1.0, step))
    assert geometry.voxel_ml == (None if voxel_ml is None else pytest.approx(voxel_ml))


def test_a_series_needs_no_stated_thickness_for_its_volume(tmp_path: Path) -> None:
    geometry = _opened(_series(tmp_path / "ct")).geometry
    assert geometry is not None
    assert not geometry.thickness_assumed
    assert geometry.voxel_ml == pytest.approx(0.5 * 0.75 * 2.5 / 1000)


def _moved(number: int, by: tuple[float, float, float]) -> NDArray[np.float64]:
    moved = STRAIGHT.copy()
    moved[number] += by
    return moved


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        (_moved(2, (0, 0, 0.3)), "positions of its slices jitter: they lie up to 0.24 mm off"),
        (np.delete(STRAIGHT, 2, axis=0), "slices are missing"),
        (_moved(2, (0, 0, 2.5)), "1 of its 5 slices lie at the position of another one"),
        (_moved(4, (0, 2, 0)), "changing gantry tilt"),
        (np.vstack([STRAIGHT, STRAIGHT]), "5 of its 10 slices lie at the position of another one"),
    ],
)
def test_untrustworthy_positions_make_no_volume_but_frames(
    tmp_path: Path, positions: NDArray[np.float64], reason: str
) -> None:
    scan = _opened(_series(tmp_path / "ct", positions))
    assert scan.geometry is None
    assert scan.write_volume is None
    assert scan.no_volume is not None
    assert reason in scan.no_volume
    assert "\n" not in scan.no_volume
    assert scan.write_segments is not None
    heights = positions[:, 2].argsort(kind="stable")
    where = {mark: number for number, mark in enumerate(sorted(set(_order(scan))))}
    assert [positions[where[mark]][2] for mark in _order(scan)] == list(positions[heights][:, 2])


def test_slices_of_uneven_distance_are_written_each_in_its_place(tmp_path: Path) -> None:
    positions = np.delete(STRAIGHT, 2, axis=0)
    scan = _opened(_series(tmp_path / "ct", positions, SliceThickness=2.0))
    masks = [np.zeros((ROWS, COLUMNS), bool) for _ in positions]
    for number, mask in enumerate(masks):
        mask[number, 3] = True
    assert scan.write_slices is not None
    scan.write_slices(_spooled(masks), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "out"]
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == [f"000{n}.nii.gz" for n in range(1, 5)]
    for number, (path, position) in enumerate(zip(written, positions, strict=True)):
        image = nib.load(path)
        assert image.header.get_zooms() == pytest.approx((0.75, 0.5, 2.0))
        (lit,) = np.argwhere(np.asarray(image.dataobj) > 0)
        expected = (position + np.array([3 * 0.75, number * 0.5, 0])) * (-1, -1, 1)
        assert np.allclose(apply_affine(image.affine, lit), expected)


def test_rounded_positions_are_accepted(tmp_path: Path) -> None:
    assert _opened(_series(tmp_path / "ct", _moved(2, (0, 0.004, -0.02)))).no_volume is None


def test_steps_that_each_pass_but_add_up_make_no_volume(tmp_path: Path) -> None:
    heights = np.cumsum(np.concatenate([np.full(40, 1.0), np.full(40, 1.02)]))
    for number, height in enumerate(heights):
        place: dict[str, Any] = {"ImagePositionPatient": [0.0, 0.0, float(height)]}
        write_dicom(tmp_path / "s" / f"{number}.dcm", np.zeros((2, 2), np.uint8), **place)
    assert "off an even spacing" in str(_opened(tmp_path / "s").no_volume)


LAST: dict[str, Any] = {"ImagePositionPatient": [-30.0, 20.0, 22.5], "PixelSpacing": list(SPACING)}


@pytest.mark.parametrize(
    ("elements", "reason", "placed"),
    [
        ({"ImageOrientationPatient": [1.0, 0, 0, 0, 0, 1.0]}, "different orientations", True),
        ({"PixelSpacing": [0.5, 0.8]}, "different pixel spacings", True),
        ({"ImagePositionPatient": None}, "1 of its 6 slices have no place", False),
        (
            {"PixelSpacing": None, "ImagerPixelSpacing": [0.5, 0.75]},
            "1 of its 6 slices have no place",
            False,
        ),
        ({"PixelSpacing": [0.0, 0.5]}, "PixelSpacing is not above 0", False),
        ({"ImageOrientationPatient": [1.0, 0, 0, 1.0, 0, 0]}, "perpendicular", False),
        ({"ImageOrientationPatient": [1.0, 0, 0]}, "6 finite numbers", False),
        ({"ImagePositionPatient": [0.0, 0.0, 1e200]}, "3 finite numbers", False),
    ],
)
def test_one_wrong_slice_costs_the_volume(
    tmp_path: Path, elements: dict[str, Any], reason: str, placed: bool
) -> None:
    folder = _series(tmp_path / "ct")
    write_dicom(folder / "last", np.zeros((ROWS, COLUMNS), np.int16), **{**LAST, **elements})
    scan = _opened(folder)
    assert scan.geometry is None
    assert reason in str(scan.no_volume)
    assert (scan.write_slices is not None) == placed
    assert len(_order(scan)) == 6


@pytest.mark.parametrize(
    ("elements", "reason"),
    [({"NumberOfFrames": 7}, "cut off"), ({"PhotometricInterpretation": "HSV"}, "HSV")],
)
def test_one_unreadable_slice_refuses_the_series(
    tmp_path: Path, elements: dict[str, Any], reason: str
) -> None:
    folder = _series(tmp_path / "ct")
    pixels = np.zeros((ROWS, COLUMNS * 40), np.int16)
    write_dicom(folder / "last", pixels, **{**LAST, **elements})
    with pytest.raises(UnreadableFile, match=reason) as caught:
        _opened(folder)
    assert "last" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mixed_sizes_are_refused(tmp_path: Path) -> None:
    folder = _series(tmp_path / "ct")
    write_dicom(folder / "last", np.zeros((9, 9), np.int16), ImagePositionPatient=[0.0, 0.0, 50.0])
    with pytest.raises(UnreadableFile, match="different sizes"):
        _opened(folder)


@pytest.mark.parametrize("single", ["plain", "clip", "enhanced"])
@pytest.mark.parametrize(
    ("element", "values", "reason"),
    [
        ("PixelSpacing", [0.0, 0.0], "PixelSpacing is not above 0"),
        ("PixelSpacing", [1.0, -1.0], "PixelSpacing is not above 0"),
        ("PixelSpacing", [1.0], "PixelSpacing is not 2 finite numbers"),
        ("ImagePositionPatient", [0.0, 0.0], "ImagePositionPatient is not 3 finite numbers"),
        ("ImageOrientationPatient", [0.0] * 6, "ImageOrientationPatient is not two perpendicular"),
    ],
)
def test_a_single_frame_says_what_is_wrong_with_its_place(
    tmp_path: Path, single: str, element: str, values: list[float], reason: str
) -> None:
    stated: dict[str, Any] = {
        "ImagePositionPatient": [0.0, 0.0, 0.0], "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [1.0, 1.0], element: values,
    }  # fmt: skip
    pixels = np.zeros((1, 4, 5), np.uint8)
    if single == "plain":
        path = write_dicom(tmp_path / "a", pixels[0], **stated)
    elif single == "clip":
        path = write_clip(tmp_path / "a", pixels, **stated)
    else:
        path = write_enhanced(tmp_path / "a", pixels, [plane(*stated.values())])
    scan = _opened(path)
    assert (scan.geometry, scan.write_volume, scan.write_slices) == (None, None, None)
    assert str(scan.no_volume).startswith(f"has no usable place: {reason}")


def test_a_photograph_has_no_place(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 5, 3), np.uint8), Modality="XC", **NOWHERE)
    scan = _opened(path)
    assert (scan.geometry, scan.write_volume, scan.write_slices) == (None, None, None)
    assert str(scan.no_volume).startswith("has no place (expected ImagePositionPatient")


def test_a_clip_keeps_its_order_and_has_no_place(tmp_path: Path) -> None:
    frames = np.array([3, 1, 2], np.uint8)[:, None, None] * np.full((4, 5), 80, np.uint8)
    placed: dict[str, Any] = {
        "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [1, 1],
    }  # fmt: skip
    scan = _opened(write_clip(tmp_path / "us.dcm", frames, WindowCenter=128, WindowWidth=256, **placed))
    assert _order(scan) == [240, 80, 160]
    assert (scan.geometry, scan.write_volume, scan.write_slices) == (None, None, None)
    assert "3 frames have no place of their own" in str(scan.no_volume)
    with pytest.raises(IndexError):
        scan.read_frame(3)


def test_segments_are_handed_on_with_their_source_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[SourceFrame, ...]] = []

    def write_seg(sources: Any, segments: Any, origin: Any, target: Path) -> None:
        seen.append(tuple(sources))

    monkeypatch.setattr("vlsmctl.formats.dicom_seg.write_seg", write_seg)
    heights = [2.0, 0.0, 1.0]
    own = [plane(position=(0, 0, height)) for height in heights]
    path = write_enhanced(tmp_path / "e", np.zeros((3, 4, 5), np.int16), own, plane(None, AXIAL, (1, 1)))
    scan = _opened(path)
    code = Code("SCT", "1", "a")
    segment = Segment("polyp", _spooled([np.zeros((4, 5), bool)] * 3), code, code)
    assert scan.write_segments is not None
    scan.write_segments([segment], Origin("m", "f"), tmp_path / "s.dcm")
    assert [(source.index, source.count, source.path) for source in seen[0]] == [
        (1, 3, path), (2, 3, path), (0, 3, path),
    ]  # fmt: skip
    assert [source.place.position[2] for source in seen[0] if source.place] == sorted(heights)
    short = Segment("polyp", _spooled([np.zeros((4, 5), bool)] * 2), code, code)
    with pytest.raises(ValueError, match="2 arrays"):
        scan.write_segments([short], Origin("m", "f"), tmp_path / "s.dcm")


def test_description_is_one_printable_line(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", np.zeros((4, 5), np.uint8), SeriesDescription="Head \x1b[31m axial ")
    assert _opened(path).description == "Head [31m axial"


def test_damaged_files_are_refused_and_tell_nothing_of_the_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    whole = write_dicom(tmp_path / "a.dcm", noise, rle=True).read_bytes()
    for number, content in enumerate([b"", b"text" * 99, *(whole[:n] for n in range(140, 1600, 97))]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        with pytest.raises(UnreadableFile, match=path.name) as caught:
            _opened(path).read_frame(0)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value).lower()
    captured = capfd.readouterr()
    assert not [text for text in (caplog.text, captured.out, captured.err) if text]


def test_a_damaged_number_is_not_quoted(tmp_path: Path) -> None:
    place: dict[str, Any] = {"ImagePositionPatient": [1.5, 2.5, 3.5]}
    content = write_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), **place).read_bytes()
    assert content.count(b"1.5\\2.5\\3.5") == 1
    (tmp_path / "a.dcm").write_bytes(content.replace(b"1.5\\2.5\\3.5", b"Mis\\Doe\\3.5"))
    scan = _opened(tmp_path / "a.dcm")
    assert scan.no_volume == "has no usable place: ImagePositionPatient is not a number"
    assert scan.read_frame(0).shape == (4, 5, 3)


@pytest.mark.parametrize("part", [slice(0, 14), slice(14, 28)])
def test_real_tilted_series_by_halves(tmp_path: Path, part: slice) -> None:
    files = _real_series()[part]
    for file in files:
        shutil.copy(file, tmp_path)
    scan = _opened(tmp_path)
    assert scan.no_volume is None
    assert scan.geometry is not None
    headers = sorted(
        (pydicom.dcmread(file) for file in files), key=lambda header: float(header.SliceLocation)
    )
    if headers[0].ImagePositionPatient[2] > headers[-1].ImagePositionPatient[2]:
        headers.reverse()
    for number, header in enumerate(headers):
        x, y = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
        rows, columns = (float(each) for each in header.PixelSpacing)
        expected = np.array(header.ImagePositionPatient, float) + 100 * x * columns + 7 * y * rows
        voxel = apply_affine(scan.geometry.affine, (100, 7, number))
        assert np.allclose(voxel, expected * (-1, -1, 1), atol=1e-3)


def test_real_series_of_changing_distance_makes_no_volume() -> None:
    scan = open_dicom(found(SHARED / "dicom-ct-ge-head", "dicom", _real_series()), Reading())
    assert (scan.geometry, scan.write_volume) == (None, None)
    assert "distance from slice to slice changes (1.08 to 7.00 mm)" in str(scan.no_volume)
    assert scan.write_slices is not None
    assert scan.frame_count == 28


def _real_series() -> list[Path]:
    series = SHARED / "dicom-ct-ge-head"
    if not series.exists():
        pytest.skip(f"no {series}")
    return sorted(series.iterdir())
