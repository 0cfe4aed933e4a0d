"""How long the grid may take: the arithmetic, and what is measured how often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.reproduce.grids import make_data, make_run, make_scores
from vlsmctl.config import load_preset
from vlsmctl.reproduce import probe as grid_probe
from vlsmctl.reproduce.grid import Grid, plan_grid
from vlsmctl.reproduce.probe import Estimate, Rates, estimate, planned

RATES = Rates(start=5.0, train=0.1, val=0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_data(tmp_path / "data" / "phantom", (100, 20, 30))
    make_data(tmp_path / "data" / "fuseg", (50, 10, 10))
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured, which takes no time."""
    seen = list[str]()

    def train(preset: Any, manifest: Any, _: object) -> Rates:
        seen.append(f"{preset.method} on {manifest.folder.name}")
        return RATES

    def test(preset: Any, manifest: Any, _: object) -> float:
        seen.append(f"scoring {manifest.folder.name}")
        return 0.2

    monkeypatch.setattr(grid_probe, "_train_rates", train)
    monkeypatch.setattr(grid_probe, "_test_rate", test)
    return seen


def both(home: Path, **more: Any) -> Grid:
    return plan_grid(
        ["phantom", "fuseg"], ["dense-v", "none"], [41, 42], data=home / "data", out=home / "out",
        overrides=["model=tiny", "train.epochs=45", "train.patience=15", "train.batch_size=8",
                   "train.augment=none"], **more,
    )  # fmt: skip


def test_the_times_by_hand() -> None:
    preset = load_preset("phantom", ["train.epochs=40", "train.patience=15", "train.min_epochs=10"])
    found = estimate(preset, (100, 20, 30), RATES, 0.2, 0)
    epoch = 100 * 0.1 + 20 * 0.05
    once = 5 + 20 * 0.05 + 30 * 0.2  # before, once more validated, and the test split
    assert found == Estimate(once + 16 * epoch, once + 40 * epoch)  # it cannot end before epoch 16
    later = estimate(preset, (100, 20, 30), RATES, 0.2, 30)
    assert later == Estimate(once, once + 10 * epoch)


def test_the_least_is_min_epochs_where_that_is_more() -> None:
    preset = load_preset("phantom", ["train.epochs=40", "train.patience=3", "train.min_epochs=10"])
    found = estimate(preset, (1, 0, 0), Rates(0, 1, 0), 0, 0)
    assert (found.least, found.most) == (10, 40)
    short = load_preset("phantom", ["train.epochs=2", "train.patience=3", "train.min_epochs=10"])
    assert estimate(short, (1, 0, 0), Rates(0, 1, 0), 0, 0) == Estimate(2, 2)


def test_what_trains_alike_is_measured_once(home: Path, measured: list[str]) -> None:
    cells = planned(both(home))
    assert measured == ["dense-v on phantom", "scoring phantom", "none on phantom", "scoring fuseg"]
    assert all(each.estimate is not None for each in cells)
    assert cells[0].pictures == (100, 20, 30)


def test_what_is_done_takes_no_time(home: Path, measured: list[str]) -> None:
    grid = both(home, only=["phantom/dense-v"])
    first, second = grid.chosen
    make_run(first)
    make_scores(first, 0.5)
    run = make_run(second, status="running")
    (run / "state").mkdir()
    (run / "state" / "last.safetensors").touch()
    lines = [json.dumps({"epoch": epoch}) for epoch in range(1, 41)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done, begun = planned(grid)
    assert done.estimate == Estimate(0, 0)
    assert begun.estimate is not None
    assert begun.estimate.most == pytest.approx(5 + 1 + 6 + 5 * 11)
    make_run(second)
    (_, trained) = planned(grid)
    assert trained.estimate == Estimate(6.0, 6.0)


def test_what_cannot_be_measured_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Rates:
        raise MemoryError

    monkeypatch.setattr(grid_probe, "_train_rates", fail)
    cells = planned(both(home, only=["phantom"]))
    assert {each.estimate for each in cells} == {None}
    assert all(each.problem and "out of memory" in each.problem.message for each in cells)


def test_pictures_that_cannot_be_read_are_no_end_of_the_plan(home: Path) -> None:
    (cell,) = planned(both(home, only=["phantom/dense-v/41"]))  # its pictures are not there
    assert cell.estimate is None
    assert cell.problem is not None
    assert "a.png" in cell.problem.message
    assert not (home / "out").exists()
