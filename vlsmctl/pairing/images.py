"""The pictures and scans that masks belong to, found by the masks' names; and those that lie among
them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vlsmctl.datasets.affixes import FIRST_CHANNEL, LABEL_WORDS
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.formats.naming import DICOM_SUFFIXES, SEG_SUFFIX, scan_suffix
from vlsmctl.pairing.folders import Seen, Target, walk
from vlsmctl.pairing.names import MASK_WORDS, OF_TARGETS, Claim, endings, image_claims, key, link

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "frames", "photos", "pictures", "scans", "original")
_MASK_FOLDERS = (*LABEL_WORDS, "gts", "segmentations", "groundtruth", "groundtruths")


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
    links = link([list(_claims(name)) for name, _ in found], names, "images", words=MASK_WORDS)
    paths = {target: found[number][1] for number, (target, _) in links.found.items()}
    for _, _, target in links.rivals:
        paths.pop(target, None)
    notes = [f"--images: {line}" for line in links.notes]
    without = [target.id for number, target in enumerate(targets) if number not in paths]
    if without:
        notes.append(f"--images: targets without an image: {len(without)} ({listed(without, shown=3)})")
    return [
        replace(target, image=paths.get(number, target.image)) for number, target in enumerate(targets)
    ], notes


def refuse_images_among(targets: Sequence[Target], answered: Collection[int], gt: Path) -> None:
    """Raises UsageError where not all targets are masks: images/case1 and masks/case1 are there, or each
    target with a prediction, case1, has beside it one without, case1_mask. answered: the numbers of those
    with a prediction."""
    roles: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for target in targets:
        *folders, _ = parts = target.names[0].split("/")
        for number, folder in enumerate(folders):
            role = _role(folder)
            if role:
                below = [*endings("/".join(parts[number + 1 :]), OF_TARGETS)][-1][1].removesuffix(
                    FIRST_CHANNEL
                )
                roles["/".join(parts[:number]), below][role] = "/".join(parts[: number + 1])
    for both in roles.values():
        if len(both) > 1:
            raise UsageError(
                f"below {gt} lie images ({both['image']}) and masks ({both['mask']}) of the same names",
                hint=f"--gt {gt / both['mask']}, and for --pred the folder with their predictions",
            )
    stems = {targets[number].names[0].casefold(): targets[number] for number in answered}
    twins: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for number, target in enumerate(targets):
        if number not in answered:
            for ending, stem in endings(target.names[0], OF_TARGETS):
                if ending and stem in stems:
                    twins[ending].append((stems[stem].id, target.id))
    for ending, found in twins.items():
        if len(found) >= len(stems):
            raise UsageError(
                f"below {gt} lie both {found[0][0]!r} and {found[0][1]!r}, {len(found)} such pairs in all:"
                " images and masks, it seems",
                hint=f"--gt: a folder that holds the masks alone (those that end in {ending})",
            )


def _role(folder: str) -> str | None:
    """What a folder of this name holds: "image", "mask", or None where it does not say."""
    plain = folder.casefold().translate(dict.fromkeys(map(ord, " _-")))
    word = plain[:-2] if plain.endswith(("str", "sts")) else plain  # nnU-Net: imagesTr, labelsTs
    return "image" if word in _IMAGE_FOLDERS else "mask" if word in _MASK_FOLDERS else None


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


def _claims(name: str) -> Iterator[Claim]:
    """The first of the channels that nnU-Net numbers is the image that is shown."""
    yield from image_claims(name)
    if name.endswith(FIRST_CHANNEL):
        yield name.removesuffix(FIRST_CHANNEL), None


def _name(relative: str, folder: Path) -> str:
    if relative.endswith("/"):
        return key(relative[:-1]) or folder.absolute().name
    return key(relative)
