from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets import fakes
from tests.datasets.fakes import etis
from tests.datasets.polyp_sets import claims
from vlsmctl.datasets.etis import ETIS, list_items
from vlsmctl.datasets.sources import MaskFiles, Picture, read_image, read_mask

IDS = [str(frame) for frame in sorted(etis.FRAMES)]


@pytest.mark.parametrize(
    "name",
    ["ETIS-LaribPolypDB", "ETIS-LaribPolyDB", "ETIS-Larib Polyp DB", "etis_larib", "EtisLarib", "ETIS"],
)
def test_the_name_in_many_spellings(tmp_path: Path, name: str) -> None:
    root = etis.write(tmp_path, name=name)
    assert claims(tmp_path) == {name: ["etis"]}
    listing = list_items(root)
    assert sorted((item.id for item in listing.items), key=int) == IDS
    assert {(item.split, item.group) for item in listing.items} == {(None, None)}
    assert listing.left_out == ()
    assert "--split all" in ETIS.split_rule


@pytest.mark.parametrize(
    ("name", "beside", "claimed"),
    [
        ("ETIS-LaribPolypDB", False, True),
        ("ETIS-LaribPolypDB", True, True),
        ("any name", False, True),
        ("any name", True, False),
    ],
)
def test_the_original_layout(tmp_path: Path, name: str, beside: bool, claimed: bool) -> None:
    root = etis.write(tmp_path, original=True, beside=beside, name=name)
    assert claims(tmp_path) == ({name: ["etis"]} if claimed else {})
    listing = list_items(root)
    assert [item.id for item in listing.items] == IDS
    assert listing.left_out == ()
    images, masks = (root, root) if beside else (root / "images", root / "masks")
    assert listing.items[0].image == Picture(images / "1.tif")
    assert listing.items[0].mask == MaskFiles((masks / "p1.tif",))


@pytest.mark.parametrize("kaggle", [False, True])
def test_masks_are_read_in_the_size_of_their_images(tmp_path: Path, kaggle: bool) -> None:
    root = etis.write(tmp_path, kaggle=kaggle)
    assert claims(tmp_path) == {root.name: ["etis"]}
    for item in list_items(root).items:
        image = read_image(item.image)
        drawn = read_mask(item.mask, (32, 40))
        assert image.shape == (32, 40, 3)
        assert drawn.coloured is kaggle
        expected = fakes.blob(5, 2 + int(item.id) % 17, 14, 32, 40)
        np.testing.assert_array_equal(drawn.grey > 127, expected)
        assert kaggle or set(np.unique(drawn.grey).tolist()) == {0, 255}


def test_faults_in_the_original_layout_are_left_out(tmp_path: Path) -> None:
    root = etis.write(tmp_path, original=True)
    (root / "masks" / "p5.tif").unlink()
    (root / "masks" / "6.tif").write_bytes(b"")
    listing = list_items(root)
    assert len(listing.items) == len(IDS) - 1
    assert [(each.file, each.check) for each in listing.left_out] == [
        ("images/5.tif", "partner"),
        ("masks/6.tif", "kind"),
    ]


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "ETIS-LaribPolypDB")
    etis.write(tmp_path, name="renamed")
    etis.write(tmp_path, name="etiscope")
    (tmp_path / "ETIS" / "images").mkdir(parents=True)
    (tmp_path / "ETIS" / "masks").mkdir()
    assert claims(tmp_path) == {}
    assert list_items(tmp_path).items == ()
