"""A folder's names, read once, for recognising raw layouts without opening files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

LITTER = ("thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True)
class Folder:
    """folders, files: the names in it, sorted; hidden ones and what systems leave behind are not told.
    problem: why it could not be listed; "" where it could."""

    path: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]
    problem: str = ""
    _read: dict[str, Folder] = field(default_factory=dict, compare=False, repr=False)

    def below(self, *names: str) -> Folder | None:
        """The folder with that name (or at the end of that chain of names), in whatever case; or None."""
        here: Folder | None = self
        for name in names:
            if here is None:
                return None
            exact = [each for each in here.folders if each == name]
            near = exact or [each for each in here.folders if each.lower() == name.lower()]
            here = here._child(near[0]) if near else None
        return here

    def _child(self, name: str) -> Folder:
        if name not in self._read:
            self._read[name] = read_folder(self.path / name)
        return self._read[name]


def read_folder(path: Path) -> Folder:
    """Reads the names in a folder; one that may not be listed has none. Links to folders are folders."""
    problem = ""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not is_litter(entry.name):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        problem = f"cannot be listed ({error.strerror or error})"
    return Folder(path, tuple(sorted(folders)), tuple(sorted(files)), problem)


def is_litter(name: str) -> bool:
    """Hidden files, and what operating systems leave behind."""
    return name.startswith(".") or name.lower() in LITTER
