from __future__ import annotations

import io
import itertools
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate, encapsulate_extended

from tests.formats.generators import found, write_clip, write_dicom
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import dicom_decoder
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.dicom_pixels import open_pixels, stored_values
from vlsmctl.formats.records import Reading, Scan

EXAMPLES = Path(pydicom.__file__).parent / "data"
IMPLICIT, BIG = uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian
DEFLATED = uid.DeflatedExplicitVRLittleEndian
RAMP = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)


def _opened(path: Path) -> Scan:
    return open_dicom(found(path, "dicom"), Reading())


def _clip(count: int = 5, shape: tuple[int, ...] = (16, 20)) -> NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.mark.parametrize(
    "syntax",
    [IMPLICIT, BIG, DEFLATED, uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless],
    ids=lambda syntax: str(syntax.name),
)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "colour", "odd"])
def test_every_syntax_gives_what_was_stored(tmp_path: Path, syntax: uid.UID, kind: str) -> None:
    if kind in ("colour", "odd"):
        pixels = _clip(3, (33, 35, 3) if kind == "odd" else (40, 48, 3))
    else:
        pixels = np.random.default_rng(0).integers(-900, 900, (3, 40, 48)).astype(kind)
    path = write_clip(tmp_path / "a", pixels, syntax=syntax)
    file = open_pixels(path)
    for number in (2, 0, 1):
        assert np.array_equal(stored_values(file, number), pixels[number])
    frame = _opened(path).read_frame(1)
    assert frame.shape == (*pixels.shape[1:3], 3)
    assert frame.dtype == np.uint8


def test_a_file_without_preamble_is_decoded(tmp_path: Path) -> None:
    for syntax, header in itertools.product((IMPLICIT, uid.ExplicitVRLittleEndian, BIG), (True, False)):
        path = write_dicom(tmp_path / "a", RAMP, syntax=syntax)
        content = path.read_bytes()
        first = content.index(b"\0\x08\0\x16" if syntax == BIG else b"\x08\0\x16\0")  # SOPClassUID
        path.write_bytes(content[132 if header else first :])
        assert np.array_equal(stored_values(open_pixels(path), 0), RAMP)
        assert _opened(path).read_frame(0)[-1, -1].tolist() == [255] * 3


def _store_codes(path: Path, value: bytes, count: int, syntax: uid.UID, **elements: Any) -> Path:
    """A clip of 16 x 20 pixels whose encapsulated value is given."""
    write_clip(path, np.zeros((count, 16, 20), np.uint8), **elements)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = value
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    return path


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=98)
    return stream.getvalue()


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
@pytest.mark.parametrize("fragments", [1, 3])
def test_frames_are_found_in_encapsulated_files(tmp_path: Path, table: str, fragments: int) -> None:
    smooth = [np.full((16, 20), 40 * n, np.uint8) for n in range(5)]
    codes = [_jpeg(frame) for frame in smooth]
    elements: dict[str, Any] = {}
    if table == "extended":
        value, elements["ExtendedOffsetTable"], elements["ExtendedOffsetTableLengths"] = (
            encapsulate_extended(codes)
        )
    else:
        value = encapsulate(codes, fragments_per_frame=fragments, has_bot=table == "basic")
    path = _store_codes(tmp_path / "a", value, 5, uid.JPEGBaseline8Bit, **elements)
    file = open_pixels(path)
    for number in (4, 0, 3, 1, 2):
        values = stored_values(file, number).astype(int)
        assert np.abs(values - smooth[number]).max() <= 1


def test_jpeg_colours(tmp_path: Path) -> None:
    picture = np.zeros((16, 20, 3), np.uint8)
    picture[...] = (200, 40, 90)
    value = encapsulate([_jpeg(picture)])
    for photometric in ("YBR_FULL_422", "YBR_FULL", "YBR_PARTIAL_422"):
        elements = {
            "PhotometricInterpretation": photometric,
            "SamplesPerPixel": 3,
            "PlanarConfiguration": 0,
        }
        path = _store_codes(tmp_path / "a", value, 1, uid.JPEGBaseline8Bit, **elements)
        frame = _opened(path).read_frame(0).astype(int)
        assert np.abs(frame - (200, 40, 90)).max() <= 4


def _written_as(path: Path, stored: uid.UID, said: uid.UID) -> None:
    """The syntax that the meta information names, and nothing else of the file."""
    old, new = (
        b"UI" + struct.pack("<H", len(name) + len(name) % 2) + name.encode() + b"\0" * (len(name) % 2)
        for name in (stored, said)
    )
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("said", [IMPLICIT, uid.ExplicitVRLittleEndian])
def test_a_data_set_with_or_without_vrs_whatever_its_syntax_says(tmp_path: Path, said: uid.UID) -> None:
    stored = uid.ExplicitVRLittleEndian if said == IMPLICIT else IMPLICIT
    path = write_dicom(tmp_path / "a", RAMP, syntax=stored)
    _written_as(path, stored, said)
    assert np.array_equal(stored_values(open_pixels(path), 0), RAMP)


@pytest.mark.parametrize("quirk", ["implicit", "length"])
def test_encapsulated_values_written_against_the_standard(tmp_path: Path, quirk: str) -> None:
    """In a data set without VRs; with its length."""
    value = encapsulate([_jpeg(np.full((16, 20), 40 * n, np.uint8)) for n in range(3)])
    path = _store_codes(tmp_path / "a", value, 3, uid.JPEGBaseline8Bit)
    if quirk == "length":
        content = path.read_bytes()
        head = b"\xe0\x7f\x10\0OB\0\0"
        assert content.count(head + b"\xff" * 4) == 1
        path.write_bytes(content.replace(head + b"\xff" * 4, head + struct.pack("<I", len(value))))
    else:
        native = write_clip(tmp_path / "b", np.zeros((3, 16, 20), np.uint8), syntax=IMPLICIT)
        _written_as(native, IMPLICIT, uid.JPEGBaseline8Bit)
        head, _, _ = native.read_bytes().partition(b"\xe0\x7f\x10\0")
        path.write_bytes(head + b"\xe0\x7f\x10\0" + b"\xff" * 4 + value + b"\xfe\xff\xdd\xe0\0\0\0\0")
    frames = [int(stored_values(open_pixels(path), number)[3, 3]) for number in range(3)]
    assert np.abs(np.array(frames) - [0, 40, 80]).max() <= 1


@pytest.mark.parametrize(("table", "number"), [(b"\0\0\0\0\xff", 3), (b"\xff" * 12, 3), (b"\0" * 12, 1)])
def test_a_damaged_offset_table_costs_nothing_where_it_is_not_needed(
    tmp_path: Path, table: bytes, number: int
) -> None:
    value = encapsulate([_jpeg(np.full((16, 20), 90, np.uint8))] * number, has_bot=False)
    value = value[:4] + struct.pack("<I", len(table)) + table + value[8:]
    path = _store_codes(tmp_path / "a", value, number, uid.JPEGBaseline8Bit)
    assert abs(int(stored_values(open_pixels(path), number - 1)[3, 3]) - 90) <= 1


def test_a_clip_is_never_read_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a", _clip(40, (64, 64)), syntax=uid.RLELossless)
    file = open_pixels(path)
    assert file.fragments is not None
    assert len(file.fragments) == 40
    # All but one frame damaged: that one can still be read
    content = bytearray(path.read_bytes())
    for number, spans in enumerate(file.fragments):
        for start, length in spans if number != 17 else ():
            content[start : start + length] = b"\0" * length
    path.write_bytes(content)
    assert np.array_equal(stored_values(open_pixels(path), 17), _clip(40, (64, 64))[17])
    with pytest.raises(UnreadableFile, match="frame 19 cannot be decoded"):
        stored_values(open_pixels(path), 18)


@pytest.mark.parametrize("syntax", [None, uid.RLELossless])
def test_a_clip_that_is_cut_off(tmp_path: Path, syntax: uid.UID | None) -> None:
    path = write_clip(tmp_path / "a", _clip(), syntax=syntax)
    path.write_bytes(path.read_bytes()[:-330])
    with pytest.raises(UnreadableFile, match="cut off"):
        _opened(path).read_frame(4)


def test_a_deflated_file_with_fewer_pixels_than_announced(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a", _clip(), syntax=DEFLATED, NumberOfFrames=6)
    with pytest.raises(UnreadableFile, match="holds fewer pixels than its header announces"):
        _opened(path).read_frame(0)


def test_more_frames_announced_than_there_are(tmp_path: Path) -> None:
    value = encapsulate([_jpeg(np.zeros((16, 20), np.uint8))] * 3, has_bot=False)
    path = _store_codes(tmp_path / "a", value, 4, uid.JPEGBaseline8Bit)
    with pytest.raises(UnreadableFile, match="announces 4 frames"):
        _opened(path).read_frame(0)


def test_bits_that_begin_within_a_byte(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (5, 5, 7)).astype(np.uint8)  # 35 bits a frame
    path = write_clip(tmp_path / "a", np.zeros((5, 5, 7), np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelData = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    dataset.save_as(path)
    file = open_pixels(path)
    assert all(np.array_equal(stored_values(file, number), bits[number]) for number in range(5))
    assert np.array_equal(_opened(path).read_frame(4)[..., 1], bits[4] * 255)


def test_rubbish_above_the_stored_bits_is_left_out(tmp_path: Path) -> None:
    elements: dict[str, Any] = {"BitsStored": 12, "HighBit": 11}
    path = write_dicom(tmp_path / "u", RAMP | 0xF000, **elements)
    assert np.array_equal(stored_values(open_pixels(path), 0), RAMP)
    signed = RAMP.astype(np.int16) - 1000
    path = write_dicom(tmp_path / "s", signed & 0x0FFF, **elements)
    assert np.array_equal(stored_values(open_pixels(path), 0), signed)


def test_colours_by_plane_and_subsampled(tmp_path: Path) -> None:
    picture = _clip(1, (16, 20, 3))[0]
    path = write_dicom(tmp_path / "a", picture, PlanarConfiguration=1)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.moveaxis(picture, 2, 0).tobytes()
    dataset.save_as(path)
    assert np.array_equal(_opened(path).read_frame(0), picture)
    wide = np.repeat(picture[:, :10], 2, axis=1)
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "YBR_FULL_422", 0
    dataset.PixelData = wide.reshape(16, 10, 6)[..., [0, 3, 1, 2]].tobytes()
    dataset.save_as(path)
    full = write_dicom(tmp_path / "b", wide, PhotometricInterpretation="YBR_FULL")
    assert np.array_equal(_opened(path).read_frame(0), _opened(full).read_frame(0))
    rgb16 = write_dicom(tmp_path / "c", picture.astype(np.uint16) * 256 + 7)
    assert np.array_equal(_opened(rgb16).read_frame(0), picture)


def test_real_numbers(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 48, dtype=np.float32).reshape(6, 8)
    path = write_dicom(tmp_path / "a", values.view(np.int32))
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.FloatPixelData = values.tobytes()
    dataset.save_as(path)
    assert np.array_equal(stored_values(open_pixels(path), 0), values)
    frame = _opened(path).read_frame(0)[..., 0].reshape(-1)
    assert (frame[0], frame[-1]) == (0, 255)
    assert (np.diff(frame.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        (b"1.2.3.4", "its compression .* is not supported"),
        (b"1.2.840.10008.1.2.4", "its compression .* is not supported"),
        (b"1.2.840.10008.1.2.5", "not stored as its header announces"),  # RLE
    ],
)
def test_unknown_or_wrong_compression_is_named(tmp_path: Path, syntax: bytes, reason: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8))
    content = path.read_bytes()
    assert content.count(b"1.2.840.10008.1.2.1\0") == 1
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", syntax.ljust(20, b"\0")))
    with pytest.raises(UnreadableFile, match=reason) as caught:
        _opened(path).read_frame(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [100, 102, 107])
def test_videos_are_named(tmp_path: Path, number: int) -> None:
    value = encapsulate([b"\0\0\1\xba" * 40])
    path = _store_codes(tmp_path / "a", value, 1, uid.UID(f"1.2.840.10008.1.2.4.{number}"))
    with pytest.raises(UnreadableFile, match=r"holds a video .*store its frames as pictures first"):
        _opened(path)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (uid.JPEG2000, "pip install pylibjpeg pylibjpeg-openjpeg"),
        (uid.HTJ2KLossless, "pip install pylibjpeg pylibjpeg-openjpeg"),
        (uid.JPEGLSLossless, "pip install pyjpegls"),
        (uid.JPEGLosslessSV1, "pip install python-gdcm"),
    ],
)
def test_a_missing_decoder_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: uid.UID, package: str
) -> None:
    path = _store_codes(tmp_path / "a", encapsulate([b"\0" * 200]), 1, syntax)
    missing = type("Missing", (), {"is_available": False})()
    monkeypatch.setattr(dicom_decoder, "get_decoder", lambda _: missing)
    with pytest.raises(UnreadableFile, match=package):
        _opened(path)


def test_a_frame_of_another_size_than_announced_is_not_decoded(tmp_path: Path) -> None:
    value = encapsulate([_jpeg(np.zeros((4000, 3000), np.uint8))])
    path = _store_codes(tmp_path / "a", value, 1, uid.JPEGBaseline8Bit)
    with pytest.raises(UnreadableFile, match="another size than announced"):
        _opened(path).read_frame(0)


def _examples() -> list[Path]:
    return [path for path in sorted(EXAMPLES.rglob("*")) if path.is_file() and ".py" not in path.suffix]


def test_pydicoms_own_examples_are_read_or_refused(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    read, reasons = 0, {}
    for path in _examples():
        try:
            scan = _opened(path)
            frames = [scan.read_frame(number) for number in range(scan.frame_count)]
        except UnreadableFile as error:
            reasons[path] = str(error)
            continue
        read += 1
        assert {(frame.shape, frame.dtype) for frame in frames} == {
            ((*scan.frame_shape, 3), np.dtype("u1"))
        }
        tiny = "dicomdirtests" in path.parts  # 16 x 16 pixels of a body, all within one window
        assert tiny or any(frame.max() > frame.min() for frame in frames), path
    assert read > len(reasons) / 2 > 0
    for path, reason in reasons.items():
        assert reason.startswith(f"{path}: ")
        assert "\n" not in reason
    assert not caplog.text
    assert capsys.readouterr().err == ""


REFERENCES = {
    "MR_small.dcm": [
        *("MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_padded"),
        *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"),
    ],
    "SC_rgb_rle.dcm": ["SC_rgb_jpeg_gdcm", "SC_rgb_rle_16bit", "SC_rgb_rle_32bit"],
    "SC_rgb_small_odd.dcm": ["SC_rgb_small_odd_big_endian"],
    "rtdose.dcm": ["rtdose_rle", "rtdose_expb"],
}


@pytest.mark.parametrize(("reference", "other"), [(a, b) for a, many in REFERENCES.items() for b in many])
def test_one_picture_in_many_codings(reference: str, other: str) -> None:
    paths = [EXAMPLES / "test_files" / name for name in (reference, f"{other}.dcm")]
    if not all(path.exists() for path in paths):
        pytest.skip("not among pydicom's examples")
    one, two = (_opened(path) for path in paths)
    for number in range(one.frame_count):
        assert np.array_equal(one.read_frame(number), two.read_frame(number))
