"""Several processes share the work: each mask is made once, and the ledgers become one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.commands.app import ROOT, vlsmctl
from tests.commands.forked import forked_ranks
from tests.commands.scans import counts_of, made, write_series
from tests.datasets.fakes import picture, save
from tests.formats.generators import write_nifti
from vlsmctl.errors import INTERRUPTED, SOME_FAILED

PICTURES, CASES = 60, 63

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process"),
]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, two volumes and a series."""
    scans, rng = tmp_path_factory.mktemp("shared") / "scans", np.random.default_rng(8)
    for index in range(PICTURES):
        save(scans / f"case{index:03d}.png", picture(index, 40, 64))
    for name in "ab":
        write_nifti(scans / f"{name}.nii.gz", rng.integers(0, 99, (24, 20, 6)).astype(np.int16), np.eye(4))
    write_series(scans / "series")
    return scans


@pytest.fixture(scope="module")
def alone(scans: Path) -> Path:
    """What one process makes of them."""
    out = scans.parent / "alone"
    assert counts_of(vlsmctl(*_command(scans, out))) == made(CASES)
    return out


def _command(scans: Path, out: Path) -> list[str]:
    return ["predict", str(scans), "--model", "tiny", "--prompt", "polyp", "--out", str(out), "--json",
            "--batch-size", "2"]  # fmt: skip


def test_each_mask_is_made_once(scans: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ranks = forked_ranks(_command(scans, out), tmp_path / "said")
    assert _codes(ranks) == [0, 0]
    assert _counts(tmp_path / "said") == made(CASES)  # standard output is one document
    assert not (tmp_path / "said1").read_text()  # of the first process alone
    lines = _lines(out)
    assert len(lines) == len({line["input"] for line in lines}) == CASES == len(_masks(out))
    assert not _leftovers(out)
    stamps = {path: path.stat().st_mtime_ns for path in _masks(out)}
    assert _codes(forked_ranks(_command(scans, out), tmp_path / "again")) == [0, 0]
    assert _counts(tmp_path / "again") == made(before=CASES)
    assert counts_of(vlsmctl(*_command(scans, out))) == made(before=CASES)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert not _leftovers(out)
    assert _facts(out) == _facts(alone)
    for path in _masks(out):
        if path.suffix != ".dcm":
            assert path.read_bytes() == (alone / path.relative_to(out)).read_bytes()


def test_under_torchrun_with_a_bad_file(scans: Path, alone: Path, tmp_path: Path) -> None:
    """The launcher ends with a code of its own, and names that of its processes."""
    bad, out = tmp_path / "bad.png", tmp_path / "out"
    bad.write_bytes((scans / "case000.png").read_bytes()[:200])
    process = _launched([*_command(scans, out), str(bad)], tmp_path)
    said, errors = _ended(process)
    assert counts_of_text(said) == made(CASES, failed=1)
    assert f"exitcode  : {SOME_FAILED}" in errors
    assert "internal error" not in errors
    assert not _leftovers(out)
    assert {key: value for key, value in _facts(out).items() if key} == _facts(alone)


def test_a_killed_process(scans: Path, tmp_path: Path) -> None:
    """The launcher ends the other one; others, and then one alone, go on where they were."""
    out = tmp_path / "out"
    process = _launched(_command(scans, out), tmp_path)
    _wait(lambda: len(_masks(out)) >= 6, process)
    _rank(process, 1).kill()
    _ended(process)
    assert process.returncode != 0
    there = len(_masks(out))
    entered = {line["output"]: (out / str(line["output"])).stat().st_mtime_ns for line in _lines(out)}
    assert there - 2 <= len(entered) <= there < CASES  # each has one mask in hand at most
    assert _codes(forked_ranks(_command(scans, out), tmp_path / "said")) == [0, 0]
    assert _counts(tmp_path / "said") == made(CASES - len(entered), before=len(entered))
    assert {name: (out / str(name)).stat().st_mtime_ns for name in entered} == entered
    assert len(_lines(out)) == CASES == len(_masks(out))
    assert not list(out.glob("predictions.rank*"))
    assert counts_of(vlsmctl(*_command(scans, out))) == made(before=CASES)


def test_asked_to_stop_all_finish_what_is_in_hand(scans: Path, tmp_path: Path) -> None:
    """The launcher hands SIGTERM on to its processes."""
    out = tmp_path / "out"
    process = _launched(_command(scans, out), tmp_path)
    _wait(lambda: len(_masks(out)) >= 4, process)
    process.send_signal(signal.SIGTERM)
    said, errors = _ended(process)
    assert json.loads(said)["interrupted"]
    assert "internal error" not in errors
    there = len(_masks(out))
    assert 4 <= there == len(_lines(out)) < CASES
    assert not _leftovers(out)
    assert counts_of(vlsmctl(*_command(scans, out))) == made(CASES - there, before=there)


def test_one_that_is_asked_to_stop_stops_alone(scans: Path, tmp_path: Path) -> None:
    """The other one does its part, and both say that it was interrupted."""
    out = tmp_path / "out"
    ranks = forked_ranks(_command(scans, out), tmp_path / "said")
    _wait(lambda: len(_masks(out)) >= 4, ranks[0])
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert _codes(ranks) == [INTERRUPTED, INTERRUPTED]
    assert json.loads((tmp_path / "said").read_text(encoding="utf-8"))["interrupted"]
    there = len(_masks(out))
    assert CASES // 2 <= there < CASES
    assert not _leftovers(out)
    assert counts_of(vlsmctl(*_command(scans, out))) == made(CASES - there, before=there)


def _launched(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "vlsmctl"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(  # noqa: S603
        [sys.executable, *launcher, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip


def _ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=120)
    finally:
        process.kill()


def _codes(ranks: list[Any]) -> list[int | None]:
    for rank in ranks:
        rank.join(60)
        rank.kill()  # if it still runs
    return [rank.exitcode for rank in ranks]


def _wait(happened: Callable[[], bool], process: Any) -> None:
    until = time.monotonic() + 90
    while not happened():
        code = process.poll() if isinstance(process, subprocess.Popen) else process.exitcode
        assert code is None, "it ended too early"
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.003)


def _rank(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    for child in psutil.Process(process.pid).children():
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError("there is no such process")


def _counts(said: Path) -> dict[str, int]:
    return counts_of_text(said.read_text(encoding="utf-8"))


def counts_of_text(said: str) -> dict[str, int]:
    counts = json.loads(said)["counts"]
    return made(counts["done"] + counts["empty"], counts["before"], counts["failed"], counts["skipped"])


def _lines(out: Path) -> list[dict[str, object]]:
    """Of the ledger, and of its parts while they are not merged."""
    return [
        json.loads(line)
        for path in out.glob("predictions*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.endswith("}")
    ]


def _facts(out: Path) -> dict[object, tuple[object, ...]]:
    return {line["output"]: (line["status"], line["foreground"], line["frames"]) for line in _lines(out)}


def _leftovers(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*") if path.name.startswith(".") or ".rank" in path.name]


def _masks(out: Path) -> list[Path]:
    return [
        path for path in out.rglob("*") if path.suffix in (".png", ".gz", ".dcm") and path.name[0] != "."
    ]
