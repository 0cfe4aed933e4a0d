"""Which prompts are for which scan: both kinds of file, every way to name a scan, all that can be wrong."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from vlsmctl.errors import UsageError
from vlsmctl.formats.records import Found
from vlsmctl.prompt_files import PromptFile, PromptRow, assign_prompts, read_prompt_file

Pairs = list[tuple[str, tuple[str, ...]]]


def pairs(path: Path, content: str | bytes) -> Pairs:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.input, row.prompts) for row in read_prompt_file(path).rows]


def told(path: Path, content: str | bytes) -> str:
    """What is said of a file that is refused; with the next thing to try."""
    with pytest.raises(UsageError) as caught:
        pairs(path, content)
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return str(caught.value)


def found(path: str, root: str = "scans", kind: str = "picture", number: int = 1) -> Found:
    source = Path(root, path)
    files = (source / "1.dcm", source / "2.dcm") if kind == "dicom" else (source,)
    return Found(Path(root), source, Path(path), kind, files, number)


def rows(*inputs: str, folder: Path = Path("lists")) -> PromptFile:
    """A file whose rows ask for p2, p3 ... by the line they stand in."""
    made = tuple(PromptRow(line, name, (f"p{line}",)) for line, name in enumerate(inputs, 2))
    return PromptFile(folder / "prompts.csv", made)


def assigned(founds: Sequence[Found], *inputs: str) -> list[tuple[str, ...]]:
    result = assign_prompts(founds, rows(*inputs), ())
    assert not result.unmatched
    return result.prompts


TABLES = {
    "plain": "input,prompt\na.png,polyp\nb.png,skin lesion\n",
    "other order, other columns": "age,Prompt,x, INPUT \n40,polyp,1,a.png\n,skin lesion,,b.png\n",
    "bom, windows lines": "\ufeffinput,prompt\r\na.png,polyp\r\nb.png,skin lesion\r\n",
    "semicolons": "input;prompt\na.png;polyp\nb.png;skin lesion\n",
    "tabs": "input\tprompt\na.png\tpolyp\nb.png\tskin lesion",
    "quotes and blanks": '"input", "prompt"\n\n"a.png", "polyp"\n,\nb.png,"skin\n  lesion"\n\n',
    "cells left over at the end": "input,prompt\na.png,polyp,,\nb.png, skin lesion ,\n",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_tables(tmp_path: Path, content: str) -> None:
    expected = [("a.png", ("polyp",)), ("b.png", ("skin lesion",))]
    assert pairs(tmp_path / "p.csv", content) == expected
    assert pairs(tmp_path / "p.tsv", content) == expected
    assert pairs(tmp_path / "prompts", content) == expected


def test_a_quoted_prompt_keeps_its_separators(tmp_path: Path) -> None:
    content = 'input,prompt\na.png,"polyp, flat; red"\nb.png,a 5" wound\nc.png,"the ""large"" one"\n'
    expected = [("polyp, flat; red",), ('a 5" wound',), ('the "large" one',)]
    assert [prompts for _, prompts in pairs(tmp_path / "p.csv", content)] == expected


LINES = (
    '{"input": "a.png", "prompt": "polyp"}\n\n{"prompt": ["skin  lesion", "é\u2028?"], "input": "b.png"}'
)


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson", "p.json", "p.JSONL", "prompts", "p.txt"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    assert pairs(tmp_path / name, LINES) == [("a.png", ("polyp",)), ("b.png", ("skin lesion", "é ?"))]


def test_the_suffix_decides_before_the_content(tmp_path: Path) -> None:
    assert "expected CSV" in told(tmp_path / "p.csv", LINES)
    assert "line of JSON" in told(tmp_path / "p.jsonl", TABLES["plain"])


def test_lines_are_counted_where_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    pairs(path, 'input,prompt\n\na.png,"one\ntwo"\nb.png,three\n')
    assert [row.line for row in read_prompt_file(path).rows] == [3, 5]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.csv", "input,text\na.png,polyp\n", "line 1: .*found no 'prompt': 'input', 'text'"),
        ("p.csv", "a.png,polyp\n", "line 1: .*found no 'input' and no 'prompt'"),
        ("p.csv", "input,prompt,prompt\na,b,c\n", "line 1: .*more than one 'prompt'"),
        ("p.csv", "input,prompt\na.png\n", "line 2: expected a prompt"),
        ("p.csv", "input,prompt\n ,polyp\n", "line 2: expected an input"),
        ("p.csv", "input,prompt\na.png,polyp, flat\n", "line 2: found 3 cells for 2 columns.*quotes"),
        ("p.csv", 'input,prompt\na.png,"polyp\nb.png,wound\n', "line 2: expected CSV"),
        ("p.csv", "", "found none"),
        ("p.csv", "input,prompt\n\n", "found none"),
        ("p.jsonl", "\n", "found none"),
        ("p.jsonl", '{"input": "a.png"}', "line 1: .*found no prompt"),
        ("p.jsonl", '{"input": "a.png", "prompt": []}', "line 1: expected a prompt, found an empty one"),
        (
            "p.jsonl",
            '{"input": "a.png", "prompt": ["a", " "]}',
            "line 1: expected a prompt, found an empty one",
        ),
        ("p.jsonl", '{"input": 7, "prompt": "a"}', "line 1: expected an input as text, found 7"),
        ("p.jsonl", '{"input": "a.png", "prompt": {"a": 1}}', "line 1: expected a prompt as text"),
        ("p.jsonl", '{"input": "a.png", "prompt": "\\ud83d"}', "line 1: .*half a character"),
        ("p.jsonl", '\n{"input": "a" "prompt"}', r"line 2: .*\(Expecting ',' delimiter, column 15\)"),
        ("p.jsonl", "7" * 5000, "line 1: expected"),
        ("p.jsonl", '"a.png"', "line 1: .*no input and no prompt"),
        ("p.jsonl", "[" * 100_000, "line 1: .*found a list"),
        ("p.jsonl", '{"input": ' + "[" * 100_000, "line 1: expected a line of JSON"),
        ("p.json", '[\n{"input": "a", "prompt": "b"}\n]', "line 1: .*found a list"),
        ("p.csv", "input,prompt\na.png,é\n".encode("utf-16"), "found UTF-16"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    assert re.search(reason, told(tmp_path / name, content))


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    table = b"input,prompt\na.png,\n,polyp\ngood.png,polyp\nb.png,a,b\nc.png,p\xf3lyp\n"
    said = told(tmp_path / "p.csv", table)
    assert "4 problems" in said
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == [
        "line 2", "line 3", "line 5", "line 6",
    ]  # fmt: skip
    lines = '{"input": "a"\n{"input": "b", "prompt": "c"}\nnull\n'
    assert "2 problems\n  line 1: " in told(tmp_path / "p.jsonl", lines)
    assert "and 80 more" in told(tmp_path / "many.csv", "input,prompt\n" + "a.png,\n" * 100)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(UsageError, match=r"--prompts .*cannot be read"):
            read_prompt_file(path)


SCANS = [found("a/case1.png"), found("a/case2.nii.gz", kind="nifti"), found("b/case3.jpg")]


@pytest.mark.parametrize(
    "name",
    ["scans/a/case2.nii.gz", "a/case2.nii.gz", "case2.nii.gz", "a/case2", "case2", "./a/case2.nii.gz",
     "a\\case2.nii.gz", "scans\\a\\case2.nii.gz", "a//case2.nii.gz", "b/../a/case2"],
)  # fmt: skip
def test_ways_to_name_a_scan(name: str) -> None:
    assert assigned(SCANS, name) == [(), ("p2",), ()]


@pytest.mark.parametrize("name", ["case2.nii", "Case2", "scans/case2.nii.gz", "2", "ase2", "a", "."])
def test_what_names_no_scan_is_told(name: str) -> None:
    result = assign_prompts(SCANS, rows("case1", name), ["wound"])
    assert result.prompts == [("p2",), ("wound",), ("wound",)]
    assert result.unmatched == [f"{name} (line 3)"]


def test_names_that_no_file_could_have_match_nothing() -> None:
    result = assign_prompts(SCANS, rows("a\0.png", "\ud83d.png", "x" * 5000), [])
    assert len(result.unmatched) == 3
    "".join(result.unmatched).encode()


def test_several_rows_are_several_prompts_and_no_row_leaves_the_fallback() -> None:
    founds, file = SCANS[:2], PromptFile(Path("p.csv"), (
        PromptRow(2, "case1", ("wound", "skin")), PromptRow(3, "a/case1.png", ("skin", "burn")),
    ))  # fmt: skip
    given = assign_prompts(founds, file, ["polyp", "lesion"]).prompts
    assert given == [("wound", "skin", "burn"), ("polyp", "lesion")]


def test_a_name_that_several_scans_have_is_refused_with_two_of_them() -> None:
    founds = [found("x/case.png"), found("y/case.png"), found("other.png"), found("y/other.jpg")]
    for name in ("case.png", "case"):
        with pytest.raises(UsageError) as caught:
            assign_prompts(founds, rows("y/case.png", name), [])
        for part in ("prompts.csv, line 3", repr(name), *(str(each.source) for each in founds[:2])):
            assert part in str(caught.value)
    assert assigned(founds, "other") == [(), (), ("p2",), ()]  # its own path below the input comes first


def test_all_that_is_ambiguous_is_said_at_once() -> None:
    founds = [found(f"{folder}/{name}.png") for folder in "xy" for name in "abc"]
    with pytest.raises(UsageError, match=r"2 problems\n  line 2: .*\n  line 4: "):
        assign_prompts(founds, rows("a", "x/b", "c"), [])


def test_equal_names_below_two_inputs_are_told_apart_by_their_paths_only() -> None:
    founds = [found("case.png", "left"), found("case.png", "right")]
    assert assigned(founds, "right/case.png", "left/case.png") == [("p3",), ("p2",)]
    with pytest.raises(UsageError, match="could be"):
        assigned(founds, "case.png")


def test_a_series_goes_by_its_folder_and_all_series_there_are_meant() -> None:
    founds = [
        found("p1/ct", kind="dicom"),
        found("p1/ct", kind="dicom", number=2),
        found("p2/mr", kind="dicom"),
    ]
    for name in ("scans/p1/ct", "scans/p1/ct/", "p1/ct", "p1\\ct", "ct"):
        assert assigned(founds, name) == [("p2",), ("p2",), ()]
    for name in ("scans/p1/ct#2", "p1/ct#2", "ct#2"):
        assert assigned(founds, name, "ct#1", "mr") == [("p3",), ("p2",), ("p4",)]


def test_a_folder_name_with_a_dot_is_no_suffix() -> None:
    founds = [found("head.dcm", kind="dicom"), found("v1.2", kind="dicom")]
    assert assigned(founds, "head.dcm", "v1.2") == [("p2",), ("p3",)]
    assert assign_prompts(founds, rows("v1"), []).unmatched == ["v1 (line 2)"]


def test_either_half_of_a_nifti_pair_names_it() -> None:
    header, image = Path("scans/a/brain.hdr"), Path("scans/a/brain.img")
    pair = Found(Path("scans"), header, Path("a/brain.hdr"), "nifti", (header, image))
    for name in ("a/brain.hdr", "a/brain.img", "scans/a/brain.img", "brain.img", "brain"):
        assert assigned([pair], name) == [("p2",)]


def test_letters_may_be_spelt_in_two_ways() -> None:
    composed, decomposed = "pié.png", unicodedata.normalize("NFD", "pié.png")
    assert composed != decomposed
    assert assigned([found(composed)], decomposed) == assigned([found(decomposed)], composed) == [("p2",)]


def test_paths_are_resolved_from_here_and_from_the_prompt_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both scans have one name, so that nothing but their paths can tell them apart."""
    (tmp_path / "set" / "x").mkdir(parents=True)
    (tmp_path / "set" / "y").mkdir()
    monkeypatch.chdir(tmp_path)
    absolute = [found("x/c.png", str(tmp_path / "set")), found("y/c.png", str(tmp_path / "set"))]
    one_root = [found("c.png", "set/x"), found("c.png", "set/y")]
    for founds in (absolute, one_root):
        for name in (f"{tmp_path}/set/y/c.png", "set/y/c.png", "set/x/../y/c.png"):
            assert assigned(founds, name) == [(), ("p2",)]
        file = rows("x/c.png", folder=tmp_path / "set")
        assert assign_prompts(founds, file, []).prompts == [("p2",), ()]
    assert assign_prompts(one_root, rows("x/c.png"), []).unmatched  # nothing is x/c.png from elsewhere


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own")
def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    for name in ("real/x", "real/y"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    founds = [found("c.png", str(tmp_path / "link" / side)) for side in "xy"]
    assert assigned(founds, f"{tmp_path}/real/y/c.png") == [(), ("p2",)]


def test_many_rows_for_as_many_scans() -> None:
    count = 20_000
    founds = [found(f"{number % 100}/case{number}.png") for number in range(count)]
    by_stem = [f"case{number}" for number in range(count)]
    began = time.perf_counter()
    given = assigned(founds, *by_stem)
    assert given == [(f"p{line}",) for line in range(2, count + 2)]
    assert time.perf_counter() - began < 30  # a comparison of each with each would take minutes
