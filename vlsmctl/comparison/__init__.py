"""Runs, or any tools' masks, compared on the same cases."""

from __future__ import annotations

from vlsmctl.comparison.differences import RULES, Compared, compare_scores
from vlsmctl.comparison.files import (
    COMPARISON,
    DIFFERENCES,
    TABLE,
    compared_before,
    short_names,
    write_comparison,
)

__all__ = [
    "COMPARISON", "DIFFERENCES", "RULES", "TABLE", "Compared", "compare_scores", "compared_before",
    "short_names", "write_comparison",
]  # fmt: skip
