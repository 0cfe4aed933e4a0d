"""`vlsmctl predict`: scans in, masks out."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.console import console, live_count, out
from vlsmctl.errors import INTERRUPTED, SOME_FAILED, NoReadableInput, UsageError

if TYPE_CHECKING:
    from vlsmctl.formats.scan import Found, Problem
    from vlsmctl.prediction import Predictor


def predict(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files and folders of scans.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to segment; repeat for several. Default: the class the adapter learned."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run folder (default: the latest run).", show_default=False)
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="An adapter file.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(help="A base model alone, zero-shot: clipseg or tiny.", show_default=False)
    ] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Where masks go.")] = Path("predictions"),
    threshold: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.999, help="Default: the adapter's, or 0.5.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again what is done already.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    weights: Annotated[
        Path | None, typer.Option(help="The folder of the base model's weights.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Use the adapter on another base model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Segment what a prompt names in pictures, NIfTI volumes and DICOM files or series."""
    from vlsmctl.formats.scan import find_scans

    if sum(choice is not None for choice in (run, adapter, model)) > 1:
        raise UsageError("give one of --run, --adapter and --model")
    found, problems = find_scans(inputs)
    found, problems = _without_outputs(found, problems, inputs, out_folder)
    for problem in problems:
        console(always=True).print(f"skipped {problem.path}: {problem.reason}", markup=False)
    if not found:
        raise NoReadableInput(
            f"no readable scan in {', '.join(map(str, inputs))}"
            + (f" ({len(problems)} skipped)" if problems else ""),
            hint="give PNG, JPEG, TIFF, BMP, WebP, NIfTI or DICOM files, or folders of them",
        )
    from vlsmctl.models.tokens import CONTEXT_LENGTH, is_cut

    predictor = _predictor(run, adapter, model, device, weights, force)
    prompts = list(dict.fromkeys(prompt or ([predictor.class_prompt] if predictor.class_prompt else [])))
    if not prompts or not all(text.strip() for text in prompts):
        raise UsageError('what shall be segmented? give --prompt TEXT, for example --prompt "polyp"')
    for text in (text for text in prompts if is_cut(text)):
        console().print(
            f"note: the model reads {CONTEXT_LENGTH} tokens; the end of this prompt is cut off: "
            f"{text[:40]}...",
            markup=False,
        )
    _refuse_to_overwrite(found, prompts, out_folder)
    document = _run(
        predictor, found, problems, prompts, out_folder, threshold, batch_size, overwrite=overwrite
    )
    document["skipped"] = [{"input": str(p.path), "reason": p.reason} for p in problems]
    counts = document["counts"] | {"skipped": len(problems)}
    document["counts"] = counts
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


def _without_outputs(
    found: list[Found], problems: list[Problem], inputs: list[Path], out_folder: Path
) -> tuple[list[Found], list[Problem]]:
    """Masks of an earlier run, in an output folder below an input folder, are no scans to segment."""
    out_real = out_folder.resolve()
    folders = [one.resolve() for one in inputs if one.is_dir()]
    if out_real in folders:
        raise UsageError(
            f"--out {str(out_folder)!r} is also an input: masks would lie among the scans",
            hint=f"--out {out_folder / 'predictions'}",
        )
    if not any(folder in out_real.parents for folder in folders):
        return found, problems

    def is_output(path: Path) -> bool:
        return path.resolve().is_relative_to(out_real)

    return (
        [one for one in found if not is_output(one.source)],
        [one for one in problems if not is_output(one.path)],
    )


def _refuse_to_overwrite(found: list[Found], prompts: list[str], out_folder: Path) -> None:
    """Raises UsageError where a mask would take the place of a scan."""
    from vlsmctl.formats.scan import output_names

    real = lru_cache(maxsize=4096)(os.path.realpath)  # of folders, of which there are few
    scans = {(real(file.parent), file.name) for one in found for file in one.files}
    for targets in output_names(found, prompts):
        for path in (out_folder / target for target in targets):
            if (real(path.parent), path.name) in scans:
                raise UsageError(
                    f"the mask {path} would take the place of a scan",
                    hint="choose another folder with --out",
                )


def _predictor(
    run: Path | None,
    adapter: Path | None,
    model: str | None,
    device: str,
    weights: Path | None,
    force: bool,
) -> Predictor:
    from vlsmctl import prediction, runs
    from vlsmctl.models.build import MODELS
    from vlsmctl.runtime import pick_device

    where = pick_device(device)
    if model is not None:
        if model not in MODELS:
            raise UsageError(f"--model {model!r}: known are {', '.join(MODELS)}", hint="vlsmctl models")
        return prediction.predictor_from_model(model, device=where, weights=weights)
    if adapter is not None:
        return prediction.predictor_from_adapter(adapter, device=where, weights=weights, force=force)
    return prediction.predictor_from_run(runs.find_run(run), device=where, weights=weights, force=force)


def _run(
    predictor: Predictor, found: list[Found], problems: list[Problem], prompts: list[str],
    out_folder: Path, threshold: float | None, batch_size: int, *, overwrite: bool,
) -> dict[str, Any]:  # fmt: skip
    from vlsmctl.prediction import predict as run_prediction
    from vlsmctl.runtime import polite_stop

    console().print(f"{predictor.name}; {len(found)} scans; asking for: {', '.join(prompts)}", markup=False)
    with polite_stop() as stop, live_count("predicting", len(found) * len(prompts)) as tick:

        def told(entry: Any) -> None:
            if entry.status == "failed":
                console(always=True).print(f"failed {entry.input}: {entry.reason}", markup=False)
            tick()

        entries, before = run_prediction(
            predictor, found, prompts, out_folder, threshold=threshold or predictor.threshold,
            batch_size=batch_size, overwrite=overwrite, stop=stop, problems=problems, told=told,
        )  # fmt: skip
    tally = Counter(entry.status for entry in entries)
    counts = {name: tally[name] for name in ("done", "empty", "failed")} | {"before": before}
    return {
        "out": str(out_folder),
        "counts": counts,
        "entries": [asdict(entry) for entry in entries],
        "interrupted": stop.asked,
    }


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
