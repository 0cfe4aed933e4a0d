"""One's own data, listed and prepared for tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.generic import list_items
from vlsmctl.datasets.manifest import Record, read_manifest
from vlsmctl.datasets.records import Item, Listing


def touched(root: Path, names: Iterable[str]) -> Path:
    """Empty files: rules are found by names only."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def listed(root: Path, **options: object) -> tuple[dict[str, Item], Listing]:
    listing = list_items(root, **options)  # type: ignore[arg-type]
    return {item.id: item for item in listing.items}, listing


def prepared(raw: Path, out: Path, **options: object) -> tuple[dict[str, Record], Path, tuple[str, ...]]:
    """The records, the folder and the notes; nothing left out, no group in two splits."""
    outcome = prepare("generic", raw, out, class_word="thing", workers=1, **options)  # type: ignore[arg-type]
    assert outcome.left_out == ()
    records = {record.id: record for record in read_manifest(outcome.folder).records}
    splits = defaultdict(set)
    for record in records.values():
        if record.group:
            splits[record.group].add(record.split)
    assert all(len(each) == 1 for each in splits.values())
    return records, outcome.folder, outcome.notes
