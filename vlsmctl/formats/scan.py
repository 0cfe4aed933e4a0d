"""Scans of any kind: found in files and folders, opened one at a time.

Finding is separate from opening, so that a batch of a million files is listed without decoding one
(of DICOM files, a few header elements are read: they alone say which series a file belongs to).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.dicom import VOLUMETRIC, has_preamble, open_dicom, read_header
from vlsmctl.formats.naming import (
    DICOM_SUFFIXES,
    NIFTI_SUFFIXES,
    PICTURE_SUFFIXES,
    output_name,
    output_names,
    prompt_slug,
    scan_suffix,
)
from vlsmctl.formats.nifti import open_nifti
from vlsmctl.formats.raster import open_picture
from vlsmctl.formats.records import Found, Geometry, Mask, Problem, Scan

__all__ = [
    "Found",
    "Geometry",
    "Mask",
    "Problem",
    "Scan",
    "find_scans",
    "open_scan",
    "output_name",
    "output_names",
    "prompt_slug",
]

OPENERS = {"picture": open_picture, "nifti": open_nifti, "dicom": open_dicom}

_KINDS = (("picture", PICTURE_SUFFIXES), ("nifti", NIFTI_SUFFIXES), ("dicom", DICOM_SUFFIXES))
_MASK_SUFFIXES = {"picture": ".png", "nifti": ".nii.gz"}
_PASSED_OVER = ("__macosx", "thumbs.db", "desktop.ini", "dicomdir")
_UNSUPPORTED = {
    **dict.fromkeys(
        (".mha", ".mhd", ".nrrd", ".nhdr", ".mgh", ".mgz", ".mnc"), "convert it to NIfTI first"
    ),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv"), "store the frames as pictures first"
    ),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn", ".czi"), "export regions of it as pictures first"),
    **dict.fromkeys((".heic", ".heif", ".avif"), "store it as PNG or JPEG first"),
}


@dataclass(frozen=True)
class _Candidate:
    """A file on its way to becoming a scan, or part of one. named: as an input of its own."""

    root: Path
    path: Path
    named: bool


@dataclass(frozen=True)
class _DicomFile:
    candidate: _Candidate
    series: str
    positioned: bool


def find_scans(inputs: Sequence[Path]) -> tuple[list[Found], list[Problem]]:
    """Everything to predict among files and folders, in the order of the inputs, sorted within a
    folder; each file once, however many ways lead to it.

    Folders are walked to the bottom; hidden files and what operating systems leave behind are passed
    over. The kind is decided by the extension, and for all other names by the DICOM preamble. DICOM
    files of a folder that belong to one series make one scan. A file that looks like a scan, or is
    named as an input, and cannot be one, is a Problem; other files in a folder are passed over.
    """
    found: list[tuple[int, Found]] = []
    problems: list[Problem] = []
    dicom: list[tuple[int, _DicomFile]] = []
    sources: set[Path] = set()  # both halves of a NIfTI pair may be named
    for number, candidate in enumerate(_candidates(inputs, problems)):
        try:
            result = _recognised(candidate)
        except UnreadableFile as error:
            problems.append(Problem(candidate.path, _reason(candidate.path, error)))
            continue
        if isinstance(result, Found):
            if result.source not in sources:
                found.append((number, result))
            sources.add(result.source)
        elif result is not None:
            dicom.append((number, result))
    found.extend(_series(dicom))
    return [each for _, each in sorted(found, key=lambda pair: pair[0])], problems


def open_scan(found: Found) -> Scan:
    """Raises UnreadableFile, in one line, where the scan cannot be used."""
    return OPENERS[found.kind](found)


def _candidates(inputs: Sequence[Path], problems: list[Problem]) -> Iterator[_Candidate]:
    """Every file, once. Inputs that are not there go to the problems."""
    seen: set[Path] = set()
    folders: set[Path] = set()
    for root in inputs:
        if not root.exists():
            problems.append(Problem(root, "there is no such file or folder"))
            continue
        named = not root.is_dir()
        for path in [root] if named else _walk(root, folders, problems):
            resolved = path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield _Candidate(root, path, named)


def _walk(root: Path, folders: set[Path], problems: list[Problem]) -> Iterator[Path]:
    """The files below a folder, sorted. Links to folders are followed, each folder once."""

    def not_listed(error: OSError) -> None:
        problems.append(Problem(Path(error.filename), f"cannot be listed ({error.strerror})"))

    for folder, below, names in os.walk(root, onerror=not_listed, followlinks=True):
        resolved = Path(folder).resolve()
        if resolved in folders:
            below.clear()
            continue
        folders.add(resolved)
        below[:] = sorted(name for name in below if not _is_passed_over(name))
        yield from (Path(folder, name) for name in sorted(names) if not _is_passed_over(name))


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _PASSED_OVER


def _recognised(candidate: _Candidate) -> Found | _DicomFile | None:
    """A scan, a DICOM file that is one or part of one, or None for a file to pass over.

    Raises UnreadableFile for what must be told.
    """
    path = candidate.path
    suffix = scan_suffix(path.name).lower()
    kind = next((kind for kind, suffixes in _KINDS if suffix in suffixes), None)
    advice = _UNSUPPORTED.get(path.suffix.lower())
    try:
        size = path.stat().st_size
        is_dicom = kind == "dicom" or (kind is None and path.is_file() and has_preamble(path))
    except OSError as error:
        raise UnreadableFile(f"cannot be read ({error.strerror})") from error
    if advice and not is_dicom:
        raise UnreadableFile(f"{path.suffix} files are not supported; {advice}")
    if kind is None and not is_dicom:
        if candidate.named:
            raise UnreadableFile(
                "not a scan: neither a picture, nor NIfTI, nor DICOM, by its name or content"
            )
        return None
    if size == 0:
        raise UnreadableFile("the file is empty (0 bytes)")
    if is_dicom:
        return _dicom_file(candidate)
    files = _pair(candidate) if suffix in (".hdr", ".img", ".hdr.gz", ".img.gz") else (path,)
    return _found(candidate, str(kind), files) if files else None


def _found(candidate: _Candidate, kind: str, files: tuple[Path, ...]) -> Found:
    source = files[0]
    relative = Path(source.name) if candidate.named else source.relative_to(candidate.root)
    return Found(candidate.root, source, relative, kind, files, _MASK_SUFFIXES[kind])


def _pair(candidate: _Candidate) -> tuple[Path, ...] | None:
    """The header and the image of a NIfTI pair; None for an image whose header is found on its own."""
    path = candidate.path
    stem = path.name.removesuffix(scan_suffix(path.name))
    partners = {".hdr": (".img", ".img.gz"), ".img": (".hdr", ".hdr.gz")}
    is_header = path.name.lower().removesuffix(".gz").endswith(".hdr")
    endings = partners[".hdr" if is_header else ".img"]
    names = [stem + ending for each in endings for ending in (each, each.upper())]
    other = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if other is None:
        raise UnreadableFile(f"its other half, {stem}{endings[0]}, is missing beside it")
    if is_header:
        return path, other
    return (other, path) if candidate.named else None


def _dicom_file(candidate: _Candidate) -> _DicomFile | None:
    header = read_header(candidate.path)
    if not header.image:
        if candidate.named:
            raise UnreadableFile("a DICOM file without an image to segment (a mask, report or plan)")
        return None
    # Photographs and the like share a series without being slices of anything: each is its own scan.
    alone = not header.series or not (header.positioned or header.modality in VOLUMETRIC)
    series = str(candidate.path) if alone else header.series
    return _DicomFile(candidate, series, header.positioned)


def _series(files: Sequence[tuple[int, _DicomFile]]) -> Iterator[tuple[int, Found]]:
    """DICOM files grouped by folder and series, each at the place of its first file."""
    groups: dict[tuple[Path, str], list[tuple[int, _DicomFile]]] = defaultdict(list)
    for number, file in files:
        groups[file.candidate.path.parent.resolve(), file.series].append((number, file))
    of_folder: dict[tuple[Path, Path], int] = defaultdict(int)
    for group in groups.values():
        scan = _series_found([file for _, file in group])
        if scan.source != scan.files[0]:
            key = (scan.root, scan.source)
            of_folder[key] += 1
            scan = replace(scan, series_number=of_folder[key])
        yield group[0][0], scan


def _series_found(group: Sequence[_DicomFile]) -> Found:
    first = group[0].candidate
    files = tuple(sorted(file.candidate.path for file in group))
    folder = first.path.parent
    alone = group[0].series == str(first.path) or (first.named and len(files) == 1)
    if alone:
        relative = Path(first.path.name) if first.named else first.path.relative_to(first.root)
    else:
        relative = Path() if first.named else folder.relative_to(first.root)
    if not relative.name:
        relative = Path(folder.absolute().resolve().name or "series")
    suffix = ".nii.gz" if len(files) > 1 or group[0].positioned else ".png"
    return Found(first.root, first.path if alone else folder, relative, "dicom", files, suffix)


def _reason(path: Path, error: UnreadableFile) -> str:
    return str(error).removeprefix(f"{path}: ")
