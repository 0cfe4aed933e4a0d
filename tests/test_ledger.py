from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from vlsmctl.ledger import Entry, append, ledger_path, merge_parts, open_ledger, read_ledger

ENTRY = Entry(
    "a.png", "a.png", "polyp", "done", None, frames=1, foreground=12, confidence=0.75, seconds=0.1,
    fingerprint="f00",
)  # fmt: skip


def line(entry: Entry) -> bytes:
    """A line as prediction writes it."""
    stream = io.StringIO(newline="\n")
    append(stream, entry)
    return stream.getvalue().encode("ascii")


def test_no_ledger_yet(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == {}


def test_round_trip_and_the_last_line_counts(tmp_path: Path) -> None:
    other = replace(ENTRY, prompt="lesion", output="a__lesion.png")
    third = replace(ENTRY, input="b.png", output=None, status="failed")
    again = replace(ENTRY, fingerprint="new")
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b"".join(map(line, (ENTRY, other, third, again))))
    assert read_ledger(path.parent) == {
        ("a.png", "polyp"): again, ("a.png", "lesion"): other, ("b.png", "polyp"): third,
    }  # fmt: skip


def test_a_file_cut_off_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    last = line(replace(ENTRY, input="Röntgen 🩻.png", output="Röntgen 🩻.png"))
    for length in range(len(last) - 1):  # within the escape of a letter, too
        path.write_bytes(line(ENTRY) + last[:length])
        assert read_ledger(path.parent) == {("a.png", "polyp"): ENTRY}
    path.write_bytes(line(ENTRY) + last)
    assert len(read_ledger(path.parent)) == 2


def test_a_ledger_written_as_plain_utf8_is_read_too(tmp_path: Path) -> None:
    """As an editor or another tool may leave it, cut within a letter or not."""
    path, entry = tmp_path / "predictions.jsonl", replace(ENTRY, input="Röntgen\u2028🩻.png", output=None)
    plain = (json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode()
    path.write_bytes(plain)
    assert list(read_ledger(path.parent).values()) == [entry]
    for length in range(len(plain) - 1):
        path.write_bytes(line(ENTRY) + plain[:length])
        assert list(read_ledger(path.parent).values()) == [ENTRY]


def test_an_entry_whose_mask_was_replaced_by_another_is_gone(tmp_path: Path) -> None:
    path, other = tmp_path / "predictions.jsonl", replace(ENTRY, prompt="lesion", fingerprint="f01")
    path.write_bytes(line(ENTRY) + line(other))
    assert read_ledger(path.parent) == {("a.png", "lesion"): other}


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c", "\r", "\n"])
def test_names_with_other_line_separators(tmp_path: Path, separator: str) -> None:
    entry = replace(ENTRY, input=f"a{separator}b.png")
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(line(entry))
    assert list(read_ledger(path.parent).values()) == [entry]


@pytest.mark.parametrize(
    "strange",
    [b"\n", b"[]\n", b"{}\n", b"null\n", b"\x00\n", b"\xff\n", b'{"input": 1}\n',
     line(ENTRY).replace(b'"input"', b'"inputs"'), line(ENTRY).replace(b'"a.png"', b"[1]", 1)],
)  # fmt: skip
def test_strange_lines_are_passed_over(tmp_path: Path, strange: bytes) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(strange + line(ENTRY) + strange)
    assert read_ledger(path.parent) == {("a.png", "polyp"): ENTRY}


def test_prompts_that_share_a_file_stay_together_until_another_case_replaces_it(tmp_path: Path) -> None:
    first = replace(ENTRY, output="s.seg.dcm", label=1)
    second = replace(first, prompt="tool", label=2)
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(line(first) + line(second))
    assert list(read_ledger(tmp_path).values()) == [first, second]
    path.write_bytes(line(first) + line(second) + line(replace(second, fingerprint="alone", label=1)))
    assert list(read_ledger(tmp_path)) == [("a.png", "tool")]


def test_parts_of_several_processes_merge(tmp_path: Path) -> None:
    entries = [replace(ENTRY, input=f"{name}.png", output=f"{name}.png") for name in "abcde"]
    for number, entry in enumerate(entries):
        with open_ledger(ledger_path(tmp_path, number % 2, 2)) as part:
            append(part, entry)
    with ledger_path(tmp_path, 1, 2).open("ab") as part:
        part.write(b'{"input": "cut o')  # a killed process
    expected = {entry.input: entry for entry in entries}
    assert {entry.input: entry for entry in read_ledger(tmp_path).values()} == expected
    merge_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]
    assert {entry.input: entry for entry in read_ledger(tmp_path).values()} == expected
    merge_parts(tmp_path)
    with open_ledger(ledger_path(tmp_path)) as ledger:
        append(ledger, replace(ENTRY, input="f.png", output="f.png"))
    assert len(read_ledger(tmp_path)) == 6
