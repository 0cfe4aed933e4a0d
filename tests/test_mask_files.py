"""Which prediction belongs to which target, and what counts as foreground."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.masks import block, picture
from vlsmctl.errors import NoReadableInput, UsageError
from vlsmctl.mask_files import match_folders, read_mask_file

Named = tuple[str, str | None, str | None]


def touch(folder: Path, names: str) -> Path:
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def matched(tmp_path: Path, pred: str, gt: str) -> tuple[list[Named], list[str]]:
    """(id, prompt, name of the prediction), and the names of the extra ones."""
    pairs, extra = match_folders(touch(tmp_path / "pred", pred), touch(tmp_path / "gt", gt))
    named = [(pair.id, pair.prompt, pair.prediction.name if pair.prediction else None) for pair in pairs]
    return named, [path.name for path in extra]


@pytest.mark.parametrize(
    ("pred", "gt", "id"),
    [
        ("a/case1.png", "a/case1.png", "a/case1"),
        ("case1.png", "case1.JPG", "case1"),
        ("case1.jpg.png", "case1.png", "case1"),
        ("case1.jpg.png", "case1.jpg.png", "case1.jpg"),
        ("case1.nii.gz", "case1.nii", "case1"),
        ("head_2.nii.gz", "head_2.nii.gz", "head_2"),
        ("v1.2.png", "v1.2.png", "v1.2"),
        ("a__b.png", "a__b.png", "a__b"),
    ],
)
def test_one_prediction_finds_its_target(tmp_path: Path, pred: str, gt: str, id: str) -> None:
    assert matched(tmp_path, pred, gt) == ([(id, None, Path(pred).name)], [])


@pytest.mark.parametrize(
    "pred", ["case1_mask.png", "Case1.png", "a/case1.png", "__case1.png", "case1__.png"]
)
def test_other_names_are_extra_and_the_target_is_without_prediction(tmp_path: Path, pred: str) -> None:
    pairs, extra = matched(tmp_path, f"case2.png {pred}", "case1.png case2.png")
    assert pairs == [("case1", None, None), ("case2", None, "case2.png")]
    assert extra == [Path(pred).name]


def test_files_of_other_kinds_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    pred = "case1.png predictions.jsonl .0a.part.case1.png __MACOSX/case1.png .cache/x.png"
    assert matched(tmp_path, pred, "case1.png README.txt .DS_Store") == ([("case1", None, "case1.png")], [])


BESIDE = "case1.overlay.png case1.probability.png case1.probability.nii.gz case1.probability.tif"
IN_PARTS = (
    "case1.frames/0001.png case1.slices/0001.nii.gz case1.probability.frames/0001.png a/B.FRAMES/x/1.png"
)


@pytest.mark.parametrize("others", [BESIDE, BESIDE.upper(), f"a/{BESIDE}", IN_PARTS, "case2.overlay.png"])
def test_what_predict_writes_beside_its_masks_is_passed_over(tmp_path: Path, others: str) -> None:
    expected: tuple[list[Named], list[str]] = [("case1", None, "case1.png")], []
    assert matched(tmp_path / "beside predictions", f"case1.png {others}", "case1.png") == expected
    assert matched(tmp_path / "beside targets", "case1.png", f"case1.png {others}") == expected


def test_overlays_of_prompts_are_passed_over(tmp_path: Path) -> None:
    pred = "a__polyp.png a__polyp.overlay.png a__wound.png a__wound.probability.png a.overlay.png"
    pairs, extra = matched(tmp_path, pred, "a.png")
    assert pairs == [("a", "polyp", "a__polyp.png"), ("a", "wound", "a__wound.png")]
    assert extra == []


@pytest.mark.parametrize(
    "name", ["overlay", "my.overlay", "probability", "frames", "case.frame", "frames/1"]
)
def test_names_that_only_look_like_it_are_masks(tmp_path: Path, name: str) -> None:
    file = f"{name}.jpg"
    assert matched(tmp_path, file, file) == ([(name, None, Path(file).name)], [])


def test_a_folder_of_frames_may_be_given_itself(tmp_path: Path) -> None:
    pred, gt = (touch(tmp_path / side / "case1.frames", "0001.png 0002.png") for side in ("pred", "gt"))
    assert [pair.id for pair in match_folders(pred, gt)[0]] == ["0001", "0002"]


def test_a_folder_with_nothing_but_overlays_and_frames_has_no_masks(tmp_path: Path) -> None:
    with pytest.raises(NoReadableInput, match=r"no mask files.*--pred.*passed over: 8 overlays"):
        matched(tmp_path, f"{BESIDE} {IN_PARTS}", "case1.png")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS holds both spellings for one name")
def test_one_letter_spelt_in_two_ways_is_one_name(tmp_path: Path) -> None:
    decomposed, composed = "pie\u0301.png", "pi\u00e9.png"
    assert matched(tmp_path, composed, decomposed) == ([("pi\u00e9", None, composed)], [])


def test_every_prompt_is_expected_for_every_target(tmp_path: Path) -> None:
    pred = "a__polyp.png a__skin-lesion.jpg.png b.jpg__polyp.png x__y__polyp.png"
    pairs, extra = matched(tmp_path, pred, "a.png b.png c.png x__y.png")
    assert pairs == [
        ("a", "polyp", "a__polyp.png"), ("a", "skin-lesion", "a__skin-lesion.jpg.png"),
        ("b", "polyp", "b.jpg__polyp.png"), ("b", "skin-lesion", None),
        ("c", "polyp", None), ("c", "skin-lesion", None),
        ("x__y", "polyp", "x__y__polyp.png"), ("x__y", "skin-lesion", None),
    ]  # fmt: skip
    assert extra == []


@pytest.mark.parametrize(
    ("pred", "gt"),
    [
        ("case1.png case1.nii.gz", "case1.png"),
        ("case1.jpg.png case1.png.png", "case1.png"),
        ("case1.png case1__polyp.png", "case1.png"),
        ("case1.png", "case1.png case1.tif"),
    ],
)
def test_two_files_for_one_place_are_refused_by_name(tmp_path: Path, pred: str, gt: str) -> None:
    with pytest.raises(UsageError, match=r"two .*case1.* and .*case1") as caught:
        matched(tmp_path, pred, gt)
    assert caught.value.hint


def test_folders_that_have_nothing_in_common_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'deep/case1' and 'case1'"):
        matched(tmp_path, "deep/case1.png", "case1.png")


def test_folders_must_be_there_and_hold_masks(tmp_path: Path) -> None:
    gt = touch(tmp_path / "gt", "case1.png")
    with pytest.raises(UsageError, match="--pred is not a folder"):
        match_folders(tmp_path / "nowhere", gt)
    with pytest.raises(NoReadableInput, match=r"no mask files.*--pred.*\.nii\.gz"):
        match_folders(touch(tmp_path / "pred", "notes.txt"), gt)


@pytest.mark.parametrize(("value", "lit"), [(255, True), (128, True), (127, False), (2, False), (1, True)])
def test_foreground_of_pictures(tmp_path: Path, value: int, lit: bool) -> None:
    mask = read_mask_file(picture(tmp_path / "m.png", block(), value))
    assert np.array_equal(mask.mask, block() & lit)
    assert (mask.caution is not None) == (1 < value <= 127)
