from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from tests.datasets import fakes
from tests.datasets.fakes import busi, chexlocalize, dfu2022, isic2016
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.isic2016 import ISIC2016
from vlsmctl.datasets.sources import read_image, read_mask
from vlsmctl.errors import UnreadableFile

TRAINING = "ISBI2016_ISIC_Part1_Training_{}"


@pytest.mark.parametrize("double", [False, True])
def test_both_parts_with_their_official_splits(tmp_path: Path, double: bool) -> None:
    root = isic2016.write(tmp_path, double=double)
    assert ISIC2016.matches(read_folder(root))
    listing = ISIC2016.list_items(root)
    assert {item.id: item.split for item in listing.items} == {
        **{f"ISIC_{number:07d}": "train" for number in isic2016.TRAINING},
        **{f"ISIC_{number:07d}": "test" for number in isic2016.TEST},
    }
    assert (listing.left_out, listing.notes) == ((), ())
    assert pickle.loads(pickle.dumps(listing)) == listing  # noqa: S301 - our own


def test_the_masks_are_of_their_images(tmp_path: Path) -> None:
    for item in ISIC2016.list_items(isic2016.write(tmp_path)).items:
        number = int(item.id[-7:])
        pixels = read_image(item.image)
        mask = read_mask(item.mask, pixels.shape[:2]).grey
        assert mask.shape == pixels.shape[:2]
        assert (mask == 255).sum() == (12 + number // 3) ** 2
        assert mask[10, 12] == 255


def test_the_ids_are_those_of_published_annotations(tmp_path: Path) -> None:
    ids = {item.id for item in ISIC2016.list_items(isic2016.write(tmp_path)).items}
    assert ISIC2016.published("ISIC_0000002.jpg", "ISIC_0000002_Segmentation.png") in ids


def test_a_small_s_as_in_later_years(tmp_path: Path) -> None:
    root = isic2016.write(tmp_path, suffix="_segmentation")
    assert len(ISIC2016.list_items(root).items) == 16


def test_the_training_set_alone(tmp_path: Path) -> None:
    root = isic2016.write(tmp_path, test=False)
    assert ISIC2016.matches(read_folder(root))
    listing = ISIC2016.list_items(root)
    assert len(listing.items) == 12
    assert (
        "no ISBI2016_ISIC_Part1_Test_Data and no ISBI2016_ISIC_Part1_Test_GroundTruth" in listing.notes[0]
    )


def test_images_without_their_masks_are_no_data_set(tmp_path: Path) -> None:
    root = isic2016.write(tmp_path, test=False)
    shutil.rmtree(root / TRAINING.format("GroundTruth"))
    assert not ISIC2016.matches(read_folder(root))


def test_a_missing_mask_and_a_damaged_image(tmp_path: Path) -> None:
    root = isic2016.write(tmp_path)
    (root / TRAINING.format("GroundTruth") / "ISIC_0000004_Segmentation.png").unlink()
    fakes.truncate(root / TRAINING.format("Data") / "ISIC_0000006.jpg")
    listing = ISIC2016.list_items(root)
    assert [each.file for each in listing.left_out] == [f"{TRAINING.format('Data')}/ISIC_0000004.jpg"]
    damaged = next(item for item in listing.items if item.id == "ISIC_0000006")
    with pytest.raises(UnreadableFile, match="ISIC_0000006"):
        read_image(damaged.image)


@pytest.mark.parametrize("other", [dfu2022, busi, chexlocalize])
def test_other_sets_are_not_taken(tmp_path: Path, other: object) -> None:
    other.write(tmp_path)  # type: ignore[attr-defined]
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    assert not any(ISIC2016.matches(read_folder(folder)) for folder in folders)


def test_the_downloads_are_the_four_archives() -> None:
    assert len({download.md5 for download in ISIC2016.downloads}) == 4
    assert all(len(download.md5) == 32 for download in ISIC2016.downloads)
    assert {download.url.rpartition("/")[2] for download in ISIC2016.downloads} == {
        download.name for download in ISIC2016.downloads
    }
