"""scores.csv and summary.json: what is written comes back; what is damaged is refused by name."""

from __future__ import annotations

import csv
import json
import re
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlsmctl import score_files
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import Row, Scores, Tolerance
from vlsmctl.metrics import METRICS
from vlsmctl.pairing import CasePair
from vlsmctl.score_files import (
    COLUMNS,
    SCORES,
    SUMMARY,
    from_cell,
    read_rows,
    read_scores,
    read_summary,
    to_cell,
    write_scores,
)
from vlsmctl.summary import summarise

NASTY = [
    "", '""', '"', "'", "''", ",", "a,b", 'he said "no"', "two\nlines", "\r", "a\r\nb", "\x00", "\t=1",
    "\udcff", "case\udc80.png", "\\udc80", "\\u005c", "\\\\u000a", "=cmd|' /C calc'!A0", "'=1", "''=1",
    "-3", "+1e5", "-3x", "@SUM(A1)", "＝1+1", "-", "C:\\scans\\a", "nan", "None", " ", "\ufeffid",
    "ä😀", "\u2028",
]  # fmt: skip
TEXT = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=()), max_size=12))
MAYBE = st.none() | TEXT
# Names that every file system's paths can hold as one part; the texts above go through the same cells
PART = st.text(st.sampled_from("ab =-+@'\",;äπ\udc80\ud800😀_%#"), min_size=1, max_size=8)
FOREGROUND = st.integers(0, 10**7)

_SCORES = {
    "share": st.floats(0, 1), "length": st.floats(0, allow_nan=False), "size": st.floats(0, allow_nan=False)
}  # fmt: skip


def paths(folder: Path) -> st.SearchStrategy[Path]:
    roots = st.sampled_from([folder, folder / "masks", folder.parent, folder.parent / "elsewhere"])
    return st.builds(
        lambda root, parts: root.joinpath(*parts), roots, st.lists(PART, min_size=1, max_size=3)
    )


def rows(folder: Path) -> st.SearchStrategy[Row]:
    pairs = st.builds(
        CasePair,
        id=TEXT,
        prediction=st.none() | paths(folder),
        target=paths(folder),
        group=MAYBE,
        prompt=MAYBE,
        prompt_key=MAYBE,
        prediction_label=st.none() | st.integers(1, 300),
        target_label=st.none() | st.integers(1, 300),
        image=st.none() | paths(folder),
        data_set=MAYBE,
        columns=st.dictionaries(TEXT, TEXT, max_size=3),
    )
    scores = st.fixed_dictionaries({name: _SCORES[metric.measures] for name, metric in METRICS.items()})
    done = st.builds(
        Row, pairs, scores, st.sampled_from(["mm", "px"]), FOREGROUND, FOREGROUND,
        st.integers(1, 10**12), MAYBE,
    )  # fmt: skip
    return st.one_of(done, st.builds(Row, pairs, st.just({}), note=TEXT))


def summary_of(scores: Scores) -> dict[str, Any]:
    failed = sum(not row.scores for row in scores.rows)
    return {
        "metrics": {},
        "n": len(scores.rows) - failed,
        "n_failed": failed,
        "tolerance": {"px": scores.tolerance.px, "mm": scores.tolerance.mm},
        "extra_predictions": [],
    }


def done(folder: Path, case: str = "case", **changes: Any) -> Row:
    pair = CasePair(
        case, folder / "masks" / f"{case}.png", folder.parent / f"{case}.png", data_set="kvasir"
    )
    scores = {name: 0.125 * (number + 1) for number, name in enumerate(METRICS)}
    return Row(replace(pair, **changes), scores, "px", 10, 8, 900, None)


def written(folder: Path, *rows: Row) -> Path:
    scores = Scores(rows or tuple(done(folder, f"case{number}") for number in range(3)))
    write_scores(folder, scores, summary_of(scores))
    return folder


@given(TEXT)
@example("\\")
@example("\\u")
def test_text_comes_back_from_its_cell(text: str) -> None:
    cell = to_cell(text)
    assert from_cell(cell) == text
    assert from_cell(to_cell(None)) is None
    assert cell.encode("utf-8")  # it can be written, and is not nothing


@given(TEXT)
def test_no_cell_is_a_formula_or_breaks_a_line(text: str) -> None:
    cell = to_cell(text)
    assert not re.search(r"[\x00-\x1f\x7f]", cell)
    assert not re.match(r"[=@＝＋－＠]", cell)
    if cell.startswith(("+", "-")):
        float(cell)  # a number


def test_plain_text_stays_as_it_is() -> None:
    for text in ("case1", "a/b c", "one medium polyp", "C:\\scans", "-0.5", "Größe", "it's", "2024-01-01"):
        assert to_cell(text) == text


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_rows_come_back_as_they_were(data: st.DataObject) -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve() / "eval"
        scores = Scores(
            tuple(data.draw(st.lists(rows(folder), max_size=4))), tolerance=Tolerance(px=1.5, mm=0.25)
        )
        write_scores(folder, scores, summary_of(scores))
        assert read_scores(folder) == scores
        assert tuple(read_rows(folder)) == scores.rows
        with (folder / SCORES).open("rb") as stream:
            assert len(stream.readlines()) == 1 + len(scores.rows)  # a case is one line


def test_not_a_number_comes_back_too(tmp_path: Path) -> None:
    row = done(tmp_path)
    odd = replace(row, scores={**row.scores, "dice": nan, "hd95": inf, "volume_error": -inf})
    found = read_scores(written(tmp_path, odd)).rows[0].scores
    assert isnan(found["dice"])
    assert (found["hd95"], found["volume_error"]) == (inf, -inf)


def test_an_empty_prompt_is_one(tmp_path: Path) -> None:
    kinds = [("", None), ("", "p0"), (None, "p0"), (None, None)]
    cases = [done(tmp_path, f"c{n}", prompt=p, prompt_key=key) for n, (p, key) in enumerate(kinds)]
    found = read_scores(written(tmp_path, *cases)).rows
    assert [(row.pair.prompt, row.pair.prompt_key) for row in found] == kinds


def test_a_moved_evaluation_is_read_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "eval"
    outside = tmp_path / "data" / "=truth.png"
    written(folder, done(folder, target=outside, image=folder / ".." / "image.png"))
    moved = (tmp_path / "run").rename(tmp_path / "kept") / "eval"
    pair = read_scores(moved).rows[0].pair
    assert pair.prediction == moved / "masks" / "case.png"
    assert pair.target == outside
    assert pair.image == folder.parent / "image.png"  # not below the folder, whatever it is beside now


def test_paths_may_be_given_relative_to_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("eval")
    written(folder, done(folder, target=Path("truth") / "case.png"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    pair = read_scores(tmp_path / "eval").rows[0].pair
    assert pair.prediction == tmp_path / "eval" / "masks" / "case.png"
    assert pair.target == tmp_path / "truth" / "case.png"


def test_the_columns_are_the_documented_ones(tmp_path: Path) -> None:
    missed = replace(
        done(tmp_path, "a", columns={"scanner, type": "=x"}), predicted_foreground=0, unit="mm"
    )
    written(tmp_path, missed, done(tmp_path, "b"))
    with (tmp_path / SCORES).open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        first, second = reader
    assert reader.fieldnames == [*COLUMNS, "by_scanner, type"]
    assert [first[name] for name in ("outcome", "hd95_inf", "unit", "size_unit", "by_scanner, type")] == [
        "missed", "inf", "mm", "ml", "'=x",
    ]  # fmt: skip
    assert [second[name] for name in ("hd95_inf", "size_class", "by_scanner, type", "group")] == [
        second["hd95"], "small", "", "",
    ]  # fmt: skip


def test_with_the_real_summary_and_failed_rows(tmp_path: Path) -> None:
    failed = Row(CasePair("broken", None, tmp_path / "t.png"), {}, note=f"{tmp_path}/t.png: not a picture")
    scores = Scores((done(tmp_path), failed), extra=(Path("a/extra\udc80.png"),), tolerance=Tolerance(mm=1))
    write_scores(tmp_path, scores, summarise(scores))
    assert read_scores(tmp_path) == scores
    assert read_summary(tmp_path)["n_failed"] == 1


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_scores(folder)
    message = str(caught.value)
    assert all(word in message for word in (*words, folder.name)), message
    assert "\n" not in message
    assert "vlsmctl eval" in str(caught.value.hint)


def test_wherever_it_is_cut_short_it_is_refused(tmp_path: Path) -> None:
    """Also at the end of a line, or within a number."""
    path = written(tmp_path, done(tmp_path, "a"), done(tmp_path, "b", columns={"size": "512"})) / SCORES
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(tmp_path, SCORES)
    path.write_bytes(whole)
    assert len(read_scores(tmp_path).rows) == 2


def test_a_summary_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path) / SUMMARY
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        refused(tmp_path, SUMMARY)


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_whatever_is_damaged_is_read_or_refused_and_never_a_crash(data: st.DataObject) -> None:
    with TemporaryDirectory() as temporary:
        folder = written(Path(temporary))
        path = folder / data.draw(st.sampled_from([SCORES, SUMMARY]))
        content = bytearray(path.read_bytes())
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
        path.write_bytes(content)
        with suppress(UsageError):
            read_scores(folder)


def replaced(old: str, new: str, name: str = SCORES) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), "utf-8", newline="")

    return damage


def content(name: str, what: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(what)

    return damage


def without_the_last_row(folder: Path) -> None:
    lines = (folder / SCORES).read_bytes().splitlines(keepends=True)
    (folder / SCORES).write_bytes(b"".join(lines[:-1]))


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGED: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no csv": (without(SCORES), [SCORES]),
    "no summary": (without(SUMMARY), [SUMMARY]),
    "0 bytes": (content(SCORES, b""), [SCORES, "empty"]),
    "another table": (content(SCORES, b"name,value\na,1\n"), ["expected the columns", "id"]),
    "not text": (content(SCORES, b"\xff\xfe\x00\x81\n"), ["UTF-8"]),
    "a picture": (content(SCORES, b"\x89PNG\r\n\x1a\n\x00\x00\n"), [SCORES]),
    "no number": (replaced("0.125", "good"), ["line 2", "good"]),
    "a number of another country": (replaced("0.125", '"0,125"'), ["line 2"]),
    "a missing score": (replaced("0.125", ""), ["line 2", "missing"]),
    "a cell more": (replaced("\ncase1,", "\ncase1,,"), ["line 3", "27 cells, found 28"]),
    "another unit": (replaced(",px,px,", ",cm,px,"), ["line 2", "unit"]),
    "another outcome": (replaced("both_present", "missed"), ["line 2", "missed"]),
    "a column twice": (replaced("group,", "id,group,"), ["same name"]),
    "a row less": (without_the_last_row, ["expected 3 scored", "found 2"]),
    "an empty document": (content(SUMMARY, b"{}"), [SUMMARY]),
    "a list": (content(SUMMARY, b"[1]"), [SUMMARY]),
    "far too deep": (content(SUMMARY, b"[" * 200_000), [SUMMARY]),
    "no tolerance": (replaced('"tolerance"', '"other"', SUMMARY), [SUMMARY, "tolerance"]),
    "another tolerance": (replaced('"px": 2.0', '"px": "far"', SUMMARY), [SUMMARY, "tolerance"]),
    "other extras": (replaced('"extra_predictions": []', '"extra_predictions": 3', SUMMARY), [SUMMARY]),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_and_foreign_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    damage, words = DAMAGED[kind]
    damage(written(tmp_path / "scored"))
    refused(tmp_path / "scored", *words)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file")
    (tmp_path / "inside" / SUMMARY).mkdir(parents=True)
    refused(tmp_path / "inside")


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_what_editors_and_checkouts_change_does_no_harm(
    change: Callable[[str], str], tmp_path: Path
) -> None:
    before = read_scores(written(tmp_path))
    path = tmp_path / SCORES
    path.write_bytes(change(path.read_bytes().decode()).encode())
    assert read_scores(tmp_path) == before


def test_killed_between_the_two_files_no_summary_is_left_of_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(score_files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, *(done(tmp_path, f"another{number}") for number in range(3)))
    assert not (tmp_path / SUMMARY).exists()
    refused(tmp_path, SUMMARY)


def test_many_rows_pass_through_little_memory(tmp_path: Path) -> None:
    cases = tuple(done(tmp_path, f"case{number}", group=f"patient {number % 50}") for number in range(4000))
    scores = Scores(cases)
    written(tmp_path, *cases)  # paths keep their text once they have been asked for it
    peaks = []
    tracemalloc.start()
    try:
        write_scores(tmp_path, scores, summary_of(scores))
        peaks.append(tracemalloc.get_traced_memory()[1])
        size = (tmp_path / SCORES).stat().st_size
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert sum(1 for _ in read_rows(tmp_path)) == len(cases)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert size > 500_000
    assert peaks[0] < size / 2, "writing holds the whole file"
    assert peaks[1] < size / 2, "reading holds every row"


def test_equal_texts_are_in_memory_once(tmp_path: Path) -> None:
    cases = [done(tmp_path, f"c{number}", prompt="one medium polyp", group="p 1") for number in range(3)]
    pairs = [row.pair for row in read_scores(written(tmp_path, *cases)).rows]
    assert len({id(pair.prompt) for pair in pairs}) == len({id(pair.group) for pair in pairs}) == 1


def test_json_documents_are_kept_as_given(tmp_path: Path) -> None:
    summary = {**summary_of(Scores(())), "about": {"run": "a"}}
    write_scores(tmp_path, Scores(()), summary)
    assert read_summary(tmp_path) == summary == json.loads((tmp_path / SUMMARY).read_text("utf-8"))
    assert read_scores(tmp_path) == Scores(())


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_that_no_text_can_hold_lead_to_the_file(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    try:
        path = masks / "case\udcff\\udcff.png"
        path.touch()
    except OSError:
        pytest.skip("this file system takes no such names")
    written(tmp_path, done(tmp_path, prediction=path))
    found = read_scores(tmp_path).rows[0].pair.prediction
    assert found is not None
    assert found.is_file()


def test_scores_that_cannot_be_are_refused(tmp_path: Path) -> None:
    written(tmp_path, done(tmp_path))
    path = tmp_path / "scores.csv"
    whole = path.read_text(encoding="utf-8")
    headings, line = whole.splitlines()
    for name, wrong in (("dice", "7.5"), ("iou", "-0.1"), ("hd95", "-3")):
        cells = line.split(",")
        cells[headings.split(",").index(name)] = wrong
        path.write_text(f"{headings}\n{','.join(cells)}\n", encoding="utf-8")
        with pytest.raises(UsageError, match="within its range"):
            read_scores(tmp_path)


def test_files_of_one_working_folder_are_named_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that all of it may be moved, and nothing tells whose it is; also by way of a link."""
    home = tmp_path / "Jane Roe"
    (home / "runs" / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(home)
    (home / "latest").symlink_to(home / "runs" / "a", target_is_directory=True)
    folder = Path("latest") / "b" / "scores"
    written(folder, done(folder, target=Path("data") / "case.png", image=tmp_path / "outside.png"))
    text = (folder / "scores.csv").read_text(encoding="utf-8")
    assert text.count("Jane Roe") == 0
    moved = home.rename(tmp_path / "moved")
    pair = read_scores(moved / "runs" / "a" / "b" / "scores").rows[0].pair
    assert pair.target == moved / "data" / "case.png"
    assert pair.image == tmp_path / "outside.png"
