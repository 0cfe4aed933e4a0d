from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.fakes import busi, chexlocalize, dfu2022, isic2016
from vlsmctl.config import read_preset
from vlsmctl.datasets.busi import BUSI
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.manifest import Prompts
from vlsmctl.datasets.prompts import fill_templates
from vlsmctl.datasets.records import Item, Listing
from vlsmctl.datasets.sources import MaskFiles, read_image, read_mask
from vlsmctl.errors import UnreadableFile

TOP = "Dataset_BUSI_with_GT"
LESIONS = [(kind, number) for kind, count in busi.COUNTS.items() for number in range(1, count + 1)]


def listed(root: Path) -> tuple[dict[str, Item], Listing]:
    listing = BUSI.list_items(root)
    return {item.id: item for item in listing.items}, listing


def test_all_three_classes(tmp_path: Path) -> None:
    root = busi.write(tmp_path) / TOP
    assert BUSI.matches(read_folder(root))
    items, listing = listed(root)
    assert Counter(item.stratum for item in items.values()) == busi.COUNTS
    assert (listing.left_out, listing.notes) == ((), ())
    assert items["3_benign"].words == {"kind": "benign", "regularity": "regular"}
    assert items["3_malignant"].words == {"kind": "malignant", "regularity": "irregular"}
    assert items["3_normal"].words == {}
    assert items["3_normal"].attributes == {"diagnosis": "normal"}
    assert BUSI.published("3_normal.png", "3_normal.png") in items
    assert {word for item in items.values() for word in item.words} == set(BUSI.words)


@pytest.mark.parametrize("masks", [None, "mask", "masks"])
@pytest.mark.parametrize(("kind", "number"), LESIONS)
def test_masks_of_every_kind_and_their_union(
    tmp_path: Path, kind: str, number: int, masks: str | None
) -> None:
    items, _ = listed(busi.write(tmp_path, masks=masks) / TOP)
    item = items[f"{number}_{kind}"]
    assert isinstance(item.mask, MaskFiles)
    assert len(item.mask.paths) == busi.SEVERAL.get((kind, number), 1)
    pixels = read_image(item.image)
    expected = np.zeros(pixels.shape[:2], bool)
    for which in range(len(item.mask.paths)):
        expected |= busi.lesion(kind, number, which)
    mask = read_mask(item.mask, pixels.shape[:2]).grey
    np.testing.assert_array_equal(mask, fakes.grey(expected))


def test_the_fake_has_masks_of_three_kinds(tmp_path: Path) -> None:
    busi.write(tmp_path)
    modes = set()
    for path in tmp_path.rglob("*_mask*.png"):
        with Image.open(path) as picture:
            modes.add(picture.mode)
    assert modes == {"1", "RGB", "RGBA"}


def test_one_class_alone(tmp_path: Path) -> None:
    root = busi.write(tmp_path) / TOP
    shutil.rmtree(root / "normal")
    shutil.rmtree(root / "malignant")
    assert BUSI.matches(read_folder(root))
    items, listing = listed(root)
    assert len(items) == busi.COUNTS["benign"]
    assert listing.notes == ("there is no folder malignant and no normal",)


def test_faults_are_named(tmp_path: Path) -> None:
    root = busi.write(tmp_path) / TOP
    (root / "benign" / "benign (1)_mask.png").unlink()
    (root / "benign" / "benign (4).png").unlink()
    (root / "malignant" / "malignant (3) copy.png").write_bytes(b"")
    (root / "malignant" / "Thumbs.db").write_bytes(b"")
    (root / "normal" / "benign (9).png").write_bytes(b"")
    items, listing = listed(root)
    assert [(each.file, each.check) for each in listing.left_out] == [
        ("benign/benign (1).png", "partner"),
        ("benign/benign (4)_mask.png", "partner"),
        ("benign/benign (4)_mask_1.png", "partner"),
        ("malignant/malignant (3) copy.png", "kind"),
        ("normal/benign (9).png", "kind"),
    ]
    assert len(items) == sum(busi.COUNTS.values()) - 2


def test_an_unreadable_second_mask_spoils_the_image(tmp_path: Path) -> None:
    root = busi.write(tmp_path) / TOP
    fakes.truncate(root / "benign" / "benign (7)_mask_2.png")
    with pytest.raises(UnreadableFile, match=r"benign \(7\)_mask_2"):
        read_mask(listed(root)[0]["7_benign"].mask, busi.size("benign", 7))


def test_a_second_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    root = busi.write(tmp_path) / TOP
    fakes.save(root / "benign" / "benign (7)_mask_1.png", fakes.grey(fakes.blob()))
    with pytest.raises(UnreadableFile, match="32 x 32"):
        read_mask(listed(root)[0]["7_benign"].mask, busi.size("benign", 7))


def test_folders_called_benign_with_other_files_are_not_taken(tmp_path: Path) -> None:
    for kind in busi.COUNTS:
        fakes.save(tmp_path / kind / "SOB_B_A-14-22549AB-40-001.png", fakes.picture(1))
        fakes.save(tmp_path / kind / f"{kind} (1).png", fakes.picture(2))
    assert not BUSI.matches(read_folder(tmp_path))


@pytest.mark.parametrize("other", [isic2016, dfu2022, chexlocalize])
def test_other_sets_are_not_taken(tmp_path: Path, other: object) -> None:
    other.write(tmp_path)  # type: ignore[attr-defined]
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    assert not any(BUSI.matches(read_folder(folder)) for folder in folders)


def test_only_the_top_folder_is_the_root(tmp_path: Path) -> None:
    busi.write(tmp_path, masks="masks")
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    assert [folder.name for folder in folders if BUSI.matches(read_folder(folder))] == [TOP]


def prompts_of(item: Item, of_the_mask: dict[str, str]) -> Prompts:
    given = read_preset("busi")["prompts_from"]
    words = {"class": given["class"], **of_the_mask, **item.words}
    return fill_templates(given["templates"], words, absent=given["absent"], extra=BUSI.words)


def test_prompts_are_sentences_with_both_words_for_the_kind(tmp_path: Path) -> None:
    items, _ = listed(busi.write(tmp_path) / TOP)
    seen = {"count": "two", "size": "small", "shape": "round", "place": "top left, center", "s": "s"}
    prompts = prompts_of(items["4_benign"], seen)
    assert list(prompts) == ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]
    assert prompts["p2"] == [
        "Benign tumor in the breast ultrasound image.",
        "Regular-shaped tumor in the breast ultrasound image.",
    ]
    assert prompts["p6"] == [
        "Two small round-shaped benign tumors at the top left, center in the breast ultrasound image.",
        "Two small round-shaped regular tumors at the top left, center in the breast ultrasound image.",
    ]


def test_prompts_of_normal_images_say_that_nothing_is_there(tmp_path: Path) -> None:
    items, _ = listed(busi.write(tmp_path) / TOP)
    prompts = prompts_of(items["1_normal"], {})
    assert prompts.pop("p0") == ""
    assert len(prompts) == 6
    assert set(map(str, prompts.values())) == {"No tumor in the breast ultrasound image."}
