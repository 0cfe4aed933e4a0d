from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.app import vlsmctl


def test_models_say_where_their_weights_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in vlsmctl("models", "--json").document}
    assert Path(rows["tiny"]["weights"], "model.safetensors").is_file()
    assert rows["clipseg"]["weights"] is None
    assert rows["clipseg"]["image_size"] == 352
    assert all(row["licence"] for row in rows.values())
    monkeypatch.setenv("COLUMNS", "300")
    assert "missing: vlsmctl weights fetch clipseg" in vlsmctl("models").out
