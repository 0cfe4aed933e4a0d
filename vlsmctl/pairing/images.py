"""The pictures and scans that masks belong to, found by the masks' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.formats.naming import DICOM_SUFFIXES, SEG_SUFFIX, scan_suffix
from vlsmctl.pairing.folders import Seen, Target, walk
from vlsmctl.pairing.names import image_claims, key, link, said_of_near, said_of_unsure


def with_images(targets: Sequence[Target], images: Path) -> tuple[list[Target], list[str]]:
    """The targets with their pictures or scans, and what the user should know.

    images: a folder, in which a folder of DICOM files goes by its own name; for a single target it may
    be the file. Names match as those of predictions do; where two fit, none is taken.

    Raises UsageError: it is not there.
    """
    if images.is_file() and len(targets) == 1:
        return [replace(targets[0], image=images)], []
    if not images.is_dir():
        raise UsageError(
            f"--images is not a folder: {images}", hint="give the folder that holds the pictures or scans"
        )
    found = _images(images)
    names = [target.names for target in targets]
    links = link([list(image_claims(name)) for name, _ in found], names)
    paths = {target: found[number][1] for number, (target, _) in links.found.items()}
    for _, _, target in links.rivals:
        paths.pop(target, None)
    shown_names = [name for name, _ in found]
    notes = [f"--images: {line}" for line in said_of_near(links, shown_names, names, "images")]
    notes += [f"--images: {line}" for line in said_of_unsure(links, shown_names, names, "images")]
    without = [target.id for number, target in enumerate(targets) if number not in paths]
    if without:
        notes.append(f"--images: targets without an image: {len(without)} ({listed(without, shown=3)})")
    return [
        replace(target, image=paths.get(number, target.image)) for number, target in enumerate(targets)
    ], notes


def _images(folder: Path) -> list[tuple[str, Path]]:
    """Names and paths: of pictures and volumes, and of folders of DICOM files as well as each of
    these."""
    found: dict[str, Path] = {}
    for relative in sorted(walk(folder, None, Seen())):
        low = relative.lower()
        if low.endswith(SEG_SUFFIX):
            continue
        if low.endswith(DICOM_SUFFIXES):
            above = relative.rpartition("/")[0]
            found.setdefault(f"{above}/", folder / above)
        if scan_suffix(relative) or low.endswith((".mha", ".mhd")):
            found[relative] = folder / relative
    return [(_name(relative, folder), path) for relative, path in found.items()]


def _name(relative: str, folder: Path) -> str:
    if relative.endswith("/"):
        return key(relative[:-1]) or folder.absolute().name
    return key(relative)
