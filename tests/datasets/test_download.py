from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.file_server import (
    FILE,
    OTHER,
    TENTHS,
    Server,
    failing,
    leave_part,
    no_waiting,
    published,
    serving,
    whole,
)
from vlsmctl.datasets import download as module
from vlsmctl.datasets.download import Download, fetch
from vlsmctl.errors import UnreadableFile, UsageError


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    no_waiting(monkeypatch)


def test_broken_at_every_tenth_of_its_length(tmp_path: Path) -> None:
    server = Server(breaks=list(TENTHS))
    with serving(server) as url:
        assert fetch(published(url), tmp_path / "raw") == tmp_path / "raw" / "set.zip"
    assert whole(tmp_path / "raw")
    assert server.ranges_asked == [None, *(f"bytes={place}-" for place in TENTHS)]
    assert {tag for _, _, tag in server.asked[1:]} == {'"one"'}
    assert server.sent == len(FILE)  # not a byte came twice


@pytest.mark.parametrize("place", TENTHS)
def test_stopped_at_any_tenth_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    def stop(done: int, total: int | None) -> None:
        assert total == len(FILE)
        if done >= place:
            raise KeyboardInterrupt

    server = Server()
    with serving(server) as url:
        with pytest.raises(KeyboardInterrupt):
            fetch(published(url), tmp_path, progress=stop)
        assert re.fullmatch(
            r"0\.\d MB of set.zip are kept; .* goes on from there\n", capsys.readouterr().err
        )
        kept = (tmp_path / ".set.zip.part").stat().st_size
        assert place <= kept <= len(FILE)
        assert not (tmp_path / "set.zip").exists()
        fetch(published(url), tmp_path)
    assert whole(tmp_path)
    assert server.ranges_asked[1:] == ([f"bytes={kept}-"] if kept < len(FILE) else [])


def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from vlsmctl.datasets.download import Download, fetch\n"
        "def hold(done, total):\n"
        "    if done > 150_000:\n"
        "        print('half', flush=True)\n"
        "        time.sleep(60)\n"
        "fetch(Download(sys.argv[1], 'set.zip'), Path(sys.argv[2]), progress=hold)\n"
    )
    server = Server()
    with serving(server) as url:
        command = [sys.executable, "-c", program, url, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"half"
            process.kill()
        kept = (tmp_path / ".set.zip.part").stat().st_size
        assert 0 < kept < len(FILE)
        fetch(Download(url, "set.zip"), tmp_path)
    assert whole(tmp_path)
    assert server.ranges_asked == [None, f"bytes={kept}-"]


def test_a_server_without_ranges(tmp_path: Path) -> None:
    server = Server(ranges=False, breaks=[100_000, 200_000])
    with serving(server) as url:
        fetch(published(url), tmp_path)
    assert whole(tmp_path)
    assert server.sent == 100_000 + 200_000 + len(FILE)


def test_without_a_validator_only_a_known_hash_makes_going_on_safe(tmp_path: Path) -> None:
    for download_of, asked in (
        (published, [None, "bytes=100000-"]),
        (lambda url: Download(url, "set.zip"), [None, None]),
    ):
        server = Server(headers={"ETag": 'W/"weak"'}, breaks=[100_000])
        folder = tmp_path / str(len(asked[1] or ""))
        with serving(server) as url:
            fetch(download_of(url), folder)
        assert whole(folder)
        assert server.ranges_asked == asked


def test_last_modified_is_a_validator(tmp_path: Path) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server = Server(headers={"Last-Modified": date}, breaks=[100_000])
    with serving(server) as url:
        fetch(Download(url, "set.zip"), tmp_path)
    assert whole(tmp_path)
    assert server.asked[1] == ("/set.zip", "bytes=100000-", date)


@pytest.mark.parametrize("if_range", [True, False], ids=["polite", "ignores If-Range"])
def test_a_file_that_changed_in_between(tmp_path: Path, if_range: bool) -> None:
    server = Server(breaks=[100_000], if_range=if_range)

    def change(done: int, total: int | None) -> None:
        if done == 100_000:
            server.content, server.headers = OTHER, {"ETag": '"two"'}

    with serving(server) as url:
        fetch(Download(url, "set.zip"), tmp_path, progress=change)
    assert whole(tmp_path, OTHER)
    assert server.asked[1] == ("/set.zip", "bytes=100000-", '"one"')


def test_the_part_of_another_address_is_not_used(tmp_path: Path) -> None:
    server = Server()
    with serving(server) as url:
        leave_part(tmp_path, "http://127.0.0.1/other.zip", OTHER[:1000])
        fetch(Download(url, "set.zip"), tmp_path)
    assert whole(tmp_path)


@pytest.mark.parametrize(
    "notes", [[], {}, {"url": "U", "validator": '"one"', "total": "many"}, "text", {"url": "U"}]
)
def test_notes_that_make_no_sense(tmp_path: Path, notes: object) -> None:
    with serving(Server()) as url:
        leave_part(
            tmp_path, url, OTHER[:1000], json.loads(json.dumps(notes).replace('"U"', json.dumps(url)))
        )
        fetch(Download(url, "set.zip"), tmp_path)
    assert whole(tmp_path)


@pytest.mark.parametrize(
    "part", [OTHER[:1000], OTHER, OTHER + OTHER], ids=["damaged", "damaged and whole", "too long"]
)
def test_a_part_that_was_damaged_since(tmp_path: Path, part: bytes) -> None:
    """The hash shows it, and it is downloaded again."""
    server = Server()
    with serving(server) as url:
        leave_part(tmp_path, url, part)
        fetch(published(url), tmp_path)
    assert whole(tmp_path)
    assert server.ranges_asked[-1] is None


def test_a_part_that_was_whole_already_is_not_asked_for(tmp_path: Path) -> None:
    server = Server()
    with serving(server) as url:
        leave_part(tmp_path, url, FILE)
        fetch(published(url), tmp_path)
    assert whole(tmp_path)
    assert server.asked == []


def test_wrong_hashes(tmp_path: Path) -> None:
    for kind in ("sha256", "md5"):
        with serving(Server()) as url:
            facts: dict[str, Any] = {"size": None, "sha256": "", kind: "0" * 32}
            error = failing(tmp_path, published(url, **facts), f"{kind} .*expected 0000", UnreadableFile)
        assert hashlib.new(kind, FILE).hexdigest() in str(error)
        assert url in str(error)
        assert not any(tmp_path.iterdir())
    with serving(Server()) as url:
        upper = hashlib.md5(FILE, usedforsecurity=False).hexdigest().upper()
        fetch(published(url, sha256="", md5=upper), tmp_path)


def test_wrong_sizes(tmp_path: Path) -> None:
    server = Server()
    with serving(server) as url:
        match = "has 300000 bytes, expected 299999"
        failing(tmp_path, published(url, size=len(FILE) - 1), match, UnreadableFile)
    for size in (len(FILE) - 1, len(FILE) + 1):
        with serving(Server(length=False)) as url:
            failing(tmp_path, published(url, size=size), f"expected {size}", UnreadableFile)
    assert not any(tmp_path.iterdir())


def test_a_server_that_does_not_say_how_long_the_file_is(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(Server(length=False)) as url:
        fetch(Download(url, "set.zip"), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert whole(tmp_path)
    assert seen[0] == (0, None)
    assert seen[-1] == (len(FILE), None)


def test_a_server_that_sends_less_than_asked_for(tmp_path: Path) -> None:
    server = Server(breaks=[100_000], most=90_000)
    with serving(server) as url:
        fetch(Download(url, "set.zip"), tmp_path)
    assert whole(tmp_path)
    assert server.sent == len(FILE)


def test_a_server_that_always_breaks(tmp_path: Path) -> None:
    for ranges in (True, False):
        server = Server(ranges=ranges, breaks=[100_000] * 99)
        with serving(server) as url:
            error = failing(tmp_path, Download(url, "set.zip"), "Error")
        assert len(server.asked) <= 5
        assert "goes on where it stopped" in str(error.hint)
    server = Server(ranges=False, breaks=list(range(10_000, 290_000, 100)))  # a little further each time
    with serving(server) as url:
        failing(tmp_path, Download(url, "set.zip"), "Error")
    assert len(server.asked) <= module.RESTARTS + 1


def test_a_file_that_is_there_is_taken_or_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    file.write_bytes(FILE)
    nowhere = "http://127.0.0.1:1/set.zip"  # never asked
    for download in (published(nowhere), published(nowhere, sha256=""), Download(nowhere, "set.zip")):
        assert fetch(download, tmp_path, offline=True) == file
    for download in (
        published(nowhere, OTHER),
        published(nowhere, size=1),
        published(nowhere, md5="0" * 32),
    ):
        with pytest.raises(UsageError, match=r"is there already.*expected") as caught:
            fetch(download, tmp_path)
        assert "move or remove it" in str(caught.value.hint)
    assert whole(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match="not a file"):
        fetch(published(nowhere), tmp_path)


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    try:
        (tmp_path / "set.zip").symlink_to(tmp_path / "elsewhere")
    except OSError:
        pytest.skip("links are not allowed here")
    with pytest.raises(UsageError, match="is there already"):
        fetch(Download("http://127.0.0.1:1/set.zip", "set.zip"), tmp_path)


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def appear(done: int, total: int | None) -> None:
        if done == total:
            (tmp_path / "set.zip").write_bytes(OTHER)

    with serving(Server()) as url, pytest.raises(UsageError, match="is there already"):
        fetch(published(url), tmp_path, progress=appear)
    assert whole(tmp_path, OTHER)


def test_two_downloads_of_one_file_at_once(tmp_path: Path) -> None:
    def other_process(done: int, total: int | None) -> None:
        if done:
            with (tmp_path / ".set.zip.part").open("ab") as stream:
                stream.write(b"more")

    with serving(Server()) as url:
        failing(tmp_path, Download(url, "set.zip"), "another process", progress=other_process)


def test_progress_over_breaks(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(Server(breaks=[100_000])) as url:
        fetch(published(url), tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {len(FILE)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(FILE), len(FILE))
