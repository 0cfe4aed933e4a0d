"""What can be told of a prepared data set, and written from it, without its raw data."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from vlsmctl.datasets.annotations import Annotations, apply
from vlsmctl.datasets.audit import Audit, AuditCase, audit
from vlsmctl.datasets.gathering import looks
from vlsmctl.datasets.kinds import DATASETS
from vlsmctl.datasets.manifest import Manifest
from vlsmctl.datasets.pooling import pooled_looks
from vlsmctl.datasets.records import Item
from vlsmctl.datasets.sources import Nothing, Picture
from vlsmctl.errors import UsageError


def audit_prepared(manifest: Manifest, published: Annotations | None = None) -> tuple[Audit, str]:
    """The leaks between the splits of a prepared set, or between those that MedVLSM published for it; and
    what the audit cannot tell, in words ("" when nothing).

    Raises UsageError: a pooled set, which nobody published annotations for.
    """
    near = _looks(manifest)
    records = {record.id: record for record in manifest.records}
    splits = [(record.id, record.id, record.split) for record in manifest.records]
    if published is not None:
        splits = _published_splits(manifest, published)
    cases = [
        AuditCase(
            id=name,
            split=split,
            group=records[known].group,
            pixels=records[known].sha256,
            phash=near.get(known, 0),
            image=records[known].image,
            name=PurePosixPath(records[known].image).with_suffix("").as_posix().removeprefix("images/"),
        )
        for name, known, split in splits
    ]
    unknown = sum(known not in near for _, known, _ in splits)
    return audit(cases), f"how {unknown} images look was not compared" if unknown else ""


def _looks(manifest: Manifest) -> dict[str, int]:
    pixels = {record.id: record.sha256 for record in manifest.records}
    members = manifest.info.get("members")
    if isinstance(members, dict):  # a pool, whose members lie beside it
        return pooled_looks(manifest.folder.parent, members, pixels)
    return looks(manifest.folder, pixels)


def _published_splits(manifest: Manifest, published: Annotations) -> list[tuple[str, str, str]]:
    """(id, id of the record, split) for each published entry that is among the records."""
    kind = DATASETS.get(manifest.info["kind"])
    if kind is None:
        raise UsageError(f"{manifest.info['kind']} is a pool of several sets; audit them one at a time")
    items = [Item(record.id, Picture(Path(record.id)), Nothing()) for record in manifest.records]
    applied = apply(items, published, kind.published, protocol=True, published_test=kind.published_test)
    return [
        (item.id, str(item.image.files[0]), item.split) for item in applied.items if item.split is not None
    ]
