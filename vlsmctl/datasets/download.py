"""Public data sets from the network, where their licence allows it.

A download goes into a hidden file beside the final one, is taken up where it broke off, is checked, and
is renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from vlsmctl.console import console
from vlsmctl.datasets.wording import in_bytes
from vlsmctl.errors import UnreadableFile, UsageError, VlsmctlError
from vlsmctl.files import write_json

WAITS = (1.0, 2.0, 4.0)  # seconds before each further try, when the one before brought nothing new
RESTARTS = 10  # times that a download may start from its first byte: without ranges it may never end
TIMEOUT, CONNECT_TIMEOUT = 30.0, 15.0  # seconds without a byte, and for a connection
CHUNK = 1 << 20  # bytes
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that may be different in a moment
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class Download:
    """One archive. url, name: of the file to write; size: bytes, where known; md5, sha256: as published,
    empty where nothing is."""

    url: str
    name: str
    size: int | None = None
    md5: str = ""
    sha256: str = ""


class ByteProgress(Protocol):
    """Shows bytes done of bytes in all (None: not known), as `vlsmctl.console.download_bar` does. What is
    done falls back when a download has to start anew."""

    def __call__(self, done: int, total: int | None, /) -> None: ...


def unseen(done: int, total: int | None, /) -> None:
    """Progress that nobody sees."""


def fetch(
    download: Download,
    folder: Path,
    *,
    progress: ByteProgress = unseen,
    page: str = "",
    offline: bool = False,
) -> Path:
    """Downloads to folder/name; returns that path. page: where a person finds the file.

    A file that is there already is taken as it is when its size and hash are as published; nothing is
    ever overwritten. What a broken or stopped download left is gone on with, as long as the server
    still has the same file. Proxies are taken from the environment.

    Raises UsageError (offline, unreachable, refused, no room, another file of that name) and
    UnreadableFile (not the published size or hash).
    """
    final = folder / download.name
    if final.exists() or final.is_symlink():
        return _as_it_is(final, download)
    by_hand = f"download {page or download.url} by hand and put the file, as it is, at {final}"
    if offline:
        raise UsageError(f"{download.name} is not in {folder}, and --offline forbids the network", by_hand)
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(final.with_name(f".{download.name}.part"), final.with_name(f".{download.name}.part.json"))
    try:
        _complete(download, part, progress)
    except KeyboardInterrupt:
        if part.length():
            console().print(
                f"{in_bytes(part.length())} of {download.name} are kept; the same command goes on from"
                " there",
                markup=False,
            )
        raise
    except VlsmctlError as error:
        again = "run the command again, which goes on where it stopped; or " if part.length() else ""
        raise type(error)(str(error), error.hint or again + by_hand) from error
    if final.exists():  # somebody else was quicker
        part.discard()
        return _as_it_is(final, download)
    part.file.replace(final)
    part.discard()
    return final


@dataclass(frozen=True)
class _Part:
    """What of a file is there, and the notes on which file of the server it is a part of."""

    file: Path
    notes: Path

    def length(self) -> int:
        """Bytes."""
        try:
            return self.file.stat().st_size
        except OSError:
            return 0

    def discard(self) -> None:
        for path in (self.file, self.notes):
            path.unlink(missing_ok=True)

    def begin(self, notes: _Notes) -> None:
        """Starts anew. In this order: bytes must never stand beside the notes of another file."""
        self.discard()
        write_json(self.notes, {"url": notes.url, "validator": notes.validator, "total": notes.total})

    def read_notes(self, url: str) -> _Notes | None:
        """None: nothing is there that could be gone on with."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(self.notes.read_text(encoding="utf-8"))
            notes = _Notes(str(document["url"]), str(document["validator"]), document["total"])
            if notes.url == url and isinstance(notes.total, int | None) and self.length():
                return notes
        return None


@dataclass(frozen=True)
class _Notes:
    """validator: the strong ETag or the Last-Modified that the server named, or "". total: bytes."""

    url: str
    validator: str
    total: int | None

    def contradicts(self, other: _Notes) -> bool:
        """Whether both say something of the same kind, and not the same."""
        tags = [each.validator.startswith('"') for each in (self, other)]
        both = self.validator and other.validator and tags[0] == tags[1]
        return bool(both and self.validator != other.validator) or (
            None not in (self.total, other.total) and self.total != other.total
        )


class _Interrupted(Exception):
    """The connection broke, or the server had no time; another try may help. anew: whether this one had
    started from the first byte."""

    def __init__(self, message: str, anew: bool = False) -> None:
        super().__init__(message)
        self.anew = anew


def _complete(download: Download, part: _Part, progress: ByteProgress) -> None:
    """Ends with a part that is whole and checked. One that an earlier command left may have been damaged
    since, which is no reason to give up."""
    left_before = part.length() > 0
    _receive(download, part, progress)
    wrong = mismatch(part.file, download)
    if wrong and left_before:
        part.discard()
        _receive(download, part, progress)
        wrong = mismatch(part.file, download)
    if wrong:
        part.discard()
        raise UnreadableFile(f"{download.url}: {wrong}; what was downloaded is removed")


def _receive(download: Download, part: _Part, progress: ByteProgress) -> None:
    """Tries until all bytes are there, giving up when several tries in a row bring nothing new."""
    failures, restarts = 0, 0
    with _client(download.url) as client:
        while True:
            before = part.length()
            try:
                return _take(client, download, part, progress)
            except _Interrupted as error:
                failures = 0 if part.length() > before else failures + 1
                restarts += error.anew
                if failures > len(WAITS) or restarts > RESTARTS:
                    raise UsageError(f"{download.url}: {error}{_proxies()}") from error
                time.sleep(WAITS[max(0, failures - 1)])


def _take(client: Any, download: Download, part: _Part, progress: ByteProgress) -> None:
    """One request: goes on with the part where it can, else starts anew."""
    import httpx

    notes = part.read_notes(download.url)
    resumable = notes is not None and bool(notes.validator or download.sha256 or download.md5)
    start = part.length() if notes is not None and resumable else 0
    if notes is not None and start and start == notes.total:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    if notes is not None and start and notes.validator:
        headers["If-Range"] = notes.validator
    try:
        with client.stream("GET", download.url, headers=headers) as response:
            _accept(response, download, part)
            start, offered = _position(response, download)
            if start == 0:
                notes = offered
                part.begin(notes)
            elif notes is None or start != part.length() or notes.contradicts(offered):
                part.discard()
                raise _Interrupted("the server goes on with another file or at another place")
            elif notes.total is None:
                notes = replace(notes, total=offered.total)
            _check_announced(notes.total, start, download, part)
            _save(response.iter_raw(), start, notes.total, download, part, progress)
        if notes.total is not None and part.length() < notes.total:  # servers may send less than asked for
            raise _Interrupted(f"{in_bytes(part.length())} of {in_bytes(notes.total)} came", start == 0)
    except httpx.UnsupportedProtocol as error:
        raise UsageError(f"{download.url}: {_first_line(error)}") from error
    except httpx.TransportError as error:
        raise _Interrupted(f"{type(error).__name__}: {_first_line(error)}", start == 0) from error
    except httpx.RequestError as error:
        raise UsageError(f"{download.url}: {_first_line(error)}{_proxies()}") from error


def _save(
    chunks: Iterator[bytes],
    start: int,
    total: int | None,
    download: Download,
    part: _Part,
    progress: ByteProgress,
) -> None:
    """Appends what comes; what came before a break is kept."""
    done, most = start, download.size if total is None else total
    progress(done, most)
    with part.file.open("ab") as stream:
        try:
            for chunk in chunks:
                stream.write(chunk)
                done += len(chunk)
                progress(done, most)
                if most is not None and done > most:
                    break  # the check of the size tells
        finally:
            stream.flush()
            os.fsync(stream.fileno())
    if part.length() != done:
        part.discard()
        raise UsageError(f"{part.file}: another process is writing it; start one download at a time")


def _accept(response: Any, download: Download, part: _Part) -> None:
    """Raises where the answer is not the file."""
    status = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code == 416:  # the file is shorter now than what is there of it
        part.discard()
        raise _Interrupted(status)
    if response.status_code in BUSY:
        raise _Interrupted(status)
    if response.status_code not in (200, 206):
        raise UsageError(f"{download.url}: {status}{_proxies()}")
    is_page = response.headers.get("Content-Type", "").lower().startswith("text/html")
    if is_page and not download.name.lower().endswith((".html", ".htm")):
        raise UsageError(
            f"{download.url}: a web page came instead of the file, of a login or of a network that is not "
            f"open yet{_proxies()}"
        )


def _position(response: Any, download: Download) -> tuple[int, _Notes]:
    """Which byte comes first, and what the server says of the file."""
    tag = response.headers.get("ETag", "")
    strong = tag if tag.startswith('"') else ""  # a weak one does not promise the same bytes
    validator = strong or response.headers.get("Last-Modified", "")
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None:
            raise UsageError(f"{download.url}: the server sent a part of the file without saying which")
        total = None if found[2] == "*" else int(found[2])
        return int(found[1]), _Notes(download.url, validator, total)
    length = response.headers.get("Content-Length", "")
    return 0, _Notes(download.url, validator, int(length) if length.isdigit() else None)


def _check_announced(total: int | None, start: int, download: Download, part: _Part) -> None:
    """What can be known before the bytes come: the right size, and room for it."""
    if total is not None and download.size is not None and total != download.size:
        part.discard()
        raise UnreadableFile(
            f"{download.url}: the file there has {total} bytes, expected {download.size}; it has changed "
            "since it was published"
        )
    expected = total if total is not None else download.size
    if expected is not None:
        free = shutil.disk_usage(part.file.parent).free
        if expected - start > free:
            raise UsageError(
                f"{download.name} needs {in_bytes(expected - start)} more in {part.file.parent}, where "
                f"{in_bytes(free)} are free",
                "make room, or download to another disk",
            )


def mismatch(path: Path, download: Download) -> str:
    """How a file differs from the published one, expected against found; "" where it does not."""
    length = path.stat().st_size
    if download.size is not None and length != download.size:
        return f"{length} bytes, expected {download.size}"
    digests = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    published = {"sha256": download.sha256.lower(), "md5": download.md5.lower()}
    with path.open("rb") as stream:
        while any(published.values()) and (block := stream.read(CHUNK)):
            for kind in digests:
                if published[kind]:
                    digests[kind].update(block)
    for kind, digest in digests.items():
        if published[kind] and digest.hexdigest() != published[kind]:
            return f"{kind} {digest.hexdigest()}, expected {published[kind]}"
    return ""


def _as_it_is(final: Path, download: Download) -> Path:
    wrong = mismatch(final, download) if final.is_file() else "not a file"
    if wrong:
        raise UsageError(
            f"{final} is there already and is not the published {download.name}: {wrong}",
            "move or remove it, then run the command again",
        )
    return final


@contextmanager
def _client(url: str) -> Iterator[Any]:
    """An HTTP client that follows redirects, but not from https to http."""
    import httpx

    def keep_secure(request: Any) -> None:
        if url.lower().startswith("https:") and request.url.scheme != "https":
            raise UsageError(f"{url}: redirected from https to {request.url}, which is refused")

    try:
        client = httpx.Client(
            # identity: the bytes of the file themselves, which sizes and ranges are about
            headers={"User-Agent": "vlsmctl", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
            follow_redirects=True,
            event_hooks={"request": [keep_secure]},
        )
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:  # of proxies and certificates
        raise UsageError(f"{url}: {_first_line(error)}{_proxies()}") from error
    with client:
        yield client


def _proxies() -> str:
    """The proxy variables that are set, without the passwords in them, for the end of a message."""
    shown = [
        f"{name}={_without_user(os.environ[name])}"
        for each in PROXY_VARIABLES
        for name in (each, each.upper())
        if os.environ.get(name)
    ]
    shown = list(dict.fromkeys(shown))
    return f" ({', '.join(shown)})" if shown else " (no proxy variable is set)"


def _without_user(proxy: str) -> str:
    """Whatever stands before the last @ may be a password."""
    before, at, after = proxy.rpartition("@")
    scheme = urlsplit(before).scheme if "://" in before else ""
    return proxy if not at else f"{scheme}://{after}" if scheme else after


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
