"""A comparison on disk, and what to call the things compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from vlsmctl.comparison.differences import COMPARED, Compared
from vlsmctl.errors import UsageError
from vlsmctl.files import shown, write_json
from vlsmctl.score_files import to_cell, write_csv

COMPARISON, TABLE, DIFFERENCES = "comparison.json", "comparison.csv", "differences.csv"
_TABLE_COLUMNS = (
    "first", "second", "metric", "unit", "n", "n_tested", "mean_first", "mean_second", "difference",
    "low", "high", "p", "p_holm", "better", "n_second_better", "n_second_worse", "n_equal",
)  # fmt: skip


def short_names(paths: Sequence[Path]) -> list[str]:
    """What to call runs or folders: as few of the last parts of their paths as tell them apart; parts at
    the end that all have in common are left out where what is left is enough.

    Raises UsageError: one of them is given twice.
    """
    parts = [path.resolve().parts for path in paths]
    for number, one in enumerate(parts):
        if one in parts[:number]:
            raise UsageError(f"{paths[number]} is given twice; expected two or more different runs")
    deepest = min(map(len, parts), default=0)
    while len(parts) > 1 and deepest > 2 and len({one[-1] for one in parts}) == 1:
        parts, deepest = [one[:-1] for one in parts], deepest - 1
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = [shown("/".join(part.strip("/\\") for part in one[-depth:])) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def write_comparison(folder: Path, compared: Compared) -> None:
    """`comparison.json` (the document), `comparison.csv` (a line a pair of runs and metric) and
    `differences.csv` (a line a pair of runs and case: both scores and the difference of each metric), each
    whole or not there; the first is written last, so that it never stands beside another's."""
    (folder / COMPARISON).unlink(missing_ok=True)
    means = {run["name"]: run["metrics"] for run in compared.document["runs"]}
    write_csv(
        folder / TABLE, _TABLE_COLUMNS, (_line(one, means) for one in compared.document["differences"])
    )
    headings = [f"{name}_{what}" for name in COMPARED for what in ("first", "second", "difference")]
    write_csv(
        folder / DIFFERENCES,
        ["data_set", "id", "group", "unit", "first", "second", *headings],
        _case_lines(compared),
    )
    write_json(folder / COMPARISON, compared.document)


def compared_before(folder: Path) -> list[str] | None:
    """What the comparison in a folder is of; None where there is none that can be read."""
    try:
        document = json.loads((folder / COMPARISON).read_bytes())
        return [str(run["name"]) for run in document["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _line(one: Mapping[str, Any], means: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    low, high = one["interval"]
    first, second = (means[one[which]][one["metric"]]["mean"] for which in ("first", "second"))
    return [
        to_cell(one["first"]), to_cell(one["second"]), one["metric"], one["unit"],
        one["n"], one["n_tested"], first, second, one["mean"], low, high, one["p"], one["p_holm"],
        to_cell(one["better"]), one["n_second_better"], one["n_second_worse"], one["n_equal"],
    ]  # fmt: skip


def _case_lines(compared: Compared) -> Iterator[list[Any]]:
    for a, b in combinations(range(len(compared.names)), 2):
        names = [to_cell(compared.names[number]) for number in (a, b)]
        for first, second in zip(compared.rows[a], compared.rows[b], strict=True):
            pair = first.pair
            scores = [(first.scores[name], second.scores[name]) for name in COMPARED]
            cells = [repr(float(value)) for one, other in scores for value in (one, other, other - one)]
            yield [
                to_cell(pair.data_set), to_cell(pair.id), to_cell(pair.group), first.unit, *names, *cells
            ]  # fmt: skip
