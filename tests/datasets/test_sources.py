from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.datasets import fakes
from tests.datasets.fakes.camus import write_metaimage
from vlsmctl.datasets.inspection import tasks
from vlsmctl.datasets.records import Item
from vlsmctl.datasets.slices import volume_files
from vlsmctl.datasets.sources import (
    ColourFile,
    Drawn,
    LabelPicture,
    LabelSlice,
    MaskFiles,
    MaskSource,
    Nothing,
    Picture,
    Polygons,
    RunLengths,
    Slice,
    read_image,
    read_mask,
)
from vlsmctl.errors import UnreadableFile

SIZE = (32, 32)
CLASSES = (("neoplastic", (255, 0, 0)), ("benign", (0, 255, 0)))
LABELS = np.zeros(SIZE, np.uint8)
LABELS[2:6, 2:6], LABELS[10:14, 3:9], LABELS[20:28, 20:30] = 1, 2, 5


def mask_of(*paths: Path) -> Drawn:
    return read_mask(MaskFiles(paths), SIZE)


# --- mask files


def test_several_files_are_united(tmp_path: Path) -> None:
    first, second = fakes.blob(2, 2), fakes.blob(15, 18)
    fakes.save(tmp_path / "a.png", fakes.grey(first))
    fakes.save(tmp_path / "a_1.png", fakes.rgb(second))
    drawn = mask_of(tmp_path / "a.png", tmp_path / "a_1.png")
    assert (drawn.grey == fakes.grey(first | second)).all()
    assert drawn.coloured
    assert not drawn.lossy


def test_several_files_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    fakes.save(tmp_path / "a.png", fakes.grey(fakes.blob()))
    fakes.save(tmp_path / "a_1.png", fakes.grey(fakes.blob(height=40, width=24)))
    with pytest.raises(UnreadableFile, match=r"a_1\.png: 24 x 40 pixels, but a\.png has 32 x 32"):
        mask_of(tmp_path / "a.png", tmp_path / "a_1.png")


@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_a_jpeg_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    Image.fromarray(fakes.grey(fakes.blob())).save(tmp_path / name, format="JPEG")
    fakes.save(tmp_path / "other.png", fakes.grey(fakes.blob()))
    assert mask_of(tmp_path / name).lossy
    assert mask_of(tmp_path / "other.png", tmp_path / name).lossy
    fakes.save(tmp_path / "mask.bmp", fakes.grey(fakes.blob()))
    assert not mask_of(tmp_path / "mask.bmp").lossy


@pytest.mark.parametrize("alpha", [0, 255])
def test_alpha_that_was_never_set_hides_nothing(tmp_path: Path, alpha: int) -> None:
    blob = fakes.blob()
    fakes.save(tmp_path / "m.png", np.dstack([fakes.rgb(blob), np.full(SIZE, alpha)]))
    assert (mask_of(tmp_path / "m.png").grey == fakes.grey(blob)).all()


def test_transparent_parts_are_background_but_never_all_of_a_mask(tmp_path: Path) -> None:
    blob = fakes.blob()
    upper = blob & (np.arange(SIZE[0]) < np.nonzero(blob)[0].mean())[:, np.newaxis]
    fakes.save(tmp_path / "m.png", np.dstack([fakes.rgb(blob), np.where(upper, 0, 255)]))
    assert (mask_of(tmp_path / "m.png").grey == fakes.grey(blob & ~upper)).all()
    fakes.save(tmp_path / "m.png", np.dstack([fakes.rgb(blob), np.where(blob, 0, 255)]))
    with pytest.raises(UnreadableFile, match="in the alpha channel alone"):
        mask_of(tmp_path / "m.png")


@pytest.mark.parametrize(("high", "read"), [(1, 1), (255, 255), (256, 255), (4095, 255), (65535, 255)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_masks(tmp_path: Path, suffix: str, high: int, read: int) -> None:
    blob = fakes.blob()
    Image.fromarray((blob * high).astype(np.uint16)).save(tmp_path / f"m{suffix}")
    drawn = mask_of(tmp_path / f"m{suffix}")
    assert drawn.grey.dtype == np.uint8
    assert (drawn.grey == fakes.grey(blob, read)).all()
    assert not drawn.coloured


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_1_bit_masks_are_black_and_white(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(fakes.blob()).save(tmp_path / f"m{suffix}")
    with Image.open(tmp_path / f"m{suffix}") as stored:
        assert stored.mode == "1"
    drawn = mask_of(tmp_path / f"m{suffix}")
    assert (drawn.grey == fakes.grey(fakes.blob())).all()
    assert not drawn.coloured


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    fakes.save(tmp_path / "cut.png", fakes.picture(1))
    fakes.truncate(tmp_path / "cut.png")
    (tmp_path / "none.png").touch()
    for name in ("cut.png", "none.png", "absent.png"):
        with pytest.raises(UnreadableFile, match=name):
            mask_of(tmp_path / name)
        with pytest.raises(UnreadableFile, match=name):
            read_image(Picture(tmp_path / name))


# --- colours


def coloured(red: int, green: int, blue: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A square of 20 x 20 pixels of which the first so many are red, then green, then blue."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    colours = [(255, 0, 0)] * red + [(0, 255, 0)] * green + [(20, 40, 200)] * blue
    square = np.zeros((400, 3), np.uint8)
    square[: len(colours)] = np.array(colours, np.uint8).reshape(-1, 3)
    pixels[6:26, 6:26] = square.reshape(20, 20, 3)
    return pixels


@pytest.mark.parametrize(
    ("red", "green", "told"),
    [
        (400, 0, "neoplastic"),
        (0, 400, "benign"),
        (200, 200, "neoplastic and benign"),
        (396, 4, "neoplastic"),  # 1 %: a stray
        (380, 20, "neoplastic and benign"),  # 5 %
        (0, 0, None),
    ],
)
def test_classes_by_colour_without_strays(tmp_path: Path, red: int, green: int, told: str | None) -> None:
    path = tmp_path / "m.png"
    fakes.save(path, coloured(red, green))
    drawn = read_mask(ColourFile(path, "lesion", CLASSES), SIZE)
    assert drawn.attributes == ((("lesion", told),) if told else ())
    assert np.count_nonzero(drawn.grey) == red + green  # strays are foreground all the same
    assert not drawn.lossy


def test_another_colour_is_foreground_of_the_nearest_class(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    fakes.save(path, coloured(300, 0, 100))
    drawn = read_mask(ColourFile(path, "lesion", CLASSES), SIZE)
    assert np.count_nonzero(drawn.grey) == 400
    assert drawn.attributes == (("lesion", "neoplastic and benign"),)


def test_a_coloured_jpeg_has_no_classes_along_its_edges(tmp_path: Path) -> None:
    path = tmp_path / "m.jpeg"
    Image.fromarray(coloured(400, 0)).save(path, quality=50)
    drawn = read_mask(ColourFile(path, "lesion", CLASSES), SIZE)
    assert drawn.attributes == (("lesion", "neoplastic"),)
    assert drawn.lossy


# --- labels


@pytest.mark.parametrize(
    ("values", "named", "unnamed"),
    [
        ((1,), (), ()),
        ((1,), (1,), (2, 5)),
        ((1,), (1, 2), (5,)),
        ((2, 5), (1, 2, 5), ()),
        ((9,), (9,), (1, 2, 5)),
    ],
)
def test_label_pictures_tell_what_nobody_named(
    tmp_path: Path, values: tuple[int, ...], named: tuple[int, ...], unnamed: tuple[int, ...]
) -> None:
    fakes.save(tmp_path / "m.png", LABELS)
    drawn = read_mask(LabelPicture(tmp_path / "m.png", values, named), SIZE)
    assert (drawn.grey == fakes.grey(np.isin(LABELS, values))).all()
    assert drawn.unnamed == unnamed
    assert not drawn.lossy


def test_at_most_nine_unnamed_values_are_told(tmp_path: Path) -> None:
    fakes.save(tmp_path / "m.png", np.arange(32 * 32).reshape(SIZE) % 30)
    drawn = read_mask(LabelPicture(tmp_path / "m.png", (1,), (1, 3)), SIZE)
    assert drawn.unnamed == (2, 4, 5, 6, 7, 8, 9, 10, 11)


def test_palettes_and_16_bit_labels_are_numbers(tmp_path: Path) -> None:
    palette = Image.fromarray(LABELS)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [60] * 759)
    palette.save(tmp_path / "p.png")
    Image.fromarray(LABELS.astype(np.uint16) * 1000).save(tmp_path / "d.png")
    for path, number in ((tmp_path / "p.png", 2), (tmp_path / "d.png", 2000)):
        drawn = read_mask(LabelPicture(path, (number,), (number,)), SIZE)
        assert (drawn.grey == fakes.grey(LABELS == 2)).all()
        assert drawn.unnamed == (number // 2, 5 * number // 2)


def test_label_slices_tell_what_nobody_named(tmp_path: Path) -> None:
    image = write_metaimage(tmp_path / "a.mhd", fakes.picture(1)[..., 0], (1.0, 1.0))
    label = write_metaimage(tmp_path / "a_gt.mhd", LABELS, (1.0, 1.0))
    source = Slice(image, 0, None, stored=True)
    one = read_mask(LabelSlice(label, source, (2,), (1, 2)), SIZE)
    assert (one.grey == fakes.grey(LABELS == 2)).all()
    assert one.unnamed == (5,)
    everything = read_mask(LabelSlice(label, source), SIZE)
    assert (everything.grey == fakes.grey(LABELS > 0)).all()
    assert everything.unnamed == (1, 2, 5)  # so that several are noticed over the whole set


def test_sources_go_to_other_processes_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a"
    sources: list[MaskSource] = [
        MaskFiles((path,)), ColourFile(path, "lesion", CLASSES), LabelPicture(path, (1,), (1, 2)),
        LabelSlice(path, Slice(path, 3), (1,), (1,)), RunLengths(path, "", SIZE), Polygons(path, (), SIZE),
        Nothing(),
    ]  # fmt: skip
    assert pickle.loads(pickle.dumps(sources)) == sources  # noqa: S301


# --- the files that volumes are read from


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("a.hdr", "a.img"),
        ("a.img", "a.hdr"),
        ("a.hdr.gz", "a.img.gz"),
        ("A.HDR", "A.IMG"),
        ("my.img.hdr", "my.img.img"),
        ("a.nii", None),
        ("a.nii.gz", None),
        ("series", None),
        ("hdr", None),
    ],
)
def test_a_pair_is_two_files(tmp_path: Path, name: str, other: str | None) -> None:
    path = tmp_path / name
    assert volume_files(path) == ((path,) if other is None else (path, tmp_path / other))


@pytest.mark.parametrize("ending", [".hdr", ".img", ".hdr.gz"])
def test_the_other_half_is_the_one_that_is_read(tmp_path: Path, ending: str) -> None:
    nib.Nifti1Pair(np.zeros((4, 5, 6), np.uint8), np.eye(4)).to_filename(tmp_path / f"a{ending}")
    path, other = volume_files(tmp_path / f"a{ending}")
    assert {path, other} == set(tmp_path.iterdir())


def test_a_metaimage_has_its_data_elsewhere(tmp_path: Path) -> None:
    values = fakes.picture(1)[..., 0]
    path = write_metaimage(tmp_path / "a.mhd", values, (1.0, 1.0), compressed=True)
    assert volume_files(path) == (path, tmp_path / "a.zraw")
    outside = write_metaimage(tmp_path / "b.mhd", values, (1.0, 1.0), keys={"ElementDataFile": "../b.raw"})
    (tmp_path / "c.mhd").write_bytes(b"\xff\x00 no header")
    for each in (outside, tmp_path / "c.mhd", tmp_path / "absent.mhd"):
        assert volume_files(each) == (each,)


def test_a_slice_has_the_files_of_image_and_label(tmp_path: Path) -> None:
    image = Slice(tmp_path / "a.hdr", 0)
    assert image.files == (tmp_path / "a.hdr", tmp_path / "a.img")
    label = write_metaimage(tmp_path / "b.mhd", fakes.picture(1)[..., 0], (1.0, 1.0))
    assert LabelSlice(label, image).files == (label, tmp_path / "b.raw", *image.files)
    assert LabelSlice(tmp_path / "c.nii.gz", image).files == (tmp_path / "c.nii.gz", *image.files)


@pytest.mark.parametrize("changed", ["a.raw", "a_gt.raw", "a.mhd"])
def test_changed_data_are_noticed(tmp_path: Path, changed: str) -> None:
    write_metaimage(tmp_path / "a.mhd", fakes.picture(1)[..., 0], (1.0, 1.0))
    write_metaimage(tmp_path / "a_gt.mhd", LABELS, (1.0, 1.0))
    image = Slice(tmp_path / "a.mhd", 0, None, stored=True)
    item = Item("a", image, LabelSlice(tmp_path / "a_gt.mhd", image))
    before = tasks([item], "correct")[0].keys
    assert tasks([item], "correct")[0].keys == before
    with (tmp_path / changed).open("ab") as stream:
        stream.write(b"\n")
    assert tasks([item], "correct")[0].keys != before
