"""Files damaged by chance and by malice: each is accounted for, none costs the batch, time or memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.commands.app import ROOT
from tests.commands.damaged import damaged, nested
from tests.commands.scans import SECRETS
from tests.commands.varied import write_varied
from vlsmctl.errors import SOME_FAILED, UnreadableFile
from vlsmctl.formats.scan import describe, find_scans
from vlsmctl.ledger import LEDGER

EACH = 16  # ways to damage each source: more than 500 files in all
SLOWEST = 10.0  # seconds for one file
MOST_MEMORY = 1.5 * 2**30  # bytes beyond what the model and its libraries take

# A process of its own, so that its memory is that of the batch alone: how far it grew, and the most that
# the processes took together that it has started.
_RUN = """
import sys, threading, time, psutil
from pathlib import Path
import torch
import vlsmctl.prediction
from vlsmctl.cli import main
from vlsmctl.predictor import predictor_from_model
predictor_from_model("tiny", device=torch.device("cpu"))
def peak():
    try:
        import resource
    except ImportError:
        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before, of_children, process = peak(), 0, psutil.Process()
def rss(child):
    try:
        return child.memory_info().rss
    except psutil.Error:
        return 0
def watch():
    global of_children
    while True:
        of_children = max(of_children, sum(map(rss, process.children())))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
try:
    main()
finally:
    Path("peak").write_text(f"{peak() - before} {of_children}")
"""


@dataclass(frozen=True)
class Broken:
    """folder: holds one damaged file, or a pair. what: the kind of file and what was done to it."""

    folder: Path
    what: str


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_varied(tmp_path_factory.mktemp("sources"))


def _write(sources: list[Path], folder: Path, part: str) -> Iterator[Broken]:
    if part == "dicom":
        for name, content in nested({path.name: path.read_bytes() for path in sources}).items():
            yield _one(folder / name.replace(".", "-"), name, content, name)
    for path in sources:
        if (path.suffix == ".dcm") != (part == "dicom"):
            continue
        content = path.read_bytes()
        for seed in range(EACH):
            word, bad = damaged(path.name, content, seed)
            broken = _one(folder / f"{path.parent.name}{path.suffix[1:]}{seed:02d}", path.name, bad,
                          f"{path.name} {word}")  # fmt: skip
            if path.suffix == ".hdr":
                (broken.folder / "pair.img").write_bytes(path.with_suffix(".img").read_bytes())
            yield broken


def _one(folder: Path, name: str, content: bytes, what: str) -> Broken:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    return Broken(folder, what)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "fewest"), [("dicom", 240), ("others", 280)])
def test_damaged_files(sources: list[Path], tmp_path: Path, part: str, fewest: int) -> None:
    broken = list(_write(sources, tmp_path / "scans", part))
    assert len(broken) >= fewest
    process = _predict(broken, tmp_path)
    assert process.returncode == SOME_FAILED, process.stderr[-2000:]
    for text in (process.stdout, process.stderr):
        assert "Traceback" not in text, text
        assert not any(secret in text for secret in SECRETS)
    peaks = [int(text) for text in (tmp_path / "peak").read_text().split()]
    print([f"{peak / 2**20:.0f} MiB" for peak in peaks])
    assert max(peaks) < MOST_MEMORY
    _assert_accounted_for(broken, tmp_path / "out")


def _predict(broken: list[Broken], cwd: Path) -> subprocess.CompletedProcess[str]:
    folders = [str(one.folder.relative_to(cwd)) for one in broken]
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", _RUN, "predict", *folders, "--model", "tiny", "--prompt", "polyp",
         "--out", "out", "--json", "--workers", "2"],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        encoding="utf-8", errors="replace", timeout=120, check=False,
    )  # fmt: skip


def _assert_accounted_for(broken: list[Broken], out: Path) -> None:
    entries = [json.loads(line) for line in (out / LEDGER).read_text(encoding="utf-8").splitlines()]
    by_folder: dict[str, list[dict[str, Any]]] = {one.folder.name: [] for one in broken}
    for entry in entries:
        by_folder[Path(entry["input"]).parts[1]].append(entry)  # below "scans"
    for one in broken:
        own = by_folder[one.folder.name]
        if not own:  # nothing that looks like a scan is left of it: named itself, it is told why
            files = sorted(one.folder.iterdir())
            found, problems = find_scans(files)
            assert not found, one.what
            assert all(problem.reason for problem in problems), one.what
            assert {problem.path for problem in problems} <= set(files)
            assert problems, one.what
        for entry in own:
            assert entry["seconds"] < SLOWEST, (one.what, entry)
            assert entry["status"] in ("done", "empty", "failed", "skipped")
            if entry["output"] is None:
                _assert_named(one, entry["reason"])
            else:
                assert (out / entry["output"]).is_file(), one.what
    made = [entry for entry in entries if entry["output"] is not None]
    written = {path.name for path in out.rglob("*") if path.is_file()}
    assert written == {LEDGER, *(Path(entry["output"]).name for entry in made)}


def _assert_named(one: Broken, reason: str) -> None:
    """In one line, by the reader itself: what only the batch catches is a reader's omission."""
    assert reason, one.what
    assert "\n" not in reason, (one.what, reason)
    assert not any(secret in reason for secret in SECRETS), (one.what, reason)
    assert not re.match(r"could not be|the mask cannot be written", reason), (one.what, reason)


@pytest.mark.slow
def test_damaged_files_can_be_listed(sources: list[Path], tmp_path: Path) -> None:
    """Finding and describing reads headers alone, so it runs in this process."""
    for part in ("dicom", "others"):
        folders = [one.folder for one in _write(sources, tmp_path / part, part)]
        times = [time.perf_counter()]
        founds, _ = find_scans(folders, lambda: times.append(time.perf_counter()))  # noqa: B023
        times.append(time.perf_counter())
        assert max(after - before for before, after in pairwise(times)) < SLOWEST
        for found in founds:
            started = time.perf_counter()
            try:
                describe(found)
            except UnreadableFile as error:
                _assert_named(Broken(found.root, str(found.source)), str(error))
            assert time.perf_counter() - started < SLOWEST
