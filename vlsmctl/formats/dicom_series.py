"""DICOM files into scans, by their headers alone: which files are the slices of one volume.

The rules, in this order:

- A file that repeats another one of its folder, byte for byte, is passed over, and said.
- A file of several frames, an enhanced one without a place, and one that states no place and is of no
  modality whose images stack (a photograph, most ultrasound, a captured screen) is a scan of its own.
- Of all others, the files of one study and series make a scan; apart stand images of another size, of
  another orientation (so do slices of another gantry tilt), localisers, enhanced images, and all that is
  another image altogether: of another patient, frame of reference, ImageType (its first three values),
  diffusion b-value, or echo time (times that differ by 1 % are rounded, not others). Where files differ so,
  those that do not say stand apart too; where all that say it agree, the others join them. A patient,
  frame of reference or type that (nearly) every file has for itself comes of careless anonymising, and
  parts nothing.
- Such a scan may lie in several folders below one input, as discs and archives export it, and is then
  named after the deepest folder above them all; unless two of the folders hold the same slice, by its
  identifier or its place: then they are copies, or other things of equal identifiers, and stand apart.
- Where every position of such a scan occurs equally often (acquisitions, phases or echoes in one series),
  it is taken apart by the first element of `dicom_header.REPEATS` that does so completely: each of its
  values has every position once. Where none does, it stays one scan (which makes no volume).
- Otherwise, where positions repeat, temporal positions, echo numbers and acquisitions stand apart: all,
  where any two share several positions. Where no position repeats, they are one scan: one after another, as
  the positions of a table, or interleaved.
- Files below different inputs stand apart; files that are inputs themselves join.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from operator import mul
from pathlib import Path
from typing import Any

from vlsmctl.formats.dicom_geometry import SAME_DIRECTION
from vlsmctl.formats.dicom_header import REPEATS, Header
from vlsmctl.formats.records import Found, Problem

# Modalities whose several images in one series are the slices of a volume.
VOLUMETRIC = ("CT", "MR", "PT", "NM")
_SAME_HEIGHT = 0.01  # mm
# Of the elements in REPEATS: what makes another image anywhere, and what does only where positions repeat
_IMAGES = ("EchoTime", "DiffusionBValue")
_PHASES = ("TemporalPositionIdentifier", "EchoNumbers", "AcquisitionNumber")
_OWN_FROM, _OWN = (
    3,
    0.9,
)  # files; of these, the share with a value that no other has, at which it says nothing
_SAME_VALUE = 0.01  # relative: echo times are written with the noise of their measurement
_CAPTURED = "1.2.840.10008.5.1.4.1.1.7"
_CHUNK = 2**20


@dataclass(frozen=True)
class DicomFile:
    """A DICOM image on its way into a scan. number: its place among all files that were looked at. root:
    the input that it was found through; named: it is that input itself."""

    number: int
    root: Path
    path: Path
    named: bool
    header: Header

    @cached_property
    def folder(self) -> Path:
        """Told apart from all others. Walking an input comes to each folder once, so that there is one
        way to write it; inputs may be written in several ways."""
        return Path(os.path.realpath(self.path.parent)) if self.named else self.path.parent


def content_digest(path: Path) -> bytes | None:
    """The same for two files of the same bytes; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return digest.digest()


def group_scans(
    files: Sequence[DicomFile], digest: Callable[[Path], bytes | None] = content_digest
) -> tuple[list[tuple[int, Found]], list[Problem]]:
    """Scans, each with the number of its first file, and copies that were passed over. digest: of a
    file's content, asked for only where two files of a folder say that they are the same image."""
    kept, copies = _without_copies(files, digest)
    alone = [file for file in kept if is_alone(file.header)]
    series: dict[tuple[Path, str, str], list[DicomFile]] = defaultdict(list)
    for file in kept:
        if not is_alone(file.header):
            series[_home(file), file.header.study, file.header.series].append(file)
    parts = [part for each in series.values() for part in _parts(each)]
    return [*((file.number, _single(file)) for file in alone), *_numbered(parts)], copies


def is_alone(header: Header) -> bool:
    """Whether an image cannot be a slice of a volume that lies in several files."""
    if header.frames > 1 or not header.series or (header.enhanced and not header.positioned):
        return True
    captured = header.sop_class == _CAPTURED or header.sop_class.startswith(f"{_CAPTURED}.")
    return not header.positioned and (captured or header.modality not in VOLUMETRIC)


def _without_copies(
    files: Sequence[DicomFile], digest: Callable[[Path], bytes | None]
) -> tuple[list[DicomFile], list[Problem]]:
    same: dict[tuple[Path, str], list[DicomFile]] = defaultdict(list)
    for file in files:
        # Without an identifier, each file is itself alone.
        same[file.folder, file.header.instance or f"file {file.number}"].append(file)
    problems = []
    dropped = set()
    for alike in same.values():
        first: dict[bytes, Path] = {}
        for file in alike if len(alike) > 1 else ():
            content = digest(file.path)
            if content is not None and first.setdefault(content, file.path) != file.path:
                reason = f"a second copy of {first[content].name}"
                problems.append(Problem(file.path, reason, harmless=True))
                dropped.add(file.number)
    return [file for file in files if file.number not in dropped], problems


def _parts(series: Sequence[DicomFile]) -> Iterator[list[DicomFile]]:
    """One series into its scans: the largest first, which takes the plain name."""
    ranked = [
        ((-len(part), parallel[0].number), part)  # the parts of a stack keep their order
        for kind in _by_kind(series)
        for parallel in _by_orientation(kind)
        for image in _by_image(parallel)
        for stack in _by_folder(image)
        for part in _by_phase(stack)
    ]
    yield from (part for _, part in sorted(ranked, key=lambda pair: pair[0]))


def _by_kind(series: Sequence[DicomFile]) -> list[list[DicomFile]]:
    """Apart by size and kind, and by the `marks` of whom and what they show."""
    kinds: dict[tuple[object, ...], list[DicomFile]] = defaultdict(list)
    for file in series:
        kinds[file.header.shape, file.header.localiser, file.header.enhanced].append(file)
    groups = list(kinds.values())
    for mark in range(len(series[0].header.marks)):
        if _each_has_its_own([file.header.marks[mark] for file in series]):
            continue
        groups = [
            part for group in groups for part in _apart(group, [file.header.marks[mark] for file in group])
        ]
    return groups


def _each_has_its_own(values: Sequence[object]) -> bool:
    """Whether (nearly) every file has a value of its own, of those that state one."""
    known = [value for value in values if value is not None]
    return len(known) >= _OWN_FROM and len(set(known)) >= _OWN * len(known)


def _by_image(files: list[DicomFile]) -> list[list[DicomFile]]:
    """Parallel slices apart by the elements that make another image, in the order of their values."""
    groups = [files]
    for name in _IMAGES:
        groups = [part for group in groups for part in _apart(group, _image_values(group, name))]
    return groups


def _image_values(files: Sequence[DicomFile], name: str) -> list[float | None]:
    """An element of each file, near values made equal."""
    values = [file.header.repeats[REPEATS.index(name)] for file in files]
    known = sorted({value for value in values if value is not None})
    nearest = {}
    first = -math.inf
    for value in known:
        if value - first > _SAME_VALUE * abs(value):
            first = value
        nearest[value] = first
    return [None if value is None else nearest[value] for value in values]


def _apart(files: list[DicomFile], values: Sequence[Any]) -> list[list[DicomFile]]:
    """Files by their values: numbers sorted, others in the order of the files, None last; together where
    all that are known are the same."""
    known = dict.fromkeys(value for value in values if value is not None)
    if len(known) < 2:
        return [files]
    in_order = sorted(known) if all(isinstance(value, float) for value in known) else list(known)
    parts: dict[Any, list[DicomFile]] = {value: [] for value in (*in_order, None)}
    for file, value in zip(files, values, strict=True):
        parts[value].append(file)
    return [part for part in parts.values() if part]


def _by_phase(files: list[DicomFile]) -> list[list[DicomFile]]:
    """Slices together where each has its own position, else apart by what tells repeated ones apart."""
    levels = dict(zip((file.number for file in files), _levels(files), strict=False))
    if len(set(levels.values())) == len(levels):  # or some do not say where they lie
        return [files]
    if repeats := _by_repeats(files):
        return repeats
    for name in _PHASES:
        parts = _apart(files, [file.header.repeats[REPEATS.index(name)] for file in files])
        if _share_positions([{levels[file.number] for file in part} for part in parts]):
            return [each for part in parts for each in _by_phase(part)]
    return [files]


def _share_positions(parts: Sequence[set[int]]) -> bool:
    """Whether two stacks have more in common than where the one ends and the other begins."""
    stacks = [positions for positions in parts if len(positions) > 1]
    return any(len(one & other) > 1 for one, other in combinations(stacks, 2))


def _by_repeats(files: Sequence[DicomFile]) -> list[list[DicomFile]] | None:
    """Files of which several lie at every position, apart by one element of the header, in the order of
    its values, each with every position once. None: there is no such element, or no need for one (a single
    position makes no volume anyhow)."""
    levels = _levels(files)
    counts = set(Counter(levels).values())
    if len(counts) != 1 or counts == {1} or len(set(levels)) == 1:
        return None
    (repeats,) = counts
    for element in range(len(REPEATS)):
        values = [file.header.repeats[element] for file in files]
        known = sorted({value for value in values if value is not None})
        if len(known) != repeats or None in values:
            continue
        if len(set(zip(values, levels, strict=True))) == len(files):
            return [
                [file for file, own in zip(files, values, strict=True) if own == value] for value in known
            ]
    return None


def _levels(files: Sequence[DicomFile]) -> list[int]:
    """For each of some parallel slices, the number of its position along their normal; none where one
    of them does not say where it lies."""
    heights = []
    for file in files:
        position, orientation = file.header.position, files[0].header.orientation
        if position is None or orientation is None:
            return []
        heights.append(sum(map(mul, position, _normal(orientation))))
    order = sorted(range(len(files)), key=heights.__getitem__)
    levels = [0] * len(files)
    for before, this in pairwise(order):
        levels[this] = levels[before] + (heights[this] - heights[before] > _SAME_HEIGHT)
    return levels


def _normal(orientation: Sequence[float]) -> tuple[float, float, float]:
    a, b, c, d, e, f = orientation
    return b * f - c * e, c * d - a * f, a * e - b * d


def _by_orientation(files: Sequence[DicomFile]) -> list[list[DicomFile]]:
    """Parallel slices together; those that state no orientation make a group too."""
    groups: list[tuple[tuple[float, ...] | None, list[DicomFile]]] = []
    known: dict[tuple[float, ...] | None, list[DicomFile]] = {}
    for file in files:
        orientation = file.header.orientation
        if orientation not in known:
            near = next((group for first, group in groups if _is_near(orientation, first)), None)
            if near is None:
                near = []
                groups.append((orientation, near))
            known[orientation] = near
        known[orientation].append(file)
    return [group for _, group in groups]


def _is_near(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if one is None or other is None:
        return False
    return all(abs(a - b) <= SAME_DIRECTION for a, b in zip(one, other, strict=True))


def _by_folder(files: list[DicomFile]) -> list[list[DicomFile]]:
    """The files together, or, where folders hold the same slices, in parts that do not; phases that are
    told apart by their headers stay together."""
    folders = {file.folder for file in files}
    if len(folders) == 1 or not _overlap(files):
        return [files]
    depth = len(_common(folders).parts)
    parts: dict[tuple[str, ...], list[DicomFile]] = defaultdict(list)
    for file in files:
        parts[file.folder.parts[depth : depth + 1]].append(file)
    if _by_repeats(files):
        # With a folder for each slice, say, it is not the folders that tell phases apart. They do where
        # each of them has every position.
        whole = len(set(_levels(files)))
        if any(len(set(_levels(part))) < whole for part in parts.values()):
            return [files]
    return [part for each in parts.values() for part in _by_folder(each)]


def _overlap(files: Sequence[DicomFile]) -> bool:
    """Whether two folders hold the same slice."""
    folder_of: dict[object, Path] = {}
    for file in files:
        position = file.header.position
        place = position and tuple(round(each, 3) for each in position)
        for mark in (file.header.instance or None, place):
            if mark is not None and folder_of.setdefault(mark, file.folder) != file.folder:
                return True
    return False


def _numbered(parts: Sequence[list[DicomFile]]) -> Iterator[tuple[int, Found]]:
    taken: dict[tuple[Path, Path], int] = defaultdict(int)
    for part in parts:
        number = min(file.number for file in part)
        if len(part) == 1 and part[0].named:
            yield number, _single(part[0])
            continue
        source = _source(part)
        key = (_home(part[0]), _common(file.folder for file in part))
        taken[key] += 1
        relative = Path() if part[0].named else source.relative_to(part[0].root)
        if not relative.name:
            relative = Path(Path(os.path.realpath(source)).name or "series")
        files = tuple(sorted(file.path for file in part))
        yield number, Found(part[0].root, source, relative, "dicom", files, taken[key], len(files) == 1)


def _single(file: DicomFile) -> Found:
    relative = Path(file.path.name) if file.named else file.path.relative_to(file.root)
    single = file.header.frames == 1
    return Found(file.root, file.path, relative, "dicom", (file.path,), single=single)


def _source(part: Sequence[DicomFile]) -> Path:
    """The folder above all files, as the user wrote it where they wrote one."""
    folders = {file.path.parent for file in part}
    return folders.pop() if len(folders) == 1 else _common(file.folder for file in part)


def _home(file: DicomFile) -> Path:
    """What files must share to make one scan: the input, or, for inputs themselves, the drive."""
    return Path(file.folder.anchor) if file.named else file.root


def _common(folders: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([str(folder) for folder in folders]))
