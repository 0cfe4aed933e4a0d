"""Folders of patients and cases that hold pictures, prepared as a user would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.fakes import patients
from tests.datasets.own_data import listed, prepared, touched
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.cases import are_cases, first_folders, short_names
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.generic import GENERIC, list_items
from vlsmctl.datasets.manifest import Record
from vlsmctl.datasets.recognition import recognise
from vlsmctl.errors import UsageError
from vlsmctl.formats.raster import read_mask_picture

COUNT = patients.PATIENTS * patients.EACH


def check_pictures(records: dict[str, Record], folder: Path) -> None:
    """Every picture, and its own mask, of every patient."""
    for number in range(COUNT):
        record = records[f"p{number // patients.EACH + 1}-a{number % patients.EACH}"]
        width = 32 + 4 * (number % 2)
        row, side = patients.mask_number(number)
        image = np.asarray(Image.open(folder / record.image).convert("RGB"))
        assert np.array_equal(image, fakes.picture(number, 32, width))
        expected = fakes.grey(fakes.blob(row=row, side=side, width=width))
        assert np.array_equal(read_mask_picture(folder / record.mask), expected)


LAYOUTS = [
    ("images/{p}/{n}.png", "masks/{p}/{n}.png"),
    ("images/{p}/{n}.png", "masks/{p}/{n}_mask.png"),
    ("frames/{p}/{n}.png", "gt/{p}/mask-{n}.png"),
    ("{p}/images/{n}.png", "{p}/masks/{n}.png"),
    ("{p}/Images/{n}.png", "{p}/Ground Truth/{n}_seg.png"),
    ("{p}/{n}.png", "{p}/{n}_mask.png"),
    ("{p}/{n}.png", "{p}/mask_{n}.png"),
]


@pytest.mark.parametrize(("images", "masks"), LAYOUTS)
def test_pictures_of_patients(tmp_path: Path, images: str, masks: str) -> None:
    raw = patients.write(tmp_path / "raw" / "mine", images, masks)
    found = recognise(tmp_path / "raw")
    assert [(root.path, root.records) for root in found.own] == [(raw, COUNT)]
    records, folder, notes = prepared(raw, tmp_path / "data")
    assert len(records) == COUNT
    check_pictures(records, folder)
    assert {record.group for record in records.values()} == {f"p{n + 1}" for n in range(patients.PATIENTS)}
    assert {record.split for record in records.values()} == {"train", "val", "test"}
    assert any("groups are taken from the folders" in note for note in notes)


def test_the_rule_is_said_in_words(tmp_path: Path) -> None:
    texts = []
    for number, (images, masks) in enumerate(LAYOUTS):
        listing = list_items(patients.write(tmp_path / str(number), images, masks))
        texts.append(listing.notes[0].removeprefix("paired by the rule: "))
    assert texts == [
        "images/ and masks/ with equal names in the folders below them",
        "images/FOLDER/NAME.png with masks/FOLDER/NAME_mask.png",
        "frames/FOLDER/NAME.png with gt/FOLDER/mask-NAME.png",
        "CASE/images/ and CASE/masks/ with equal names",
        "CASE/Images/NAME.png with CASE/Ground Truth/NAME_seg.png",
        "CASE/NAME.png with CASE/NAME_mask.png",
        "CASE/NAME.png with CASE/mask_NAME.png",
    ]


def test_pictures_in_no_folder_have_no_group(tmp_path: Path) -> None:
    raw = patients.write(tmp_path / "raw", direct=4)
    records, folder, _ = prepared(raw, tmp_path / "data")
    assert len(records) == COUNT + 4
    check_pictures(records, folder)
    assert {record.id for record in records.values() if record.group is None} == {
        f"direct{n}" for n in range(4)
    }


def test_deeper_folders_and_splits_above_or_below(tmp_path: Path) -> None:
    names = [f"images/p{p}/s{s}/a.png" for p in range(6) for s in range(2)]
    items, _ = listed(touched(tmp_path / "deep", [*names, *(n.replace("images", "masks") for n in names)]))
    assert items["p3-s1-a"].group == "p3"
    for number, form in enumerate(("{s}/{f}/{p}/a.png", "{f}/{s}/{p}/a.png", "{s}/{p}/{f}/a.png")):
        names = [
            form.format(s=split, f=kind, p=f"p{p + 3 * (split == 'test')}")
            for split in ("train", "test")
            for kind in ("images", "masks")
            for p in range(3)
        ]
        items, listing = listed(touched(tmp_path / str(number), names))
        assert {item.id: (item.split, item.group) for item in items.values()} == {
            f"p{p}-a": ("test" if p > 2 else "train", f"p{p}") for p in range(6)
        }
        assert "split by folders: test (3), train (3)" in listing.notes[0]
        assert listing.left_out == ()


def test_a_case_with_one_picture_is_called_by_its_folder(tmp_path: Path) -> None:
    names = [f"case_{n}/{kind}.png" for n in range(4) for kind in ("image", "mask")]
    items, _ = listed(touched(tmp_path, names))
    assert list(items) == [f"case_{n}" for n in range(4)]
    assert {item.group for item in items.values()} == set(items)


def test_folders_that_the_names_repeat_are_left_out_of_ids(tmp_path: Path) -> None:
    names = [
        f"TCGA_{site}_{n}_2001/TCGA_{site}_{n}_2001_{k}{end}.tif"
        for n, site in ((49, "CS"), (50, "DU"), (51, "HT"))
        for k in range(3)
        for end in ("", "_mask")
    ]
    root = touched(tmp_path, [*names, "data.csv", "README.md"])
    assert GENERIC.matches(read_folder(root))
    items, listing = listed(root)
    assert items["TCGA_DU_50_2001_2"].group == "TCGA_DU_50_2001"
    assert len(items) == 9
    assert listing.left_out == ()


def test_what_a_patient_lacks_is_named(tmp_path: Path) -> None:
    raw = patients.write(tmp_path / "raw", "{p}/{n}.png", "{p}/{n}_mask.png")
    (raw / "p2" / "a1_mask.png").unlink()
    (raw / "p3" / "a0.png").write_bytes(b"")
    (raw / "p4" / "report.txt").write_text("", encoding="utf-8")
    (raw / "p4" / "old").mkdir()
    for path in (raw / "p5").iterdir():
        path.rename(path.with_name(path.name.replace("_mask", "_contour")))
    outcome = prepare("generic", raw, tmp_path / "data", workers=1)
    told = {one.file: (one.expected, one.check) for one in outcome.left_out}
    assert told["p2/a1.png"] == ("a mask p2/a1_mask.*", "partner")
    assert told["p3/a0.png"][1] == "unreadable"
    assert told["p5/a2.png"][0] == "a mask p5/a2_mask.*"
    assert set(told) == {
        "p2/a1.png",
        "p3/a0.png",
        *(f"p5/a{n}{e}.png" for n in range(3) for e in ("", "_contour")),
    }
    assert any("1 further pictures and folders are not used: old/" in note for note in outcome.notes)


def test_a_patient_without_any_mask_folder_is_named(tmp_path: Path) -> None:
    for number, (images, masks) in enumerate((LAYOUTS[0], LAYOUTS[3])):
        raw = patients.write(tmp_path / str(number), images, masks)
        where = masks.format(p="p2", n="").removesuffix("/.png")
        for path in (raw / where).iterdir():
            path.unlink()
        (raw / where).rmdir()
        _, listing = listed(raw)
        assert {one.file: one.expected for one in listing.left_out} == {
            images.format(p="p2", n=f"a{n}"): f"a mask {where}/a{n}.*" for n in range(3)
        }


def test_folders_that_may_be_classes_are_warned_of(tmp_path: Path) -> None:
    form = "{f}/{c}/{n}.png"
    names = [
        form.format(f=f, c=c, n=n) for f in ("images", "masks") for c in ("benign", "bad") for n in "ab"
    ]
    _, listing = listed(touched(tmp_path / "a", names))
    assert any("bad, benign are taken for patients" in warning for warning in listing.warnings)
    _, listing = listed(patients.write(tmp_path / "b"))
    assert listing.warnings == ()
    one = [form.format(f=f, c="batch", n=n) for f in ("images", "masks") for n in "abc"]
    items, listing = listed(touched(tmp_path / "c", one))
    assert {item.group for item in items.values()} == {None}


# --- one data set, or several?


@pytest.mark.parametrize(
    ("names", "called_so", "one"),
    [
        (["p1", "p2"], False, True),
        (["Patient 01", "Patient 02", "Patient 11"], False, True),
        (["sub-001", "sub-002"], False, True),
        (["1", "2", "17"], False, True),
        (["0a1b2c3d4e5f", "112233445566", "ffee00112233"], False, True),
        (["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003"], True, True),
        ([f"polyps{n}" for n in range(8)], False, True),
        (["a", "b"], False, False),
        (["a", "b", "c"], True, False),
        (["p1"], False, False),
        (["1", "2"], False, False),
        (["2018", "2019", "2020"], False, False),
        (["CVC-300", "CVC-ClinicDB", "CVC-ColonDB"], True, False),
        (["CVC-300", "CVC-612"], True, False),
        (["isic2016", "isic2017", "isic2018"], False, False),
        (["polyps1", "feet1", "skin1"], True, False),
        (["1_kvasir", "2_bkai", "3_etis"], False, False),
    ],
)
def test_what_looks_like_patients(names: list[str], called_so: bool, one: bool) -> None:
    assert are_cases(names, called_so) == one


@pytest.mark.parametrize(
    "sets",
    [
        ("a", "b"),
        ("set1", "set2", "set3"),
        ("CVC-300", "Kvasir", "ETIS-LaribPolypDB"),
        ("2019", "2020", "2021"),
    ],
)
def test_unrelated_sets_beside_one_another_stay_apart(tmp_path: Path, sets: tuple[str, ...]) -> None:
    for name in sets:
        fakes.generic(tmp_path / name, count=2)
        touched(tmp_path / name, ["masks/notes.txt"])
    assert not GENERIC.matches(read_folder(tmp_path))
    found = recognise(tmp_path)
    assert len(found.own) + len(found.roots) == len(sets)
    # but somebody may say that they are one
    items, _ = listed(tmp_path)
    assert {item.group for item in items.values()} == set(sets)


def test_a_folder_that_is_named_may_call_its_patients_as_it_likes(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number, name in enumerate(("anna", "bert", "carla", "dora")):
        fakes.save(raw / name / "image.png", fakes.picture(number))
        fakes.save(raw / name / "mask.png", fakes.grey(fakes.blob(row=number + 1)))
    assert not GENERIC.matches(read_folder(raw))
    records, folder, _ = prepared(raw, tmp_path / "data")
    assert {name: record.group for name, record in records.items()} == {
        name: name for name in ("anna", "bert", "carla", "dora")
    }
    assert read_mask_picture(folder / records["carla"].mask)[3, 8] == 255


def test_patients_among_many_other_folders_are_not_one_set(tmp_path: Path) -> None:
    patients.write(tmp_path, "{p}/images/{n}.png", "{p}/masks/{n}.png")
    for number in range(6):
        (tmp_path / f"x{number}").mkdir()
    assert not GENERIC.matches(read_folder(tmp_path))


def test_nothing_is_paired_across_patients(tmp_path: Path) -> None:
    names = [f"p{n}/image{n}.png" for n in range(4)] + [f"p{n + 4}/image{n}_mask.png" for n in range(4)]
    root = touched(tmp_path, names)
    assert not GENERIC.matches(read_folder(root))
    with pytest.raises(UsageError, match="in a folder for each patient"):
        list_items(root)


def test_ids_stay_different() -> None:
    assert short_names(["p1/a", "p2/a"]) == {"p1/a": "p1-a", "p2/a": "p2-a"}
    assert short_names(["1/10", "1/1_2"]) == {"1/10": "1-10", "1/1_2": "1_2"}
    assert short_names(["a/b-c", "a-b/c"]) == {"a/b-c": "a--b-c", "a-b/c": "a-b--c"}
    assert short_names(["x/a/x", "x/b/x"], alone=True) == {"x/a/x": "a-x", "x/b/x": "b-x"}
    assert first_folders(["all/p1/a", "all/p2/b", "all/c"]) == {
        "all/p1/a": "p1", "all/p2/b": "p2", "all/c": None,
    }  # fmt: skip


# --- prompts.csv


def test_rows_of_prompts_csv_name_pictures_with_their_folder(tmp_path: Path) -> None:
    raw = patients.write(tmp_path)
    rows = "image,prompt\np2/a1.png,second\nimages/p3/a1.png,third\n"
    (raw / "prompts.csv").write_text(rows, encoding="utf-8")
    items, listing = listed(raw)
    assert {i.id: i.prompts["p1"] for i in items.values() if i.prompts} == {
        "p2-a1": "second",
        "p3-a1": "third",
    }
    assert listing.left_out == ()
    (raw / "prompts.csv").write_text("image,prompt\na1.png,which\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"line 2: 6 images are called 'a1\.png'"):
        list_items(raw)
    (raw / "masks" / "p7").mkdir()
    fakes.save(raw / "images" / "p7" / "only.png", fakes.picture(99))
    fakes.save(raw / "masks" / "p7" / "only.png", fakes.grey(fakes.blob()))
    (raw / "prompts.csv").write_text("image,prompt\n/elsewhere/only.png,one\n", encoding="utf-8")
    assert (listed(raw)[0]["p7-only"].prompts or {})["p1"] == "one"
    (raw / "prompts.csv").write_text("id,group\np1-a0,other\n", encoding="utf-8")
    assert listed(raw)[0]["p1-a0"].group == "other"
