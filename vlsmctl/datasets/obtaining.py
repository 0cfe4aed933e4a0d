"""Raw data that is not a folder yet: archives are unpacked, and what may be downloaded is."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vlsmctl.console import download_bar, track
from vlsmctl.datasets.download import Download, fetch
from vlsmctl.datasets.kinds import DATASETS
from vlsmctl.datasets.unpack import unpack
from vlsmctl.errors import UsageError
from vlsmctl.network import is_offline

RAW = "raw"  # below the folder of prepared sets: where raw data is looked for, and where downloads go
MEDVLSM_PAGE = "https://github.com/naamiinepal/medvlsm"
MEDVLSM_TERMS = "MIT licence"
_MEDVLSM_COMMIT = "80347bcd8ba270e3b111148b797976cecab24406"  # the release that numbers here are held to
_MEDVLSM_FILES = f"https://raw.githubusercontent.com/naamiinepal/medvlsm/{_MEDVLSM_COMMIT}/data"
_PARTS = ("val", "train", "test")  # the last two are there for every set


def unpacked(archive: Path, folder: Path) -> Path:
    """The folder with an archive's contents, below `folder`, made unless it is there already. Its name
    tells apart archives of one name, and an archive from what it was before it changed.

    Raises as `unpack` does.
    """
    status = archive.stat()
    known = f"{archive.resolve()} {status.st_size} {status.st_mtime_ns}"
    mark = hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    target = folder / f"{_stem(archive)}-{mark}"
    return target if target.is_dir() else unpack(archive, target, progress=track)


def check_terms(name: str, accepted: bool, out: Path) -> None:
    """Raises UsageError when a set may not be downloaded, or not without agreeing to its terms."""
    kind, folder = DATASETS[name], out / RAW / name
    there = "" if out == Path("data") else f' --out "{out}"'
    if not kind.downloads:
        raise UsageError(
            f"{name} cannot be downloaded by a program: {kind.licence}\n"
            f"  get it from {kind.source}\n  and put it into {folder}",
            hint=f'vlsmctl prepare {name} --raw "{folder}"{there}',
        )
    if kind.terms and not accepted:
        raise UsageError(
            f"{name} is free to download under these terms: {kind.terms} ({kind.source})",
            hint=f"vlsmctl prepare {name} --download --accept-terms{there}",
        )


def downloaded(name: str, folder: Path) -> Path:
    """The folder with the raw files of a set, downloaded and unpacked where they are not there yet."""
    kind = DATASETS[name]
    for download in kind.downloads:
        target = folder / _stem(Path(download.name))
        if not target.is_dir():
            unpack(_fetched(download, folder), target, progress=track)
    return folder


def downloaded_annotations(name: str, folder: Path, *, accepted: bool, plan: bool = False) -> Path:
    """MedVLSM's annotation files of a set, below `folder`, downloaded where they are not there yet.

    Raises UsageError: nobody agreed to that, it is but a plan, or there are none for this set.
    """
    kind = DATASETS[name]
    if kind.annotations is None:
        raise UsageError(f"MedVLSM has no annotations for {name}", hint="leave out --protocol medvlsm")
    place = folder / kind.annotations / "anns"
    whole = all((place / f"{part}.json").is_file() for part in _PARTS[1:])
    if not (whole or accepted):
        raise UsageError(
            f"MedVLSM's annotations are not here; published under an {MEDVLSM_TERMS}: {MEDVLSM_PAGE}",
            hint=f"vlsmctl prepare {name} --protocol medvlsm --annotations DIR   (or --accept-terms, to"
            " download them)",
        )
    if plan and not whole:
        raise UsageError(f"--plan writes nothing; MedVLSM's annotations would be downloaded to {place}")
    for part in () if whole else _PARTS:
        url = f"{_MEDVLSM_FILES}/{kind.annotations}/anns/{part}.json"
        try:
            _fetched(Download(url, f"{part}.json"), place)
        except UsageError as error:
            if part != "val" or "404" not in str(error):  # some sets have no val
                raise
    return folder / kind.annotations


def _fetched(download: Download, folder: Path) -> Path:
    with download_bar(download.name, download.size) as progress:
        return fetch(download, folder, progress=progress, offline=is_offline())


def _stem(archive: Path) -> str:
    """The name without the endings of an archive."""
    name = archive.name
    for ending in (".gz", ".bz2", ".xz", ".tgz", ".tar", ".zip", ".rar", ".7z"):
        name = name.removesuffix(ending) or name
    return name
