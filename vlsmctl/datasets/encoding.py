"""How the masks of a data set are stored, decided for the whole set: one file alone may hold nothing but
zeros or noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from PIL import Image

from vlsmctl.datasets.sources import BRIGHT, Drawn
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError

_FEW = 9  # different values that may be label numbers; more are shades
_NEAR = 5  # values that lie no further apart mean the same: some tools write 254 for 255
_STRAY = 0.1  # of the pixels that are not 0: other values than the highest are strays up to there


@dataclass(frozen=True)
class GreyValues:
    """The grey values of one mask.

    peak: the highest. dim: the different ones above 0, in order, where there are at most nine; else none.
    nonzero: how many pixels are not 0; at_peak: how many hold the highest value, or nearly; between: how
    many are neither 0 nor 255; pixels: how many there are. coloured: whether it is stored in colour. lossy:
    whether it is a JPEG, whose values are not quite those that were meant.
    """

    peak: int
    dim: tuple[int, ...]
    nonzero: int
    at_peak: int
    between: int
    pixels: int
    coloured: bool
    lossy: bool


@dataclass(frozen=True)
class Encoding:
    """Foreground is a grey value above `threshold` (0..255). `notes`: what that means, for people.
    `warnings`: what it may have cost them."""

    threshold: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def grey_values(drawn: Drawn) -> GreyValues:
    """Counts the values of a decoded mask."""
    counts = Image.fromarray(drawn.grey).histogram()
    values = [value for value, count in enumerate(counts) if count and value]
    peak = values[-1] if values else 0
    return GreyValues(
        peak=peak,
        dim=tuple(values) if len(values) <= _FEW else (),
        nonzero=sum(counts[1:]),
        at_peak=sum(counts[max(1, peak - _NEAR) : peak + 1]),
        between=sum(counts[1:255]),
        pixels=drawn.grey.size,
        coloured=drawn.coloured,
        lossy=drawn.lossy,
    )


def own_threshold(values: GreyValues) -> int:
    """What a mask on its own looks like: one of 0 and 1 (or another dim value), or of black and white."""
    return 0 if values.peak <= BRIGHT else BRIGHT


@dataclass
class _Sum:
    """Masks of one sort. many: those with more than nine values; values: those of the others. grey: how
    many have a value between 0 and 255. nonzero, between: pixels, as in GreyValues. tops: pixels at the
    peaks of their masks, by value."""

    masks: int = 0
    many: int = 0
    grey: int = 0
    nonzero: int = 0
    between: int = 0
    values: set[int] = field(default_factory=set)
    tops: Counter[int] = field(default_factory=Counter)

    def add(self, values: GreyValues) -> None:
        self.masks += 1
        self.many += not values.dim
        self.grey += values.between > 0
        self.nonzero += values.nonzero
        self.between += values.between
        self.values.update(values.dim)
        self.tops[values.peak] += values.at_peak

    @property
    def top(self) -> int:
        return max(self.tops, default=0)

    @property
    def others(self) -> int:
        """Pixels of another value than 0 and (nearly) the highest of all these masks."""
        return self.nonzero - sum(self.tops[self.top - step] for step in range(_NEAR + 1))


@dataclass
class Survey:
    """The grey values of all masks of a data set. Those that are not empty are of five sorts: `dim`
    (nothing above 127), `few` (at most nine values), `soft` (more), and `dim_jpeg` and `jpeg`, in which
    values tell less."""

    masks: int = 0
    coloured: int = 0
    pixels: int = 0
    dim: _Sum = field(default_factory=_Sum)
    few: _Sum = field(default_factory=_Sum)
    soft: _Sum = field(default_factory=_Sum)
    dim_jpeg: _Sum = field(default_factory=_Sum)
    jpeg: _Sum = field(default_factory=_Sum)

    def add(self, values: GreyValues) -> None:
        self.masks += 1
        self.coloured += values.coloured
        self.pixels += values.pixels
        if values.peak > BRIGHT:
            (self.jpeg if values.lossy else self.few if values.dim else self.soft).add(values)
        elif values.peak:
            (self.dim_jpeg if values.lossy else self.dim).add(values)

    def encoding(self) -> Encoding:
        """Raises UsageError: several values, as label maps with more than one class have."""
        notes = []
        if self.coloured:
            notes.append(
                f"{self.coloured} of {self.masks} masks are stored in colour: the brightest channel counts"
            )
        if self._bright:
            warnings = (*self._label_warnings(), *self._dim_warnings())
            return Encoding(BRIGHT, (*notes, *self._bright_notes()), warnings)
        if self.dim.masks or self.dim_jpeg.masks:
            return Encoding(0, (*notes, f"the masks hold 0 and {self._dim_value()}: read as 0 and 255"))
        return Encoding(BRIGHT, tuple(notes), ("all masks are empty",))

    @property
    def _bright(self) -> int:
        """How many masks have a value above 127."""
        return self.few.masks + self.soft.masks + self.jpeg.masks

    def _dim_value(self) -> int:
        """The one value of a set without a bright one. Raises UsageError: there are several."""
        values = self.dim.values | self.dim_jpeg.values
        if self.dim_jpeg.masks and (len(values) != 1 or self.dim_jpeg.many):
            raise UsageError(
                f"the masks are dim JPEG files, with values up to {max(self.dim.top, self.dim_jpeg.top)}:"
                " expected two values, background and foreground, which JPEG blurs",
                hint="store the masks as PNG files, with 0 and 255",
            )
        if len(values) != 1 or self.dim.many:
            raise _several(() if self.dim.many else values, self.dim.top)
        return values.pop()

    def _label_warnings(self) -> Iterator[str]:
        """Raises UsageError: few values, and often, so label numbers. (Strays are rare; the soft edges of
        a whole set have many values.)"""
        bright = self.few.nonzero + self.soft.nonzero
        mixed = self.few.others > _STRAY * bright
        # Each mask may show one class: dim ones would be read as empty, and the others as one class.
        apart = len(self.dim.values) > 1 and self.dim.nonzero > _STRAY * (bright + self.dim.nonzero)
        values = self.few.values | self.dim.values
        if (mixed or apart) and len(values - {255}) <= _FEW:
            raise _several(values, self.few.top)
        if mixed:
            yield (
                f"{self.few.masks} masks hold at most {_FEW} values each, all of them together"
                f" {_told(self.few.values)}: if they are label numbers, classes are lost, as all values"
                f" above {BRIGHT} are read as foreground; say what each means: --labels NUMBER=NAME,..."
            )

    def _dim_warnings(self) -> Iterator[str]:
        if self.dim.masks:
            values = "" if self.dim.many else f" (they hold {_told(self.dim.values)})"
            yield (
                f"{self.dim.masks} of {self.masks} masks have no value above {BRIGHT}{values} and are read"
                f" as empty, because {self._bright} have one; if they are not meant to be empty, store all"
                " masks alike, with 0 and 255"
            )

    def _bright_notes(self) -> Iterator[str]:
        if self.jpeg.grey:
            yield self._threshold_note("JPEG noise", self.jpeg.grey, self.jpeg.between)
        if self.dim_jpeg.masks:
            yield (
                f"{self.dim_jpeg.masks} of {self.masks} masks are JPEG files without a value above"
                f" {BRIGHT}: read as empty"
            )
        if self.few.values == {self.few.top} != {255} and not self.soft.masks:
            yield f"the masks hold 0 and {self.few.top}: read as 0 and 255"
        elif self.few.grey or self.soft.grey:
            why = "soft edges" if self.soft.grey else f"value {_told(self.few.values - {255})}"
            yield self._threshold_note(
                why, self.few.grey + self.soft.grey, self.few.between + self.soft.between
            )

    def _threshold_note(self, why: str, masks: int, between: int) -> str:
        share = 100 * between / self.pixels
        return (
            f"grey values between 0 and 255 in {masks} of {self.masks} masks ({why}): threshold {BRIGHT}"
            f" changes {share:.2g} % of pixels"
        )


_LABELS = "if they are label numbers, say what each means, but for those without a meaning: --labels"


def _several(values: Collection[int], peak: int) -> UsageError:
    """values: above 0, where they are known; peak: the highest."""
    if not values:
        found = f"many values, up to {peak}"
        labels = "NUMBER=NAME,..."
    else:
        found = f"the values {_told((0, *values))}"
        labels = ",".join(f"{value}=NAME" for value in sorted(values)[:3])
    return UsageError(
        f"the masks hold {found}: expected two values, background and foreground",
        hint=f"{_LABELS} {labels} (else store the masks with 0 and 255 alone)",
    )


def _told(values: Collection[int]) -> str:
    return listed([str(value) for value in sorted(values)], shown=_FEW + 2)
