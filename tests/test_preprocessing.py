from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vlsmctl.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalise


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def half(height: int, width: int, axis: int) -> NDArray[np.bool_]:
    """A mask of the upper (axis 0) or left (axis 1) half."""
    rows, columns = np.indices((height, width))
    return (rows < height // 2) if axis == 0 else (columns < width // 2)


def test_normalise_is_imagenets() -> None:
    image = torch.from_numpy(noise(4, 5)).permute(2, 0, 1)[None]
    normal = normalise(image)
    assert normal.dtype == torch.float32
    for channel in range(3):
        expected = (image[0, channel].float() / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        torch.testing.assert_close(normal[0, channel], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(64, 64), (20, 90), (1, 1), (300, 31)])
def test_sizes_and_kinds(shape: tuple[int, int]) -> None:
    preprocessing = Preprocessing(64)
    image, mask = noise(*shape), (noise(*shape)[..., 0] > 99).astype(np.uint8) * np.uint8(255)
    small, small_mask = preprocessing.resize_image(image), preprocessing.resize_mask(mask)
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.uint8
    assert small_mask.shape == (64, 64)
    assert small_mask.dtype == np.uint8
    assert set(np.unique(small_mask)) <= set(np.unique(mask))
    logits = preprocessing.native_logits(torch.zeros(2, 1, 64, 64), *shape)
    assert logits.shape == (2, 1, *shape)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    image = noise(32, 32)
    assert np.array_equal(Preprocessing(32).resize_image(image), image)
    logits = torch.randn(1, 1, 32, 32)
    assert Preprocessing(32).native_logits(logits, 32, 32).equal(logits)


@pytest.mark.parametrize("shape", [(40, 40), (200, 120), (37, 301), (64, 20)])
@pytest.mark.parametrize("axis", [0, 1])
def test_there_and_back_lands_on_the_same_pixels(shape: tuple[int, int], axis: int) -> None:
    """Rows stay rows, columns columns, and nothing shifts by more than a pixel of the coarser grid."""
    preprocessing, mask = Preprocessing(64), half(*shape, axis)
    small = preprocessing.resize_mask(mask.astype(np.uint8) * np.uint8(255))
    logits = torch.from_numpy(small.astype(np.float32) / 127.5 - 1)[None, None]
    back = preprocessing.native_logits(logits, *shape)[0, 0].numpy() > 0
    step = max(1, -(-shape[axis] // 64))
    wrong = np.flatnonzero((back != mask).any(axis=1 - axis))
    assert all(abs(place - shape[axis] // 2) <= step for place in wrong)


def test_image_and_mask_are_resized_to_the_same_places() -> None:
    for axis in (0, 1):
        mask = half(90, 150, axis).astype(np.uint8) * np.uint8(255)
        preprocessing = Preprocessing(32)
        image = preprocessing.resize_image(np.repeat(mask[..., None], 3, axis=2))
        assert (np.abs(image[..., 0].astype(int) - preprocessing.resize_mask(mask)) > 128).sum() == 0


def test_shrinking_averages_instead_of_picking() -> None:
    """Noise of standard deviation 74 shrunk by 8: picking leaves it, or half of it where it mixes four."""
    picture = noise(256, 256)
    assert Preprocessing(32).resize_image(picture).std() < 15
    logits = torch.from_numpy(picture[..., 0].astype(np.float32))[None, None]
    assert Preprocessing(256).native_logits(logits, 32, 32).std() < 15
    mixed = Preprocessing(256).native_logits(logits, 32, 512)  # smaller one way, larger the other
    assert mixed.shape[-2:] == (32, 512)
    assert mixed.std() < 40


@pytest.mark.parametrize(("height", "width"), [(640, 640), (640, 16), (96, 320)])
def test_logits_are_stretched_from_pixel_edge_to_pixel_edge(height: int, width: int) -> None:
    """An edge at a quarter of the width stays there; aligning pixel centres would move it."""
    logits = torch.full((1, 1, 64, 64), -1.0)
    logits[..., :16] = 1
    native = Preprocessing(64).native_logits(logits, height, width)[0, 0]
    assert ((native > 0).sum(dim=1) == width // 4).all()


def test_rows_of_a_batch_do_not_touch() -> None:
    logits = torch.randn(3, 1, 16, 16)
    together = Preprocessing(16).native_logits(logits, 40, 9)
    alone = Preprocessing(16).native_logits(logits[1:2], 40, 9)
    torch.testing.assert_close(together[1:2], alone)
