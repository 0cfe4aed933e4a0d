from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.formats.generators import write_dicom, write_nifti
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.scan import Description, Reading, describe, find_scans

CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def _slice(path: Path, number: float, shape: tuple[int, int] = (3, 3), **elements: Any) -> Path:
    position = {"ImagePositionPatient": [0.0, 0.0, float(number)]}
    return write_dicom(path, np.zeros(shape, np.uint8), **{**position, **elements})


def test_descriptions(tmp_path: Path) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    write_nifti(tmp_path / "b.nii.gz", np.zeros((4, 5, 6), np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]))
    write_nifti(tmp_path / "c.nii", np.zeros((4, 5, 6), np.uint8), np.diag([1.0, 4.0, 1.0, 1.0]))
    turned = np.eye(4)
    turned[:3, :3] = [[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]]
    write_nifti(tmp_path / "d.nii", np.zeros((4, 5, 6), np.uint8), turned @ np.diag([1.0, 1.0, 2.0, 1.0]))
    for number in range(3):
        _slice(
            tmp_path / "e" / str(number),
            2.0 * number,
            (3, 5),
            SeriesDescription="Head 2.0",
            PixelSpacing=[0.5, 0.25],
        )
    _slice(tmp_path / "f" / "0", 0, ImageOrientationPatient=CORONAL, SeriesInstanceUID="1.2.5")
    founds, problems = find_scans([tmp_path])
    assert not problems
    described = [describe(found) for found in founds]
    rounded = [
        replace(each, spacing=each.spacing and tuple(round(length, 4) for length in each.spacing))
        for each in described
    ]
    assert rounded == [
        Description("picture", 1, (4, 3)),
        Description("nifti", 6, (4, 5), (1.0, 1.0, 3.0), "axial"),
        Description("nifti", 5, (4, 6), (1.0, 4.0, 1.0), "coronal"),
        Description("nifti", 6, (4, 5), (1.0, 1.0, 2.0), "oblique"),
        Description("dicom", 3, (5, 3), (0.25, 0.5, 2.0), "axial", "Head 2.0"),
        Description("dicom", 1, (3, 3), (1.0, 1.0), "coronal"),
    ]


def test_the_spacing_of_tilted_slices_is_their_distance_not_the_oblique_step(tmp_path: Path) -> None:
    for number in range(3):
        _slice(tmp_path / "ct" / str(number), 0, ImagePositionPatient=[0.0, 3.0 * number, 4.0 * number])
    sheared = np.diag([1.0, 2.0, 4.0, 1.0])
    sheared[1, 2] = 3.0
    write_nifti(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8), sheared)
    volume, series = find_scans([tmp_path])[0]
    assert describe(series).spacing == pytest.approx((1, 1, 4))
    assert describe(volume).spacing == pytest.approx((1, 2, 4))
    # Along another axis of the same grid, the planes follow one another more closely than its voxels do.
    assert describe(volume, Reading(axis=1)).spacing == pytest.approx((1, 2 * 4 / 5, 5))


def test_the_description_of_uneven_slices_says_why_there_is_no_volume(tmp_path: Path) -> None:
    for number in (0, 1, 2, 7):
        _slice(tmp_path / "ct" / str(number), number, PixelSpacing=[2.0, 1.0])
    (found,) = find_scans([tmp_path])[0]
    description = describe(found)
    assert (description.frames, description.spacing, description.orientation) == (4, (1.0, 2.0), "axial")
    assert description.note
    assert "distance" in description.note


def test_describing_reads_no_pixels_and_refuses_what_is_no_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("no picture")
    (found,) = find_scans([tmp_path])[0]
    with pytest.raises(UnreadableFile, match="not a picture"):
        describe(found)


@pytest.mark.skipif(not (SHARED / "dicom-ct-ge-head").is_dir(), reason="the real series is not here")
def test_a_real_series_with_changing_tilt() -> None:
    founds, problems = find_scans([SHARED / "dicom-ct-ge-head"])
    assert not [problem for problem in problems if not problem.harmless]
    assert [len(found.files) for found in founds] == [28]
    description = describe(founds[0])
    assert (description.frames, description.size) == (28, (512, 512))
    assert description.orientation == "axial"
    assert description.note
