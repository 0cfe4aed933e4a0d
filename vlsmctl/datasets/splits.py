"""Which image belongs to train, val and test: by the data set's own split, or drawn with a seed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from vlsmctl.datasets.manifest import SPLITS

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
FROM_TRAIN = {"train": 0.9, "val": 0.1}


@dataclass(frozen=True)
class Case:
    """What a split hangs on. `own`: the split that the data set itself gives; `group`: patient or
    sequence; `pixels`: a hash of the image; `empty`: whether the mask is."""

    id: str
    own: str | None
    group: str | None
    pixels: str
    empty: bool


def assign_splits(cases: Sequence[Case], seed: int) -> dict[str, str]:
    """id -> split.

    A case with a split of its own keeps it, and the others of its cluster (same group, or identical
    pixels) follow it. The remaining clusters are drawn 70/10/20. A data set with a split of its own
    but without "val" gives a tenth of its train for it. Each split gets at least one image where
    there are as many clusters. The result hangs on the cases and the seed, not on their order.
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
    splits.update(_drawn(free, FRACTIONS, seed))
    if any(case.own for case in cases) and "val" not in splits.values():
        train = [case for case in cases if splits[case.id] == "train"]
        splits.update(_drawn(clusters(train), FROM_TRAIN, seed))
    return splits


def clusters(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that must stay together, because they share a group or identical pixels; sorted by id."""
    parent: dict[Hashable, Hashable] = {}

    def top(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    ordered = sorted(cases, key=lambda case: case.id)
    for case in ordered:
        for key in (("group", case.group), ("pixels", case.pixels)):
            if key[1] is not None:
                parent[top(key)] = top(("case", case.id))
    together: dict[Hashable, list[Case]] = defaultdict(list)
    for case in ordered:
        together[top(("case", case.id))].append(case)
    return list(together.values())


def identical(pixels: Mapping[str, str]) -> list[list[str]]:
    """Ids of images with the same pixels (id -> hash), two or more at a time."""
    same: dict[str, list[str]] = defaultdict(list)
    for name, digest in pixels.items():
        same[digest].append(name)
    return [names for names in same.values() if len(names) > 1]


def _drawn(free: list[list[Case]], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Clusters with something in their masks first, the wholly empty ones apart, so that each split
    gets its share of both; within these the largest first, and equal ones in a seeded order."""
    chosen: dict[int, str] = {}
    for empty in (False, True):
        stratum = [at for at, cluster in enumerate(free) if all(case.empty for case in cluster) is empty]
        stratum.sort(key=lambda at: (-len(free[at]), _order(free[at][0].id, seed)))
        total = sum(len(free[at]) for at in stratum)
        missing = {split: total * fraction for split, fraction in fractions.items()}
        for at in stratum:
            split = max(missing, key=lambda name: missing[name])
            chosen[at] = split
            missing[split] -= len(free[at])
    _fill_up(chosen, free, fractions)
    return {case.id: split for at, split in chosen.items() for case in free[at]}


def _fill_up(chosen: dict[int, str], free: list[list[Case]], fractions: Mapping[str, float]) -> None:
    """Gives a split that got nothing the smallest cluster of the split that has most of them."""
    for split in fractions:
        counts = Counter(chosen.values())
        if counts[split] or len(free) < len(fractions):
            continue
        donor = counts.most_common(1)[0][0]
        theirs = [at for at in sorted(chosen) if chosen[at] == donor]
        chosen[min(theirs, key=lambda at: (all(case.empty for case in free[at]), len(free[at])))] = split


def _order(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
