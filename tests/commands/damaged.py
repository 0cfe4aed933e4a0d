"""Files damaged on purpose, the same for the same seed: one by chance, one by malice."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.commands.varied import SIDE, png_chunk, zlib_gz

MIB = 2**20
ABSURD = (0, 1, SIDE - 1, SIDE + 1, 255, 20_000, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_HEADER = 2048

Random = np.random.Generator
Damage = Callable[[bytes, Random], bytes]


def damaged(name: str, content: bytes, seed: int) -> tuple[str, bytes]:
    """What was done to a file, in a word, and what came of it. name: of the file, whose ending counts."""
    rng = np.random.default_rng(seed)
    damages = {**COMMON, **_own(name)}
    word = list(damages)[seed % len(damages)]
    packing = _packing(name) if rng.random() < 0.7 else None
    if packing is None:
        return word, damages[word](content, rng)
    inner, outer = packing
    head, plain = inner(content)
    return f"{word} inside", head + outer(damages[word](plain, rng))


def _own(name: str) -> dict[str, Damage]:
    endings = {".dcm": DICOM, ".nii": NIFTI, ".gz": NIFTI, ".hdr": NIFTI, ".png": PNG}
    return endings.get(Path(name).suffix, {})


def _packing(name: str) -> tuple[Callable[[bytes], tuple[bytes, bytes]], Callable[[bytes], bytes]] | None:
    if name.endswith(".gz"):
        return lambda content: (b"", gzip.decompress(content)), zlib_gz
    if name == "deflated.dcm":
        return _inflated, _deflated
    return None


def _inflated(content: bytes) -> tuple[bytes, bytes]:
    """Up to the end of the file meta information, and what follows it, inflated."""
    end = 144 + int.from_bytes(content[140:144], "little")
    return content[:end], zlib.decompress(content[end:], -zlib.MAX_WBITS)


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def _at(content: bytes, rng: Random, end: int | None = None) -> int:
    return int(rng.integers(0, max(1, min(len(content), end or len(content)))))


def _truncated(content: bytes, rng: Random) -> bytes:
    return content[: _at(content, rng)]


def _cut_short(content: bytes, rng: Random) -> bytes:
    return content[: -int(rng.integers(1, 65))]


def _flipped(end: int | None) -> Damage:
    def flip(content: bytes, rng: Random) -> bytes:
        changed = bytearray(content)
        for _ in range(int(rng.integers(1, 12))):
            changed[_at(content, rng, end)] ^= int(rng.integers(1, 256))
        return bytes(changed)

    return flip


def _zeroed(content: bytes, rng: Random) -> bytes:
    start, length = _at(content, rng), int(rng.integers(1, 200))
    middle = content[start : start + length]
    return content[:start] + bytes(len(middle)) + content[start + length :]


def _junk_inserted(content: bytes, rng: Random) -> bytes:
    start = _at(content, rng)
    return content[:start] + rng.bytes(int(rng.integers(1, 300))) + content[start:]


def _dropped(content: bytes, rng: Random) -> bytes:
    start = _at(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 200)) :]


def _swapped(content: bytes, rng: Random) -> bytes:
    """Two neighbouring pieces."""
    first, second, third = sorted(_at(content, rng) for _ in range(3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def _repeated(content: bytes, rng: Random) -> bytes:
    start = _at(content, rng)
    return content[: start + 200] + content[start:]


def _absurd_size(content: bytes, rng: Random) -> bytes:
    """Wherever the header states the side of the picture, in whatever kind of number."""
    head, changed = content[:_HEADER], bytearray(content)
    kinds = ("<H", ">H", "<I", ">I")
    places = [(match.start(), kind) for kind in kinds for match in re.finditer(
        re.escape(struct.pack(kind, SIDE)), head)]  # fmt: skip
    for _ in range(min(len(places), int(rng.integers(1, 3)))):
        at, kind = places[int(rng.integers(len(places)))]
        value = ABSURD[int(rng.integers(len(ABSURD)))] & (0xFFFF if kind[1] == "H" else 0xFFFFFFFF)
        struct.pack_into(kind, changed, at, value)
    return bytes(changed)


COMMON: dict[str, Damage] = {
    "truncated": _truncated, "cut short": _cut_short, "bytes flipped": _flipped(None),
    "header flipped": _flipped(600), "zeroed": _zeroed, "junk inserted": _junk_inserted,
    "dropped": _dropped, "swapped": _swapped, "repeated": _repeated, "absurd size": _absurd_size,
    "more absurd size": _absurd_size,
}  # fmt: skip


# DICOM: group 0028 as written in explicit little endian, and the element with the pixels
_ELEMENTS = (0x0002, 0x0004, 0x0006, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103)


def _absurd_element(content: bytes, rng: Random) -> bytes:
    """Samples, rows, columns, bits, and what they mean."""
    number = _ELEMENTS[int(rng.integers(len(_ELEMENTS)))]
    at = content.find(struct.pack("<HH2sH", 0x0028, number, b"US", 2))
    if at < 0:
        return _absurd_size(content, rng)
    value = ABSURD[int(rng.integers(len(ABSURD)))] & 0xFFFF
    return content[: at + 8] + struct.pack("<H", value) + content[at + 10 :]


def _absurd_frames(content: bytes, rng: Random) -> bytes:
    """NumberOfFrames, which is text; before the rows, where there is none."""
    text = (b"0 ", b"-1", b"2 ", b"999999", b"99999999999 ", b"1e9 ", b"x ", b"")[int(rng.integers(8))]
    element = struct.pack("<HH2sH", 0x0028, 0x0008, b"IS", len(text)) + text
    found = re.search(rb"\x28\0\x08\0IS(..)", content, re.DOTALL)
    if found:
        length = int.from_bytes(found[1], "little")
        return content[: found.start()] + element + content[found.end() + length :]
    at = content.find(struct.pack("<HH2s", 0x0028, 0x0010, b"US"))
    return content[:at] + element + content[at:] if at > 0 else _absurd_size(content, rng)


def _absurd_length(content: bytes, rng: Random) -> bytes:
    """Of the element with the pixels, or of any other with a long one."""
    places = [match.end() for match in re.finditer(rb"(?:OW|OB|SQ|UN)\0\0", content)]
    if not places:
        return _truncated(content, rng)
    at = places[int(rng.integers(len(places)))]
    value = ABSURD[int(rng.integers(len(ABSURD)))]
    return content[:at] + struct.pack("<I", value) + content[at + 4 :]


def _wrong_syntax(content: bytes, rng: Random) -> bytes:
    """The pixels are not stored as the header says."""
    endings = (
        b".1.2",
        b".1.2.5",
        b".1.2.4.50",
        b".1.2.4.70",
        b".1.2.4.80",
        b".1.2.4.90",
        b".1.2.4.100",
        b".9.9",
    )
    at = content.find(b"1.2.840.10008.1.2", 132)
    if at < 0:
        return _flipped(600)(content, rng)
    length = int.from_bytes(content[at - 2 : at], "little")
    syntax = b"1.2.840.10008" + endings[int(rng.integers(len(endings)))]
    syntax = (
        syntax[:length].ljust(length, b"\0") if rng.random() < 0.3 else syntax + b"\0" * (len(syntax) % 2)
    )
    return content[: at - 2] + struct.pack("<H", len(syntax)) + syntax + content[at + length :]


DICOM: dict[str, Damage] = {
    "absurd element": _absurd_element, "another absurd element": _absurd_element,
    "absurd frames": _absurd_frames, "absurd length": _absurd_length, "wrong syntax": _wrong_syntax,
}  # fmt: skip


def _absurd_dim(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    value = (-1, 0, 1, 7, 8, 31, 33, 30_000, 32_767)[int(rng.integers(9))]
    struct.pack_into("<h", changed, 40 + 2 * int(rng.integers(8)), value)
    return bytes(changed)


def _absurd_type(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    struct.pack_into(
        "<h", changed, 70 + 2 * int(rng.integers(2)), int(rng.choice([0, 1, 8, 64, 128, 1792, 9999]))
    )
    return bytes(changed)


def _absurd_number(content: bytes, rng: Random) -> bytes:
    """Of voxel sizes, the offset of the voxels, slope, intercept, or the affine."""
    changed = bytearray(content)
    value = float(rng.choice([0.0, -1.0, 1e30, -1e30, 351.5, 1e9, float("nan"), float("inf")]))
    at = int(rng.choice([*range(76, 108, 4), 108, 108, 112, 116, *range(256, 328, 4)]))
    struct.pack_into("<f", changed, at, value)
    return bytes(changed)


def _long_extension(content: bytes, rng: Random) -> bytes:
    size = int(rng.choice([0, 8, 16, 24, 2**20, 2**31 - 16]))
    return content[:348] + b"\1\0\0\0" + struct.pack("<II", size, 6) + content[352:]


NIFTI: dict[str, Damage] = {
    "absurd dim": _absurd_dim, "absurd type": _absurd_type, "absurd number": _absurd_number,
    "long extension": _long_extension,
}  # fmt: skip


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[at : at + 8])
        yield name, content[at + 8 : at + 8 + length]
        at += length + 12


def _rebuilt(content: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    return content[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def _absurd_ihdr(content: bytes, rng: Random) -> bytes:
    """Size, depth, kind of colours, interlacing: with a checksum that says it is right."""
    (name, head), *rest = _chunks(content)
    changed = bytearray(head)
    if rng.random() < 0.6:
        struct.pack_into(">I", changed, int(rng.choice([0, 4])), ABSURD[int(rng.integers(len(ABSURD)))])
    else:
        changed[int(rng.integers(8, 13))] = int(rng.integers(0, 20))
    return _rebuilt(content, [(name, bytes(changed)), *rest])


def _chunks_swapped(content: bytes, rng: Random) -> bytes:
    chunks = list(_chunks(content))
    return _rebuilt(content, [chunks[number] for number in rng.permutation(len(chunks))])


def _pixels_damaged(content: bytes, rng: Random) -> bytes:
    """Within whole chunks."""
    return _rebuilt(content, [
        (name, _flipped(None)(data, rng) if name == b"IDAT" else data) for name, data in _chunks(content)
    ])  # fmt: skip


PNG: dict[str, Damage] = {
    "absurd IHDR": _absurd_ihdr, "another absurd IHDR": _absurd_ihdr, "chunks swapped": _chunks_swapped,
    "pixels damaged": _pixels_damaged,
}  # fmt: skip


def nested(sources: dict[str, bytes]) -> dict[str, bytes]:
    """Archives under the names of scans, and files that swell. sources: as of `varied`, by name."""
    dicom, nifti, picture = (sources[name] for name in ("plain.dcm", "grey.nii", "colour.png"))
    bomb = _gz_zeros(2048)
    nifti_head = bytearray(nifti[:352])
    struct.pack_into("<3h", nifti_head, 42, 32_000, 32_000, 4)
    meta, head = _inflated(sources["deflated.dcm"])
    jpeg = sources["clip_jpeg.dcm"]
    return {
        "zip.dcm": _zipped("a.dcm", dicom), "zip.png": _zipped("a.png", picture),
        "zip.nii": _zipped("a.nii", nifti), "zip.nii.gz": _zipped("a.nii", nifti),
        "tar.nii.gz": zlib_gz(_tarred("a.nii", nifti)), "gz.dcm": zlib_gz(dicom),
        "twice.nii.gz": zlib_gz(zlib_gz(nifti)), "ten_times.nii.gz": _packed(nifti, 10),
        "dicom.nii.gz": zlib_gz(dicom), "picture.nii": picture, "picture.dcm": picture,
        "dicom.png": dicom, "nifti.dcm": nifti, "bomb.nii.gz": bomb,
        "headed_bomb.nii.gz": zlib_gz(bytes(nifti_head)) + bomb,
        "trailing_bomb.nii.gz": zlib_gz(nifti) + bomb,
        "deflated_bomb.dcm": meta + _deflated_zeros(head, 2048),
        "deflated_bomb_alone.dcm": meta + _deflated_zeros(b"", 2048),
        "text_bomb.png": picture[:33] + png_chunk(b"zTXt", b"a\0\0" + _zeros(100)) + picture[33:],
        "idat_bomb.png": picture[:33] + png_chunk(b"IDAT", _zeros(300)) + png_chunk(b"IEND", b""),
        "deep.dcm": dicom[:-2 * SIDE * SIDE - 12] + _deep_sequence(3000),
        # What makes libraries end the process that they run in, unless it is seen before
        "jpeg_without_tables.dcm": jpeg.replace(b"\xff\xdb\0\x43", bytes(4)),
        "jpeg_junk_between.dcm": jpeg.replace(b"\xff\xc0\0\x11", b"\0\0\xff\xc0\0\x11"),
        "jpeg_precision.dcm": jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\xfd"),
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    }  # fmt: skip


def _zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _tarred(name: str, content: bytes) -> bytes:
    stream, member = io.BytesIO(), tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _packed(content: bytes, times: int) -> bytes:
    return content if times == 0 else _packed(zlib_gz(content), times - 1)


def _gz_zeros(mib: int) -> bytes:
    return gzip.compress(bytes(MIB), mtime=0) * mib


def _zeros(mib: int) -> bytes:
    return zlib.compress(bytes(mib * MIB), 1)


def _deflated_zeros(head: bytes, mib: int) -> bytes:
    """Blocks that stand for themselves can be repeated without being made anew."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = packer.compress(head + bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + more * (mib - 1) + packer.flush()


def _deep_sequence(depth: int) -> bytes:
    """Sequences within one another, none of which ends."""
    level = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    return (level + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth
