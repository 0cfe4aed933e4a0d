from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlsmctl.formats.records import Frames, check_frames
from vlsmctl.formats.spool import IN_MEMORY, Spool


def spooled(arrays: Iterable[NDArray[Any]], scale: float = 1.0) -> Spool:
    """Arrays of one shape and dtype as frames; at least one."""
    listed = list(arrays)
    spool = Spool((listed[0].shape[0], listed[0].shape[1]), listed[0].dtype, scale)
    for array in listed:
        spool.append(array)
    return spool


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (16, 8), (0, 5)])
def test_frames_come_back_as_they_were(dtype: Any, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    arrays = [(random.random(shape) * 300 - 20).astype(np.int64).astype(dtype) for _ in range(5)]
    arrays.append(arrays[0][::-1])  # not contiguous
    frames: Frames = spooled(arrays, scale=0.5)
    check_frames(frames, 6, shape)
    assert (frames.dtype, frames.scale) == (np.dtype(dtype), 0.5)
    for _ in range(2):
        for number in (4, 0, 5, 2, 1, 3, 3):
            assert frames[number].dtype == dtype
            assert np.array_equal(frames[number], arrays[number])


def test_special_numbers_survive() -> None:
    odd = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-45]], np.float32)
    assert spooled([odd])[0].tobytes() == odd.tobytes()


def test_an_empty_one_has_no_frames() -> None:
    spool = Spool((4, 5), np.bool_)
    assert len(spool) == 0
    with pytest.raises(IndexError):
        spool[0]


def test_appending_goes_on_after_reading() -> None:
    spool = Spool((2, 3), np.float32)
    for value in range(4):
        spool.append(np.full((2, 3), value, np.float32))
        read = [int(spool[number][0, 0]) for number in range(len(spool))]
        assert read == list(range(value + 1))


def test_what_exceeds_its_memory_lies_on_disk() -> None:
    random = np.random.default_rng(0)
    frame = random.random((1024, 1024)).astype(np.float32)  # 4 MiB that do not deflate
    tracemalloc.start()
    spool = Spool((1024, 1024), np.float32)
    for number in range(12):
        spool.append(frame + number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < IN_MEMORY + 24 * 2**20  # of 48 MiB, and with what a frame takes on its way
    assert all(np.array_equal(spool[number], frame + number) for number in (11, 0, 5))
    spool.close()


def test_masks_take_little_room() -> None:
    disc = np.hypot(*np.mgrid[-256:256, -256:256]) < 100
    spool = spooled([disc] * 100)
    tracemalloc.start()
    copy = spooled(spool[number] for number in range(100))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100 * 512 * 512 / 100
    assert np.array_equal(copy[99], disc)


def test_threads_may_share_it() -> None:
    arrays = [np.full((64, 64), number, np.uint8) for number in range(50)]
    spool = spooled(arrays[:25])
    wrong: list[int] = []

    def read() -> None:
        numbers = [*range(25)] * 8
        wrong.extend(number for number in numbers if not np.array_equal(spool[number], arrays[number]))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for array in arrays[25:]:
        spool.append(array)
    for reader in readers:
        reader.join()
    assert not wrong
    assert np.array_equal(spool[49], arrays[49])


@pytest.mark.parametrize(
    "frame",
    [np.zeros((3, 2), bool), np.zeros((2, 3), np.uint8), np.zeros((2, 3, 1), bool), np.zeros(6, bool)],
)
def test_other_shapes_and_types_are_refused(frame: NDArray[Any]) -> None:
    spool = Spool((2, 3), np.bool_)
    with pytest.raises(ValueError, match="expected bool"):
        spool.append(frame)
    assert len(spool) == 0


def test_closing() -> None:
    spool = spooled([np.zeros((1024, 1024), np.float32)] * 5)  # on disk
    spool.close()
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool[0]
    del spool
    spooled([np.zeros((1024, 1024), np.float32)] * 5)  # one that is forgotten gives no warning either
