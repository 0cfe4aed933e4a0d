"""Whether the network may be used. `--offline` says no, in the way that huggingface_hub listens to."""

from __future__ import annotations

import os

_SWITCH = "HF_HUB_OFFLINE"


def go_offline() -> None:
    """Forbids the network for the rest of the process and the processes it starts."""
    os.environ[_SWITCH] = "1"


def is_offline() -> bool:
    return os.environ.get(_SWITCH) == "1"
