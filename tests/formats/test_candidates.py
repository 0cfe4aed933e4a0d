from __future__ import annotations

from pathlib import Path

import pytest

from vlsmctl.formats.candidates import Search, candidates
from vlsmctl.formats.scan import searched_folder


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir"])
def test_an_index_stands_for_its_folder_and_all_else_for_itself(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).touch()
    (tmp_path / "a.png").touch()
    assert searched_folder(tmp_path / name) == tmp_path
    for path in (tmp_path, tmp_path / "a.png", tmp_path / "missing", tmp_path / "missing" / name):
        assert searched_folder(path) == path
    monkeypatch.chdir(tmp_path)
    assert searched_folder(Path(name)) == searched_folder(Path()) == Path()


def test_a_folder_of_the_name_of_an_index_stands_for_itself(tmp_path: Path) -> None:
    folder = tmp_path / "DICOMDIR"
    folder.mkdir()
    (folder / "a.png").touch()
    (tmp_path / "b.png").touch()
    assert searched_folder(folder) == folder
    found = list(candidates([folder], Search()))
    assert [(each.root, each.path, each.named) for each in found] == [(folder, folder / "a.png", False)]


def test_what_is_searched_is_the_root_of_what_is_found(tmp_path: Path) -> None:
    for name in ("DICOMDIR", "a", "b/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inputs = [tmp_path / "DICOMDIR", tmp_path / "b"]
    assert {each.root for each in candidates(inputs, Search())} == {tmp_path}
