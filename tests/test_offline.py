"""That the guard of `conftest.py` is up, without which no other test would tell of a connection."""

from __future__ import annotations

import errno
import socket
import urllib.request

import pytest

DOCUMENTATION_V4, DOCUMENTATION_V6 = "192.0.2.1", "2001:db8::1"  # addresses that belong to nobody


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, (DOCUMENTATION_V4, 443)),
        (socket.AF_INET, ("example.invalid", 443)),
        (socket.AF_INET6, (DOCUMENTATION_V6, 443, 0, 0)),
    ],
)
def test_other_machines_cannot_be_reached(
    method: str, family: socket.AddressFamily, address: tuple[str, int]
) -> None:
    with socket.socket(family) as sock, pytest.raises(AssertionError, match="reached for the network"):
        getattr(sock, method)(address)


@pytest.mark.parametrize("host", [DOCUMENTATION_V4, "example.invalid"])
def test_nor_through_a_library(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(AssertionError, match="reached for the network"):
        urllib.request.urlopen(f"http://{host}/", timeout=1)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    with socket.socket() as sock:
        sock.settimeout(5)
        assert sock.connect_ex(("127.0.0.1", port)) in (errno.ECONNREFUSED, 10061)  # nobody listens now
