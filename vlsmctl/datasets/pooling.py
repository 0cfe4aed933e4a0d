"""Pooled data sets: prepared sets put together as one, without an image being in it twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vlsmctl.datasets.gathering import looks
from vlsmctl.datasets.manifest import INFO, SPLITS, Manifest, Record, read_manifest
from vlsmctl.datasets.records import LeftOut, Progress, silent
from vlsmctl.datasets.staging import link_or_copy
from vlsmctl.errors import UsageError

_POLYPS = ("kvasir", "clinicdb", "bkai", "colondb", "cvc300", "etis")
_POLYPS_TESTED = ("colondb", "cvc300", "etis")


@dataclass(frozen=True)
class Pool:
    """members: names of data sets; where two have the same image in the same split, the earlier one
    keeps it. test_only: those that are wholly in test, whatever their own splits are."""

    title: str
    members: tuple[str, ...]
    test_only: tuple[str, ...] = ()


# Source: Poudel et al., MIDL 2024 (the pooled polyp sets and the pool of all data sets)
POOLS = {
    "polyps": Pool("Endoscopic polyps, six data sets pooled", _POLYPS, _POLYPS_TESTED),
    "all": Pool(
        "Eleven data sets pooled: polyps, skin, feet, heart, breast and chest",
        (*_POLYPS, "isic2016", "dfu2022", "camus", "busi", "chexlocalize"),
        _POLYPS_TESTED,
    ),
}


@dataclass(frozen=True)
class Pooled:
    """records: of the pooled set, in the order of its members. counts: records per split. members: of
    each, how many records it gives to which split, the hash of its manifest, its source and licence.
    hashes: the perceptual hashes of the records' images, where the member's own facts tell them (0: of an
    image with next to nothing in it). notes, warnings, left_out: as in a Listing."""

    records: tuple[Record, ...]
    counts: dict[str, int]
    members: dict[str, dict[str, Any]]
    hashes: dict[str, int]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


Placed = tuple[str, Record]  # the member that a record is from; its split is the one in the pool


def pool(name: str, data: Path, out: Path, *, progress: Progress = silent) -> Pooled:
    """Pools the members of POOLS[name] that are prepared in `data`, each in `data`/MEMBER.

    out: the folder to fill, `images/MEMBER/` and `masks/MEMBER/`. Files are linked where the file system
    can, so that a pool takes no space of its own, else copied. Of an image that several members have,
    only the copy in the split that is furthest from training stays (test, then val), so that nothing is
    tested that was trained on, nor counted twice. Images that only look alike all stay: see `hashes`.

    Raises UsageError: no such pool, fewer than two members are prepared, or one of them is damaged or is
    another kind of data set.
    """
    if name not in POOLS:
        raise UsageError(f"unknown pooled data set '{name}'; known are {', '.join(POOLS)}")
    chosen = POOLS[name]
    missing = [member for member in chosen.members if not (data / member / INFO).is_file()]
    commands = [_command(member, data) for member in missing]
    present = [member for member in chosen.members if member not in missing]
    if len(present) < 2:
        raise UsageError(
            f"'{name}' pools prepared data sets and needs at least two of them in '{data}', found "
            f"{' and '.join(present) or 'none'}; it takes {', '.join(chosen.members)}",
            hint="prepare them first: " + "; ".join(commands),
        )
    manifests = {member: _manifest(member, data) for member in present}
    placed = list(_placed(manifests, chosen.test_only))
    kept, notes, warnings = _without_copies(placed)
    if missing:
        warnings.append(
            f"not prepared, so not in '{name}': {', '.join(missing)}; to have them in it: "
            + "; ".join((*commands, _command(name, data, raw=False)))
        )
    records, left_out = _linked(kept, data, out, progress)
    counts = {split: sum(record.split == split for record in records) for split in SPLITS}
    members, hashes = (
        _described(manifests, records),
        pooled_looks(data, manifests, {one.id: one.sha256 for one in records}),
    )
    return Pooled(tuple(records), counts, members, hashes, tuple(notes), tuple(warnings), tuple(left_out))


def _command(name: str, data: Path, *, raw: bool = True) -> str:
    there = "" if data == Path("data") else f' --out "{data}"' if " " in str(data) else f" --out {data}"
    return f"vlsmctl prepare {name}{' --raw PATH' if raw else ''}{there}"


def _manifest(member: str, data: Path) -> Manifest:
    manifest = read_manifest(data / member)
    kind = manifest.info.get("kind")
    if kind != member:
        raise UsageError(
            f"'{manifest.folder}': expected a prepared data set of kind '{member}', found one of "
            + (f"kind '{kind}'" if kind else "unknown kind"),
            hint=f"move it elsewhere, or prepare it under another --name; then: {_command(member, data)}",
        )
    return manifest


def _placed(manifests: Mapping[str, Manifest], test_only: Sequence[str]) -> Iterator[Placed]:
    for member, manifest in manifests.items():
        for record in manifest.records:
            yield member, replace(record, split="test") if member in test_only else record


def _without_copies(placed: Sequence[Placed]) -> tuple[list[Placed], list[str], list[str]]:
    """What stays, and notes and warnings on what goes. Only images that several members have are looked
    at: what one member has twice is its own affair."""
    places: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)  # a set that keeps its order
    for member, record in placed:
        places[record.sha256][record.split, member] = None
    keepers = {
        pixels: max(there, key=lambda place: SPLITS.index(place[0]))  # of equal ones the first
        for pixels, there in places.items()
        if len({member for _, member in there}) > 1
    }
    kept: list[Placed] = []
    dropped: dict[tuple[tuple[str, str], tuple[str, str]], set[str]] = defaultdict(set)
    for member, record in placed:
        here = (record.split, member)
        keeper = keepers.get(record.sha256, here)
        if keeper == here:
            kept.append((member, record))
        else:
            dropped[here, keeper].add(record.sha256)
    notes: list[str] = []
    warnings: list[str] = []
    for ((split, member), (other_split, other)), images in dropped.items():
        if split == other_split:
            notes.append(
                f"left out of {member}, since {other} has the same in {split}: {len(images)} images"
            )
        else:
            warnings.append(
                f"left out of the {split} images of {member}, since {other} has the same in {other_split}:"
                f" {len(images)} images"
            )
    return kept, notes, warnings


def _linked(
    placed: Sequence[Placed], data: Path, out: Path, progress: Progress
) -> tuple[list[Record], list[LeftOut]]:
    """The records with their files in place; a record whose files are gone is left out."""
    records: list[Record] = []
    left_out: list[LeftOut] = []
    done: set[str] = set()
    for member, record in progress(placed, "Linking images and masks", len(placed)):
        gone = [path for path in (record.image, record.mask) if not (data / member / path).is_file()]
        if gone:
            left_out.append(LeftOut(f"{member}/{gone[0]}", "the file that its manifest names", "nothing"))
            continue
        pooled = _pooled(member, record)
        for source, target in ((record.image, pooled.image), (record.mask, pooled.mask)):
            if target not in done:
                done.add(target)
                link_or_copy(data / member / source, out / target)
        records.append(pooled)
    return records, left_out


def _pooled(member: str, record: Record) -> Record:
    return replace(
        record,
        id=_pooled_id(member, record.id),
        image=_below(record.image, "images", member),
        mask=_below(record.mask, "masks", member),
        attributes={**record.attributes, "dataset": member},
        group=None if record.group is None else f"{member}/{record.group}",
    )


def _pooled_id(member: str, name: str) -> str:
    return f"{member}-{name}"


def _below(path: str, folder: str, member: str) -> str:
    """images/a.png -> images/MEMBER/a.png"""
    parts = PurePosixPath(path).parts
    inner = parts[1:] if parts[0] == folder and len(parts) > 1 else parts
    return PurePosixPath(folder, member, *inner).as_posix()


def _described(manifests: Mapping[str, Manifest], records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    given = Counter((record.attributes["dataset"], record.split) for record in records)
    return {
        member: {
            "counts": {split: given[member, split] for split in SPLITS},
            "manifest_hash": manifest.hash,
            "source": manifest.info.get("source"),
            "licence": manifest.info.get("licence"),
        }
        for member, manifest in manifests.items()
    }


def pooled_looks(data: Path, members: Iterable[str], pixels: Mapping[str, str]) -> dict[str, int]:
    """Perceptual hashes of a pool's images, from the facts of its members in `data`: record id -> hash.
    pixels: record id of the pool -> hash of its RGB pixels, which tells facts that are out of date."""
    found: dict[str, int] = {}
    for member in members:
        theirs = _pooled_id(member, "")
        own = {name.removeprefix(theirs): pixels[name] for name in pixels if name.startswith(theirs)}
        found |= {_pooled_id(member, name): near for name, near in looks(data / member, own).items()}
    return found
