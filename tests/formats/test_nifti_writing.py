from __future__ import annotations

import gzip
import itertools
import math
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.formats.generators import found
from tests.formats.test_spool import spooled
from vlsmctl.formats import nifti_writing
from vlsmctl.formats.nifti import open_nifti
from vlsmctl.formats.nifti_writing import write_grid, write_like

AFFINE = np.array([[0.0, 2, 0, -11], [-1, 0, 0, 7], [0, 0, 4, 23], [0, 0, 0, 1]])
KINDS: list[tuple[type, float]] = [(np.bool_, 1), (np.uint8, 1), (np.uint8, 1 / 255), (np.float32, 1)]


def _source(path: Path, version: int = 1, byteorder: str = "<") -> Any:
    """A file with everything in its header, secrets too."""
    classes = {1: nib.Nifti1Pair if path.suffix == ".hdr" else nib.Nifti1Image, 2: nib.Nifti2Image}
    header = classes[version].header_class(endianness=byteorder)
    data = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    image = classes[version](data, AFFINE, header)
    image.set_qform(AFFINE, code=1)
    image.set_sform(AFFINE, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    image.header["descrip"] = b"Secret^Person"
    image.header["aux_file"] = b"secret.txt"
    image.header["intent_name"] = b"Secret intent"
    image.header["cal_max"] = 900
    image.header.set_intent("t test", (3,))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"SECRET-1"))
    nib.save(image, path)
    return image


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("name", "version"),
    [("a.nii", 1), ("a.nii.gz", 1), ("a.hdr", 1), ("A.NII.GZ", 1), ("a.nii", 2), ("a.nii.gz", 2)],
)
def test_header_of_the_mask(tmp_path: Path, name: str, version: int, byteorder: str) -> None:
    image = _source(tmp_path / name, version, byteorder)
    scan = open_nifti(found(tmp_path / name, "nifti"))
    assert scan.frame_count == 8
    assert scan.write_volume is not None
    scan.write_volume(spooled(np.full(scan.frame_shape, n == 5) for n in range(8)), tmp_path / "m.nii.gz")
    mask = nib.load(tmp_path / "m.nii.gz")
    assert isinstance(mask, nib.Nifti2Image if version == 2 else nib.Nifti1Image)
    assert mask.shape == (2, 3, 4, 2)
    assert mask.get_data_dtype() == np.uint8
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == (1, 4)
    assert mask.header.get_zooms() == image.header.get_zooms()
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    assert np.array_equal(mask.affine, nib.load(tmp_path / name).affine)
    assert np.array_equal(mask.header.get_qform(), nib.load(tmp_path / name).header.get_qform())
    assert mask.header.get_intent() == ("none", (), "")
    data = np.asarray(mask.dataobj)
    assert data[:, :, 1, 1].all()  # frame 5: the second slice of the second volume
    assert data.sum() == 6
    assert b"secret" not in gzip.decompress((tmp_path / "m.nii.gz").read_bytes()).lower()


@pytest.mark.parametrize("codes", list(itertools.product((0, 1), (0, 2))))
def test_missing_form_codes_stay_missing(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), AFFINE)
    image.set_qform(AFFINE, codes[0])
    image.set_sform(AFFINE, codes[1])
    nib.save(image, tmp_path / "a.nii")
    scan = open_nifti(found(tmp_path / "a.nii", "nifti"))
    assert scan.write_volume is not None
    scan.write_volume(spooled([np.zeros(scan.frame_shape, bool)] * scan.frame_count), tmp_path / "m.nii.gz")
    mask, source = nib.load(tmp_path / "m.nii.gz"), nib.load(tmp_path / "a.nii")
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == codes
    assert np.array_equal(mask.affine, source.affine)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("dtype", "scale"), KINDS)
def test_the_bytes_are_those_that_nibabel_writes(
    tmp_path: Path, dtype: Any, scale: float, version: int
) -> None:
    source = {1: nib.Nifti1Image, 2: nib.Nifti2Image}[version](np.zeros((5, 6, 7), np.int16), AFFINE)
    volume = _volume((5, 6, 7), dtype)
    frames = spooled([volume[:, :, n] for n in range(7)], scale)
    write_like(source.header, frames, tmp_path / "m.nii.gz", axis=2, to_plane=np.asarray)
    stored = np.uint8 if dtype is np.bool_ else dtype
    header = source.header.copy()
    header.set_data_dtype(stored)
    expected = type(source)(volume.astype(stored), None, header)
    expected.header.set_slope_inter(1, 0)
    content = bytearray(expected.to_bytes())
    if scale != 1:
        at = {1: 112, 2: 176}[version]
        kind = {1: "<f4", 2: "<f8"}[version]
        content[at : at + np.dtype(kind).itemsize] = np.array([scale], kind).tobytes()
    assert gzip.decompress((tmp_path / "m.nii.gz").read_bytes()) == content


@pytest.mark.parametrize(("dtype", "scale"), KINDS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 3), (5, 6, 7, 1), (9, 1, 2), (1, 9, 4), (8, 3)])
@pytest.mark.parametrize("piece", [1, 61, 2**20])
def test_values_along_every_axis_and_in_pieces(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: Any,
    scale: float,
    axis: int,
    shape: tuple[int, ...],
    piece: int,
) -> None:
    monkeypatch.setattr(nifti_writing, "PIECE_BYTES", piece)
    monkeypatch.setattr("vlsmctl.files.os.fsync", lambda _: None)
    source = nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE)
    volume = _volume(shape, dtype)
    three = volume.reshape((*(*shape, 1)[:3], math.prod(shape[3:])))
    planes = [
        np.moveaxis(three[..., n], axis, 0)[k]
        for n in range(three.shape[3])
        for k in range(three.shape[axis])
    ]
    # Shown turned and mirrored, as a view may have it
    frames = spooled([plane.T[::-1] for plane in planes], scale)
    write_like(source.header, frames, tmp_path / "m.nii.gz", axis=axis, to_plane=_turned_back)
    written = nib.load(tmp_path / "m.nii.gz")
    assert written.shape == shape
    assert np.array_equal(np.asarray(written.dataobj.get_unscaled()), volume)
    assert np.allclose(np.asarray(written.dataobj), volume * np.float64(scale), rtol=1e-6)


def _turned_back(frame: NDArray[Any]) -> NDArray[Any]:
    return frame[::-1].T


def _volume(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    random = np.random.default_rng(0).random(shape)
    return random > 0.5 if dtype is np.bool_ else (random * (255 if dtype is np.uint8 else 1)).astype(dtype)


def test_equal_frames_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = spooled([np.eye(5, 6) > 0] * 3)
    write_grid(frames, AFFINE, tmp_path / "first.nii.gz", sheared=False)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_grid(frames, AFFINE, tmp_path / "second.nii.gz", sheared=False)
    content = (tmp_path / "first.nii.gz").read_bytes()
    assert content == (tmp_path / "second.nii.gz").read_bytes()
    assert b"first" not in content


@pytest.mark.parametrize("sheared", [False, True])
def test_a_grid_of_columns_rows_and_slices(tmp_path: Path, sheared: bool) -> None:
    affine = np.array([[-0.5, 0, 0, 3], [0, -0.7, 0.4 * sheared, 5], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    frames = spooled(np.arange(12).reshape(3, 4) == n for n in range(2))
    write_grid(frames, affine, tmp_path / "m.nii.gz", sheared=sheared)
    image = nib.load(tmp_path / "m.nii.gz")
    assert image.shape == (4, 3, 2)  # columns, rows, slices
    data = np.asarray(image.dataobj)
    assert all(np.array_equal(data[:, :, n].T > 0, frames[n]) for n in range(2))
    assert np.allclose(image.affine, affine)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header.get_zooms() == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0))
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0 if sheared else 1)
    if not sheared:
        assert np.allclose(image.header.get_qform(), affine, atol=1e-5)


class _Endless:
    """Many frames that take no memory."""

    shape, dtype, scale = (1, 2), np.dtype(bool), 1.0

    def __len__(self) -> int:
        return 40_000

    def __getitem__(self, number: int) -> NDArray[np.bool_]:
        return np.full((1, 2), number == 39_999)


def test_more_slices_than_nifti_1_counts(tmp_path: Path) -> None:
    write_grid(_Endless(), AFFINE, tmp_path / "m.nii.gz", sheared=False)
    image = nib.load(tmp_path / "m.nii.gz")
    assert isinstance(image, nib.Nifti2Image)
    assert image.shape == (2, 1, 40_000)
    assert np.asarray(image.dataobj).sum(axis=(0, 1)).argmax() == 39_999


class _Numbered:
    """Frames that hold their own number, and are not kept; the last may not be had."""

    shape, dtype, scale = (64, 512), np.dtype(np.float32), 1.0

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def __len__(self) -> int:
        return 256

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        if self.fails and number == 255:
            raise OSError(28, "No space left on device")
        return np.full((64, 512), number, np.float32)


def _crossing(axis: int) -> Any:
    """The header of a volume that has these frames along an axis."""
    lengths = [64, 512]
    lengths.insert(axis, 256)
    return nib.Nifti1Image(np.broadcast_to(np.int16(0), lengths), AFFINE).header


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    """32 MiB of values, written in pieces of 2 MiB."""
    monkeypatch.setattr(nifti_writing, "PIECE_BYTES", 2 * 2**20)
    tracemalloc.start()
    write_like(_crossing(axis), _Numbered(), tmp_path / "m.nii.gz", axis=axis, to_plane=np.asarray)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3.5 * 2**20
    data = np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    assert np.array_equal(np.moveaxis(data, axis, 0)[:, 0, 0], np.arange(256))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_half_written_is_left(tmp_path: Path, axis: int) -> None:
    target = tmp_path / "m.nii.gz"
    target.write_bytes(b"an earlier one")
    with pytest.raises(OSError, match="No space left"):
        write_like(_crossing(axis), _Numbered(fails=True), target, axis=axis, to_plane=np.asarray)
    assert target.read_bytes() == b"an earlier one"
    assert [path.name for path in tmp_path.iterdir()] == ["m.nii.gz"]


def test_the_number_and_shape_of_frames_are_checked(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    write_volume = open_nifti(found(tmp_path / "a.nii.gz", "nifti")).write_volume
    assert write_volume is not None
    for count, shape in ((5, (5, 4)), (7, (5, 4)), (6, (4, 5))):
        with pytest.raises(ValueError, match="frames"):
            write_volume(spooled([np.zeros(shape, bool)] * count), tmp_path / "m.nii.gz")
    assert not (tmp_path / "m.nii.gz").exists()
