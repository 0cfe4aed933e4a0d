"""`vlsmctl presets`: what can be trained, and with what settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vlsmctl.console import out, table


def list_presets(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="The folder of prepared data sets.")] = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the presets."""
    if context.invoked_subcommand is not None:
        return
    from vlsmctl.config import load_preset, preset_names

    rows = []
    for name in preset_names():
        preset = load_preset(name)
        prepared = (data / preset.data / "dataset.json").is_file()
        rows.append(
            {
                "name": name,
                "model": preset.model,
                "method": preset.method,
                "data": str(data / preset.data),
                "prepared": prepared,
            }
        )
    if as_json:
        out().print(json.dumps(rows), markup=False)
        return
    lines = [
        [
            str(r["name"]),
            str(r["model"]),
            str(r["method"]),
            str(r["data"]) if r["prepared"] else "not prepared",
        ]
        for r in rows
    ]
    out().print(table(["preset", "model", "method", "data"], lines))


def show(
    name: Annotated[str, typer.Argument(help="A shipped preset, or a YAML file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a preset with every key that --set takes."""
    import yaml

    from vlsmctl.config import load_preset

    values = load_preset(name).model_dump(mode="json", by_alias=True)
    if as_json:
        out().print(json.dumps(values), markup=False)
        return
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    out().print(text.rstrip(), markup=False)
