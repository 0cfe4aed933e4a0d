"""Prompts to CLIP token ids, offline: open_clip ships the vocabulary inside its package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

CONTEXT_LENGTH = 77


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def tokenize(prompts: Sequence[str]) -> Tensor:
    """Token ids, int64 [len(prompts), T], start and end tokens included, zero-padded.

    T is the length of the longest prompt here, 77 at most: CLIP's text encoder is causal and read
    at the end token, so padding beyond it cannot change anything. Longer prompts are cut at 77.
    """
    ids: Tensor = _tokenizer()(list(prompts), context_length=CONTEXT_LENGTH)
    # The end token has the highest id; zeros cannot be counted, because id 0 is a token too (a "!").
    longest = int(ids.argmax(dim=1).max()) + 1 if len(ids) else 2
    return ids[:, :longest]


def is_cut(prompt: str) -> bool:
    """Whether a prompt is longer than the model reads."""
    return len(_tokenizer().encode(prompt)) + 2 > CONTEXT_LENGTH


def distinct(prompts: Sequence[str]) -> tuple[list[str], Tensor]:
    """The distinct prompts in order of appearance, and for each prompt its place among them, int64 [N]."""
    positions: dict[str, int] = {}
    index = [positions.setdefault(prompt, len(positions)) for prompt in prompts]
    return list(positions), torch.tensor(index, dtype=torch.int64)
