"""What a person should know of a data set before training on it: notes, and warnings to act upon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vlsmctl.datasets.audit import AuditCase, audit, leak_lines, repeat_lines
from vlsmctl.datasets.gathering import Gathered
from vlsmctl.datasets.manifest import SPLITS
from vlsmctl.datasets.records import Item
from vlsmctl.datasets.wording import listed

NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Checked:
    """notes and warnings: lines for people. report: the same in numbers, for dataset.json."""

    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    report: dict[str, Any]


def check(
    gathered: Gathered, items: Mapping[str, Item], splits: Mapping[str, str], expected: int | None
) -> Checked:
    """Looks at a gathered data set with its splits (id -> split). expected: records of the whole set."""
    leaks = check_leaks(_audit_cases(gathered, items, splits))
    encoding = gathered.encoding
    counts = Counter(splits.values())
    report = {
        **dict(sorted(Counter(one.check for one in gathered.left_out).items())),
        "empty_kept": gathered.empty,
        "empty_dropped": gathered.dropped,
        **leaks.report,
    }
    return Checked(
        (*encoding.notes, *_empty_notes(gathered), *leaks.notes),
        (
            *encoding.warnings,
            *_label_warnings(gathered, items),
            *_full_warnings(gathered),
            *leaks.warnings,
            *(f"no image is in {split}" for split in SPLITS if not counts[split]),
            *count_warnings(len(gathered.records) + gathered.dropped, expected),
        ),
        report,
    )


def check_leaks(cases: Sequence[AuditCase]) -> Checked:
    """What several splits have in common is a warning, what is there twice a note."""
    leaks = audit(cases)
    return Checked(tuple(repeat_lines(leaks)), tuple(leak_lines(leaks)), {"leaks": leaks.as_dict()})


def count_warnings(found: int, expected: int | None) -> tuple[str, ...]:
    """expected: records of the whole data set, None where it is not known."""
    if expected in (None, found):
        return ()
    return (f"{found} records, where the whole data set has {expected}",)


def _audit_cases(
    gathered: Gathered, items: Mapping[str, Item], splits: Mapping[str, str]
) -> list[AuditCase]:
    return [
        AuditCase(
            id=seen.id,
            split=splits[seen.id],
            group=items[seen.id].group,
            pixels=seen.pixels,
            phash=seen.phash,
            image=seen.image,
            name=PurePosixPath(seen.image).stem,
        )
        for seen in gathered.records
    ]


def _label_warnings(gathered: Gathered, items: Mapping[str, Item]) -> Iterator[str]:
    """Labels that are named and not there, or there and not named."""
    named = {item.words["class"]: item.attributes["label"] for item in items.values() if _has_label(item)}
    marked = {items[seen.id].words.get("class") for seen in gathered.records if seen.foreground}
    for name, label in named.items():
        if name not in marked:
            yield f"no mask holds the label {label} ({name})"
    if gathered.unnamed:
        others = listed([str(value) for value in gathered.unnamed])
        yield f"labels in the masks that --labels does not name, and that are not used: {others}"


def _full_warnings(gathered: Gathered) -> Iterator[str]:
    """Masks that mark nearly everything are mostly ones that mark the background."""
    full = sum(seen.foreground > NEARLY_ALL for seen in gathered.records)
    if 2 * full > len(gathered.records):
        yield (
            f"{full} of {len(gathered.records)} masks mark more than {NEARLY_ALL:.0%} of the picture:"
            " do they show the background, or is 255 not the target?"
        )


def _has_label(item: Item) -> bool:
    return "label" in item.attributes and "class" in item.words


def _empty_notes(gathered: Gathered) -> Sequence[str]:
    if not gathered.dropped:
        return ()
    return (
        f"{gathered.dropped} of {gathered.dropped + gathered.empty} records with an empty mask left out",
    )
