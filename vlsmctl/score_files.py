"""Scores on disk: `scores.csv`, a row a case, and `summary.json`; written, and read again.

Text in a CSV file is written so that it comes back as it was, and does nothing in a spreadsheet:

- nothing at all is an empty cell, and the empty text (a prompt can be that) is `""`;
- control characters (line ends among them: a case is one line), and bytes of a file name that are no
  text, are written `\\u000a`, and a backslash that would look like that, `\\u005c`;
- text that a spreadsheet would take for a formula (it begins with =, +, - or @, and is no number) gets an
  apostrophe in front.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

from vlsmctl.errors import UsageError
from vlsmctl.evaluation import SIZE_UNITS, Row, Scores, Tolerance
from vlsmctl.files import atomic_path, write_json
from vlsmctl.metrics import METRICS
from vlsmctl.pairing import CasePair

SCORES, SUMMARY = "scores.csv", "summary.json"
COLUMNS = (
    "id", "data_set", "prompt", "prompt_key", "group", "size_class", "outcome", *METRICS, "hd95_inf",
    "unit", "size_unit", "target_foreground", "predicted_foreground", "elements",
    "prediction", "prediction_label", "target", "target_label", "image", "note",
)  # fmt: skip
FURTHER = "by_"  # begins the names of further columns, which hold what cases may be told apart by
AGAIN = "score again: vlsmctl eval"
_TO_ESCAPE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|\\(?=u[0-9a-f]{4})")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_FORMULA = re.compile("'*[=+@＝＋－＠-]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def write_scores(folder: Path, scores: Scores, summary: Mapping[str, Any]) -> None:
    """`scores.csv` and `summary.json`, each whole or not there at all; never one beside another's.

    scores.csv has `COLUMNS`, then a column for each further one of the pairs, in full precision. Files
    below the folder, and, where that lies below the working directory, all below it, are named relative to
    the folder, so that both may be moved and tell nothing of whose they are; others by their whole path.
    `CasePair.error` has no column of its own: it is the note.
    """
    further = sorted({name for row in scores.rows for name in row.pair.columns})
    (folder / SUMMARY).unlink(missing_ok=True)  # killed from here on, there is no summary of other rows
    own = folder.resolve()  # ".." leads out of where it really is, not out of a link to it
    places = (own, *([here] if own.is_relative_to(here := Path.cwd()) else []))
    write_csv(
        folder / SCORES,
        [*COLUMNS, *(FURTHER + _escape(name) for name in further)],
        (_cells(row, places, further) for row in scores.rows),
    )
    write_json(folder / SUMMARY, summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json as a dict. Raises UsageError: it is not there, or damaged."""
    path = folder / SUMMARY
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"no scores in {str(folder)!r} (expected a folder with {SUMMARY} in it)",
            hint="vlsmctl eval makes them",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {_reason(error)}", hint=AGAIN) from error
    if not isinstance(document, dict) or not isinstance(document.get("metrics"), dict):
        raise UsageError(f"{path}: expected the summary of an evaluation", hint=AGAIN)
    return document


def about_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What was scored, of a summary from a file; nothing where that does not say it."""
    about = summary.get("about")
    return about if isinstance(about, dict) else {}


def read_scores(folder: Path) -> Scores:
    """What `write_scores` was given; files relative to the folder, wherever that is now.

    Raises UsageError: one of the two files is not there, damaged, cut short or of another kind, or they
    do not belong together.
    """
    summary = read_summary(folder)
    try:
        tolerance = Tolerance(**{unit: float(summary["tolerance"][unit]) for unit in ("px", "mm")})
        extra = tuple(Path(_unescape(name)) for name in summary["extra_predictions"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder / SUMMARY}: expected the summary of an evaluation, with its tolerance and "
            "extra_predictions",
            hint=AGAIN,
        ) from error
    rows = tuple(read_rows(folder))
    expected = [summary.get(name) for name in ("n", "n_failed")]
    found = [sum(bool(row.scores) for row in rows), sum(not row.scores for row in rows)]
    if expected != [None, None] and expected != found:
        raise UsageError(
            f"{folder / SCORES}: expected {expected[0]} scored and {expected[1]} failed rows, as {SUMMARY} "
            f"says; found {found[0]} and {found[1]}",
            hint=AGAIN,
        )
    return Scores(rows, extra, tolerance)


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows of `scores.csv` one by one, so that a million of them need no memory. Raises UsageError as
    `read_scores`, when it comes to the row that cannot be read."""
    path, line = folder / SCORES, 1
    try:
        _refuse_unended(path)
        with path.open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets put a mark in front
            reader = csv.reader(stream, strict=True)
            headings = _checked(next(reader, []))
            share = lru_cache(100_000)(from_cell)  # prompts, groups and the like: each in memory once
            for cells in reader:
                line = reader.line_num
                if len(cells) != len(headings):
                    raise ValueError(f"expected {len(headings)} cells, found {len(cells)}")
                yield _row(dict(zip(headings, cells, strict=True)), folder, share)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no {SCORES} in {str(folder)!r}", hint=AGAIN) from None
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}, line {line}: {_reason(error)}", hint=AGAIN) from error


def write_csv(final: Path, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, written row by row, whole or not there at all; texts come from `to_cell`."""
    with atomic_path(final) as path, path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(headings)
        writer.writerows(rows)


def to_cell(text: str | None) -> str:
    """Text as it stands in a CSV file; see the top of this module."""
    if text is None:
        return ""
    if text in ("", '""'):
        return '""' if text == "" else '\\u0022"'
    escaped = _escape(text)
    formula = _FORMULA.match(escaped) and not _NUMBER.fullmatch(escaped)
    return f"'{escaped}" if formula else escaped


def from_cell(cell: str) -> str | None:
    """The inverse of `to_cell`."""
    if cell in ("", '""'):
        return "" if cell else None
    return _unescape(cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell)


def _escape(text: str) -> str:
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def _cells(row: Row, places: Sequence[Path], further: Sequence[str]) -> list[Any]:
    """In the order of `COLUMNS`, then the further ones."""
    pair = row.pair
    return [
        to_cell(pair.id), to_cell(pair.data_set), to_cell(pair.prompt), to_cell(pair.prompt_key),
        to_cell(pair.group), row.size_class, row.outcome,
        *(repr(float(row.scores[name])) if row.scores else "" for name in METRICS),
        row.hd95_inf, row.unit, SIZE_UNITS.get(str(row.unit)), row.target_foreground,
        row.predicted_foreground, row.elements, _file_cell(pair.prediction, places), pair.prediction_label,
        _file_cell(pair.target, places), pair.target_label, _file_cell(pair.image, places),
        to_cell(row.note),
        *(to_cell(pair.columns.get(name)) for name in further),
    ]  # fmt: skip


def _file_cell(path: Path | None, places: Sequence[Path]) -> str:
    """places: the folder of the scores, and others in which files are named relative to it."""
    if path is None:
        return ""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (a link to a file is not to be followed)
    absolute = _really(absolute.parent) / absolute.name
    if any(absolute.is_relative_to(place) for place in places):
        return to_cell(Path(os.path.relpath(absolute, places[0])).as_posix())
    return to_cell(absolute.as_posix())


@lru_cache(maxsize=256)
def _really(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, ValueError):  # a name that no file here can have
        return folder


def _checked(headings: Sequence[str]) -> Sequence[str]:
    """The first line of scores.csv. Raises ValueError."""
    missing = [name for name in COLUMNS if name not in headings]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"expected the columns of an evaluation; there is no {', '.join(missing[:3])}{more}"
        )
    if len(set(headings)) != len(headings):
        raise ValueError("two columns have the same name")
    return headings


def _refuse_unended(path: Path) -> None:
    """Raises ValueError where the last row has no line end, and so may not be whole."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        if stream.read(1) != b"\n":
            raise ValueError("the file is cut short, as its last row has no line end" if size else "empty")


def _row(line: Mapping[str, str], folder: Path, share: Callable[[str], str | None]) -> Row:
    """Raises ValueError."""
    pair = CasePair(
        id=from_cell(line["id"]) or "",
        prediction=_file(line["prediction"], folder),
        target=_file(line["target"], folder) or folder,
        group=share(line["group"]),
        prompt=share(line["prompt"]),
        prompt_key=share(line["prompt_key"]),
        prediction_label=_whole(line["prediction_label"]),
        target_label=_whole(line["target_label"]),
        image=_file(line["image"], folder),
        data_set=share(line["data_set"]),
        columns={
            _unescape(name.removeprefix(FURTHER)): value
            for name, cell in line.items()
            if name.startswith(FURTHER) and (value := share(cell)) is not None
        },
    )
    scores = {name: float(line[name]) for name in METRICS if line[name]}
    target, predicted, elements = (
        _whole(line[name]) for name in ("target_foreground", "predicted_foreground", "elements")
    )
    row = Row(pair, scores, share(line["unit"]), target, predicted, elements, from_cell(line["note"]))
    whole = (
        len(scores) == len(METRICS) and row.unit in SIZE_UNITS and None not in (target, predicted, elements)
    )
    if scores and not whole:
        raise ValueError("some scores, counts or the unit are missing")
    for name, score in scores.items():
        most = 1.0 if METRICS[name].measures == "share" else inf
        least = -inf if name == "volume_error" else 0.0
        if score < least or score > most:
            raise ValueError(f"expected {METRICS[name].label} within its range, found {score}")
    if row.outcome != line["outcome"]:
        raise ValueError(f"expected the outcome {row.outcome}, by the scores; found {line['outcome']!r}")
    return row


def _file(cell: str, folder: Path) -> Path | None:
    name = from_cell(cell)
    return None if name is None else Path(os.path.normpath(_really(folder) / name))


def _whole(cell: str) -> int | None:
    return int(cell) if cell else None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text ({error.reason} at byte {error.start:,})"
    return str(error) or type(error).__name__
