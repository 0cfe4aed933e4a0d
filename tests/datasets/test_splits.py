from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlsmctl.datasets.duplicates import NEAR
from vlsmctl.datasets.manifest import SPLITS
from vlsmctl.datasets.splits import Case, assign_splits, near_clusters

cases = st.lists(
    st.tuples(
        st.sampled_from([None, *"abcdefg"]),
        st.integers(0, 40),
        st.booleans(),
        st.sampled_from("xyz"),
        st.floats(0, 1),
        st.sampled_from([None, None, *"abcdefg"]),
    ),
    min_size=1,
    max_size=60,
).map(
    lambda drawn: [
        Case(f"{at:03d}", None, group, str(pixels), empty, stratum, foreground, near)
        for at, (group, pixels, empty, stratum, foreground, near) in enumerate(drawn)
    ]
)


def _singles(count: int) -> list[Case]:
    return [Case(f"{n:04d}", None, None, str(n), False) for n in range(count)]


@given(cases, st.integers(0, 5))
def test_groups_and_identical_images_stay_together(drawn: list[Case], seed: int) -> None:
    splits = assign_splits(drawn, seed)
    assert set(splits) == {case.id for case in drawn}
    for key in ("group", "pixels", "near"):
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


def test_a_published_split_without_val_stays_without() -> None:
    drawn = [Case(f"{n:02d}", "train" if n < 20 else "test", None, str(n), False) for n in range(30)]
    splits = assign_splits(drawn, 42, val_from_train=False)
    assert splits == {case.id: case.own for case in drawn}
    assert Counter(assign_splits(drawn, 42).values()) == {"train": 18, "val": 2, "test": 10}


def _shares(names: Iterable[str], splits: dict[str, str]) -> dict[str, float]:
    counts = Counter(splits[name] for name in names)
    return {split: counts[split] / counts.total() for split in SPLITS}


def test_strata_and_sizes_are_spread_evenly() -> None:
    drawn = [
        Case(f"{n:04d}", None, None, str(n), n % 10 == 0, "ab"[n % 3 == 0], (n * 37 % 600) / 600)
        for n in range(600)
    ]
    splits = assign_splits(drawn, 3)
    assert Counter(splits.values()) == {"train": 420, "val": 60, "test": 120}
    full = [case for case in drawn if not case.empty]
    parts = {
        "stratum a": [case for case in full if case.stratum == "a"],
        "stratum b": [case for case in full if case.stratum == "b"],
        "small": [case for case in full if case.foreground < 1 / 3],
        "large": [case for case in full if case.foreground > 2 / 3],
        "empty": [case for case in drawn if case.empty],
    }
    for name, part in parts.items():
        found = _shares([case.id for case in part], splits)
        assert found == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.03), name


@pytest.mark.parametrize("seed", range(4))
def test_each_third_by_size_is_spread_evenly(seed: int) -> None:
    drawn = [Case(f"{n:03d}", None, None, str(n), False, "", n / 300) for n in range(300)]
    splits = assign_splits(drawn, seed)
    for third in range(3):
        counts = Counter(splits[f"{n:03d}"] for n in range(third * 100, third * 100 + 100))
        assert [counts[split] for split in SPLITS] == pytest.approx([70, 10, 20], abs=1)


@pytest.mark.parametrize("seed", range(6))
def test_a_large_cluster_of_a_rare_stratum_is_made_up_for(seed: int) -> None:
    large = [Case(f"large {n}", None, "g", f"large {n}", False, "rare") for n in range(30)]
    counts = Counter(assign_splits([*_singles(100), *large], seed).values())
    assert counts == {"train": 91, "val": 13, "test": 26}


def test_many_tiny_strata_do_not_all_go_to_train() -> None:
    drawn = [Case(f"{n:03d}", None, None, str(n), False, f"stratum {n // 2}", n / 200) for n in range(200)]
    assert Counter(assign_splits(drawn, 5).values()) == {"train": 140, "val": 20, "test": 40}


@pytest.mark.parametrize("seed", range(5))
def test_few_large_clusters_keep_the_shares(seed: int) -> None:
    """29 videos of 11 to 26 frames, each with masks of its own size."""
    sizes = [25, 25, 17, 11, 25, 23, 25, 26, 22, 6, 22, 25, 25, 21, 20, 25, 21, 20, 25, 20, 19, 19, 12, 25,
             25, 18, 25, 20, 21]  # fmt: skip
    drawn = [
        Case(f"{video}-{n}", None, f"video {video}", f"{video}-{n}", False, "", (video * 11 % 29) / 29)
        for video, size in enumerate(sizes)
        for n in range(size)
    ]
    found = _shares([case.id for case in drawn], assign_splits(drawn, seed))
    assert found == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.03)


def test_near_duplicates_and_groups_link_through_one_another() -> None:
    linked = [
        Case("a", None, "p", "1", False),
        Case("b", None, "p", "2", False, near="n"),
        Case("c", None, None, "3", False, near="n"),
        Case("d", None, None, "3", True),
    ]
    for seed in range(20):
        splits = assign_splits([*linked, *_singles(30)], seed)
        assert len({splits[case.id] for case in linked}) == 1


def test_records_of_one_image_in_several_strata_stay_together() -> None:
    drawn = [
        Case(f"{n:02d}-{finding}", None, None, str(n), False, finding, 0.1)
        for n in range(40)
        for finding in ("edema", "atelectasis")
    ]
    splits = assign_splits(drawn, 1)
    assert all(splits[f"{n:02d}-edema"] == splits[f"{n:02d}-atelectasis"] for n in range(40))


def test_near_clusters_name_the_first_id_and_leave_out_what_stands_alone() -> None:
    ids = ["d", "b", "c", "a", "plain", "other plain"]
    hashes = [0xFF00, 0xFF01, 0xFF03, 0xFF << 40, 0, 0]
    assert near_clusters(ids, hashes) == {"b": "b", "c": "b", "d": "b"}
    assert near_clusters([], []) == {}


def test_near_clusters_do_not_swallow_a_set_in_which_all_look_alike() -> None:
    hub = 0x0F0F0F0F0F0F0F0F
    star = [hub ^ 1 << one ^ 1 << other for one in range(0, 60, 3) for other in (one + 1, one + 2)]
    ids = [f"{n:03d}" for n in range(len(star) + 200)]
    apart = [random.Random(n).getrandbits(63) for n in range(200)]  # noqa: S311
    assert len(near_clusters(ids, [*star, *apart])) == len(star)  # 40 of 240: believed
    crowd = near_clusters(ids[: len(star)], star)  # all of 40: not at NEAR bits, but in pairs at 2
    assert NEAR == 4
    assert Counter(Counter(crowd.values()).values()) == {2: 20}


def test_a_hundred_thousand_cases_are_split_in_seconds() -> None:
    drawn = [
        Case(
            str(n), None, f"g{n // 4}" if n % 2 else None, str(n), n % 9 == 0, str(n % 5), n * 7 % 100 / 100
        )
        for n in range(100_000)
    ]
    start = time.monotonic()
    counts = Counter(assign_splits(drawn, 1).values())
    assert time.monotonic() - start < 10
    assert [counts[split] / 1000 for split in SPLITS] == pytest.approx([70, 10, 20], abs=0.1)
