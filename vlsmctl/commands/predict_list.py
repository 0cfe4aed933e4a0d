"""`vlsmctl predict --list`: what would be predicted, and what is skipped and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from vlsmctl.console import out, table, track
from vlsmctl.errors import SOME_FAILED, NoReadableInput, UnreadableFile

if TYPE_CHECKING:
    from vlsmctl.formats.records import Found, Problem, Reading
    from vlsmctl.formats.scan import Description

HEADINGS = ("scan", "kind", "frames", "size", "spacing (mm)", "slices", "series")


def list_scans(
    found: Sequence[Found], problems: Sequence[Problem], reading: Reading, *, as_json: bool
) -> None:
    """Prints the list; exits as prediction would: 3 where something is skipped, 4 with nothing left."""
    from vlsmctl.formats.records import Problem
    from vlsmctl.formats.scan import describe

    described: list[tuple[Found, Description]] = []
    skipped = list(problems)
    for one in track(found, "reading headers"):
        try:
            described.append((one, describe(one, reading)))
        except UnreadableFile as error:
            skipped.append(Problem(one.source, str(error).removeprefix(f"{one.source}: ")))
    if as_json:
        scans = [_document(one, what) for one, what in described]
        reasons = [
            {"input": str(problem.path), "reason": problem.reason, "harmless": problem.harmless}
            for problem in skipped
        ]
        out().print(json.dumps({"scans": scans, "skipped": reasons}), markup=False)
    else:
        if described:
            out().print(table(HEADINGS, [_row(one, what) for one, what in described]))
        for one, what in described:
            if what.note:
                out().print(f"note: {_name(one)}: {what.note}", markup=False)
        if skipped:
            rows = [(str(problem.path), problem.reason) for problem in skipped]
            out().print(table(("skipped", "why"), rows))
        frames = sum(what.frames for _, what in described)
        out().print(f"{len(described)} scans, {frames:,} frames; {len(skipped)} skipped", markup=False)
    if not described:
        raise NoReadableInput("nothing here can be predicted")
    if not all(problem.harmless for problem in skipped):
        raise typer.Exit(SOME_FAILED)


def _document(found: Found, what: Description) -> dict[str, Any]:
    return {"input": str(found.source), "files": len(found.files), **asdict(what)}


def _row(found: Found, what: Description) -> tuple[str, ...]:
    spacing = "" if what.spacing is None else " x ".join(f"{each:.4g}" for each in what.spacing)
    width, height = what.size
    return (
        _name(found), what.kind, str(what.frames), f"{width} x {height}", spacing,
        what.orientation, what.description,
    )  # fmt: skip


def _name(found: Found) -> str:
    return f"{found.source}#{found.series_number}" if found.series_number > 1 else str(found.source)
