"""Reads the golden cases: tiny random models, inputs, and what the published method computed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from vlsmctl.adapters.build import attach
from vlsmctl.models.clipseg import ClipSeg

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))

_ENCODER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
            "layer_norm_eps", "attention_dropout")  # fmt: skip
_TEXT = (*_ENCODER, "vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
_VISION = (*_ENCODER, "patch_size", "image_size", "num_channels")
_TOP = ("projection_dim", "extract_layers", "reduce_dim", "decoder_num_attention_heads",
        "decoder_intermediate_size", "conditional_layer", "use_complex_transposed_convolution")  # fmt: skip

# published key -> ours
_KEYS = (
    (r"^v_attn_adapters\.(\d+)\.", r"vision.\1.attention."),
    (r"^v_out_adapters\.(\d+)\.", r"vision.\1.mlp."),
    (r"^l_attn_adapters\.(\d+)\.", r"text.\1.attention."),
    (r"^l_out_adapters\.(\d+)\.", r"text.\1.mlp."),
    (r"^vision_extract_adapters\.(\d+)\.", r"vision.\1."),
    (r"^text_extract_adapters\.(\d+)\.", r"text.\1."),
    (r"^cond_adapter\.", "condition."),
    (r"fc1\.", "down."),
    (r"fc2\.", "up."),
)


def load(case: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    facts = json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))
    return facts, load_file(FOLDER / f"{case}.safetensors")


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def our_key(published: str) -> str:
    """The name of a published parameter in our model."""
    if published.startswith(("clipseg.", "decoder.", "clip.")):
        return "network." + published.removeprefix("clipseg.")
    for pattern, replacement in _KEYS:
        published = re.sub(pattern, replacement, published)
    return "adapter." + published


def method_of(facts: dict[str, Any]) -> str:
    if facts["adapter_in_v"] is False and facts["reference_class"] == "CLIPSeg":
        return "decoder"
    family = "dense" if facts["reference_class"] == "CLIPSegDenseAdapter" else "shallow"
    letters = "".join(
        letter
        for letter, key in (("v", "adapter_in_v"), ("l", "adapter_in_l"), ("c", "adapter_in_cond"))
        if facts[key]
    )
    return f"{family}-{letters}"


def model(case: str) -> ClipSeg:
    """The case's model, with its method attached and all its weights in place."""
    facts, tensors = load(case)
    given = facts["config"]
    config = CLIPSegConfig(
        text_config={key: given["text_config"][key] for key in _TEXT},
        vision_config={key: given["vision_config"][key] for key in _VISION},
        **{key: given[key] for key in _TOP},
    )
    network = CLIPSegForImageSegmentation(config)
    base = part(tensors, "base.")
    network.load_state_dict({key.removeprefix("clipseg."): value for key, value in base.items()})
    built = ClipSeg(network).eval()
    attach(built, method_of(facts), facts["adapter_dim"])
    adapter = {our_key(key): value for key, value in part(tensors, "adapter.").items()}
    ours = built.state_dict()
    expected = {key for key in ours if key.startswith("adapter.")}
    assert set(adapter) == expected
    built.load_state_dict(adapter, strict=False)
    return built


def inputs(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """image, tokens trimmed to the longest prompt as our tokenizer does, which."""
    ids = tensors["in.input_ids"]
    longest = int(ids.argmax(dim=-1).max()) + 1
    return tensors["in.pixel_values"], ids[:, :longest], torch.arange(len(ids))
