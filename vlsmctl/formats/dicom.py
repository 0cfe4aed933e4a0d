"""DICOM in, as frames: single images, series sorted by position, clips, enhanced objects; masks out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.files import atomic_folder
from vlsmctl.formats.dicom_display import modality_values, windowed, without_padding
from vlsmctl.formats.dicom_elements import naming_elements
from vlsmctl.formats.dicom_frames import Arranged, arrange
from vlsmctl.formats.dicom_geometry import Place, is_sheared, series_geometry
from vlsmctl.formats.dicom_pixels import decoded, open_pixels
from vlsmctl.formats.intensity import as_rgb, robust_range, to_grey
from vlsmctl.formats.nifti_writing import write_grid
from vlsmctl.formats.records import (
    Found,
    Frames,
    Origin,
    Reading,
    Scan,
    Segment,
    Window,
    check_frames,
)


def open_dicom(found: Found, reading: Reading) -> Scan:
    """One DICOM file, or the files of a series, as a scan; only headers are read.

    Frames are sorted as `dicom_frames.arrange` says, and shown as stored: the modality transform is
    applied, then `reading.window` (a named CT window for CT alone), else the VOI LUT, else the first
    window, else the 0.5th and 99.5th percentile of the scan without its padding; MONOCHROME1 is inverted;
    colour becomes RGB. Frames are decoded one at a time, in any order, from files that are not kept open.

    The volume is a NIfTI whose affine comes from ImagePositionPatient, ImageOrientationPatient and
    PixelSpacing alone; its voxel index is (column, row, slice). A tilted gantry gives a sheared affine,
    stored as sform only, for a qform cannot hold it. Frames that make no volume that can be trusted have
    none (`no_volume` says why); with a place each they may still be written slice by slice, and DICOM SEG
    refers to them whatever their places.

    Raises UnreadableFile for the whole scan: a file cut off, without image or of a compression that cannot
    be decoded here, or frames of different sizes.
    """
    arranged = arrange(found)
    sources, shape, geometry = arranged.sources, arranged.shape, arranged.geometry
    places = [source.place for source in sources if source.place is not None]
    count = len(sources)

    def write_volume(frames: Frames, target: Path) -> None:
        check_frames(frames, count, shape)
        assert geometry is not None  # noqa: S101 (offered with one only)
        write_grid(frames, geometry.affine, target, sheared=is_sheared(geometry.affine))

    def write_slices(frames: Frames, folder: Path) -> None:
        check_frames(frames, count, shape)
        _write_slices(frames, places, folder)

    def write_segments(segments: Sequence[Segment], origin: Origin, target: Path) -> None:
        from vlsmctl.formats.dicom_seg import write_seg  # slow to import

        for segment in segments:
            check_frames(segment.frames, count, shape)
        write_seg(sources, segments, origin, target)

    return Scan(
        source=found.source,
        kind="dicom",
        frame_count=count,
        frame_shape=shape,
        geometry=geometry,
        read_frame=_frame_reader(arranged, reading.window),
        write_volume=None if geometry is None else write_volume,
        no_volume=arranged.no_volume,
        write_slices=write_slices if len(places) == count else None,
        write_segments=write_segments,
        description=arranged.description,
    )


@dataclass(frozen=True)
class _OneFrame:
    """One of many frames, as `Frames` of their own."""

    frames: Frames
    number: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.frames.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frames.dtype

    @property
    def scale(self) -> float:
        return self.frames.scale

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int, /) -> NDArray[Any]:
        return self.frames[range(self.number, self.number + 1)[number]]


def _write_slices(frames: Frames, places: Sequence[Place], folder: Path) -> None:
    """0001.nii.gz and so on, in the order of the slices, each where it lies."""
    digits = max(4, len(str(len(places))))
    with atomic_folder(folder) as temporary:
        for number, place in enumerate(places):
            affine = series_geometry([place]).affine
            name = f"{number + 1:0{digits}}.nii.gz"
            write_grid(_OneFrame(frames, number), affine, temporary / name, sheared=is_sheared(affine))


def _frame_reader(arranged: Arranged, window: Window | None) -> Callable[[int], NDArray[np.uint8]]:
    """Number of the frame -> uint8 RGB [H, W, 3]."""
    sources, scopes = arranged.sources, arranged.scopes
    opened = lru_cache(maxsize=1)(open_pixels)  # the frames of one file are asked for in a row
    if window is not None and window.ct_only and arranged.modality != "CT":
        window = None

    def shown_values(number: int) -> NDArray[Any]:
        """What the range of grey levels is chosen by."""
        source = sources[number]
        file = opened(source.path)
        frame = decoded(file, source.index)
        if frame.ndim == 3:
            return frame
        with naming_elements(source.path):
            return without_padding(file.header, frame, modality_values(file.header, scopes[number], frame))

    @cache
    def fallback() -> tuple[float, float]:
        return robust_range(shown_values, len(sources))

    def read_frame(number: int) -> NDArray[np.uint8]:
        if not 0 <= number < len(sources):
            raise IndexError(f"frame {number} of {len(sources)}")
        source = sources[number]
        file = opened(source.path)
        frame = decoded(file, source.index)
        if frame.ndim == 3:
            return np.ascontiguousarray(frame, np.uint8)
        with naming_elements(source.path):
            values = modality_values(file.header, scopes[number], frame)
            grey = windowed(file.header, scopes[number], values) if window is None else to_grey(
                values, window.low, window.high
            )  # fmt: skip
        if grey is None:
            grey = to_grey(values, *fallback())
        inverted = file.layout.photometric == "MONOCHROME1"
        return as_rgb(255 - grey if inverted else grey)

    return read_frame
