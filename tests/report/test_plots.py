from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from vlsmctl.evaluation import Row
from vlsmctl.pairing import CasePair
from vlsmctl.report.plots import dice_by_size, dice_histogram, distance_curve, training_curve
from vlsmctl.report.reading import Epoch


def row(dice: float, target: int, predicted: int, hd95: float = 3.0) -> Row:
    pair = CasePair("case", None, Path("m.png"))
    return Row(pair, {"dice": dice, "hd95": hd95}, "px", target, predicted, 10_000)


ROWS = [
    *(row(0.9 - n / 100, 50 * n + 3, 40, n / 7) for n in range(1, 40)),
    row(0, 40, 0, 141), row(0, 9_000, 0, 141), row(0, 0, 30, 141), row(1, 0, 0, 0),
]  # fmt: skip
EPOCHS = [Epoch(n, 2.0 / n, 0.8 - 0.5 / n, 1e-3 * 0.3 ** (n // 9)) for n in range(1, 31)]
PLOTS: dict[str, Callable[[str], str]] = {
    "histogram": lambda prefix: dice_histogram(ROWS, 0.61234, prefix),
    "size": lambda prefix: dice_by_size(ROWS, prefix),
    "distance": lambda prefix: distance_curve(ROWS, "px", prefix),
    "one": lambda prefix: distance_curve(ROWS[:1], "mm", prefix),
    "all empty": lambda prefix: dice_by_size([row(1, 0, 0, 0)] * 2, prefix),
    "all perfect": lambda prefix: distance_curve([row(1, 50, 50, 0)] * 2, "px", prefix),
    "huge": lambda prefix: dice_by_size([row(0.5, 10_000, 10_000)] * 1600, prefix),
    **{
        name: lambda prefix, name=name: training_curve(EPOCHS, name, 29, prefix)  # type: ignore[misc]
        for name in ("loss", "dice", "lr")
    },
    "gaps": lambda prefix: training_curve([Epoch(1, None, None, 0.0), *EPOCHS[3:5]], "dice", 99, prefix),
    "negative": lambda prefix: training_curve([Epoch(1, -1.0, 0.5, 0.0)] * 2, "loss", 1, prefix),
    "no rate": lambda prefix: training_curve([Epoch(1, 1.0, 0.5, 0.0)] * 2, "lr", 1, prefix),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_stands_in_a_page(name: str) -> None:
    """Its ids are its own, every pointer has its end, and it loads and styles nothing outside."""
    before = dict(matplotlib.rcParams)
    svg = PLOTS[name]("x1")
    assert dict(matplotlib.rcParams) == before
    assert svg.startswith("<svg ")
    assert svg == PLOTS[name]("x1")
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert all(each.startswith("x1") for each in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg)) == set(ids)
    rest = re.sub(r'href="(#|data:image/png)', "", svg)
    assert not re.search(r"href|https?:|<style|<script|font-family|<metadata", rest)


def test_text_stays_text_and_numbers_stay_whole() -> None:
    svg = PLOTS["histogram"]("h")
    assert ">mean 0.612<" in svg
    assert ">missed (2)<" in svg
    assert ">false alarm (1)<" in svg
    assert ">best: 0.783 in epoch 29<" in PLOTS["dice"]("d")


def test_many_points_are_drawn_as_pixels() -> None:
    assert "data:image/png" in PLOTS["huge"]("x")
    assert len(PLOTS["huge"]("x")) < 60_000


def test_settings_of_a_user_change_nothing() -> None:
    plain = PLOTS["distance"]("x")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        assert PLOTS["distance"]("x") == plain


def test_outcomes_differ_by_more_than_colour() -> None:
    grey = re.sub(r"#[0-9a-f]{6}", "#777777", PLOTS["histogram"]("h"))
    assert len(set(re.findall(r"fill: url\(#(\w+)\)", grey))) == 3  # hatches of missed, false alarm, empty
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        marks = re.sub(r"#[0-9a-f]{6}", "#777777", PLOTS["size"]("s"))
    drawn = {found[1] for found in re.finditer(r'<path id="[^"]*" d="([^"]*)"', marks)}
    assert len(drawn) >= 5  # ticks of two axes, a dot, a cross, a triangle
