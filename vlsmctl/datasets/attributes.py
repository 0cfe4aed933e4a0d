"""Words for what a mask shows: how large it is, where it lies.

The words and thresholds are MedVLSM's (arXiv 2308.07706, appendix); the place rule is the
corrected one, with thirds of the width for columns and thirds of the height for rows.
"""

from __future__ import annotations

PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
COUNT_WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip

SMALL_FROM, MEDIUM_FROM, LARGE_FROM = 0.001, 0.08, 0.30


def size_word(coverage: float) -> str:
    """The size word of an object that covers `coverage` (0..1) of the image."""
    if coverage > LARGE_FROM:
        return "large"
    if coverage > MEDIUM_FROM:
        return "medium"
    return "small" if coverage >= SMALL_FROM else "tiny"


def place_word(row: float, column: float, height: int, width: int) -> str:
    """The cell of a 3 x 3 grid in which a point (in pixels) lies."""
    return PLACES[min(2, int(3 * row / height))][min(2, int(3 * column / width))]


def count_word(count: int) -> str:
    """`count` as a word, up to ten; digits above."""
    return COUNT_WORDS[count] if count < len(COUNT_WORDS) else str(count)
