"""What `vlsmctl predict` is given: which scans, what each is asked for, what must not be overwritten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vlsmctl.console import console, live_tally
from vlsmctl.errors import NoReadableInput, UsageError

if TYPE_CHECKING:
    from vlsmctl.cases import Case
    from vlsmctl.formats.records import Found, Problem
    from vlsmctl.predictor import Predictor


def find(inputs: list[Path], out_folder: Path) -> tuple[list[Found], list[Problem]]:
    from vlsmctl.formats.scan import find_scans

    with live_tally("looking for scans") as tick:
        found, problems = find_scans(inputs, tick)
    return _without_outputs(found, problems, inputs, out_folder)


def say_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        word = "passed over" if problem.harmless else "skipped"
        console(always=not problem.harmless).print(f"{word} {problem.path}: {problem.reason}", markup=False)


def refuse_nothing(found: Sequence[Found], problems: Sequence[Problem], inputs: Sequence[Path]) -> None:
    if not found:
        raise NoReadableInput(
            f"no readable scan in {', '.join(map(str, inputs))}"
            + (f" ({len(problems)} skipped)" if problems else ""),
            hint="give PNG, JPEG, TIFF, BMP, WebP, NIfTI or DICOM files, or folders of them",
        )


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


def asked_for(
    found: list[Found], prompt: list[str] | None, prompts: Path | None, predictor: Predictor, *, quiet: bool
) -> tuple[list[Found], list[tuple[str, ...]], list[Problem]]:
    """The scans that are asked for something, for what, and those that are not."""
    from vlsmctl.formats.records import Problem
    from vlsmctl.models.tokens import CONTEXT_LENGTH, is_cut
    from vlsmctl.prompt_files import assign_prompts, read_prompt_file

    usual = list(dict.fromkeys(prompt or ([predictor.class_prompt] if predictor.class_prompt else [])))
    if not all(text.strip() for text in usual) or not (usual or prompts):
        raise UsageError('what shall be segmented? give --prompt TEXT, for example --prompt "polyp"')
    asked, without = [tuple(usual) for _ in found], []
    if prompts is not None:
        assigned = assign_prompts(found, read_prompt_file(prompts), usual)
        asked = assigned.prompts
        if assigned.unmatched and not quiet:
            some = ", ".join(assigned.unmatched[:3]) + (", ..." if len(assigned.unmatched) > 3 else "")
            console(always=True).print(
                f"note: {len(assigned.unmatched)} inputs of {prompts} are not among the scans: {some}",
                markup=False,
            )
        without = [
            Problem(one.source, f"has no prompt in {prompts}, and no --prompt is given")
            for one, own in zip(found, asked, strict=True)
            if not own
        ]
        if not quiet:
            say_problems(without)
    if not any(asked):
        raise UsageError(f"{prompts} has no prompt for any of the {len(found)} scans", hint="--prompt TEXT")
    for text in dict.fromkeys(text for own in asked for text in own):
        if is_cut(text) and not quiet:
            console().print(
                f"note: the model reads {CONTEXT_LENGTH} tokens; the end of this prompt is cut off: "
                f"{text[:40]}...",
                markup=False,
            )
    kept = [(one, own) for one, own in zip(found, asked, strict=True) if own]
    return [one for one, _ in kept], [own for _, own in kept], without


def refuse_to_overwrite(cases: Sequence[Case], out_folder: Path) -> None:
    """Raises UsageError where a mask would take the place of a scan."""
    from vlsmctl.cases import targets

    real = lru_cache(maxsize=4096)(os.path.realpath)  # of folders, of which there are few
    scans = {(real(file.parent), file.name) for case in cases for file in case.found.files}
    for case in cases:
        for path in (out_folder / target for target in targets(case)):
            if (real(path.parent), path.name) in scans:
                raise UsageError(
                    f"the mask {path} would take the place of a scan",
                    hint="choose another folder with --out",
                )
