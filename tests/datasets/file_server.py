"""A small server on this machine that serves one file, as badly as asked; what downloads are held to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlsmctl.datasets import download
from vlsmctl.datasets.download import PROXY_VARIABLES, Download, fetch
from vlsmctl.errors import UsageError, VlsmctlError

FILE = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
OTHER = np.random.default_rng(1).integers(0, 256, 300_000, np.uint8).tobytes()
TENTHS = [len(FILE) * tenth // 10 for tenth in range(1, 10)]


@dataclass
class Server:
    """What it serves under /set.zip, how, and what it was asked. breaks: bytes of the file at which a
    connection that comes there breaks, once each. statuses: of the first answers. ranges: whether it
    answers parts; if_range: whether it looks whether the file is still the same. length: whether it
    says how long the file is. most: bytes of the file in one answer."""

    content: bytes = FILE
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    most: int | None = None
    url: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    sent: int = 0

    @property
    def ranges_asked(self) -> list[str | None]:
        return [each for path, each, _ in self.asked if path.endswith("/set.zip")]


class Handler(BaseHTTPRequestHandler):
    served: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, headers = self.served, self.headers
        server.asked.append((self.path, headers.get("Range"), headers.get("If-Range")))
        self.close_connection = True
        if self.path.startswith("/moved"):
            return self._answer(302, {"Location": self.path.removeprefix("/moved"), "Content-Length": "0"})
        if server.statuses:
            return self._answer(server.statuses.pop(0), {"Content-Length": "0"})
        start = self._start()
        if start >= len(server.content):
            return self._answer(416, {"Content-Length": "0"})
        return self._send_file(start)

    def _start(self) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        same = self.headers.get("If-Range") in (None, *self.served.headers.values())
        if asked and self.served.ranges and (same or not self.served.if_range):
            return int(asked[1])
        return 0

    def _send_file(self, start: int) -> None:
        server = self.served
        end = len(server.content) if server.most is None else min(len(server.content), start + server.most)
        if start == 0:
            end = len(server.content)
        headers = dict(server.headers)
        if server.length:
            headers["Content-Length"] = str(end - start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(server.content)}"
        self._answer(206 if start else 200, headers)
        cut = next((place for place in server.breaks if start <= place < end), None)
        if cut is not None:
            server.breaks.remove(cut)
        self.wfile.write(server.content[start : end if cut is None else cut])
        server.sent += (end if cut is None else cut) - start

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """The address of the file, on a free port of 127.0.0.1."""
    handler = type("OfThis", (Handler,), {"served": server})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listener.daemon_threads = True
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{server.url}/set.zip"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a proxy of the machine that runs this."""
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0, 0.0))
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def published(url: str, content: bytes = FILE, **more: Any) -> Download:
    facts = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **more}
    return Download(url, "set.zip", **facts)


def whole(folder: Path, content: bytes = FILE) -> bool:
    """The file, and nothing else."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files == {"set.zip": content}


def failing(
    folder: Path, download: Download, match: str, error: type[VlsmctlError] = UsageError, **more: Any
) -> VlsmctlError:
    """It raises one line, with a hint, and there is no file under the final name."""
    with pytest.raises(error, match=match) as caught:
        fetch(download, folder, **more)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert not (folder / "set.zip").exists()
    return caught.value


def leave_part(folder: Path, url: str, content: bytes, notes: object = None) -> None:
    (folder / ".set.zip.part").write_bytes(content)
    document = {"url": url, "validator": '"one"', "total": len(FILE)} if notes is None else notes
    (folder / ".set.zip.part.json").write_text(json.dumps(document))
