"""`vlsmctl eval`: score a run on a split, or one folder of masks against another; compare runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.commands.eval_options import Masks, Running, check, refuse_others, tolerance_of
from vlsmctl.commands.given import command_line, given_options
from vlsmctl.commands.model_choice import Device
from vlsmctl.console import console, out, track
from vlsmctl.errors import SOME_FAILED, NoReadableInput, UsageError

if TYPE_CHECKING:
    from vlsmctl.scoring import Asked, Scored

_SHOWN = 20  # failed cases named on the terminal; summary.json has them all
_CAUTIONS = 5
MASKS, COMPARING, OUTPUT, RUNNING = "Masks of any tool", "Comparing", "Output", "Running"


def evaluate(
    context: typer.Context,
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A run folder (default: the latest run); with --compare several, or folders of scores.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, test, or all of them. Default: test; all with --gt.", show_default=False
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="random, p0..pN, or all: each in turn, and how much the model reads them. "
            "Default: as in the run.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared data set other than the run's own.", show_default=False)
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="default, or paper: masks and means as VLSM-Adapter published them.")
    ] = "default",
    presence: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Nothing is marked below this presence score; 0: never suppressed. "
            "Default: as the adapter learned.", show_default=False,
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Tell results apart by this column of the manifest or of --cases; repeat.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the normalised surface Dice, such as 2px or 1.5mm; repeat. Default: 2px, 2mm.",
            show_default=False,
        ),
    ] = None,
    pred: Annotated[
        Path | None,
        typer.Option(
            help="A folder (or file) of predicted masks ...", show_default=False, rich_help_panel=MASKS
        ),
    ] = None,
    gt: Annotated[
        Path | None,
        typer.Option(
            help="... and one of true masks: PNG, NIfTI or DICOM SEG, or a prepared data set.",
            show_default=False, rich_help_panel=MASKS,
        ),
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(
            min=1, help="Score this value of label maps (segment of a SEG) alone.", show_default=False,
            rich_help_panel=MASKS,
        ),
    ] = None,
    pred_label: Annotated[
        int | None,
        typer.Option(
            min=1, help="The same where the predictions have another number for it.", show_default=False,
            rich_help_panel=MASKS,
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            help="A CSV or JSON lines file with id, group (patient) and any columns for --by.",
            show_default=False, rich_help_panel=MASKS,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="The pictures or scans, for the report.", show_default=False, rich_help_panel=MASKS
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Paired differences of runs on the same cases.", rich_help_panel=COMPARING
        ),
    ] = False,
    result_folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where scores go. Default: in the run, else eval (of --compare: comparison).",
            show_default=False, rich_help_panel=OUTPUT,
        ),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write report.html.", rich_help_panel=OUTPUT)] = True,
    pictures: Annotated[
        int, typer.Option(min=0, help="Of the worst, median and best cases each, in the report.",
                          rich_help_panel=OUTPUT)
    ] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=OUTPUT)
    ] = False,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, rich_help_panel=RUNNING)] = 16,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many score at once. Default: as many as there are processors.",
            show_default=False, rich_help_panel=RUNNING,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the base model's weights.", show_default=False, rich_help_panel=RUNNING
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Use the adapter on another base model.", rich_help_panel=RUNNING)
    ] = False,
) -> None:  # fmt: skip
    """Score masks: Dice, IoU, HD95, surface Dice and more for each case, and means with 95 % intervals."""
    from vlsmctl.datasets.manifest import ALL
    from vlsmctl.scoring import Asked

    named, typed = list(run or []), command_line(context)
    check(named, given_options(context))
    asked = Asked(
        split or ("test" if gt is None else ALL), prompts, data, protocol, presence,
        tuple(column.strip() for text in by or () for column in text.split(",")),
        tolerance_of(tolerance or []),
    )  # fmt: skip
    running = Running(device, batch_size, workers, weights, force)
    if compare:
        _compare(named, asked, running, result_folder or Path("comparison"), as_json=as_json)
        return
    if pred is not None and gt is not None:
        masks = Masks(pred, gt, label, pred_label, cases, images)
        scored = _of_masks(masks, asked, running, result_folder or Path("eval"), typed)
        home, title = scored.folder, f"{pred} against {gt}"
    else:
        from vlsmctl import runs

        found = runs.find_run(named[0] if named else None)
        scored = _of_run(found, asked, running, result_folder, typed)
        home = found if result_folder is None else scored.folder
        about = scored.summary["about"]
        title = f"{found}: {about['data']} {about['split']}, prompts {about['prompts']}"
    page = _report(home, pictures) if report else None
    if as_json:
        document = {"folder": str(scored.folder), "report": str(page) if page else None, **scored.summary}
        out().print(json.dumps(document), markup=False)
    else:
        _show(scored, title, page)
    for note in notes(scored):
        console().print(f"note: {note}", markup=False)
    _end(scored)


def _of_run(
    run: Path, asked: Asked, running: Running, folder: Path | None, command: Sequence[str] = ()
) -> Scored:
    from vlsmctl.runtime import pick_device
    from vlsmctl.scoring import score_run

    if folder is not None:
        _refuse_other_scores(folder, {"run": run.resolve().name})
    return score_run(
        run,
        asked,
        device=pick_device(running.device),
        out=folder,
        batch_size=running.batch_size,
        weights=running.weights,
        force=running.force,
        workers=running.workers,
        command=command,
        tick=track,
        progress=lambda rows: track(rows, "scoring"),
    )


def _of_masks(masks: Masks, asked: Asked, running: Running, folder: Path, command: Sequence[str]) -> Scored:
    from importlib.metadata import version

    from vlsmctl.evaluation import score_cases
    from vlsmctl.pairing import match
    from vlsmctl.score_files import write_scores
    from vlsmctl.scoring import Scored
    from vlsmctl.summary import summarise

    inputs = {
        "predictions": str(masks.pred), "targets": str(masks.gt), "split": asked.split,
        "label": masks.label, "pred_label": masks.pred_label,
    }  # fmt: skip
    _refuse_other_scores(folder, inputs)
    matched = match(
        masks.pred, masks.gt, split=asked.split, cases=masks.cases, images=masks.images,
        target_label=masks.label, prediction_label=masks.pred_label or masks.label,
    )  # fmt: skip
    scores = score_cases(
        matched.pairs,
        workers=running.workers,
        progress=lambda rows: track(rows, "scoring", len(matched.pairs)),
        extra=matched.extra,
        tolerance=asked.tolerance,
    )
    about = {
        **inputs, "cases": str(masks.cases) if masks.cases else None, "notes": list(matched.notes),
        "vlsmctl": version("vlsmctl"), "command": list(command),
    }  # fmt: skip
    summary = summarise(scores, by=asked.by, about=about)
    write_scores(folder, scores, summary)
    return Scored(folder, scores, summary)


def _refuse_other_scores(folder: Path, inputs: dict[str, Any]) -> None:
    """Raises UsageError where a folder holds scores of other inputs, or a summary that is not ours."""
    from vlsmctl.score_files import SCORES, SUMMARY, about_of, read_summary

    if not (folder / SUMMARY).is_file():
        return
    try:
        about = about_of(read_summary(folder))
    except UsageError:
        if (folder / SCORES).is_file():
            return  # ours, and damaged: scored again, it is whole
        about = {}
    refuse_others(folder, SUMMARY, {name: about.get(name) for name in inputs}, inputs)


def _compare(named: Sequence[Path], asked: Asked, running: Running, folder: Path, *, as_json: bool) -> None:
    from vlsmctl.commands.comparison_tables import comparison_notes, comparison_tables
    from vlsmctl.comparison import compare_scores, compared_before, short_names, write_comparison
    from vlsmctl.score_files import about_of

    scored = [_scored_once(path, asked, running) for path in named]
    abouts = [about_of(one.summary) for one in scored]
    methods = [about.get("method") for about in abouts]
    names = [
        name if method is None else f"{method} {name}"
        for name, method in zip(short_names(named), methods, strict=True)
    ]
    refuse_others(folder, "comparison.json", compared_before(folder), names)
    compared = compare_scores(
        [(name, one.scores) for name, one in zip(names, scored, strict=True)],
        abouts,
    )
    write_comparison(folder, compared)
    if as_json:
        out().print(json.dumps({"folder": str(folder), **compared.document}), markup=False)
        return
    about = abouts[0]
    if {"data", "split", "prompts", "protocol"} <= about.keys():
        told = f"{about['data']} {about['split']}, prompts {about['prompts']}, protocol {about['protocol']}"
        out().print(f"compared on {told}", markup=False)
    for table in comparison_tables(compared.document):
        out().print(table)
    for note in comparison_notes(compared.document):
        out().print(note, markup=False)
    out().print(f"comparison: {folder / 'comparison.csv'}", markup=False)


def _scored_once(path: Path, asked: Asked, running: Running) -> Scored:
    """Of a folder with scores, or of a run: those that it has for just this, else made now."""
    from vlsmctl import runs
    from vlsmctl.score_files import SCORES, read_scores, read_summary
    from vlsmctl.scoring import Scored, scored_before

    if (path / SCORES).is_file():
        return Scored(path, read_scores(path), read_summary(path))
    run = runs.find_run(path)
    before = scored_before(run, asked)
    told = "scoring it now" if before is None else f"scored before, in {before.folder}"
    console().print(f"{run}: {told}", markup=False)
    return before or _of_run(run, asked, running, None)


def _report(home: Path, pictures: int) -> Path:
    from vlsmctl.report import write_report

    return write_report(home, pictures=pictures)


def _show(scored: Scored, title: str, page: Path | None) -> None:
    from vlsmctl.commands.eval_tables import by_tables, paper_lines, score_table
    from vlsmctl.commands.sensitivity_tables import sensitivity_table

    screen, summary = out(), scored.summary
    screen.print(title, markup=False)
    screen.print(score_table(summary))
    for line in paper_lines(summary):
        screen.print(line, markup=False)
    for table in by_tables(summary):
        screen.print(table)
    if summary.get("sensitivity"):
        screen.print(sensitivity_table(summary["sensitivity"]))
    for path in summary["extra_predictions"][:_SHOWN]:
        console().print(f"no true mask for {path}", markup=False)
    folder = scored.folder
    screen.print(f"scores: {folder / 'scores.csv'}, {folder / 'summary.json'}", markup=False)
    if page is not None:
        screen.print(f"report: {page}", markup=False)


def notes(scored: Scored) -> list[str]:
    """What to know when reading the scores."""
    from vlsmctl.datasets.attributes import WORDS

    summary = scored.summary
    about = summary["about"]
    said = list(about.get("notes", []))
    if about.get("prompts_from_masks"):
        told = ", ".join(word for word in WORDS if len(word) > 1)
        said.append(
            f"these prompts tell the model words taken from the true mask ({told}), as in the published "
            "protocol; --prompts p1 names the class alone"
        )
    if about.get("trained_pictures"):
        said.append(f"the run was trained or chosen on {about['trained_pictures']} of these pictures")
    trained, data = about.get("trained_on"), about.get("data")
    if trained and trained != data:
        said.append(f"trained on {trained}, scored on {data}")
    elif trained and about["trained_manifest_sha256"] != about["manifest_sha256"]:
        said.append("the data set has changed since this run was trained")
    if summary["by"].get("prompt"):
        asked_of = {row.pair.id for row in scored.scores.rows}
        prompts = len(summary["by"]["prompt"])
        said.append(f"the first table takes {len(asked_of)} pictures with {prompts} prompts each together")
    for key, count in summary["not_asked"].items():
        said.append(f"{count} pictures have no prompt {key}, and are not scored with it")
    if summary["n"] and summary["n_both_empty"] + summary["n_false_alarm"] == summary["n"]:
        said.append("no true mask marks anything at all: are these the masks, and is --label right?")
    if summary["n_failed"] and summary["n"]:
        share = summary["n"] / (summary["n"] + summary["n_failed"])
        dice = summary["metrics"]["dice"]["mean"] * share
        said.append(f"{summary['n_failed']} failed cases are in no mean; as 0, mean Dice is {dice:.3f}")
    kinds = summary["caution_kinds"]
    said += [f"{one['n']} cases, such as {one['id']}: {one['text']}" for one in kinds[:_CAUTIONS]]
    if len(kinds) > _CAUTIONS:
        said.append(f"{len(kinds) - _CAUTIONS} more kinds of remarks on cases: see summary.json")
    return said


def _end(scored: Scored) -> None:
    """Says what failed; the exit code says so too."""
    summary, folder = scored.summary, scored.folder
    for case in summary["failed"][:_SHOWN]:
        console(always=True).print(f"failed {case['id']}: {case['reason']}", markup=False)
    left = len(summary["failed"]) - _SHOWN
    if left > 0:
        console(always=True).print(f"... and {left} more: see {folder}", markup=False)
    if not summary["n"] and summary["n_failed"]:
        raise NoReadableInput(f"none of the {summary['n_failed']} cases could be scored: see {folder}")
    if summary["n_failed"]:
        raise typer.Exit(SOME_FAILED)
