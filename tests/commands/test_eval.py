from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.app import error_line, vlsmctl
from tests.datasets.fakes import blob, grey, save, truncate
from vlsmctl.datasets.build import prepare


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _folders(root: Path, count: int = 3) -> tuple[Path, Path]:
    """Predicted and true masks; they agree."""
    for number in range(count):
        for folder in ("pred", "gt"):
            save(root / folder / f"case{number}.png", grey(blob(row=4 + number)))
    return root / "pred", root / "gt"


def test_latest_by_default_and_by_path(at_home: Path) -> None:
    latest = vlsmctl("eval", "--json").document
    assert latest["n"] == 4
    assert latest["n_failed"] == 0
    run = (at_home / "runs" / "latest").resolve()
    folder = Path(latest["folder"])
    assert folder.resolve() == run / "eval" / "phantom-test-random"
    assert len(list((folder / "masks").glob("*.png"))) == 4
    for named in ("runs/latest", run):
        document = vlsmctl("eval", named, "--json").document
        assert document["metrics"] == latest["metrics"]
    answer = vlsmctl("eval")
    assert "Dice" in answer.out
    assert "scores.csv" in answer.out


def test_scoring_twice_gives_the_same_scores(at_home: Path, tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        vlsmctl("eval", "--prompts", "random", "--out", folder)
    first, second = (
        [{key: value for key, value in row.items() if key != "prediction"} for row in _rows(folder)]
        for folder in folders
    )
    assert first == second
    masks = [{p.name: p.read_bytes() for p in (f / "masks").iterdir()} for f in folders]
    assert masks[0] == masks[1]


def test_one_prompt_and_all_prompts(at_home: Path, tmp_path: Path) -> None:
    one = vlsmctl("eval", "--prompts", "p1", "--out", tmp_path / "p1", "--json").document
    rows = _rows(tmp_path / "p1")
    assert (one["n"], {row["prompt"] for row in rows}) == (4, {"polyp"})
    every = vlsmctl("eval", "--prompts", "all", "--out", tmp_path / "all", "--json").document
    rows = _rows(tmp_path / "all")
    keys = {f"p{number}" for number in range(6)}
    assert {row["prompt_key"] for row in rows} == keys == set(every["by"]["prompt"])
    assert every["n"] == len(rows) == 4 * len(keys)
    dice = {row["id"]: row["dice"] for row in rows if row["prompt_key"] == "p1"}
    assert dice == {row["id"]: row["dice"] for row in _rows(tmp_path / "p1")}


def test_another_split(at_home: Path, tmp_path: Path) -> None:
    assert vlsmctl("eval", "--split", "train", "--out", tmp_path, "--json").document["n"] == 8
    assert "'tset'" in error_line(vlsmctl("eval", "--split", "tset", "--out", tmp_path, code=2))
    assert "p77" in error_line(vlsmctl("eval", "--prompts", "p77", "--out", tmp_path, code=2))
    assert (tmp_path / "summary.json").is_file()  # the scores that were there are not lost for that


def test_folders_of_masks(here: Path) -> None:
    pred, gt = _folders(here)
    document = vlsmctl("eval", "--pred", pred, "--gt", gt, "--json").document
    assert document["n"] == 3
    assert document["metrics"]["dice"]["mean"] == 1.0
    assert document["metrics"]["hd95_px"]["mean"] == 0.0
    assert json.loads((here / "eval" / "summary.json").read_text())["n"] == 3
    (pred / "case1.png").unlink()
    save(pred / "stray.png", grey(blob()))
    answer = vlsmctl("eval", "--pred", pred, "--gt", gt, "--out", here / "scores")
    assert "no true mask for" in answer.err
    assert "stray.png" in answer.err
    summary = json.loads((here / "scores" / "summary.json").read_text())
    assert (summary["n"], summary["n_without_prediction"]) == (3, 1)
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(2 / 3)


def test_what_cannot_be_scored_is_named(here: Path) -> None:
    pred, gt = _folders(here)
    truncate(pred / "case0.png")
    answer = vlsmctl("--quiet", "eval", "--pred", pred, "--gt", gt, "--json", code=3)
    assert (answer.document["n"], answer.document["n_failed"]) == (2, 1)
    (line,) = answer.err.splitlines()
    assert line.startswith("failed case0: ")
    for number in (1, 2):
        save(pred / f"case{number}.png", np.zeros((9, 9), np.uint8))
    answer = vlsmctl("eval", "--pred", pred, "--gt", gt, code=4)
    assert "none of the 3 cases" in error_line(answer)


def test_combinations_that_make_no_sense(at_home: Path, tmp_path: Path) -> None:
    pred, gt = _folders(tmp_path)
    assert "go together" in error_line(vlsmctl("eval", "--pred", pred, code=2))
    assert "go together" in error_line(vlsmctl("eval", "--gt", gt, code=2))
    assert "not both" in error_line(vlsmctl("eval", "runs/latest", "--pred", pred, "--gt", gt, code=2))
    assert "--prompts" in error_line(
        vlsmctl("eval", "--pred", pred, "--gt", gt, "--prompts", "all", code=2)
    )
    assert "--device" in error_line(vlsmctl("eval", "--device", "toaster", code=2))


def test_nothing_there(here: Path, tmp_path: Path) -> None:
    answer = vlsmctl("eval", code=2)
    assert "no run yet" in error_line(answer)
    assert "vlsmctl train" in answer.err
    assert "absent" in error_line(vlsmctl("eval", here / "absent", code=2))
    (tmp_path / "none").mkdir()
    _, gt = _folders(tmp_path)
    vlsmctl("eval", "--pred", tmp_path / "none", "--gt", gt, code=4)
    assert "absent" in error_line(vlsmctl("eval", "--pred", here / "absent", "--gt", gt, code=2))
    assert not any(here.iterdir())


def test_a_damaged_run_is_refused(at_home: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "phantom" / "copy"
    shutil.copytree((at_home / "runs" / "latest").resolve(), run)
    adapter = run / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-100])
    assert "adapter.safetensors" in error_line(vlsmctl("eval", run, code=2))
    adapter.unlink()
    assert "adapter.safetensors" in error_line(vlsmctl("eval", run, code=2))
    (run / "run.json").write_text('{"status": "fini')
    assert "run.json" in error_line(vlsmctl("eval", run, code=2))


def test_data_changed_since_training_is_told(at_home: Path, here: Path) -> None:
    prepare("phantom", None, here / "data2", seed=9, counts=(2, 2, 2))
    shutil.copytree((at_home / "runs" / "latest").resolve(), here / "run")
    document = json.loads((here / "run" / "run.json").read_text())
    document["data"]["folder"] = str(here / "data2" / "phantom")
    (here / "run" / "run.json").write_text(json.dumps(document))
    answer = vlsmctl("eval", here / "run", "--split", "val")
    assert "has changed since" in answer.err
    shutil.rmtree(here / "data2")
    assert "vlsmctl prepare phantom" in vlsmctl("eval", here / "run", code=2).err


def test_results_are_told_apart_by_any_column(at_home: Path, tmp_path: Path) -> None:
    document = vlsmctl("eval", "--by", "group,split", "--by", "size", "--out", tmp_path, "--json").document
    assert {"group", "split", "size"} <= set(document["by"])
    assert document["by"]["split"]["test"]["n"] == document["n"] == 4
    by_size = document["by"]["size"]
    assert sum(part["n"] for part in by_size.values()) == 4
    assert set(by_size) == {row["by_size"] or "(none)" for row in _rows(tmp_path)}
    answer = vlsmctl("eval", "--by", "plaze", "--out", tmp_path, code=2)
    assert "'place'" in error_line(answer)


def test_the_published_protocol(at_home: Path, tmp_path: Path) -> None:
    """Its masks are the model's own pixels made larger: every edge lies on the model's grid."""
    document = vlsmctl("eval", "--protocol", "paper", "--out", tmp_path, "--json").document
    assert document["about"]["presence"] == 0
    assert "as published" in document["rules"]["protocol"]
    rows = _rows(tmp_path)
    defined = [float(row["hd95"]) for row in rows if row["outcome"] == "both_present"]
    shown = document["metrics"].get("hd95_defined_px")
    assert (shown is None) == (not defined)
    if shown:
        assert (shown["n"], shown["mean"]) == (len(defined), pytest.approx(np.mean(defined)))
    native, small = 192, 64
    edges = set()
    for path in (tmp_path / "masks").glob("*.png"):
        with Image.open(path) as picture:
            mask = np.asarray(picture)
        edges |= set((np.flatnonzero((mask[1:] != mask[:-1]).any(1)) + 1).tolist())
    assert edges
    assert not {edge % (native // small) for edge in edges} - {0}
    assert "paper" in error_line(vlsmctl("eval", "--protocol", "papre", code=2))
    assert "--presence" in error_line(vlsmctl("eval", "--protocol", "paper", "--presence", "0.5", code=2))


def test_tolerances(here: Path) -> None:
    pred, gt = here / "pred", here / "gt"
    save(pred / "a.png", grey(blob(row=8)))
    save(gt / "a.png", grey(blob(row=4)))
    shares = []
    for tolerance in ("0px", "2px", "9 px"):
        document = vlsmctl(
            "eval", "--pred", pred, "--gt", gt, "--tolerance", tolerance, "--json", "--no-report"
        ).document
        shares.append(document["metrics"]["nsd_px"]["mean"])
    assert shares[0] < shares[1] < shares[2] == 1
    assert not (here / "eval" / "report.html").exists()
    for wrong in ("2", "px", "-1px", "2cm"):
        assert "2px" in error_line(
            vlsmctl("eval", "--pred", pred, "--gt", gt, "--tolerance", wrong, code=2)
        )


def test_runs_are_compared_on_the_same_cases(at_home: Path, tmp_path: Path) -> None:
    run = (at_home / "runs" / "latest").resolve()
    other = tmp_path / "other"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("eval"))
    first = vlsmctl("eval", "--compare", run, other, "--out", tmp_path / "c", "--json").document
    (pair,) = {(line["first"], line["second"]) for line in first["differences"]}
    assert len(set(pair)) == 2
    assert all(line["mean"] == 0 and line["p"] == 1 for line in first["differences"])
    again = vlsmctl("eval", "--compare", run, other, "--out", tmp_path / "c")
    assert again.err.count("scored before") == 2
    assert (tmp_path / "c" / "comparison.csv").is_file()
    paper = vlsmctl("eval", other, "--protocol", "paper", "--json").document["folder"]
    mixed = vlsmctl("eval", "--compare", other, paper, "--out", tmp_path / "mixed", "--json").document
    assert any("protocol" in note and "default" in note for note in mixed["notes"])
    assert "--compare" in vlsmctl("eval", run, other, code=2).err
    assert "two or more runs" in error_line(vlsmctl("eval", "--compare", run, code=2))


def test_another_data_set(at_home: Path, here: Path) -> None:
    """With its own name, no figure of the paper, and the pictures that were trained on counted."""
    prepare("phantom", None, here / "more", seed=42, counts=(8, 4, 4))
    folder = (here / "more" / "phantom").rename(here / "more" / "other")
    run = (at_home / "runs" / "latest").resolve()
    answer = vlsmctl("eval", run, "--data", folder, "--split", "train", "--json", "--out", here / "scores")
    about = answer.document["about"]
    assert (about["trained_on"], about["data"], about["paper"]) == ("phantom", "other", None)
    assert about["trained_pictures"] == 8
    assert "trained on phantom, scored on other" in answer.err
    assert "on 8 of these pictures" in answer.err
    assert {row["data_set"] for row in _rows(here / "scores")} == {"other"}


def test_pictures_without_the_prompt_are_counted(at_home: Path, here: Path) -> None:
    from vlsmctl.datasets.manifest import read_manifest, write_manifest

    shutil.copytree(at_home / "data" / "phantom", here / "data")
    manifest = read_manifest(here / "data")
    first = next(record.id for record in manifest.split("test") if record.foreground)
    records = [
        replace(record, prompts={key: text for key, text in record.prompts.items() if key != "p3"})
        if record.id == first
        else record
        for record in manifest.records
    ]
    info = {key: value for key, value in manifest.info.items() if key != "manifest_hash"}
    write_manifest(here / "data", records, info)
    run = (at_home / "runs" / "latest").resolve()
    answer = vlsmctl("eval", run, "--data", here / "data", "--prompts", "p3", "--json", "--out", here / "s")
    assert (answer.document["n"], answer.document["not_asked"]) == (3, {"p3": 1})
    assert "1 pictures have no prompt p3" in answer.err


def test_evaluations_with_other_rules_or_data_do_not_replace_each_other(at_home: Path, here: Path) -> None:
    run = here / "run"
    shutil.copytree((at_home / "runs" / "latest").resolve(), run, ignore=shutil.ignore_patterns("eval"))
    prepare("phantom", None, here / "other", seed=7, counts=(2, 2, 2))
    folders = {
        vlsmctl("eval", run, "--no-report", "--json", *more).document["folder"]
        for more in ([], ["--tolerance", "5px"], ["--data", here / "other"], ["--protocol", "paper"],
                     ["--presence", "0.5"], ["--prompts", "p1"])
    }  # fmt: skip
    assert len(folders) == len(list((run / "eval").iterdir())) == 6
    for kept in folders:
        assert (Path(kept) / "summary.json").is_file()


def test_other_masks_do_not_replace_scores(here: Path) -> None:
    pred, gt = _folders(here)
    for _ in range(2):
        vlsmctl("eval", "--pred", pred, "--gt", gt)
    shutil.copytree(pred, here / "better")
    answer = vlsmctl("eval", "--pred", here / "better", "--gt", gt, code=2)
    assert "--out" in answer.err
    about = json.loads((here / "eval" / "summary.json").read_text())["about"]
    assert about["predictions"] == str(pred)
    assert about["command"] == ["vlsmctl", "eval", "--pred", str(pred), "--gt", str(gt)]
    vlsmctl("eval", "--pred", here / "better", "--gt", gt, "--out", here / "b", "--no-report")
    vlsmctl("eval", "--compare", here / "eval", here / "b")
    answer = vlsmctl("eval", "--compare", here / "eval", here / "b", "--split", "val", code=2)
    assert "--split" in error_line(answer)
    assert "--by" in error_line(vlsmctl("eval", "--compare", "x", "y", "--by", "size", code=2))


def test_an_evaluation_that_is_stopped_leaves_no_old_summary(
    at_home: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose masks are replaced by then."""
    run = here / "run"
    shutil.copytree((at_home / "runs" / "latest").resolve(), run, ignore=shutil.ignore_patterns("eval"))
    folder = Path(vlsmctl("eval", run, "--prompts", "all", "--json").document["folder"])
    assert json.loads((folder / "summary.json").read_text())["sensitivity"]["n_pictures"]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("measure", "predict_split"):
        with monkeypatch.context() as patch:
            patch.setattr(f"vlsmctl.scoring.{step}", stop)
            vlsmctl("eval", run, "--prompts", "all", code=130)
        assert not (folder / "summary.json").exists()
        vlsmctl("eval", run, "--prompts", "all", "--no-report")


def test_comparing_uses_no_scores_of_another_adapter_or_tolerance(at_home: Path, here: Path) -> None:
    one, two = here / "one", here / "two"
    for run in (one, two):
        shutil.copytree((at_home / "runs" / "latest").resolve(), run)
    vlsmctl("eval", "--compare", one, two)
    adapter = two / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"\x01")  # another value of one parameter
    answer = vlsmctl("eval", "--compare", one, two)
    assert answer.err.count("scored before") == 1
    answer = vlsmctl("eval", "--compare", one, two, "--tolerance", "3px")
    assert answer.err.count("scored before") == 0


def test_the_papers_figures_are_told_for_what_they_are(at_home: Path, here: Path) -> None:
    run = here / "run"
    shutil.copytree((at_home / "runs" / "latest").resolve(), run, ignore=shutil.ignore_patterns("eval"))
    document = json.loads((run / "run.json").read_text())
    figures = {"source": "Table 1", "scores": {"clipseg-dense": {"dice": 89.1, "iou": 82.4, "hd95": 47.8}}}
    document["preset"]["paper"] = figures
    (run / "run.json").write_text(json.dumps(document))
    plain = vlsmctl("eval", run)
    assert "0.891" in plain.out
    assert "47.8" not in plain.out
    assert "--protocol paper --prompts random" in plain.out
    paper = json.loads((run / "eval" / "phantom-test-random" / "summary.json").read_text())["about"][
        "paper"
    ]
    assert not paper["comparable"]
    published = vlsmctl("eval", run, "--protocol", "paper", "--json").document
    assert published["about"]["paper"]["comparable"]
    assert any("CLIPSeg" in remark for remark in published["about"]["paper"]["remarks"])


def test_scores_of_something_else_are_not_replaced(at_home: Path, here: Path) -> None:
    pred, gt = _folders(here)
    run = (at_home / "runs" / "latest").resolve()
    masks = ("eval", "--pred", pred, "--gt", gt, "--out", here / "s", "--no-report")
    vlsmctl(*masks)
    assert "--out" in vlsmctl("eval", run, "--out", here / "s", code=2).err
    assert "--out" in vlsmctl(*masks, "--label", 3, code=2).err
    (here / "s" / "summary.json").write_text('{"metr')
    vlsmctl(*masks)
    (here / "foreign").mkdir()
    for text in ('{"metrics": {}}', '{"metrics": {}, "about": []}', "[1]", "{"):
        (here / "foreign" / "summary.json").write_text(text)
        vlsmctl("eval", "--pred", pred, "--gt", gt, "--out", here / "foreign", code=2)
        assert (here / "foreign" / "summary.json").read_text() == text
