"""What `vlsmctl predict` is given: which scans, what each is asked for, what must not be overwritten."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vlsmctl.console import console, live_tally
from vlsmctl.errors import NoReadableInput, UsageError

if TYPE_CHECKING:
    from vlsmctl.cases import Case
    from vlsmctl.formats.records import Found, Problem
    from vlsmctl.ledger import Known
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
    lost = sum(not problem.harmless for problem in problems)
    if not found:
        raise NoReadableInput(
            f"no readable scan in {', '.join(map(str, inputs))}" + (f" ({lost} skipped)" if lost else ""),
            hint="give PNG, JPEG, TIFF, BMP, WebP, NIfTI or DICOM files, or folders of them",
        )


def _without_outputs(
    found: list[Found], problems: list[Problem], inputs: list[Path], out_folder: Path
) -> tuple[list[Found], list[Problem]]:
    """Masks of an earlier run, in an output folder below an input folder, are no scans to segment."""
    from vlsmctl.formats.scan import searched_folder

    out_real = out_folder.resolve()
    if out_folder.exists() and not out_folder.is_dir():
        raise UsageError(f"--out {str(out_folder)!r} is a file: expected a folder for the masks")
    folders = [folder.resolve() for folder in map(searched_folder, inputs) if folder.is_dir()]
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
    from vlsmctl.prompt_files import assign_prompts, read_prompt_file

    usual = list(dict.fromkeys(prompt or ([predictor.class_prompt] if predictor.class_prompt else [])))
    if not all(text.strip() for text in usual) or not (usual or prompts):
        raise UsageError('what shall be segmented? give --prompt TEXT, for example --prompt "polyp"')
    asked, without = [tuple(usual) for _ in found], []
    if prompts is not None:
        assigned = assign_prompts(found, read_prompt_file(prompts), usual)
        asked = assigned.prompts
        unmatched = f"named in {prompts}, and not among the scans"
        without = [Problem(Path(row), unmatched) for row in assigned.unmatched]
        without += [
            Problem(one.source, f"has no prompt in {prompts}, and no --prompt is given")
            for one, own in zip(found, asked, strict=True)
            if not own
        ]
        if not quiet:
            say_problems(without)
    if not any(asked):
        raise UsageError(f"{prompts} has no prompt for any of the {len(found)} scans", hint="--prompt TEXT")
    if not quiet:
        _note_prompts(list(dict.fromkeys(text for own in asked for text in own)), predictor)
    kept = [(one, own) for one, own in zip(found, asked, strict=True) if own]
    return [one for one, _ in kept], [own for _, own in kept], without


def refuse_to_replace(cases: Sequence[Case], known: Known, out_folder: Path) -> None:
    """Raises UsageError where a mask would take the place of a file that is not ours, or of another scan's
    mask, which an earlier run wrote to the same folder."""
    from vlsmctl.cases import targets
    from vlsmctl.ledger import LEDGER

    owners = {entry.output: entry.input for entry in known.values() if entry.output}
    is_ours = (out_folder / LEDGER).exists()  # what a killed run wrote last is not in it
    hint = "choose another folder with --out, or --overwrite"
    for case in cases:
        for target in targets(case):
            owner = owners.get(target.as_posix())
            if owner is None:
                if not is_ours and (out_folder / target).exists():
                    raise UsageError(f"{out_folder / target} exists, and is no mask of ours", hint=hint)
            elif not _is_same(owner, case.input) and (out_folder / target).exists():
                raise UsageError(
                    f"{out_folder / target} is the mask of {owner}, from an earlier run", hint=hint
                )


def _is_same(one: str, other: str) -> bool:
    """Whether two names of inputs lead to one scan."""
    (first, _, part), (second, _, other_part) = one.rpartition("#"), other.rpartition("#")
    if one == other:
        return True
    if not (first and second):
        first, second, part, other_part = one, other, "", ""
    return part == other_part and os.path.realpath(first) == os.path.realpath(second)


def _note_prompts(words: Sequence[str], predictor: Predictor) -> None:
    """What to know of the prompts: those that the model reads half, and those it never learned."""
    from vlsmctl.models.tokens import CONTEXT_LENGTH, is_cut
    from vlsmctl.predictor import has_learned

    for text in filter(is_cut, words):
        _note(f"the model reads {CONTEXT_LENGTH} tokens; the end of this prompt is cut off: {text[:40]}...")
    new = [text for text in words if not has_learned(predictor, text)]
    if new:
        learned_words = quoted(predictor.classes)
        _note(f"this adapter learned {learned_words}; what it marks for {quoted(new)} may be that instead")


def note_idle_options(found: Sequence[Found], predictor: Predictor, given: Mapping[str, bool]) -> None:
    """Says which of the given options (name: whether it is given) change nothing for these scans."""
    kinds = {one.kind for one in found}
    idle = {
        "--axis": ("nifti" not in kinds, "no input is NIfTI; DICOM has the slices that were taken"),
        "--window": (kinds == {"picture"}, "pictures are shown as they are"),
        "--format": (kinds == {"picture"}, "a picture's mask is a PNG"),
        "--allow-uneven": (
            "dicom" not in kinds or not given["--format nifti"], "it is for DICOM with --format nifti",
        ),
        "--presence": (predictor.presence is None, "the model has no calibrated presence score"),
        "--segment-code": ("dicom" not in kinds, "it is for DICOM SEG"),
    }  # fmt: skip
    for option, (is_idle, why) in idle.items():
        if given[option] and is_idle:
            _note(f"{option} changes nothing here: {why}")


def note_stale(cases: Sequence[Case], known: Known, out_folder: Path) -> None:
    """Says which masks of earlier runs still lie in the output folder beside those of this one."""
    from vlsmctl.cases import targets

    current = {target.as_posix() for case in cases for target in targets(case)}
    inputs = {case.input for case in cases}
    stale = sorted(
        {
            entry.output
            for entry in known.values()
            if entry.input in inputs and entry.output and entry.output not in current
            and (out_folder / entry.output).exists()
        }
    )  # fmt: skip
    if stale:
        _note(f"{out_folder} holds masks of these scans that earlier runs made otherwise: {quoted(stale)}")


def quoted(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    some = ", ".join(repr(one[:60]) for one in names[:4])
    return some + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _note(text: str) -> None:
    console(always=True).print(f"note: {text}", markup=False)


def refuse_to_overwrite(cases: Sequence[Case], out_folder: Path) -> None:
    """Raises UsageError where a mask would take the place of a scan, by whatever spelling."""
    from vlsmctl.cases import targets

    real = lru_cache(maxsize=4096)(os.path.realpath)  # of folders, of which there are few
    scans = {(real(file.parent), file.name.casefold()) for case in cases for file in case.found.files}
    for case in cases:
        for path in (out_folder / target for target in targets(case)):
            if (real(path.parent), path.name.casefold()) in scans:
                raise UsageError(
                    f"the mask {path} would take the place of a scan",
                    hint="choose another folder with --out",
                )
