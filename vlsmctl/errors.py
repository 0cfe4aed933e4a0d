"""The exceptions that a user can cause, one exit code each. Anything else is a bug of ours (exit 1)."""

from __future__ import annotations


class VlsmctlError(Exception):
    """Base of all errors that end a command with a message instead of a traceback.

    The message says what was expected, what was found and where; `hint`, when given, is the next
    thing to type or do.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(VlsmctlError):
    """A wrong option, preset, key, or a data set that is not prepared yet."""

    exit_code = 2


class NoReadableInput(VlsmctlError):
    """Nothing among the inputs could be read."""

    exit_code = 4


class DiskFull(VlsmctlError):
    """There is no room for what is to be written."""

    exit_code = 2


class PeerLost(VlsmctlError):
    """Another of the processes that share the work has gone; what is done is kept."""

    exit_code = 130


class MissingWeights(VlsmctlError):
    """The base model's weights are not on this machine."""

    exit_code = 5


class UnreadableFile(VlsmctlError):
    """One file or scan that cannot be used; a batch names it, counts it and goes on."""

    exit_code = 3


SOME_FAILED = 3
INTERRUPTED = 130
