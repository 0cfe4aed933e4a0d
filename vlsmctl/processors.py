"""How many processors there are to work on."""

from __future__ import annotations

import os

MOST = 61  # processes that Windows lets one wait for


def processors() -> int:
    """The processors that this process may use, which may be fewer than the machine has."""
    try:
        return min(MOST, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on Windows and macOS
        return min(MOST, os.cpu_count() or 1)
