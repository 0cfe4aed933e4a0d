from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from tests.formats.generators import found, write_nifti
from tests.formats.test_spool import spooled
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.formats import nifti
from vlsmctl.formats.nifti import PLANES, open_nifti, parse_axis, read_grid, slice_view
from vlsmctl.formats.records import Reading, Scan, Window

# World axis and sign of each voxel axis: all 48 ways to store a volume.
STORAGES = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.fixture(autouse=True)
def _unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files need not reach the disk one by one."""
    monkeypatch.setattr("vlsmctl.files.os.fsync", lambda _: None)


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


def write(scan: Scan, frames: Sequence[NDArray[Any]], path: Path) -> None:
    assert scan.write_volume is not None
    scan.write_volume(spooled(frames), path)


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
    write(scan, [scan.read_frame(n)[..., 0] > 128 for n in range(5)], tmp_path / "m.nii.gz")
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


def _blob(affine: NDArray[np.float64], shape: tuple[int, ...], centre: NDArray[np.float64]) -> NDArray[Any]:
    """A sphere of about 4 mm with soft edges, brightest at a place in mm."""
    world = apply_affine(affine, np.moveaxis(np.indices(shape[:3]), 0, -1))
    distance = np.linalg.norm(world - centre, axis=-1)
    return np.asarray(np.rint(1000 * np.exp(-((distance / 4) ** 2))), np.int16)


def _rotated(affine: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Turned around a random axis by less than 25 degrees, so that the nearest world axes stay."""
    random = np.random.default_rng(seed)
    axis = random.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis) * np.deg2rad(random.uniform(5, 25))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = float(np.linalg.norm([x, y, z]))
    turn = np.eye(4)
    turn[:3, :3] += cross * np.sin(angle) / angle + cross @ cross * (1 - np.cos(angle)) / angle**2
    return np.asarray(turn @ affine)


@pytest.mark.parametrize(("oblique", "volumes"), [(False, None), (True, None), (True, 3)])
@pytest.mark.parametrize(("order", "signs"), STORAGES)
def test_a_blob_at_known_millimetres_survives(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...], oblique: bool, volumes: int | None
) -> None:
    """However it is stored, and along whatever axis it is sliced."""
    affine = _affine(order, signs, np.array([0.8, 1.1, 2.0]))
    lengths = tuple(int(length) for length in np.array([20, 16, 9])[list(order)])
    affine = _rotated(affine, seed=STORAGES.index((order, signs))) if oblique else affine
    centre = apply_affine(affine, [length * 0.45 for length in lengths])
    data = _blob(affine, lengths, centre)
    if volumes:
        data = np.stack([np.zeros_like(data), data, data // 2], axis=-1)
    source = write_nifti(tmp_path / "a.nii", data, affine)
    expected = data > 500
    for axis in (None, 0, 1, 2):
        scan = open_nifti(found(source, "nifti"), Reading(axis=axis, window=Window(0, 1000)))
        masks = [scan.read_frame(n)[..., 0] >= 128 for n in range(scan.frame_count)]
        write(scan, masks, tmp_path / "m.nii.gz")
        mask = nib.load(tmp_path / "m.nii.gz")
        assert np.array_equal(np.asarray(mask.dataobj), expected)
        assert np.array_equal(mask.affine, nib.load(source).affine)
        lit = np.argwhere(np.asarray(mask.dataobj))[:, :3]
        assert np.linalg.norm(apply_affine(mask.affine, lit).mean(axis=0) - centre) < 0.4  # mm


@pytest.mark.parametrize(("order", "signs"), STORAGES)
def test_planes_by_name_follow_the_nearest_axis(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = _rotated(_affine(order, signs, np.array([3.0, 1.0, 0.5])), seed=len(signs))
    for name, world in PLANES.items():
        view = slice_view(affine, (5, 5, 5), name)
        assert view == slice_view(affine, (5, 5, 5), order.index(world))


@settings(max_examples=60, deadline=None)
@given(numbers=st.lists(st.floats(-1, 1), min_size=9, max_size=9))
def test_each_axis_is_nearest_to_one_plane(numbers: list[float]) -> None:
    """Even where one voxel axis is nearest to two world axes."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(numbers).reshape(3, 3)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if min(lengths) < 0.1 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.01:
        return
    assert sorted(slice_view(affine, (5, 5, 5), name).axis for name in PLANES) == [0, 1, 2]


def test_axes_by_name_and_number() -> None:
    wanted = {"auto": None, "0": 0, "2": 2, "axial": "axial", " Coronal": "coronal"}
    assert {text: parse_axis(text) for text in wanted} == wanted
    for text in ("", "3", "-1", "x", "axia", "1.0"):
        with pytest.raises(UsageError, match="axial, coronal, sagittal") as caught:
            parse_axis(text)
        assert repr(text) in str(caught.value)


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
    write(scan, masks, tmp_path / "m.nii.gz")
    written, read = nib.load(tmp_path / "m.nii.gz"), nib.load(source)
    assert np.array_equal(written.affine, read.affine)
    expected = data if 0 < data.mean() < 1 else np.zeros_like(data)  # one value alone has no contrast
    assert np.array_equal(np.asarray(written.dataobj), expected)


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
    write(scan, [np.ones((5, 8), bool)], tmp_path / "m.nii.gz")
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


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_number_type(tmp_path: Path, dtype: str, version: int, byteorder: str) -> None:
    data = np.linspace(0, 120, 6 * 5 * 4).round().reshape(6, 5, 4)
    image_class = {1: nib.Nifti1Image, 2: nib.Nifti2Image}[version]
    header = image_class.header_class(endianness=byteorder)
    header.set_data_dtype(np.dtype(dtype))
    nib.save(image_class(data.astype(dtype), np.diag([-1.0, -1, 2, 1]), header), tmp_path / "a.nii.gz")
    scan = open_nifti(found(tmp_path / "a.nii.gz", "nifti"), Reading(window=Window(0, 255)))
    assert np.array_equal(np.stack([scan.read_frame(n)[..., 0].T for n in range(4)], axis=2), data)


@pytest.mark.parametrize(("slope", "inter"), [(np.nan, 7), (0, 7), (np.nan, np.nan), (1, 0)])
def test_no_scaling(tmp_path: Path, slope: float, inter: float) -> None:
    path = _with_header(tmp_path, np.arange(60, dtype=np.int16).reshape(3, 4, 5), slope, inter)
    scan = open_nifti(found(path, "nifti"), Reading(window=Window(0, 255)))
    assert scan.read_frame(4)[3, 2, 0] == 59  # flips apart: the affine turns both axes of the picture


def test_the_window_holds_for_true_values(tmp_path: Path) -> None:
    """0, 1, 2 .. stored; -1000, -998, -996 .. meant."""
    path = _with_header(tmp_path, np.arange(1000, dtype=np.int16).reshape(10, 10, 10), 2.0, -1000.0)
    true = np.asarray(nib.load(path).dataobj)
    scan = open_nifti(found(path, "nifti"), Reading(window=Window(-160, 240)))
    shown = np.stack([scan.read_frame(n)[..., 0].T for n in range(10)], axis=2)
    assert np.array_equal(shown, np.rint((true.clip(-160, 240) + 160) / 400 * 255))


def _with_header(tmp_path: Path, data: NDArray[Any], slope: float, inter: float) -> Path:
    image = nib.Nifti1Image(data, np.diag([-1.0, -1, 1, 1]))
    nib.save(image, tmp_path / "plain.nii")
    content = bytearray((tmp_path / "plain.nii").read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(content))
    return tmp_path / "a.nii"


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1), (6, 5, 1, 2), (1, 6, 5), (6, 1, 5, 2)])
def test_flat_volumes_of_every_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
    source = write_nifti(tmp_path / "a.nii.gz", data, np.diag([1.0, 1.0, 1.0, 1.0]))
    scan = open_nifti(found(source, "nifti"))
    assert (scan.frame_count, sorted(scan.frame_shape)) == (shape[3] if len(shape) > 3 else 1, [5, 6])
    for axis in (None, 0, 1, 2):
        scan = open_nifti(found(source, "nifti"), Reading(axis, Window(0, 1)))
        write(
            scan, [scan.read_frame(n)[..., 0] > 0 for n in range(scan.frame_count)], tmp_path / "m.nii.gz"
        )
        mask = nib.load(tmp_path / "m.nii.gz")
        assert mask.shape == shape
        assert np.array_equal(np.asarray(mask.dataobj), data)


def test_transparent_colours_lie_on_black_whatever_the_window(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])
    colour["R"], colour["B"], colour["A"] = 200, 30, 255
    colour["A"][0] = 128
    source = write_nifti(tmp_path / "a.nii.gz", colour, np.diag([-1.0, -1, 2, 1]))
    scan = open_nifti(found(source, "nifti"), Reading(window=Window(0, 1)))
    assert scan.read_frame(1)[0, :2].tolist() == [[100, 0, 15], [200, 0, 30]]


def test_no_hopelessly_large_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_nifti(tmp_path / "a.nii.gz", np.zeros((64, 32, 2), np.uint8), np.eye(4))
    monkeypatch.setattr(nifti, "MAX_FRAME_PIXELS", 64 * 32)
    assert open_nifti(found(source, "nifti"), Reading(axis=2)).frame_shape == (32, 64)
    monkeypatch.setattr(nifti, "MAX_FRAME_PIXELS", 64 * 32 - 1)
    with pytest.raises(UnreadableFile, match="64 x 32") as caught:
        open_nifti(found(source, "nifti"), Reading(axis=2))
    assert caught.value.hint is not None
    assert "--axis" in caught.value.hint
    assert open_nifti(found(source, "nifti"), Reading(axis=1)).frame_shape == (2, 64)


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
    assert read_grid(tmp_path / "a.nii").affine == pytest.approx(geometry.affine)


def test_real_volumes_round_trip(tmp_path: Path) -> None:
    volume = SHARED / "nifti" / "spmMotor.nii.gz"
    if not volume.exists():
        pytest.skip(f"no {volume}")
    scan = open_nifti(found(volume, "nifti"))
    frames = [scan.read_frame(n)[..., 0] > 200 for n in range(scan.frame_count)]
    write(scan, frames, tmp_path / "m.nii.gz")
    values, mask = np.asarray(nib.load(volume).dataobj), np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    assert np.nanmin(values[mask == 1]) > np.nanmax(values[mask == 0])
