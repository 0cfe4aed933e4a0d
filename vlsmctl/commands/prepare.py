"""`vlsmctl prepare`: raw public data in, `data/NAME/` out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vlsmctl.commands.prepare_lines import recognised_lines, set_lines
from vlsmctl.console import console, out, track
from vlsmctl.errors import SOME_FAILED, UsageError, VlsmctlError

if TYPE_CHECKING:
    from vlsmctl.datasets.build import Outcome, Plan
    from vlsmctl.datasets.jobs import Job, Offer
    from vlsmctl.datasets.recognition import Recognised, Root

DEFAULT_OUT = Path("data")
INFO = "dataset.json"


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
    ] = "default",
    annotations: Annotated[
        Path | None, typer.Option(help="MedVLSM's annotation files, for its prompts and split.")
    ] = None,
    attributes: Annotated[
        Literal["correct", "medvlsm"], typer.Option(help="Rule for the words size, place and count.")
    ] = "correct",
    audit: Annotated[bool, typer.Option("--audit", help="Tell the leaks between the splits.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write a sheet of pictures, outlines and prompts.")
    ] = False,
    export: Annotated[
        Literal["medvlsm"] | None, typer.Option(help="Also write annotations in MedVLSM's format.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 on any warning.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="For the split, and for drawing phantoms.")] = 42,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: one a core).", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Turn raw data into a data set to train on: OUT/NAME with images, masks, prompts and splits."""
    from vlsmctl.datasets.jobs import named_jobs, recognised_jobs
    from vlsmctl.datasets.listings import empty_share

    if empty is not None:
        empty_share(empty)
    listing: dict[str, Any] = {
        "labels": _labels(labels or []), "axis": axis, "empty": empty, "protocol": protocol,
    }  # fmt: skip
    making = {"seed": seed, "class_word": class_word, "attributes": attributes}
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
    again = raw is None and not download and later.anything

    def done(job: Job) -> dict[str, Any]:
        notes = _annotations(job.kind, annotations, protocol, out_folder, accept_terms)
        made: dict[str, Any] = {"name": job.target}
        if plan:
            return _planned(job, out_folder, annotations=notes, **listing)
        if not (again and (out_folder / job.target / INFO).is_file()):
            made = _prepared(job, out_folder, workers, annotations=notes, **listing, **making)
        return made | _acted(job, out_folder, notes if protocol == "medvlsm" else None, later)

    document["datasets"], failed = _each(jobs, done)
    _show(document, as_json)
    amiss = any(one.get("left_out") or (strict and _warned(one)) for one in document["datasets"])
    if not plan and (failed or amiss):
        raise typer.Exit(SOME_FAILED)


@dataclass(frozen=True)
class _Later:
    """What is done with a prepared set."""

    audit: bool
    preview: bool
    export: bool

    @property
    def anything(self) -> bool:
        return self.audit or self.preview or self.export


def _each(jobs: list[Job], done: Callable[[Job], dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """The documents of all jobs, and whether one failed, which does not cost the others."""
    documents: list[dict[str, Any]] = []
    failed: list[VlsmctlError] = []
    for job in jobs:
        try:
            documents.append(done(job))
        except VlsmctlError as error:
            failed.append(error)
            if len(jobs) > 1:
                console(always=True).print(f"{job.target}: {error}", markup=False)
    if failed and not documents:
        raise failed[0]
    return documents, bool(failed)


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
        meanings[int(value)] = meaning
    return meanings or None


def _annotations(
    kind: str, given: Path | None, protocol: str, out_folder: Path, accepted: bool
) -> Path | None:
    """MedVLSM's files: the user's, or, where its protocol asks for them, downloaded."""
    from vlsmctl.datasets.obtaining import RAW, downloaded_annotations
    from vlsmctl.datasets.pooling import POOLS

    if given is not None or protocol == "default" or kind in POOLS:
        return given
    return downloaded_annotations(kind, out_folder / RAW / "medvlsm", accepted=accepted)


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
        leaks = audit_prepared(manifest, found)
        document |= {"audit": leaks.as_dict(), "told": audit_lines(leaks), "leaks": leak_lines(leaks)}
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
        "own": [{**asdict(offer), "path": str(offer.path)} for offer in offers],
    }


def _root(root: Root) -> dict[str, Any]:
    return {**asdict(root), "path": str(root.path)}


def _next_step(document: dict[str, Any]) -> str:
    if document["own"]:
        return str(document["own"][0]["command"])
    archive = document["archives"][0]
    return f'vlsmctl prepare {archive["name"]} --raw "{archive["path"]}"'


def _show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    lines = recognised_lines(document)
    for one in document["datasets"]:
        lines += set_lines(one)
    for line in lines:
        out().print(line, markup=False)


def _warned(document: dict[str, Any]) -> bool:
    return bool(document.get("warnings") or document.get("leaks"))
