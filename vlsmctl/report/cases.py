"""The table of all cases: to be read, and, where scripts run, sorted and filtered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlsmctl.evaluation import Row
from vlsmctl.report.values import NONE, amount, share, without_folders

MOST_CASES = 1000
PRINTED = 40  # lines that go onto paper
_OUTCOMES = {
    "both_present": ("●", "both there"), "missed": ("✕", "missed"), "false_alarm": ("▲", "false alarm"),
    "both_empty": ("○", "both empty"), "failed": ("–", "failed"),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """numeric: whether its cells are sorted by number."""

    heading: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """key: what to sort by, where that is not the text."""

    text: str
    key: str = ""


@dataclass(frozen=True)
class CaseLine:
    outcome: str
    sign: str
    words: str
    cells: tuple[Cell, ...]
    note: str


@dataclass(frozen=True)
class CaseTable:
    """outcomes: (name, words, how many), of those shown. noted: whether any has a note. shown, total:
    cases."""

    columns: tuple[Column, ...]
    lines: tuple[CaseLine, ...]
    outcomes: tuple[tuple[str, str, int], ...]
    noted: bool
    shown: int
    total: int
    printed: int = PRINTED


def note_of(row: Row, known: Sequence[str] = ()) -> str:
    """Without folders; known: paths that it may speak of, besides those of its own files."""
    pair = row.pair
    return without_folders(row.note or "", (*known, pair.target, pair.prediction, pair.image))


def case_table(rows: Sequence[Row], known: Sequence[str] = (), most: int = MOST_CASES) -> CaseTable:
    """The worst by Dice first, failed ones last; at most `most`. known: see `note_of`."""
    ranked = sorted(rows, key=lambda row: (not row.scores, row.scores.get("dice", 0.0), row.pair.id))[:most]
    pairs = [row.pair for row in rows]
    with_set = len({pair.data_set for pair in pairs}) > 1
    with_key = len({pair.prompt_key for pair in pairs} - {None}) > 1
    with_prompt = any(pair.prompt is not None and pair.prompt != pair.prompt_key for pair in pairs)
    with_group = any(pair.group is not None for pair in pairs)
    optional = (
        (Column("data set"), with_set), (Column("key"), with_key), (Column("prompt"), with_prompt),
        (Column("patient or group"), with_group),
    )  # fmt: skip
    numbers = ("Dice", "IoU", "HD95", "NSD", "target, %")
    columns = [Column("case"), *(column for column, there in optional if there)]

    def line(row: Row) -> CaseLine:
        pair = row.pair
        facts = (
            (pair.data_set, with_set), (pair.prompt_key, with_key), (pair.prompt, with_prompt),
            (pair.group, with_group),
        )  # fmt: skip
        texts = [Cell(pair.id), *(Cell(value or "") for value, there in facts if there)]
        sign, words = _OUTCOMES[row.outcome]
        return CaseLine(row.outcome, sign, words, (*texts, *_figures(row)), note_of(row, known))

    found = Counter(row.outcome for row in ranked)
    return CaseTable(
        (*columns, *(Column(name, numeric=True) for name in numbers)),
        tuple(map(line, ranked)),
        tuple((name, words, found[name]) for name, (_, words) in _OUTCOMES.items() if found[name]),
        any(row.note for row in ranked),
        len(ranked),
        len(rows),
    )


def _figures(row: Row) -> tuple[Cell, ...]:
    scores = row.scores
    size = None
    if row.scores and row.elements and row.target_foreground is not None:
        size = 100 * row.target_foreground / row.elements
    return (
        *(_cell(scores.get(name), share(scores.get(name))) for name in ("dice", "iou")),
        _cell(scores.get("hd95"), amount(scores.get("hd95"), row.unit)),
        _cell(scores.get("nsd"), share(scores.get("nsd"))),
        _cell(size, NONE if size is None else f"{size:.2f}"),
    )


def _cell(value: float | None, text: str) -> Cell:
    return Cell(text, "" if value is None else f"{value:.6g}")
