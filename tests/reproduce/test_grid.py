"""The plan of the grid: cells, shards, patterns, and what is done of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reproduce.grids import make_data, make_run, make_scores
from vlsmctl import runs
from vlsmctl.config.schema import PAPER_METHODS
from vlsmctl.errors import UsageError
from vlsmctl.reproduce.grid import (
    BEGUN,
    FINISHED,
    NO_DATA,
    NO_WEIGHTS,
    PARTLY,
    TODO,
    TRAINED,
    UNUSABLE,
    Grid,
    Shard,
    choose,
    found_cells,
    paper_presets,
    plan_grid,
    read_shard,
    share,
)
from vlsmctl.reproduce.standing import standing

PAPER = {"kvasir", "bkai", "clinicdb", "isic2016", "dfu2022", "camus", "busi", "chexlocalize"}


def small(home: Path, *, seeds: tuple[int, ...] = (41, 42), **more: object) -> Grid:
    settings: dict[str, object] = {"data": home / "data", "out": home / "out", **more}
    return plan_grid(["phantom"], ["dense-vlc", "none"], seeds, **settings)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_data(tmp_path / "data" / "phantom")
    return tmp_path


def test_the_grid_is_the_papers_when_nothing_is_said(tmp_path: Path) -> None:
    grid = plan_grid(data=tmp_path, out=tmp_path / "out")
    assert {cell.name for cell in grid.cells} == set(paper_presets()) == PAPER
    assert {cell.method for cell in grid.cells} == set(PAPER_METHODS)
    assert {cell.seed for cell in grid.cells} == {41, 42, 43}
    assert len({cell.key for cell in grid.cells}) == len(grid.cells) == 8 * 3 * 3
    assert all(cell.preset.paper_row for cell in grid.cells)
    assert not (tmp_path / "out").exists()


def test_a_cell_is_trained_as_train_would(home: Path) -> None:
    from vlsmctl.config import load_preset

    grid = small(home, overrides=["train.epochs=3"])
    first = grid.cells[0]
    assert first.key == "phantom/dense-vlc/41"
    assert first.preset == load_preset("phantom", ["train.epochs=3", "method=dense-vlc"], 41)


def test_other_settings_and_other_data_are_other_folders(home: Path) -> None:
    folders = {cell.folder for cell in small(home).cells}
    assert len(folders) == 4
    folders |= {cell.folder for cell in small(home, overrides=["train.lr=0.5"]).cells}
    # lr is nothing to a method that trains nothing, but settings are settings
    assert len(folders) == 8
    make_data(home / "more" / "phantom", (4, 2, 2))
    folders |= {cell.folder for cell in small(home, data=home / "more").cells}
    assert len(folders) == 12
    assert {cell.folder for cell in small(home).cells} <= folders
    assert all(path and path.parent.parent == home / "out" / "phantom" for path in folders)


@given(st.integers(0, 60), st.integers(1, 9))
def test_every_cell_belongs_to_one_shard(cells: int, of: int) -> None:
    parts = [share(range(cells), Shard(number, of)) for number in range(1, of + 1)]
    assert sorted(cell for part in parts for cell in part) == list(range(cells))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_is_finished_moves_no_cell_to_another_shard(home: Path) -> None:
    before = [cell.key for cell in small(home, shard=Shard(2, 3)).mine]
    for cell in small(home).cells[:3]:
        make_run(cell)
        make_scores(cell, 0.5)
    assert [cell.key for cell in small(home, shard=Shard(2, 3)).mine] == before


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1/0", "0/0", "-1/2", "1", "1/2/3", "", "/", "a/b", "1/x", "²/3"]
)
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        read_shard(text)


def test_shards_are_counted_from_one() -> None:
    assert read_shard("1/1") == Shard()
    assert read_shard("4/4") == Shard(4, 4)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], 4 * 2 * 2),
        (["kvasir"], 4),
        (["dense-vlc"], 8),
        (["42"], 8),
        (["kvasir/42"], 2),
        (["kvasir/dense-vlc"], 2),
        (["dense-vlc/42"], 4),
        (["kvasir/dense-vlc/42"], 1),
        (["*/none/*"], 8),
        (["c*"], 4),
        (["[bk]*/dense-*/4?"], 4),
        (["kvasir/*/42", "busi"], 2 + 4),
        (["kvasir", "kvasir/42"], 4),
    ],
)
def test_patterns(tmp_path: Path, patterns: list[str], expected: int) -> None:
    presets = ["kvasir", "busi", "clinicdb", "isic2016"]
    cells = plan_grid(presets, ["dense-vlc", "none"], [41, 42], data=tmp_path, out=tmp_path).cells
    chosen = choose(cells, patterns)
    assert len(chosen) == expected
    assert [cell for cell in cells if cell in chosen] == list(chosen)  # in their order


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [("kvasr", "kvasir"), ("dense-vcl", "dense-vlc"), ("kvasir/dens-vlc", "kvasir/dense-vlc"),
     ("kvasir/dense-vlc/44", "kvasir/dense-vlc/4"), ("42/kvasir", "kvasir"), ("a/b/c/d", ""), ("", "")],
)  # fmt: skip
def test_a_pattern_that_names_nothing_is_refused(tmp_path: Path, pattern: str, nearest: str) -> None:
    grid = plan_grid(["kvasir"], ["dense-vlc", "none"], [41, 42], data=tmp_path, out=tmp_path)
    with pytest.raises(UsageError, match="--only") as caught:
        choose(grid.cells, ["kvasir", pattern])
    assert repr(pattern) in str(caught.value)
    assert nearest in str(caught.value).replace(pattern, "", 1)
    assert "kvasir; dense-vlc, none; 41, 42" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"methods": ["dense-vlcc"]}, "did you mean 'dense-vlc'"),
        ({"presets": ["kvaisr"]}, "did you mean 'kvasir'"),
        ({"overrides": ["method=full"]}, "--methods"),
        ({"overrides": ["train.seed=3"]}, "--seeds"),
        ({"overrides": ["train.epoch=3"]}, "train.epochs"),
        ({"overrides": ["data=mine"]}, "'mine'"),
        ({"seeds": [-1]}, "train.seed"),
        ({"presets": ["a/kvasir.yaml", "b/kvasir.yml"]}, "'kvasir'"),
    ],
)
def test_grids_that_cannot_be_had(tmp_path: Path, arguments: dict[str, list[str]], named: str) -> None:
    given = {"presets": ["kvasir", "busi"], "methods": ["none"], "seeds": [41]} | arguments
    with pytest.raises(UsageError) as caught:
        plan_grid(data=tmp_path, out=tmp_path, **given)  # type: ignore[arg-type]
    assert named in str(caught.value)


def test_one_data_set_is_not_the_data_of_several_presets(home: Path) -> None:
    folder = home / "data" / "phantom"
    with pytest.raises(UsageError, match="one prepared data set"):
        plan_grid(["phantom", "fuseg"], ["none"], [1], data=folder, out=home)
    assert plan_grid(["phantom"], ["none"], [1], data=folder, out=home).cells[0].manifest is not None


def test_precisions_that_differ_are_refused(home: Path) -> None:
    (home / "mine.yaml").write_text("extends: phantom.yaml\n", encoding="utf-8")
    (home / "phantom.yaml").write_text(
        "data: other\nmodel: tiny\ntrain: {precision: bf16}\n", encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"train\.precision"):
        plan_grid(["phantom", str(home / "mine.yaml")], ["none"], [1], data=home, out=home)


def test_a_preset_file_gives_its_cells_its_name(home: Path) -> None:
    (home / "mine.yaml").write_text("data: phantom\nmodel: tiny\n", encoding="utf-8")
    (cell,) = plan_grid(
        [str(home / "mine.yaml")], ["none"], [1], data=home / "data", out=home / "out"
    ).cells
    assert cell.key == "mine/none/1"
    assert cell.folder
    assert cell.folder.parent == home / "out" / "mine" / "none"


def test_the_states_of_a_cell(home: Path) -> None:
    cell = small(home).cells[0]
    assert standing(cell, "paper").state == TODO
    make_run(cell, status="running")
    assert standing(cell, "paper").state == BEGUN
    make_run(cell)
    assert standing(cell, "paper").state == TRAINED
    make_scores(cell, 0.5, protocol="default")
    assert standing(cell, "paper").state == TRAINED
    assert standing(cell, "default").state == FINISHED
    make_scores(cell, 0.5, n_failed=1)
    now = standing(cell, "paper")
    assert (now.state, now.problem) == (PARTLY, None)
    assert now.summary is not None
    assert now.summary["n_failed"] == 1
    make_scores(cell, 0.5, n=0, n_failed=2)
    assert standing(cell, "paper").state == TRAINED
    make_scores(cell, 0.5)
    assert standing(cell, "paper").state == FINISHED


def test_scored_in_part_and_the_data_are_gone(home: Path) -> None:
    cell = small(home).cells[0]
    make_run(cell)
    make_scores(cell, 0.5, n_failed=1)
    shutil.rmtree(home / "data")
    now = standing(small(home).cells[0], "paper")
    assert now.state == NO_DATA
    assert now.summary is not None


def test_other_scores_of_the_run_neither_finish_a_cell_nor_undo_it(home: Path) -> None:
    cell = small(home).cells[0]
    evaluations = make_run(cell) / "eval"
    own = make_scores(cell, 0.5)
    other = own.rename(evaluations / "phantom-test-random-paper")
    assert standing(cell, "paper").state == TRAINED
    make_scores(cell, 0.5)
    (other / "summary.json").write_text("{}", encoding="utf-8")
    assert standing(cell, "paper").state == FINISHED


@pytest.mark.parametrize(
    "other",
    [{"manifest_sha256": "0"}, {"split": "val"}, {"prompts": "p1"}, {"adapter_sha256": "0"},
     {"presence_asked": 0.5}],
)  # fmt: skip
def test_scores_of_something_else_do_not_finish_a_cell(home: Path, other: dict[str, object]) -> None:
    cell = small(home).cells[0]
    make_run(cell)
    make_scores(cell, 0.5, about=other)
    assert standing(cell, "paper").state == TRAINED


def test_another_adapter_is_scored_again(home: Path) -> None:
    cell = small(home).cells[0]
    run = make_run(cell)
    make_scores(cell, 0.5)
    assert standing(cell, "paper").state == FINISHED
    (run / runs.ADAPTER).write_bytes(b"another one")
    assert standing(cell, "paper").state == TRAINED
    (run / runs.ADAPTER).unlink()
    assert standing(cell, "paper").state == TRAINED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "finished"}', '{"about": 3, "metrics": {}}'])
def test_damaged_scores_do_not_finish_a_cell(home: Path, text: str) -> None:
    cell = small(home).cells[0]
    make_run(cell)
    (make_scores(cell, 0.5) / "summary.json").write_text(text, encoding="utf-8")
    assert standing(cell, "paper").state == TRAINED


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"status": "finished", "preset_sha256": "0", "data": 3}']
)
def test_a_damaged_run_is_named(home: Path, text: str) -> None:
    cell = small(home).cells[0]
    run = make_run(cell)
    (run / runs.RUN).write_text(text, encoding="utf-8")
    now = standing(cell, "paper")
    assert now.state == UNUSABLE
    assert now.problem is not None
    assert str(run / runs.RUN) in now.problem.message


def test_a_run_of_other_settings_under_this_name_is_no_run_of_this_cell(home: Path) -> None:
    cell, other = small(home).cells[:2]
    assert cell.folder
    assert other.folder
    make_run(other)
    shutil.copytree(other.folder, cell.folder)
    now = standing(cell, "paper")
    assert now.state == UNUSABLE
    assert now.problem is not None
    assert "other settings or data" in now.problem.message


def test_data_that_are_not_there(home: Path) -> None:
    grid = plan_grid(["kvasir"], ["none"], [41], data=home / "data", out=home / "out")
    now = standing(grid.cells[0], "paper")
    assert (now.state, grid.cells[0].folder) == (NO_DATA, None)
    assert now.problem is not None
    assert "vlsmctl prepare kvasir" in now.problem.message
    assert now.problem.exit_code == 2


def test_data_that_are_damaged(home: Path) -> None:
    manifest = home / "data" / "phantom" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    assert standing(small(home).cells[0], "paper").state == UNUSABLE


def test_weights_that_are_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLSMCTL_WEIGHTS", str(home))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "cache"))
    cell = small(home, overrides=["model=clipseg"]).cells[0]
    now = standing(cell, "paper")
    assert now.state == NO_WEIGHTS
    assert now.problem is not None
    assert now.problem.exit_code == 5
    assert "vlsmctl weights fetch clipseg" in str(now.problem.hint)
    make_run(cell)
    make_scores(cell, 0.5)
    assert standing(cell, "paper").state == FINISHED  # what is done needs none


def test_finished_runs_are_found_without_the_data(home: Path) -> None:
    for cell in small(home).cells:
        make_run(cell)
        make_scores(cell, 0.5)
    shutil.rmtree(home / "data")
    assert {standing(cell, "paper").state for cell in small(home).cells} == {FINISHED}
    other = small(home, overrides=["train.lr=0.5"])
    assert {standing(cell, "paper").state for cell in other.cells} == {NO_DATA}


def test_the_cells_of_what_is_there(home: Path) -> None:
    done = (*small(home, overrides=["train.lr=0.5"]).cells[:3], small(home).cells[0])
    for cell in done:
        make_run(cell)
        make_scores(cell, 0.5)
    shutil.copytree(make_run(done[0]), done[0].folder.parent / "seed-41-copy")  # type: ignore[union-attr]
    found, unread = found_cells(home / "out")
    assert {cell.folder for cell in found} == {cell.folder for cell in done}
    assert {cell.key for cell in found} == {cell.key for cell in done}
    assert {standing(cell, "paper").state for cell in found} == {FINISHED}
    assert not unread


def test_runs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert found_cells(tmp_path / "none") == ([], [])
    for name, text in (("a", "{}"), ("b", '{"preset": {}}'), ("c", "cut")):
        folder = tmp_path / name / "none" / "seed-1-00000000"
        folder.mkdir(parents=True)
        (folder / runs.RUN).write_text(text, encoding="utf-8")
    found, unread = found_cells(tmp_path)
    assert not found
    assert [str(tmp_path / name) in line for name, line in zip("abc", unread, strict=True)] == [True] * 3
