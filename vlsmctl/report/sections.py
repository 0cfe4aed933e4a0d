"""What the page says of one evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vlsmctl.console import counted
from vlsmctl.evaluation import Row
from vlsmctl.files import shown
from vlsmctl.report import tables
from vlsmctl.report.cases import CaseTable, case_table, note_of
from vlsmctl.report.pictures import LARGEST, MOST_BYTES, Drawn, chosen, draw
from vlsmctl.report.plots import dice_by_size, dice_histogram, distance_curve
from vlsmctl.report.provenance import Fact, command_of, paths_of, scored_facts
from vlsmctl.report.reading import Evaluation
from vlsmctl.report.values import (
    amount,
    entries,
    last_part,
    mapping,
    number,
    share,
    whole,
    without_folders,
    words,
)

MOST_KINDS = 5  # of cautions that are told above all
MOST_NAMED = 200  # failed cases, cautions and extra predictions that are named
_HEADINGS = {"worst": "Lowest Dice", "median": "Around the median", "best": "Highest Dice"}


@dataclass(frozen=True)
class Plot:
    """title, caption: above and below it; description: what stands for it where it is not seen."""

    title: str
    svg: Markup
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A case to look at. drawn: None where it cannot be, and then `missing` says why."""

    id: str
    prompt: str | None
    figures: str
    outcome: str
    drawn: Drawn | None
    missing: str
    description: str


@dataclass(frozen=True)
class Named:
    """Cases with a reason. more: how many are not named here."""

    lines: tuple[tuple[str, str, str], ...]
    more: int


@dataclass(frozen=True)
class Section:
    """An evaluation on the page. key: what ids of its elements begin with. resampled: what the intervals
    rest on. command: what was typed to make it."""

    key: str
    name: str
    title: str
    sentence: str
    notices: tuple[str, ...]
    missing: tuple[str, ...]
    tiles: tuple[tables.Tile, ...]
    resampled: str
    counts: tuple[tables.Count, ...]
    scores: tuple[tables.ScoreLine, ...]
    paper: tables.PaperRow | None
    plots: tuple[Plot, ...]
    groups: tuple[tables.GroupTable, ...]
    sheet: tables.Sheet | None
    pictures: tuple[tuple[str, tuple[Picture, ...]], ...]
    cases: CaseTable | None
    failed: Named
    cautions: Named
    extra: Named
    rules: tuple[tuple[str, str], ...]
    about: tuple[Fact, ...]
    command: str


def section(evaluation: Evaluation, key: str, *, pictures: int, sections: int) -> Section:
    """What is said of an evaluation. pictures: of the worst, median and best cases, each; sections: how
    many there are on the page, which share its room for pictures."""
    summary, rows = evaluation.summary, evaluation.rows or ()
    return Section(
        key=key,
        name=evaluation.name,
        title=title_of(evaluation),
        sentence=sentence_of(evaluation),
        notices=_notices(summary),
        missing=evaluation.missing,
        tiles=tables.tiles(summary),
        resampled=tables.resampled(summary),
        counts=tables.counts(summary),
        scores=tables.score_lines(summary),
        paper=tables.paper_row(summary),
        plots=_plots([row for row in rows if row.scores], summary, key),
        groups=tables.group_tables(summary, rows),
        sheet=tables.sheet(summary),
        pictures=_pictures(rows, pictures, sections),
        cases=case_table(rows, paths_of(summary)) if rows else None,
        failed=_failed(evaluation),
        cautions=_cautions(evaluation),
        extra=_extra(summary),
        rules=tables.rules(summary),
        about=scored_facts(summary),
        command=command_of(summary),
    )


def title_of(evaluation: Evaluation) -> str:
    about = mapping(evaluation.summary, "about")
    data, split, prompts = (words(about, key) for key in ("data", "split", "prompts"))
    if not data or not split:
        masks = [last_part(words(about, key)) for key in ("predictions", "targets")]
        return f"{masks[0]} against {masks[1]}" if all(masks) else evaluation.name
    said = [f"{data} {split}"]
    said += [f"prompts {prompts}"] * bool(prompts)
    said += ["the paper’s protocol"] * (_protocol(evaluation.summary) == "paper")
    asked = words(about, "presence_asked")
    said += [f"presence cut {asked}"] * bool(asked)
    model = words(about, "model")
    return ", ".join(said) + f" ({model})" * bool(model and not words(about, "run"))


def sentence_of(evaluation: Evaluation) -> str:
    """The result in one sentence."""
    summary = evaluation.summary
    dice, n = mapping(summary, "metrics", "dice"), whole(summary, "n")
    if number(dice, "mean") is None or n is None:
        return "No case has a score." if summary else "No means: the summary cannot be read."
    low = entries(dice, "interval")
    spread = f" ({tables.interval(dice)})" if low and low[0] is not None else ""
    about = mapping(summary, "about")
    data, split = words(about, "data"), words(about, "split")
    pictures = len({(row.pair.data_set, row.pair.id) for row in evaluation.rows or () if row.scores})
    several = 0 < pictures < n
    of = f"{n:,} answers to {counted(pictures, 'picture')}" if several else counted(n, "case")
    said = [
        f"{whole(summary, 'n_missed') or 0:,} missed",
        counted(whole(summary, "n_false_alarm") or 0, "false alarm"),
    ]
    failed = whole(summary, "n_failed") or 0
    said += [f"{failed:,} failed"] * bool(failed)
    return (
        f"Dice {share(number(dice, 'mean'))}{spread} on {of}{f' of {data} {split}' if data else ''}; "
        f"{', '.join(said)}."
    )


def _protocol(summary: Mapping[str, Any]) -> str:
    return words(summary, "protocol") or words(mapping(summary, "about"), "protocol")


def _notices(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must know before taking a number from this page."""
    about, said = mapping(summary, "about"), list[str]()
    seen, split = whole(about, "trained_pictures"), words(about, "split")
    if seen:
        said.append(
            f"{counted(seen, 'picture')} of this evaluation had a part in training or in choosing the best "
            "epoch, so these scores flatter the model."
        )
    elif "trained_pictures" in about and seen is None:
        said.append(
            "Whether the model was trained on some of these pictures could not be checked: its training "
            "data are not there any more, or have changed."
        )
    data, trained = words(about, "data"), words(about, "trained_on")
    if data and trained and data != trained:
        said.append(f"The model was trained on {trained} and is scored on {data}.")
    elif (hash_ := words(about, "manifest_sha256")) and hash_ != words(about, "trained_manifest_sha256"):
        said.append(f"The data set {data} {split} has changed since the model was trained.")
    if about.get("prompts_from_masks") is True:
        said.append(
            "These prompts hold words taken from the true mask (count, size, place, shape or colour), as "
            "in the published protocol. Prompts p1 name the class alone."
        )
    if summary.get("mixed_units") is True:
        said.append("Some cases are in mm and some in px; lengths and sizes of the two are never averaged.")
    notes = [str(note) for note in entries(about, "notes")]
    if (without := whole(summary, "n_without_prediction")) and not notes:
        said.append(f"{counted(without, 'case')} without a prediction file: as if nothing was predicted.")
    if failed := whole(summary, "n_failed"):
        said.append(
            f"{counted(failed, 'case')} could not be scored and {_is(failed)} in no mean; see below."
        )
    if extra := len(entries(summary, "extra_predictions")):
        said.append(f"{counted(extra, 'prediction')} {_belong(extra)} to no target; see below.")
    for key in (not_asked := mapping(summary, "not_asked")):
        pictures = counted(whole(not_asked, key) or 0, "picture")
        said.append(f"{pictures} without a prompt {key}, and not scored with it.")
    n, targets_empty = whole(summary, "n"), ("n_both_empty", "n_false_alarm")
    if n and n == sum(whole(summary, key) or 0 for key in targets_empty):
        said.append("No true mask marks anything at all: are these the masks, and is the label right?")
    known = paths_of(summary)
    for kind in entries(summary, "caution_kinds")[:MOST_KINDS]:
        text = without_folders(words(kind, "text"), known)
        said.append(
            _as_sentence(f"{counted(whole(kind, 'n') or 0, 'case')}, such as {words(kind, 'id')}: {text}")
        )
    return (*said, *(_as_sentence(without_folders(note, known)) for note in notes))


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".removesuffix(".") + "."


def _is(number_of: int) -> str:
    return "is" if number_of == 1 else "are"


def _belong(number_of: int) -> str:
    return "belongs" if number_of == 1 else "belong"


def _plots(rows: Sequence[Row], summary: Mapping[str, Any], key: str) -> tuple[Plot, ...]:
    """rows: those that have scores."""
    if len(rows) < 2:
        return ()
    mean = number(mapping(summary, "metrics", "dice"), "mean")
    outcomes = Counter(row.outcome for row in rows)
    said = ", ".join(f"{number_of} {name.replace('_', ' ')}" for name, number_of in outcomes.items())
    dice = sorted(row.scores["dice"] for row in rows)
    quarters = f"a quarter below {dice[len(dice) // 4]:.3f}, a quarter above {dice[3 * len(dice) // 4]:.3f}"
    made = [
        Plot(
            "Dice of the single cases",
            Markup(dice_histogram(rows, mean, f"{key}a")),  # noqa: S704 (numbers and words of ours)
            f"Histogram of Dice over {len(rows)} cases ({said}): {quarters}.",
            f"{quarters[0].upper()}{quarters[1:]}.",
        ),
        Plot(
            "Dice and the size of the target",
            Markup(dice_by_size(rows, f"{key}b")),  # noqa: S704
            f"Scatter plot of Dice against the share of the image that the target covers ({said}).",
            "A point a case; missed targets lie at the bottom, cases without a target on the left.",
        ),
    ]
    for unit in sorted({str(row.unit) for row in rows}):
        members = [row for row in rows if row.unit == unit]
        median = sorted(row.scores["hd95"] for row in members)[len(members) // 2]
        made.append(
            Plot(
                f"HD95 of the single cases, {unit}",
                Markup(distance_curve(members, unit, f"{key}{unit}")),  # noqa: S704
                f"Share of cases whose HD95 is at most so long; the median is near {median:,.1f} {unit}.",
                "The share of cases at or below a distance; missed targets and false alarms count with the "
                "diagonal of their image.",
            )
        )
    return tuple(made)


def _pictures(
    rows: Sequence[Row], wanted: int, sections: int
) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    if wanted < 1:
        return ()
    budget = min(LARGEST, MOST_BYTES // (3 * wanted * sections))
    groups = chosen(rows, wanted)
    return tuple(
        (_HEADINGS[name], tuple(_picture(row, budget) for row in members))
        for name, members in groups.items()
        if members
    )


def _picture(row: Row, budget: int) -> Picture:
    drawn = draw(row, budget)
    dice, hd95 = share(row.scores["dice"]), amount(row.scores["hd95"], row.unit)
    outcome = "" if row.outcome == "both_present" else row.outcome.replace("_", " ")
    prompt = row.pair.prompt
    asked = "" if prompt is None else f", prompt “{prompt}”"
    return Picture(
        id=row.pair.id,
        prompt=prompt,
        figures=f"Dice {dice}, HD95 {hd95}",
        outcome=outcome,
        drawn=drawn if isinstance(drawn, Drawn) else None,
        missing=drawn if isinstance(drawn, str) else "",
        description=f"{row.pair.id}{asked}: outlines of the true and the predicted mask; Dice {dice}, "
        f"HD95 {hd95}{f', {outcome}' if outcome else ''}.",
    )


def _failed(evaluation: Evaluation) -> Named:
    rows = [row for row in evaluation.rows or () if not row.scores]
    return _named(evaluation, rows, "failed")


def _cautions(evaluation: Evaluation) -> Named:
    rows = [row for row in evaluation.rows or () if row.scores and row.note]
    return _named(evaluation, rows, "cautions")


def _named(evaluation: Evaluation, rows: Sequence[Row], key: str) -> Named:
    """The rows, or what summary.json has at a key where there are no rows."""
    summary, known = evaluation.summary, paths_of(evaluation.summary)
    if evaluation.rows is not None:
        lines = [(row.pair.id, row.pair.prompt or "", note_of(row, known)) for row in rows[:MOST_NAMED]]
        return Named(tuple(lines), max(0, len(rows) - MOST_NAMED))
    cases = entries(summary, key)
    lines = [
        (words(case, "id"), words(case, "prompt"), without_folders(words(case, "reason"), known))
        for case in cases[:MOST_NAMED]
    ]
    return Named(tuple(lines), max(0, len(cases) - MOST_NAMED))


def _extra(summary: Mapping[str, Any]) -> Named:
    names = [str(name) for name in entries(summary, "extra_predictions")]
    lines = ((last_part(shown(name)), "", "") for name in names[:MOST_NAMED])
    return Named(tuple(lines), max(0, len(names) - MOST_NAMED))
