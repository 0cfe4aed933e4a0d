from __future__ import annotations

from pathlib import Path

import yaml

from tests.commands.app import error_line, vlsmctl
from vlsmctl.config import load_preset


def test_list_says_what_is_prepared(at_home: Path) -> None:
    prepared = {row["name"]: row["prepared"] for row in vlsmctl("presets", "--json").document}
    assert prepared["phantom"] is True
    assert prepared["fuseg"] is False
    shown = vlsmctl("presets").out
    assert "phantom" in shown
    assert "not prepared" in shown


def test_list_looks_where_it_is_told(here: Path, home: Path) -> None:
    assert not any(row["prepared"] for row in vlsmctl("presets", "--json").document)
    rows = vlsmctl("presets", "--data", home / "data", "--json").document
    assert [row["name"] for row in rows if row["prepared"]] == ["phantom"]


def test_what_show_prints_is_a_preset(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(vlsmctl("presets", "show", "phantom").out, encoding="utf-8")
    assert load_preset(str(copy)) == load_preset("phantom")
    assert vlsmctl("presets", "show", "phantom", "--json").document == yaml.safe_load(copy.read_text())


def test_unknown_preset_names_the_nearest() -> None:
    answer = vlsmctl("presets", "show", "phantm", code=2)
    assert "phantom" in answer.err
    assert "'phantm'" in error_line(answer)


def test_a_preset_that_is_no_yaml(tmp_path: Path) -> None:
    for number, text in enumerate(("data: [", "- a\n- b\n", "!!python/object/apply:os.getcwd []")):
        path = tmp_path / f"bad{number}.yaml"
        path.write_text(text)
        assert path.name in error_line(vlsmctl("presets", "show", path, code=2))
