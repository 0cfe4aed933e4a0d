from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vlsmctl.adapters.block import AdapterBlock, apply_after


def random_block(width: int = 5, bottleneck: int = 3) -> AdapterBlock:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AdapterBlock(width, bottleneck)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same random numbers in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_it_is_its_formula_with_relu_after_both_layers() -> None:
    block = random_block()
    x = torch.randn(2, 7, 5)
    hidden = (x @ block.down.weight.t() + block.down.bias).clamp(min=0)
    expected = x + (hidden @ block.up.weight.t() + block.up.bias).clamp(min=0)
    torch.testing.assert_close(block(x), expected)
    assert (block(x) >= x).all()  # the second ReLU: a block only ever adds
    assert (block(x) > x).any()


def test_shapes() -> None:
    block = random_block()
    assert (block.down.weight.shape, block.up.weight.shape) == ((3, 5), (5, 3))
    for shape in ((5,), (4, 5), (2, 3, 4, 5)):
        assert block(torch.zeros(shape)).shape == shape


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return 2 * x, "weights"


def test_apply_after_changes_the_output_of_the_module() -> None:
    block, x = random_block(), torch.randn(2, 5)
    module = nn.Identity()
    assert apply_after(module, block) is block
    assert module(x).equal(block(x))
    assert not list(module.parameters())  # the module does not own the block


def test_apply_after_changes_the_first_of_several_outputs() -> None:
    block, x, module = random_block(), torch.randn(2, 5), Pair()
    apply_after(module, block)
    first, second = module(x)
    assert first.equal(block(2 * x))
    assert second == "weights"
