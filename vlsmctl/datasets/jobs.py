"""What `vlsmctl prepare` is asked to do: names and a raw folder become jobs, one a data set."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlsmctl.datasets.kinds import DATASETS, OWN
from vlsmctl.datasets.obtaining import RAW, check_terms, downloaded, unpacked
from vlsmctl.datasets.pooling import POOLS
from vlsmctl.datasets.recognition import ARCHIVES, Recognised, recognise
from vlsmctl.datasets.targets import kind_of, slug
from vlsmctl.errors import UsageError


@dataclass(frozen=True)
class Job:
    """One data set to prepare. kind: a key of DATASETS or POOLS. target: the name of its folder. raw: where
    its raw data lies, at it or below; None: nowhere, as for what is drawn or pooled."""

    kind: str
    target: str
    raw: Path | None


@dataclass(frozen=True)
class Offer:
    """Pictures and masks of no known set, how they were paired, and the command that makes a data set of
    them."""

    path: Path
    records: int
    notes: tuple[str, ...]
    command: str


def named_jobs(
    names: Sequence[str],
    raw: Path | None,
    out: Path,
    *,
    rename: str | None = None,
    class_word: str | None = None,
    download: bool = False,
    accepted: bool = False,
    plan: bool = False,
) -> list[Job]:
    """Jobs for names. raw: a folder, or an archive, which is unpacked below out/raw; by default out/raw.

    A name that is not known is that of one's own data, when its raw folder, a class word or a name is
    given, or when it is prepared already; but not when it is nearly that of a known set. A pooled set
    brings the members of it that lie under `raw`. download: the raw data is downloaded to out/raw/NAME
    first. plan: nothing may be written.

    Raises UsageError: unknown names, terms not accepted, two sets of one name.
    """
    if rename is not None and len(names) > 1:
        raise UsageError(f"--name names one data set, but there are {len(names)}: {', '.join(names)}")
    place = _folder(raw, out, plan)
    jobs: list[Job] = []
    for name in dict.fromkeys(names):
        kind = _kind(name, out, rename, own=raw is not None or class_word is not None)
        if kind in POOLS:
            members = recognise(place).roots if raw is not None and place is not None else ()
            jobs += [
                Job(one.name, one.name, one.path) for one in members if one.name in POOLS[kind].members
            ]
            jobs.append(Job(kind, rename or kind, None))
            continue
        here = _downloaded(kind, out, accepted, plan) if download else place
        if DATASETS[kind].make is not None:
            here = None
        known_as = rename or (name if name != OWN else _own_name(here))
        jobs.append(Job(kind, known_as, here))
    return checked_distinct(jobs)


def recognised_jobs(
    raw: Path | None,
    out: Path,
    *,
    rename: str | None = None,
    class_word: str | None = None,
    plan: bool = False,
) -> tuple[Recognised, list[Job], list[Offer]]:
    """Jobs for all that is known at `raw` (by default out/raw) and below. Pictures and masks of no known
    set become a job when a class word says what they show, else an offer."""
    recognised = recognise(_folder(raw, out, plan) or out / RAW)
    jobs = [Job(root.name, root.name, root.path) for root in recognised.roots]
    offers: list[Offer] = []
    for root in recognised.own:
        name = _own_name(root.path)
        command = f'vlsmctl prepare {OWN} --raw "{root.path}" --name {name} --class WORD'
        if class_word is None:
            offers.append(Offer(root.path, root.records, root.notes, command))
        else:
            jobs.append(Job(OWN, name, root.path))
    if rename is not None and len(jobs) > 1:
        found = ", ".join(job.kind for job in jobs)
        raise UsageError(f"--name names one data set, but there are {len(jobs)}: {found}")
    jobs = [Job(job.kind, rename or job.target, job.raw) for job in jobs]
    return recognised, checked_distinct(jobs), offers


def checked_distinct(jobs: list[Job]) -> list[Job]:
    """The jobs, each once. Raises UsageError where two would make one folder of different data."""
    seen: dict[str, Job] = {}
    for job in jobs:
        known = seen.setdefault(job.target, job)
        if known.kind != job.kind or (job.kind == OWN and known.raw != job.raw):
            raise UsageError(
                f"'{known.raw}' and '{job.raw}' would both become the data set '{job.target}'",
                hint="prepare them one at a time, with --raw PATH --name NAME",
            )
    return list(seen.values())


def _kind(name: str, out: Path, rename: str | None, own: bool) -> str:
    """The kind of data that a name stands for. own: whether something says that it is one's own."""
    if name in DATASETS or name in POOLS:
        return name
    known = [*DATASETS, *POOLS]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.75)
    if rename is not None or kind_of(out / name) == OWN or (own and not near):
        return OWN
    meant = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(
        f"unknown data set '{name}'{meant} (known: {', '.join(known)})",
        hint=f"for pictures and masks of your own: vlsmctl prepare {OWN} --raw PATH --class WORD"
        f" --name {slug(name)}",
    )


def _folder(raw: Path | None, out: Path, plan: bool) -> Path | None:
    """Where to look: what was named, unpacked where it is an archive, else out/raw if that is there."""
    if raw is None:
        return out / RAW if (out / RAW).is_dir() else None
    if not raw.is_file():
        return raw
    if not raw.name.lower().endswith(ARCHIVES):
        raise UsageError(
            f"--raw '{raw}': expected a folder or an archive, found a file",
            hint="name its folder: --raw PATH",
        )
    if plan:
        raise UsageError(
            f"--plan writes nothing, and '{raw}' would have to be unpacked", hint="leave out --plan"
        )
    return unpacked(raw, out / RAW)


def _downloaded(kind: str, out: Path, accepted: bool, plan: bool) -> Path:
    if kind == OWN:
        raise UsageError("--download is for public data sets", hint=f"vlsmctl prepare {OWN} --raw PATH")
    folder = out / RAW / kind
    check_terms(kind, accepted or plan, out)
    if plan:
        urls = ", ".join(download.url for download in DATASETS[kind].downloads)
        raise UsageError(
            f"--plan writes nothing; without it {kind} is downloaded to {folder} from {urls}",
            hint="leave out --plan, or --download",
        )
    return downloaded(kind, folder)


def _own_name(raw: Path | None) -> str:
    return slug(raw.resolve().name) if raw is not None else OWN
