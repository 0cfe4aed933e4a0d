from __future__ import annotations

import gzip
import math
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.formats.generators import found, write_nifti
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import nifti_voxels
from vlsmctl.formats.nifti import open_nifti, read_grid, read_planes
from vlsmctl.formats.nifti_voxels import PlaneReader, read_stored
from vlsmctl.formats.records import Reading, Window

COLOUR = [("R", "u1"), ("G", "u1"), ("B", "u1")]


def _noise(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    content = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    values: NDArray[Any] = content.view(dtype)[..., 0]
    return values


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", COLOUR])
@pytest.mark.parametrize(("slab", "chunk"), [(1, 1), (200, 37), (500, 50), (10**6, 10**6)])
def test_planes_of_every_axis_in_any_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    axis: int,
    dtype: Any,
    slab: int,
    chunk: int,
) -> None:
    monkeypatch.setattr(nifti_voxels, "SLAB_BYTES", slab)
    monkeypatch.setattr(nifti_voxels, "CHUNK_BYTES", chunk)
    values = _noise((5, 6, 7, 3), dtype)
    header = nib.Nifti1Header(endianness=">" if dtype == ">i2" else "<")
    header.set_data_dtype(values.dtype)
    nib.save(nib.Nifti1Image(values, np.eye(4), header), tmp_path / name)
    count = values.shape[axis] * 3
    read = PlaneReader(read_stored(tmp_path / name), axis)
    some = PlaneReader(read_stored(tmp_path / name), axis, numbers=[1, 4, 5, count - 1])
    forwards = list(range(count))
    for reader, numbers in ((read, forwards), (read, forwards[::-1]), (some, [1, 4, 5, count - 1, 4])):
        for number in numbers:
            volume, index = divmod(number, values.shape[axis])
            assert np.array_equal(reader(number), np.moveaxis(values[..., volume], axis, 0)[index])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    """32 MiB of values in a compressed file, read in slabs of 2 MiB."""
    monkeypatch.setattr(nifti_voxels, "SLAB_BYTES", 2 * 2**20)
    monkeypatch.setattr(nifti_voxels, "CHUNK_BYTES", 2**18)
    values = np.broadcast_to(np.arange(256, dtype=np.int16), (256, 256, 256))
    path = write_nifti(tmp_path / "a.nii.gz", values, np.diag([-1.0, -1, 1, 1]))
    scan = open_nifti(found(path, "nifti"), Reading(axis=axis, window=Window(0, 255)))
    tracemalloc.start()
    for number in range(0, 256, 40):
        scan.read_frame(number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**20


def test_a_scan_that_has_been_read_holds_nothing(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((256, 256, 64), np.int16), np.eye(4))
    scan = open_nifti(found(path, "nifti"))
    tracemalloc.start()
    for number in range(64):
        scan.read_frame(number)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak > 2**23  # the slab
    assert held < 2**21
    assert scan.read_frame(63).shape == (256, 256, 3)  # and can be read again


class _Opens:
    """Counts how often a file is opened for its voxels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.real: Callable[[Path], Any] = nifti_voxels._opened
        monkeypatch.setattr(nifti_voxels, "_opened", self)

    def __call__(self, path: Path) -> Any:
        self.count += 1
        return self.real(path)


def test_a_compressed_file_is_opened_once_a_pass_and_closed_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", _noise((6, 7, 5, 8), np.int16), np.diag([1.0, 1, 3, 1]))
    for slab, passes in ((10**6, 1), (6 * 7 * 2 * 3, 2)):  # one for the range of values, one for the frames
        monkeypatch.setattr(nifti_voxels, "SLAB_BYTES", slab)
        scan = open_nifti(found(path, "nifti"))
        opens = _Opens(monkeypatch)
        for number in range(scan.frame_count):
            scan.read_frame(number)
        assert opens.count == passes
        assert not is_open(path)
    scan.read_frame(0)
    assert is_open(path)
    del scan
    assert not is_open(path)


def test_a_damaged_file_is_closed(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", _noise((16, 16, 5, 8), np.int16), np.eye(4))
    path.write_bytes(path.read_bytes()[:-2000])
    scan = open_nifti(found(path, "nifti"))
    with pytest.raises(UnreadableFile, match="cut off"):
        scan.read_frame(0)
    assert not is_open(path)


def is_open(path: Path) -> bool:
    return path.resolve() in [Path(each.path).resolve() for each in psutil.Process().open_files()]


def test_scaled_planes(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "a.nii.gz")
    true = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    read = read_planes(tmp_path / "a.nii.gz", 1)
    assert all(np.array_equal(read(n), true[:, n]) for n in range(4))


def test_compression_is_seen_in_the_content(tmp_path: Path) -> None:
    """Renamed files: gzipped without .gz, and the reverse."""
    values = _noise((5, 6, 7), np.int16)
    packed = write_nifti(tmp_path / "a.nii.gz", values, np.eye(4))
    plain = write_nifti(tmp_path / "a.nii", values, np.eye(4))
    shutil.copy(packed, tmp_path / "packed.nii")
    shutil.copy(plain, tmp_path / "plain.nii.gz")
    for name in ("packed.nii", "plain.nii.gz"):
        read = read_planes(tmp_path / name, 2)
        assert all(np.array_equal(read(n), values[:, :, n]) for n in range(7))
    scan = open_nifti(found(tmp_path / "packed.nii", "nifti"))
    assert scan.frame_count == 7


@pytest.mark.parametrize(
    ("header", "image"),
    [("a.hdr", "a.img"), ("A.HDR", "A.IMG"), ("a.hdr", "a.img.gz"), ("a.hdr.gz", "a.img.gz")],
)
def test_pairs(tmp_path: Path, header: str, image: str) -> None:
    values = _noise((5, 6, 7), np.int16)
    nib.save(nib.Nifti1Pair(values, np.diag([2.0, 3, 4, 1])), tmp_path / "b.hdr")
    for half, name in (("b.hdr", header), ("b.img", image)):
        content = (tmp_path / half).read_bytes()
        (tmp_path / half).unlink()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    halves = tmp_path / header, tmp_path / image
    for named, files in ((halves[0], halves), (halves[0], halves[:1]), (halves[1], halves[1:])):
        assert open_nifti(found(named, "nifti", files)).frame_shape == (6, 5)
        assert read_grid(named).shape == (5, 6, 7)
        assert np.array_equal(read_planes(named, 2)(4), values[:, :, 4])
    halves[1].unlink()
    with pytest.raises(UnreadableFile, match="its other half"):
        open_nifti(found(halves[0], "nifti"))


def _damaged(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    data = np.random.default_rng(0).normal(size=(16, 16, 16))
    for suffix in (".nii", ".nii.gz"):
        whole = write_nifti(tmp_path / f"a{suffix}", data, np.eye(4)).read_bytes()
        for keep in (0, 1, 100, len(whole) // 2, len(whole) - 40, len(whole) - 1):
            path = tmp_path / f"cut{keep}{suffix}"
            path.write_bytes(whole[:keep])
            yield path, path.name
    for name, value in (("nan", np.nan), ("flat", 0.0)):
        image = nib.Nifti1Image(data, np.eye(4))
        image.header["sform_code"] = 1
        image.header["srow_z"] = [0, 0, value, 0]
        path = tmp_path / f"{name}.nii"
        content = bytearray((tmp_path / "a.nii").read_bytes())
        content[:348] = image.header.binaryblock
        path.write_bytes(bytes(content))
        yield path, "affine"
    yield write_nifti(tmp_path / "complex.nii", data.astype(np.complex64), np.eye(4)), "complex"
    yield write_nifti(tmp_path / "five.nii", np.zeros((2, 2, 2, 2, 2), np.uint8), np.eye(4)), "3D and 4D"
    (tmp_path / "text.nii").write_text("no volume" * 100)
    yield tmp_path / "text.nii", "not a NIfTI"
    nib.save(nib.AnalyzeImage(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "analyze.hdr")
    yield tmp_path / "analyze.hdr", "not a NIfTI file, but Analyze"
    (tmp_path / "folder.nii").mkdir()
    yield tmp_path / "folder.nii", "cannot be read"
    yield tmp_path / "missing.nii", "cannot be read .No such file"
    flipped = bytearray((tmp_path / "a.nii.gz").read_bytes())
    flipped[len(flipped) - 6] ^= 1  # in the checksum: as one flipped bit in the data that still inflates
    (tmp_path / "flipped.nii.gz").write_bytes(bytes(flipped))
    yield tmp_path / "flipped.nii.gz", "CRC"


def test_refusals(tmp_path: Path) -> None:
    for path, reason in _damaged(tmp_path):
        with pytest.raises(UnreadableFile, match=reason) as caught:  # noqa: PT012  (cut off data shows on reading)
            scan = open_nifti(found(path, "nifti"))
            for number in range(scan.frame_count):
                scan.read_frame(number)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")


def test_what_follows_the_voxels_does_no_harm(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", _noise((4, 4, 4), np.uint8), np.eye(4))
    path.write_bytes(path.read_bytes() + b"trailing")
    assert open_nifti(found(path, "nifti")).read_frame(3).any()


def _patched(tmp_path: Path, name: str, changes: dict[int, bytes], data_bytes: int = 64) -> Path:
    """A 4 x 4 x 4 uint8 file with parts of its header overwritten."""
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    content = bytearray(image.to_bytes()[:352]) + bytes(data_bytes)
    for at, part in changes.items():
        content[at : at + len(part)] = part
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(content), mtime=0) if name.endswith(".gz") else bytes(content))
    return path


def _dim(*lengths: int) -> dict[int, bytes]:
    return {40: struct.pack(f"<{len(lengths)}h", *lengths)}


def _float_at(at: int, value: float) -> dict[int, bytes]:
    return {at: struct.pack("<f", value)}


HOSTILE = {
    "huge": _dim(3, 30000, 30000, 30000),
    "huge4": _dim(4, 30000, 30000, 30000, 30000),
    "overflow": _dim(7, 32767, 32767, 32767, 32767, 32767, 32767, 32767),
    "zero": _dim(3, 0, 4, 4),
    "negative": _dim(3, -4, 4, 4),
    "freesurfer": _dim(3, -1, 1, 1),
    "no dimensions": _dim(0, 4, 4, 4),
    "one dimension": _dim(1, 4),
    "many dimensions": _dim(200, 4, 4, 4),
    "offset nan": _float_at(108, math.nan),
    "offset inf": _float_at(108, math.inf),
    "offset negative": _float_at(108, -5),
    "offset zero": _float_at(108, 0),
    "offset small": _float_at(108, 20),
    "offset far": _float_at(108, 1e30),
    "offset beyond": _float_at(108, 1e6),
    "type unknown": {70: struct.pack("<h", 999)},
    "type binary": {70: struct.pack("<h", 1)},
    "type complex": {70: struct.pack("<h", 32)},
    "inter nan": _float_at(112, 1) | _float_at(116, math.nan),
    "quaternion": {252: struct.pack("<hh", 1, 0)} | _float_at(256, 5.0),
    "no spacing": {76: bytes(32), 252: bytes(4)},
    "no magic": {344: bytes(4)},
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_at_once(tmp_path: Path, name: str, packed: bool) -> None:
    path = _patched(tmp_path, f"{name}.nii" + ".gz" * packed, HOSTILE[name])
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile) as caught:
            open_nifti(found(path, "nifti")).read_frame(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20
    assert time.perf_counter() - started < 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_more_voxels_than_the_file_can_hold_are_refused_by_its_header(tmp_path: Path, name: str) -> None:
    path = _patched(tmp_path, name, _dim(3, 4000, 4000, 4000))
    with pytest.raises(UnreadableFile, match="cut off: its header announces 64000000000 bytes"):
        open_nifti(found(path, "nifti"))


def test_a_small_file_that_inflates_far_is_not_held(tmp_path: Path) -> None:
    """64 MiB of zeros in 64 KiB: as large as announced, and read in bounded memory; what lies behind the
    voxels is not inflated."""
    path = _patched(tmp_path, "bomb.nii.gz", _dim(3, 64, 64, 64), data_bytes=2**26)
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    scan = open_nifti(found(path, "nifti"))
    for number in range(scan.frame_count):
        scan.read_frame(number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_spacing_is_needed_only_where_nothing_else_tells_it(tmp_path: Path) -> None:
    flat = _patched(tmp_path, "flat.nii", _dim(3, 8, 8, 1) | {88: bytes(4), 252: bytes(4)})
    assert open_nifti(found(flat, "nifti")).frame_shape == (8, 8)
    placed = _patched(tmp_path, "placed.nii", {76: bytes(32)})  # by its sform
    assert open_nifti(found(placed, "nifti")).frame_shape == (4, 4)


def test_an_undefined_unit_is_none(tmp_path: Path) -> None:
    odd = _patched(tmp_path, "odd.nii", {123: b"\x05"})
    scan = open_nifti(found(odd, "nifti"))
    assert scan.geometry is not None
    assert scan.geometry.spacing == (1, 1, 1)


def test_announced_extensions_are_not_read(tmp_path: Path) -> None:
    """One of 1 GiB, which a small file may well inflate to."""
    path = _patched(tmp_path, "a.nii.gz", _float_at(108, 2**22), data_bytes=2**22)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[348:360] = struct.pack("<4Bii", 1, 0, 0, 0, 2**30, 6)
    path.write_bytes(gzip.compress(bytes(content)))
    assert not open_nifti(found(path, "nifti")).read_frame(0).any()


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a.nii", "a.nii.gz"):
        whole = write_nifti(tmp_path / name, _noise((6, 5, 4), np.int16), np.eye(4)).read_bytes()
        for number in range(150):
            content = bytearray(whole)
            for _ in range(random.integers(1, 6)):
                content[random.integers(0, min(len(content), 400))] = random.integers(0, 256)
            path = tmp_path / f"{number}{name}"
            path.write_bytes(bytes(content))
            with suppress(UnreadableFile):
                scan = open_nifti(found(path, "nifti"))
                for frame in range(min(scan.frame_count, 50)):
                    assert scan.read_frame(frame).shape == (*scan.frame_shape, 3)
