from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets import fakes
from tests.datasets.fakes import colondb, cvc300
from tests.datasets.polyp_sets import claims
from vlsmctl.datasets.colondb import COLONDB
from vlsmctl.datasets.cvc300 import CVC300, list_items
from vlsmctl.datasets.sources import MaskFiles, Picture, read_image, read_mask


@pytest.mark.parametrize("name", ["CVC-300", "cvc-300", "CVC300", "CVC_300"])
def test_pairs_are_listed(tmp_path: Path, name: str) -> None:
    root = cvc300.write(tmp_path / "TestDataset", name=name)
    assert claims(tmp_path) == {f"TestDataset/{name}": ["cvc300"]}
    listing = list_items(root)
    assert [item.id for item in listing.items] == [str(frame) for frame in cvc300.FRAMES]
    assert {item.split for item in listing.items} == {None}
    assert listing.items[0].image == Picture(root / "images" / "149.png")
    assert listing.items[0].mask == MaskFiles((root / "masks" / "149.png",))
    assert "149 to 208 of CVC-ColonDB" in listing.notes[0]
    assert "--split all" in CVC300.split_rule


def test_its_frames_are_colondbs(tmp_path: Path) -> None:
    small = {item.id: item for item in list_items(cvc300.write(tmp_path)).items}
    large = {item.id: item for item in COLONDB.list_items(colondb.write(tmp_path)).items}
    shared = small.keys() & large.keys()
    assert len(shared) == 12
    for each in shared:
        np.testing.assert_array_equal(read_image(small[each].image), read_image(large[each].image))
        mask = read_mask(small[each].mask, (32, 40))
        assert not mask.coloured
        np.testing.assert_array_equal(mask.grey > 127, fakes.blob(5, int(each) - 145, 12, 32, 40))


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "CVC-300")  # the name, but no numbers
    cvc300.write(tmp_path, name="renamed")  # numbers, but not the name
    colondb.write(
        tmp_path / "CVC-300-original", original=True, name="CVC-300"
    )  # ColonDB had this name once
    assert claims(tmp_path) == {"CVC-300-original/CVC-300": ["colondb"]}
