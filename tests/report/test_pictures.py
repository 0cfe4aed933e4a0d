from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.formats.generators import write_dicom
from tests.formats.seg_fakes import ORIGIN, segment
from tests.report.fakes import disc, save
from vlsmctl.evaluation import Row, score_cases
from vlsmctl.formats.scan import find_scans, open_scan
from vlsmctl.formats.spool import Spool
from vlsmctl.pairing import CasePair
from vlsmctl.report.pictures import LARGEST, Drawn, chosen, draw, outline


def row(name: str, dice: float, predicted: int = 5, target: int = 5, prompt: str | None = None) -> Row:
    pair = CasePair(name, None, Path("m.png"), prompt=prompt)
    return Row(pair, {"dice": dice}, "px", target, predicted, 100)


def ids(rows: list[Row]) -> list[str]:
    return [one.pair.id for one in rows]


def test_worst_median_and_best() -> None:
    rows = [row(f"c{n:02d}", n / 20) for n in (7, 3, 0, 11, 9, 5, 1, 13, 2, 4, 6, 8, 10, 12, 14)]
    found = chosen(rows, 3)
    assert ids(found["worst"]) == ["c00", "c01", "c02"]
    assert ids(found["median"]) == ["c06", "c07", "c08"]
    assert ids(found["best"]) == ["c14", "c13", "c12"]


@pytest.mark.parametrize("count", range(12))
def test_no_image_is_shown_twice(count: int) -> None:
    rows = [row(f"c{n}", n / 20, prompt=prompt) for n in range(count) for prompt in ("a", "b")]
    found = chosen(rows, 3)
    shown = [name for group in found.values() for name in ids(group)]
    assert len(shown) == len(set(shown)) == min(count, 9)
    if count:
        assert found["worst"][0].pair.id == "c0"
    if count > 1:
        assert found["best"][0].pair.id == f"c{count - 1}"


def test_failed_cases_are_no_pictures_and_empty_ones_not_the_best() -> None:
    empty, failed = row("empty", 1.0, 0, 0), replace(row("failed", 0), scores={})
    found = chosen([empty, failed, row("a", 0.2), row("b", 0.5), row("c", 0.9)], 1)
    assert ids(found["best"]) == ["c"]
    assert "failed" not in [name for group in found.values() for name in ids(group)]


def test_outlines_go_around_the_mask_and_its_holes() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:5, 2:7] = True
    mask[2:4, 4] = False
    paths = outline(mask).split("z")[:-1]
    assert len(paths) == 2
    corners = [_corners(path) for path in paths]
    whole = max(corners, key=lambda points: float(np.ptp(points[:, 0])))
    assert (whole.min(axis=0).tolist(), whole.max(axis=0).tolist()) == ([2, 1], [7, 5])
    assert outline(np.zeros((4, 4), bool)) == ""
    full = _corners(outline(np.ones((4, 6), bool)))  # up to the edge of the picture
    assert (full.min(axis=0).tolist(), full.max(axis=0).tolist()) == ([0, 0], [6, 4])


def _corners(path: str) -> np.ndarray:
    numbers = [float(text) for text in re.findall(r"-?[\d.]+", path)]
    return np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)


def case(root: Path, truth: np.ndarray, found: np.ndarray | None, image: np.ndarray | None) -> Row:
    pair = CasePair(
        "case", None if found is None else save(root / "p.png", found), save(root / "t.png", truth),
        image=None if image is None else save(root / "i.png", image),
    )  # fmt: skip
    return score_cases([pair], workers=0).rows[0]


def pixels(drawn: Drawn) -> np.ndarray:
    kind, _, content = drawn.image.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_a_case_with_its_picture(tmp_path: Path) -> None:
    image = np.full((40, 60, 3), (200, 40, 40), np.uint8)
    truth = np.zeros((40, 60), bool)
    truth[10:20, 5:30] = True
    drawn = draw(case(tmp_path, truth, None, image))
    assert isinstance(drawn, Drawn)
    assert drawn.size == (60, 40)
    assert drawn.truth
    assert drawn.prediction == ""
    assert np.abs(pixels(drawn).astype(int) - (200, 40, 40)).max() < 12


def test_large_pictures_are_made_small_with_their_outlines(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3)).astype(np.uint8)
    truth = np.zeros((900, 1200), bool)
    truth[300:600, 400:800] = True
    drawn = draw(case(tmp_path, truth, truth, noise))
    assert isinstance(drawn, Drawn)
    assert drawn.size == (480, 360)
    assert len(drawn.image) < 1.4 * LARGEST
    corners = _corners(drawn.truth)
    assert np.abs(corners.min(axis=0) - (160, 120)).max() <= 1
    assert np.abs(corners.max(axis=0) - (320, 240)).max() <= 1


def test_a_ragged_mask_is_drawn_into_the_picture(tmp_path: Path) -> None:
    speckle = np.random.default_rng(0).random((300, 300)) > 0.5
    drawn = draw(case(tmp_path, disc(150, 150, 80, 300), speckle, np.zeros((300, 300, 3), np.uint8)))
    assert isinstance(drawn, Drawn)
    assert drawn.in_image
    assert drawn.truth == drawn.prediction == ""
    assert pixels(drawn).max() > 100


def test_without_a_picture_the_true_mask_is_grey(tmp_path: Path) -> None:
    truth = disc(20, 20, 9, 48)
    scored = case(tmp_path, truth, truth, None)
    drawn = draw(scored)
    assert isinstance(drawn, Drawn)
    assert "not known" in drawn.note
    assert pixels(drawn)[20, 20].max() < 230 < pixels(drawn)[40, 40].min()
    (tmp_path / "i.png").write_bytes(b"no picture")
    drawn = draw(replace(scored, pair=replace(scored.pair, image=tmp_path / "i.png")))
    assert isinstance(drawn, Drawn)
    assert "i.png" in drawn.note
    assert str(tmp_path) not in drawn.note
    other = save(tmp_path / "other.png", np.zeros((10, 10, 3), np.uint8))
    drawn = draw(replace(scored, pair=replace(scored.pair, image=other)))
    assert isinstance(drawn, Drawn)
    assert "another" in drawn.note


def test_masks_that_are_gone_give_a_reason_without_the_folder(tmp_path: Path) -> None:
    scored = case(tmp_path, disc(20, 20, 9, 48), disc(20, 20, 9, 48), None)
    (tmp_path / "t.png").unlink()
    said = draw(scored)
    assert isinstance(said, str)
    assert said.startswith("t.png: ")
    assert str(tmp_path) not in said


AFFINE = np.array([[-0.5, 0, 0, 9], [0, 0.5, 0, -4], [0, 0, 3.0, 2], [0, 0, 0, 1]])


def volumes(root: Path, image_affine: np.ndarray = AFFINE) -> Row:
    """The target is largest in slice 4 (counted from 0), and touches the patient's right and back there."""
    truth = np.zeros((20, 30, 7), np.uint8)
    truth[2:5, 4:9, 2] = 1
    truth[2:9, 4:12, 4] = 1
    values = np.zeros((20, 30, 7), np.int16)
    values[:, :, 4] = 50
    values[2:9, 4:12, 4] = 200
    paths = [root / f"{name}.nii.gz" for name in ("truth", "found", "image")]
    for path, array, affine in zip(
        paths, (truth, truth, values), (AFFINE, AFFINE, image_affine), strict=True
    ):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return score_cases([CasePair("v", paths[1], paths[0], image=paths[2])], workers=0).rows[0]


def test_a_volume_shows_the_slice_with_the_largest_target(tmp_path: Path) -> None:
    drawn = draw(volumes(tmp_path))
    assert isinstance(drawn, Drawn)
    assert drawn.note == "slice 5 of 7"
    assert drawn.size == (20, 30)
    shown, corners = pixels(drawn)[..., 0], _corners(drawn.truth)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    assert (left, right, bottom - top) == (2, 9, 8)  # the patient's right is on the left as it is stored
    assert bottom == 30 - 4  # and the back at the bottom
    inside = shown[int(top) + 2 : int(bottom) - 2, int(left) + 2 : int(right) - 2]
    assert inside.min() > 150 > shown[:8, 14:].max()


def test_a_scan_on_another_grid_is_not_shown_below_the_masks(tmp_path: Path) -> None:
    drawn = draw(volumes(tmp_path, np.diag([0.5, 0.5, 3.0, 1.0])))
    assert isinstance(drawn, Drawn)
    assert "slice 5 of 7" in drawn.note
    assert "not known" in drawn.note
    assert drawn.truth


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    truth = np.zeros((12, 1, 20), np.uint8)  # a coronal slice
    truth[3:6, 0, 4:9] = 1
    path = tmp_path / "t.nii"
    nibabel.save(nibabel.Nifti1Image(truth, np.diag([1.0, 1.0, 2.5, 1.0])), path)
    drawn = draw(score_cases([CasePair("c", path, path)], workers=0).rows[0])
    assert isinstance(drawn, Drawn)
    assert drawn.size == (12, 20)
    assert drawn.stretch == pytest.approx((1.0, 2.5))


def test_a_segmentation_lies_on_its_dicom_series(tmp_path: Path) -> None:
    marked = np.zeros((24, 32), bool)
    marked[5:12, 20:29] = True
    for number in range(4):
        picture = np.where(marked & (number == 2), 900, 100).astype(np.int16)
        position = [-10.0, -8.0, 2.5 * number]
        write_dicom(tmp_path / "ct" / f"{number}.dcm", picture, ImagePositionPatient=position)
    scan = open_scan(find_scans([tmp_path / "ct"])[0][0])
    spool = Spool((24, 32), np.dtype(bool))
    for number in range(4):
        spool.append(marked & (number == 2))
    assert scan.write_segments is not None
    scan.write_segments([segment("polyp", spool)], ORIGIN, tmp_path / "m.seg.dcm")
    whole = np.zeros((32, 24, 4), np.uint8)
    whole[20:29, 5:12, 2] = 1
    assert scan.geometry is not None
    nibabel.save(nibabel.Nifti1Image(whole, scan.geometry.affine), tmp_path / "m.nii.gz")
    pair = CasePair("s", tmp_path / "m.seg.dcm", tmp_path / "m.nii.gz", image=tmp_path / "ct")
    scored = score_cases([pair], workers=0).rows[0]
    assert scored.scores["dice"] == 1
    drawn = draw(scored)
    assert isinstance(drawn, Drawn)
    assert drawn.note == "slice 3 of 4"
    corners = _corners(drawn.truth)
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([20, 5], [29, 12])
    shown = pixels(drawn)[..., 0]
    assert shown[7:10, 22:27].min() > 200 > 60 > shown[15:, :15].max()
