"""The ledger of predictions: one JSON line for each input and prompt, appended as cases end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

LEDGER = "predictions.jsonl"


@dataclass(frozen=True)
class Entry:
    """One input, one prompt.

    status: done, empty (a mask of zeros was written), failed, or skipped (not a scan, whatever its name
    says; its prompt is ""), the last two with a reason. foreground: marked pixels or voxels. volume_ml:
    where the scan carries its geometry. confidence: mean probability of the marked pixels over all
    frames, or the largest probability when nothing is marked. fingerprint: tells apart what the mask
    depends on (input file, model, options).
    """

    input: str
    output: str | None
    prompt: str
    status: str
    reason: str | None
    frames: int | None = None
    foreground: int | None = None
    volume_ml: float | None = None
    confidence: float | None = None
    seconds: float = 0.0
    fingerprint: str = ""


def read_ledger(path: Path) -> dict[tuple[str, str], Entry]:
    """The last entry for each (input, prompt) whose mask has not been replaced by that of another since.

    Lines that were cut off are passed over.
    """
    if not path.is_file():
        return {}
    entries: dict[tuple[str, str], Entry] = {}
    writers: dict[str, tuple[str, str]] = {}
    # Bytes, because a killed process may leave half a character; "\n" alone ends a line, because names
    # and prompts may hold other line separators.
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = Entry(**json.loads(line))
            key = entry.input, entry.prompt
            entries[key] = entry
            if entry.output is not None:
                replaced = writers.get(entry.output, key)
                writers[entry.output] = key
                if replaced != key:
                    entries.pop(replaced, None)
        except (ValueError, TypeError):
            continue
    return entries


def open_ledger(path: Path) -> TextIO:
    """Opens a ledger to append to. A line that a killed run left cut off is ended first, so that the
    next entry is not glued to it."""
    cut_off = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    stream = path.open("a", encoding="utf-8", newline="\n")
    if cut_off:
        stream.write("\n")
    return stream


def append(ledger: TextIO, entry: Entry) -> None:
    # ASCII, because file names need not be text
    ledger.write(json.dumps(asdict(entry)) + "\n")
    ledger.flush()
