"""The bound on memory: neither the length of a volume nor the number of files makes it grow."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tests.formats.generators import write_dicom
from vlsmctl.cases import Options, plan_cases
from vlsmctl.formats.records import Reading
from vlsmctl.formats.scan import find_scans
from vlsmctl.prediction import predict
from vlsmctl.predictor import Predictor, Ready, Segmented, predictor_from_model
from vlsmctl.runtime import StopFlag

MIB = 2**20


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return predictor_from_model("tiny", device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def only_reading_and_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the model: a block is marked, of another size in each frame."""

    def segment(
        _: Predictor, pictures: Sequence[Ready], asked: Sequence[Sequence[int]], *_more: object,
        batch_size: int = 1,
        learned: Sequence[bool] | None = None,
    ) -> list[list[Segmented]]:  # fmt: skip
        return [[_block(picture) for _ in rows] for picture, rows in zip(pictures, asked, strict=True)]

    monkeypatch.setattr("vlsmctl.machine.segment", segment)


def _block(picture: Ready) -> Segmented:
    mask = np.zeros(picture.shape, np.bool_)
    size = 10 + int(picture.small.sum()) % (mask.shape[0] // 2)
    mask[size // 2 : size, 5:size] = True
    return Segmented(mask, 1.0)


@contextmanager
def peak() -> Iterator[Callable[[], float]]:
    """How far memory grows within it, MiB: by the system's own count where that can be set back."""
    process, ended = psutil.Process(), threading.Event()
    before, seen = process.memory_info().rss, [0]
    counted = _set_back()

    def look() -> None:
        while not ended.wait(0.002):
            seen[0] = max(seen[0], process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    if not counted:
        watcher.start()
    try:
        yield lambda: ((_highest() if counted else seen[0]) - before) / MIB
    finally:
        ended.set()


def _set_back() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _highest() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def _predicted(predictor: Predictor, folder: Path, out: Path, **chosen: Any) -> tuple[float, float, int]:
    """MiB that memory grew by, seconds, frames."""
    founds, _ = find_scans([folder])
    options = Options(**chosen)
    cases = plan_cases(founds, [("polyp",) for _ in founds], predictor, options)
    with peak() as grown:
        started = time.perf_counter()
        entries = predict(predictor, cases, out, options, stop=StopFlag()).entries
        seconds = time.perf_counter() - started
        memory = grown()
    assert {entry.status for entry in entries} == {"done"}
    return memory, seconds, sum(entry.frames or 0 for entry in entries)


def write_long_volume(path: Path, shape: tuple[int, int, int]) -> Path:
    """int16, made and packed slice by slice."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_zooms((0.7, 0.7, 1.0))
    header.set_sform(np.diag([0.7, 0.7, 1.0, 1.0]), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    rng = np.random.default_rng(1)
    pattern = rng.integers(-900, 900, (8, 8, 1)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + bytes(4))
        plane = np.tile(pattern, (shape[0] // 8, shape[1] // 8, 1))[..., 0]
        for number in range(shape[2]):
            stream.write((plane + np.int16(number)).tobytes(order="F"))
    return path


@pytest.mark.parametrize("axis", [None, 0])
def test_memory_does_not_grow_with_the_length_of_a_volume(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int | None
) -> None:
    """Beyond one slab, here of 32 MiB; 1024 slices are 128 MiB of voxels, 192 of pictures, 64 of masks."""
    monkeypatch.setattr("vlsmctl.formats.nifti_voxels.SLAB_BYTES", 32 * MIB)
    monkeypatch.setattr("vlsmctl.formats.nifti_writing.PIECE_BYTES", 4 * MIB)
    grown = {}
    for slices in (257, 256, 1024):  # the first one warms up
        write_long_volume(tmp_path / str(slices) / "a.nii.gz", (256, 256, slices))
        grown[slices], _, _ = _predicted(
            predictor, tmp_path / str(slices), tmp_path / f"out{slices}", reading=Reading(axis=axis)
        )
    assert grown[1024] < grown[256] + 40, grown


def test_memory_does_not_grow_with_the_number_of_files(predictor: Predictor, tmp_path: Path) -> None:
    """300 pictures are 174 MiB, their masks 58 MiB."""
    pixels = np.random.default_rng(2).integers(0, 256, (450, 450, 3), dtype=np.uint8)
    grown = {}
    for count in (21, 20, 300):
        (tmp_path / str(count)).mkdir()
        for number in range(count):
            Image.fromarray(pixels).save(tmp_path / str(count) / f"{number}.bmp")
        grown[count], _, _ = _predicted(predictor, tmp_path / str(count), tmp_path / f"out{count}")
    assert grown[300] < grown[20] + 25, grown


@pytest.mark.parametrize("wanted", ["nifti", "dicom-seg"])
def test_memory_does_not_grow_with_the_length_of_a_series(
    predictor: Predictor, tmp_path: Path, wanted: str
) -> None:
    """400 slices are 112 MiB of pixels, 169 of pictures, 56 of masks. Grey levels are chosen by 64."""
    pixels = np.random.default_rng(3).integers(0, 900, (384, 384)).astype(np.int16)
    grown = {}
    for count in (79, 80, 400):
        for number in range(count):
            write_dicom(
                tmp_path / str(count) / f"{number}.dcm",
                pixels,
                ImagePositionPatient=[0.0, 0.0, 2.0 * number],
                StudyInstanceUID="1.2.3.4",
                FrameOfReferenceUID="1.2.3.5",
            )
        grown[count], _, _ = _predicted(
            predictor, tmp_path / str(count), tmp_path / f"out{count}", format=wanted
        )
    assert grown[400] < grown[80] + 40, grown


@pytest.mark.slow
@pytest.mark.parametrize("axis", [None, 0])
def test_a_large_volume(predictor: Predictor, tmp_path: Path, axis: int | None) -> None:
    """One slab of 128 MiB; this is 300 MiB of voxels, 450 as pictures, 150 as masks of bytes."""
    write_long_volume(tmp_path / "scan" / "a.nii.gz", (512, 512, 600))
    memory, seconds, frames = _predicted(
        predictor, tmp_path / "scan", tmp_path / "out", reading=Reading(axis=axis)
    )
    print(f"axis {axis}: {memory:.0f} MiB, {seconds:.1f} s, {frames} frames")
    assert frames == (600 if axis is None else 512)
    assert memory < 200
