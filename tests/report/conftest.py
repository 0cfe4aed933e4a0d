from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.report import fakes
from tests.report.pages import Page, page_of
from vlsmctl.pairing import CasePair


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[CasePair]:
    return fakes.data_set(tmp_path_factory.mktemp("set"), 30)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, pairs: list[CasePair]) -> Path:
    """A run with two evaluations."""
    run = fakes.run(tmp_path_factory.mktemp("home"))
    fakes.evaluation(
        run / "eval" / "phantom-test-random", pairs, fakes.about(paper=fakes.PAPER), protocol="paper"
    )
    fakes.age(run / "eval" / "phantom-test-random", 60)
    fakes.evaluation(
        run / "eval" / "phantom-test-all", fakes.each_prompt(pairs[:15]), fakes.about(prompts="all"),
        sensitivity=fakes.SENSITIVITY,
    )  # fmt: skip
    return run


@pytest.fixture(scope="session")
def written(made: Path) -> tuple[str, Page]:
    return page_of(made)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy, to break."""
    copy = tmp_path / "runs" / "phantom" / made.name
    shutil.copytree(made, copy)
    return copy
