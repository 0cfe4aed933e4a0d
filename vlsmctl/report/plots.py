"""Plots as SVG to stand in the page: the same numbers give the same bytes, text stays text, and no plot is
told by its colours alone.

Matplotlib is used through its objects, on a canvas of its own; nothing of pyplot's global state is touched.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vlsmctl.evaluation import Row
from vlsmctl.report.reading import Epoch

INK, FAINT, LINES = "#1c2733", "#5b6875", "#e3e7ec"
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#a3447e"
INCHES = (3.9, 2.75)
MANY = 1500  # points from which a cloud is drawn as pixels, which are smaller then
SIZE_CLASSES = ((0.1, "tiny"), (8, "small"), (30, "medium"), (100, "large"))  # upper ends, % of the image

# outcome -> (words, colour, hatch of bars, marker, whether it is filled)
OUTCOMES = {
    "both_present": ("both there", BLUE, "", "o", True),
    "both_empty": ("both empty", SKY, "....", "o", False),
    "missed": ("missed", RED, "////", "x", True),
    "false_alarm": ("false alarm", PURPLE, "xxxx", "^", False),
}
_STYLE = {
    "svg.hashsalt": "vlsmctl", "svg.fonttype": "none", "font.size": 9.5, "axes.edgecolor": "#8a95a1",
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT, "ytick.color": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "hatch.linewidth": 0.7,
    "xtick.major.size": 3, "ytick.major.size": 3, "legend.frameon": False, "legend.fontsize": 9,
    "axes.axisbelow": True, "grid.color": LINES, "grid.linewidth": 0.8, "path.simplify": True,
    "axes.titlesize": 9, "axes.unicode_minus": True,
}  # fmt: skip
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def dice_histogram(rows: Sequence[Row], mean: float | None, prefix: str) -> str:
    """How many cases have which Dice, told apart by outcome. rows: those that have scores."""

    def draw(axes: Axes) -> None:
        edges, bottom = np.linspace(0, 1, 21), np.zeros(20)
        for outcome, (words, colour, hatch, _, _) in OUTCOMES.items():
            values = [row.scores["dice"] for row in rows if row.outcome == outcome]
            if not values:
                continue
            heights = np.histogram(np.clip(values, 0, 1), edges)[0]
            some = heights > 0
            axes.bar(
                edges[:-1][some], heights[some], 0.05, bottom[some], align="edge",
                label=f"{words} ({len(values):,})",
                facecolor=colour if not hatch else "white", edgecolor=colour if hatch else "white",
                hatch=hatch or None, linewidth=0.6,
            )  # fmt: skip
            bottom += heights
        top = float(bottom.max()) * 1.18
        if mean is not None:
            axes.axvline(mean, color=INK, linewidth=1.2, dashes=(4, 2))
            right = mean < 0.75
            axes.text(
                mean + (0.015 if right else -0.015), top * 0.985, f"mean {mean:.3f}", va="top",
                ha="left" if right else "right", fontsize=9,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, top), xlabel="Dice", ylabel="cases")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(axis="y")
        _legend(axes)

    return _svg(draw, prefix)


def dice_by_size(rows: Sequence[Row], prefix: str) -> str:
    """Dice against the share of the image that the target covers; empty targets stand apart."""

    def draw(axes: Axes) -> None:
        sizes = {id(row): _percent(row) for row in rows}
        there = [size for size in sizes.values() if size]
        low = 10 ** np.floor(np.log10(min(there, default=1.0)))
        high = max(
            100.0 if max(there, default=1) > 40 else 10 ** np.ceil(np.log10(max(there, default=10))), 1
        )
        empty = low / max(3.2, 10 ** (0.16 * np.log10(high / low)))
        for outcome, (words, colour, _, marker, filled) in OUTCOMES.items():
            cases = [row for row in rows if row.outcome == outcome]
            if not cases:
                continue
            axes.plot(
                [sizes[id(row)] or _jittered(number, empty) for number, row in enumerate(cases)],
                [row.scores["dice"] for row in cases],
                marker, label=words, color=colour, markersize=5 if marker == "x" else 4.5,
                markerfacecolor=colour if filled else "white", alpha=0.8,
                markeredgewidth=1.1 if marker == "x" else 0.7,
                clip_on=False, rasterized=len(cases) > MANY, zorder=3,
            )  # fmt: skip
        axes.set_xscale("log")
        no_target = len(there) < len(sizes)
        left = empty / 1.7 if no_target else low
        axes.set(xlim=(left, high), ylim=(-0.02, 1.02), xlabel="target, % of the image", ylabel="Dice")
        ticks = [10.0**power for power in range(round(np.log10(low)), round(np.log10(high)) + 1)]
        names = [f"{tick:g}" for tick in ticks]
        axes.set_xticks([empty, *ticks] if no_target else ticks, ["none", *names] if no_target else names)
        axes.minorticks_off()
        _size_classes(axes, low, high)
        axes.grid(axis="y")
        _legend(axes)

    return _svg(draw, prefix)


def distance_curve(rows: Sequence[Row], unit: str, prefix: str) -> str:
    """The share of cases whose HD95 is at most so long. rows: those in this unit."""

    def draw(axes: Axes) -> None:
        found = sorted(rows, key=lambda row: row.scores["hd95"])
        distances = np.array([row.scores["hd95"] for row in found])
        shares = np.arange(1, len(found) + 1) / len(found)
        axes.step([0, *distances], [0, *shares], where="post", color=BLUE, linewidth=1.6)
        for outcome in ("missed", "false_alarm"):
            at = [number for number, row in enumerate(found) if row.outcome == outcome]
            if at:
                words, colour, _, marker, filled = OUTCOMES[outcome]
                axes.plot(
                    distances[at], shares[at], marker, color=colour, markersize=5, clip_on=False,
                    markerfacecolor=colour if filled else "white", label=f"{words} ({len(at):,})",
                    rasterized=len(at) > MANY,
                )  # fmt: skip
        half = float(np.median(distances))
        right = max(float(distances[-1]), 1.0) * 1.15
        axes.plot([0, half, half], [0.5, 0.5, 0], color=INK, linewidth=1, dashes=(4, 2))
        late = np.log1p(half) > 0.62 * np.log1p(right)
        axes.annotate(
            f"median {half:,.1f} {unit}", (half, 0.04), xytext=(-4 if late else 4, 0),
            textcoords="offset points", ha="right" if late else "left", fontsize=9,
        )  # fmt: skip
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)  # 0 is common, and so are failures far out
        axes.set(xlim=(0, right), ylim=(0, 1.02), xlabel=f"HD95, {unit}", ylabel="share of cases")
        axes.set_xticks([0, *(10.0**power for power in range(6) if 10.0**power <= right)])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
        axes.minorticks_off()
        axes.grid()
        _legend(axes)

    return _svg(draw, prefix)


def training_curve(epochs: Sequence[Epoch], name: str, best: int | None, prefix: str) -> str:
    """One of "loss", "dice" and "lr" over the epochs, the best epoch marked."""

    def draw(axes: Axes) -> None:
        points = [(each.epoch, value) for each in epochs if (value := getattr(each, name)) is not None]
        numbers, values = [number for number, _ in points], [value for _, value in points]
        few = len(points) <= 40
        if name == "lr":
            axes.step(numbers, values, where="mid", color=BLUE, linewidth=1.6)
            if min(values, default=0) > 0:
                axes.set_yscale("log")
                _plain_decades(axes, values)
        else:
            axes.plot(
                numbers, values, color=BLUE, linewidth=1.6, marker="o" if few else "", markersize=3,
            )  # fmt: skip
        axes.set(xlabel="epoch")
        if name == "dice":
            axes.set_ylim(0, 1.02)
        elif name == "loss" and min(values, default=-1) >= 0:
            axes.set_ylim(0, max(values) * 1.08 or 1)
        if best in numbers:
            value = values[numbers.index(best)]
            axes.axvline(best, color=INK, linewidth=1, dashes=(4, 2), zorder=1)
            if name == "dice":
                axes.plot([best], [value], "D", color=ORANGE, markeredgecolor=INK, markersize=6, zorder=4)
                late = best > (numbers[0] + numbers[-1]) / 2
                axes.annotate(
                    f"best: {value:.3f} in epoch {best}", (best, 0.05), xytext=(-5 if late else 5, 0),
                    textcoords="offset points", ha="right" if late else "left", fontsize=9,
                )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y")

    return _svg(draw, prefix, (0.15, 0.165, 0.81, 0.79))


def _percent(row: Row) -> float | None:
    """How much of the image the target covers, %; None for an empty one."""
    return 100 * row.target_foreground / row.elements if row.target_foreground and row.elements else None


def _jittered(number: int, place: float) -> float:
    """Somewhere near a place on a logarithmic axis, so that equal points can be told apart."""
    return float(place * 10 ** (0.16 * ((number * 0.618034) % 1 - 0.5)))


def _size_classes(axes: Axes, low: float, high: float) -> None:
    """Where one size class ends and the next begins."""
    start = low
    for end, word in SIZE_CLASSES:
        stop = min(end, high)
        if stop <= start:
            continue
        if np.log10(stop / start) > 0.3:
            axes.text(float(np.sqrt(start * stop)), 1.045, word, ha="center", fontsize=8.5, color=FAINT)
        if low < end < high:
            axes.axvline(end, color="#c3cad2", linewidth=0.8, dashes=(2, 2), zorder=1)
        start = stop


def _plain_decades(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at the values themselves, as there are few of them."""
    steps = sorted(set(values))
    if len(steps) > 6:
        steps = [steps[round(at)] for at in np.linspace(0, len(steps) - 1, 6)]
    axes.set_yticks(steps, [f"{step:.1e}".replace("e-0", "e-") for step in steps])
    axes.minorticks_off()
    axes.set_ylim(min(values) / 1.6, max(values) * 1.6)


def _legend(axes: Axes) -> None:
    """Above the plot, where it hides nothing; none where nothing is named."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.14, 1.05), ncols=2, borderaxespad=0,
            handletextpad=0.5, columnspacing=1.2, handlelength=1.4,
        )  # fmt: skip


@contextmanager
def _own_style() -> Any:
    """Nobody's settings but ours, whatever matplotlibrc says."""
    with rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font has not: the page's fonts have them
        rcdefaults()
        rcParams.update(_STYLE)
        yield


def _svg(
    draw: Callable[[Axes], None],
    prefix: str,
    place: tuple[float, float, float, float] = (0.135, 0.165, 0.825, 0.635),
) -> str:
    """place: of the axes in the figure, with room for a legend above them."""
    with _own_style():
        figure = Figure(figsize=INCHES)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        axes = figure.add_axes(place)
        axes.patch.set_visible(False)
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=_NO_METADATA, dpi=144)
    return _inlined(stream.getvalue(), prefix)


def _inlined(svg: str, prefix: str) -> str:
    """The drawing without what only a file needs; ids are kept where they are pointed to, and made unique
    to the page by `prefix`; the font is the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    svg = re.sub(r"\bfont-family:[^;\"]*;? ?", "", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1
    )
    svg = svg.replace("xlink:href=", "href=")
    targets = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(
        r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in targets else "", svg
    )
    svg = re.sub(r'(href="#|url\(#)', lambda found: found[1] + prefix, svg)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), svg)
    return _joined(svg.split("\n"))


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(filter(None, (line.strip() for line in lines)))
