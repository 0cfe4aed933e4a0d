"""The grid's table: figures over seeds beside the paper's, computed by hand here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.reproduce.grids import make_data, make_run, make_scores
from vlsmctl.config import load_preset
from vlsmctl.reproduce.grid import Grid, plan_grid
from vlsmctl.reproduce.table import Line, Table, figure, make_table


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_data(tmp_path / "data" / "kvasir", protocol="medvlsm")
    make_data(tmp_path / "data" / "clinicdb")
    return tmp_path


def planned(home: Path, presets: tuple[str, ...] = ("kvasir",), methods: tuple[str, ...] = ("dense-vlc",),
            seeds: tuple[int, ...] = (41, 42, 43), **more: Any) -> Grid:  # fmt: skip
    return plan_grid(presets, methods, seeds, data=home / "data", out=home / "out", **more)


def line_of(table: Table, preset: str, method: str | None, published: str | None = None) -> Line:
    (line,) = [
        each for each in table.lines
        if (each.preset, each.method) == (preset, method) and published in (None, each.published)
    ]  # fmt: skip
    return line


def test_mean_and_standard_deviation_over_seeds() -> None:
    made = figure([88.0, 89.0, 93.0], 89.1)
    assert made.mean == 90.0
    assert made.sd == pytest.approx(7**0.5)  # ((-2)^2 + (-1)^2 + 3^2) / (3 - 1)
    assert made.difference == pytest.approx(0.9)
    assert (made.seeds, made.paper) == (3, 89.1)


def test_one_seed_has_no_deviation_and_none_has_nothing() -> None:
    one = figure([88.0], 89.0)
    assert (one.mean, one.sd, one.difference) == (88.0, None, -1.0)
    none = figure([], 89.0)
    assert (none.mean, none.sd, none.difference, none.paper) == (None, None, None, 89.0)
    assert figure([1.0, 2.0], 3.0, comparable=False).difference is None
    assert figure([1.0, 2.0]).difference is None


def test_a_line_by_hand(home: Path) -> None:
    grid = planned(home)
    for cell, mean, hours in zip(grid.cells[:2], (0.88, 0.90), (1, 2), strict=True):
        make_run(cell, device="cuda", seconds=3600 * hours, processes=2)
        make_scores(cell, mean, iou=0.8, hd95=60.0, defined=40.0 + hours, n=100, n_missed=hours)
    line = line_of(make_table(grid), "kvasir", "dense-vlc")
    dice, iou, hd95, every = (line.figures[name] for name in ("dice", "iou", "hd95", "hd95_all"))
    assert dice.mean == pytest.approx(89.0)
    assert dice.sd == pytest.approx(2**0.5)
    assert dice.paper == 89.10
    assert dice.difference == pytest.approx(-0.1)
    assert (iou.mean, iou.paper) == (80.0, 82.39)
    assert (hd95.mean, hd95.paper) == (41.5, 47.79)
    assert hd95.difference == pytest.approx(-6.29)
    assert (every.mean, every.paper) == (60.0, None)
    assert (line.seeds, line.planned, line.trainable) == ((41, 42), 3, 1_130_000)
    assert (line.gpu_hours, line.cpu_hours) == (6.0, None)
    assert (line.counts["n"], line.counts["n_missed"]) == (200, 3)


def test_hours_of_a_cpu_are_not_gpu_hours(home: Path) -> None:
    grid = planned(home)
    for cell, device in zip(grid.cells, ("cpu", "cuda:1", "mps"), strict=True):
        make_run(cell, device=device, seconds=1800)
        make_scores(cell, 0.5)
    line = line_of(make_table(grid), "kvasir", "dense-vlc")
    assert (line.gpu_hours, line.cpu_hours) == (1.0, 0.5)


def test_what_a_killed_process_spent_counts(home: Path) -> None:
    grid = planned(home, seeds=(41,))
    run = make_run(grid.cells[0], seconds=60)
    make_scores(grid.cells[0], 0.5)
    lines = [f'{{"epoch": {epoch}, "seconds": 900}}' for epoch in (1, 2)]
    (run / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert line_of(make_table(grid), "kvasir", "dense-vlc").cpu_hours == 0.5
    (run / "metrics.jsonl").write_text("\n".join(lines)[:-4], encoding="utf-8")
    assert line_of(make_table(grid), "kvasir", "dense-vlc").cpu_hours == 1 / 60


def test_what_only_the_paper_has_is_shown(home: Path) -> None:
    table = make_table(planned(home, methods=("dense-vlc", "full")))
    assert [(line.method, line.published) for line in table.lines] == [
        ("dense-vlc", "clipseg-dense"), ("full", None), (None, "clipseg-end-to-end"),
        (None, "cris-end-to-end"), (None, "san"), (None, "clipseg-shallow"),
    ]  # fmt: skip
    san = line_of(table, "kvasir", None, "san").figures["dice"]
    assert (san.paper, san.mean, san.difference) == (69.58, None, None)
    assert line_of(table, "kvasir", "full").figures["dice"].paper is None


def test_every_figure_is_the_presets_own(home: Path) -> None:
    table = make_table(plan_grid(data=home / "data", out=home / "out"))
    assert len(table.lines) == 8 * 5
    for line in table.lines:
        assert line.published is not None
        scores = load_preset(line.preset).paper.scores[line.published]
        assert [line.figures[name].paper for name in ("dice", "iou", "hd95")] == [
            scores.dice, scores.iou, scores.hd95,
        ]  # fmt: skip


def test_in_our_own_protocol_every_case_counts(home: Path) -> None:
    grid = planned(home, protocol="default")
    for cell in grid.cells:
        make_run(cell)
        make_scores(cell, 0.5, hd95=60.0, defined=None, protocol="default", n_missed=1)
    table = make_table(grid)
    assert line_of(table, "kvasir", "dense-vlc").figures["hd95"].mean == 60.0
    assert "HD95 of all cases" in table.caption
    assert not any("leaves out" in remark for remark in table.remarks)


def test_a_seed_without_a_defined_hd95_is_said(home: Path) -> None:
    grid = planned(home)
    for cell, defined in zip(grid.cells, (10.0, None, 14.0), strict=True):
        make_run(cell)
        make_scores(cell, 0.5, defined=defined)
    table = make_table(grid)
    hd95 = line_of(table, "kvasir", "dense-vlc").figures["hd95"]
    assert (hd95.mean, hd95.seeds) == (12.0, 2)
    assert any("HD95 of kvasir dense-vlc: of 2 of its 3 seeds" in remark for remark in table.remarks)


def test_remarks_are_said_once_and_of_whom(home: Path) -> None:
    grid = planned(home, ("kvasir", "clinicdb"), ("decoder",), (41, 42), overrides=["model=tiny"])
    for cell in grid.cells:
        make_run(cell)
        make_scores(cell, 0.5, about={"prompts_from_masks": True}, n_missed=cell.seed - 41)
    remarks = make_table(grid).remarks
    assert len(set(remarks)) == len(remarks)

    def said(words: str) -> str:
        (remark,) = [each for each in remarks if words in each]
        return remark

    assert said("only the decoder trained").startswith("clipseg-end-to-end:")  # of both, so of none by name
    assert said("this one is tiny").startswith("the published model is CLIPSeg")
    assert said("by frame").startswith("clinicdb: ")
    assert said("medvlsm)").startswith("clinicdb was not prepared")
    assert "taken from the true mask" in said("the prompts")
    assert said("leaves out").endswith("kvasir decoder 1 of 4, clinicdb decoder 1 of 4")


def test_remarks_on_runs_that_do_not_fit_together(home: Path) -> None:
    grid = planned(home, seeds=(41, 42))
    for cell, base in zip(grid.cells, "ab", strict=True):
        make_run(cell, base=base * 64)
        make_scores(cell, 0.5, about={"trained_pictures": 7}, n_failed=1)
    remarks = " | ".join(make_table(grid).remarks)
    assert f"different base models (sha256 {'a' * 12}, {'b' * 12})" in remarks
    assert "7 of the test pictures are in train or val" in remarks
    assert "seed 42: 1 test pictures could not be scored" in remarks


def test_scores_on_other_data_are_not_compared(home: Path) -> None:
    grid = planned(home, seeds=(41,))
    make_run(grid.cells[0])
    make_scores(grid.cells[0], 0.5, about={"paper": None, "data": "mine"})
    table = make_table(grid)
    dice = line_of(table, "kvasir", "dense-vlc").figures["dice"]
    assert (dice.mean, dice.paper, dice.difference) == (50.0, 89.10, None)
    assert any("not compared" in remark and "'mine'" in remark for remark in table.remarks)


def test_only_and_shard_do_not_lose_what_is_done(home: Path) -> None:
    whole = planned(home, ("kvasir", "clinicdb"), ("dense-vlc", "decoder"))
    make_run(whole.cells[0])
    make_scores(whole.cells[0], 0.5)
    table = make_table(
        planned(home, ("kvasir", "clinicdb"), ("dense-vlc", "decoder"), only=["clinicdb/decoder"])
    )
    assert {(line.preset, line.method) for line in table.lines if line.method} == {
        ("kvasir", "dense-vlc"), ("clinicdb", "decoder"),
    }  # fmt: skip
    assert line_of(table, "kvasir", "dense-vlc").planned == 3


def test_what_is_missing_is_said(home: Path) -> None:
    remarks = make_table(planned(home, ("kvasir", "busi"))).remarks
    assert any(remark.startswith("busi: not done, for the data") for remark in remarks)


def test_a_narrower_call_loses_nothing(home: Path) -> None:
    whole = planned(home, ("kvasir", "clinicdb"), ("dense-vlc", "decoder"))
    for cell in whole.cells:
        make_run(cell)
        make_scores(cell, 0.5)
    narrow = make_table(planned(home, ("clinicdb",), ("decoder",), (42,)))
    assert {
        (line.preset, line.method, line.seeds, line.planned) for line in narrow.lines if line.method
    } == {
        (name, method, (41, 42, 43), 3)
        for name in ("kvasir", "clinicdb")
        for method in ("dense-vlc", "decoder")
    }
    assert not any(line.mark for line in narrow.lines)
    assert not any("settings" in remark for remark in narrow.remarks)
    everything = make_table(Grid(home / "out", "paper", (), ()))
    assert {(line.preset, line.method, line.seeds) for line in everything.lines} == {
        (line.preset, line.method, line.seeds) for line in narrow.lines
    }


def test_other_settings_and_other_data_have_lines_of_their_own(home: Path) -> None:
    first, faster = planned(home), planned(home, overrides=["train.lr=0.5"], seeds=(41,))
    make_data(home / "more" / "kvasir", (4, 2, 2))
    (other,) = plan_grid(["kvasir"], ["dense-vlc"], [41], data=home / "more", out=home / "out").cells
    for number, cell in enumerate((*first.cells, *faster.cells, other)):
        make_run(cell)
        make_scores(cell, number / 10)
    table = make_table(first)
    lines = [line for line in table.lines if line.method]
    assert [len(line.seeds) for line in lines] == [3, 1, 1]
    assert lines[0].figures["dice"].mean == pytest.approx(10)  # not mixed with the others
    assert len({line.mark for line in lines}) == 3
    (remark,) = [remark for remark in table.remarks if "several settings" in remark]
    for line in lines:
        assert f"({line.mark}) " in remark
        assert f"dense-vlc ({line.mark})" == line.title
    assert "train.lr=0.5" in remark
    assert "train.lr=0.001" in remark
    for cell in (first.cells[0], other):
        assert cell.manifest is not None
        assert cell.manifest.hash[:12] in remark
    assert "batch_size" not in remark
    assert "seed" not in remark


def test_seeds_without_a_run_stay_on_the_line_when_the_data_are_gone(home: Path) -> None:
    for cell in planned(home).cells[:2]:
        make_run(cell)
        make_scores(cell, 0.5)
    shutil.rmtree(home / "data")
    line = line_of(make_table(planned(home)), "kvasir", "dense-vlc")
    assert (line.seeds, line.planned, line.mark) == ((41, 42), 3, None)


def test_a_run_that_cannot_be_read_is_said_and_no_end_of_it(home: Path) -> None:
    grid = planned(home, ("kvasir", "clinicdb"), seeds=(41,))
    for cell in grid.cells:
        make_run(cell)
        make_scores(cell, 0.5)
    (damaged,) = (home / "out").glob("clinicdb/*/*/run.json")
    damaged.write_text("cut", encoding="utf-8")
    table = make_table(planned(home, seeds=(41,)))
    assert line_of(table, "kvasir", "dense-vlc").seeds == (41,)
    assert any("clinicdb" in remark and "cannot be read" in remark for remark in table.remarks)


def test_scores_without_some_pictures_are_shown_and_not_compared(home: Path) -> None:
    grid = planned(home, seeds=(41, 42))
    for cell, failed in zip(grid.cells, (0, 3), strict=True):
        make_run(cell)
        make_scores(cell, 0.5, n=10 - failed, n_failed=failed)
    line = line_of(make_table(grid), "kvasir", "dense-vlc")
    assert (line.seeds, line.counts["n"], line.counts["n_failed"]) == ((41, 42), 17, 3)
    dice = line.figures["dice"]
    assert (dice.mean, dice.paper, dice.difference) == (50.0, 89.10, None)
