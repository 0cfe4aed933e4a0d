from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.datasets.phantom import make_phantom

COUNTS = (12, 4, 8)


def test_frames_are_drawn_again_the_same() -> None:
    first, second = (make_phantom(np.random.default_rng(5), 64) for _ in range(2))
    other = make_phantom(np.random.default_rng(6), 64)
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (first[0] != other[0]).any()


def test_frames_look_like_frames() -> None:
    drawn = [make_phantom(np.random.default_rng(seed), 64) for seed in range(150)]
    images = np.stack([image for image, _ in drawn])
    masks = np.stack([mask for _, mask in drawn])
    shares = masks.mean(axis=(1, 2))
    assert images.shape == (150, 64, 64, 3)
    assert images.dtype == np.uint8
    assert masks.dtype == np.bool_
    assert 0.04 < (shares == 0).mean() < 0.18
    assert shares.max() < 0.45
    assert np.median(shares[shares > 0]) > 0.015
    red, green, blue = images[:, 16:48, 16:48].reshape(-1, 3).mean(axis=0)
    assert red > green > blue
    assert images[:, 0, 0].max() < 30  # the dark border
    assert images[masks].mean() > 60  # lesions can be seen


def test_a_lesion_differs_from_its_ground_but_not_by_much() -> None:
    gaps = []
    for seed in range(80):
        image, mask = make_phantom(np.random.default_rng(seed), 64)
        visible = image.max(axis=2) > 40
        if mask.sum() > 20:
            gaps.append(np.abs(image[mask].mean(axis=0) - image[visible & ~mask].mean(axis=0)).max())
    assert 8 < np.median(gaps) < 60


def test_prepare_needs_no_raw_data(tmp_path: Path) -> None:
    outcome = prepare("phantom", None, tmp_path, counts=COUNTS)
    assert not outcome.warnings
    manifest = read_manifest(outcome.folder)
    assert outcome.counts == dict(zip(("train", "val", "test"), COUNTS, strict=True))
    assert (outcome.left_out, manifest.info["class"]) == ((), "polyp")
    groups: dict[str | None, set[str]] = {}
    for record in manifest.records:
        groups.setdefault(record.group, set()).add(record.split)
    assert None not in groups
    assert len(groups) == 6
    assert all(len(splits) == 1 for splits in groups.values())
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]


def test_the_seed_decides(tmp_path: Path) -> None:
    hashes = [
        read_manifest(prepare("phantom", None, tmp_path / str(at), seed=seed, counts=(3, 1, 1)).folder).hash
        for at, seed in enumerate((1, 1, 2))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("size", [48, 96, 192])
def test_any_size(size: int) -> None:
    image, mask = make_phantom(np.random.default_rng(1), size)
    assert image.shape == (size, size, 3)
    assert mask.shape == (size, size)
