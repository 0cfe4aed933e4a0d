from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vlsmctl.files import atomic_path, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_final_name_appears_only_when_everything_is_written(tmp_path: Path) -> None:
    final = tmp_path / "new" / "mask.nii.gz"
    with atomic_path(final) as path:
        assert path.parent == final.parent  # the same file system, so that renaming is atomic
        assert path.name.endswith(".nii.gz")
        path.write_bytes(b"half")
        assert not final.exists()
        path.write_bytes(b"whole")
    assert final.read_bytes() == b"whole"
    assert names(final.parent) == ["mask.nii.gz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "run.json"
    final.write_text("old", encoding="utf-8")

    def write() -> None:
        with atomic_path(final) as path:
            path.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        write()
    assert final.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["run.json"]


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass
    assert names(tmp_path) == []


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    final = tmp_path / "x.txt"
    with atomic_path(final) as first, atomic_path(final) as second:
        assert first != second
        first.write_text("1", encoding="utf-8")
        second.write_text("2", encoding="utf-8")
    assert final.read_text(encoding="utf-8") == "1"  # the last to finish
    assert names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("stem", ["a" * 250, "ü" * 125])
def test_names_as_long_as_the_file_system_allows(tmp_path: Path, stem: str) -> None:
    final = tmp_path / f"{stem}.png"
    try:
        final.touch()
    except OSError:
        pytest.skip("this file system has shorter names")
    with atomic_path(final) as path:
        assert path.suffix == ".png"
        path.write_bytes(b"1")
    assert final.read_bytes() == b"1"


def test_text_and_json_are_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ä\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\nb\n".encode()
    document = {"ä": [1, None, 0.5]}
    write_json(tmp_path / "a.json", document)
    content = (tmp_path / "a.json").read_bytes()
    assert json.loads(content) == document
    assert content.endswith(b"\n")
    assert "ä".encode() in content


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_bytes()) == 1
    assert names(tmp_path) == ["a.json"]


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "kept.safetensors") as path:
        save_file({"x": torch.zeros(2)}, path)
    assert (tmp_path / "kept.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
