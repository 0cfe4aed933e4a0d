"""Near-duplicates: pictures that look the same although their pixels differ (another size, JPEG
quality or brightness, the next frame of a video), found by perceptual hashes.

The hash is the common DCT hash: grey, 32 x 32 pixels by area, its lowest 8 x 8 frequencies but for the
mean, each one bit: above the median of the 63, or not. Two unrelated pictures differ in about 32 bits.

NEAR = 4 was chosen on real pictures. Re-encoding (JPEG quality 50 and 75), resizing (to a half, two
thirds, 352 x 352) and a brightness changed by a tenth moved the hashes of 199 endoscopic frames and
wound photographs by 4 bits at most. Of 18,695 pairs of frames from different sequences of CVC-ClinicDB
(205 frames, 10 sequences) 1 lies within 4 bits and 22 within 6: the endoscope's black frame makes them
alike. Among 192 photographs of FUSeg the nearest pair lies at 6 bits, and shows one foot twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

NEAR = 4  # bits; near-duplicates differ in no more
_SIDE, _LOW = 32, 8
_ROUNDING = 1.0  # smaller coefficients are what rounding the grey values leaves
_TELLING = 16  # with fewer coefficients than that a picture has too little in it to be told by them

_CHUNK = 1 << 20  # candidate pairs looked at in one go: bounds the memory
_CROWD = 30  # hashes; smaller clusters are never too large

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

_POPCOUNT = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """pixels: uint8 RGB [H, W, 3] -> 63 bits. 0: a picture with next to nothing in it (one colour, a
    plain gradient), of which the hash cannot tell what it resembles."""
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    spectrum = dctn(np.asarray(grey, np.float64), norm="ortho")
    low = spectrum[:_LOW, :_LOW].ravel()[1:]
    low[np.abs(low) < _ROUNDING] = 0
    if np.count_nonzero(low) < _TELLING:
        return 0
    return int.from_bytes(np.packbits(np.append(False, low > np.median(low))).tobytes(), "big")


def near_labels(hashes: Sequence[int], distance: int = NEAR) -> list[int | None]:
    """For each hash the number of its cluster: those linked by near-duplicates, directly or through
    others. None: alone (or 0). Memory grows with the number of hashes, not of pairs."""
    values, copies = _copies(hashes)
    labels: list[int | None] = [None] * len(hashes)
    clusters = _components(values, distance)
    members = np.bincount(clusters, [len(same) for same in copies], minlength=len(values))
    for cluster, same in zip(clusters.tolist(), copies, strict=True):
        for at in same:
            labels[at] = cluster if members[cluster] > 1 else None
    return labels


def trusted_distance(hashes: Sequence[int]) -> int:
    """The largest of 4, 2 and 0 bits at which no cluster holds more than a quarter of the different
    hashes (and more than 30). Pictures taken in one pose, such as radiographs, are so alike that at 4
    bits whole sets would hang together, and what is near says nothing any more."""
    values, _ = _copies(hashes)
    for distance in (NEAR, NEAR // 2):
        clusters = _components(values, distance)
        if np.bincount(clusters, minlength=1).max() <= max(_CROWD, len(values) / 4):
            return distance
    return 0


def near_pairs(values: Hashes, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """values: different hashes -> the index pairs of those that differ in 1 to `distance` bits, each
    once, in portions (left, right).

    Exact: of distance + 1 bands of bits two such hashes have at least one in common, so that only
    hashes with an equal band are compared (Norouzi et al., Fast search in Hamming space with
    multi-index hashing, CVPR 2012).
    """
    bands = _bands(distance)
    for at, band in enumerate(bands):
        keys = values & band
        order = np.argsort(keys, kind="stable")
        for left, right in _equal_pairs(keys[order]):
            a, b = order[left], order[right]
            unlike = values[a] ^ values[b]
            near = np.flatnonzero(_popcount(unlike) <= distance)
            for earlier in bands[:at]:
                near = near[(unlike[near] & earlier) != 0]  # else that band has reported it
            if len(near):
                yield a[near], b[near]


def _bands(distance: int) -> list[np.uint64]:
    """Masks that deal all bits out, one by one: neighbouring frequencies are alike in many pictures,
    and spread over the bands they tell more apart."""
    count = distance + 1
    return [np.uint64(sum(1 << bit for bit in range(band, 64, count))) for band in range(count)]


def _equal_pairs(keys: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """keys: sorted -> all pairs of positions with equal keys, in portions."""
    positions = np.arange(len(keys))
    partners = np.searchsorted(keys, keys, side="right") - positions - 1
    ends = np.cumsum(partners)
    start = 0
    while start < len(keys):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        counts = partners[start:stop]
        left = np.repeat(positions[start:stop], counts)
        steps = np.arange(len(left)) - np.repeat(ends[start:stop] - counts - before, counts)
        yield left, left + 1 + steps
        start = stop


def _popcount(values: Hashes) -> NDArray[np.int64]:
    parts = np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4)
    counts: NDArray[np.int64] = _POPCOUNT[parts].sum(axis=1, dtype=np.int64)
    return counts


def _components(values: Hashes, distance: int) -> Indices:
    """For each of the different hashes the number of its cluster: the smallest index in it."""
    tops: Indices = np.arange(len(values))
    for a, b in near_pairs(values, distance):
        while (apart := tops[a] != tops[b]).any():
            a, b = a[apart], b[apart]
            low, high = np.minimum(tops[a], tops[b]), np.maximum(tops[a], tops[b])
            tops[high] = low  # of several for one the last wins; the others come round again
            while not np.array_equal(above := tops[tops], tops):
                tops = above
    return tops


def _copies(hashes: Sequence[int]) -> tuple[Hashes, list[list[int]]]:
    """The different hashes but 0, sorted, and for each the places where it stands."""
    every = np.array(hashes, dtype=np.uint64)
    order = np.argsort(every, kind="stable")
    values, starts = np.unique(every[order], return_index=True)
    copies = [part.tolist() for part in np.split(order, starts[1:])] if len(order) else []
    zero = len(values) > 0 and values[0] == 0
    return (values[1:], copies[1:]) if zero else (values, copies)
