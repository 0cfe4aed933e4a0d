"""The bottleneck block that every adapter method is made of, and how one is attached to a module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class AdapterBlock(nn.Module):
    """`x + relu(up(relu(down(x))))`: ReLU after both layers, as published.

    x: float [..., width]; the same shape comes out.
    Source: VLSM-Adapter (arXiv 2405.06196), section 2.2.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.up(F.relu(self.down(x))))


def apply_after(module: nn.Module, block: AdapterBlock) -> AdapterBlock:
    """Makes `module` return its output through `block` (the first entry, where it returns a tuple)."""

    def hook(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (block(output[0]), *output[1:])
        return block(output)

    module.register_forward_hook(hook)
    return block
