"""Training losses: pure functions of logits and masks."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

SMOOTH = 1e-5

_dice_of_logits = DiceLoss(sigmoid=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
_dice_of_probabilities = DiceLoss(smooth_nr=SMOOTH, smooth_dr=SMOOTH)


def dice_ce(logits: Tensor, mask: Tensor, dice_weight: float = 1.5, ce_weight: float = 1.0) -> Tensor:
    """Soft Dice plus binary cross-entropy, mean over samples.

    logits, mask: float [B, 1, H, W], mask in 0..1.
    Source: VLSM-Adapter (arXiv 2405.06196), section 3; weights from its published configuration.
    """
    dice = _dice_of_logits(logits, mask)
    loss: Tensor = dice_weight * dice + ce_weight * F.binary_cross_entropy_with_logits(logits, mask)
    return loss


def paper(logits: Tensor, mask: Tensor) -> Tensor:
    """The loss as the published code computed it: probabilities passed where logits belong.

    The Dice term is the same as in `dice_ce`; in the cross-entropy the sigmoid acts twice, which
    keeps that term above 0.31 however good the mask is. For reproduction only.
    logits, mask: float [B, 1, H, W].
    """
    probability = logits.sigmoid()
    dice = _dice_of_probabilities(probability, mask)
    loss: Tensor = 1.5 * dice + F.binary_cross_entropy_with_logits(probability, mask)
    return loss


LOSSES = {"dice_ce": dice_ce, "paper": paper}
