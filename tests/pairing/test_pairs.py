"""Which prediction belongs to which target, by the names of files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.masks import touch
from vlsmctl.errors import NoReadableInput, UsageError
from vlsmctl.pairing import Matched, match

Named = tuple[str, str | None, str | None]


def folders(tmp_path: Path, pred: str, gt: str) -> Matched:
    return match(touch(tmp_path / "pred", pred), touch(tmp_path / "gt", gt))


def matched(tmp_path: Path, pred: str, gt: str) -> tuple[list[Named], list[str]]:
    """(id, prompt, name of the prediction), and the names of the extra ones."""
    found = folders(tmp_path, pred, gt)
    named = [
        (pair.id, pair.prompt, pair.prediction.name if pair.prediction else None) for pair in found.pairs
    ]
    assert all(pair.prompt_key == pair.prompt for pair in found.pairs)
    return named, [path.name for path in found.extra]


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
        ("case1.seg.dcm", "case1.nii.gz", "case1"),
        ("case1.nii.gz", "case1.SEG.DCM", "case1"),
        ("case1.dcm.png", "case1.seg.dcm", "case1"),
    ],
)
def test_one_prediction_finds_its_target(tmp_path: Path, pred: str, gt: str, id: str) -> None:
    assert matched(tmp_path, pred, gt) == ([(id, None, Path(pred).name)], [])


@pytest.mark.parametrize(
    "pred", ["case1_x.png", "case10.png", "a/case1.png", "b/a/case1.png", "__case1.png", "case1__.png"]
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
    assert [pair.id for pair in match(pred, gt).pairs] == ["0001", "0002"]


def test_a_folder_with_nothing_but_overlays_and_frames_has_no_masks(tmp_path: Path) -> None:
    with pytest.raises(
        NoReadableInput, match=r"no mask files.*--pred.*passed over: 5 overlays .*3 folders"
    ):
        matched(tmp_path, f"{BESIDE} {IN_PARTS}", "case1.png")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS holds both spellings for one name")
def test_one_letter_spelt_in_two_ways_is_one_name(tmp_path: Path) -> None:
    decomposed, composed = "pie\u0301.png", "pi\u00e9.png"
    assert matched(tmp_path, composed, decomposed) == ([("pi\u00e9", None, composed)], [])


def test_every_prompt_is_expected_for_every_target(tmp_path: Path) -> None:
    pred = "a__polyp.png a__skin-lesion.jpg.png b.jpg__polyp.png c__skin-lesion.png x__y__polyp.png"
    pairs, extra = matched(tmp_path, pred, "a.png b.png c.png x__y.png")
    assert pairs == [
        ("a", "polyp", "a__polyp.png"), ("a", "skin-lesion", "a__skin-lesion.jpg.png"),
        ("b", "polyp", "b.jpg__polyp.png"), ("b", "skin-lesion", None),
        ("c", "polyp", None), ("c", "skin-lesion", "c__skin-lesion.png"),
        ("x__y", "polyp", "x__y__polyp.png"), ("x__y", "skin-lesion", None),
    ]  # fmt: skip
    assert extra == []


def test_masks_that_are_read_as_answers_to_prompts_are_counted_and_said(tmp_path: Path) -> None:
    found = folders(
        tmp_path,
        "a__polyp.png b__polyp.png a__skin-lesion.png b__skin-lesion.png c__polyp.png",
        "a.png b.png",
    )
    assert "4 predictions read as answers to the prompts 'polyp', 'skin-lesion'" in notes(found)
    assert [path.name for path in found.extra] == ["c__polyp.png"]


@pytest.mark.parametrize(
    ("pred", "gt"),
    [
        ("p1.png p1__2.png p2.png p2__2.png", "p1.png p1__2.png p2.png"),
        ("p1.png p1__2.png p2.png p2__2.png", "p1_gt.png p1__2_gt.png p2_gt.png"),
        ("p1.png p1__left.png p2__left.png", "p1.png p1__left.png p2.png"),
        ("p1__left.png p2__left.png", "p1__left.png p2.png"),
        ("p1.png p2__2.png", "p1.png p2.png"),
        ("p1.png p2__LEFT.png", "p1.png p2.png"),
    ],
)
def test_what_tells_targets_apart_is_no_prompt(tmp_path: Path, pred: str, gt: str) -> None:
    """And neither is what `predict` would never have made of a prompt."""
    found = folders(tmp_path, pred, gt)
    assert all(pair.prompt is None for pair in found.pairs)
    assert [path.name for path in found.extra] == [pred.split()[-1]]
    missed = [pair.id for pair in found.pairs if pair.prediction is None]
    assert missed == ([] if "p2.png" in pred.split() else ["p2"])


def test_a_mixture_of_masks_with_prompts_and_without_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"c1__polyp\.png \('polyp'\) and .*c3\.png") as caught:
        folders(tmp_path, "c1__polyp.png c4__polyp.png c3.png", "c1.png c3.png c4.png")
    assert "'__'" in str(caught.value.hint)


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
    with pytest.raises(UsageError, match="--pred: there is no such"):
        match(tmp_path / "nowhere", gt)
    with pytest.raises(NoReadableInput, match=r"no mask files.*--pred.*\.nii\.gz"):
        match(touch(tmp_path / "pred", "notes.txt"), gt)


def notes(found: Matched) -> str:
    return "\n".join(found.notes)


def test_names_that_only_resemble_are_matched_and_that_is_said(tmp_path: Path) -> None:
    found = folders(tmp_path, "a/c1_pred.png c2_pred.png c3.png", "a/c1.png c2.png c3.png c4.png")
    assert [pair.prediction is not None for pair in found.pairs] == [True, True, True, False]
    assert "2 predictions matched with '_pred' taken off" in notes(found)
    assert "counted as missed: 1 of 4 targets (c4)" in notes(found)


def test_where_there_is_a_choice_nothing_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"left: c2_mask and c2, c2_pred and c2; .*could both be for 'c2'"):
        folders(tmp_path, "c1.png c2_mask.png c2_pred.png", "c1.png c2.png")
    found = folders(tmp_path / "parts", "c1.png p_t2.png", "c1.png p_t1.png")
    assert [path.name for path in found.extra] == ["p_t2.png"]
    assert "the prediction 'p_t2' and the target 'p_t1'" in notes(found)
    with pytest.raises(UsageError, match=r"'c1_pred' could be for 'c1(_gt)?' or 'c1(_gt)?'"):
        folders(tmp_path / "mixed", "c1_pred.png", "c1.png c1_gt.png")


@pytest.mark.parametrize(
    ("pred", "gt", "named"),
    [
        ("p1.png p2_seg.png", "p1_label.png p2_label.png", "p2_seg and p2_label"),
        ("a.png b.png c_gt.png", "a.png b.png c.png", "c_gt and c"),
        ("a_pred.png b.png", "a.png b_gt.png", "a_pred and a, b and b_gt"),
        ("x_pred.png", "x_gt.png", "x_pred and x_gt"),
    ],
)
def test_what_resembles_and_is_left_over_is_never_counted_as_missed(
    tmp_path: Path, pred: str, gt: str, named: str
) -> None:
    with pytest.raises(UsageError, match=f"resemble each other are left: .*{named}") as caught:
        folders(tmp_path, pred, gt)
    assert "rename" in str(caught.value.hint)


def test_copies_of_targets_are_extra_and_cost_the_others_nothing(tmp_path: Path) -> None:
    pairs, extra = matched(tmp_path, "p1_pred.png p2_gt.png p2__pred.png", "p1.png p2.png p3.png")
    assert pairs == [("p1", None, "p1_pred.png"), ("p2", None, "p2__pred.png"), ("p3", None, None)]
    assert extra == ["p2_gt.png"]
    found = folders(tmp_path / "beside", "a.png a_mask.png b_mask.png", "a.png b.png c.png")
    assert [pair.prediction is not None for pair in found.pairs] == [True, True, False]
    assert "'a' and 'a_mask' could both be for 'a'" in notes(found)


def test_what_only_one_target_has_is_no_prompt(tmp_path: Path) -> None:
    pairs, extra = matched(tmp_path, "a.png b__v1.png c__v2.png", "a.png b.png c.png")
    assert pairs == [("a", None, "a.png"), ("b", None, None), ("c", None, None)]
    assert extra == ["b__v1.png", "c__v2.png"]
    pairs, extra = matched(tmp_path / "masks", "a__mask.png b__mask.png", "a.png b.png")
    assert (pairs, extra) == ([("a", None, "a__mask.png"), ("b", None, "b__mask.png")], [])
    pairs, extra = matched(tmp_path / "near", "a__polyp.png b__polyp.png", "a_gt.png b_gt.png")
    assert [row[1] for row in pairs] == ["polyp", "polyp"]


def test_names_that_fit_leave_nothing_to_say(tmp_path: Path) -> None:
    assert folders(tmp_path, "a/c1.png c2.jpg.png", "a/c1.tif c2.png").notes == ()


def test_images_and_masks_in_one_folder_are_refused(tmp_path: Path) -> None:
    gt = "b(1).png b(1)_mask.png b(2).png b(2)_mask.png"
    with pytest.raises(UsageError, match=r"both 'b\(1\)' and 'b\(1\)_mask'") as caught:
        folders(tmp_path, "b(1).png b(2).png", gt)
    assert "masks alone" in str(caught.value.hint)
    found = folders(tmp_path / "all", "b(1).png b(1)_mask.png b(2).png b(2)_mask.png", gt)
    assert len(found.pairs) == 4
    assert len(folders(tmp_path / "few", "a.png b.png", "a.png a_mask.png b.png").pairs) == 3


@pytest.mark.parametrize(
    ("pred", "gt", "masks"),
    [
        ("images/c0.png", "images/c0.png masks/c0.png", "masks"),
        ("masks/c0.png", "images/c0.png masks/c0.png", "masks"),
        ("a/IMGS/x/c0.png", "a/IMGS/x/c0.jpg a/GT/x/c0_mask.png", "a/GT"),
        ("labelsTr/c0.nii.gz", "imagesTr/c0_0000.nii.gz labelsTr/c0.nii.gz", "labelsTr"),
        ("Original/1.png", "Original/1.png Ground_Truth/1.png", "Ground_Truth"),
    ],
)
def test_folders_of_images_among_the_targets_are_refused(
    tmp_path: Path, pred: str, gt: str, masks: str
) -> None:
    with pytest.raises(UsageError, match=r"lie images .* and masks") as caught:
        folders(tmp_path, pred, gt)
    assert f"--gt {tmp_path / 'gt' / masks}" in str(caught.value.hint)


def test_folders_with_such_names_that_share_nothing_are_targets(tmp_path: Path) -> None:
    names = "images/c0.png masks/c1.png a/masks/c0.png b/images/c2.png"
    assert len(folders(tmp_path, names, names).pairs) == 4


def test_two_files_are_one_pair_whatever_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "out/x.png true/case7_gt.nii.gz")
    pred, gt = tmp_path / "out" / "x.png", tmp_path / "true" / "case7_gt.nii.gz"
    (pair,) = match(pred, gt, target_label=3, prediction_label=2).pairs
    assert (pair.id, pair.prediction, pair.target) == ("case7_gt", pred, gt)
    assert (pair.prompt, pair.target_label, pair.prediction_label) == (None, 3, 2)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "out/x.png true/x.png")
    out, true = tmp_path / "out", tmp_path / "true"
    for pred, gt in ((out, true / "x.png"), (out / "x.png", true)):
        with pytest.raises(UsageError, match=r"--pred is a f.* and --gt is a f"):
            match(pred, gt)
    for path in (true, true / "x.png"):
        with pytest.raises(UsageError, match="one and the same"):
            match(path, path)
    with pytest.raises(UsageError, match="--split test needs a prepared data set"):
        match(out, true, split="test")


@pytest.mark.parametrize(("pred", "gt"), [("x", "x/true"), ("x/out", "x")])
def test_one_folder_may_lie_in_the_other(tmp_path: Path, pred: str, gt: str) -> None:
    for folder in (pred, gt):
        touch(tmp_path / folder, "c1.png c2.png")
    found = match(tmp_path / pred, tmp_path / gt)
    assert [(pair.id, pair.prediction is not None) for pair in found.pairs] == [("c1", True), ("c2", True)]
    assert found.extra == ()


FRAMES = "s1.frames/0001.png s1.frames/0002.png"


def test_frames_are_matched_one_by_one_where_the_target_is_in_frames_too(tmp_path: Path) -> None:
    pairs, extra = matched(tmp_path, "s1.frames/0001.png", f"{FRAMES} s2.frames/0001.png")
    assert pairs == [
        ("s1.frames/0001", None, "0001.png"), ("s1.frames/0002", None, None),
        ("s2.frames/0001", None, None),
    ]  # fmt: skip
    assert extra == []
    found = folders(tmp_path / "prompts", "s1__a.frames/0001.png s1__b.frames/0001.png", FRAMES)
    assert [(pair.id, pair.prompt, pair.prediction is None) for pair in found.pairs] == [
        ("s1.frames/0001", "a", False), ("s1.frames/0001", "b", False),
        ("s1.frames/0002", "a", True), ("s1.frames/0002", "b", True),
    ]  # fmt: skip
    assert {pair.group for pair in found.pairs} == {"s1"}  # frames of one clip are resampled together


def test_frames_of_a_single_target_are_passed_over_and_named(tmp_path: Path) -> None:
    found = folders(tmp_path, f"{FRAMES} c2.png", "s1.nii.gz c2.png")
    assert [(pair.id, pair.prediction is not None) for pair in found.pairs] == [("c2", True), ("s1", False)]
    assert found.extra == ()
    assert "s1.frames" in notes(found)


def test_labels_are_meant_in_every_file(tmp_path: Path) -> None:
    touch(tmp_path, "out/x.png out/y.png true/x.png true/y.png true/z.png")
    found = match(tmp_path / "out", tmp_path / "true", target_label=2, prediction_label=7)
    assert [pair.target_label for pair in found.pairs] == [2, 2, 2]
    assert [pair.prediction_label for pair in found.pairs] == [7, 7, None]  # z has none
