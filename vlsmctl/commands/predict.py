"""`vlsmctl predict`: scans in, masks out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.commands.model_choice import (
    RUNNING,
    BatchSize,
    Device,
    Workers,
    check_choice,
    chosen_predictor,
    usual_batch,
    usual_readers,
)
from vlsmctl.commands.predict_inputs import (
    asked_for,
    find,
    note_former,
    note_idle_options,
    quoted,
    refuse_nothing,
    refuse_to_overwrite,
    refuse_to_replace,
    say_problems,
)
from vlsmctl.commands.predict_list import list_scans
from vlsmctl.console import console, counted, live_count, out
from vlsmctl.errors import INTERRUPTED, SOME_FAILED, NoReadableInput, UsageError

if TYPE_CHECKING:
    from vlsmctl.cases import Case, Options
    from vlsmctl.console import Tick
    from vlsmctl.formats.records import Problem, Reading
    from vlsmctl.ledger import Entry, Known
    from vlsmctl.prediction import Watch
    from vlsmctl.predictor import Predictor


INPUTS, MODEL, READING, WRITING = "Prompts", "Model", "Reading", "Writing"


def predict(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files and folders of scans.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="What to segment; repeat for several. Default: the class the adapter learned.",
            rich_help_panel=INPUTS,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompts for each input: CSV with columns input,prompt, or JSON lines. Inputs that it "
            "does not name get --prompt.",
            show_default=False,
            rich_help_panel=INPUTS,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A run folder (default: the latest run).", show_default=False, rich_help_panel=MODEL
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="An adapter file.", show_default=False, rich_help_panel=MODEL)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A base model alone, zero-shot: clipseg or tiny.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the base model's weights.", show_default=False, rich_help_panel=MODEL
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Use the adapter on another base model.", rich_help_panel=MODEL),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Of a pixel's probability. Default: the adapter's, or 0.5.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    presence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Frames whose probability of showing the target at all is below it stay empty; 0: never. "
            "Default: the adapter's, where its validation set had pictures without a target.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    resize: Annotated[
        str,
        typer.Option(
            help="How probabilities come back to native size: smooth, or nearest (as published).",
            rich_help_panel=MODEL,
        ),
    ] = "smooth",
    axis: Annotated[
        str,
        typer.Option(
            help="What slices of a NIfTI volume follow: auto (the largest spacing), a voxel axis 0, 1, 2, "
            "or axial, coronal, sagittal.",
            rich_help_panel=READING,
        ),
    ] = "auto",
    window: Annotated[
        str,
        typer.Option(
            help="Values shown as black and white: auto, CENTER,WIDTH, or a CT window such as lung, brain.",
            rich_help_panel=READING,
        ),
    ] = "auto",
    listing: Annotated[
        bool,
        typer.Option(
            "--list",
            help="Only show what would be predicted, and what is skipped and why; loads no model.",
            rich_help_panel=READING,
        ),
    ] = False,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Where masks go.", rich_help_panel=WRITING)
    ] = Path("predictions"),
    mask_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto: PNG for pictures, NIfTI for NIfTI, DICOM SEG for DICOM. Or nifti, png, dicom-seg, "
            "for those scans that can have it.",
            rich_help_panel=WRITING,
        ),
    ] = "auto",
    allow_uneven: Annotated[
        bool,
        typer.Option(
            "--allow-uneven",
            help="With --format nifti: a file a slice for series that make no even volume.",
            rich_help_panel=WRITING,
        ),
    ] = False,
    combine: Annotated[
        bool,
        typer.Option(
            "--combine",
            help="One label map (1, 2, ...: the prompts in order) instead of a mask a prompt.",
            rich_help_panel=WRITING,
        ),
    ] = False,
    probabilities: Annotated[
        str | None,
        typer.Option(
            help="Write probabilities, too: float or 8bit.", show_default=False, rich_help_panel=WRITING
        ),
    ] = None,
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Write a picture with the outlines to look at, too.", rich_help_panel=WRITING
        ),
    ] = False,
    segment_code: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PROMPT=][CATEGORY/]TYPE",
            help="Codes of DICOM SEG segments, each SCHEME:VALUE:MEANING; repeat for several prompts.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Do again what is done already.", rich_help_panel=WRITING),
    ] = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=RUNNING)
    ] = False,
) -> None:
    """Segment what a prompt names in pictures, NIfTI volumes and DICOM files or series."""
    check_choice(run, adapter, model)
    from vlsmctl.formats.naming import FORMATS

    _one_of("--format", mask_format, FORMATS)
    _one_of("--resize", resize, ("smooth", "nearest"))
    _one_of("--probabilities", probabilities, (None, "float", "8bit"))
    reading = _reading(axis, window)
    if listing:
        found, problems = find(inputs, out_folder)
        list_scans(found, problems, reading, as_json=as_json)
        return
    from vlsmctl.runtime import decided_by_main, share_work

    rank, ranks = share_work()
    found, problems = decided_by_main(lambda: find(inputs, out_folder))
    if rank == 0:
        say_problems(problems)
    refuse_nothing(found, problems, inputs)
    predictor = chosen_predictor(run, adapter, model, device=device, weights=weights, force=force)
    found, asked, without = asked_for(found, prompt, prompts, predictor, quiet=rank > 0)
    problems = [*problems, *without]

    from vlsmctl.cases import Options, plan_cases
    from vlsmctl.formats.segment_codes import parse_segment_codes
    from vlsmctl.predictor import Cut, usual_cut

    usual = usual_cut(predictor)
    codes = parse_segment_codes(segment_code or [])
    unused = codes.unused([text for own in asked for text in own])
    if unused:
        words = dict.fromkeys(text for own in asked for text in own)
        raise UsageError(f"--segment-code for {quoted(unused)}, but the prompts are {quoted([*words])}")
    options = Options(
        cut=Cut(
            threshold=threshold or usual.threshold,
            presence=usual.presence if presence is None else presence,
            smooth=resize == "smooth",
        ),
        batch_size=batch_size or usual_batch(predictor.device),
        workers=usual_readers() if workers is None else workers,
        overwrite=overwrite,
        format=mask_format,
        reading=reading,
        allow_uneven=allow_uneven,
        combine=combine,
        probabilities=probabilities,
        overlay=overlay,
        codes=codes,
    )  # fmt: skip
    if rank == 0:
        given = {
            "--axis": axis != "auto", "--window": window != "auto", "--format": mask_format != "auto",
            "--format nifti": mask_format == "nifti", "--allow-uneven": allow_uneven,
            "--presence": presence is not None, "--segment-code": bool(segment_code),
        }  # fmt: skip
        note_idle_options(found, predictor, given)
    cases = plan_cases(found, asked, predictor, options)
    refuse_to_overwrite(cases, options, out_folder)
    document = _run(predictor, cases, problems, out_folder, options, rank, ranks)
    if rank == 0:
        _end(document, as_json=as_json)
    elif document["interrupted"]:  # else the others have done their part: one process says how it went
        raise typer.Exit(INTERRUPTED)


def _one_of(option: str, value: str | None, known: Sequence[str | None]) -> None:
    if value not in known:
        names = ", ".join(name for name in known if name)
        raise UsageError(f"{option} {value!r}: expected one of {names}")


def _reading(axis: str, window: str) -> Reading:
    from vlsmctl.formats.nifti import parse_axis
    from vlsmctl.formats.records import Reading
    from vlsmctl.formats.windows import parse_window

    return Reading(parse_axis(axis), parse_window(window))


def _run(
    predictor: Predictor, cases: list[Case], problems: list[Problem], out_folder: Path, options: Options,
    rank: int, ranks: int,
) -> dict[str, Any]:  # fmt: skip
    """Does the work, shares it out when there are several processes; what came of all of it."""
    from vlsmctl.cases import all_prompts
    from vlsmctl.claims import claimed
    from vlsmctl.ledger import merge_parts
    from vlsmctl.prediction import predict as run_prediction
    from vlsmctl.runtime import decided_by_main, from_all, polite_stop

    known = decided_by_main(lambda: _checked_ledger(cases, out_folder, options))
    if rank == 0:
        words, where = all_prompts(cases), f" ({predictor.adapter})" if predictor.adapter else ""
        share = f", shared by {ranks} processes" if ranks > 1 else ""
        what = f"{counted(len(cases), 'scan')}{share}; asking for: {quoted(words)}"
        console().print(f"{predictor.name}{where}; {what}", markup=False)
        note_former(cases, options, known, out_folder)
    mine = (len(cases) - rank + ranks - 1) // ranks
    claim = claimed(out_folder, "predict") if rank == 0 else nullcontext()
    with claim, polite_stop() as stop, live_count("predicting", mine) as tick:
        decided_by_main(lambda: merge_parts(out_folder))
        outcome = run_prediction(
            predictor, cases, out_folder, options, stop=stop, problems=problems, watch=_watch(tick),
            known=known, rank=rank, ranks=ranks,
        )  # fmt: skip
        entries, before = from_all(outcome.entries), from_all(outcome.before)
        stopped = any(from_all([stop.asked]))
        decided_by_main(lambda: merge_parts(out_folder))
    tally = Counter(entry.status for entry in entries)
    counts = {name: tally[name] for name in ("done", "empty", "failed")} | {"before": len(before)}
    skipped = [problem for problem in problems if not problem.harmless]
    return {
        "out": str(out_folder),
        "counts": counts | {"skipped": len(skipped)},
        "entries": [asdict(entry) for entry in entries],
        "before": [asdict(entry) for entry in before],
        "skipped": [{"input": str(problem.path), "reason": problem.reason} for problem in skipped],
        "interrupted": stopped,
    }


def _checked_ledger(cases: list[Case], out_folder: Path, options: Options) -> Known:
    """What earlier runs did; raises UsageError where this one would replace what it should not."""
    from vlsmctl.ledger import ledger_path, open_ledger, read_ledger

    known = read_ledger(out_folder)
    if not options.overwrite:
        refuse_to_replace(cases, options, known, out_folder)
    out_folder.mkdir(parents=True, exist_ok=True)
    open_ledger(ledger_path(out_folder)).close()  # the folder is known for ours from now on
    return known


def _watch(tick: Tick) -> Watch:
    from vlsmctl.prediction import Watch

    def told(entry: Entry) -> None:
        if entry.status == "failed":
            console(always=True).print(f"failed {entry.input}: {entry.reason}", markup=False)
        elif entry.note is not None:
            console(always=True).print(f"note: {entry.input} {entry.note}", markup=False)

    def say(text: str) -> None:
        console(always=True).print(text, markup=False)

    return Watch(told, tick, say)


def _end(document: dict[str, Any], *, as_json: bool) -> None:
    """Prints what came of it; exits with the code that says so."""
    counts = document["counts"]
    if as_json:
        out().print(json.dumps(document), markup=False)
    else:
        _show(document, counts)
    if document["interrupted"]:
        raise typer.Exit(INTERRUPTED)
    if not counts["done"] + counts["empty"] + counts["before"]:
        raise NoReadableInput("none of the scans could be segmented")
    if counts["failed"] or counts["skipped"]:
        raise typer.Exit(SOME_FAILED)


def _show(document: dict[str, Any], counts: dict[str, int]) -> None:
    words = {
        "done": "masks written", "empty": "with nothing found", "failed": "failed",
        "skipped": "skipped", "before": "there already",
    }  # fmt: skip
    said = ", ".join(f"{counts[name]} {text}" for name, text in words.items() if counts[name])
    out().print(f"{said}; {Path(document['out']) / 'predictions.jsonl'}", markup=False)
    if document["interrupted"]:
        console().print("stopped; the same command goes on where it was", markup=False)
    out().print(document["out"], markup=False)
