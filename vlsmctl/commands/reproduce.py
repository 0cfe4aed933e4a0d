"""`vlsmctl reproduce`: the paper's grid, as one table beside the paper's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlsmctl.commands.reproduce_plan import hints, show_plan
from vlsmctl.commands.train import Live
from vlsmctl.console import console, counted, out, table, track
from vlsmctl.errors import INTERRUPTED, SOME_FAILED, UsageError

if TYPE_CHECKING:
    from vlsmctl.reproduce.grid import Cell, Grid
    from vlsmctl.reproduce.running import Ended
    from vlsmctl.reproduce.table import Figure, Line, Table

GRID, RUNNING = "Grid", "Running"  # panels of options
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
            help="Do the i-th of n parts of the grid. One for each GPU: "
            "CUDA_VISIBLE_DEVICES=0 vlsmctl reproduce --shard 1/4, and so on.",
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
    from vlsmctl.reproduce.grid import SEEDS, Grid, plan_grid, read_shard

    if only_table and not any((presets, methods, seeds, only, overrides)):
        _tables(Grid(result_folder, protocol, (), ()), as_json)
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
        show_plan(grid, as_json)
    elif only_table:
        _tables(grid, as_json)
    else:
        _do(grid, as_json)


def _check(protocol: str, dry_run: bool, only_table: bool) -> None:
    from vlsmctl.summary import PROTOCOLS

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
    """0: nothing is amiss; 3: some cells could not be done, or are with another process; where none at all
    could, that of their reason, if it is one for all."""
    from vlsmctl.reproduce.running import ELSEWHERE

    elsewhere = any(one.state == ELSEWHERE for one in ended)
    codes = {one.problem.exit_code for one in ended if one.problem is not None}
    if not codes:
        return SOME_FAILED if elsewhere else 0
    none = all(one.problem is not None for one in ended)
    return codes.pop() if none and len(codes) == 1 else SOME_FAILED


def _reasons(ended: Sequence[Ended]) -> list[str]:
    """What could not be done and why, a reason only once, and what to do about it."""
    from vlsmctl.reproduce.grid import PARTLY
    from vlsmctl.reproduce.running import ELSEWHERE

    reasons: dict[str, list[Ended]] = {}
    for one in ended:
        if one.problem is not None:
            reasons.setdefault(one.problem.message, []).append(one)
    lines = [
        f"{'scored in part' if cells[0].state == PARTLY else 'not done'}: {_cells(cells)}: {message}"
        for message, cells in reasons.items()
    ]
    elsewhere = sum(one.state == ELSEWHERE for one in ended)
    if elsewhere:
        are = "is" if elsewhere == 1 else "are"
        lines.append(
            f"{counted(elsewhere, 'cell')} {are} with another process; run again to see "
            f"{'it' if elsewhere == 1 else 'them'} done"
        )
    return lines + hints(one.problem for one in ended)


def _cells(ended: Sequence[Ended]) -> str:
    if len(ended) <= _NAMED:
        return ", ".join(one.cell.key for one in ended)
    return f"{', '.join(dict.fromkeys(one.cell.name for one in ended))} ({counted(len(ended), 'cell')})"


def _tables(grid: Grid, as_json: bool) -> None:
    from vlsmctl.reproduce.files import write_tables
    from vlsmctl.reproduce.table import make_table

    if not make_table(grid).lines:
        raise UsageError(f"no runs of a grid in {str(grid.out)!r}", hint="--out names its folder")
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
    from vlsmctl.reproduce.files import AMISS, HEADINGS, NAMES

    screen = out()
    rows = [_row(line) for line in made.lines]
    counts = "\n".join(("seeds;", *AMISS.replace(" /", "/").split()))
    screen.print(table(["", counts, *HEADINGS.values(), "trained"], rows))
    beside = any(one.paper is not None for line in made.lines for one in line.figures.values())
    second = "Below ours: the paper's, and ours minus the paper's. " if beside else ""
    screen.print(second + made.caption, markup=False)
    for remark in made.remarks:
        screen.print(f"note: {remark}", markup=False)
    if (grid.out / NAMES[0]).is_file():
        screen.print(f"tables: {', '.join(str(grid.out / name) for name in NAMES)}", markup=False)


def _row(line: Line) -> list[str]:
    """Several lines a cell, so that 80 columns are enough."""
    from vlsmctl.reproduce.files import HEADINGS, PAPER_ONLY, amiss, hours, named, parameters, seeds_done

    name = "\n".join(named(line).removesuffix(PAPER_ONLY).split())
    spent = hours(line).replace(" ", "\n", 1)
    counts = amiss(line).replace(" of", "\nof").replace(" +", "\n+")
    return [
        f"{line.preset}\n{name}",
        f"{seeds_done(line)}\n{counts}" if line.seeds else seeds_done(line),
        *(_score(line.figures[name]) for name in HEADINGS),
        f"{parameters(line.trainable)}\n{spent}" if line.method else "-",
    ]


def _score(one: Figure) -> str:
    from vlsmctl.reproduce.files import mean_and_sd, plain

    parts = [mean_and_sd(one).replace(" ± ", "±")]
    parts += [] if one.paper is None else [f"{one.paper:.2f}"]
    parts += [] if one.difference is None else [plain(one.difference, signed=True)]
    return "\n".join(parts)
