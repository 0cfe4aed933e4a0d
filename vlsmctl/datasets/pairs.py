"""Images and masks that belong together by their file names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.affixes import Affix
from vlsmctl.datasets.cases import first_folders, short_names
from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.records import Item, LeftOut, Listing
from vlsmctl.datasets.sources import MaskFiles, Picture

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
PROMPTS_FILE = "prompts.csv"  # a side file of the user, no stray picture
_TOLD = 5


@dataclass(frozen=True)
class Place:
    """A folder of images or masks. within: what its names are told apart by ("p1/"), or nothing."""

    folder: Folder
    within: str = ""


@dataclass(frozen=True)
class Side:
    """The images or the masks of a layout.

    pattern: their folder below the root, for messages; "*" is any folder. affix: how they are called.
    """

    places: tuple[Place, ...]
    pattern: str
    affix: Affix

    @property
    def is_deep(self) -> bool:
        return any(place.within for place in self.places)

    def expected(self, key: str) -> str:
        """Where the file with that shared part should lie: "masks/p1/a_mask.*"."""
        stem = self.affix.stem(key)
        if "*" in self.pattern:
            first, _, stem = stem.partition("/")
            return f"{self.pattern.replace('*', first)}/{stem}.*"
        return f"{self.pattern}/{stem}.*".removeprefix("/")


@dataclass(frozen=True)
class Named:
    """A file, or the folder of a series, by its name alone. stem: folders that tell it apart, and its name
    without the suffix."""

    stem: str
    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / self.name


@dataclass(frozen=True)
class Paired:
    """pairs: image, mask and what they share. others: files of a deep layout that are called otherwise."""

    pairs: tuple[tuple[Named, Named, str], ...]
    left_out: tuple[LeftOut, ...]
    others: tuple[Named, ...]


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
    sides = [
        Side(
            (Place(read_folder(folder)),),
            "" if folder == root else relative(folder, root),
            Affix("", suffix),
        )
        for folder, suffix in ((images, image_suffix), (masks, mask_suffix))
    ]
    return pair_pictures(root, sides[0], sides[1], prefix=prefix, split=split)


def pair_pictures(
    root: Path, images: Side, masks: Side, *, prefix: str = "", split: str | None = None
) -> Listing:
    """As `pair_folders`, for any number of folders: "p1/a.png" belongs to the mask that is called so in its
    own folder p1. Ids are the folders and the stem, the group is the first folder; files that are no
    pictures are not told there."""
    left_out: list[LeftOut] = []
    folders: list[Named] = []
    of_images = list(_pictures(root, images.places, left_out, folders))
    if images.places == masks.places:
        if masks.affix == Affix():
            raise ValueError("images and masks in one folder need a mask_suffix")
        of_masks = [each for each in of_images if masks.affix.key(each.stem) is not None]
        of_images = [each for each in of_images if masks.affix.key(each.stem) is None]
    else:
        of_masks = list(_pictures(root, masks.places, left_out, folders))
    found = pair(root, images, masks, of_images, of_masks, ("picture", "an image", "a mask"))
    # case1/image.png is case1, while a_img.png stays a_img
    whole = images.affix.after.startswith("/")
    stems = {image.stem: key if whole else image.stem for image, _, key in found.pairs}
    ids = short_names(list(stems.values()))
    groups = first_folders(list(stems))
    items = tuple(
        Item(
            prefix + ids[stems[image.stem]],
            Picture(image.path),
            MaskFiles((mask.path,)),
            split=split,
            group=groups[image.stem],
        )
        for image, mask, _ in found.pairs
    )
    told = sorted((*left_out, *found.left_out), key=lambda each: each.file)
    return Listing(items, tuple(told), unused("pictures and folders", [*found.others, *folders]))


def pair(
    root: Path,
    images: Side,
    masks: Side,
    of_images: Sequence[Named],
    of_masks: Sequence[Named],
    words: tuple[str, str, str],
) -> Paired:
    """Images and masks that share a part of their names. words: for one of any, an image and a mask."""
    left_out: list[LeftOut] = []
    others: list[Named] = []
    image_files, mask_files = (
        _by_key(root, side, named, words[0], left_out, others)
        for side, named in ((images, of_images), (masks, of_masks))
    )
    pairs = tuple((image, mask_files[key], key) for key, image in image_files.items() if key in mask_files)
    for own, other, side, word in (
        (image_files, mask_files, masks, words[2]),
        (mask_files, image_files, images, words[1]),
    ):
        left_out += [
            LeftOut(relative(own[key].path, root), f"{word} {side.expected(key)}", "none that is usable")
            for key in own.keys() - other.keys()
        ]
    return Paired(pairs, tuple(left_out), tuple(others))


def unused(word: str, others: Sequence[Named]) -> tuple[str, ...]:
    """A note on files that belong to no pair by their names."""
    if not others:
        return ()
    names = list(dict.fromkeys(each.name for each in others))
    more = ", ..." if len(names) > _TOLD else ""
    return (f"{len(others)} further {word} are not used: {', '.join(names[:_TOLD])}{more}",)


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


def relative(path: Path, root: Path) -> str:
    """A raw file's path for people: below the raw folder where it is there, with forward slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def picture_names(places: Iterable[Place]) -> Iterator[Named]:
    """The pictures in some folders, by their names."""
    for place in places:
        for name in place.folder.files:
            if is_picture(name):
                yield Named(place.within + split_name(name)[0], place.folder.path, name)


def _pictures(
    root: Path, places: Sequence[Place], left_out: list[LeftOut], folders: list[Named]
) -> Iterator[Named]:
    """The pictures in some folders. What else is there is left out; but in the folders of patients side
    files are no faults, and further folders are told together."""
    known = {place.folder.path for place in places}
    ways = {above for path in known for above in path.parents}
    for place in places:
        here = place.folder
        for name in here.folders:
            if here.path / name in known or here.path / name in ways:
                continue
            if place.within:
                folders.append(Named(place.within + name, here.path, f"{name}/"))
            else:
                path = relative(here.path / name, root)
                left_out.append(LeftOut(path, "pictures without subfolders", "a folder", "kind"))
        for name in here.files if not place.within else ():
            suffix = split_name(name)[1].lower()
            if suffix not in SUFFIXES and name != PROMPTS_FILE:
                found = f"a file of the kind '{suffix}'" if suffix else "a file without an extension"
                expected = "a picture (.png, .jpg, .tif, ...)"
                left_out.append(LeftOut(relative(here.path / name, root), expected, found, "kind"))
    yield from picture_names(places)


def _by_key(
    root: Path,
    side: Side,
    named: Sequence[Named],
    word: str,
    left_out: list[LeftOut],
    others: list[Named],
) -> dict[str, Named]:
    """The files by the part of their names that they share with a partner, where each is alone with it."""
    files: dict[str, list[Named]] = defaultdict(list)
    for each in named:
        key = side.affix.key(each.stem)
        if key is not None:
            files[key].append(each)
        elif side.is_deep:
            others.append(each)
        else:
            expected = f"a name that {side.affix.rule} as the others do"
            left_out.append(LeftOut(relative(each.path, root), expected, f"'{each.stem}'"))
    for several in files.values():
        if len(several) > 1:
            found = ", ".join(file.name for file in several)
            expected = f"one {word} called '{several[0].stem}'"
            left_out.append(LeftOut(relative(several[0].path, root), expected, found))
    return {key: several[0] for key, several in files.items() if len(several) == 1}
