from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.fakes import bkai, clinicdb, colondb, cvc300, etis, generic, kvasir
from tests.datasets.polyp_sets import POLYP_SETS, claims
from tests.shared import SHARED
from vlsmctl.config import resolve_preset
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.kvasir import KVASIR, list_items, matches
from vlsmctl.datasets.prompts import fill_templates
from vlsmctl.datasets.sources import MaskFiles, Picture, read_image, read_mask

REAL = SHARED / "kvasir-seg-sample"


def test_pairs_are_listed_by_their_ids(tmp_path: Path) -> None:
    root = kvasir.write(tmp_path)
    listing = list_items(root)
    assert [item.id for item in listing.items] == sorted(kvasir.IDS)
    assert (listing.left_out, listing.notes, listing.warnings) == ((), (), ())
    assert {(item.split, item.group, item.stratum) for item in listing.items} == {(None, None, "")}
    first = listing.items[0]
    assert first.image == Picture(root / "images" / f"{first.id}.jpg")
    assert first.mask == MaskFiles((root / "masks" / f"{first.id}.jpg",))
    assert all(KVASIR.published(f"{each}.jpg", f"{each}.jpg") == each for each in kvasir.IDS)


def test_only_kvasir_claims_it(tmp_path: Path) -> None:
    kvasir.write(tmp_path)
    assert claims(tmp_path) == {"Kvasir-SEG": ["kvasir"]}


def test_each_set_of_pranets_test_data_is_told_by_its_name(tmp_path: Path) -> None:
    for write in (cvc300.write, colondb.write, etis.write):
        write(tmp_path)
    kvasir.write(tmp_path, pranet=True)
    clinicdb.write(tmp_path, pranet=True)
    bkai.write(tmp_path)
    assert claims(tmp_path) == {
        "Kvasir": ["kvasir"],
        "CVC-ClinicDB": ["clinicdb"],
        "bkai-igh-neopolyp": ["bkai"],
        "CVC-300": ["cvc300"],
        "CVC-ColonDB": ["colondb"],
        "ETIS-LaribPolypDB": ["etis"],
    }


@pytest.mark.parametrize(
    ("name", "ids", "claimed"),
    [
        ("renamed", kvasir.IDS, True),
        ("segmented-images", kvasir.IDS, True),  # HyperKvasir's copy
        ("Kvasir-SEG", ("1", "2", "3"), True),
        ("renamed", ("1", "2", "3"), False),
        ("kvasir-instrument", tuple(f"ckcu8ty6z00083b5yzfg{n:05d}" for n in range(5)), False),
        ("TrainDataset", (*kvasir.IDS[:8], *(str(n) for n in range(1, 6))), False),  # two sets mixed
        ("Kvasir-SEG", (), False),
    ],
)
def test_ids_or_the_name_decide(tmp_path: Path, name: str, ids: tuple[str, ...], claimed: bool) -> None:
    root = kvasir.write(tmp_path, ids=ids, name=name)
    (root / "images").mkdir(exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    assert matches(read_folder(root)) is claimed


def test_pictures_of_ones_own_are_not_claimed(tmp_path: Path) -> None:
    generic(tmp_path / "mine")
    assert claims(tmp_path) == {}


def test_the_working_directory_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kvasir.write(tmp_path, ids=("1", "2")))
    assert matches(read_folder(Path()))


def test_a_linked_folder_goes_by_the_name_of_the_link(tmp_path: Path) -> None:
    root = kvasir.write(tmp_path, ids=("1", "2"), name="store")
    try:
        (tmp_path / "Kvasir-SEG").symlink_to(root, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert matches(read_folder(tmp_path / "Kvasir-SEG"))


def test_the_official_lists_give_train_and_test(tmp_path: Path) -> None:
    listing = list_items(kvasir.write(tmp_path, official=True))
    assert {item.id: item.split for item in listing.items} == {
        each: "test" if each in kvasir.IDS[-3:] else "train" for each in kvasir.IDS
    }
    assert (listing.left_out, listing.notes, listing.warnings) == ((), (), ())


def test_lists_that_do_not_fit_are_said(tmp_path: Path) -> None:
    root = kvasir.write(tmp_path, official=True)
    train = root / "train.txt"
    ids = kvasir.IDS
    train.write_text("\n".join([*(f"images\\{each}.jpg" for each in ids[2:-2]), "gone"]), encoding="utf-8")
    listing = list_items(root)
    splits = {item.id: item.split for item in listing.items}
    assert (splits[ids[0]], splits[ids[2]], splits[ids[-3]]) == ("train", "train", "test")
    assert listing.notes[0].startswith("2 images are in neither train.txt nor val.txt")
    assert listing.notes[1].startswith("1 names of train.txt and val.txt have no image here")
    assert listing.warnings == ("1 images are in both train.txt and val.txt; they go to test",)
    train.unlink()
    listing = list_items(root)
    assert {item.split for item in listing.items} == {None}
    assert "val.txt is not used" in listing.notes[0]


def test_lists_that_name_nothing_here_are_not_used(tmp_path: Path) -> None:
    root = kvasir.write(tmp_path, official=True)
    (root / "train.txt").write_bytes(b"\xff\xfe\0\x01\n\n")
    listing = list_items(root)
    assert {item.split for item in listing.items} == {None}
    assert "names no image that is here" in listing.warnings[0]


def test_jpeg_masks_keep_their_targets_and_their_dust(tmp_path: Path) -> None:
    by_id = {item.id: item for item in list_items(kvasir.write(tmp_path)).items}
    noisy = 0
    for number, each in enumerate(kvasir.IDS):
        image = read_image(by_id[each].image)
        drawn = read_mask(by_id[each].mask, image.shape[:2])
        assert drawn.grey.shape == image.shape[:2]
        assert drawn.coloured
        noisy += bool(((drawn.grey > 0) & (drawn.grey < 255)).any())
        expected = fakes.blob(6 + number % 7, 5 + number, 12, *drawn.grey.shape)
        expected[0, 0] = each == kvasir.DUSTY
        np.testing.assert_array_equal(drawn.grey > 127, expected)
    assert noisy == len(kvasir.IDS)


def test_a_lonely_image_and_a_stray_file_are_left_out(tmp_path: Path) -> None:
    root = kvasir.write(tmp_path)
    (root / "masks" / f"{kvasir.IDS[0]}.jpg").unlink()
    (root / "images" / "notes.txt").write_text("x", encoding="utf-8")
    listing = list_items(root)
    assert len(listing.items) == len(kvasir.IDS) - 1
    assert [(each.file, each.check) for each in listing.left_out] == [
        (f"images/{kvasir.IDS[0]}.jpg", "partner"),
        ("images/notes.txt", "kind"),
    ]
    shutil.rmtree(root / "masks")
    assert list_items(root).items == ()


def test_the_fake_has_the_quirks_of_the_real_masks(tmp_path: Path) -> None:
    root = kvasir.write(tmp_path)
    with Image.open(root / "masks" / f"{kvasir.DUSTY}.jpg") as mask:
        assert (mask.format, mask.mode) == ("JPEG", "RGB")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real Kvasir-SEG pairs are not on this machine")
def test_real_pairs() -> None:
    assert claims(REAL) == {"Kvasir-SEG": ["kvasir"]}
    items = list_items(REAL / "Kvasir-SEG").items
    assert len(items) == 3
    for item in items:
        image = read_image(item.image)
        drawn = read_mask(item.mask, image.shape[:2])
        assert drawn.grey.shape == image.shape[:2]
        middle = ((drawn.grey > 30) & (drawn.grey < 225)).mean()
        assert middle < 0.001 < 0.01 < (drawn.grey > 127).mean()


@pytest.mark.parametrize("name", list(POLYP_SETS))
def test_the_preset_makes_the_prompts_of_the_papers(name: str) -> None:
    preset = resolve_preset(name).preset
    source = preset.prompts_from
    assert source is not None
    words = {"class": source.class_, "count": "two", "size": "small, medium", "place": "top left, center"}
    words |= {"shape": "round", "colour": "pink"}
    assert (preset.data, preset.model, preset.method) == (name, "clipseg", "dense-vlc")
    prompts = fill_templates(source.templates, words, descriptions=source.descriptions)
    full = "two small, medium pink round polyp"
    assert {key: prompts[key] for key in list(prompts)[:7]} == {
        "p0": "",
        "p1": "polyp",
        "p2": "round polyp",
        "p3": "pink round polyp",
        "p4": "small, medium pink round polyp",
        "p5": full,
        "p6": f"{full}, located in top left, center of the image",
    }
    texts = source.descriptions
    assert len(set(texts)) == 5
    assert prompts["p7"] == [f"polyp {text}" for text in texts]
    assert prompts["p8"] == [f"{full} {text}" for text in texts]
    assert prompts["p9"] == [f"{full} {text} located in top left, center of the image" for text in texts]
    empty = fill_templates(source.templates, {"class": "polyp"}, descriptions=texts)
    assert list(empty) == ["p0", "p1", "p7"]
