"""ETIS-Larib Polyp DB: PraNet's copy, the original TIFF files, and Kaggle's JPEG copy."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.fakes import blob, grey, picture, rgb, save

FRAMES = (*range(1, 13), 196)


def write(
    root: Path, *, original: bool = False, kaggle: bool = False, beside: bool = False, name: str = ""
) -> Path:
    """ETIS-LaribPolypDB/{images,masks}/<n>.png; the original: images/<n>.tif and masks/p<n>.tif (`beside`:
    both in one folder); Kaggle's: ETIS-Larib/{images,masks}/<n>.jpg."""
    folder = root / (name or ("ETIS-Larib" if kaggle else "ETIS-LaribPolypDB"))
    images, masks = (folder, folder) if beside else (folder / "images", folder / "masks")
    suffix = ".tif" if original or beside else ".jpg" if kaggle else ".png"
    mark = "p" if original or beside else ""
    for frame in FRAMES:
        mask = blob(5, 2 + frame % 17, 14, 32, 40)
        save(images / f"{frame}{suffix}", picture(2000 + frame, 32, 40))
        save(masks / f"{mark}{frame}{suffix}", rgb(mask) if kaggle else grey(mask))
    return folder
