"""All raw images and masks of a data set become files and facts, and what hangs on the whole set is
decided: how its masks are encoded, and which of the empty ones stay."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from vlsmctl.datasets.encoding import Encoding, Survey
from vlsmctl.datasets.inspection import Facts, Former, Found, Task, facts_line, inspect, read_facts, tasks
from vlsmctl.datasets.records import Item, LeftOut, Progress, first_left_out
from vlsmctl.datasets.sources import BRIGHT, LabelSlice
from vlsmctl.datasets.staging import FACTS
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import NoReadableInput, UsageError


@dataclass(frozen=True, slots=True)
class Seen:
    """What stays in memory of a record until the splits are decided: some hundred bytes.

    image: the prepared image's path. pixels: hash of its RGB pixels. phash: 64-bit perceptual hash.
    foreground: fraction of the mask that is set. written: whether its files are there.
    """

    id: str
    image: str
    pixels: str
    phash: int
    foreground: float
    written: bool


@dataclass(frozen=True, slots=True)
class Gathered:
    """records: those that stay, in the order of the facts. empty: how many of them have an empty mask;
    dropped: how many more had one. images: how many were looked at, reused: how many of those needed no
    second look. unnamed: label numbers that are in the masks, and that nobody named."""

    records: tuple[Seen, ...]
    encoding: Encoding
    left_out: tuple[LeftOut, ...]
    empty: int
    dropped: int
    images: int
    reused: int
    unnamed: tuple[int, ...]


def gather(
    items: Sequence[Item],
    root: Path,
    folder: Path,
    *,
    rule: str,
    empty_share: float,
    seed: int,
    former: Path | None,
    workers: int,
    progress: Progress,
) -> Gathered:
    """Writes images, masks and facts below `folder`.

    rule: a key of ATTRIBUTE_RULES. empty_share: of the records with an empty mask, how many stay (0..1,
    drawn with `seed`). former: the set as an earlier run prepared it, of which unchanged files are taken
    over. Raises UsageError: masks of several classes. NoReadableInput: nothing could be used.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    wanted = tasks(items, rule)
    known = Former(former, former / FACTS) if former is not None else None
    spool = folder / f"{FACTS}.part"
    looking = inspect(wanted, root, folder, rule, known, workers)
    first = _looked(progress(looking, "Reading and writing", len(wanted)), spool)
    seen, left_out = first.seen, tuple(first.left_out)
    if not seen:
        raise NoReadableInput(f"nothing in '{root}' could be used{first_left_out(left_out)}")
    unlabelled = any(isinstance(item.mask, LabelSlice) and item.mask.values is None for item in items)
    if unlabelled and len(first.unnamed) > 1:
        labels = sorted(first.unnamed)
        raise UsageError(
            f"the label volumes hold the labels {listed([str(label) for label in labels])}: expected one",
            hint="say what each means: --labels " + ",".join(f"{label}=NAME" for label in labels[:3]),
        )
    encoding = first.survey.encoding()
    again: dict[str, Facts] = {}

    def look_again(ids: Collection[str]) -> None:
        chosen = _tasks_of(wanted, ids, encoding.threshold)
        for found in inspect(chosen, root, folder, rule, None, workers):
            for facts in (each for each in found if isinstance(each, Facts)):
                again[facts.id], seen[facts.id] = facts, _seen(facts)

    look_again({name for name, threshold in first.dim.items() if threshold != encoding.threshold})
    empty = [each.id for each in seen.values() if not each.foreground]
    dropped = set(empty) - kept_share(empty, empty_share, seed)
    if len(dropped) == len(seen):
        raise NoReadableInput(f"every mask in '{root}' is empty, and such are left out (see --empty)")
    look_again({name for name in empty if name not in dropped and not seen[name].written})
    _write_facts(spool, folder, again, dropped)
    return Gathered(
        records=tuple(each for name, each in seen.items() if name not in dropped),
        encoding=encoding,
        left_out=left_out,
        empty=len(empty) - len(dropped),
        dropped=len(dropped),
        images=len(wanted),
        reused=known.reused if known else 0,
        unnamed=() if unlabelled else tuple(sorted(first.unnamed)),
    )


@dataclass
class _Looked:
    """What the first look gave. dim: masks without a bright pixel, and the threshold that they were read
    with."""

    survey: Survey = field(default_factory=Survey)
    seen: dict[str, Seen] = field(default_factory=dict)
    left_out: dict[LeftOut, None] = field(default_factory=dict)
    dim: dict[str, int] = field(default_factory=dict)
    unnamed: set[int] = field(default_factory=set)


def _looked(found: Iterable[list[Found]], spool: Path) -> _Looked:
    """Takes in what was found, and writes the facts to `spool`."""
    looked = _Looked()
    with spool.open("w", encoding="utf-8", newline="\n") as stream:
        for each in (one for several in found for one in several):
            if isinstance(each, LeftOut):
                looked.left_out[each] = None  # once, however many slices of a volume it costs
                continue
            looked.survey.add(each.grey)
            looked.seen[each.id] = _seen(each)
            looked.unnamed.update(each.unnamed)
            stream.write(facts_line(each))
            if 0 < each.grey.peak <= BRIGHT:
                looked.dim[each.id] = each.threshold
    return looked


def kept_share(names: Sequence[str], share: float, seed: int) -> set[str]:
    """A seeded draw of `share` (0..1) of the names, rounded; it hangs on no order."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    return set(ordered[: round(share * len(ordered))])


def written_facts(folder: Path) -> Iterator[Facts]:
    """The facts of all records whose files are in a folder, in order."""
    return (facts for facts in read_facts(folder / FACTS) if facts.stamps)


def looks(folder: Path, pixels: Mapping[str, str]) -> dict[str, int]:
    """Perceptual hashes of the images of a prepared set, as far as the facts beside it tell them: record
    id -> hash. pixels: record id -> hash of its RGB pixels, which tells facts that are out of date."""
    found: dict[str, int] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):  # no facts, older ones, or damaged ones
        for facts in written_facts(folder):
            if pixels.get(facts.id) == facts.sha256:
                found[facts.id] = int(facts.phash, 16)
    return found


def _seen(facts: Facts) -> Seen:
    return Seen(
        facts.id, facts.image, facts.sha256, int(facts.phash, 16), facts.foreground, bool(facts.stamps)
    )


def _tasks_of(wanted: Iterable[Task], ids: Collection[str], threshold: int) -> list[Task]:
    """The part of the tasks that has to do with certain records, with a threshold for their masks."""
    chosen: list[Task] = []
    for task in wanted if ids else ():
        pairs = [pair for pair in zip(task.items, task.keys, strict=True) if pair[0].id in ids]
        if pairs:
            chosen.append(Task(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), threshold))
    return chosen


def _write_facts(spool: Path, folder: Path, again: Mapping[str, Facts], dropped: Collection[str]) -> None:
    """The final facts, image by image. Files of dropped records go; their facts stay, so that the next
    run knows of them without looking."""
    with (folder / FACTS).open("w", encoding="utf-8", newline="\n") as stream:
        for image, group in groupby(read_facts(spool), key=lambda facts: facts.image):
            final = [again.get(facts.id, facts) for facts in group]
            for at, facts in enumerate(final):
                if facts.id in dropped:
                    (folder / facts.mask).unlink(missing_ok=True)
                    final[at] = replace(facts, stamps=())
            if not any(facts.stamps for facts in final):
                (folder / image).unlink(missing_ok=True)
            stream.writelines(facts_line(facts) for facts in final)
    spool.unlink()
