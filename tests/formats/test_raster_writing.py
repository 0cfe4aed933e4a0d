from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.formats.test_spool import spooled
from vlsmctl.formats.raster import (
    read_label_picture,
    read_mask_picture,
    read_picture,
    write_frame_picture,
    write_mask_picture,
    write_pictures,
)

NOISE = np.random.default_rng(0).integers(0, 256, (13, 17), dtype=np.uint8)


def test_mask_is_single_channel_0_255(tmp_path: Path) -> None:
    write_mask_picture(NOISE > 100, tmp_path / "new" / "m.png")
    with Image.open(tmp_path / "new" / "m.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.where(NOISE > 100, 255, 0))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.png"]


def test_masks_labels_and_probabilities_as_pictures(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    write_frame_picture(labels > 0, 1.0, tmp_path / "mask.png")
    assert read_mask_picture(tmp_path / "mask.png").tolist() == [[0, 255, 255, 255]]
    write_frame_picture(labels, 1.0, tmp_path / "labels.png")
    assert read_label_picture(tmp_path / "labels.png").tolist() == labels.tolist()
    colours = read_picture(tmp_path / "labels.png")[0].tolist()
    assert colours[0] == [0, 0, 0]
    assert all(max(colour) > 100 for colour in colours[1:])  # can be seen on black
    write_frame_picture(labels, 1 / 255, tmp_path / "p8.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "p8.png")), labels)
    assert read_picture(tmp_path / "p8.png")[0].tolist() == [[value] * 3 for value in labels[0].tolist()]
    real = np.array([[0.0, 1e-7, 0.5, 1.0]], np.float32)
    write_frame_picture(real, 1.0, tmp_path / "p.tif")
    with Image.open(tmp_path / "p.tif") as image:
        assert (image.mode, image.format) == ("F", "TIFF")
        assert np.array_equal(np.asarray(image), real)


def test_neighbouring_labels_have_different_colours(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_frame_picture(labels, 1.0, tmp_path / "labels.png")
    assert np.array_equal(read_label_picture(tmp_path / "labels.png"), labels)
    colours = read_picture(tmp_path / "labels.png").reshape(256, 3).astype(int)
    for distance in range(1, 7):
        apart = np.abs(colours[1 + distance :] - colours[1:-distance]).max(axis=1)
        assert apart.min() > 60


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
def test_many_frames_make_a_folder(tmp_path: Path, dtype: Any) -> None:
    frames = [np.eye(4, 5, n).astype(dtype) for n in range(12)]
    write_pictures(spooled(frames), tmp_path / "a.frames", single=False)
    suffix = ".tif" if dtype is np.float32 else ".png"
    names = sorted(path.name for path in (tmp_path / "a.frames").iterdir())
    assert names == [f"{number:04d}{suffix}" for number in range(1, 13)]
    for number, frame in enumerate(frames):
        stored = np.asarray(Image.open(tmp_path / "a.frames" / f"{number + 1:04d}{suffix}"))
        assert np.array_equal(stored > 0, frame > 0)
    write_pictures(
        spooled(frames[:1]), tmp_path / "a.frames", single=False
    )  # takes the place of the former
    assert [path.name for path in (tmp_path / "a.frames").iterdir()] == [f"0001{suffix}"]


class _Failing:
    """Frames of which the third may not be had."""

    shape, dtype, scale = (4, 5), np.dtype(bool), 1.0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> NDArray[np.bool_]:
        if number == 2:
            raise OSError(28, "No space left on device")
        return np.ones((4, 5), bool)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_pictures(spooled([np.eye(4) > 0]), tmp_path / "a.frames", single=False)
    with pytest.raises(OSError, match="No space left"):
        write_pictures(_Failing(), tmp_path / "a.frames", single=False)
    with pytest.raises(OSError, match="No space left"):
        write_pictures(_Failing(), tmp_path / "b.frames", single=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.frames"]
    assert [path.name for path in (tmp_path / "a.frames").iterdir()] == ["0001.png"]


def test_a_file_for_one_frame_only(tmp_path: Path) -> None:
    for frames in (spooled([np.eye(4) > 0] * 2), _Failing()):
        with pytest.raises(ValueError, match="single"):
            write_pictures(frames, tmp_path / "a.png", single=True)
    with pytest.raises(ValueError, match="mask"):
        write_mask_picture(np.zeros((3, 4)), tmp_path / "a.png")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for number, frame in enumerate((NOISE > 9, NOISE, NOISE.astype(np.float32))):
        for copy in "ab":
            write_frame_picture(frame, 1.0, tmp_path / f"{number}{copy}")
        assert (tmp_path / f"{number}a").read_bytes() == (tmp_path / f"{number}b").read_bytes()
