from __future__ import annotations

import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.own_data import listed, touched
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.generic import GENERIC, find_rule, list_items
from vlsmctl.datasets.manifest import Record, read_manifest
from vlsmctl.datasets.sources import LabelPicture, read_mask
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.formats.raster import read_label_picture, read_mask_picture


def _records(folder: Path) -> dict[str, Record]:
    return {record.id: record for record in read_manifest(folder).records}


# --- how images and masks go together


@pytest.mark.parametrize(
    ("images", "masks", "text"),
    [
        ("images/{}.jpg", "masks/{}.png", "images/ and masks/ with equal names"),
        ("img/{}.png", "GT/{}.png", "img/ and GT/ with equal names"),
        ("Original/{}.tif", "Ground Truth/{}.tif", "Original/ and Ground Truth/ with equal names"),
        (
            "JPEGImages/{}.jpg",
            "SegmentationClass/{}.png",
            "JPEGImages/ and SegmentationClass/ with equal names",
        ),
        ("x/{}.png", "y/{}.png", "x/ and y/ with equal names"),
        ("images/{}.jpg", "labels/{}_mask.png", "images/NAME.jpg with labels/NAME_mask.png"),
        (
            "photos/{}.jpg",
            "annotations/{}_Segmentation.png",
            "photos/NAME.jpg with annotations/NAME_segmentation.png",
        ),
        ("frames/{}_img.png", "masks/{}_gt.png", "frames/NAME_img.png with masks/NAME_gt.png"),
        ("imagesTr/{}_0000.png", "labelsTr/{}.png", "imagesTr/NAME_0000.png with labelsTr/NAME.png"),
        ("{}.jpg", "{}_mask.png", "NAME.jpg with NAME_mask.png in one folder"),
        ("{}.png", "{}-LABEL.png", "NAME.png with NAME-label.png in one folder"),
        ("{}_image.png", "{}_annotation.png", "NAME_image.png with NAME_annotation.png in one folder"),
        ("scans/{}.nii.gz", "seg/{}.nii.gz", "scans/ and seg/ with equal names"),
        ("{}.nii.gz", "{}_seg.nii", "NAME.nii.gz with NAME_seg.nii in one folder"),
        ("images/{}/1.dcm", "labels/{}.nii.gz", "images/ and labels/ with equal names"),
        ("images/{}/a/IM0001", "labels/{}/x.dcm", "images/ and labels/ with equal names"),
    ],
)
def test_rules_in_words(tmp_path: Path, images: str, masks: str, text: str) -> None:
    stems = ["case 1", "b.2", "c"]
    root = touched(tmp_path, [name.format(stem) for name in (images, masks) for stem in stems])
    rule = find_rule(read_folder(root))
    assert rule is not None
    assert rule.text == text
    assert rule.kind == ("volumes" if ".nii" in images + masks or "dcm" in images + masks else "pictures")
    assert GENERIC.matches(read_folder(root))


@pytest.mark.parametrize(
    ("images", "masks", "splits"),
    [
        ("{s}/images/{n}.png", "{s}/masks/{n}.png", ["train", "val", "test"]),
        ("images/{s}/{n}.png", "masks/{s}/{n}.png", ["training", "validation", "testing"]),
        ("{s}/{n}.png", "{s}/{n}_mask.png", ["Train", "valid", "Test"]),
        ("{s}/imgs/{n}.png", "{s}/gt/{n}_seg.png", ["train", "test"]),
    ],
)
def test_folders_of_splits(tmp_path: Path, images: str, masks: str, splits: list[str]) -> None:
    names = [name.format(s=s, n=f"{s}{n}") for name in (images, masks) for s in splits for n in range(3)]
    items, listing = listed(touched(tmp_path, names))
    assert {item.id: item.split for item in items.values()} == {
        f"{s}{n}": next(each for each in ("train", "val", "test") if s.lower().startswith(each))
        for s in splits
        for n in range(3)
    }
    assert listing.left_out == ()
    assert "split by folders: " in listing.notes[0]
    assert "test (3)" in listing.notes[0]


def test_names_that_come_again_in_another_split_get_a_prefix(tmp_path: Path) -> None:
    names = [f"{s}/{f}/{n}.png" for s in ("train", "test") for f in ("images", "masks") for n in range(2)]
    items, _ = listed(touched(tmp_path, names))
    assert sorted(items) == ["test-0", "test-1", "train-0", "train-1"]


def test_nnunet_tests_with_labels_are_the_split_test(tmp_path: Path) -> None:
    names = [f"{f}{s}/{s}{n}.png" for f in ("images", "labels") for s in ("Tr", "Ts") for n in range(2)]
    items, _ = listed(touched(tmp_path, names))
    assert {item.id: item.split for item in items.values()} == {
        "Tr0": "train", "Tr1": "train", "Ts0": "test", "Ts1": "test",
    }  # fmt: skip


def test_the_rule_with_the_most_pairs_wins_and_what_is_not_used_is_said(tmp_path: Path) -> None:
    names = [f"{f}/{n}.png" for f in ("images", "labels") for n in range(5)]
    root = touched(tmp_path, [*names, "masks/1.png", "thumbs/1.png", "a.png", "a_mask.png"])
    items, listing = listed(root)
    assert len(items) == 5
    assert listing.notes[:2] == (
        "paired by the rule: images/ and labels/ with equal names",
        "not used: masks/, thumbs/",
    )


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a.png", "b.png"],
        ["images/a.png", "images/b.png"],
        ["images/a.png", "images/b.png", "masks/c.png", "masks/d.png"],
        ["images/a.png", "images/b.png", "images/c.png", "masks/a.png", "masks/x.png", "masks/y.png"],
        ["images/p1/a.png", "masks/p2/a.png"],
        ["left/a.png", "right/a.png"],
        ["train/a.png", "test/a.png"],
        ["images/a.txt", "masks/a.txt"],
    ],
)
def test_other_folders_are_not_claimed(tmp_path: Path, names: list[str]) -> None:
    root = touched(tmp_path, names)
    assert not GENERIC.matches(read_folder(root))
    with pytest.raises(UsageError, match="expected images/ and masks/"):
        list_items(root)


def test_names_that_do_not_go_together_are_shown(tmp_path: Path) -> None:
    root = touched(tmp_path, ["images/scan1.png", "Masks/contour1.png"])
    with pytest.raises(UsageError, match=r"images/ \(scan1.png, ...\) and Masks/ \(contour1.png, ...\)"):
        list_items(root)


def test_an_axis_is_for_volumes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds pictures"):
        list_items(fakes.generic(tmp_path), axis=1)


# --- label maps


def _label_maps(root: Path) -> Path:
    for number in range(4):
        labels = np.zeros((32, 40), np.uint8)
        labels[2:8, 3:9] = 1
        labels[12:20, 10 : 20 + number] = 2
        fakes.save(root / "images" / f"a{number}.png", fakes.picture(number, 32, 40))
        fakes.save(root / "labels" / f"a{number}.png", labels)
    return root


def test_each_class_of_a_label_map_is_an_item(tmp_path: Path) -> None:
    items, listing = listed(_label_maps(tmp_path), labels={1: "left ventricle", 2: "Scar"})
    assert len(items) == 8
    item = items["a3-scar"]
    assert (item.image_name, dict(item.words), dict(item.attributes)) == (
        "a3", {"class": "Scar"}, {"label": 2},
    )  # fmt: skip
    assert isinstance(item.mask, LabelPicture)
    drawn = read_mask(item.mask, (32, 40)).grey
    assert np.array_equal(np.argwhere(drawn == 255).max(axis=0), (19, 22))
    assert (drawn > 0).sum() == 8 * 13
    assert listing.warnings == ()


def test_label_maps_in_jpeg_are_warned_of(tmp_path: Path) -> None:
    for number in range(3):
        fakes.save(tmp_path / "images" / f"a{number}.png", fakes.picture(number))
        fakes.save(tmp_path / "labels" / f"a{number}.jpg", fakes.grey(fakes.blob()))
    _, listing = listed(tmp_path, labels={255: "lesion"})
    assert any("3 of 3 label maps are JPEG" in warning for warning in listing.warnings)


NUMBERS = np.array([[0, 1, 2], [3, 5, 7]], np.uint8)


def _four_bit_png(path: Path) -> None:
    """NUMBERS as a grey PNG of four bits a pixel, which Pillow does not write."""
    packed = b"".join(bytes([0, row[0] << 4 | row[1], row[2] << 4]) for row in NUMBERS.tolist())
    head = (3).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes([4, 0, 0, 0, 0])
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")]
    body = b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_label_numbers_of_every_kind_of_picture(tmp_path: Path) -> None:
    palette = Image.fromarray(NUMBERS)
    palette.putpalette([9, 9, 9, 255, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 8, 8, 8])
    pictures = {
        "grey.png": Image.fromarray(NUMBERS),
        "deep.png": Image.fromarray(NUMBERS.astype(np.uint16) * 1000),
        "deep.tif": Image.fromarray(NUMBERS.astype(np.int32)),
        "float.tif": Image.fromarray(NUMBERS.astype(np.float32)),
        "palette.png": palette,
        "rgb.png": Image.fromarray(np.repeat(NUMBERS[..., None], 3, axis=2)),
        "rgba.png": Image.fromarray(np.dstack([NUMBERS] * 3 + [np.full_like(NUMBERS, 255)])),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        factor = 1000 if name == "deep.png" else 1
        assert np.array_equal(read_label_picture(tmp_path / name), NUMBERS.astype(np.int64) * factor), name
    _four_bit_png(tmp_path / "four.png")
    assert np.array_equal(read_label_picture(tmp_path / "four.png"), NUMBERS)
    Image.fromarray(NUMBERS > 1).save(tmp_path / "bit.png")
    assert np.array_equal(read_label_picture(tmp_path / "bit.png"), NUMBERS > 1)
    (tmp_path / "tiny.pbm").write_bytes(b"P4 8 1\n\xf0")
    assert read_label_picture(tmp_path / "tiny.pbm").shape == (1, 8)


def test_transparent_pixels_have_no_label(tmp_path: Path) -> None:
    alpha = np.where(NUMBERS == 2, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([NUMBERS] * 3 + [alpha])).save(tmp_path / "a.png")
    assert np.array_equal(read_label_picture(tmp_path / "a.png"), np.where(NUMBERS == 2, 0, NUMBERS))


def test_colours_and_fractions_are_no_labels(tmp_path: Path) -> None:
    fakes.save(tmp_path / "a.png", np.array([[(0, 0, 0), (255, 0, 0), (0, 9, 0)]]))
    with pytest.raises(UnreadableFile, match=r"found 2 colours, such as \(0, 9, 0\), \(255, 0, 0\)"):
        read_label_picture(tmp_path / "a.png")
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableFile, match="fractions"):
        read_label_picture(tmp_path / "a.tif")


# --- prompts.csv


def test_rows_of_label_items(tmp_path: Path) -> None:
    root = _label_maps(tmp_path)
    text = "id,prompt,split,group\na0,any,test,p1\na1-scar,a pale scar,,\na1.png,none,,p2\n"
    (root / "prompts.csv").write_text(text, encoding="utf-8")
    items, listing = listed(root, labels={1: "lumen", 2: "scar"})
    assert (items["a0-lumen"].split, items["a0-scar"].group) == ("test", "p1")
    assert items["a0-scar"].prompts is None  # one text for the image would fit no class
    assert items["a1-scar"].prompts == {"p0": "", "p1": "a pale scar"}
    assert items["a1-lumen"].group == "p2"
    assert listing.left_out == ()


@pytest.mark.parametrize(
    ("column", "nearest"), [("pormpt", "prompt"), ("Split", "split"), ("P2", "p2"), ("grup", "group")]
)
def test_a_misspelt_column_is_warned_of(tmp_path: Path, column: str, nearest: str) -> None:
    raw = fakes.generic(tmp_path, count=3)
    (raw / "prompts.csv").write_text(f"id,{column},age\ncase00,a,5\n", encoding="utf-8")
    _, listing = listed(raw)
    (warning,) = listing.warnings
    assert f"'{column}'" in warning
    assert warning.endswith(f"the nearest is '{nearest}'")
    assert "columns of prompts.csv that were passed over: age" in listing.notes


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_prompts_csv_gives_prompts_splits_and_groups(tmp_path: Path, delimiter: str) -> None:
    raw = fakes.generic(tmp_path / "raw", count=12)
    lines = [["image", "p1", "p2", "group", "age"]]
    lines += [[f"case{n:02d}.png", f'"flat, {n}"', "", f"patient{n // 3}", "50"] for n in range(9)]
    text = "\r\n".join(delimiter.join(line) for line in lines)
    (raw / "prompts.csv").write_text(text, encoding="utf-8-sig", newline="")
    outcome = prepare("generic", raw, tmp_path / "data", class_word="polyp")
    records = _records(outcome.folder)
    assert records["case04"].prompts == {"p0": "", "p1": "flat, 4"}
    assert records["case11"].prompts["p1"] == "polyp"
    groups: dict[str | None, set[str]] = defaultdict(set)
    for record in records.values():
        groups[record.group].add(record.split)
    assert all(len(groups[f"patient{n}"]) == 1 for n in range(3))
    assert any("3 of 12 images have no prompt" in note for note in outcome.notes)


def test_a_split_in_prompts_csv_is_kept(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=6)
    words = ["train", "validation", "test", "Train", "val", "test"]
    rows = "".join(f"case{n:02d},{word}\n" for n, word in enumerate(words))
    (raw / "prompts.csv").write_text("id,split\n" + rows, encoding="utf-8")
    items, _ = listed(raw)
    splits = [items[f"case{n:02d}"].split for n in range(6)]
    assert splits == ["train", "val", "test", "train", "val", "test"]
    assert items["case00"].prompts is None


def test_a_row_without_an_image_is_left_out_by_name(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=3)
    (raw / "prompts.csv").write_text("id,prompt\ncase00,a\nnobody,b\n", encoding="utf-8")
    (one,) = list_items(raw).left_out
    assert (one.file, one.found) == ("prompts.csv, line 3", "'nobody'")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,prompt\na,b\n", "column 'id' or 'image', found name, prompt"),
        (b"", "found nothing"),
        (b"id,prompt\na,b\na,c\n", "line 3: 'a' is there twice"),
        (b"id,split\na,half\n", "line 2: expected a split"),
        (b"id,prompt\n,b\n", "line 2: expected a name"),
        (b"id,prompt\na,flat, pale\n", "line 2: more cells"),
        (b"id,prompt\na,\xff\xfe\n", "UTF-8"),
    ],
)
def test_a_wrong_prompts_csv_names_the_line(tmp_path: Path, content: bytes, says: str) -> None:
    raw = fakes.generic(tmp_path / "raw", count=3)
    (raw / "prompts.csv").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        list_items(raw)


# --- how masks are stored


@pytest.mark.parametrize("high", [1, 2, 100])
def test_dim_masks_are_read_as_0_and_255(tmp_path: Path, high: int) -> None:
    raw = fakes.generic(tmp_path / "raw", high=high, empty=(0,))
    outcome = prepare("generic", raw, tmp_path / "data", workers=1)
    assert any(f"the masks hold 0 and {high}: read as 0 and 255" in note for note in outcome.notes)
    mask = read_mask_picture(outcome.folder / "masks" / "case01.png")
    assert (mask == fakes.grey(fakes.blob())).all()


def test_in_a_0_255_set_a_mask_with_only_0_and_1_is_noise(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    fakes.save(raw / "masks" / "case02.png", fakes.grey(fakes.blob(), high=1))
    outcome = prepare("generic", raw, tmp_path / "data", workers=1)
    assert _records(outcome.folder)["case02"].foreground == 0


def test_jpeg_masks_are_thresholded_and_explained(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=4)
    for path in list((raw / "masks").iterdir()):
        path.unlink()
        Image.fromarray(fakes.rgb(fakes.blob())).save(path.with_suffix(".jpg"), quality=60)
    outcome = prepare("generic", raw, tmp_path / "data", workers=1)
    assert any("threshold 127 changes" in note and "% of pixels" in note for note in outcome.notes)
    mask = read_mask_picture(outcome.folder / "masks" / "case00.png")
    assert set(np.unique(mask)) == {0, 255}
    assert ((mask > 0) != fakes.blob()).mean() < 0.01


def test_label_maps_without_a_word_for_their_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="values 0, 1, 2"):
        prepare("generic", _label_maps(tmp_path / "raw"), tmp_path / "data", workers=1)


def test_label_maps_become_a_record_a_class(tmp_path: Path) -> None:
    labels = {1: "left ventricle", 2: "Scar"}
    outcome = prepare("generic", _label_maps(tmp_path / "raw"), tmp_path / "data", labels=labels, workers=1)
    records = _records(outcome.folder)
    assert len(records) == 8
    first, second = records["a1-left-ventricle"], records["a1-scar"]
    assert first.image == second.image
    assert first.split == second.split
    assert (first.prompts["p1"], second.prompts["p1"]) == ("left ventricle", "Scar")
    assert first.foreground == pytest.approx(36 / (32 * 40))
