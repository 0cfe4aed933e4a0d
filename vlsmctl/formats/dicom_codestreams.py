"""The size that compressed frames state themselves.

Source: ITU-T T.81 B.2 (JPEG), T.87 (JPEG-LS), T.800 annex A (JPEG 2000).
"""

from __future__ import annotations

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # tables and extensions among the markers of frames
_JPEG_LS_FRAME = 0xF7
_BOXED = b"\x00\x00\x00\x0cjP  "  # some writers put JPEG 2000 in a file of its own


def codestream_shape(code: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 frame states; None where it states none.

    A decoder makes room for that size, whatever the DICOM header says.
    """
    start = code.find(_JPEG_2000) if code.startswith(_BOXED) else code.find(_JPEG_2000, 0, 4)
    if start >= 0 and len(code) >= start + 24:
        right, bottom, left, top = (
            int.from_bytes(code[start + at : start + at + 4], "big") for at in (8, 12, 16, 20)
        )
        return bottom - top, right - left
    return _jpeg_shape(code) if code.startswith(_JPEG) else None


def _jpeg_shape(code: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(code) and code[at] == 0xFF:
        marker = code[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES) or marker == _JPEG_LS_FRAME:
            rows, columns = (int.from_bytes(code[at + n : at + n + 2], "big") for n in (5, 7))
            return (rows, columns) if rows and columns else None
        at += 2 + int.from_bytes(code[at + 2 : at + 4], "big")
    return None
