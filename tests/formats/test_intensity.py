from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.formats.intensity import robust_range, to_grey

INTEGERS = ["i1", "u1", "<i2", ">i2", "<u2", ">u2"]


def _as_defined(values: NDArray[Any], low: float, high: float, slope: float, inter: float) -> NDArray[Any]:
    """What `to_grey` promises, in the plainest way."""
    true = values.astype(np.float64) * slope + inter
    return np.rint((true.clip(low, high) - low) / (high - low) * 255)


@pytest.mark.parametrize("dtype", [*INTEGERS, "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize(("slope", "inter"), [(1.0, 0.0), (0.37, -12.5), (-2.0, 5.0)])
def test_tables_and_arithmetic_give_the_same_bytes(dtype: str, slope: float, inter: float) -> None:
    numbers = np.random.default_rng(0).normal(20, 60, (200, 150))
    values = numbers.clip(
        *((np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype[-2] != "f" else (-1e9, 1e9))
    )
    values = values.astype(dtype)
    low, high = np.percentile(values * slope + inter, (0.5, 99.5))
    for each in (values, values.T, values[::-2, 3:], values[:3, :4]):
        assert np.array_equal(
            to_grey(each, low, high, slope, inter), _as_defined(each, low, high, slope, inter)
        )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_has_its_grey(dtype: str) -> None:
    """At the ends of the range, where unsigned bits and signed values part."""
    limits = np.iinfo(dtype)
    values = np.resize(np.arange(limits.min, limits.max + 1), 2**16).astype(dtype)
    low, high = limits.min / 2 - 0.3, limits.max / 2 + 0.3
    assert np.array_equal(to_grey(values, low, high), _as_defined(values, low, high, 1, 0))


@pytest.mark.parametrize("size", [6, 2**17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_numbers_that_are_none_or_endless(dtype: Any, size: int) -> None:
    values = np.resize(np.array([np.nan, -np.inf, np.inf, 0, 1, 2], dtype), size)
    assert to_grey(values, 0, 2)[:6].tolist() == [0, 0, 255, 0, 128, 255]


def test_spans_that_no_float_holds() -> None:
    most = np.finfo(np.float64).max
    values = np.array([-most, 0, most])
    assert np.isfinite(robust_range(lambda _: values, 1)).all()
    assert to_grey(values, -most, most).tolist() == [0, 128, 255]
    huge = np.array([0, np.finfo(np.longdouble).max])
    assert robust_range(lambda _: huge, 1) == (0, 0)
    assert to_grey(huge, 0, 1).tolist() == [0, 255]


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, 3), (np.nan, 1)])
def test_no_span_is_black(low: float, high: float) -> None:
    assert not to_grey(np.arange(9.0), low, high).any()


def test_the_range_is_robust() -> None:
    frames = np.random.default_rng(0).normal(100, 10, (300, 64, 64))
    frames[7, :2] = np.nan
    frames[8, :2] = np.inf
    frames[9, 0, 0] = 1e30
    low, high = robust_range(frames.__getitem__, len(frames))
    assert (low, high) == pytest.approx((100 - 25.8, 100 + 25.8), abs=1)
    assert robust_range(lambda _: np.full((4, 4), np.nan), 3) == (0, 0)
    almost = np.zeros((100, 100))
    almost[0, 0] = 7
    assert robust_range(lambda _: almost, 1) == (0, 7)
