"""What the ledger of `predict` says of its masks: which prompts each answers, and which never got
one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlsmctl.errors import UnreadableFile, VlsmctlError
from vlsmctl.files import is_there
from vlsmctl.formats.naming import FRAMES_SUFFIX, NIFTI_SUFFIXES, PICTURE_SUFFIXES, SLICES_SUFFIX
from vlsmctl.formats.nifti import read_grid
from vlsmctl.formats.raster import picture_size
from vlsmctl.formats.scan import find_scans
from vlsmctl.ledger import Entry, ever_written, read_ledger, scan_mark
from vlsmctl.pairing.folders import is_ledger
from vlsmctl.pairing.names import Claim, composed, image_claims, key, mask_claims

_ABOVE = 8  # folders above the one given, in which a ledger is looked for
_GONE = "its mask is not there any more"


@dataclass(frozen=True)
class Recorded:
    """What a mask answers. prompt: the text; label: its number in a file that holds several; input: the
    scan, as `predict` was given it; scan: what its files were (`Entry.scan`), "" where that is not known;
    output: the mask, relative to the folder of its ledger."""

    prompt: str
    label: int | None
    input: str
    scan: str
    output: str
    folder: Path


@dataclass(frozen=True)
class Lost:
    """An input that got no mask for a prompt (None: it was skipped before any was asked). cases: that it
    may be, the likeliest first."""

    cases: tuple[str, ...]
    prompt: str | None
    reason: str


@dataclass(frozen=True)
class Ledger:
    """outputs: of each mask that is there (a file, or a folder of frames, below the folder of
    predictions) what it answers. lost: what has none. stale: outputs of earlier runs, which no entry
    counts any more."""

    outputs: dict[str, tuple[Recorded, ...]] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    stale: set[str] = field(default_factory=set)


def read_answers(folder: Path, usable: Mapping[str, str | None], ledgers: Sequence[str] | None) -> Ledger:
    """The ledgers of a folder of predictions, taken together; paths are relative to it.

    usable: the masks that are there, each with the reason why it cannot be used, or None. ledgers: the
    folders below it that have a ledger ("" for itself); None: it is to be looked for. Without any, the
    one above counts, as far as its masks lie in the folder.
    """
    said = Ledger()
    if ledgers is None:
        ledgers = [""] if _has_ledger(folder) else []
    places = [_Place(folder / name, f"{name}/" if name else "", "") for name in ledgers]
    above = None if places else _ledger_above(folder)
    if above is not None:
        places = [_Place(above, "", f"{folder.absolute().relative_to(above).as_posix()}/")]
    for place in places:
        _sort(read_ledger(place.folder).values(), place, usable, said)
        names = (place.within(name) for name in ever_written(place.folder))
        said.stale.update(name for name in names if name is not None)
    said.stale.difference_update(said.outputs)
    return said


def _ledger_above(folder: Path) -> Path | None:
    """The nearest folder above with a ledger, where `folder` is a part of what `predict` wrote."""
    above = list(folder.absolute().parents)[:_ABOVE]
    return next((place for place in above if _has_ledger(place)), None)


def _has_ledger(folder: Path) -> bool:
    try:
        return any(is_ledger(path.name) for path in folder.glob("predictions.*jsonl"))
    except OSError:
        return False


@dataclass(frozen=True)
class _Place:
    """A folder with a ledger. before: goes before its paths to make them relative to the folder of
    predictions; inside: what they must begin with, where that lies below this one."""

    folder: Path
    before: str
    inside: str

    def within(self, name: str) -> str | None:
        """A path below the folder of predictions; None for one that lies elsewhere."""
        if not name.startswith(self.inside):
            return None
        return composed(self.before + name[len(self.inside) :])


def _sort(
    entries: Collection[Entry], place: _Place, usable: Mapping[str, str | None], said: Ledger
) -> None:
    """Adds what the entries of one ledger say."""
    outputs: dict[str, list[Recorded]] = {}
    lost = [entry for entry in entries if entry.output is None]
    roots: set[str] = set()
    for entry in entries:
        if entry.output is None:
            continue
        if lost:
            roots.update(_roots(entry.output, entry.input))
        name = place.within(entry.output)
        if name is None:
            continue
        why = usable.get(name, _GONE)
        if why is None:
            recorded = Recorded(
                entry.prompt, entry.label, entry.input, entry.scan, entry.output, place.folder
            )
            outputs.setdefault(name, []).append(recorded)
        else:
            cases = tuple(case for case, _ in _output_claims(name, entry.input))
            said.lost.append(Lost(cases, entry.prompt, why))
    said.outputs.update((name, tuple(own)) for name, own in outputs.items())
    for entry in lost:
        names = tuple(_input_cases(entry.input, roots, place))
        if names:
            prompt = entry.prompt if entry.status != "skipped" else None
            said.lost.append(Lost(names, prompt, f"{entry.status}: {entry.reason}"))


def _output_claims(output: str, source: str) -> Iterator[Claim]:
    return recorded_claims(key(output.removesuffix(FRAMES_SUFFIX).removesuffix(SLICES_SUFFIX)), source)


def recorded_claims(name: str, source: str) -> Iterator[Claim]:
    """The cases that a mask may be for, by its name (without the extension), where the ledger knows its
    prompts. A scan may be called a__polyp itself: then that is no prompt. source: the scan."""
    last = name.rpartition("/")[2]
    own = any(stem.rpartition("/")[2] == last for stem in _stems(source))
    for case, _ in (image_claims if own else mask_claims)(name):
        yield case, None


def _stems(source: str) -> tuple[str, ...]:
    """An input as a name: with and without its extension. A further series of a folder, head#2, is
    head_2."""
    folder, mark, number = source.rpartition("#")
    if mark and number.isdecimal():
        return (composed(f"{folder}_{number}"),)
    return tuple(dict.fromkeys((composed(source), key(source))))


def _roots(output: str, source: str) -> Iterator[str]:
    """What an input's path begins with that its mask's path does not have."""
    for case, _ in _output_claims(output, source):
        for stem in _stems(source):
            if stem == case or stem.endswith(f"/{case}"):
                yield stem[: len(stem) - len(case)]
                return


def _input_cases(source: str, roots: Iterable[str], place: _Place) -> Iterator[str]:
    """The cases that an input without a mask may be: its path below the root that inputs with masks
    show; where they show none that fits, the end of its path, the longest first."""
    stems = _stems(source)
    longest_first = sorted(filter(None, roots), key=len, reverse=True)
    below = [stem[len(root) :] for root in longest_first for stem in stems if stem.startswith(root)]
    if not below:
        parts = [stem.strip("/").split("/") for stem in stems]
        below = ["/".join(one[start:]) for one in parts for start in range(len(one))]
        below.sort(key=len, reverse=True)
    for name in below:
        inside = place.within(name)
        if inside:
            yield inside


def scan_of(recorded: Recorded, known: dict[object, Path | None]) -> Path | None:
    """The scan that a mask was made of, where that is sure: it is where the ledger says, from the folder
    above the ledger's or the working directory, called like the mask, and its files are what they were;
    where the ledger does not tell, it has as many pixels as the mask. known: found before, added to."""
    names = {case.rpartition("/")[2] for case, _ in _output_claims(recorded.output, recorded.input)}
    if names.isdisjoint(stem.rpartition("/")[2] for stem in _stems(recorded.input)):
        return None
    mask = recorded.folder / recorded.output
    about = (recorded.folder, recorded.input, recorded.scan or mask)
    if about not in known:
        places = dict.fromkeys((Path(recorded.input), recorded.folder.absolute().parent / recorded.input))
        known[about] = next((path for path in places if _is_scan(path, recorded.scan, mask)), None)
    return known[about]


def _is_scan(path: Path, mark: str, mask: Path) -> bool:
    if not is_there(path):
        return False
    if not mark:
        size = _size(path)
        return size is not None and size == _size(mask)
    try:
        found, _ = find_scans([path])
    except (VlsmctlError, OSError):
        return False
    return any(one.source == path and scan_mark(one.files, one.series_number) == mark for one in found)


def _size(path: Path) -> tuple[int, ...] | None:
    """In pixels or voxels; None for what has none of its own, a folder, or is not read quickly."""
    low = path.name.lower()
    try:
        if low.endswith(PICTURE_SUFFIXES):
            return picture_size(path)
        return tuple(read_grid(path).shape) if low.endswith(NIFTI_SUFFIXES) else None
    except (UnreadableFile, OSError):
        return None
