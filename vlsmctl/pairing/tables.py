"""What a user knows of cases, as a table: `id`, `group` (patient or sequence), and any other
columns."""

from __future__ import annotations

import csv
import difflib
import io
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.files import SAVE_AS_UTF_8, read_user_table
from vlsmctl.pairing.folders import Target
from vlsmctl.pairing.names import MASK_WORDS, composed, image_claims, key, link

ID, GROUP = "id", "group"
_TAKEN = ("prompt", "data_set", "size_class")  # what results are told apart by already
_LINES = (".jsonl", ".ndjson", ".json")
_SEPARATORS = (",", ";", "\t")
_SHOWN = 20  # problems in one message
_EXAMPLE = 'a CSV file: "id,group,scanner" in its first line, "a/case1.png,patient7,north" in the next'

Facts = dict[str, str]
_Read = tuple[list[tuple[int, dict[str, Any]]], list[str]]  # lines with what is in them; problems


def read_case_table(path: Path) -> dict[str, Facts]:
    """What is known of each case, by its id: a path relative to the folder of targets, with or without
    the extension. Columns keep their names (`id` and `group` may be in capitals), empty cells are left
    out.

    CSV, separated by commas, semicolons or tabs, or JSON lines; UTF-8. Raises UsageError: it cannot be
    read, or something in it is wrong; all of that at once, with the lines.
    """
    text = _text(path)
    is_lines = path.suffix.lower() in _LINES or text.lstrip().startswith("{")
    rows, problems = (_from_lines if is_lines else _from_table)(text)
    table: dict[str, Facts] = {}
    first: dict[str, int] = {}
    for line, row in rows:
        facts, wrong = _facts(row)
        problems += [f"line {line}: {why}" for why in wrong]
        name = case_id(facts.pop(ID, ""))
        if not name:
            problems += [f"line {line}: expected an id, found none"] if not wrong else []
        elif name in table:
            problems.append(f"line {line}: {name!r} is there already, in line {first[name]}")
        else:
            table[name], first[name] = facts, line
    if not rows and not problems:
        problems.append("expected rows, found none")
    _refuse(path, problems)
    return table


def case_id(name: str) -> str:
    """One spelling: forward slashes, no "./", composed letters."""
    plain = composed(name.strip()).replace("\\", "/")
    return posixpath.normpath(plain) if plain else ""


def _text(path: Path) -> str:
    content = read_user_table(path, "--cases")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}, line {line}: expected UTF-8, found another encoding",
            hint=SAVE_AS_UTF_8,
        ) from error


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if not problems:
        return
    said = [*problems[:_SHOWN], *([f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])]
    how_many = f"{len(problems)} problems\n  " if len(problems) > 1 else ""
    raise UsageError(f"{path}: {how_many}" + "\n  ".join(said), hint=_EXAMPLE)


def _from_table(text: str) -> _Read:
    # Strict, for a quote that is never closed would swallow the rest of the file without a word
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    names: list[str] | None = None
    rows: list[tuple[int, dict[str, Any]]] = []
    problems: list[str] = []
    line = 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [_column(cell) for cell in cells]
                problems += [f"line {begins}: {why}" for why in _wrong_columns(names)]
            elif any(cell.strip() for cell in cells[len(names) :]):
                problems.append(
                    f"line {begins}: found {len(cells)} cells for {len(names)} columns"
                    " (text that holds a separator needs quotes)"
                )
            elif ID in names:
                rows.append((begins, dict(zip(names, cells, strict=False))))
    except csv.Error as error:
        problems.append(f"line {line}: expected CSV, found something else ({error})")
    return rows, problems


def _separator(text: str) -> str:
    """The one that parts the first line into the most columns, best with an id among them."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def fits(separator: str) -> tuple[bool, int]:
        names = [_column(name.strip().strip('"')) for name in header.split(separator)]
        return ID in names, len(names)

    return max(_SEPARATORS, key=fits)


def _column(name: str) -> str:
    plain = name.strip()
    return plain.lower() if plain.lower() in (ID, GROUP) else plain


def _wrong_columns(names: Sequence[str]) -> list[str]:
    found = ", ".join(repr(name) for name in names[:10])
    near = difflib.get_close_matches(ID, [name.lower() for name in names], n=1, cutoff=0.4)
    meant = next((f"; is it {name!r}?" for name in names if near and name.lower() == near[0]), "")
    wrong = [] if ID in names else [f"expected a column 'id', found {found}{meant}"]
    doubled = sorted({name for name in names if name and names.count(name) > 1})
    return [*wrong, *(f"two columns are called {name!r}" for name in doubled)]


def _from_lines(text: str) -> _Read:
    if text.lstrip().startswith("["):
        return [], ["line 1: expected JSON lines, one {...} a line, found a list"]
    rows: list[tuple[int, dict[str, Any]]] = []
    problems: list[str] = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            problems.append(f"line {line}: expected a line of JSON, found something else ({error})")
            continue
        if isinstance(document, dict):
            rows.append((line, {_column(name): value for name, value in document.items()}))
        else:
            problems.append(f"line {line}: expected {{...}}, found something else")
    return rows, problems


def _facts(row: Mapping[str, Any]) -> tuple[Facts, list[str]]:
    """The cells that are not empty, as texts; and what is wrong with others."""
    facts: Facts = {}
    wrong: list[str] = []
    for name, value in row.items():
        if isinstance(value, list | dict):
            wrong.append(f"expected a text or a number in {name!r}, found a {type(value).__name__}")
        elif name and value is not None and str(value).strip():
            facts[name] = " ".join(str(value).split())
    return facts, wrong


def with_facts(
    targets: Sequence[Target], table: Mapping[str, Facts], path: Path
) -> tuple[list[Target], list[str]]:
    """The targets with group and columns of the rows that name them, and what the user should know. Ids
    match as names of predictions do, and may name the folder of a series' frames. path: of the table,
    for messages.

    Raises UsageError: two rows for one target; no row is for any target.
    """
    ids = list(table)
    links = link(
        [list(image_claims(name)) for name in ids],
        [target.names for target in targets],
        "rows",
        words=MASK_WORDS,
    )
    if links.rivals:
        pairs = [f"{ids[one]!r} and {ids[other]!r}" for one, other, _ in links.rivals]
        raise UsageError(f"{path}: rows that are for one target: {listed(pairs)}", hint="keep one of each")
    rows = {target: table[ids[number]] for number, (target, _) in links.found.items()}
    folders = {target.of for target in targets if target.of is not None}
    of_folders = {key(name): facts for name, facts in table.items() if key(name) in folders}
    facts = [
        {**of_folders.get(target.of or "", {}), **rows.get(number, {})}
        for number, target in enumerate(targets)
    ]
    if not any(facts):
        raise UsageError(
            f"{path}: no row is for a target: for example {ids[0]!r}, and the target {targets[0].id!r}",
            hint="an id is the path of a target below --gt, with or without its extension",
        )
    unused = [
        name for number, name in enumerate(ids) if number not in links.found and key(name) not in of_folders
    ]
    notes = [f"{path}: {line}" for line in links.notes]
    notes += [f"{path}: rows for no target: {len(unused)} ({listed(unused, shown=3)})"] * bool(unused)
    without = [target.id for target, own in zip(targets, facts, strict=True) if not own]
    notes += [f"{path}: targets without a row: {len(without)} ({listed(without, shown=3)})"] * bool(without)
    taken = [name for name in _TAKEN if any(name in own for own in facts)]
    notes += [f"{path}: not used, as results have their own: {', '.join(taken)}"] * bool(taken)
    return [_with_facts(target, own) for target, own in zip(targets, facts, strict=True)], notes


def _with_facts(target: Target, facts: Facts) -> Target:
    columns = {name: value for name, value in facts.items() if name not in (GROUP, *_TAKEN)}
    return replace(target, group=facts.get(GROUP, target.group), columns={**target.columns, **columns})
