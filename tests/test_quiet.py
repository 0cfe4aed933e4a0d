from __future__ import annotations

import threading
import warnings

from vlsmctl.quiet import without_warnings


def test_overlapping_threads_restore_the_filters() -> None:
    before = list(warnings.filters)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with without_warnings():
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=hold)
    with without_warnings():
        thread.start()
        assert entered.wait(5)
        warnings.warn("not seen", stacklevel=1)
    warnings.warn("still not seen", stacklevel=1)  # the other thread is inside
    leave.set()
    thread.join()
    assert list(warnings.filters) == before
