from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.own_data import touched
from vlsmctl.datasets.pairs import pair_folders
from vlsmctl.datasets.records import Listing


def pairs(listing: Listing) -> dict[str, tuple[str, str]]:
    return {item.id: (item.image.path.name, item.mask.files[0].name) for item in listing.items}


def left_out(listing: Listing) -> dict[str, str]:
    return {each.file: each.check for each in listing.left_out}


def test_equal_stems_whatever_the_extension(tmp_path: Path) -> None:
    root = touched(tmp_path, ["i/b.v2.JPG", "i/a.png", "m/a.tif", "m/b.v2.png"])
    listing = pair_folders(root, root / "i", root / "m", prefix="train-", split="train")
    assert pairs(listing) == {"train-a": ("a.png", "a.tif"), "train-b.v2": ("b.v2.JPG", "b.v2.png")}
    assert {item.split for item in listing.items} == {"train"}
    assert listing.left_out == ()


def test_suffixes_in_any_case(tmp_path: Path) -> None:
    root = touched(tmp_path, ["i/a_Img.png", "i/b_img.png", "m/a_MASK.png", "m/b_mask.png"])
    listing = pair_folders(root, root / "i", root / "m", image_suffix="_img", mask_suffix="_mask")
    assert pairs(listing) == {"a_Img": ("a_Img.png", "a_MASK.png"), "b_img": ("b_img.png", "b_mask.png")}


def test_one_folder_for_both(tmp_path: Path) -> None:
    names = ["a.png", "a_mask.png", "b.png", "c_mask.png", "_mask.png", "prompts.csv", ".hidden"]
    root = touched(tmp_path, names)
    listing = pair_folders(root, root, root, mask_suffix="_mask")
    assert pairs(listing) == {"a": ("a.png", "a_mask.png")}
    assert left_out(listing) == {"b.png": "partner", "c_mask.png": "partner", "_mask.png": "partner"}
    with pytest.raises(ValueError, match="mask_suffix"):
        pair_folders(root, root, root)


def test_what_has_no_partner_is_told_what_it_lacks(tmp_path: Path) -> None:
    root = touched(tmp_path, ["i/a.png", "i/b.png", "m/b_gt.png", "m/c_gt.png", "m/d.png"])
    listing = pair_folders(root, root / "i", root / "m", mask_suffix="_gt")
    told = {each.file: (each.expected, each.found) for each in listing.left_out}
    assert told == {
        "i/a.png": ("a mask m/a_gt.*", "none that is usable"),
        "m/c_gt.png": ("an image i/c.*", "none that is usable"),
        "m/d.png": ("a name that ends with '_gt' as the others do", "'d'"),
    }


def test_double_stems_folders_and_other_files_are_left_out(tmp_path: Path) -> None:
    names = ["i/a.png", "i/a.jpg", "i/b.png", "i/sub/x.png", "i/notes.txt", "i/Thumbs.db", "i/LICENSE"]
    root = touched(tmp_path, [*names, "m/a.png", "m/b.png", "m/.DS_Store"])
    listing = pair_folders(root, root / "i", root / "m")
    assert list(pairs(listing)) == ["b"]
    checks = {"i/a.jpg": "partner", "i/sub": "kind", "i/notes.txt": "kind", "i/LICENSE": "kind"}
    assert left_out(listing) == {**checks, "m/a.png": "partner"}
    assert next(each.found for each in listing.left_out if each.file == "i/a.jpg") == "a.jpg, a.png"


def test_no_file_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touched(tmp_path, [f"{folder}/{n}.png" for folder in "im" for n in range(50)])

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a file was looked at")

    for name in ("stat", "is_file", "is_dir", "exists", "open"):
        monkeypatch.setattr(Path, name, refused)
    assert len(pair_folders(root, root / "i", root / "m").items) == 50
