"""The adapter file and the resume state: safetensors both, written atomically, read strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlsmctl.adapters.build import METHODS, attach, trained
from vlsmctl.errors import UsageError
from vlsmctl.files import atomic_path
from vlsmctl.models.build import MODELS, Base, build
from vlsmctl.preprocessing import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATION
from vlsmctl.presence import Presence

ADAPTER_FORMAT = 2  # 2: presence. Files of format 1 are read as well; they have none
STATE_FORMAT = 1


class AdapterFacts(BaseModel):
    """What an adapter file says of itself, besides its tensors.

    base_sha256: hash of the base model it was trained on. image_size, mean, std, interpolation: how a
    picture becomes its input. class_prompt: what `predict` asks for when no prompt is given (p1 of the
    data set). classes, prompts: the class words and the prompt templates it was trained with.
    manifest_sha256: the data it was trained on. presence: tells pictures without the target apart; None
    where the validation set had nothing to learn that from, or training was not finished.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = ADAPTER_FORMAT
    base: str
    base_sha256: str
    method: str
    bottleneck: Annotated[int, Field(ge=1)] | None
    image_size: Annotated[int, Field(ge=1)]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = INTERPOLATION
    threshold: Annotated[float, Field(gt=0, lt=1)]
    class_prompt: str | None
    classes: list[str] = []
    prompts: dict[str, str | list[str]] = {}
    data: str
    manifest_sha256: str
    licences: dict[str, str]
    vlsmctl: str
    presence: Presence | None = None


@dataclass(frozen=True)
class Adapted:
    """A base model with an adapter in place, ready to use."""

    base: Base
    facts: AdapterFacts


def save_adapter(path: Path, tensors: dict[str, Tensor], facts: AdapterFacts) -> None:
    """Writes the trained parameters (and nothing else) with their facts."""
    with atomic_path(path) as temporary:
        save_file(_plain(tensors), temporary, {"vlsmctl": facts.model_dump_json()})


def read_adapter(path: Path) -> tuple[AdapterFacts, dict[str, Tensor]]:
    """Raises UsageError when `path` is not a whole adapter file of this tool."""
    if not path.is_file():
        raise UsageError(f"no adapter file at {str(path)!r}", hint="vlsmctl train --preset NAME")
    try:
        text, tensors = _read(path)
        number = _format_of(text)  # first, because a newer format may have facts that this one forbids
        if number > ADAPTER_FORMAT:
            raise UsageError(
                f"{path} has adapter format {number}, this vlsmctl reads up to {ADAPTER_FORMAT}",
                hint="pip install --upgrade vlsmctl",
            )
        facts = AdapterFacts.model_validate_json(text)
    except (SafetensorError, ValidationError, ValueError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} is not an adapter that vlsmctl wrote, or is damaged: {first}") from error
    return facts, tensors


def load_adapted(path: Path, *, weights: Path | None = None, force: bool = False) -> Adapted:
    """The base model that an adapter file names, with the adapter in place, in evaluation mode.

    Raises UsageError when this machine's base model is not the one that the adapter was trained on
    (unless `force`), MissingWeights when it is not here at all.
    """
    facts, tensors = read_adapter(path)
    if facts.base not in MODELS:
        raise UsageError(f"{path} needs base model {facts.base!r}, known: {', '.join(MODELS)}")
    if facts.method not in METHODS:
        raise UsageError(f"{path} needs method {facts.method!r}, known: {', '.join(METHODS)}")
    base = build(facts.base, weights)
    if base.sha256 != facts.base_sha256 and not force:
        raise UsageError(
            f"{path} was trained on another {facts.base!r} base model: expected sha256 "
            f"{facts.base_sha256[:12]}, found {base.sha256[:12]}",
            hint="use the same weights, or --force",
        )
    attach(base.model, facts.method, facts.bottleneck)
    put_trained(base, tensors, path)
    return Adapted(base, facts)


def put_trained(base: Base, tensors: dict[str, Tensor], path: Path) -> None:
    """Copies trained parameters into the model; names and shapes must agree exactly."""
    own = trained(base.model)
    wrong = sorted(set(own) ^ set(tensors)) or sorted(
        name for name, value in tensors.items() if value.shape != own[name].shape
    )
    if wrong:
        raise UsageError(f"{path} does not fit its method: {len(wrong)} tensors differ ({wrong[0]}, ...)")
    base.model.load_state_dict(tensors, strict=False)


def save_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Writes the resume state in one file: `facts` (JSON) and tensors."""
    with atomic_path(path) as temporary:
        save_file(_plain(tensors), temporary, {"vlsmctl": json.dumps({"format": STATE_FORMAT, **facts})})


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Raises UsageError when the state cannot be used."""
    try:
        text, tensors = _read(path)
        facts: dict[str, Any] = json.loads(text)
    except (SafetensorError, ValueError, OSError) as error:
        raise UsageError(f"{path}: the resume state cannot be read ({error})") from error
    if _format_of(text) != STATE_FORMAT:
        raise UsageError(f"{path}: the resume state was written by another version of vlsmctl")
    return {key: value for key, value in facts.items() if key != "format"}, tensors


def _format_of(text: str) -> int:
    """The format number in the facts, 0 where there is none."""
    document = json.loads(text)
    number = document.get("format") if isinstance(document, dict) else None
    return number if isinstance(number, int) else 0


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("vlsmctl")
        if text is None:
            raise ValueError("its header has no facts from vlsmctl")
        return text, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
