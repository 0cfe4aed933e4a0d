from __future__ import annotations

import pytest

from vlsmctl.datasets.wording import in_bytes, listed


@pytest.mark.parametrize(
    ("names", "count", "shown", "expected"),
    [
        ([], None, 5, ""),
        (["a"], None, 5, "a"),
        (["a", "b"], None, 2, "a, b"),
        (["a", "b", "c"], None, 2, "a, b and 1 more"),
        (["a", "b"], 7, 5, "a, b and 5 more"),
        (["a", "b", "c"], 7, 2, "a, b and 5 more"),
        (["a", "b"], 2, 5, "a, b"),
    ],
)
def test_names_and_how_many_more(names: list[str], count: int | None, shown: int, expected: str) -> None:
    assert listed(names, count, shown) == expected


def test_amounts_are_told_in_the_unit_that_suits() -> None:
    assert [in_bytes(count) for count in (0, 1_250_000, 999_949_999, 1_000_000_000, 10_000_000_000)] == [
        "0.0 MB", "1.2 MB", "999.9 MB", "1.0 GB", "10.0 GB",
    ]  # fmt: skip
