from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.datasets import fakes
from tests.datasets.fakes import fuseg
from vlsmctl.commands.prepare import prepare
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.errors import NoReadableInput, UsageError


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("prepare")(prepare)
    return app


def _run(app: typer.Typer, *arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_generic_with_options(app: typer.Typer, tmp_path: Path) -> None:
    raw, out = fakes.generic(tmp_path / "raw"), tmp_path / "data"
    shown = _run(
        app, "generic", "--raw", raw, "--out", out, "--class", "polyp", "--name", "mine", "--seed", 3
    )
    assert "7 train, 1 val, 2 test" in shown
    manifest = read_manifest(out / "mine")
    assert (manifest.info["class"], manifest.info["seed"]) == ("polyp", 3)


def test_without_a_name_all_layouts_are_recognised(app: typer.Typer, tmp_path: Path) -> None:
    fuseg.write(tmp_path / "raw" / "ulcers")
    fakes.generic(tmp_path / "raw" / "mine")
    asked = ("--raw", tmp_path / "raw", "--out", tmp_path / "data", "--json")
    document = json.loads(_run(app, *asked))
    assert [one["name"] for one in document["datasets"]] == ["fuseg"]
    assert [root["records"] for root in document["recognised"]] == [16]
    (own,) = document["own"]  # offered, not made: nobody has said what it shows
    assert own["command"].endswith("--name mine --class WORD")
    document = json.loads(_run(app, *asked, "--class", "polyp"))
    assert {one["name"] for one in document["datasets"]} == {"fuseg", "mine"}
    assert len(read_manifest(tmp_path / "data" / "fuseg").records) == 16


def test_left_out_files_are_shown_and_the_exit_code_says_so(app: typer.Typer, tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    fakes.truncate(raw / "images" / "case03.png")
    shown = _run(app, "generic", "--raw", raw, "--out", tmp_path / "data", code=3)
    assert "images/case03.png: expected a whole, readable file, found" in shown
    assert len(read_manifest(tmp_path / "data" / "raw").records) == 9


def test_one_bad_set_does_not_cost_the_others(app: typer.Typer, tmp_path: Path) -> None:
    fakes.generic(tmp_path / "raw" / "good")
    bad = fakes.generic(tmp_path / "raw" / "bad", count=2)
    for path in (bad / "images").iterdir():
        fakes.truncate(path)
    _run(app, "--raw", tmp_path / "raw", "--out", tmp_path / "data", "--class", "polyp", code=3)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["good"]


def test_plan_writes_nothing(app: typer.Typer, tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    (raw / "masks" / "case00.png").unlink()
    shown = _run(app, "--raw", raw, "--out", tmp_path / "data", "--plan")
    assert "pictures and masks of no known set: 9" in shown
    assert "paired by the rule: images/ and masks/ with equal names" in shown
    shown = _run(app, "--raw", raw, "--out", tmp_path / "data", "--plan", "--class", "polyp")
    assert "raw: 9 records" in shown
    assert "images/case00.png" in shown
    planned = json.loads(_run(app, "phantom", "--out", tmp_path / "data", "--plan", "--json"))
    assert planned["datasets"][0]["records"] == 224
    assert not (tmp_path / "data").exists()


def test_what_a_user_gets_wrong(app: typer.Typer, tmp_path: Path) -> None:
    fakes.generic(tmp_path / "raw" / "a")
    fakes.generic(tmp_path / "raw" / "b")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match="one data set, but there are 2"):
        _run(app, "--raw", tmp_path / "raw", "--name", "x", "--class", "y", "--out", tmp_path / "data")
    with pytest.raises(NoReadableInput, match="no known data set"):
        _run(app, "--raw", tmp_path / "nothing", "--out", tmp_path / "data")
    with pytest.raises(UsageError, match="found nothing"):
        _run(app, "fuseg", "--raw", tmp_path / "absent", "--out", tmp_path / "data")
    fakes.generic(tmp_path / "raw" / "A")
    if (tmp_path / "raw" / "a").samefile(tmp_path / "raw" / "A"):
        return  # a file system that does not tell a from A
    with pytest.raises(UsageError, match="would both become"):
        _run(app, "--raw", tmp_path / "raw", "--class", "y", "--out", tmp_path / "data")


def test_importing_the_command_is_light() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'PIL', 'yaml'}"
    code = f"import sys, vlsmctl.commands.prepare; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert ran.stdout.strip() == "[]"
