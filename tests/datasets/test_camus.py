from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.datasets import fakes
from tests.datasets.fakes import camus as fake
from vlsmctl.config import read_preset
from vlsmctl.datasets.camus import CAMUS, CLASSES, age_in_words
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.prompts import fill_templates
from vlsmctl.datasets.records import Item, Listing
from vlsmctl.datasets.sources import read_image, read_mask
from vlsmctl.errors import UnreadableFile

RECORDS = fake.PATIENTS * 4 * 3


def listed(root: Path) -> tuple[dict[str, Item], Listing]:
    listing = CAMUS.list_items(root)
    return {item.id: item for item in listing.items}, listing


def test_both_layouts_are_recognised_wherever_their_root_is(tmp_path: Path) -> None:
    new = fake.write(tmp_path / "new", parent="CAMUS_public")
    old = fake.write(tmp_path / "old", old=True)
    for root in (new / "CAMUS_public", new / "CAMUS_public" / "database_nifti", old, old / "training"):
        assert CAMUS.matches(read_folder(root))
    for other in (new, tmp_path, new / "CAMUS_public" / "database_nifti" / "patient0001"):
        assert not CAMUS.matches(read_folder(other))
    assert not CAMUS.matches(read_folder(fakes.generic(tmp_path / "training" / "patient0001")))
    assert not CAMUS.matches(read_folder(tmp_path))


def test_the_new_layout_with_its_own_split(tmp_path: Path) -> None:
    items, listing = listed(fake.write(tmp_path))
    assert len(items) == RECORDS
    assert listing.left_out == ()
    assert listing.notes == (f"{2 * fake.PATIENTS} files of whole sequences are not used",)
    splits = {item.group: item.split for item in items.values()}
    assert Counter(splits.values()) == {"train": 5, "val": 1, "test": 2}
    assert splits["patient0006"] == "val"
    assert splits["patient0008"] == "test"
    inside, _ = listed(tmp_path / "database_nifti")
    assert {item.group: item.split for item in inside.values()} == splits


def test_the_old_layout_numbers_its_testing_patients_again(tmp_path: Path) -> None:
    items, listing = listed(fake.write(tmp_path, old=True))
    assert len(items) == RECORDS
    assert listing.left_out == ()
    assert listing.notes == (f"{2 * fake.PATIENTS} files of whole sequences are not used",)
    groups = {item.group: item.split for item in items.values()}
    assert groups["patient0001"] == "train"
    assert groups["test-patient0001"] == "test"
    assert Counter(groups.values()) == {"train": 6, "test": 2}
    names = ("patient0002_4CH_ES.png", "mask_3/patient0002_4CH_ES_gt.png")
    assert CAMUS.published(*names) == "patient0002_4CH_ES_3"
    assert CAMUS.published_test is not None
    assert CAMUS.published_test(*names) == "test-patient0002_4CH_ES_3"
    assert {CAMUS.published(*names), CAMUS.published_test(*names)} <= items.keys()
    alone, _ = listed(tmp_path / "training")
    assert {item.split for item in alone.values()} == {None}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("view", "phase"), [("2CH", "ED"), ("4CH", "ES")])
@pytest.mark.parametrize("patient", [1, 2])
def test_pixels_and_labels_are_those_that_were_stored(
    tmp_path: Path, old: bool, patient: int, view: str, phase: str
) -> None:
    items, _ = listed(fake.write(tmp_path, old=old))
    shown = fake.image(patient, view, phase).astype(int)
    for label in CLASSES:
        item = items[f"patient{patient:04d}_{view}_{phase}_{label}"]
        assert item.image_name == f"patient{patient:04d}_{view}_{phase}"
        pixels = read_image(item.image)
        assert pixels.shape == (*fake.size(patient), 3)
        assert np.abs(pixels[..., 0] - shown).max() <= 4  # the lightest and darkest are cut
        drawn = read_mask(item.mask, fake.size(patient)).grey
        assert np.array_equal(drawn, fakes.grey(fake.labels(patient, view, phase) == label))


def test_both_layouts_give_the_same_pixels(tmp_path: Path) -> None:
    new, _ = listed(fake.write(tmp_path / "new"))
    old, _ = listed(fake.write(tmp_path / "old", old=True))
    for name, other in (("patient0004_2CH_ES_1", "patient0004_2CH_ES_1"), ("patient0007_4CH_ED_2",) * 2):
        again = other.replace("patient0007", "test-patient0001")
        assert np.array_equal(read_image(new[name].image), read_image(old[again].image))


def test_prompts_follow_the_published_grammar(tmp_path: Path) -> None:
    items, _ = listed(fake.write(tmp_path))
    item = items["patient0001_2CH_ED_1"]
    assert item.words == {
        "class": "left ventricular cavity", "view": "two-chamber", "phase": "diastole",
        "sex": "female", "age": "seventy-one", "quality": "medium",
    }  # fmt: skip
    facts = {"view": "2CH", "phase": "ED", "sex": "F", "age": "71", "quality": "Medium"}
    assert item.attributes == {"label": 1, **facts}
    assert {word for each in items.values() for word in each.words} == {"class", *CAMUS.words}
    given = read_preset("camus")["prompts_from"]
    words = {"count": "one", "shape": "oval", **item.words}
    prompts = fill_templates(given["templates"], words, absent=given["absent"], extra=CAMUS.words)
    ends = " at end of the diastole cycle of a seventy-one-year-old female with medium image quality"
    assert prompts["p1"] == [
        "Left ventricular cavity of the heart",
        "Left ventricular cavity in the cardiac ultrasound",
    ]
    assert prompts["p7"] == [
        f"Left ventricular cavity of oval shape in two-chamber view of the heart{ends}",
        f"Left ventricular cavity of oval shape in two-chamber view in the cardiac ultrasound{ends}",
    ]
    assert list(prompts) == [f"p{number}" for number in range(8)]
    assert all(len(prompts[f"p{number}"]) == 2 for number in range(1, 8))


def test_side_files_that_are_missing_or_say_nothing_cost_words_only(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    (root / "database_nifti" / "patient0001" / "Info_2CH.cfg").unlink()
    (root / "database_nifti" / "patient0002" / "Info_4CH.cfg").write_bytes(
        b"Sex: \xff\xfe\nAge: 2.5e9\nnoise"
    )
    items, listing = listed(root)
    assert len(items) == RECORDS
    assert set(items["patient0001_2CH_ED_1"].words) == {"class", "view", "phase"}
    assert "sex" in items["patient0001_4CH_ED_1"].words
    assert set(items["patient0002_4CH_ES_1"].words) == {"class", "view", "phase"}
    without = {
        word for word in ("sex", "age", "quality") if word not in items["patient0003_2CH_ED_1"].words
    }
    assert without == {"sex"}
    (sex,) = (warning for warning in listing.warnings if " no sex" in warning)
    assert sex.startswith("4 side files")
    assert "patient0001/Info_2CH.cfg" in sex


def test_what_is_missing_is_left_out_by_name(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    folder = root / "database_nifti"
    (folder / "patient0001" / "patient0001_2CH_ED_gt.nii.gz").unlink()
    (folder / "patient0002" / "patient0002_4CH_ES.nii.gz").unlink()
    (folder / "patient0003" / "patient0003_2CH_ED.nii.gz").write_bytes(b"")
    fakes.truncate(folder / "patient0004" / "patient0004_2CH_ED_gt.nii.gz")
    items, listing = listed(root)
    assert len(items) == RECORDS - 6
    told = {each.file: (each.check, each.expected) for each in listing.left_out}
    assert told == {
        "database_nifti/patient0001/patient0001_2CH_ED.nii.gz": (
            "partner",
            "patient0001_2CH_ED_gt.nii.gz or .mhd beside it",
        ),
        "database_nifti/patient0002/patient0002_4CH_ES_gt.nii.gz": (
            "partner",
            "patient0002_4CH_ES.nii.gz or .mhd beside it",
        ),
    }
    with pytest.raises(UnreadableFile, match="patient0003_2CH_ED"):
        read_image(items["patient0003_2CH_ED_1"].image)
    with pytest.raises(UnreadableFile, match="patient0004_2CH_ED_gt"):
        read_mask(items["patient0004_2CH_ED_1"].mask, fake.size(4))


def test_a_label_of_another_size_is_refused(tmp_path: Path) -> None:
    items, _ = listed(fake.write(tmp_path, old=True))
    label = tmp_path / "training" / "patient0001" / "patient0001_2CH_ED_gt.mhd"
    fake.write_metaimage(label, np.zeros((1, 20, 30), np.uint8), (1.0, 1.0, 1.0))
    with pytest.raises(UnreadableFile, match=r"expected 34 x 41 x 1 voxels .* found 30 x 20 x 1"):
        read_mask(items["patient0001_2CH_ED_1"].mask, fake.size(1))


def test_patients_in_no_list_are_told(tmp_path: Path) -> None:
    root = fake.write(tmp_path)
    (root / "database_split" / "subgroup_validation.txt").unlink()
    items, listing = listed(root)
    assert items["patient0006_2CH_ED_1"].split is None
    assert any("in none of database_split/*.txt: 1, patient0006" in w for w in listing.warnings)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        *((0, "zero"), (13, "thirteen"), (20, "twenty"), (76, "seventy-six"), (80, "eighty")),
        *((100, "one hundred"), (101, "one hundred and one"), (120, "one hundred and twenty")),
    ],
)
def test_ages(age: int, words: str) -> None:
    assert age_in_words(age) == words


def test_all_ages_differ() -> None:
    assert len({age_in_words(age) for age in range(121)}) == 121


def test_the_listing_says_nothing_that_cannot_be_written_down(tmp_path: Path) -> None:
    items, _ = listed(fake.write(tmp_path))
    assert all(json.dumps([dict(item.words), dict(item.attributes)]) for item in items.values())
