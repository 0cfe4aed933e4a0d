"""The files among inputs that may be scans, each once; and how many were passed over."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vlsmctl.formats.dicom_header import has_preamble
from vlsmctl.formats.records import Problem

# A folder with this file holds the masks of an earlier run.
EARLIER_RUN = "predictions.jsonl"
_INDEX = "dicomdir"

# The system's own, which nobody misses. Folders that begin with ".trash-" are, too.
_SYSTEM_FOLDERS = (
    *("__macosx", "$recycle.bin", "system volume information", "lost+found"),
    *(".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100"),
)
_SYSTEM_FILES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", _INDEX),
    *(".ds_store", ".localized", ".directory", ".apdisk"),
)
_APPLE_DOUBLE = b"\0\5\x16\7"  # what macOS lays beside files on foreign disks, as ._name. Source: RFC 1740

Why = Literal["no image", "hidden DICOM", "hidden", "special", "other"]
_WORDS: dict[Why, tuple[str, str]] = {  # of one, of several; in the order in which they are said
    "no image": (
        "DICOM object without an image (a segmentation, report or plan)",
        "DICOM objects without an image (segmentations, reports, plans)",
    ),
    "hidden DICOM": ("hidden DICOM file", "hidden DICOM files"),
    "hidden": ("hidden", "hidden"),
    "special": ("pipe or device", "pipes or devices"),
    "other": ("other", "others"),
}
_EXTENSION = re.compile(r"\.(?=.*[a-z])[a-z0-9]{1,8}")  # with a letter: the end of a UID is none
_EXTENSIONS_NAMED = 3
# What lies beside slices without an extension, and never was one
_SIDE_FILE = re.compile(
    r"(readme.*|dicomdir|version|lockfile|licen[cs]e|copying|notice|authors|contents|changes|changelog"
    r"|(md5|sha(1|256|512))(sums?)?)([^a-z0-9].*)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Candidate:
    """A file on its way to becoming a scan, or part of one. named: as an input of its own. identity: its
    path without links."""

    number: int
    root: Path
    path: Path
    named: bool
    identity: str


@dataclass
class Tally:
    """How many files below one input folder were passed over, and why: numbers, no names."""

    files: Counter[Why] = field(default_factory=Counter)
    extensions: Counter[str] = field(default_factory=Counter)  # of the others, "" for what is none
    hidden_folders: int = 0

    def add(self, path: Path, why: Why) -> None:
        self.files[why] += 1
        if why == "other":
            self.extensions[_extension(path)] += 1

    def reason(self) -> str | None:
        """Everything in one line; None where nothing was passed over."""
        parts = [
            f"{count} {words[count > 1]}" + (self._examples() if why == "other" else "")
            for why, words in _WORDS.items()
            if (count := self.files[why])
        ]
        total = sum(self.files.values())
        said = [f"{total} file{'s' * (total > 1)} not taken for scans: {', '.join(parts)}"] if total else []
        if self.hidden_folders:
            said.append(f"{self.hidden_folders} hidden folder{'s' * (self.hidden_folders > 1)}")
        return "; ".join(said) or None

    def _examples(self) -> str:
        """The extensions that occur most."""
        known = sorted((extension for extension in self.extensions if extension), key=self._rank)
        shown = known[:_EXTENSIONS_NAMED]
        more = ["..."] if len(self.extensions) > len(shown) else []
        return f" ({', '.join([*shown, *more])})" if shown else ""

    def _rank(self, extension: str) -> tuple[int, str]:
        return -self.extensions[extension], extension


@dataclass(frozen=True)
class Search:
    """What looking for scans gathers beside them.

    problems: inputs that are not there, folders that cannot be listed or hold the masks of an earlier run.
    named: identities of the files that are inputs themselves. again: those that lie below another input
    too, as found there.
    tallies: what was passed over below each input folder. unknown: of that, what is no scan by its name
    or content, until `tell_lost_slices`.
    """

    problems: list[Problem] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    again: dict[str, Candidate] = field(default_factory=dict)
    tallies: defaultdict[Path, Tally] = field(default_factory=lambda: defaultdict(Tally))
    unknown: list[Candidate] = field(default_factory=list)

    def pass_over(self, candidate: Candidate, why: Why) -> None:
        if why == "other":
            self.unknown.append(candidate)
        else:
            self.tallies[candidate.root].add(candidate.path, why)

    def tell_lost_slices(self, images: Iterable[Path]) -> None:
        """What is unknown becomes a Problem where it may have been a slice, else it is counted. It may, by
        its name, beside a DICOM image: with the extension of the image, or, where that has none, with a
        name like that of the image. images: DICOM files."""
        patterns = defaultdict(set)
        for path in images:
            patterns[path.parent].update(_patterns(path))
        for candidate in self.unknown:
            path = candidate.path
            if patterns.get(path.parent, set()) & _patterns(path) and not _SIDE_FILE.match(path.name):
                reason = f"{_lost(path)}, and lies among DICOM images: it may have been a slice"
                self.problems.append(Problem(path, reason))
            else:
                self.tallies[candidate.root].add(path, "other")
        self.unknown.clear()

    def passed_over(self) -> list[Problem]:
        """One harmless Problem for each input folder in which something was passed over."""
        reasons = ((root, tally.reason()) for root, tally in self.tallies.items())
        return [Problem(root, reason, harmless=True) for root, reason in reasons if reason]


def candidates(inputs: Sequence[Path], search: Search) -> Iterator[Candidate]:
    """Every file that may be a scan, once, in the order of the inputs, sorted within a folder.

    Folders are walked to the bottom; hidden files and folders are counted, what operating systems and the
    makers of discs leave behind is not. A DICOMDIR that is an input stands for the folder it lies in.
    """
    seen: dict[str, bool] = {}  # identity -> whether it is an input itself
    walked: set[str] = set()
    roots = list(_roots(inputs, search.problems))
    search.named.update(_identity(root) for root, named in roots if named)
    for root, named in roots:
        walk = _Walk(root, walked, search)
        for path, identity in [(root, _identity(root))] if named else walk.files():
            candidate = Candidate(len(seen), root, path, named, identity)
            if identity not in seen:
                seen[identity] = named
                yield candidate
            elif seen[identity] and not named:
                search.again.setdefault(identity, candidate)


def searched_folder(path: Path) -> Path:
    """What an input stands for: itself, except that a file named DICOMDIR stands for the folder that it
    lies in, which is searched."""
    return path.parent if path.name.lower() == _INDEX and path.is_file() else path


def _roots(inputs: Iterable[Path], problems: list[Problem]) -> Iterator[tuple[Path, bool]]:
    """Each input that is there, and whether it is a single file."""
    for root in inputs:
        try:
            mode = root.stat().st_mode
        except (OSError, ValueError):  # not there, in a folder that may not be entered, or no path at all
            problems.append(Problem(root, "there is no such file or folder, or it may not be read"))
            continue
        folder = searched_folder(root)
        yield folder, folder == root and not stat.S_ISDIR(mode)


def _identity(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


@dataclass(frozen=True)
class _Walk:
    """Through the folders below one input. Links to folders are followed, each folder once: `walked` are
    those that were walked already."""

    root: Path
    walked: set[str]
    search: Search

    def files(self) -> Iterator[tuple[Path, str]]:
        """The files that may be scans, sorted, each with its identity."""
        for folder, below, names in os.walk(self.root, onerror=self._not_listed, followlinks=True):
            real = os.path.realpath(folder)
            if real in self.walked:
                below.clear()
                continue
            if EARLIER_RUN in names and Path(folder) != self.root:
                reason = "holds the masks of an earlier run"
                self.search.problems.append(Problem(Path(folder), reason, harmless=True))
                below.clear()
                continue
            self.walked.add(real)
            below[:] = sorted(filter(self._is_to_be_entered, below))
            for name in sorted(names):
                if name.lower() in _SYSTEM_FILES:
                    continue
                path = Path(real, name)
                identity = _identity(path) if path.is_symlink() else os.path.normcase(path)
                if not name.startswith("."):
                    yield Path(folder, name), identity
                elif identity not in self.search.named and (why := _hidden(path)):
                    self.search.tallies[self.root].add(path, why)

    def _not_listed(self, error: OSError) -> None:
        path = Path(error.filename or self.root)
        self.search.problems.append(Problem(path, f"cannot be listed ({error.strerror})"))

    def _is_to_be_entered(self, name: str) -> bool:
        if name.lower() in _SYSTEM_FOLDERS or name.lower().startswith(".trash-"):
            return False
        if name.startswith("."):
            self.search.tallies[self.root].hidden_folders += 1
            return False
        return True


def _extension(path: Path) -> str:
    """In lower case; "" for none, and for what is none, such as the last part of a UID."""
    extension = path.suffix.lower()
    return extension if _EXTENSION.fullmatch(extension) else ""


def _patterns(path: Path) -> set[str | int]:
    """What the names of one folder's slices have in common: the extension; without one, all but the digits,
    or the length (with a digit, as words are no slices)."""
    if extension := _extension(path):
        return {extension}
    name = path.name.lower()
    if not re.search("[0-9]", name):
        return set()
    return {re.sub("[0-9]+", "0", name) if name.strip("0123456789.") else "0", len(name)}


def _lost(path: Path) -> str:
    try:
        empty = not path.stat().st_size
    except OSError:
        empty = False
    return "the file is empty (0 bytes)" if empty else "not a DICOM file"


def _hidden(path: Path) -> Why | None:
    """What a hidden file counts as; None for the system's own."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "hidden"
        if path.name.startswith("._") and _begins(path, _APPLE_DOUBLE):
            return None
        return "hidden DICOM" if has_preamble(path) else "hidden"
    except OSError:
        return "hidden"


def _begins(path: Path, beginning: bytes) -> bool:
    with path.open("rb", buffering=0) as stream:
        return stream.read(len(beginning)) == beginning
