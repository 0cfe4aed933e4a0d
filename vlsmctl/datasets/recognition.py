"""What lies in a folder of downloads: known data sets anywhere below it, archives, one's own data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.kinds import DATASETS, OWN
from vlsmctl.datasets.manifest import INFO
from vlsmctl.datasets.records import Kind, without_known_empty
from vlsmctl.errors import NoReadableInput, UsageError, VlsmctlError

DEPTH = 12  # folders below the one that is named
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".rar", ".7z")


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
    """An archive that by its name holds a known set, perhaps among others. It was not opened."""

    name: str
    path: Path


@dataclass(frozen=True)
class Recognised:
    """roots: one of each known set, the one with most records; others: further roots of the same sets;
    own: pictures and masks of no known set; archives: of sets that are not there unpacked."""

    roots: tuple[Root, ...]
    others: tuple[Root, ...]
    own: tuple[Root, ...]
    archives: tuple[Archive, ...]


def recognise(raw: Path) -> Recognised:
    """Everything that is known in `raw` and below. Only names are read.

    Raises UsageError: no such folder. NoReadableInput: nothing known.
    """
    check_folder(raw)
    found, archives = _walked(raw)
    best: dict[str, Root] = {}
    for root in found:
        if root.name != OWN and (root.name not in best or root.records > best[root.name].records):
            best[root.name] = root
    chosen = tuple(best[name] for name in DATASETS if name in best)
    recognised = Recognised(
        chosen,
        tuple(root for root in found if root.name != OWN and root not in chosen),
        tuple(root for root in found if root.name == OWN),
        tuple(archive for archive in archives if archive.name not in best),
    )
    if not (recognised.roots or recognised.own or recognised.archives):
        raise NoReadableInput(f"no known data set in '{raw}': found {glimpse(raw)}\n{_layouts()}")
    return recognised


def find_root(name: str, raw: Path) -> Path:
    """The root of one kind of data at `raw` or anywhere below: the one with most records.

    Raises UsageError: no such folder, or the set is there as an archive only. NoReadableInput: it is not
    there.
    """
    check_folder(raw)
    kind = DATASETS[name]
    found, archives = _walked(raw, name)
    if found:
        return max(found, key=lambda root: root.records).path
    if archives:
        raise UsageError(
            f"{name} is in '{raw}' as an archive, which is not unpacked: {archives[0].path.name}",
            hint=f'vlsmctl prepare {name} --raw "{archives[0].path}"',
        )
    if _is_of_layout(kind, raw):
        return raw
    raise NoReadableInput(f"no {name} data in '{raw}': expected {kind.layout}; found {glimpse(raw)}")


def _is_of_layout(kind: Kind, raw: Path) -> bool:
    """A folder that was named as a set's own may be called anything, as long as its layout is right."""
    try:
        return bool(kind.list_items(raw).items)
    except (VlsmctlError, OSError):
        return False


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
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing"


def _walked(raw: Path, only: str | None = None) -> tuple[list[Root], list[Archive]]:
    """The roots below `raw` of all kinds, or of one."""
    roots: list[Root] = []
    archives: list[Archive] = []
    kinds = {only: DATASETS[only]} if only else DATASETS
    for folder, inside in _folders(raw):
        name = next((name for name, kind in kinds.items() if kind.matches(folder)), None)
        if name is not None:
            roots.append(_root(name, kinds[name], folder.path))
            inside.clear()
            continue
        archives += [
            Archive(name, folder.path / file)
            for file in folder.files
            if file.lower().endswith(ARCHIVES)
            for name, kind in kinds.items()
            if any(fnmatch(file.lower(), pattern) for pattern in kind.archives)
        ]
    return roots, archives


def _root(name: str, kind: Kind, path: Path) -> Root:
    listing = kind.list_items(path)
    if kind.empty == "drop":
        listing = without_known_empty(listing)
    return Root(name, path, len(listing.items), kind.expected, listing.notes)


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
        if INFO in folder.files:
            continue
        inside = list(folder.folders) if depth < DEPTH else []
        yield folder, inside
        waiting += [(path / name, depth + 1) for name in reversed(inside)]


def _layouts() -> str:
    known = (f"  {name}: {kind.layout}" for name, kind in DATASETS.items() if kind.make is None)
    return "known layouts, at --raw or anywhere below it:\n" + "\n".join(known)
