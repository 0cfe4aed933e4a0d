"""BUSI: three classes, masks of several kinds, several of them for some images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.datasets.fakes import blob, grey, picture, rgb, save

COUNTS = {"benign": 9, "malignant": 6, "normal": 4}
SEVERAL = {("benign", 4): 2, ("benign", 7): 3, ("malignant", 2): 2}  # masks of an image
RGBA = ("benign", 4)  # its second mask


def size(kind: str, number: int) -> tuple[int, int]:
    """Nearly every image has a size of its own: (height, width)."""
    return 40 + number, 48 + 2 * number + len(kind)


def lesion(kind: str, number: int, which: int = 0) -> NDArray[np.bool_]:
    """What the mask number `which` of an image shows."""
    height, width = size(kind, number)
    return blob(4 + 12 * which, 6 + 14 * which, 9, height, width) & (kind != "normal")


def write(root: Path, *, masks: str | None = None) -> Path:
    """Nineteen images in Dataset_BUSI_with_GT. masks: the name of the masks' folder ("mask", "masks") in
    the variant that has images and masks apart; the masks are called as the images are there."""
    for start, (kind, count) in enumerate(COUNTS.items()):
        folder = root / "Dataset_BUSI_with_GT" / kind
        for number in range(1, count + 1):
            stem = f"{kind} ({number})"
            pixels = picture(100 * start + number, *size(kind, number))
            save(
                folder / ("images" if masks else "") / f"{stem}.png", np.repeat(pixels[..., :1], 3, axis=2)
            )
            for which in range(SEVERAL.get((kind, number), 1)):
                more = f"_{which}" if which else ""
                name = f"{stem}.png" if masks and not which else f"{stem}_mask{more}.png"
                _save_mask(folder / (masks or "") / name, kind, number, which)
    return root


def _save_mask(path: Path, kind: str, number: int, which: int) -> None:
    mask = lesion(kind, number, which)
    if kind == "normal":
        save(path, rgb(mask))
    elif (kind, number) == RGBA and which:
        save(path, np.dstack([rgb(mask), grey(np.ones_like(mask))]))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)  # one bit a pixel
