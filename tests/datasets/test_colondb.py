from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets import fakes
from tests.datasets.fakes import colondb
from tests.datasets.polyp_sets import claims
from vlsmctl.datasets.colondb import COLONDB, list_items
from vlsmctl.datasets.sources import MaskFiles, Picture, read_image, read_mask
from vlsmctl.errors import UnreadableFile


def test_pranets_layout(tmp_path: Path) -> None:
    root = colondb.write(tmp_path)
    assert claims(tmp_path) == {"CVC-ColonDB": ["colondb"]}
    listing = list_items(root)
    assert [item.id for item in listing.items] == [str(frame) for frame in colondb.FRAMES]
    assert {(item.split, item.group) for item in listing.items} == {(None, None)}
    assert "original download" not in " ".join(listing.notes)
    assert "--split all" in COLONDB.split_rule


@pytest.mark.parametrize("name", ["CVC-ColonDB", "any name"])
def test_the_original_layout(tmp_path: Path, name: str) -> None:
    root = colondb.write(tmp_path, original=True, name=name)
    (root / "Thumbs.db").write_bytes(b"x")
    assert claims(tmp_path) == {name: ["colondb"]}
    listing = list_items(root)
    assert [item.id for item in listing.items] == [str(frame) for frame in colondb.FRAMES]
    assert listing.left_out == ()
    assert "original download" in listing.notes[0]
    first = listing.items[0]
    assert first.image == Picture(root / f"{first.id}.bmp")
    assert first.mask == MaskFiles((root / f"p{first.id}.bmp",))
    np.testing.assert_array_equal(read_image(first.image), fakes.picture(1147, 32, 40))
    mask = read_mask(first.mask, (32, 40)).grey
    np.testing.assert_array_equal(mask > 127, fakes.blob(5, 2, 12, 32, 40))


def test_both_layouts_hold_the_same(tmp_path: Path) -> None:
    one, other = (list_items(colondb.write(tmp_path / str(n), original=bool(n))).items for n in (0, 1))
    assert [item.id for item in one] == [item.id for item in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(read_mask(a.mask, (32, 40)).grey, read_mask(b.mask, (32, 40)).grey)


def test_faults_in_the_original_layout_are_left_out(tmp_path: Path) -> None:
    root = colondb.write(tmp_path, original=True)
    (root / "p150.bmp").unlink()
    (root / "151.bmp").unlink()
    (root / "152.png").write_bytes((root / "152.bmp").read_bytes())
    (root / "readme.txt").write_text("x", encoding="utf-8")
    (root / "x153.bmp").write_bytes(b"")
    (root / "p154.bmp").write_bytes(b"")
    listing = list_items(root)
    assert [item.id for item in listing.items] == [
        str(frame) for frame in colondb.FRAMES if frame not in (150, 151, 152)
    ]
    assert [(each.file, each.check) for each in listing.left_out] == [
        ("150.bmp", "partner"),
        ("152.bmp", "partner"),
        ("p151.bmp", "partner"),
        ("readme.txt", "kind"),
        ("x153.bmp", "kind"),
    ]
    found = {each.file: each.found for each in listing.left_out}
    assert found["150.bmp"] == "150.bmp alone"
    assert found["152.bmp"] == "152.bmp, 152.png, p152.bmp"
    by_id = {item.id: item for item in listing.items}
    with pytest.raises(UnreadableFile, match="the file is empty"):
        read_mask(by_id["154"].mask, (32, 40))


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "CVC-ColonDB")
    colondb.write(tmp_path, name="renamed")
    for number in range(5):  # marked with p, but PNG in a folder of another name
        fakes.save(tmp_path / "mine" / f"{number}.png", fakes.picture(number))
        fakes.save(tmp_path / "mine" / f"p{number}.png", fakes.grey(fakes.blob()))
    for number in range(5):  # BMP files with numbers, without masks
        fakes.save(tmp_path / "bitmaps" / f"{number}.bmp", fakes.picture(number))
    assert claims(tmp_path) == {}
