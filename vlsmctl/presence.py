"""Is the target in the picture at all? A score of the logits, and its calibration to a probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

LARGEST = 0.005  # the share of a picture's pixels that its score is the mean of
FEWEST = 4  # pixels
# Gains in summed Dice, and spreads of scores relative to their size, that are rounding only
ROUNDING = 1e-9

Array = NDArray[np.float64]


class Presence(BaseModel):
    """How a score becomes the probability that the target is in the picture, learned from a validation set
    with `positives` pictures that show a target and `negatives` that do not.

    slope, intercept: probability = 1 / (1 + exp(-(slope * score + intercept))).
    threshold: a picture whose probability is below it holds nothing; 0 never suppresses anything.
    auc: area under the ROC curve of the score on the validation set, 0..1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: Annotated[float, Field(ge=0)]
    intercept: float
    threshold: Annotated[float, Field(ge=0, le=1)]
    positives: Annotated[int, Field(ge=1)]
    negatives: Annotated[int, Field(ge=1)]
    auc: Annotated[float, Field(ge=0, le=1)]


def presence_score(logits: Tensor) -> Tensor:
    """How strongly a target shows: the mean of the largest 0.5 % of each picture's logits (at least four
    pixels), before any resizing. logits: float [B, 1, S, S] -> float32 [B].

    Not the largest logit alone, which one stray pixel sets; nor the mean over the picture, in which a
    small target drowns; nor the marked area, which is 0 for every target that the threshold misses.
    """
    pixels = logits.float().flatten(1)
    number = min(max(FEWEST, int(LARGEST * pixels.shape[1])), pixels.shape[1])
    return pixels.topk(number, dim=1).values.mean(1)


def probability(presence: Presence, scores: Tensor) -> Tensor:
    """The probability that the target is present, float64 [B] on the CPU, for `scores` [B]. Rises with
    the score, or is the same for all where the validation set showed no such connection."""
    return _probability(presence.slope, presence.intercept, scores)


def why_uncalibrated(scores: Sequence[float], present: Sequence[bool]) -> str | None:
    """Why there is nothing to calibrate on, in words; None when there is."""
    if all(present):
        return "the validation set has no picture without a target"
    if not any(present):
        return "the validation set has no picture with a target"
    if not np.isfinite(scores).all():
        return "the model's output on the validation set is not finite"
    return None


def calibrate(scores: Sequence[float], present: Sequence[bool], dice: Sequence[float]) -> Presence | None:
    """The calibration from one validation set, all three [N]; None when it cannot be had
    (`why_uncalibrated`), and then nothing is ever suppressed.

    scores: of `presence_score`. present: whether the true mask marks anything. dice: of each picture as
    predicted, without suppression. The threshold is the one with the highest mean Dice, where a
    suppressed picture counts 1 without a target and 0 with one; of equal ones the lowest, so 0 (never)
    unless suppressing gains something: it cannot lower the Dice of the validation set.

    Source: J. Platt, Probabilistic outputs for support vector machines, in: Advances in Large Margin
    Classifiers, 1999 (logistic regression on targets drawn in by the size of the set, so that the slope
    stays finite where the score separates perfectly). The slope is kept at 0 or above: a score that
    ranks the wrong way round says nothing.
    """
    if why_uncalibrated(scores, present) is not None:
        return None
    from monai.metrics import (
        compute_roc_auc,  # here, because it takes seconds, and `predict` needs none of it
    )

    values, there = np.asarray(scores, np.float64), np.asarray(present, np.bool_)
    slope, intercept = _logistic(values, there)
    positives = int(there.sum())
    return Presence(
        slope=slope,
        intercept=intercept,
        threshold=_best_threshold(slope, intercept, values, there, np.asarray(dice, np.float64)),
        positives=positives,
        negatives=len(there) - positives,
        auc=float(compute_roc_auc(torch.from_numpy(values), torch.from_numpy(there).long())),
    )


def _probability(slope: float, intercept: float, scores: Tensor) -> Tensor:
    return torch.sigmoid(slope * scores.detach().cpu().double() + intercept)


def _logistic(scores: Array, present: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept by maximum likelihood, on Platt's targets."""
    from scipy.optimize import minimize

    positives, negatives = int(present.sum()), int((~present).sum())
    targets = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    middle, spread = scores.mean(), np.ptp(scores)
    if spread <= ROUNDING * np.abs(scores).max():
        return 0.0, float(np.log(targets.mean() / (1 - targets.mean())))
    unit = (scores - middle) / spread  # within -1..1, so that the search starts well whatever the scale

    def loss(parameters: Array) -> tuple[float, Array]:
        logit = parameters[0] * unit + parameters[1]
        missing = 1 / (1 + np.exp(-np.clip(logit, -500, 500))) - targets
        entropy = np.logaddexp(0, logit) - targets * logit
        return float(entropy.mean()), np.array([(missing * unit).mean(), missing.mean()])

    found = minimize(
        loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    ).x  # fmt: skip
    slope = float(found[0] / spread)
    return slope, float(found[1] - slope * middle)


def _best_threshold(
    slope: float, intercept: float, scores: Array, present: NDArray[np.bool_], dice: Array
) -> float:
    """Tries 0 and the middle between every two neighbouring scores."""
    chances = _probability(slope, intercept, torch.from_numpy(scores)).numpy()
    order = np.argsort(chances, kind="stable")
    ranked, lower, upper = scores[order], chances[order][:-1], chances[order][1:]
    cuts = _probability(slope, intercept, torch.from_numpy((ranked[:-1] + ranked[1:]) / 2)).numpy()
    cuts = np.where((lower < cuts) & (cuts <= upper), cuts, upper)  # next to 0 and 1 it may round to them
    gains = np.cumsum(np.where(present, -dice, 1 - dice)[order])[:-1]  # by suppressing all up to each
    gains[lower >= upper] = -np.inf  # no threshold tells the two apart
    best = gains.max(initial=0)
    if best <= ROUNDING:
        return 0.0
    return float(cuts[np.argmax(gains >= best - ROUNDING)])
