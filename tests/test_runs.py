from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from vlsmctl import runs
from vlsmctl.errors import UsageError
from vlsmctl.files import write_json

MOMENT = time.struct_time((2026, 3, 4, 5, 6, 7, 2, 63, 0))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run starts in the same second."""
    real = time.strftime
    monkeypatch.setattr(time, "strftime", lambda form: real(form, MOMENT))


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system, or a Windows user, that may not make links."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError("links are not allowed")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / runs.RUN, {"status": "finished"})
    return folder


@pytest.mark.usefixtures("frozen")
def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    folders = [runs.new_run(tmp_path, "phantom", 42) for _ in range(12)]
    assert folders[0] == tmp_path / "phantom" / "20260304-050607-42"
    assert len(set(folders)) == 12
    assert all(folder.is_dir() for folder in folders)
    for folder in folders:
        made(folder)
    assert runs.runs_of(tmp_path, "phantom") == folders[::-1]


def test_the_newest_run_of_a_preset(tmp_path: Path) -> None:
    assert runs.runs_of(tmp_path, "phantom") == []
    made(tmp_path / "phantom" / "20260304-050607-42")
    newest = made(tmp_path / "phantom" / "20260304-050608-7")
    made(tmp_path / "other" / "20270101-000000-1")
    (tmp_path / "phantom" / "20280101-000000-1").mkdir()  # never got as far as run.json
    assert runs.runs_of(tmp_path, "phantom")[0] == newest


def test_latest_is_a_relative_link_so_that_the_folder_can_be_moved(tmp_path: Path) -> None:
    first, second = made(tmp_path / "runs" / "a" / "1"), made(tmp_path / "runs" / "b" / "2")
    runs.point_latest(tmp_path / "runs", first)
    runs.point_latest(tmp_path / "runs", second)
    moved = (tmp_path / "runs").rename(tmp_path / "moved")
    assert runs.find_run(None, moved).resolve() == (moved / "b" / "2").resolve()
    assert sorted(path.name for path in moved.iterdir()) == ["a", "b", "latest"]


@pytest.mark.usefixtures("without_links")
def test_latest_is_a_file_where_links_are_not_allowed(tmp_path: Path) -> None:
    first, second = made(tmp_path / "runs" / "a" / "1"), made(tmp_path / "runs" / "b" / "2")
    for run in (first, second):
        runs.point_latest(tmp_path / "runs", run)
        assert runs.find_run(None, tmp_path / "runs") == run
    assert (tmp_path / "runs" / "latest").read_text(encoding="utf-8") == "b/2\n"


def test_latest_where_a_link_cannot_be_renamed_over_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    first, second = made(tmp_path / "a" / "1"), made(tmp_path / "b" / "2")
    runs.point_latest(tmp_path, first)
    if not (tmp_path / "latest").is_symlink():
        pytest.skip("no links here")
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.is_symlink():
            raise PermissionError(13, "Access is denied")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    runs.point_latest(tmp_path, second)
    assert runs.find_run(None, tmp_path).resolve() == second.resolve()


@pytest.mark.parametrize("links", [True, False])
def test_latest_by_its_path(tmp_path: Path, links: bool, request: pytest.FixtureRequest) -> None:
    if not links:
        request.getfixturevalue("without_links")
    run = made(tmp_path / "runs" / "a" / "1")
    runs.point_latest(tmp_path / "runs", run)
    assert runs.find_run(tmp_path / "runs" / "latest", Path("elsewhere")).resolve() == run.resolve()


def test_no_run_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in ((None, tmp_path), (tmp_path / "latest",), (tmp_path / "empty",), (tmp_path / "no",)):
        with pytest.raises(UsageError, match="no run") as caught:
            runs.find_run(*arguments)
        assert "vlsmctl train --preset NAME" in str(caught.value.hint)


def test_latest_run_was_removed(tmp_path: Path) -> None:
    run = made(tmp_path / "a" / "1")
    runs.point_latest(tmp_path, run)
    (run / runs.RUN).unlink()
    run.rmdir()
    with pytest.raises(UsageError, match="no run"):
        runs.find_run(None, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3"])
def test_a_damaged_run_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / runs.RUN).write_bytes(content)
    with pytest.raises(UsageError, match=r"run\.json"):
        runs.read_run(tmp_path)


def test_read_run(tmp_path: Path) -> None:
    (tmp_path / runs.RUN).write_text(json.dumps({"seed": 1}), encoding="utf-8")
    assert runs.read_run(tmp_path) == {"seed": 1}
