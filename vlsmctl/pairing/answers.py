"""Which masks answer which targets: by their names, and by what the ledger of `predict` says of
them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlsmctl.datasets.affixes import FIRST_CHANNEL
from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.files import shown
from vlsmctl.formats.naming import prompt_slug
from vlsmctl.pairing.folders import (
    Listing,
    Target,
    file_targets,
    list_masks,
    part_claims,
    parts_stem,
    prepared_folder,
    record_targets,
    refuse_nothing,
    refuse_split,
)
from vlsmctl.pairing.images import refuse_images_among
from vlsmctl.pairing.ledgers import Ledger, Recorded, read_answers, recorded_claims
from vlsmctl.pairing.names import (
    MASK_WORDS,
    OF_PREDICTIONS,
    OF_TARGETS,
    Claim,
    Links,
    composed,
    endings,
    index,
    key,
    link,
    mask_claims,
    resembling,
)

_IN_PARTS_ONLY = "its mask is a folder with a file a frame, the target is not"


@dataclass(frozen=True)
class Answer:
    """A mask for a prompt. recorded: what the ledger says of it, if it does."""

    path: Path
    recorded: Recorded | None = None


@dataclass
class Answered:
    """A target with its answers by prompt (a text, where a ledger tells it, else as in the file name;
    None: no prompt is known). lost: the prompts that should have got one, each with the reason; skipped:
    why none was asked, of an input that was no scan."""

    target: Target
    answers: dict[str | None, Answer] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    skipped: str | None = None

    @property
    def recorded(self) -> bool:
        """Whether a ledger knows what was asked of it."""
        return bool(self.lost) or any(answer.recorded for answer in self.answers.values())

    @property
    def unknown(self) -> bool:
        """Whether nothing was found of it, neither a mask nor a reason."""
        return not self.answers and not self.lost and self.skipped is None


@dataclass(frozen=True)
class Found:
    """cases: of all targets, in their order. extra: masks that belong to none. notes: what to tell."""

    cases: list[Answered]
    extra: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Mask:
    """A mask below the folder of predictions. stale: an earlier run wrote it, and no entry counts it
    now."""

    relative: str
    claims: tuple[Claim, ...]
    recorded: tuple[Recorded, ...] = ()
    stale: bool = False

    @property
    def prompts(self) -> tuple[str, ...] | None:
        return tuple(one.prompt for one in self.recorded) or None


def answers_of_file(pred: Path, gt: Path, label: int | None = None) -> Found:
    """One mask for one target, whatever they are called. label: the one that is meant, of several that
    the ledger knows of; None: all of them."""
    name = composed(pred.name)
    recorded = read_answers(pred.parent, {name: None}, ledgers=None).outputs.get(name, ())
    meant = [one for one in recorded if one.label == label] or recorded
    answers: dict[str | None, Answer] = {one.prompt: Answer(pred, one) for one in meant}
    target = Target(shown(key(gt.name)), (key(gt.name),), gt)
    return Found([Answered(target, answers or {None: Answer(pred)})])


def answers_in_folders(pred: Path, gt: Path, split: str) -> Found:
    """The masks below `pred` that answer the targets below `gt`.

    Raises UsageError: nothing matches, what is left on both sides only resembles each other, two files
    claim one place, some name a prompt and others do not, images lie among the targets; NoReadableInput:
    there are no masks.
    """
    made = list_masks(pred, "--pred", leave_out=gt)
    targets, parts, notes = _targets(pred, gt, split, made)
    refuse_nothing(made, parts, "--pred")
    ledger = read_answers(pred, _usable(made, parts), ledgers=made.ledgers)
    masks = list(_masks(made, parts, ledger, targets))
    cases = [Answered(target) for target in targets]
    current = [mask for mask in masks if not mask.stale]
    links = _answer(cases, current, [target.names for target in targets], pred)
    _lose(cases, ledger)
    # Of runs that were killed before they entered them; where the ledger knows more, they are outdated
    stale = [mask for mask in masks if mask.stale]
    stale_links = _answer(cases, stale, [case.target.names if case.unknown else () for case in cases], pred)
    if prepared_folder(gt) is None:
        refuse_images_among(targets, {number for number, case in enumerate(cases) if case.answers}, gt)
    extra = [mask for number, mask in enumerate(current) if number not in links.found]
    unknown = [case for case in cases if case.unknown]
    _refuse_resembling(extra, cases, links)
    if not links.found and not stale_links.found:
        raise _nothing_matches(pred, gt, masks, targets, links)
    _refuse_mixture(cases)
    outdated = [mask for number, mask in enumerate(stale) if number not in stale_links.found]
    notes = [*made.notes, *notes, *_said_of_parts(made, parts), *links.notes, *_said_of_prompts(cases)]
    if extra and unknown:
        names = f"the prediction {extra[0].claims[0][0]!r} and the target {unknown[0].target.names[0]!r}"
        notes.append(f"left alone, as their names do not match: for example {names}")
    if outdated:
        listing = listed([shown(mask.relative) for mask in outdated])
        notes.append(f"masks of earlier runs, by the ledger, which count no more: {listing}")
    return Found(cases, sorted(pred / mask.relative for mask in (*extra, *outdated)), notes)


def _targets(
    pred: Path, gt: Path, split: str, made: Listing
) -> tuple[list[Target], dict[str, list[str]], list[str]]:
    """The targets, the folders of frames among the predictions that count, and notes."""
    prepared = prepared_folder(gt)
    if prepared is not None:
        return record_targets(prepared, split), {}, []
    refuse_split(split, gt)
    true = list_masks(gt, "--gt", leave_out=pred)
    wanted = {"".join(parts_stem(owner)) for owner in true.parts}
    of_both = {owner: files for owner, files in made.parts.items() if wanted & set(_part_names(owner))}
    true_parts = true.parts if of_both or not true.files else {}
    refuse_nothing(true, true_parts, "--gt")
    return file_targets(true, true_parts), of_both, true.notes


def _part_names(owner: str) -> Iterator[str]:
    """What a folder of frames may be called where it is a target."""
    stem, suffix = parts_stem(owner)
    for case, _ in mask_claims(stem):
        yield case + suffix


def _usable(made: Listing, parts: Mapping[str, object]) -> dict[str, str | None]:
    """Of every mask that is there, why it cannot be used; None for one that can."""
    usable: dict[str, str | None] = dict.fromkeys(map(composed, made.files))
    usable.update((composed(owner), None if owner in parts else _IN_PARTS_ONLY) for owner in made.parts)
    return usable


def _masks(
    made: Listing, parts: Mapping[str, Sequence[str]], ledger: Ledger, targets: Sequence[Target]
) -> Iterator[_Mask]:
    texts, tails = _texts(ledger), _tails(targets)
    common = _common(_names(made, parts, ledger), targets)
    of: list[tuple[str, str | None]] = [(relative, None) for relative in made.files]
    of += [(relative, owner) for owner, inside in parts.items() for relative in inside]
    for relative, owner in of:
        output = composed(owner or relative)
        recorded = ledger.outputs.get(output, ())

        def claims(name: str, recorded: tuple[Recorded, ...] = recorded) -> Iterator[Claim]:
            if recorded:
                yield from recorded_claims(name, recorded[0].input)
                return
            for case, slug in mask_claims(name):
                if slug is None or (slug not in tails and (slug in texts or slug in common)):
                    yield case, slug if slug is None else texts.get(slug, slug)

        found = claims(key(relative)) if owner is None else part_claims(relative, owner, claims)
        yield _Mask(relative, tuple(found), recorded, stale=not recorded and output in ledger.stale)


def _texts(ledger: Ledger) -> dict[str, str]:
    """What prompts are called in file names -> the prompts that the ledger knows."""
    prompts = {one.prompt for recorded in ledger.outputs.values() for one in recorded}
    slugs = [(prompt_slug(prompt), prompt) for prompt in prompts]
    counts = Counter(slug for slug, _ in slugs)
    return {slug: prompt for slug, prompt in slugs if counts[slug] == 1}


def _tails(targets: Sequence[Target]) -> set[str]:
    """What follows "__" in the names of targets: where p1__2 is a target, p2__2 does not answer p2."""
    names = (name for target in targets for name in (*target.names, target.of or ""))
    stems = (stem for name in names for _, stem in endings(name, OF_TARGETS))
    return {slug for stem in stems for _, slug in mask_claims(stem) if slug is not None}


def _names(made: Listing, parts: Mapping[str, object], ledger: Ledger) -> Iterator[str]:
    """What masks are called of which no ledger knows; of frames, their folder."""
    yield from (key(name) for name in made.files if composed(name) not in ledger.outputs)
    yield from (parts_stem(owner)[0] for owner in parts if composed(owner) not in ledger.outputs)


def _common(names: Iterable[str], targets: Sequence[Target]) -> set[str]:
    """What follows "__" in the names of masks for two targets at least, or for the only one: a prompt.
    Frames of one folder are one target."""
    cases: dict[str, str] = {}
    for target in targets:
        for name in target.names if target.of is None else (target.of,):
            case = target.names[0] if target.of is None else target.of
            cases.update((stem, case) for _, stem in endings(name, OF_TARGETS))
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for case, slug in mask_claims(name):
            if slug is not None and _is_slug(slug):
                stems = [stem for _, stem in endings(case, OF_PREDICTIONS)]
                stems.append(stems[0].removesuffix(FIRST_CHANNEL))
                found[slug].update(cases[stem] for stem in stems if stem in cases)
    enough = min(2, len({*cases.values()}))
    return {slug for slug, own in found.items() if len(own) >= enough}


def _is_slug(slug: str) -> bool:
    """Whether `predict` may have made it of a prompt; a mere number tells views or visits apart, and
    `_mask` or `_pred` says nothing of a prompt."""
    return prompt_slug(slug) == slug and any(map(str.isalpha, slug)) and slug not in MASK_WORDS


def _answer(
    cases: Sequence[Answered], masks: Sequence[_Mask], names: Sequence[Sequence[str]], pred: Path
) -> Links:
    """Adds the masks to the cases that they answer. names: of each case."""
    links = link([mask.claims for mask in masks], names, slots=lambda number: masks[number].prompts)
    for one, other, case in links.rivals:
        raise UsageError(
            f"two predictions for {cases[case].target.id!r}: {pred / masks[one].relative}"
            f" and {pred / masks[other].relative}",
            hint="keep one of the two below --pred, or give them names that match different targets",
        )
    for number, (case, slug) in links.found.items():
        path, recorded = pred / masks[number].relative, masks[number].recorded
        cases[case].answers.update((one.prompt, Answer(path, one)) for one in recorded)
        if not recorded:
            cases[case].answers[slug] = Answer(path)
    return links


def _lose(cases: Sequence[Answered], ledger: Ledger) -> None:
    """Adds to the cases the prompts that were asked of them and got no answer."""
    meant = {name: [number] for name, number in index([case.target.names for case in cases]).items()}
    frames: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        if case.target.of is not None:
            frames[case.target.of].append(number)
    meant = {**frames, **meant}
    for lost in ledger.lost:
        name = next((name for name in lost.cases if name in meant), None)
        for case in [cases[number] for number in meant.get(name or "", ())]:
            if lost.prompt is None:
                case.skipped = case.skipped or (None if case.answers else lost.reason)
            elif lost.prompt not in case.answers:
                case.lost.setdefault(lost.prompt, lost.reason)


def _refuse_mixture(cases: Sequence[Answered]) -> None:
    """Raises UsageError where, without a ledger, some masks name a prompt and others do not: these could
    be meant for any of them, or for none."""
    plain, named = _unrecorded(cases, named=False), _unrecorded(cases, named=True)
    if plain and named:
        raise UsageError(
            f"of the predictions some name a prompt and others do not: {named[0][1].path}"
            f" ({named[0][0]!r}) and {plain[0][1].path}",
            hint="put the files of each prompt into a folder of their own and score one folder at a time,"
            " or take the part from '__' on off the names that mean no prompt",
        )


def _refuse_resembling(extra: Sequence[_Mask], cases: Sequence[Answered], links: Links) -> None:
    """Raises UsageError where a prediction and a target, both left over, may well be meant for each other:
    counted as missed, they would spoil the score without a word."""
    unknown = {number for number, case in enumerate(cases) if case.unknown}
    if not extra or not unknown:
        return
    names = [case.target.names for case in cases]
    pairs = resembling([mask.claims for mask in extra], names, unknown)
    if pairs:
        some = listed([f"{item} and {name}" for item, name in pairs], shown=3)
        raise UsageError(
            "; ".join(
                [f"predictions and targets that only resemble each other are left: {some}", *links.notes]
            ),
            hint="rename the predictions like their targets"
            f" ({shown(pairs[0][0])} to {shown(pairs[0][1])}), or move those that are none out of --pred",
        )


def _unrecorded(cases: Sequence[Answered], *, named: bool) -> list[tuple[str | None, Answer]]:
    """Answers that no ledger knows, with the prompts that their names hold, or without any."""
    answers = ((prompt, answer) for case in cases for prompt, answer in case.answers.items())
    return [one for one in answers if one[1].recorded is None and (one[0] is not None) == named]


def _nothing_matches(
    pred: Path, gt: Path, masks: Sequence[_Mask], targets: Sequence[Target], links: Links
) -> UsageError:
    example = f"for example {masks[0].claims[0][0]!r} and {targets[0].names[0]!r}"
    return UsageError(
        f"no prediction below {pred} has the relative path and stem of a target below {gt}: "
        + "; ".join([example, *links.notes]),
        hint="give the predictions the names of the targets (a/case1.png for a/case1.png)",
    )


def _said_of_prompts(cases: Sequence[Answered]) -> list[str]:
    named = _unrecorded(cases, named=True)
    prompts = sorted({repr(prompt) for prompt, _ in named})
    if not named:
        return []
    return [
        f"{len(named)} predictions read as answers to the prompts {listed(prompts)}"
        " (by what follows '__' in their names)"
    ]


def _said_of_parts(made: Listing, parts: Collection[str]) -> list[str]:
    unused = [shown(owner) for owner in made.parts if owner not in parts]
    if not unused:
        return []
    return [f"predictions in a file a frame, passed over (no target has one): {listed(unused)}"]
