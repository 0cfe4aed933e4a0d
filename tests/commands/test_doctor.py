from __future__ import annotations

import platform
from importlib.metadata import version

from tests.commands.app import vlsmctl


def test_doctor_tells_of_this_machine() -> None:
    facts = vlsmctl("doctor", "--json").document
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == version("torch")
    assert facts["weights of tiny"]
    assert set(facts) >= {"device", "memory", "cpu cores", "network", "weights of clipseg"}
    shown = vlsmctl("doctor").out
    assert platform.python_version() in shown


def test_doctor_sees_offline() -> None:
    assert vlsmctl("--offline", "doctor", "--json").document["network"].startswith("off")
