"""What lies in a folder of masks: its files, and, where they are true masks, what is known of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vlsmctl.datasets.manifest import (
    ALL,
    INFO,
    MANIFEST,
    Manifest,
    Record,
    columns_of,
    data_set_of,
    read_manifest,
)
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import NoReadableInput, UnreadableFile, UsageError
from vlsmctl.files import shown
from vlsmctl.formats.dicom_seg_reading import is_segmentation
from vlsmctl.formats.naming import DICOM_SUFFIXES, FRAMES_SUFFIX, RESERVED, SEG_SUFFIX, SLICES_SUFFIX
from vlsmctl.ledger import LEDGER
from vlsmctl.mask_files import MASK_SUFFIXES, is_mask_name
from vlsmctl.pairing.names import Claim, composed, key, mask_claims

MASKS = "masks"  # of a prepared data set
_IN_PARTS = (FRAMES_SUFFIX, SLICES_SUFFIX)
_NOT_READ = (".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr", ".img")
_BESIDE = tuple(
    f"{mark}{suffix}" for mark in RESERVED for suffix in (".png", ".nii.gz", ".tif", SEG_SUFFIX, *_IN_PARTS)
)


@dataclass(frozen=True)
class Listing:
    """The masks below a folder, as relative paths with forward slashes, sorted.

    files: single files. parts: folders with a file a frame or slice (case1.frames), and the files in
    each. ledgers: folders in which `predict` keeps its ledger, "" for the folder itself. beside: how
    many overlays and probabilities were passed over. notes: what the user should know.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    ledgers: list[str] = field(default_factory=list)
    beside: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """A true mask, and what is known of its case.

    names: all that it goes by, its own first (`names.link`). of: the name of the folder of frames
    that it lies in. The rest: as in `pairing.CasePair`.
    """

    id: str
    names: tuple[str, ...]
    path: Path
    of: str | None = None
    group: str | None = None
    image: Path | None = None
    data_set: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def list_masks(folder: Path, option: str, leave_out: Path | None = None) -> Listing:
    """All masks below a folder. Hidden files and other kinds are passed over, and so is what `predict`
    writes beside its masks (case1.overlay.png, case1.probability.nii.gz), DICOM images, and the folder
    `leave_out`. Links are followed, but never in a circle.

    Raises UsageError: it cannot be listed.
    """
    seen = Seen()
    files: list[str] = []
    images = beside = 0
    for relative in walk(folder, leave_out, seen):
        name = relative.rpartition("/")[2]
        if not is_mask_name(name):
            seen.others[Path(name).suffix.lower()] += 1
        elif _is_beside(relative):
            beside += 1
        elif _is_dicom_image(folder, relative):
            images += 1
        else:
            files.append(relative)
    if "" in seen.unlisted:
        raise UsageError(f"{option}: {folder} cannot be listed", hint="check that you may read it")
    listing = Listing(folder, beside=beside, ledgers=sorted(seen.ledgers))
    for relative in sorted(files):
        owner = folder_of_parts(relative)
        if owner is None:
            listing.files.append(relative)
        else:
            listing.parts.setdefault(owner, []).append(relative)
    listing.notes.extend(_said(seen, images, option))
    return listing


def _said(seen: Seen, images: int, option: str) -> Iterator[str]:
    if seen.unlisted:
        names = listed([shown(name) for name in seen.unlisted])
        yield f"{option}: folders that cannot be listed; what is in them was left out: {names}"
    if images:
        yield f"{option}: DICOM files without a segmentation, passed over: {images}"
    kinds = [f"{seen.others[suffix]} {suffix}" for suffix in _NOT_READ if seen.others[suffix]]
    if kinds:
        yield f"{option}: files of kinds that are not read here, passed over: {', '.join(kinds)}"


def refuse_nothing(listing: Listing, parts: Iterable[str], option: str) -> None:
    """Raises NoReadableInput where a folder holds no masks. parts: folders with a file a frame that
    count."""
    if listing.files or any(True for _ in parts):
        return
    passed = {
        "overlays and probabilities": listing.beside,
        "folders with a file a frame": len(listing.parts),
    }
    told = [f"{count} {what}" for what, count in passed.items() if count]
    over = f" (passed over: {', '.join(told)})" if told else ""
    raise NoReadableInput(
        f"no mask files below {listing.folder} ({option}){over}; expected files ending in"
        f" {' '.join(MASK_SUFFIXES)}"
    )


@dataclass
class Seen:
    """What a walk meets beside files: folders with a ledger, folders that cannot be listed ("" for the
    one that it began in); and, of files that are not wanted, how many end in what."""

    ledgers: set[str] = field(default_factory=set)
    unlisted: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def walk(folder: Path, leave_out: Path | None, seen: Seen) -> Iterator[str]:
    """The relative path of every file that is not hidden, once a path. Links that lead nowhere are
    among them, for what is missing is to be named; pipes and devices are not."""
    without = None if leave_out is None else _identity(leave_out)
    waiting: list[tuple[str, tuple[object, ...]]] = [("", ())]
    while waiting:
        below, above = waiting.pop()
        mark = _identity(folder / below)
        if mark in above or (mark == without and below):
            continue
        try:
            with os.scandir(folder / below) as entries:
                found = [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
        except OSError:
            seen.unlisted.append(below)
            continue
        for entry in found:
            relative = f"{below}/{entry.name}" if below else entry.name
            if _is_folder(entry):
                waiting.append((relative, (*above, mark)))
            elif is_ledger(entry.name):
                seen.ledgers.add(below)
            elif _is_file(entry):
                yield relative


def is_ledger(name: str) -> bool:
    return name == LEDGER or (name.startswith("predictions.rank") and name.endswith(".jsonl"))


def _identity(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return path
    return (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(path)  # 0 where there are none


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Not pipes and devices, which could be waited for without end."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:  # a link to itself
        return True


def _is_beside(relative: str) -> bool:
    low = relative.lower()
    return any(mark in low for mark in RESERVED) and any(part.endswith(_BESIDE) for part in low.split("/"))


def _is_dicom_image(folder: Path, relative: str) -> bool:
    low = relative.lower()
    if low.endswith(SEG_SUFFIX) or not low.endswith(DICOM_SUFFIXES):
        return False
    try:
        return not is_segmentation(folder / relative)
    except (UnreadableFile, OSError):
        return False  # it is to fail by name


def folder_of_parts(relative: str) -> str | None:
    """The folder with a file a frame or slice (a/case1.frames) that a file lies in; None for others."""
    folders = relative.split("/")[:-1]
    for number, folder in enumerate(folders, 1):
        if folder.lower().endswith(_IN_PARTS):
            return "/".join(folders[:number])
    return None


def parts_stem(owner: str) -> tuple[str, str]:
    """ "a/case1.frames" -> ("a/case1", ".frames")."""
    suffix = next(suffix for suffix in _IN_PARTS if owner.lower().endswith(suffix))
    return composed(owner[: -len(suffix)]), suffix


def part_claims(
    relative: str, owner: str, claims: Callable[[str], Iterable[Claim]] = mask_claims
) -> Iterator[Claim]:
    """What the path of a frame may stand for; the prompt stands in the name of its folder
    (a__polyp.frames). claims: of that name."""
    stem, suffix = parts_stem(owner)
    rest = key(relative[len(owner) + 1 :])
    for case, slug in claims(stem):
        yield f"{case}{suffix}/{rest}", slug


def file_targets(listing: Listing, parts: Mapping[str, Sequence[str]]) -> list[Target]:
    """A target a file, and a target a frame, whose cases are resampled together. Raises UsageError: two
    files of one name."""
    targets: dict[str, Target] = {}
    of: dict[str, str | None] = dict.fromkeys(listing.files)
    of.update((relative, owner) for owner, files in parts.items() for relative in files)
    for relative, owner in of.items():
        path, case = listing.folder / relative, None
        name = key(relative)
        if owner is not None:
            name, _ = next(part_claims(relative, owner))
            case = parts_stem(owner)[0]
        rival = targets.get(name)
        if rival is not None:
            raise UsageError(
                f"two targets of one name: {rival.path} and {path}", hint="keep one of the two below --gt"
            )
        targets[name] = Target(shown(name), (name,), path, case, None if case is None else shown(case))
    return [targets[name] for name in sorted(targets)]


def prepared_folder(gt: Path) -> Path | None:
    """The prepared data set that a folder is, or is the masks of."""
    for folder in (gt, *([gt.absolute().parent] if gt.absolute().name == MASKS else [])):
        if (folder / INFO).is_file() and (folder / MANIFEST).is_file():
            return folder
    return None


def record_targets(folder: Path, split: str) -> list[Target]:
    """The true masks of a split of a prepared data set. Raises UsageError."""
    manifest = read_manifest(folder)
    return [_of_record(record, manifest) for record in manifest.split(split)]


def _of_record(record: Record, manifest: Manifest) -> Target:
    image, mask = PurePosixPath(record.image), PurePosixPath(record.mask)
    names = [key(str(mask.relative_to(mask.parts[0])) if len(mask.parts) > 1 else record.mask), record.id]
    names += [key(str(image.relative_to(image.parts[0])) if len(image.parts) > 1 else record.image)]
    names += [key(record.image)]  # as `predict data/NAME` names it
    return Target(
        id=record.id,
        names=tuple(dict.fromkeys(names)),
        path=manifest.folder / record.mask,
        group=record.group,
        image=manifest.folder / record.image,
        data_set=data_set_of(record, manifest),
        columns=columns_of(record),
    )


def refuse_split(split: str, gt: Path) -> None:
    """Raises UsageError where a split was asked for, and there is none."""
    if split != ALL:
        raise UsageError(
            f"--split {split} needs a prepared data set, and {gt} is none",
            hint=f"give the folder of one ({INFO} is in it), or its masks folder; or leave --split away",
        )
