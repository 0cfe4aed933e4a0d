"""`vlsmctl report`: the page about a run, or about scored masks, made again from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vlsmctl.console import out


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            help="A run folder, or a folder with scores (default: the latest run).",
            show_default=False,
        ),
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(
            min=0, help="Of the worst, median and best cases each; 0: no image gets into the page."
        ),
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write report.html: one file with scores, plots, pictures and how to do it again."""
    from vlsmctl.report import is_evaluation, write_report
    from vlsmctl.runs import find_run

    named = folder is not None and is_evaluation(folder)
    page = write_report(folder if folder is not None and named else find_run(folder), pictures=pictures)
    out().print(json.dumps({"report": str(page)}) if as_json else str(page), markup=False)
