"""The cases that several runs have scored, against the same truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, NoReturn

from vlsmctl.errors import UsageError
from vlsmctl.evaluation import Row, Scores
from vlsmctl.metrics import METRICS

_NAMED = 5  # cases named as examples
Case = tuple[str, str]  # data set ("" where it does not matter) and id
Rows = Mapping[Case, Mapping[str | None, Row]]  # by case and kind of prompt


@dataclass(frozen=True)
class Shared:
    """rows: for each run one a case, sorted by data set and id, the scores of its prompts averaged; data
    set, group, unit and truth of a case are equal in all. counts: of each run `n_cases`, `n_failed` (rows)
    and `only_here` (cases that another run lacks); of the rows that are averaged `n_scored`, `n_missed`,
    `n_false_alarm` and `n_both_empty`. left_out: cases that are in all, but without a score in
    common. Both name examples. notes: what a reader must know, in sentences."""

    rows: tuple[tuple[Row, ...], ...]
    counts: tuple[dict[str, Any], ...]
    left_out: dict[str, Any]
    notes: tuple[str, ...]


def shared_cases(named: Sequence[tuple[str, Scores]]) -> Shared:
    """What all have scored, case by case.

    A case is a data set and an id; the id alone, where a run names no data set and ids tell cases apart.
    Of several prompts of a case those count that every run has a score for.

    Raises: UsageError, see `vlsmctl.comparison.compare_scores`.
    """
    names = [name for name, _ in named]
    nameless = _without_data_set(named)
    runs = [_rows(name, scores, alone=bool(nameless)) for name, scores in named]
    everywhere = sorted(set.intersection(*(set(run) for run in runs)))
    asked = {case: _asked_by_all(case, runs) for case in everywhere}
    prompts = {
        case: [key for key in keys if all(run[case][key].scores for run in runs)]
        for case, keys in asked.items()
    }
    if not any(prompts.values()):
        _refuse_nothing_shared(names, runs, asked)
    averaged = [
        _averaged(names, [run[case] for run in runs], keys) for case, keys in prompts.items() if keys
    ]
    failed = [case for case in everywhere if asked[case] and not prompts[case]]
    unasked = [case for case in everywhere if not asked[case]]
    counts = [_counts(run, everywhere, prompts) for run in runs]
    return Shared(
        tuple(zip(*averaged, strict=True)),
        tuple(counts),
        {"failed": _listed(failed), "no_prompt_in_common": _listed(unasked)},
        (
            *_notes_on_matching(nameless),
            *_notes_on_cases(names, counts, failed, unasked),
            *_notes_on_prompts(names, runs, asked, prompts),
        ),
    )


def _without_data_set(named: Sequence[tuple[str, Scores]]) -> list[str]:
    """The runs that name no data set, where others do and ids tell cases apart all the same; else none."""
    found = [name for name, scores in named if all(row.pair.data_set is None for row in scores.rows)]
    cases = [{(row.pair.data_set, row.pair.id) for row in scores.rows} for _, scores in named]
    clear = all(len({name for _, name in one}) == len(one) for one in cases)
    return found if clear and len(found) < len(named) else []


def _rows(name: str, scores: Scores, *, alone: bool) -> Rows:
    """alone: whether the id alone is the case. Raises UsageError: a case with two rows, or a score that is
    no number."""
    found: dict[Case, dict[str | None, Row]] = {}
    for row in scores.rows:
        case = ("" if alone else row.pair.data_set or "", row.pair.id)
        prompts = found.setdefault(case, {})
        if row.pair.prompt_key in prompts:
            prompt = f", prompt {row.pair.prompt_key}" if row.pair.prompt_key else ""
            raise UsageError(f"{name} has two rows for the case {_said(case)}{prompt}; expected one")
        for metric in METRICS:
            if row.scores and not isfinite(row.scores[metric]):
                raise UsageError(
                    f"{name}: expected a number as {metric} of the case {_said(case)}, found "
                    f"{row.scores[metric]}",
                    hint="score again: vlsmctl eval",
                )
        prompts[row.pair.prompt_key] = row
    return found


def _asked_by_all(case: Case, runs: Sequence[Rows]) -> list[str | None]:
    """The prompts of a case that every run has a row for, in order."""
    common = set.intersection(*(set(run[case]) for run in runs))
    return sorted(common, key=lambda key: (key is not None, key or ""))


def _averaged(
    names: Sequence[str], runs: Sequence[Mapping[str | None, Row]], keys: Sequence[str | None]
) -> list[Row]:
    """One row of means for each run. runs: of a single case, by prompt. Raises UsageError."""
    for key in keys:
        _refuse_other_truth(names, [run[key] for run in runs])
    known = [row.pair.data_set for run in runs for row in run.values() if row.pair.data_set is not None]
    data_set, group = next(iter(known), None), _group(names, runs)
    made = []
    for run in runs:
        rows = [run[key] for key in keys]
        means = {name: sum(row.scores[name] for row in rows) / len(rows) for name in METRICS}
        pair = replace(rows[0].pair, data_set=data_set, group=group)
        made.append(replace(rows[0], pair=pair, scores=means))
    return made


def _group(names: Sequence[str], runs: Sequence[Mapping[str | None, Row]]) -> str | None:
    """The group of a case, where a run knows it. Raises UsageError where two know different ones."""
    known: dict[str, str] = {}
    for name, run in zip(names, runs, strict=True):
        for row in run.values():
            if row.pair.group is not None:
                known.setdefault(row.pair.group, f"{row.pair.group!r} in {name}")
    if len(known) > 1:
        case = next(iter(runs[0].values())).pair.id
        raise UsageError(
            f"the case {case!r} belongs to different patients or sequences: {', '.join(known.values())}",
            hint="score both with the same groups (vlsmctl eval --cases)",
        )
    return next(iter(known), None)


def _refuse_other_truth(names: Sequence[str], rows: Sequence[Row]) -> None:
    """Scores of different targets cannot be compared, even if the cases are called alike."""
    truths = [(row.target_foreground, row.elements, row.unit) for row in rows]
    for name, truth in zip(names, truths, strict=True):
        if truth != truths[0]:
            said = [
                f"{foreground} of {elements} elements, lengths in {unit}, in {whose}"
                for (foreground, elements, unit), whose in ((truths[0], names[0]), (truth, name))
            ]
            raise UsageError(
                f"the case {rows[0].pair.id!r} was scored against another truth: {said[0]}; {said[1]}",
                hint="score both against the same true masks: the same --data, or --gt and --label",
            )


def _refuse_nothing_shared(
    names: Sequence[str], runs: Sequence[Rows], asked: Mapping[Case, Sequence[str | None]]
) -> NoReturn:
    """asked: of the cases that are in all, the prompts that are."""
    if not asked:
        each = [
            f"{name} has {_said(min(run)) if run else 'none'}"
            for name, run in zip(names, runs, strict=True)
        ]
        raise UsageError(
            f"no case was scored in all of them, so there is nothing to compare: {', '.join(each)}",
            hint="score them on the same data: vlsmctl eval RUN --data DIR --split SPLIT",
        )
    failed = next((case for case, keys in asked.items() if keys), None)
    if failed is not None:
        raise UsageError(
            f"every case that is in all of them has failed in one, such as {_said(failed)}, so there is "
            "nothing to compare",
            hint="see the notes in scores.csv of each",
        )
    each = [f"{name} has {_kinds(run)}" for name, run in zip(names, runs, strict=True)]
    raise UsageError(
        f"no prompt was scored in all of them, so there is nothing to compare: {'; '.join(each)}",
        hint="score them with the same prompts: vlsmctl eval RUN --prompts p1",
    )


def _counts(
    run: Rows, everywhere: Sequence[Case], prompts: Mapping[Case, Sequence[str | None]]
) -> dict[str, Any]:
    """prompts: of each case, those whose rows are averaged."""
    outcomes = Counter(run[case][key].outcome for case, keys in prompts.items() for key in keys)
    return {
        "n_cases": len(run),
        "n_scored": outcomes.total(),
        **{f"n_{outcome}": outcomes[outcome] for outcome in ("missed", "false_alarm", "both_empty")},
        "n_failed": sum(not row.scores for prompts in run.values() for row in prompts.values()),
        "only_here": _listed(sorted(set(run) - set(everywhere))),
    }


def _notes_on_matching(nameless: Sequence[str]) -> list[str]:
    if not nameless:
        return []
    return [f"cases are matched by their ids alone, as no data set is named in {' and '.join(nameless)}"]


def _notes_on_cases(
    names: Sequence[str],
    counts: Sequence[Mapping[str, Any]],
    failed: Sequence[Case],
    unasked: Sequence[Case],
) -> list[str]:
    said = [
        f"{_cases(one['only_here']['n'])} of {name} not in all others, and left out: "
        f"{_examples(one['only_here'])}"
        for name, one in zip(names, counts, strict=True)
        if one["only_here"]["n"]
    ]
    if failed:
        said.append(
            f"{_cases(len(failed))} failed in at least one, and left out: {_examples(_listed(failed))}"
        )
    if unasked:
        examples = _examples(_listed(unasked))
        said.append(f"{_cases(len(unasked))} without a prompt in common, and left out: {examples}")
    return said


def _notes_on_prompts(
    names: Sequence[str],
    runs: Sequence[Rows],
    asked: Mapping[Case, Sequence[str | None]],
    prompts: Mapping[Case, Sequence[str | None]],
) -> list[str]:
    """Where kinds of prompts differ, and where they are called alike and ask something else."""
    kinds = [_kinds(run) for run in runs]
    used = {key for keys in prompts.values() for key in keys}
    said = []
    if len(set(kinds)) > 1:
        each = ", ".join(f"{name}: {kind}" for name, kind in zip(names, kinds, strict=True))
        said.append(f"the prompts differ ({each}); only what all have scored counts: {_keys(used)}")
    fewer = sum(0 < len(keys) < len(asked[case]) for case, keys in prompts.items())
    if fewer:
        said.append(f"{_cases(fewer)} counted without the prompts that failed in one")
    other = sum(
        any(len({run[case][key].pair.prompt for run in runs} - {None}) > 1 for key in keys)
        for case, keys in prompts.items()
    )
    if other:
        said.append(f"{_cases(other)} in which the words of the prompts differ")
    return said


def _kinds(run: Rows) -> str:
    return _keys({key for prompts in run.values() for key in prompts})


def _keys(keys: Iterable[str | None]) -> str:
    named = sorted(key for key in keys if key is not None)
    return ", ".join(named) if named else "one unnamed prompt"


def _listed(cases: Sequence[Case]) -> dict[str, Any]:
    """How many, and the first of them."""
    return {"n": len(cases), "first": [_said(case) for case in cases[:_NAMED]]}


def _said(case: Case) -> str:
    data_set, name = case
    return f"{name!r} of {data_set}" if data_set else repr(name)


def _examples(listed: Mapping[str, Any]) -> str:
    return ", ".join(listed["first"]) + (", ..." if listed["n"] > len(listed["first"]) else "")


def _cases(number: int) -> str:
    return f"{number:,} case{'s' * (number != 1)}"
