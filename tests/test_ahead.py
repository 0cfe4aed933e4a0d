from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from vlsmctl.ahead import ahead


def test_ahead_gives_the_same_items_and_stays_within_its_depth() -> None:
    produced: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            produced.append(number)
            yield number

    taken = []
    for item in ahead(items(), depth=3):
        time.sleep(0.005)
        taken.append(item)
        assert len(produced) <= len(taken) + 3 + 1
    assert taken == list(range(20))


def test_ahead_hands_errors_over_and_leaves_no_thread_behind() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("inside")

    before = threading.active_count()
    with pytest.raises(KeyError, match="inside"):
        list(ahead(items(), depth=2))
    given_up = ahead(iter(range(1000)), depth=1)
    assert next(given_up) == 0
    given_up.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
