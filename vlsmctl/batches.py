"""A prepared data set as batches: every picture is decoded and resized once and kept as bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vlsmctl.ahead import ahead
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.formats.raster import read_mask_picture, read_picture
from vlsmctl.preprocessing import Preprocessing

MEMORY_SHARE = (
    0.5  # of the free memory that kept pictures may take; larger sets are decoded anew each epoch
)


@dataclass(frozen=True)
class Samples:
    """One split. images: uint8 [N, 3, S, S] and masks: uint8 [N, 1, S, S] (0 or 255), or None where the
    split does not fit into memory and is decoded batch by batch."""

    folder: Path
    records: tuple[Record, ...]
    preprocessing: Preprocessing
    images: Tensor | None
    masks: Tensor | None

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Batch:
    """image: uint8 [B, 3, S, S]; mask: float32 [B, 1, S, S] of 0 and 1; the records they come from."""

    image: Tensor
    mask: Tensor
    records: list[Record]


def load_samples(
    manifest: Manifest, split: str, preprocessing: Preprocessing, *, workers: int, device: torch.device
) -> Samples:
    """Decodes and resizes a split once, on `workers` threads, and keeps it on `device` if it fits there,
    else in memory, else not at all. Raises UsageError when a file of the manifest cannot be read."""
    records = manifest.split(split)
    samples = Samples(manifest.folder, records, preprocessing, None, None)
    needed = len(records) * 4 * preprocessing.image_size**2
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # each keeps a copy of its own
    if not records or needed * processes > MEMORY_SHARE * psutil.virtual_memory().available:
        return samples
    with ThreadPoolExecutor(max(1, workers)) as pool:
        images, masks = _decode(samples, range(len(records)), pool)
    if device.type == "cuda" and needed < MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]:
        images, masks = images.to(device), masks.to(device)
    return Samples(manifest.folder, records, preprocessing, images, masks)


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: a permutation of `count` seeded with (seed, epoch)."""
    return [int(index) for index in np.random.default_rng((seed, epoch)).permutation(count)]


def shard(indices: Sequence[int], rank: int, ranks: int) -> list[int]:
    """This process's share of a batch. All shares are equally long (the first indices are used again
    where they do not divide evenly), so that gradients weigh alike and no process waits for ever."""
    short = -len(indices) % ranks
    return [*indices, *(indices[k % len(indices)] for k in range(short))][rank::ranks]


def iterate(samples: Samples, order: Sequence[int], batch_size: int, *, workers: int, rank: int = 0,
            ranks: int = 1) -> Iterator[Batch]:  # fmt: skip
    """The batches of an epoch, `batch_size` over all processes, in the given order. Where the split is
    not kept, the next batches are decoded while one is used."""
    parts = [
        shard(order[start : start + batch_size], rank, ranks) for start in range(0, len(order), batch_size)
    ]
    if samples.images is None or samples.masks is None:
        yield from ahead(_decoded(samples, parts, workers), depth=2)
        return
    for indices in parts:
        where = torch.tensor(indices, device=samples.images.device)
        yield _batch(samples, indices, samples.images[where], samples.masks[where])


def augment_light(image: Tensor, mask: Tensor, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Slightly changes brightness, contrast, scale and position; never mirrors, because prompts name
    places. image: uint8 [B, 3, S, S]; mask: float [B, 1, S, S]; the same shapes come out."""
    generator = torch.Generator().manual_seed(_number(seed))
    count = len(image)

    def draw(low: float, high: float) -> Tensor:
        drawn = torch.rand(count, generator=generator) * (high - low) + low
        return drawn.to(image.device)

    gain, shift = draw(0.85, 1.15).view(-1, 1, 1, 1), draw(-15, 15).view(-1, 1, 1, 1)
    theta = torch.zeros(count, 2, 3, device=image.device)
    scale = draw(0.85, 1.1)
    theta[:, 0, 0], theta[:, 1, 1] = scale, scale
    theta[:, 0, 2], theta[:, 1, 2] = draw(-0.08, 0.08), draw(-0.08, 0.08)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    sample = partial(F.grid_sample, grid=grid, align_corners=False)
    moved = sample(image.float(), mode="bilinear", padding_mode="reflection")
    toned = ((moved - 128) * gain + 128 + shift).clamp(0, 255).to(torch.uint8)
    return toned, sample(mask, mode="nearest", padding_mode="reflection")


def _number(seed: tuple[int, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:7], "big")


def _batch(samples: Samples, indices: Sequence[int], images: Tensor, masks: Tensor) -> Batch:
    return Batch(images, masks.float() / 255, [samples.records[index] for index in indices])


def _decoded(samples: Samples, parts: Iterable[Sequence[int]], workers: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for indices in parts:
            yield _batch(samples, indices, *_decode(samples, indices, pool))


def _decode(samples: Samples, indices: Sequence[int], pool: ThreadPoolExecutor) -> tuple[Tensor, Tensor]:
    """Decodes into place, so that no more memory is needed than what is kept."""
    side = samples.preprocessing.image_size
    images = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
    masks = torch.empty(len(indices), 1, side, side, dtype=torch.uint8)

    def fill(row: int) -> None:
        image, mask = _read(samples.folder, samples.preprocessing, samples.records[indices[row]])
        images[row] = torch.tensor(image).permute(2, 0, 1)
        masks[row, 0] = torch.tensor(mask)

    for _ in pool.map(fill, range(len(indices))):
        pass
    return images, masks


def _read(
    folder: Path, preprocessing: Preprocessing, record: Record
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        image = read_picture(folder / record.image)
        mask = read_mask_picture(folder / record.mask)
    except (UnreadableFile, OSError) as error:
        raise UsageError(
            f"{folder / record.image}: listed in the manifest, but cannot be read: {error}",
            hint=f"vlsmctl prepare {folder.name} --raw PATH",
        ) from error
    return preprocessing.resize_image(image), preprocessing.resize_mask(mask)
