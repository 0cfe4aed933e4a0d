"""`vlsmctl eval`: score a run on a split, or one folder of masks against another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.console import console, out, track
from vlsmctl.errors import SOME_FAILED, NoReadableInput, UsageError
from vlsmctl.processors import processors

if TYPE_CHECKING:
    from vlsmctl.evaluation import CasePair, Scores

_SHOWN = 20  # failed cases named on the terminal; summary.json has them all
_FROM_MASKS = ("count", "size", "place", "shape", "colour")
WORTH_PROCESSES = 5000  # cases from which starting processes costs less than it saves


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="A run folder (default: the latest run).", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test, or all of them.")] = "test",
    prompts: Annotated[
        str | None,
        typer.Option(
            help="random, p0..pN, or all (each in turn); default: as in the run.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared data set other than the run's own.", show_default=False)
    ] = None,
    pred: Annotated[
        Path | None, typer.Option(help="A folder of predicted masks ...", show_default=False)
    ] = None,
    gt: Annotated[Path | None, typer.Option(help="... and one of true masks.", show_default=False)] = None,
    result_folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where scores go (default: in the run; with --pred: eval).", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that score (default: by the number of cases).", show_default=False
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The folder of the base model's weights.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option(help="Use the adapter on another base model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score masks: Dice, IoU and HD95 for each case, and means with 95 % intervals."""
    from vlsmctl.evaluation import score_cases, summarise, write_scores

    if (pred is None) != (gt is None):
        raise UsageError("--pred and --gt go together: a folder of predicted masks and one of true masks")
    if pred is not None and gt is not None:
        if run is not None:
            raise UsageError("give a run, or --pred and --gt, not both")
        if prompts is not None or data is not None:
            raise UsageError(
                "--prompts and --data are for a run; --pred and --gt name the masks themselves"
            )
        from vlsmctl.evaluation import match_folders

        pairs, extra = match_folders(pred, gt)
        folder, title, hints = result_folder or Path("eval"), f"{pred} against {gt}", False
    else:
        pairs, folder, title, hints = _predicted(
            run, split, prompts, data, result_folder, device, batch_size, weights, force
        )
        extra = []
    if workers is None:
        workers = processors() if len(pairs) >= WORTH_PROCESSES else 0
    scores = score_cases(
        pairs, workers=workers, progress=lambda rows: track(rows, "scoring", len(pairs)), extra=extra
    )
    write_scores(folder, scores)
    summary = summarise(scores)
    if as_json:
        out().print(json.dumps({"folder": str(folder), **summary}), markup=False)
    else:
        _show(scores, summary, title, folder, hints_in_prompts=hints)
    for case in summary["failed"][:_SHOWN]:
        console(always=True).print(f"failed {case['id']}: {case['reason']}", markup=False)
    if not summary["n"] and summary["n_failed"]:
        raise NoReadableInput(f"none of the {summary['n_failed']} cases could be scored: see {folder}")
    if summary["n_failed"]:
        raise typer.Exit(SOME_FAILED)


def _predicted(
    run: Path | None, split: str, prompts: str | None, data: Path | None, result_folder: Path | None,
    device: str, batch_size: int, weights: Path | None, force: bool,
) -> tuple[list[CasePair], Path, str, bool]:  # fmt: skip
    """Predicts a split with a run; the pairs to score, where scores go, a title, and whether the prompts
    hold words that were taken from the true masks."""
    from vlsmctl import runs
    from vlsmctl.datasets.manifest import data_folder, read_manifest
    from vlsmctl.predictor import predictor_from_run
    from vlsmctl.runtime import pick_device
    from vlsmctl.scoring import predict_split

    folder = runs.find_run(run)
    document = runs.read_run(folder)
    manifest = read_manifest(
        data_folder(data, document["preset"]["data"]) if data else Path(document["data"]["folder"])
    )
    if data is None and manifest.hash != document["data"]["manifest_sha256"]:
        console().print("note: the data set has changed since this run was trained", markup=False)
    if data is None and split != "test":
        console().print("note: the run was trained and chosen on pictures of train and val", markup=False)
    choice = prompts or document["preset"]["prompts"]["eval"]
    where = result_folder or folder / "eval" / "-".join([manifest.folder.name, split, choice])
    predictor = predictor_from_run(folder, device=pick_device(device), weights=weights, force=force)
    pairs = predict_split(
        predictor, manifest, split, choice, document["seed"], where / "masks", batch_size=batch_size,
        tick=track,
    )  # fmt: skip
    made_of = str(manifest.info.get("templates"))
    published = bool(manifest.info.get("annotations") or manifest.info.get("members"))
    from_masks = published or any(f"{{{word}}}" in made_of for word in _FROM_MASKS)
    hints = from_masks and choice not in ("p0", "p1")
    return pairs, where, f"{folder}: {manifest.folder.name} {split}, prompts {choice}", hints


def _show(
    scores: Scores, summary: dict[str, Any], title: str, folder: Path, *, hints_in_prompts: bool
) -> None:
    from vlsmctl.evaluation import prompt_table, score_table

    screen = out()
    screen.print(title, markup=False)
    screen.print(score_table(summary))
    if hints_in_prompts:
        screen.print(
            f"note: these prompts tell the model words taken from the true mask ({', '.join(_FROM_MASKS)}),"
            " as in the published protocol; --prompts p1 names the class alone",
            markup=False,
        )
    by_prompt = prompt_table(summary)
    if by_prompt is not None:
        screen.print(by_prompt)
    for path in scores.extra:
        console().print(f"no true mask for {path}", markup=False)
    screen.print(f"scores: {folder / 'scores.csv'}, {folder / 'summary.json'}", markup=False)
