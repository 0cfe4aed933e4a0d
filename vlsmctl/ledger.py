"""The ledger of predictions: one JSON line for each input and prompt, appended as cases end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

LEDGER = "predictions.jsonl"


@dataclass(frozen=True)
class Entry:
    """One input, one prompt.

    status: done, empty (a mask of zeros was written) or failed (with a reason). foreground: marked
    pixels or voxels. volume_ml: where the scan carries its geometry. confidence: mean probability of
    the marked pixels over all frames, or the largest probability when nothing is marked.
    fingerprint: tells what the mask depends on (input file, model, options) apart.
    """

    input: str
    output: str | None
    prompt: str
    status: str
    reason: str | None
    frames: int | None
    foreground: int | None
    volume_ml: float | None
    confidence: float | None
    seconds: float
    fingerprint: str


def read_ledger(path: Path) -> dict[tuple[str, str], Entry]:
    """The last entry for each (input, prompt); lines that were cut off are passed over."""
    if not path.is_file():
        return {}
    entries: dict[tuple[str, str], Entry] = {}
    # Bytes, because a killed process may leave half a character; "\n" alone ends a line, because names
    # and prompts may hold other line separators.
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = Entry(**json.loads(line))
            entries[entry.input, entry.prompt] = entry
        except (ValueError, TypeError):
            continue
    return entries
