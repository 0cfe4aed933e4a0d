"""A small CLIPSeg for tests: no file, no download, a few thousand parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPSegConfig

START, END = 48, 49
PATCH, SIDE = 16, 64  # transformers' complex transposed convolution fits 16-pixel patches only


def small_config(**changed: Any) -> CLIPSegConfig:
    """4 vision layers of width 24, 4 text layers of width 16, extracted after layers 0 and 2."""
    text = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2,
        "vocab_size": 50, "bos_token_id": START, "eos_token_id": END, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
        "patch_size": PATCH, "image_size": SIDE,
    }  # fmt: skip
    known: dict[str, Any] = {
        "text_config": text, "vision_config": vision, "projection_dim": 16, "extract_layers": [0, 2],
        "reduce_dim": 8, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
        "use_complex_transposed_convolution": True,
    }  # fmt: skip
    return CLIPSegConfig(**known | changed)


def images(count: int, side: int = SIDE, seed: int = 0) -> Tensor:
    """float [count, 3, side, side], as if normalised."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def tokens() -> Tensor:
    """Three distinct prompts of different lengths, int64 [3, 6]."""
    return torch.tensor(
        [[START, 7, END, 0, 0, 0], [START, 3, 4, 5, 6, END], [START, 9, 2, END, 0, 0]]
    )  # fmt: skip
