from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.fakes import blob, busi, dfu2022, isic2016
from tests.datasets.fakes import chexlocalize as fake
from vlsmctl.config import read_preset
from vlsmctl.datasets.chexlocalize import CHEXLOCALIZE, PATHOLOGIES
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.manifest import Prompts
from vlsmctl.datasets.prompts import fill_templates
from vlsmctl.datasets.records import Item, Listing
from vlsmctl.datasets.sources import Nothing, Polygons, RunLengths, read_image, read_mask
from vlsmctl.errors import UnreadableFile

VAL = "CheXlocalize/gt_segmentations_val.json"
KEY = "patient64541_study1_view1_frontal"


def listed(root: Path) -> tuple[dict[str, Item], Listing]:
    listing = CHEXLOCALIZE.list_items(root)
    return {item.id: item for item in listing.items}, listing


def shown(items: dict[str, Item]) -> dict[str, Item]:
    return {name: item for name, item in items.items() if not isinstance(item.mask, Nothing)}


def change(path: Path, key: str, value: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    document[key] = value
    path.write_text(json.dumps(document), encoding="utf-8")


def test_an_item_for_each_image_and_finding(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    assert CHEXLOCALIZE.matches(read_folder(root))
    items, listing = listed(root)
    images = [(part, *view) for part in ("val", "test") for view in fake.views(part)]
    assert len(items) == 10 * len(images)
    expected = {
        f"patient{patient}_study1_{view}_{name.lower().replace(' ', '_')}": (part, patient)
        for part, patient, view in images
        for name in fake.findings(patient)
    }
    assert shown(items).keys() == expected.keys()
    for name, (part, patient) in expected.items():
        assert items[name].split == {"val": "train", "test": "test"}[part]
        assert items[name].group == f"patient{patient}"
    assert (listing.left_out, listing.notes, listing.warnings) == ((), (), ())
    assert pickle.loads(pickle.dumps(listing)) == listing  # noqa: S301 - our own


def test_words_come_from_names_and_tables(tmp_path: Path) -> None:
    items, _ = listed(fake.write(tmp_path))
    # patient 64545: Airspace Opacity is called Lung Opacity in the table, which has columns of its own
    item = items["patient64545_study1_view2_lateral_airspace_opacity"]
    assert item.words == {
        "class": "Airspace Opacity",
        "view": "lateral",
        "findings": "Lung Opacity, Pneumothorax, Fracture",
    }
    assert item.attributes["findings"] == ["Lung Opacity", "Pneumothorax", "Fracture"]
    assert item.image_name == "patient64545_study1_view2_lateral"
    assert item.stratum == "lateral"
    assert set(CHEXLOCALIZE.words) == item.words.keys() - {"class"}
    test = items["patient64742_study1_view1_frontal_lung_lesion"]
    assert test.words["findings"] == "Lung Lesion, Atelectasis"


def test_the_ids_are_those_of_published_annotations(tmp_path: Path) -> None:
    items, _ = listed(fake.write(tmp_path))
    mask = "patient64545_study1_view2_lateral_airspace_opacity.png"
    assert CHEXLOCALIZE.published("patient64545_study1_view2_lateral.jpg", mask) in items


@pytest.mark.parametrize("polygons", [False, True])
def test_run_lengths_and_polygons_give_the_same_masks(tmp_path: Path, polygons: bool) -> None:
    items, listing = listed(fake.write(tmp_path, polygons=polygons))
    assert listing.left_out == ()
    assert {type(item.mask) for item in items.values()} == {Nothing, Polygons if polygons else RunLengths}
    for item in items.values():
        patient = int(str(item.group)[-5:])
        name = item.words["class"]
        pixels = read_image(item.image)
        size = (pixels.shape[0], pixels.shape[1])
        expected = blob(*fake.square(patient, name), *size) & (name in fake.findings(patient))
        np.testing.assert_array_equal(read_mask(item.mask, size).grey > 0, expected)


def test_the_older_release(tmp_path: Path) -> None:
    root = fake.write(tmp_path, old=True)
    assert CHEXLOCALIZE.matches(read_folder(root))
    items, listing = listed(root)
    assert len(items) == 10 * len(fake.views("val"))
    assert "findings" in items["patient64541_study1_view1_frontal_edema"].words
    assert listing.notes == ("there is no test set: its images or its JSON file are not there",)


def test_images_beside_the_outlines(tmp_path: Path) -> None:
    """As the sample in the authors' repository has them."""
    root = fake.write(tmp_path, old=True)
    (root / "CheXpert-v1.0" / "valid").rename(root / "valid")
    (root / "CheXpert-v1.0" / "valid.csv").rename(root / "valid.csv")
    assert CHEXLOCALIZE.matches(read_folder(root))
    items, listing = listed(root)
    assert len(items) == 10 * len(fake.views("val"))
    assert listing.warnings == ()


def test_without_tables_there_is_a_warning_for_each(tmp_path: Path) -> None:
    items, listing = listed(fake.write(tmp_path, labels=False))
    assert len(listing.warnings) == 2
    assert "no table val_labels.csv" in listing.warnings[0]
    assert not any("findings" in item.words for item in items.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"Path\nx\n",
        b"Image,Edema\nx,1\n",
        b"Path,Edema\n,1\n\n",
        b'Path,Edema\n"a\0b",1\n',
    ],
)
def test_tables_that_are_none_are_warned_of(tmp_path: Path, content: bytes) -> None:
    root = fake.write(tmp_path)
    (root / "CheXpert" / "val_labels.csv").write_bytes(content)
    items, listing = listed(root)
    assert ["CheXpert/val_labels.csv cannot be used" in warning for warning in listing.warnings] == [True]
    assert "findings" not in items[f"{KEY}_edema"].words
    assert "findings" in items["patient64742_study1_view1_frontal_edema"].words


def test_a_table_of_studies_and_one_with_gaps(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    (root / "CheXpert" / "val_labels.csv").write_text(
        "Study,Edema,Cardiomegaly,No Finding\n"
        "CheXpert-v1.0/valid/patient64541/study1,1,-1.0,1\n"
        "CheXpert-v1.0/valid/patient64542/study1\n",
        encoding="utf-8",
    )
    items, listing = listed(root)
    assert items[f"{KEY}_edema"].words["findings"] == "Edema"
    assert "findings" not in items["patient64542_study1_view1_frontal_edema"].words
    assert listing.warnings == ("10 images of the val set are not in its table of labels",)


def test_one_set_alone(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    shutil.rmtree(root / "CheXpert" / "val")
    assert CHEXLOCALIZE.matches(read_folder(root))
    items, listing = listed(root)
    assert {item.split for item in items.values()} == {"test"}
    assert "no val set" in listing.notes[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'{"a": 1e999999}'])
def test_a_json_file_that_is_none_costs_its_part_only(tmp_path: Path, content: bytes) -> None:
    root = fake.write(tmp_path)
    (root / VAL).write_bytes(content)
    items, listing = listed(root)
    assert [each.file for each in listing.left_out] == [VAL]
    assert {item.split for item in items.values()} == {"test"}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (None, "NoneType"),
        ([1], "list"),
        ({"Edema": None}, "NoneType"),
        ({"Edema": {"size": [48, 40], "counts": 7}}, "dict"),
        ({"Edema": {"size": [48], "counts": "PVWX6"}}, "a size of list"),
        ({"Edema": {"size": ["48", 40], "counts": "PVWX6"}}, "a size of list"),
        ({"Edema": {"size": [True, 40], "counts": "PVWX6"}}, "a size of list"),
        ({"Edema": {"size": [10**9, 10**9], "counts": "PVWX6"}}, "a mask of 1000000000 x 1000000000"),
        ({"Edema": {"size": [48, 40], "counts": "PVWX6"}}, "6560960 long"),
        ({"Aneurysm": {"size": [48, 40], "counts": "PVWX6"}}, "'Aneurysm'"),
    ],
)
def test_entries_of_other_types_are_left_out(tmp_path: Path, entry: Any, found: str) -> None:
    root = fake.write(tmp_path)
    change(root / VAL, KEY, entry)
    items, listing = listed(root)
    assert [each.file for each in listing.left_out] == [VAL]
    assert found in listing.left_out[0].found
    assert KEY in listing.left_out[0].expected
    assert f"{KEY}_edema" not in shown(items)
    assert "patient64542_study1_view1_frontal_edema" in items


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"Edema": [[[1, 2], [3, 4], [5, 6]]]}, "a size of NoneType"),
        ({"img_size": [48, 40], "Edema": 3}, "3"),
        ({"img_size": [48, 40], "Edema": [[[1, 2], [3], [5, 6]]]}, "a corner at [3]"),
        ({"img_size": [48, 40], "Edema": [[[1, 2], ["3", 4], [5, 6]]]}, "a corner at ['3', 4]"),
        ({"img_size": [48, 40], "Edema": [[[1, 2], [float("nan"), 4], [5, 6]]]}, "a corner at [nan, 4]"),
        ({"img_size": [48, 40], "Edema": [[[1, 2], [10**400, 4], [5, 6]]]}, "a corner at [1000"),
    ],
)
def test_polygons_of_other_types_are_left_out(tmp_path: Path, entry: Any, found: str) -> None:
    root = fake.write(tmp_path, polygons=True)
    change(root / "CheXlocalize" / "gt_annotations_val.json", KEY, entry)
    _, listing = listed(root)
    assert [each.check for each in listing.left_out] == ["unreadable"]
    assert found in listing.left_out[0].found


@pytest.mark.parametrize(
    "key",
    [
        "patient64541/../../x",
        "patient64541_study1_view1_dorsal",
        "",
        "patient٣_study1_view1_frontal",
        "x" * 500,
    ],
)
def test_names_that_are_no_images_are_left_out(tmp_path: Path, key: str) -> None:
    root = fake.write(tmp_path)
    change(root / VAL, key, {})
    items, listing = listed(root)
    assert [(each.file, each.check) for each in listing.left_out] == [(VAL, "kind")]
    assert len(listing.left_out[0].found) < 80
    assert len(items) == 10 * (len(fake.views("val")) + len(fake.views("test")))


def test_a_missing_image_is_named_once(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    (root / "CheXpert" / "val" / "patient64541" / "study1" / "view1_frontal.jpg").unlink()
    items, listing = listed(root)
    assert [each.expected for each in listing.left_out] == [
        "the image CheXpert/val/patient64541/study1/view1_frontal.jpg"
    ]
    assert not any(item.image_name == KEY for item in items.values())


def test_run_lengths_that_were_cut_off_are_found_when_decoded(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    counts = fake.run_lengths(np.eye(48, 40, dtype=bool))
    change(root / VAL, KEY, {"Edema": {"size": [48, 40], "counts": counts[:-3]}})
    items, _ = listed(root)
    with pytest.raises(UnreadableFile, match=r"gt_segmentations_val.*end after"):
        read_mask(items[f"{KEY}_edema"].mask, (48, 40))


def test_segmentations_come_before_annotations(tmp_path: Path) -> None:
    fake.write(tmp_path, polygons=True)
    items, _ = listed(fake.write(tmp_path))
    assert {type(item.mask) for item in items.values()} == {Nothing, RunLengths}


@pytest.mark.parametrize("other", [isic2016, dfu2022, busi])
def test_other_sets_are_not_taken(tmp_path: Path, other: object) -> None:
    other.write(tmp_path)  # type: ignore[attr-defined]
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    assert not any(CHEXLOCALIZE.matches(read_folder(folder)) for folder in folders)


@pytest.mark.parametrize("old", [False, True])
def test_only_the_top_folder_is_the_root(tmp_path: Path, old: bool) -> None:
    root = fake.write(tmp_path, old=old)
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    assert [folder for folder in folders if CHEXLOCALIZE.matches(read_folder(folder))] == [root]


def test_the_ten_findings() -> None:
    assert fake.PATHOLOGIES == PATHOLOGIES


def prompts_of(item: Item, of_the_mask: dict[str, str]) -> Prompts:
    given = read_preset("chexlocalize")["prompts_from"]
    words = {"class": given["class"], **of_the_mask, **item.words}
    return fill_templates(given["templates"], words, absent=given["absent"], extra=CHEXLOCALIZE.words)


def test_prompts_name_the_view_and_all_findings(tmp_path: Path) -> None:
    items, _ = listed(fake.write(tmp_path))
    item = items["patient64742_study1_view1_frontal_lung_lesion"]
    prompts = prompts_of(item, {"count": "one", "shape": "oval", "place": "left", "s": ""})
    assert prompts["p1"] == "Lung Lesion in a chest Xray."
    assert prompts["p5"] == (
        "Lung Lesion of shape oval, and located in left of the frontal view of a Chest Xray."
        " Lung Lesion, Atelectasis are present."
    )
    assert list(prompts) == ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]
    absent = prompts_of(items["patient64742_study1_view1_frontal_edema"], {})
    assert absent["p2"] == "No Edema in the frontal view of a Chest Xray."
