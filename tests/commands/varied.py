"""One small scan of each kind that hospitals and archives hold, to damage or to predict."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

SIDE = 32
_STUDY = "1.2.826.0.1.3680043.8.498.7"


def write_varied(folder: Path) -> list[Path]:
    """A file of each kind, some of two files, each with others in a folder of their own; named by it."""
    rng = np.random.default_rng(11)
    made = []
    for kinds in (_dicom(rng), _nifti(rng), _pictures(rng)):
        for name, content in kinds.items():
            path = folder / Path(name).name.split(".")[0] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            made.append(path)
    made.append(_pair(folder / "pair", rng))
    return made


def _noise(rng: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _dicom(rng: np.random.Generator) -> dict[str, bytes]:
    values = rng.integers(-900, 900, (SIDE, SIDE)).astype(np.int16)
    clip, grey = _noise(rng, 3, SIDE, SIDE, 3), _noise(rng, 3, SIDE, SIDE)
    ct: dict[str, Any] = {
        "RescaleSlope": 1,
        "RescaleIntercept": -24,
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
    plain, us = uid.ExplicitVRLittleEndian, uid.UltrasoundMultiFrameImageStorage
    colours = {
        f"{name}PaletteColorLookupTable{part}": value
        for name in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", _noise(rng, 512).tobytes()))
    }
    return {
        "plain.dcm": _file(values, plain, **ct),
        "implicit.dcm": _file(values, uid.ImplicitVRLittleEndian, **ct),
        "big.dcm": _file(values, uid.ExplicitVRBigEndian, **ct),
        "deflated.dcm": _file(values, uid.DeflatedExplicitVRLittleEndian, **ct),
        "bare.dcm": _file(values, plain, **ct)[132:],
        "rle.dcm": _file(values, uid.RLELossless, **ct),
        "j2k.dcm": _file(values, uid.JPEG2000Lossless, **ct),
        "jls.dcm": _file(values, uid.JPEGLSLossless, **ct),
        "palette.dcm": _file(_noise(rng, SIDE, SIDE), plain, kind=us, Modality="US",
                             PhotometricInterpretation="PALETTE COLOR", **colours),
        "clip_rle.dcm": _file(clip, uid.RLELossless, kind=us, Modality="US"),
        "clip_j2k.dcm": _file(grey, uid.JPEG2000Lossless, kind=us, Modality="US"),
        "clip_jls.dcm": _file(grey, uid.JPEGLSLossless, kind=us, Modality="US"),
        "clip_jpeg.dcm": _jpeg_clip(clip),
        "lossless.dcm": _lossless(np.abs(values).astype(np.uint16)),
        "enhanced.dcm": _enhanced(rng.integers(0, 900, (4, SIDE, SIDE)).astype(np.uint16)),
    }  # fmt: skip


def _file(pixels: NDArray[Any], syntax: str, *, kind: str = uid.CTImageStorage, **elements: Any) -> bytes:
    """pixels: [H, W], [N, H, W] or [N, H, W, 3]."""
    dataset = _described(pixels, kind, elements)
    compressed = syntax in (uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if compressed else syntax
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    if compressed:
        dataset.compress(syntax, generate_instance_uid=False)
    return _stored(dataset)


def _described(pixels: NDArray[Any], kind: str, elements: dict[str, Any]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, f"{_STUDY}.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    colour, frames = pixels.ndim == 4, len(pixels) if pixels.ndim > 2 else None
    bits = 8 * pixels.itemsize
    stated: dict[str, Any] = {
        "SOPClassUID": kind, "SOPInstanceUID": f"{_STUDY}.3", "StudyInstanceUID": f"{_STUDY}.1",
        "SeriesInstanceUID": f"{_STUDY}.2", "Modality": "CT", "PatientName": "Secret^Person",
        "PatientID": "SECRET-1", "NumberOfFrames": frames, "SamplesPerPixel": 3 if colour else 1,
        "PlanarConfiguration": 0 if colour else None, "Rows": SIDE, "Columns": SIDE,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2", "BitsAllocated": bits,
        "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }  # fmt: skip
    if frames is None:
        stated |= {
            "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1], "FrameOfReferenceUID": f"{_STUDY}.4",
        }  # fmt: skip
    for name, value in {**stated, **elements}.items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


def _jpeg_clip(frames: NDArray[np.uint8]) -> bytes:
    codes = [_saved(Image.fromarray(frame), "JPEG") for frame in frames]
    elements = {"Modality": "US", "PhotometricInterpretation": "YBR_FULL_422"}
    kind = uid.UltrasoundMultiFrameImageStorage
    return _encapsulated(codes, frames, uid.JPEGBaseline8Bit, kind=kind, **elements)


def _encapsulated(
    codes: list[bytes],
    pixels: NDArray[Any],
    syntax: str,
    *,
    kind: str = uid.CTImageStorage,
    **elements: Any,
) -> bytes:
    dataset = _described(pixels, kind, elements)
    dataset.PixelData = encapsulate(codes)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    return _stored(dataset)


def _lossless(pixels: NDArray[np.uint16]) -> bytes:
    return _encapsulated([_lossless_jpeg(pixels)], pixels, uid.JPEGLosslessSV1)


def _lossless_jpeg(values: NDArray[np.uint16]) -> bytes:
    """JPEG process 14, selection value 1: each pixel as its difference from the left one (in the first
    column: from the one above). All codes have five bits. Source: ITU-T T.81, H.1."""
    left = np.roll(values.astype(np.int64), 1, axis=1)
    left[1:, 0], left[0, 0] = values[:-1, 0], 2**15
    bits = []
    for difference in ((values - left + 2**15) % 2**16 - 2**15).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")
        if 0 < size < 16:
            bits.append(f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, 16, *values.shape, 1, 1, 0x11, 0)
    table = struct.pack(">HHB16B17B", 0xFFC4, 36, 0, *(17 if n == 4 else 0 for n in range(16)), *range(17))
    scan = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + table + scan + data + b"\xff\xd9"


def _enhanced(pixels: NDArray[np.uint16]) -> bytes:
    dataset = _described(pixels, uid.EnhancedCTImageStorage, {})
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.7], 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -100, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in range(len(pixels)):
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2 * number]
        content.InStackPositionNumber, content.StackID = number + 1, "1"
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.FrameOfReferenceUID = f"{_STUDY}.4"
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return _stored(dataset)


def _stored(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _nifti(rng: np.random.Generator) -> dict[str, bytes]:
    values = rng.integers(-900, 900, (SIDE, SIDE, 4)).astype(np.int16)
    affine = np.diag([0.7, 0.7, 3.0, 1.0])
    scaled = nib.Nifti1Image(values, affine)
    scaled.header.set_slope_inter(2, 5)
    colours = rng.integers(0, 256, (SIDE, SIDE, 3, 3), dtype=np.uint8)
    colours = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    several = rng.normal(size=(SIDE, SIDE, 3, 2)).astype(np.float32)
    images = {
        "grey.nii": scaled, "zipped.nii.gz": scaled, "colours.nii": nib.Nifti1Image(colours, affine),
        "several.nii.gz": nib.Nifti1Image(several, affine), "second.nii": nib.Nifti2Image(values, affine),
    }  # fmt: skip
    return {
        name: zlib_gz(image.to_bytes()) if name.endswith(".gz") else image.to_bytes()
        for name, image in images.items()
    }


def zlib_gz(content: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def _pair(folder: Path, rng: np.random.Generator) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Pair(rng.integers(0, 900, (SIDE, SIDE, 3)).astype(np.int16), np.eye(4))
    nib.save(image, folder / "pair.hdr")
    return folder / "pair.hdr"


def _pictures(rng: np.random.Generator) -> dict[str, bytes]:
    colour = Image.fromarray(_noise(rng, SIDE, SIDE, 3))
    deep = Image.fromarray(rng.integers(0, 60_000, (SIDE, SIDE)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    saved: dict[str, Callable[[], bytes]] = {
        "colour.png": lambda: _saved(colour, "PNG"),
        "deep.png": lambda: _saved(deep, "PNG"),
        "indexed.png": lambda: _saved(colour.quantize(16), "PNG", transparency=3),
        "interlaced.png": lambda: _interlaced(_noise(rng, SIDE, SIDE)),
        "baseline.jpg": lambda: _saved(colour, "JPEG", exif=exif),
        "progressive.jpg": lambda: _saved(colour, "JPEG", progressive=True),
        "lzw.tif": lambda: _saved(colour, "TIFF", compression="tiff_lzw"),
        "deep.tif": lambda: _saved(deep, "TIFF"),
        "bitmap.bmp": lambda: _saved(colour, "BMP"),
        "web.webp": lambda: _saved(colour, "WEBP", lossless=True),
        "gif.gif": lambda: _saved(colour.quantize(16), "GIF"),
        "wavelet.jp2": lambda: _saved(colour, "JPEG2000"),
    }
    return {name: save() for name, save in saved.items()}


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _interlaced(grey: NDArray[np.uint8]) -> bytes:
    """PNG's Adam7, which Pillow does not write."""
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = [
        b"\0" + row.tobytes()
        for column, line, across, down in passes
        for row in grey[line::down, column::across]
    ]
    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
