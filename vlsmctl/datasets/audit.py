"""What a set of splits leaks: images of val and test that train knows already, in one way or another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlsmctl.datasets.duplicates import NEAR, near_labels, near_pairs, trusted_distance
from vlsmctl.datasets.manifest import SPLITS
from vlsmctl.datasets.wording import listed

AGAINST = (("val", "train"), ("test", "train"), ("test", "val"))
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class AuditCase:
    """One record of a set of splits. group: patient, sequence or volume. pixels: a hash of the image.
    phash: of `perceptual_hash`. image: the prepared image, which several records may have in common.
    name: what the raw image (or the published split) calls it."""

    id: str
    split: str
    group: str | None
    pixels: str
    phash: int
    image: str
    name: str


@dataclass(frozen=True)
class Count:
    """images: of a split. groups: how many groups they come from. ungrouped: images without one."""

    images: int
    groups: int
    ungrouped: int


@dataclass(frozen=True)
class Shared:
    """images: how many of a split have something in common with an image of another. examples: ids of
    some of them, each with the id of such an image there."""

    images: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Leak:
    """What `split` (of `images` images) has in common with `against`. groups: images from a group that
    is there too. identical: with the same pixels as one there. near: near-duplicates of one there,
    pixels differing. any: images with at least one of the three."""

    split: str
    against: str
    images: int
    groups: Shared
    identical: Shared
    near: Shared
    any: int


@dataclass(frozen=True)
class Repeated:
    """count: how many names stand more than once. examples: some of them, each with the splits that it
    stands in, once for each time."""

    count: int
    examples: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Audit:
    """counts: per split. leaks: in the order of AGAINST, without splits that are empty. identical_sets:
    how many sets of images have the same pixels, wherever they lie; identical_images: how many images
    those are. near_sets, near_images: the same of near-duplicates, linked directly or through others.
    distance: bits within which hashes count as near. names_within: names that one split has more than
    once; names_across: names that several splits have."""

    counts: dict[str, Count]
    leaks: tuple[Leak, ...]
    identical_sets: int
    identical_images: int
    near_sets: int
    near_images: int
    distance: int
    names_within: Repeated
    names_across: Repeated

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def audit(cases: Sequence[AuditCase], examples: int = EXAMPLES) -> Audit:
    """Several records of one image count once, and are no duplicates of one another; one image in two
    splits is. examples: how many to name of each kind. The result hangs on the cases, not on their
    order."""
    cases = sorted(cases, key=lambda case: (case.id, case.split, case.image))
    images = list({(case.split, case.image): case for case in reversed(cases)}.values())[::-1]
    by_split = {split: [case for case in images if case.split == split] for split in SPLITS}
    distance = trusted_distance([case.phash for case in images])
    neighbours = _neighbours(by_split, distance)
    leaks = tuple(
        _leak(split, against, by_split, neighbours[split, against], examples)
        for split, against in AGAINST
        if by_split[split] and by_split[against]
    )
    counts = {split: _count(chosen) for split, chosen in by_split.items()}
    return Audit(
        counts,
        leaks,
        *_identical_sets(images),
        *_near_sets(images, distance),
        distance,
        *_names(cases, examples),
    )


def audit_lines(audit: Audit) -> list[str]:
    """The audit in sentences, one a line: the splits, their leaks, then what is there twice."""
    lines = [_counted(split, count) for split, count in audit.counts.items() if count.images]
    lines += leak_lines(audit) or [
        "no image of val or test shares a group, pixels or looks with another split"
    ]
    ungrouped = sum(count.ungrouped for count in audit.counts.values())
    if ungrouped:
        lines.append(
            f"groups (sequences, patients or volumes) are not known for {_many(ungrouped, 'image')}"
        )
    return lines + repeat_lines(audit)


def leak_lines(audit: Audit) -> list[str]:
    """What the splits have in common; empty when they leak nothing."""
    return [line for leak in audit.leaks for line in _leak_lines(leak, audit.distance)]


def repeat_lines(audit: Audit) -> list[str]:
    """What is there twice, in whichever splits."""
    lines = []
    if audit.identical_sets:
        images, sets = _many(audit.identical_images, "image"), _many(audit.identical_sets, "set")
        lines.append(f"{images} identical to another, in {sets}")
    if audit.near_sets:
        images, sets = _many(audit.near_images, "image"), _many(audit.near_sets, "set")
        lines.append(f"{images} that look like another{_strictly(audit.distance)}, in {sets}")
    for names, where in (
        (audit.names_across, "in several splits"),
        (audit.names_within, "twice in a split"),
    ):
        if names.count:
            shown = [f"{name} ({', '.join(splits)})" for name, splits in names.examples]
            lines.append(f"{_many(names.count, 'name')} {where}" + _examples(shown, names.count))
    return lines


def _counted(split: str, count: Count) -> str:
    groups = f" from {_many(count.groups, 'group')}" if count.groups else ""
    return f"{split}: {_many(count.images, 'image')}{groups}"


def _leak_lines(leak: Leak, distance: int) -> list[str]:
    kinds = (
        (leak.groups, f"come from groups (sequences, patients or volumes) that are also in {leak.against}"),
        (leak.identical, f"are also in {leak.against}, pixel for pixel"),
        (leak.near, f"look like an image in {leak.against}{_strictly(distance)}"),
    )
    return [
        f"{leak.split}: {shared.images} of {leak.images} images {what}"
        + _examples([f"{one} ~ {other}" for one, other in shared.examples], shared.images)
        for shared, what in kinds
        if shared.images
    ]


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _strictly(distance: int) -> str:
    """What to say where the usual distance would chain a whole set together."""
    return "" if distance == NEAR else " even by a strict measure"


def _examples(shown: Sequence[str], count: int) -> str:
    return f": {listed(shown, count)}" if shown else ""


def _count(images: Sequence[AuditCase]) -> Count:
    groups = [case.group for case in images if case.group is not None]
    return Count(len(images), len(set(groups)), len(images) - len(groups))


def _identical_sets(images: Iterable[AuditCase]) -> tuple[int, int]:
    """How many sets, and how many images in them; an image in two splits is one image."""
    pixels = Counter({case.image: case.pixels for case in images}.values())
    sizes = [count for count in pixels.values() if count > 1]
    return len(sizes), sum(sizes)


def _near_sets(images: Iterable[AuditCase], distance: int) -> tuple[int, int]:
    """The same of near-duplicates; sets of which all pixels are identical are none."""
    different = {case.image: case for case in images}.values()
    sets: dict[int, list[str]] = defaultdict(list)
    for case, label in zip(different, near_labels([one.phash for one in different], distance), strict=True):
        if label is not None:
            sets[label].append(case.pixels)
    sizes = [len(pixels) for pixels in sets.values() if len(set(pixels)) > 1]
    return len(sizes), sum(sizes)


def _leak(
    split: str,
    against: str,
    by_split: dict[str, list[AuditCase]],
    neighbours: dict[int, int],
    examples: int,
) -> Leak:
    images, others = by_split[split], by_split[against]
    finders = (_same_group(others), _same_pixels(others), _alike(others, neighbours))
    found = [[finder(case) for case in images] for finder in finders]
    groups, identical, near = (_shared(images, partners, examples) for partners in found)
    touched = sum(any(partners) for partners in zip(*found, strict=True))
    return Leak(split, against, len(images), groups, identical, near, touched)


def _shared(images: Sequence[AuditCase], partners: Sequence[AuditCase | None], examples: int) -> Shared:
    pairs = [(case.id, other.id) for case, other in zip(images, partners, strict=True) if other]
    return Shared(len(pairs), tuple(pairs[:examples]))


Finder = Callable[[AuditCase], AuditCase | None]  # an image that the given one has something in common with


def _same_group(others: Sequence[AuditCase]) -> Finder:
    first = {case.group: case for case in reversed(others) if case.group is not None}
    return lambda case: None if case.group is None else first.get(case.group)


def _same_pixels(others: Sequence[AuditCase]) -> Finder:
    first = {case.pixels: case for case in reversed(others)}
    return lambda case: first.get(case.pixels)


def _alike(others: Sequence[AuditCase], neighbours: dict[int, int]) -> Finder:
    """neighbours: hash -> another hash near it that one of `others` has."""
    by_hash: dict[int, dict[str, AuditCase]] = defaultdict(dict)
    for case in others:
        by_hash[case.phash].setdefault(case.pixels, case)

    def find(case: AuditCase) -> AuditCase | None:
        for digest in (case.phash, neighbours.get(case.phash)):
            for pixels, other in by_hash.get(digest, {}).items() if digest else ():
                if pixels != case.pixels:
                    return other
        return None

    return find


def _neighbours(
    by_split: dict[str, list[AuditCase]], distance: int
) -> dict[tuple[str, str], dict[int, int]]:
    """For each pair of splits: hashes of the one -> a different hash of the other, at most `distance`
    bits away."""
    held = {split: {case.phash for case in images} - {0} for split, images in by_split.items()}
    values = np.array(sorted(set().union(*held.values())), np.uint64)
    holds = {split: np.isin(values, np.array(sorted(one), np.uint64)) for split, one in held.items()}
    nearest = {pair: np.full(len(values), -1, np.int64) for pair in AGAINST}
    for left, right in near_pairs(values, distance):
        for one, other in ((left, right), (right, left)):
            for split, against in AGAINST:
                wanted = holds[split][one] & holds[against][other]
                nearest[split, against][one[wanted]] = other[wanted]
    return {
        pair: {int(values[at]): int(values[found[at]]) for at in np.flatnonzero(found >= 0)}
        for pair, found in nearest.items()
    }


def _names(cases: Iterable[AuditCase], examples: int) -> tuple[Repeated, Repeated]:
    """Names within one split, and across splits. A name stands once for each image that has it, and
    more often where one record is listed more often."""
    times = Counter((case.name, case.split, case.image, case.id) for case in cases)
    listed: dict[tuple[str, str, str], int] = {}
    for (name, split, image, _), count in times.items():
        listed[name, split, image] = max(count, listed.get((name, split, image), 0))
    places: dict[str, list[str]] = defaultdict(list)
    for (name, split, _), count in listed.items():
        places[name] += [split] * count
    ordered = [(name, tuple(sorted(where, key=SPLITS.index))) for name, where in sorted(places.items())]
    within = [(name, where) for name, where in ordered if len(where) > len(set(where))]
    across = [(name, where) for name, where in ordered if len(set(where)) > 1]
    return Repeated(len(within), tuple(within[:examples])), Repeated(len(across), tuple(across[:examples]))
