from __future__ import annotations

import struct
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.formats.generators import found
from tests.formats.test_spool import spooled
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.raster import (
    open_picture,
    picture_size,
    read_mask_picture,
    read_picture,
    write_pictures,
)

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    stored = Image.fromarray(np.stack([RAMP] * 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    # EXIF 2.32, table for tag 274: where row 0 and column 0 of the stored picture are shown.
    shown = {
        1: RAMP,
        2: RAMP[:, ::-1],
        3: RAMP[::-1, ::-1],
        4: RAMP[::-1],
        5: RAMP.T,
        6: np.rot90(RAMP, -1),
        7: RAMP[::-1, ::-1].T,
        8: np.rot90(RAMP),
    }[orientation]
    scan = open_picture(found(tmp_path / "photo.png", "picture"))
    assert np.array_equal(scan.read_frame(0)[..., 0], shown)
    assert scan.frame_shape == shown.shape
    assert picture_size(tmp_path / "photo.png") == shown.shape
    write_pictures(spooled([shown > 100]), tmp_path / "mask.png", single=True)
    assert np.array_equal(read_mask_picture(tmp_path / "mask.png") > 0, shown > 100)


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (200, 100, 50, 0), (200, 100, 50)),  # alpha 0 everywhere was never set
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("LA", (200, 128), (100, 100, 100)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, pixel: int, expected: tuple[int, ...]) -> None:
    Image.new(mode, (5, 4), pixel).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[0, 0]) == expected
    assert read_mask_picture(tmp_path / "a.png")[0, 0] == max(expected)


def test_palettes_give_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image = image.convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 9, 9, 9])
    image.save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png").tolist() == [[[0, 0, 0], [255, 0, 0], [9, 9, 9]]]
    assert read_mask_picture(tmp_path / "p.png").tolist() == [[0, 255, 9]]


def test_16_bit_pictures_are_scaled_by_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1000, 2000, 3000]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[np.nan, 0.0, 1.0]], dtype=np.float32)).save(tmp_path / "float.tif")
    assert read_picture(tmp_path / "float.tif")[0, :, 0].tolist() == [0, 0, 255]
    assert read_mask_picture(tmp_path / "float.tif").tolist() == [[0, 0, 255]]


def test_mask_values_survive_where_they_fit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint16)).save(tmp_path / "labels.png")
    assert read_mask_picture(tmp_path / "labels.png").tolist() == [[0, 1, 2]]
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "full.png")
    assert read_mask_picture(tmp_path / "full.png").tolist() == [[0, 255]]


def _quirky_tiff(order: str) -> bytes:
    """Three samples a pixel that call themselves BlackIsZero, as the files of CVC-ClinicDB do."""
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8)
    entries = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, pixels.size)]
    return _tiff(order, pixels, entries)


def _tiff(order: str, pixels: NDArray[Any], entries: list[tuple[int, int, int, int]]) -> bytes:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    start = 8 + pixels.nbytes
    content = head + struct.pack(order + "I", start) + pixels.tobytes()
    content += struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        content += struct.pack(order + "HHI", tag, kind, count)
        content += struct.pack(
            order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,))
        )
    return content + struct.pack(order + "I", 0)


@pytest.mark.parametrize("order", ["<", ">"])
def test_colour_tiff_called_grey_is_read_as_rgb(tmp_path: Path, order: str) -> None:
    (tmp_path / "1.tif").write_bytes(_quirky_tiff(order))
    assert read_picture(tmp_path / "1.tif").tolist() == np.arange(18).reshape(2, 3, 3).tolist()


def test_real_clinicdb_frame() -> None:
    frame = SHARED / "CVC-ClinicDB" / "Original" / "54.tif"
    if not frame.exists():
        pytest.skip(f"no {frame}")
    picture = read_picture(frame)
    assert picture.shape == (288, 384, 3)
    red, _, blue = picture.mean(axis=(0, 1))
    assert red > blue + 20  # a colonoscopy is reddish: the channels are in order


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".gif"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise).save(path)
    read_picture(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UnreadableFile, match="a" + suffix) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_other_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.png"
    text.write_text("hello")
    with pytest.raises(UnreadableFile, match="not a picture"):
        read_picture(text)
    with pytest.raises(UnreadableFile, match="No such file"):
        read_picture(tmp_path / "missing.png")
    pages = tmp_path / "pages.tif"
    Image.new("L", (4, 4)).save(pages, save_all=True, append_images=[Image.new("L", (4, 4))])
    with pytest.raises(UnreadableFile, match=r"several pages.*store its pages as single pictures first"):
        read_picture(pages)
    (tmp_path / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableFile, match="not a picture"):
        read_picture(tmp_path / "drawing.png")
    Image.new("L", (20, 15)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert read_picture(tmp_path / "large.png").shape == (15, 20, 3)  # Pillow warns; nobody sees it
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableFile, match="megapixels"):
        read_picture(tmp_path / "large.png")


def test_reading_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    before = list(warnings.filters)
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    read_picture(tmp_path / "a.png")
    assert list(warnings.filters) == before


NOISE = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)


def _as_rgb(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _stretched(grey: NDArray[Any]) -> NDArray[Any]:
    return _as_rgb(np.rint((grey - grey.min()) / float(np.ptp(grey)) * 255))


def _variants(folder: Path) -> Iterator[tuple[Path, NDArray[Any], int]]:
    """Ways to store a picture: the file, what it shows, and by how much losses may change that."""
    rgb, grey = Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])
    smooth = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    smooth = np.stack([smooth, smooth // 2, 200 - smooth], axis=2)
    deep = NOISE[..., 0].astype(np.uint16) * 200 + 7
    bits = NOISE[..., 0] > 128

    def saved(name: str, image: Image.Image, **options: Any) -> Path:
        image.save(folder / name, **options)
        return folder / name

    for suffix in ("png", "tif", "bmp", "ppm"):
        yield saved(f"rgb.{suffix}", rgb), NOISE, 0
        yield saved(f"grey.{suffix}", grey), _as_rgb(NOISE[..., 0]), 0
        yield saved(f"bits.{suffix}", Image.fromarray(bits)), _as_rgb(bits * 255), 0
    yield saved("lossless.webp", rgb, lossless=True), NOISE, 0
    yield saved("lossless.jp2", rgb), NOISE, 0
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield saved(f"{compression}.tif", rgb, compression=compression), NOISE, 0
    yield saved("group4.tif", Image.fromarray(bits), compression="group4"), _as_rgb(bits * 255), 0
    for suffix, image in (("jpg", smooth), ("webp", smooth)):
        yield saved(f"smooth.{suffix}", Image.fromarray(image)), image, 14
    yield saved("progressive.jpg", Image.fromarray(smooth), progressive=True), smooth, 8
    yield saved("grey.jpg", Image.fromarray(smooth[..., 0])), _as_rgb(smooth[..., 0]), 8
    yield saved("ycbcr.tif", Image.fromarray(smooth), compression="jpeg"), smooth, 8
    for suffix in ("jpg", "tif"):
        yield saved(f"cmyk.{suffix}", Image.fromarray(smooth).convert("CMYK")), smooth, 8
    yield saved("deep.png", Image.fromarray(deep)), _stretched(deep), 0
    yield saved("deep.tif", Image.fromarray(deep)), _stretched(deep), 0
    yield saved("int32.tif", Image.fromarray(deep.astype(np.int32) * 9)), _stretched(deep), 0
    yield saved("float.tif", Image.fromarray(deep.astype(np.float32) / 9)), _stretched(deep), 0
    for suffix in ("png", "gif", "tif", "bmp"):
        few = Image.fromarray(NOISE // 128 * 128).convert("P", palette=Image.Palette.ADAPTIVE)
        yield saved(f"palette.{suffix}", few), NOISE // 128 * 128, 0


def test_every_way_to_store_a_picture(tmp_path: Path) -> None:
    for path, shown, tolerance in _variants(tmp_path):
        scan = open_picture(found(path, "picture"))
        assert scan.frame_shape == shown.shape[:2] == picture_size(path), path
        frame = scan.read_frame(0)
        assert frame.dtype == np.uint8, path
        assert np.abs(frame.astype(int) - shown).max() <= tolerance, path
        assert (scan.geometry, scan.write_volume, scan.write_slices) == (None, None, None)
        assert scan.no_volume


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in (*chunks, (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return content


def _png_head(
    width: int, height: int, depth: int, colour: int, interlaced: bool = False
) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


# PNG 1.2, section 2.6: first row and column of each pass, and the steps
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def test_interlaced_png(tmp_path: Path) -> None:
    parts = [NOISE[row::down, column::right] for row, column, down, right in PASSES]
    rows = b"".join(b"\0" + line.tobytes() for part in parts for line in part)
    path = tmp_path / "a.png"
    path.write_bytes(_png(_png_head(17, 13, 8, 2, True), (b"IDAT", zlib.compress(rows))))
    assert np.array_equal(read_picture(path), NOISE)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_deep_colours_keep_their_upper_bits(tmp_path: Path, colour: int, channels: int) -> None:
    deep = np.zeros((13, 17, channels), ">u2")
    deep[..., :3] = NOISE[..., : min(channels, 3)].astype(np.uint16) * 257
    if channels in (2, 4):
        deep[..., -1] = 65535
    rows = b"".join(b"\0" + line.tobytes() for line in deep)
    path = tmp_path / "a.png"
    path.write_bytes(_png(_png_head(17, 13, 16, colour), (b"IDAT", zlib.compress(rows))))
    expected = NOISE if channels > 2 else _as_rgb(NOISE[..., 0])
    assert np.array_equal(read_picture(path), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_grey_tiff_of_both_byte_orders(tmp_path: Path, order: str) -> None:
    deep = (np.arange(6) * 1000).astype(order + "u2").reshape(2, 3)
    entries = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, deep.nbytes)]
    (tmp_path / "a.tif").write_bytes(_tiff(order, deep, entries))
    assert read_picture(tmp_path / "a.tif")[..., 0].tolist() == [[0, 51, 102], [153, 204, 255]]


def test_tiled_tiff(tmp_path: Path) -> None:
    tile = np.arange(256, dtype=np.uint8).reshape(16, 16)
    entries = [
        (256, 3, 1, 11),
        (257, 3, 1, 9),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
    ]
    entries += [(322, 3, 1, 16), (323, 3, 1, 16), (324, 4, 1, 8), (325, 4, 1, 256)]
    (tmp_path / "a.tif").write_bytes(_tiff("<", tile, entries))
    assert np.array_equal(read_picture(tmp_path / "a.tif")[..., 0], tile[:9, :11])


def test_what_no_decoder_knows_is_called_so(tmp_path: Path) -> None:
    """12 bits a pixel."""
    entries = [(256, 3, 1, 4), (257, 3, 1, 2), (258, 3, 1, 11), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 12)]
    (tmp_path / "a.tif").write_bytes(_tiff("<", np.zeros(12, np.uint8), entries))
    with pytest.raises(UnreadableFile, match="in a way that cannot be read here") as caught:
        picture_size(tmp_path / "a.tif")
    assert caught.value.hint == "store it as an 8-bit PNG"


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_that_are_displayed(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.new("RGB", (40, 30), (200, 10, 10)).save(path, exif=exif)
    expected = (40, 30) if orientation > 4 else (30, 40)
    assert picture_size(path) == read_picture(path).shape[:2] == expected
    assert open_picture(found(path, "picture")).frame_shape == expected


def test_orientation_told_behind_the_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    rows = zlib.compress(bytes(4 * 3))
    path = tmp_path / "a.png"
    path.write_bytes(_png(_png_head(3, 3, 8, 0), (b"IDAT", rows), (b"eXIf", body)))
    path.write_bytes(_png(_png_head(2, 4, 8, 0), (b"IDAT", rows), (b"eXIf", body)))
    assert picture_size(path) == read_picture(path).shape[:2] == (2, 4)


@pytest.mark.parametrize("orientation", [0, 9, 300, 65535])
def test_orientations_that_there_are_not(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == read_picture(tmp_path / "a.jpg").shape[:2] == (3, 4)


def test_damaged_exif_data_do_no_harm(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40))
    assert picture_size(tmp_path / "a.jpg") == read_picture(tmp_path / "a.jpg").shape[:2] == (3, 4)


def _bombs() -> Iterator[tuple[str, bytes]]:
    some = zlib.compress(bytes(1000))
    yield "many.png", _png(_png_head(60_000, 60_000, 8, 0), (b"IDAT", some))
    yield "most.png", _png(_png_head(2**31 - 1, 2**31 - 1, 16, 6), (b"IDAT", some))
    yield "none.png", _png(_png_head(0, 5, 8, 0), (b"IDAT", some))
    yield "few.png", _png(_png_head(10_000, 10_000, 8, 2), (b"IDAT", some))  # 300 MB announced, 1 kB there
    entries = [(256, 4, 1, 2**30), (257, 4, 1, 2**30), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 2**30), (279, 4, 1, 2**31)]
    yield "many.tif", _tiff("<", np.zeros(12, np.uint8), entries)
    yield "many.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6)
    yield "many.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";"
    yield "many.ppm", b"P6 99999999 99999999 255\n" + bytes(99)
    # Directories without end: each points to the next, the last to the first
    entries = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 6)]
    chain = bytearray(_tiff("<", np.zeros(6, np.uint8), entries)[:-4])
    for _ in range(200_000):
        chain += struct.pack("<IH", len(chain) + 4, 0)
    yield "chain.tif", bytes(chain + struct.pack("<I", 14))


@pytest.mark.parametrize(("name", "content"), [pytest.param(*bomb, id=bomb[0]) for bomb in _bombs()])
def test_bombs_are_refused_before_they_take_memory(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile) as caught:
            open_picture(found(path, "picture")).read_frame(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20
    assert time.perf_counter() - started < 3
    assert "\n" not in str(caught.value)


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".gif"):
        Image.fromarray(NOISE).save(tmp_path / f"a{suffix}")
        whole = (tmp_path / f"a{suffix}").read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(random.integers(1, 8)):
                content[random.integers(0, len(content))] = random.integers(0, 256)
            (tmp_path / f"b{suffix}").write_bytes(bytes(content))
            with suppress(UnreadableFile):
                scan = open_picture(found(tmp_path / f"b{suffix}", "picture"))
                assert scan.read_frame(0).shape == (*scan.frame_shape, 3)


def test_a_picture_is_decoded_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[:200])
    scan = open_picture(found(path, "picture"))
    assert scan.frame_shape == (13, 17)
    with pytest.raises(UnreadableFile, match=r"a\.png: damaged"):
        scan.read_frame(0)
    with pytest.raises(IndexError):
        scan.read_frame(1)
