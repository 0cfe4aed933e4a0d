"""report.html: what a run or an evaluation found, on one page that needs nothing else."""

from __future__ import annotations

from vlsmctl.report.page import PICTURES, REPORT, write_report
from vlsmctl.report.reading import is_evaluation

__all__ = ["PICTURES", "REPORT", "is_evaluation", "write_report"]
