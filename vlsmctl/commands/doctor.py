"""`vlsmctl doctor`: is this machine ready?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vlsmctl.console import out, table


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check Python, packages, devices, memory and weights."""
    from vlsmctl.models.build import MODELS, where
    from vlsmctl.runtime import machine_facts

    facts = machine_facts() | {f"weights of {name}": where(name) or "missing" for name in MODELS}
    if as_json:
        out().print(json.dumps(facts), markup=False)
        return
    out().print(table(["what", "found"], [[key, str(value)] for key, value in facts.items()]))
