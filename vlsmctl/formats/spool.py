"""Arrays of many frames, kept out of memory until they are written."""

from __future__ import annotations

import threading
import zlib
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 4 * 2**20  # bytes of one spool; beyond it, a temporary file without a name


class Spool:
    """Frames of one shape and dtype, appended one by one, read back any number of times (see
    `records.Frames`). Masks are kept as deflated bits (some kilobytes a frame), small integers deflated,
    real numbers as they are; what exceeds 4 MiB lies in a temporary file that the system removes, in the
    folder that TMPDIR names. Threads may share it. What is read back may not be writeable.

    Raises OSError where that folder is full, ValueError for a frame of another shape or dtype and after
    `close`, IndexError for a frame that is not there.
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, scale: float = 1.0) -> None:
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._shape, self._scale = shape, scale
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (closed by close)
        self._places: list[tuple[int, int]] = []
        self._end = 0
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def scale(self) -> float:
        return self._scale

    def __len__(self) -> int:
        return len(self._places)

    def append(self, frame: NDArray[Any]) -> None:
        if frame.shape != self._shape or frame.dtype != self._dtype:
            raise ValueError(f"expected {self._dtype} {self._shape}, got {frame.dtype} {frame.shape}")
        content = self._packed(frame)
        with self._lock:
            self._file.seek(self._end)
            self._file.write(content)
            self._places.append((self._end, len(content)))
            self._end += len(content)

    def __getitem__(self, number: int) -> NDArray[Any]:
        with self._lock:
            start, length = self._places[number]
            self._file.seek(start)
            content = self._file.read(length)
        return self._unpacked(content)

    def close(self) -> None:
        """Gives memory and disk back; may be called twice."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def _packed(self, frame: NDArray[Any]) -> bytes:
        if self._dtype == np.bool_:
            return zlib.compress(np.packbits(frame).tobytes(), 1)
        return zlib.compress(frame.tobytes(), 1) if self._dtype == np.uint8 else frame.tobytes()

    def _unpacked(self, content: bytes) -> NDArray[Any]:
        height, width = self._shape
        if self._dtype == np.bool_:
            bits = np.frombuffer(zlib.decompress(content), np.uint8)
            return np.unpackbits(bits, count=height * width).astype(np.bool_).reshape(self._shape)
        plain = zlib.decompress(content) if self._dtype == np.uint8 else content
        return np.frombuffer(plain, self._dtype).reshape(self._shape)
