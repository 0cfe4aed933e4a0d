from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.datasets import fakes
from tests.datasets.fakes import bkai
from tests.datasets.polyp_sets import claims
from vlsmctl.datasets.bkai import BKAI, list_items
from vlsmctl.datasets.sources import ColourFile, Picture, read_image, read_mask
from vlsmctl.errors import UnreadableFile


@pytest.mark.parametrize("doubled", [True, False])
def test_labelled_pairs_are_listed(tmp_path: Path, doubled: bool) -> None:
    root = bkai.write(tmp_path, doubled=doubled)
    assert claims(tmp_path) == {"bkai-igh-neopolyp": ["bkai"]}
    listing = list_items(root)
    assert [item.id for item in listing.items] == sorted(bkai.IDS)
    assert listing.left_out == ()
    assert listing.notes == ("test/ is not used: its masks were never published",)
    assert {(item.split, item.group, item.stratum) for item in listing.items} == {(None, None, "")}
    first = listing.items[0]
    below = "train/train" if doubled else "train"
    assert first.image == Picture(root / below / f"{first.id}.jpeg")
    assert isinstance(first.mask, ColourFile)
    assert first.mask.attribute == "lesion"
    assert BKAI.published(f"{first.id}.jpeg", f"{first.id}.jpeg") == first.id


def test_one_folder_doubled_and_the_other_not(tmp_path: Path) -> None:
    root = bkai.write(tmp_path)
    (root / "train_gt" / "train_gt").rename(root / "moved")
    shutil.rmtree(root / "train_gt")
    (root / "moved").rename(root / "train_gt")
    assert claims(tmp_path) == {"bkai-igh-neopolyp": ["bkai"]}
    assert len(list_items(root).items) == len(bkai.IDS)


def test_train_and_train_gt_of_another_set_are_not_claimed(tmp_path: Path) -> None:
    for number in range(5):
        fakes.save(tmp_path / "train" / f"case{number}.png", fakes.picture(number))
        fakes.save(tmp_path / "train_gt" / f"case{number}.png", fakes.grey(fakes.blob()))
    assert claims(tmp_path) == {}


def test_without_masks_there_is_nothing_to_claim(tmp_path: Path) -> None:
    root = bkai.write(tmp_path)
    shutil.rmtree(root / "train_gt")
    assert claims(tmp_path) == {}
    assert list_items(root).items == ()


@pytest.mark.parametrize(
    ("each", "lesion", "blobs"),
    [
        (bkai.RED, "neoplastic", [(5, 3)]),
        (bkai.GREEN, "non-neoplastic", [(27, 40)]),
        (bkai.BOTH, "neoplastic and non-neoplastic", [(5, 5), (27, 40)]),
        (bkai.NONE, None, []),
    ],
)
def test_red_and_green_are_both_polyps(
    tmp_path: Path, each: str, lesion: str | None, blobs: list[tuple[int, int]]
) -> None:
    by_id = {item.id: item for item in list_items(bkai.write(tmp_path)).items}
    assert read_image(by_id[each].image).shape == (*bkai.SIZE, 3)
    drawn = read_mask(by_id[each].mask, bkai.SIZE)
    expected = np.zeros(bkai.SIZE, bool)
    for row, column in blobs:
        expected |= fakes.blob(row, column, 16, *bkai.SIZE)
    # JPEG blurs colours over a pixel or two at the edges
    assert ((drawn.grey > 127) != expected).sum() <= 0.3 * expected.sum()
    inner = [fakes.blob(row + 3, column + 3, 10, *bkai.SIZE) for row, column in blobs]
    assert all((drawn.grey[each_inner] > 127).all() for each_inner in inner)
    assert dict(drawn.attributes) == ({"lesion": lesion} if lesion else {})


def test_faults_are_left_out_or_refused(tmp_path: Path) -> None:
    root = bkai.write(tmp_path)
    (root / "train_gt" / "train_gt" / f"{bkai.RED}.jpeg").unlink()
    fakes.truncate(root / "train_gt" / "train_gt" / f"{bkai.GREEN}.jpeg")
    listing = list_items(root)
    assert [(each.file, each.check) for each in listing.left_out] == [
        (f"train/train/{bkai.RED}.jpeg", "partner")
    ]
    by_id = {item.id: item for item in listing.items}
    with pytest.raises(UnreadableFile, match=bkai.GREEN):
        read_mask(by_id[bkai.GREEN].mask, bkai.SIZE)
