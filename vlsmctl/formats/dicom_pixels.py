"""The pixels of DICOM files, one frame at a time, as stored or as colours.

Source: DICOM PS3.5 section 8 and annex A.4 (native and encapsulated pixel data).
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.pixels import get_decoder

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom_codestreams import codestream_shape
from vlsmctl.formats.dicom_decoder import DecoderFailed, NoDecoder, can_decode, decode_frame
from vlsmctl.formats.dicom_display import DISPLAY_ELEMENTS, apply_palette
from vlsmctl.formats.dicom_elements import (
    LAYOUT_ELEMENTS,
    Layout,
    WrongElement,
    naming_elements,
    pixel_layout,
    value_of,
)
from vlsmctl.formats.dicom_header import read_dataset, read_elements

MAX_PIXELS = 2**27  # of one frame; beyond it is no picture, but damage

_PHOTOMETRICS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    *("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
_NOT_SUPPORTED = ("HSV", "ARGB", "CMYK", "XYB")  # safe to quote: no patient is called that
_KEYWORDS = {0x10: "PixelData", 0x08: "FloatPixelData", 0x09: "DoubleFloatPixelData"}
_PACKAGES = {"JPEG-LS": "pyjpegls", "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg", "JPEG": "python-gdcm"}
_VIDEO = ("MPEG", "HEVC", "SMPTE")
_ELEMENTS = (
    *LAYOUT_ELEMENTS,
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
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
_TOO_FEW = "cut off: holds fewer pixels than its header announces"

Span = tuple[int, int]  # offset in the file, and length, bytes


@dataclass(frozen=True)
class PixelFile:
    """A file of which any frame can be decoded, without reading the others.

    header: the elements that say how to show its pixels. layout: how they are stored. keyword, vr: name
    and VR of the element with the pixels. start: where its value begins, bytes. fragments: of each frame,
    where the file is compressed. inflated: the value itself, of a deflated file.
    """

    path: Path
    header: Any
    layout: Layout
    syntax: uid.UID
    keyword: str
    vr: str
    start: int
    fragments: tuple[tuple[Span, ...], ...] | None
    inflated: bytes | None = None


def checked_layout(path: Path, header: Any) -> Layout:
    """The layout of the pixels, by a header with `LAYOUT_ELEMENTS`, before any pixel is read. Raises
    UnreadableFile with the reason to refuse the file."""
    with naming_elements(path):
        reason = _why_not(header)
        if reason is None:
            layout = pixel_layout(header)
            syntax = header.file_meta.TransferSyntaxUID
            reason = _why_not_decodable(syntax, layout) or _why_absurd(path, syntax, layout)
            if reason is None:
                return layout
        raise UnreadableFile(f"{path}: {reason}")


def _why_not(header: Any) -> str | None:
    photometric = str(value_of(header, "PhotometricInterpretation") or "")
    if not (value_of(header, "Rows") and value_of(header, "Columns")):
        return "a DICOM file without an image"
    if photometric not in _PHOTOMETRICS:
        if photometric in _NOT_SUPPORTED:
            return f"its PhotometricInterpretation {photometric!r} is not supported"
        return "damaged: its PhotometricInterpretation is missing or unknown"
    if "PARTIAL" in photometric and not header.file_meta.TransferSyntaxUID.is_compressed:
        return f"its PhotometricInterpretation {photometric!r} is supported in compressed files only"
    return None


def _why_not_decodable(syntax: uid.UID, layout: Layout) -> str | None:
    if any(name in syntax.name for name in _VIDEO):
        return f"holds a video ({syntax.name}); store its frames as pictures first"
    try:
        available = can_decode(syntax, layout.bits_stored)
    except NotImplementedError:
        return f"its compression ({syntax.name if syntax.is_valid else 'unknown'}) is not supported"
    if not available:
        package = next(
            (pip for name, pip in _PACKAGES.items() if name in syntax.name), "pylibjpeg pylibjpeg-openjpeg"
        )
        return f"no decoder for {syntax.name} on this machine; run: pip install {package}"
    return None


def _why_absurd(path: Path, syntax: uid.UID, layout: Layout) -> str | None:
    """Sizes that the file cannot hold are seen without reading it, and before memory is taken."""
    pixels = layout.rows * layout.columns
    if pixels > MAX_PIXELS:
        return (
            f"states frames of {pixels // 10**6} megapixels, more than the {MAX_PIXELS // 10**6} supported"
        )
    size = path.stat().st_size
    if syntax.is_encapsulated:
        return _too_many(layout.frames) if layout.frames > size // _SMALLEST_FRAME + 1 else None
    if _bytes(layout, layout.frames) > size * (_DEFLATE_AT_BEST if syntax.is_deflated else 1):
        return _TOO_FEW
    return None


def _bytes(layout: Layout, frames: int) -> int:
    """Of frames that are not compressed; the last may end within a byte."""
    subsampled = "42" in layout.photometric  # two pixels share a colour
    samples = 2 if subsampled else layout.samples
    return layout.rows * layout.columns * samples * layout.bits_allocated * frames // 8


def _too_many(frames: int) -> str:
    return f"cut off or damaged: its header announces {frames} frames, more than there are"


def open_pixels(path: Path) -> PixelFile:
    """Reads the header and finds the frames. Raises UnreadableFile."""
    header = read_elements(path, _ELEMENTS)
    layout = checked_layout(path, header)
    with naming_elements(path):
        syntax = header.file_meta.TransferSyntaxUID
        if syntax.is_deflated:
            return _deflated(path, layout, syntax)
        with path.open("rb") as stream:
            # Already read once, within bounds; once more up to the pixels, to learn where they begin.
            again = pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=["Rows"])
            rows = again.get_item("Rows")
            implicit = syntax.is_implicit_VR if rows is None else not rows.VR
            keyword, vr, length = _pixel_element(path, stream, implicit, syntax.is_little_endian)
            start = stream.tell()
            encapsulated = length == _UNDEFINED or (syntax.is_encapsulated and stream.read(4) == _ITEM)
            stream.seek(start)
            if encapsulated != syntax.is_encapsulated:
                raise UnreadableFile(f"{path}: damaged: its pixels are not stored as its header announces")
            fragments = _frames(path, stream, header, layout.frames) if encapsulated else None
        return PixelFile(path, header, layout, syntax, keyword, vr, start, fragments)


def _deflated(path: Path, layout: Layout, syntax: uid.UID) -> PixelFile:
    """Inflated, the whole file is held in memory: it cannot be entered in the middle."""
    header = read_dataset(path, specific_tags=(*_ELEMENTS, *_KEYWORDS.values()))
    for keyword in _KEYWORDS.values():
        value = value_of(header, keyword)
        if isinstance(value, bytes):
            if len(value) < _bytes(layout, layout.frames):
                raise UnreadableFile(f"{path}: {_TOO_FEW}")
            return PixelFile(path, header, layout, syntax, keyword, header[keyword].VR, 0, None, value)
    raise UnreadableFile(f"{path}: {_NO_PIXELS}")


def _pixel_element(
    path: Path, stream: BinaryIO, implicit: bool, little_endian: bool
) -> tuple[str, str, int]:
    """Keyword, VR ("" where not written) and length of the element with the pixels; the stream, which
    stands at its tag, is moved to its value. implicit: whether the data set is written without VRs, which
    some are whatever their transfer syntax says."""
    order = "<" if little_endian else ">"
    head = stream.read(8 if implicit else 12)
    group, element = struct.unpack(f"{order}HH", head[:4]) if len(head) >= 8 else (0, 0)
    if group != _PIXELS or element not in _KEYWORDS or len(head) in (9, 10, 11):
        raise UnreadableFile(f"{path}: {_NO_PIXELS}")
    vr = "" if implicit else head[4:6].decode("ascii", "replace")
    return _KEYWORDS[element], vr, int(struct.unpack(f"{order}I", head[-4:])[0])


def _frames(path: Path, stream: BinaryIO, header: Any, count: int) -> tuple[tuple[Span, ...], ...]:
    """The fragments of each frame, by the extended or the basic offset table, else by their number, else
    by the end of image that the last one of a frame holds. Only their headers are read."""
    table, *fragments = list(_fragments(path, stream)) or [(0, 0)]
    first = fragments[0][0] - 8 if fragments else 0
    frames: list[tuple[Span, ...]]
    if count == 1:
        frames = [tuple(fragments)]
    elif len(fragments) == count:
        frames = [(fragment,) for fragment in fragments]
    elif len(offsets := _offsets(stream, table, header)) == count:
        frames = _split(fragments, [first + offset for offset in offsets])
    else:
        frames = _split(fragments, _starts(stream, fragments))
    if not fragments:
        raise UnreadableFile(f"{path}: {_NO_PIXELS}")
    if len(frames) < count or not all(frames[:count]):
        raise UnreadableFile(f"{path}: {_too_many(count)}")
    return tuple(frames[:count])


def _offsets(stream: BinaryIO, table: Span, header: Any) -> list[int]:
    """Of the frames from the first one, as the extended table says, else the basic one (the first item)."""
    extended = value_of(header, "ExtendedOffsetTable")
    if isinstance(extended, bytes):
        return [int(offset) for offset in np.frombuffer(extended[: len(extended) // 8 * 8], "<u8")]
    stream.seek(table[0])
    return [int(offset) for offset in np.frombuffer(stream.read(table[1] // 4 * 4), "<u4")]


def _fragments(path: Path, stream: BinaryIO) -> Iterator[Span]:
    """The items, the first of which is the offset table, up to the delimiter or the end of the file."""
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
    with naming_elements(file.path):
        return _stored(file, index)


def decoded(file: PixelFile, index: int) -> NDArray[Any]:
    """One frame: numbers as stored, [H, W], or uint8 RGB [H, W, 3]. Raises UnreadableFile."""
    with naming_elements(file.path):
        frame = _stored(file, index)
        if file.layout.photometric == "PALETTE COLOR" and frame.ndim == 2:
            return apply_palette(file.header, frame)
        if frame.ndim == 3:
            if frame.dtype.kind not in "iu":
                raise WrongElement("SamplesPerPixel says that its real numbers are colours")
            frame = (frame >> max(0, file.layout.bits_stored - 8)).astype(np.uint8)
        return frame


def _stored(file: PixelFile, index: int) -> NDArray[Any]:
    options, frames = _options(file), file.layout.frames
    if not 0 <= index < frames:
        raise IndexError(f"frame {index} of {frames}")
    if file.fragments is not None:
        code = _code(file, file.fragments[index])
        try:
            return decode_frame(code, file.syntax, options)
        except DecoderFailed:
            raise UnreadableFile(f"{file.path}: damaged: its frame {index + 1} cannot be decoded") from None
        except NoDecoder:
            reason = "the process that decodes compressed frames does not start on this machine"
            raise UnreadableFile(f"{file.path}: {reason}") from None
    options["number_of_frames"] = frames
    decoder = get_decoder(file.syntax)
    bits = file.layout.bits_allocated == 1 and file.syntax.is_little_endian
    if file.inflated is not None:
        if bits:
            return _bits(BytesIO(file.inflated), index, _shape(file))
        return np.asarray(decoder.as_array(file.inflated, index=index, **options)[0])
    with file.path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) < file.start + _bytes(file.layout, index + 1):
            raise UnreadableFile(f"{file.path}: cut off within its pixels")
        stream.seek(file.start)
        if bits:
            return _bits(stream, index, _shape(file))
        return np.asarray(decoder.as_array(stream, index=index, **options)[0])


def _options(file: PixelFile) -> dict[str, Any]:
    """What the decoder is told."""
    layout = file.layout
    # JPEG knows the full range alone
    photometric = "YBR_FULL_422" if "PARTIAL" in layout.photometric else layout.photometric
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "planar_configuration": layout.planar,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": layout.signed,
        "photometric_interpretation": photometric,
        "pixel_keyword": file.keyword,
        "pixel_vr": file.vr,
    }


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
    return file.layout.rows, file.layout.columns


def _bits(stream: BinaryIO, index: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame of bits; frames follow one another without gaps, so that one may begin within a byte."""
    size = shape[0] * shape[1]
    first, last = index * size // 8, -(-(index + 1) * size // 8)
    stream.seek(first, os.SEEK_CUR)
    packed = np.frombuffer(stream.read(last - first), np.uint8)
    start = index * size - 8 * first
    return np.unpackbits(packed, bitorder="little")[start : start + size].reshape(shape)
