"""What was typed: the options of a command that were given, and the command line that says the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer


def given_options(context: typer.Context) -> dict[str, Any]:
    """The options that were given on the command line, by their first name (`--split`), with their values;
    a flag that was turned off by its other name (`--no-report`)."""
    return {name: value for name, value, _ in _given(context) if name.startswith("-")}


def command_line(context: typer.Context) -> list[str]:
    """The command with its arguments and the options that were given, word by word."""
    words = ["vlsmctl", str(context.info_name)]
    for name, value, is_flag in _given(context):
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [name] * name.startswith("-")
            words += [] if is_flag else [str(one)]
    return words


def _given(context: typer.Context) -> Iterator[tuple[str, Any, bool]]:
    """Name, value, and whether it is a flag, of all that is not a default."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        value = context.params.get(str(parameter.name))
        if source is None or source.name != "COMMANDLINE" or value is None:
            continue
        is_option = parameter.param_type_name == "option"
        is_flag = isinstance(value, bool)
        names = parameter.opts if value is not False else (parameter.secondary_opts or parameter.opts)
        yield (names[0] if is_option else ""), value, is_flag
