"""Anybody's own data: pictures or volumes with masks, recognised by how their names go together.

Folders side by side (images/ and masks/, imagesTr/ and labelsTr/, ...) with equal names, a suffix such as
`_mask` or a prefix such as `mask-`, or one folder with such names; train/, val/ and test/ above or below
them give the split. Folders below images/ and masks/ belong together by their names, p1/a.png to p1/a.png;
the first of them is the group. Or a folder for each patient or case holds the pairs: p1/images/ and
p1/masks/, p1/a.png and p1/a_mask.png, case1/image.nii.gz and case1/label.nii.gz, X/X_flair.nii.gz and
X/X_seg.nii.gz, case1/dicom/ and case1/label.nii.gz; the folder is the group. Of several modalities of one
examination the first of `affixes.MODALITIES` is shown.

Nothing is paired across folders but so. When a folder of folders that hold pairs is one data set, and when
it is several: it is one where two thirds of the folders hold pairs by one rule and are numbered as patients
are (`cases.are_cases`), so that images/ and masks/ in a/ and in b/ are two sets; for a folder that somebody
names as one's own data, two folders with pairs by one rule are enough, whatever they are called, as long as
nothing else is found.

A `prompts.csv`, if wanted, has a column `id` (the stem) or `image` (the file name, with its folder where
several are called so), and any of: `prompt` or `p1`..`pN`, `split` (train, val, test), `group` (patient or
sequence: a group never lies in two splits).
"""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vlsmctl.datasets.cases import told_groups
from vlsmctl.datasets.folders import Folder, read_folder
from vlsmctl.datasets.manifest import Prompts
from vlsmctl.datasets.pairs import PROMPTS_FILE as PROMPTS_FILE
from vlsmctl.datasets.pairs import SUFFIXES as SUFFIXES
from vlsmctl.datasets.pairs import merged, pair_pictures
from vlsmctl.datasets.records import Item, Kind, LeftOut, Listing
from vlsmctl.datasets.rules import SPLIT_FOLDERS, Part, Rule, nothing_pairs, passed_over
from vlsmctl.datasets.rules import find_rule as find_rule
from vlsmctl.datasets.sources import LabelPicture, MaskFiles
from vlsmctl.datasets.volumes import Target, list_volumes, targets
from vlsmctl.errors import UsageError

_COLUMNS = ("id", "image", "prompt", "split", "group")


@dataclass(frozen=True)
class Row:
    """One line of prompts.csv."""

    line: int
    split: str | None
    group: str | None
    prompts: Prompts | None


def list_items(root: Path, *, labels: Mapping[int, str] | None = None, axis: int | None = None) -> Listing:
    """One's own pairs, with what prompts.csv says of them.

    labels: label number -> class: the masks are label maps, and each image has an item for each class;
    None: what is bright (in volumes: not 0) counts. axis: the voxel axis to slice volumes along, 0 to 2;
    None: as `predict` does.

    Raises UsageError: nothing that goes together, a prompts.csv that cannot be read, or `axis` for
    pictures.
    """
    folder = read_folder(root)
    rule = find_rule(folder) or find_rule(folder, named=True)
    if rule is None:
        raise nothing_pairs(folder)
    if axis is not None and rule.kind == "pictures":
        raise UsageError(
            f"an axis to slice along (found: {axis}) is for volumes, but {root} holds pictures"
        )
    clash = sum(len(part.stems) for part in rule.parts) > len(_all_stems(rule))
    listing = merged(_list_part(folder, part, clash, labels, axis) for part in rule.parts)
    of_groups, doubts = _told_groups(rule, listing)
    notes = (f"paired by the rule: {rule.text}", *passed_over(folder, rule), *of_groups, *listing.notes)
    listing = replace(listing, notes=notes)
    if PROMPTS_FILE in folder.files:
        return _with_rows(root, listing)
    return replace(listing, warnings=listing.warnings + doubts)


def _all_stems(rule: Rule) -> frozenset[str]:
    return frozenset().union(*(part.stems for part in rule.parts))


def _told_groups(rule: Rule, listing: Listing) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A note on groups that are folders, and a warning where these may be something else."""
    deep = [part.images for part in rule.parts if any("/" in stem for stem in part.stems)]
    if not deep:
        return (), ()
    plain = [images for images in deep if "*" not in images]
    where = f"the folders below {plain[0]}/" if plain else "the folders, each a patient or case"
    note, warning = told_groups((item.group for item in listing.items), where)
    return (note,) if note else (), (warning,) if warning else ()


def _list_part(
    folder: Folder, part: Part, clash: bool, labels: Mapping[int, str] | None, axis: int | None
) -> Listing:
    """clash: whether parts share names, so that ids begin with the split."""
    images, masks = part.sides(folder)
    prefix = f"{part.split}-" if clash else ""
    if part.kind == "volumes":
        return list_volumes(
            folder.path, images, masks, prefix=prefix, split=part.split, labels=labels, axis=axis
        )
    listing = pair_pictures(folder.path, images, masks, prefix=prefix, split=part.split)
    if labels is None:
        return listing
    classes = targets(labels)
    return replace(
        listing,
        items=tuple(each for item in listing.items for each in _per_class(item, classes)),
        warnings=listing.warnings + _lossy(listing),
    )


def _per_class(item: Item, classes: tuple[Target, ...]) -> Iterator[Item]:
    named = tuple(value for each in classes for value in each.values)
    for path in item.mask.files:
        for each in classes:
            yield replace(
                item,
                id=f"{item.id}-{each.slug}",
                mask=LabelPicture(path, each.values, named),
                image_name=item.id,
                words={"class": each.name},
                attributes=each.attributes,
            )


def _lossy(listing: Listing) -> tuple[str, ...]:
    masks = [
        item.mask.paths[0].suffix.lower() for item in listing.items if isinstance(item.mask, MaskFiles)
    ]
    lossy = sum(suffix in (".jpg", ".jpeg") for suffix in masks)
    if not lossy:
        return ()
    return (f"{lossy} of {len(masks)} label maps are JPEG, which changes label numbers along edges",)


def _with_rows(root: Path, listing: Listing) -> Listing:
    """The listing with what prompts.csv says of its items."""
    rows, passed_over = read_rows(root / PROMPTS_FILE)
    keys = _keys_of_images(root, listing, rows)
    items, used = [], set[int]()
    for item in listing.items:
        names = (item.id, item.image_name, keys.get(item.image.path), item.group)
        key = next((name for name in names if name in rows), None)
        if key is not None:
            row = rows[key]
            used.add(row.line)
            # A text for the image as a whole does not fit its classes one by one.
            prompts = row.prompts if key == item.id or "class" not in item.words else None
            item = replace(
                item, split=row.split or item.split, group=row.group or item.group, prompts=prompts
            )
        items.append(item)
    left_out = tuple(
        LeftOut(f"{PROMPTS_FILE}, line {row.line}", "an image and a mask of that name", f"'{name}'")
        for name, row in rows.items()
        if row.line not in used
    )
    notes, warnings = _told_columns(passed_over)
    return Listing(
        tuple(items),
        listing.left_out + left_out,
        listing.notes + _own_prompts(items) + notes,
        listing.warnings + warnings,
    )


def _keys_of_images(root: Path, listing: Listing, rows: Mapping[str, Row]) -> dict[Path, str]:
    """Image file -> the name by which prompts.csv calls it: its own, with as many of its folders as tell it
    apart. Raises UsageError: a name that several files have."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for key in rows:
        by_name[PurePosixPath(key).name].append(key)
    alike: dict[str, list[Path]] = defaultdict(list)
    for path in {item.image.path for item in listing.items}:
        alike[path.name].append(path)
    keys: dict[Path, str] = {}
    for name, several in ((name, alike[name]) for name in by_name if name in alike):
        for path in several:
            parts = path.relative_to(root).parts
            fits = [key for key in by_name[name] if len(several) == 1 or _fits(key, parts)]
            if fits:
                keys[path] = max(fits, key=len)
        double = next(
            (key for key, count in Counter(keys[p] for p in several if p in keys).items() if count > 1), ""
        )
        if double:
            raise UsageError(
                f"{root / PROMPTS_FILE}, line {rows[double].line}: {len(several)} images are called"
                f" '{double}'",
                hint=f"write the folder too, as {several[0].parent.name}/{name}, or the id",
            )
    return keys


def _fits(key: str, parts: tuple[str, ...]) -> bool:
    """Whether a name with folders is the end of a path, or the other way round."""
    own = PurePosixPath(key).parts
    count = min(len(own), len(parts))
    return own[-count:] == parts[-count:]


def _own_prompts(items: list[Item]) -> tuple[str, ...]:
    own = sum(item.prompts is not None for item in items)
    if not 0 < own < len(items):
        return ()
    return (f"{len(items) - own} of {len(items)} images have no prompt in {PROMPTS_FILE}: theirs are made",)


def _told_columns(passed_over: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes on columns that mean nothing here, and warnings where a name looks misspelt."""
    known = (*_COLUMNS, *(f"p{number}" for number in range(1, 10)))
    near = {column: difflib.get_close_matches(column.lower(), known, 1, 0.8) for column in passed_over}
    others = [column for column, names in near.items() if not names]
    notes = (f"columns of {PROMPTS_FILE} that were passed over: {', '.join(others)}",) if others else ()
    warnings = tuple(
        f"column '{column}' of {PROMPTS_FILE} is unknown and was passed over; the nearest is '{names[0]}'"
        for column, names in near.items()
        if names
    )
    return notes, warnings


def read_rows(path: Path) -> tuple[dict[str, Row], list[str]]:
    """prompts.csv as id (or image name) -> row, and the columns that mean nothing here.

    Raises UsageError: not UTF-8, no column `id` or `image`, an unknown split, a name that is there twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            semicolons = header.count(";") > header.count(",")
            reader = csv.DictReader(stream, delimiter=";" if semicolons else ",", restkey="")
            columns = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            numbered = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: expected a CSV file in UTF-8, found something else ({error})") from error
    key = next((column for column in ("id", "image") if column in columns), None)
    if key is None:
        raise UsageError(
            f"{path}: expected a column 'id' or 'image', found {', '.join(columns) or 'nothing'}"
        )
    rows: dict[str, Row] = {}
    for line, cells in numbered:
        if cells.get(""):
            raise UsageError(
                f"{path}, line {line}: more cells than columns (a text with commas needs quotes)"
            )
        texts = {column: (value or "").strip() for column, value in cells.items()}
        name = PurePosixPath(texts[key].replace("\\", "/")).as_posix() if texts[key] else ""
        if not name:
            raise UsageError(f"{path}, line {line}: expected a name in column '{key}', found none")
        if name in rows:
            raise UsageError(
                f"{path}, line {line}: '{name}' is there twice (first in line {rows[name].line})"
            )
        rows[name] = _row(path, line, texts)
    return rows, [column for column in columns if column not in _COLUMNS and not _is_prompt(column)]


def _row(path: Path, line: int, texts: dict[str, str]) -> Row:
    split = texts.get("split", "").lower()
    if split and split not in SPLIT_FOLDERS:
        raise UsageError(f"{path}, line {line}: expected a split train, val or test, found '{split}'")
    prompts: Prompts = {column: text for column, text in texts.items() if _is_prompt(column) and text}
    if texts.get("prompt"):
        prompts.setdefault("p1", texts["prompt"])
    return Row(
        line,
        SPLIT_FOLDERS.get(split),
        texts.get("group") or None,
        {"p0": "", **prompts} if prompts else None,
    )


def _is_prompt(column: str) -> bool:
    return re.fullmatch(r"p[1-9]\d*", column) is not None


def matches(folder: Folder) -> bool:
    """Whether a folder holds images and masks that go together, of whatever origin."""
    return find_rule(folder) is not None


GENERIC = Kind(
    title="one's own pictures or volumes",
    layout="images/ and masks/ with equal names, or NAME.png with NAME_mask.png, also in a folder for each"
    " patient; NIfTI or DICOM likewise, or case1/image.nii.gz with case1/label.nii.gz",
    source="the user's own",
    licence="the user's own",
    split_rule="prompts.csv or train/, val/ and test/ where they say, else seeded 70 % train, 10 % val,"
    " 20 % test; groups, the slices of a volume and identical images stay together",
    matches=matches,
    list_items=list_items,
)
