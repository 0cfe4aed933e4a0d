"""The shallow adapter: blocks between the encoders and the decoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlsmctl.adapters.block import AdapterBlock, apply_after
from vlsmctl.adapters.dense import attach_condition
from vlsmctl.adapters.places import Places
from vlsmctl.errors import UsageError


def attach_shallow(places: Places, letters: str, bottleneck: int) -> nn.ModuleDict:
    """Attaches blocks to what the encoders hand to the decoder.

    letters: V a block on each hidden state handed over; L a block on the EOS state of each text layer
    of the same number, added to the conditional embedding; C one block on the projected text embedding.
    Returns the blocks.
    Source: VLSM-Adapter (arXiv 2405.06196), section 2.2, figure 2.
    """
    blocks = nn.ModuleDict()
    if "v" in letters:
        blocks["vision"] = nn.ModuleList(
            apply_after(activation, AdapterBlock(places.vision.width, bottleneck))
            for activation in places.activations
        )
    if "c" in letters:
        blocks["condition"] = attach_condition(places)
    if "l" in letters:
        blocks["text"] = _on_eos_states(places, bottleneck)
    return blocks


def _on_eos_states(places: Places, bottleneck: int) -> nn.ModuleList:
    if places.text.width != places.condition_width:
        raise UsageError(
            f"shallow L adds text states (width {places.text.width}) to the conditional embedding "
            f"(width {places.condition_width}), so this model needs equal widths",
            hint="use --set method=shallow-v or a dense method",
        )
    if len(places.text.mlp) <= places.depth:
        raise UsageError(
            f"shallow L needs text layer {places.depth}, this model's text encoder has "
            f"{len(places.text.mlp)} layers",
            hint="use --set method=shallow-v or a dense method",
        )
    blocks = nn.ModuleList(AdapterBlock(places.text.width, bottleneck) for _ in places.activations)

    def hook(_module: nn.Module, arguments: Any, condition: Tensor) -> Tensor:
        _projected, eos_states = arguments
        for block, state in zip(blocks, eos_states, strict=True):
            condition = condition + block(state)
        return condition

    places.condition.register_forward_hook(hook)
    return blocks
