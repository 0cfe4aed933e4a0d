"""Small files of every kind that the formats read, made for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from vlsmctl.formats.records import Found

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def found(path: Path, kind: str, files: Sequence[Path] | None = None) -> Found:
    return Found(path.parent, path, Path(path.name), kind, tuple(files or (path,)))


def write_dicom(
    path: Path, pixels: NDArray[Any], *, rle: bool = False, syntax: UID | None = None, **elements: Any
) -> Path:
    """One image file, of a single frame. elements: by keyword; None leaves an element out. rle, syntax:
    how it is stored, where not as explicit little endian."""
    return _write(path, pixels[np.newaxis], RLELossless if rle else syntax, elements)


def write_clip(path: Path, pixels: NDArray[Any], *, syntax: UID | None = None, **elements: Any) -> Path:
    """One file of several frames in time, [frames, H, W] or [frames, H, W, 3]."""
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    defaults = {"SOPClassUID": UltrasoundMultiFrameImageStorage, "Modality": "US", **nowhere}
    return _write(path, pixels, syntax, {**defaults, "NumberOfFrames": len(pixels), **elements})


def write_enhanced(
    path: Path,
    pixels: NDArray[Any],
    own: Sequence[dict[str, dict[str, Any]]],
    shared: dict[str, dict[str, Any]] | None = None,
    **elements: Any,
) -> Path:
    """An enhanced CT object of frames [frames, H, W]. own, shared: the functional groups of each frame, and
    of all, as the name of the macro's sequence -> its elements."""
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    groups = {
        "SharedFunctionalGroupsSequence": [_group(shared or {})],
        "PerFrameFunctionalGroupsSequence": [_group(macros) for macros in own],
    }
    defaults = {"SOPClassUID": EnhancedCTImageStorage, **nowhere, **groups}
    return _write(path, pixels, None, {**defaults, "NumberOfFrames": len(pixels), **elements})


def plane(
    position: Sequence[float] | None = None,
    orientation: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, dict[str, Any]]:
    """The functional groups that say where a frame lies, as `write_enhanced` takes them."""
    macros = {
        "PlanePositionSequence": ("ImagePositionPatient", position),
        "PlaneOrientationSequence": ("ImageOrientationPatient", orientation),
        "PixelMeasuresSequence": ("PixelSpacing", spacing),
    }
    return {
        macro: {name: [float(each) for each in values]}
        for macro, (name, values) in macros.items()
        if values is not None
    }


def _group(macros: dict[str, dict[str, Any]]) -> Dataset:
    group = Dataset()
    for name, elements in macros.items():
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(group, name, [item])
    return group


def _write(path: Path, frames: NDArray[Any], syntax: UID | None, elements: dict[str, Any]) -> Path:
    """frames: [frames, H, W] or [frames, H, W, 3]."""
    native = syntax if syntax is not None and not syntax.is_compressed else ExplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = native
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * frames.dtype.itemsize
    colour = frames.ndim == 4
    defaults = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "PatientName": "Secret^Person",
        "PatientID": "SECRET-1",
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "PlanarConfiguration": 0 if colour else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(frames.dtype.kind == "i"),
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [1.0, 1.0],
    }
    for name, value in {**defaults, **elements}.items():
        if value is not None:
            setattr(dataset, name, value)
    stored = frames.dtype.newbyteorder("<" if native.is_little_endian else ">")
    content = frames.astype(stored).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    if syntax is not None and syntax.is_encapsulated:
        own = "pydicom" if syntax == RLELossless else ""  # GDCM ends the process over odd sizes
        dataset.compress(syntax, encoding_plugin=own, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset)
    return path


def write_nifti(path: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path
