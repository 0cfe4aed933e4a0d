"""Methods by name: which parameters train, and what is attached to the model for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import nn

from vlsmctl.adapters import dense, shallow
from vlsmctl.adapters.places import Places
from vlsmctl.config import MethodsConfig

ADAPTERS: dict[str, Callable[[Places, str, int], nn.ModuleDict]] = {
    "dense": dense.attach_dense,
    "shallow": shallow.attach_shallow,
}
VARIANTS = ("v", "l", "c", "vl", "vlc")
METHODS = (
    *(f"{family}-{letters}" for family in ADAPTERS for letters in VARIANTS),
    "decoder",
    "full",
    "none",
)


class Adaptable(Protocol):
    """What a method needs of a model."""

    adapter: nn.ModuleDict

    @property
    def places(self) -> Places: ...

    def requires_grad_(self, requires_grad: bool = True) -> nn.Module: ...


def attach(model: Adaptable, method: str, bottleneck: int | None = None) -> None:
    """Attaches `method` (one of METHODS) to a freshly built model and lets only its parameters train.

    dense-*, shallow-*: the base is frozen, the blocks train. decoder: the decoder trains (the paper's
    "end-to-end" rows did this, see golden figures). full: everything. none: nothing (zero-shot).
    bottleneck: width of the blocks, by default the published one.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}, known: {', '.join(METHODS)}")
    model.requires_grad_(method == "full")
    family, _, letters = method.partition("-")
    if family in ADAPTERS:
        width = bottleneck or getattr(MethodsConfig(), family).bottleneck
        for name, blocks in ADAPTERS[family](model.places, letters, width).items():
            model.adapter[name] = blocks
    elif method == "decoder":
        model.places.decoder.requires_grad_(True)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def count(parameters: dict[str, nn.Parameter]) -> int:
    return sum(value.numel() for value in parameters.values())
