"""Tables of cases: what may be written in them, and what they do to targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.masks import touch
from vlsmctl.errors import UsageError
from vlsmctl.pairing import Matched, match
from vlsmctl.pairing.tables import read_case_table


def write(tmp_path: Path, content: str, name: str = "cases.csv", encoding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    return path


TABLE = {"a/c1": {"group": "p1", "Scanner": "north, old"}, "c2.png": {"group": "p2"}}


@pytest.mark.parametrize(
    ("content", "name", "encoding"),
    [
        ('id,group,Scanner\na/c1,p1,"north, old"\nc2.png,p2,\n', "cases.csv", "utf-8"),
        ('id,group,Scanner\r\na/c1,p1,"north, old"\r\n\r\nc2.png,p2\r\n', "cases.csv", "utf-8-sig"),
        ("ID;Scanner;Group\r\na\\c1;north, old;p1\r\n./c2.png;;p2\r\n", "cases.csv", "utf-8-sig"),
        ("Scanner\tid\tgroup\nnorth,  old\ta/c1\tp1\n\tc2.png\tp2\n", "cases.tsv", "utf-8"),
        ('"id";"group";"Scanner"\na/c1;p1;north, old\nc2.png;p2;\n', "cases.txt", "utf-8"),
        (
            '{"id": "a/c1", "group": "p1", "Scanner": "north, old"}\r\n'
            '{"id": "c2.png", "group": "p2", "Scanner": null}',
            "cases.jsonl",
            "utf-8-sig",
        ),
    ],
)
def test_ways_to_write_a_table(tmp_path: Path, content: str, name: str, encoding: str) -> None:
    assert read_case_table(write(tmp_path, content, name, encoding)) == TABLE


def test_json_lines_may_hold_numbers(tmp_path: Path) -> None:
    table = read_case_table(write(tmp_path, '{"id": 7, "age": 61, "smokes": true}\n', "cases.jsonl"))
    assert table == {"7": {"age": "61", "smokes": "True"}}


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("case_id,group\nc1,p1\n", "t.csv", ["expected a column 'id'", "is it 'case_id'?"]),
        ("group;x\np1;2\n", "t.csv", ["expected a column 'id', found 'group', 'x'"]),
        ("id,x,x\nc1,1,2\n", "t.csv", ["two columns are called 'x'"]),
        (
            "id,x\nc1,1\nc1,2\n,3\nc3,1,2\n./c1,4\n",
            "t.csv",
            ["4 problems", "line 3: 'c1' is there already, in line 2", "line 4: expected an id",
            "line 5: found 3 cells",
             "line 6: 'c1'"],
        ),
        ('id,x\nc1,"1\n', "t.csv", ["line 2: expected CSV"]),
        ("", "t.csv", ["expected rows"]),
        ("id,x\n", "t.csv", ["expected rows"]),
        ('{"id": "c1"}\n{"id": "c2"\n[1]\n{"x": 1}\n{"id": ["c"]}', "t.jsonl",
         ["line 2: expected a line of JSON", "line 3: expected {...}", "line 4: expected an id",
         "line 5: expected a text"]),
        ('[{"id": "c1"}]', "t.json", ["found a list"]),
    ],
)  # fmt: skip
def test_every_problem_is_named_at_once(tmp_path: Path, content: str, name: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read_case_table(write(tmp_path, content, name))
    assert name in str(caught.value)
    assert not [text for text in said if text not in str(caught.value)], str(caught.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="UTF-16"):
        read_case_table(write(tmp_path, "id,x\nc1,1\n", encoding="utf-16"))
    with pytest.raises(UsageError, match=r"line 2: expected UTF-8"):
        read_case_table(write(tmp_path, "id,x\nc\xe9,1\n", encoding="latin-1"))
    for path in (tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_case_table(path)


def with_table(tmp_path: Path, table: str, gt: str, pred: str | None = None) -> Matched:
    folders = [touch(tmp_path / side, names) for side, names in (("pred", pred or gt), ("gt", gt))]
    return match(*folders, cases=write(tmp_path, table))


def test_rows_give_their_targets_group_and_columns(tmp_path: Path) -> None:
    table = "id,group,scanner,size_class\na/c1.png,p1,north,big\nc2,p1,,\nc9,p3,south,\n"
    found = with_table(tmp_path, table, "a/c1.png c2.nii.gz c3.png", "a/c1.png c2.nii.gz")
    assert [(pair.id, pair.group, pair.columns) for pair in found.pairs] == [
        ("a/c1", "p1", {"scanner": "north"}), ("c2", "p1", {}), ("c3", None, {}),
    ]  # fmt: skip
    notes = "\n".join(found.notes)
    assert "rows for no target: 1 (c9)" in notes
    assert "targets without a row: 1 (c3)" in notes
    assert "size_class" in notes


def test_all_prompts_of_a_target_get_its_facts(tmp_path: Path) -> None:
    found = with_table(tmp_path, "id,group\nc1,p1\n", "c1.png", "c1__a.png c1__b.png")
    assert [(pair.prompt, pair.group) for pair in found.pairs] == [("a", "p1"), ("b", "p1")]


def test_ids_that_only_resemble_are_matched_and_that_is_said(tmp_path: Path) -> None:
    found = with_table(tmp_path, "id,group\nc1,p1\nc2,p2\n", "c1_mask.png c2_mask.png")
    assert [pair.group for pair in found.pairs] == ["p1", "p2"]
    assert any("2 rows matched with '_mask' taken off" in note for note in found.notes)


def test_a_row_may_be_for_all_frames_of_a_series(tmp_path: Path) -> None:
    table = "id,group,site\ns1,p1,north\ns2.frames/0001,p2,south\n"
    found = with_table(tmp_path, table, "s1.frames/0001.png s1.frames/0002.png s2.frames/0001.png")
    assert [(pair.group, pair.columns) for pair in found.pairs] == [
        ("p1", {"site": "north"}), ("p1", {"site": "north"}), ("p2", {"site": "south"}),
    ]  # fmt: skip
    assert not found.notes


def test_tables_that_fit_nothing_or_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no row is for a target: for example 'x'.*'c1'"):
        with_table(tmp_path, "id,group\nx,p1\n", "c1.png")
    with pytest.raises(UsageError, match=r"'c1.png' and 'c1.jpg'"):
        with_table(tmp_path, "id,group\nc1.png,p1\nc1.jpg,p2\n", "c1.png")
