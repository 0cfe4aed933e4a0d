"""Predictions that lie beside the ledger of `predict`: written by hand here, and by the command itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands.app import vlsmctl
from tests.commands.scans import write_scans, write_series
from tests.formats.generators import write_nifti
from tests.masks import touch
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import score_cases
from vlsmctl.ledger import LEDGER, Entry
from vlsmctl.pairing import WHY_NONE, Matched, match

Row = tuple[str, str | None, str | None]  # id, prompt, name of the prediction


def ledger(folder: Path, *entries: Entry, name: str = LEDGER) -> Path:
    """Writes the ledger, and the masks that it tells of."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(entry)) + "\n" for entry in entries)
    for entry in entries:
        if entry.output is not None:
            touch(folder, entry.output)
    return folder


def done(scan: str, output: str, prompt: str = "polyp", **more: Any) -> Entry:
    return Entry(scan, output, prompt, "done", None, **more)


def failed(scan: str, prompt: str = "polyp", reason: str = "cut off") -> Entry:
    return Entry(scan, None, prompt, "failed", reason)


def rows(found: Matched) -> list[Row]:
    return [
        (pair.id, pair.prompt, pair.prediction.name if pair.prediction else None) for pair in found.pairs
    ]


def against(pred: Path, targets: str) -> Matched:
    return match(pred, touch(pred.parent / "gt", targets))


def notes(found: Matched) -> str:
    return "\n".join(found.notes)


def test_one_prompt_is_its_text_and_has_no_key(tmp_path: Path) -> None:
    pred = ledger(tmp_path / "pred", done("scans/a/x.jpg", "a/x.png", "Large polyp"))
    (pair,) = against(pred, "a/x.png").pairs
    assert (pair.prompt, pair.prompt_key, pair.prediction_label) == ("Large polyp", None, None)


def test_several_prompts_are_their_texts_and_have_keys(tmp_path: Path) -> None:
    entries = [
        done(f"s/{case}.jpg", f"{case}__{slug}.png", prompt)
        for case in "xy"
        for prompt, slug in (("Large polyp", "large-polyp"), ("Tool!", "tool"), ("tool?", "tool-2"))
    ]
    found = against(ledger(tmp_path / "pred", *entries), "x.png y.png z.png")
    assert rows(found)[:3] == [
        ("x", "Large polyp", "x__large-polyp.png"), ("x", "Tool!", "x__tool.png"),
        ("x", "tool?", "x__tool-2.png"),
    ]  # fmt: skip
    assert [row[1:] for row in rows(found)[6:]] == [("Large polyp", None), ("Tool!", None), ("tool?", None)]
    assert all(pair.prompt_key == pair.prompt for pair in found.pairs)
    assert found.extra == ()


def test_only_what_was_asked_of_an_input_is_expected(tmp_path: Path) -> None:
    pred = ledger(
        tmp_path / "pred",
        done("s/x.png", "x__red.png", "red"), done("s/x.png", "x__blue.png", "blue"),
        done("s/y.png", "y__red.png", "red"),
    )  # fmt: skip
    found = against(pred, "x.png y.png z.png")
    assert rows(found) == [
        ("x", "blue", "x__blue.png"), ("x", "red", "x__red.png"), ("y", "red", "y__red.png"),
        ("z", "red", None),
    ]  # fmt: skip


def test_prompts_of_one_case_each_get_no_mean_of_their_own(tmp_path: Path) -> None:
    pred = ledger(tmp_path / "pred", done("x.png", "x.png", "red one"), done("y.png", "y.png", "blue one"))
    found = against(pred, "x.png y.png")
    assert [(pair.prompt, pair.prompt_key) for pair in found.pairs] == [
        ("red one", None),
        ("blue one", None),
    ]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("scans/a/y.jpg", "a/y"), ("/elsewhere/a/y.jpg", "a/y"),
        ("scans/a/y.b.jpg", "a/y.b"),
        ("scans/a/y.jpg", "a/y.jpg"), ("scans/a/y#2", "a/y_2"),
    ],
)  # fmt: skip
def test_what_failed_is_missed_and_the_reason_can_be_read(tmp_path: Path, source: str, target: str) -> None:
    pred = ledger(tmp_path / "pred", done("scans/a/x.jpg", "a/x.png", "red"), failed(source, "blue"))
    found = against(pred, f"a/x.png {target}.png y.png")
    assert rows(found) == [("a/x", "red", "x.png"), (target, "blue", None), ("y", None, None)]
    assert found.pairs[1].columns == {WHY_NONE: "failed: cut off"}
    assert found.pairs[1].error is None
    assert f"{target} (failed: cut off)" in notes(found)
    near = match(pred, touch(tmp_path / "masks", f"a/x.png {target}_mask.png"))
    assert [(pair.prompt, pair.columns) for pair in near.pairs] == [("red", {})] * 2


def test_what_was_skipped_has_a_reason_but_no_prompt_of_its_own(tmp_path: Path) -> None:
    pred = ledger(
        tmp_path / "pred", done("s/x.jpg", "x.png"), Entry("s/y.jpg", None, "", "skipped", "not a picture"),
        Entry("s/x.jpg", None, "", "skipped", "not a picture"),
    )  # fmt: skip
    found = against(pred, "x.png y.png")
    assert rows(found) == [("x", "polyp", "x.png"), ("y", "polyp", None)]
    assert [pair.columns for pair in found.pairs] == [{}, {WHY_NONE: "skipped: not a picture"}]
    assert "x (skipped" not in notes(found)


def test_inputs_are_placed_below_the_folders_that_others_came_from(tmp_path: Path) -> None:
    pred = ledger(
        tmp_path / "pred", done("s/b/x.jpg", "b/x.png"), done("s/a/y.jpg", "y.png"), failed("s/a/z.jpg")
    )
    for place in ("z", "a/z"):
        found = match(pred, touch(tmp_path / place, f"b/x.png {place}.png"))
        assert [pair.id for pair in found.pairs if pair.columns] == [place]
    found = match(pred, touch(tmp_path / "both", "b/x.png z.png a/z.png c/a/z.png"))
    assert [pair.id for pair in found.pairs if pair.columns] == ["z"]


def test_the_earlier_mask_of_what_fails_now_does_not_count(tmp_path: Path) -> None:
    pred = ledger(tmp_path / "pred", done("s/x.jpg", "x.png"), done("s/y.jpg", "y.png"), failed("s/x.jpg"))
    found = against(pred, "x.png y.png")
    assert rows(found) == [("x", "polyp", None), ("y", "polyp", "y.png")]
    assert [path.name for path in found.extra] == ["x.png"]
    skipped = ledger(pred, Entry("s/y.jpg", None, "", "skipped", "not a picture"))
    assert rows(match(skipped, tmp_path / "gt")) == rows(found)


def test_what_failed_in_one_way_and_was_done_in_another_is_done(tmp_path: Path) -> None:
    pred = ledger(tmp_path / "pred", failed("./s/x.jpg"), done("s/x.jpg", "x.png"))
    assert rows(against(pred, "x.png")) == [("x", "polyp", "x.png")]


def test_a_mask_that_is_gone_is_missed(tmp_path: Path) -> None:
    pred = ledger(tmp_path / "pred", done("s/x.jpg", "x.png"), done("s/y.jpg", "y.png"))
    (pred / "y.png").unlink()
    found = against(pred, "x.png y.png")
    assert rows(found) == [("x", "polyp", "x.png"), ("y", "polyp", None)]
    assert "not there any more" in found.pairs[1].columns[WHY_NONE]


def test_labels_of_one_file_are_a_pair_each(tmp_path: Path) -> None:
    entries = [
        done("s/x.nii.gz", "x.nii.gz", prompt, label=label) for label, prompt in enumerate(("a", "b"), 1)
    ]
    pred = ledger(tmp_path / "pred", *entries)
    found = match(pred, touch(tmp_path / "gt", "x.nii.gz"), target_label=5, prediction_label=5)
    assert [(pair.prompt, pair.prediction_label, pair.target_label) for pair in found.pairs] == [
        ("a", 1, 5), ("b", 2, 5),
    ]  # fmt: skip
    assert len({pair.prediction for pair in found.pairs}) == 1
    assert "5 is not looked for" in notes(found)
    file, true = pred / "x.nii.gz", tmp_path / "gt" / "x.nii.gz"
    assert [(pair.prompt, pair.prediction_label) for pair in match(file, true).pairs] == [
        ("a", 1),
        ("b", 2),
    ]
    (pair,) = match(file, true, prediction_label=2).pairs
    assert (pair.prompt, pair.prediction_label) == ("b", 2)


def test_masks_of_earlier_runs_count_no_more(tmp_path: Path) -> None:
    pred = ledger(
        tmp_path / "pred", done("s/x.jpg", "x.png"), done("s/x.jpg", "x__polyp.png"),
        done("s/x.jpg", "x__tool.png", "tool"),
    )  # fmt: skip
    found = against(pred, "x.png")
    assert rows(found) == [("x", "polyp", "x__polyp.png"), ("x", "tool", "x__tool.png")]
    assert [path.name for path in found.extra] == ["x.png"]
    assert "earlier runs" in notes(found)


def test_masks_that_the_ledger_does_not_know_go_by_their_names(tmp_path: Path) -> None:
    pred = ledger(
        tmp_path / "pred",
        done("s/x.jpg", "x__red-one.png", "Red one"),
        done("s/x.jpg", "x__blue.png", "blue"),
    )
    with (pred / LEDGER).open("a") as stream:
        stream.write('{"input": "s/z.jpg", "output": "z__blue.png", "prom')  # killed while it wrote
    touch(pred, "y__red-one.png z__blue.png other.png")
    found = against(pred, "x.png y.png z.png")
    assert rows(found)[2:] == [
        ("y", "Red one", "y__red-one.png"), ("y", "blue", None),
        ("z", "Red one", None), ("z", "blue", "z__blue.png"),
    ]  # fmt: skip
    assert sorted(row[1] or "" for row in rows(found)[:2]) == ["Red one", "blue"]
    assert [path.name for path in found.extra] == ["other.png"]
    touch(pred, "x.png")
    with pytest.raises(UsageError, match="two predictions for 'x'"):
        match(pred, tmp_path / "gt")


def test_a_scan_may_have_a_name_that_looks_like_a_prompt(tmp_path: Path) -> None:
    pred = ledger(tmp_path / "pred", done("s/a__b.jpg", "a__b.png"), done("s/c.jpg", "c.png"))
    found = against(pred, "a.png c.png")
    assert rows(found) == [("a", "polyp", None), ("c", "polyp", "c.png")]
    assert [path.name for path in found.extra] == ["a__b.png"]


@pytest.mark.parametrize("part", ["sub", ".", "sub/../sub"])
def test_a_part_of_the_predictions_has_its_part_of_the_ledger(tmp_path: Path, part: str) -> None:
    pred = ledger(
        tmp_path / "pred", done("s/sub/x.jpg", "sub/x.png", "red"), done("s/x.jpg", "x.png", "blue"),
        failed("s/sub/y.jpg"),
        failed("s/y.jpg"),
    )  # fmt: skip
    gt = touch(tmp_path / "gt", "sub/x.png sub/y.png x.png y.png")
    found = match(pred / part, gt / part)
    ids = {"sub": ["x", "y"], ".": ["sub/x", "sub/y", "x", "y"]}[part.rpartition("/")[2]]
    assert [pair.id for pair in found.pairs] == ids
    assert rows(found)[0] == (ids[0], "red", "x.png")
    assert [bool(pair.columns) for pair in found.pairs] == [name.endswith("y") for name in ids]


def test_ledgers_below_and_in_parts_count(tmp_path: Path) -> None:
    ledger(tmp_path / "pred" / "one", done("s/x.jpg", "x.png", "red"), name="predictions.rank0.jsonl")
    ledger(tmp_path / "pred" / "two", done("t/x.jpg", "x.png", "blue"))
    assert rows(against(tmp_path / "pred", "one/x.png two/x.png")) == [
        ("one/x", "red", "x.png"), ("two/x", "blue", "x.png"),
    ]  # fmt: skip


def test_a_damaged_ledger_costs_no_more_than_what_it_says(tmp_path: Path) -> None:
    pred = touch(tmp_path / "pred", "x.png")
    (pred / LEDGER).write_bytes(b'\xff\xfe\x00{"input"\n[]\n{"input": 1}\n')
    assert rows(against(pred, "x.png")) == [("x", None, "x.png")]


def frames(folder: Path, name: str, count: int = 2) -> None:
    touch(folder, " ".join(f"{name}/{number:04}.png" for number in range(count)))


def test_folders_of_frames_have_their_prompts_too(tmp_path: Path) -> None:
    for name in ("s__a.frames", "s__b.frames"):
        frames(tmp_path / "pred", name)
    frames(tmp_path / "gt", "s.frames", 3)
    frames(tmp_path / "gt", "t.frames", 1)
    entries = [done("v/s.gif", f"s__{slug}.frames", slug.upper()) for slug in "ab"]
    with (tmp_path / "pred" / LEDGER).open("w") as stream:
        stream.writelines(json.dumps(asdict(entry)) + "\n" for entry in [*entries, failed("v/t.gif", "A")])
    found = match(tmp_path / "pred", tmp_path / "gt")
    assert rows(found) == [
        ("s.frames/0000", "A", "0000.png"), ("s.frames/0000", "B", "0000.png"),
        ("s.frames/0001", "A", "0001.png"), ("s.frames/0001", "B", "0001.png"),
        ("s.frames/0002", "A", None), ("s.frames/0002", "B", None), ("t.frames/0000", "A", None),
    ]  # fmt: skip
    assert found.pairs[-1].columns == {WHY_NONE: "failed: cut off"}
    shutil.rmtree(tmp_path / "gt")
    touch(tmp_path / "pred", "u.png")
    found = match(tmp_path / "pred", touch(tmp_path / "gt", "s.nii.gz u.png"))
    assert [row[2] for row in rows(found)] == [None, None, "u.png"]
    assert "a file a frame" in found.pairs[0].columns[WHY_NONE]


# What the command itself writes


def predict(out: str, *arguments: object, code: int = 0) -> None:
    vlsmctl("predict", "scans", "--model", "tiny", "--out", out, *arguments, code=code)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def true_masks(names: str, size: tuple[int, int] = (48, 64)) -> Path:
    for name in names.split():
        Path("gt", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(*size, dtype=np.uint8) * 255).save(Path("gt", name))
    return Path("gt")


def answered(found: Matched) -> Sequence[tuple[str, str | None, bool]]:
    return [(pair.id, pair.prompt, pair.prediction is not None) for pair in found.pairs]


def test_two_prompts_of_pictures_one_of_which_fails(here: Path) -> None:
    write_scans(here / "scans", "x.jpg", "a/x.png", "b.png", "k.jpg", "k.bmp")
    (here / "scans" / "b.png").write_bytes((here / "scans" / "b.png").read_bytes()[:90])
    predict("out", "--prompt", "Large polyp", "--prompt", "tool", "--overlay", code=3)
    found = match(Path("out"), true_masks("x.png a/x.png b.png never.png k.jpg.png k.bmp.tif"))
    assert answered(found) == [
        (case, prompt, case not in ("b", "never"))
        for case in ("a/x", "b", "k.bmp", "k.jpg", "never", "x")
        for prompt in ("Large polyp", "tool")
    ]
    assert found.extra == ()
    assert [pair.id for pair in found.pairs if pair.columns] == ["b", "b"]
    assert found.pairs[0].image == Path("scans/a/x.png")
    scores = score_cases(found.pairs, workers=0)
    assert [row.outcome == "failed" for row in scores.rows] == [False] * 12
    assert {row.outcome for row in scores.rows if row.pair.prediction is None} == {"missed"}


def test_prompts_of_their_own(here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png", "z.png")
    (here / "prompts.csv").write_text("input,prompt\nx.png,red polyp\nx.png,tool\ny.png,tool\n")
    predict("out", "--prompts", "prompts.csv", code=3)
    found = match(Path("out"), true_masks("x_mask.png y_mask.png z.png"))
    assert answered(found) == [
        ("x_mask", "red polyp", True), ("x_mask", "tool", True), ("y_mask", "tool", True),
        ("z", "tool", False),
    ]  # fmt: skip
    assert found.pairs[-1].columns[WHY_NONE].startswith("skipped: ")
    assert "'_mask' taken off the name of the target" in notes(found)


def test_one_label_map_for_several_prompts(here: Path) -> None:
    write_scans(here / "scans", "x.png")
    write_nifti(here / "scans" / "v.nii.gz", np.zeros((20, 24, 3), np.int16), np.diag([1.0, 1, 4, 1]))
    predict("out", "--prompt", "polyp", "--prompt", "tool", "--combine", "--threshold", 0.001)
    gt = true_masks("x.png")
    write_nifti(gt / "v.nii", np.ones((20, 24, 3), np.int16), np.diag([1.0, 1, 4, 1]))
    found = match(Path("out"), gt)
    assert [(pair.id, pair.prompt, pair.prompt_key, pair.prediction_label) for pair in found.pairs] == [
        (case, prompt, prompt, label) for case in "vx" for label, prompt in enumerate(("polyp", "tool"), 1)
    ]
    parts = [row.predicted_foreground for row in score_cases(found.pairs, workers=0).rows]
    assert sum(part or 0 for part in parts[:2]) <= 20 * 24 * 3  # a voxel has one label
    assert sum(part or 0 for part in parts) > 0


def test_a_dicom_series_against_other_kinds_of_target(here: Path) -> None:
    write_series(here / "scans" / "head")
    predict("out", "--prompt", "polyp", "--prompt", "tool", "--threshold", 0.001)
    predict("volumes", "--prompt", "polyp", "--threshold", 0.001, "--format", "nifti")
    predict("frames", "--prompt", "polyp", "--threshold", 0.001, "--format", "png")
    found = match(Path("out"), Path("volumes"), images=Path("scans"))
    assert [(pair.prompt, pair.prediction_label) for pair in found.pairs] == [("polyp", 1), ("tool", 2)]
    assert {(pair.prediction, pair.target, pair.image) for pair in found.pairs} == {
        (Path("out/head.seg.dcm"), Path("volumes/head.nii.gz"), Path("scans/head"))
    }
    first, _ = score_cases(found.pairs, workers=0).rows
    assert (first.outcome, first.scores["dice"]) == ("both_present", 1.0)
    (pair,) = match(Path("volumes"), Path("out")).pairs
    assert (pair.prompt, pair.prediction_label, pair.target.name) == ("polyp", None, "head.seg.dcm")
    shutil.copytree("out", "scans/true")
    shutil.move("scans/true/head.seg.dcm", "scans/head/seg.dcm")
    found = match(Path("volumes"), Path("scans"))  # the images beside it are passed over
    assert [(pair.id, pair.prediction) for pair in found.pairs] == [
        ("head/seg", Path("volumes/head.nii.gz"))
    ]
    shutil.copytree("frames", "true frames")
    found = match(Path("frames"), Path("true frames"))
    assert [(pair.id, pair.prompt) for pair in found.pairs] == [
        (f"head.frames/{path.stem}", "polyp") for path in sorted(Path("frames/head.frames").iterdir())
    ]
    assert len(found.pairs) == 4


def test_the_scan_of_a_mask_is_shown_only_where_it_is_sure(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    write_series(here / "scans" / "head")
    predict("out", "--prompt", "polyp")
    touch(here / "gt", "x.png y.png head.nii.gz")

    def images() -> list[str | None]:
        found = match(here / "out", here / "gt").pairs
        return [pair.image.name if pair.image else None for pair in found]

    assert images() == ["head", "x.png", "y.png"]
    (here / "elsewhere" / "scans").mkdir(parents=True)
    monkeypatch.chdir(here / "elsewhere")
    write_scans(here / "elsewhere" / "scans", "x.png")  # another of that name
    assert images() == ["head", "x.png", "y.png"]
    assert {pair.image and pair.image.parent for pair in match(here / "out", here / "gt").pairs} == {
        here / "scans"
    }
    (here / "scans" / "y.png").write_bytes(b"other")
    assert images() == ["head", "x.png", None]
    (here / "scans" / "x.png").unlink()
    assert images() == ["head", None, None]


def test_a_ledger_without_marks_needs_a_scan_of_the_same_size(here: Path) -> None:
    write_scans(here / "s", "x.png", "y.png", "z.png")
    pred = ledger(here / "pred", *(done(f"s/{name}.png", f"{name}.png") for name in "xy"))
    ledger(pred, done("s/z.png", "other.png"))
    for name, source in (("x", "x"), ("other", "z")):
        shutil.copy(here / "s" / f"{source}.png", pred / f"{name}.png")
    Image.new("L", (7, 7)).save(pred / "y.png")
    found = match(pred, touch(here / "gt", "x.png y.png other.png"))
    assert [(pair.id, pair.image) for pair in found.pairs] == [
        ("other", None), ("x", Path("s/x.png")), ("y", None),
    ]  # fmt: skip
