"""CVC-300 as PraNet has it: the frames 149 .. 208 of CVC-ColonDB."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.fakes import blob, grey, picture, save

FRAMES = tuple(range(149, 162))


def write(root: Path, *, name: str = "CVC-300") -> Path:
    """CVC-300/{images,masks}/<n>.png."""
    folder = root / name
    for frame in FRAMES:
        save(folder / "images" / f"{frame}.png", picture(1000 + frame, 32, 40))
        save(folder / "masks" / f"{frame}.png", grey(blob(5, frame - 145, 12, 32, 40)))
    return folder
