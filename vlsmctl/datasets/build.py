"""From raw public layouts to prepared data sets: `data/NAME/` with images, masks and a manifest."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from vlsmctl.config import find_preset, read_preset
from vlsmctl.datasets.fuseg import FUSEG
from vlsmctl.datasets.generic import GENERIC
from vlsmctl.datasets.manifest import INFO, MANIFEST, SPLITS, Prompts, Record, write_manifest
from vlsmctl.datasets.phantom import PHANTOM
from vlsmctl.datasets.prompts import DEFAULT_TEMPLATES, fill_templates
from vlsmctl.datasets.records import (
    Encoding,
    Item,
    Kind,
    LeftOut,
    Listing,
    Picture,
    Progress,
    Survey,
    Unequal,
    reason,
    silent,
    write_pair,
)
from vlsmctl.datasets.splits import Case, assign_splits, identical
from vlsmctl.errors import NoReadableInput, UnreadableFile, UsageError

DATASETS: dict[str, Kind] = {"fuseg": FUSEG, "phantom": PHANTOM, "generic": GENERIC}

PHANTOM_COUNTS = (160, 24, 40)
_OURS = ("images", "masks", MANIFEST, INFO)
_STALE_SECONDS = 24 * 3600
_NAMED = 20


@dataclass(frozen=True)
class Outcome:
    """A prepared data set. `counts`: images per split. `empty`: images with an empty mask. `notes`:
    what a person should know about it. `left_out`: raw files that could not be used, and why."""

    name: str
    folder: Path
    counts: dict[str, int]
    empty: int
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Plan:
    """What `prepare` would do, found without opening any picture."""

    name: str
    kind: str
    raw: str
    folder: Path
    pairs: int
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def prepare(
    name: str,
    raw: Path | None,
    out: Path,
    *,
    seed: int = 42,
    class_word: str | None = None,
    rename: str | None = None,
    counts: Sequence[int] = PHANTOM_COUNTS,
    progress: Progress = silent,
) -> Outcome:
    """Prepares the data set of kind `name` (a key of DATASETS) from `raw` into `out`/NAME.

    class_word: the word for what the masks show (by default the preset's, else the data set's name).
    rename: the data set's name (by default the kind's; for generic data the raw folder's). counts: how
    many phantoms to draw for train, val and test. The folder is built beside its place and moved there
    at the end: a killed run leaves nothing that looks finished. Same inputs, same bytes.

    Raises UsageError: unknown name, no such raw folder, masks of several classes, a folder in the way
    that `prepare` did not make. NoReadableInput: the raw folder holds nothing of this layout.
    """
    kind, root, target = _resolved(name, raw, out, rename)
    templates = _templates(target.name, name, class_word)
    with _build_folder(target) as work:
        root = root or _made(kind, work / "raw", seed, counts, progress)
        listing = _listed(kind, root)
        fresh = work / "set"
        for folder in ("images", "masks"):
            (fresh / folder).mkdir(parents=True)
        pictures, encoding, left_out = _write_pictures(listing, root, fresh, progress)
        records = _records(pictures, templates, seed)
        outcome = _outcome(target, records, listing, encoding, left_out)
        write_manifest(fresh, records, _info(outcome, kind, name, templates, seed))
        _put_in_place(fresh, target)
    return outcome


def _made(kind: Kind, folder: Path, seed: int, counts: Sequence[int], progress: Progress) -> Path:
    if kind.make is not None:
        kind.make(folder, seed, counts, progress)
    return folder


def plan(name: str, raw: Path | None, out: Path, *, rename: str | None = None) -> Plan:
    """What `prepare` would do with the same arguments; writes nothing. Raises as `prepare` does."""
    kind, root, target = _resolved(name, raw, out, rename)
    if root is None:
        notes = (f"draws {sum(PHANTOM_COUNTS)} pictures",)
        return Plan(target.name, name, "none needed", target, sum(PHANTOM_COUNTS), notes, ())
    listing = _listed(kind, root)
    pairs = len(listing.items)
    return Plan(target.name, name, str(root), target, pairs, listing.notes, listing.left_out)


def recognise(raw: Path) -> list[tuple[str, Path]]:
    """The data sets in `raw` and in the folders directly below it: (kind, its folder).

    Raises UsageError: no such folder. NoReadableInput: none of the known layouts.
    """
    _check_folder(raw)
    found: dict[Path, str] = {}
    below = sorted(path for path in raw.iterdir() if path.is_dir() and not path.name.startswith("."))
    for folder in (raw, *below):
        for name, kind in DATASETS.items():
            root = kind.find(folder)
            if root is not None:
                found.setdefault(root, name)
    if not found:
        raise NoReadableInput(f"no known data set in '{raw}': found {_glimpse(raw)}\n{_layouts()}")
    return [(name, root) for root, name in found.items()]


def _resolved(name: str, raw: Path | None, out: Path, rename: str | None) -> tuple[Kind, Path | None, Path]:
    """The kind, the raw folder of its layout (None for a kind that is made) and the folder to write."""
    if name not in DATASETS:
        raise UsageError(f"unknown data set '{name}'; known are {', '.join(DATASETS)}")
    kind = DATASETS[name]
    root = None if kind.make is not None else _find_root(name, kind, raw)
    own_name = slug(root.resolve().name) if name == "generic" and root is not None else name
    chosen = own_name if rename is None else rename
    if chosen != slug(chosen):
        raise UsageError(
            f"--name '{chosen}': expected lower-case letters, digits and dashes, as '{slug(chosen)}'"
        )
    target = out / chosen
    if (
        target.exists()
        and not (target / INFO).is_file()
        and not (target.is_dir() and not any(target.iterdir()))
    ):
        raise UsageError(
            f"'{target}' exists and was not made by vlsmctl prepare (it has no {INFO})",
            hint="choose another place with --out or another name with --name",
        )
    return kind, root, target


def slug(text: str) -> str:
    """A name for a data set, safe as a folder on every system: lower-case letters, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "dataset"


def _find_root(name: str, kind: Kind, raw: Path | None) -> Path:
    if raw is None:
        raise UsageError(
            f"{name} is prepared from files on disk, and --raw is missing",
            hint=f"vlsmctl prepare {name} --raw PATH   (there: {kind.layout}; from: {kind.source})",
        )
    _check_folder(raw)
    root = kind.find(raw)
    if root is None:
        raise NoReadableInput(f"no {name} data in '{raw}': expected {kind.layout}; found {_glimpse(raw)}")
    return root


def _check_folder(raw: Path) -> None:
    if not raw.is_dir():
        found = "a file" if raw.exists() else "nothing"
        raise UsageError(
            f"--raw '{raw}': expected a folder, found {found}",
            hint="name the folder with the raw data: vlsmctl prepare --raw PATH",
        )


def _glimpse(folder: Path) -> str:
    """A few names from a folder, for an error message."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing"


def _layouts() -> str:
    known = (f"  {name}: {kind.layout}" for name, kind in DATASETS.items() if kind.make is None)
    return "known layouts, at --raw or one folder below it:\n" + "\n".join(known)


def _listed(kind: Kind, root: Path) -> Listing:
    listing = kind.list_items(root)
    if not listing.items:
        raise NoReadableInput(
            f"no usable pair in '{root}': expected {kind.layout}" + _first(listing.left_out)
        )
    return listing


def _first(left_out: Sequence[LeftOut]) -> str:
    return "".join(f"\n  {one.file}: expected {one.expected}, found {one.found}" for one in left_out[:5])


def _templates(target: str, name: str, class_word: str | None) -> tuple[str, Prompts]:
    """The class word and the templates: of the preset of that name, else of its kind, else our own."""
    preset = next((each for each in (target, name) if find_preset(each)), None)
    given: dict[str, Any] = (read_preset(preset).get("prompts_from") if preset else None) or {}
    word = class_word or given.get("class") or target.replace("-", " ")
    return str(word), dict(given.get("templates") or DEFAULT_TEMPLATES)


def _write_pictures(
    listing: Listing, root: Path, folder: Path, progress: Progress
) -> tuple[list[Picture], Encoding, list[LeftOut]]:
    """Reads all masks once to learn how they are stored, then writes pair by pair."""
    survey, readable, left_out = Survey(), list[Item](), list(listing.left_out)
    for item in progress(listing.items, "Reading masks", len(listing.items)):
        try:
            survey.add(item.mask)
            readable.append(item)
        except UnreadableFile as error:
            left_out.append(_unreadable(item.mask, root, error))
    encoding = survey.encoding()
    pictures: list[Picture] = []
    for item in progress(readable, "Writing images and masks", len(readable)):
        try:
            pictures.append(write_pair(item, encoding, folder))
        except UnreadableFile as error:
            left_out.append(_unreadable(item.image, root, error))
        except Unequal as unequal:
            left_out.append(LeftOut(item.mask.relative_to(root).as_posix(), *unequal.args))
    if not pictures:
        raise NoReadableInput(f"nothing in '{root}' could be used" + _first(left_out))
    return pictures, encoding, left_out


def _unreadable(path: Path, root: Path, error: UnreadableFile) -> LeftOut:
    return LeftOut(path.relative_to(root).as_posix(), "a whole, readable picture", reason(error, path))


def _records(pictures: Sequence[Picture], templates: tuple[str, Prompts], seed: int) -> list[Record]:
    cases = [
        Case(one.item.id, one.item.split, one.item.group, one.sha256, one.foreground == 0)
        for one in pictures
    ]
    splits = assign_splits(cases, seed)
    word, texts = templates
    return [
        Record(
            id=one.item.id,
            image=one.image,
            mask=one.mask,
            split=splits[one.item.id],
            prompts=one.item.prompts or fill_templates(texts, {"class": word, **one.words}),
            attributes=one.attributes,
            group=one.item.group,
            width=one.width,
            height=one.height,
            foreground=one.foreground,
            sha256=one.sha256,
        )
        for one in sorted(pictures, key=lambda one: one.item.id)
    ]


def _outcome(
    target: Path,
    records: Sequence[Record],
    listing: Listing,
    encoding: Encoding,
    left_out: Sequence[LeftOut],
) -> Outcome:
    per_split = Counter(record.split for record in records)
    empty = sum(record.foreground == 0 for record in records)
    counts = {split: per_split[split] for split in SPLITS}
    notes = [*listing.notes, *encoding.notes, *_duplicates(records), *_torn_groups(records)]
    notes += [f"no image is in {split}" for split, count in counts.items() if not count]
    return Outcome(target.name, target, counts, empty, tuple(notes), tuple(left_out))


def _duplicates(records: Sequence[Record]) -> list[str]:
    """What to say about identical images: how many, and by name those that lie in several splits."""
    splits = {record.id: record.split for record in records}
    same = identical({record.id: record.sha256 for record in records})
    torn = [names for names in same if len({splits[name] for name in names}) > 1]
    notes = []
    if same:
        notes.append(f"{len(same)} groups of identical images ({sum(map(len, same))} images), all kept")
    if torn:
        shown = "; ".join(
            " = ".join(f"{name} ({splits[name]})" for name in names) for names in torn[:_NAMED]
        ) + (f"; and {len(torn) - _NAMED} more" if len(torn) > _NAMED else "")
        notes.append(f"{len(torn)} of them lie in several splits, by the data set's own split: {shown}")
    return notes


def _torn_groups(records: Sequence[Record]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for record in records:
        if record.group is not None:
            seen.setdefault(record.group, set()).add(record.split)
    torn = sum(len(splits) > 1 for splits in seen.values())
    return [f"{torn} groups lie in several splits, by the data set's own split"] if torn else []


def _info(
    outcome: Outcome, kind: Kind, name: str, templates: tuple[str, Prompts], seed: int
) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "kind": name,
        "source": kind.source,
        "licence": kind.licence,
        "class": templates[0],
        "templates": templates[1],
        "counts": outcome.counts,
        "empty_masks": outcome.empty,
        "split_rule": kind.split_rule,
        "seed": seed,
        "notes": list(outcome.notes),
        "left_out": [asdict(one) for one in outcome.left_out],
    }


@contextmanager
def _build_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, removed at the end whatever happens. What killed runs left
    there goes once it is a day old; a younger one may belong to a run that is still going on.

    Raises UsageError: the system refused to write there (rights, space).
    """
    work = target.parent / f".{target.name}.{uuid4().hex[:8]}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in target.parent.glob(f".{target.name}.*.part"):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        work.mkdir()
        _settle(target, work)
        yield work
    except OSError as error:
        raise UsageError(
            f"could not make '{target}': {error.strerror or error} ({error.filename})"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _settle(target: Path, work: Path) -> None:
    """Ends the swap that a killed run left half done, if there is one: puts the former folder back
    where nothing has taken its place, else moves along what is left in it."""
    for former in sorted(target.parent.glob(f".{target.name}.*.former")):
        if (target / INFO).is_file():
            _carry_over(former, target, work)
        else:
            if target.exists():
                target.rmdir()  # empty, or else it would have been refused before
            former.rename(target)


def _put_in_place(fresh: Path, target: Path) -> None:
    """Swaps the finished folder in; files that a user added to the former one move along. The former
    folder goes only when all that is done."""
    former = target.parent / f".{target.name}.{uuid4().hex[:8]}.former"
    replaces = target.exists()
    if replaces:
        target.rename(former)
    try:
        fresh.rename(target)
    except BaseException:  # an interrupt, too
        if replaces:
            former.rename(target)
        raise
    if replaces:
        _carry_over(former, target, fresh.parent)


def _carry_over(former: Path, target: Path, work: Path) -> None:
    """Moves along what a user added; `former` then goes whole, into `work`, which is removed."""
    for path in former.iterdir():
        if path.name not in _OURS and not (target / path.name).exists():
            path.rename(target / path.name)
    former.rename(work / former.name)
