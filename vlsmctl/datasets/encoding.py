"""How the masks of a data set are stored, decided for the whole set: one file alone may hold nothing but
zeros or noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vlsmctl.datasets.sources import BRIGHT, Drawn
from vlsmctl.errors import UsageError

_LISTED = 9


@dataclass(frozen=True)
class GreyValues:
    """The grey values of one mask: the highest; the distinct ones in 1..127, while none is higher (at most
    nine); how many pixels are neither 0 nor 255; how many there are; whether it is stored in colour."""

    peak: int
    dim: tuple[int, ...]
    between: int
    pixels: int
    coloured: bool


@dataclass(frozen=True)
class Encoding:
    """Foreground is a grey value above `threshold` (0..255). `notes`: what that means, for people."""

    threshold: int
    notes: tuple[str, ...] = ()


def grey_values(drawn: Drawn) -> GreyValues:
    """Counts the values of a decoded mask."""
    counts = np.bincount(drawn.grey.ravel(), minlength=256)
    values = np.flatnonzero(counts)
    peak = int(values[-1])
    dim = tuple(int(value) for value in values if value) if peak <= BRIGHT else ()
    return GreyValues(peak, dim[:_LISTED], int(counts[1:255].sum()), drawn.grey.size, drawn.coloured)


def own_threshold(values: GreyValues) -> int:
    """What a mask on its own looks like: one of 0 and 1 (or another dim value), or of black and white."""
    return 0 if values.peak <= BRIGHT else BRIGHT


@dataclass
class Survey:
    """The grey values of all masks of a data set."""

    masks: int = 0
    grey: int = 0
    coloured: int = 0
    between: int = 0
    pixels: int = 0
    peak: int = 0
    dim: set[int] = field(default_factory=set)

    def add(self, values: GreyValues) -> None:
        self.masks += 1
        self.grey += values.between > 0
        self.coloured += values.coloured
        self.between += values.between
        self.pixels += values.pixels
        self.peak = max(self.peak, values.peak)
        self.dim.update(values.dim)

    def encoding(self) -> Encoding:
        """Raises UsageError: several dim values, as label maps with more than one class have."""
        notes = []
        if self.coloured:
            notes.append(
                f"{self.coloured} of {self.masks} masks are stored in colour: the brightest channel counts"
            )
        if not self.peak:
            return Encoding(BRIGHT, (*notes, "all masks are empty"))
        if self.peak <= BRIGHT:
            dim = sorted(self.dim)
            if len(dim) > 1:
                labels = ",".join(f"{value}=NAME" for value in dim[:3])
                raise UsageError(
                    f"the masks hold the values {', '.join(map(str, [0, *dim[:8]]))}: expected two values,"
                    " background and foreground",
                    hint=f"if they are label numbers, say what each means: --labels {labels}",
                )
            return Encoding(0, (*notes, f"the masks hold 0 and {dim[0]}: read as 0 and 255"))
        if self.between:
            share = 100 * self.between / self.pixels
            notes.append(
                f"grey values between 0 and 255 in {self.grey} of {self.masks} masks (JPEG noise or soft"
                f" edges): threshold {BRIGHT} changes {share:.2g} % of pixels"
            )
        return Encoding(BRIGHT, tuple(notes))
