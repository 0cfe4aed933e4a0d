"""One's own volumes: NIfTI files or DICOM series with label volumes, as 2D slices grouped by volume."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.pairs import PROMPTS_FILE, ends_with, merged, relative
from vlsmctl.datasets.records import Item, LeftOut, Listing
from vlsmctl.datasets.slices import Volume, fit_grids, grid_text, label_grid, open_volume
from vlsmctl.datasets.sources import LabelSlice, Slice
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.naming import DICOM_SUFFIXES, prompt_slug, prompt_slugs, scan_suffix

FIRST_CHANNEL = "_0000"  # of nnU-Net, which numbers the channels of a volume
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


def volume_stems(folder: Folder, series: bool) -> Iterator[tuple[str, str]]:
    """What may be a volume in a folder, by names alone: (name without its suffix, name). A NIfTI pair
    counts once. series: whether the folders in it are DICOM series, and count."""
    for name in folder.files:
        if name.lower().endswith(_HEADERS):
            yield name.removesuffix(scan_suffix(name)), name
    for name in folder.folders if series else ():
        yield name, name


def may_be_series(folder: Folder, name: str, depth: int = 1) -> bool:
    """Whether a folder in `folder` may hold a DICOM series: files by such names, in it or deeper."""
    here = folder.below(name)
    if here is None:
        return False
    if here.files:
        return any(_may_be_dicom(file) for file in here.files)
    return depth < _DEEPEST and any(may_be_series(here, below, depth + 1) for below in here.folders)


def list_volumes(
    root: Path,
    images: Path,
    masks: Path,
    *,
    prefix: str = "",
    split: str | None = None,
    image_suffix: str = "",
    mask_suffix: str = "",
    labels: Mapping[int, str] | None = None,
    axis: int | None = None,
) -> Listing:
    """The slices of the volumes of two folders below `root` (or of one), paired by names.

    A volume is a NIfTI file, or the folder of a DICOM series. Headers are read, pixels are not. labels:
    number -> class, for one item a slice and class; None: one item a slice, everything but 0 counts.
    axis: the voxel axis to slice along, 0 to 2; None: as `predict` does. The suffixes: as `pair_folders`.

    Left out: what has no partner, cannot be read, or has a label on another grid.
    """
    here = read_folder(images)
    there = here if images == masks else read_folder(masks)
    notes: list[str] = []
    if images == masks:
        stems = list(volume_stems(here, series=False))
        of_images = [pair for pair in stems if not ends_with(pair[0], mask_suffix)]
        of_masks = [pair for pair in stems if ends_with(pair[0], mask_suffix)]
        left_out = _strays(root, here, series=False)
    else:
        of_images, of_masks = (list(volume_stems(folder, series=True)) for folder in (here, there))
        left_out = _strays(root, here, series=True) + _strays(root, there, series=True)
    if image_suffix == FIRST_CHANNEL:
        of_images = _first_channels(of_images, notes)
    image_names = _by_key(root, images, of_images, image_suffix, left_out)
    mask_names = _by_key(root, masks, of_masks, mask_suffix, left_out)
    for folder, names, others, word in (
        (images, image_names, mask_names, f"a label volume {relative(masks, root)}/NAME{mask_suffix}"),
        (masks, mask_names, image_names, f"a volume {relative(images, root)}/NAME{image_suffix}"),
    ):
        left_out += [
            LeftOut(relative(folder / name, root), word.replace("NAME", key) + ".*", "none that is usable")
            for key, name in names.items()
            if key not in others
        ]
    classes = None if labels is None else targets(labels)
    found = merged(
        _volume_items(root, images / name, masks / mask_names[key], prefix + key, split, classes, axis)
        for key, name in image_names.items()
        if key in mask_names
    )
    return Listing(found.items, (*found.left_out, *left_out), (*notes, *found.notes), found.warnings)


def _first_channels(pairs: Sequence[tuple[str, str]], notes: list[str]) -> list[tuple[str, str]]:
    """nnU-Net's channels _0001, _0002 .. are passed over, and said to be."""
    first = [
        pair for pair in pairs if not re.search(r"_\d{4}$", pair[0]) or pair[0].endswith(FIRST_CHANNEL)
    ]
    if len(first) < len(pairs):
        further = len(pairs) - len(first)
        notes.append(
            f"{further} further channels (_0001, ...) are not used: {FIRST_CHANNEL} alone is shown"
        )
    return first


def _by_key(
    root: Path, folder: Path, pairs: Sequence[tuple[str, str]], suffix: str, left_out: list[LeftOut]
) -> dict[str, str]:
    """Name without its extension and without `suffix` -> name, where only one is called that."""
    names: dict[str, list[str]] = defaultdict(list)
    for stem, name in pairs:
        if suffix and not ends_with(stem, suffix):
            expected = f"a name that ends with '{suffix}' as the others do"
            left_out.append(LeftOut(relative(folder / name, root), expected, f"'{stem}'"))
        else:
            names[stem[: len(stem) - len(suffix)]].append(name)
    for key, several in names.items():
        if len(several) > 1:
            expected, found = f"one volume called '{key}{suffix}'", ", ".join(several)
            left_out.append(LeftOut(relative(folder / several[0], root), expected, found))
    return {key: several[0] for key, several in names.items() if len(several) == 1}


def _volume_items(
    root: Path,
    image: Path,
    label: Path,
    name: str,
    split: str | None,
    classes: Sequence[Target] | None,
    axis: int | None,
) -> Listing:
    """The slices of one volume, or the reason why it is left out."""
    reading = image
    try:
        volume = open_volume(image, axis)
        reading = label
        grid = label_grid(label)
    except UnreadableFile as error:
        reason = str(error).removeprefix(f"{reading}: ")
        told = LeftOut(relative(reading, root), "a volume that can be read", reason, "unreadable")
        return Listing((), (told,))
    if fit_grids(grid, volume.grid) is None:
        expected = f"the grid of {relative(image, root)}: {grid_text(volume.grid)}"
        return Listing((), (LeftOut(relative(label, root), expected, grid_text(grid), "size"),))
    notes: tuple[str, ...] = ()
    if volume.grid.volumes > 1:
        notes = (f"{relative(image, root)} is 4D: of its {volume.grid.volumes} volumes the first is used",)
    return Listing(tuple(_slices(volume, label, name, split, classes, axis)), notes=notes)


def _slices(
    volume: Volume,
    label: Path,
    name: str,
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
    for index in range(volume.count):
        picture = f"{name}-{index:04d}"
        image = Slice(volume.path, index, axis)
        attributes = {**facts, "slice": index}
        if classes is None:
            yield Item(picture, image, LabelSlice(label, image), None, split, name, attributes=attributes)
        for each in classes or ():
            yield Item(
                f"{picture}-{each.slug}",
                image,
                LabelSlice(label, image, each.values),
                picture,
                split,
                name,
                words={"class": each.name},
                attributes={**attributes, **each.attributes},
            )


def _strays(root: Path, folder: Folder, series: bool) -> list[LeftOut]:
    """What is neither a volume nor the second half of a pair."""
    known = {name for _, name in volume_stems(folder, series)}
    halves = {name for name in folder.files if scan_suffix(name).lower() in (".img", ".img.gz")}
    folders = set(folder.folders)
    return [
        LeftOut(
            relative(folder.path / name, root),
            "a NIfTI volume or the folder of a DICOM series",
            "a folder" if name in folders else f"a file of the kind '{Path(name).suffix}'",
            "kind",
        )
        for name in (*folder.folders, *folder.files)
        if name not in known and name not in halves and name != PROMPTS_FILE
    ]


def _may_be_dicom(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return suffix in DICOM_SUFFIXES or suffix == "" or suffix[1:].isdigit()
