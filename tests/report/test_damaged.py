"""What a page says where something is missing, damaged, failed, or not to be taken at its face."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report import fakes
from tests.report.pages import page_of
from vlsmctl.errors import UsageError
from vlsmctl.pairing import CasePair
from vlsmctl.report import write_report
from vlsmctl.report.page import render, run_page


def test_a_run_that_was_never_scored(tmp_path: Path) -> None:
    text, page = page_of(fakes.run(tmp_path))
    assert "Not scored yet. Next: vlsmctl eval runs/phantom/20260101-120000-42" in page.text
    assert "Training loss" in page.text
    assert "To do it again" in page.text
    assert "data:image" not in text


def test_a_run_that_was_interrupted_in_its_first_epoch(tmp_path: Path) -> None:
    run = fakes.run(tmp_path, epochs=0, status="running", best=None, presence=None, epochs_done=None)
    (run / "metrics.jsonl").unlink()
    _, page = page_of(run)
    assert "running" in page.text
    assert "Training loss" not in page.text


def test_masks_that_any_tool_made(tmp_path: Path, pairs: list[CasePair]) -> None:
    bare = [CasePair(pair.id, pair.prediction, pair.target) for pair in pairs]
    folder = tmp_path / "by hand"
    about = {
        "predictions": "/home/someone/pred", "targets": "/home/someone/gt", "split": "all", "label": None,
        "pred_label": 3, "vlsmctl": "0.1.0",
        "command": ["vlsmctl", "eval", "--pred", "/home/someone/pred", "--gt", "/home/someone/gt"],
    }  # fmt: skip
    fakes.evaluation(folder, bare, about)
    text, page = page_of(folder)
    assert "Scores: pred against gt" in page.text
    assert "on 30 cases;" in page.text
    assert "the picture itself is not known" in page.text
    _, _, origin = page.text.rpartition("What was run on what")
    for words in (
        "protocol default", "split all", "label all that is marked", "label in the predictions 3",
        "version of vlsmctl 0.1.0", "tolerance of NSD 2.0 px, 2.0 mm", 'vlsmctl report "by hand"',
    ):  # fmt: skip
        assert words in origin
    assert "vlsmctl eval --pred pred --gt gt" in page.text
    assert "/home/someone" not in text


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a run nor scores"):
        write_report(tmp_path)


SCORES = "eval/phantom-test-random/scores.csv"
DAMAGE = {
    "run.json is no JSON": ("run.json", "{", "run.json cannot be read"),
    "run.json is a list": ("run.json", "[]", "run.json cannot be read"),
    "run.json holds nothing": ("run.json", "{}", "Lowest Dice"),
    "run.json holds other things": (
        "run.json", '{"preset": 3, "data": [], "versions": "x", "best": 4, "seed": {}, "parameters": null}',
        "Lowest Dice",
    ),
    "a cut line": ("metrics.jsonl", '{"epoch": 1, "loss": 1', "metrics.jsonl has a damaged line"),
    "no metrics": ("metrics.jsonl", None, "What was run on what"),
    "no summary": ("eval/phantom-test-random/summary.json", None, "summary.json is missing or damaged"),
    "an empty summary": ("eval/phantom-test-random/summary.json", "", "summary.json is missing or damaged"),
    "an old summary": (
        "eval/phantom-test-random/summary.json", '{"metrics": {"dice": {"mean": 0.5}}, "n": 30}',
        "Dice 0.500 on 30 cases",
    ),
    "a summary of other kinds": (
        "eval/phantom-test-random/summary.json",
        '{"metrics": {"dice": 4, "iou": {"mean": "x", "interval": 3}}, "by": {"a": [], "b": {"c": 4}}, '
        '"about": [], "rules": [1], "failed": {}, "not_asked": {"p1": "x"}, "caution_kinds": [3], '
        '"n_groups": 3, "sensitivity": {"rows": [1, {}], "answer": 3}, "n": "x"}',
        "No case has a score.",
    ),
    "no scores": (SCORES, None, "The single cases are not shown (no scores.csv"),
    "cut scores": (SCORES, "id,dice\ncase", "The single cases are not shown"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_costs_its_own_place_only(run: Path, name: str) -> None:
    file, content, said = DAMAGE[name]
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    text, page = page_of(run, pictures=1)
    assert said in page.text
    assert str(run.parents[2]) not in text
    assert "Partly: it finds the class by its name" in page.text  # of the other evaluation
    assert "To do it again" in page.text


def test_a_data_set_that_was_moved_costs_the_pictures_only(tmp_path: Path) -> None:
    pairs = fakes.data_set(tmp_path / "set", 9)
    fakes.evaluation(tmp_path / "e", pairs)
    shutil.rmtree(tmp_path / "set" / "masks")
    text, page = page_of(tmp_path / "e")
    assert page.text.count("No picture: case-") == 9
    assert "All cases" in page.text
    assert str(tmp_path) not in text


def test_rows_of_another_evaluation_are_noticed(run: Path) -> None:
    shutil.copy(run / "eval/phantom-test-all/scores.csv", run / "eval/phantom-test-random/scores.csv")
    _, page = page_of(run)
    assert "summary.json speaks of 30 scored cases and scores.csv holds 45" in page.text


def test_failures_are_named_with_their_reason(tmp_path: Path, pairs: list[CasePair]) -> None:
    broken = tmp_path / "someone" / "broken.png"
    broken.parent.mkdir()
    broken.write_bytes(b"")
    bad = replace(pairs[0], id="bad one", prediction=broken)
    fakes.evaluation(tmp_path / "e", [*pairs, bad, replace(pairs[1], prediction=None)])
    text, page = page_of(tmp_path / "e")
    assert "Failed cases, in no mean (1)" in page.text
    assert re.search(r"bad one “polyp” ?: broken\.png: the file is empty", page.text)
    assert "1 case could not be scored and is in no mean" in page.text
    assert "1 case without a prediction file" in page.text
    assert 'data-outcome="failed"' in text
    assert "someone" not in text


def test_what_flatters_is_said(tmp_path: Path, pairs: list[CasePair]) -> None:
    run = fakes.run(tmp_path)
    facts = fakes.about(
        "clinicdb", trained_pictures=7, manifest_sha256="other", protocol="paper", prompts_from_masks=True
    )
    fakes.evaluation(run / "eval" / "a", pairs, facts)
    _, page = page_of(run)
    assert "7 pictures of this evaluation had a part in training" in page.text
    assert "trained on phantom and is scored on clinicdb" in page.text
    assert "words taken from the true mask" in page.text
    fakes.evaluation(
        run / "eval" / "a", pairs, fakes.about(trained_pictures=None, prompts_from_masks=False)
    )
    _, page = page_of(run)
    assert "could not be checked" in page.text
    assert "words taken" not in page.text


def test_one_case_and_no_case(tmp_path: Path, pairs: list[CasePair]) -> None:
    fakes.evaluation(tmp_path / "one", pairs[:1])
    _, page = page_of(tmp_path / "one")
    assert "on 1 case;" in page.text
    assert "unknown" in page.text
    fakes.evaluation(tmp_path / "none", [])
    _, page = page_of(tmp_path / "none")
    assert "No case has a score." in page.text


def test_text_that_is_no_unicode_can_be_written(run: Path) -> None:
    path = run / "eval" / "phantom-test-random" / "summary.json"
    document = json.loads(path.read_text())
    document["about"]["data"] = "\ud800"
    path.write_text(json.dumps(document))
    assert "\\ud800" in render(run_page(run))
