"""`vlsmctl prepare`: raw public data in, `data/NAME/` out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.console import console, out, track
from vlsmctl.errors import SOME_FAILED, UsageError, VlsmctlError

if TYPE_CHECKING:
    from vlsmctl.datasets.build import Outcome, Plan
    from vlsmctl.datasets.records import LeftOut

DEFAULT_RAW = Path("data/raw")
_SHOWN = 50


def prepare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="fuseg, phantom, generic; without it, what lies under --raw."),
    ] = None,
    raw: Annotated[
        Path | None,
        typer.Option(help="The raw data (default: data/raw). phantom needs none.", show_default=False),
    ] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Where prepared data sets go.")] = Path("data"),
    seed: Annotated[int, typer.Option(min=0, help="For the split, and for drawing phantoms.")] = 42,
    class_word: Annotated[
        str | None, typer.Option("--class", help='What the masks show, for the prompts: "polyp".')
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set (one at a time).")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Turn raw data into a data set to train on: OUT/NAME with images, masks, prompts and splits."""
    from vlsmctl.datasets import build

    wanted = _wanted(names or [], raw)
    if name is not None and len(wanted) > 1:
        found = ", ".join(kind for kind, _ in wanted)
        raise UsageError(f"--name names one data set, but there are {len(wanted)}: {found}")
    _check_distinct(wanted)
    documents: list[dict[str, Any]] = []
    failed: list[VlsmctlError] = []
    for kind, root in wanted:
        try:
            if plan:
                documents.append(_plan_document(build.plan(kind, root, out_folder, rename=name)))
            else:
                outcome = build.prepare(
                    kind, root, out_folder, seed=seed, class_word=class_word, rename=name, progress=track
                )
                documents.append(_outcome_document(outcome))
        except VlsmctlError as error:
            if len(wanted) == 1:
                raise
            failed.append(error)
            console().print(f"{kind}: {error}", markup=False)
    if failed and not documents:
        raise failed[0]
    _show(documents, as_json)
    if not plan and (failed or any(document["left_out"] for document in documents)):
        raise typer.Exit(SOME_FAILED)


def _wanted(names: list[str], raw: Path | None) -> list[tuple[str, Path | None]]:
    from vlsmctl.datasets import build

    if not names:
        return list(build.recognise(raw or DEFAULT_RAW))
    default = raw or (DEFAULT_RAW if DEFAULT_RAW.is_dir() else None)
    return [(name, default) for name in dict.fromkeys(names)]


def _check_distinct(wanted: list[tuple[str, Path | None]]) -> None:
    from vlsmctl.datasets.build import slug

    seen: dict[str, Path | None] = {}
    for kind, root in wanted:
        target = slug(root.resolve().name) if kind == "generic" and root is not None else kind
        if target in seen:
            raise UsageError(
                f"'{seen[target]}' and '{root}' would both become the data set '{target}'",
                hint="prepare them one at a time, with --raw PATH --name NAME",
            )
        seen[target] = root


def _plan_document(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "kind": plan.kind,
        "raw": plan.raw,
        "folder": str(plan.folder),
        "exists": plan.folder.exists(),
        "pairs": plan.pairs,
        "notes": list(plan.notes),
        "left_out": _left_out(plan.left_out),
    }


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "folder": str(outcome.folder),
        "counts": outcome.counts,
        "empty_masks": outcome.empty,
        "notes": list(outcome.notes),
        "left_out": _left_out(outcome.left_out),
    }


def _left_out(left_out: tuple[LeftOut, ...]) -> list[dict[str, str]]:
    return [{"file": one.file, "expected": one.expected, "found": one.found} for one in left_out]


def _show(documents: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"datasets": documents}, indent=1))
        return
    screen = out()
    for document in documents:
        for line in _lines(document):
            screen.print(line, markup=False)


def _lines(document: dict[str, Any]) -> list[str]:
    """A document as lines for people."""
    if "pairs" in document:
        head = f"{document['name']}: {document['pairs']} images with masks in {document['raw']}"
        verb = "would be made again" if document["exists"] else "would be made"
        lines = [head, f"  {document['folder']} {verb}; nothing was written"]
    else:
        counts = ", ".join(f"{count} {split}" for split, count in document["counts"].items())
        lines = [f"{document['folder']}: {counts}; {document['empty_masks']} with an empty mask"]
    lines += [f"  note: {note}" for note in document["notes"]]
    left_out = document["left_out"]
    if left_out:
        lines.append(f"  left out: {len(left_out)}")
    lines += [
        f"    {one['file']}: expected {one['expected']}, found {one['found']}" for one in left_out[:_SHOWN]
    ]
    if len(left_out) > _SHOWN:
        more = "--json lists them all" if "pairs" in document else "dataset.json lists them all"
        lines.append(f"    and {len(left_out) - _SHOWN} more; {more}")
    return lines
