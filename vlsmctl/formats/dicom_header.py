"""Reading DICOM files: a few elements of the header, or the whole; with a preamble, or without one.

Everything that reads DICOM comes through here, so that hostile files meet the same bounds everywhere: no
more is asked for than a file holds, deflated ones are inflated up to a limit, and a header may not be
made of millions of tiny elements. Nothing that pydicom says of a file is passed on, as it may quote
header values, which are patient data.

Source: DICOM PS3.10 section 7 (file format), PS3.5 section 7 and annex A (elements, transfer syntaxes).
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset as read_elements_of
from pydicom.filereader import read_partial, read_preamble
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_marks import GROUPS, PATIENT, Stated, group_values, patient_marks
from vlsmctl.quiet import without_warnings

# pydicom's messages quote header values, which are patient data: none may reach a log.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

INFLATED_AT_MOST = 2**29  # bytes of a deflated file, held in memory, by each thread that reads
_INFLATED_HEADER = 64 * 2**20
_READS = 3_000_000  # of a file: thousands of frames' functional groups take some hundred thousand
_LARGE = 2**16
_META_GROUP, _PIXELS = 0x0002, 0x7FE00008
_DIRECTORY = "1.2.840.10008.1.3.10"
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_PLAUSIBLE = ("SOPClassUID", "Rows", "Columns")
# What may tell the acquisitions, phases or echoes of one series apart, the likeliest first
REPEATS = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers", "EchoTime"),
    *("DiffusionBValue", "TriggerTime"),
)
_FINDING = (
    *_PLAUSIBLE,
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"),
    *("NumberOfFrames", "FrameOfReferenceUID", *PATIENT, *GEOMETRY, *REPEATS),
)
# What has rows and columns, or a modality of its own, and is nothing to segment
_NOT_SCANS = (
    *("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "PR", "KO", "SR", "RWV", "PLAN"),
    *("DOC", "M3D", "AU", "ECG", "EEG", "EPS", "HD", "RESP"),
)
_NOT_SCAN_CLASSES = (
    *("1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"),
    "1.2.840.10008.5.1.4.1.1.481.2",
)


@dataclass(frozen=True)
class Header:
    """What finding scans needs of a file: which scan it belongs to, and whether it is an image.

    study, series, instance, sop_class: UIDs, "" where not stated. shape: (rows, columns), (0, 0) for what
    is no image. frames: at least 1. position: mm, LPS; orientation: cosines of the rows, then of the
    columns; spacing: mm from row to row, then from column to column; each None where it is not stated in
    as many finite numbers. positioned: states all three, right or wrong. repeats: the values of REPEATS,
    None for what is not stated as one finite number. localiser: a scout, by its ImageType. enhanced: with
    functional groups (what they say of a single frame is in the fields above). directory: a DICOMDIR.
    image: has rows and columns, and is no mask, dose, report or plan. marks: what images that belong
    together agree in, for comparing alone: the patient as digests of this process, the frame of reference,
    the first three values of ImageType; None for what is not stated.
    """

    study: str
    series: str
    instance: str
    sop_class: str
    modality: str
    shape: tuple[int, int]
    frames: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    positioned: bool
    repeats: tuple[float | None, ...]
    localiser: bool
    enhanced: bool
    directory: bool
    image: bool
    marks: tuple[bytes | str | None, ...] = field(repr=False)


def has_preamble(path: Path) -> bool:
    """Whether a file begins as DICOM files do: "DICM" after 128 bytes. Raises OSError."""
    return _head(path)[128:] == b"DICM"


def is_dicom(path: Path) -> bool:
    """Whether a file has the preamble, or begins with an element that data sets stored without one begin
    with (then only reading it tells for sure). Raises OSError."""
    head = _head(path)
    return head[128:] == b"DICM" or _begins_as_data_set(head)


def read_header(path: Path) -> Header:
    """Reads a few elements, never the pixels. Raises UnreadableFile."""
    header = read_elements(path, _FINDING)
    with refusing_dicom(path):
        sop_class = UID(_text(header, "SOPClassUID"))
        looks_cut = not sop_class or "Image Storage" in sop_class.name
        if looks_cut and not _is_directory(header.file_meta) and not _shape(header):
            # Elements out of order are no reason to refuse an image: look for its size to the end.
            header = _parsed(path, _FINDING, _at_pixels)
            if not _shape(header):
                raise UnreadableFile(
                    f"{path}: cut off or damaged: it should hold an image, and states no size of one"
                )
        groups: dict[str, Any] = {}
        if _is_enhanced(sop_class) and _frames(header) == 1:
            groups = group_values(_parsed(path, GROUPS, _at_pixels))
        return _header_of(header, sop_class, groups)


def read_elements(path: Path, names: Sequence[str]) -> Any:
    """A pydicom data set of these elements (by keyword) alone, and of the file's meta information, which
    names a transfer syntax always. Reads as far as the last of them, at most to the pixels.

    Raises UnreadableFile: not DICOM, or damaged.
    """
    last = max(_PIXELS - 1 if tag >= _PIXELS else tag for tag in _tags((*names, *_PLAUSIBLE)))
    with refusing_dicom(path):
        return _parsed(path, names, _Past(last))


def read_dataset(
    path: Path, *, stop_before_pixels: bool = False, specific_tags: Sequence[str] | None = None
) -> Any:
    """A file as a pydicom data set whose pixels can be decoded: where it states no transfer syntax, it
    gets the one in which it could be read. specific_tags: keywords, to leave all others out.

    Raises UnreadableFile: not DICOM, damaged, or inflating to more than INFLATED_AT_MOST.
    """
    with refusing_dicom(path):
        return _parsed(path, specific_tags, _at_pixels if stop_before_pixels else None)


@contextmanager
def refusing_dicom(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes the readers raise comes out as UnreadableFile. What pydicom says
    of it is left out, as it may quote header values."""
    try:
        with without_warnings():
            yield
    except UnreadableFile:
        raise
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or 'damaged'})") from None
    except RecursionError:
        raise UnreadableFile(f"{path}: damaged DICOM file (nested too deeply)") from None
    except zlib.error:
        raise UnreadableFile(f"{path}: damaged DICOM file (its deflated data cannot be inflated)") from None
    except MemoryError:
        raise UnreadableFile(f"{path}: announces more data than this machine has memory for") from None
    except Exception as error:  # pydicom and the decoders each raise their own
        raise UnreadableFile(f"{path}: damaged DICOM file ({type(error).__name__} while reading)") from None


def _head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as stream:
        return stream.read(132)


Stop = Callable[[Any, str | None, int], bool]


@dataclass(frozen=True)
class _Past:
    """Stops reading behind the element `last`, and at the pixels."""

    last: int

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        return int.__gt__(tag, self.last)  # pydicom's own comparison takes longer than all else here


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return _PIXELS <= tag <= 0x7FE00010


def _past_meta(tag: int, vr: str | None, length: int) -> bool:
    return tag >> 16 != _META_GROUP


class _Bounded:
    """A file for pydicom to read. What is asked for beyond its end is not made room for (a damaged length
    may say 4 GiB), and the number of reads is limited, for each may become an object in memory."""

    def __init__(self, path: Path, stream: BinaryIO, size: int) -> None:
        self.name = str(path)
        self.seek, self.tell = stream.seek, stream.tell
        self._read, self._size, self._left = stream.read, size, _READS

    def read(self, length: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise UnreadableFile(f"{self.name}: its header holds more elements than an image needs")
        if length > _LARGE:
            length = min(length, max(0, self._size - self.tell()))
        return self._read(length)


def _parsed(path: Path, names: Sequence[str] | None, stop: Stop | None) -> Any:
    with path.open("rb") as stream:
        head = stream.read(132)
        bare = head[128:] != b"DICM"
        if bare and not _begins_as_data_set(head):
            raise UnreadableFile(f'{path}: not a DICOM file (no "DICM" after its first 128 bytes)')
        tags = _tags((*names, *_PLAUSIBLE)) if names else None
        size = path.stat().st_size
        source: Any = _Bounded(path, stream, size)
        meta = _meta(source)
        if _is_directory(meta):
            return FileDataset(str(path), {}, file_meta=meta)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            dataset = _inflated(path, stream, meta, tags, stop)
        else:
            source.seek(0)
            dataset = read_partial(source, stop, force=True, specific_tags=tags)
    # The stream is closed: nothing may be looked up in it later.
    dataset.filename, dataset.buffer = str(path), None
    _state_syntax(dataset)
    if bare and not _is_plausible(dataset):
        raise UnreadableFile(f'{path}: not a DICOM file (no "DICM" after its first 128 bytes)')
    return dataset


def _meta(source: Any) -> FileMetaDataset:
    """The meta information; leaves the source at the first byte behind it."""
    source.seek(0)
    read_preamble(source, force=True)
    return FileMetaDataset(read_elements_of(source, False, True, stop_when=_past_meta))


def _inflated(path: Path, stream: BinaryIO, meta: FileMetaDataset, tags: Any, stop: Stop | None) -> Any:
    limit = INFLATED_AT_MOST if stop is None else _INFLATED_HEADER
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, length = [], 0
    while not inflater.eof and length <= limit:
        chunk = inflater.unconsumed_tail or stream.read(_LARGE)
        if not chunk:
            break
        parts.append(inflater.decompress(chunk, limit + 1 - length))
        length += len(parts[-1])
    if stop is None and length > limit:
        raise UnreadableFile(f"{path}: inflates to more than {limit / 2**30:g} GiB; store it uncompressed")
    if stop is None and not inflater.eof:
        raise UnreadableFile(f"{path}: cut off: its deflated data end too early")
    source: Any = _Bounded(path, BytesIO(b"".join(parts)), length)
    dataset = read_elements_of(source, False, True, stop_when=stop, specific_tags=tags)
    return FileDataset(source, dataset, b"\0" * 128, meta, is_implicit_VR=False, is_little_endian=True)


def _state_syntax(dataset: Any) -> None:
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _begins_as_data_set(head: bytes) -> bool:
    """Whether the first element is of group 8 (in either byte order) or of the meta information."""
    if len(head) < 8:
        return False
    big = head[0] == 0
    group, element = struct.unpack(">HH" if big else "<HH", head[:4])
    if group not in (0x0008, _META_GROUP) or element > 0x0018:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    (length,) = struct.unpack("<I", head[4:8])
    return explicit or (not big and length <= 1024)


def _is_plausible(dataset: Any) -> bool:
    """Whether what was read without a preamble can be taken for DICOM: it says what it is."""
    sop_class = UID(_text(dataset, "SOPClassUID"))
    if not sop_class.is_valid:
        return False
    return _is_known(sop_class) or bool(_shape(dataset))


def _is_known(sop_class: UID) -> bool:
    return not sop_class.is_private and sop_class.type == "SOP Class"


def _is_directory(meta: Any) -> bool:
    return str(meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY


def _header_of(header: Any, sop_class: UID, groups: dict[str, Any]) -> Header:
    modality = _text(header, "Modality").upper()
    shape = _shape(header)
    stated = Stated(header, groups)
    image_type = _image_type(header)
    return Header(
        study=_text(header, "StudyInstanceUID"),
        series=_text(header, "SeriesInstanceUID"),
        instance=_text(header, "SOPInstanceUID"),
        sop_class=str(sop_class),
        modality=modality,
        shape=shape or (0, 0),
        frames=_frames(header),
        position=_numbers(stated, "ImagePositionPatient", 3),
        orientation=_numbers(stated, "ImageOrientationPatient", 6),
        spacing=_numbers(stated, "PixelSpacing", 2),
        positioned=all(stated.get(name) for name in GEOMETRY),
        repeats=tuple(_number(stated, name) for name in REPEATS),
        localiser=image_type[2] == "LOCALIZER",
        enhanced=_is_enhanced(sop_class),
        directory=_is_directory(header.file_meta),
        image=bool(shape) and modality not in _NOT_SCANS and sop_class not in _NOT_SCAN_CLASSES,
        marks=(*patient_marks(header), _text(header, "FrameOfReferenceUID") or None, *image_type),
    )


def _is_enhanced(sop_class: UID) -> bool:
    return "Enhanced" in sop_class.name


def _frames(header: Any) -> int:
    return max(1, int(header.get("NumberOfFrames") or 1))


def _image_type(header: Any) -> tuple[str | None, ...]:
    """The first three values: original or derived, primary or secondary, and what else."""
    values = header.get("ImageType") or []
    kinds = [values] if isinstance(values, str) else [str(value).strip().upper() for value in values]
    return tuple(kind or None for kind in [*kinds, "", "", ""][:3])


def _shape(header: Any) -> tuple[int, int] | None:
    rows, columns = header.get("Rows"), header.get("Columns")
    return (int(rows), int(columns)) if rows and columns else None


def _text(header: Any, name: str) -> str:
    return str(header.get(name) or "").strip()


def _numbers(header: Any, name: str, count: int) -> tuple[float, ...] | None:
    value = header.get(name)
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        return None
    numbers = tuple(float(number) for number in value)
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _number(header: Any, name: str) -> float | None:
    try:
        number = float(header.get(name))
    except Exception:  # none, several, or no number at all: nothing that an image is refused for
        return None
    return number if math.isfinite(number) else None


@lru_cache
def _tags(names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(Tag(name) for name in names)
