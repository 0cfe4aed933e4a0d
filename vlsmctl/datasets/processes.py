"""Other processes to work in, which behave when the user stops, or the main one is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar

from vlsmctl.errors import UsageError

A = TypeVar("A")
B = TypeVar("B")


class Submit(Protocol):
    """Has work done on an argument, both of which can be pickled."""

    def __call__(self, work: Callable[[A], B], argument: A, /) -> Future[B]: ...


@contextmanager
def worker_pool(processes: int) -> Iterator[Submit]:
    """Where work goes: to that many other processes, which start with the first of it; with 0 it is done
    here at once. At the end what has not begun is given up."""
    if not processes:
        yield _done_here
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_hang_on_parent)
    try:
        yield partial(_sent, pool, processes, threading.Event())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def result_of(work: Future[B]) -> B:
    """Waits for the result. Raises what the work raised, and UsageError where its process is gone."""
    try:
        return work.result()
    except BrokenProcessPool as error:
        raise UsageError(
            "a process that reads pictures could not go on (out of memory, or started from a script"
            " without `if __name__ == '__main__'`)",
            hint="prepare with fewer of them: --workers 1",
        ) from error


def _sent(
    pool: ProcessPoolExecutor,
    processes: int,
    started: threading.Event,
    work: Callable[[A], B],
    argument: A,
    /,
) -> Future[B]:
    if not started.is_set():
        with _interrupts_later():  # or else Ctrl-C meets new processes before they can look away
            for _ in range(processes):  # each starts one, as none is idle yet
                pool.submit(_nothing)
        started.set()
    return pool.submit(work, argument)


def _done_here(work: Callable[[A], B], argument: A, /) -> Future[B]:
    done: Future[B] = Future()
    done.set_result(work(argument))
    return done


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C waits for the end of this; processes that are started meanwhile never hear it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _nothing() -> None:
    """The first work of a process, which starts it."""


def _hang_on_parent() -> None:
    """A worker's end is its parent's affair. Ctrl-C goes to all processes of a terminal: the main one ends
    the others. One that is killed cannot, so they watch it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
