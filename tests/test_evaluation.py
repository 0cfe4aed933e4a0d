"""Folders of mask files in, rows and a summary out: matching, refusals, counts, units, files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from tests.masks import BROKEN, SIZE, block, cube, picture, text, volume
from vlsmctl.errors import UnreadableFile
from vlsmctl.evaluation import (
    COLUMNS,
    CasePair,
    Row,
    Scores,
    match_folders,
    prompt_table,
    score_cases,
    score_table,
    summarise,
    write_scores,
)
from vlsmctl.mask_files import read_mask_file
from vlsmctl.metrics import METRICS

DIAGONAL = 50.0


def score(*pairs: CasePair) -> tuple[Row, ...]:
    return score_cases(pairs, workers=0).rows


def test_spacing_comes_from_the_affine_in_mm(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(cube().astype(np.uint8), np.diag([500.0, 500, 3000, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "m.nii.gz")
    pair = CasePair("m", tmp_path / "m.nii.gz", volume(tmp_path / "t.nii.gz", cube(4)))
    (row,) = score(pair)
    assert row.unit == "mm"
    assert row.scores["hd95"] == pytest.approx(1.0)


def test_a_single_slice_is_measured_as_a_plane(tmp_path: Path) -> None:
    masks = {"within": block(11, 11, 4), "around": block(3, 3, 22)}
    flat = [volume(tmp_path / f"{name}.nii.gz", mask[:, :, np.newaxis]) for name, mask in masks.items()]
    pictures = [picture(tmp_path / f"{name}.png", mask) for name, mask in masks.items()]
    in_mm, in_px = score(CasePair("a", flat[0], flat[1]), CasePair("b", pictures[0], pictures[1]))
    assert in_mm.scores["hd95"] == pytest.approx(in_px.scores["hd95"] * 0.5)


def test_scores_of_a_known_pair(tmp_path: Path) -> None:
    pair = CasePair("a", picture(tmp_path / "p.png", block(7)), picture(tmp_path / "t.png", block(5)))
    (row,) = score(pair)
    assert row.outcome == "both_present"
    assert row.unit == "px"
    assert row.scores == {"dice": 0.75, "iou": 0.6, "hd95": 2.0}
    assert (row.target_foreground, row.predicted_foreground) == (64, 64)


def test_empty_and_missing_predictions_follow_the_rule(tmp_path: Path) -> None:
    empty = picture(tmp_path / "empty.png", np.zeros(SIZE, dtype=bool))
    full = picture(tmp_path / "full.png", block())
    cases: list[tuple[Path | None, Path]] = [(empty, full), (None, full), (full, empty), (empty, empty)]
    cases += [(None, empty), (None, tmp_path / "gone.png")]
    rows = score(*(CasePair(str(number), *files) for number, files in enumerate(cases)))
    expected = "missed missed false_alarm both_empty both_empty failed"
    assert [row.outcome for row in rows] == expected.split()
    assert [row.scores["dice"] for row in rows[:5]] == [0, 0, 0, 1, 1]
    assert [row.scores["hd95"] for row in rows[:5]] == [DIAGONAL] * 3 + [0, 0]
    summary = summarise(Scores(rows))
    counts = {key: value for key, value in summary.items() if key.startswith("n")}
    assert counts == {
        "n": 5, "n_missed": 2, "n_false_alarm": 1, "n_both_empty": 2, "n_without_prediction": 2,
        "n_failed": 1, "n_groups": 5,
    }  # fmt: skip
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(0.4)


@pytest.mark.parametrize(("break_it", "name"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_one_bad_file_is_named_counted_and_the_rest_is_scored(
    tmp_path: Path, break_it: Callable[[Path], Path], name: str
) -> None:
    bad = break_it(tmp_path / name)
    with pytest.raises(UnreadableFile):
        read_mask_file(bad)
    good = volume(tmp_path / "g.nii.gz", cube()) if ".nii" in name else picture(tmp_path / "g.png", block())
    scores = Scores(
        score(CasePair("bad", bad, good), CasePair("bad2", good, bad), CasePair("good", good, good))
    )
    assert [row.outcome for row in scores.rows] == ["failed", "failed", "both_present"]
    summary = summarise(scores)
    assert (summary["n"], summary["n_failed"]) == (1, 2)
    assert summary["metrics"]["dice"]["mean"] == 1
    assert [failure["id"] for failure in summary["failed"]] == ["bad", "bad2"]
    assert all(str(bad) in failure["reason"] for failure in summary["failed"])
    assert summary["cautions"] == []


def test_masks_on_other_grids_are_refused_with_both_named(tmp_path: Path) -> None:
    small = picture(tmp_path / "small.png", block(size=(20, 40)))
    large = picture(tmp_path / "large.png", block())
    here = volume(tmp_path / "here.nii.gz", cube())
    moved = np.diag([0.5, 0.5, 3.0, 1.0])
    moved[0, 3] = 2
    there = volume(tmp_path / "there.nii.gz", cube(), moved)
    longer = volume(tmp_path / "longer.nii.gz", cube(size=(12, 12, 11)))
    rows = score(
        CasePair("a", small, large), CasePair("b", there, here), CasePair("c", longer, here),
        CasePair("d", large, here),
    )  # fmt: skip
    expected = [
        "30 x 40, found 20 x 40",
        "up to 2 mm",
        "12 x 12 x 10, found 12 x 12 x 11",
        "found a picture",
    ]
    for row, words in zip(rows, expected, strict=True):
        assert row.outcome == "failed"
        assert row.note is not None
        assert words in row.note
        assert str(row.pair.prediction) in row.note
        assert str(row.pair.target) in row.note


def test_rounding_of_an_affine_is_no_other_grid(tmp_path: Path) -> None:
    nearly = np.diag([0.5, 0.5, 3.0, 1.0]) + 1e-4
    nearly[3] = (0, 0, 0, 1)
    paths = volume(tmp_path / "a.nii.gz", cube(), nearly), volume(tmp_path / "b.nii.gz", cube())
    assert score(CasePair("a", *paths))[0].outcome == "both_present"


def case_folder(tmp_path: Path, number: int = 6) -> list[CasePair]:
    for case in range(number):
        picture(tmp_path / "pred" / f"c{case}.png", block(5 + case))
        picture(tmp_path / "gt" / f"c{case}.png", block())
    text(tmp_path / "pred" / "c1.png")
    return match_folders(tmp_path / "pred", tmp_path / "gt")[0]


def test_worker_processes_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    pairs = case_folder(tmp_path)
    assert score_cases(pairs, workers=2) == score_cases(pairs, workers=0)


def test_progress_sees_every_row(tmp_path: Path) -> None:
    seen: list[str] = []

    def progress(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            seen.append(row.pair.id)
            yield row

    pairs = case_folder(tmp_path)
    score_cases(pairs, workers=1, progress=progress)
    assert seen == [pair.id for pair in pairs]


# --- summary and files


def mixed(tmp_path: Path) -> Scores:
    pairs = case_folder(tmp_path)
    pairs.append(
        CasePair("v", volume(tmp_path / "v.nii.gz", cube()), volume(tmp_path / "w.nii.gz", cube(4)))
    )
    return score_cases(pairs, workers=0, extra=[tmp_path / "more.png"])


def test_mm_and_px_are_never_averaged(tmp_path: Path) -> None:
    summary = summarise(mixed(tmp_path))
    assert summary["mixed_units"] is True
    assert summary["units"] == {"mm": 1, "px": 5}
    assert list(summary["metrics"]) == ["dice", "iou", "hd95_mm", "hd95_px"]
    assert summary["metrics"]["dice"]["n"] == 6
    assert summary["metrics"]["hd95_mm"] == {
        "label": "HD95 (mm)", "unit": "mm", "n": 1, "mean": 1.0, "interval": [None, None],
    }  # fmt: skip
    assert summary["metrics"]["hd95_px"]["mean"] == pytest.approx((0 + 2 + 3 + 4 + 5) / 5)


def test_means_lie_within_their_intervals_and_groups_widen_them(tmp_path: Path) -> None:
    rows = mixed(tmp_path).rows
    grouped = [
        replace(row, pair=replace(row.pair, group="one" if row.pair.id < "c3" else "two")) for row in rows
    ]
    alone, together = summarise(Scores(rows)), summarise(Scores(tuple(grouped)))
    for summary in (alone, together):
        for metric in ("dice", "iou", "hd95_px"):
            low, high = summary["metrics"][metric]["interval"]
            assert low < summary["metrics"][metric]["mean"] < high
    assert (alone["n_groups"], together["n_groups"]) == (6, 2)


def test_several_prompts_on_one_case_are_one_group(tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", block())
    rows = score(*(CasePair("a", mask, mask, None, prompt) for prompt in ("polyp", "lesion", "growth")))
    summary = summarise(Scores(rows))
    assert (summary["n"], summary["n_groups"]) == (3, 1)
    assert summary["metrics"]["dice"]["interval"] == [None, None]


def several_prompts(tmp_path: Path) -> Scores:
    """Three cases, each asked three prompts, p10 the worst; no picture could be read for one case."""
    pairs = [
        CasePair(
            f"c{case}", picture(tmp_path / f"{case}-{key}.png", block(5 + by + case)),
            picture(tmp_path / f"{case}.png", block()), prompt=f"words {key}", prompt_key=key,
        )
        for key, by in (("p1", 1), ("p10", 4), ("p2", 2)) for case in range(3)
    ]  # fmt: skip
    pairs[1] = replace(pairs[1], prediction=None, error="cut off")
    return score_cases(pairs, workers=0)


def test_each_prompt_has_a_mean_of_its_own(tmp_path: Path) -> None:
    scores = several_prompts(tmp_path)
    summary = summarise(scores)
    assert list(summary["prompts"]) == ["p1", "p2", "p10"]
    for key, metrics in summary["prompts"].items():
        alone = tuple(row for row in scores.rows if row.pair.prompt_key == key)
        assert metrics == summarise(Scores(alone))["metrics"]
    means = [metrics["dice"]["mean"] for metrics in summary["prompts"].values()]
    assert means == sorted(means, reverse=True)
    assert len(set(means)) == 3
    assert [metrics["dice"]["n"] for metrics in summary["prompts"].values()] == [2, 3, 3]
    table = prompt_table(summary)
    assert table is not None
    shown = printed(table)
    for key, mean in zip(summary["prompts"], means, strict=True):
        assert re.search(rf"\b{key}\b.*\b{mean:.3f} \(", shown)


def test_a_prompt_without_any_score_is_shown_nonetheless(tmp_path: Path) -> None:
    rows = several_prompts(tmp_path).rows
    lost = tuple(replace(row, scores={}) if row.pair.prompt_key == "p2" else row for row in rows)
    summary = summarise(Scores(lost))
    assert summary["prompts"]["p2"] == {}
    table = prompt_table(summary)
    assert table is not None
    assert re.search(r"p2\W+0\W", printed(table))


def test_without_prompts_that_have_names_there_is_no_such_table(tmp_path: Path) -> None:
    summary = summarise(mixed(tmp_path))
    assert summary["prompts"] == {}
    assert prompt_table(summary) is None
    one = tuple(row for row in several_prompts(tmp_path).rows if row.pair.prompt_key == "p1")
    assert prompt_table(summarise(Scores(one))) is None


def test_predictions_named_for_prompts_are_told_apart(tmp_path: Path) -> None:
    picture(tmp_path / "gt" / "a.png", block())
    picture(tmp_path / "pred" / "a__polyp.png", block())
    picture(tmp_path / "pred" / "a__red-polyp.png", block(12))
    pairs, _ = match_folders(tmp_path / "pred", tmp_path / "gt")
    prompts = summarise(score_cases(pairs, workers=0))["prompts"]
    assert prompts["polyp"]["dice"]["mean"] == 1 > prompts["red-polyp"]["dice"]["mean"]


def test_a_case_that_failed_before_is_not_read(tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", block())
    bad = CasePair("bad", mask, mask, error="the picture is cut off")
    scores = score_cases([bad, CasePair("good", mask, mask)], workers=0)
    assert [row.outcome for row in scores.rows] == ["failed", "both_present"]
    summary = summarise(scores)
    assert summary["failed"] == [{"id": "bad", "prompt": None, "reason": "the picture is cut off"}]
    assert (summary["n"], summary["n_failed"]) == (1, 1)


def test_files_hold_what_was_scored(tmp_path: Path) -> None:
    scores = mixed(tmp_path)
    write_scores(tmp_path / "eval", scores)
    with (tmp_path / "eval" / "scores.csv").open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        lines = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    for line, row in zip(lines, scores.rows, strict=True):
        assert (line["id"], line["outcome"], line["unit"]) == (row.pair.id, row.outcome, row.unit or "")
        assert line["note"] == (row.note or "")
        assert line["prompt_key"] == ""
        assert {name: float(line[name]) for name in METRICS if line[name]} == row.scores
    document = (tmp_path / "eval" / "summary.json").read_text(encoding="utf-8")
    assert json.loads(document) == summarise(scores)
    write_scores(tmp_path / "prompts", several_prompts(tmp_path))
    with (tmp_path / "prompts" / "scores.csv").open(encoding="utf-8", newline="") as stream:
        keys = [(line["prompt"], line["prompt_key"]) for line in csv.DictReader(stream)]
    assert keys[0] == ("words p1", "p1")
    assert "NaN" not in document
    assert "diagonal" in json.loads(document)["rules"]["empty"]
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["scores.csv", "summary.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds names that are no text")
def test_names_that_are_no_text_can_be_written_down(tmp_path: Path) -> None:
    name = os.fsdecode(b"case\xff.png")
    for folder in ("pred", "gt"):
        picture(tmp_path / folder / name, block())
    text(tmp_path / "pred" / os.fsdecode(b"more\xff.png"))
    pairs, extra = match_folders(tmp_path / "pred", tmp_path / "gt")
    bad = CasePair("bad", tmp_path / "pred" / extra[0].name, pairs[0].target)
    write_scores(tmp_path / "eval", score_cases([*pairs, bad], workers=0, extra=extra))
    assert pairs[0].id == "case\\udcff"
    assert "more\\udcff.png" in (tmp_path / "eval" / "scores.csv").read_text(encoding="utf-8")


def test_nothing_scored_is_a_summary_too(tmp_path: Path) -> None:
    bad = text(tmp_path / "b.png")
    summary = summarise(Scores(score(CasePair("a", bad, bad))))
    assert (summary["n"], summary["n_failed"], summary["metrics"]) == (0, 1, {})
    assert printed(score_table(summary))


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_means_intervals_counts_and_units(tmp_path: Path) -> None:
    scores = mixed(tmp_path)
    shown = printed(score_table(summarise(scores)))
    for words in (
        "Dice",
        "HD95 (px)",
        "HD95 (mm)",
        "2.8",
        "unknown",
        "missed",
        "false alarm",
        "failed",
        "apart",
    ):
        assert words in shown


def test_scoring_imports_no_model_and_no_torch() -> None:
    code = (
        "import sys, vlsmctl.evaluation;"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'monai', 'transformers')])"
    )
    result = subprocess.run(  # noqa: S603 (our own interpreter)
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert result.stdout.strip() == "[]"
