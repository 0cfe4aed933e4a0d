from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets import fakes
from vlsmctl.batches import Samples, augment_light, epoch_order, iterate, load_samples, shard
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.errors import UsageError
from vlsmctl.preprocessing import Preprocessing

SIDE = 16
CPU = torch.device("cpu")


def record(number: int, split: str = "train") -> Record:
    name = f"case{number}.png"
    return Record(
        f"case{number}", f"images/{name}", f"masks/{name}", split, {"p1": "polyp"}, {}, None,
        40, 24, 0.1, "0",
    )  # fmt: skip


def prepared(folder: Path, count: int = 5) -> Manifest:
    """Pictures of 24 x 40 pixels, each with its own square."""
    records = tuple(record(number) for number in range(count))
    for number, one in enumerate(records):
        mask = fakes.blob(row=number, column=3 * number, height=24, width=40)
        fakes.save(folder / one.image, fakes.picture(number, height=24, width=40))
        fakes.save(folder / one.mask, fakes.grey(mask))
    return Manifest(folder, records, {}, "0")


def loaded(manifest: Manifest, workers: int = 2) -> Samples:
    return load_samples(manifest, "train", Preprocessing(SIDE), workers=workers, device=CPU)


def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))


def test_samples_are_the_resized_files_in_manifest_order(tmp_path: Path) -> None:
    samples = loaded(prepared(tmp_path))
    assert len(samples) == 5
    assert samples.images is not None
    assert samples.masks is not None
    assert (samples.images.shape, samples.images.dtype) == ((5, 3, SIDE, SIDE), torch.uint8)
    assert (samples.masks.shape, samples.masks.dtype) == ((5, 1, SIDE, SIDE), torch.uint8)
    preprocessing = Preprocessing(SIDE)
    for number in range(5):
        image = preprocessing.resize_image(fakes.picture(number, height=24, width=40))
        assert np.array_equal(samples.images[number].permute(1, 2, 0).numpy(), image)
        mask = fakes.grey(fakes.blob(row=number, column=3 * number, height=24, width=40))
        assert np.array_equal(samples.masks[number, 0].numpy(), preprocessing.resize_mask(mask))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_split_too_large_for_memory_gives_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    manifest, order = prepared(tmp_path), [4, 0, 3, 1, 2]
    kept = list(iterate(loaded(manifest), order, 2, workers=1))
    no_memory(monkeypatch)
    samples = loaded(manifest)
    assert samples.images is None
    assert len(samples) == 5
    anew = list(iterate(samples, order, 2, workers=workers))
    assert len(anew) == len(kept) == 3
    for one, other in zip(kept, anew, strict=True):
        assert one.image.equal(other.image)
        assert one.mask.equal(other.mask)
        assert one.records == other.records


def test_batches_follow_the_order(tmp_path: Path) -> None:
    samples = loaded(prepared(tmp_path))
    parts = list(iterate(samples, [4, 0, 3, 1, 2], 2, workers=1))
    assert [[one.id for one in part.records] for part in parts] == [
        ["case4", "case0"], ["case3", "case1"], ["case2"],
    ]  # fmt: skip
    first = parts[0]
    assert samples.images is not None
    assert first.image[0].equal(samples.images[4])
    assert first.image.dtype == torch.uint8
    assert first.mask.dtype == torch.float32
    assert set(first.mask.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("keep", [True, False])
def test_a_damaged_picture_is_named_with_the_command_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    manifest = prepared(tmp_path / "kvasir")
    if not keep:
        no_memory(monkeypatch)
    for damage in (fakes.truncate, Path.unlink):
        damage(tmp_path / "kvasir" / "images" / "case3.png")
        with pytest.raises(UsageError, match=r"case3\.png: listed in the manifest") as caught:
            list(iterate(loaded(manifest), range(5), 2, workers=2))
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("vlsmctl prepare kvasir")


def test_a_damaged_mask_is_found_too(tmp_path: Path) -> None:
    manifest = prepared(tmp_path)
    (tmp_path / "masks" / "case1.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"masks.case1\.png.*0 bytes"):
        loaded(manifest)


def test_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images in split='val'"):
        load_samples(prepared(tmp_path), "val", Preprocessing(SIDE), workers=1, device=CPU)


@given(st.integers(0, 200), st.integers(0, 2**63 - 1), st.integers(1, 10_000))
def test_an_epochs_order_is_a_permutation_that_can_be_drawn_again(
    count: int, seed: int, epoch: int
) -> None:
    order = epoch_order(count, seed, epoch)
    assert sorted(order) == list(range(count))
    assert order == epoch_order(count, seed, epoch)


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(5) for epoch in range(1, 6)}
    assert len(orders) == 25


@given(st.lists(st.integers(), min_size=1, max_size=40, unique=True), st.integers(1, 9))
def test_shards_are_equally_long_and_cover_the_batch(indices: list[int], ranks: int) -> None:
    shares = [shard(indices, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert {index for share in shares for index in share} == set(indices)
    assert sum(map(len, shares)) - len(indices) < ranks  # no more is repeated than needed


def test_one_process_has_the_whole_batch() -> None:
    assert shard([3, 1, 2], 0, 1) == [3, 1, 2]


def test_processes_share_every_batch(tmp_path: Path) -> None:
    samples = loaded(prepared(tmp_path))
    order = [0, 1, 2, 3, 4]
    per_rank = [list(iterate(samples, order, 4, workers=1, rank=rank, ranks=2)) for rank in range(2)]
    assert [len(parts) for parts in per_rank] == [2, 2]
    seen = [{one.id for parts in per_rank for one in parts[number].records} for number in range(2)]
    assert seen == [{"case0", "case1", "case2", "case3"}, {"case4"}]


def pictures(count: int = 4, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(count, 1, side, side)
    mask[..., 4:14, 16:30] = 1
    return image, mask


def test_augmentation_keeps_shapes_kinds_and_values() -> None:
    image, mask = pictures()
    before = image.clone(), mask.clone()
    changed, moved = augment_light(image, mask, (42, 1, 1))
    assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)
    assert (moved.shape, moved.dtype) == (mask.shape, torch.float32)
    assert set(moved.flatten().tolist()) <= {0.0, 1.0}
    assert image.equal(before[0])
    assert mask.equal(before[1])
    assert not changed.equal(image)


def test_augmentation_is_drawn_from_its_seed() -> None:
    image, mask = pictures()
    first, again = augment_light(image, mask, (42, 3, 7)), augment_light(image, mask, (42, 3, 7))
    assert first[0].equal(again[0])
    assert first[1].equal(again[1])
    for other in ((42, 3, 8), (42, 4, 7), (43, 3, 7)):
        assert not augment_light(image, mask, other)[0].equal(first[0])
    twins = augment_light(image[:1].expand(3, -1, -1, -1), mask[:3], (42, 3, 7))[0]
    assert not any(one.equal(two) for one, two in pairwise(twins))  # each picture is changed its own way


def test_augmentation_moves_the_mask_with_the_picture_and_never_mirrors() -> None:
    """A square at the upper right stays there, in both, under every draw."""
    mask = torch.zeros(40, 1, 64, 64)
    mask[..., 8:24, 40:56] = 1
    image = (mask * 200 + 20).expand(-1, 3, -1, -1).to(torch.uint8)
    changed, moved = augment_light(image, mask, (1, 2, 3))
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    for one, target in zip(changed, moved[:, 0], strict=True):
        assert ((one[0] > 110) != (target > 0.5)).float().mean() < 0.01
        assert abs((rows * target).sum() / target.sum() - 15.5) < 8
        assert abs((columns * target).sum() / target.sum() - 47.5) < 8
    assert len({float(target.sum()) for target in moved}) > 5  # scale and place do change
