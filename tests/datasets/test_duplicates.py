from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.shared import SHARED
from vlsmctl.datasets.duplicates import (
    NEAR,
    near_labels,
    near_pairs,
    perceptual_hash,
    trusted_distance,
)
from vlsmctl.formats.raster import read_picture

Pixels = NDArray[np.uint8]
HEIGHT, WIDTH = 120, 160


def scene(number: int) -> Pixels:
    """Soft shapes, as in photographs; of each number others."""
    noise = np.random.default_rng(number).normal(size=(HEIGHT, WIDTH, 3))
    soft = sum(gaussian_filter(noise, (width, width, 0)) * width for width in (2, 6, 18))
    pixels: Pixels = np.clip(128 + 60 * soft / soft.std(), 0, 255).astype(np.uint8)
    return pixels


def bits_apart(one: int, other: int) -> int:
    return bin(one ^ other).count("1")


def pairs_of(hashes: Sequence[int], distance: int = NEAR) -> list[tuple[int, int]]:
    """The index pairs of near hashes, all of which differ, sorted; each must have come once."""
    portions = near_pairs(np.array(hashes, np.uint64), distance)
    pairs = [pair for left, right in portions for pair in zip(left.tolist(), right.tolist(), strict=True)]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    return sorted((min(pair), max(pair)) for pair in pairs)


def as_jpeg(pixels: Pixels) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream).convert("RGB"))


def resized(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((WIDTH * 2 // 3, HEIGHT * 2 // 3)))


def brighter(pixels: Pixels) -> Pixels:
    return np.clip(pixels.astype(np.int64) + 8, 0, 255).astype(np.uint8)


def darker(pixels: Pixels) -> Pixels:
    return (pixels * 0.9).astype(np.uint8)


@pytest.mark.parametrize("change", [as_jpeg, resized, brighter, darker])
def test_a_changed_copy_stays_near(change: Callable[[Pixels], Pixels]) -> None:
    for number in range(30):
        pixels = scene(number)
        changed = change(pixels)
        assert not np.array_equal(changed, pixels)
        assert bits_apart(perceptual_hash(pixels), perceptual_hash(changed)) <= NEAR


def test_different_pictures_are_far_apart() -> None:
    hashes = [perceptual_hash(scene(number)) for number in range(60)]
    assert near_labels(hashes) == [None] * 60
    assert all(0 < digest < 1 << 63 for digest in hashes)


def test_turned_pictures_are_other_pictures() -> None:
    pixels = scene(1)
    for other in (pixels[::-1], pixels[:, ::-1], 255 - pixels):
        assert bits_apart(perceptual_hash(pixels), perceptual_hash(np.ascontiguousarray(other))) > 15


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_pictures_with_nothing_in_them_are_near_to_none(level: int) -> None:
    plain = np.full((48, 64, 3), level, np.uint8)
    gradient = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    turned = np.ascontiguousarray(gradient[:, ::-1])
    hashes = [perceptual_hash(one) for one in (plain, as_jpeg(plain), gradient, turned, plain[:1, :1])]
    assert hashes == [0] * 5
    assert near_labels(hashes) == [None] * 5


hash_lists = st.lists(st.integers(0, 63), max_size=40).flatmap(
    lambda seeds: st.lists(
        st.lists(st.integers(0, 62), max_size=6), min_size=len(seeds), max_size=len(seeds)
    ).map(lambda flips: [_flipped(seed % 3, flip) for seed, flip in zip(seeds, flips, strict=True)])
)


def _flipped(seed: int, bits: list[int]) -> int:
    digest = (0, 0x5A5A5A5A5A5A5A5A & ~(1 << 63), 0x5A5A5A5A5A5A0000)[seed]
    for bit in bits:
        digest ^= 1 << bit
    return digest


def brute_force(hashes: Sequence[int], distance: int) -> list[tuple[int, int]]:
    return [
        (i, j)
        for (i, one), (j, other) in combinations(enumerate(hashes), 2)
        if one and other and bits_apart(one, other) <= distance
    ]


@given(hash_lists, st.integers(0, 9))
def test_pairs_are_exactly_those_of_brute_force(drawn: list[int], distance: int) -> None:
    hashes = [one for one in dict.fromkeys(drawn) if one]
    assert pairs_of(hashes, distance) == brute_force(hashes, distance)


@given(hash_lists, st.integers(0, 6))
def test_clusters_are_those_of_brute_force(hashes: list[int], distance: int) -> None:
    cluster = {at: {at} for at in range(len(hashes))}
    for i, j in brute_force(hashes, distance):
        joined = cluster[i] | cluster[j]
        for at in joined:
            cluster[at] = joined
    labels = near_labels(hashes, distance)
    for i, j in combinations(range(len(hashes)), 2):
        assert (labels[i] is not None and labels[i] == labels[j]) == (j in cluster[i])
    assert all((label is None) == (len(cluster[at]) == 1) for at, label in enumerate(labels))


def test_a_long_chain_is_one_cluster() -> None:
    chain = [1 << 62 | number ^ (number >> 1) for number in range(5000)]  # Gray code: one bit a step
    random.Random(1).shuffle(chain)  # noqa: S311
    assert len(set(near_labels(chain, 1))) == 1


def test_copies_are_of_one_cluster_however_many_there_are() -> None:
    labels = near_labels([7, *[12] * 3000, 7, 13, 1 << 40], 1)
    assert len({*labels[1:3001], labels[3002]}) == 1
    assert labels[0] == labels[3001] != labels[1]
    assert labels[3003] is None


def test_a_hundred_thousand_hashes_take_seconds() -> None:
    random_hashes = np.random.default_rng(3).integers(1, 1 << 63, 100_000).tolist()
    planted = [digest ^ 0b1010101 for digest in random_hashes[:500]]
    start = time.monotonic()
    labels = near_labels([*random_hashes, *planted])
    assert time.monotonic() - start < 10
    assert None not in labels[:500]
    assert labels[:500] == labels[100_000:]
    assert len(set(labels[:500])) == 500
    assert sum(label is not None for label in labels) < 1100


def test_where_all_look_alike_less_counts_as_near() -> None:
    apart = np.random.default_rng(5).integers(1, 1 << 63, 400).tolist()
    assert trusted_distance(apart) == NEAR
    poses = [1 << 62 | 0b111 << (3 * at) for at in range(20)]  # each 6 bits from every other
    between = [pose ^ (1 << bit) for pose in poses for bit in range(60)]
    assert trusted_distance([*apart, *between]) < NEAR
    assert trusted_distance(poses * 50) == NEAR  # copies of a few are no crowd
    assert trusted_distance([]) == NEAR


def test_real_neighbours_in_a_video_are_near_and_other_videos_are_not() -> None:
    folder = SHARED / "CVC-ClinicDB" / "Original"
    if not folder.is_dir():
        pytest.skip("no real frames here")
    frames = [int(path.stem) for path in folder.glob("*.tif")]
    chosen = sorted(n for n in frames if n <= 25 or 104 <= n <= 126)  # two sequences
    labels = near_labels([perceptual_hash(read_picture(folder / f"{number}.tif")) for number in chosen])
    one = {label for label, number in zip(labels, chosen, strict=True) if number <= 25}
    other = {label for label, number in zip(labels, chosen, strict=True) if number > 25}
    assert (one | other) - {None}
    assert not one & other - {None}
