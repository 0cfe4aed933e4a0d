"""From the stored values of a DICOM frame to the grey levels or colours that it is shown in.

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT, windows), C.7.6.3 (palettes, padding).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut

from vlsmctl.formats.intensity import to_grey

_COLOURS = ("Red", "Green", "Blue")
DISPLAY_ELEMENTS = (
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in _COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
)
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Scope:
    """What the functional groups of an enhanced object say of one frame; None where they are silent, and
    the file's own elements hold. slope, intercept: rescale. window: center, width, function."""

    slope: float | None = None
    intercept: float | None = None
    window: tuple[float, float, str] | None = None


def numbers(dataset: Any, name: str) -> list[float]:
    """The values of an element, none where it is absent or empty. Raises ValueError."""
    value = dataset.get(name)
    if value is None or value == "":
        return []
    many = isinstance(value, Iterable) and not isinstance(value, str)
    return [float(number) for number in (value if many else [value])]


def stated_window(dataset: Any) -> tuple[float, float, str] | None:
    """Center, width and function of the first window of a file or functional group, if it can be used."""
    center, width = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or _FUNCTIONS[0]).upper()
    if not center or not width or not np.isfinite([center[0], width[0]]).all() or width[0] <= 0:
        return None
    if function not in _FUNCTIONS or (function == "LINEAR" and width[0] < 1):
        return None
    return center[0], width[0], function


def modality_values(header: Any, scope: Scope, stored: NDArray[Any]) -> NDArray[Any]:
    """[H, W] in the units of the modality (such as Hounsfield): by the modality LUT, or rescaled."""
    lut = (header.get("ModalityLUTSequence") or [None])[0]
    if lut is not None and scope.slope is None and scope.intercept is None:
        return _looked_up(header, lut, stored)
    slope = _first(scope.slope, numbers(header, "RescaleSlope")) or 1.0
    intercept = _first(scope.intercept, numbers(header, "RescaleIntercept")) or 0.0
    return stored if (slope, intercept) == (1.0, 0.0) else stored * slope + intercept


def windowed(header: Any, scope: Scope, values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Grey levels [H, W] by the VOI LUT or the first window, of the frame, else of the file; None where
    neither can be used. values: as `modality_values` returns them."""
    lut = (header.get("VOILUTSequence") or [None])[0]
    if scope.window is None and lut is not None and lut.get("LUTDescriptor") and lut.get("LUTData"):
        looked_up = _looked_up(header, lut, np.rint(values))
        return to_grey(looked_up, 0, 2 ** int(lut.LUTDescriptor[2]) - 1)
    window = scope.window or stated_window(header)
    if window is None:
        return None
    center, width, function = window
    if function == "SIGMOID":
        return to_grey(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500))), 0, 1)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return np.where(values > center, 255, 0).astype(np.uint8)
    return to_grey(values, center - width / 2, center + width / 2)


def without_padding(header: Any, stored: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """The values [n] of the pixels that show something, not the padding around a round picture."""
    padding = numbers(header, "PixelPaddingValue")
    if not padding or stored.dtype.kind not in "iu":
        return values.reshape(-1)
    limit = numbers(header, "PixelPaddingRangeLimit")
    # Written as unsigned by some, where the pixels are signed
    wrapped = [
        number - 2.0 ** (8 * stored.dtype.itemsize) if number > np.iinfo(stored.dtype).max else number
        for number in (padding[0], *(limit or padding)[:1])
    ]
    return values[(stored < min(wrapped)) | (stored > max(wrapped))]


def apply_palette(header: Any, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers of colours [H, W] -> uint8 RGB [H, W, 3]. Raises ValueError."""
    if "RedPaletteColorLookupTableData" not in header:
        colours: NDArray[Any] = apply_color_lut(stored, header)[..., :3]  # segmented, which pydicom expands
        return (colours >> (8 * (colours.dtype.itemsize - 1))).astype(np.uint8)
    channels = [
        _table(header, header[f"{name}PaletteColorLookupTableDescriptor"].value,
               header[f"{name}PaletteColorLookupTableData"].value)
        for name in _COLOURS
    ]  # fmt: skip
    # Tables of 16 bits may hold colours of 8
    shift = 8 if max(int(table.max()) for table in channels) > 255 else 0
    first = int(header.RedPaletteColorLookupTableDescriptor[1])
    picked = [(table >> shift).astype(np.uint8)[_indices(stored, first, len(table))] for table in channels]
    return np.stack(picked, axis=-1)


def _looked_up(header: Any, lut: Any, values: NDArray[Any]) -> NDArray[Any]:
    table, first = _table(header, lut.LUTDescriptor, lut.LUTData), int(lut.LUTDescriptor[1])
    signed = header.get("PixelRepresentation") == 1 or (values.size > 0 and values.min() < 0)
    if signed and first >= 2**15:  # written as unsigned
        first -= 2**16
    picked: NDArray[Any] = table[_indices(values, first, len(table))]
    return picked


def _indices(values: NDArray[Any], first: int, count: int) -> NDArray[np.int64]:
    """Values below the first one that a table knows take its first entry, those beyond its end the last."""
    whole = np.nan_to_num(values).clip(-(2.0**62), 2.0**62).astype(np.int64)
    indices: NDArray[np.int64] = np.clip(whole - first, 0, count - 1)
    return indices


def _first(own: float | None, stated: list[float]) -> float | None:
    return next((each for each in (own, *stated) if each is not None and np.isfinite(each)), None)


def _table(header: Any, descriptor: Any, data: Any) -> NDArray[np.uint16]:
    """The entries of a lookup table, whichever way they are written. Raises ValueError."""
    count = int(descriptor[0]) or 2**16
    if isinstance(data, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        wide = len(data) >= 2 * count
        entries = np.frombuffer(data[: 2 * count] if wide else data, f"{order}u2" if wide else "u1")
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64))
    table = entries[:count].astype(np.uint16)
    if not len(table):
        raise ValueError("an empty lookup table")
    return table
