"""The typed preset: YAML with `extends`, `--set` overrides, and every problem reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlsmctl.errors import UsageError

PromptChoice = Annotated[str, Field(pattern=r"^(random|all|p\d+)$")]
TrainPromptChoice = Annotated[str, Field(pattern=r"^(random|p\d+)$")]

_SUFFIXES = (".yaml", ".yml")
# A ValueError comes from what looks like a date or is not UTF-8, a RecursionError from brackets without end
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AdapterConfig(_Section):
    """`bottleneck`: width of the blocks; null takes the method's own (dense 64, shallow 512)."""

    bottleneck: Annotated[int, Field(ge=1)] | None = None


class PromptConfig(_Section):
    """Which prompts are used: `random` (uniform over p1..pN), one of p0..pN, or `all` (evaluation)."""

    train: TrainPromptChoice = "random"
    eval: PromptChoice = "random"


class PromptSource(_Section):
    """What prompts are made of when a data set is prepared: the class word and the templates p0..pN."""

    class_: Annotated[str, Field(alias="class", min_length=1)]
    templates: dict[Annotated[str, Field(pattern=r"^p\d+$")], str | list[str]]


class TrainConfig(_Section):
    """Training. Defaults are those of VLSM-Adapter's published configuration.

    lr: null takes the method's own (dense 1e-3, shallow 3e-4, decoder 1e-3, full 1e-4).
    precision: auto is bf16 on a GPU that has it, fp16 on other GPUs, fp32 on a CPU.
    augment: light changes brightness, contrast, scale and position a little; never mirrors, because
    prompts name places.
    """

    epochs: Annotated[int, Field(ge=1)] = 200
    min_epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 32
    lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    loss: Literal["dice_ce", "paper"] = "dice_ce"
    patience: Annotated[int, Field(ge=1)] = 20
    min_delta: Annotated[float, Field(ge=0)] = 1e-4
    lr_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    lr_patience: Annotated[int, Field(ge=0)] = 5
    grad_clip: Annotated[float, Field(gt=0)] | None = 0.5
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    augment: Literal["none", "light"] = "none"
    deterministic: bool | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42


class Preset(_Section):
    """Everything a run is made from. `data` names a folder below the data folder."""

    data: Annotated[str, Field(min_length=1)]
    model: Literal["clipseg", "tiny"] = "clipseg"
    method: Literal[
        "dense-v", "dense-l", "dense-c", "dense-vl", "dense-vlc",
        "shallow-v", "shallow-l", "shallow-c", "shallow-vl", "shallow-vlc",
        "decoder", "full", "none",
    ] = "dense-vlc"  # fmt: skip
    weights: Path | None = None
    adapter: AdapterConfig = AdapterConfig()
    prompts: PromptConfig = PromptConfig()
    prompts_from: PromptSource | None = None
    image_size: Annotated[int, Field(ge=16, multiple_of=16)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    train: TrainConfig = TrainConfig()
    paper: dict[str, Any] = {}


def presets_folder() -> Path:
    """The folder of the shipped presets: inside an installed wheel, or at the root of a checkout."""
    installed = Path(__file__).parent / "presets"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "presets"


def preset_names() -> list[str]:
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def find_preset(name: str) -> Path | None:
    """The preset file of that name, or None."""
    path = presets_folder() / f"{name}.yaml"
    return path if path.is_file() else None


def load_preset(name: str, overrides: Iterable[str] = (), seed: int | None = None) -> Preset:
    """The preset `name` (a shipped one, or a path to a YAML file) with `KEY=VALUE` overrides applied.

    Raises UsageError naming every problem at once: unknown keys with the nearest valid name, wrong
    values, malformed overrides.
    """
    values = read_preset(name)
    problems = [problem for override in overrides if (problem := _override(values, override))]
    if seed is not None and isinstance(values.setdefault("train", {}), dict):
        values["train"]["seed"] = seed  # a train that is no section is found below
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
    return preset


def read_preset(name: str) -> dict[str, Any]:
    """The preset's values as a plain dict, what it `extends` merged in."""
    return _read(name, chain=())


def keys(section: type[BaseModel] = Preset, prefix: str = "") -> list[str]:
    """Every dotted key of a preset."""
    found: list[str] = []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        inner = _section_of(field.annotation)
        found += keys(inner, key + ".") if inner else [key]
    return found


def _read(name: str, chain: tuple[Path, ...]) -> dict[str, Any]:
    path = Path(name) if name.endswith(_SUFFIXES) else find_preset(name)
    if path is None or not path.is_file():
        near = difflib.get_close_matches(name, preset_names(), n=1)
        nearest = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"no preset named {name!r}{nearest} (known: {', '.join(preset_names())})",
            hint="vlsmctl presets",
        )
    chain = (*chain, path.resolve())
    if chain[-1] in chain[:-1]:
        raise UsageError(f"preset {name!r} extends itself: {' -> '.join(each.stem for each in chain)}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except _NOT_YAML as error:
        raise UsageError(f"{path} is not valid YAML: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected keys and values, found {type(values).__name__}")
    parent = values.pop("extends", None)
    if not parent:
        return values
    if str(parent).endswith(_SUFFIXES):
        parent = path.parent / str(parent)  # a file is looked for beside the one that names it
    return _merged(_read(str(parent), chain), values)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _override(values: dict[str, Any], override: str) -> str | None:
    """Applies one `KEY=VALUE`; what is wrong with it, or None."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        return f"--set {override!r}: expected KEY=VALUE"
    try:
        _assign(values, key.strip().split("."), yaml.safe_load(text))
    except (*_NOT_YAML, TypeError) as error:
        return f"--set {override!r}: {_one_line(error)}"
    return None


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = values.get(key)
        if inner is None:
            inner = values[key] = {}
        if not isinstance(inner, dict):
            raise TypeError(f"{key} is a single value, it has no key {path[-1]!r}")
        values = inner
    values[path[-1]] = value


def _problem(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, keys(), n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if detail["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, found {detail['input']!r}"


def _section_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
