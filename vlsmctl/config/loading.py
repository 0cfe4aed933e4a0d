"""Presets read from YAML, with `extends`, `--set` overrides, and every problem reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vlsmctl.config.schema import Preset, keys
from vlsmctl.errors import UsageError

_SUFFIXES = (".yaml", ".yml")
# A ValueError comes from what looks like a date or is not UTF-8, a RecursionError from brackets without end
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


@dataclass(frozen=True)
class Resolved:
    """A preset, and where each value comes from: dotted key -> "default", the file ("presets/kvasir.yaml"),
    "--set" or "--seed". The keys are the leaves of the preset; lists are leaves."""

    preset: Preset
    origins: dict[str, str]


def presets_folder() -> Path:
    """The folder of the shipped presets: inside an installed wheel, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def preset_names() -> list[str]:
    """The shipped presets; files that start with "_" are parents, which presets extend, and no presets."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml") if path.name[0] not in "_.")


def find_preset(name: str) -> Path | None:
    """The preset file of that name, or None."""
    return None if name.startswith("_") else _shipped(name)


def load_preset(name: str, overrides: Iterable[str] = (), seed: int | None = None) -> Preset:
    """The preset `name` (a shipped one, or a path to a YAML file) with `KEY=VALUE` overrides applied, to
    train with.

    Raises UsageError naming every problem at once: unknown keys with the nearest valid name, wrong
    values, malformed overrides, overrides that do nothing in training.
    """
    return _resolve(name, overrides, seed, training=True).preset


def resolve_preset(name: str, overrides: Iterable[str] = (), seed: int | None = None) -> Resolved:
    """As load_preset, to look at: every key may be overridden, and it is told where each value is from."""
    return _resolve(name, overrides, seed, training=False)


def read_preset(name: str) -> dict[str, Any]:
    """The preset's values as a plain dict, what it `extends` merged in."""
    return _combined(_layers(name))


@dataclass(frozen=True)
class _Layer:
    """Values from one place; each layer is merged over those before it."""

    origin: str
    values: dict[str, Any]


def _resolve(name: str, overrides: Iterable[str], seed: int | None, *, training: bool) -> Resolved:
    layers, problems = _layers(name), list[str]()
    values = _combined(layers)
    for override in overrides:
        try:
            path, value = _parsed(override)
            if training:
                _check_counts(path, str(values.get("data", name)))
            _check_sections(path, values, override)
        except ValueError as error:
            problems.append(str(error))
            continue
        layers.append(_Layer("--set", _nested(path, value)))
        values = _merged(values, layers[-1].values)
    if seed is not None and isinstance(values.get("train", {}), dict):  # what else it may be is found below
        layers.append(_Layer("--seed", {"train": {"seed": seed}}))
        values = _merged(values, layers[-1].values)
    try:
        preset = Preset.model_validate(values)
    except ValidationError as error:
        problems += [_problem(detail) for detail in error.errors()]
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UsageError(
            f"preset {name!r} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n{listed}",
            hint=f"vlsmctl presets show {name}",
        )
    leaves = _leaves(preset.model_dump(mode="json", by_alias=True))
    return Resolved(preset, {".".join(path): _origin(path, layers) for path in leaves})


def _layers(name: str) -> list[_Layer]:
    """The preset's file and those that it extends, the outermost first."""
    path = Path(name) if name.endswith(_SUFFIXES) else find_preset(name)
    layers: list[_Layer] = []
    chain: list[Path] = []
    parent = name
    while True:
        if path is None or not path.is_file():
            raise _unknown(parent, chain[-1] if chain else None)
        chain.append(path.resolve())
        if chain[-1] in chain[:-1]:
            names = " -> ".join(each.stem for each in chain)
            raise UsageError(f"preset {parent!r} extends itself: {names}")
        values = _read(path)
        parent = str(values.pop("extends", None) or "")
        shipped = path.parent == presets_folder()
        layers.insert(0, _Layer(f"presets/{path.name}" if shipped else str(path), values))
        if not parent:
            return layers
        # a file is looked for beside the one that names it
        path = path.parent / parent if parent.endswith(_SUFFIXES) else _shipped(parent)


def _unknown(name: str, child: Path | None) -> UsageError:
    near = difflib.get_close_matches(name, preset_names(), n=1)
    nearest = f"; did you mean {near[0]!r}?" if near else ""
    where = f", which {child} extends" if child else ""
    return UsageError(
        f"no preset named {name!r}{where}{nearest} (known: {', '.join(preset_names())})",
        hint="vlsmctl presets",
    )


def _shipped(name: str) -> Path | None:
    path = presets_folder() / f"{name}.yaml"
    return path if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except _NOT_YAML as error:
        raise UsageError(f"{path} is not valid YAML: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def _combined(layers: Iterable[_Layer]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in layers:
        values = _merged(values, layer.values)
    return values


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _origin(path: tuple[str, ...], layers: list[_Layer]) -> str:
    return next((layer.origin for layer in reversed(layers) if _gives(layer.values, path)), "default")


def _gives(values: Any, path: tuple[str, ...]) -> bool:
    """Whether a layer says what lies at `path`."""
    for key in path:
        if not isinstance(values, dict):
            return True  # it replaces the whole section
        if key not in values:
            return False
        values = values[key]
    return bool(values != {})


def _parsed(override: str) -> tuple[list[str], Any]:
    """The path and the value of one `KEY=VALUE`. Raises ValueError saying what is wrong with it."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"--set {override!r}: expected KEY=VALUE")
    try:
        return key.strip().split("."), yaml.safe_load(text)
    except _NOT_YAML as error:
        raise ValueError(f"--set {override!r}: {_one_line(error)}") from error


def _check_counts(path: list[str], data: str) -> None:
    if path[0] == "prompts_from":
        word = " --class WORD" if path[1:] == ["class"] else ""
        raise ValueError(
            f"{'.'.join(path)}: counts when data is prepared, not at training: vlsmctl prepare {data}{word}"
        )


def _check_sections(path: list[str], values: dict[str, Any], override: str) -> None:
    for above, key in pairwise(path):
        inner = values.get(above)
        if inner is not None and not isinstance(inner, dict):
            raise ValueError(f"--set {override!r}: {above} is a single value, it has no key {key!r}")
        values = inner or {}


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _problem(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, keys(), n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if detail["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, found {detail['input']!r}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
