"""What a person sees: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

T = TypeVar("T")

PIPED_WIDTH = 160  # columns of a table that goes into a file or a pipe
PLAIN_INTERVAL = 10  # seconds between lines where there is no terminal
STATUS_INTERVAL = 0.2  # seconds between changes where there is one

_state = {"quiet": False, "verbose": False}


def configure(*, quiet: bool, verbose: bool) -> None:
    """Sets how much is said on stderr for the rest of the process."""
    _state.update(quiet=quiet, verbose=verbose)


def out() -> Console:
    """The console for results (stdout)."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, highlight=False, emoji=False, soft_wrap=True, width=width)


def console(*, always: bool = False) -> Console:
    """The console for progress and messages (stderr); silent under --quiet unless `always`."""
    return Console(
        file=sys.stderr, highlight=False, emoji=False, soft_wrap=True, quiet=_state["quiet"] and not always
    )


def is_verbose() -> bool:
    return _state["verbose"]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table for stdout; cells are plain text, and those of the first column are never cut."""
    from rich.text import Text

    made = Table()
    for number, heading in enumerate(headings):
        made.add_column(heading, no_wrap=not number)  # names are to be copied
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def bars(*fields: str) -> Progress:
    """A progress bar on stderr with a column for each of `fields`, and the time left."""
    extra = [TextColumn(f"{field} {{task.fields[{field}]}}") for field in fields]
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=20), *extra, TimeRemainingColumn(),
        console=console(),
    )  # fmt: skip


class Tick(Protocol):
    """Counts one more, or a part of one."""

    def __call__(self, amount: float = 1, /) -> None: ...


@contextmanager
def live_count(description: str, total: int) -> Iterator[Tick]:
    """Counts up to `total` by calls of what it gives: a bar, or a plain line now and then."""
    screen = console()
    if screen.is_terminal and not screen.quiet:
        with _counting_bar(screen) as progress:
            task = progress.add_task(description, total=total)
            yield lambda amount=1, /: progress.advance(task, amount)
        return
    done, said = 0.0, time.monotonic()

    def tick(amount: float = 1, /) -> None:
        nonlocal done, said
        done += amount
        if time.monotonic() - said > PLAIN_INTERVAL:
            said = time.monotonic()
            share = f" ({done / total:.0%})" if done % 1 else ""
            screen.print(f"{description}: {int(done)} of {total}{share}", markup=False)

    yield tick


@contextmanager
def live_tally(description: str) -> Iterator[Callable[[], None]]:
    """Counts what has no known end: shown while it grows, or in a plain line now and then."""
    screen = console()
    done, said = 0, time.monotonic()
    status = screen.status(description) if screen.is_terminal and not screen.quiet else None

    def tick() -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if status is not None and now - said > STATUS_INTERVAL:
            said = now
            status.update(f"{description}: {done:,}")
        elif status is None and now - said > PLAIN_INTERVAL:
            said = now
            screen.print(f"{description}: {done:,}", markup=False)

    with status or nullcontext():
        yield tick


@contextmanager
def download_bar(description: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """Shows bytes done of bytes in all by calls of what it gives, with (done, all; None: not known): a
    bar with the time left, or a plain line now and then."""
    screen = console()
    if screen.is_terminal and not screen.quiet:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        with Progress(*columns, TimeRemainingColumn(), console=screen, transient=True) as progress:
            task = progress.add_task(description, total=total)
            yield lambda done, total: progress.update(task, completed=done, total=total)
        return
    said = time.monotonic()

    def tell(done: int, total: int | None) -> None:
        nonlocal said
        if time.monotonic() - said > PLAIN_INTERVAL:
            said = time.monotonic()
            of = "" if total is None else f" of {total / 1e6:.1f}"
            screen.print(f"{description}: {done / 1e6:.1f}{of} MB", markup=False)

    yield tell


def counted(number: int, what: str) -> str:
    """ "1 scan", "1,234 scans"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 20 min", "5 d 3 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields the items under a progress bar, or, where stderr is no terminal, with a plain line now
    and then."""
    if total is None:
        items = list(items)
        total = len(items)
    with live_count(description, total) as tick:
        for item in items:
            yield item
            tick()


def _counting_bar(screen: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=screen, transient=True,
    )  # fmt: skip
