from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from tests.formats.generators import found, write_dicom
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.records import Reading, Window

HOUNSFIELD: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -1024}
VALUES = np.array([[0, 924, 1024, 1124, 4000]], np.int16)  # -1024, -100, 0, 100, 2976 HU


def _grey(path: Path, window: Window | None = None) -> list[int]:
    frame = open_dicom(found(path, "dicom"), Reading(window=window)).read_frame(0)
    assert (frame[..., 0] == frame[..., 1]).all()
    assert (frame[..., 0] == frame[..., 2]).all()
    return [int(each) for each in frame[0, :, 0]]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: -100 HU black, 100 HU white; the first of several windows
        ({"WindowCenter": [0.5, 40], "WindowWidth": [201, 400]}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": 0.5, "WindowWidth": 1}, [0, 0, 0, 255, 255]),
        ({"WindowCenter": 0, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}, [0, 64, 128, 191, 255]),
        # 255 / (1 + exp(-4 (x - c) / w))
        ({"WindowCenter": 0, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}, [0, 69, 128, 186, 255]),
    ],
)
def test_windows_follow_the_standard(tmp_path: Path, elements: dict[str, Any], expected: list[int]) -> None:
    path = write_dicom(tmp_path / "a.dcm", VALUES, **HOUNSFIELD, **elements)
    assert _grey(path) == expected
    inverse = write_dicom(
        tmp_path / "b.dcm", VALUES, PhotometricInterpretation="MONOCHROME1", **HOUNSFIELD, **elements
    )
    assert _grey(inverse) == [255 - each for each in expected]


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("ct_only", [True, False])
def test_a_window_that_is_asked_for(tmp_path: Path, modality: str, ct_only: bool) -> None:
    elements = {**HOUNSFIELD, "WindowCenter": 0.5, "WindowWidth": 201, "Modality": modality}
    path = write_dicom(tmp_path / "a.dcm", VALUES, **elements)
    own, asked = [0, 0, 128, 255, 255], [0, 102, 153, 204, 255]
    window = Window(-300, 200, ct_only)
    assert _grey(path, window) == (own if ct_only and modality == "MR" else asked)
    inverse = write_dicom(
        tmp_path / "b", VALUES, **{**elements, "PhotometricInterpretation": "MONOCHROME1"}
    )
    assert _grey(inverse, Window(-300, 200)) == [255 - each for each in asked]


def test_a_window_says_nothing_of_colours(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    scan = open_dicom(found(write_dicom(tmp_path / "a", picture), "dicom"), Reading(window=Window(0, 9)))
    assert np.array_equal(scan.read_frame(0), picture)


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"WindowCenter": 5, "WindowWidth": 0},
        {"WindowCenter": 5},
        {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "MAGIC"},
    ],
)
def test_without_a_usable_window_percentiles_of_the_series(tmp_path: Path, window: dict[str, Any]) -> None:
    for number in range(4):
        pixels = np.full((20, 20), 1000 * number, dtype=np.uint16)
        elements: dict[str, Any] = {"ImagePositionPatient": [0.0, 0.0, float(number)], **window}
        write_dicom(tmp_path / "s" / f"{number}.dcm", pixels, **elements)
    scan = open_dicom(found(tmp_path, "dicom", sorted((tmp_path / "s").iterdir())), Reading())
    assert [int(scan.read_frame(n)[0, 0, 0]) for n in range(4)] == [0, 85, 170, 255]


@pytest.mark.parametrize(
    ("padding", "filled"),
    [
        ({"PixelPaddingValue": -2000}, [-2000]),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}, [-2000, -1995, -1990]),
        ({"PixelPaddingValue": -1990, "PixelPaddingRangeLimit": -2000}, [-2000, -1995, -1990]),
    ],
)
def test_padding_does_not_count_among_the_values(
    tmp_path: Path, padding: dict[str, Any], filled: list[int]
) -> None:
    pixels = np.resize(np.array(filled, np.int16), (40, 40))
    pixels[10:30, 10:30] = np.linspace(0, 1000, 400).reshape(20, 20)
    path = write_dicom(tmp_path / "a", pixels, RescaleSlope=2, RescaleIntercept=5, **padding)
    frame = open_dicom(found(path, "dicom"), Reading()).read_frame(0)[..., 0]
    inside = frame[10:30, 10:30].reshape(-1)
    assert abs(int(inside[200]) - 128) <= 1
    assert set(frame[0].tolist()) == {0}
    bare = open_dicom(
        found(write_dicom(tmp_path / "b", pixels, RescaleSlope=2, RescaleIntercept=5), "dicom"), Reading()
    )
    assert int(bare.read_frame(0)[10, 10, 0]) > 100  # what the padding would do


def test_padding_written_as_unsigned(tmp_path: Path) -> None:
    pixels = np.full((40, 40), -2000, np.int16)
    pixels[10:30, 10:30] = np.linspace(0, 1000, 400).reshape(20, 20)
    path = write_dicom(tmp_path / "a", pixels, PixelPaddingValue=-2000)
    content = path.read_bytes()
    assert content.count(b"\x28\0\x20\x01SS") == 1
    path.write_bytes(content.replace(b"\x28\0\x20\x01SS", b"\x28\0\x20\x01US"))
    assert abs(int(open_dicom(found(path, "dicom"), Reading()).read_frame(0)[20, 10, 0]) - 128) <= 1


def _lut(descriptor: list[int], entries: Any, vr: str = "US") -> pydicom.Dataset:
    lut = pydicom.Dataset()
    lut.add_new("LUTDescriptor", "US", descriptor)
    lut.add_new("LUTData", vr, entries)
    return lut


@pytest.mark.parametrize("vr", ["US", "OW"])
def test_voi_lut(tmp_path: Path, vr: str) -> None:
    entries: Any = [0, 50, 200, 255]
    lut = _lut([4, 10, 8], entries if vr == "US" else np.array(entries, np.uint16).tobytes(), vr)
    pixels = np.array([[9, 10, 11, 12, 13, 99]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, VOILUTSequence=[lut], WindowCenter=1, WindowWidth=2)
    assert _grey(path) == [0, 0, 50, 200, 255, 255]
    assert _grey(path, Window(9, 14)) == [0, 51, 102, 153, 204, 255]


@pytest.mark.parametrize(
    ("descriptor", "named"),
    [([4, 10], "LUTDescriptor is not 3 whole numbers"), ([4, 10, 0], "VOILUTSequence does not state")],
)
def test_a_damaged_voi_lut_is_named(tmp_path: Path, descriptor: list[int], named: str) -> None:
    lut = _lut(descriptor, [0, 50, 200, 255])
    path = write_dicom(tmp_path / "a.dcm", VALUES, VOILUTSequence=[lut])
    with pytest.raises(UnreadableFile, match=f"damaged: its {named}"):
        _grey(path)


def test_modality_lut(tmp_path: Path) -> None:
    pixels = np.array([[-3, -2, -1, 0, 1, 127]], np.int8)
    lut = _lut([4, 0, 12], [0, 1000, 3000, 4000])
    lut.LUTDescriptor = [4, 65534, 12]  # -2, as it is written
    path = write_dicom(
        tmp_path / "a", pixels, ModalityLUTSequence=[lut], WindowCenter=2000.5, WindowWidth=4001
    )
    assert _grey(path) == [0, 0, 64, 191, 255, 255]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("wide", [True, False])
def test_palette(tmp_path: Path, bits: int, wide: bool) -> None:
    """16-bit tables of 8-bit or 16-bit colours; an index beyond 8 bits; before and behind the table."""
    scale = 256 if bits == 16 else 1
    pixels = np.array([[0, 300, 301, 302, 999]], np.uint16)
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in (("Red", [10, 255, 30]), ("Green", [40, 50, 60]), ("Blue", [0, 80, 90])):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [3, 300, bits]
        stored = np.array(entries, np.uint16) * scale
        packed = stored.tobytes() if wide or bits == 16 else stored.astype(np.uint8).tobytes() + b"\0"
        tables[f"{name}PaletteColorLookupTableData"] = packed
    frame = open_dicom(found(write_dicom(tmp_path / "p", pixels, **tables), "dicom"), Reading()).read_frame(
        0
    )
    first, last = [10, 40, 0], [30, 60, 90]
    assert frame.tolist() == [[first, first, [255, 50, 80], last, last]]


def test_a_palette_that_is_missing_is_named_as_damage(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "p", np.zeros((4, 4), np.uint8), PhotometricInterpretation="PALETTE COLOR"
    )
    with pytest.raises(UnreadableFile, match=r"damaged: its RedPalette.*Descriptor is missing"):
        open_dicom(found(path, "dicom"), Reading()).read_frame(0)


@pytest.mark.parametrize(
    ("elements", "named"),
    [
        ({"GreenPaletteColorLookupTableData": None}, "GreenPaletteColorLookupTableData is missing"),
        ({"BluePaletteColorLookupTableDescriptor": [4, 0]}, "BluePalette.*Descriptor is not 3 whole"),
        (
            {
                "RedPaletteColorLookupTableData": None,
                "SegmentedRedPaletteColorLookupTableData": b"\7\0\0\0",
            },
            "segmented palettes cannot be expanded",
        ),
    ],
)
def test_a_damaged_palette_is_named(tmp_path: Path, elements: dict[str, Any], named: str) -> None:
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = b"\0" * 8
    path = write_dicom(tmp_path / "p", np.zeros((4, 4), np.uint8), **{**tables, **elements})
    with pytest.raises(UnreadableFile, match=f"damaged: its {named}"):
        open_dicom(found(path, "dicom"), Reading()).read_frame(0)


@pytest.mark.parametrize("zeroed", ["Descriptor", "Data"])
def test_a_zeroed_palette_is_black(tmp_path: Path, zeroed: str) -> None:
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = (
            [0] * 3 if zeroed == "Descriptor" else [4, 0, 16]
        )
        tables[f"{name}PaletteColorLookupTableData"] = b"\0" * 8
    path = write_dicom(tmp_path / "p", np.arange(16, dtype=np.uint8).reshape(4, 4), **tables)
    assert not open_dicom(found(path, "dicom"), Reading()).read_frame(0).any()


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (b"DS\x04\x0040.0", "WindowWidth"),
        (b"DS\x06\x001000.0", "RescaleIntercept"),
    ],
)
def test_a_damaged_number_is_named_and_not_quoted(tmp_path: Path, written: bytes, named: str) -> None:
    elements: dict[str, Any] = {"RescaleIntercept": 1000, "WindowCenter": 7, "WindowWidth": 40}
    path = write_dicom(tmp_path / "a", VALUES, **elements)
    content = path.read_bytes()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, written[:4] + b"MaryLo"[: len(written) - 4]))
    scan = open_dicom(found(path, "dicom"), Reading())
    with pytest.raises(UnreadableFile, match=f"damaged: its {named} is not a number$"):
        scan.read_frame(0)


def test_ybr(tmp_path: Path) -> None:
    pixels: NDArray[np.uint8] = np.zeros((4, 4, 3), np.uint8)
    pixels[...] = (76, 85, 255)  # pure red, PS3.3 C.7.6.3.1.2
    path = write_dicom(tmp_path / "ybr.dcm", pixels, PhotometricInterpretation="YBR_FULL")
    red = open_dicom(found(path, "dicom"), Reading()).read_frame(0)[1, 1].astype(int)
    assert np.abs(red - (255, 0, 0)).max() <= 2
