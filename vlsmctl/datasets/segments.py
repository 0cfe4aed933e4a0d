"""DICOM segmentations (SEG) as labels of a DICOM series: segment numbers on the grid of its slices.

Binary segmentations and label maps are taken; each frame says by its own position which slice it lies on,
and slices without a frame are empty. Fractional ones, those in which segments overlap, and those whose
frames lie on no slice are refused, with the advice to export the labels as NIfTI.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.datasets.folders import read_folder
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_header import has_preamble, read_header
from vlsmctl.formats.dicom_seg_grid import beyond, lay
from vlsmctl.formats.dicom_seg_reading import EXPORT, Segmentation, open_frames, read_segmentation
from vlsmctl.formats.naming import DICOM_SUFFIXES, scan_suffix
from vlsmctl.formats.nifti import Grid


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
    pixels = open_frames(segmentation)

    def read(index: int) -> NDArray[Any]:
        labels = np.zeros(segmentation.shape, np.int64)
        for number in slices.get(index, ()):
            lit = pixels(number)
            if (labels.astype(bool) & lit.astype(bool) & (labels != lit)).any():
                raise UnreadableFile(
                    f"{path}: its segments overlap, but a voxel has one label number here; {EXPORT}"
                )
            labels = np.maximum(labels, lit)
        return labels.T

    return read


def _is_dicom(path: Path) -> bool:
    try:
        return has_preamble(path)
    except OSError:
        return False


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Segmentation:
    segmentation = read_segmentation(path)
    if segmentation.kind == "FRACTIONAL":
        raise UnreadableFile(
            f"{path}: expected a binary DICOM SEG or a label map, found a fractional one; {EXPORT}"
        )
    if not segmentation.placed:
        raise UnreadableFile(f"{path}: its frames do not say where they lie; {EXPORT}")
    return segmentation


def _placed(segmentation: Segmentation, grid: Grid) -> tuple[Mapping[int, list[int]], str | None]:
    """The numbers of the frames on each slice of the grid, or what is wrong."""
    to_voxel = np.asarray(np.linalg.inv(grid.affine), np.float64)
    slices: dict[int, list[int]] = defaultdict(list)
    for number in range(len(segmentation.frames)):
        laid = lay(segmentation, number, to_voxel, grid.shape)
        if isinstance(laid, str):
            return {}, laid
        if laid.axes != (0, 1, 2) or any(laid.flipped):
            return {}, "frames of another orientation"
        if not laid.inside(grid.shape):
            return {}, beyond(segmentation, number, grid.shape[2])
        slices[laid.index].append(number)
    return slices, None
