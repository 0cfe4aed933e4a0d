"""Any numbers to the 0..255 of a picture, by robust percentiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)
SAMPLED_FRAMES = 64
SAMPLED_VALUES = 2**16  # of one frame; 64 frames of float64 make 32 MiB


def robust_range(
    read_values: Callable[[int], NDArray[np.generic]], frame_count: int
) -> tuple[float, float]:
    """The values to show as black and as white: the 0.5th and 99.5th percentile of the whole scan.

    read_values: number of the frame -> real numbers of any shape. Of a large scan, at most 64 evenly
    spread frames and 65,536 evenly spread values of each are looked at, so that memory stays below
    32 MiB beside one frame. NaN and infinities are left out. Where nearly all values are the same,
    the percentiles meet, and minimum and maximum take their place.
    """
    numbers = np.unique(np.linspace(0, frame_count - 1, min(frame_count, SAMPLED_FRAMES)).astype(int))
    sample = np.concatenate([_thinned(read_values(int(number))) for number in numbers])
    if sample.size == 0:
        return 0.0, 0.0
    low, high = (float(edge) for edge in np.percentile(sample, PERCENTILES))
    return (low, high) if low < high else (float(sample.min()), float(sample.max()))


def to_grey(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Real numbers -> uint8 of the same shape; low and below 0, high and above 255, NaN 0."""
    if not low < high:
        return np.zeros(values.shape, dtype=np.uint8)
    numbers = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low).clip(low, high)
    grey: NDArray[np.uint8] = np.rint((numbers - low) / (high - low) * 255).astype(np.uint8)
    return grey


def as_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W] -> uint8 [H, W, 3]."""
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _thinned(values: NDArray[np.generic]) -> NDArray[np.float64]:
    flat = values.reshape(-1)
    thinned = flat[:: -(-flat.size // SAMPLED_VALUES) or 1].astype(np.float64)
    return thinned[np.isfinite(thinned)]
