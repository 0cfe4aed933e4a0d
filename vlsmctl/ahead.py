"""Runs a generator ahead of who takes its items, so that reading and computing overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, produced by a thread that runs at most `depth` items ahead of who takes them."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    given_up = threading.Event()

    def produce() -> None:
        try:
            for item in items:
                while not given_up.is_set():
                    try:
                        ready.put(("item", item), timeout=0.2)
                        break
                    except queue.Full:
                        continue
                if given_up.is_set():
                    return
            last: tuple[str, Any] = ("end", None)
        except BaseException as error:  # handed to the taker, who raises it
            last = ("error", error)
        while not given_up.is_set():
            try:
                ready.put(last, timeout=0.2)
                return
            except queue.Full:
                continue

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        given_up.set()
        thread.join()
