"""What passes between finding scans, opening them and writing their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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
    gaps: whether there is more between two slices than the file says that they show (slices much thinner
        than they are apart): good for placing the mask, not for measuring.
    """

    affine: NDArray[np.float64]
    thickness_assumed: bool = False
    gaps: bool = False

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance from voxel to voxel along each axis, mm."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)

    @property
    def voxel_ml(self) -> float | None:
        """Volume of one voxel, ml, true for sheared grids too; None where the thickness is assumed, or
        there are gaps."""
        if self.thickness_assumed or self.gaps:
            return None
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class Found:
    """One thing to predict: found, not yet opened. Small and picklable.

    root: the input (file or folder) that it was found through.
    source: the file, or the folder of a DICOM series (where its files lie in several: the folder above
        them all).
    relative: where it lies below the root, for naming the output.
    kind: "picture", "nifti" or "dicom".
    files: every file that belongs to it, in the order of their paths.
    series_number: 1, 2, 3 .. for several DICOM series, or parts of one, in one folder.
    single: whether it is known to be a single frame.
    """

    root: Path
    source: Path
    relative: Path
    kind: str
    files: tuple[Path, ...]
    series_number: int = 1
    single: bool = False


@dataclass(frozen=True)
class Problem:
    """Something that was named as an input, or looks like a scan, and cannot be one; and why.

    harmless: nothing was lost by passing it over (the masks of an earlier run, a second copy of a file).
    """

    path: Path
    reason: str
    harmless: bool = False


@dataclass(frozen=True)
class Window:
    """The values to show as black and as white. ct_only: a named CT window, which says nothing of the
    values of an MR or PET image."""

    low: float
    high: float
    ct_only: bool = False


@dataclass(frozen=True)
class Reading:
    """How scans are read.

    axis: what the slices of a NIfTI volume follow one another along, a voxel axis (0, 1, 2) or a plane
        ("axial", "coronal", "sagittal"); None chooses, see `nifti.slice_view`.
    window: None is automatic: the file's own, else robust percentiles.
    """

    axis: int | str | None = None
    window: Window | None = None


class Frames(Protocol):
    """Arrays of one size, one a frame, in frame order; each may be read any number of times.

    dtype: bool for masks, uint8 for label maps (0 is background), float32 for probabilities, or uint8
    for probabilities in 255ths. scale: what a stored 1 stands for, 1/255 of the latter, else 1.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)"""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def scale(self) -> float: ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8): value and meaning in a coding scheme, such as SCT."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Segment:
    """One segment of a DICOM SEG. label: the prompt. frames: bool, or probabilities. category, kind:
    the coded category and type of what it shows (for instance morphologically altered structure; polyp)."""

    label: str
    frames: Frames
    category: Code
    kind: Code


@dataclass(frozen=True)
class Origin:
    """What made a mask. model: in words; fingerprint: tells apart what the mask depends on (file, model,
    options): the same fingerprint, the same mask; base_sha256, adapter_sha256: of the base model's tensors
    and of the adapter file, where there is one."""

    model: str
    fingerprint: str
    base_sha256: str = ""
    adapter_sha256: str | None = None


@dataclass(frozen=True)
class Scan:
    """An opened scan: frames out, masks in.

    source, kind: as in `Found`.
    frame_shape: (height, width) of every frame.
    geometry: of the whole scan; None where the file holds none (pictures, clips) or none that can be
        trusted, see `no_volume`.
    read_frame: number of the frame -> uint8 RGB [H, W, 3]. Raises UnreadableFile on damaged pixels.
    write_volume: (frames, path) -> one NIfTI (.nii.gz) on exactly the scan's grid; None where there is
        no such grid, and then no_volume says why.
    write_slices: (frames, folder) -> one NIfTI a slice, each in its own place; None where slices have none.
    write_segments: (segments, origin, path) -> one DICOM SEG that refers to the source; for DICOM only.
        All writers are all or nothing: they leave nothing half-written under the final name.
    description: what the file says of itself, for the user's eyes alone (DICOM SeriesDescription).
    volumes: of a 4D file, whose frames are those of one after another.
    """

    source: Path
    kind: str
    frame_count: int
    frame_shape: tuple[int, int]
    geometry: Geometry | None
    read_frame: Callable[[int], NDArray[np.uint8]]
    write_volume: Callable[[Frames, Path], None] | None = None
    no_volume: str | None = None
    write_slices: Callable[[Frames, Path], None] | None = None
    write_segments: Callable[[Sequence[Segment], Origin, Path], None] | None = None
    description: str = ""
    volumes: int = 1


def check_frames(frames: Frames, count: int, shape: tuple[int, int]) -> None:
    """ValueError (a bug of the caller) unless there is an array for every frame, of the frame's shape."""
    if len(frames) != count or frames.shape != shape:
        raise ValueError(f"{len(frames)} arrays of {frames.shape} for {count} frames of {shape}")
