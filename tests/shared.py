"""Real images beside the checkout, for tests that are skipped where there are none."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("VLSMCTL_SHARED", Path(__file__).parents[2] / "shared" / "data"))
