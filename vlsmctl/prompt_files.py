"""`predict --prompts FILE`: which prompts are for which scan."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vlsmctl.errors import UsageError
from vlsmctl.files import read_user_table
from vlsmctl.formats.naming import scan_suffix
from vlsmctl.formats.records import Found

INPUT, PROMPT = "input", "prompt"
_TABLES, _LINES = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SHOWN = 20  # problems in one message
_EXAMPLE = 'a CSV file: "input,prompt" in its first line, "a/case1.png,polyp" in the next'


@dataclass(frozen=True)
class PromptRow:
    """One row or line of the file. line: counted from 1, where it begins."""

    line: int
    input: str
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class PromptFile:
    """What `read_prompt_file` read, in the order of the file; at least one row."""

    path: Path
    rows: tuple[PromptRow, ...]


@dataclass(frozen=True)
class Assigned:
    """prompts: for each scan its prompts, distinct, in the order of the file; none: nobody gave it any.
    unmatched: rows that match no scan, in words."""

    prompts: list[tuple[str, ...]]
    unmatched: list[str]


def read_prompt_file(path: Path) -> PromptFile:
    """Reads a CSV file with the columns `input` and `prompt` (in any order, separated by commas,
    semicolons or tabs; further columns are ignored; several rows for an input are several prompts), or JSON
    lines, `{"input": "a/case1.png", "prompt": "polyp"}` or with a list of prompts. Which of them, its
    suffix says, or else its content. UTF-8.

    Raises UsageError: it cannot be read, or something in it is wrong; all of that at once, with the lines.
    """
    content = read_user_table(path, "--prompts")
    lines = content.split(b"\n")
    problems = [
        (number, "expected UTF-8, found another encoding")
        for number, line in enumerate(lines, 1)
        if not _is_utf8(line)
    ]
    text = content.decode("utf-8-sig", "replace")
    rows, more = (_from_lines if _is_json_lines(path, text) else _from_table)(text)
    _refuse(path, sorted(problems + more))
    if not rows:
        raise UsageError(f"{path}: expected rows with an input and a prompt, found none", hint=_EXAMPLE)
    return PromptFile(path, tuple(rows))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json_lines(path: Path, text: str) -> bool:
    suffix = path.suffix.lower()
    return suffix in _LINES or (suffix not in _TABLES and text.lstrip().startswith(("{", "[")))


def _refuse(path: Path, problems: Sequence[tuple[int, str]], hint: str | None = _EXAMPLE) -> None:
    if not problems:
        return
    said = [f"line {line}: {problem}" for line, problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        said.append(f"and {len(problems) - _SHOWN} more")
    if len(problems) == 1:
        raise UsageError(f"{path}, {said[0]}", hint=hint)
    raise UsageError(f"{path}: {len(problems)} problems\n  " + "\n  ".join(said), hint=hint)


_Read = tuple[list[PromptRow], list[tuple[int, str]]]


def _from_table(text: str) -> _Read:
    records, problems = _records(text)
    if not records:
        return [], problems
    (line, header), *body = records
    names = [name.strip().lower() for name in header]
    odd = [column for column in (INPUT, PROMPT) if names.count(column) != 1]
    if odd:
        found = ", ".join(repr(_cut(name)) for name in header[:10])
        count = " and ".join(f"{'more than one' if column in names else 'no'} {column!r}" for column in odd)
        told = f"expected the columns input and prompt, found {count}: {found}"
        return [], [(line, told), *problems]
    rows = []
    for line, cells in body:
        if any(cell.strip() for cell in cells[len(names) :]):
            told = f"found {len(cells)} cells for {len(names)} columns"
            problems.append((line, f"{told} (a prompt that holds a separator needs quotes)"))
            continue
        cells = cells + [""] * (len(names) - len(cells))
        row, wrong = _row(line, cells[names.index(INPUT)], [cells[names.index(PROMPT)]])
        rows += [row] if row else []
        problems += wrong
    return rows, problems


def _records(text: str) -> tuple[list[tuple[int, list[str]]], list[tuple[int, str]]]:
    """The records of a table that are not blank, each with the line it begins in."""
    records: list[tuple[int, list[str]]] = []
    # Strict, for a quote that is never closed would swallow the rest of the file without a word
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_separator(text), skipinitialspace=True, strict=True
    )
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        return records, [(line, f"expected CSV, found something else ({error})")]
    return records, []


def _separator(text: str) -> str:
    """The one by which the first line with anything in it has both columns, or the most columns."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def fits(separator: str) -> tuple[bool, int]:
        names = [name.strip().strip('"').strip().lower() for name in header.split(separator)]
        return INPUT in names and PROMPT in names, len(names)

    return max(_SEPARATORS, key=fits)


def _from_lines(text: str) -> _Read:
    if text.lstrip().startswith("["):
        return [], [(1, "expected JSON lines, one {...} a line, found a list; write each of it in a line")]
    rows: list[PromptRow] = []
    problems: list[tuple[int, str]] = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            document = json.loads(content)
        except json.JSONDecodeError as error:
            told = f"{error.msg}, column {error.colno}"
            problems.append((line, f"expected a line of JSON, found something else ({told})"))
            continue
        except (ValueError, RecursionError) as error:  # numbers too long, brackets too deep
            problems.append((line, f"expected a line of JSON, found something else ({error})"))
            continue
        missing = [
            name for name in (INPUT, PROMPT) if not isinstance(document, dict) or name not in document
        ]
        if missing:
            problems.append(
                (line, f'expected {{"input": .., "prompt": ..}}, found no {" and no ".join(missing)}')
            )
            continue
        prompts = document[PROMPT]
        row, wrong = _row(line, document[INPUT], prompts if isinstance(prompts, list) else [prompts])
        rows += [row] if row else []
        problems += wrong
    return rows, problems


def _row(line: int, name: Any, prompts: Sequence[Any]) -> tuple[PromptRow | None, list[tuple[int, str]]]:
    problems = []
    if not isinstance(name, str):
        problems.append((line, f"expected an input as text, found {_cut(json.dumps(name))}"))
    elif not name.strip():
        problems.append((line, "expected an input, found an empty one"))
    for prompt in prompts or [""]:
        if not isinstance(prompt, str):
            problems.append((line, f"expected a prompt as text, found {_cut(json.dumps(prompt))}"))
        elif not prompt.strip():
            problems.append((line, "expected a prompt, found an empty one"))
        elif not _is_text(prompt):
            problems.append((line, "expected a prompt in Unicode, found half a character"))
    if problems:
        return None, problems
    return PromptRow(line, name.strip(), tuple(" ".join(prompt.split()) for prompt in prompts)), []


def _is_text(prompt: str) -> bool:
    """Whether it can be printed and written: JSON may hold surrogates on their own."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in prompt)


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def assign_prompts(founds: Sequence[Found], file: PromptFile, fallback: Sequence[str]) -> Assigned:
    """For each scan its prompts: those of the rows that name it, or else `fallback`.

    A row names a scan by, the first that fits: its path, as it was given or resolved (from the working
    directory or the prompt file's folder); its path below the input folder; its file name; the latter two
    without the suffix. A DICOM series goes by its folder, all series there are meant; `folder#2` is the
    second. Slashes may be of either kind.

    Raises UsageError: rows that fit several scans, with two of these.
    """
    ways = _ways(founds, file.path.parent)
    given: list[dict[str, None]] = [{} for _ in founds]
    unmatched: dict[str, None] = {}
    ambiguous: list[tuple[int, str]] = []
    for row in file.rows:
        meant = next((numbers for way in ways if (numbers := way(row.input))), ())
        rival = next((n for n in meant if founds[n].source != founds[meant[0]].source), None)
        if not meant:
            unmatched[f"{_printable(row.input)} (line {row.line})"] = None
        elif rival is not None:
            names = " or ".join(_printable(str(founds[n].source)) for n in (meant[0], rival))
            ambiguous.append((row.line, f"{_printable(row.input)!r} could be {names}; write its path"))
        else:
            for number in meant:
                given[number].update(dict.fromkeys(row.prompts))
    _refuse(file.path, ambiguous, hint=None)
    return Assigned([tuple(own) or tuple(fallback) for own in given], list(unmatched))


_Index = Mapping[str, Sequence[int]]


def _ways(founds: Sequence[Found], folder: Path) -> list[Callable[[str], Sequence[int]]]:
    """What a row's input may be, in the order of trust: functions to the numbers of the scans it fits.
    folder: of the prompt file."""
    real = cache(os.path.realpath)  # of folders, of which there are few

    def resolved(path: Path) -> str:
        return f"{real(path.parent)}/{path.name}"

    @cache  # made when it is asked for: it looks at the disk
    def by_real_path() -> _Index:
        return _index(founds, lambda path, _, mark: resolved(path) + mark)

    def seen_from(start: Path) -> Callable[[str], Sequence[int]]:
        def find(text: str) -> Sequence[int]:
            try:
                return by_real_path().get(_key(resolved(start / text.replace("\\", "/"))), ())
            except ValueError:  # no name that a file could have
                return ()

        return find

    def by(key: Callable[[Path, Path, str], str]) -> Callable[[str], Sequence[int]]:
        index = _index(founds, key)
        return lambda text: index.get(_key(text), ())

    return [
        by(lambda path, _, mark: f"{path}{mark}"),
        seen_from(Path()),
        seen_from(folder),
        by(lambda _, relative, mark: f"{relative}{mark}"),
        by(lambda _, relative, mark: relative.name + mark),
        by(lambda _, relative, mark: str(relative).removesuffix(scan_suffix(relative.name)) + mark),
        by(lambda _, relative, mark: relative.name.removesuffix(scan_suffix(relative.name)) + mark),
    ]


def _index(founds: Sequence[Found], key: Callable[[Path, Path, str], str]) -> _Index:
    index: dict[str, list[int]] = {}
    for number, found in enumerate(founds):
        for names in _own_names(found):
            numbers = index.setdefault(_key(key(*names)), [])
            if number not in numbers[-1:]:
                numbers.append(number)
    return index


def _own_names(found: Found) -> Iterator[tuple[Path, Path, str]]:
    """Path, path below the input, and a mark behind them, of all that a scan goes by."""
    yield found.source, found.relative, ""
    if found.kind != "dicom":  # the other half of a NIfTI pair
        for path in found.files:
            if path != found.source:
                yield path, found.relative.with_name(path.name), ""
    elif found.source not in found.files[:1]:
        yield found.source, found.relative, f"#{found.series_number}"


def _key(text: str) -> str:
    """One spelling for a path: slashes, no "./", composed Unicode (macOS may spell a name otherwise)."""
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    return posixpath.normpath(plain.replace("\\", "/"))


def _printable(text: str) -> str:
    """A name that may hold undecodable bytes, as text that can be printed."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
