"""DICOM segmentations (SEG) as labels of a DICOM series: segment numbers on the grid of its slices.

Binary segmentations and label maps are read; each frame says by its own position which slice it lies on,
and slices without a frame are empty. Fractional ones, those in which segments overlap, and those whose
frames lie on no slice are refused, with the advice to export the labels as NIfTI.

Source: DICOM PS3.3 A.51 and C.8.20 (segmentation IOD and image module), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import pixel_array

from vlsmctl.datasets.folders import read_folder
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_header import has_preamble, read_header, refusing_dicom
from vlsmctl.formats.naming import DICOM_SUFFIXES, scan_suffix
from vlsmctl.formats.nifti import Grid

EXPORT = "export the labels as NIfTI (in 3D Slicer: Export to files) and put that in its place"
_TYPES = ("BINARY", "LABELMAP")
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_SAME = 1e-3  # of the spacing: how far a step from pixel to pixel may differ
_OFF = 0.1  # of the spacing: how far a frame may lie from its slice


@dataclass(frozen=True)
class Frame:
    """One frame. segment: its number, None in a label map, whose pixels are the numbers. start: centre of
    its first pixel, mm, RAS+. columns, rows: step to the next column and to the next row, mm, RAS+."""

    segment: int | None
    start: NDArray[np.float64]
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]


@dataclass(frozen=True)
class Segmentation:
    """The header of a segmentation. shape: (rows, columns)."""

    path: Path
    shape: tuple[int, int]
    frames: tuple[Frame, ...]


def find_segmentation(path: Path) -> Path | None:
    """The file of a DICOM segmentation: the path itself, or the one in a folder that holds nothing but
    segmentations. None: it is something else.

    Raises UnreadableFile: several of them, damaged, or another DICOM object that is neither image nor
    segmentation (such as contours of radiotherapy).
    """
    if path.is_file():
        if scan_suffix(path.name).lower() not in DICOM_SUFFIXES:
            return None
        files = [path]
    else:
        files = [path / name for name in read_folder(path).files]
        if len(files) > 8 or not files or not all(_is_dicom(file) for file in files):
            return None
    headers = [read_header(file) for file in files]
    if any(header.image for header in headers) and path.is_dir():
        return None
    modalities = {header.modality for header in headers}
    if modalities != {"SEG"}:
        found = "contours (RTSTRUCT)" if "RTSTRUCT" in modalities else "another DICOM object"
        raise UnreadableFile(f"{path}: expected a DICOM SEG, found {found}; {EXPORT}")
    if len(files) > 1:
        raise UnreadableFile(f"{path}: expected one DICOM SEG, found {len(files)}")
    return files[0]


def segmentation_misfit(path: Path, grid: Grid) -> str | None:
    """What is wrong about where the frames of a segmentation lie; None: all lie on slices of `grid`, the
    grid of a DICOM series (column, row, slice). Raises UnreadableFile."""
    return _placed(_read(path, path.stat().st_mtime_ns), grid)[1]


def segmentation_planes(path: Path, grid: Grid) -> Callable[[int], NDArray[Any]]:
    """Index of a slice -> segment numbers [columns, rows], 0 where there is none.

    Raises UnreadableFile, also when a slice is read: damaged, off the grid, or segments that overlap.
    """
    segmentation = _read(path, path.stat().st_mtime_ns)
    slices, misfit = _placed(segmentation, grid)
    if misfit:
        raise UnreadableFile(f"{path}: expected frames on the slices of the image, found {misfit}")
    with refusing_dicom(path):
        dataset = pydicom.dcmread(path)

    def read(index: int) -> NDArray[Any]:
        labels = np.zeros(segmentation.shape, np.int64)
        for number in slices.get(index, ()):
            with refusing_dicom(path):
                values = _pixels(dataset, number, segmentation.shape)
            segment = segmentation.frames[number].segment
            lit = values if segment is None else (values != 0) * segment
            if (labels.astype(bool) & lit.astype(bool) & (labels != lit)).any():
                raise UnreadableFile(
                    f"{path}: its segments overlap, but a voxel has one label number here; {EXPORT}"
                )
            labels = np.maximum(labels, lit)
        return labels.T

    return read


def _pixels(dataset: Any, number: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """One frame, [rows, columns]. Frames of bits follow one another without gaps, so that they may begin
    within a byte; pydicom 3.0 cuts some of those off."""
    if dataset.BitsAllocated != 1 or dataset.file_meta.TransferSyntaxUID.is_compressed:
        return np.asarray(pixel_array(dataset, index=number), np.int64)
    size = shape[0] * shape[1]
    first, last = number * size // 8, -(-(number + 1) * size // 8)
    packed = np.frombuffer(dataset.PixelData[first:last], np.uint8)
    start = number * size - 8 * first
    bits = np.unpackbits(packed, bitorder="little")[start : start + size]
    return bits.reshape(shape).astype(np.int64)


def _is_dicom(path: Path) -> bool:
    try:
        return has_preamble(path)
    except OSError:
        return False


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Segmentation:
    with refusing_dicom(path):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        kind = str(header.get("SegmentationType", ""))
        if kind not in _TYPES:
            found = "a fractional one" if kind == "FRACTIONAL" else "another kind"
            raise UnreadableFile(
                f"{path}: expected a binary DICOM SEG or a label map, found {found}; {EXPORT}"
            )
        shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
        groups = header.get("PerFrameFunctionalGroupsSequence") or []
        if len(groups) != int(header.get("NumberOfFrames") or 1):
            raise UnreadableFile(f"{path}: damaged: it describes {len(groups)} frames and holds others")
        frames = tuple(_frame(path, own, shared, kind) for own in groups)
        return Segmentation(path, (int(header.Rows), int(header.Columns)), frames)


def _frame(path: Path, own: Any, shared: Any, kind: str) -> Frame:
    def item(name: str) -> Any:
        found = own.get(name) or shared.get(name)
        if not found:
            raise UnreadableFile(f"{path}: its frames do not say where they lie ({name}); {EXPORT}")
        return found[0]

    position = np.array(item("PlanePositionSequence").ImagePositionPatient, np.float64)
    along = np.array(item("PlaneOrientationSequence").ImageOrientationPatient, np.float64).reshape(2, 3)
    between_rows, between_columns = (float(each) for each in item("PixelMeasuresSequence").PixelSpacing)
    segment = (
        int(item("SegmentIdentificationSequence").ReferencedSegmentNumber) if kind == "BINARY" else None
    )
    return Frame(
        segment,
        position * _LPS_TO_RAS,
        along[0] * between_columns * _LPS_TO_RAS,
        along[1] * between_rows * _LPS_TO_RAS,
    )


def _placed(segmentation: Segmentation, grid: Grid) -> tuple[Mapping[int, list[int]], str | None]:
    """The numbers of the frames on each slice of the grid, or what is wrong."""
    columns, rows, count = grid.shape
    if segmentation.shape != (rows, columns):
        return {}, f"{segmentation.shape[1]} x {segmentation.shape[0]} pixels"
    to_voxel = np.linalg.inv(grid.affine)
    slices: dict[int, list[int]] = defaultdict(list)
    for number, frame in enumerate(segmentation.frames):
        steps = to_voxel[:3, :3] @ np.stack([frame.columns, frame.rows], axis=1)
        start = to_voxel[:3, :3] @ frame.start + to_voxel[:3, 3]
        index = round(float(start[2])) if np.isfinite(start[2]) else -1
        if not np.allclose(steps, np.eye(3)[:, :2], atol=_SAME):
            return {}, "frames with another spacing or orientation"
        if not (np.abs(start - (0, 0, index)) <= _OFF).all() or not 0 <= index < count:
            return {}, f"frame {number + 1} of {len(segmentation.frames)} on none of the {count} slices"
        slices[index].append(number)
    return slices, None
