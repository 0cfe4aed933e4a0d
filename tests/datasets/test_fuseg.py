from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets import fakes
from tests.datasets.fakes import fuseg
from tests.shared import SHARED
from vlsmctl.datasets.build import plan, prepare
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.errors import NoReadableInput

REAL = SHARED / "fuseg"


def test_the_official_validation_set_is_our_test_split(tmp_path: Path) -> None:
    outcome = prepare("fuseg", fuseg.write(tmp_path / "raw"), tmp_path / "data")
    assert outcome.counts == {"train": 11, "val": 1, "test": 4}
    assert (outcome.empty, outcome.left_out) == (2, ())
    manifest = read_manifest(outcome.folder)
    assert {record.id for record in manifest.split("test")} == {
        f"validation-{n:04d}" for n in range(501, 505)
    }
    assert "official validation set" in manifest.info["split_rule"]


def test_stray_values_and_identical_images_are_said(tmp_path: Path) -> None:
    outcome = prepare("fuseg", fuseg.write(tmp_path / "raw"), tmp_path / "data")
    notes = "\n".join(outcome.notes)
    assert "16 of 16 masks are stored in colour" in notes
    assert "in 1 of 16 masks" in notes
    warnings = "\n".join(outcome.warnings)
    assert "16 records, where the whole data set has 1010" in warnings
    assert (
        "test: 1 of 4 images are also in train, pixel for pixel: validation-0502 ~ train-0003" in warnings
    )
    assert "test/images is not used" in notes
    by_id = {record.id: record for record in read_manifest(outcome.folder).records}
    assert by_id["train-0004"].foreground == by_id["train-0005"].foreground


def test_prompts_come_from_the_preset(tmp_path: Path) -> None:
    folder = prepare("fuseg", fuseg.write(tmp_path / "raw"), tmp_path / "data").folder
    by_id = {record.id: record for record in read_manifest(folder).records}
    full, empty = by_id["train-0001"].prompts, by_id["train-0002"].prompts
    assert full["p6"] == "one medium gray square foot ulcer, located in center of the image"
    assert list(full) == [f"p{number}" for number in range(10)]
    assert [len(full[key]) for key in ("p7", "p8", "p9")] == [5, 5, 5]
    assert list(empty) == ["p0", "p1", "p7"]


def test_a_clone_of_the_repository_is_recognised(tmp_path: Path) -> None:
    fuseg.write(tmp_path / "clone" / "data" / "Foot Ulcer Segmentation Challenge")
    assert plan("fuseg", tmp_path / "clone", tmp_path / "data").records == 16


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoReadableInput, match=r"train/labels.*found images/, masks/"):
        prepare("fuseg", fakes.generic(tmp_path / "raw"), tmp_path / "data")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real FUSeg photographs are not on this machine")
def test_real_photographs(tmp_path: Path) -> None:
    outcome = prepare("fuseg", REAL, tmp_path)
    assert outcome.counts == {"train": 144, "val": 16, "test": 32}
    assert (outcome.empty, outcome.left_out) == (5, ())
