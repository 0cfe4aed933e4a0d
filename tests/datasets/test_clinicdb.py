from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.fakes import clinicdb
from tests.datasets.polyp_sets import claims
from tests.shared import SHARED
from vlsmctl.datasets.clinicdb import FRAMES, STARTS, list_items, sequence
from vlsmctl.datasets.sources import MaskFiles, Picture, read_image, read_mask
from vlsmctl.errors import UnreadableFile

REAL = SHARED / "CVC-ClinicDB"


def test_every_frame_is_in_exactly_one_of_29_sequences() -> None:
    names = [sequence(frame) for frame in range(1, FRAMES + 1)]
    assert len(STARTS) == 29
    assert sorted(set(names)) == [f"sequence-{number:02d}" for number in range(1, 30)]
    assert names == sorted(names)
    counts = [names.count(name) for name in sorted(set(names))]
    assert (min(counts), max(counts)) == (6, 26)
    edges = {
        25: 1,
        26: 2,
        78: 4,
        79: 5,
        103: 5,
        104: 6,
        205: 10,
        206: 11,
        447: 21,
        591: 28,
        592: 29,
        612: 29,
    }
    assert {frame: int(sequence(frame)[-2:]) for frame in edges} == edges


@pytest.mark.parametrize("frame", [0, 613, -1])
def test_other_numbers_have_no_sequence(frame: int) -> None:
    with pytest.raises(ValueError, match="frames 1 to 612"):
        sequence(frame)


@pytest.mark.parametrize("small", [False, True])
def test_the_original_layout(tmp_path: Path, small: bool) -> None:
    root = clinicdb.write(tmp_path, small=small)
    assert claims(tmp_path) == {"CVC-ClinicDB": ["clinicdb"]}
    listing = list_items(root)
    assert {item.id: item.group for item in listing.items} == {
        str(frame): sequence(frame) for frame in clinicdb.FRAMES
    }
    assert len({item.group for item in listing.items}) == 10
    assert {item.split for item in listing.items} == {None}
    assert (listing.left_out, listing.notes, listing.warnings) == ((), (), ())
    images, masks = ("original", "ground truth") if small else ("Original", "Ground Truth")
    first = listing.items[0]
    assert first.image == Picture(root / images / f"{first.id}.tif")
    assert first.mask == MaskFiles((root / masks / f"{first.id}.tif",))


def test_both_halves_of_kaggles_copy_are_roots(tmp_path: Path) -> None:
    tif = clinicdb.write(tmp_path, kaggle=True)
    assert claims(tmp_path) == {"CVC-ClinicDB/PNG": ["clinicdb"], "CVC-ClinicDB/TIF": ["clinicdb"]}
    halves = [list_items(folder).items for folder in (tif, tif.parent / "PNG")]
    assert [(item.id, item.group) for item in halves[0]] == [(item.id, item.group) for item in halves[1]]
    for original, copy in zip(*halves, strict=True):
        np.testing.assert_array_equal(read_image(original.image), read_image(copy.image))


def test_pranets_copy(tmp_path: Path) -> None:
    root = clinicdb.write(tmp_path, pranet=True)
    assert claims(tmp_path) == {"CVC-ClinicDB": ["clinicdb"]}
    assert {item.group for item in list_items(root).items} >= {"sequence-04", "sequence-05", "sequence-29"}


def test_numbers_that_are_not_the_originals_give_no_sequences(tmp_path: Path) -> None:
    root = clinicdb.write(tmp_path, frames=(0, *clinicdb.FRAMES), pranet=True)
    listing = list_items(root)
    assert len(listing.items) == len(clinicdb.FRAMES) + 1
    assert {item.group for item in listing.items} == {None}
    assert "sequences are not known" in listing.warnings[0]


def test_numbers_beyond_the_set_are_not_claimed(tmp_path: Path) -> None:
    clinicdb.write(tmp_path, frames=tuple(range(613, 630)))
    clinicdb.write(tmp_path / "pranet", frames=tuple(range(613, 630)), pranet=True)
    assert claims(tmp_path) == {}


def test_the_wrong_photometric_tag_is_read_as_rgb(tmp_path: Path) -> None:
    by_id = {item.id: item for item in list_items(clinicdb.write(tmp_path)).items}
    for frame in (1, 612):
        image = by_id[str(frame)].image
        assert isinstance(image, Picture)
        with pytest.raises(OSError, match="cannot identify"), Image.open(image.path) as refused:
            refused.load()
        np.testing.assert_array_equal(read_image(image), fakes.picture(frame, 36, 48))


def test_values_in_between_stay_for_the_build_to_judge(tmp_path: Path) -> None:
    by_id = {item.id: item for item in list_items(clinicdb.write(tmp_path)).items}
    soft = read_mask(by_id[str(clinicdb.SOFT)].mask, (36, 48)).grey
    assert {0, 30, 96, 160, 225, 255} <= set(np.unique(soft).tolist())
    assert set(np.unique(read_mask(by_id["1"].mask, (36, 48)).grey).tolist()) == {0, 255}


def test_a_truncated_frame_is_listed_and_refused_when_read(tmp_path: Path) -> None:
    root = clinicdb.write(tmp_path)
    fakes.truncate(root / "Original" / "26.tif")
    (root / "Ground Truth" / "67.tif").write_bytes(b"")
    by_id = {item.id: item for item in list_items(root).items}
    with pytest.raises(UnreadableFile, match=r"26\.tif"):
        read_image(by_id["26"].image)
    with pytest.raises(UnreadableFile, match=r"67\.tif: the file is empty"):
        read_mask(by_id["67"].mask, (36, 48))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real CVC-ClinicDB frames are not on this machine")
def test_real_frames() -> None:
    assert claims(REAL) == {".": ["clinicdb"]}
    listing = list_items(REAL)
    assert len(listing.items) == 205
    assert {item.group for item in listing.items} == {f"sequence-{number:02d}" for number in range(1, 11)}
    assert (listing.left_out, listing.warnings) == ((), ())
    for item in listing.items[::60]:
        assert read_image(item.image).shape == (288, 384, 3)
        mask = read_mask(item.mask, (288, 384)).grey
        assert mask.shape == (288, 384)
        assert 0.001 < (mask > 127).mean() < 0.6
