from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands.app import error_line, vlsmctl
from tests.report import fakes


@pytest.fixture(scope="module")
def scored(home: Path) -> Path:
    """The run of `home`, scored."""
    run = (home / "runs" / "latest").resolve()
    vlsmctl("eval", run, "--json", "--no-report")
    return run


def test_of_the_latest_run_or_the_one_named(scored: Path, at_home: Path) -> None:
    page = scored / "report.html"
    page.unlink(missing_ok=True)
    assert Path(vlsmctl("report").out.strip()).resolve() == page
    first = page.read_bytes()
    assert vlsmctl("report", scored, "--json").document == {"report": str(page)}
    assert vlsmctl("report", "runs/latest").code == 0
    assert page.read_bytes() == first
    text = first.decode()
    assert "phantom test, prompts random" in text
    assert "Training loss" not in text  # of one epoch there is no curve
    assert text.count("data:image/jpeg") == 4
    assert str(at_home) not in text
    assert str(at_home.resolve()) not in text


def test_it_needs_the_files_of_the_run_alone(scored: Path, tmp_path: Path) -> None:
    moved = tmp_path / "runs" / "phantom" / scored.name
    shutil.copytree(scored, moved)
    (moved / "adapter.safetensors").unlink()
    shutil.rmtree(moved / "state")
    vlsmctl("report", moved)
    text = (moved / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 4
    vlsmctl("report", moved, "--pictures", 0)
    assert "data:image/jpeg" not in (moved / "report.html").read_text(encoding="utf-8")


def test_of_scores_without_a_run(tmp_path: Path) -> None:
    fakes.evaluation(tmp_path / "scores", fakes.data_set(tmp_path / "set", 4))
    assert Path(vlsmctl("report", tmp_path / "scores").out.strip()) == tmp_path / "scores" / "report.html"
    run = fakes.run(tmp_path)
    fakes.evaluation(run / "eval" / "a", fakes.data_set(tmp_path / "set", 4))
    vlsmctl("report", run / "eval" / "a")
    assert (run / "eval" / "a" / "report.html").is_file()
    assert not (run / "report.html").exists()


def test_of_something_else(tmp_path: Path) -> None:
    line = error_line(vlsmctl("report", tmp_path, code=2))
    assert str(tmp_path) in line
    assert "run.json" in line
    vlsmctl("report", tmp_path / "nowhere", code=2)
    vlsmctl("report", tmp_path, "--pictures", -1, code=2)
