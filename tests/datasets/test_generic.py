from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import Record, read_manifest
from vlsmctl.datasets.records import describe
from vlsmctl.errors import UsageError
from vlsmctl.formats.raster import read_mask_picture


def _records(folder: Path) -> dict[str, Record]:
    return {record.id: record for record in read_manifest(folder).records}


@pytest.mark.parametrize("high", [1, 2, 100])
def test_dim_masks_are_read_as_0_and_255(tmp_path: Path, high: int) -> None:
    raw = fakes.generic(tmp_path / "raw", high=high, empty=(0,))
    outcome = prepare("generic", raw, tmp_path / "data")
    assert f"the masks hold 0 and {high}: read as 0 and 255" in outcome.notes
    mask = read_mask_picture(outcome.folder / "masks" / "case01.png")
    assert (mask == fakes.grey(fakes.blob())).all()
    assert outcome.empty == 1


def test_in_a_0_255_set_a_mask_with_only_0_and_1_is_noise(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    fakes.save(raw / "masks" / "case02.png", fakes.grey(fakes.blob(), high=1))
    outcome = prepare("generic", raw, tmp_path / "data")
    assert _records(outcome.folder)["case02"].foreground == 0
    assert any("in 1 of 10 masks" in note for note in outcome.notes)


def test_jpeg_masks_are_thresholded_and_explained(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=4)
    for path in list((raw / "masks").iterdir()):
        path.unlink()
        Image.fromarray(fakes.rgb(fakes.blob())).save(path.with_suffix(".jpg"), quality=60)
    outcome = prepare("generic", raw, tmp_path / "data")
    assert any("threshold 127 changes" in note and "% of pixels" in note for note in outcome.notes)
    assert any("4 of 4 masks are stored as RGB" in note for note in outcome.notes)
    mask = read_mask_picture(outcome.folder / "masks" / "case00.png")
    assert set(np.unique(mask)) == {0, 255}
    assert ((mask > 0) != fakes.blob()).mean() < 0.01


def test_label_maps_with_several_classes_are_refused(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", high=1)
    fakes.save(raw / "masks" / "case02.png", fakes.grey(fakes.blob(), high=2))
    with pytest.raises(UsageError, match="values 0, 1, 2"):
        prepare("generic", raw, tmp_path / "data")


def test_masks_that_are_all_empty_are_kept_and_said(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=3, empty=(0, 1, 2))
    outcome = prepare("generic", raw, tmp_path / "data", class_word="polyp")
    assert outcome.empty == 3
    assert "all masks are empty" in outcome.notes
    assert _records(outcome.folder)["case00"].prompts == {"p0": "", "p1": "polyp"}


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
    assert records["case11"].prompts["p2"] == "medium polyp"
    groups: dict[str | None, set[str]] = defaultdict(set)
    for record in records.values():
        groups[record.group].add(record.split)
    assert all(len(groups[f"patient{n}"]) == 1 for n in range(3))
    assert any("3 of 12 images have no prompt" in note for note in outcome.notes)
    assert "columns of prompts.csv that were passed over: age" in outcome.notes


def test_a_split_in_prompts_csv_is_kept(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=6)
    words = ["train", "validation", "test", "Train", "val", "test"]
    rows = "".join(f"case{n:02d},{word}\n" for n, word in enumerate(words))
    (raw / "prompts.csv").write_text("id,split\n" + rows, encoding="utf-8")
    records = _records(prepare("generic", raw, tmp_path / "data").folder)
    splits = [records[f"case{n:02d}"].split for n in range(6)]
    assert splits == ["train", "val", "test", "train", "val", "test"]
    assert "p4" in records["case00"].prompts


def test_a_row_without_an_image_is_left_out_by_name(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=3)
    (raw / "prompts.csv").write_text("id,prompt\ncase00,a\nnobody,b\n", encoding="utf-8")
    (one,) = prepare("generic", raw, tmp_path / "data").left_out
    assert (one.file, one.found) == ("prompts.csv, line 3", "'nobody'")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,prompt\na,b\n", "column 'id' or 'image', found name, prompt"),
        (b"", "found nothing"),
        (b"id,prompt\na,b\na,c\n", "line 3: 'a' is there twice"),
        (b"id,split\na,training\n", "line 2: expected a split"),
        (b"id,prompt\n,b\n", "line 2: expected a name"),
        (b"id,prompt\na,flat, pale\n", "line 2: more cells"),
        (b"id,prompt\na,\xff\xfe\n", "UTF-8"),
    ],
)
def test_a_wrong_prompts_csv_names_the_line(tmp_path: Path, content: bytes, says: str) -> None:
    raw = fakes.generic(tmp_path / "raw", count=3)
    (raw / "prompts.csv").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        prepare("generic", raw, tmp_path / "data")


def test_identical_images_share_a_split_and_are_counted(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=20)
    for number in (5, 9, 14):
        fakes.save(raw / "images" / f"case{number:02d}.png", fakes.picture(0))
    outcome = prepare("generic", raw, tmp_path / "data")
    records = _records(outcome.folder)
    assert len({records[f"case{n:02d}"].split for n in (0, 5, 9, 14)}) == 1
    assert any("1 groups of identical images (4 images)" in note for note in outcome.notes)


def test_words_of_a_mask() -> None:
    mask = fakes.blob(0, 0, 3, height=100, width=200) | fakes.blob(40, 80, 60, height=100, width=200)
    mask[99, 0] = True  # 1 of 20000 pixels: dust
    words, attributes = describe(mask)
    assert words == {"count": "two", "size": "tiny, medium", "place": "top left, bottom"}
    assert attributes == {"components": 2, **words}


def test_components_that_touch_at_a_corner_are_two() -> None:
    mask = fakes.blob(0, 0, 8) | fakes.blob(8, 8, 8)
    assert describe(mask)[0]["count"] == "two"


def test_a_mask_of_dust_alone_still_has_words() -> None:
    mask = np.zeros((200, 200), bool)
    mask[10, 10] = mask[190, 190] = mask[190, 191] = True
    assert describe(mask)[0] == {"count": "one", "size": "tiny", "place": "bottom right"}


def test_an_empty_mask_has_no_words() -> None:
    assert describe(np.zeros((8, 8), bool)) == ({}, {"components": 0})
