"""Which masks are to be made: for each scan its prompts, where its files go, and what they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlsmctl.errors import UsageError
from vlsmctl.files import is_there
from vlsmctl.formats.naming import (
    FRAMES_SUFFIX,
    RESERVED,
    SEG_SUFFIX,
    SLICES_SUFFIX,
    VOLUME_SUFFIX,
    mask_path,
    mask_suffix,
    output_stems,
    prompt_slugs,
)
from vlsmctl.formats.records import Found, Reading
from vlsmctl.formats.segment_codes import SegmentCodes
from vlsmctl.ledger import Entry, Known, scan_mark
from vlsmctl.predictor import Cut, Predictor

MADE_LIKE = "1"  # to be raised when the same scan would get another mask than before: readers, geometry
MOST_LABELS = 255  # of a label map of bytes
OVERLAY, PROBABILITY = f"{RESERVED[0]}.png", RESERVED[1]


@dataclass(frozen=True)
class Options:
    """What the user asked for besides scans and prompts.

    format: one of `naming.FORMATS`. allow_uneven: a series that makes no volume gets a NIfTI file a slice.
    combine: one label map instead of a mask a prompt (in DICOM SEG, prompts are segments of one file
    anyway). probabilities: "float" or "8bit" to write them too. overlay: write a picture to look at, too.
    codes: of DICOM SEG segments. workers: threads that read; with 0, reading and writing happen between
    the batches.
    """

    cut: Cut = Cut()  # noqa: RUF009 (frozen)
    batch_size: int = 4
    workers: int = 2
    overwrite: bool = False
    format: str = "auto"
    reading: Reading = Reading()  # noqa: RUF009 (frozen)
    allow_uneven: bool = False
    combine: bool = False
    probabilities: str | None = None
    overlay: bool = False
    codes: SegmentCodes = field(default_factory=SegmentCodes)


@dataclass(frozen=True)
class Case:
    """A scan to predict.

    input: what the ledger calls it. stem, suffix: of its masks, below the output folder. prompts, rows:
    what to ask for, as words and as rows of the table of all prompts. slugs: the prompts in file names.
    fingerprints: one a prompt, equal where the prompts share a file. files: tells the scan's files (names,
    sizes, times) apart from others and from what they were.
    """

    found: Found
    input: str
    stem: Path
    suffix: str
    prompts: tuple[str, ...]
    rows: tuple[int, ...]
    slugs: tuple[str | None, ...]
    fingerprints: tuple[str, ...]
    files: str

    def path(self, suffix: str, number: int | None = None) -> Path:
        """Of a file for all prompts, or for one."""
        return mask_path(self.stem, suffix, None if number is None else self.slugs[number])


def all_prompts(cases: Sequence[Case]) -> list[str]:
    """The words behind the rows of the cases."""
    words = {row: prompt for case in cases for row, prompt in zip(case.rows, case.prompts, strict=True)}
    return [words[row] for row in range(len(words))]


def plan_cases(
    founds: Sequence[Found], prompts: Sequence[Sequence[str]], predictor: Predictor, options: Options
) -> list[Case]:
    """One case a scan, in their order. prompts: for each scan, those that it is asked for.

    Raises UsageError where a label map cannot hold so many prompts.
    """
    words = list(dict.fromkeys(prompt for own in prompts for prompt in own))
    if options.combine and len(words) > MOST_LABELS:
        raise UsageError(f"--combine: a label map holds {MOST_LABELS} prompts, found {len(words)}")
    rows = {word: row for row, word in enumerate(words)}
    several = any(len(own) > 1 for own in prompts)
    slugs = dict(zip(words, prompt_slugs(words), strict=True)) if several else dict.fromkeys(words)
    suffixes = [mask_suffix(found, options.format) for found in founds]
    made = []
    for found, stem, suffix, own in zip(
        founds, output_stems(founds, suffixes), suffixes, prompts, strict=True
    ):
        shared = options.combine or suffix == SEG_SUFFIX
        files = scan_mark(found.files, found.series_number)
        state = _state(files, stem, predictor, options)
        names = [tuple(own) if shared else (prompt,) for prompt in own]
        made.append(
            Case(
                found=found,
                input=_input_name(found),
                stem=stem,
                suffix=suffix,
                prompts=tuple(own),
                rows=tuple(rows[prompt] for prompt in own),
                slugs=tuple(slugs[prompt] for prompt in own),
                fingerprints=tuple(_hash([state, *each]) for each in names),
                files=files,
            )
        )
    return made


def masks(case: Case) -> list[Path]:
    """Every path that a mask of the case may be written to."""
    suffixes = [case.suffix, *([SLICES_SUFFIX] if case.suffix == VOLUME_SUFFIX else [])]
    return _paths(case, suffixes)


def targets(case: Case, options: Options) -> list[Path]:
    """Every path that anything of the case may be written to."""
    further = [OVERLAY] if options.overlay else []
    if options.probabilities:
        endings = (case.suffix, ".tif", VOLUME_SUFFIX, SLICES_SUFFIX, FRAMES_SUFFIX)
        further += [PROBABILITY + ending for ending in endings]
    return masks(case) + _paths(case, further)


def _paths(case: Case, suffixes: Sequence[str]) -> list[Path]:
    numbers = (None, *range(len(case.prompts)))
    return list(dict.fromkeys(case.path(suffix, number) for suffix in suffixes for number in numbers))


class Done:
    """What earlier runs did, as far as it still holds."""

    def __init__(self, known: Known, out: Path) -> None:
        self._out = out
        self._known = known
        # A scan may be named in another way now, from another folder say.
        self._by_fingerprint = {(entry.fingerprint, entry.prompt): entry for entry in known.values()}

    def entries(self, case: Case) -> list[Entry]:
        """The entries of a case all of whose masks were made from the same files, with the same model and
        options, and are still there, under the names that they would have now; else none."""
        planned = {target.as_posix() for target in masks(case)}
        found = []
        for prompt, fingerprint in zip(case.prompts, case.fingerprints, strict=True):
            entry = self._known.get((case.input, prompt))
            if entry is None or entry.fingerprint != fingerprint:
                entry = self._by_fingerprint.get((fingerprint, prompt))
            if entry is None or entry.output not in planned:
                return []
            if not all(is_there(self._out / name) for name in entry.files):
                return []
            found.append(entry)
        return found


def _state(files: str, stem: Path, predictor: Predictor, options: Options) -> str:
    """Tells apart what the masks of a scan depend on, and where they lie, except for the prompts."""
    asked = (
        options.cut, options.format, options.reading, options.allow_uneven, options.combine,
        options.probabilities, options.overlay, options.codes,
    )  # fmt: skip
    return _hash([MADE_LIKE, predictor.fingerprint, repr(asked), stem.as_posix(), files])


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _input_name(found: Found) -> str:
    name = found.source.as_posix()
    return name if found.series_number == 1 else f"{name}#{found.series_number}"
