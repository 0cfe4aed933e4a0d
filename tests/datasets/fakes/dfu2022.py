"""DFUC 2022: the training release, masks of 0 and 255 or of 0 and 1."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.fakes import blob, grey, picture, save

NUMBERS = tuple(range(100001, 100015))


def write(root: Path, *, high: int = 255) -> Path:
    """Fourteen pairs of 64 x 48 pixels, one with two ulcers. high: the masks' foreground."""
    release = root / "DFUC2022_train_release"
    for number in NUMBERS:
        mask = blob(8 + number % 7, 10, 12, 48, 64)
        if number == 100005:
            mask |= blob(30, 44, 8, 48, 64)
        save(release / "DFUC2022_train_images" / f"{number}.jpg", picture(number, 48, 64))
        save(release / "DFUC2022_train_masks" / f"{number}.png", grey(mask, high))
    return root
