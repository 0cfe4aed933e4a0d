"""DICOM SEG objects of several writers, whole and broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.formats.generators import write_dicom
from tests.formats.seg_fakes import KINDS, ORIGIN, blobs, masks, segment, spooled, uid_of
from tests.formats.whole_segs import UPRIGHT, oblique, reorder, write_whole
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_seg import write_seg
from vlsmctl.formats.dicom_seg_reading import is_segmentation, open_frames, read_segmentation

SHAPE = (5, 7, 4)  # 35 pixels a frame: frames begin within bytes


def odd_labels(highest: int = 2) -> NDArray[np.uint8]:
    """[columns, rows, slices]; the third slice is empty."""
    drawn = np.random.default_rng(3).integers(0, highest + 1, SHAPE).astype(np.uint8)
    drawn[:, :, 2] = 0
    return drawn


def labels_of(path: Path, affine: NDArray[np.float64] = UPRIGHT) -> NDArray[np.int64]:
    """By the places of the frames, which must be voxels of the grid."""
    seg = read_segmentation(path)
    labels = np.zeros(SHAPE, np.int64)
    read = open_frames(seg)
    for number, frame in enumerate(seg.frames):
        column, row, index = np.linalg.solve(affine[:3, :3], frame.start - affine[:3, 3])
        assert (column, row, index) == pytest.approx((0, 0, round(index)), abs=1e-6)
        assert frame.columns == pytest.approx(affine[:3, 0])
        assert frame.rows == pytest.approx(affine[:3, 1])
        values = read(number).T
        assert not (labels[:, :, round(index)] * values).any()
        labels[:, :, round(index)] += values
    return labels


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("affine", [UPRIGHT, oblique()], ids=["upright", "oblique"])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_segments_of_another_writer(
    tmp_path: Path, kind: str, affine: NDArray[np.float64], keep_empty: bool
) -> None:
    path = write_whole(tmp_path / "a.dcm", odd_labels(), affine, kind=kind, keep_empty=keep_empty)
    assert np.array_equal(labels_of(path, affine), odd_labels())
    seg = read_segmentation(path)
    assert (seg.kind, seg.shape, seg.segments) == (kind, (7, 5), {1: "part 1", 2: "part 2"})
    assert len(seg.frames) == (4 if keep_empty else 3) * (2 if kind == "BINARY" else 1)
    assert seg.frame_of_reference == "1.2.3.4.5.0"
    assert [frame.slice_spacing for frame in seg.frames] == pytest.approx([2.5] * len(seg.frames))
    assert {frame.source for frame in seg.frames} >= {(f"1.2.3.4.5.{n}", 1) for n in (1, 2, 4)}


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("BINARY", ImplicitVRLittleEndian), ("BINARY", DeflatedExplicitVRLittleEndian),
        ("LABELMAP", DeflatedExplicitVRLittleEndian), ("LABELMAP", RLELossless),
    ],
)  # fmt: skip
def test_ways_to_store_pixels(tmp_path: Path, kind: str, syntax: Any) -> None:
    path = write_whole(tmp_path / "a.dcm", odd_labels(), kind=kind, syntax=syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(labels_of(path), odd_labels())


def test_frames_in_any_order(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.dcm", odd_labels())
    reorder(path, [4, 0, 5, 2, 1, 3])
    assert np.array_equal(labels_of(path), odd_labels())


@pytest.mark.parametrize("full", [2, 255])
def test_fractions_count_where_they_are_more_than_half(tmp_path: Path, full: int) -> None:
    drawn = np.random.default_rng(0).random(SHAPE)
    drawn[:, :, 0] = 0.5
    stored = np.around(drawn.astype(np.float32) * np.float32(full)).astype(np.uint8)
    path = write_whole(tmp_path / "a.dcm", drawn, kind="FRACTIONAL", full=full, keep_empty=True)
    assert np.array_equal(labels_of(path), 2 * stored.astype(int) > full)
    assert labels_of(path)[:, :, 0].all() == (full == 255)  # 128 of 255; 1 of 2 is not more than half


def test_another_background_than_0(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.dcm", odd_labels(), kind="LABELMAP", PixelPaddingValue=2)
    assert sorted(read_segmentation(path).segments) == [0, 1]
    with pytest.raises(UnreadableFile, match="segment 0"):
        labels_of(path)
    dataset = pydicom.dcmread(path)
    values = np.frombuffer(dataset.PixelData, np.uint8)
    dataset.PixelData = np.where(values == 0, 2, values).astype(np.uint8).tobytes()
    pydicom.dcmwrite(path, dataset)
    assert np.array_equal(labels_of(path), odd_labels() == 1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_predict_writes_comes_back(tmp_path: Path, kind: str) -> None:
    sources = KINDS[kind](tmp_path)
    count = len(sources)
    empty = () if count == 1 else (0,)
    path = tmp_path / "a.seg.dcm"
    write_seg(sources, [masks("polyp", count, 1, empty), masks("liver", count, 2, empty)], ORIGIN, path)
    seg = read_segmentation(path)
    assert seg.placed == (sources[0].place is not None)
    assert list(seg.segments.values()) == ["polyp", "liver"]
    uids = {uid_of(source.path): source for source in sources}
    read = open_frames(seg)
    found = set()
    for number, frame in enumerate(seg.frames):
        assert frame.segment is not None
        instance, index = frame.source
        one_file = [n for n, each in enumerate(sources) if each.path == uids[instance].path]
        source = one_file[index - 1]
        expected = blobs(count, frame.segment, empty)[source] * frame.segment
        assert np.array_equal(read(number), expected)
        found.add((frame.segment, source))
        place = sources[source].place
        assert (place is None) == (frame.place is None)
        if place is not None and frame.place is not None:
            assert frame.place.position == pytest.approx(place.position)
    assert found == {(n, source) for n in (1, 2) for source in range(count) if source not in empty}


def test_probabilities_of_predict(tmp_path: Path) -> None:
    sources = KINDS["series"](tmp_path)
    drawn = np.random.default_rng(3).random((5, 30, 37), np.float32)
    write_seg(sources, [segment("polyp", spooled(list(drawn)))], ORIGIN, tmp_path / "a.seg.dcm")
    seg = read_segmentation(tmp_path / "a.seg.dcm")
    read = open_frames(seg)
    assert (seg.kind, seg.full, len(seg.frames)) == ("FRACTIONAL", 255, 5)
    for number, frame in enumerate(drawn):
        assert np.array_equal(read(number), np.rint(frame * 255) > 127.5)


def drop(path: Path, name: str, which: slice = slice(None), shared: bool = False) -> None:
    """Takes a functional group out."""
    dataset = pydicom.dcmread(path)
    groups = "SharedFunctionalGroupsSequence" if shared else "PerFrameFunctionalGroupsSequence"
    for group in dataset[groups].value[which]:
        delattr(group, name)
    pydicom.dcmwrite(path, dataset)


def test_frames_must_say_where_they_lie_all_or_none(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.dcm", odd_labels())
    drop(path, "PlanePositionSequence", slice(2, 4))
    with pytest.raises(UnreadableFile, match="some of its frames do not say where"):
        read_segmentation(path)
    path = write_whole(tmp_path / "b.dcm", odd_labels())
    drop(path, "PlanePositionSequence")
    assert not read_segmentation(path).placed
    path = write_whole(tmp_path / "c.dcm", odd_labels())
    drop(path, "PlaneOrientationSequence", shared=True)
    with pytest.raises(UnreadableFile, match=r"do not say where they lie \(PlaneOrientationSequence\)"):
        read_segmentation(path)
    path = write_whole(tmp_path / "d.dcm", odd_labels())
    drop(path, "SegmentIdentificationSequence", slice(1, 2))
    with pytest.raises(UnreadableFile, match="frame 2 does not say which segment"):
        read_segmentation(path)


def with_groups(**elements: Any) -> Dataset:
    group = Dataset()
    for name, items in elements.items():
        item = Dataset()
        for keyword, value in items.items():
            setattr(item, keyword, value)
        setattr(group, name, [item])
    return group


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"SegmentationType": "SECRET"}, "found another kind"),
        ({"TotalPixelMatrixColumns": 4096}, "slide"),
        ({"NumberOfFrames": 5}, "describes 6 frames"),
        ({"PerFrameFunctionalGroupsSequence": None}, "describes 0 frames"),
        (
            {
                "SharedFunctionalGroupsSequence": [
                    with_groups(
                        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0.2, 1, 0]},
                        PixelMeasuresSequence={"PixelSpacing": [1, 1]},
                    )
                ]
            },
            "frame 1 lies nowhere: ImageOrientationPatient",
        ),
        ({"Rows": 0}, "Rows"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, elements: dict[str, Any], says: str) -> None:
    path = write_whole(tmp_path / "a.dcm", odd_labels(), **elements)
    with pytest.raises(UnreadableFile, match=says) as refused:
        read_segmentation(path)
    assert "SECRET" not in str(refused.value)


def test_what_is_a_segmentation(tmp_path: Path) -> None:
    seg = write_whole(tmp_path / "a.dcm", odd_labels())
    image = write_dicom(tmp_path / "image.dcm", np.zeros((8, 8), np.uint16))
    contours = write_dicom(tmp_path / "c.dcm", np.zeros((8, 8), np.uint16), Modality="RTSTRUCT")
    assert [is_segmentation(path) for path in (seg, image, contours)] == [True, False, False]
    for path in (image, contours):
        with pytest.raises(UnreadableFile, match="expected a DICOM SEG, found another DICOM object"):
            read_segmentation(path)
    cut = tmp_path / "cut.dcm"
    for content in (b"", b"text", seg.read_bytes()[:140], seg.read_bytes()[:1500]):
        cut.write_bytes(content)
        assert is_segmentation(cut)  # so that reading it says what is wrong, and it does not just vanish
        with pytest.raises(UnreadableFile):
            read_segmentation(cut)
    cut.write_bytes(image.read_bytes()[:-20])
    assert not is_segmentation(cut)
    assert is_segmentation(tmp_path / "gone.dcm")


def read_all(path: Path) -> None:
    seg = read_segmentation(path)
    read = open_frames(seg)
    for number in range(len(seg.frames)):
        assert read(number).shape == seg.shape


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_damage_is_always_an_unreadable_file(tmp_path: Path, kind: str) -> None:
    path = write_whole(tmp_path / "whole.dcm", odd_labels(), kind=kind, PatientName="Secret^Person")
    whole = path.read_bytes()
    broken = tmp_path / "broken.dcm"
    generator = np.random.default_rng(0)
    contents = [whole[: int(length)] for length in np.linspace(0, len(whole) - 3, 40)]
    for _ in range(120):
        changed = bytearray(whole)
        for place in generator.integers(132, len(whole), 3):
            changed[place] = generator.integers(256)
        contents.append(bytes(changed))
    refused: dict[int, str] = {}
    for number, content in enumerate(contents):
        broken.write_bytes(content)
        try:
            read_all(broken)
        except UnreadableFile as error:
            refused[number] = str(error)
    assert all(number in refused for number in range(40)), "a truncated file is never whole"
    assert len(refused) > 45
    for said in refused.values():
        assert said.startswith(f"{broken}: ")
        assert "\n" not in said
        assert "Secret" not in said
