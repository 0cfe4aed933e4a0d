"""`vlsmctl predict --list`: what would be predicted, and what is skipped and why."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vlsmctl.console import counted, out, table, track
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
        _show(described, skipped)
    if not described:
        raise NoReadableInput("nothing here can be predicted")
    if not all(problem.harmless for problem in skipped):
        raise typer.Exit(SOME_FAILED)


def _show(described: Sequence[tuple[Found, Description]], skipped: Sequence[Problem]) -> None:
    """A table of the scans, then notes and what is skipped, each reason once."""
    base = _common_folder([one.source for one, _ in described])
    if described:
        if base is not None:
            out().print(f"in {base}:", markup=False)
        out().print(table(HEADINGS, [_row(one, what, base) for one, what in described]))
    reasons: dict[str, list[str]] = defaultdict(list)
    for one, what in described:
        if what.note:
            reasons[f"note: {what.note}"].append(_name(one, base))
    for problem in skipped:
        word = "passed over" if problem.harmless else "skipped"
        reasons[f"{word}: {problem.reason}"].append(str(problem.path))
    for reason, names in reasons.items():
        out().print(f"{reason}\n    {', '.join(names)}", markup=False)
    frames = sum(what.frames for _, what in described)
    lost = sum(not problem.harmless for problem in skipped)
    out().print(
        f"{counted(len(described), 'scan')}, {counted(frames, 'frame')}; {lost} skipped", markup=False
    )


def _common_folder(sources: Sequence[Path]) -> Path | None:
    """The folder that all of several scans lie below, where it says something."""
    if len(sources) < 2 or len({source.is_absolute() for source in sources}) > 1:
        return None
    base = Path(os.path.commonpath([source.parent for source in sources]))
    return base if base.parts and base != Path(base.anchor) else None


def _document(found: Found, what: Description) -> dict[str, Any]:
    return {"input": str(found.source), "files": len(found.files), **asdict(what)}


def _row(found: Found, what: Description, base: Path | None) -> tuple[str, ...]:
    spacing = "" if what.spacing is None else " x ".join(f"{each:.4g}" for each in what.spacing)
    width, height = what.size
    return (
        _name(found, base), what.kind, str(what.frames), f"{width} x {height}", spacing,
        what.orientation, what.description,
    )  # fmt: skip


def _name(found: Found, base: Path | None) -> str:
    name = str(found.source if base is None else found.source.relative_to(base))
    return f"{name}#{found.series_number}" if found.series_number > 1 else name
