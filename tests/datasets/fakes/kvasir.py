"""Kvasir-SEG: JPEG pictures of many sizes, JPEG masks in three channels, names of 25 characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.datasets.fakes import blob, picture, rgb, save

IDS = (*(f"cj{'uyz'[number % 3]}0qkwl35piu0993l01{number:05d}" for number in range(12)), f"ck2bxi{0:019d}")
DUSTY = IDS[3]  # its mask has one white pixel at (0, 0)


def write(
    root: Path, *, pranet: bool = False, official: bool = False, ids: tuple[str, ...] = IDS, name: str = ""
) -> Path:
    """Kvasir-SEG/{images,masks}/*.jpg; or PraNet's Kvasir/{images,masks}/*.png; with the two lists of the
    official split, if `official`."""
    folder = root / (name or ("Kvasir" if pranet else "Kvasir-SEG"))
    suffix = ".png" if pranet else ".jpg"
    for number, each in enumerate(ids):
        height, width = 32 + 4 * (number % 3), 40 + 8 * (number % 4)
        mask = blob(6 + number % 7, 5 + number, 12, height, width)
        mask[0, 0] = each == DUSTY
        save(folder / "images" / f"{each}{suffix}", picture(number, height, width))
        _save_mask(folder / "masks" / f"{each}{suffix}", rgb(mask))
    if not pranet:
        folder.mkdir(exist_ok=True)
        (folder / "kavsir_bboxes.json").write_text('{"cju": {"bbox": []}}', encoding="utf-8")
    if official:
        (folder / "train.txt").write_text("".join(f"{each}\n" for each in ids[:-3]), encoding="utf-8")
        (folder / "val.txt").write_text("\r\n".join(f"{each}.jpg" for each in ids[-3:]), encoding="utf-8")
    return folder


def _save_mask(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=92, subsampling=0)
