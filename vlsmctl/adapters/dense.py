"""The dense adapter: blocks inside the encoders."""

from __future__ import annotations

from torch import nn

from vlsmctl.adapters.block import AdapterBlock, apply_after
from vlsmctl.adapters.places import EncoderPlaces, Places

CONDITION_BOTTLENECK = 256


def attach_dense(places: Places, letters: str, bottleneck: int) -> nn.ModuleDict:
    """Attaches a block after self-attention and one after the MLP, each before its residual addition,
    in every encoder layer below the last extracted one.

    letters: V the vision encoder, L the text encoder, C one block on the projected text embedding
    (its bottleneck is always 256). Returns the blocks.
    Source: VLSM-Adapter (arXiv 2405.06196), section 2.2, figure 2.
    """
    blocks = nn.ModuleDict()
    if "v" in letters:
        blocks["vision"] = _in_layers(places.vision, places.depth, bottleneck)
    if "l" in letters:
        blocks["text"] = _in_layers(places.text, places.depth, bottleneck)
    if "c" in letters:
        blocks["condition"] = attach_condition(places)
    return blocks


def attach_condition(places: Places) -> AdapterBlock:
    """The C of a variant: one block on the projected text embedding."""
    return apply_after(places.text_projection, AdapterBlock(places.condition_width, CONDITION_BOTTLENECK))


def _in_layers(encoder: EncoderPlaces, depth: int, bottleneck: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.ModuleDict(
            {
                "attention": apply_after(attention, AdapterBlock(encoder.width, bottleneck)),
                "mlp": apply_after(mlp, AdapterBlock(encoder.width, bottleneck)),
            }
        )
        for attention, mlp in zip(encoder.attention[:depth], encoder.mlp[:depth], strict=True)
    )
