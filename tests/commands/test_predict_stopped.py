"""Prediction stopped at any instant: nothing half-written, and the same command finishes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.app import ended, start, vlsmctl, wait_until
from tests.datasets.fakes import picture, save

COUNT = 200

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process")


def _masks(out: Path) -> list[Path]:
    return [path for path in out.glob("*.png") if not path.name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGKILL", None)])
def test_stopped_prediction_goes_on(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    scans, out = tmp_path / "scans", tmp_path / "predictions"
    for index in range(COUNT):
        save(scans / f"case{index:03d}.png", picture(index, 40, 64))
    command = (
        "predict", scans, "--run", home / "runs" / "latest", "--out", out, "--batch-size", 2, "--json",
    )  # fmt: skip
    process = start(*command, cwd=tmp_path)
    wait_until(lambda: len(_masks(out)) >= 3, process)
    process.send_signal(number)
    killed = number == getattr(signal, "SIGKILL", None)
    answer = ended(process, -number if killed else 130)
    if not killed:
        assert answer.document["interrupted"]
        assert answer.document["counts"]["before"] == 0
        assert not list(out.glob(".*"))  # a polite stop leaves nothing lying about
    masks = _masks(out)
    assert 3 <= len(masks) < COUNT
    _assert_whole(masks)
    entered = [json.loads(line) for line in _whole_lines(out / "predictions.jsonl")]
    assert {entry["output"] for entry in entered} <= {path.name for path in masks}
    assert len(masks) - len(entered) <= (1 if killed else 0)
    counts = vlsmctl(*command).document["counts"]
    assert counts["before"] == len(entered)
    assert counts["done"] + counts["empty"] == COUNT - len(entered)
    assert len(_masks(out)) == COUNT
    _assert_whole(_masks(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_work_in_hand_is_finished(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    from vlsmctl.commands import predict

    @contextmanager
    def stopping(*_: object) -> Iterator[Callable[[], None]]:
        once = iter([number])  # a second Ctrl-C would stop at once

        def tick() -> None:
            for one in once:
                os.kill(os.getpid(), one)

        yield tick

    for index in range(COUNT // 4):
        save(tmp_path / "scans" / f"case{index:03d}.png", picture(index, 40, 64))
    out = tmp_path / "predictions"
    command = (
        "predict", tmp_path / "scans", "--run", home / "runs" / "latest", "--out", out, "--batch-size", 2,
    )  # fmt: skip
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(predict, "live_count", stopping)
        answer = vlsmctl(*command, code=130)
    assert signal.getsignal(number) == handler
    assert "the same command goes on" in answer.err
    made = len(_masks(out))
    assert 1 <= made < COUNT // 4
    assert f"{made} there already" in vlsmctl(*command).out
    assert len(_masks(out)) == COUNT // 4


def _assert_whole(masks: list[Path]) -> None:
    for path in masks:
        with Image.open(path) as mask:
            assert np.asarray(mask).shape == (40, 64)


def _whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line]
