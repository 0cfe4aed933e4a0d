from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.formats.generators import write_dicom
from vlsmctl.formats.beginnings import by_content


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        *((".png", "a PNG picture"), (".jpg", "a JPEG picture"), (".tif", "a TIFF picture")),
        *((".gif", "a GIF picture"), (".jp2", "a JPEG 2000 picture")),
    ],
)
def test_pictures(tmp_path: Path, extension: str, words: str) -> None:
    path = tmp_path / f"a{extension}"
    Image.new("L", (32, 32)).save(path)
    assert by_content(path) == (words, extension)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, kind: type[nib.Nifti1Image], extension: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (32, 32, 9)).astype(np.uint8)
    nib.save(kind(noise, np.eye(4)), tmp_path / f"a{extension}")
    assert by_content(tmp_path / f"a{extension}") == ("a NIfTI file", extension)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG", b"words", b"\x1f\x8b\x08 cut", b"\x5c\1\0\0" + bytes(400), b"\x5c\1\0\0"]
)
def test_everything_else_is_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert by_content(tmp_path / "a") is None
    assert by_content(tmp_path / "missing") is None
    assert by_content(write_dicom(tmp_path / "b", np.zeros((3, 3), np.uint8))) is None
