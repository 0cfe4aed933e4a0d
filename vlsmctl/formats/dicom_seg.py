"""Masks as one DICOM SEG object that refers to the images they were predicted from.

highdicom makes the object (its modules, segments and algorithm identification); the frames, and where
they lie, are laid out here, in one way for all kinds of sources: series with uneven distances, doubled
slices or changing pixel spacings, clips and photographs without a place included.

Source: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (segmentation modules), C.7.6.16 (functional groups).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from vlsmctl.errors import UnreadableFile
from vlsmctl.files import atomic_path
from vlsmctl.formats.dicom_provenance import Provenance, data_set, derived_uid, one_line, read_provenance
from vlsmctl.formats.dicom_seg_frames import concept, lay_out
from vlsmctl.formats.records import Code, Frames, Origin, Segment, check_frames
from vlsmctl.quiet import without_warnings

if TYPE_CHECKING:
    from vlsmctl.formats.dicom_frames import SourceFrame

NAME = "vlsmctl"
_LO, _ST = 64, 1024  # characters that DICOM allows
_FULL = 255  # a probability of 1
_MOST_BYTES = 2**32 - 2  # of uncompressed pixels in one object
_SERIES_NUMBER = 1000  # added to the source's
_FAMILY = Code("DCM", "123110", "Artificial Intelligence")
_COLOURS = ((230, 60, 50), (60, 180, 75), (0, 130, 200), (255, 200, 25), (145, 30, 180), (70, 220, 220))


def write_seg(
    sources: Sequence[SourceFrame], segments: Sequence[Segment], origin: Origin, target: Path
) -> None:
    """Writes one DICOM SEG, all or nothing (explicit VR little endian).

    sources: the frames of a scan: single-frame files, or the frames of one file. segments: frames[n]
    [rows, columns] belongs to sources[n]. Masks (bool) give a BINARY object, in which overlaps are kept
    apart; when any segment holds probabilities (uint8 in 255ths, or float32 from 0 to 1), all are stored
    as such (FRACTIONAL, 0 to 255). Frames without a marked pixel are left out; where there is none at
    all, one empty frame is stored, as the format asks for one.

    The frame of reference, and the place of each frame, are the source's; where it has places but names
    no frame of reference, the series is one; where frames have no place, or places in different frames
    of reference, they only refer to their source. UIDs depend on the sources, the segments' labels and
    codes, and the origin's fingerprint alone.

    Readers that go by references or by each frame's position show every mask in place. 3D Slicer's importer
    puts frames on one grid: right where such a grid exists (slices may be missing), shifted where the
    distances are truly uneven or the gantry was tilted, and with doubled slices it keeps one.

    Memory: one frame of two segments at a time; pixels wait in a temporary file as they will be stored
    (1 bit a pixel, probabilities 8). What grows are the headers, by about 10 kB for every marked frame of
    a segment, whatever its size.

    Raises UnreadableFile: a source that is gone, or more pixels than one object can hold (4 GiB).
    """
    if not sources or not segments:
        raise ValueError("a DICOM SEG needs at least one source and one segment")
    for segment in segments:
        check_frames(segment.frames, len(sources), segments[0].frames.shape)
    with without_warnings(), TemporaryFile() as opened:
        provenance = read_provenance(sources)
        content = _survey(segments)
        _check_size(sources[0].path, segments[0].frames.shape, content)
        stream = getattr(opened, "file", opened)  # Windows wraps it
        _store(_stored_frames(segments, content), content.fractional, stream)
        seg = _seg_object(sources, segments, origin, provenance, content)
        lay_out(seg, sources, provenance, content.frames)
        seg.add(DataElement(Tag("PixelData"), "OB", stream))
        with atomic_path(target) as temporary:
            dcmwrite(temporary, seg, enforce_file_format=True)


# The pixels


@dataclass(frozen=True)
class _Content:
    """What the segments hold. frames: (index of the segment, number of the source frame), by segment and
    then in frame order. overlap: as SegmentsOverlap says it."""

    frames: tuple[tuple[int, int], ...]
    overlap: str
    fractional: bool


def _survey(segments: Sequence[Segment]) -> _Content:
    fractional = any(segment.frames.dtype != np.bool_ for segment in segments)
    marked: list[list[tuple[int, int]]] = [[] for _ in segments]
    overlap = False
    for number in range(len(segments[0].frames)):
        seen = np.zeros(segments[0].frames.shape, np.bool_)
        for index, segment in enumerate(segments):
            frame = _stored(segment.frames, number, fractional) != 0
            if frame.any():
                marked[index].append((index, number))
                overlap = overlap or bool((seen & frame).any())
                seen |= frame
    said = "UNDEFINED" if fractional and overlap else "YES" if overlap else "NO"
    return _Content(tuple(chain.from_iterable(marked)) or ((0, 0),), said, fractional)


def _stored(frames: Frames, number: int, fractional: bool) -> NDArray[Any]:
    """A frame as it is stored: bool, or uint8 in 255ths."""
    frame: NDArray[Any] = frames[number]
    if frames.dtype == np.bool_:
        return frame.astype(np.uint8) * np.uint8(_FULL) if fractional else frame
    if frames.dtype == np.uint8 and abs(frames.scale * _FULL - 1) < 1e-6:
        return frame
    if frames.dtype == np.float32 and frames.scale == 1:
        shown: NDArray[Any] = np.rint(np.clip(np.nan_to_num(frame), 0, 1) * _FULL)
        return shown.astype(np.uint8)
    raise ValueError(f"neither masks nor probabilities: {frames.dtype} with scale {frames.scale}")


def _stored_frames(segments: Sequence[Segment], content: _Content) -> Iterator[NDArray[Any]]:
    for index, number in content.frames:
        yield _stored(segments[index].frames, number, content.fractional)


def _check_size(path: Path, shape: tuple[int, int], content: _Content) -> None:
    bits = len(content.frames) * shape[0] * shape[1] * (8 if content.fractional else 1)
    if bits // 8 > _MOST_BYTES:
        raise UnreadableFile(
            f"{path}: {len(content.frames)} marked frames of {shape[1]} x {shape[0]} pixels are more than "
            "the 4 GiB that one DICOM SEG holds",
            hint="--format nifti",
        )


def _store(frames: Iterable[NDArray[Any]], fractional: bool, stream: Any) -> None:
    """Bytes, or bits: the first pixel is the lowest bit, and frames follow one another without a gap."""
    left = np.zeros(0, np.bool_)
    for frame in frames:
        if fractional:
            stream.write(np.ascontiguousarray(frame).tobytes())
            continue
        bits = np.concatenate([left, frame.ravel()])
        whole = bits.size // 8 * 8
        stream.write(np.packbits(bits[:whole], bitorder="little").tobytes())
        left = bits[whole:]
    stream.write(np.packbits(left, bitorder="little").tobytes())
    if stream.tell() % 2:
        stream.write(b"\0")
    stream.seek(0)


# The object


def _seg_object(
    sources: Sequence[SourceFrame],
    segments: Sequence[Segment],
    origin: Origin,
    provenance: Provenance,
    content: _Content,
) -> Any:
    """The object without its frames. highdicom gets a stand-in for the source, with nothing of the
    patient's: it may quote what it gets in a log."""
    from highdicom.seg import Segmentation

    labels = [one_line(segment.label, _LO) or f"segment {n}" for n, segment in enumerate(segments, 1)]
    uid = _object_uid(sources, segments, origin, provenance, content)
    title = one_line(f"{NAME}: {', '.join(labels)}", _LO)
    rows, columns = segments[0].frames.shape
    seg = Segmentation(
        source_images=[_stand_in(provenance, rows, columns)],
        pixel_array=np.zeros((1, rows, columns, len(segments)), np.uint8),
        segmentation_type="FRACTIONAL" if content.fractional else "BINARY",
        segment_descriptions=[
            _description(number, segment, labels[number - 1], origin, derived_uid(uid, str(number)))
            for number, segment in enumerate(segments, 1)
        ],
        series_instance_uid=derived_uid("series of", uid),
        series_number=_SERIES_NUMBER + min(provenance.series_number or 0, 2**30),
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=_version(),
        device_serial_number=one_line(origin.fingerprint, _LO) or _version(),
        fractional_type="PROBABILITY",
        max_fractional_value=_FULL,
        content_description=title,
        content_label=_code_string(labels),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        series_description=title,
    )
    seg.update({**provenance.copied, "ContentCreatorName": "", "SegmentsOverlap": content.overlap})
    if not all(_is_ascii(element) for element in seg.iterall()):
        seg.SpecificCharacterSet = "ISO_IR 192"
    return seg


def _is_ascii(element: Any) -> bool:
    return element.VR == "SQ" or str(element.value).isascii()


def _object_uid(
    sources: Sequence[SourceFrame],
    segments: Sequence[Segment],
    origin: Origin,
    provenance: Provenance,
    content: _Content,
) -> str:
    frames = [f"{provenance.instances[each.path].sop_instance} {each.index}" for each in sources]
    what = [f"{each.label}\n{each.category}\n{each.kind}" for each in segments]
    kind = "probabilities" if content.fractional else "masks"
    return derived_uid(provenance.series, *frames, *what, kind, origin.fingerprint)


def _stand_in(provenance: Provenance, rows: int, columns: int) -> Any:
    empty = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
    return data_set(
        SOPClassUID=SecondaryCaptureImageStorage,
        SOPInstanceUID=derived_uid("stand-in"),
        StudyInstanceUID=provenance.study,
        SeriesInstanceUID=provenance.series,
        StudyDate=None,
        StudyTime=None,
        Modality="OT",
        Rows=rows,
        Columns=columns,
        **dict.fromkeys(empty, ""),
    )


def _description(number: int, segment: Segment, label: str, origin: Origin, tracking_uid: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    model = one_line(origin.model, _ST)
    description = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=NAME,
            family=concept(_FAMILY),
            version=_version(),
            source=one_line(model, _LO) or NAME,
            parameters=_parameters(model, origin),
        ),
        tracking_uid=tracking_uid,
        tracking_id=label,
        display_color=CIELabColor.from_rgb(*_COLOURS[(number - 1) % len(_COLOURS)]),
    )
    description.SegmentDescription = one_line(segment.label, _ST) or label
    return description


def _parameters(model: str, origin: Origin) -> dict[str, str]:
    known = {
        "model": model,
        "base sha256": origin.base_sha256,
        "adapter sha256": origin.adapter_sha256,
        "fingerprint": origin.fingerprint,
    }
    return {name: one_line(value, _ST) for name, value in known.items() if value}


def _version() -> str:
    return version(NAME)


def _code_string(labels: Sequence[str]) -> str:
    """At most 16 capital letters, digits, blanks and underscores."""
    plain = re.sub(r"[^A-Z0-9 ]+", "_", labels[0].upper()) if len(labels) == 1 else ""
    return plain[:16].strip(" _") or "SEGMENTATION"
