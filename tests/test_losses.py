from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vlsmctl.losses import LOSSES, SMOOTH, dice_ce, paper


def sample(seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, 1, 8, 8, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(batch, 1, 8, 8, generator=generator) > 0.6).double()


def soft_dice(p: Tensor, mask: Tensor) -> Tensor:
    """1 - Dice of each sample, written out."""
    p, mask = p.flatten(1), mask.flatten(1)
    return 1 - (2 * (p * mask).sum(1) + SMOOTH) / (p.sum(1) + mask.sum(1) + SMOOTH)


def entropy(p: Tensor, mask: Tensor) -> Tensor:
    return -(mask * p.log() + (1 - mask) * (1 - p).log()).mean()


def test_dice_ce_is_its_formula() -> None:
    logits, mask = sample()
    p = logits.sigmoid()
    expected = 1.5 * soft_dice(p, mask).mean() + entropy(p, mask)
    assert dice_ce(logits, mask).item() == pytest.approx(expected.item(), abs=1e-9)
    weighted = dice_ce(logits, mask, dice_weight=0.25, ce_weight=3).item()
    assert weighted == pytest.approx((0.25 * soft_dice(p, mask).mean() + 3 * entropy(p, mask)).item())


def test_paper_applies_the_sigmoid_twice_in_the_second_term_only() -> None:
    logits, mask = sample()
    p = logits.sigmoid()
    expected = 1.5 * soft_dice(p, mask).mean() + entropy(p.sigmoid(), mask)
    assert paper(logits, mask).item() == pytest.approx(expected.item(), abs=1e-9)


def test_a_perfect_mask() -> None:
    _, mask = sample()
    logits = (mask * 2 - 1) * 60
    assert dice_ce(logits, mask).item() == pytest.approx(0, abs=1e-6)
    # the floor of the published loss: -log(sigmoid(1)) where marked, log(2) elsewhere
    marked = mask.mean().item()
    floor = marked * math.log(1 + math.exp(-1)) + (1 - marked) * math.log(2)
    assert paper(logits, mask).item() == pytest.approx(floor, abs=1e-6)
    assert floor > 0.31


@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_samples(name: str) -> None:
    logits, mask = sample()
    singles = [LOSSES[name](logits[k : k + 1], mask[k : k + 1]) for k in range(3)]
    assert LOSSES[name](logits, mask).item() == pytest.approx(torch.stack(singles).mean().item())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("marked", [0.0, 1.0])
@pytest.mark.parametrize("size", [0.0, 80.0])
def test_empty_and_full_masks_give_finite_losses_and_gradients(
    name: str, marked: float, size: float
) -> None:
    for sign in (-1, 1):
        logits = torch.full((2, 1, 4, 4), sign * size, requires_grad=True)
        loss = LOSSES[name](logits, torch.full((2, 1, 4, 4), marked))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.shape == ()
        assert math.isfinite(loss.item())
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_going_down_the_gradient_makes_it_smaller(name: str) -> None:
    logits, mask = sample()
    logits.requires_grad_()
    loss = LOSSES[name](logits, mask)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert LOSSES[name](logits - 5 * gradient, mask) < loss
