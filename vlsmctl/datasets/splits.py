"""Which image belongs to train, val and test: by the data set's own split, or drawn with a seed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlsmctl.datasets.duplicates import near_labels, trusted_distance
from vlsmctl.datasets.manifest import SPLITS

# Whole numbers, so that no rounding decides a tie
SHARES = {"train": 7, "val": 1, "test": 2}
FROM_TRAIN = {"train": 9, "val": 1}

Stratum = tuple[str, bool, int]


@dataclass(frozen=True, slots=True)
class Case:
    """What a split hangs on.

    own: the split that the data set itself gives. group: patient, sequence or volume. pixels: a hash of
    the image. empty: whether the mask is. stratum: what to spread evenly over the splits (a diagnosis, a
    view). foreground: the part of the image that the mask covers, 0..1. near: the cluster of
    near-duplicates that the image belongs to, see `near_clusters`.
    """

    id: str
    own: str | None
    group: str | None
    pixels: str
    empty: bool
    stratum: str = ""
    foreground: float = 0.0
    near: str | None = None


def assign_splits(cases: Sequence[Case], seed: int, *, val_from_train: bool = True) -> dict[str, str]:
    """id -> split.

    A case with a split of its own keeps it, and the others of its cluster (same group, identical
    pixels, or near-duplicates) follow it. The remaining clusters are drawn 70/10/20, evenly over
    strata, empty masks and sizes. A data set with a split of its own but without "val" gives a tenth of
    its train for it, unless `val_from_train` is false: then it stays without. Each split that is drawn
    gets at least one image where there are as many clusters. The result hangs on the cases and the seed,
    not on their order.
    """
    splits: dict[str, str] = {}
    free: list[list[Case]] = []
    for cluster in clusters(cases):
        owned = sorted({case.own for case in cluster if case.own}, key=SPLITS.index)
        if not owned:
            free.append(cluster)
        for case in cluster:
            if owned:
                splits[case.id] = case.own or owned[0]
    splits.update(_drawn(free, SHARES, seed))
    if val_from_train and any(case.own for case in cases) and "val" not in splits.values():
        train = [case for case in cases if splits[case.id] == "train"]
        splits.update(_drawn(clusters(train), FROM_TRAIN, seed))
    return splits


def clusters(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that must stay together, because they share a group or identical pixels, or are
    near-duplicates; sorted by id."""
    ordered = sorted(cases, key=lambda case: case.id)
    parent = list(range(len(ordered)))

    def top(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    first: tuple[dict[str, int], ...] = ({}, {}, {})
    for at, case in enumerate(ordered):
        for seen, key in zip(first, (case.group, case.pixels, case.near), strict=True):
            if key is not None:
                parent[top(at)] = top(seen.setdefault(key, at))
    together: dict[int, list[Case]] = defaultdict(list)
    for at, case in enumerate(ordered):
        together[top(at)].append(case)
    return list(together.values())


def near_clusters(ids: Sequence[str], hashes: Sequence[int]) -> dict[str, str]:
    """id -> a key that near-duplicates have in common (the first of their ids), linked directly or
    through others; ids without near-duplicates are not in it. hashes: of `perceptual_hash`. How near
    they must be hangs on the set, see `trusted_distance`."""
    labels = near_labels(hashes, trusted_distance(hashes))
    first: dict[int, str] = {}
    for name, label in zip(ids, labels, strict=True):
        if label is not None:
            first[label] = min(name, first.get(label, name))
    return {name: first[label] for name, label in zip(ids, labels, strict=True) if label is not None}


def _drawn(free: list[list[Case]], shares: Mapping[str, int], seed: int) -> dict[str, str]:
    """Stratum by stratum, in each the largest cluster first and equal ones in a seeded order: each goes
    to the split that lacks most. What a stratum gave too much or too little is made up in the next,
    and the strata with the largest clusters come first, so that small ones can still make up."""
    strata = _strata(free)
    whole = sum(shares.values())
    lacking = dict.fromkeys(shares, 0)  # in images, times `whole`
    chosen: dict[int, str] = {}
    for key in sorted(strata, key=lambda key: _place(key, strata[key], free, seed)):
        stratum = sorted(strata[key], key=lambda at: (-len(free[at]), _order(free[at][0].id, seed)))
        total = sum(len(free[at]) for at in stratum)
        for split, share in shares.items():
            lacking[split] += total * share
        for at in stratum:
            split = max(lacking, key=lambda name: lacking[name])
            chosen[at] = split
            lacking[split] -= len(free[at]) * whole
    _fill_up(chosen, free, shares)
    return {case.id: split for at, split in chosen.items() for case in free[at]}


def _place(key: Stratum, stratum: Sequence[int], free: list[list[Case]], seed: int) -> tuple[object, ...]:
    """Equal strata in a seeded order too: by name, rare ones would always meet the same deficits."""
    sizes = [len(free[at]) for at in stratum]
    return (-max(sizes), -sum(sizes), _order(repr(key), seed))


def _strata(free: list[list[Case]]) -> dict[Stratum, list[int]]:
    """The clusters that are alike: by their most frequent stratum, by whether all masks are empty, and
    by which third of the set their mean foreground falls into (0, 1 or 2)."""
    covered = [sum(case.foreground for case in cluster) / len(cluster) for cluster in free]
    empty = [all(case.empty for case in cluster) for cluster in free]
    ranked = sorted(mean for mean, void in zip(covered, empty, strict=True) if not void)
    borders = [ranked[len(ranked) * third // 3] for third in (1, 2)] if ranked else []
    strata: dict[Stratum, list[int]] = defaultdict(list)
    for at, cluster in enumerate(free):
        size = 0 if empty[at] else sum(covered[at] > border for border in borders)
        strata[_most_frequent(cluster), empty[at], size].append(at)
    return strata


def _most_frequent(cluster: Sequence[Case]) -> str:
    counts = Counter(case.stratum for case in cluster)
    return min(counts, key=lambda name: (-counts[name], name))


def _fill_up(chosen: dict[int, str], free: list[list[Case]], shares: Mapping[str, int]) -> None:
    """Gives a split that got nothing the smallest cluster of the split that has most of them."""
    for split in shares:
        counts = Counter(chosen.values())
        if counts[split] or len(free) < len(shares):
            continue
        donor = counts.most_common(1)[0][0]
        theirs = [at for at in sorted(chosen) if chosen[at] == donor]
        chosen[min(theirs, key=lambda at: (all(case.empty for case in free[at]), len(free[at])))] = split


def _order(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
