"""The pixels of DICOM files, one frame at a time, as stored or as colours.

Source: DICOM PS3.5 section 8 and annex A.4 (native and encapsulated pixel data).
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import parse_basic_offsets
from pydicom.pixels import as_pixel_options, get_decoder

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_codestreams import codestream_shape
from vlsmctl.formats.dicom_decoder import DecoderFailed, can_decode, decode_frame
from vlsmctl.formats.dicom_display import DISPLAY_ELEMENTS, apply_palette
from vlsmctl.formats.dicom_header import read_dataset, read_elements, refusing_dicom

# What `why_unreadable` looks at
CHECKED_ELEMENTS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
    "PhotometricInterpretation",
)
MAX_PIXELS = 2**27  # of one frame; beyond it is no picture, but damage

_PHOTOMETRICS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    *("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
_KEYWORDS = {0x10: "PixelData", 0x08: "FloatPixelData", 0x09: "DoubleFloatPixelData"}
_PACKAGES = {"JPEG-LS": "pyjpegls", "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg", "JPEG": "python-gdcm"}
_VIDEO = ("MPEG", "HEVC", "SMPTE")
_ELEMENTS = (
    *CHECKED_ELEMENTS,
    *("PlanarConfiguration", "PixelRepresentation", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *DISPLAY_ELEMENTS,
)
_DEFLATE_AT_BEST = 1032  # deflate expands no further
_SMALLEST_FRAME = 32  # bytes of a compressed one with its item header
_FRAGMENTS = 2**20
_UNDEFINED = 0xFFFFFFFF
_PIXELS = 0x7FE0
_ITEM = b"\xfe\xff\x00\xe0"
_END_OF_IMAGE = b"\xff\xd9"
_NO_PIXELS = "cut off or damaged: it should hold an image, and holds no pixels"

Span = tuple[int, int]  # offset in the file, and length, bytes


@dataclass(frozen=True)
class PixelFile:
    """A file of which any frame can be decoded, without reading the others.

    header: the elements that say how to decode and show its pixels. keyword, vr: name and VR of the
    element with the pixels. start: where its value begins, bytes. fragments: of each frame, where the
    file is compressed. inflated: the value itself, of a deflated file.
    """

    path: Path
    header: Any
    syntax: uid.UID
    keyword: str
    vr: str
    start: int
    fragments: tuple[tuple[Span, ...], ...] | None
    inflated: bytes | None = None


def frame_count(header: Any) -> int:
    """As stated; 1 where it is not. Raises ValueError."""
    return max(1, int(header.get("NumberOfFrames") or 1))


def why_unreadable(path: Path, header: Any) -> str | None:
    """The reason to refuse a file by its header (with `CHECKED_ELEMENTS`), before any pixel is read."""
    return _why_not(header) or _why_not_decodable(header) or _why_absurd(path, header)


def _why_not(header: Any) -> str | None:
    photometric = str(header.get("PhotometricInterpretation", ""))
    if not (header.get("Rows") and header.get("Columns")):
        return "a DICOM file without an image"
    if photometric not in _PHOTOMETRICS:
        return f"its PhotometricInterpretation {photometric[:16]!r} is not supported"
    if "PARTIAL" in photometric and not header.file_meta.TransferSyntaxUID.is_compressed:
        return f"its PhotometricInterpretation {photometric!r} is supported in compressed files only"
    return None


def _why_not_decodable(header: Any) -> str | None:
    syntax = header.file_meta.TransferSyntaxUID
    if any(name in syntax.name for name in _VIDEO):
        return f"holds a video ({syntax.name}); store its frames as pictures first"
    try:
        available = can_decode(syntax, int(header.get("BitsStored") or 8))
    except NotImplementedError:
        return f"its compression ({syntax.name or 'none stated'}) is not supported"
    if not available:
        package = next(
            (pip for name, pip in _PACKAGES.items() if name in syntax.name), "pylibjpeg pylibjpeg-openjpeg"
        )
        return f"no decoder for {syntax.name} on this machine; run: pip install {package}"
    return None


def _why_absurd(path: Path, header: Any) -> str | None:
    """Sizes that the file cannot hold are seen without reading it, and before memory is taken."""
    syntax, frames = header.file_meta.TransferSyntaxUID, frame_count(header)
    pixels = int(header.Rows) * int(header.Columns)
    if pixels > MAX_PIXELS:
        return (
            f"states frames of {pixels // 10**6} megapixels, more than the {MAX_PIXELS // 10**6} supported"
        )
    size = path.stat().st_size
    if syntax.is_encapsulated:
        return _too_many(frames) if frames > size // _SMALLEST_FRAME + 1 else None
    if frames * _frame_bits(header) // 8 > size * (_DEFLATE_AT_BEST if syntax.is_deflated else 1):
        return "cut off: holds fewer pixels than its header announces"
    return None


def _frame_bits(header: Any) -> int:
    """Bits of a frame that is not compressed."""
    subsampled = "42" in str(header.PhotometricInterpretation)
    samples = 2 if subsampled else int(header.get("SamplesPerPixel") or 1)
    return int(header.Rows) * int(header.Columns) * samples * int(header.get("BitsAllocated") or 8)


def _too_many(frames: int) -> str:
    return f"cut off or damaged: its header announces {frames} frames, more than there are"


def open_pixels(path: Path) -> PixelFile:
    """Reads the header and finds the frames. Raises UnreadableFile."""
    header = read_elements(path, _ELEMENTS)
    with refusing_dicom(path):
        syntax = header.file_meta.TransferSyntaxUID
        if syntax.is_deflated:
            return _deflated(path, syntax)
        with path.open("rb") as stream:
            # Already read once, within bounds; once more up to the pixels, to learn where they begin.
            pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=["Rows"])
            keyword, vr, length = _pixel_element(path, stream, syntax)
            encapsulated = length == _UNDEFINED
            if encapsulated != syntax.is_encapsulated:
                raise UnreadableFile(f"{path}: damaged: its pixels are not stored as its header announces")
            start = stream.tell()
            fragments = _frames(path, stream, header) if encapsulated else None
        return PixelFile(path, header, syntax, keyword, vr, start, fragments)


def _deflated(path: Path, syntax: uid.UID) -> PixelFile:
    """Inflated, the whole file is held in memory: it cannot be entered in the middle."""
    header = read_dataset(path, specific_tags=(*_ELEMENTS, *_KEYWORDS.values()))
    for keyword in _KEYWORDS.values():
        if keyword in header:
            element = header[keyword]
            return PixelFile(path, header, syntax, keyword, element.VR, 0, None, element.value)
    raise UnreadableFile(f"{path}: {_NO_PIXELS}")


def _pixel_element(path: Path, stream: BinaryIO, syntax: uid.UID) -> tuple[str, str, int]:
    """Keyword, VR ("" where not written) and length of the element with the pixels; the stream, which
    stands at its tag, is moved to its value."""
    order = "<" if syntax.is_little_endian else ">"
    head = stream.read(8 if syntax.is_implicit_VR else 12)
    group, element = struct.unpack(f"{order}HH", head[:4]) if len(head) >= 8 else (0, 0)
    if group != _PIXELS or element not in _KEYWORDS or len(head) in (9, 10, 11):
        raise UnreadableFile(f"{path}: {_NO_PIXELS}")
    vr = "" if syntax.is_implicit_VR else head[4:6].decode("ascii", "replace")
    return _KEYWORDS[element], vr, int(struct.unpack(f"{order}I", head[-4:])[0])


def _frames(path: Path, stream: BinaryIO, header: Any) -> tuple[tuple[Span, ...], ...]:
    """The fragments of each frame, by the extended or the basic offset table, else by their number, else
    by the end of image that the last one of a frame holds. Only their headers are read."""
    count = frame_count(header)
    offsets = parse_basic_offsets(stream)
    fragments = list(_fragments(path, stream))
    first = fragments[0][0] - 8 if fragments else 0
    extended = header.get("ExtendedOffsetTable")
    if extended:
        offsets = np.frombuffer(extended, "<u8").tolist()
    frames: list[tuple[Span, ...]]
    if count == 1:
        frames = [tuple(fragments)]
    elif len(fragments) == count:
        frames = [(fragment,) for fragment in fragments]
    elif len(offsets) == count:
        frames = _split(fragments, [first + offset for offset in offsets])
    else:
        frames = _split(fragments, _starts(stream, fragments))
    if not fragments or len(frames) < count or not all(frames[:count]):
        raise UnreadableFile(f"{path}: {_too_many(count)}")
    return tuple(frames[:count])


def _fragments(path: Path, stream: BinaryIO) -> Iterator[Span]:
    """The items behind the offset table, up to the delimiter or the end of the file."""
    size, left = path.stat().st_size, _FRAGMENTS
    while len(head := stream.read(8)) == 8 and head[:4] == _ITEM:
        length = int.from_bytes(head[4:], "little")
        start = stream.tell()
        if start + length > size:
            raise UnreadableFile(f"{path}: cut off within its pixels")
        if (left := left - 1) < 0:
            raise UnreadableFile(f"{path}: damaged: its pixels are in more than {_FRAGMENTS} pieces")
        yield start, length
        stream.seek(length, os.SEEK_CUR)


def _split(fragments: Sequence[Span], starts: Sequence[int]) -> list[tuple[Span, ...]]:
    """The fragments from each start (of an item's header) to the next."""
    heads = [start - 8 for start, _ in fragments]
    bounds = [bisect_left(heads, start) for start in starts] + [len(fragments)]
    return [tuple(fragments[low:high]) for low, high in pairwise(bounds)]


def _starts(stream: BinaryIO, fragments: Sequence[Span]) -> list[int]:
    """Where frames begin: behind a fragment that ends with the marker of an image's end."""
    starts, ended = [], True
    for start, length in fragments:
        if ended:
            starts.append(start - 8)
        stream.seek(start + max(0, length - 10))
        ended = _END_OF_IMAGE in stream.read(min(length, 10))
    return starts


def stored_values(file: PixelFile, index: int) -> NDArray[Any]:
    """One frame as stored: numbers [H, W], or colours [H, W, 3], brought to RGB. Raises UnreadableFile."""
    with refusing_dicom(file.path):
        return _stored(file, index)


def decoded(file: PixelFile, index: int) -> NDArray[Any]:
    """One frame: numbers as stored, [H, W], or uint8 RGB [H, W, 3]. Raises UnreadableFile."""
    with refusing_dicom(file.path):
        frame = _stored(file, index)
        if str(file.header.PhotometricInterpretation) == "PALETTE COLOR" and frame.ndim == 2:
            return apply_palette(file.header, frame)
        if frame.ndim == 3:
            bits = int(file.header.get("BitsStored") or file.header.BitsAllocated)
            frame = (frame >> max(0, bits - 8)).astype(np.uint8)
        return frame


def _stored(file: PixelFile, index: int) -> NDArray[Any]:
    options, frames = _options(file), frame_count(file.header)
    if not 0 <= index < frames:
        raise IndexError(f"frame {index} of {frames}")
    if file.fragments is not None:
        code = _code(file, file.fragments[index])
        try:
            return decode_frame(code, file.syntax, options)
        except DecoderFailed:
            raise UnreadableFile(f"{file.path}: damaged: its frame {index + 1} cannot be decoded") from None
    options["number_of_frames"] = frames
    decoder = get_decoder(file.syntax)
    if file.inflated is not None:
        return np.asarray(decoder.as_array(file.inflated, index=index, **options)[0])
    with file.path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) < file.start + (index + 1) * _frame_bits(file.header) // 8:
            raise UnreadableFile(f"{file.path}: cut off within its pixels")
        stream.seek(file.start)
        if file.header.BitsAllocated == 1 and file.syntax.is_little_endian:
            return _bits(stream, index, _shape(file))
        return np.asarray(decoder.as_array(stream, index=index, **options)[0])


def _options(file: PixelFile) -> dict[str, Any]:
    """What the decoder is told, with what some headers leave out."""
    options: dict[str, Any] = {
        "planar_configuration": 0,
        "pixel_representation": 0,
        "bits_stored": file.header.BitsAllocated,
        **as_pixel_options(file.header),
        "pixel_keyword": file.keyword,
        "pixel_vr": file.vr,
    }
    if "PARTIAL" in str(file.header.PhotometricInterpretation):  # JPEG knows the full range alone
        options["photometric_interpretation"] = "YBR_FULL_422"
    for told_elsewhere in ("extended_offsets", "number_of_frames"):
        options.pop(told_elsewhere, None)
    return options


def _code(file: PixelFile, spans: Sequence[Span]) -> bytes:
    """A frame as it is compressed. Raises UnreadableFile where it is of another size than announced: a
    decoder makes room for what the frame says itself."""
    with file.path.open("rb") as stream:
        parts = []
        for start, length in spans:
            stream.seek(start)
            parts.append(stream.read(length))
    code = b"".join(parts)
    if file.syntax != uid.RLELossless and codestream_shape(code) != _shape(file):
        raise UnreadableFile(f"{file.path}: damaged: a compressed frame has another size than announced")
    return code


def _shape(file: PixelFile) -> tuple[int, int]:
    return int(file.header.Rows), int(file.header.Columns)


def _bits(stream: BinaryIO, index: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame of bits; frames follow one another without gaps, so that one may begin within a byte."""
    size = shape[0] * shape[1]
    first, last = index * size // 8, -(-(index + 1) * size // 8)
    stream.seek(first, os.SEEK_CUR)
    packed = np.frombuffer(stream.read(last - first), np.uint8)
    start = index * size - 8 * first
    return np.unpackbits(packed, bitorder="little")[start : start + size].reshape(shape)
