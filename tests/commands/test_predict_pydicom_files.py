"""The test files inside the installed pydicom package: predicted, or refused with a reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from tests.commands.app import vlsmctl
from vlsmctl.errors import SOME_FAILED
from vlsmctl.formats.scan import find_scans
from vlsmctl.ledger import LEDGER

FOLDER = Path(pydicom.__file__).parent / "data"
FOLDERS = ("test_files", "charset_files")
FEWEST_PREDICTED = 50  # scans; pydicom 3.0 holds more


def _files() -> list[Path]:
    return sorted(
        path for folder in FOLDERS for path in (FOLDER / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )  # fmt: skip


@pytest.mark.slow
def test_each_is_predicted_or_refused_with_a_reason(tmp_path: Path) -> None:
    """All of them in one batch."""
    folders = [FOLDER / folder for folder in FOLDERS]
    founds, problems = find_scans(folders)
    answer = vlsmctl(
        "predict", *folders, "--model", "tiny", "--prompt", "polyp", "--out", tmp_path / "out", "--json",
        code=SOME_FAILED,
    )  # fmt: skip
    entries = [json.loads(line) for line in (tmp_path / "out" / LEDGER).read_text().splitlines()]
    status = Counter(entry["status"] for entry in entries)
    assert status["done"] + status["empty"] >= FEWEST_PREDICTED
    assert {name: answer.document["counts"][name] for name in ("done", "empty", "failed", "skipped")} == {
        name: status[name] for name in ("done", "empty", "failed", "skipped")
    }
    in_a_scan = {file for found in founds for file in found.files}
    told = {problem.path: problem.reason for problem in problems}
    passed_over: Counter[str] = Counter()
    for path in _files():
        if path in in_a_scan or path in told or path.name == "DICOMDIR":  # which stands for its folder
            continue
        alone, why = find_scans([path])
        assert not alone, path
        passed_over[why[0].reason] += 1
    reasons = Counter(entry["reason"] for entry in entries if entry["output"] is None)
    _show(len(_files()), len(founds), status, reasons, passed_over)
    assert len(entries) == len(founds) + sum(not problem.harmless for problem in problems)
    for entry in entries:
        if entry["output"] is None:
            assert entry["reason"]
            assert "\n" not in entry["reason"]
            assert not entry["reason"].startswith(("could not be", "the mask cannot")), entry
        else:
            assert (tmp_path / "out" / entry["output"]).is_file(), entry


def _show(
    files: int, scans: int, status: Counter[str], reasons: Counter[str], passed_over: Counter[str]
) -> None:
    """Seen with `pytest -rP`."""
    print(f"{files} files, {scans} scans: {dict(status)}, passed over {sum(passed_over.values())}")
    for title, counts in (("failed or skipped", reasons), ("passed over", passed_over)):
        for reason, count in counts.most_common():
            print(f"{title}: {count} x {reason.removeprefix(str(FOLDER))}")
