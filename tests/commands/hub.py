"""A small server on this machine that answers as the Hugging Face hub does, for one model repository."""

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
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves and what it was asked. cut: GETs of these files end after half of their bytes, as
    often as the number says. status: when set, everything is answered with it."""

    repository: str
    folder: Path
    url: str = ""
    cut: dict[str, int] = field(default_factory=dict)
    status: int | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves on a free port of 127.0.0.1 while within."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        hub, path = self.served, urlsplit(self.path).path
        hub.asked.append((method, path, self.headers.get("Range")))
        if hub.status is not None:
            return self._send(hub.status, b"{}", {})
        api = f"/api/models/{hub.repository}"
        files = sorted(one for one in hub.folder.iterdir() if one.is_file())
        if re.fullmatch(re.escape(api) + r"(/revision/\w+)?", path):
            siblings = [{"rfilename": one.name} for one in files]
            return self._json({"id": hub.repository, "sha": COMMIT, "siblings": siblings})
        if re.fullmatch(re.escape(api) + r"/tree/\w+", path):
            entries = [
                {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": _sha(one)[:40]}
                for one in files
            ]
            return self._json(entries)
        match = re.fullmatch(rf"/{re.escape(hub.repository)}/resolve/\w+/([\w.-]+)", path)
        if match and (hub.folder / match[1]).is_file():
            return self._file(method, hub.folder / match[1])
        return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _file(self, method: str, file: Path) -> None:
        content = file.read_bytes()
        headers = {"ETag": f'"{_sha(file)[:40]}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        whole = content[start:]
        sent = whole
        if method == "GET" and self.served.cut.get(file.name, 0) > 0:
            self.served.cut[file.name] -= 1
            sent = whole[: len(whole) // 2]
        self._send(206 if asked else 200, sent, headers, length=len(whole))

    def _send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
