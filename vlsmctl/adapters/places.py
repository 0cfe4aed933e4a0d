"""The few places where a method may attach to a model. A model lists its own; a method knows no more."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class EncoderPlaces:
    """The modules of one encoder, layer by layer, whose outputs a block may change.

    attention: output is a tuple, its first entry [B, N, width], before the residual addition.
    mlp: output [B, N, width], before the residual addition.
    """

    attention: tuple[nn.Module, ...]
    mlp: tuple[nn.Module, ...]
    width: int


@dataclass(frozen=True)
class Places:
    """Where a method may attach.

    activations: one module for each extracted layer; output [B, N, vision.width], as handed to the
        decoder (changing it leaves the encoder's own later layers alone).
    text_projection: output [P, condition_width].
    condition: called with (projected text [P, condition_width], EOS states of the text layers with
        the extracted layers' numbers, each [P, text.width]); its output conditions the decoder.
    depth: how many encoder layers lie below the last extracted one; a dense method adapts those.
    """

    vision: EncoderPlaces
    text: EncoderPlaces
    activations: tuple[nn.Module, ...]
    text_projection: nn.Module
    condition: nn.Module
    decoder: nn.Module
    condition_width: int
    depth: int
