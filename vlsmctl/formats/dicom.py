"""DICOM images in, one frame a file: a single image, or a series sorted by position; masks out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing

from vlsmctl.errors import UnreadableFile
from vlsmctl.files import atomic_path
from vlsmctl.formats.dicom_geometry import Place, is_sheared, place, series_geometry, slice_order
from vlsmctl.formats.intensity import as_rgb, robust_range, to_grey
from vlsmctl.formats.raster import write_mask_picture
from vlsmctl.formats.records import Found, Geometry, Mask, Scan, checked_masks
from vlsmctl.quiet import without_warnings

# pydicom's messages quote header values, which are patient data: none may reach a log.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

# Modalities whose several images in one series are the slices of a volume.
VOLUMETRIC = ("CT", "MR", "PT", "NM")
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_FINDING = ("SOPClassUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames", *_GEOMETRY)
_OPENING = (
    *_FINDING,
    *("SliceThickness", "SpacingBetweenSlices", "SharedFunctionalGroupsSequence"),
    *("SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation"),
)
_PHOTOMETRICS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    *("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
_NOT_SCANS = ("SEG", "PR", "KO", "SR", "RTSTRUCT", "RTPLAN", "REG", "DOC", "AU", "ECG")
_PACKAGES = {"JPEG-LS": "pyjpegls", "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg", "JPEG": "python-gdcm"}


@dataclass(frozen=True)
class Header:
    """What finding scans needs of a file: which series it belongs to, and whether it is an image.

    image: has rows and columns, and is no mask, report or plan. positioned: states where it lies.
    """

    series: str
    modality: str
    image: bool
    positioned: bool


@dataclass(frozen=True)
class _Slice:
    path: Path
    shape: tuple[int, int]
    place: Place | None


def has_preamble(path: Path) -> bool:
    """Whether a file begins as DICOM files do: "DICM" after 128 bytes. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_header(path: Path) -> Header:
    """Reads a few elements, never the pixels. Raises UnreadableFile."""
    header = _elements(path, _FINDING)
    modality = str(header.get("Modality", ""))
    sized = bool(header.get("Rows") and header.get("Columns"))
    stored = pydicom.uid.UID(header.get("SOPClassUID") or "")
    if not sized and (not stored or "Image Storage" in stored.name):
        raise UnreadableFile(
            f"{path}: cut off or damaged: it should hold an image, and states no size of one"
        )
    return Header(
        series=str(header.get("SeriesInstanceUID", "")),
        modality=modality,
        image=sized and modality not in _NOT_SCANS,
        positioned=all(header.get(name) for name in _GEOMETRY),
    )


def open_dicom(found: Found) -> Scan:
    """A DICOM image, or a series of single-frame images, as a scan.

    Frames are sorted by position along their normal, never by name or instance number, and shown as
    stored. Modality and VOI transforms are applied (VOI LUT, else the first window; where a file has
    neither, the 0.5th and 99.5th percentile of the series); MONOCHROME1 is inverted; colour becomes RGB.

    The mask is a NIfTI (uint8, 0 and 1, RAS+) whose affine comes from ImagePositionPatient,
    ImageOrientationPatient and PixelSpacing alone; its voxel index is (column, row, slice). A tilted
    gantry gives a sheared affine, stored as sform only, for a qform cannot hold it. A single file that
    does not say where it lies (a photograph, most ultrasound) has no geometry, and its mask is a PNG.

    Raises UnreadableFile for the whole series: several frames in a file, no decoder for its
    compression, several slices without position or with different sizes, and all that
    `series_geometry` refuses.
    """
    slices = [_read_slice(path) for path in found.files]
    ordered, geometry = _arranged(found.source, slices)
    count, shape = len(ordered), ordered[0].shape

    def write_mask(masks: Iterable[Mask], target: Path) -> None:
        if geometry is None:
            (mask,) = checked_masks(masks, 1, shape)
            write_mask_picture(mask, target)
            return
        lit = np.zeros((shape[1], shape[0], count), dtype=np.uint8, order="F")
        for number, mask in enumerate(checked_masks(masks, count, shape)):
            lit[:, :, number] = mask.T
        _save(lit, geometry, target)

    return Scan(
        source=found.source,
        kind="dicom",
        frame_count=count,
        frame_shape=shape,
        geometry=geometry,
        read_frame=_frame_reader([each.path for each in ordered]),
        write_mask=write_mask,
        suffix=".png" if geometry is None else ".nii.gz",
        series_number=found.series_number,
    )


def _arranged(source: Path, slices: list[_Slice]) -> tuple[list[_Slice], Geometry | None]:
    """The slices in order, and where they lie."""
    places = [each.place for each in slices if each.place is not None]
    if len(slices) == 1 and not places:
        return slices, None
    if len(places) < len(slices):
        without = len(slices) - len(places)
        raise UnreadableFile(
            f"{source}: {without} of its {len(slices)} slices do not say where they lie "
            f"(expected {', '.join(_GEOMETRY)}), so they cannot be put in order"
        )
    shapes = sorted({each.shape for each in slices})
    if len(shapes) > 1:
        sizes = ", ".join(f"{width} x {height}" for height, width in shapes)
        raise UnreadableFile(f"{source}: its slices have different sizes ({sizes} pixels)")
    order = slice_order(places)
    return [slices[number] for number in order], series_geometry(
        source, [places[number] for number in order]
    )


def _read_slice(path: Path) -> _Slice:
    header = _elements(path, _OPENING)
    with refusing_dicom(path):
        reason = _why_not(header) or _why_not_decodable(header) or _why_too_short(path, header)
        if reason:
            raise UnreadableFile(f"{path}: {reason}")
        return _Slice(path, (int(header.Rows), int(header.Columns)), _place_of(path, header))


def _place_of(path: Path, header: Any) -> Place | None:
    if not all(header.get(name) for name in _GEOMETRY):
        return None
    position, orientation, spacing = (_numbers(header, name) for name in _GEOMETRY)
    stated = [*_numbers(header, "SliceThickness"), *_numbers(header, "SpacingBetweenSlices")]
    thickness = next((each for each in stated if np.isfinite(each) and each > 0), None)
    return place(path, position=position, orientation=orientation, spacing=spacing, thickness=thickness)


def _numbers(header: Any, name: str) -> list[float]:
    value = header.get(name)
    if value is None or value == "":
        return []
    return [float(number) for number in (value if isinstance(value, Iterable) else [value])]


def _why_not(header: Any) -> str | None:
    """The reason to refuse a file by its header, if there is one."""
    frames = int(header.get("NumberOfFrames") or 1)
    photometric = str(header.get("PhotometricInterpretation", ""))
    if not (header.get("Rows") and header.get("Columns")):
        return "a DICOM file without an image"
    if frames > 1:
        return f"holds {frames} frames in one file; multi-frame DICOM is not supported yet"
    if "SharedFunctionalGroupsSequence" in header:
        return "an enhanced (multi-frame) DICOM object, not supported yet"
    if photometric not in _PHOTOMETRICS:
        return f"its PhotometricInterpretation {photometric[:16]!r} is not supported"
    return None


def _why_not_decodable(header: Any) -> str | None:
    syntax = pydicom.uid.UID(header.file_meta.get("TransferSyntaxUID", ""))
    try:
        decoder = get_decoder(syntax) if syntax.is_transfer_syntax else None
    except NotImplementedError:
        decoder = None
    if decoder is None:
        return f"its compression ({syntax.name or 'none stated'}) is not supported"
    if not decoder.is_available:
        package = next(
            (pip for name, pip in _PACKAGES.items() if name in syntax.name), "pylibjpeg pylibjpeg-openjpeg"
        )
        return f"no decoder for {syntax.name} on this machine; run: pip install {package}"
    return None


def _why_too_short(path: Path, header: Any) -> str | None:
    """Uncompressed files can be seen to be cut off without reading them."""
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_compressed or syntax.is_deflated:
        return None
    samples = 1.5 if "42" in header.PhotometricInterpretation else int(header.get("SamplesPerPixel") or 1)
    expected = int(header.Rows) * int(header.Columns) * samples * int(header.get("BitsAllocated") or 8) // 8
    return (
        "cut off: holds fewer pixels than its header announces" if path.stat().st_size < expected else None
    )


def _frame_reader(paths: Sequence[Path]) -> Callable[[int], NDArray[np.uint8]]:
    """Number of the frame -> uint8 RGB [H, W, 3]."""

    @cache
    def window() -> tuple[float, float]:
        return robust_range(lambda number: _decoded(paths[number])[1], len(paths))

    def read_frame(number: int) -> NDArray[np.uint8]:
        if not 0 <= number < len(paths):
            raise IndexError(f"frame {number} of {len(paths)}")
        dataset, values = _decoded(paths[number])
        if values.ndim == 3:
            return values.astype(np.uint8)
        with refusing_dicom(paths[number]):
            windowed = _windowed(dataset, values)
        grey = windowed if windowed is not None else to_grey(values, *window())
        return as_rgb(255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey)

    return read_frame


def _decoded(path: Path) -> tuple[Any, NDArray[Any]]:
    """The file, and its pixels: [H, W] after the modality transform, or uint8 RGB [H, W, 3]."""
    with refusing_dicom(path):
        dataset = pydicom.dcmread(path)
        pixels = pixel_array(dataset)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)[..., :3]
            bits = 8 * pixels.dtype.itemsize
        else:
            bits = int(dataset.BitsStored)
        if pixels.ndim == 3:
            return dataset, (pixels >> max(0, bits - 8)).astype(np.uint8)
        return dataset, apply_modality_lut(pixels, dataset)


def _windowed(dataset: Any, values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """uint8 [H, W] by the VOI LUT or the first window; None where the file has none that can be used."""
    lut = (dataset.get("VOILUTSequence") or [None])[0]
    if lut is not None and lut.get("LUTDescriptor") and lut.get("LUTData"):
        looked_up = apply_voi(np.rint(values).astype(np.int32), dataset)
        return to_grey(looked_up, 0, 2 ** int(lut.LUTDescriptor[2]) - 1)
    center, width = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if not center or not width or not np.isfinite([center[0], width[0]]).all() or width[0] <= 0:
        return None
    if function == "LINEAR" and width[0] < 1:
        return None
    # pydicom maps to the range that the stored bits can reach; 8 bits without rescaling make 0..255.
    window = pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = center[0], width[0]
    window.VOILUTFunction, window.PhotometricInterpretation = function, "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = 8, 0
    return to_grey(apply_windowing(values, window), 0, 255)


def _save(lit: NDArray[np.uint8], geometry: Geometry, target: Path) -> None:
    image = nib.Nifti1Image(lit, geometry.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(geometry.affine, code="scanner")
    sheared = is_sheared(geometry.affine)
    image.set_qform(None if sheared else geometry.affine, code="unknown" if sheared else "scanner")
    with atomic_path(target) as temporary:
        nib.save(image, temporary)


def _elements(path: Path, names: Sequence[str]) -> Any:
    with refusing_dicom(path):
        if not has_preamble(path):
            raise UnreadableFile(f'{path}: not a DICOM file (no "DICM" after its first 128 bytes)')
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(names))


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
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or 'damaged'})") from error
    except Exception as error:  # pydicom and the decoders each raise their own
        raise UnreadableFile(f"{path}: damaged DICOM file ({type(error).__name__} while reading)") from None
