"""From raw public layouts to prepared data sets: `data/NAME/` with images, masks and a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vlsmctl.datasets.audit import AuditCase
from vlsmctl.datasets.checks import Checked, check, check_leaks, count_warnings
from vlsmctl.datasets.gathering import Gathered, gather, written_facts
from vlsmctl.datasets.kinds import DATASETS
from vlsmctl.datasets.listings import annotated, empty_share, list_raw, usual_empty
from vlsmctl.datasets.manifest import INFO, SPLITS, Record, read_manifest, write_manifest
from vlsmctl.datasets.pooling import POOLS, Pooled, pool
from vlsmctl.datasets.recipes import Recipe, find_recipe
from vlsmctl.datasets.recognition import find_root
from vlsmctl.datasets.records import (
    Item,
    Kind,
    LeftOut,
    Listing,
    Progress,
    silent,
    without_known_empty,
)
from vlsmctl.datasets.splits import Case, assign_splits, near_clusters
from vlsmctl.datasets.staging import build_folder, put_in_place
from vlsmctl.datasets.targets import check_apart, target_folder
from vlsmctl.errors import UsageError
from vlsmctl.processors import processors

PHANTOM_COUNTS = (160, 24, 40)


@dataclass(frozen=True)
class Outcome:
    """A prepared data set. `counts`: records per split. `empty`: records with an empty mask. `notes`:
    what a person should know about it; `warnings`: what they should act upon. `left_out`: raw files that
    could not be used, and why. `images`: how many there are; `reused`: how many of them had not changed
    since the last time."""

    name: str
    folder: Path
    counts: dict[str, int]
    empty: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    images: int
    reused: int


@dataclass(frozen=True)
class Plan:
    """What `prepare` would do, found without decoding any picture. `expected`: records of the whole set."""

    name: str
    kind: str
    raw: str
    folder: Path
    records: int
    expected: int | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def prepare(
    name: str,
    raw: Path | None,
    out: Path,
    *,
    seed: int = 42,
    class_word: str | None = None,
    rename: str | None = None,
    labels: Mapping[int, str] | None = None,
    axis: int | None = None,
    empty: str | None = None,
    protocol: str = "default",
    annotations: Path | None = None,
    attributes: str = "correct",
    counts: Sequence[int] = PHANTOM_COUNTS,
    workers: int | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Prepares the data set of kind `name` (a key of DATASETS) from `raw` into `out`/NAME.

    class_word: the word for what the masks show (by default the preset's, else the data set's name).
    rename: the data set's name (by default the kind's; for one's own data the raw folder's). labels: what
    the numbers of label maps mean, one's own data only; each becomes a record of its own. axis: the voxel
    axis along which volumes are cut (by default the one that `predict` walks). empty: "keep", "drop" or
    the share of empty masks to keep (by default the kind's; of one's own volumes 0.1). protocol:
    "default", or "medvlsm" for the split of MedVLSM's `annotations`, whose prompts are taken over in any
    case. attributes: "correct", or "medvlsm" for its rule for count, size and place. counts: how many
    phantoms to draw for train, val and test. workers: processes (by default one a core).

    The folder is built beside its place and moved there at the end: a killed run leaves nothing that looks
    finished. What has not changed since the last run is taken over. Same inputs, same manifest.

    Raises UsageError: unknown name, no such raw folder, masks of several classes, a folder in the way
    that `prepare` did not make. NoReadableInput: the raw folder holds nothing of this layout.
    """
    if name in POOLS:
        return _pooled(name, out, rename, progress)
    root = _root(name, raw)
    kind, target = DATASETS[name], target_folder(name, out, rename, root)
    if root is not None:
        check_apart(root, target)
    recipe = find_recipe(target.name, name, kind, class_word)
    with build_folder(target) as work:
        root = root or _made(kind, work / "raw", seed, counts, progress)
        listing = list_raw(name, root, labels, axis)
        usual = empty_share(usual_empty(name, listing))
        share = usual if empty is None else empty_share(empty)
        listing = listing if share else without_known_empty(listing)
        listing, provenance = annotated(name, listing, annotations, protocol)
        fresh = work / "set"
        gathered = gather(
            listing.items, root, fresh, rule=attributes, empty_share=share, seed=seed,
            former=target if (target / INFO).is_file() else None,
            workers=workers or processors(), progress=progress,
        )  # fmt: skip
        items = {item.id: item for item in listing.items}
        splits = assign_splits(_cases(gathered, items), seed, val_from_train=protocol == "default")
        whole = kind.expected if protocol == "default" and share == usual else None
        checked = check(gathered, items, splits, whole)
        outcome = _outcome(target, listing, gathered, checked, splits)
        info = {
            **_description(kind, name, recipe), **_split_rule(kind, protocol, seed),
            "attributes": attributes, "empty": share, "annotations": provenance, "axis": axis,
            "labels": {str(number): meaning for number, meaning in (labels or {}).items()},
            **_findings(outcome), "checks": checked.report,
        }  # fmt: skip
        write_manifest(fresh, _records(fresh, items, splits, recipe), info)
        changed = _changed_settings(target, info)
        put_in_place(fresh, target)
    return replace(outcome, notes=changed + outcome.notes)


def plan(
    name: str,
    raw: Path | None,
    out: Path,
    *,
    rename: str | None = None,
    labels: Mapping[int, str] | None = None,
    axis: int | None = None,
    empty: str | None = None,
    annotations: Path | None = None,
    protocol: str = "default",
) -> Plan:
    """What `prepare` would do with the same arguments; writes nothing. Raises as `prepare` does."""
    if name in POOLS:
        there = [member for member in POOLS[name].members if (out / member / INFO).is_file()]
        notes = (f"pools what is prepared of it: {', '.join(there) or 'nothing yet'}",)
        count = sum(len(read_manifest(out / member).records) for member in there)
        return Plan(rename or name, name, str(out), out / (rename or name), count, None, notes, (), ())
    root = _root(name, raw)
    kind, target = DATASETS[name], target_folder(name, out, rename, root)
    if root is None:
        notes = (f"draws {sum(PHANTOM_COUNTS)} pictures",)
        return Plan(target.name, name, "none needed", target, sum(PHANTOM_COUNTS), None, notes, (), ())
    listing = list_raw(name, root, labels, axis)
    if not empty_share(empty or usual_empty(name, listing)):
        listing = without_known_empty(listing)
    listing, _ = annotated(name, listing, annotations, protocol)
    found = len(listing.items)
    warnings = listing.warnings + (count_warnings(found, kind.expected) if empty is None else ())
    return Plan(
        target.name, name, str(root), target, found, kind.expected,
        listing.notes, warnings, listing.left_out,
    )  # fmt: skip


def _pooled(name: str, out: Path, rename: str | None, progress: Progress) -> Outcome:
    """The pooled set from its members, as they are prepared in `out`."""
    target = target_folder(name, out, rename)
    with build_folder(target) as work:
        fresh = work / "set"
        pooled = pool(name, out, fresh, progress=progress)
        checked = check_leaks(_pool_cases(pooled))
        outcome = Outcome(
            name=target.name,
            folder=target,
            counts=pooled.counts,
            empty=sum(not record.foreground for record in pooled.records),
            notes=(*_member_notes(pooled), *pooled.notes, *checked.notes),
            warnings=pooled.warnings + checked.warnings,
            left_out=pooled.left_out,
            images=len({record.image for record in pooled.records}),
            reused=0,
        )
        info = {
            "kind": name,
            "title": POOLS[name].title,
            "licence": "that of each member",
            "split_rule": "each member's own; some members are wholly in test",
            "members": pooled.members,
        }
        findings = {**_findings(outcome), "checks": checked.report}
        write_manifest(fresh, pooled.records, {**info, **findings})
        put_in_place(fresh, target)
    return outcome


def _root(name: str, raw: Path | None) -> Path | None:
    """The raw folder of the kind's layout; None for a kind that is made."""
    if name not in DATASETS:
        raise UsageError(f"unknown data set '{name}'; known are {', '.join(DATASETS)}")
    kind = DATASETS[name]
    if kind.make is not None:
        return None
    if raw is None:
        ways = [f"vlsmctl prepare {name} --raw PATH   (there: {kind.layout}; from: {kind.source})"]
        if kind.downloads:
            ways.insert(0, f"vlsmctl prepare {name} --download")
        raise UsageError(
            f"{name} is prepared from files on disk, and --raw is missing", hint="\n    or: ".join(ways)
        )
    return find_root(name, raw)


def _made(kind: Kind, folder: Path, seed: int, counts: Sequence[int], progress: Progress) -> Path:
    if kind.make is not None:
        kind.make(folder, seed, counts, progress)
    return folder


def _changed_settings(target: Path, info: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person should know when a set is made anew with other settings than it had."""
    try:
        before = json.loads((target / INFO).read_bytes())
        return tuple(
            f"{key} was {before[key]!r}, and is now {info[key]!r}"
            for key in ("class", "labels", "axis", "protocol", "attributes", "empty", "seed")
            if before.get(key, info[key]) != info[key]
        )
    except (OSError, ValueError, AttributeError):
        return ()  # there was none, or none that can be read


def _split_rule(kind: Kind, protocol: str, seed: int) -> dict[str, Any]:
    published = "as MedVLSM published it, by its annotation files"
    rule = kind.split_rule if protocol == "default" else published
    return {"protocol": protocol, "split_rule": rule, "seed": seed}


def _member_notes(pooled: Pooled) -> Iterator[str]:
    for member, facts in pooled.members.items():
        yield f"{member}: " + ", ".join(f"{count} {split}" for split, count in facts["counts"].items())


def _pool_cases(pooled: Pooled) -> list[AuditCase]:
    return [
        AuditCase(
            id=record.id,
            split=record.split,
            group=record.group,
            pixels=record.sha256,
            phash=pooled.hashes.get(record.id, 0),
            image=record.image,
            name=record.image,
        )
        for record in pooled.records
    ]


def _cases(gathered: Gathered, items: Mapping[str, Item]) -> list[Case]:
    """What looks alike stays together where nothing better is known: the frames of a video, say, do so by
    their group, and chance likenesses between videos would chain them all."""
    images = {seen.image: seen.phash for seen in gathered.records if items[seen.id].group is None}
    near = near_clusters(list(images), list(images.values()))
    return [
        Case(
            id=seen.id,
            own=items[seen.id].split,
            group=items[seen.id].group,
            pixels=seen.pixels,
            empty=seen.foreground == 0,
            stratum=items[seen.id].stratum,
            foreground=seen.foreground,
            near=near.get(seen.image),
        )
        for seen in gathered.records
    ]


def _records(
    folder: Path, items: Mapping[str, Item], splits: Mapping[str, str], recipe: Recipe
) -> Iterator[Record]:
    for facts in written_facts(folder):
        item = items[facts.id]
        yield Record(
            id=facts.id,
            image=facts.image,
            mask=facts.mask,
            split=splits[facts.id],
            prompts=item.prompts or recipe.prompts({**item.words, **facts.words}),
            attributes={**item.words, **item.attributes, **facts.attributes},
            group=item.group,
            width=facts.width,
            height=facts.height,
            foreground=facts.foreground,
            sha256=facts.sha256,
        )


def _outcome(
    target: Path, listing: Listing, gathered: Gathered, checked: Checked, splits: Mapping[str, str]
) -> Outcome:
    per_split = Counter(splits[seen.id] for seen in gathered.records)
    return Outcome(
        name=target.name,
        folder=target,
        counts={split: per_split[split] for split in SPLITS},
        empty=gathered.empty,
        notes=listing.notes + checked.notes,
        warnings=listing.warnings + checked.warnings,
        left_out=listing.left_out + gathered.left_out,
        images=gathered.images,
        reused=gathered.reused,
    )


def _description(kind: Kind, name: str, recipe: Recipe) -> dict[str, Any]:
    return {
        "kind": name,
        "title": kind.title,
        "source": kind.source,
        "licence": kind.licence,
        "class": recipe.class_word,
        "templates": recipe.templates,
        "descriptions": recipe.descriptions,
        "absent": recipe.absent,
    }


def _findings(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "counts": outcome.counts,
        "empty_masks": outcome.empty,
        "notes": list(outcome.notes),
        "warnings": list(outcome.warnings),
        "left_out": [asdict(one) for one in outcome.left_out],
    }
