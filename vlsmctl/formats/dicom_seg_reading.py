"""DICOM segmentations (SEG), whoever wrote them: what each frame shows, where it lies, and its pixels.

Binary and fractional segmentations and label maps are read, stored in any way that pixels may be. Those of
slide images, whose frames are tiles, are refused.

Source: DICOM PS3.3 A.51 and C.8.20 (segmentation IOD and image module), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_elements import (
    WrongElement,
    item_of,
    items_of,
    naming_elements,
    numbers,
    text_of,
    value_of,
    whole,
)
from vlsmctl.formats.dicom_geometry import Place, place
from vlsmctl.formats.dicom_header import read_elements
from vlsmctl.formats.dicom_pixels import open_pixels, stored_values

EXPORT = "export the labels as NIfTI (in 3D Slicer: Export to files) and put that in its place"
_KINDS = ("BINARY", "LABELMAP", "FRACTIONAL")
_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_SAYS_WHAT = ("SOPClassUID", "Modality")
_ELEMENTS = (
    *_SAYS_WHAT,
    *("Rows", "Columns", "NumberOfFrames", "FrameOfReferenceUID", "PixelPaddingValue"),
    *("TotalPixelMatrixColumns", "SegmentationType", "MaximumFractionalValue", "SegmentSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_WORD = 2**16 - 1
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Frame:
    """One frame. segment: its number, None in a label map, whose pixels are the numbers. place: as the file
    says it, LPS (thickness: of the slice); None where it says nothing. source: the image that it was drawn
    on (SOP instance UID, "" where not stated), and the frame in that, from 1 (where no image is stated,
    which of its segment's frames it is). slice_spacing: mm from slice to slice, where stated."""

    segment: int | None
    place: Place | None
    source: tuple[str, int]
    slice_spacing: float | None

    @cached_property
    def start(self) -> NDArray[np.float64]:
        """[3], centre of the first pixel, mm, RAS+."""
        return _ras(self._placed.position)

    @cached_property
    def columns(self) -> NDArray[np.float64]:
        """[3], step to the next column, mm, RAS+."""
        return _ras(self._placed.along_row * self._placed.column_spacing)

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """[3], step to the next row, mm, RAS+."""
        return _ras(self._placed.along_column * self._placed.row_spacing)

    @property
    def _placed(self) -> Place:
        if self.place is None:
            raise ValueError("a frame without a place")
        return self.place


@dataclass(frozen=True)
class Segmentation:
    """The header of a segmentation.

    kind: BINARY, LABELMAP or FRACTIONAL. shape: (rows, columns). segments: number -> label, as described.
    frame_of_reference: UID, "" where not stated. full: what stands for all of a pixel, where fractional
    (0: not stated). background: what stands for no segment, in a label map.
    """

    path: Path
    kind: str
    shape: tuple[int, int]
    frames: tuple[Frame, ...]
    segments: Mapping[int, str]
    frame_of_reference: str
    full: int = 1
    background: int = 0

    @property
    def placed(self) -> bool:
        """Whether its frames say where they lie: all, or none."""
        return self.frames[0].place is not None


Pixels = Callable[[int], NDArray[np.int64]]


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file is a segmentation, rather than an image or another object, by the first elements
    of its header. A file of which that cannot be told counts as one: reading it says what is wrong."""
    try:
        header = read_elements(path, _SAYS_WHAT)
    except UnreadableFile:
        return True
    return _is_segmentation(header) or not any(text_of(header, name) for name in _SAYS_WHAT)


def read_segmentation(path: Path) -> Segmentation:
    """The header of a DICOM SEG; pixels are not read.

    Raises UnreadableFile: damaged, another DICOM object, tiles of a slide, frames that say where they lie
    in part only.
    """
    header = read_elements(path, _ELEMENTS)
    with naming_elements(path):
        if not _is_segmentation(header):
            raise UnreadableFile(f"{path}: expected a DICOM SEG, found another DICOM object")
        kind = text_of(header, "SegmentationType")
        if kind not in _KINDS:
            raise UnreadableFile(
                f"{path}: expected a binary or fractional DICOM SEG or a label map, found another kind;"
                f" {EXPORT}"
            )
        if value_of(header, "TotalPixelMatrixColumns") is not None:
            raise UnreadableFile(
                f"{path}: a DICOM SEG of a slide image, whose frames are tiles, is not read"
            )
        background = whole(header, "PixelPaddingValue", 0, _WORD, 0) if kind == "LABELMAP" else 0
        described = {
            whole(each, "SegmentNumber", 0, _WORD): text_of(each, "SegmentLabel")
            for each in items_of(header, "SegmentSequence")
        }
        return Segmentation(
            path=path,
            kind=kind,
            shape=(whole(header, "Rows", 1, _WORD), whole(header, "Columns", 1, _WORD)),
            frames=_frames(path, header, kind),
            segments={number: label for number, label in described.items() if number != background},
            frame_of_reference=text_of(header, "FrameOfReferenceUID"),
            full=whole(header, "MaximumFractionalValue", 1, 255, 0) if kind == "FRACTIONAL" else 1,
            background=background,
        )


def open_frames(segmentation: Segmentation) -> Pixels:
    """Number of a frame, from 0 -> the segment at each of its pixels, [rows, columns], 0 for none.

    Fractions (probabilities, or how much of a pixel is taken up) count where they are more than half.

    Raises UnreadableFile, also when a frame is read: cut off, damaged, or in a way that cannot be decoded.
    """
    path = segmentation.path
    if not segmentation.full:
        raise UnreadableFile(f"{path}: damaged: its MaximumFractionalValue is missing")
    file = open_pixels(path)
    if (file.layout.rows, file.layout.columns) != segmentation.shape or file.layout.samples != 1:
        raise UnreadableFile(f"{path}: damaged: its pixels are not those of a segmentation")

    def read(number: int) -> NDArray[np.int64]:
        values = stored_values(file, number)
        if values.dtype.kind not in "iub" or values.shape != segmentation.shape:
            raise UnreadableFile(f"{path}: damaged: its pixels are not those of a segmentation")
        stored = values.astype(np.int64)
        segment = segmentation.frames[number].segment
        if segment is not None:
            return np.asarray(segment * (2 * stored > segmentation.full), np.int64)
        if not segmentation.background:
            return stored
        if not stored.all():
            raise UnreadableFile(f"{path}: it has a segment 0, which stands for none elsewhere; {EXPORT}")
        return np.where(stored == segmentation.background, 0, stored)

    return read


def _ras(lps: NDArray[np.float64]) -> NDArray[np.float64]:
    turned: NDArray[np.float64] = lps * _LPS_TO_RAS
    return turned


def _is_segmentation(header: Any) -> bool:
    return text_of(header, "SOPClassUID") in _CLASSES or text_of(header, "Modality").upper() == "SEG"


def _frames(path: Path, header: Any, kind: str) -> tuple[Frame, ...]:
    shared = item_of(header, "SharedFunctionalGroupsSequence")
    groups = items_of(header, "PerFrameFunctionalGroupsSequence")
    if len(groups) != whole(header, "NumberOfFrames", 0, 2**31 - 1, 1) or not groups:
        raise UnreadableFile(f"{path}: damaged: it describes {len(groups)} frames and holds others")
    seen: dict[int | None, int] = {}
    frames = []
    for number, own in enumerate(groups, 1):
        frame = _frame(path, number, (own,) if shared is None else (own, shared), kind, seen)
        frames.append(frame)
        if (frame.place is None) != (frames[0].place is None):
            raise UnreadableFile(
                f"{path}: damaged: some of its frames do not say where they lie, others do"
            )
    return tuple(frames)


def _frame(
    path: Path, number: int, groups: tuple[Any, ...], kind: str, seen: dict[int | None, int]
) -> Frame:
    """groups: the functional groups of the frame, and those of all. seen: how many frames of each segment
    came before."""
    segment = None
    if kind != "LABELMAP":
        identified = _macro(groups, "SegmentIdentificationSequence")
        if identified is None:
            raise WrongElement(f"frame {number} does not say which segment it shows")
        segment = whole(identified, "ReferencedSegmentNumber", 1, _WORD)
    seen[segment] = seen.get(segment, 0) + 1
    measures = _macro(groups, "PixelMeasuresSequence")
    return Frame(
        segment,
        _place(path, number, groups),
        _source(groups) or ("", seen[segment]),
        _positive(measures, "SpacingBetweenSlices"),
    )


def _place(path: Path, number: int, groups: tuple[Any, ...]) -> Place | None:
    position = _macro(groups, "PlanePositionSequence")
    if position is None:
        return None
    found = {name: _macro(groups, name) for name in ("PlaneOrientationSequence", "PixelMeasuresSequence")}
    for name, item in found.items():
        if item is None:
            raise UnreadableFile(f"{path}: its frames do not say where they lie ({name}); {EXPORT}")
    orientation, measures = found.values()
    try:
        return place(
            position=numbers(position, "ImagePositionPatient"),
            orientation=numbers(orientation, "ImageOrientationPatient"),
            spacing=numbers(measures, "PixelSpacing"),
            thickness=_positive(measures, "SliceThickness"),
        )
    except ValueError as error:
        raise WrongElement(f"frame {number} lies nowhere: {error}") from None


def _source(groups: tuple[Any, ...]) -> tuple[str, int] | None:
    derivation = _macro(groups, "DerivationImageSequence")
    image = None if derivation is None else item_of(derivation, "SourceImageSequence")
    instance = "" if image is None else text_of(image, "ReferencedSOPInstanceUID")
    if not instance:
        return None
    frame = numbers(image, "ReferencedFrameNumber") or [1.0]
    return instance, int(frame[0])


def _macro(groups: tuple[Any, ...], name: str) -> Any:
    """A frame's own before the one of all; None: neither."""
    return next((item for group in groups if (item := item_of(group, name)) is not None), None)


def _positive(item: Any, name: str) -> float | None:
    """A length that makes sense, mm."""
    found = [] if item is None else numbers(item, name)
    return found[0] if len(found) == 1 and 0 < found[0] < np.inf else None
