"""What lies in a folder of masks, and what is known of true ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands.scans import write_series
from tests.masks import touch
from vlsmctl.datasets.manifest import Record, columns_of, read_manifest, write_manifest
from vlsmctl.errors import UsageError
from vlsmctl.pairing import match
from vlsmctl.pairing.folders import list_masks, record_targets

links = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own on Windows")


def test_masks_are_listed_in_order_and_the_rest_is_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.png a/c.nii.gz a/B.JPG ._b.png .hidden/x.png a/__MACOSX/x.png notes.txt a/x.overlay.png"
        " x.probability.frames/1.png s.frames/1.png s.frames/deep/2.png t.slices/1.nii.gz v.mha w.mha",
    )
    listing = list_masks(tmp_path, "--gt")
    assert listing.files == ["a/B.JPG", "a/c.nii.gz", "b.png"]
    assert listing.parts == {
        "s.frames": ["s.frames/1.png", "s.frames/deep/2.png"],
        "t.slices": ["t.slices/1.nii.gz"],
    }
    assert listing.beside == 2
    assert listing.notes == ["--gt: files of kinds that are not read here, passed over: 2 .mha"]


@links
def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "gt/a/x.png elsewhere/y.png")
    gt = tmp_path / "gt"
    (gt / "a" / "round").symlink_to(gt, target_is_directory=True)
    (gt / "self").symlink_to("self")
    (gt / "there").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (gt / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (gt / "lost.png").symlink_to(tmp_path / "gone.png")
    assert list_masks(gt, "--gt").files == ["a/x.png", "again/y.png", "lost.png", "there/y.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_are_no_masks(tmp_path: Path) -> None:
    os.mkfifo(touch(tmp_path, "x.png") / "pipe.png")
    assert list_masks(tmp_path, "--gt").files == ["x.png"]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "gt/x.png gt/locked/y.png pred/x.png")
    scan = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "no")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = match(tmp_path / "pred", tmp_path / "gt")
    assert [pair.id for pair in found.pairs] == ["x"]
    assert any("cannot be listed" in note and "locked" in note for note in found.notes)
    with pytest.raises(UsageError, match=r"--gt: .*locked cannot be listed"):
        match(tmp_path / "pred", tmp_path / "gt" / "locked")


def test_dicom_images_beside_segmentations_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path / "gt" / "head")
    touch(tmp_path, "gt/head/head.seg.dcm gt/head/broken.dcm")
    listing = list_masks(tmp_path / "gt", "--gt")
    assert "head/head.seg.dcm" in listing.files
    assert not [name for name in listing.files if "/im" in name]
    assert any("DICOM files without a segmentation" in note for note in listing.notes)


def record(name: str, split: str, **more: object) -> Record:
    values = {
        "id": name, "image": f"images/{name}.jpg", "mask": f"masks/{name}.png", "split": split,
        "prompts": {"p0": ""}, "attributes": {"size": "small", "components": 2, "sexes": ["f"]},
        "group": None,
        "width": 64, "height": 48, "foreground": 0.1, "sha256": "0", **more,
    }  # fmt: skip
    return Record(**values)  # type: ignore[arg-type]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "polyps"
    records = [
        record("a", "test", group="p1"), record("b", "test", image="images/long-b.jpg"),
        record("c", "train"),
        record("site/d", "train"), record("e", "val", attributes={"dataset": "other"}),
    ]  # fmt: skip
    touch(
        folder,
        " ".join([one.mask for one in records] + [one.image for one in records] + ["masks/stray.png"]),
    )
    write_manifest(folder, records, {})
    return folder


def test_records_are_targets_with_all_that_is_known_of_them(tmp_path: Path, prepared: Path) -> None:
    touch(tmp_path / "pred", "a.png images/long-b.png c.png site/d.png e.png stray.png")
    for gt in (prepared, prepared / "masks"):
        found = match(tmp_path / "pred", gt)
        assert [(pair.id, pair.prediction and pair.prediction.name) for pair in found.pairs] == [
            ("a", "a.png"), ("b", "long-b.png"), ("c", "c.png"), ("site/d", "d.png"), ("e", "e.png"),
        ]  # fmt: skip
        assert [path.name for path in found.extra] == ["stray.png"]
        first, *_, last = found.pairs
        assert (first.group, first.data_set, last.data_set) == ("p1", "polyps", "other")
        assert (first.image, first.target) == (prepared / "images" / "a.jpg", prepared / "masks" / "a.png")
        assert first.columns == {
            "split": "test", "width": "64", "height": "48", "size": "small", "components": "2",
        }  # fmt: skip
    assert columns_of(read_manifest(prepared).records[0]) == first.columns


def test_a_split_of_a_prepared_data_set(tmp_path: Path, prepared: Path) -> None:
    touch(tmp_path / "pred", "a.png b.png")
    assert [pair.id for pair in match(tmp_path / "pred", prepared, split="test").pairs] == ["a", "b"]
    found = match(tmp_path / "pred", prepared)
    assert [pair.prediction is None for pair in found.pairs] == [False, False, True, True, True]
    assert any("train and val; --split test" in note for note in found.notes)
    with pytest.raises(UsageError, match="split='tset'"):
        match(tmp_path / "pred", prepared, split="tset")


def test_pictures_with_several_masks_name_none_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "chest"
    write_manifest(folder, [record(f"x_{what}", "test", image="images/x.jpg") for what in "ab"], {})
    touch(tmp_path / "pred", "x.png x_a.png")
    found = match(tmp_path / "pred", folder)
    assert [pair.prediction is not None for pair in found.pairs] == [True, False]
    assert [path.name for path in found.extra] == ["x.png"]


def test_a_data_set_of_another_tool_is_a_folder_like_any_other(tmp_path: Path) -> None:
    touch(tmp_path, "set/labelsTr/c1.nii.gz pred/c1.nii.gz")
    (tmp_path / "set" / "dataset.json").write_text("{}")
    assert [pair.id for pair in match(tmp_path / "pred", tmp_path / "set" / "labelsTr").pairs] == ["c1"]


def test_a_changed_manifest_is_refused(tmp_path: Path, prepared: Path) -> None:
    with (prepared / "manifest.jsonl").open("a") as stream:
        stream.write("\n")
    with pytest.raises(UsageError, match="cut off or changed"):
        record_targets(prepared, "all")


IMAGES = [
    ("a.jpg b/c.nii.gz", {"a": "a.jpg", "b/c": "c.nii.gz"}),
    ("a_0000.nii.gz a_0001.nii.gz", {"a": "a_0000.nii.gz"}),
    ("a.jpg a.png", {}),
    ("a.png a_0000.png", {}),
    ("A.PNG b/c_image.png", {"a": "A.PNG"}),
    ("a/1.dcm a/2.dcm", {"a": "a"}),
    ("x.png", {}),
]


@pytest.mark.parametrize(("images", "expected"), IMAGES)
def test_images_are_found_by_the_names_of_targets(
    tmp_path: Path, images: str, expected: dict[str, str]
) -> None:
    for side in ("pred", "gt"):
        touch(tmp_path / side, "a.png b/c.png")
    found = match(tmp_path / "pred", tmp_path / "gt", images=touch(tmp_path / "images", images))
    assert {pair.id: pair.image.name for pair in found.pairs if pair.image} == expected
    missing = {"a", "b/c"} - expected.keys()
    assert any("targets without an image" in note for note in found.notes) == bool(missing)


def test_images_of_masks_with_endings(tmp_path: Path) -> None:
    masks = "ISIC_1_segmentation.png ISIC_2_segmentation.png"
    touch(tmp_path, "images/ISIC_1.jpg images/ISIC_2.jpg images/ISIC_2_superpixels.png")
    found = match(
        touch(tmp_path / "pred", "ISIC_1.png ISIC_2.png"),
        touch(tmp_path / "gt", masks),
        images=tmp_path / "images",
    )
    assert [pair.image and pair.image.name for pair in found.pairs] == ["ISIC_1.jpg", "ISIC_2.jpg"]
    with pytest.raises(UsageError, match="--images is not a folder"):
        match(tmp_path / "pred", tmp_path / "gt", images=tmp_path / "nowhere")


def test_the_image_of_a_single_pair_may_be_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "p/1.png t/2.png scan.nii.gz")
    (pair,) = match(tmp_path / "p/1.png", tmp_path / "t/2.png", images=tmp_path / "scan.nii.gz").pairs
    assert pair.image == tmp_path / "scan.nii.gz"


def test_many_files_take_no_long_time(tmp_path: Path) -> None:
    """Quadratic work on these would take minutes."""
    import time

    from vlsmctl.pairing.names import link, mask_claims

    count = 60_000
    names = [(f"f{number % 97}/case{number}_mask",) for number in range(count)]
    items = [list(mask_claims(f"f{number % 97}/case{number}__polyp")) for number in range(count)]
    start = time.perf_counter()
    links = link(items, names)
    assert len(links.notes) == 1
    assert time.perf_counter() - start < 20
    assert np.array_equal([links.found[number][0] for number in range(count)], np.arange(count))
