"""Anybody's own data: `images/` and `masks/` with equal stems, and, if wanted, a `prompts.csv`.

prompts.csv has a column `id` (the stem) or `image` (the file name), and any of: `prompt` or `p1`..`pN`,
`split` (train, val, test), `group` (patient or sequence: a group never lies in two splits).
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vlsmctl.datasets.manifest import Prompts
from vlsmctl.datasets.records import Item, Kind, LeftOut, Listing
from vlsmctl.errors import UsageError

PROMPTS_FILE = "prompts.csv"
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
_LITTER = ("thumbs.db", "desktop.ini")
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Row:
    """One line of prompts.csv."""

    line: int
    split: str | None
    group: str | None
    prompts: Prompts | None


def find(folder: Path) -> Path | None:
    """The folder itself, when it holds images/ and masks/."""
    return folder if (folder / "images").is_dir() and (folder / "masks").is_dir() else None


def list_items(root: Path) -> Listing:
    """The pairs of images/ and masks/, with what prompts.csv says about them.

    Raises UsageError: a prompts.csv that cannot be read.
    """
    listing = pair_folders(root, root / "images", root / "masks")
    if not (root / PROMPTS_FILE).is_file():
        return listing
    rows, passed_over = read_rows(root / PROMPTS_FILE)
    items, used = [], set()
    for item in listing.items:
        row = rows.get(item.id) or rows.get(item.image.name)
        if row is not None:
            used.add(row.line)
            item = replace(item, split=row.split, group=row.group, prompts=row.prompts)
        items.append(item)
    unused = [(name, row.line) for name, row in rows.items() if row.line not in used]
    left_out = [
        LeftOut(f"{PROMPTS_FILE}, line {line}", "an image and a mask of that name", f"'{name}'")
        for name, line in unused
    ]
    return Listing(
        tuple(items), listing.left_out + tuple(left_out), listing.notes + _notes(items, passed_over)
    )


def pair_folders(
    root: Path, images: Path, masks: Path, prefix: str = "", split: str | None = None
) -> Listing:
    """Pairs the pictures of two folders by their stems; ids are the stems after `prefix`.

    What has no partner, shares its stem with another file, or is no picture by its name is left out;
    hidden files are passed over.
    """
    left_out: list[LeftOut] = []
    image_files = _by_stem(root, images, left_out)
    mask_files = _by_stem(root, masks, left_out)
    items = [
        Item(prefix + stem, path, mask_files[stem], split=split)
        for stem, path in image_files.items()
        if stem in mask_files
    ]
    for files, other, word in ((image_files, masks, "a mask"), (mask_files, images, "an image")):
        partners = mask_files if files is image_files else image_files
        left_out += [
            LeftOut(
                _relative(path, root), f"{word} {_relative(other, root)}/{stem}.*", "none that is usable"
            )
            for stem, path in files.items()
            if stem not in partners
        ]
    return Listing(tuple(items), tuple(left_out))


def _by_stem(root: Path, folder: Path, left_out: list[LeftOut]) -> dict[str, Path]:
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or path.name.lower() in _LITTER:
            continue
        if path.is_dir():
            left_out.append(LeftOut(_relative(path, root), "pictures without subfolders", "a folder"))
        elif path.suffix.lower() not in SUFFIXES:
            found = f"a file of the kind '{path.suffix}'"
            left_out.append(LeftOut(_relative(path, root), "a picture (.png, .jpg, .tif, ...)", found))
        else:
            stems[path.stem].append(path)
    for stem, paths in stems.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            left_out.append(LeftOut(_relative(paths[0], root), f"one picture called '{stem}'", names))
    return {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1}


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
        name = PurePosixPath(texts[key].replace("\\", "/")).name
        if not name:
            raise UsageError(f"{path}, line {line}: expected a name in column '{key}', found none")
        if name in rows:
            raise UsageError(
                f"{path}, line {line}: '{name}' is there twice (first in line {rows[name].line})"
            )
        rows[name] = _row(path, line, texts)
    known = {"id", "image", "prompt", "split", "group"}
    return rows, [column for column in columns if column not in known and not _is_prompt(column)]


def _row(path: Path, line: int, texts: dict[str, str]) -> Row:
    split = texts.get("split", "").lower()
    if split and split not in _SPLITS:
        raise UsageError(f"{path}, line {line}: expected a split train, val or test, found '{split}'")
    prompts: Prompts = {column: text for column, text in texts.items() if _is_prompt(column) and text}
    if texts.get("prompt"):
        prompts.setdefault("p1", texts["prompt"])
    return Row(
        line, _SPLITS.get(split), texts.get("group") or None, {"p0": "", **prompts} if prompts else None
    )


def _is_prompt(column: str) -> bool:
    return re.fullmatch(r"p[1-9]\d*", column) is not None


def _notes(items: list[Item], passed_over: list[str]) -> tuple[str, ...]:
    notes = []
    own = sum(item.prompts is not None for item in items)
    if 0 < own < len(items):
        notes.append(
            f"{len(items) - own} of {len(items)} images have no prompt in {PROMPTS_FILE}: theirs are made"
        )
    if passed_over:
        notes.append(f"columns of {PROMPTS_FILE} that were passed over: {', '.join(passed_over)}")
    return tuple(notes)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


GENERIC = Kind(
    layout="images/ and masks/ (rename or link yours) with equal file stems, and, if wanted, prompts.csv",
    source="the user's own",
    licence="the user's own",
    split_rule="prompts.csv where it has a split, else seeded 70 % train, 10 % val, 20 % test; groups and"
    " identical images stay together, images with an empty mask are spread evenly",
    find=find,
    list_items=list_items,
)
