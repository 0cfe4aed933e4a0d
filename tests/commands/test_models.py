from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.app import vlsmctl


def test_models_say_where_their_weights_are(monkeypatch: pytest.MonkeyPatch, no_cache: Path) -> None:
    rows = {row["name"]: row for row in vlsmctl("models", "--json").document}
    assert Path(rows["tiny"]["weights"], "model.safetensors").is_file()
    assert rows["clipseg"]["weights"] is None
    assert rows["clipseg"]["image_size"] == 352
    assert all(row["licence"] for row in rows.values())
    monkeypatch.setenv("COLUMNS", "300")
    assert "missing: vlsmctl weights fetch clipseg" in vlsmctl("models").out
