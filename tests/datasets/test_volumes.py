from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.datasets import fakes
from tests.datasets.fakes import volumes as fake
from tests.datasets.own_data import listed
from tests.formats.generators import found
from tests.shared import SHARED
from vlsmctl.datasets.affixes import Affix
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.generic import list_items
from vlsmctl.datasets.pairs import Place, Side
from vlsmctl.datasets.slices import fit_grids, read_label_slice, read_slice
from vlsmctl.datasets.sources import LabelSlice, Slice, read_image, read_mask
from vlsmctl.datasets.volumes import list_volumes, targets
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.nifti import Grid, open_nifti
from vlsmctl.formats.scan import find_scans, open_scan

TOWARDS = [
    "".join(sides[axis] for axis in order)
    for order in itertools.permutations(range(3))
    for sides in itertools.product("RL", "AP", "SI")
]  # all 48 ways to store a volume
serial = itertools.count()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image_towards=st.sampled_from(TOWARDS),
    label_towards=st.sampled_from(TOWARDS),
    axis=st.sampled_from([None, 0, 1, 2]),
    oblique=st.booleans(),
    seed=st.integers(0, 999),
)
def test_image_label_and_predict_agree(
    tmp_path: Path, image_towards: str, label_towards: str, axis: int | None, oblique: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 2, rng.integers(2, 6, 3)).astype(np.uint8)
    affine = fake.AFFINE.copy()
    if oblique:
        affine[:3, :3] = (np.eye(3) + 0.2 * rng.uniform(-1, 1, (3, 3))) @ affine[:3, :3]
    folder = tmp_path / str(next(serial))
    image = fake.save(folder / "a.nii.gz", array, affine, image_towards)
    label = fake.save(folder / "b.nii.gz", array, affine, label_towards)
    scan = open_nifti(found(image, "nifti"))
    count = scan.frame_count if axis is None else nib.load(image).shape[axis]
    for index in range(count):
        frame = read_slice(image, index, axis, False)
        lit = read_label_slice(label, image, index, axis, False)
        assert frame.shape == (*lit.shape, 3)
        if 0 < array.mean() < 1:  # one value alone has no contrast
            assert np.array_equal(frame[..., 0], lit * 255)
        if axis is None:
            assert np.array_equal(frame, scan.read_frame(index))


def test_slices_along_a_chosen_axis_are_shown_as_radiologists_do(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    array[:, :, 5] = 1  # the top
    image = fake.save(tmp_path / "a.nii", array, np.eye(4), "ASR")
    for axis in (0, 2):  # coronal and sagittal
        lit = read_label_slice(image, image, 1, axis, False)
        assert lit[0].all()
        assert not lit[1:].any()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ([0, 0, 0], True),
        ([2e-4, 0, 0], True),
        ([0.45, 0, 0], False),
        ([0, 0, -3], False),
    ],
)
def test_a_label_that_is_moved_does_not_fit(change: list[float], same: bool) -> None:
    moved = fake.AFFINE.copy()
    moved[:3, 3] += change
    fits = fit_grids(Grid(moved, fake.SHAPE), Grid(fake.AFFINE, fake.SHAPE))
    assert (fits is not None) == same


def test_other_spacings_sizes_and_shears_do_not_fit() -> None:
    image = Grid(fake.AFFINE, fake.SHAPE)
    for scale in ((1.002, 1, 1), (1, 1, 2)):
        assert fit_grids(Grid(fake.AFFINE @ np.diag([*scale, 1.0]), fake.SHAPE), image) is None
    assert fit_grids(Grid(fake.AFFINE, (36, 32, 3)), image) is None
    sheared = fake.AFFINE.copy()
    sheared[0, 2] = 0.01
    assert fit_grids(Grid(sheared, fake.SHAPE), image) is None
    creeping = fake.AFFINE @ np.diag([1.0009, 1, 1, 1])
    assert fit_grids(Grid(creeping, (512, 8, 8)), Grid(fake.AFFINE, (512, 8, 8))) is None


def test_nnunet_with_labels_of_several_classes(tmp_path: Path) -> None:
    items, listing = listed(fake.write_nnunet(tmp_path), labels=fake.LABELS)
    assert len(items) == fake.COUNT * 3 * 2
    assert listing.left_out == ()
    assert "imagesTr/NAME_0000.nii.gz with labelsTr/NAME.nii.gz" in listing.notes[0]
    assert any("6 further channels" in note for note in listing.notes)
    assert Counter(item.group for item in items.values()) == {
        f"heart_{number:03d}": 6 for number in range(fake.COUNT)
    }
    item = items["heart_003-0000-left-ventricle"]
    assert item.image_name == "heart_003-0000"
    assert item.words == {"class": "left ventricle"}
    facts = {"axis": 2, "spacing": [0.8, 0.9], "thickness": 3.0, "slice": 0, "label": 1}
    assert item.attributes == {"volume": "heart_003", **facts}


@pytest.mark.parametrize("number", range(fake.COUNT))
def test_nnunet_pixels(tmp_path: Path, number: int) -> None:
    """Also where labels are stored along other axes than images."""
    items, _ = listed(fake.write_nnunet(tmp_path), labels=fake.LABELS)
    for k in range(3):
        for value, slug in ((1, "left-ventricle"), (2, "myocardium")):
            item = items[f"heart_{number:03d}-{k:04d}-{slug}"]
            pixels = read_image(item.image)
            drawn = read_mask(item.mask, pixels.shape[:2]).grey
            # Seen from the feet, front on top, the patient's left on the right.
            expected = fake.labels(number)[::-1, ::-1, k].T
            assert np.array_equal(drawn, fakes.grey(np.equal(expected, value)))
            shown = fake.values(number)[::-1, ::-1, k].T
            order = np.argsort(shown.ravel(), kind="stable")
            assert (np.diff(pixels[..., 0].ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("suffix", ["_seg", "-label", "_Mask", "_labels"])
def test_one_folder_with_suffixes(tmp_path: Path, suffix: str) -> None:
    items, listing = listed(fake.write_suffixes(tmp_path, suffix))
    assert len(items) == fake.COUNT * 3
    assert f"NAME.nii.gz with NAME{suffix.lower()}.nii.gz in one folder" in listing.notes[0]
    assert listing.left_out == ()
    item = items["case2-0001"]
    assert isinstance(item.mask, LabelSlice)
    assert item.mask.values is None
    drawn = read_mask(item.mask, (36, 32)).grey
    assert np.array_equal(drawn, fakes.grey(fake.labels(2)[::-1, ::-1, 1].T > 0))


@pytest.mark.parametrize("label_series", [False, True])
def test_dicom_series_with_label_volumes(tmp_path: Path, label_series: bool) -> None:
    root = fake.write_dicom_pairs(tmp_path, label_series)
    items, listing = listed(root, labels=fake.LABELS)
    assert len(items) == fake.COUNT * 3 * 2
    assert listing.left_out == ()
    (series,), _ = find_scans([root / "images" / "case4"])
    scan = open_scan(series)
    for k in range(3):
        item = items[f"case4-{k:04d}-myocardium"]
        assert np.array_equal(read_image(item.image), scan.read_frame(k))
        expected = fake.labels(4)[::-1, ::-1, k].T == 2
        assert np.array_equal(read_mask(item.mask, (36, 32)).grey, fakes.grey(expected))
    assert items["case4-0000-myocardium"].attributes["spacing"] == [0.8, 0.9]
    assert items["case4-0000-myocardium"].attributes["thickness"] == 3.0
    told = repr((listing.items, listing.notes, listing.left_out))
    assert "SECRET" not in told.upper()


def test_a_dicom_series_has_only_its_own_slices(tmp_path: Path) -> None:
    _, listing = listed(fake.write_dicom_pairs(tmp_path), axis=0)
    assert not listing.items
    assert "along axis 2, not axis 0" in listing.left_out[0].found


def test_what_is_wrong_with_a_volume_is_said_of_it_alone(tmp_path: Path) -> None:
    root = fake.write_nnunet(tmp_path)
    images, labels = root / "imagesTr", root / "labelsTr"
    fakes.truncate(images / "heart_000_0000.nii.gz")
    (images / "heart_000_0000.nii.gz").write_bytes(b"")
    fake.save(labels / "heart_001.nii.gz", fake.labels(1), fake.AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 0.4)
    fake.save(labels / "heart_002.nii.gz", fake.labels(2), np.eye(4))
    (labels / "heart_003.nii.gz").unlink()
    (labels / "notes.txt").write_text("mine", encoding="utf-8")
    fake.save(labels / "heart_004.nii", fake.labels(4))
    items, listing = listed(root)
    assert {item.group for item in items.values()} == {"heart_005"}
    told = {each.file: each for each in listing.left_out}
    assert told["imagesTr/heart_000_0000.nii.gz"].check == "unreadable"
    wrong = told["labelsTr/heart_002.nii.gz"]
    assert wrong.check == "size"
    assert "32 x 36 x 3 voxels of 0.9 x 0.8 x 3 mm towards RAS from (-11, 7, 23)" in wrong.expected
    assert "32 x 36 x 3 voxels of 1 x 1 x 1 mm towards RAS from (0, 0, 0)" in wrong.found
    assert told["labelsTr/heart_001.nii.gz"].check == "size"
    assert "labelsTr/heart_003.*" in told["imagesTr/heart_003_0000.nii.gz"].expected
    assert told["labelsTr/notes.txt"].check == "kind"
    assert told["labelsTr/heart_004.nii"].found == "heart_004.nii, heart_004.nii.gz"


def test_damage_beyond_the_header_shows_when_slices_are_read(tmp_path: Path) -> None:
    root = fake.write_suffixes(tmp_path)
    content = (root / "case0_seg.nii.gz").read_bytes()
    (root / "case0_seg.nii.gz").write_bytes(content[:-20])
    items, _ = listed(root)
    assert read_image(items["case0-0000"].image).shape == (36, 32, 3)
    with pytest.raises(UnreadableFile, match="case0_seg"):
        [read_mask(items[f"case0-{k:04d}"].mask, (36, 32)) for k in range(3)]


def test_label_numbers_must_be_whole_and_one_a_voxel(tmp_path: Path) -> None:
    image = fake.save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8))
    fractions = fake.save(tmp_path / "b.nii", np.full((3, 4, 5), 0.5))
    with pytest.raises(UnreadableFile, match="fractions"):
        read_label_slice(fractions, image, 0, None, False)
    whole = fake.save(tmp_path / "c.nii", np.full((3, 4, 5), 2.0))
    assert (read_label_slice(whole, image, 0, None, False) == 2).all()
    with pytest.raises(UnreadableFile, match="expected a slice 5, found 5"):
        read_slice(image, 5, None, False)


def test_of_a_4d_image_the_first_volume_is_used_and_a_4d_label_is_refused(tmp_path: Path) -> None:
    series = np.stack([fake.values(0), fake.values(1)], axis=3)
    nib.save(nib.Nifti1Image(series, fake.AFFINE), tmp_path / "a.nii.gz")
    fake.save(tmp_path / "a_seg.nii.gz", fake.labels(0))
    items, listing = listed(tmp_path)
    assert list(items) == ["a-0000", "a-0001", "a-0002"]
    assert any("a.nii.gz is 4D: of its 2 volumes the first" in note for note in listing.notes)
    nib.save(
        nib.Nifti1Image(np.stack([fake.labels(0)] * 2, axis=3), fake.AFFINE), tmp_path / "a_seg.nii.gz"
    )
    assert "found 2 (4D)" in list_items(tmp_path).left_out[0].found


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = fake.save(tmp_path / "a.nii.gz", fake.values(0))
    before = read_slice(path, 0, None, False)
    stamp = path.stat().st_mtime_ns
    fake.save(path, fake.values(1))
    while path.stat().st_mtime_ns == stamp:
        path.touch()
    assert not np.array_equal(read_slice(path, 0, None, False), before)


def test_a_chosen_axis(tmp_path: Path) -> None:
    root = fake.write_suffixes(tmp_path)
    items, _ = listed(root, axis=0)
    assert len(items) == fake.COUNT * fake.SHAPE[0]
    item = items["case0-0007"]
    assert item.attributes["axis"] == 0
    assert item.attributes["spacing"] == [3.0, 0.8]  # rows downwards, columns to the back
    assert item.attributes["thickness"] == 0.9
    assert read_image(item.image).shape == (3, 36, 3)


def test_pairs_below_a_prefix(tmp_path: Path) -> None:
    root = fake.write_suffixes(tmp_path)
    places = (Place(read_folder(root)),)
    sides = Side(places, "", Affix()), Side(places, "", Affix("", "_seg"))
    listing = list_volumes(root, *sides, prefix="test-", split="test")
    assert {(item.group, item.split) for item in listing.items} == {
        (f"test-case{number}", "test") for number in range(fake.COUNT)
    }


def test_numbers_of_one_name_are_one_class() -> None:
    first, second = targets({1: "tumour", 2: "Tumour core", 4: "tumour"})
    assert (first.slug, first.values) == ("tumour", (1, 4))
    assert (second.slug, second.values) == ("tumour-core", (2,))
    assert len({each.slug for each in targets({1: "左", 2: "右"})}) == 2


def test_a_real_volume_with_a_label_that_is_flipped(tmp_path: Path) -> None:
    volume = SHARED / "nifti" / "spmMotor.nii.gz"
    if not volume.exists():
        pytest.skip(f"no {volume}")
    opened = nib.load(volume)
    array: NDArray[np.float64] = np.nan_to_num(np.asarray(opened.dataobj, dtype=np.float64))
    label = fake.save(tmp_path / "label.nii.gz", (array > 0).astype(np.uint8), opened.affine, "PSL")
    scan = open_nifti(found(volume, "nifti"))
    image = Slice(volume, 40)
    assert np.array_equal(read_image(image), scan.read_frame(40))
    lit = read_mask(LabelSlice(label, image), scan.frame_shape).grey > 0
    same = fake.save(tmp_path / "same.nii.gz", (array > 0).astype(np.uint8), opened.affine)
    frame = open_nifti(found(same, "nifti")).read_frame(40)[..., 0] > 0
    assert lit.any()
    assert np.array_equal(lit, frame)
