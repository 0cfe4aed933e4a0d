from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets import fakes
from tests.datasets.fakes import busi, chexlocalize, dfu2022, isic2016
from vlsmctl.datasets.dfu2022 import DFU2022
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.sources import read_image, read_mask
from vlsmctl.errors import UnreadableFile

RELEASE = "DFUC2022_train_release"


def test_the_training_release(tmp_path: Path) -> None:
    raw = dfu2022.write(tmp_path)
    assert not DFU2022.matches(read_folder(raw))  # its root lies below
    root = raw / RELEASE
    assert DFU2022.matches(read_folder(root))
    listing = DFU2022.list_items(root)
    assert [item.id for item in listing.items] == [str(number) for number in dfu2022.NUMBERS]
    assert {(item.split, item.group) for item in listing.items} == {(None, None)}
    assert (listing.left_out, listing.notes) == ((), ())
    assert DFU2022.published("100001.jpg", "100001.png") == listing.items[0].id


@pytest.mark.parametrize("high", [255, 1])
def test_the_masks_as_stored(tmp_path: Path, high: int) -> None:
    listing = DFU2022.list_items(dfu2022.write(tmp_path, high=high) / RELEASE)
    for item in listing.items:
        pixels = read_image(item.image)
        mask = read_mask(item.mask, pixels.shape[:2]).grey
        assert mask.shape == pixels.shape[:2] == (48, 64)
        assert set(np.unique(mask)) == {0, high}
    two = read_mask(listing.items[4].mask, (48, 64)).grey
    assert (two > 0).sum() == 12 * 12 + 8 * 8


def test_faults_are_named(tmp_path: Path) -> None:
    root = dfu2022.write(tmp_path) / RELEASE
    (root / "DFUC2022_train_images" / "100002.jpg").unlink()
    (root / "DFUC2022_train_masks" / "100003.png").write_bytes(b"")
    (root / "DFUC2022_train_masks" / "notes.txt").write_text("", encoding="utf-8")
    listing = DFU2022.list_items(root)
    assert [(each.file, each.check) for each in listing.left_out] == [
        ("DFUC2022_train_masks/100002.png", "partner"),
        ("DFUC2022_train_masks/notes.txt", "kind"),
    ]
    empty = next(item for item in listing.items if item.id == "100003")
    with pytest.raises(UnreadableFile, match="0 bytes"):
        read_mask(empty.mask, (48, 64))


def test_damaged_images_are_refused(tmp_path: Path) -> None:
    root = dfu2022.write(tmp_path) / RELEASE
    fakes.truncate(root / "DFUC2022_train_images" / "100001.jpg")
    with pytest.raises(UnreadableFile, match=r"100001\.jpg"):
        read_image(DFU2022.list_items(root).items[0].image)


@pytest.mark.parametrize("other", [isic2016, busi, chexlocalize])
def test_other_sets_are_not_taken(tmp_path: Path, other: object) -> None:
    other.write(tmp_path)  # type: ignore[attr-defined]
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    assert not any(DFU2022.matches(read_folder(folder)) for folder in folders)
