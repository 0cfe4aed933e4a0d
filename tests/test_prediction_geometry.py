"""Promise 1, through prediction itself: what lies at known millimetres is marked there, whatever the order,
direction, spacing and tilt of the axes, from NIfTI and from DICOM series, into NIfTI and DICOM SEG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from nibabel.affines import apply_affine
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tests.formats.generators import write_dicom, write_nifti
from vlsmctl.cases import Options, plan_cases
from vlsmctl.formats.scan import find_scans
from vlsmctl.ledger import Entry
from vlsmctl.prediction import predict
from vlsmctl.predictor import Picture, Predictor, Ready, Segmented, predictor_from_model
from vlsmctl.runtime import StopFlag

ORIENTATIONS = [
    np.column_stack([order, signs])
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
SPACING = (0.7, 1.3, 2.9)  # mm
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MARKED, STUDY = 900, "1.2.826.0.1.3680043.8.498.3"


def _affine(kind: str) -> NDArray[np.float64]:
    """Voxel -> mm, RAS+, anisotropic. oblique: about a slanted axis; tilted: sheared, as by a gantry."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-31.0, 17.5, -52.25)
    if kind == "oblique":
        turn, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))
        affine[:3, :3] = turn @ affine[:3, :3]
    if kind == "tilted":
        affine[1, 2] = 0.8
    return affine


def _volume() -> NDArray[np.int16]:
    """A blob that no flip or exchange of axes brings onto itself."""
    volume = np.zeros((11, 13, 9), np.int16)
    volume[2:6, 3:5, 1:4] = MARKED
    volume[2:3, 3:9, 1:3] = MARKED
    volume[2, 3, 1:7] = MARKED
    return volume


def _turned(
    volume: NDArray[np.int16], affine: NDArray[np.float64], orientation: NDArray[np.int64]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The same volume at the same place, its axes in another order and direction."""
    return apply_orientation(volume, orientation), affine @ inv_ornt_aff(orientation, volume.shape)


def _places(mask: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """mm of all marked voxels."""
    places: NDArray[np.float64] = apply_affine(affine, np.argwhere(mask))
    return places


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return predictor_from_model("tiny", device=torch.device("cpu"))


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the model: whatever is bright is marked, at native size."""

    def ready(_: Predictor, picture: Picture) -> Ready:
        return Ready(picture, (picture.shape[0], picture.shape[1]))

    def segment(
        _: Predictor, pictures: Sequence[Ready], asked: Sequence[Sequence[int]], *_more: object,
        batch_size: int = 1,
        learned: Sequence[bool] | None = None,
    ) -> list[list[Segmented]]:  # fmt: skip
        return [
            [Segmented(picture.small[..., 0] > 127, 1.0) for _ in rows]
            for picture, rows in zip(pictures, asked, strict=True)
        ]

    monkeypatch.setattr("vlsmctl.prediction.ready", ready)
    monkeypatch.setattr("vlsmctl.machine.segment", segment)


def _predicted(predictor: Predictor, folder: Path, out: Path, **chosen: Any) -> list[Entry]:
    founds, problems = find_scans([folder])
    assert not problems
    options = Options(**chosen)
    cases = plan_cases(founds, [("blob",) for _ in founds], predictor, options)
    entries = predict(predictor, cases, out, options, stop=StopFlag()).entries
    assert {entry.status for entry in entries} == {"done"}, entries
    assert len(entries) == len(ORIENTATIONS)
    return entries


def _assert_in_place(found: NDArray[np.float64], expected: NDArray[np.float64], name: str) -> None:
    assert found.shape == expected.shape, name
    assert np.allclose(found.mean(axis=0), expected.mean(axis=0), atol=1e-3), name
    away, nearest = KDTree(expected).query(found)
    assert away.max() < 5e-3, name
    assert len(set(nearest)) == len(expected), name


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("kind", ["upright", "oblique", "tilted"])
def test_nifti(predictor: Predictor, tmp_path: Path, kind: str, axis: int | None) -> None:
    from vlsmctl.formats.records import Reading

    volume, affine = _volume(), _affine(kind)
    expected = _places(volume, affine)
    for number, orientation in enumerate(ORIENTATIONS):
        write_nifti(tmp_path / "scans" / f"{number}.nii.gz", *_turned(volume, affine, orientation))
    _predicted(predictor, tmp_path / "scans", tmp_path / "out", reading=Reading(axis=axis))
    for number in range(len(ORIENTATIONS)):
        mask = nib.load(tmp_path / "out" / f"{number}.nii.gz")
        _assert_in_place(_places(np.asarray(mask.dataobj), mask.affine), expected, f"{kind} {number}")


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("wanted", ["auto", "nifti"])
@pytest.mark.parametrize("kind", ["upright", "oblique", "tilted"])
def test_dicom_series(predictor: Predictor, tmp_path: Path, kind: str, wanted: str) -> None:
    volume, affine = _volume(), _affine(kind)
    expected = _places(volume, affine)
    for number, orientation in enumerate(ORIENTATIONS):
        # Sheared within the slices, pixels would be no rectangles, and DICOM knows no others.
        if kind == "tilted":
            orientation = _slices_stay(orientation)
        _write_series(tmp_path / "scans" / str(number), *_turned(volume, affine, orientation), number)
    _predicted(predictor, tmp_path / "scans", tmp_path / "out", format=wanted)
    for number in range(len(ORIENTATIONS)):
        name = f"{kind} {number}"
        if wanted == "nifti":
            mask = nib.load(tmp_path / "out" / f"{number}.nii.gz")
            _assert_in_place(_places(np.asarray(mask.dataobj), mask.affine), expected, name)
        else:
            _assert_in_place(_places_in_seg(tmp_path / "out" / f"{number}.seg.dcm"), expected, name)


def _slices_stay(orientation: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same signs; the first two axes exchanged or not, the third in its place."""
    swapped = orientation[0, 0] > orientation[1, 0]
    return np.column_stack([(1, 0, 2) if swapped else (0, 1, 2), orientation[:, 1]])


def _write_series(
    folder: Path, volume: NDArray[np.int16], affine: NDArray[np.float64], number: int
) -> None:
    """Slice by slice along the third axis; names and instance numbers say nothing of the order.

    Source: PS3.3 equation C.7.6.2.1-1; the first axis runs along the rows.
    """
    across, down, start = ((LPS @ affine)[:3, column] for column in (0, 1, 3))
    step = (LPS @ affine)[:3, 2]
    spacing = [float(np.linalg.norm(down)), float(np.linalg.norm(across))]  # from row to row first
    directions = [*(across / spacing[1]), *(down / spacing[0])]
    rng = np.random.default_rng(number)
    names, numbers = rng.permutation(volume.shape[2]), rng.permutation(volume.shape[2])
    for index in range(volume.shape[2]):
        write_dicom(
            folder / f"IM{names[index]:03}",
            np.ascontiguousarray(volume[:, :, index].T),
            ImagePositionPatient=[f"{value:.9g}" for value in start + index * step],
            ImageOrientationPatient=[f"{value:.9g}" for value in directions],
            PixelSpacing=[f"{value:.9g}" for value in spacing],
            InstanceNumber=int(numbers[index]),
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=f"{STUDY}.{number}",
            FrameOfReferenceUID=f"{STUDY}.999",
            WindowCenter=MARKED / 2,
            WindowWidth=MARKED,
        )


def _places_in_seg(path: Path) -> NDArray[np.float64]:
    """mm (RAS+) of all marked pixels, by what the object itself says of its frames."""
    seg = pydicom.dcmread(path)
    shared, places = seg.SharedFunctionalGroupsSequence[0], []
    frames = np.reshape(seg.pixel_array, (-1, seg.Rows, seg.Columns))
    for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        orientation = _either(shared, groups, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _either(shared, groups, "PixelMeasuresSequence").PixelSpacing
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        across, down = np.reshape(np.array(orientation, float), (2, 3))
        rows, columns = np.nonzero(frame)
        places.append(
            np.array(position, float)
            + np.outer(columns, across) * float(spacing[1])
            + np.outer(rows, down) * float(spacing[0])
        )
    return _in_ras(np.concatenate(places))


def _in_ras(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return places * (-1, -1, 1)


def _either(shared: pydicom.Dataset, own: pydicom.Dataset, name: str) -> pydicom.Dataset:
    return (own if name in own else shared)[name][0]
