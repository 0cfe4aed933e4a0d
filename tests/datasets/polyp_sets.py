"""For the tests of the polyp sets: which of them would take a folder for theirs."""

from __future__ import annotations

from pathlib import Path

from vlsmctl.datasets.bkai import BKAI
from vlsmctl.datasets.clinicdb import CLINICDB
from vlsmctl.datasets.colondb import COLONDB
from vlsmctl.datasets.cvc300 import CVC300
from vlsmctl.datasets.etis import ETIS
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.kvasir import KVASIR

POLYP_SETS = {
    "kvasir": KVASIR,
    "clinicdb": CLINICDB,
    "bkai": BKAI,
    "cvc300": CVC300,
    "colondb": COLONDB,
    "etis": ETIS,
}


def claims(top: Path) -> dict[str, list[str]]:
    """The folders at and below `top` that are claimed, relative to it, with the names of the sets."""
    folders = [top, *sorted(path for path in top.rglob("*") if path.is_dir())]
    claimed = {
        folder.relative_to(top).as_posix(): [
            name for name, kind in POLYP_SETS.items() if kind.matches(read_folder(folder))
        ]
        for folder in folders
    }
    return {folder: names for folder, names in claimed.items() if names}
