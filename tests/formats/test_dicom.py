from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from tests.formats.generators import AXIAL, found, write_dicom
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.raster import read_mask_picture
from vlsmctl.formats.records import Scan
from vlsmctl.formats.scan import find_scans, open_scan

ROWS, COLUMNS, SLICES = 6, 8, 5
SPACING = (0.5, 0.75)  # from row to row, from column to column
MARK = (2, 3, 5)  # slice, row, column


def _rotated(seed: int) -> tuple[float, ...]:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return tuple(turn[:2].ravel())


def _positions(orientation: tuple[float, ...], step: float, tilt: float) -> NDArray[np.float64]:
    """tilt: mm that each slice is shifted along its own columns."""
    along_row, along_column = np.reshape(orientation, (2, 3))
    stride = np.cross(along_row, along_column) * step + along_column * tilt
    return np.array([-30.0, 20.0, 10.0]) + np.arange(SLICES)[:, np.newaxis] * stride


def _series(
    folder: Path,
    orientation: tuple[float, ...] = AXIAL,
    step: float = 2.5,
    tilt: float = 0.0,
    positions: NDArray[np.float64] | None = None,
    **elements: Any,
) -> Path:
    """Names and instance numbers say nothing of the order of the slices; the mark is brightest."""
    where = _positions(orientation, step, tilt) if positions is None else positions
    shuffled = np.random.default_rng(3).permutation(len(where))
    for number, position in enumerate(where):
        pixels = np.full((ROWS, COLUMNS), 100, dtype=np.int16)
        pixels[0, 0] = 100 + number
        if number == MARK[0]:
            pixels[MARK[1:]] = 2000
        write_dicom(
            folder / f"IM{shuffled[number]:03}",
            pixels,
            **{
                "ImagePositionPatient": list(position),
                "ImageOrientationPatient": list(orientation),
                "PixelSpacing": list(SPACING),
                "InstanceNumber": int(shuffled[(number + 2) % len(where)]),
                "RescaleSlope": 1,
                "RescaleIntercept": -1024,
                "WindowCenter": -200,
                "WindowWidth": 400,
                **elements,
            },
        )
    return folder


def _opened(folder: Path) -> Scan:
    founds, problems = find_scans([folder])
    assert not problems
    assert len(founds) == 1
    return open_scan(founds[0])


def _mark_in_mm(folder: Path) -> NDArray[np.float64]:
    """PS3.3 equation C.7.6.2.1-1 for the brightest pixel of all files, in RAS+; uses nothing of ours."""
    brightest, world = -np.inf, np.zeros(3)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array
        if pixels.max() > brightest:
            brightest = pixels.max()
            row, column = np.unravel_index(pixels.argmax(), pixels.shape)
            x = np.array(dataset.ImageOrientationPatient[:3], float) * float(dataset.PixelSpacing[1])
            y = np.array(dataset.ImageOrientationPatient[3:], float) * float(dataset.PixelSpacing[0])
            world = np.array(dataset.ImagePositionPatient, float) + x * column + y * row
    return world * (-1, -1, 1)


@pytest.mark.parametrize("tilt", [0.0, 1.2])
@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0), _rotated(0), _rotated(1)],
)
def test_mask_lies_on_its_pixel_in_mm(
    tmp_path: Path, orientation: tuple[float, ...], rle: bool, tilt: float
) -> None:
    folder = _series(tmp_path / "ct", tuple(float(x) for x in orientation), tilt=tilt, rle=rle)
    scan = _opened(folder)
    assert (scan.frame_count, scan.frame_shape, scan.suffix) == (SLICES, (ROWS, COLUMNS), ".nii.gz")
    frames = [scan.read_frame(n)[..., 0] for n in range(SLICES)]
    scan.write_mask([frame == 255 for frame in frames], tmp_path / "m.nii.gz")
    mask = nib.load(tmp_path / "m.nii.gz")
    lit = np.argwhere(np.asarray(mask.dataobj) > 0)
    assert len(lit) == 1
    assert np.allclose(apply_affine(mask.affine, lit[0]), _mark_in_mm(folder), atol=1e-4)
    assert scan.geometry is not None
    assert scan.geometry.voxel_ml == pytest.approx(0.5 * 0.75 * 2.5 / 1000)
    assert int(mask.header["sform_code"]) == 1
    assert int(mask.header["qform_code"]) == (0 if tilt else 1)  # a qform cannot hold a shear
    if not tilt:
        assert np.allclose(mask.get_qform(), mask.affine, atol=1e-4)


def test_frames_come_in_the_order_of_their_positions(tmp_path: Path) -> None:
    scan = _opened(_series(tmp_path / "ct", WindowCenter=-922, WindowWidth=8))
    marks = [int(scan.read_frame(n)[0, 0, 0]) for n in range(SLICES)]
    assert marks == sorted(set(marks))


def test_window_follows_the_standard(tmp_path: Path) -> None:
    pixels = np.array([[0, 924, 1024, 1124, 4000]], dtype=np.int16)
    elements: dict[str, Any] = {
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "WindowCenter": [0.5, 40],
        "WindowWidth": [201, 400],
    }
    path = write_dicom(tmp_path / "a.dcm", pixels, **elements)
    frame = open_dicom(found(path, "dicom")).read_frame(0)
    assert frame.shape == (1, 5, 3)
    assert frame[0, :, 0].tolist() == [0, 0, 128, 255, 255]  # PS3.3 C.11.2.1.2: -100 HU black, 100 HU white
    inverse = write_dicom(tmp_path / "b.dcm", pixels, PhotometricInterpretation="MONOCHROME1", **elements)
    assert np.array_equal(open_dicom(found(inverse, "dicom")).read_frame(0), 255 - frame)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 5, "WindowWidth": 0}])
def test_without_a_usable_window_percentiles_of_the_series(tmp_path: Path, window: dict[str, Any]) -> None:
    for number in range(4):
        pixels = np.full((20, 20), 1000 * number, dtype=np.uint16)
        elements: dict[str, Any] = {"ImagePositionPatient": [0.0, 0.0, float(number)], **window}
        write_dicom(tmp_path / "s" / f"{number}.dcm", pixels, **elements)
    scan = _opened(tmp_path / "s")
    assert [int(scan.read_frame(n)[0, 0, 0]) for n in range(4)] == [0, 85, 170, 255]


def test_voi_lut(tmp_path: Path) -> None:
    lut = pydicom.Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 10, 8])
    lut.add_new("LUTData", "US", [0, 50, 200, 255])
    path = write_dicom(
        tmp_path / "a.dcm", np.array([[9, 10, 11, 12, 13, 99]], np.uint16), VOILUTSequence=[lut]
    )
    frame = open_dicom(found(path, "dicom")).read_frame(0)
    assert frame[0, :, 0].tolist() == [0, 0, 50, 200, 255, 255]


def test_colour(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[...] = (200, 30, 60)
    rgb = open_dicom(found(write_dicom(tmp_path / "rgb.dcm", pixels), "dicom"))
    assert rgb.read_frame(0)[1, 1].tolist() == [200, 30, 60]
    pixels[...] = (76, 85, 255)  # pure red, PS3.3 C.7.6.3.1.2
    path = write_dicom(tmp_path / "ybr.dcm", pixels, PhotometricInterpretation="YBR_FULL")
    red = open_dicom(found(path, "dicom")).read_frame(0)[1, 1].astype(int)
    assert np.abs(red - (255, 0, 0)).max() <= 2
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in (("Red", [0, 65535]), ("Green", [0, 256]), ("Blue", [0, 32768])):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = np.array(entries, np.uint16).tobytes()
    path = write_dicom(tmp_path / "palette.dcm", np.array([[0, 1]], np.uint8), **tables)
    assert open_dicom(found(path, "dicom")).read_frame(0).tolist() == [[[0, 0, 0], [255, 1, 128]]]


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
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), **elements)
    geometry = open_dicom(found(path, "dicom")).geometry
    assert geometry is not None
    assert geometry.spacing == pytest.approx((1.0, 1.0, step))
    assert geometry.voxel_ml == (None if voxel_ml is None else pytest.approx(voxel_ml))


def test_a_series_needs_no_stated_thickness_for_its_volume(tmp_path: Path) -> None:
    geometry = _opened(_series(tmp_path / "ct", AXIAL)).geometry
    assert geometry is not None
    assert not geometry.thickness_assumed
    assert geometry.voxel_ml == pytest.approx(0.5 * 0.75 * 2.5 / 1000)


def test_photograph_without_position_gets_a_picture(tmp_path: Path) -> None:
    nowhere: dict[str, Any] = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    for number in range(2):
        pixels = np.full((4, 5, 3), number, np.uint8)
        write_dicom(tmp_path / "skin" / f"{number}.dcm", pixels, Modality="XC", **nowhere)
    founds, problems = find_scans([tmp_path])
    assert not problems
    assert [each.suffix for each in founds] == [".png", ".png"]  # one each: they are no volume
    scan = open_scan(founds[0])
    assert (scan.geometry, scan.suffix) == (None, ".png")
    scan.write_mask([np.eye(4, 5, dtype=bool)], tmp_path / "m.png")
    assert np.array_equal(read_mask_picture(tmp_path / "m.png"), np.eye(4, 5) * 255)


STRAIGHT = _positions(AXIAL, 2.5, 0.0)


def _moved(number: int, by: tuple[float, float, float]) -> NDArray[np.float64]:
    moved = STRAIGHT.copy()
    moved[number] += by
    return moved


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        (_moved(2, (0, 0, 0.03)), "distance from slice to slice changes"),
        (np.delete(STRAIGHT, 2, axis=0), "slices are missing"),
        (_moved(2, (0, 0, 2.5)), "position of another one"),
        (_moved(4, (0, 0.5, 0)), "changing gantry tilt"),
        (np.vstack([STRAIGHT, STRAIGHT]), "5 of its 10 slices lie at the position"),
    ],
)
def test_untrustworthy_positions_are_refused(
    tmp_path: Path, positions: NDArray[np.float64], reason: str
) -> None:
    with pytest.raises(UnreadableFile, match=reason) as caught:
        _opened(_series(tmp_path / "ct", positions=positions))
    assert str(tmp_path / "ct") in str(caught.value)


def test_rounded_positions_are_accepted(tmp_path: Path) -> None:
    _opened(_series(tmp_path / "ct", positions=_moved(2, (0, 0.004, -0.02))))


def test_steps_that_each_pass_but_add_up_are_refused(tmp_path: Path) -> None:
    heights = np.cumsum(np.concatenate([np.full(40, 1.0), np.full(40, 1.008)]))
    for number, height in enumerate(heights):
        position = [0.0, 0.0, float(height)]
        write_dicom(
            tmp_path / "s" / f"{number}.dcm", np.zeros((2, 2), np.uint8), ImagePositionPatient=position
        )
    with pytest.raises(UnreadableFile, match="off an even spacing"):
        _opened(tmp_path / "s")


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"ImageOrientationPatient": [1.0, 0, 0, 0, 0, 1.0]}, "different orientations"),
        ({"PixelSpacing": [0.5, 0.8]}, "different pixel spacings"),
        ({"ImagePositionPatient": None}, "1 of its 6 slices do not say where"),
        ({"PixelSpacing": [0.0, 0.5]}, "PixelSpacing is not above 0"),
        ({"ImageOrientationPatient": [1.0, 0, 0, 1.0, 0, 0]}, "perpendicular"),
        ({"ImageOrientationPatient": [1.0, 0, 0]}, "6 finite numbers"),
        ({"NumberOfFrames": 7}, "7 frames in one file"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
    ],
)
def test_one_wrong_slice_refuses_the_series(tmp_path: Path, elements: dict[str, Any], reason: str) -> None:
    folder = _series(tmp_path / "ct")
    last = {"ImagePositionPatient": [-30.0, 20.0, 22.5], "PixelSpacing": list(SPACING), **elements}
    write_dicom(folder / "last", np.zeros((ROWS, COLUMNS), np.int16), **last)
    with pytest.raises(UnreadableFile, match=reason) as caught:
        _opened(folder)
    assert "\n" not in str(caught.value)


def test_cut_off_pixels_are_seen_without_reading_them(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UnreadableFile, match="cut off"):
        open_dicom(found(path, "dicom"))


def test_mixed_sizes_are_refused(tmp_path: Path) -> None:
    folder = _series(tmp_path / "ct")
    write_dicom(folder / "last", np.zeros((9, 9), np.int16), ImagePositionPatient=[0.0, 0.0, 50.0])
    with pytest.raises(UnreadableFile, match="different sizes"):
        _opened(folder)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.3.4"])
def test_unknown_compression_is_named(tmp_path: Path, syntax: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8))
    content = path.read_bytes()
    assert content.count(b"1.2.840.10008.1.2.1\0") == 1
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0")[:20]))
    with pytest.raises(UnreadableFile, match="compression"):
        open_dicom(found(path, "dicom"))


def test_missing_decoder_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), rle=True)
    decoder = type("Missing", (), {"is_available": False})()
    monkeypatch.setattr("vlsmctl.formats.dicom.get_decoder", lambda _: decoder)
    monkeypatch.setattr(pydicom.uid.UID, "name", property(lambda _: "JPEG 2000 Image Compression"))
    with pytest.raises(UnreadableFile, match="pip install pylibjpeg pylibjpeg-openjpeg"):
        open_dicom(found(path, "dicom"))


def test_damaged_files_are_refused_and_tell_nothing_of_the_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    whole = write_dicom(tmp_path / "a.dcm", noise, rle=True).read_bytes()
    broken = bytearray(whole)
    place = whole.index(b"DS", 200)
    broken[place + 4 : place + 8] = b"Miss"
    for number, content in enumerate(
        [b"", b"text" * 99, bytes(broken), *(whole[:n] for n in range(140, 1600, 97))]
    ):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        with pytest.raises(UnreadableFile, match=path.name) as caught:
            open_dicom(found(path, "dicom")).read_frame(0)
        assert "\n" not in str(caught.value)
        assert "Secret" not in str(caught.value)
        assert "SECRET" not in str(caught.value)
    captured = capfd.readouterr()
    assert not [text for text in (caplog.text, captured.out, captured.err) if text]


def test_real_series_with_changing_tilt_is_refused() -> None:
    series = SHARED / "dicom-ct-ge-head"
    if not series.exists():
        pytest.skip(f"no {series}")
    with pytest.raises(UnreadableFile, match=r"distance from slice to slice changes.*changing gantry tilt"):
        _opened(series)
