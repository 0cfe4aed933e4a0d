"""What lies in a folder of downloads: known data sets anywhere below it, archives, one's own data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.kinds import DATASETS, OWN
from vlsmctl.datasets.manifest import INFO, MANIFEST
from vlsmctl.datasets.pairs import relative
from vlsmctl.datasets.records import Kind, without_known_empty
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import NoReadableInput, UsageError, VlsmctlError

DEPTH = 12  # folders below the one that is named
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar", ".7z")


@dataclass(frozen=True)
class Root:
    """The root of a known layout. records: how many there would be; expected: in the whole set, or None.
    notes: what its listing tells, such as the rule that pairs one's own pictures and masks."""

    name: str
    path: Path
    records: int
    expected: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """An archive, not opened. name: the known set that it holds by its name, perhaps among others; None:
    nobody knows."""

    name: str | None
    path: Path


@dataclass(frozen=True)
class Trouble:
    """A folder that could not be looked at, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Recognised:
    """roots: one of each known set, the one with most records; others: further roots of the same sets;
    own: pictures and masks of no known set; archives: of sets that are not there unpacked, and unknown
    ones; troubles: what could not be looked at."""

    roots: tuple[Root, ...]
    others: tuple[Root, ...]
    own: tuple[Root, ...]
    archives: tuple[Archive, ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True)
class _Walked:
    """Every folder that is a root, with the name of its kind; archives; and what could not be looked at."""

    roots: list[tuple[str, Path]]
    archives: list[Archive]
    troubles: list[Trouble]


def recognise(raw: Path) -> Recognised:
    """Everything that is known in `raw` and below. Only names are read, and what listings need.

    Raises UsageError: no such folder. NoReadableInput: nothing known.
    """
    check_folder(raw)
    walked = _walk(raw)
    troubles = list(walked.troubles)
    found: list[Root] = []
    for name, path in walked.roots:
        try:
            found.append(_root(name, path))
        except VlsmctlError as error:  # one bad folder does not cost the others
            troubles.append(Trouble(path, str(error)))
    best: dict[str, Root] = {}
    for root in found:
        if root.name != OWN and (root.name not in best or root.records > best[root.name].records):
            best[root.name] = root
    chosen = tuple(best[name] for name in DATASETS if name in best)
    recognised = Recognised(
        chosen,
        tuple(root for root in found if root.name != OWN and root not in chosen),
        tuple(root for root in found if root.name == OWN),
        tuple(archive for archive in walked.archives if archive.name not in best),
        tuple(troubles),
    )
    if not (recognised.roots or recognised.own or recognised.archives or troubles):
        raise NoReadableInput(
            f"no known data set in '{raw}', nor pictures with masks: found {glimpse(raw)}",
            hint="for pictures of your own: call their folders images/ and masks/, with equal file names,"
            " then vlsmctl prepare NAME --raw PATH --class WORD; the known sets: vlsmctl presets",
        )
    return recognised


def find_root(name: str, raw: Path) -> Path:
    """The root of one kind of data at `raw` or anywhere below: of several the one with most records.

    Raises UsageError: no such folder; several places with one's own data, or with an archive only.
    NoReadableInput: it is not there.
    """
    check_folder(raw)
    if {INFO, MANIFEST} <= set(read_folder(raw).files):
        raise UsageError(
            f"'{raw}' is a prepared data set, not raw data", hint="name the raw data: --raw PATH"
        )
    walked = _walk(raw, name)
    roots = [path for _, path in walked.roots]
    if len(roots) > 1 and name == OWN:
        raise UsageError(
            f"'{raw}' holds pictures and masks in several places: "
            + ", ".join(relative(path, raw) for path in roots),
            hint="name one of them with --raw, or see what is in each: vlsmctl prepare --raw PATH --plan",
        )
    if roots:
        return roots[0] if len(roots) == 1 else max(roots, key=lambda path: _root(name, path).records)
    archives = [archive for archive in walked.archives if archive.name == name]
    if archives:
        raise UsageError(
            f"{name} is in '{raw}' as an archive, which is not unpacked: {archives[0].path.name}",
            hint=f'vlsmctl prepare {name} --raw "{archives[0].path}"',
        )
    if _is_of_layout(DATASETS[name], raw):
        return raw
    raise NoReadableInput(
        f"no {name} data in '{raw}': expected {DATASETS[name].layout}; found {glimpse(raw)}"
    )


def located(raw: Path) -> dict[str, Path]:
    """Where the known sets lie in a folder or below it, by names alone: the first place of each."""
    found: dict[str, Path] = {}
    for name, path in _walk(raw).roots if raw.is_dir() else ():
        found.setdefault(name, path)
    return found


def check_folder(raw: Path) -> None:
    if not raw.is_dir():
        found = "a file" if raw.exists() else "nothing"
        raise UsageError(
            f"--raw '{raw}': expected a folder, found {found}",
            hint="name the folder with the raw data: vlsmctl prepare --raw PATH",
        )


def glimpse(folder: Path) -> str:
    """A few names from a folder, for an error message."""
    here = read_folder(folder)
    names = [*(f"{name}/" for name in here.folders), *here.files]
    return listed(names, shown=6) or here.problem or "nothing"


def _walk(raw: Path, only: str | None = None) -> _Walked:
    walked = _Walked([], [], [])
    kinds = {only: DATASETS[only]} if only else DATASETS
    for folder, inside in _folders(raw):
        if folder.problem:
            walked.troubles.append(Trouble(folder.path, folder.problem))
        name = next((name for name, kind in kinds.items() if kind.matches(folder)), None)
        if name is not None:
            walked.roots.append((name, folder.path))
            inside.clear()
            continue
        for file in folder.files:
            if file.lower().endswith(ARCHIVES):
                walked.archives.extend(Archive(each, folder.path / file) for each in _held(file.lower()))
    return walked


def _held(archive: str) -> list[str] | list[None]:
    """The known sets that an archive holds, by its name in lower case."""
    names = [
        name for name, kind in DATASETS.items() if any(fnmatch(archive, each) for each in kind.archives)
    ]
    return names or [None]


def _root(name: str, path: Path) -> Root:
    kind = DATASETS[name]
    listing = kind.list_items(path)
    if kind.empty == "drop":
        listing = without_known_empty(listing)
    return Root(name, path, len(listing.items), kind.expected, listing.notes)


def _is_of_layout(kind: Kind, raw: Path) -> bool:
    """A folder that was named as a set's own may be called anything, as long as its layout is right."""
    try:
        return bool(kind.list_items(raw).items)
    except (VlsmctlError, OSError):
        return False


def _folders(top: Path) -> Iterator[tuple[Folder, list[str]]]:
    """Folder by folder from the top, each with the names to go on to, which the caller may clear.
    Prepared data sets are passed over, and links are followed, each folder once."""
    waiting = [(top, 0)]
    seen: set[Path] = set()
    while waiting:
        path, depth = waiting.pop()
        resolved = path.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        folder = read_folder(path)
        if {INFO, MANIFEST} <= set(folder.files):
            continue
        inside = list(folder.folders) if depth < DEPTH else []
        yield folder, inside
        waiting += [(path / name, depth + 1) for name in reversed(inside)]
