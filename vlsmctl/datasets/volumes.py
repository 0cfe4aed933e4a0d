"""One's own volumes: NIfTI files or DICOM series with label volumes, as 2D slices grouped by volume."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.affixes import FIRST_CHANNEL, SERIES_WORDS, Affix, is_label, modality
from vlsmctl.datasets.cases import first_folders, short_names
from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.pairs import (
    PROMPTS_FILE,
    Named,
    Place,
    Side,
    merged,
    pair,
    relative,
    unused,
)
from vlsmctl.datasets.records import Item, LeftOut, Listing
from vlsmctl.datasets.slices import Volume, grid_text, label_misfit, open_volume
from vlsmctl.datasets.sources import LabelSlice, Slice
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.naming import DICOM_SUFFIXES, prompt_slug, prompt_slugs, scan_suffix

_DEEPEST = 3
_HEADERS = (".nii.gz", ".nii", ".hdr", ".hdr.gz")


@dataclass(frozen=True)
class Target:
    """One class of label maps: those of its numbers that are set, 0 left out. slug: for ids."""

    name: str
    slug: str
    values: tuple[int, ...]

    @property
    def attributes(self) -> dict[str, int | list[int]]:
        return {"label": self.values[0] if len(self.values) == 1 else list(self.values)}


def targets(labels: Mapping[int, str]) -> tuple[Target, ...]:
    """The classes of `labels` (number -> name), in their order; numbers of one name are one class."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, name in labels.items():
        numbers[name].append(number)
    names = list(numbers)
    slugs = [slug or prompt_slug(name) for name, slug in zip(names, prompt_slugs(names), strict=True)]
    return tuple(Target(name, slug, tuple(numbers[name])) for name, slug in zip(names, slugs, strict=True))


def volume_names(places: Sequence[Place], series: bool, labels: bool) -> list[Named]:
    """What may be a volume in some folders, by names alone. A NIfTI pair counts once.

    series: whether folders in them are DICOM series, and count; in the folders of patients, those with
    files of such names do, and a patient's folder itself where the files lie there. labels: whether DICOM
    files may be labels (DICOM SEG).
    """
    known = {place.folder.path for place in places}
    return [each for place in places for each in _volumes_in(place, known, series, labels)]


def _volumes_in(place: Place, known: Collection[Path], series: bool, labels: bool) -> Iterator[Named]:
    here = place.folder
    for name in here.files:
        suffix = scan_suffix(name)
        if name.lower().endswith(_HEADERS) or (labels and suffix.lower() in DICOM_SUFFIXES):
            yield Named(place.within + name.removesuffix(suffix), here.path, name)
    for name in here.folders:
        if here.path / name not in known and (is_series(here, name) if place.within else series):
            yield Named(place.within + name, here.path, name)
    if place.within and any(_is_slice(name) for name in here.files):
        yield Named(place.within.rstrip("/"), here.path, ".")


def _is_slice(name: str) -> bool:
    suffix = scan_suffix(name)
    return suffix.lower() in DICOM_SUFFIXES and not is_label(name.removesuffix(suffix))


def may_be_series(folder: Folder, name: str, depth: int = 1) -> bool:
    """Whether a folder in `folder` may hold a DICOM series: files by such names, in it or deeper."""
    here = folder.below(name)
    if here is None:
        return False
    if here.files:
        return any(_may_be_dicom(file) for file in here.files)
    return depth < _DEEPEST and any(may_be_series(here, below, depth + 1) for below in here.folders)


def is_series(folder: Folder, name: str) -> bool:
    """Whether a folder in that of a patient holds a DICOM series and nothing else that is a volume."""
    here = folder.below(name)
    if here is None or any(file.lower().endswith(_HEADERS) for file in here.files):
        return False
    return may_be_series(folder, name) and (not here.folders or name.lower() in SERIES_WORDS)


def list_volumes(
    root: Path,
    images: Side,
    masks: Side,
    *,
    prefix: str = "",
    split: str | None = None,
    labels: Mapping[int, str] | None = None,
    axis: int | None = None,
) -> Listing:
    """The slices of the volumes in some folders below `root`, paired by names as `pair_pictures` does.

    A volume is a NIfTI file, or the folder of a DICOM series; a label may be a DICOM SEG too. Headers are
    read, pixels are not. labels: number -> class, for one item a slice and class; None: one item a slice,
    everything but 0 counts. axis: the voxel axis to slice along, 0 to 2; None: as `predict` does.

    Left out: what has no partner, cannot be read, or has a label on another grid.
    """
    same = images.places == masks.places
    of_images = volume_names(images.places, series=not same, labels=False)
    of_masks = volume_names(masks.places, series=not same, labels=True)
    if same:
        of_masks = [each for each in of_masks if masks.affix.key(each.stem) is not None]
        left_out = _strays(root, images.places, [*of_images, *of_masks])
        labels_there = {each.path for each in of_masks}
        of_images = [each for each in of_images if each.path not in labels_there]
    else:
        left_out = _strays(root, images.places, of_images) + _strays(root, masks.places, of_masks)
    of_images, notes = _one_channel(of_images, images.affix)
    found = pair(root, images, masks, of_images, of_masks, ("volume", "a volume", "a label volume"))
    # what is left of the image's name is the volume's: "volume-0", but "case1" for case1/image.nii.gz
    stems = {image: image.stem[: len(image.stem) - len(images.affix.after)] for image, _, _ in found.pairs}
    names = short_names(list(stems.values()), alone=True)
    groups = first_folders([image.stem for image in stems])
    classes = None if labels is None else targets(labels)
    listed = merged(
        _volume_items(
            root, image.path, label.path, prefix + names[stems[image]],
            groups[image.stem] or prefix + names[stems[image]], split, classes, axis,
        )
        for image, label, _ in found.pairs
    )  # fmt: skip
    return Listing(
        listed.items,
        (*listed.left_out, *left_out, *found.left_out),
        (*notes, *unused("volumes", found.others), *listed.notes),
        listed.warnings,
    )


def _one_channel(named: list[Named], affix: Affix) -> tuple[list[Named], tuple[str, ...]]:
    """The volumes without nnU-Net's further channels (_0001, ...), or without the other modalities of the
    same examination, and a note on those."""
    if affix.after == FIRST_CHANNEL:
        first = [
            each
            for each in named
            if not re.search(r"_\d{4}$", each.stem) or each.stem.endswith(FIRST_CHANNEL)
        ]
        told = f"further channels (_0001, ...) are not used: {FIRST_CHANNEL} alone is shown"
    else:
        shown = modality(affix.after)
        first = [each for each in named if not shown or modality(each.stem) in ("", shown)]
        rest = sorted({modality(each.stem) for each in named} - {shown, ""})
        told = (
            f"further volumes ({', '.join(rest)}) are not used: {shown} alone is shown (for another,"
            " keep it alone in the raw folder)"
        )
    return first, (f"{len(named) - len(first)} {told}",) if len(first) < len(named) else ()


def _volume_items(
    root: Path,
    image: Path,
    label: Path,
    name: str,
    group: str,
    split: str | None,
    classes: Sequence[Target] | None,
    axis: int | None,
) -> Listing:
    """The slices of one volume, or the reason why it is left out."""
    reading = image
    try:
        volume = open_volume(image, axis)
        reading = label
        misfit = label_misfit(label, volume)
    except UnreadableFile as error:
        reason = str(error).removeprefix(f"{reading}: ")
        told = LeftOut(relative(reading, root), "a volume that can be read", reason, "unreadable")
        return Listing((), (told,))
    if misfit:
        expected = f"the grid of {relative(image, root)}: {grid_text(volume.grid)}"
        return Listing((), (LeftOut(relative(label, root), expected, misfit, "size"),))
    notes: tuple[str, ...] = ()
    if volume.grid.volumes > 1:
        notes = (f"{relative(image, root)} is 4D: of its {volume.grid.volumes} volumes the first is used",)
    return Listing(tuple(_slices(volume, label, name, group, split, classes, axis)), notes=notes)


def _slices(
    volume: Volume,
    label: Path,
    name: str,
    group: str,
    split: str | None,
    classes: Sequence[Target] | None,
    axis: int | None,
) -> Iterator[Item]:
    rows, columns, between = volume.spacing
    facts = {
        "volume": name,
        "axis": volume.view.axis,
        "spacing": [round(rows, 6), round(columns, 6)],
        "thickness": None if volume.thickness_assumed else round(between, 6),
    }
    named = tuple(value for each in classes or () for value in each.values)
    for index in range(volume.count):
        picture = f"{name}-{index:04d}"
        image = Slice(volume.path, index, axis)
        attributes = {**facts, "slice": index}
        if classes is None:
            yield Item(picture, image, LabelSlice(label, image), None, split, group, attributes=attributes)
        for each in classes or ():
            yield Item(
                f"{picture}-{each.slug}",
                image,
                LabelSlice(label, image, each.values, named),
                picture,
                split,
                group,
                words={"class": each.name},
                attributes={**attributes, **each.attributes},
            )


def _strays(root: Path, places: Sequence[Place], volumes: Sequence[Named]) -> list[LeftOut]:
    """What is neither a volume nor the second half of a pair; in the folders of patients side files are no
    faults."""
    known = {each.path for each in volumes} | {place.folder.path for place in places}
    ways = {above for path in known for above in path.parents}
    strays: list[LeftOut] = []
    for place in places:
        here = place.folder
        halves = {name for name in here.files if scan_suffix(name).lower() in (".img", ".img.gz")}
        strays += [
            LeftOut(
                relative(here.path / name, root),
                "a NIfTI volume or the folder of a DICOM series",
                "a folder" if name in here.folders else f"a file of the kind '{Path(name).suffix}'",
                "kind",
            )
            for name in ((*here.folders, *here.files) if not place.within else ())
            if here.path / name not in known | ways and name not in halves and name != PROMPTS_FILE
        ]
    return strays


def _may_be_dicom(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return suffix in DICOM_SUFFIXES or suffix == "" or suffix[1:].isdigit()
