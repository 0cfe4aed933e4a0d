from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from tests.formats.generators import found, write_nifti
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import nifti
from vlsmctl.formats.nifti import open_nifti

# World axis and sign of each voxel axis: all 48 ways to store a volume.
STORAGES = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def _affine(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """spacing: mm along the world axes R, A, S."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * spacing[world]
    affine[:3, 3] = (-11, 7, 23)
    return affine


def _lit_world(path: Path) -> NDArray[np.float64]:
    image = nib.load(path)
    voxels = np.argwhere(np.asarray(image.dataobj)[..., :] > 0)
    return np.asarray(apply_affine(image.affine, voxels[:, :3]))


@pytest.mark.parametrize(("order", "signs"), STORAGES)
def test_marks_come_back_where_they_were(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    affine = _affine(order, signs, np.array([0.7, 0.9, 3.0]))
    lengths = np.array([9, 8, 5])[list(order)]  # R, A, S
    data = np.zeros(lengths, dtype=np.int16)
    voxel = tuple(length // 3 for length in lengths)
    data[voxel] = 1000
    source = write_nifti(tmp_path / "a.nii", data, affine)
    scan = open_nifti(found(source, "nifti"))
    assert scan.frame_count == 5  # along the 3 mm axis
    assert scan.frame_shape == (8, 9)
    scan.write_mask((scan.read_frame(n)[..., 0] > 128 for n in range(5)), tmp_path / "m.nii.gz")
    expected = apply_affine(affine, voxel)
    assert np.allclose(_lit_world(tmp_path / "m.nii.gz"), [expected], atol=1e-5)


@pytest.mark.parametrize(("order", "signs"), STORAGES)
@pytest.mark.parametrize(
    ("through", "down", "right"), [(2, (1, -1), (0, -1)), (1, (2, -1), (0, -1)), (0, (2, -1), (1, -1))]
)
def test_pictures_are_shown_as_radiologists_do(
    tmp_path: Path,
    order: tuple[int, ...],
    signs: tuple[int, ...],
    through: int,
    down: tuple[int, int],
    right: tuple[int, int],
) -> None:
    """Intensities that grow along one world axis must grow or fall along the rows or columns."""
    spacing = np.ones(3)
    spacing[through] = 4
    affine = _affine(order, signs, spacing)
    world = apply_affine(affine, np.moveaxis(np.indices((6, 6, 6)), 0, -1))
    for (axis, sign), along in ((down, 0), (right, 1)):
        source = write_nifti(tmp_path / "a.nii", world[..., axis].astype(np.float32), affine)
        frame = open_nifti(found(source, "nifti")).read_frame(2)[..., 0].astype(int)
        assert (np.sign(np.diff(frame, axis=along)) == sign).all()


@st.composite
def affines(draw: st.DrawFn) -> NDArray[np.float64]:
    numbers = st.floats(-1, 1)
    matrix = np.array(draw(st.lists(numbers, min_size=9, max_size=9))).reshape(3, 3)
    order, signs = draw(st.sampled_from(STORAGES))
    affine = _affine(order, signs, np.array([1.0, 1.5, 2.5]))
    affine[:3, :3] = (np.eye(3) + 0.3 * matrix) @ affine[:3, :3]  # oblique, sheared, never singular
    return affine


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(affine=affines(), seed=st.integers(0, 1000))
def test_any_affine_and_any_mask_survive(tmp_path: Path, affine: NDArray[np.float64], seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 6, 4))
    data = random.integers(0, 2, shape).astype(np.uint8)
    source = write_nifti(tmp_path / "a.nii", data, affine)
    scan = open_nifti(found(source, "nifti"))
    masks = [scan.read_frame(n)[..., 0] > 128 for n in range(scan.frame_count)]
    scan.write_mask(masks, tmp_path / "m.nii.gz")
    written, read = nib.load(tmp_path / "m.nii.gz"), nib.load(source)
    assert np.array_equal(written.affine, read.affine)
    expected = data if 0 < data.mean() < 1 else np.zeros_like(data)  # one value alone has no contrast
    assert np.array_equal(np.asarray(written.dataobj), expected)


@pytest.mark.parametrize(
    ("name", "version"),
    [("a.nii", 1), ("a.nii.gz", 1), ("a.hdr", 1), ("A.NII.GZ", 1), ("a.nii", 2), ("a.nii.gz", 2)],
)
def test_header_of_the_mask(tmp_path: Path, name: str, version: int) -> None:
    image_class = {1: nib.Nifti1Pair if name == "a.hdr" else nib.Nifti1Image, 2: nib.Nifti2Image}[version]
    affine = _affine((1, 0, 2), (1, -1, 1), np.array([1.0, 2.0, 4.0]))
    image = image_class(np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    image.header["descrip"] = b"Secret^Person"
    image.header["cal_max"] = 900
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"SECRET-1"))
    nib.save(image, tmp_path / name)
    scan = open_nifti(found(tmp_path / name, "nifti"))
    assert scan.frame_count == 8
    lit = [np.full(scan.frame_shape, n == 5) for n in range(8)]
    scan.write_mask(lit, tmp_path / "m.nii.gz")
    mask = nib.load(tmp_path / "m.nii.gz")
    assert isinstance(mask, nib.Nifti2Image if version == 2 else nib.Nifti1Image)
    assert mask.shape == (2, 3, 4, 2)
    assert mask.get_data_dtype() == np.uint8
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == (1, 4)
    assert mask.header.get_zooms() == image.header.get_zooms()
    assert mask.header.get_xyzt_units() == ("mm", "sec")
    assert np.array_equal(mask.affine, nib.load(tmp_path / name).affine)
    data = np.asarray(mask.dataobj)
    assert data[:, :, 1, 1].all()  # frame 5: the second slice of the second volume
    assert data.sum() == 6
    content = gzip.decompress((tmp_path / "m.nii.gz").read_bytes())
    assert b"Secret" not in content
    assert b"SECRET" not in content


def test_slabs_give_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).normal(size=(5, 6, 7, 3)).astype(np.float32)
    source = write_nifti(tmp_path / "a.nii.gz", data, np.diag([1.0, 3.0, 1.0, 1.0]))
    whole = open_nifti(found(source, "nifti"))
    frames = [whole.read_frame(n) for n in range(18)]
    monkeypatch.setattr(nifti, "SLAB_BYTES", 2 * 5 * 7 * 8)  # two slices at a time
    parts = open_nifti(found(source, "nifti"))
    for n in (17, 0, 5, 3, 4, 11, 1):
        assert np.array_equal(parts.read_frame(n), frames[n])


def test_isotropic_volumes_are_sliced_axially_and_flat_ones_across(tmp_path: Path) -> None:
    affine = _affine((2, 0, 1), (1, 1, 1), np.array([1.0, 1.0, 0.97]))
    scan = open_nifti(
        found(write_nifti(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8), affine), "nifti")
    )
    assert (scan.frame_count, scan.frame_shape) == (4, (6, 5))
    flat = np.diag([2.0, 2.0, 0.1, 1.0])
    scan = open_nifti(found(write_nifti(tmp_path / "b.nii", np.zeros((8, 5, 1), np.uint8), flat), "nifti"))
    assert (scan.frame_count, scan.frame_shape) == (1, (5, 8))
    scan = open_nifti(found(write_nifti(tmp_path / "c.nii", np.zeros((8, 5), np.uint8), flat), "nifti"))
    scan.write_mask([np.ones((5, 8), bool)], tmp_path / "m.nii.gz")
    assert nib.load(tmp_path / "m.nii.gz").shape == (8, 5)


def test_intensities(tmp_path: Path) -> None:
    data = np.linspace(-1000, 3000, 10 * 10 * 10).reshape(10, 10, 10).astype(np.float32)
    data[0, 0, 0], data[1, 0, 0], data[2, 0, 0] = np.nan, np.inf, -np.inf
    data[3, 0, 0] = 1e9  # an outlier must not darken the rest
    scan = open_nifti(found(write_nifti(tmp_path / "a.nii", data, np.diag([-1.0, -1, 2, 1])), "nifti"))
    assert [scan.read_frame(0)[0, n, 0] for n in range(4)] == [0, 255, 0, 255]
    assert abs(int(scan.read_frame(5)[0, 5, 0]) - 128) <= 8
    image = nib.Nifti1Image(np.arange(64, dtype=np.int16).reshape(4, 4, 4), np.diag([-1.0, -1, 2, 1]))
    image.header.set_slope_inter(-2.0, 5.0)  # stored numbers fall where the true ones rise
    nib.save(image, tmp_path / "s.nii")
    scan = open_nifti(found(tmp_path / "s.nii", "nifti"))
    true = np.asarray(nib.load(tmp_path / "s.nii").dataobj)
    assert (np.argmax(scan.read_frame(0)[..., 0].T) == np.argmax(true[..., 0])).all()


def test_a_compressed_file_is_opened_once_a_pass_and_closed_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 900, (6, 7, 5, 8)).astype(np.int16)
    path = write_nifti(tmp_path / "series.nii.gz", values, np.diag([1.0, 1.0, 3.0, 1.0]))
    opens = list[Path]()

    class Counted(ImageOpener):  # type: ignore[misc]
        def __init__(self, source: Path, *options: Any, **more: Any) -> None:
            opens.append(source)
            super().__init__(source, *options, **more)

    monkeypatch.setattr("nibabel.openers.ImageOpener", Counted)
    scan = open_nifti(found(path, "nifti"))
    for number in range(scan.frame_count):
        scan.read_frame(number)
    assert 1 <= len(opens) <= 2  # once for the range of values, once for the frames
    assert not is_open(path)
    scan.read_frame(0)
    assert is_open(path)
    del scan
    assert not is_open(path)


def test_a_damaged_file_is_closed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 900, (16, 16, 5, 8)).astype(np.int16)
    path = write_nifti(tmp_path / "series.nii.gz", values, np.diag([1.0, 1.0, 3.0, 1.0]))
    path.write_bytes(path.read_bytes()[:-2000])
    scan = open_nifti(found(path, "nifti"))
    with pytest.raises(UnreadableFile) as caught:
        scan.read_frame(0)
    del caught
    assert not is_open(path)


def is_open(path: Path) -> bool:
    return path.resolve() in [Path(each.path).resolve() for each in psutil.Process().open_files()]


def test_colour_volumes(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["R"], colour["B"] = 200, 30
    source = write_nifti(tmp_path / "a.nii.gz", colour, np.eye(4))
    scan = open_nifti(found(source, "nifti"))
    assert scan.read_frame(1).shape == (4, 3, 3)
    assert scan.read_frame(1)[0, 0].tolist() == [200, 0, 30]


def test_units_of_the_geometry(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.diag([10.0, 20.0, 30.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    geometry = open_nifti(found(tmp_path / "a.nii", "nifti")).geometry
    assert geometry is not None
    assert np.allclose(geometry.spacing, (0.01, 0.02, 0.03))
    assert geometry.voxel_ml == pytest.approx(6e-9)


def _damaged(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    data = np.random.default_rng(0).normal(size=(16, 16, 16))
    for suffix in (".nii", ".nii.gz"):
        whole = write_nifti(tmp_path / f"a{suffix}", data, np.eye(4)).read_bytes()
        for keep in (0, 100, len(whole) // 2, len(whole) - 40):
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
    yield tmp_path / "text.nii", "text.nii"
    nib.save(nib.AnalyzeImage(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "analyze.hdr")
    yield tmp_path / "analyze.hdr", "not a NIfTI"


def test_refusals(tmp_path: Path) -> None:
    for path, reason in _damaged(tmp_path):
        with pytest.raises(UnreadableFile, match=reason) as caught:  # noqa: PT012  (cut off data shows on reading)
            scan = open_nifti(found(path, "nifti"))
            for number in range(scan.frame_count):
                scan.read_frame(number)
        assert "\n" not in str(caught.value)


def test_real_volumes_round_trip(tmp_path: Path) -> None:
    volume = SHARED / "nifti" / "spmMotor.nii.gz"
    if not volume.exists():
        pytest.skip(f"no {volume}")
    scan = open_nifti(found(volume, "nifti"))
    frames = (scan.read_frame(n)[..., 0] > 200 for n in range(scan.frame_count))
    scan.write_mask(frames, tmp_path / "m.nii.gz")
    values, mask = np.asarray(nib.load(volume).dataobj), np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    assert np.nanmin(values[mask == 1]) > np.nanmax(values[mask == 0])
