from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlsmctl.datasets.manifest import SPLITS
from vlsmctl.datasets.splits import Case, assign_splits, identical

cases = st.lists(
    st.tuples(st.sampled_from([None, *"abcdefg"]), st.integers(0, 40), st.booleans()),
    min_size=1,
    max_size=60,
).map(
    lambda drawn: [
        Case(f"{at:03d}", None, group, str(pixels), empty)
        for at, (group, pixels, empty) in enumerate(drawn)
    ]
)


def _singles(count: int) -> list[Case]:
    return [Case(f"{n:04d}", None, None, str(n), False) for n in range(count)]


@given(cases, st.integers(0, 5))
def test_groups_and_identical_images_stay_together(drawn: list[Case], seed: int) -> None:
    splits = assign_splits(drawn, seed)
    assert set(splits) == {case.id for case in drawn}
    for key in ("group", "pixels"):
        seen: dict[str, set[str]] = defaultdict(set)
        for case in drawn:
            if getattr(case, key) is not None:
                seen[getattr(case, key)].add(splits[case.id])
        assert all(len(found) == 1 for found in seen.values())


@given(cases, st.integers(0, 5))
def test_the_order_of_the_cases_does_not_matter(drawn: list[Case], seed: int) -> None:
    shuffled = drawn[:]
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    assert assign_splits(shuffled, seed) == assign_splits(drawn, seed)


@pytest.mark.parametrize("count", [3, 4, 5, 10, 11, 37])
def test_each_split_gets_something(count: int) -> None:
    assert set(assign_splits(_singles(count), 1).values()) == set(SPLITS)


def test_the_shares_are_kept_and_the_seed_matters() -> None:
    drawn = _singles(500)
    splits = assign_splits(drawn, 42)
    assert Counter(splits.values()) == {"train": 350, "val": 50, "test": 100}
    assert splits != assign_splits(drawn, 43)
    assert len({splits[f"{n:04d}"] for n in range(20)}) > 1  # not simply the first ones


def test_empty_masks_are_spread_evenly() -> None:
    drawn = [Case(f"{n:03d}", None, None, str(n), n < 20) for n in range(200)]
    splits = assign_splits(drawn, 7)
    assert Counter(splits[f"{n:03d}"] for n in range(20)) == {"train": 14, "val": 2, "test": 4}


def test_a_split_of_its_own_is_kept_and_gives_val_from_train() -> None:
    drawn = [
        Case(f"{n:03d}", "train" if n < 100 else "test", None, str(n), n % 10 == 0) for n in range(130)
    ]
    splits = assign_splits(drawn, 42)
    assert all(splits[f"{n:03d}"] == "test" for n in range(100, 130))
    assert Counter(splits[f"{n:03d}"] for n in range(100)) == {"train": 90, "val": 10}


def test_a_case_without_split_follows_its_group() -> None:
    own = [
        Case("a", "test", "g", "1", False),
        Case("b", "val", None, "2", False),
        Case("c", "train", None, "3", False),
    ]
    splits = assign_splits([*own, Case("d", None, "g", "4", False)], 0)
    assert splits == {"a": "test", "b": "val", "c": "train", "d": "test"}


def test_identical_lists_only_what_is_there_twice() -> None:
    assert identical({"a": "1", "b": "2", "c": "1"}) == [["a", "c"]]
