"""Runs generators ahead of who takes their items, so that reading and computing overlap."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_POLL = 0.2  # seconds between looks at whether anybody still wants the items


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, produced by a thread that runs at most `depth` items ahead of who takes them."""
    return ahead_of_all(iter([items]), workers=1, depth=depth)


def ahead_of_all(sources: Iterator[Iterable[T]], *, workers: int, depth: int) -> Iterator[T]:
    """The items of all sources, read by `workers` threads that run at most `depth` items ahead.

    Each source is read by one thread from its beginning to its end, and the next source is asked for when
    a thread is free: the items of one source keep their order, those of different sources mix. With no
    workers, everything is read where the items are taken, one source after the other. An error of a
    source is raised to the taker and ends it all.
    """
    if workers == 0:
        yield from itertools.chain.from_iterable(sources)
        return
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    given_up, turn = threading.Event(), threading.Lock()

    def put(kind: str, value: Any) -> None:
        while not given_up.is_set():
            try:
                ready.put((kind, value), timeout=_POLL)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            while not given_up.is_set():
                with turn:
                    source = next(sources, None)
                if source is None:
                    break
                for item in source:
                    put("item", item)
                    if given_up.is_set():
                        return
            put("end", None)
        except BaseException as error:  # handed to the taker, who raises it
            put("error", error)

    threads = [threading.Thread(target=produce, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        ended = 0
        while ended < workers:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "item":
                yield value
            else:
                ended += 1
    finally:
        given_up.set()
        for thread in threads:
            thread.join()
