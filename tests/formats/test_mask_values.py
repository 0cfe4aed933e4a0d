"""Which values are foreground, and which are those of no mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.masks import block, picture
from tests.shared import SHARED
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.mask_values import Marked, marked_in_picture, marked_in_volume
from vlsmctl.formats.nifti_voxels import read_stored


def saved(path: Path, values: NDArray[Any]) -> Path:
    Image.fromarray(values).save(path)
    return path


def in_volume(path: Path, values: NDArray[Any], label: int | None = None, slope: float = 1) -> Marked:
    image = nibabel.Nifti1Image(values, np.eye(4))
    if slope != 1:
        image.header.set_slope_inter(slope, 0)
        image.header.set_data_dtype(np.uint8)
    nibabel.save(image, path)
    return marked_in_volume(read_stored(path), label)


def drawn(values: Sequence[float], kind: type[np.generic] = np.float32) -> NDArray[Any]:
    """Each of the values somewhere; slices of one value too."""
    cube = np.random.default_rng(0).choice(np.array(values, kind), (6, 5, 6))
    cube[:, :, 1], cube[:, :, 3] = values[0], values[-1]
    return cube


@pytest.mark.parametrize("value", [255, 200, 128, 1])
def test_bright_pixels_are_foreground_and_ones_where_there_is_nothing_else(
    tmp_path: Path, value: int
) -> None:
    marked = marked_in_picture(picture(tmp_path / "m.png", block(), value))
    assert np.array_equal(marked.mask, block())
    assert marked.cautions == ()
    assert not marked_in_picture(picture(tmp_path / "empty.png", block() & False)).mask.any()


@pytest.mark.parametrize("value", [2, 7, 127])
def test_dim_pictures_are_not_taken_for_empty_masks(tmp_path: Path, value: int) -> None:
    path = picture(tmp_path / "m.png", block(), value)
    with pytest.raises(UnreadableFile, match=rf"m\.png: .* up to {value} only.* --label .*--pred-label"):
        marked_in_picture(path)
    assert np.array_equal(marked_in_picture(path, value).mask, block())


def disc() -> NDArray[np.float64]:
    """1 inside, 0 outside, soft in between, on 64 x 64 pixels."""
    y, x = np.mgrid[:64, :64] - 31.5
    return np.asarray((21.5 - np.hypot(y, x)).clip(0, 3) / 3)


@pytest.mark.parametrize("quality", [95, 75, 30])
@pytest.mark.parametrize("bright", [255, 200])
def test_soft_edges_and_noise_of_jpeg_are_no_photograph(tmp_path: Path, bright: int, quality: int) -> None:
    grey = Image.fromarray(np.rint(disc() * bright).astype(np.uint8))
    grey.save(tmp_path / "m.jpg", quality=quality)
    true = disc() > 127 / bright
    assert (marked_in_picture(tmp_path / "m.jpg").mask != true).mean() < 0.01


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    shades = (x * 3 + y).astype(np.uint8)
    for values in (shades, np.stack([shades, shades // 2, shades // 3], axis=2)):
        path = saved(tmp_path / "a.png", values)
        with pytest.raises(
            UnreadableFile, match=r"a\.png: looks like a photograph or prob.*: \d\d% of its"
        ):
            marked_in_picture(path)


@pytest.mark.parametrize(
    "masks",
    ["fuseg/*/labels/*.png", "CVC-ClinicDB/Ground Truth/*.tif", "kvasir-seg-sample/Kvasir-SEG/masks/*.jpg"],
)
def test_public_masks_are_read_and_their_images_refused(masks: str) -> None:
    paths = sorted(SHARED.glob(masks))[:12]
    if not paths:
        pytest.skip("the public data are not here")
    images = {"labels": "images", "Ground Truth": "Original", "masks": "images"}
    for path in paths:
        assert marked_in_picture(path).cautions == ()
        image = path.parent.with_name(images[path.parent.name]) / path.name
        with pytest.raises(UnreadableFile, match="looks like a photograph"):
            marked_in_picture(image)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_in_the_alpha_channel_alone_is_not_taken_for_an_empty_one(tmp_path: Path, mode: str) -> None:
    alpha = block().astype(np.uint8) * np.uint8(255)

    def layered(name: str, grey: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> Path:
        return saved(tmp_path / name, np.stack([*[grey] * (len(mode) - 1), opacity], axis=2))

    black, hidden = alpha * np.uint8(0), np.uint8(255) - alpha
    for path in (layered("a.png", black, alpha), layered("b.png", alpha, hidden)):
        for label in (None, 255):
            with pytest.raises(
                UnreadableFile, match="all black, and some of it transparent: a mask in the"
            ):
                marked_in_picture(path, label)
    for number, (grey, opacity) in enumerate(((black + 255, alpha), (alpha, alpha), (alpha, black + 255))):
        marked = marked_in_picture(
            layered(f"{number}.png", grey.astype(np.uint8), opacity.astype(np.uint8))
        )
        assert np.array_equal(marked.mask, block())
    assert not marked_in_picture(layered("empty.png", black, black)).mask.any()


def test_a_mask_of_one_class_is_not_searched_for_another_label(tmp_path: Path) -> None:
    path = picture(tmp_path / "m.png", block())
    said = "expected label 7, found the values 0 and 255 alone: a mask of one class, which needs no label"
    with pytest.raises(UnreadableFile, match=said):
        marked_in_picture(path, 7)
    with pytest.raises(UnreadableFile, match=said):
        in_volume(tmp_path / "m.nii.gz", drawn((0, 255), np.uint8), 7)
    assert np.array_equal(marked_in_picture(path, 255).mask, block())


@pytest.mark.parametrize("others", [(1,), (3,), (1, 2, 12)])
def test_a_case_may_lack_a_class(tmp_path: Path, others: tuple[int, ...]) -> None:
    """A liver without a tumour holds 0 and 1, and that there is no 2 is an answer."""
    values = drawn((0, *others), np.uint8)
    said = (f"label 7 is not in this file, which has labels up to {max(others)}",)
    for marked in (
        in_volume(tmp_path / "m.nii.gz", values, 7),
        marked_in_picture(saved(tmp_path / "m.png", values[:, :, 0]), 7),
    ):
        assert not marked.mask.any()
        assert marked.cautions == said
    assert in_volume(tmp_path / "e.nii.gz", values * 0, 7).cautions == ()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 255), ()),
        ((0, 1), ()),
        ((0,), ()),
        ((0, 0.25), ()),
        ((0, 1, 2), ("2 labels taken together as foreground",)),
        ((0, 300, 70000), ("2 labels taken together as foreground",)),
        ((-1, 0, 1), ("negative values are not foreground",)),
    ],
)
def test_what_a_volume_holds_is_said(
    tmp_path: Path, values: tuple[float, ...], says: tuple[str, ...]
) -> None:
    marked = in_volume(tmp_path / "a.nii.gz", drawn(values))
    assert np.array_equal(marked.mask, drawn(values) > 0)
    assert marked.cautions == says


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 0.01, 0.98), "found fractions such as 0.98: probabilities"),
        ((0, 1, 0.5), "found fractions such as 0.5: probabilities"),
        ((0, np.nan, 1), r"found values that are no numbers \(NaN, infinity\)"),
        ((0, np.inf, 1), r"found values that are no numbers \(NaN, infinity\)"),
        ((0, -1), "found no values above 0, but some below"),
        ((-2, -1), "found no values above 0, but some below"),
    ],
)
def test_volumes_of_no_mask_are_refused(tmp_path: Path, values: tuple[float, ...], says: str) -> None:
    with pytest.raises(UnreadableFile, match=rf"a\.nii\.gz: expected .*{says}"):
        in_volume(tmp_path / "a.nii.gz", drawn(values))


def test_probabilities_that_are_low_everywhere_are_refused_as_well(tmp_path: Path) -> None:
    low = np.random.default_rng(0).random((6, 5, 4), np.float32) * 0.01
    for label in (None, 1):
        with pytest.raises(UnreadableFile, match=r"fractions such as 0\.00"):
            in_volume(tmp_path / "a.nii.gz", low, label)


@pytest.mark.parametrize("label", [None, 2, 3])
def test_what_scaling_makes_of_whole_numbers_is_whole(tmp_path: Path, label: int | None) -> None:
    """Labels stored as a fraction of 255."""
    values = drawn((0, 1, 2, 3))
    marked = in_volume(tmp_path / "a.nii", values * 85, label, slope=1 / 85)
    assert np.array_equal(marked.mask, values > 0 if label is None else values == label)
    residue = values + np.float32(3e-6)
    assert np.array_equal(in_volume(tmp_path / "b.nii", residue, label).mask, marked.mask)
