from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.formats.generators import found
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.raster import open_picture, read_mask_picture, read_picture, write_mask_picture

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
    scan.write_mask([shown > 100], tmp_path / "mask.png")
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
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    start = 8 + pixels.size
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
    with pytest.raises(UnreadableFile, match="2 pages"):
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


def test_mask_is_single_channel_0_255(tmp_path: Path) -> None:
    write_mask_picture(RAMP > 100, tmp_path / "new" / "m.png")
    with Image.open(tmp_path / "new" / "m.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.where(RAMP > 100, 255, 0))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.png"]


def test_wrong_masks_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    scan = open_picture(found(tmp_path / "a.png", "picture"))
    wrong: list[list[NDArray[Any]]] = [
        [],
        [np.zeros((4, 3), bool)],
        [np.zeros((3, 4), bool)] * 2,
        [np.zeros((3, 4))],
    ]
    for masks in wrong:
        with pytest.raises(ValueError, match="mask"):
            scan.write_mask(masks, tmp_path / "out" / "m.png")
    assert not (tmp_path / "out").exists()


def test_reading_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    before = list(warnings.filters)
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    read_picture(tmp_path / "a.png")
    assert list(warnings.filters) == before
