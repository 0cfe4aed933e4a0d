"""Tiny fakes of raw layouts, 64-pixel pictures and smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32


def picture(number: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """A picture that differs from that of every other number."""
    noise = np.random.default_rng(number).integers(0, 256, (height, width, 3))
    return noise.astype(np.uint8)


def blob(
    row: int = 8, column: int = 8, side: int = 10, height: int = SIDE, width: int = SIDE
) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[row : row + side, column : column + side] = True
    return mask


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def grey(mask: NDArray[np.bool_], high: int = 255) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(high)


def rgb(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.repeat(grey(mask)[..., None], 3, axis=2)


def generic(root: Path, count: int = 10, high: int = 255, empty: tuple[int, ...] = ()) -> Path:
    """images/case00.png .. with masks/; those in `empty` have nothing in their masks."""
    for number in range(count):
        mask = blob() & (number not in empty)
        save(root / "images" / f"case{number:02d}.png", picture(number))
        save(root / "masks" / f"case{number:02d}.png", grey(mask, high))
    return root


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
