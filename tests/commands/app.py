"""The command line as tests call it: in this process, or, where that matters, in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from vlsmctl.cli import app

ROOT = Path(__file__).parents[2]
SMALL = ("--set", "model=tiny", "--set", "image_size=64", "--set", "train.batch_size=4")


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out, parse_constant=_no_constant)


def vlsmctl(*arguments: object, code: int = 0) -> Answer:
    """Runs the app in this process. Errors must be messages: a traceback or a bug fails the test."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    answer = Answer(result.exit_code, result.stdout, result.stderr)
    return checked(answer, code)


def checked(answer: Answer, code: int) -> Answer:
    assert "Traceback" not in answer.out + answer.err, answer.err
    assert "internal error" not in answer.err, answer.err
    assert answer.code == code, f"exit {answer.code}, expected {code}\n{answer.out}\n{answer.err}"
    return answer


def start(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, inherit: bool = True
) -> subprocess.Popen[str]:
    """Starts `vlsmctl` as a process of its own; env: is added to this one's, or, not to inherit, is all."""
    code = "from vlsmctl.cli import main; main()"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**(os.environ if inherit else {}), **(env or {}), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> Answer:
    """Waits for a started process."""
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return checked(Answer(process.returncode, out, err), code)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
    """Waits for something that a running process does."""
    until = time.monotonic() + seconds
    while not happened():
        if process.poll() is not None:
            raise AssertionError(f"ended too early, exit {process.returncode}: {process.communicate()}")
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)


def error_line(answer: Answer) -> str:
    """The one line that says what went wrong (what to try next may follow)."""
    (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    return line


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
