from __future__ import annotations

import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.datasets.file_server import (
    FILE,
    Server,
    failing,
    leave_part,
    no_waiting,
    serving,
    whole,
)
from vlsmctl import console
from vlsmctl.datasets.download import Download, fetch


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    no_waiting(monkeypatch)


def test_redirects_are_followed(tmp_path: Path) -> None:
    server = Server(breaks=[100_000])
    with serving(server):
        fetch(Download(f"{server.url}/moved/moved/set.zip", "set.zip"), tmp_path)
        assert whole(tmp_path)
        assert server.asked[-1] == ("/set.zip", "bytes=100000-", '"one"')
        failing(
            tmp_path / "loop", Download(server.url + "/moved" * 30 + "/set.zip", "set.zip"), "redirects"
        )


def test_https_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def redirect(self: object, request: Any) -> Any:
        assert request.url.scheme == "https"
        return httpx.Response(302, headers={"Location": "http://files.example/set.zip"})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", redirect)
    failing(tmp_path, Download("https://files.example/set.zip", "set.zip"), "from https to http://files")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refused(tmp_path: Path, status: int) -> None:
    server = Server(statuses=[status] * 9)
    with serving(server) as url:
        error = failing(tmp_path, Download(url, "set.zip"), str(status), page="https://example.org/page")
    assert url in str(error)
    assert "no proxy variable is set" in str(error)
    assert "https://example.org/page" in str(error.hint)
    assert str(tmp_path / "set.zip") in str(error.hint)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_for_a_while(tmp_path: Path) -> None:
    server = Server(statuses=[503, 429, 500])
    with serving(server) as url:
        fetch(Download(url, "set.zip"), tmp_path)
        assert whole(tmp_path)
        server.statuses = [503] * 99
        failing(tmp_path / "more", Download(url, "set.zip"), "503")
    assert len(server.asked) == 8


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/set.zip"
    error = failing(tmp_path, Download(url, "set.zip"), "ConnectError")
    assert url in str(error)
    assert "goes on" not in str(error.hint)


def test_a_web_page_instead_of_the_file(tmp_path: Path) -> None:
    with serving(
        Server(content=b"<html>Log in", headers={"Content-Type": "text/html; charset=utf-8"})
    ) as url:
        failing(tmp_path, Download(url, "set.zip"), "a web page came instead")
        assert fetch(Download(url, "page.html"), tmp_path).read_bytes() == b"<html>Log in"


def test_proxies_are_honoured_and_their_passwords_kept_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    with serving(server):
        monkeypatch.setenv("HTTP_PROXY", server.url.replace("://", "://user:p%40ss@"))
        fetch(Download("http://files.example/set.zip", "set.zip"), tmp_path)
        assert whole(tmp_path)
        assert server.asked[0][0] == "http://files.example/set.zip"
        server.statuses = [407]
        error = failing(tmp_path / "more", Download("http://files.example/set.zip", "set.zip"), "407")
    assert f"HTTP_PROXY={server.url}" in str(error)
    assert "ss@" not in str(error)
    assert "user" not in str(error)


@pytest.mark.parametrize("proxy", ["nonsense://x", "http://x:port", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    failing(tmp_path, Download("http://files.example/set.zip", "set.zip"), re.escape(proxy))


def test_offline(tmp_path: Path) -> None:
    download = Download("http://files.example/set.zip", "set.zip")
    error = failing(tmp_path / "raw", download, "--offline", offline=True)
    assert "http://files.example/set.zip" in str(error.hint)
    assert not any(tmp_path.iterdir())


def test_no_room_is_told_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 200_000}))
    server = Server(breaks=[150_000])
    with serving(server) as url:
        failing(tmp_path, Download(url, "set.zip"), "needs 0.3 MB more in .*0.2 MB are free")
        assert (tmp_path / ".set.zip.part").exists() is False
        leave_part(tmp_path, url, FILE[:150_000])
        fetch(Download(url, "set.zip"), tmp_path)  # for what is missing there is room
    assert whole(tmp_path)


def test_plain_lines_of_bytes_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 6))  # seconds
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    with console.download_bar("set[1].zip", 4_000_000) as show:
        for done in range(0, 4_000_001, 1_000_000):
            show(done, 4_000_000)
        show(2_500_000, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "set[1].zip: 1.0 of 4.0 MB"
    assert 2 <= len(lines) <= 4


def test_a_bar_of_bytes_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "CI"):
        monkeypatch.delenv(name, raising=False)
    with console.download_bar("set[1].zip") as show:
        show(0, None)
        show(1_500_000, 3_000_000)
    shown = capsys.readouterr().err
    assert "set[1].zip" in shown
    assert "1.5/3.0 MB" in shown
