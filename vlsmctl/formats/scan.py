"""Scans of any kind: found in files and folders, opened one at a time, or described for a list.

Finding is separate from opening, so that a batch of a million files is listed without decoding one
(of DICOM files, a few header elements are read: they alone say which series a file belongs to).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.beginnings import by_content
from vlsmctl.formats.candidates import Candidate, Search, Why, candidates, searched_folder
from vlsmctl.formats.dicom import open_dicom
from vlsmctl.formats.dicom_header import has_preamble, is_dicom, read_header
from vlsmctl.formats.dicom_series import DicomFile, group_scans, is_alone
from vlsmctl.formats.naming import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, scan_suffix
from vlsmctl.formats.nifti import open_nifti, read_grid, slice_view
from vlsmctl.formats.raster import open_picture, picture_size
from vlsmctl.formats.records import Found, Geometry, Mask, Problem, Reading, Scan

__all__ = [
    "Description",
    "Found",
    "Geometry",
    "Mask",
    "Problem",
    "Reading",
    "Scan",
    "describe",
    "find_scans",
    "open_scan",
    "searched_folder",
]

OPENERS: dict[str, Callable[[Found, Reading], Scan]] = {
    "picture": open_picture,
    "nifti": open_nifti,
    "dicom": open_dicom,
}
_KINDS = (("picture", PICTURE_SUFFIXES), ("nifti", NIFTI_SUFFIXES), ("dicom", DICOM_SUFFIXES))
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
_NO_SCAN = "not a scan: neither a picture, nor NIfTI, nor DICOM, by its name or content"
_INDEX = "an index of DICOM files (DICOMDIR); give the folder that it lies in"
_NO_IMAGE = "a DICOM file without an image to segment (a mask, dose, report or plan)"
_PLANES = ("sagittal", "coronal", "axial")  # by the nearest axis (R, A, S) of their normal
_UPRIGHT = 0.94  # cosine of 20 degrees


@dataclass(frozen=True)
class Description:
    """What can be said of a scan without its pixels.

    size: (width, height) of a frame. spacing: mm, along the axes of the voxels, and from slice to slice
    along their normal; two numbers where the distance between frames is not known (or there is but one);
    None where nothing is. orientation of the frames: "axial", "coronal", "sagittal", "oblique" (20 degrees
    or more off), "" where it is unknown.
    description: the file's own words, for the user's eyes alone. note: what masks cannot be, and why.
    """

    kind: str
    frames: int
    size: tuple[int, int]
    spacing: tuple[float, ...] | None = None
    orientation: str = ""
    description: str = ""
    note: str | None = None


def _no_tick() -> None:
    pass


def find_scans(
    inputs: Sequence[Path], tick: Callable[[], None] = _no_tick
) -> tuple[list[Found], list[Problem]]:
    """Everything to predict among files and folders, in the order of the inputs, sorted within a
    folder; each file once, however many ways lead to it. tick: called once a file that was looked at.

    Folders are walked to the bottom; a DICOMDIR stands for the folder it lies in. What a file is its
    extension says, unless it has the preamble of DICOM; where the name says nothing, how it begins. DICOM
    files become scans as `dicom_series` says. A file that looks like a scan, or is named as an input, and
    cannot be one, is a Problem; so is one that may have been a slice (`Search.tell_lost_slices`). Other
    files in a folder are passed over: hidden ones, DICOM files that hold no image, what is no scan by name
    or content; one harmless Problem for each input folder counts them, without what operating systems and
    the makers of discs leave behind. Folders below an input that hold the masks of an earlier run are
    passed over, and said.
    """
    found: list[tuple[int, Found]] = []
    search = Search()
    dicom: list[tuple[Candidate, DicomFile]] = []
    sources: set[Path] = set()  # both halves of a NIfTI pair may be named
    for candidate in candidates(inputs, search):
        tick()
        try:
            result = _recognised(candidate, search)
        except UnreadableFile as error:
            search.problems.append(Problem(candidate.path, _reason(candidate.path, error)))
            continue
        if isinstance(result, DicomFile):
            dicom.append((candidate, result))
        elif result is not None and result.source not in sources:
            found.append((candidate.number, result))
            sources.add(result.source)
    search.tell_lost_slices(candidate.path for candidate, _ in dicom)
    scans, copies = group_scans([_in_its_series(*pair, search.again) for pair in dicom])
    in_order = sorted([*found, *scans], key=lambda pair: pair[0])
    return [each for _, each in in_order], [*search.problems, *copies, *search.passed_over()]


def open_scan(found: Found, reading: Reading = Reading()) -> Scan:  # noqa: B008 (immutable)
    """Raises UnreadableFile, in one line, where the scan cannot be used."""
    return OPENERS[found.kind](found, reading)


def describe(found: Found, reading: Reading = Reading()) -> Description:  # noqa: B008 (immutable)
    """What a list says of a scan; no pixels are read. Raises UnreadableFile, as `open_scan`."""
    if found.kind == "picture":
        height, width = picture_size(found.source)
        return Description("picture", 1, (width, height))
    scan = open_scan(found, reading)
    height, width = scan.frame_shape
    spacing, normal = _place_of(found, scan, reading)
    return Description(
        kind=scan.kind,
        frames=scan.frame_count,
        size=(width, height),
        spacing=spacing,
        orientation="" if normal is None else _plane(normal),
        description=scan.description,
        note=scan.no_volume,
    )


def _recognised(candidate: Candidate, search: Search) -> Found | DicomFile | None:
    """A scan, a DICOM file that is one or part of one, or None for a file that is passed over.

    Raises UnreadableFile for what must be told.
    """
    path = candidate.path
    suffix = scan_suffix(path.name).lower()
    kind = next((kind for kind, suffixes in _KINDS if suffix in suffixes), None)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading from a pipe or device may never end
            _pass_over(candidate, search, "special", "not a regular file")
            return None
        if kind != "dicom" and status.st_size and (has_preamble if kind else is_dicom)(path):
            return _dicom_file(candidate, search)
    except OSError as error:
        raise UnreadableFile(f"cannot be read ({error.strerror})") from error
    advice = _UNSUPPORTED.get(path.suffix.lower())
    if kind is None and advice:
        raise UnreadableFile(f"{path.suffix} files are not supported; {advice}")
    if kind is None:
        _pass_over(candidate, search, "other", _NO_SCAN)
        return None
    if status.st_size == 0:
        raise UnreadableFile("the file is empty (0 bytes)")
    if kind == "dicom":
        return _dicom_file(candidate, search)
    files = _pair(candidate) if suffix in (".hdr", ".img", ".hdr.gz", ".img.gz") else (path,)
    return _found(candidate, kind, files) if files else None


def _pass_over(candidate: Candidate, search: Search, why: Why, reason: str) -> None:
    """Raises UnreadableFile for an input itself; of a folder, nobody asks why each file is no scan."""
    if candidate.identity in search.named:
        raise UnreadableFile(reason)
    search.pass_over(candidate, why)


def _found(candidate: Candidate, kind: str, files: tuple[Path, ...]) -> Found:
    source = files[0]
    relative = Path(source.name) if candidate.named else source.relative_to(candidate.root)
    return Found(candidate.root, source, relative, kind, files, single=kind == "picture")


def _pair(candidate: Candidate) -> tuple[Path, ...] | None:
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


def _dicom_file(candidate: Candidate, search: Search) -> DicomFile | None:
    path = candidate.path
    try:
        header = read_header(path)
    except UnreadableFile as error:
        if not has_preamble(path) and (what := by_content(path)):
            words, extension = what
            raise UnreadableFile(
                f"is {words}, whatever its name says; give it the extension {extension}"
            ) from error
        # What began like DICOM by chance is no more than any other file in a folder.
        if candidate.identity in search.named or scan_suffix(path.name) or has_preamble(path):
            raise
        _pass_over(candidate, search, "other", _NO_SCAN)
        return None
    if header.directory and candidate.identity not in search.named:
        return None
    if not header.image:
        _pass_over(candidate, search, "no image", _INDEX if header.directory else _NO_IMAGE)
        return None
    return DicomFile(candidate.number, candidate.root, candidate.path, candidate.named, header)


def _in_its_series(candidate: Candidate, file: DicomFile, again: dict[str, Candidate]) -> DicomFile:
    """A slice that is an input itself, and lies in a folder that is one too, belongs to the folder's
    series: without it, that would be a volume with a gap."""
    other = again.get(candidate.identity)
    if other is None or is_alone(file.header):
        return file
    return replace(file, root=other.root, path=other.path, named=False)


def _place_of(
    found: Found, scan: Scan, reading: Reading
) -> tuple[tuple[float, ...] | None, NDArray[np.float64] | None]:
    """Spacing, and a normal to the frames (RAS+, or its opposite), as far as they are known."""
    if found.kind == "nifti" and scan.geometry is not None:
        grid = read_grid(found.source)
        axis = slice_view(grid.affine, grid.shape, reading.axis).axis
        affine = scan.geometry.affine
        return _spacing(affine, axis), _normal(*np.delete(affine[:3, :3], axis, axis=1).T)
    if scan.geometry is not None:
        spacing = _spacing(scan.geometry.affine, 2)
        normal = _normal(*scan.geometry.affine[:3, :2].T)
        return spacing[:2] if scan.geometry.thickness_assumed else spacing, normal
    header = read_header(found.files[0])
    in_rows = header.spacing and header.spacing[::-1]  # DICOM states the distance of the rows first
    return in_rows, _normal(*np.reshape(header.orientation, (2, 3))) if header.orientation else None


def _spacing(affine: NDArray[np.float64], axis: int) -> tuple[float, ...]:
    """mm from voxel to voxel along each axis; along that of the slices, from plane to plane: in a sheared
    grid (a tilted gantry), the step from slice to slice is longer."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    normal = _normal(*np.delete(affine[:3, :3], axis, axis=1).T)
    if length := float(np.linalg.norm(normal)):
        spacing[axis] = abs(normal @ affine[:3, axis]) / length
    return tuple(spacing.tolist())


def _normal(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    normal: NDArray[np.float64] = np.cross(one, other)
    return normal


def _plane(normal: NDArray[np.float64]) -> str:
    length = float(np.linalg.norm(normal))
    if not length > 0:
        return ""
    cosines = np.abs(normal) / length
    nearest = int(cosines.argmax())
    return _PLANES[nearest] if cosines[nearest] >= _UPRIGHT else "oblique"


def _reason(path: Path, error: UnreadableFile) -> str:
    return str(error).removeprefix(f"{path}: ")
