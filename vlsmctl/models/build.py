"""The base models by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlsmctl.errors import MissingWeights
from vlsmctl.models import tiny, weights
from vlsmctl.models.clipseg import ClipSeg


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a base model without loading it. image_size: pixels, the default input size."""

    image_size: int
    description: str
    licence: str


MODELS = {
    "clipseg": ModelFacts(
        image_size=352,
        description="CLIPSeg ViT-B/16, rd64 refined (CIDAS/clipseg-rd64-refined)",
        licence="Apache-2.0",
    ),
    "tiny": ModelFacts(
        image_size=tiny.IMAGE_SIZE,
        description="small CLIPSeg inside this package, pretrained on procedural pictures",
        licence="Apache-2.0",
    ),
}


@dataclass(frozen=True)
class Base:
    """A loaded base model, without a method, in evaluation mode; `sha256` tells base models apart."""

    name: str
    model: ClipSeg
    sha256: str


def build(name: str, folder: Path | None = None) -> Base:
    """Loads base model `name`, from `folder` when given. Raises MissingWeights, UsageError."""
    if name == "tiny" and folder is None:
        network = weights.load_network(tiny.FOLDER)
        return Base(name, ClipSeg(network).eval(), weights.tensors_hash(network.state_dict()))
    found = weights.locate(name, folder)
    network = weights.load_network(found)
    return Base(name, ClipSeg(network).eval(), weights.base_hash(network, found))


def where(name: str) -> str | None:
    """Where the weights of `name` lie, or None when they are not on this machine."""
    if name == "tiny":
        return str(tiny.FOLDER)
    try:
        return str(weights.locate(name))
    except MissingWeights:
        return None
