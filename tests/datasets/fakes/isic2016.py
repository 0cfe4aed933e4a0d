"""ISIC 2016, task 1: four archives unpacked side by side."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.fakes import blob, grey, picture, save

NAME = "ISBI2016_ISIC_Part1_{}"
TRAINING = tuple(range(0, 24, 2))
TEST = (3, 9, 15, 21)


def write(root: Path, *, double: bool = False, suffix: str = "_Segmentation", test: bool = True) -> Path:
    """Twelve training and four test pairs, two sizes. double: each folder within one of the same name, as
    unpacking by mouse makes it. suffix: of the masks. test: whether the test set was downloaded."""
    for part, numbers in (("Training", TRAINING), ("Test", TEST if test else ())):
        for number in numbers:
            height, width = (48, 64) if number % 4 else (40, 40)
            stem = f"ISIC_{number:07d}"
            save(_at(root, f"{part}_Data", double) / f"{stem}.jpg", picture(number, height, width))
            mask = blob(10, 12, 12 + number // 3, height, width)
            save(_at(root, f"{part}_GroundTruth", double) / f"{stem}{suffix}.png", grey(mask))
    return root


def _at(root: Path, content: str, double: bool) -> Path:
    folder = root / NAME.format(content)
    return folder / folder.name if double else folder
