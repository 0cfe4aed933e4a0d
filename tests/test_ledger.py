from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from vlsmctl.ledger import Entry, append, read_ledger

ENTRY = Entry("a.png", "a.png", "polyp", "done", None, 1, 12, None, 0.75, 0.1, "f00")


def line(entry: Entry) -> bytes:
    """A line as prediction writes it."""
    stream = io.StringIO(newline="\n")
    append(stream, entry)
    return stream.getvalue().encode("ascii")


def test_no_ledger_yet(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "predictions.jsonl") == {}


def test_round_trip_and_the_last_line_counts(tmp_path: Path) -> None:
    other = replace(ENTRY, prompt="lesion", output="a__lesion.png")
    third = replace(ENTRY, input="b.png", output=None, status="failed")
    again = replace(ENTRY, fingerprint="new")
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b"".join(map(line, (ENTRY, other, third, again))))
    assert read_ledger(path) == {
        ("a.png", "polyp"): again, ("a.png", "lesion"): other, ("b.png", "polyp"): third,
    }  # fmt: skip


def test_a_file_cut_off_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    last = line(replace(ENTRY, input="Röntgen 🩻.png", output="Röntgen 🩻.png"))
    for length in range(len(last) - 1):  # within the escape of a letter, too
        path.write_bytes(line(ENTRY) + last[:length])
        assert read_ledger(path) == {("a.png", "polyp"): ENTRY}
    path.write_bytes(line(ENTRY) + last)
    assert len(read_ledger(path)) == 2


def test_a_ledger_written_as_plain_utf8_is_read_too(tmp_path: Path) -> None:
    """As an editor or another tool may leave it, cut within a letter or not."""
    path, entry = tmp_path / "predictions.jsonl", replace(ENTRY, input="Röntgen\u2028🩻.png", output=None)
    plain = (json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode()
    path.write_bytes(plain)
    assert list(read_ledger(path).values()) == [entry]
    for length in range(len(plain) - 1):
        path.write_bytes(line(ENTRY) + plain[:length])
        assert list(read_ledger(path).values()) == [ENTRY]


def test_an_entry_whose_mask_was_replaced_by_another_is_gone(tmp_path: Path) -> None:
    path, other = tmp_path / "predictions.jsonl", replace(ENTRY, prompt="lesion")
    path.write_bytes(line(ENTRY) + line(other))
    assert read_ledger(path) == {("a.png", "lesion"): other}


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c", "\r", "\n"])
def test_names_with_other_line_separators(tmp_path: Path, separator: str) -> None:
    entry = replace(ENTRY, input=f"a{separator}b.png")
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(line(entry))
    assert list(read_ledger(path).values()) == [entry]


@pytest.mark.parametrize(
    "strange",
    [b"\n", b"[]\n", b"{}\n", b"null\n", b"\x00\n", b"\xff\n", b'{"input": 1}\n',
     line(ENTRY).replace(b'"input"', b'"inputs"'), line(ENTRY).replace(b'"a.png"', b"[1]", 1)],
)  # fmt: skip
def test_strange_lines_are_passed_over(tmp_path: Path, strange: bytes) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(strange + line(ENTRY) + strange)
    assert read_ledger(path) == {("a.png", "polyp"): ENTRY}
