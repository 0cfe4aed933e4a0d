"""CVC-ColonDB: PraNet's copy, and the original with four pictures a frame in one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.datasets.fakes import blob, grey, picture, save

FRAMES = tuple(range(147, 161))  # some of them are in CVC-300 too


def write(root: Path, *, original: bool = False, name: str = "CVC-ColonDB") -> Path:
    """CVC-ColonDB/{images,masks}/<n>.png; or <n>.bmp, p<n>.bmp (polyp), s<n>.bmp and c<n>.bmp."""
    folder = root / name
    for frame in FRAMES:
        pixels, mask = picture(1000 + frame, 32, 40), blob(5, frame - 145, 12, 32, 40)
        if not original:
            save(folder / "images" / f"{frame}.png", pixels)
            save(folder / "masks" / f"{frame}.png", grey(mask))
            continue
        save(folder / f"{frame}.bmp", pixels)
        save(folder / f"p{frame}.bmp", grey(mask))
        save(folder / f"s{frame}.bmp", grey(np.zeros_like(mask)))
        save(folder / f"c{frame}.bmp", grey(mask & ~np.roll(mask, 1, axis=0)))
    return folder
