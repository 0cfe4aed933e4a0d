"""Any numbers to the 0..255 of a picture, by robust percentiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)
SAMPLED_FRAMES = 64
SAMPLED_VALUES = 2**16  # of one frame; 64 frames of float64 make 32 MiB
_CHUNK = 2**16  # values; their float64 copies stay in the processor's cache
_TABLE_BITS = 16
_TABLE_PAYS = 2**14  # values; below, a table costs more than it spares


def robust_range(
    read_values: Callable[[int], NDArray[np.generic]], frame_count: int
) -> tuple[float, float]:
    """The values to show as black and as white: the 0.5th and 99.5th percentile of the whole scan.

    read_values: number of the frame -> real numbers of any shape (or `thinned`). Of a large scan, at
    most 64 evenly spread frames and 65,536 evenly spread values of each are looked at, so that memory
    stays below 64 MiB beside one frame. NaN and infinities are left out. Where nearly all values are the
    same, the percentiles meet, and minimum and maximum take their place.
    """
    numbers = sampled_frames(frame_count)
    sample = np.concatenate([_finite(read_values(number)) for number in numbers])
    if sample.size == 0:
        return 0.0, 0.0
    with np.errstate(all="ignore"):  # between the largest floats there are, percentiles overflow
        low, high = (float(edge) for edge in np.percentile(sample, PERCENTILES))
    return (low, high) if low < high else (float(sample.min()), float(sample.max()))


def sampled_frames(frame_count: int) -> list[int]:
    """The numbers of the frames that `robust_range` looks at, ascending."""
    spread = np.linspace(0, frame_count - 1, min(frame_count, SAMPLED_FRAMES)).astype(int)
    return [int(number) for number in np.unique(spread)]


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """The evenly spread values of one frame, at most 65,536, that `robust_range` looks at."""
    flat = values.reshape(-1)
    return flat[:: -(-flat.size // SAMPLED_VALUES) or 1]


def to_grey(
    values: NDArray[np.generic], low: float, high: float, slope: float = 1.0, inter: float = 0.0
) -> NDArray[np.uint8]:
    """Real numbers -> uint8 of the same shape; low and below 0, high and above 255, NaN 0.

    slope, inter: what makes the true values, which low and high are meant for, of stored ones. Integers
    of up to 16 bits go through a table, which gives the same bytes several times faster; the memory
    needed is that of the result and 4 MiB.
    """
    if not low < high:
        return np.zeros(values.shape, dtype=np.uint8)
    window = (float(low), float(high), float(slope), float(inter))
    dtype = values.dtype
    if dtype.kind in "iu" and 8 * dtype.itemsize <= _TABLE_BITS and values.size >= _TABLE_PAYS:
        native = values.astype(dtype.newbyteorder("="), copy=False)
        unsigned = native.view(np.dtype(f"u{dtype.itemsize}"))
        grey: NDArray[np.uint8] = _table(native.dtype.str, *window)[unsigned]
        return grey
    flat = values.reshape(-1)
    result = np.empty(flat.shape, dtype=np.uint8)
    for start in range(0, flat.size, _CHUNK):
        result[start : start + _CHUNK] = _grey(flat[start : start + _CHUNK], *window)
    return result.reshape(values.shape)


def as_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W] -> uint8 [H, W, 3]."""
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


@lru_cache(maxsize=16)
def _table(dtype: str, low: float, high: float, slope: float, inter: float) -> NDArray[np.uint8]:
    """uint8, one for every integer of a dtype, in the order of their unsigned bits."""
    native = np.dtype(dtype)
    bits = np.arange(2 ** (8 * native.itemsize), dtype=np.dtype(f"u{native.itemsize}"))
    table = _grey(bits.view(native), low, high, slope, inter)
    table.setflags(write=False)
    return table


def _grey(values: NDArray[Any], low: float, high: float, slope: float, inter: float) -> NDArray[np.uint8]:
    if not np.isfinite(high - low):  # no float holds the span of the largest floats
        return _grey(values, low / 4, high / 4, slope / 4, inter / 4)
    with np.errstate(all="ignore"):  # infinities may meet, or numbers become too large, on the way
        numbers = values.astype(np.float64)
        if slope != 1.0:
            numbers *= slope
        if inter != 0.0:
            numbers += inter
        np.nan_to_num(numbers, copy=False, nan=low, posinf=high, neginf=low)
        np.clip(numbers, low, high, out=numbers)
        numbers -= low
        numbers /= high - low
        numbers *= 255
        np.rint(numbers, out=numbers)
        return numbers.astype(np.uint8)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # of long doubles
        numbers = thinned(values).astype(np.float64)
    return numbers[np.isfinite(numbers)]
