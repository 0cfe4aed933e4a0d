"""From the stored values of a DICOM frame to the grey levels or colours that it is shown in.

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT, windows), C.7.6.3 (palettes, padding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut

from vlsmctl.formats.dicom_elements import (
    LookupTable,
    WrongElement,
    item_of,
    lookup_table,
    numbers,
    value_of,
)
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
_LUT = ("LUTDescriptor", "LUTData")
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Scope:
    """What the functional groups of an enhanced object say of one frame; None where they are silent, and
    the file's own elements hold. slope, intercept: rescale. window: center, width, function. lut: the VOI
    LUT."""

    slope: float | None = None
    intercept: float | None = None
    window: tuple[float, float, str] | None = None
    lut: LookupTable | None = None


def stated_window(dataset: Any) -> tuple[float, float, str] | None:
    """Center, width and function of the first window of a file or functional group, if it can be used.
    Raises WrongElement."""
    center, width = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    function = str(value_of(dataset, "VOILUTFunction") or _FUNCTIONS[0]).upper()
    if not center or not width or not np.isfinite([center[0], width[0]]).all() or width[0] <= 0:
        return None
    if function not in _FUNCTIONS or (function == "LINEAR" and width[0] < 1):
        return None
    return center[0], width[0], function


def stated_lut(dataset: Any, *, little_endian: bool) -> LookupTable | None:
    """The first VOI LUT of a file or functional group, if it has one. Raises WrongElement."""
    item = item_of(dataset, "VOILUTSequence")
    if item is None or any(value_of(item, name) is None for name in _LUT):
        return None
    lut = lookup_table(item, *_LUT, little_endian=little_endian)
    if not 1 <= lut.bits <= 16:
        raise WrongElement("VOILUTSequence does not state entries of 1 to 16 bits")
    return lut


def modality_values(header: Any, scope: Scope, stored: NDArray[Any]) -> NDArray[Any]:
    """[H, W] in the units of the modality (such as Hounsfield): by the modality LUT, or rescaled. Raises
    WrongElement."""
    if scope.slope is None and scope.intercept is None:
        item = item_of(header, "ModalityLUTSequence")
        if item is not None:
            return _looked_up(
                header, lookup_table(item, *_LUT, little_endian=_is_little_endian(header)), stored
            )
    slope = _first(scope.slope, numbers(header, "RescaleSlope")) or 1.0
    intercept = _first(scope.intercept, numbers(header, "RescaleIntercept")) or 0.0
    return stored if (slope, intercept) == (1.0, 0.0) else stored * slope + intercept


def windowed(header: Any, scope: Scope, values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Grey levels [H, W] by the VOI LUT or the first window, of the frame, else of the file; None where
    neither can be used. values: as `modality_values` returns them. Raises WrongElement."""
    lut = scope.lut
    if lut is None and scope.window is None:
        lut = stated_lut(header, little_endian=_is_little_endian(header))
    if lut is not None:
        return to_grey(_looked_up(header, lut, np.rint(values)), 0, 2**lut.bits - 1)
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
    """The values [n] of the pixels that show something, not the padding around a round picture. Raises
    WrongElement."""
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
    """Numbers of colours [H, W] -> uint8 RGB [H, W, 3]. Raises WrongElement."""
    names = [f"{colour}PaletteColorLookupTable" for colour in _COLOURS]
    if f"Segmented{names[0]}Data" in header and f"{names[0]}Data" not in header:
        return _apply_segmented(header, stored)
    little_endian = _is_little_endian(header)
    tables = [
        lookup_table(header, f"{name}Descriptor", f"{name}Data", little_endian=little_endian)
        for name in names
    ]
    # Tables of 16 bits may hold colours of 8
    shift = 8 if max(int(table.values.max()) for table in tables) > 255 else 0
    picked = [
        (table.values >> shift).astype(np.uint8)[_indices(stored, tables[0].first, len(table.values))]
        for table in tables
    ]
    return np.stack(picked, axis=-1)


def _apply_segmented(header: Any, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Tables in pieces, which pydicom expands."""
    try:
        colours: NDArray[Any] = apply_color_lut(stored, header)[..., :3]
    except (MemoryError, RecursionError):
        raise
    except Exception:  # whatever comes of pieces that do not fit
        raise WrongElement("segmented palettes cannot be expanded") from None
    return (colours >> (8 * (colours.dtype.itemsize - 1))).astype(np.uint8)


def _is_little_endian(header: Any) -> bool:
    return bool(header.file_meta.TransferSyntaxUID.is_little_endian)


def _looked_up(header: Any, lut: LookupTable, values: NDArray[Any]) -> NDArray[Any]:
    table, first = lut.values, lut.first
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
