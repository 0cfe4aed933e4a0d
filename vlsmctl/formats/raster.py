"""Pictures (PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, PNM) in, masks of the same size out."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vlsmctl.errors import UnreadableFile
from vlsmctl.files import atomic_path
from vlsmctl.formats.intensity import as_rgb, to_grey
from vlsmctl.formats.records import Found, Mask, Scan, checked_masks
from vlsmctl.quiet import without_warnings

# A closed list: Pillow would otherwise also try formats that start other programs (EPS).
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_PLAIN = {"PNG": ".png", "JPEG": ".jpg"}
_ORIENTATION = 0x0112
_GREY_MODES = ("1", "L", *_DEEP_MODES)
# TIFF tags and values
_PHOTOMETRIC, _SAMPLES_PER_PIXEL = 262, 277
_BLACK_IS_ZERO, _RGB, _SHORT = 1, 2, 3


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as people see it: uint8 RGB [H, W, 3], 0..255, turned by its EXIF orientation.

    Grey and palette pictures become RGB, transparency is laid on black (the background of medical
    pictures), 16-bit, 32-bit and float pictures are scaled from their own minimum..maximum to 0..255.

    Raises UnreadableFile: not there, empty, no picture, cut off, too large, or more than one page.
    """
    image = _decode(path)
    if image.mode in _DEEP_MODES:
        return as_rgb(_scaled_by_range(np.asarray(image)))
    return np.array(_opaque_rgb(image), dtype=np.uint8)


def read_mask_picture(path: Path) -> NDArray[np.uint8]:
    """A mask as stored: uint8 [H, W] of raw grey values, turned by its EXIF orientation.

    1-bit gives 0 and 255; palettes give their colours, not their indices; of coloured masks the
    brightest channel counts, so that pure red is 255; transparent pixels are 0. 16-bit, 32-bit and
    float values are kept while they fit into 0..255, else scaled so that the maximum is 255; float
    values within 0..1 are taken as fractions of 255.

    Raises UnreadableFile, as `read_picture` does.
    """
    image = _decode(path)
    if image.mode in _DEEP_MODES:
        return _fitted_values(np.asarray(image))
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.array(image.convert("L"), dtype=np.uint8)
    red, green, blue = np.moveaxis(np.asarray(_opaque_rgb(image)), 2, 0)
    brightest: NDArray[np.uint8] = np.maximum(np.maximum(red, green), blue)
    return brightest


def read_label_picture(path: Path) -> NDArray[np.int64]:
    """A map of label numbers as stored: int64 [H, W], turned by its EXIF orientation.

    Grey values of any depth (1 bit: 0 and 1), the indices of a palette, or the channel of a colour
    picture whose channels are equal; 0 where that is transparent.

    Raises UnreadableFile, as `read_picture` does, and for colours or fractions, which are no numbers.
    """
    image = _decode(path)
    if image.mode in _DEEP_MODES:
        return _whole_numbers(path, np.asarray(image))
    if image.mode in ("1", "L", "P"):
        return np.asarray(image).astype(np.int64) // _grey_step(path)
    channels = np.asarray(image.convert("RGBA")).astype(np.int64)
    opaque = (channels[..., 3] > 0) | (not channels[..., 3].any())  # 0 everywhere: it was never set
    coloured = (channels[..., :3] != channels[..., :1]).any(axis=2) & opaque
    if coloured.any():
        colours = np.unique(channels[coloured][:, :3], axis=0)
        some = ", ".join(str(tuple(colour)) for colour in colours[:3].tolist())
        raise UnreadableFile(
            f"{path}: expected label numbers (grey values, or a palette), found {len(colours)} colours,"
            f" such as {some}",
            hint="give each colour its number first, and store the numbers as grey values",
        )
    return np.where(opaque, channels[..., 0], 0)


def plain_suffix(path: Path) -> str | None:
    """ ".png" or ".jpg" when the file is an 8-bit grey or RGB picture of that kind, upright and opaque."""
    try:
        with without_warnings(), Image.open(path, formats=tuple(_PLAIN)) as picture:
            plain = (
                picture.mode in ("L", "RGB")
                and getattr(picture, "n_frames", 1) == 1
                and not picture.has_transparency_data
                and picture.getexif().get(_ORIENTATION, 1) == 1
            )
            return _PLAIN[str(picture.format)] if plain else None
    except Exception:  # what cannot be vouched for is not plain
        return None


def is_coloured(path: Path) -> bool:
    """Whether a picture that has been read before is stored in colour (RGB, palette, CMYK, ...)."""
    try:
        with without_warnings(), Image.open(path, formats=_FORMATS) as picture:
            return picture.mode not in _GREY_MODES
    except Exception:  # what has been read in another way, such as a TIFF with a wrong tag
        return False


def write_mask_picture(mask: Mask, path: Path) -> None:
    """mask: bool [H, W] -> single-channel PNG of the same size, 0 and 255, written atomically."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is bool [H, W], got {mask.dtype} {mask.shape}")
    with atomic_path(path) as temporary:
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(temporary, format="PNG")


def open_picture(found: Found) -> Scan:
    """A picture as a scan of one frame without geometry; its mask is a PNG of the displayed size.

    The picture is decoded here, so that a damaged one is refused before anything is computed.
    Raises UnreadableFile, as `read_picture` does.
    """
    picture = read_picture(found.source)
    shape = (picture.shape[0], picture.shape[1])

    def write_mask(masks: Iterable[Mask], path: Path) -> None:
        (mask,) = checked_masks(masks, 1, shape)
        write_mask_picture(mask, path)

    return Scan(
        source=found.source,
        kind="picture",
        frame_count=1,
        frame_shape=shape,
        geometry=None,
        read_frame=[picture].__getitem__,
        write_mask=write_mask,
        suffix=".png",
    )


def _decode(path: Path) -> Image.Image:
    """The whole picture, decoded and upright."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from error
    if not content:
        raise UnreadableFile(f"{path}: the file is empty (0 bytes)")
    try:
        with without_warnings():
            return _decode_bytes(_with_true_photometric(content), path)
    except UnreadableFile:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableFile(f"{path}: not a picture that can be read, whatever its name says") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UnreadableFile(f"{path}: more than {limit} megapixels; shrink or cut it first") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableFile(f"{path}: damaged or unsupported picture ({reason})") from error


def _decode_bytes(content: bytes, path: Path) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        pages = getattr(image, "n_frames", 1)
        # The further pictures of an MPO are other views or sizes of the first, made by the camera.
        if pages > 1 and image.format != "MPO":
            raise UnreadableFile(f"{path}: has {pages} pages or frames; only single pictures are supported")
        image.load()
        return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF data: viewers show the picture as stored, and so do we
        return image.copy()


def _opaque_rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    if not layered.getchannel("A").getbbox():  # alpha is 0 everywhere: it was never set, not meant
        return layered.convert("RGB")
    black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layered).convert("RGB")


def _scaled_by_range(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Any real [H, W] -> uint8, minimum..maximum to 0..255; NaN and infinities give 0, 0 and 255."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return to_grey(values, low, high)


def _fitted_values(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Any real [H, W] -> uint8, as `read_mask_picture` says."""
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    high = numbers.max(initial=0.0)
    fraction = values.dtype.kind == "f" and high <= 1
    scale = 255.0 if fraction else 255.0 / high if high > 255 else 1.0
    return np.rint(numbers * scale).astype(np.uint8)


def _whole_numbers(path: Path, values: NDArray[np.generic]) -> NDArray[np.int64]:
    numbers = values.astype(np.float64)
    if not (np.isfinite(numbers) & (numbers == np.rint(numbers))).all():
        raise UnreadableFile(f"{path}: expected whole label numbers, found fractions")
    return numbers.astype(np.int64)


def _grey_step(path: Path) -> int:
    """What Pillow multiplies the grey values of a PNG with 2 or 4 bits a pixel by, to fill 0..255."""
    with path.open("rb") as stream:
        head = stream.read(26)
    if not head.startswith(b"\x89PNG"):
        return 1
    depth, colour = head[24:26]
    return 255 // (2**depth - 1) if colour == 0 and depth in (2, 4) else 1


def _with_true_photometric(content: bytes) -> bytes:
    """TIFF files that hold three samples a pixel but call themselves BlackIsZero (the original files
    of CVC-ClinicDB do) are RGB; Pillow refuses them as they are. Everything else comes back unchanged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return content
    try:
        at = _short_values(content, order)
        described = [
            struct.unpack_from(order + "H", content, at[tag])[0]
            for tag in (_PHOTOMETRIC, _SAMPLES_PER_PIXEL)
        ]
    except (struct.error, KeyError):
        return content
    if described != [_BLACK_IS_ZERO, 3]:
        return content
    patched = bytearray(content)
    struct.pack_into(order + "H", patched, at[_PHOTOMETRIC], _RGB)
    return bytes(patched)


def _short_values(content: bytes, order: str) -> dict[int, int]:
    """Where the values of the 16-bit tags in the first directory of a TIFF lie: tag -> offset in bytes."""
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    tags = ((struct.unpack_from(order + "HH", content, entry), entry + 8) for entry in entries)
    return {tag: offset for (tag, kind), offset in tags if kind == _SHORT}
