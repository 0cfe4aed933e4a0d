"""The plan of the grid, printed: what is to be done, and how long it may take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vlsmctl.console import console, counted, duration, out, table

if TYPE_CHECKING:
    from vlsmctl.reproduce.grid import Grid, Problem
    from vlsmctl.reproduce.probe import Planned


def show_plan(grid: Grid, as_json: bool) -> None:
    """Measures, and prints for each cell of this shard what is done of it and how long it may take."""
    from vlsmctl.reproduce.probe import planned

    cells = planned(grid, begins=lambda what: console().print(f"measuring {what}", markup=False))
    if as_json:
        out().print(json.dumps(_plan_document(grid, cells)), markup=False)
        return
    screen = out()
    mine = {cell.key for cell in grid.mine}
    rows = _rows([each for each in cells if each.cell.key in mine])
    screen.print(table(["cells", "state", "train / val / test", "time for each"], rows))
    for number in range(1, grid.shard.of + 1):
        part = _share(grid, cells, number)
        own = " (this one)" if grid.shard.of > 1 and number == grid.shard.number else ""
        title = f"shard {number}/{grid.shard.of}{own}" if grid.shard.of > 1 else "all"
        screen.print(f"{title}: {counted(len(part), 'cell')}, {_total(part)}", markup=False)
    screen.print(
        "times: at least (training may stop as early as that) to at most (all epochs), measured on a few "
        "pictures; nothing was written",
        markup=False,
    )
    problems = [each.problem for each in cells if each.problem is not None]
    for line in (*dict.fromkeys(problem.message for problem in problems), *hints(problems)):
        console(always=True).print(line, markup=False)


def hints(problems: Iterable[Problem | None]) -> list[str]:
    """What to do about them, each only once."""
    found = dict.fromkeys(problem.hint for problem in problems if problem is not None and problem.hint)
    return [f"  try: {hint}" for hint in found]


def _rows(cells: Sequence[Planned]) -> list[list[str]]:
    """One for the seeds of a preset and method of which all the rest is the same."""
    seeds: dict[tuple[str, ...], list[str]] = {}
    for each in cells:
        alike = (each.cell.name, each.cell.method, each.standing.state, _pictures(each), _time(each))
        seeds.setdefault(alike, []).append(str(each.cell.seed))
    return [
        [f"{name} / {method} / {', '.join(own)}", *rest] for (name, method, *rest), own in seeds.items()
    ]


def _share(grid: Grid, cells: Sequence[Planned], number: int) -> tuple[Planned, ...]:
    from vlsmctl.reproduce.grid import Shard, share

    return share(cells, Shard(number, grid.shard.of))


def _pictures(each: Planned) -> str:
    return " / ".join(map(str, each.pictures)) if each.pictures else "-"


def _time(each: Planned) -> str:
    if each.estimate is None:
        return "-"
    least, most = duration(each.estimate.least), duration(each.estimate.most)
    return most if least == most else f"{least} to {most}"


def _total(cells: Sequence[Planned]) -> str:
    known = [each.estimate for each in cells if each.estimate is not None]
    text = f"at least {duration(sum(each.least for each in known))}"
    text += f", at most {duration(sum(each.most for each in known))}"
    unknown = len(cells) - len(known)
    return text + (f", without the {counted(unknown, 'cell')} that cannot be done yet" if unknown else "")


def _plan_document(grid: Grid, cells: Sequence[Planned]) -> dict[str, Any]:
    mine = {cell.key for cell in grid.mine}
    return {
        "out": str(grid.out),
        "shard": asdict(grid.shard),
        "cells": [
            {
                "cell": each.cell.key,
                "mine": each.cell.key in mine,
                "state": each.standing.state,
                "run": str(each.cell.folder) if each.cell.folder else None,
                "pictures": dict(zip(("train", "val", "test"), each.pictures, strict=True))
                if each.pictures
                else None,
                "seconds_at_least": round(each.estimate.least, 1) if each.estimate else None,
                "seconds_at_most": round(each.estimate.most, 1) if each.estimate else None,
                "reason": each.problem.message if each.problem else None,
            }
            for each in cells
        ],
    }
