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


def in_volume(
    path: Path, values: NDArray[Any], label: int | None = None, slope: float = 1, truth: bool = True
) -> Marked:
    image = nibabel.Nifti1Image(values, np.eye(4))
    if slope != 1:
        image.header.set_slope_inter(slope, 0)
        image.header.set_data_dtype(np.uint8)
    nibabel.save(image, path)
    return marked_in_volume(read_stored(path), label, truth=truth)


def drawn(values: Sequence[float], kind: type[np.generic] = np.float32) -> NDArray[Any]:
    """Each of the values somewhere; slices of one value too."""
    cube = np.random.default_rng(0).choice(np.array(values, kind), (6, 5, 6))
    cube[:, :, 1], cube[:, :, 3] = values[0], values[-1]
    return cube


@pytest.mark.parametrize("value", [255, 200, 128, 1])
def test_bright_pixels_are_foreground_and_ones_where_there_is_nothing_else(
    tmp_path: Path, value: int
) -> None:
    marked = marked_in_picture(picture(tmp_path / "m.png", block(), value), truth=True)
    assert np.array_equal(marked.mask, block())
    assert marked.cautions == ()
    assert not marked_in_picture(picture(tmp_path / "empty.png", block() & False), truth=True).mask.any()


@pytest.mark.parametrize("value", [2, 7, 127])
def test_dim_pictures_are_not_taken_for_empty_masks(tmp_path: Path, value: int) -> None:
    path = picture(tmp_path / "m.png", block(), value)
    with pytest.raises(UnreadableFile, match=rf"m\.png: .* up to {value} only.* --label"):
        marked_in_picture(path, truth=True)
    assert np.array_equal(marked_in_picture(path, value, truth=True).mask, block())


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
    assert (marked_in_picture(tmp_path / "m.jpg", truth=True).mask != true).mean() < 0.01


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    shades = (x * 3 + y).astype(np.uint8)
    for values in (shades, np.stack([shades, shades // 2, shades // 3], axis=2)):
        path = saved(tmp_path / "a.png", values)
        with pytest.raises(
            UnreadableFile, match=r"a\.png: looks like a photograph or prob.*: \d\d% of its"
        ):
            marked_in_picture(path, truth=True)


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
        assert marked_in_picture(path, truth=True).cautions == ()
        image = path.parent.with_name(images[path.parent.name]) / path.name
        with pytest.raises(UnreadableFile, match="looks like a photograph"):
            marked_in_picture(image, truth=True)


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
                marked_in_picture(path, label, truth=True)
    for number, (grey, opacity) in enumerate(((black + 255, alpha), (alpha, alpha), (alpha, black + 255))):
        marked = marked_in_picture(
            layered(f"{number}.png", grey.astype(np.uint8), opacity.astype(np.uint8)), truth=True
        )
        assert np.array_equal(marked.mask, block())
    assert not marked_in_picture(layered("empty.png", black, black), truth=True).mask.any()


@pytest.mark.parametrize("others", [(1,), (3,), (255,), (1, 2, 12)])
def test_a_case_may_lack_a_class(tmp_path: Path, others: tuple[int, ...]) -> None:
    """A liver without a tumour holds 0 and 1, and that there is no 2 is an answer."""
    values = drawn((0, *others), np.uint8)
    said = (f"label 7 is not in this file, which has labels up to {max(others)}",)
    for marked in (
        in_volume(tmp_path / "m.nii.gz", values, 7),
        marked_in_picture(saved(tmp_path / "m.png", values[:, :, 0]), 7, truth=True),
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
        ((0, 0.25), ("a single value, 0.25, is taken as foreground",)),
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


def squares(*values: int, kind: type[np.generic] = np.uint8) -> NDArray[Any]:
    """A square of 8 x 8 pixels of each of the values, in black."""
    drawn = np.zeros((16, 16 * len(values)), kind)
    for number, value in enumerate(values):
        drawn[4:12, 16 * number + 4 : 16 * number + 12] = value
    return drawn


def paletted(path: Path, numbers: NDArray[np.uint8], colours: Sequence[int]) -> Path:
    image = Image.fromarray(numbers)
    image.putpalette(list(colours))
    image.save(path)
    return path


@pytest.mark.parametrize("values", [(85, 170, 255), (128, 255), (255, 128), (127, 255), (31, 255)])
def test_several_shades_that_fill_areas_are_labels(tmp_path: Path, values: tuple[int, ...]) -> None:
    path = saved(tmp_path / "m.png", squares(*values))
    listed = ", ".join(map(str, sorted((0, *values))))
    with pytest.raises(UnreadableFile, match=rf"looks like a label map \(values {listed}\): .*--label"):
        marked_in_picture(path, truth=True)
    for value in values:
        assert np.array_equal(marked_in_picture(path, value, truth=True).mask, squares(*values) == value)
    cut = marked_in_picture(path, truth=False)
    assert np.array_equal(cut.mask, squares(*values) > 127)
    if min(values) < 225 and max(values) - min(values) > 30:
        assert cut.cautions == (f"not two-valued: {len(values) + 1} shades, cut at 127",)


@pytest.mark.parametrize("values", [(12, 14, 23, 255), (1, 200), (246, 255), (195, 200, 204)])
def test_noise_in_the_dark_or_the_bright_is_no_label(tmp_path: Path, values: tuple[int, ...]) -> None:
    path = saved(tmp_path / "m.png", squares(*values))
    for truth in (True, False):
        marked = marked_in_picture(path, truth=truth)
        assert np.array_equal(marked.mask, squares(*values) > 127)
        assert marked.cautions == ()


@pytest.mark.parametrize("soft", [2, 3])
def test_soft_edges_of_few_shades_are_no_labels(tmp_path: Path, soft: int) -> None:
    """Antialiased, and made larger afterwards."""
    large = Image.fromarray(np.rint(disc() * 255).astype(np.uint8)).resize((64 * soft // 2,) * 2)
    values = np.asarray(large) // 8 * 8
    path = saved(tmp_path / "m.png", values)
    assert 2 < len(np.unique(values)) <= 64
    assert np.array_equal(marked_in_picture(path, truth=True).mask, values > 127)


def test_palettes_of_several_colours_are_labels_and_those_of_greys_are_not(tmp_path: Path) -> None:
    colours = [0, 0, 0, 128, 0, 0, 0, 128, 0, 64, 0, 0]
    path = paletted(tmp_path / "m.png", squares(1, 2, 3), colours)
    with pytest.raises(UnreadableFile, match=r"label map \(numbers 1, 2, 3 of a palette\): .*--label"):
        marked_in_picture(path, truth=True)
    assert np.array_equal(marked_in_picture(path, 3, truth=True).mask, squares(1, 2, 3) == 3)
    cut = marked_in_picture(path, truth=False)
    assert np.array_equal(cut.mask, (squares(1, 2, 3) % 3) > 0)
    assert len(cut.cautions) == 1
    for numbers, palette in ((squares(1), colours), (squares(1, 2), [0, 0, 0, 255, 255, 255, 5, 5, 5])):
        path = paletted(tmp_path / "one.png", numbers, palette)
        for truth in (True, False):
            marked = marked_in_picture(path, truth=truth)
            assert np.array_equal(marked.mask, numbers == 1)
            assert marked.cautions == ()


def soft_blob(peak: int, width: float = 40) -> NDArray[np.uint8]:
    """As a model's probabilities are."""
    y, x = np.mgrid[:64, :64] - 31.5
    return np.asarray(np.exp(-(y**2 + x**2) / (2 * width**2)) * peak).astype(np.uint8)


@pytest.mark.parametrize("width", [4, 12, 40])
def test_soft_predictions_are_cut_and_never_lost(tmp_path: Path, width: float) -> None:
    values = soft_blob(255, width)
    marked = marked_in_picture(saved(tmp_path / "p.png", values), truth=False)
    assert np.array_equal(marked.mask, values > 127)
    assert marked.cautions == (f"not two-valued: {len(np.unique(values))} shades, cut at 127",)
    dim = marked_in_picture(saved(tmp_path / "d.png", soft_blob(120, width)), truth=False)
    assert not dim.mask.any()
    assert dim.cautions == (f"values reach {soft_blob(120, width).max()} only, so nothing is marked",)


def test_predictions_of_colours_hold_no_label(tmp_path: Path) -> None:
    colours = np.stack([squares(255), squares(10), squares(0)], axis=2)
    path = saved(tmp_path / "p.png", colours)
    marked = marked_in_picture(path, 2, truth=False)
    assert marked.mask.shape == (16, 16)
    assert not marked.mask.any()
    assert marked.cautions == ("no label numbers (colours, fractions): nothing is marked",)
    with pytest.raises(UnreadableFile, match="colours"):
        marked_in_picture(path, 2, truth=True)
    (tmp_path / "b.png").write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableFile, match=r"b\.png"):
        marked_in_picture(tmp_path / "b.png", 2, truth=False)


@pytest.mark.parametrize(
    ("values", "cut", "says"),
    [
        ((0, 0.01, 0.98), 0.5, "fractions up to 0.980, cut at 0.5"),
        ((0, 0.01, 0.3), 0.5, "fractions up to 0.300, cut at 0.5"),
        ((1, 0, 0.5), 0.5, "fractions up to 1.000, cut at 0.5"),
        ((0, 1, 0, 0.7, 0), 0.5, "fractions up to 1.000, cut at 0.5"),
        ((0, 0.25), 0, "a single value, 0.25, is taken as foreground"),
        ((-3.5, 0, 4.25), 0, "fractions from -3.500 to 4.250, cut at 0"),
        ((0, -1), 0, "no values above 0, but some below, so nothing is marked"),
        ((0, 1, 2), 0, "2 labels taken together as foreground"),
        (range(300), 0, "more than 256 different values, cut at 0"),
    ],
)
def test_volumes_of_predictions_are_cut(
    tmp_path: Path, values: Sequence[float], cut: float, says: str
) -> None:
    cube = np.random.default_rng(0).choice(np.array(values, np.float32), (20, 20, 6))
    cube[:, :, 0] = values[0]  # what kind of file it is shows later
    marked = in_volume(tmp_path / "p.nii.gz", cube, truth=False)
    assert np.array_equal(marked.mask, cube > cut)
    assert marked.cautions[0] == says
    assert not any("; " in caution for caution in marked.cautions)


def test_predictions_of_fractions_may_hold_a_label(tmp_path: Path) -> None:
    values = drawn((0, 0.5, 1))
    marked = in_volume(tmp_path / "p.nii.gz", values, 1, truth=False)
    assert np.array_equal(marked.mask, values == 1)
    assert marked.cautions == ("fractions such as 0.500 are no labels",)
    marked = in_volume(tmp_path / "p.nii.gz", values, 2, truth=False)
    assert not marked.mask.any()
    assert "label 2 is not in this file" in marked.cautions[0]
    for label in (None, 1):
        with pytest.raises(UnreadableFile, match="NaN"):
            in_volume(tmp_path / "n.nii.gz", drawn((0, np.nan, 1)), label, truth=False)


def test_images_are_no_targets(tmp_path: Path) -> None:
    said = "looks like an image, not a mask: more than {} different values"
    atlas = np.arange(258 * 6).reshape(258, 1, 6) // 6
    for values, most in ((atlas, 256), (drawn(range(-9, 9)), 16)):
        with pytest.raises(UnreadableFile, match=said.format(most)):
            in_volume(tmp_path / "a.nii.gz", values.astype(np.int16))
        assert in_volume(tmp_path / "a.nii.gz", values.astype(np.int16), 3).mask.any()
    assert in_volume(tmp_path / "b.nii.gz", atlas[:257].astype(np.int16)).mask.any()
    assert in_volume(tmp_path / "c.nii.gz", drawn(range(-8, 9)).astype(np.int16)).mask.any()
    late = atlas.astype(np.float32)
    late[0, 0, 5] = 0.5
    with pytest.raises(UnreadableFile, match=r"fractions such as 0\.5"):
        in_volume(tmp_path / "d.nii.gz", late, 3)
