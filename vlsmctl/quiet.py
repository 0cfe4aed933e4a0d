"""Keeps other libraries' warnings about a file from reaching users, who get our own message instead."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()
_inside = 0
_restore = ExitStack()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Within it, warnings are ignored. `warnings.catch_warnings` changes the whole process and is not
    safe when threads overlap, so the first to enter sets it and the last to leave undoes it."""
    global _inside
    with _lock:
        if _inside == 0:
            _restore.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore.close()
