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

import numpy as np
import psutil
import pytest

from tests.commands.app import ROOT, Answer, checked, vlsmctl
from tests.commands.scans import counts_of, made, write_series
from tests.datasets.fakes import picture, save
from tests.formats.generators import write_nifti
from vlsmctl.errors import INTERRUPTED, SOME_FAILED

PICTURES = 60
LEDGER = "predictions.jsonl"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process"),
]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, two volumes and a series: 63 cases."""
    scans, rng = tmp_path_factory.mktemp("shared") / "scans", np.random.default_rng(8)
    for index in range(PICTURES):
        save(scans / f"case{index:03d}.png", picture(index, 40, 64))
    for name in "ab":
        write_nifti(scans / f"{name}.nii.gz", rng.integers(0, 99, (24, 20, 6)).astype(np.int16), np.eye(4))
    write_series(scans / "series")
    return scans


COUNT = PICTURES + 3


def _command(scans: Path, out: Path) -> list[str]:
    return ["predict", str(scans), "--model", "tiny", "--prompt", "polyp", "--out", str(out), "--json",
            "--batch-size", "2"]  # fmt: skip


def _launched(arguments: list[str], cwd: Path, *, processes: int = 2) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "vlsmctl"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(  # noqa: S603
        [sys.executable, *launcher, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip


def _answer(process: subprocess.Popen[str]) -> Answer:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return Answer(process.returncode, out, err)


def _wait(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 90
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def _ranks(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers, by their rank."""
    children = [
        child for child in psutil.Process(process.pid).children() if "RANK" in _environment(child)
    ]
    return sorted(children, key=lambda child: int(_environment(child)["RANK"]))


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / LEDGER).read_text(encoding="utf-8").splitlines()]


def _hidden_and_parts(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*") if path.name.startswith(".") or "rank" in path.name]


def _masks(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.suffix in (".png", ".gz", ".dcm") and path.name[0] != "."]


def test_two_processes_make_each_mask_once(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = checked(_answer(_launched(_command(scans, out), tmp_path)), 0)
    assert counts_of(answer) == made(COUNT)  # and standard output is one document
    lines = _lines(out)
    assert len(lines) == len({line["input"] for line in lines}) == COUNT == len(_masks(out))
    assert sorted(line["output"] for line in answer.document["entries"]) == sorted(
        str(line["output"]) for line in lines
    )
    assert not _hidden_and_parts(out)
    stamps = {path: path.stat().st_mtime_ns for path in _masks(out)}
    again = checked(_answer(_launched(_command(scans, out), tmp_path)), 0)
    assert counts_of(again) == made(before=COUNT)
    assert counts_of(vlsmctl(*_command(scans, out))) == made(before=COUNT)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert not _hidden_and_parts(out)
    alone = vlsmctl(*_command(scans, tmp_path / "alone")).document["entries"]
    facts = [
        {line["output"]: (line["status"], line["foreground"], line["frames"]) for line in each}
        for each in (lines, alone)
    ]
    assert facts[0] == facts[1]
    for path in _masks(out):
        if path.suffix != ".dcm":
            assert path.read_bytes() == (tmp_path / "alone" / path.relative_to(out)).read_bytes()


def test_a_killed_rank_and_a_bad_file(scans: Path, tmp_path: Path) -> None:
    """The launcher ends the rest; one process, and then two, go on where they were."""
    own, out = tmp_path / "scans", tmp_path / "out"
    for path in scans.glob("case*.png"):
        save(own / path.name, picture(int(path.stem[4:]), 40, 64))
    (own / "bad.png").write_bytes((scans / "case000.png").read_bytes()[:200])
    process = _launched(_command(own, out), tmp_path)
    _wait(lambda: len(_masks(out)) >= 6, process)
    _ranks(process)[1].kill()
    killed = _answer(process)
    assert killed.code != 0
    entered = sum(
        path.read_bytes().count(b"\n") for path in out.glob("predictions*.jsonl")
    )
    there = len(_masks(out))
    assert 6 <= there < PICTURES
    assert there - 2 <= entered <= there + 1  # the bad file may be among them
    answer = checked(_answer(_launched(_command(own, out), tmp_path)), SOME_FAILED)
    counts = counts_of(answer)
    assert counts["before"] + counts["made"] == PICTURES
    assert counts["before"] >= there - 2
    assert counts["failed"] == 1
    done = [line["input"] for line in _lines(out) if line["output"]]
    assert len(done) == len(set(done)) == PICTURES == len(_masks(out))
    assert not list(out.glob("predictions.rank*"))


def test_asked_to_stop_all_finish_what_is_in_hand(scans: Path, tmp_path: Path) -> None:
    """The launcher hands SIGTERM on to its processes."""
    out = tmp_path / "out"
    process = _launched(_command(scans, out), tmp_path)
    _wait(lambda: len(_masks(out)) >= 4, process)
    process.send_signal(signal.SIGTERM)
    stopped = _answer(process)
    assert stopped.code != 0
    if stopped.out:  # the launcher may itself end with a traceback of its own
        assert json.loads(stopped.out)["interrupted"]
    assert not [path for path in out.rglob(".*")]
    there = len(_masks(out))
    assert 4 <= there < COUNT
    assert counts_of(vlsmctl(*_command(scans, out))) == made(COUNT - there, before=there)
    assert not _hidden_and_parts(out)


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_asked_to_stop_one_rank_stops_alone_and_says_so(
    scans: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = _launched(_command(scans, out), tmp_path)
    _wait(lambda: len(_masks(out)) >= 4, process)
    for rank in _ranks(process):
        rank.send_signal(number)
    answer = _answer(process)
    assert json.loads(answer.out)["interrupted"]
    assert str(INTERRUPTED) in answer.err  # the launcher names the exit code of its processes
    there = len(_masks(out))
    assert not _hidden_and_parts(out)
    assert counts_of(vlsmctl(*_command(scans, out))) == made(COUNT - there, before=there)
