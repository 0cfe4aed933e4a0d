"""The frames of DICOM files, single-frame, multi-frame and enhanced alike: where each lies, in which order
they come, and whether they make a volume.

Source: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.6 (multi-frame), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_display import Scope, stated_lut, stated_window
from vlsmctl.formats.dicom_elements import (
    LAYOUT_ELEMENTS,
    WrongElement,
    item_of,
    items_of,
    naming_elements,
    numbers,
    text_of,
)
from vlsmctl.formats.dicom_geometry import (
    MOST_MM,
    Place,
    place,
    same_positions,
    series_geometry,
    slice_order,
    volume_faults,
)
from vlsmctl.formats.dicom_header import GEOMETRY, read_elements
from vlsmctl.formats.dicom_pixels import checked_layout
from vlsmctl.formats.records import Found, Geometry
from vlsmctl.quiet import without_warnings

_THICKNESS = ("SliceThickness", "SpacingBetweenSlices")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OPENING = (*LAYOUT_ELEMENTS, "Modality", "SeriesDescription", *GEOMETRY, *_THICKNESS, *_GROUPS)
_NO_PLACE = f"no place (expected {', '.join(GEOMETRY)})"


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a file. index: within the file, from 0. count: frames in the file. place: None where
    the file does not say where the frame lies."""

    path: Path
    index: int
    count: int
    place: Place | None


@dataclass(frozen=True)
class Arranged:
    """The frames of a scan in order, and all that their headers say of them together.

    scopes: of each frame, what its functional groups say of how it is shown. shape: (height, width).
    geometry: of the volume that the frames make; None where they make none that can be trusted, and then
    no_volume says why, in one line. description: SeriesDescription.
    """

    sources: tuple[SourceFrame, ...]
    scopes: tuple[Scope, ...]
    shape: tuple[int, int]
    geometry: Geometry | None
    no_volume: str | None
    modality: str
    description: str


@dataclass(frozen=True)
class _File:
    """nowhere: why frames have no place, where some have none. clip: several frames, not enhanced."""

    sources: tuple[SourceFrame, ...]
    scopes: tuple[Scope, ...]
    shape: tuple[int, int]
    nowhere: str | None
    clip: bool
    modality: str
    description: str


def arrange(found: Found) -> Arranged:
    """The frames of all files of a scan, in order, from headers alone.

    Where every frame has a place, they are sorted along the normal of the first, never by name or number;
    except that frames of a multi-frame file keep the order in which they are stored where several share a
    position (echoes, phases). Where not all have a place, files come in the order of their paths.

    Raises UnreadableFile: a file that cannot be decoded here or is cut off, or frames of different sizes.
    """
    files = [_read(path) for path in found.files]
    shapes = sorted({file.shape for file in files})
    if len(shapes) > 1:
        sizes = ", ".join(f"{width} x {height}" for height, width in shapes)
        raise UnreadableFile(f"{found.source}: its slices have different sizes ({sizes} pixels)")
    sources = [source for file in files for source in file.sources]
    scopes = [scope for file in files for scope in file.scopes]
    order, geometry, fault = _volume(files, [source.place for source in sources])
    return Arranged(
        sources=tuple(sources[number] for number in order),
        scopes=tuple(scopes[number] for number in order),
        shape=shapes[0],
        geometry=geometry,
        no_volume=fault,
        modality=files[0].modality,
        description=files[0].description,
    )


def _volume(
    files: Sequence[_File], places: Sequence[Place | None]
) -> tuple[list[int], Geometry | None, str | None]:
    """The order of the frames, the geometry of the volume that they make, or why they make none."""
    known = [each for each in places if each is not None]
    stored = list(range(len(places)))
    if len(known) < len(places):
        return stored, None, _why_nowhere(files, len(places) - len(known), len(places))
    with without_warnings():  # of numbers beyond all measure
        order = slice_order(known)
        along = [known[number] for number in order]
        faults = volume_faults(along)
        if faults is None:
            return order, series_geometry(along), None
        several = any(len(file.sources) > 1 for file in files) and same_positions(along)
        return stored if several else order, None, faults


def _why_nowhere(files: Sequence[_File], without: int, count: int) -> str:
    reason = next(file.nowhere for file in files if file.nowhere)
    if count == 1:
        return f"has {reason}"
    if any(file.clip for file in files):
        return f"its {count} frames have no place of their own, as those of a clip"
    return f"{without} of its {count} slices have {reason}"


def _read(path: Path) -> _File:
    header = read_elements(path, _OPENING)
    layout = checked_layout(path, header)
    with naming_elements(path):
        count = layout.frames
        enhanced = any(name in header for name in _GROUPS)
        placed = list(_enhanced(header, count) if enhanced else _plain(header, count))
        reasons = [each for each, _ in placed if isinstance(each, str)]
        return _File(
            sources=tuple(
                SourceFrame(path, index, count, None if isinstance(each, str) else each)
                for index, (each, _) in enumerate(placed)
            ),
            scopes=tuple(scope for _, scope in placed),
            shape=(layout.rows, layout.columns),
            nowhere=reasons[0] if reasons else None,
            clip=count > 1 and not enhanced,
            modality=text_of(header, "Modality").upper(),
            description=text_of(header, "SeriesDescription"),
        )


def _plain(header: Any, count: int) -> Iterator[tuple[Place | str, Scope]]:
    """A place for the one frame; several are a clip, whatever the header says of the first one's place."""
    for _ in range(count):
        yield _place([header]) if count == 1 else _NO_PLACE, Scope()


def _enhanced(header: Any, count: int) -> Iterator[tuple[Place | str, Scope]]:
    """The place and scope of each frame: by its own functional groups, else the shared ones, else the
    elements of the file itself."""
    shared = item_of(header, _GROUPS[0]) or {}
    own = items_of(header, _GROUPS[1])
    described = len(own) == count
    little_endian = bool(header.file_meta.TransferSyntaxUID.is_little_endian)
    scope = cache(Scope)  # frames that say the same share one
    for index in range(count):
        groups = [own[index], shared] if described else [shared]
        if described or count == 1:
            where = _place(
                [_macro(groups, f"Plane{name}Sequence") or header for name in ("Position", "Orientation")]
                + [_macro(groups, "PixelMeasuresSequence") or header]
            )
        else:
            where = f"no place: its header describes {len(own)} frames, and announces {count}"
        values = _macro(groups, "PixelValueTransformationSequence") or {}
        slope, intercept = (
            next(iter(numbers(values, name)), None) for name in ("RescaleSlope", "RescaleIntercept")
        )
        shown = _macro(groups, "FrameVOILUTSequence") or {}
        lut = stated_lut(shown, little_endian=little_endian)
        yield where, scope(slope, intercept, stated_window(shown), lut)


def _macro(groups: Sequence[Any], name: str) -> Any:
    """The item of a functional group, of the first that has one; else None."""
    return next((item for group in groups if (item := item_of(group, name))), None)


def _place(scopes: Sequence[Any]) -> Place | str:
    """The place that data sets state, or why there is none. scopes: where the position, the orientation
    and the pixel measures are looked for; or one data set for all three."""
    position, orientation, measures = scopes if len(scopes) == 3 else (*scopes, *scopes, *scopes)
    try:
        values = [
            numbers(scope, name)
            for scope, name in zip((position, orientation, measures), GEOMETRY, strict=True)
        ]
        stated = [number for name in _THICKNESS for number in numbers(measures, name)]
    except WrongElement as error:
        return f"no usable place: {error}"
    if not all(values):
        return _NO_PLACE
    thickness = next((each for each in stated if 0 < each < MOST_MM), None)
    try:
        return place(position=values[0], orientation=values[1], spacing=values[2], thickness=thickness)
    except ValueError as error:
        return f"no usable place: {error}"
