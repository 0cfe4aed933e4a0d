"""The grid's table as files: what a program reads, and what TeX and Markdown print."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reproduce.grids import make_data, make_run, make_scores
from vlsmctl.files import write_text
from vlsmctl.reproduce import files as grid_files
from vlsmctl.reproduce.files import (
    NAMES,
    as_csv,
    as_latex,
    as_markdown,
    latex,
    markdown,
    texts,
    write_tables,
)
from vlsmctl.reproduce.grid import Grid, plan_grid
from vlsmctl.reproduce.standing import scores_folder
from vlsmctl.reproduce.table import Table, make_table

ODD = r"100 % of a_b & c#1 {x} $y$ ~z ^w \n <|> " + '"q"'


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    make_data(tmp_path / "data" / "kvasir")
    grid = plan_grid(
        ["kvasir"], ["dense-vlc", "none"], [41, 42], data=tmp_path / "data", out=tmp_path / "out"
    )
    for cell, dice in zip(grid.cells, (0.88, 0.90, 0.1, 0.2), strict=True):
        make_run(cell, seconds=3600)
        make_scores(cell, dice)
    return grid


@pytest.fixture
def table(grid: Grid) -> Table:
    made = make_table(grid)
    line = replace(made.lines[0], preset="a_b|c")
    return replace(made, lines=(line, *made.lines[1:]), remarks=(ODD,))


def test_csv_has_a_column_for_each_figure(grid: Grid) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(make_table(grid)))))
    assert len(rows) == 2 + 4  # dense-vlc and none, and what only the paper has
    dense, none = rows[:2]
    assert (dense["preset"], dense["method"], dense["paper_row"]) == (
        "kvasir",
        "dense-vlc",
        "clipseg-dense",
    )
    assert float(dense["dice_mean"]) == pytest.approx(89)
    assert float(dense["dice_sd"]) == pytest.approx(2**0.5)
    assert float(dense["dice_paper"]) == 89.10
    assert float(dense["dice_difference"]) == pytest.approx(-0.1)
    assert (dense["seeds"], dense["seeds_done"], dense["seeds_planned"]) == ("41 42", "2", "2")
    assert (dense["trainable"], dense["trainable_paper"]) == ("1130000", "3 M")
    assert (dense["hd95_mean"], dense["hd95_all_mean"]) == ("10.0", "20.0")
    assert (dense["gpu_hours"], float(dense["cpu_hours"])) == ("", 2.0)
    assert (none["dice_paper"], none["dice_difference"]) == ("", "")
    assert [row["method"] for row in rows[2:]] == [""] * 4
    assert all(row["dice_paper"] and not row["dice_mean"] for row in rows[2:])


def test_markdown_rows_have_as_many_cells_as_headings(table: Table) -> None:
    lines = as_markdown(table).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(table.lines)
    counts = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert counts == {17}
    assert r"| a\_b\|c | dense-vlc | 2/2 | 1.13 M | 3 M | 89.00 ± 1.41 | 89.10 | -0.10 |" in rows[2]
    assert "- " + markdown(ODD) in lines


def test_markdown_is_printed_as_it_is() -> None:
    escaped = markdown("a_b*c`d|e<f>[g]#h~i\\j\nk")
    assert escaped == r"a\_b\*c\`d\|e\<f\>\[g\]\#h\~i\\j k"


def test_latex_is_printed_as_it_is() -> None:
    escaped = latex(ODD)
    assert escaped.startswith(r"100 \% of a\_b \& c\#1 \{x\} \$y\$ \textasciitilde{}z \textasciicircum{}w ")
    assert r"\textbackslash{}n" in escaped
    assert latex("--protocol x---y") == "-{}-protocol x-{}-{}-y"
    assert latex("1 ± 2") == r"1 \ensuremath{\pm} 2"


def test_latex_is_well_formed(table: Table) -> None:
    text = as_latex(table)
    body = re.sub(r"(?<!\\)%.*", "", text)  # but for comments
    assert not re.findall(r"(?<!\\)[#$]", body.replace("$-$", ""))
    plain = re.sub(r"\\[{}\\]", "", body)
    assert plain.count("{") == plain.count("}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", body) for word in ("begin", "end"))
    assert begun == ["table", "tabular"]
    assert ended == ["tabular", "table"]
    (columns,) = re.findall(r"\\begin{tabular}{([lr]+)}", body)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 + len(table.lines)
    for row in rows:
        cells = [part.strip() for part in re.split(r"(?<!\\)&", row.removesuffix(r"\\"))]
        spans = [int(span) for span in re.findall(r"\\multicolumn{(\d)}", row)]
        assert len(cells) - len(spans) + sum(spans) == len(columns)
    assert (
        r"a\_b\textbar{}c & dense-vlc & 2/2 & 1.13 M & 3 M & 89.00 \ensuremath{\pm} 1.41 & 89.10 & $-$0.10"
        in body
    )
    assert body.count(r"\midrule") == 2  # one before each data set


def test_missed_false_and_failed_are_in_every_table(grid: Grid) -> None:
    make_scores(grid.cells[0], 0.88, n=9, n_missed=2, n_false_alarm=1, n_failed=1)
    written = texts(make_table(grid))
    row = next(csv.DictReader(io.StringIO(written["table.csv"])))
    assert [row[name] for name in ("n", "n_missed", "n_false_alarm", "n_failed")] == ["11", "2", "1", "1"]
    assert json.loads(written["table.json"])["lines"][0]["counts"]["n_missed"] == 2
    assert "| 2 / 1 of 11 + 1 failed |" in written["table.md"]
    assert "& 2 / 1 of 11 + 1 failed &" in written["table.tex"]
    assert "| 0 / 0 of 4 |" in written["table.md"]


def test_json_holds_the_whole_table(table: Table) -> None:
    document = json.loads(texts(table)["table.json"])
    assert document["lines"][0]["figures"]["dice"]["mean"] == table.lines[0].figures["dice"].mean
    assert document["remarks"] == [ODD]
    assert document["seeds"] == [41, 42]


def test_a_table_of_nothing_done_can_be_written(tmp_path: Path) -> None:
    grid = plan_grid(["kvasir"], ["none"], [41], data=tmp_path, out=tmp_path / "out")
    written = texts(make_table(grid))
    assert all(written[name] for name in NAMES)


def test_equal_folders_make_equal_tables(grid: Grid) -> None:
    write_tables(grid)
    before = [(grid.out / name).read_bytes() for name in NAMES]
    write_tables(grid)
    assert [(grid.out / name).read_bytes() for name in NAMES] == before
    assert sorted(path.name for path in grid.out.iterdir() if path.is_file()) == sorted(NAMES)


def test_a_cell_that_ends_while_tables_are_written_is_in_them(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards: the other one finishes a cell and writes its table before this one has written."""
    last = grid.cells[-1]
    assert last.folder is not None
    summary = scores_folder(last.folder, "paper") / "summary.json"
    held = summary.rename(summary.with_name("held"))

    def slowly(path: Path, text: str) -> None:
        if held.exists():
            held.rename(summary)
        write_text(path, text)

    monkeypatch.setattr(grid_files, "write_text", slowly)
    write_tables(grid)
    rows = list(csv.DictReader(io.StringIO((grid.out / "table.csv").read_text(encoding="utf-8"))))
    assert [row["seeds_done"] for row in rows[:2]] == ["2", "2"]
