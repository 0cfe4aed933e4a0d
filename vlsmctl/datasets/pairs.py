"""Images and masks that belong together by their file names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.records import Item, LeftOut, Listing
from vlsmctl.datasets.sources import MaskFiles, Picture

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
PROMPTS_FILE = "prompts.csv"  # a side file of the user, no stray picture


@dataclass(frozen=True)
class Named:
    """A file by its name alone. stem: the name without its last suffix. key: what it is paired by."""

    name: str
    stem: str
    key: str


def pair_folders(
    root: Path,
    images: Path,
    masks: Path,
    *,
    prefix: str = "",
    split: str | None = None,
    image_suffix: str = "",
    mask_suffix: str = "",
) -> Listing:
    """Pairs the pictures of two folders below `root` by their stems, by names alone.

    The mask of an image has the image's stem, less `image_suffix`, plus `mask_suffix` (both in any case),
    whatever its extension; ids are `prefix` and the image's stem. `images` and `masks` may be one folder:
    its pictures whose stem ends with `mask_suffix` (which must not be empty then) are the masks.

    What has no partner, shares its stem with another file, is a folder, or is no picture by its name is
    left out; hidden files and what systems leave behind are passed over.
    """
    left_out: list[LeftOut] = []
    if images == masks:
        if not mask_suffix:
            raise ValueError("images and masks in one folder need a mask_suffix")
        names = _pictures(root, images, left_out)
        mask_names = [name for name in names if ends_with(split_name(name)[0], mask_suffix)]
        image_names = sorted(set(names).difference(mask_names))
    else:
        image_names, mask_names = _pictures(root, images, left_out), _pictures(root, masks, left_out)
    image_files = _by_key(root, images, image_names, image_suffix, left_out)
    mask_files = _by_key(root, masks, mask_names, mask_suffix, left_out)
    items = [
        Item(
            prefix + image.stem,
            Picture(images / image.name),
            MaskFiles((masks / mask_files[key].name,)),
            split=split,
        )
        for key, image in image_files.items()
        if key in mask_files
    ]
    left_out += [
        _lonely(root, images, image_files[key], "a mask", masks, mask_suffix)
        for key in image_files.keys() - mask_files.keys()
    ]
    left_out += [
        _lonely(root, masks, mask_files[key], "an image", images, image_suffix)
        for key in mask_files.keys() - image_files.keys()
    ]
    return Listing(tuple(items), tuple(sorted(left_out, key=lambda each: each.file)))


def merged(listings: Iterable[Listing]) -> Listing:
    """Several listings as one, in their order."""
    parts = list(listings)
    return Listing(
        tuple(item for part in parts for item in part.items),
        tuple(each for part in parts for each in part.left_out),
        tuple(note for part in parts for note in part.notes),
        tuple(warning for part in parts for warning in part.warnings),
    )


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name."""
    return split_name(name)[1].lower() in SUFFIXES


def split_name(name: str) -> tuple[str, str]:
    """Stem and suffix, as pathlib has them, without the cost of a path: "a.b.PNG" -> ("a.b", ".PNG")."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def ends_with(stem: str, suffix: str) -> bool:
    """Whether a stem ends with a suffix, in any case, and is more than that."""
    return len(stem) > len(suffix) and stem.lower().endswith(suffix.lower())


def relative(path: Path, root: Path) -> str:
    """For messages: a path below `root`, with forward slashes."""
    return path.relative_to(root).as_posix() if path != root else "."


def _pictures(root: Path, folder: Path, left_out: list[LeftOut]) -> list[str]:
    """The names of the pictures in a folder; what else is there is left out."""
    here = read_folder(folder)
    left_out += [
        LeftOut(relative(folder / name, root), "pictures without subfolders", "a folder", "kind")
        for name in here.folders
    ]
    names: list[str] = []
    for name in here.files:
        suffix = split_name(name)[1].lower()
        if suffix in SUFFIXES:
            names.append(name)
        elif name != PROMPTS_FILE:
            found = f"a file of the kind '{suffix}'" if suffix else "a file without an extension"
            expected = "a picture (.png, .jpg, .tif, ...)"
            left_out.append(LeftOut(relative(folder / name, root), expected, found, "kind"))
    return names


def _by_key(
    root: Path, folder: Path, names: list[str], suffix: str, left_out: list[LeftOut]
) -> dict[str, Named]:
    """The files by what is left of their stems without `suffix`, where each is alone with it."""
    files: dict[str, list[Named]] = defaultdict(list)
    for name in names:
        stem = split_name(name)[0]
        if suffix and not ends_with(stem, suffix):
            expected = f"a name that ends with '{suffix}' as the others do"
            left_out.append(LeftOut(relative(folder / name, root), expected, f"'{stem}'"))
            continue
        key = stem[: len(stem) - len(suffix)]
        files[key].append(Named(name, stem, key))
    for several in files.values():
        if len(several) > 1:
            found = ", ".join(file.name for file in several)
            expected = f"one picture called '{several[0].stem}'"
            left_out.append(LeftOut(relative(folder / several[0].name, root), expected, found))
    return {key: several[0] for key, several in files.items() if len(several) == 1}


def _lonely(root: Path, folder: Path, file: Named, word: str, other: Path, suffix: str) -> LeftOut:
    where = "" if other == root else relative(other, root) + "/"
    return LeftOut(
        relative(folder / file.name, root), f"{word} {where}{file.key}{suffix}.*", "none that is usable"
    )
