"""`vlsmctl models`: the base models and whether their weights are here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vlsmctl.console import out, table


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the base models and where their weights lie."""
    from vlsmctl.models.build import MODELS, where

    rows = [
        {
            "name": name,
            "description": facts.description,
            "image_size": facts.image_size,
            "licence": facts.licence,
            "weights": where(name),
        }
        for name, facts in MODELS.items()
    ]
    if as_json:
        out().print(json.dumps(rows), markup=False)
        return
    lines = [
        [str(row["name"]), str(row["description"]), str(row["image_size"]), str(row["licence"]),
         str(row["weights"] or f"missing: vlsmctl weights fetch {row['name']}")]
        for row in rows
    ]  # fmt: skip
    out().print(table(["model", "what it is", "input", "licence", "weights"], lines))
