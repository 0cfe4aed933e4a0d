from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.formats.seg_fakes import (
    AXIAL,
    CORONAL,
    ORIGIN,
    blobs,
    check_frames_against,
    check_highdicom_reads,
    check_places,
    clip,
    ct_series,
    dciodvfy_errors,
    enhanced,
    frames_of,
    indices_of,
    masks,
    place,
    segment,
    source_image,
    spooled,
    uid_of,
    write_series,
    write_source,
)
from vlsmctl.formats.dicom_frames import SourceFrame
from vlsmctl.formats.dicom_geometry import Place
from vlsmctl.formats.dicom_seg import write_seg

PLACES: dict[str, list[Place]] = {
    "even": [place(3.0 * n) for n in range(4)],
    "numbers with all their digits": [place(z) for z in (-0.1, 0.33333333333333, 1234.56789012345, 1e-5)],
    "uneven": [place(z) for z in (0, 1, 5, 5.5)],
    "sheared": [place(3.0 * n, x=0.75 * n) for n in range(4)],
    "doubled": [place(z) for z in (0, 3, 3, 6)],
    "all at one place": [place(0)] * 4,
    "mixed pixel spacing": [place(3.0 * n, spacing=0.5 + 0.25 * (n % 2)) for n in range(4)],
    "mixed orientation": [place(3.0 * n, orientation=(AXIAL, CORONAL)[n % 2]) for n in range(4)],
    "mixed orientation at one place": [place(0, orientation=(AXIAL, CORONAL)[n % 2]) for n in range(4)],
    "downwards": [place(-3.0 * n) for n in range(4)],
}


@pytest.mark.parametrize("name", PLACES)
def test_every_frame_lies_where_its_source_says(tmp_path: Path, name: str) -> None:
    sources = write_series(tmp_path, PLACES[name])
    frames = [blobs(4, 5, ()), blobs(4, 6, (2,))]
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("a", spooled(frames[0])), segment("b", spooled(frames[1]))], ORIGIN, target)
    check_places(target, sources)
    check_frames_against(target, sources, frames)
    check_highdicom_reads(target, sources, frames)
    assert pydicom.dcmread(target).FrameOfReferenceUID == "1.2.3.9"
    assert len(set(indices_of(target))) == 7
    assert dciodvfy_errors(target) == []


@pytest.mark.parametrize(
    ("name", "spacing"),
    [
        ("even", 3.0),
        ("downwards", 3.0),
        ("doubled", 3.0),
        ("uneven", 0.5),  # the grid on which 0, 1, 5 and 5.5 lie
        ("sheared", None),
        ("numbers with all their digits", None),
        ("mixed orientation", None),
    ],
)
def test_only_slices_on_a_grid_state_their_distance(
    tmp_path: Path, name: str, spacing: float | None
) -> None:
    """3D Slicer puts frames on a grid of this distance."""
    target = tmp_path / "a.seg.dcm"
    write_seg(write_series(tmp_path, PLACES[name]), [masks("polyp", 4, empty=(2,))], ORIGIN, target)
    measures = pydicom.dcmread(target).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.get("SpacingBetweenSlices") == spacing


@pytest.mark.parametrize(
    ("places", "thickness"), [([0.0], 1.0), ([0.0, 3.0, 6.0], 3.0), ([0.0, 3.1, 8.9], 1.0)]
)
def test_a_source_without_a_thickness(tmp_path: Path, places: list[float], thickness: float) -> None:
    sources = write_series(tmp_path, [dataclasses.replace(place(z), thickness=None) for z in places])
    frames = blobs(len(places), empty=())
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", spooled(frames))], ORIGIN, target)
    check_places(target, sources)
    check_highdicom_reads(target, sources, [frames])
    assert dciodvfy_errors(target) == []


def test_a_single_marked_slice_states_its_thickness_in_any_case(tmp_path: Path) -> None:
    target = tmp_path / "a.seg.dcm"
    sources = write_series(tmp_path, PLACES["sheared"])
    write_seg(sources, [masks("polyp", 4, empty=(0, 1, 3))], ORIGIN, target)
    measures = pydicom.dcmread(target).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 2.5


def test_the_frames_of_an_enhanced_file_lie_where_it_says(tmp_path: Path) -> None:
    sources = enhanced(tmp_path)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 4)], ORIGIN, target)
    check_places(target, sources)


def test_highdicom_finds_the_volume_between_sparse_frames(tmp_path: Path) -> None:
    """Its own reader goes by positions and the distance between slices, not by the references."""
    from highdicom.seg import segread

    sources, frames = ct_series(tmp_path, 8), blobs(8, empty=(0, 2, 3, 5, 7))
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", spooled(frames))], ORIGIN, target)
    volume = segread(target).get_volume(combine_segments=True, allow_missing_positions=True)
    assert volume.spacing == pytest.approx((2.5, 0.7, 0.95))
    for number in (1, 4, 6):
        index = volume.map_reference_to_indices(np.array([sources[number].place.position]))[0]  # type: ignore[union-attr]
        assert index == pytest.approx(np.rint(index), abs=1e-6)
        np.testing.assert_array_equal(volume.array[int(np.rint(index[0]))], frames[number])


def test_positions_without_a_frame_of_reference_get_one_from_the_series(tmp_path: Path) -> None:
    sources = ct_series(tmp_path, FrameOfReferenceUID=None)
    first, second = tmp_path / "a.seg.dcm", tmp_path / "b.seg.dcm"
    write_seg(sources, [masks("polyp", 5)], ORIGIN, first)
    write_seg(sources, [masks("liver", 5)], ORIGIN, second)
    made = {pydicom.dcmread(each).FrameOfReferenceUID for each in (first, second)}
    assert len(made) == 1
    assert next(iter(made)).startswith("2.25.")
    assert dciodvfy_errors(first) == []


def test_places_in_different_frames_of_reference_are_not_put_into_one(tmp_path: Path) -> None:
    sources = ct_series(tmp_path)
    write_source(sources[2].path, FrameOfReferenceUID="1.2.3.10")
    frames = blobs(5)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [segment("polyp", spooled(frames))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert "FrameOfReferenceUID" not in seg
    assert all("PlanePositionSequence" not in groups for _, groups, _ in frames_of(target))
    check_frames_against(target, sources, [frames])
    assert dciodvfy_errors(target) == []


def test_a_picture_without_a_place_has_no_geometry(tmp_path: Path) -> None:
    """Not even with a frame of reference, as many X-rays have; its reference says which pixels it is on."""
    path = write_source(
        tmp_path / "a.dcm", PixelSpacing=[0.25, 0.5], FrameOfReferenceUID="1.2.3.9",
        PatientOrientation=["L", "F"],
    )  # fmt: skip
    target = tmp_path / "a.seg.dcm"
    sources, frames = [SourceFrame(path, 0, 1, None)], blobs(1, empty=())
    write_seg(sources, [segment("polyp", spooled(frames))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    assert "FrameOfReferenceUID" not in seg
    assert seg.PatientOrientation == ["L", "F"]
    check_highdicom_reads(target, sources, [frames])
    assert dciodvfy_errors(target) == []


# References


def test_all_sources_are_referred_to_and_marked_frames_alone_are_stored(tmp_path: Path) -> None:
    sources = ct_series(tmp_path)
    target = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", 5, empty=(0, 1, 4))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    uids = [uid_of(each.path) for each in sources]
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4.5"
    assert [each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence] == uids
    assert [each.ReferencedSOPInstanceUID for each in seg.SourceImageSequence] == uids
    marked = [source_image(groups).ReferencedSOPInstanceUID for _, groups, _ in frames_of(target)]
    assert marked == uids[2:4]
    assert all("ReferencedFrameNumber" not in source_image(groups) for _, groups, _ in frames_of(target))


def test_the_frames_of_a_clip_are_numbered_from_one(tmp_path: Path) -> None:
    target = tmp_path / "a.seg.dcm"
    write_seg(clip(tmp_path), [masks("polyp", 6, empty=(0, 1, 4))], ORIGIN, target)
    seg = pydicom.dcmread(target)
    numbers = [source_image(groups).ReferencedFrameNumber for _, groups, _ in frames_of(target)]
    assert numbers == [3, 4, 6]
    assert indices_of(target) == [(1, 1), (1, 2), (1, 3)]
    assert "FrameOfReferenceUID" not in seg
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 12.5)
    assert seg.LossyImageCompressionMethod == "ISO_10918_1"
