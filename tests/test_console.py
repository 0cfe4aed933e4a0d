from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from vlsmctl import console


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    console.configure(quiet=False, verbose=False)
    yield
    console.configure(quiet=False, verbose=False)


def test_results_go_to_stdout_and_messages_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.out().print("result")
    console.console().print("message")
    assert capsys.readouterr() == ("result\n", "message\n")


def test_quiet_silences_messages_but_not_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(quiet=True, verbose=False)
    console.out().print("result")
    console.console().print("message")
    console.console(always=True).print("error")
    assert list(console.track([1, 2], "working")) == [1, 2]
    with console.bars("loss"):
        pass
    assert capsys.readouterr() == ("result\n", "error\n")


def test_verbose() -> None:
    assert not console.is_verbose()
    console.configure(quiet=False, verbose=True)
    assert console.is_verbose()


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    console.out().print("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_cells_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A file may be called `[red]`, and a prompt `[/]`, which rich would take for an error."""
    console.out().print(console.table(["file", "prompt"], [["[red]a.png", "[/]"]]))
    shown = capsys.readouterr().out
    assert "[red]a.png" in shown
    assert "[/]" in shown


def test_track_yields_all_and_says_nothing_when_it_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(console.track(iter(range(5)), "working")) == [0, 1, 2, 3, 4]
    assert list(console.track((n for n in (1, 2)), "working", total=2)) == [1, 2]
    assert list(console.track([], "working")) == []
    assert capsys.readouterr() == ("", "")


def test_plain_lines_now_and_then_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 4))  # seconds; the clock goes on by 4 or 8 an item
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    list(console.track(range(6), "reading [a-z]"))
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.splitlines()[0] == "reading [a-z]: 3 of 6"
    assert 1 <= len(lines.splitlines()) <= 3
    assert "\x1b" not in lines


def test_track_is_lazy_and_passes_errors_on() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    tracked = console.track(items(), "working", total=3)
    assert taken == []
    assert next(tracked) == 0
    assert taken == [0]

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        list(console.track(broken(), "working", total=2))


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(console.track([1, 2, 3], "drawing")) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out == ""
    assert "drawing" in err


def test_the_console_follows_a_replaced_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app is also called in process, by tests and notebooks, which replace the streams."""
    import io

    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        console.console().print("here")
        assert stream.getvalue() == "here\n"
