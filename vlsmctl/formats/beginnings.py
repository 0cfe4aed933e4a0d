"""What a file is by its first bytes, for those whose name says something else."""

from __future__ import annotations

import zlib
from pathlib import Path

_ENOUGH = 4096  # compressed bytes that surely hold the first 352 of a NIfTI file
_NIFTI_1, _NIFTI_2 = 348, 540  # length of the header, which it begins with
_GZIP = b"\x1f\x8b"
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", ".png"),
    (b"\xff\xd8\xff", "a JPEG picture", ".jpg"),
    (b"II*\0", "a TIFF picture", ".tif"),
    (b"MM\0*", "a TIFF picture", ".tif"),
    (b"GIF8", "a GIF picture", ".gif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture", ".jp2"),
)


def by_content(path: Path) -> tuple[str, str] | None:
    """A picture or NIfTI file in words ("a PNG picture"), and the extension it should have; None for
    everything else, and for what cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_ENOUGH)
    except OSError:
        return None
    for beginning, words, extension in _BEGINNINGS:
        if head.startswith(beginning):
            return words, extension
    if _is_nifti(head):
        return "a NIfTI file", ".nii"
    if head.startswith(_GZIP) and _is_nifti(_inflated(head)):
        return "a NIfTI file", ".nii.gz"
    return None


def _is_nifti(head: bytes) -> bool:
    """Whether a NIfTI file of one part begins so. Source: nifti1.h, nifti2.h"""
    length = head[:4]
    if length in (_NIFTI_1.to_bytes(4, "little"), _NIFTI_1.to_bytes(4, "big")):
        return head[344:348] == b"n+1\0"
    return length in (_NIFTI_2.to_bytes(4, "little"), _NIFTI_2.to_bytes(4, "big")) and head[4:8] == b"n+2\0"


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _NIFTI_1 + 4)
    except zlib.error:
        return b""
