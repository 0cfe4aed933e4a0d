from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from vlsmctl.ahead import ahead, ahead_of_all


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


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_many_sources_each_in_its_own_order_and_none_twice(workers: int) -> None:
    asked: list[int] = []

    def source(number: int) -> Iterator[tuple[int, int]]:
        for item in range(number % 5):
            time.sleep(0.001 * (number % 3))
            yield number, item

    def sources() -> Iterator[Iterator[tuple[int, int]]]:
        for number in range(30):
            asked.append(number)
            yield source(number)

    before = threading.active_count()
    taken = list(ahead_of_all(sources(), workers=workers, depth=3))
    assert asked == list(range(30))
    assert sorted(taken) == [(number, item) for number in range(30) for item in range(number % 5)]
    for number in range(30):
        assert [item for which, item in taken if which == number] == list(range(number % 5))
    assert threading.active_count() == before


def test_several_workers_read_at_once_and_stay_within_depth() -> None:
    together = threading.Barrier(3, timeout=5)
    produced: list[int] = []

    def source(number: int) -> Iterator[int]:
        together.wait()  # would break if the three were read one after another
        for item in range(50):
            produced.append(item)
            yield item

    taken = 0
    for _ in ahead_of_all((source(number) for number in range(3)), workers=3, depth=4):
        taken += 1
        assert len(produced) <= taken + 4 + 3
    assert taken == 150


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_one_source_ends_it_all(workers: int) -> None:
    def sources() -> Iterator[Iterator[int]]:
        yield iter([1, 2])
        raise KeyError("inside")

    before = threading.active_count()
    with pytest.raises(KeyError, match="inside"):
        list(ahead_of_all(sources(), workers=workers, depth=1))
    assert threading.active_count() == before
