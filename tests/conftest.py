"""Promise 7, kept for every test: nothing touches the network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Connecting to any other machine, or asking for its address, is an error in this process. For the
    whole session, so that the fixtures of a module or a session are held to it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", _looking_up(socket.getaddrinfo))
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _refusing(getattr(socket.socket, name)))
        yield


def _refusing(connect: Callable[..., Any]) -> Callable[..., Any]:
    def to_this_machine(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            self.close()  # some callers leave that to an OSError
            raise AssertionError(f"a test reached for the network: {address[0]}, port {address[1]}")
        return connect(self, address)

    return to_this_machine


def _looking_up(lookup: Callable[..., Any]) -> Callable[..., Any]:
    """Where there is no network a name is not found, and nothing would be connected to."""

    def of_this_machine(host: Any, *options: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not _is_loopback(name):
            raise AssertionError(f"a test reached for the network: {name}")
        return lookup(host, *options, **more)

    return of_this_machine


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
