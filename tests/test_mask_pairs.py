"""DICOM SEG on the grid of a NIfTI file, and on one another's slices, by their own places alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from tests.datasets.fakes.volumes import save
from tests.formats.seg_fakes import KINDS, ORIGIN, blobs, segment, spooled
from tests.formats.whole_segs import UPRIGHT, oblique, reorder, write_whole
from tests.masks import volume
from tests.pairs import SHAPE, organ, refusal, scores, slices
from vlsmctl.evaluation import score_cases
from vlsmctl.formats.dicom_seg import write_seg
from vlsmctl.mask_files import read_mask_file, read_pair
from vlsmctl.pairing import CasePair

ML = 0.7 * 0.9 * 2.5 / 1000
PART = "one mask is empty, and the extent of the scan not known: HD95 is the diagonal of the SEG's slices"
CODES = [
    "".join(code)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for code in itertools.product(*axes)
]


def sheared() -> NDArray[np.float64]:
    """By a tilted gantry: each slice is shifted along the rows."""
    affine = UPRIGHT.copy()
    affine[1, 2] = 1.1
    return np.asarray(affine, np.float64)


GRIDS = {"upright": UPRIGHT, "oblique": oblique(), "sheared": sheared(), "both": oblique(sheared())}


@pytest.mark.parametrize("grid", GRIDS)
def test_the_same_masks_score_the_same_in_any_kind_of_file(tmp_path: Path, grid: str) -> None:
    affine = GRIDS[grid]
    files = {
        side: {
            "NIfTI": volume(tmp_path / f"{side}.nii.gz", mask, affine),
            "SEG": write_whole(tmp_path / f"{side}.seg.dcm", mask, affine, kind=kind),
        }
        for side, mask, kind in (("pred", organ(2), "BINARY"), ("true", organ(), "LABELMAP"))
    }
    expected = scores(read_pair(files["pred"]["NIfTI"], files["true"]["NIfTI"]))
    assert 0 < expected["dice"] < 1
    for kinds in itertools.product(("NIfTI", "SEG"), repeat=2):
        pair = read_pair(files["pred"][kinds[0]], files["true"][kinds[1]])
        assert scores(pair) == pytest.approx(expected, rel=1e-5)
        assert (pair.unit, pair.cautions, pair.whole) == ("mm", (), kinds != ("SEG", "SEG"))
        assert pair.element == pytest.approx(ML, rel=1e-5)
        assert pair.target.shape == SHAPE


@pytest.fixture(scope="module")
def seg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole(tmp_path_factory.mktemp("seg") / "a.dcm", organ(), oblique())


@pytest.mark.parametrize("towards", CODES)
def test_a_segmentation_lies_right_whatever_way_the_axes_run(
    tmp_path: Path, seg: Path, towards: str
) -> None:
    nifti = save(tmp_path / "a.nii.gz", organ(), oblique(), towards)
    for pair in (read_pair(seg, nifti), read_pair(nifti, seg)):
        assert pair.target.sum() == organ().sum()
        assert np.array_equal(pair.prediction, pair.target)


def test_frames_may_come_in_any_order(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.dcm", organ())
    reorder(path, [3, 0, 5, 2, 1, 4])
    pair = read_pair(path, volume(tmp_path / "a.nii.gz", organ(), UPRIGHT))
    assert np.array_equal(pair.prediction, pair.target)


def test_what_predict_writes_scores_as_it_should(tmp_path: Path) -> None:
    sources, drawn = KINDS["series"](tmp_path), blobs(5, 1, (0, 2))
    write_seg(sources, [segment("polyp", spooled(drawn))], ORIGIN, tmp_path / "p.seg.dcm")
    write_seg(sources, [segment("polyp", spooled(blobs(5, 2, (4,))))], ORIGIN, tmp_path / "t.seg.dcm")
    affine = np.array([[-0.95, 0, 0, 12.5], [0, -0.7, 0, -3.25], [0, 0, 2.5, 0], [0, 0, 0, 1.0]])
    nifti = volume(tmp_path / "p.nii.gz", np.stack(drawn).transpose(2, 1, 0), affine)
    pair = read_pair(tmp_path / "p.seg.dcm", nifti)
    assert np.array_equal(pair.prediction, pair.target)
    assert pair.target.sum() == sum(frame.sum() for frame in drawn)
    both = read_pair(tmp_path / "p.seg.dcm", tmp_path / "t.seg.dcm")
    assert both.target.shape == (37, 30, 5)
    assert scores(both) == pytest.approx(scores(read_pair(nifti, tmp_path / "t.seg.dcm")))
    assert both.cautions == ()


@pytest.mark.parametrize("stated", [True, False])
def test_slices_left_out_are_empty_ones(tmp_path: Path, stated: bool) -> None:
    """The prediction has frames in slices 1 and 5, the target in 2 and 3: two slices, 5 mm apart."""
    files = [write_whole(tmp_path / f"{n}.dcm", slices(*n)) for n in ((1, 5), (2, 3))]
    if not stated:
        for path in files:
            unstate(path, "SpacingBetweenSlices")
    pair = read_pair(files[0], files[1])
    assert pair.target.shape == (13, 11, 5)
    assert pair.prediction.any(axis=(0, 1)).tolist() == [True, False, False, False, True]
    assert pair.target.any(axis=(0, 1)).tolist() == [False, True, True, False, False]
    assert scores(pair)["hd95"] == pytest.approx(5.0)
    assert pair.element == pytest.approx(ML)
    assert pair.cautions == ()


def unstate(path: Path, *names: str, **values: Any) -> None:
    """Takes elements out of a SEG's pixel measures."""
    dataset = pydicom.dcmread(path)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for name in names:
        delattr(measures, name)
    for name, value in values.items():
        setattr(measures, name, value)
    pydicom.dcmwrite(path, dataset)


def test_how_far_apart_slices_are_is_stated_or_said_to_be_guessed(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.dcm", slices(1, 5))
    stated = read_mask_file(path)
    assert stated.size == (13, 11, 5)
    assert stated.element == pytest.approx(ML)
    assert (stated.cautions, stated.whole) == ((), False)
    unstate(path, SpacingBetweenSlices=1.7)  # on which the frames do not lie
    guessed = read_mask_file(path)
    assert guessed.size == (13, 11, 2)
    assert guessed.element == pytest.approx(4 * ML)
    assert guessed.cautions == ("slices are taken as 10 mm apart, which no file states",)
    unstate(path, SpacingBetweenSlices=1e-4)  # a hostile file does not take all memory
    assert read_mask_file(path).size == (13, 11, 2)


def test_a_volume_that_no_machine_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "a.dcm", slices(1, 5))
    monkeypatch.setattr("vlsmctl.formats.dicom_seg_grid._MOST_VOXELS", 13 * 11 * 5 - 1)
    assert "a volume of 13 x 11 x 5 voxels is more than" in refusal(path, path)


def test_slices_at_uneven_distances_are_refused(tmp_path: Path) -> None:
    affine = UPRIGHT.copy()
    affine[2, 3] += 1.1
    target = write_whole(tmp_path / "t.dcm", slices(1, 2))
    said = refusal(write_whole(tmp_path / "p.dcm", slices(1, 2), affine), target)
    assert (
        "on no even grid (1.1 to 1.4 mm apart, less than they are thick); export the labels as NIfTI"
        in said
    )
    single = write_whole(tmp_path / "s.dcm", slices(1))
    assert read_pair(single, single).target.shape == (13, 11, 1)


def moved(by: tuple[float, float, float], affine: NDArray[np.float64] = UPRIGHT) -> NDArray[np.float64]:
    """by: voxels"""
    shift = np.eye(4)
    shift[:3, 3] = by
    return np.asarray(affine @ shift, np.float64)


def wider(affine: NDArray[np.float64] = UPRIGHT) -> NDArray[np.float64]:
    return np.asarray(affine @ np.diag([1.01, 1, 1, 1]), np.float64)


OFF: list[tuple[Callable[[], NDArray[np.float64]], str]] = [
    (lambda: moved((0.2, 0, 0)), r"frame 1 of 6 on none of the 6 slices \(0.2 of a voxel off\)"),
    (lambda: moved((0, -1, 0)), r"\(1 of a voxel off\)"),
    (lambda: moved((0, 0, 0.3)), r"0.3 of a voxel|no even grid"),
    (wider, r"another spacing or orientation.*0\.(01|0099) of a voxel off"),
    (lambda: moved((0, 0, 0.5)), r"0.5 of a voxel|no even grid"),
    (oblique, "another spacing or orientation"),
]


@pytest.mark.parametrize(("affine", "says"), OFF)
def test_other_places_are_refused_with_how_far_off(
    tmp_path: Path, affine: Callable[[], NDArray[np.float64]], says: str
) -> None:
    off = write_whole(tmp_path / "a.dcm", organ(), affine())
    nifti = volume(tmp_path / "t.nii.gz", organ(), UPRIGHT)
    other = write_whole(tmp_path / "t.dcm", organ())
    for pair in ((off, nifti), (nifti, off), (off, other), (other, off)):
        assert re.search(says, refusal(*pair))


@pytest.mark.parametrize("numbers", [(1, 2, 3), (2,)])
def test_slices_between_those_of_another_file_are_not_taken_for_thinner_ones(
    tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    files = [
        write_whole(tmp_path / "t.dcm", slices(*numbers)),
        write_whole(tmp_path / "p.dcm", slices(*numbers), moved((0, 0, 0.5))),
    ]
    said = "no even grid (1.25 mm apart"
    for path in files:
        unstate(path, SliceThickness=1)
    assert said in refusal(*files)
    for path in files:
        unstate(path, "SpacingBetweenSlices", SliceThickness=2.5)
    assert f"{said}, less than they are thick)" in refusal(*files)


def test_two_single_slices_say_how_far_apart_slices_are(tmp_path: Path) -> None:
    files = [write_whole(tmp_path / f"{number}.dcm", slices(number)) for number in (1, 3)]
    assert read_pair(*files).target.shape == (13, 11, 3)
    for path in files:
        unstate(path, "SpacingBetweenSlices")
    pair = read_pair(*files)
    assert pair.target.shape == (13, 11, 2)
    assert pair.cautions == ("slices are taken as 5 mm apart, which no file states",)


@pytest.mark.parametrize("by", [0.9, 0.01, -0.01])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_that_are_shifted_by_little_are_refused(tmp_path: Path, by: float, axis: int) -> None:
    affine = oblique()
    affine[axis, 3] += by
    paths = [volume(tmp_path / f"{n}.nii.gz", organ(), each) for n, each in enumerate((affine, oblique()))]
    said = re.search(r"found another affine, up to (.+) mm apart", refusal(*paths))
    assert said
    assert float(said[1]) == pytest.approx(abs(by), abs=1e-5)


def test_rounding_of_an_affine_is_no_other_place(tmp_path: Path) -> None:
    """Some programs write four digits, or 32-bit quaternions."""
    target = volume(tmp_path / "t.nii.gz", organ(), oblique())
    for number, rounded in enumerate((oblique().round(4), oblique().astype(np.float32))):
        prediction = volume(tmp_path / f"{number}.nii.gz", organ(), np.asarray(rounded, np.float64))
        assert np.array_equal(read_pair(prediction, target).prediction, organ() > 0)


def test_rounding_is_no_other_place(tmp_path: Path) -> None:
    target = write_whole(tmp_path / "t.dcm", organ(), oblique())
    nifti = volume(tmp_path / "t.nii.gz", organ(), oblique())
    seg = write_whole(tmp_path / "p.dcm", organ(), moved((0.05, -0.05, 0.05), oblique()))
    for _ in ("with the distance of slices stated", "without"):
        for pair in ((seg, target), (seg, nifti), (nifti, seg)):
            both = read_pair(*pair)
            assert np.array_equal(both.prediction, both.target)
        for path in (seg, target):
            unstate(path, SpacingBetweenSlices=None)


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    seg = write_whole(tmp_path / "a.dcm", organ()[:-1])
    said = "frames of 12 x 11 pixels on slices of 13 x 11"
    assert said in refusal(seg, volume(tmp_path / "t.nii.gz", organ(), UPRIGHT))
    assert said in refusal(seg, write_whole(tmp_path / "t.dcm", organ()))


def test_frames_beyond_the_volume_must_be_empty(tmp_path: Path) -> None:
    """The NIfTI file holds slices 2 and 3 of 6."""
    nifti = volume(tmp_path / "t.nii.gz", organ()[:, :, 2:4], moved((0, 0, 2)))
    lit = write_whole(tmp_path / "a.dcm", organ())
    assert "has foreground in frame 1 of 6 on none of the 2 slices" in refusal(lit, nifti)
    empty = write_whole(tmp_path / "b.dcm", slices(2, 3), keep_empty=True)
    assert len(pydicom.dcmread(empty).PerFrameFunctionalGroupsSequence) == 6
    assert read_pair(empty, nifti).prediction.sum() == slices(2, 3).sum()


def test_repeats_at_one_place_are_refused(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.dcm", organ())
    reorder(path, [0, 1, 2, 3, 4, 5, 1])
    said = "frames 2 and 7 of one segment at one place (repeats, or phases)"
    assert said in refusal(path, volume(tmp_path / "t.nii.gz", organ(), UPRIGHT))
    assert said in refusal(path, write_whole(tmp_path / "t.dcm", organ()))


def test_another_frame_of_reference_is_another_scan(tmp_path: Path) -> None:
    target = write_whole(tmp_path / "t.dcm", organ())
    other = write_whole(tmp_path / "p.dcm", organ(), series="1.2.9")
    said = refusal(other, target)
    assert "found another frame of reference: masks of two scans" in said
    assert "export the labels as NIfTI" in said
    assert "1.2." not in said
    unstated = write_whole(tmp_path / "u.dcm", organ(), FrameOfReferenceUID=None)
    for pair in ((unstated, target), (target, unstated), (other, unstated)):
        both = read_pair(*pair)
        assert np.array_equal(both.prediction, both.target)
        assert both.cautions == ()


def test_a_missing_prediction_is_an_empty_one(tmp_path: Path) -> None:
    pair = read_pair(None, write_whole(tmp_path / "t.dcm", organ()))
    assert (pair.target.sum(), pair.prediction.sum()) == (organ().sum(), 0)
    assert pair.prediction.shape == SHAPE
    assert pair.cautions == ("no prediction file", PART)
    assert not pair.whole
    assert read_pair(None, volume(tmp_path / "t.nii.gz", organ(), UPRIGHT)).cautions == (
        "no prediction file",
    )


def test_nothing_found_by_predict_is_an_empty_prediction(tmp_path: Path) -> None:
    """One empty frame says so, on the first of the slices."""
    sources = KINDS["series"](tmp_path)
    nothing = spooled([np.zeros((30, 37), np.bool_)] * 5)
    write_seg(sources, [segment("polyp", nothing)], ORIGIN, tmp_path / "p.dcm")
    write_seg(sources, [segment("polyp", spooled(blobs(5, 2, (0,))))], ORIGIN, tmp_path / "t.dcm")
    pair = read_pair(tmp_path / "p.dcm", tmp_path / "t.dcm")
    assert pair.target.shape == (37, 30, 5)
    assert not pair.prediction.any()
    assert pair.cautions == (PART,)
    swapped = read_pair(tmp_path / "t.dcm", tmp_path / "p.dcm")
    assert (swapped.cautions, swapped.whole) == ((PART,), False)
    assert read_pair(tmp_path / "p.dcm", tmp_path / "p.dcm").cautions == ()  # HD95 is 0


def test_a_single_slice_of_a_volume_scores_as_in_the_volume(tmp_path: Path) -> None:
    segs = [write_whole(tmp_path / f"{at}.dcm", slices(3, at=at)) for at in (0, 2)]
    niftis = [volume(tmp_path / f"{at}.nii.gz", slices(3, at=at), UPRIGHT) for at in (0, 2)]
    expected = scores(read_pair(*niftis))
    pair = read_pair(*segs)
    assert (pair.target.shape, pair.whole) == ((*SHAPE[:2], 1), False)
    assert read_mask_file(segs[0]).mask.shape == pair.target.shape
    assert scores(pair) == pytest.approx(expected, rel=1e-5)
    assert scores(read_pair(segs[0], niftis[1])) == pytest.approx(expected, rel=1e-5)
    unstate(segs[0], "SpacingBetweenSlices")  # the other still states it
    assert scores(read_pair(*segs)) == pytest.approx(expected, rel=1e-5)


def test_a_single_slice_of_no_volume_is_measured_as_a_plane(tmp_path: Path) -> None:
    paths = [write_whole(tmp_path / f"{at}.dcm", slices(3, at=at)) for at in (0, 2)]
    for path in paths:
        unstate(path, "SpacingBetweenSlices")
    pair = read_pair(*paths)
    assert pair.whole
    assert pair.target.shape == SHAPE[:2]
    assert scores(pair)["hd95"] == pytest.approx(2 * 0.7)
    assert pair.element == pytest.approx(ML)
    flat = moved((0, 0, 3))
    niftis = [volume(tmp_path / f"{at}.nii", slices(3, at=at)[:, :, 3:4], flat) for at in (0, 2)]
    for mixed in (read_pair(*niftis), read_pair(paths[0], niftis[1])):
        assert scores(mixed) == pytest.approx(scores(pair), rel=1e-5)
    for path in paths:
        unstate(path, "SliceThickness")
    pair = read_pair(*paths)
    assert pair.element == pytest.approx(ML / 2.5)
    assert pair.cautions == ("no slice thickness is stated: 1 mm is taken",)


def test_of_a_seg_alone_no_size_class_is_told(tmp_path: Path) -> None:
    """Its frames say nothing of how large the whole is."""
    prediction, target = (write_whole(tmp_path / f"{name}.seg.dcm", organ(), oblique()) for name in "pt")
    (row,) = score_cases([CasePair("a", prediction, target)], workers=0).rows
    assert row.scores["dice"] == 1
    assert (row.elements, row.size_class) == (0, None)
