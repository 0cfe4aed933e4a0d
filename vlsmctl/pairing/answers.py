"""Which masks answer which targets: by their names, and by what the ledger of `predict` says of
them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlsmctl.datasets.wording import listed
from vlsmctl.errors import UsageError
from vlsmctl.formats.naming import prompt_slug
from vlsmctl.mask_files import shown
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
from vlsmctl.pairing.ledgers import Ledger, Told, read_answers, told_claims
from vlsmctl.pairing.names import (
    Claim,
    Links,
    composed,
    endings,
    index,
    key,
    link,
    mask_claims,
    said_of_near,
    said_of_unsure,
)

_IN_PARTS_ONLY = "its mask is a folder with a file a frame, the target is not"


@dataclass(frozen=True)
class Answer:
    """A mask for a prompt. told: what the ledger says of it, if it does."""

    path: Path
    told: Told | None = None


@dataclass(frozen=True)
class Answered:
    """A target with its answers by prompt (a text, where a ledger tells it, else as in the file name;
    None: no prompt is known), and the prompts that should have got one, each with the reason where it
    is known."""

    target: Target
    answers: dict[str | None, Answer] = field(default_factory=dict)
    lost: dict[str | None, str] = field(default_factory=dict)

    @property
    def told(self) -> bool:
        """Whether a ledger knows what was asked of it."""
        texts = [prompt for prompt in self.lost if prompt is not None]
        return bool(texts) or any(answer.told is not None for answer in self.answers.values())


@dataclass(frozen=True)
class Found:
    """cases: of all targets, in their order. extra: masks that belong to none. notes: what to tell."""

    cases: list[Answered]
    extra: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Mask:
    """A mask below the folder of predictions. former: an earlier run wrote it, and no entry counts it
    now."""

    relative: str
    claims: tuple[Claim, ...]
    told: tuple[Told, ...] = ()
    former: bool = False

    @property
    def prompts(self) -> tuple[str, ...] | None:
        return tuple(one.prompt for one in self.told) or None


def answers_of_file(pred: Path, gt: Path, label: int | None = None) -> Found:
    """One mask for one target, whatever they are called. label: the one that is meant, of several that
    the ledger knows of; None: all of them."""
    name = composed(pred.name)
    told = read_answers(pred.parent, {name: None}, ledgers=None).outputs.get(name, ())
    meant = [one for one in told if one.label == label] or told
    answers: dict[str | None, Answer] = {one.prompt: Answer(pred, one) for one in meant}
    target = Target(shown(key(gt.name)), (key(gt.name),), gt)
    return Found([Answered(target, answers or {None: Answer(pred)})])


def answers_in_folders(pred: Path, gt: Path, split: str) -> Found:
    """The masks below `pred` that answer the targets below `gt`.

    Raises UsageError: nothing matches, two files claim one place; NoReadableInput: there are no masks.
    """
    made = list_masks(pred, "--pred", leave_out=gt)
    targets, parts, notes = _targets(pred, gt, split, made)
    refuse_nothing(made, parts, "--pred")
    ledger = read_answers(pred, _usable(made, parts), ledgers=made.ledgers)
    masks = list(_masks(made, parts, ledger))
    cases = [Answered(target) for target in targets]
    current = [mask for mask in masks if not mask.former]
    links = _answer(cases, current, [target.names for target in targets], pred)
    _lose(cases, ledger)
    # Of runs that were killed before they entered them; where the ledger knows more, they are outdated
    former = [mask for mask in masks if mask.former]
    open_names = [() if case.answers or case.lost else case.target.names for case in cases]
    late = _answer(cases, former, open_names, pred)
    extra = [mask for number, mask in enumerate(current) if number not in links.found]
    outdated = [mask for number, mask in enumerate(former) if number not in late.found]
    if not links.found and not late.found:
        raise _nothing_matches(pred, gt, masks, targets, links)
    if prepared_folder(gt) is None:
        _refuse_images_among(cases, gt)
    shown_names = [shown(mask.claims[0][0]) for mask in current]
    notes = [*made.notes, *notes, *_said_of_parts(made, parts)]
    notes += said_of_near(links, shown_names, [target.names for target in targets], "predictions")
    notes += said_of_unsure(links, shown_names, [target.names for target in targets], "predictions")
    if outdated:
        names = listed([shown(mask.relative) for mask in outdated])
        notes.append(f"masks of earlier runs, by the ledger, which count no more: {names}")
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


def _masks(made: Listing, parts: Mapping[str, Sequence[str]], ledger: Ledger) -> Iterator[_Mask]:
    texts = _texts(ledger)
    for relative, owner in _with_owners(made.files, parts):
        output = composed(owner or relative)
        told = ledger.outputs.get(output, ())

        def claims(name: str, told: tuple[Told, ...] = told) -> Iterator[Claim]:
            return told_claims(name, told[0].input) if told else mask_claims(name)

        found = claims(key(relative)) if owner is None else part_claims(relative, owner, claims)
        named = tuple((case, None if slug is None else texts.get(slug, slug)) for case, slug in found)
        yield _Mask(relative, named, told, former=not told and output in ledger.former)


def _with_owners(
    files: Iterable[str], parts: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str | None]]:
    for relative in files:
        yield relative, None
    for owner, inside in parts.items():
        for relative in inside:
            yield relative, owner


def _texts(ledger: Ledger) -> dict[str, str]:
    """What prompts are called in file names -> the prompts that the ledger knows."""
    prompts = {one.prompt for told in ledger.outputs.values() for one in told}
    slugs = [(prompt_slug(prompt), prompt) for prompt in prompts]
    counts = Counter(slug for slug, _ in slugs)
    return {slug: prompt for slug, prompt in slugs if counts[slug] == 1}


def _answer(
    cases: Sequence[Answered], masks: Sequence[_Mask], names: Sequence[Sequence[str]], pred: Path
) -> Links:
    """Adds the masks to the cases that they answer. names: of each case."""
    links = link([mask.claims for mask in masks], names, lambda number: masks[number].prompts)
    for one, other, case in links.rivals:
        raise UsageError(
            f"two predictions for {cases[case].target.id!r}: {pred / masks[one].relative}"
            f" and {pred / masks[other].relative}",
            hint="keep one of the two below --pred, or give them names that match different targets",
        )
    for number, (case, slug) in links.found.items():
        mask = masks[number]
        path = pred / mask.relative
        for told in mask.told:
            cases[case].answers[told.prompt] = Answer(path, told)
        if not mask.told:
            cases[case].answers[slug] = Answer(path)
    return links


def _lose(cases: Sequence[Answered], ledger: Ledger) -> None:
    """Adds to the cases the prompts that were asked of them and got no answer."""
    by_name = index([case.target.names for case in cases])
    frames: dict[str, list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        if case.target.of is not None:
            frames[case.target.of].append(number)
    bare: dict[str, set[int]] = defaultdict(set)
    if ledger.lost:
        for name, number in by_name.items():
            for _, stem in endings(name):
                bare[stem].add(number)
    for lost in ledger.lost:
        for number in _meant(lost.claims, by_name, frames, bare):
            case = cases[number]
            if lost.prompt not in case.answers and not (lost.prompt is None and case.answers):
                case.lost.setdefault(lost.prompt, lost.reason)


def _meant(
    claims: Sequence[Claim],
    by_name: Mapping[str, int],
    frames: Mapping[str, Sequence[int]],
    bare: Mapping[str, set[int]],
) -> Sequence[int]:
    """The targets of an input without a mask: nothing is scored by it, so that a resembling name will
    do, where there is only one."""
    for case, _ in claims:
        if case in by_name:
            return [by_name[case]]
        if case in frames:
            return frames[case]
    for case, _ in claims:
        for _, stem in endings(case):
            if len(bare.get(stem, ())) == 1:
                return list(bare[stem])
    return []


def _nothing_matches(
    pred: Path, gt: Path, masks: Sequence[_Mask], targets: Sequence[Target], links: Links
) -> UsageError:
    names = [shown(mask.claims[0][0]) for mask in masks]
    current = [name for name, mask in zip(names, masks, strict=True) if not mask.former]
    unsure = said_of_unsure(links, current, [target.names for target in targets], "predictions")
    example = f"for example {names[0]!r} and {shown(targets[0].names[0])!r}"
    return UsageError(
        f"no prediction below {pred} has the relative path and stem of a target below {gt}: "
        + "; ".join([example, *unsure]),
        hint="give the predictions the names of the targets (a/case1.png for a/case1.png)",
    )


def _refuse_images_among(cases: Sequence[Answered], gt: Path) -> None:
    """Raises UsageError where each target with a prediction, case1, has beside it one without,
    case1_mask: then images and masks lie in one folder, and the prediction was matched with the
    image."""
    answered = {case.target.names[0].casefold(): case for case in cases if case.answers}
    twins: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for case in cases:
        if not case.answers:
            for ending, stem in endings(case.target.names[0]):
                if ending and stem in answered:
                    twins[ending].append((answered[stem].target.id, case.target.id))
    for ending, found in twins.items():
        if len(found) >= len(answered):
            image, mask = found[0]
            raise UsageError(
                f"below {gt} lie both {image!r} and {mask!r}, {len(found)} such pairs in all:"
                " images and masks, it seems",
                hint=f"--gt: a folder that holds the masks alone (those that end in {ending})",
            )


def _said_of_parts(made: Listing, parts: Mapping[str, object]) -> list[str]:
    unused = [shown(owner) for owner in made.parts if owner not in parts]
    if not unused:
        return []
    return [f"predictions in a file a frame, passed over (no target has one): {listed(unused)}"]
