"""Which prediction belongs to which target: masks of any tool, and what is known of their cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlsmctl.datasets.manifest import ALL
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.files import is_there
from vlsmctl.pairing.answers import Answer, Answered, answers_in_folders, answers_of_file
from vlsmctl.pairing.folders import refuse_split
from vlsmctl.pairing.images import with_images
from vlsmctl.pairing.ledgers import scan_of
from vlsmctl.pairing.tables import read_case_table, with_facts

WHY_NONE = "why_no_prediction"  # a column


@dataclass(frozen=True)
class CasePair:
    """One target and its prediction, if there is one.

    id: what the case is called in tables; group: patient or sequence, whose cases are resampled
    together; prompt: the one that the prediction answers; prompt_key: the name of its kind (p0..pN, or
    the prompt in the file name), where each kind is to get a mean of its own; error: why there can be
    no prediction: the case has failed, and its files are not read. prediction_label, target_label: the
    value of a label map, or segment of a DICOM SEG, that is meant; None: all foreground. image: the
    picture or scan that the masks belong to, where known. data_set: its name, where known. columns:
    further facts, by which results may be told apart.
    """

    id: str
    prediction: Path | None
    target: Path
    group: str | None = None
    prompt: str | None = None
    prompt_key: str | None = None
    error: str | None = None
    prediction_label: int | None = None
    target_label: int | None = None
    image: Path | None = None
    data_set: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Matched:
    """pairs: sorted by case and prompt. extra: predictions that belong to no target. notes: what the
    user should know of how they were matched, a line each."""

    pairs: tuple[CasePair, ...]
    extra: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def match(
    pred: Path,
    gt: Path,
    *,
    split: str = ALL,
    cases: Path | None = None,
    images: Path | None = None,
    target_label: int | None = None,
    prediction_label: int | None = None,
) -> Matched:
    """Pairs every true mask below `gt` with its prediction below `pred`: same folder, same stem.

    As `predict` names its files, the prediction for `a/case1` may be `a/case1.png`, `a/case1.nii.gz`,
    `a/case1.seg.dcm`, `a/case1.jpg.png` (two inputs that would collide keep their extension) or, one for
    each prompt, `a/case1__polyp.png`, where what follows "__" does so for two targets at least (or there
    is but one), is no mere number, no word for a mask, and ends the name of no target. What is left over
    gets a second try, see `names`. Where `predict` has left its ledger, that says which prompts were
    asked of each input, and what each mask answers; else every target is expected to have a prediction
    for each prompt that any has. A missing prediction makes a pair without one. Two files are one pair,
    whatever their names.

    gt: masks, or a prepared data set (or its masks folder), whose records then are the targets, with
    their groups, attributes and images; split: of that. cases: a table of facts, see `tables`.
    images: a folder of the pictures or scans. target_label, prediction_label: the value, or segment,
    that is meant in every file; for masks in a ledger, that decides.

    Raises: UsageError when something is not there, when nothing matches, when a prediction and a target
    that only resemble each other are left over, when two files claim one place,
    when some masks name a prompt and others do not, or when images lie among the targets; NoReadableInput
    when a folder holds no masks.
    """
    _refuse_unlike(pred, gt)
    if pred.is_dir():
        found = answers_in_folders(pred, gt, split)
    else:
        refuse_split(split, gt)
        found = answers_of_file(pred, gt, prediction_label)
    targets, notes = [case.target for case in found.cases], [*found.notes, *_said_of_missing(found.cases)]
    if images is not None:
        targets, told = with_images(targets, images)
        notes += told
    if cases is not None:
        targets, told = with_facts(targets, read_case_table(cases), cases)
        notes += told
    answers = [answer for case in found.cases for answer in case.answers.values()]
    known = {answer.recorded.label for answer in answers if answer.recorded}
    if prediction_label is not None and known - {prediction_label}:
        notes.append(
            f"predict's ledger says what its masks hold: {prediction_label} is not looked for in them"
        )
    answered = [
        case if target is case.target else replace(case, target=target)
        for case, target in zip(found.cases, targets, strict=True)
    ]
    pairs = _with_keys(_pairs(answered, target_label, prediction_label), answered)
    return Matched(tuple(pairs), tuple(found.extra), tuple(notes))


def _refuse_unlike(pred: Path, gt: Path) -> None:
    for option, path in (("--pred", pred), ("--gt", gt)):
        if not is_there(path):
            raise UsageError(
                f"{option}: there is no such file or folder: {path}",
                hint="give a folder of mask files, or one mask file",
            )
    if pred.is_dir() != gt.is_dir():
        kinds = ["a folder" if path.is_dir() else "a file" for path in (pred, gt)]
        raise UsageError(
            f"--pred is {kinds[0]} and --gt is {kinds[1]}: {pred} and {gt}",
            hint="give two folders, or two files",
        )
    if pred.samefile(gt):
        raise UsageError(
            f"--pred and --gt are one and the same: {gt}", hint="give the predictions a folder of their own"
        )


def _pairs(
    cases: Sequence[Answered], target_label: int | None, prediction_label: int | None
) -> list[CasePair]:
    """Every target with each prompt that it should have an answer to."""
    usual = _usual(cases)
    pairs = []
    scans: dict[object, Path | None] = {}
    for case in cases:
        for prompt in _expected(case, usual):
            answer = case.answers.get(prompt)
            label = None
            if answer is not None:
                label = answer.recorded.label if answer.recorded else prediction_label
            pairs.append(_pair(case, prompt, answer, label, target_label, scans))
    return pairs


def _usual(cases: Sequence[Answered]) -> list[str | None]:
    """What was asked of a target of which nothing is known: by a ledger, what was asked of all, or else of
    several; without one, what the names of masks say."""
    asked = [frozenset(_asked(case)) for case in cases if case.recorded]
    if asked:
        counts = Counter(prompt for prompts in asked for prompt in prompts)
        several = [prompt for prompt, count in counts.items() if count > 1]
        return _in_order(asked[0] if len({*asked}) == 1 else several) or [None]
    return _in_order({prompt for case in cases for prompt in case.answers})


def _expected(case: Answered, usual: Sequence[str | None]) -> list[str | None]:
    if case.recorded:
        return _in_order(_asked(case))
    if None in case.answers:
        return [None]
    if not case.answers:
        return [*usual]
    return _in_order({*case.answers, *usual} - {None})


def _asked(case: Answered) -> set[str | None]:
    return {*case.answers, *case.lost}


def _in_order(prompts: Iterable[str | None]) -> list[str | None]:
    return sorted(prompts, key=lambda prompt: prompt or "")


def _pair(
    case: Answered,
    prompt: str | None,
    answer: Answer | None,
    label: int | None,
    target_label: int | None,
    scans: dict[object, Path | None],
) -> CasePair:
    target, columns = case.target, dict(case.target.columns)
    why = case.skipped if prompt is None else case.lost.get(prompt, case.skipped)
    if answer is None and why is not None:
        columns[WHY_NONE] = why
    image = target.image
    if image is None and answer is not None and answer.recorded is not None:
        image = scan_of(answer.recorded, scans)
    return CasePair(
        id=target.id,
        prediction=None if answer is None else answer.path,
        target=target.path,
        group=target.group,
        prompt=prompt,
        prediction_label=label,
        target_label=target_label,
        image=image,
        data_set=target.data_set,
        columns=columns,
    )


def _with_keys(pairs: Sequence[CasePair], cases: Sequence[Answered]) -> list[CasePair]:
    """Prompts that a ledger tells get a mean of their own where there are several, unless every case
    was asked one that no other was."""
    if any(case.recorded for case in cases):
        counts = Counter(pair.prompt for pair in pairs if pair.prompt is not None)
        if len(counts) < 2 or (len(pairs) == len(cases) and max(counts.values()) == 1):
            return [*pairs]
    return [pair if pair.prompt is None else replace(pair, prompt_key=pair.prompt) for pair in pairs]


def _said_of_missing(cases: Sequence[Answered]) -> list[str]:
    """How many targets have no prediction at all, and why."""
    missing = [case for case in cases if not case.answers]
    lines = []
    if missing:
        names = listed([case.target.id for case in missing], shown=3)
        lines.append(
            f"without a prediction, counted as missed: {len(missing)} of {len(cases)} targets ({names})"
        )
    reasons = [(case, [*case.lost.values(), *filter(None, [case.skipped])]) for case in cases]
    why_not = [f"{case.target.id} ({why})" for case, whys in reasons for why in dict.fromkeys(whys)]
    if why_not:
        lines.append(f"predict's ledger says why masks are missing: {listed(why_not)}")
    splits = {case.target.columns.get("split") for case in cases}
    without = splits - {case.target.columns.get("split") for case in cases if case.answers} - {None}
    there = sorted(filter(None, splits - without))
    if without and len(there) == 1:
        lines.append(
            f"nothing was predicted in {' and '.join(sorted(map(str, without)))}; --split {there[0]} scores"
            f" {there[0]} alone"
        )
    return lines
