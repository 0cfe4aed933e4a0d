"""Pairs of mask files for tests: an organ on a grid, its scores, and what a refusal says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.mask_files import MaskPair, read_pair
from vlsmctl.metrics import METRICS, compare

SHAPE = (13, 11, 6)  # 143 pixels a frame: frames of bits begin within bytes


def organ(at: int = 0) -> NDArray[np.uint8]:
    """[columns, rows, slices], the same no way that it is turned; from the first slice to the last."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1 + at : 6 + at, 2:9, :] = 1
    drawn[6 + at : 8 + at, 2:4, 1:3] = 1
    return drawn


def slices(*numbers: int, at: int = 0) -> NDArray[np.uint8]:
    """A mask in these slices alone."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1 + at : 6 + at, 2:9, list(numbers)] = 1
    return drawn


def scores(pair: MaskPair) -> dict[str, float]:
    found = compare(pair.prediction, pair.target, pair.steps, pair.element)
    return {name: metric.compute(found, 2.0) for name, metric in METRICS.items()}


def refusal(prediction: Path | None, target: Path) -> str:
    """What is said of a pair that is refused: in one line, with both files named."""
    with pytest.raises(UnreadableFile) as refused:
        read_pair(prediction, target)
    said = str(refused.value)
    assert "\n" not in said
    assert str(target) in said
    assert prediction is None or str(prediction) in said
    return said
