"""What `vlsmctl predict` is given: which scans, what each is asked for, what must not be overwritten."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vlsmctl.console import console, counted, live_tally
from vlsmctl.errors import NoReadableInput, UsageError

if TYPE_CHECKING:
    from vlsmctl.cases import Case, Options
    from vlsmctl.formats.records import Found, Problem
    from vlsmctl.ledger import Entry, Known
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


def refuse_to_replace(cases: Sequence[Case], options: Options, known: Known, out_folder: Path) -> None:
    """Raises UsageError where something of a case would take the place of a file that is not ours, or of
    another scan's, which an earlier run wrote to the same folder."""
    from vlsmctl.cases import targets
    from vlsmctl.files import is_there
    from vlsmctl.ledger import ever_written

    owners = {name: entry for entry in known.values() for name in entry.files}
    ours = ever_written(out_folder)
    hint = "choose another folder with --out, or --overwrite"
    for case in cases:
        for target in targets(case, options):
            path, owner = out_folder / target, owners.get(target.as_posix())
            if owner is None and target.as_posix() not in ours and is_there(path):
                raise UsageError(f"{path} exists, and is no mask of ours", hint=hint)
            if owner is not None and not _is_of(owner, case) and is_there(path):
                raise UsageError(f"{path} is the mask of {owner.input}, from an earlier run", hint=hint)


def _is_of(entry: Entry, case: Case) -> bool:
    """Whether an entry is of the scan of a case: by its name, by its place, or by its files, which may
    have moved."""
    if entry.input == case.input or entry.scan == case.files:
        return True
    return os.path.realpath(entry.input) == os.path.realpath(case.input)


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


def note_former(cases: Sequence[Case], options: Options, known: Known, out_folder: Path) -> None:
    """Says how many masks of earlier runs are replaced now, and which still lie beside the new ones."""
    from vlsmctl.cases import Done, masks
    from vlsmctl.files import is_there

    done = Done(known, out_folder)
    current = {target.as_posix() for case in cases for target in masks(case)}
    inputs = {case.input for case in cases}
    former = {
        entry.output
        for entry in known.values()
        if entry.input in inputs and entry.output and is_there(out_folder / entry.output)
    }
    kept = set() if options.overwrite else {one.output for case in cases for one in done.entries(case)}
    replaced, beside = (former & current) - kept, sorted(former - current)
    if replaced:
        made = counted(len(replaced), "mask")
        _note(f"{made} made before, of other files, prompts, model or options, will be replaced")
    if beside:
        _note(f"{out_folder} holds masks of these scans that earlier runs made otherwise: {quoted(beside)}")


def quoted(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    some = ", ".join(repr(one[:60]) for one in names[:4])
    return some + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _note(text: str) -> None:
    console(always=True).print(f"note: {text}", markup=False)


def refuse_to_overwrite(cases: Sequence[Case], options: Options, out_folder: Path) -> None:
    """Raises UsageError where a mask would take the place of a scan, by whatever spelling."""
    from vlsmctl.cases import targets

    real = lru_cache(maxsize=4096)(os.path.realpath)  # of folders, of which there are few
    scans = {(real(file.parent), file.name.casefold()) for case in cases for file in case.found.files}
    for case in cases:
        for path in (out_folder / target for target in targets(case, options)):
            if (real(path.parent), path.name.casefold()) in scans:
                raise UsageError(
                    f"the mask {path} would take the place of a scan",
                    hint="choose another folder with --out",
                )
