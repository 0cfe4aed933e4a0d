"""Prediction stopped at any instant: nothing half-written, and the same command finishes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.commands.app import vlsmctl
from tests.commands.forked import forked
from tests.commands.scans import write_series
from tests.commands.varied import write_varied
from tests.datasets.fakes import picture, save
from tests.formats.generators import write_nifti
from vlsmctl.errors import INTERRUPTED

COUNT = 200
KILLS = 10
ZERO_SHOT = ("--model", "tiny", "--prompt", "polyp")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process")


def _masks(out: Path) -> list[Path]:
    return [path for path in out.glob("*.png") if not path.name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_prediction_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    scans, out = tmp_path / "scans", tmp_path / "predictions"
    for index in range(COUNT):
        save(scans / f"case{index:03d}.png", picture(index, 40, 64))
    command = ["predict", str(scans), *ZERO_SHOT, "--out", str(out), "--batch-size", "2", "--json"]
    process = forked(command, tmp_path / "said.json")
    _wait_for_entries(out, 3, process)
    os.kill(process.pid or 0, number)
    process.join(60)
    assert process.exitcode == INTERRUPTED
    document = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    assert document["interrupted"]
    assert document["counts"]["before"] == 0
    assert not list(out.glob(".*"))  # a polite stop leaves nothing lying about
    masks = _masks(out)
    assert 3 <= len(masks) < COUNT
    _assert_whole(masks)
    entered = [entry["output"] for entry in _entries(out)]
    assert sorted(entered) == sorted(path.name for path in masks)
    counts = vlsmctl(*command).document["counts"]
    assert counts["before"] == len(entered)
    assert counts["done"] + counts["empty"] == COUNT - len(entered)
    assert len(_masks(out)) == COUNT
    _assert_whole(_masks(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_work_in_hand_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    for index in range(COUNT // 4):
        save(tmp_path / "scans" / f"case{index:03d}.png", picture(index, 40, 64))
    out = tmp_path / "predictions"
    command = ("predict", tmp_path / "scans", *ZERO_SHOT, "--out", out, "--batch-size", 2)
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr("vlsmctl.commands.predict.live_count", _stopping(number))
        answer = vlsmctl(*command, code=130)
    assert signal.getsignal(number) == handler
    assert "the same command goes on" in answer.err
    made = len(_masks(out))
    assert 1 <= made < COUNT // 4
    assert f"{made} there already" in vlsmctl(*command).out
    assert len(_masks(out)) == COUNT // 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_volume_in_hand_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Asked to stop when two of forty slices are done, while another volume waits."""
    scans, out, rng = tmp_path / "scans", tmp_path / "predictions", np.random.default_rng(4)
    for name in "ab":
        write_nifti(scans / f"{name}.nii.gz", rng.integers(0, 99, (16, 16, 40)).astype(np.int16), np.eye(4))
    command = (
        "predict", scans, *ZERO_SHOT, "--out", out, "--batch-size", 2, "--workers", 1, "--json",
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("vlsmctl.commands.predict.live_count", _stopping(number))
        document = vlsmctl(*command, code=130).document
    assert document["interrupted"]
    (entry,) = document["entries"]
    assert (entry["output"], entry["frames"]) == ("a.nii.gz", 40)
    assert _files(out) == {"a.nii.gz", "predictions.jsonl"}
    assert vlsmctl(*command).document["counts"]["before"] == 1
    assert _files(out) == {"a.nii.gz", "b.nii.gz", "predictions.jsonl"}


def _stopping(number: signal.Signals) -> Callable[..., Any]:
    """In the place of `live_count`: asks to stop when the first frames are done."""

    @contextmanager
    def stopping(*_: object) -> Iterator[Callable[[float], None]]:
        once = iter([number])  # a second Ctrl-C would stop at once

        def tick(_: float) -> None:
            for one in once:
                os.kill(os.getpid(), one)

        yield tick

    return stopping


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    """Pictures, volumes, a series, clips: what comes of them in the end is what an uninterrupted run makes,
    and nothing that was entered as done is done again."""
    scans, out = _mixed(tmp_path / "scans"), tmp_path / "predictions"
    command = ["predict", str(scans), *ZERO_SHOT, "--batch-size", "2", "--json", "--out"]
    count = len(vlsmctl(*command, tmp_path / "expected").document["entries"])
    rng = np.random.default_rng(6)
    stamps: dict[str, int] = {}
    for wanted in sorted(rng.integers(1, count - 20, KILLS).tolist()):
        process = forked([*command, out], tmp_path / "said.json")
        _wait_for_entries(out, wanted, process)
        time.sleep(rng.random() * 0.03)
        assert process.exitcode is None, "it ended before it could be killed"
        process.kill()
        process.join()
        stamps |= _assert_consistent(out, stamps)
    counts = vlsmctl(*command, out).document["counts"]
    assert counts["before"] == len(stamps) >= KILLS
    assert counts["done"] + counts["empty"] == count - counts["before"]
    stamps = _assert_consistent(out, stamps)
    assert len(stamps) == count
    assert vlsmctl(*command, out).document["entries"] == []
    _assert_equal(out, tmp_path / "expected")


def _mixed(scans: Path) -> Path:
    """200 files, of which 170 pictures, 10 volumes, one series of 8 files, and others of many kinds."""
    rng = np.random.default_rng(5)
    for index in range(COUNT - 30):
        save(scans / f"case{index:03d}.png", picture(index, 40, 64))
    for index in range(10):
        volume = rng.integers(0, 900, (24, 20, 3 + index)).astype(np.int16)
        write_nifti(scans / "volumes" / f"{index}.nii.gz", volume, np.eye(4))
    write_series(scans / "series", positions=[2.5 * number for number in range(8)])
    varied = write_varied(scans.parent / "varied")
    for path in [path for path in varied if path.suffix == ".dcm"][:12]:
        (scans / path.parent.name).mkdir()
        shutil.copy(path, scans / path.parent.name / path.name)
    assert len(_files(scans)) == COUNT
    return scans


def _wait_for_entries(out: Path, wanted: int, process: Any) -> None:
    """Counts lines of the ledger, of which killed runs before have written some."""
    until = time.monotonic() + 60
    ledger = out / "predictions.jsonl"
    while not ledger.exists() or ledger.read_bytes().count(b"\n") < wanted:
        assert process.exitcode is None, "it ended too early"
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.002)


def _assert_consistent(out: Path, before: dict[str, int]) -> dict[str, int]:
    """What a killed run has left; the masks that the ledger knows -> when they were written."""
    entered = [entry["output"] for entry in _entries(out)]
    assert len(entered) == len(set(entered)), "something was done twice"
    masks = _files(out) - {"predictions.jsonl"}
    assert set(entered) <= masks
    assert len(masks) - len(entered) <= 1  # what one thread writes and enters one after another
    stamps = {name: (out / name).stat().st_mtime_ns for name in entered}
    assert {name: stamps[name] for name in before} == before
    return stamps


def _assert_equal(out: Path, expected: Path) -> None:
    assert _files(out) == _files(expected)
    for name in _files(out) - {"predictions.jsonl"}:
        if name.endswith(".seg.dcm"):
            one, other = (pydicom.dcmread(folder / name) for folder in (out, expected))
            assert one.pixel_array.tobytes() == other.pixel_array.tobytes(), name
            assert one.NumberOfFrames == other.NumberOfFrames
        else:
            assert (out / name).read_bytes() == (expected / name).read_bytes(), name
    ends = [
        {
            entry["input"]: (entry["status"], entry["foreground"], entry["frames"])
            for entry in _entries(folder)
        }
        for folder in (out, expected)
    ]
    assert ends[0] == ends[1]


def _files(folder: Path) -> set[str]:
    """Those under final names: a killed process may leave hidden ones that it was writing."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def _assert_whole(masks: list[Path]) -> None:
    for path in masks:
        with Image.open(path) as mask:
            assert np.asarray(mask).shape == (40, 64)


def _entries(out: Path) -> list[dict[str, Any]]:
    """Of whole lines; a killed run may have cut the last one off, and the next ends it."""
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    entries = []
    for line in filter(None, lines):
        try:
            entries.append(json.loads(line))
        except ValueError:
            assert not line.endswith("}"), line
    return entries
