from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.formats.generators import AXIAL, found, plane, write_clip, write_dicom, write_enhanced
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.dicom_frames import Arranged, arrange
from vlsmctl.formats.records import Reading, Scan

HEIGHTS = [4.0, 0.0, 2.0, 6.0]
FRAMES = np.arange(4, dtype=np.int16)[:, None, None] * np.full((5, 6), 10, np.int16)
SHARED = plane(None, AXIAL, (0.5, 0.75))
OWN = [plane((1, 2, height)) for height in HEIGHTS]


def _arranged(path: Path) -> Arranged:
    return arrange(found(path, "dicom"))


def _opened(path: Path) -> Scan:
    return open_dicom(found(path, "dicom"), Reading())


def _indices(path: Path) -> list[int]:
    return [source.index for source in _arranged(path).sources]


def test_enhanced_frames_are_sorted_by_position(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "e", FRAMES, OWN, SHARED)
    arranged = _arranged(path)
    assert [source.index for source in arranged.sources] == [1, 2, 0, 3]
    assert {source.count for source in arranged.sources} == {4}
    assert arranged.no_volume is None
    assert arranged.geometry is not None
    expected = np.array([[-0.75, 0, 0, -1], [0, -0.5, 0, -2], [0, 0, 2, 0], [0, 0, 0, 1]])
    assert np.allclose(arranged.geometry.affine, expected)


def test_a_frames_own_groups_come_before_the_shared_ones_and_those_before_the_file(tmp_path: Path) -> None:
    own = [dict(macros) for macros in OWN]
    own[1] = {**own[1], **plane(None, None, (9, 9))}
    top: dict[str, Any] = {"PixelSpacing": [3.0, 3.0], "ImageOrientationPatient": list(AXIAL)}
    shared = {"PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.75], "SliceThickness": 7.0}}
    arranged = _arranged(write_enhanced(tmp_path / "e", FRAMES, own, shared, **top))
    places = {source.index: source.place for source in arranged.sources}
    spacings = {index: place.row_spacing for index, place in places.items() if place}
    assert spacings == {0: 0.5, 1: 9.0, 2: 0.5, 3: 0.5}
    assert [place.thickness for _, place in sorted(places.items()) if place] == [7.0, None, 7.0, 7.0]
    assert arranged.no_volume == "its slices have different pixel spacings"


def test_values_and_windows_of_each_frame(tmp_path: Path) -> None:
    def shown(slope: float, center: float) -> dict[str, dict[str, Any]]:
        return {
            "PixelValueTransformationSequence": {"RescaleSlope": slope, "RescaleIntercept": -10},
            "FrameVOILUTSequence": {
                "WindowCenter": center, "WindowWidth": 100.0, "VOILUTFunction": "LINEAR_EXACT",
            },
        }  # fmt: skip

    pixels = np.full((4, 2, 2), 10, np.int16)
    own = [OWN[0], {**OWN[1], **shown(2, 10)}, {**OWN[2], **shown(6, 10)}, OWN[3]]
    shared = {**SHARED, **shown(1, 50)}
    # Of the file itself, which the groups stand before
    elements = {"RescaleSlope": 99, "RescaleIntercept": 99, "WindowCenter": 1, "WindowWidth": 2}
    scan = _opened(write_enhanced(tmp_path / "e", pixels, own, shared, **elements))
    # In slice order: 2 * 10 - 10 in -40 to 60; 6 * 10 - 10 in -40 to 60; 0 in 0 to 100, twice
    assert [int(scan.read_frame(n)[0, 0, 0]) for n in range(4)] == [128, 230, 0, 0]
    bare = _opened(write_enhanced(tmp_path / "b", pixels, OWN, SHARED, WindowCenter=10, WindowWidth=41))
    assert int(bare.read_frame(0)[0, 0, 0]) == 131  # the file's own window


@pytest.mark.parametrize("packed", [False, True])
def test_voi_luts_of_frames_come_before_the_files_own(tmp_path: Path, packed: bool) -> None:
    def lut(*entries: int) -> dict[str, dict[str, Any]]:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [len(entries), 9, 8])
        stored = np.array(entries, np.uint16).tobytes() if packed else list(entries)
        item.add_new("LUTData", "OW" if packed else "US", stored)
        return {"FrameVOILUTSequence": {"VOILUTSequence": [item]}}

    window = {
        "FrameVOILUTSequence": {"WindowCenter": 10, "WindowWidth": 8, "VOILUTFunction": "LINEAR_EXACT"}
    }
    pixels = np.full((4, 2, 2), 10, np.int16)
    own = [{**OWN[0], **lut(0, 70, 255)}, OWN[1], {**OWN[2], **window}, OWN[3]]
    elements = {"VOILUTSequence": [lut(255, 0, 255)["FrameVOILUTSequence"]["VOILUTSequence"][0]]}
    scan = _opened(write_enhanced(tmp_path / "e", pixels, own, {**SHARED, **lut(1, 200, 2)}, **elements))
    # In slice order, by the shared LUT, a window of its own, a LUT of its own, and the shared one
    assert [int(scan.read_frame(n)[0, 0, 0]) for n in range(4)] == [200, 128, 70, 200]
    bare = _opened(write_enhanced(tmp_path / "b", pixels, OWN, SHARED, **elements))
    assert int(bare.read_frame(0)[0, 0, 0]) == 0


@pytest.mark.parametrize("repeated", [[0.0, 0.0, 2.0, 2.0], [0.0, 2.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
def test_echoes_and_phases_keep_their_order(tmp_path: Path, repeated: list[float]) -> None:
    own = [plane((1, 2, height)) for height in repeated]
    path = write_enhanced(tmp_path / "e", FRAMES, own, SHARED)
    assert _indices(path) == [0, 1, 2, 3]
    arranged = _arranged(path)
    assert arranged.geometry is None
    assert "of its 4 slices lie at the position of another one" in str(arranged.no_volume)
    scan = _opened(path)
    assert len({int(scan.read_frame(n)[0, 0, 0]) for n in range(4)}) == 4
    assert scan.write_slices is not None


def test_groups_that_do_not_fit_the_frames_give_no_place(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "e", FRAMES, OWN[:3], {**SHARED, **plane((0, 0, 0))})
    arranged = _arranged(path)
    assert arranged.geometry is None
    assert "describes 3 frames, and announces 4" in str(arranged.no_volume)
    assert _opened(path).read_frame(3).shape == (5, 6, 3)


def test_enhanced_frames_without_position(tmp_path: Path) -> None:
    arranged = _arranged(write_enhanced(tmp_path / "e", FRAMES, [{}] * 4, SHARED))
    assert str(arranged.no_volume).startswith("4 of its 4 slices have no place")
    assert [source.place for source in arranged.sources] == [None] * 4


def test_an_enhanced_object_of_one_frame(tmp_path: Path) -> None:
    own = [
        {
            **plane((1, 2, 3), AXIAL, (1, 1)),
            "PixelMeasuresSequence": {"PixelSpacing": [1, 1], "SliceThickness": 3},
        }
    ]
    geometry = _arranged(write_enhanced(tmp_path / "e", FRAMES[:1], own)).geometry  # fmt: skip
    assert geometry is not None
    assert geometry.spacing == (1, 1, 3)


def test_a_clip_of_one_frame_may_have_a_place(tmp_path: Path) -> None:
    place: dict[str, Any] = {
        "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [1, 1],
    }  # fmt: skip
    assert _arranged(write_clip(tmp_path / "one", FRAMES[:1], **place)).geometry is not None
    assert _arranged(write_clip(tmp_path / "two", FRAMES[:2], **place)).geometry is None
    imager = {**place, "PixelSpacing": None, "ImagerPixelSpacing": [1, 1]}
    assert _arranged(write_clip(tmp_path / "three", FRAMES[:1], **imager)).geometry is None


def test_without_all_positions_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    paths = []
    for number, height in enumerate([3.0, None, 1.0]):
        place: dict[str, Any] = {"ImagePositionPatient": None if height is None else [0, 0, height]}
        paths.append(write_dicom(tmp_path / f"{number}", np.zeros((4, 4), np.uint8), **place))
    arranged = arrange(found(tmp_path, "dicom", paths))
    assert [source.path for source in arranged.sources] == paths
    assert str(arranged.no_volume).startswith("1 of its 3 slices have no place")
    assert [source.place is None for source in arranged.sources] == [False, True, False]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 10**6}, "cut off"),
        ({"Rows": 65535, "Columns": 65535}, "megapixels"),
        ({"Rows": 60000, "Columns": 2}, "cut off"),
        ({"Rows": 0}, "without an image"),
        ({"SamplesPerPixel": 4}, "damaged: its SamplesPerPixel is not one whole number from 1 to 3"),
        ({"SamplesPerPixel": 2}, "damaged: its SamplesPerPixel is neither 1 nor 3"),
        ({"SamplesPerPixel": [1, 1]}, "damaged: its SamplesPerPixel is not one whole"),
        ({"SamplesPerPixel": None}, "damaged: its SamplesPerPixel is missing"),
        ({"BitsAllocated": [16, 16]}, "damaged: its BitsAllocated is not one whole"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "damaged: its BitsAllocated is none of 1, 8, 16"),
        ({"BitsAllocated": None}, "damaged: its BitsAllocated is missing"),
        ({"BitsStored": 17}, "damaged: its BitsStored is not one whole number from 1 to 16"),
        ({"PixelRepresentation": 7}, "damaged: its PixelRepresentation is not one whole"),
        ({"NumberOfFrames": -4}, "damaged: its NumberOfFrames is not one whole"),
        ({"NumberOfFrames": [4, 4]}, "damaged: its NumberOfFrames is not one whole"),
        ({"Rows": [5, 5]}, "damaged: its Rows is not one whole"),
    ],
)
def test_absurd_sizes_are_refused_by_the_header(
    tmp_path: Path, elements: dict[str, Any], reason: str
) -> None:
    path = write_clip(tmp_path / "c", FRAMES, **elements)
    with pytest.raises(UnreadableFile, match=reason):
        _arranged(path)


def test_text_for_a_number_is_named_and_not_quoted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c", FRAMES)
    content = path.read_bytes()
    written = b"\x28\0\x08\0IS\2\0"
    assert content.count(written + b"4 ") == 1
    path.write_bytes(content.replace(written + b"4 ", written + b"Jo"))
    with pytest.raises(UnreadableFile, match="damaged: its NumberOfFrames is not one") as caught:
        _arranged(path)
    assert "Jo" not in str(caught.value).removeprefix(str(path))
