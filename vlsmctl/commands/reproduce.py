"""`vlsmctl reproduce`: the paper's grid, as one table beside the paper's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.commands.train import Live
from vlsmctl.console import console, counted, out, table, track
from vlsmctl.errors import INTERRUPTED, SOME_FAILED, UsageError

if TYPE_CHECKING:
    from vlsmctl.reproduce.grid import Cell, Grid, Problem
    from vlsmctl.reproduce.probe import Planned
    from vlsmctl.reproduce.running import Ended
    from vlsmctl.reproduce.table import Figure, Line, Table

GRID, RUNNING = "Grid", "Running"  # panels of options
PROTOCOLS = ("paper", "default")
_NAMED = 3  # cells named for one reason; of more, their presets

Many = list[str] | None


def reproduce(
    presets: Annotated[
        Many,
        typer.Option(
            "--presets", "--preset", show_default=False, rich_help_panel=GRID,
            help="Presets or YAML files; repeat, or separate by commas. Default: those of the paper.",
        ),
    ] = None,
    methods: Annotated[
        Many,
        typer.Option(
            "--methods", "--method", show_default=False, rich_help_panel=GRID,
            help="Default: those in the paper's table (decoder, shallow-vlc, dense-vlc).",
        ),
    ] = None,
    seeds: Annotated[
        Many,
        typer.Option(
            "--seeds", "--seed", show_default=False, rich_help_panel=GRID,
            help="Default: the paper's, 41,42,43.",
        ),
    ] = None,
    only: Annotated[
        Many,
        typer.Option(
            metavar="PATTERN", show_default=False, rich_help_panel=GRID,
            help="Do only the cells PRESET/METHOD/SEED of this name; parts may be left out and hold * "
            "and ?: kvasir, dense-vlc/42, 'c*'.",
        ),
    ] = None,
    overrides: Annotated[
        Many,
        typer.Option(
            "--set", metavar="KEY=VALUE", rich_help_panel=GRID,
            help="Override a key of all presets; repeat.",
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="The folder of prepared data sets.")] = Path("data"),
    result_folder: Annotated[
        Path, typer.Option("--out", help="Where runs, scores and tables go.")
    ] = Path("reproduce"),
    protocol: Annotated[
        str, typer.Option(help="How masks are made and scored: paper (as published) or default.")
    ] = "paper",
    shard: Annotated[
        str,
        typer.Option(
            metavar="i/n", rich_help_panel=RUNNING,
            help="Do the i-th of n parts of the grid, such as one for each GPU.",
        ),
    ] = "1/1",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=RUNNING,
            help="Print the plan, with times from a short measurement; write nothing.",
        ),
    ] = False,
    only_table: Annotated[
        bool,
        typer.Option(
            "--table", rich_help_panel=RUNNING,
            help="Only make the tables; without options of the grid, of all runs that are there.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=RUNNING, help="Print one JSON document.")
    ] = False,
) -> None:  # fmt: skip
    """Train and score the paper's grid (presets x methods x seeds), as one table beside the paper's.

    The same command goes on where it was; what is finished is never done again. Several processes may
    share one folder.
    """
    _check(protocol, dry_run, only_table)
    from vlsmctl.reproduce.grid import SEEDS, found_grid, plan_grid, read_shard

    if only_table and not any((presets, methods, seeds, only, overrides)):
        _tables(found_grid(result_folder, protocol), as_json)
        return
    grid = plan_grid(
        _values(presets),
        _values(methods),
        _seeds(seeds) or SEEDS,
        data=data,
        out=result_folder,
        overrides=overrides or (),
        only=_values(only),
        shard=read_shard(shard),
        protocol=protocol,
    )
    if dry_run:
        _plan(grid, as_json)
    elif only_table:
        _tables(grid, as_json)
    else:
        _do(grid, as_json)


def _check(protocol: str, dry_run: bool, only_table: bool) -> None:
    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {protocol!r}: known are {', '.join(PROTOCOLS)}")
    if dry_run and only_table:
        raise UsageError("give --dry-run or --table, not both")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "reproduce trains each cell in one process, and was started by a launcher in several",
            hint="one process a GPU: CUDA_VISIBLE_DEVICES=0 vlsmctl reproduce --shard 1/2, and "
            "CUDA_VISIBLE_DEVICES=1 vlsmctl reproduce --shard 2/2",
        )


def _values(given: Many) -> list[str]:
    return [part.strip() for text in given or () for part in text.split(",") if part.strip()]


def _seeds(given: Many) -> list[int]:
    for text in _values(given):
        if not (text.isascii() and text.isdecimal()):
            raise UsageError(f"--seeds {text!r}: expected whole numbers from 0", hint="--seeds 41,42,43")
    return [int(text) for text in _values(given)]


def _do(grid: Grid, as_json: bool) -> None:
    from vlsmctl.reproduce.running import STOPPED, Told
    from vlsmctl.reproduce.running import reproduce as run
    from vlsmctl.reproduce.table import make_table
    from vlsmctl.runtime import polite_stop

    def watch(cell: Cell) -> AbstractContextManager[Live]:
        return Live(cell.preset.train.epochs, cell.preset.model, cell.method)

    told = Told(
        say=lambda text: console().print(text, markup=False),
        watch=watch,
        tick=lambda records, title: track(records, title),
        progress=lambda rows: track(rows, "scoring"),
    )
    with polite_stop() as stop:
        ended = run(grid, stop=stop, told=told)
    interrupted = bool(ended) and ended[-1].state == STOPPED
    code = INTERRUPTED if interrupted else exit_code(ended)
    made = make_table(grid)
    if as_json:
        _print_json(grid, made, ended, code)
    elif any(line.seeds for line in made.lines):
        _show(made, grid)
    for line in _reasons(ended):
        console(always=True).print(line, markup=False)
    if interrupted:
        console(always=True).print(
            "stopped, and saved; the same command goes on where it was", markup=False
        )
    if code:
        raise typer.Exit(code)


def exit_code(ended: Sequence[Ended]) -> int:
    """0: nothing is amiss; 3: some cells could not be done; where none at all could, that of their reason,
    if it is one for all."""
    codes = {one.problem.exit_code for one in ended if one.problem is not None}
    if not codes:
        return 0
    none = all(one.problem is not None for one in ended)
    return codes.pop() if none and len(codes) == 1 else SOME_FAILED


def _reasons(ended: Sequence[Ended]) -> list[str]:
    """What could not be done and why, a reason only once, and what to do about it."""
    from vlsmctl.reproduce.running import ELSEWHERE

    reasons: dict[str, list[Ended]] = {}
    for one in ended:
        if one.problem is not None:
            reasons.setdefault(one.problem.message, []).append(one)
    lines = [f"not done: {_cells(cells)}: {message}" for message, cells in reasons.items()]
    elsewhere = sum(one.state == ELSEWHERE for one in ended)
    if elsewhere:
        lines.append(f"{counted(elsewhere, 'cell')} passed over: another process is at it")
    return lines + _hints(one.problem for one in ended)


def _cells(ended: Sequence[Ended]) -> str:
    if len(ended) <= _NAMED:
        return ", ".join(one.cell.key for one in ended)
    return f"{', '.join(dict.fromkeys(one.cell.name for one in ended))} ({counted(len(ended), 'cell')})"


def _hints(problems: Iterable[Problem | None]) -> list[str]:
    found = dict.fromkeys(problem.hint for problem in problems if problem is not None and problem.hint)
    return [f"  try: {hint}" for hint in found]


def _tables(grid: Grid, as_json: bool) -> None:
    from vlsmctl.reproduce.files import write_tables

    made = write_tables(grid)
    if as_json:
        _print_json(grid, made, (), 0)
    else:
        _show(made, grid)


def _print_json(grid: Grid, made: Table, ended: Sequence[Ended], code: int) -> None:
    from vlsmctl.reproduce.files import as_document

    cells = [
        {
            "cell": one.cell.key,
            "state": one.state,
            "run": str(one.cell.folder) if one.cell.folder else None,
            "seconds": round(one.seconds, 1),
            "reason": one.problem.message if one.problem else None,
        }
        for one in ended
    ]
    document = {"out": str(grid.out), "exit_code": code, "cells": cells, "table": as_document(made)}
    out().print(json.dumps(document), markup=False)


def _show(made: Table, grid: Grid) -> None:
    from vlsmctl.reproduce.files import HEADINGS, NAMES

    screen = out()
    rows = [_row(line) for line in made.lines]
    screen.print(table(["", "seeds", *HEADINGS.values(), "trained"], rows))
    beside = any(one.paper is not None for line in made.lines for one in line.figures.values())
    second = "Below ours: the paper's, and ours minus the paper's. " if beside else ""
    screen.print(second + made.caption, markup=False)
    for remark in made.remarks:
        screen.print(f"note: {remark}", markup=False)
    if (grid.out / NAMES[0]).is_file():
        screen.print(f"tables: {', '.join(str(grid.out / name) for name in NAMES)}", markup=False)


def _row(line: Line) -> list[str]:
    """Two lines a cell, so that 80 columns are enough."""
    from vlsmctl.reproduce.files import HEADINGS, PAPER_ONLY, hours, named, parameters, seeds_done

    scores = [_score(line.figures[name]) for name in HEADINGS]
    return [
        f"{line.preset}\n{named(line).removesuffix(PAPER_ONLY)}",
        seeds_done(line),
        *scores,
        f"{parameters(line.trainable)}\n{hours(line)}",
    ]


def _score(one: Figure) -> str:
    from vlsmctl.reproduce.files import mean_and_sd, plain

    ours = mean_and_sd(one).replace(" ± ", "±")
    if one.paper is None:
        return ours
    difference = "" if one.difference is None else f" {plain(one.difference, signed=True)}"
    return f"{ours}\n{one.paper:.2f}{difference}"


def _plan(grid: Grid, as_json: bool) -> None:
    from vlsmctl.reproduce.probe import planned

    cells = planned(grid, begins=lambda what: console().print(f"measuring {what}", markup=False))
    if as_json:
        out().print(json.dumps(_plan_document(grid, cells)), markup=False)
        return
    screen = out()
    mine = {cell.key for cell in grid.mine}
    rows = [
        [each.cell.key, each.standing.state, _pictures(each), _time(each)]
        for each in cells
        if each.cell.key in mine
    ]
    screen.print(table(["cell", "state", "train / val / test", "time"], rows))
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
    for line in (*dict.fromkeys(problem.message for problem in problems), *_hints(problems)):
        console(always=True).print(line, markup=False)


def _share(grid: Grid, cells: Sequence[Planned], number: int) -> tuple[Planned, ...]:
    from vlsmctl.reproduce.grid import Shard, share

    return share(cells, Shard(number, grid.shard.of))


def _pictures(each: Planned) -> str:
    return " / ".join(map(str, each.pictures)) if each.pictures else "-"


def _time(each: Planned) -> str:
    from vlsmctl.reproduce.running import duration

    if each.estimate is None:
        return "-"
    least, most = duration(each.estimate.least), duration(each.estimate.most)
    return most if least == most else f"{least} to {most}"


def _total(cells: Sequence[Planned]) -> str:
    from vlsmctl.reproduce.running import duration

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
