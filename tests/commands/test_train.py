from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.commands.app import SMALL, ended, error_line, start, vlsmctl, wait_until
from vlsmctl.commands.train import presence_line
from vlsmctl.datasets.build import prepare
from vlsmctl.presence import Presence

ONE_EPOCH = ("train", "--preset", "phantom", *SMALL, "--set", "train.epochs=1")


def _metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _run_json(run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run / "run.json").read_text())
    return document


def test_what_a_run_leaves_behind(at_home: Path, tmp_path: Path) -> None:
    answer = vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs", "--seed", 7)
    (printed,) = answer.out.splitlines()
    run = Path(printed)
    assert run.parent == tmp_path / "runs" / "phantom"
    assert run.name.endswith("-7")
    assert (tmp_path / "runs" / "latest").resolve() == run.resolve()
    assert "epoch 1/1" in answer.err
    document = _run_json(run)
    assert (document["status"], document["seed"], document["epochs"]) == ("finished", 7, 1)
    assert document["preset"]["train"]["seed"] == 7
    assert document["preset"]["model"] == "tiny"
    assert [line["epoch"] for line in _metrics(run)] == [1]
    with safe_open(run / "adapter.safetensors", framework="pt") as file:
        names = list(file.keys())
        facts = json.loads(file.metadata()["vlsmctl"])
    assert names
    assert all(name.startswith("adapter.") for name in names)
    assert (facts["base"], facts["image_size"], facts["class_prompt"]) == ("tiny", 64, "polyp")
    assert list((run / "tensorboard").glob("events.*"))
    assert not list((tmp_path / "runs").rglob("*.part*"))


def test_json_is_one_document(at_home: Path, tmp_path: Path) -> None:
    answer = vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs", "--json")
    document = answer.document
    assert document["status"] == "finished"
    assert document["best_epoch"] == 1
    assert document["presence"] is None  # every validation picture shows a polyp
    assert 0 < document["trainable"] < document["total"]
    assert Path(document["run"], "adapter.safetensors").is_file()
    assert "epoch 1/1" in answer.err


def test_presence_is_told(here: Path) -> None:
    prepare("phantom", None, here / "data", seed=4, counts=(4, 6, 2))
    answer = vlsmctl(*ONE_EPOCH, "--json")
    presence = answer.document["presence"]
    assert (presence["positives"], presence["negatives"]) == (4, 2)
    (line,) = [line for line in answer.err.splitlines() if line.startswith("presence: ")]
    assert f"ROC AUC {presence['auc']:.2f} on 4 pictures with and 2 without a target; " in line
    assert _run_json(Path(answer.document["run"]))["presence"] == presence
    again = vlsmctl(*ONE_EPOCH, "--resume", "--json")
    assert again.document["presence"] == presence
    assert line in again.err.splitlines()


def test_what_is_told_of_the_threshold() -> None:
    known: dict[str, Any] = {"slope": 1.0, "intercept": 0.0, "positives": 31, "negatives": 9, "auc": 0.968}
    told = [presence_line(Presence(threshold=threshold, **known)) for threshold in (0.0, 0.234)]
    start = "presence: ROC AUC 0.97 on 31 pictures with and 9 without a target; "
    assert told == [start + "nothing is suppressed", start + "nothing found below 0.23"]


def test_zero_shot_is_only_scored(at_home: Path, tmp_path: Path) -> None:
    document = vlsmctl(*ONE_EPOCH, "--set", "method=none", "--out", tmp_path / "runs", "--json").document
    assert (document["trainable"], document["status"]) == (0, "finished")
    assert 0 <= document["val_dice"] <= 1


def test_equal_seeds_equal_adapters(at_home: Path, tmp_path: Path) -> None:
    adapters = []
    for seed in (1, 1, 2):
        document = vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs", "--seed", seed, "--json").document
        with safe_open(Path(document["run"], "adapter.safetensors"), framework="np") as file:
            adapters.append({name: file.get_tensor(name).tobytes() for name in file.keys()})  # noqa: SIM118
    assert adapters[0] == adapters[1]
    assert adapters[0] != adapters[2]


def test_data_may_be_the_prepared_set_itself(here: Path, home: Path) -> None:
    vlsmctl(*ONE_EPOCH, "--data", home / "data" / "phantom")
    assert (here / "runs" / "latest" / "adapter.safetensors").is_file()


def test_unknown_preset_names_the_nearest(here: Path) -> None:
    answer = vlsmctl("train", "--preset", "phanton", code=2)
    assert "phantom" in answer.err.replace("phanton", "")
    assert not any(here.iterdir())


def test_every_wrong_key_is_told_at_once(here: Path) -> None:
    answer = vlsmctl(
        "train", "--preset", "phantom", "--set", "train.epoch=3", "--set", "train.lr=fast",
        "--set", "method=dense-x", "--set", "train.batch_size", "--seed", "-1", code=2,
    )  # fmt: skip
    assert "train.epoch: unknown key; did you mean train.epochs?" in answer.err
    for part in ("train.lr: ", "'fast'", "method: ", "'dense-x'", "expected KEY=VALUE", "train.seed: "):
        assert part in answer.err
    assert "vlsmctl presets show phantom" in answer.err


def test_data_that_is_not_prepared(here: Path) -> None:
    answer = vlsmctl("train", "--preset", "fuseg", code=2)
    assert "vlsmctl prepare fuseg" in answer.err
    assert not any(here.iterdir())


def test_a_damaged_manifest_is_refused(here: Path, home: Path) -> None:
    shutil.copytree(home / "data", here / "data")
    manifest = here / "data" / "phantom" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert "manifest.jsonl" in error_line(vlsmctl(*ONE_EPOCH, code=2))


def test_a_damaged_picture_is_named(here: Path, home: Path) -> None:
    shutil.copytree(home / "data", here / "data")
    records = (here / "data" / "phantom" / "manifest.jsonl").read_text().splitlines()
    name = next(one["image"] for one in map(json.loads, records) if one["split"] == "train")
    picture = here / "data" / "phantom" / name
    picture.write_bytes(picture.read_bytes()[:50])
    assert Path(name).name in error_line(vlsmctl(*ONE_EPOCH, code=2))


def test_missing_weights(
    at_home: Path, tmp_path: Path, no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("VLSMCTL_WEIGHTS", str(tmp_path / "none"))
    answer = vlsmctl(
        "train", "--preset", "phantom", "--set", "model=clipseg", "--out", tmp_path / "runs", code=5
    )
    assert "'clipseg'" in error_line(answer)
    assert str(tmp_path / "none") in error_line(answer)
    assert "try: vlsmctl weights fetch clipseg" in answer.err
    assert "without network" in answer.err
    assert "--out FOLDER" in answer.err
    assert not (tmp_path / "runs").exists()  # no empty run is left behind


def test_resume_with_nothing_there_starts(at_home: Path, tmp_path: Path) -> None:
    answer = vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs", "--resume")
    assert "nothing to resume" in answer.err
    assert _run_json(Path(answer.out.strip()))["status"] == "finished"


def test_resume_of_a_finished_run_changes_nothing(at_home: Path) -> None:
    run = (at_home / "runs" / "latest").resolve()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.*")}
    answer = vlsmctl(*ONE_EPOCH, "--resume", "--json")
    assert "finished already" in answer.err
    assert Path(answer.document["run"]).resolve() == run
    assert answer.document["status"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_resume_with_other_settings_or_data_is_refused(at_home: Path, here: Path) -> None:
    runs = at_home / "runs"
    data = ("--data", at_home / "data")
    for changed in (("--set", "train.lr=0.5"), ("--seed", 5), ("--set", "method=dense-v")):
        answer = vlsmctl(*ONE_EPOCH, *changed, *data, "--out", runs, "--resume", code=2)
        assert "was started with these settings on this data" in error_line(answer)
    prepare("phantom", None, here / "other", seed=3, counts=(2, 2, 2))
    answer = vlsmctl(*ONE_EPOCH, "--data", here / "other", "--out", runs, "--resume", code=2)
    assert "was started with these settings on this data" in error_line(answer)


def test_resume_on_another_base_model_is_refused(at_home: Path, here: Path) -> None:
    shutil.copytree(at_home / "runs", here / "runs", symlinks=True)
    (path,) = (here / "runs" / "phantom").glob("*/run.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["status"], document["base"]["sha256"] = "interrupted", "0" * 64
    path.write_text(json.dumps(document), encoding="utf-8")
    answer = vlsmctl(*ONE_EPOCH, "--data", at_home / "data", "--out", here / "runs", "--resume", code=2)
    assert "another 'tiny' base model" in error_line(answer)


def _train_slowly(home: Path, runs: Path) -> tuple[str, ...]:
    return (
        "train", "--preset", "phantom", *SMALL, "--set", "train.epochs=20", "--set", "train.patience=30",
        "--data", str(home / "data"), "--out", str(runs), "--json",
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(getattr(signal, "SIGKILL", None), marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = _train_slowly(home, tmp_path / "runs")
    process = start(*command, cwd=tmp_path)
    wait_until(lambda: len([*tmp_path.glob("runs/phantom/*/state/last.safetensors")]) > 0, process)
    process.send_signal(number)
    killed = number == getattr(signal, "SIGKILL", None)
    answer = ended(process, -number if killed else 130)
    (run,) = (tmp_path / "runs" / "phantom").iterdir()
    if not killed:
        assert answer.document["status"] == _run_json(run)["status"] == "interrupted"
        assert "--resume" in answer.err
        assert (tmp_path / "runs" / "latest").resolve() == run.resolve()
    done = len(_metrics(run))
    assert 1 <= done < 20
    document = vlsmctl(*command, "--resume").document
    assert (document["status"], Path(document["run"])) == ("finished", run)
    assert [line["epoch"] for line in _metrics(run)] == list(range(1, 21))
    assert _run_json(run)["status"] == "finished"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
def test_stopped_before_the_first_epoch_is_still_json(
    at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlsmctl.commands import train

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(train.Live, "started", stop)
    answer = vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs", "--json", code=130)
    assert answer.document["status"] == "interrupted"
    assert answer.document["val_dice"] is None
    monkeypatch.undo()
    monkeypatch.chdir(at_home)
    vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs", "--resume")
    (run,) = (tmp_path / "runs" / "phantom").iterdir()
    assert _run_json(run)["status"] == "finished"


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links to compare with")
def test_latest_may_be_a_file_where_links_fail(
    at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError("links are not allowed")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    vlsmctl(*ONE_EPOCH, "--out", tmp_path / "runs")
    assert (tmp_path / "runs" / "latest").is_file()
    answer = vlsmctl("eval", tmp_path / "runs" / "latest", "--json")
    assert answer.document["n"] == 4
