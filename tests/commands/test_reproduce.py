"""`vlsmctl reproduce`, on a small grid that is really trained."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.commands.app import SMALL, Answer, ended, error_line, start, vlsmctl, wait_until
from tests.reproduce.grids import make_data, make_run, make_scores
from vlsmctl.claims import HOST
from vlsmctl.commands import reproduce, train
from vlsmctl.datasets.build import prepare
from vlsmctl.errors import UsageError
from vlsmctl.models.build import build
from vlsmctl.reproduce import running as module
from vlsmctl.reproduce.grid import plan_grid
from vlsmctl.scoring import score_run
from vlsmctl.training import fit

TABLES = ("table.csv", "table.md", "table.tex", "table.json")
GRID = ("reproduce", "--presets", "phantom", *SMALL, "--set", "train.epochs=2")
TIMES = ("cpu_hours", "gpu_hours")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    prepare("phantom", None, out, seed=4, counts=(6, 3, 3))
    return out


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted grid of four cells."""
    out = tmp_path_factory.mktemp("whole")
    vlsmctl(*four(data, out))
    return out


@pytest.fixture
def out(here: Path) -> Path:
    return here / "out"


def four(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (*GRID, "--methods", "none,dense-v", "--seeds", "41,42", "--data", data, "--out", out, *more)


def held(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder, with when it was changed and what is in it."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(out: Path) -> list[dict[str, str]]:
    """The lines of the table, but for times."""
    with (out / "table.csv").open(encoding="utf-8", newline="") as stream:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(stream)]


def run_of(out: Path, key: str) -> Path:
    preset, method, seed = key.split("/")
    (found,) = (out / preset / method).glob(f"seed-{seed}-*")
    return found


def run_json(run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return document


def states(answer: Answer) -> dict[str, str]:
    return {cell["cell"]: cell["state"] for cell in answer.document["cells"]}


def test_what_a_grid_leaves_behind(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == sorted(("phantom", *TABLES))
    for method, seed in (("none", 41), ("none", 42), ("dense-v", 41), ("dense-v", 42)):
        run = run_of(whole, f"phantom/{method}/{seed}")
        document = run_json(run)
        assert (document["status"], document["seed"]) == ("finished", seed)
        assert document["preset"]["method"] == method
        assert len(list(run.glob("eval/reproduce-paper/masks/*.png"))) == 3
        assert not list(run.glob("*.lock"))
        assert not list(run.glob(".*"))
    table = rows(whole)
    assert [(row["method"], row["seeds"]) for row in table] == [("none", "41 42"), ("dense-v", "41 42")]
    means = []
    for seed in (41, 42):
        summary = run_of(whole, f"phantom/dense-v/{seed}") / "eval" / "reproduce-paper" / "summary.json"
        means.append(100 * json.loads(summary.read_text(encoding="utf-8"))["metrics"]["dice"]["mean"])
    assert float(table[1]["dice_mean"]) == pytest.approx(sum(means) / 2)


def test_a_run_of_the_grid_is_as_train_makes_it(whole: Path, data: Path, here: Path) -> None:
    vlsmctl("train", "--preset", "phantom", *SMALL, "--set", "train.epochs=2", "--set", "method=dense-v",
            "--seed", 42, "--data", data)  # fmt: skip
    (run,) = (here / "runs" / "phantom").iterdir()
    own = run_of(whole, "phantom/dense-v/42")
    assert (own / "adapter.safetensors").read_bytes() == (run / "adapter.safetensors").read_bytes()
    answer = vlsmctl("eval", run, "--protocol", "paper", "--json")
    summary = json.loads((own / "eval" / "reproduce-paper" / "summary.json").read_text("utf-8"))
    assert answer.document["metrics"] == summary["metrics"]


def test_what_is_finished_is_never_done_again(
    whole: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(whole / "phantom")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained or scored again")

    monkeypatch.setattr(module, "fit", never)
    monkeypatch.setattr(module, "score_run", never)
    answer = vlsmctl(*four(data, whole, "--json"))
    assert set(states(answer).values()) == {"finished"}
    assert held(whole / "phantom") == before
    assert len(answer.document["table"]["lines"]) == 2


def test_the_table_on_the_terminal(whole: Path, data: Path) -> None:
    answer = vlsmctl(*four(data, whole))
    assert "dense-v" in answer.out
    assert "2/2" in answer.out
    assert "±" in answer.out
    assert "neither mask is empty" in answer.out
    assert str(whole / "table.tex") in answer.out


def test_the_table_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(tmp_path / "data" / "chexlocalize")
    for more in ((), ("train.lr=0.5",)):
        grid = plan_grid(
            ["chexlocalize"], ["dense-vlc"], data=tmp_path / "data", out=tmp_path / "out", overrides=more
        )
        for number, cell in enumerate(grid.cells):
            make_run(cell, device="cuda", seconds=30000)
            make_scores(cell, number / 9, defined=500 + 10 * number, n=300, n_missed=4, n_false_alarm=1)
    screen = Console(width=80, record=True, file=io.StringIO())
    monkeypatch.setattr(reproduce, "out", lambda: screen)
    vlsmctl("reproduce", "--table", "--out", tmp_path / "out")
    shown = screen.export_text().partition("Below ours")[0]
    assert "…" not in shown
    for text in ("11.11±11.11", "510.00±10.00", "12 / 3", "of 900", "shallow", "GPU h"):
        assert text in shown


def test_shards_make_the_same_table(whole: Path, data: Path, out: Path) -> None:
    first = vlsmctl(*four(data, out, "--only", "none", "--shard", "1/2", "--json"))
    second = vlsmctl(*four(data, out, "--only", "none", "--shard", "2/2", "--json"))
    assert states(first) == {"phantom/none/41": "finished"}
    assert states(second) == {"phantom/none/42": "finished"}
    assert rows(out) == rows(whole)[:1]


def test_a_shard_without_cells_has_nothing_to_do(data: Path, out: Path) -> None:
    answer = vlsmctl(*four(data, out, "--shard", "9/9", "--json"))
    assert answer.document["cells"] == []
    assert not out.exists()


def test_only_some_cells(data: Path, out: Path) -> None:
    answer = vlsmctl(*four(data, out, "--only", "none/42", "--json"))
    assert states(answer) == {"phantom/none/42": "finished"}
    assert [(row["method"], row["seeds_done"], row["seeds_planned"]) for row in rows(out)] == [
        ("none", "1", "2")
    ]


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> Iterator[None]:
    """Within it, the process ends, as far as the grid is concerned, at that call of a function of it."""
    real, calls = getattr(module, name), iter(range(1, 100))

    class Killed(BaseException):
        pass

    def dying(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            if name == "fit":
                options["watcher"] = Dying(options["watcher"], Killed)
                return real(*arguments, **options)
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dying)
        with pytest.raises(Killed):
            yield


class Dying:
    """Watches training, and ends it after its first epoch."""

    def __init__(self, watcher: Any, error: type[BaseException]) -> None:
        self.watcher, self.error = watcher, error
        self.started, self.batch_done = watcher.started, watcher.batch_done

    def epoch_done(self, *_: object) -> None:
        raise self.error


@pytest.mark.parametrize(("name", "call"), [("fit", 2), ("score_run", 1), ("score_run", 2)])
def test_a_killed_grid_goes_on_where_it_was(
    whole: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    with killed_at(monkeypatch, name, call):
        vlsmctl(*four(data, out, "--only", "dense-v"))
    before = held(out / "phantom")
    done = [run.parent for run in out.glob("phantom/*/*/eval")]
    assert len(done) == call - 1
    answer = vlsmctl(*four(data, out, "--only", "dense-v", "--json"))
    assert set(states(answer).values()) == {"finished"}
    after = held(out / "phantom")
    for run in done:
        folder = run.relative_to(out / "phantom").as_posix()
        own = {path for path in before if path.startswith(folder)}
        assert own
        assert {path: before[path] for path in own} == {path: after[path] for path in own}
    lines = (run_of(out, "phantom/dense-v/42") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert rows(out) == rows(whole)[1:]
    adapters = [
        (run_of(each, "phantom/dense-v/42") / "adapter.safetensors").read_bytes() for each in (out, whole)
    ]
    assert adapters[0] == adapters[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGINT)])
def test_a_stopped_process_goes_on(data: Path, out: Path, number: signal.Signals) -> None:
    command = (*GRID[:-1], "train.epochs=8", "--set", "train.patience=20", "--methods", "dense-v",
               "--seeds", "41,42", "--data", data)  # fmt: skip
    process = start(*command, "--out", out, cwd=out.parent)
    wait_until(lambda: len([*out.glob("phantom/dense-v/seed-42-*/state/last.safetensors")]) > 0, process)
    process.send_signal(number)
    answer = ended(process, 130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "the same command goes on" in answer.err
    first, second = (run_of(out, f"phantom/dense-v/{seed}") for seed in (41, 42))
    before = held(first)
    assert run_json(second)["status"] != "finished"
    again = vlsmctl(*command, "--out", out, "--json")
    assert states(again) == {"phantom/dense-v/41": "finished", "phantom/dense-v/42": "finished"}
    assert held(first) == before
    vlsmctl(*command, "--out", out.parent / "uninterrupted")
    assert rows(out) == rows(out.parent / "uninterrupted")
    assert not list(second.glob(".*"))  # what the killed process left of its claim is gone


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
def test_ctrl_c_ends_with_the_state_saved(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(train.Live, "epoch_done", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        answer = vlsmctl(*four(data, out, "--only", "41", "--json"), code=130)
    assert list(states(answer).values()) == ["finished", "stopped"]
    assert answer.document["exit_code"] == 130
    assert "the same command goes on where it was" in answer.err
    assert run_json(run_of(out, "phantom/dense-v/41"))["status"] == "interrupted"
    assert set(states(vlsmctl(*four(data, out, "--only", "41", "--json"))).values()) == {"finished"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
def test_ctrl_c_while_scoring(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def asked_to_stop(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return score_run(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "score_run", asked_to_stop)
        answer = vlsmctl(*four(data, out, "--json"), code=130)
    assert states(answer) == {"phantom/none/41": "stopped"}
    assert run_json(run_of(out, "phantom/none/41"))["status"] == "finished"


def test_a_dry_run_leaves_nothing(
    data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = held(data)
    answer = vlsmctl(*four(data, out, "--dry-run", "--shard", "2/3", "--json"))
    assert not any(temporary.iterdir())
    assert not any(out.parent.iterdir())
    assert held(data) == before
    cells = answer.document["cells"]
    assert [cell["mine"] for cell in cells] == [False, True, False, False]
    assert {cell["state"] for cell in cells} == {"to do"}
    assert cells[0]["pictures"] == {"train": 6, "val": 3, "test": 3}
    assert all(0 < cell["seconds_at_least"] <= cell["seconds_at_most"] < 120 for cell in cells)


def test_a_dry_run_of_what_is_partly_done(whole: Path, data: Path) -> None:
    before = held(whole)
    answer = vlsmctl(*four(data, whole)[:-2], "--out", whole, "--presets", "fuseg", "--dry-run")
    (row,) = [line for line in answer.out.splitlines() if "phantom / dense-v / 41, 42 " in line]
    assert "finished" in row
    assert "data not prepared" in answer.out
    assert "all: 8 cells, at least 0 s, at most 0 s, without the 4 cells" in answer.out
    assert "vlsmctl prepare fuseg" in answer.err
    assert held(whole) == before


def test_longer_training_is_estimated_longer(data: Path, out: Path) -> None:
    def seconds(epochs: int) -> tuple[float, float]:
        answer = vlsmctl(
            "reproduce", "--presets", "phantom", *SMALL, "--methods", "dense-v", "--seeds", "41",
            "--data", data, "--out", out, "--set", f"train.epochs={epochs}", "--set", "train.patience=15",
            "--dry-run", "--json",
        )  # fmt: skip
        (cell,) = answer.document["cells"]
        return cell["seconds_at_least"], cell["seconds_at_most"]

    assert seconds(400)[1] > 10 * seconds(4)[1]
    least, most = seconds(400)
    assert most > 5 * least  # it stops after 16 epochs at the earliest


def test_data_that_are_not_prepared(data: Path, out: Path) -> None:
    answer = vlsmctl("reproduce", "--presets", "kvasir,busi", "--data", data, "--out", out, code=2)
    for name in ("kvasir", "busi"):
        assert f"{name} (9 cells)" in answer.err
        assert f"vlsmctl prepare {name}" in answer.err
    assert not out.exists()


def test_what_cannot_be_done_does_not_cost_the_rest(data: Path, out: Path) -> None:
    answer = vlsmctl(*four(data, out, "--presets", "fuseg", "--only", "none/41", "--json"), code=3)
    assert states(answer) == {"phantom/none/41": "finished", "fuseg/none/41": "data not prepared"}
    assert answer.document["exit_code"] == 3
    (line,) = [line for line in answer.err.splitlines() if line.startswith("not done:")]
    assert "fuseg/none/41" in line
    assert "vlsmctl prepare fuseg" in line


def test_weights_that_are_missing(
    data: Path, out: Path, no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLSMCTL_WEIGHTS", str(no_cache))
    answer = vlsmctl(*four(data, out, "--set", "model=clipseg"), code=5)
    assert "vlsmctl weights fetch clipseg" in answer.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("cuDNN error: something\nand a long tale"), "RuntimeError: cuDNN error: something"),
        (FloatingPointError("the model's output is not finite"), "not finite"),
    ],
)
def test_a_cell_that_fails_is_named_and_the_rest_goes_on(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def failing(preset: Any, *arguments: Any, **options: Any) -> Any:
        if preset.train.seed == 41:
            raise error
        return fit(preset, *arguments, **options)

    monkeypatch.setattr(module, "fit", failing)
    answer = vlsmctl(*four(data, out, "--methods", "none", "--only", "none", "--json"), code=3)
    assert states(answer) == {"phantom/none/41": "failed", "phantom/none/42": "finished"}
    (line,) = [line for line in answer.err.splitlines() if line.startswith("not done:")]
    assert "phantom/none/41" in line
    assert words in line
    assert "long tale" not in line
    assert [path.name[:7] for path in (out / "phantom" / "none").iterdir()] == [
        "seed-42"
    ]  # no empty folder
    assert rows(out)[0]["seeds"] == "42"


def test_a_loss_that_is_not_finite(data: Path, out: Path) -> None:
    answer = vlsmctl(
        *GRID, "--methods", "full,none", "--seeds", "41", "--data", data, "--out", out,
        "--set", "train.lr=1e30", "--set", "train.grad_clip=null", "--set", "train.epochs=4", "--json",
        code=3,
    )  # fmt: skip
    assert states(answer) == {"phantom/full/41": "failed", "phantom/none/41": "finished"}
    assert "training has come apart" in answer.err
    assert "--set train.lr=" in answer.err


def test_a_damaged_picture_fails_its_cells(data: Path, out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    picture = next((copy / "phantom" / "images").glob("train*"))
    picture.write_bytes(picture.read_bytes()[:60])
    answer = vlsmctl(*four(copy, out, "--only", "41"), code=2)  # none is left
    assert picture.name in answer.err
    assert "phantom/none/41, phantom/dense-v/41" in answer.err
    assert not any(out.iterdir())


def test_a_full_disk_ends_it(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "fit", full)
    assert "No space left" in error_line(vlsmctl(*four(data, out), code=2))


def test_data_prepared_anew_meanwhile(
    data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)

    def meanwhile(*arguments: Any) -> Any:
        prepare("phantom", None, copy, seed=5, counts=(6, 3, 3))
        return build(*arguments)

    monkeypatch.setattr(module, "build", meanwhile)
    answer = vlsmctl(*four(copy, out, "--only", "none", "--json"), code=2)
    assert set(states(answer).values()) == {"failed"}
    assert "meanwhile" in answer.err
    assert not (out / "table.csv").exists()


def test_a_cell_of_another_process_is_passed_over(data: Path, out: Path) -> None:
    (planned,) = vlsmctl(*four(data, out, "--only", "none/41", "--dry-run", "--json")).document["cells"][:1]
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = Path(planned["run"])
    folder.mkdir(parents=True)
    claim = folder / f".reproduce.{HOST}-{sleeper.pid}.lock"
    try:
        claim.touch()
        answer = vlsmctl(*four(data, out, "--only", "none", "--json"), code=3)
        assert states(answer) == {
            "phantom/none/41": "another process is at it",
            "phantom/none/42": "finished",
        }
        assert answer.document["exit_code"] == 3
        assert "1 cell is with another process; run again to see it done" in answer.err
        assert list(folder.iterdir()) == [claim]
    finally:
        sleeper.communicate(b"\n")
    assert states(vlsmctl(*four(data, out, "--only", "none/41", "--json"))) == {
        "phantom/none/41": "finished"
    }
    assert not claim.exists()


def test_a_cell_that_the_other_process_ends_meanwhile_is_finished(
    whole: Path, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = here / "copy"
    shutil.copytree(whole, copy)
    summary = run_of(copy, "phantom/none/41") / "eval" / "reproduce-paper" / "summary.json"
    held_back = summary.rename(here / "summary.json")

    @contextmanager
    def elsewhere(*_: object) -> Iterator[None]:
        held_back.rename(summary)  # right after it was asked for
        raise UsageError("another vlsmctl reproduce is writing to it")
        yield

    monkeypatch.setattr(module, "claimed", elsewhere)
    answer = vlsmctl(*four(data, copy, "--json"))
    assert set(states(answer).values()) == {"finished"}
    assert "with another process" not in answer.err


def test_pictures_that_cannot_be_scored_are_no_end_of_a_cell(
    data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    mask = next((copy / "phantom" / "masks").glob("test*"))
    whole_mask = mask.read_bytes()
    mask.write_bytes(whole_mask[:40])
    command = four(copy, out, "--only", "none/41", "--json")
    answer = vlsmctl(*command, code=3)
    assert states(answer) == {"phantom/none/41": "scored, but for some pictures"}
    assert answer.document["cells"][0]["reason"] == "1 test picture could not be scored, and in no mean"
    assert "scored in part: phantom/none/41: 1 test picture" in answer.err
    (row,) = rows(out)
    assert (row["seeds"], row["n"], row["n_failed"]) == ("41", "2", "1")
    monkeypatch.setattr(module, "fit", None)  # training is kept
    vlsmctl(*command, code=3)
    assert "+ 1 failed" in vlsmctl("reproduce", "--table", "--out", out).out
    mask.write_bytes(whole_mask)
    assert states(vlsmctl(*command)) == {"phantom/none/41": "finished"}
    assert [(row["n"], row["n_failed"]) for row in rows(out)] == [("3", "0")]


def test_an_evaluation_of_a_cell_by_hand_does_not_undo_it(
    whole: Path, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = here / "copy"
    shutil.copytree(whole, copy)
    run = run_of(copy, "phantom/none/41")
    prepare("phantom", None, here / "more", seed=9, counts=(2, 2, 2))
    vlsmctl("eval", run, "--protocol", "paper", "--data", here / "more")
    vlsmctl("eval", run, "--protocol", "paper", "--tolerance", "3px", "--json")
    monkeypatch.setattr(module, "score_run", None)
    assert set(states(vlsmctl(*four(data, copy, "--json"))).values()) == {"finished"}
    assert rows(copy) == rows(whole)


def test_help_says_how_to_use_several_gpus() -> None:
    assert "CUDA_VISIBLE_DEVICES" in vlsmctl("reproduce", "--help").out


@pytest.mark.slow
def test_two_processes_share_a_grid(whole: Path, data: Path, out: Path) -> None:
    processes = [start(*four(data, out, "--json"), cwd=out.parent) for _ in range(2)]
    for process in processes:
        process.wait(120)
    assert {process.returncode for process in processes} <= {0, 3}  # 3: one was with the other to the end
    answers = [ended(process, process.returncode) for process in processes]
    found = [states(answer) for answer in answers]
    assert all(set(each) == set(found[0]) for each in found)
    trained = sum(answer.err.count("tiny none:") + answer.err.count("tiny dense-v:") for answer in answers)
    assert trained == 4  # each cell once
    assert rows(out) == rows(whole)


def test_the_table_alone(whole: Path, data: Path, here: Path) -> None:
    copy = here / "copy"
    shutil.copytree(whole, copy)
    before = held(copy / "phantom")
    for name in TABLES:
        (copy / name).unlink()
    vlsmctl("reproduce", "--table", "--out", copy)  # neither settings nor data are needed
    table = sorted(rows(copy), key=lambda row: row["method"], reverse=True)
    assert table == rows(whole)
    vlsmctl(*GRID, "--methods", "none", "--seeds", "42", "--data", data, "--out", copy, "--table")
    assert rows(copy) == rows(whole)
    vlsmctl(*four(data, copy, "--table"))
    assert rows(copy) == rows(whole)
    vlsmctl(*four(here / "nowhere", copy, "--table"))
    assert rows(copy) == rows(whole)
    assert held(copy / "phantom") == before


def test_no_table_of_nothing(here: Path) -> None:
    assert "no runs" in error_line(vlsmctl("reproduce", "--table", code=2))
    assert not any(here.iterdir())


def test_the_other_protocol_only_scores_again(
    whole: Path, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = here / "copy"
    shutil.copytree(whole, copy)
    monkeypatch.setattr(module, "fit", None)
    answer = vlsmctl(*four(data, copy, "--only", "dense-v/41", "--protocol", "default", "--json"))
    assert states(answer) == {"phantom/dense-v/41": "finished"}
    assert (run_of(copy, "phantom/dense-v/41") / "eval" / "reproduce-default" / "summary.json").is_file()
    assert {row["protocol"] for row in rows(copy)} == {"default"}
    assert [row["seeds"] for row in rows(copy)] == ["", "41"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--shard", "3/2"), "--shard"),
        (("--seeds", "41,x"), "--seeds 'x'"),
        (("--methods", "dense-vlcc"), "dense-vlc"),
        (("--only", "dens-v"), "dense-v"),
        (("--protocol", "papers"), "--protocol"),
        (("--dry-run", "--table"), "--table"),
        (("--set", "train.epoch=3"), "train.epochs"),
        (("--preset", "phanton"), "'phantom'"),
    ],
)
def test_wrong_options(data: Path, out: Path, more: tuple[str, ...], named: str) -> None:
    answer = vlsmctl(*four(data, out, *more), code=2)
    assert named in answer.err
    assert not any(out.parent.iterdir())


def test_a_launcher_is_refused(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = vlsmctl(*four(data, out), code=2)
    assert "--shard 1/2" in answer.err
    assert "CUDA_VISIBLE_DEVICES" in answer.err
