"""The frames of a DICOM SEG: what each refers to, where it lies, and how they are ordered.

What holds for all frames is said once, what differs is said for each (pixel spacing and orientation may).

Source: DICOM PS3.3 C.7.6.16 (functional groups), C.7.6.17 (dimensions), C.8.20.3 (segmentation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydicom.datadict import tag_for_keyword
from pydicom.valuerep import DS

from vlsmctl.formats.dicom_provenance import Provenance, data_set, derived_uid
from vlsmctl.formats.records import Code

if TYPE_CHECKING:
    from vlsmctl.formats.dicom_frames import SourceFrame
    from vlsmctl.formats.dicom_geometry import Place

_SEGMENTATION = Code("DCM", "113076", "Segmentation")
_PURPOSE = Code("DCM", "121322", "Source image for image processing operation")
_SEGMENT = "ReferencedSegmentNumber"
# Dimension -> the functional group it lies in
_DIMENSIONS = {
    _SEGMENT: "SegmentIdentificationSequence",
    "StackID": "FrameContentSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}
Groups = dict[str, Any]  # keyword of a functional group -> its items


def concept(code: Code) -> Any:
    """A code as an item of a sequence."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def lay_out(
    seg: Any, sources: Sequence[SourceFrame], provenance: Provenance, frames: Sequence[tuple[int, int]]
) -> None:
    """Gives a SEG object its references, dimensions and functional groups.

    frames: (index of the segment, number of the source), in the order of the pixels.
    """
    _refer(seg, provenance)
    used = sorted({number for _, number in frames})
    if provenance.frame_of_reference:
        seg.FrameOfReferenceUID = provenance.frame_of_reference
        places = {number: place for number in used if (place := sources[number].place)}
        common, own = _geometry(places, _slice_spacing(sources))
        names, order, contents = _by_position(places)
    else:
        del seg.PositionReferenceIndicator
        seg.PatientOrientation = list(provenance.orientation) or None
        common, own = {}, {}
        names, order, contents = _by_number(used)
    dimensions = derived_uid("dimensions", str(seg.SOPInstanceUID))
    seg.DimensionOrganizationSequence = [data_set(DimensionOrganizationUID=dimensions)]
    seg.DimensionIndexSequence = [_dimension(name, dimensions) for name in names]
    seg.SharedFunctionalGroupsSequence = [data_set(**common)]
    how, purpose = [concept(_SEGMENTATION)], [concept(_PURPOSE)]
    derived = {
        number: data_set(
            SourceImageSequence=[_source_image(sources[number], provenance, purpose)],
            DerivationCodeSequence=how,
        )
        for number in used
    }
    seg.PerFrameFunctionalGroupsSequence = [
        data_set(
            DerivationImageSequence=[derived[number]],
            FrameContentSequence=[
                data_set(DimensionIndexValues=[index + 1, *order[number]], **contents[number])
            ],
            SegmentIdentificationSequence=[data_set(ReferencedSegmentNumber=index + 1)],
            **own.get(number, {}),
        )
        for index, number in frames
    ]
    seg.NumberOfFrames = len(frames)


def _refer(seg: Any, provenance: Provenance) -> None:
    """To every source image: where a frame is missing, its source was looked at, and nothing found."""
    references = [
        data_set(ReferencedSOPClassUID=each.sop_class, ReferencedSOPInstanceUID=each.sop_instance)
        for each in dict.fromkeys(provenance.instances.values())
    ]
    seg.SourceImageSequence = references
    seg.ReferencedSeriesSequence = [
        data_set(SeriesInstanceUID=provenance.series, ReferencedInstanceSequence=references)
    ]


def _source_image(source: SourceFrame, provenance: Provenance, purpose: list[Any]) -> Any:
    instance = provenance.instances[source.path]
    image = data_set(
        ReferencedSOPClassUID=instance.sop_class,
        ReferencedSOPInstanceUID=instance.sop_instance,
        SpatialLocationsPreserved="YES",
        PurposeOfReferenceCodeSequence=purpose,
    )
    if source.count > 1:
        image.ReferencedFrameNumber = source.index + 1
    return image


# Order: for each source frame, its index in the dimensions after the segment, and its frame content


def _by_number(used: Sequence[int]) -> tuple[list[str], dict[int, list[int]], dict[int, Groups]]:
    return (
        [_SEGMENT, "TemporalPositionIndex"],
        {number: [rank] for rank, number in enumerate(used, 1)},
        {number: {"TemporalPositionIndex": rank} for rank, number in enumerate(used, 1)},
    )


def _by_position(
    places: Mapping[int, Place],
) -> tuple[list[str], dict[int, list[int]], dict[int, Groups]]:
    """Where several frames lie at one position, the second ones form a stack of their own, and so on."""
    ranks: dict[tuple[float, ...], int] = {}
    heights: dict[int, int] = {}
    at: dict[int, tuple[int, int]] = {}
    for number, place in places.items():
        rank = ranks.setdefault(tuple(place.position.tolist()), len(ranks) + 1)
        heights[rank] = heights.get(rank, 0) + 1
        at[number] = heights[rank], rank
    if max(heights.values()) == 1:
        single = {number: [rank] for number, (_, rank) in at.items()}
        return [_SEGMENT, "ImagePositionPatient"], single, {number: {} for number in at}
    contents: dict[int, Groups] = {
        number: {"StackID": str(stack), "InStackPositionNumber": rank}
        for number, (stack, rank) in at.items()
    }
    names = [_SEGMENT, "StackID", "ImagePositionPatient"]
    return names, {number: list(both) for number, both in at.items()}, contents


def _dimension(name: str, organization: str) -> Any:
    return data_set(
        DimensionOrganizationUID=organization,
        DimensionIndexPointer=tag_for_keyword(name),
        FunctionalGroupPointer=tag_for_keyword(_DIMENSIONS[name]),
        DimensionDescriptionLabel=name,
    )


# Geometry


def _geometry(places: Mapping[int, Place], slice_spacing: float | None) -> tuple[Groups, dict[int, Groups]]:
    """The groups that all frames share, and for each source frame its own.

    The format, and readers, ask for a thickness; where the source states none, it is the distance
    between slices, or 1 mm.
    """
    own: dict[int, Groups] = {
        number: {"PlanePositionSequence": [data_set(ImagePositionPatient=_decimals(place.position))]}
        for number, place in places.items()
    }
    common: Groups = {}
    orientations = {number: _cosines(place) for number, place in places.items()}
    sizes = {
        number: (place.row_spacing, place.column_spacing, place.thickness or slice_spacing or 1.0)
        for number, place in places.items()
    }
    oriented = {each: data_set(ImageOrientationPatient=_decimals(each)) for each in orientations.values()}
    measured = {each: _pixel_measures(*each, slice_spacing) for each in sizes.values()}
    for name, items in (
        ("PlaneOrientationSequence", {n: oriented[each] for n, each in orientations.items()}),
        ("PixelMeasuresSequence", {n: measured[each] for n, each in sizes.items()}),
    ):
        if len({id(item) for item in items.values()}) == 1:
            common[name] = [next(iter(items.values()))]
        else:
            for number, item in items.items():
                own[number][name] = [item]
    return common, own


def _cosines(place: Place) -> tuple[float, ...]:
    return (*place.along_row.tolist(), *place.along_column.tolist())


def _pixel_measures(
    row_spacing: float, column_spacing: float, thickness: float, slice_spacing: float | None
) -> Any:
    measures = data_set(PixelSpacing=_decimals([row_spacing, column_spacing]))
    measures.SliceThickness = _decimals([thickness])[0]
    if slice_spacing is not None:
        measures.SpacingBetweenSlices = _decimals([slice_spacing])[0]
    return measures


def _decimals(numbers: Any) -> list[Any]:
    return [DS(float(number), auto_format=True) for number in numbers]


def _slice_spacing(sources: Sequence[SourceFrame]) -> float | None:
    """The distance between slices, mm, of a grid on which all of them lie: parallel and upright on one
    another, though some places may be empty or taken twice. None where there is no such grid. All of
    the source's slices, because readers cannot tell it from the marked ones alone."""
    from highdicom.spatial import get_volume_positions

    places = [each.place for each in sources if each.place]
    if len(places) < 2 or len({_cosines(place) for place in places}) > 1:
        return None
    spacing, _ = get_volume_positions(
        [place.position.tolist() for place in places],
        list(_cosines(places[0])),
        allow_missing_positions=True,
        allow_duplicate_positions=True,
    )
    return float(spacing) if spacing else None
