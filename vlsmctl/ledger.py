"""The ledger of predictions: one JSON line for each input and prompt, appended as cases end.

Several processes that share the work write a part each, `predictions.rank1.jsonl`; parts are read like the
ledger itself, and merged into it by the next run, should the one that wrote them not have come to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

LEDGER = "predictions.jsonl"
_PARTS = "predictions.rank*.jsonl"
_OUTPUT = re.compile(rb'"output": ("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Entry:
    """One input, one prompt.

    status: done, empty (nothing found: a mask of zeros was written), failed, or skipped (not a scan,
    whatever its name says; its prompt is ""), the last two with a reason. output: of the mask, relative to
    the ledger; label: its number there, where a file holds several. probabilities, overlay: further files,
    where asked for. note: what to know when using the mask. foreground: marked pixels or voxels.
    volume_ml: where the scan carries its geometry. confidence: mean probability of the marked pixels over
    all frames, or the largest probability when nothing is marked. presence: probability that the target
    is there at all, of the frame where it is largest. fingerprint: tells apart what the mask depends on
    (input files, model, prompt, options); scan: the input files alone.
    """

    input: str
    output: str | None
    prompt: str
    status: str
    reason: str | None
    label: int | None = None
    frames: int | None = None
    foreground: int | None = None
    volume_ml: float | None = None
    confidence: float | None = None
    presence: float | None = None
    probabilities: str | None = None
    overlay: str | None = None
    note: str | None = None
    seconds: float = 0.0
    fingerprint: str = ""
    scan: str = ""

    @property
    def files(self) -> list[str]:
        return [name for name in (self.output, self.probabilities, self.overlay) if name is not None]


def scan_mark(files: Sequence[Path], series_number: int) -> str:
    """Tells the files of a scan (names, sizes, times) apart from others, and from what they were."""
    parts = [str(series_number)]
    for file in files:
        with suppress(OSError):  # a file that is gone will fail when it is opened, with a reason
            stat = file.stat()
            parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


Known = Mapping[tuple[str, str], Entry]


def read_ledger(folder: Path) -> dict[tuple[str, str], Entry]:
    """The last entry for each (input, prompt) whose mask has not been replaced by another since.

    Lines that were cut off are passed over.
    """
    entries: dict[tuple[str, str], Entry] = {}
    owners: dict[str, set[tuple[str, str]]] = {}  # of each output: those that it answers
    for entry in _lines(folder):
        key = entry.input, entry.prompt
        entries[key] = entry
        if entry.output is None:
            continue
        together = owners.setdefault(entry.output, set())
        for other in [one for one in together if one != key]:
            known = entries.get(other)
            # One file answers several prompts when one case wrote it, and cases differ in fingerprint.
            if known is None or (known.input, known.fingerprint) != (entry.input, entry.fingerprint):
                together.discard(other)
                if known is not None and known.output == entry.output:
                    del entries[other]
        together.add(key)
    return entries


def _raw_lines(folder: Path) -> Iterator[bytes]:
    for path in (folder / LEDGER, *sorted(folder.glob(_PARTS))):
        if path.is_file():
            # Bytes, because a killed process may leave half a character; "\n" alone ends a line, because
            # names and prompts may hold other line separators.
            yield from path.read_bytes().split(b"\n")


def _lines(folder: Path) -> Iterator[Entry]:
    for line in _raw_lines(folder):
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if all(isinstance(text, str) for text in (entry.input, entry.prompt, *entry.files)):
            yield entry


def begun_path(folder: Path, rank: int = 0) -> Path:
    """Where a process notes what it is about to write, so that the next run knows it for ours should this
    one be killed before it is in the ledger."""
    return folder / f".predictions.begun{rank}"


def ever_written(folder: Path) -> set[str]:
    """All that earlier runs wrote, as far as is known, relative to the folder: also what has failed or
    been replaced since, what a killed run was about to write, and what a line that was cut off says."""
    names = {name for entry in _lines(folder) for name in entry.files}
    names |= {
        json.loads(found[1])
        for line in _raw_lines(folder)
        if not line.endswith(b"}") and (found := _OUTPUT.search(line))
    }
    for path in folder.glob(".predictions.begun*"):
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError):
                names.update(json.loads(line or b"[]"))
    return names


def ledger_path(folder: Path, rank: int = 0, ranks: int = 1) -> Path:
    """Where one of several processes writes."""
    return folder / (LEDGER if ranks == 1 else f"predictions.rank{rank}.jsonl")


def merge_parts(folder: Path) -> None:
    """Appends what several processes wrote to the ledger; for one process, while no other writes."""
    for part in sorted(folder.glob(_PARTS)):
        lines = part.read_bytes().split(b"\n")
        with open_ledger(folder / LEDGER) as ledger:
            for line in filter(None, lines):
                ledger.write(line.decode("ascii", "replace") + "\n")
        part.unlink()


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
