"""`vlsmctl prepare`: raw public data in, `data/NAME/` out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from vlsmctl.commands.prepare_lines import recognised_lines, set_lines
from vlsmctl.console import console, out, track
from vlsmctl.datasets.manifest import INFO
from vlsmctl.errors import SOME_FAILED, UsageError, VlsmctlError

if TYPE_CHECKING:
    from vlsmctl.datasets.build import Outcome, Plan
    from vlsmctl.datasets.jobs import Job, Offer
    from vlsmctl.datasets.recognition import Recognised, Root

DEFAULT_OUT = Path("data")
SEED: Final = 42
DEFAULT: Final = "default"
CORRECT: Final = "correct"


def prepare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Data sets (see vlsmctl presets); without it, what lies under --raw."
        ),
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option(help="The raw data, or an archive of it (default: OUT/raw).", show_default=False),
    ] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Where prepared data sets go.")] = DEFAULT_OUT,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done; write nothing.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Download the raw data first, where its licence allows it.")
    ] = False,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Agree to the terms of what is downloaded.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the data set (one at a time).")] = None,
    class_word: Annotated[
        str | None, typer.Option("--class", help='What the masks show, for the prompts: "polyp".')
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help='What label numbers mean, one\'s own data: 1="left ventricle",2=myocardium.'),
    ] = None,
    axis: Annotated[
        int | None,
        typer.Option(min=0, max=2, help="Voxel axis to cut volumes along (default: as predict does)."),
    ] = None,
    empty: Annotated[
        str | None,
        typer.Option(
            help="Empty masks: keep, drop, or the share to keep (default: keep; of one's own volumes 0.1).",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        Literal["default", "medvlsm"], typer.Option(help="Whose split into train, val and test.")
    ] = DEFAULT,
    annotations: Annotated[
        Path | None, typer.Option(help="MedVLSM's annotation files, for its prompts and split.")
    ] = None,
    attributes: Annotated[
        Literal["correct", "medvlsm"], typer.Option(help="Rule for the words size, place and count.")
    ] = CORRECT,
    audit: Annotated[bool, typer.Option("--audit", help="Tell the leaks between the splits.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write a sheet of pictures, outlines and prompts.")
    ] = False,
    export: Annotated[
        Literal["medvlsm"] | None, typer.Option(help="Also write annotations in MedVLSM's format.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 on any warning.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="For the split, and for drawing phantoms.")] = SEED,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: one a core).", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Turn raw data into a data set to train on: OUT/NAME with images, masks, prompts and splits."""
    from vlsmctl.datasets.jobs import named_jobs, recognised_jobs
    from vlsmctl.datasets.kinds import OWN
    from vlsmctl.datasets.listings import empty_share
    from vlsmctl.datasets.pooling import POOLS

    if empty is not None:
        empty_share(empty)
    if class_word is not None and not class_word.strip():
        raise UsageError("--class: expected a word for what the masks show, found nothing")
    meanings = _labels(labels or [])
    listing: dict[str, Any] = {"labels": meanings, "axis": axis, "empty": empty, "protocol": protocol}
    later = _Later(audit, preview, export is not None)
    document: dict[str, Any] = {}
    if names:
        jobs = named_jobs(
            names, raw, out_folder,
            rename=name, class_word=class_word, download=download, accepted=accept_terms, plan=plan,
        )  # fmt: skip
    else:
        recognised, jobs, offers = recognised_jobs(
            raw, out_folder, rename=name, class_word=class_word, plan=plan
        )
        document = _recognised_document(recognised, offers)
        if not jobs and not plan:
            raise UsageError("\n".join(recognised_lines(document)), hint=_next_step(document))
    shown = _Shown(as_json, document, plan)
    given = (raw, meanings, axis, empty)
    reading = download or any(one is not None for one in given)
    wanted = {"class": class_word, "seed": seed, "attributes": attributes}
    if later.preview or later.export:  # an audit tells of another protocol without making it
        wanted["protocol"] = protocol
        reading = reading or annotations is not None
    if jobs and all(job.kind in POOLS for job in jobs) and (class_word or meanings or axis or empty):
        raise UsageError(
            "a pooled set takes its members as they are: --class, --labels, --axis and --empty are theirs"
        )

    def done(job: Job) -> dict[str, Any]:
        published = _annotations(job.kind, annotations, protocol, out_folder, accept_terms, plan)
        if plan:
            return _planned(job, out_folder, annotations=published, **listing)
        made: dict[str, Any] = {"name": job.target}
        if reading or not later.anything or _is_to_be_made(out_folder / job.target, wanted):
            word = class_word if names or job.kind == OWN else None  # said of one's own data alone
            made = _prepared(
                job, out_folder, workers,
                annotations=published, seed=seed, class_word=word, attributes=attributes, **listing,
            )  # fmt: skip
        return made | _acted(job, out_folder, published if protocol != DEFAULT else None, later)

    failed = _each(jobs, done, shown)
    missed = document.get("troubles") or any(one.get("left_out") for one in shown.documents)
    amiss = missed and not plan
    if failed or amiss or (strict and any(_warned(one) for one in shown.documents)):
        raise typer.Exit(SOME_FAILED)


def _is_to_be_made(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a set is not prepared yet, or was prepared with something else than is wanted now."""
    from vlsmctl.datasets.manifest import read_manifest

    if not (folder / INFO).is_file():
        return True
    info = read_manifest(folder).info
    usual = {"class": None, "seed": SEED, "attributes": CORRECT, "protocol": DEFAULT}
    return any(value != usual[key] and value != info.get(key) for key, value in wanted.items())


@dataclass(frozen=True)
class _Later:
    """What is done with a prepared set."""

    audit: bool
    preview: bool
    export: bool

    @property
    def anything(self) -> bool:
        return self.audit or self.preview or self.export


class _Shown:
    """What the user sees: for people each set as it ends, else one document at the end."""

    def __init__(self, as_json: bool, recognised: dict[str, Any], plan: bool) -> None:
        self.as_json = as_json
        self.recognised = recognised
        self.documents: list[dict[str, Any]] = []
        if not as_json:
            self._print(recognised_lines(recognised, planned=plan))

    def add(self, document: dict[str, Any]) -> None:
        self.documents.append(document)
        if not self.as_json:
            self._print(set_lines(document))

    def end(self) -> None:
        if self.as_json:
            typer.echo(json.dumps({**self.recognised, "datasets": self.documents}, indent=1))

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            out().print(line, markup=False)


def _each(jobs: list[Job], done: Callable[[Job], dict[str, Any]], shown: _Shown) -> bool:
    """Does all jobs; whether one failed, which does not cost the others."""
    failed: list[VlsmctlError] = []
    for job in jobs:
        try:
            shown.add(done(job))
        except VlsmctlError as error:
            if len(jobs) == 1:
                raise
            failed.append(error)
            console(always=True).print(f"{job.target}: {error}", markup=False)
    shown.end()
    if failed and not shown.documents:
        raise typer.Exit(failed[0].exit_code)
    return bool(failed)


def _labels(given: list[str]) -> dict[int, str] | None:
    """["1=left ventricle,2=myocardium"] -> {1: "left ventricle", 2: "myocardium"}."""
    meanings: dict[int, str] = {}
    for text in (part for each in given for part in re.split(r",(?=\s*\d+\s*=)", each)):
        value, separator, meaning = text.partition("=")
        meaning = meaning.strip().strip("\"'").strip()
        if not (separator and value.strip().isdecimal() and meaning):
            raise UsageError(
                f"--labels '{text}': expected NUMBER=NAME", hint='--labels 1="left ventricle",2=myocardium'
            )
        if not int(value) or int(value) in meanings:
            why = "0 is the background" if not int(value) else "it has a name already"
            raise UsageError(f"--labels '{text}': {why}")
        meanings[int(value)] = meaning
    return meanings or None


def _annotations(
    kind: str, given: Path | None, protocol: str, out_folder: Path, accepted: bool, plan: bool
) -> Path | None:
    """MedVLSM's files: the user's, or, where its protocol asks for them, downloaded."""
    from vlsmctl.datasets.obtaining import RAW, downloaded_annotations
    from vlsmctl.datasets.pooling import POOLS

    if kind in POOLS and (given is not None or protocol != DEFAULT):
        raise UsageError(
            f"--protocol and --annotations are for single data sets; {kind} pools what its members are",
            hint=f"prepare the members with them, then: vlsmctl prepare {kind}",
        )
    if given is not None or protocol == DEFAULT:
        return given
    folder = out_folder / RAW / "medvlsm"
    return downloaded_annotations(kind, folder, accepted=accepted, plan=plan)


def _planned(job: Job, out_folder: Path, **listing: Any) -> dict[str, Any]:
    from vlsmctl.datasets.build import plan

    found = plan(job.kind, job.raw, out_folder, rename=job.target, **listing)
    return {
        "name": found.name,
        "kind": found.kind,
        "raw": found.raw,
        "folder": str(found.folder),
        "exists": found.folder.exists(),
        "records": found.records,
        "expected": found.expected,
        **_told(found),
    }


def _prepared(job: Job, out_folder: Path, workers: int | None, **choices: Any) -> dict[str, Any]:
    from vlsmctl.datasets.build import prepare

    made = prepare(
        job.kind, job.raw, out_folder, rename=job.target, workers=workers, progress=track, **choices
    )
    return {
        "name": made.name,
        "folder": str(made.folder),
        "counts": made.counts,
        "empty_masks": made.empty,
        "images": made.images,
        "unchanged": made.reused,
        **_told(made),
    }


def _told(found: Plan | Outcome) -> dict[str, Any]:
    return {
        "notes": list(found.notes),
        "warnings": list(found.warnings),
        "left_out": [asdict(one) for one in found.left_out],
    }


def _acted(job: Job, out_folder: Path, published: Path | None, later: _Later) -> dict[str, Any]:
    """Audit, preview and export of a prepared set."""
    if not later.anything:
        return {}
    from vlsmctl.datasets import annotations
    from vlsmctl.datasets.audit import audit_lines, leak_lines
    from vlsmctl.datasets.kinds import DATASETS
    from vlsmctl.datasets.manifest import read_manifest
    from vlsmctl.datasets.prepared import audit_prepared
    from vlsmctl.datasets.staging import EXPORT

    manifest = read_manifest(out_folder / job.target)
    document: dict[str, Any] = {"folder": str(manifest.folder)}
    if later.audit:
        found = None
        if published is not None:
            name = DATASETS[job.kind].annotations or job.kind
            found = annotations.read_annotations(annotations.find_annotations(published, name))
        leaks, unknown = audit_prepared(manifest, found)
        told = [*audit_lines(leaks), *filter(None, [unknown])]
        document |= {"audit": leaks.as_dict(), "told": told, "leaks": leak_lines(leaks)}
    if later.preview:
        from vlsmctl.preview import write_data_sheet

        document["preview"] = str(write_data_sheet(manifest))
    if later.export:
        target = manifest.folder / EXPORT
        annotations.export_medvlsm(manifest.records, manifest.folder, target)
        document["export"] = str(target)
    return document


def _recognised_document(recognised: Recognised, offers: list[Offer]) -> dict[str, Any]:
    return {
        "recognised": [_root(root) for root in recognised.roots],
        "not_used": [_root(root) for root in recognised.others],
        "archives": [{"name": one.name, "path": str(one.path)} for one in recognised.archives],
        "troubles": [{"path": str(one.path), "reason": one.reason} for one in recognised.troubles],
        "own": [{**asdict(offer), "path": str(offer.path)} for offer in offers],
    }


def _root(root: Root) -> dict[str, Any]:
    return {**asdict(root), "path": str(root.path)}


def _next_step(document: dict[str, Any]) -> str:
    if document["own"]:
        return str(document["own"][0]["command"])
    if document["archives"]:
        return f'vlsmctl prepare --raw "{document["archives"][0]["path"]}"'
    return "mend what is named here, then the same again"


def _warned(document: dict[str, Any]) -> bool:
    return bool(document.get("warnings") or document.get("leaks"))
