"""What can be told of a prepared data set, and written from it, without its raw data."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from vlsmctl.datasets.annotations import Annotations, apply
from vlsmctl.datasets.audit import Audit, AuditCase, audit
from vlsmctl.datasets.gathering import written_facts
from vlsmctl.datasets.kinds import DATASETS
from vlsmctl.datasets.manifest import Manifest
from vlsmctl.datasets.records import Item
from vlsmctl.datasets.sources import Nothing, Picture


def audit_prepared(manifest: Manifest, published: Annotations | None = None) -> Audit:
    """The leaks between the splits of a prepared set, or between those that MedVLSM published for it."""
    near = {facts.id: int(facts.phash, 16) for facts in written_facts(manifest.folder)}
    records = {record.id: record for record in manifest.records}
    splits = [(record.id, record.id, record.split) for record in manifest.records]
    if published is not None:
        splits = _published_splits(manifest, published)
    return audit(
        [
            AuditCase(
                id=name,
                split=split,
                group=records[known].group,
                pixels=records[known].sha256,
                phash=near.get(known, 0),
                image=records[known].image,
                name=PurePosixPath(records[known].image).stem,
            )
            for name, known, split in splits
        ]
    )


def _published_splits(manifest: Manifest, published: Annotations) -> list[tuple[str, str, str]]:
    """(id, id of the record, split) for each published entry that is among the records."""
    kind = DATASETS[manifest.info["kind"]]
    items = [Item(record.id, Picture(Path(record.id)), Nothing()) for record in manifest.records]
    applied = apply(items, published, kind.published, protocol=True, published_test=kind.published_test)
    return [
        (item.id, str(item.image.files[0]), item.split) for item in applied.items if item.split is not None
    ]
