"""Display windows: which values of a scan become black and white.

Source of the named ones: the values in general use in CT, as collected at
https://radiopaedia.org/articles/windowing-ct
"""

from __future__ import annotations

import math

from vlsmctl.errors import UsageError
from vlsmctl.formats.records import Window

AUTO = "auto"
# Name -> centre and width, Hounsfield units
CT_WINDOWS = {
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
    "bone": (400.0, 1800.0),
    "temporal-bone": (600.0, 2800.0),
    "soft-tissue": (50.0, 400.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "abdomen": (50.0, 400.0),
    "liver": (30.0, 150.0),
    "spine": (50.0, 250.0),
    "angio": (300.0, 600.0),
}


def parse_window(text: str) -> Window | None:
    """The window that `--window` names: auto (None), CENTER,WIDTH, or the name of a CT window, which
    holds for CT alone. Raises UsageError."""
    name = text.strip().lower()
    if name == AUTO:
        return None
    if name in CT_WINDOWS:
        return _window(*CT_WINDOWS[name], ct_only=True)
    try:
        center, width = (float(part) for part in name.split(","))
    except ValueError:
        center, width = math.nan, math.nan
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        names = ", ".join(CT_WINDOWS)
        raise UsageError(
            f"--window {text!r}: expected auto, CENTER,WIDTH (width above 0) or one of {names}",
            hint="--window 40,400",
        )
    return _window(center, width, ct_only=False)


def _window(center: float, width: float, *, ct_only: bool) -> Window:
    return Window(center - width / 2, center + width / 2, ct_only)
