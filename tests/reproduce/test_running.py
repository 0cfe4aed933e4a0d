"""What is said of cells: times, reasons, exit codes. The grid itself: tests/commands/test_reproduce.py."""

from __future__ import annotations

import pytest
import torch

from vlsmctl.commands.reproduce import exit_code
from vlsmctl.config import load_preset
from vlsmctl.console import duration
from vlsmctl.errors import SOME_FAILED, MissingWeights, UsageError
from vlsmctl.reproduce.grid import FINISHED, PARTLY, Cell, Problem
from vlsmctl.reproduce.running import ELSEWHERE, FAILED, STOPPED, Ended, explained


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3600, "60 min"), (6000, "1 h 40 min"), (7200, "2 h"),
     (47.9 * 3600, "47 h 54 min"), (50 * 3600, "2 d 2 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_reasons_are_one_line() -> None:
    missing = explained(MissingWeights("no weights", hint="fetch them"), FAILED)
    assert missing == Problem(FAILED, "no weights", "fetch them", 5)
    for error in (torch.OutOfMemoryError("CUDA out of memory.\nmore"), MemoryError(),
                  RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")):  # fmt: skip
        short = explained(error, FAILED)
        assert short.message.startswith("out of memory")
        assert "train.batch_size" in str(short.hint)
        assert "\n" not in short.message
    assert (
        explained(OSError(5, "Input/output error"), FAILED).message
        == "OSError: [Errno 5] Input/output error"
    )
    assert explained(RuntimeError(""), FAILED).message == "RuntimeError"


def test_exit_codes() -> None:
    cell = Cell("phantom", load_preset("phantom"), None, None)
    some = Problem(PARTLY, "1 test picture could not be scored", None, SOME_FAILED)
    usage, weights = (Problem(FAILED, "x", None, kind.exit_code) for kind in (UsageError, MissingWeights))

    def code(*problems: Problem | None, state: str = FINISHED) -> int:
        return exit_code([Ended(cell, state, problem) for problem in problems])

    assert code() == code(None) == code(None, None) == 0
    assert code(None, state=STOPPED) == 0
    assert code(None, state=ELSEWHERE) == 3
    assert code(usage) == code(usage, usage) == 2
    assert code(weights, weights) == 5
    assert code(some) == code(some, None) == code(some, usage) == 3
    assert code(usage, None) == code(weights, None) == code(usage, weights) == 3
