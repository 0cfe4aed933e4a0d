"""Pictures (PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, PNM) in, masks of the same size out."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vlsmctl.errors import UnreadableFile
from vlsmctl.files import atomic_folder, atomic_path
from vlsmctl.formats.intensity import as_rgb, to_grey
from vlsmctl.formats.records import Found, Frames, Mask, Reading, Scan
from vlsmctl.quiet import without_warnings

# A closed list: Pillow would otherwise also try formats that start other programs (EPS).
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_PLAIN = {"PNG": ".png", "JPEG": ".jpg"}
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # of the orientations: those that swap rows and columns
_GREY_MODES = ("1", "L", *_DEEP_MODES)
_LATE_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # of PNG: what may tell an orientation
_PATCHABLE = 256 * 2**20  # bytes of a TIFF file that is read into memory to correct a wrong tag
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF", b"GIF8")
_FEWEST_DIGITS = 4
# Of labels 1, 2, 3 ..: orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple, which
# people of all kinds of colour vision tell apart. Source: M. Okabe and K. Ito, Color Universal Design, 2008
_LABEL_COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
# TIFF tags and values
_WIDTH, _HEIGHT = 256, 257
_PHOTOMETRIC, _SAMPLES_PER_PIXEL = 262, 277
_BLACK_IS_ZERO, _RGB, _SHORT = 1, 2, 3


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as people see it: uint8 RGB [H, W, 3], 0..255, turned by its EXIF orientation.

    Grey and palette pictures become RGB, transparency is laid on black (the background of medical
    pictures), 16-bit, 32-bit and float pictures are scaled from their own minimum..maximum to 0..255.

    Raises UnreadableFile: not there, empty, no picture, cut off, too large, or more than one page.
    """
    image = _decode(path)
    with _refusing(path):
        if image.mode in _DEEP_MODES:
            return as_rgb(_scaled_by_range(np.asarray(image)))
        return np.array(_opaque_rgb(image), dtype=np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as `read_picture` gives it, by its header alone. Raises UnreadableFile,
    as that does, save for what only the pixels show."""
    with _refusing(path), _opened(path) as image:
        if image.format == "PNG" and _has_late_chunks(path):
            height, width, _ = read_picture(path).shape
            return height, width
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow give these turned, others as stored
            width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]  # type: ignore[attr-defined]
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def read_mask_picture(path: Path) -> NDArray[np.uint8]:
    """A mask as stored: uint8 [H, W] of raw grey values, turned by its EXIF orientation.

    1-bit gives 0 and 255; palettes give their colours, not their indices; of coloured masks the
    brightest channel counts, so that pure red is 255; transparent pixels are 0. 16-bit, 32-bit and
    float values are kept while they fit into 0..255, else scaled so that the maximum is 255; float
    values within 0..1 are taken as fractions of 255.

    Raises UnreadableFile, as `read_picture` does, and where all is black but parts are transparent.
    """
    image = _decode(path)
    if image.mode in _DEEP_MODES:
        return _fitted_values(np.asarray(image))
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.array(image.convert("L"), dtype=np.uint8)
    red, green, blue = np.moveaxis(np.asarray(_opaque_rgb(image)), 2, 0)
    brightest: NDArray[np.uint8] = np.maximum(np.maximum(red, green), blue)
    _refuse_alpha_alone(path, image, brightest)
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
    labels = np.where(opaque, channels[..., 0], 0)
    _refuse_alpha_alone(path, image, labels)
    return labels


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
    write_frame_picture(mask, 1.0, path)


def write_frame_picture(frame: NDArray[Any], scale: float, path: Path) -> None:
    """One of `records.Frames` [H, W] as a picture of the same size, written atomically.

    scale: of the frames. Masks (bool) give a grey PNG, 0 and 255; labels (uint8) a palette PNG whose
    indices are the labels, 0 black; probabilities a grey PNG (uint8 in 255ths), or a TIFF of 32-bit
    floats (float32).
    """
    with atomic_path(path) as temporary:
        _save(frame, scale, temporary)


def write_pictures(frames: Frames, target: Path, *, single: bool) -> None:
    """Frames as pictures, all or nothing: one file where there is a single one, else a folder with
    0001.png, 0002.png .. (.tif for float32); see `write_frame_picture`."""
    if single:
        if len(frames) != 1:
            raise ValueError(f"{len(frames)} frames do not make a single picture")
        write_frame_picture(frames[0], frames.scale, target)
        return
    digits = max(_FEWEST_DIGITS, len(str(len(frames))))
    suffix = ".tif" if frames.dtype.kind == "f" else ".png"
    with atomic_folder(target) as folder:
        for number in range(len(frames)):
            _save(frames[number], frames.scale, folder / f"{number + 1:0{digits}d}{suffix}")


def _save(frame: NDArray[Any], scale: float, path: Path) -> None:
    if frame.dtype == np.float32:
        Image.fromarray(frame).save(path, format="TIFF", compression="tiff_adobe_deflate")
        return
    grey = frame.astype(np.uint8) * np.uint8(255) if frame.dtype == np.bool_ else frame
    image = Image.fromarray(grey)
    if frame.dtype == np.uint8 and scale == 1:
        colours = [_LABEL_COLOURS[label % len(_LABEL_COLOURS)] for label in range(255)]
        image.putpalette([0, 0, 0, *(channel for colour in colours for channel in colour)])
    image.save(path, format="PNG")


def open_picture(found: Found, reading: Reading | None = None) -> Scan:
    """A picture as a scan of one frame without geometry. It is decoded when its frame is read.

    reading: says nothing of pictures. Raises UnreadableFile, as `picture_size` does; reading the frame,
    as `read_picture` does.
    """
    path, shape = found.source, picture_size(found.source)

    def read_frame(number: int) -> NDArray[np.uint8]:
        if number != 0:
            raise IndexError(f"frame {number} of 1")
        picture = read_picture(path)
        if picture.shape[:2] != shape:
            raise UnreadableFile(
                f"{path}: its header announces {shape}, its pixels are {picture.shape[:2]}"
            )
        return picture

    return Scan(
        source=path,
        kind="picture",
        frame_count=1,
        frame_shape=shape,
        geometry=None,
        read_frame=read_frame,
        no_volume="a picture has no place in space",
    )


def _decode(path: Path) -> Image.Image:
    """The whole picture, decoded and upright."""
    with _refusing(path), _opened(path) as image:
        image.load()
        return _upright(image)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A single picture by its header, which also refuses those that are too large to decode."""
    with path.open("rb") as stream:
        if not stream.read(1):
            raise UnreadableFile(f"{path}: the file is empty (0 bytes)")
        with Image.open(_with_true_photometric(stream), formats=_FORMATS) as image:
            # The further pictures of an MPO are other views or sizes of the first, made by the camera.
            # Whether there is a second one is cheap to tell; how many there are may not be.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise UnreadableFile(
                    f"{path}: has several pages or frames; store its pages as single pictures first"
                )
            yield image


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever a damaged picture makes Pillow raise comes out as UnreadableFile."""
    try:
        with without_warnings():
            yield
    except UnreadableFile:
        raise
    except UnidentifiedImageError as error:
        if _begins_like_a_picture(path):
            reason = "damaged, or stores its pixels in a way that cannot be read here"
            raise UnreadableFile(f"{path}: {reason}", hint="store it as an 8-bit PNG") from error
        raise UnreadableFile(f"{path}: not a picture that can be read, whatever its name says") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UnreadableFile(f"{path}: more than {limit} megapixels; shrink or cut it first") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.strerror:
            raise UnreadableFile(f"{path}: cannot be read ({error.strerror})") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableFile(f"{path}: damaged or unsupported picture ({reason})") from error


def _begins_like_a_picture(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(16).startswith(_BEGINNINGS)


def _orientation(image: Image.Image) -> int:
    """Of a picture by its header: PNG's own `getexif` would decode it first."""
    try:
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # as `_upright`
        return 1


def _has_late_chunks(path: Path) -> bool:
    """Whether a PNG file tells of its orientation, or may do so, behind its pixels."""
    behind = False
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            behind = behind or name == b"IDAT"
            if behind and name in _LATE_CHUNKS:
                return True
            stream.seek(length + 4, io.SEEK_CUR)
    return False


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


def _refuse_alpha_alone(path: Path, image: Image.Image, values: NDArray[Any]) -> None:
    if values.any() or not image.has_transparency_data:
        return
    low, high = image.convert("RGBA").getchannel("A").getextrema()
    if low != high:
        raise UnreadableFile(
            f"{path}: expected a mask in its grey values, found all black, and some of it transparent: a"
            " mask in the alpha channel alone; store it as grey values, 0 and 255"
        )


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


def _with_true_photometric(stream: BinaryIO) -> BinaryIO:
    """TIFF files that hold three samples a pixel but call themselves BlackIsZero (the original files
    of CVC-ClinicDB do) are RGB; Pillow refuses them as they are. Everything else comes back unchanged."""
    patch = _true_photometric(stream)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if patch is None or size > _PATCHABLE:
        return stream
    content = bytearray(stream.read())
    at, value = patch
    content[at : at + len(value)] = value
    return io.BytesIO(bytes(content))


def _true_photometric(stream: BinaryIO) -> tuple[int, bytes] | None:
    """Where in such a file the wrong tag is, and what belongs there; by its first directory."""
    stream.seek(0)
    head = stream.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return None
    stream.seek(struct.unpack(order + "I", head[4:])[0])
    count = int.from_bytes(stream.read(2), "little" if order == "<" else "big")
    start, entries = stream.tell(), stream.read(12 * count)
    shorts: dict[int, tuple[int, int]] = {}  # tag -> offset in bytes, value
    for place in range(0, len(entries) - 11, 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", entries, place)
        if kind == _SHORT:
            shorts[tag] = start + place + 8, value
    described = [shorts.get(tag, (0, 0))[1] for tag in (_PHOTOMETRIC, _SAMPLES_PER_PIXEL)]
    if described != [_BLACK_IS_ZERO, 3]:
        return None
    return shorts[_PHOTOMETRIC][0], struct.pack(order + "H", _RGB)
