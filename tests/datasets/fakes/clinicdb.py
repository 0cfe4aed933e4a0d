"""CVC-ClinicDB: TIFF images of three channels that call themselves grey, masks with values in between."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tests.datasets.fakes import blob, grey, picture, save

FRAMES = (1, 25, 26, 67, 68, 78, 79, 103, 104, 205, 206, 591, 592, 612)  # 10 sequences, and their edges
SOFT = 25  # its mask has values between 0 and 255


def write(
    root: Path,
    *,
    kaggle: bool = False,
    pranet: bool = False,
    small: bool = False,
    frames: tuple[int, ...] = FRAMES,
) -> Path:
    """Original/<n>.tif and Ground Truth/<n>.tif (`small`: in small letters); Kaggle's has that below TIF/
    and PNG/ (the folder TIF/ is returned); PraNet's is images/ and masks/<n>.png."""
    top = root / "CVC-ClinicDB"
    if pranet:
        return _frames(top, "images", "masks", ".png", frames)
    names = ("original", "ground truth") if small else ("Original", "Ground Truth")
    if not kaggle:
        return _frames(top, *names, ".tif", frames)
    (top / "metadata.csv").parent.mkdir(parents=True)
    (top / "metadata.csv").write_text("frame_id,sequence_id\n1,1\n", encoding="utf-8")
    _frames(top / "PNG", *names, ".png", frames)
    return _frames(top / "TIF", *names, ".tif", frames)


def _frames(folder: Path, images: str, masks: str, suffix: str, frames: tuple[int, ...]) -> Path:
    for frame in frames:
        path = folder / images / f"{frame}{suffix}"
        save(path, picture(frame, 36, 48))
        if suffix == ".tif":
            call_grey(path)
        mask = grey(blob(4 + frame % 11, 3 + frame % 23, 12, 36, 48))
        if frame == SOFT:
            mask[:, :6] = np.array([0, 30, 96, 160, 225, 255], np.uint8)
        save(folder / masks / f"{frame}{suffix}", mask)
    return folder


def call_grey(path: Path) -> None:
    """Sets the photometric interpretation (tag 262) of a TIFF from RGB (2) to BlackIsZero (1)."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    (at,) = (entry for entry in entries if struct.unpack_from("<H", content, entry)[0] == 262)
    assert struct.unpack_from("<H", content, at + 8) == (2,)
    struct.pack_into("<H", content, at + 8, 1)
    path.write_bytes(content)
