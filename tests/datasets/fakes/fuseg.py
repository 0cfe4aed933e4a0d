"""The Foot Ulcer Segmentation Challenge's raw layout."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.fakes import blob, picture, rgb, save


def write(root: Path) -> Path:
    """The challenge's layout: RGB labels, one with a stray 32, an empty one in each part, and 0003 of
    train the same picture as 0502 of validation; test has no labels."""
    for number in range(1, 13):
        label = rgb(blob() & (number != 2))
        if number == 4:
            label[0, 0] = 32
        save(root / "train" / "images" / f"{number:04d}.png", picture(number))
        save(root / "train" / "labels" / f"{number:04d}.png", label)
    for number in range(501, 505):
        save(root / "validation" / "images" / f"{number:04d}.png", picture(3 if number == 502 else number))
        save(root / "validation" / "labels" / f"{number:04d}.png", rgb(blob() & (number != 504)))
    save(root / "test" / "images" / "0901.png", picture(901))
    return root
