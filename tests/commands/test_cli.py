from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.commands.app import ROOT, SMALL, error_line, vlsmctl
from vlsmctl.cli import guarded
from vlsmctl.console import configure

COMMANDS = (
    ("quickstart",), ("prepare",), ("train",), ("eval",), ("predict",), ("reproduce",), ("report",),
    ("bench",), ("models",),
    ("doctor",),
    ("presets",), ("presets", "show"), ("weights",), ("weights", "fetch"),
    ("weights", "build"),
)  # fmt: skip
JSON_COMMANDS = (
    ("models",),
    ("doctor",),
    ("presets",),
    ("presets", "show", "phantom"),
)

HELP = """
import json, sys
from typer.testing import CliRunner
from vlsmctl.cli import app
told = {}
for command in [[], *json.loads(sys.argv[1])]:
    result = CliRunner().invoke(app, [*command, "--help"])
    told[" ".join(command)] = [result.exit_code, result.stdout]
heavy = {"torch", "transformers", "monai", "numpy", "nibabel", "pydicom", "huggingface_hub"}
print(json.dumps({"told": told, "heavy": sorted(heavy & set(sys.modules))}))
"""


def test_help_of_every_command_imports_nothing_heavy() -> None:
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", HELP, json.dumps(COMMANDS)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    document = json.loads(ran.stdout)
    assert document["heavy"] == []
    assert len(document["told"]) == 1 + len(COMMANDS)
    for command, (code, text) in document["told"].items():
        assert code == 0, command
        assert command in text
        assert "Usage" in text


def test_every_command_is_in_the_list_above() -> None:
    from vlsmctl.cli import app

    listed = {command[0] for command in COMMANDS}
    registered = {command.name for command in app.registered_commands}
    assert registered | {group.name for group in app.registered_groups} == listed


def test_version() -> None:
    assert vlsmctl("--version").out == f"vlsmctl {version('vlsmctl')}\n"


@pytest.mark.parametrize("command", JSON_COMMANDS, ids=" ".join)
def test_json_is_one_document_and_tables_are_none(command: tuple[str, ...], here: Path) -> None:
    assert vlsmctl(*command, "--json").document
    shown = vlsmctl(*command).out
    assert shown.strip()
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        json.loads(shown)
    assert not any(here.iterdir())


def test_wrong_command_and_option_are_usage_errors(here: Path) -> None:
    vlsmctl("segment", code=2)
    vlsmctl("predict", "a.png", "--no-such-option", code=2)
    vlsmctl("train", code=2)  # --preset is missing


def test_a_file_in_the_way_is_no_bug(at_home: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    answer = vlsmctl("train", "--preset", "phantom", *SMALL, "--out", blocked, code=2)
    assert "blocked" in error_line(answer)
    assert blocked.read_text() == "in the way"


def test_quiet_leaves_results_and_errors(here: Path, at_home: Path, tmp_path: Path) -> None:
    picture = next((at_home / "data" / "phantom" / "images").iterdir())
    answer = vlsmctl("--quiet", "predict", picture, "--prompt", "polyp", "--out", tmp_path / "masks")
    assert answer.err == ""
    assert str(tmp_path / "masks") in answer.out
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    answer = vlsmctl(
        "-q", "predict", picture, broken, "--prompt", "polyp", "--out", tmp_path / "m2", code=3
    )
    assert "broken.png" in answer.err
    assert "error: no preset" in vlsmctl("-q", "presets", "show", "nothing-like-it", code=2).err


def _app(error: BaseException) -> typer.Typer:
    def fail() -> None:
        raise error

    app = typer.Typer()
    app.command()(guarded(fail))
    return app


def test_a_bug_says_so_and_hides_the_traceback_unless_verbose() -> None:
    result = CliRunner().invoke(_app(RuntimeError("boom")), [])
    assert result.exit_code == 1
    assert "internal error: RuntimeError: boom" in result.stderr
    assert "bug in vlsmctl" in result.stderr
    assert "Traceback" not in result.stderr
    configure(quiet=False, verbose=True)
    try:
        assert "Traceback" in CliRunner().invoke(_app(RuntimeError("boom")), []).stderr
    finally:
        configure(quiet=False, verbose=False)


def test_interrupt_and_full_disk_have_their_exit_codes() -> None:
    result = CliRunner().invoke(_app(KeyboardInterrupt()), [])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    result = CliRunner().invoke(_app(OSError(28, "No space left on device")), [])
    assert (result.exit_code, result.stderr) == (2, "error: No space left on device\n")
    assert CliRunner().invoke(_app(OSError("of unknown make")), []).exit_code == 1
