"""BKAI-IGH NeoPolyp: JPEG masks, red for neoplastic and green for non-neoplastic polyps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.datasets.fakes import blob, picture, save


def _name(number: int) -> str:
    """32 hex digits."""
    return f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


IDS = tuple(_name(number) for number in range(13))
RED, GREEN, BOTH, NONE = IDS[0], IDS[1], IDS[2], IDS[3]  # what is in their masks
SIZE = (48, 64)


def write(root: Path, *, doubled: bool = True) -> Path:
    """train/train, train_gt/train_gt and test/test (without masks); or not `doubled`."""
    folder = root / "bkai-igh-neopolyp"
    for number, each in enumerate(IDS):
        pixels = np.zeros((*SIZE, 3), np.uint8)
        if each not in (GREEN, NONE):
            pixels[blob(5, 3 + number, 16, *SIZE), 0] = 255
        if each in (GREEN, BOTH):
            pixels[blob(27, 40, 16, *SIZE), 1] = 255
        save(_folder(folder, "train", doubled) / f"{each}.jpeg", picture(number, *SIZE))
        save(_folder(folder, "train_gt", doubled) / f"{each}.jpeg", pixels)
    for number in (100, 101):
        save(_folder(folder, "test", doubled) / f"{_name(number)}.jpeg", picture(number, *SIZE))
    (folder / "sample_submission.csv").write_text("ImageId,encoded_pixels\n", encoding="utf-8")
    return folder


def _folder(folder: Path, name: str, doubled: bool) -> Path:
    return folder / name / name if doubled else folder / name
