"""What passes between finding scans, opening them and writing their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie.

    affine: float64 [4, 4], voxel index of the mask file -> millimetres, RAS+ (x to the patient's
        right, y to the front, z to the head). May be oblique or sheared (gantry tilt).
    thickness_assumed: whether the third column of the affine has a length that the file does not state
        (a single slice without thickness): good for placing the mask, not for measuring.
    """

    affine: NDArray[np.float64]
    thickness_assumed: bool = False

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance from voxel to voxel along each axis, mm."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)

    @property
    def voxel_ml(self) -> float | None:
        """Volume of one voxel, ml, true for sheared grids too; None where the thickness is assumed."""
        if self.thickness_assumed:
            return None
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class Found:
    """One thing to predict: found, not yet opened. Small and picklable.

    root: the input (file or folder) that it was found through.
    source: the file, or the folder of a DICOM series.
    relative: where it lies below the root, for naming the output.
    kind: "picture", "nifti" or "dicom".
    files: every file that belongs to it, in the order of their paths.
    suffix: of its mask, ".png" or ".nii.gz".
    series_number: 1, 2, 3 .. for several DICOM series in one folder.
    """

    root: Path
    source: Path
    relative: Path
    kind: str
    files: tuple[Path, ...]
    suffix: str
    series_number: int = 1


@dataclass(frozen=True)
class Problem:
    """Something that was named as an input, or looks like a scan, and cannot be one; and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Scan:
    """An opened scan: frames out, masks in.

    source, kind, suffix, series_number: as in `Found`.
    frame_shape: (height, width) of every frame.
    geometry: None where the file holds none (pictures, DICOM photographs).
    read_frame: number of the frame -> uint8 RGB [H, W, 3]. Raises UnreadableFile on damaged pixels.
    write_mask: (bool [H, W] masks, one a frame, in frame order; path) -> writes them in the scan's
        native geometry under that path, all or nothing.
    """

    source: Path
    kind: str
    frame_count: int
    frame_shape: tuple[int, int]
    geometry: Geometry | None
    read_frame: Callable[[int], NDArray[np.uint8]]
    write_mask: Callable[[Iterable[Mask], Path], None]
    suffix: str
    series_number: int = 1


def checked_masks(masks: Iterable[Mask], count: int, shape: tuple[int, int]) -> Iterable[Mask]:
    """The same masks; ValueError (a bug of the caller) unless all are there, bool and of that shape."""
    seen = 0
    for mask in masks:
        if mask.dtype != np.bool_ or mask.shape != shape:
            raise ValueError(f"mask {seen} is {mask.dtype} {mask.shape}, expected bool {shape}")
        seen += 1
        if seen > count:
            raise ValueError(f"more masks than the {count} frames of the scan")
        yield mask
    if seen != count:
        raise ValueError(f"{seen} masks for {count} frames")
