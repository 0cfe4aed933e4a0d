from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels import pack_bits

from tests.datasets import fakes
from tests.datasets.fakes import volumes as fake
from vlsmctl.datasets.generic import list_items
from vlsmctl.datasets.records import Item, LeftOut
from vlsmctl.datasets.segments import find_segmentation, segmentation_misfit, segmentation_planes
from vlsmctl.datasets.sources import read_image, read_mask
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.nifti import Grid

ODD = (5, 7, 3)  # 35 pixels a frame: frames begin within bytes


def grid(affine: NDArray[np.float64] = fake.AFFINE, shape: tuple[int, int, int] = ODD) -> Grid:
    """Of a series of those labels: columns to the left, rows to the back."""
    _, towards = fake.turned(np.zeros(shape), affine, "LPS")
    return Grid(towards, shape)


def odd_labels() -> NDArray[np.uint8]:
    """Of 0 to 3; nothing in the second slice."""
    drawn = np.random.default_rng(3).integers(0, 4, ODD).astype(np.uint8)
    drawn[:, :, 1] = 0
    return drawn


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_lie_on_their_slices_whatever_the_order_of_frames(tmp_path: Path, kind: str) -> None:
    path = fake.write_segmentation(tmp_path / "seg.dcm", odd_labels(), kind=kind)
    planes = segmentation_planes(path, grid())
    for k in range(3):
        assert np.array_equal(planes(k), odd_labels()[::-1, ::-1, k])


def test_the_grid_must_be_that_of_the_series(tmp_path: Path) -> None:
    path = fake.write_segmentation(tmp_path / "seg.dcm", odd_labels())
    assert segmentation_misfit(path, grid()) is None
    moved, wider, turned = (fake.AFFINE.copy() for _ in range(3))
    moved[2, 3] += 1.2
    wider[:3, 0] *= 1.01
    turned[:3, :3] = fake.AFFINE[:3, :3] @ [[0.99, 0.14, 0], [-0.14, 0.99, 0], [0, 0, 1]]
    for affine, says in ((moved, "on none of the 3 slices"), (wider, "spacing"), (turned, "orientation")):
        assert says in str(segmentation_misfit(path, grid(affine)))
        with pytest.raises(UnreadableFile, match="expected frames on the slices"):
            segmentation_planes(path, grid(affine))
    assert "5 x 7 pixels" in str(segmentation_misfit(path, grid(shape=(7, 5, 3))))
    below = fake.AFFINE.copy()
    below[2, 3] += fake.AFFINE[2, 2]  # the first slice of the labels lies before the first of the series
    assert "on none" in str(segmentation_misfit(path, grid(below)))


def test_segments_that_overlap_are_refused_where_they_do(tmp_path: Path) -> None:
    path = fake.write_segmentation(tmp_path / "seg.dcm", odd_labels())
    dataset = pydicom.dcmread(path)
    pixels = np.stack([np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")])
    frames = pixels[0, : 35 * int(dataset.NumberOfFrames)].reshape(-1, 7, 5)
    positions = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2])
        for g in dataset.PerFrameFunctionalGroupsSequence
    ]
    frames = np.array([f | 1 if z == max(positions) else f for f, z in zip(frames, positions, strict=True)])
    dataset.PixelData = pack_bits(frames.astype(np.uint8))
    pydicom.dcmwrite(path, dataset)
    planes = segmentation_planes(path, grid())
    assert np.array_equal(planes(0), odd_labels()[::-1, ::-1, 0])
    with pytest.raises(UnreadableFile, match=r"overlap.*NIfTI"):
        planes(2)


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"kind": "FRACTIONAL"}, "found a fractional one; export the labels as NIfTI"),
        ({"kind": "SECRET"}, "found another kind"),
        ({"SharedFunctionalGroupsSequence": None}, "do not say where they lie"),
        ({"PerFrameFunctionalGroupsSequence": None}, "damaged"),
    ],
)
def test_other_segmentations_are_refused_with_a_way_out(
    tmp_path: Path, elements: dict[str, Any], says: str
) -> None:
    path = fake.write_segmentation(tmp_path / "seg.dcm", odd_labels(), **elements)
    with pytest.raises(UnreadableFile, match=says) as refused:
        segmentation_misfit(path, grid())
    assert "SECRET" not in str(refused.value)


def test_what_is_a_segmentation(tmp_path: Path) -> None:
    root = fake.write_dicom_cases(tmp_path / "raw", label="seg/a.dcm")
    case = root / "case0"
    assert find_segmentation(case / "seg") == case / "seg" / "a.dcm"
    assert find_segmentation(case / "seg" / "a.dcm") == case / "seg" / "a.dcm"
    assert find_segmentation(case / "dicom") is None
    assert find_segmentation(fake.save(tmp_path / "a.nii.gz", fake.labels(0))) is None
    fake.write_segmentation(case / "seg" / "b.dcm", fake.labels(0))
    with pytest.raises(UnreadableFile, match="expected one DICOM SEG, found 2"):
        find_segmentation(case / "seg")
    fake.write_segmentation(case / "contours.dcm", fake.labels(0), Modality="RTSTRUCT")
    with pytest.raises(UnreadableFile, match=r"found contours \(RTSTRUCT\); export"):
        find_segmentation(case / "contours.dcm")


def listed(root: Path) -> tuple[dict[str, Item], dict[str, LeftOut]]:
    listing = list_items(root, labels=fake.LABELS)
    return {i.id: i for i in listing.items}, {one.file: one for one in listing.left_out}


@pytest.mark.parametrize("name", ["labels/case{}.dcm", "labels/case{}/x.dcm"])
def test_beside_a_folder_of_series(tmp_path: Path, name: str) -> None:
    fake.write_dicom_pairs(tmp_path)
    for number in range(fake.COUNT):
        (tmp_path / "labels" / f"case{number}.nii.gz").unlink()
        fake.write_segmentation(tmp_path / name.format(number), fake.labels(number))
    items, left_out = listed(tmp_path)
    assert left_out == {}
    assert len(items) == fake.COUNT * 6
    item = items["case2-0001-myocardium"]
    lit = read_mask(item.mask, read_image(item.image).shape[:2]).grey
    assert np.array_equal(lit, fakes.grey(fake.labels(2)[::-1, ::-1, 1].T == 2))


def test_what_is_wrong_with_a_segmentation_is_said_of_it_alone(tmp_path: Path) -> None:
    root = fake.write_dicom_cases(tmp_path, label="seg.dcm")
    far = fake.AFFINE.copy()
    far[:3, 3] += 50
    fake.write_segmentation(root / "case0" / "seg.dcm", fake.labels(0), far)
    fake.write_segmentation(root / "case1" / "seg.dcm", fake.labels(1), kind="FRACTIONAL")
    (root / "case2" / "seg.dcm").write_bytes(b"")
    content = (root / "case3" / "seg.dcm").read_bytes()
    (root / "case3" / "seg.dcm").write_bytes(content[:700])
    items, left_out = listed(root)
    assert {item.group for item in items.values()} == {"case4", "case5"}
    assert {file: one.check for file, one in left_out.items()} == {
        "case0/seg.dcm": "size",
        "case1/seg.dcm": "unreadable",
        "case2/seg.dcm": "unreadable",
        "case3/seg.dcm": "unreadable",
    }
    assert "frame 1 of 3 on none of the 3 slices" in left_out["case0/seg.dcm"].found
    assert "SECRET" not in repr(left_out).upper()


def test_a_segmentation_of_a_nifti_image_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        fake.save(tmp_path / "images" / f"a{number}.nii.gz", fake.values(number))
        fake.write_segmentation(tmp_path / "labels" / f"a{number}.dcm", fake.labels(number))
    _, left_out = listed(tmp_path)
    assert "a DICOM SEG is for a DICOM series, and a1.nii.gz is none" in left_out["labels/a1.dcm"].found
