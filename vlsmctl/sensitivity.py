"""Does a model read? Its masks for prompts that are right, put in other words, empty, or wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vlsmctl.datasets.altered import LABELS, RIGHT, SetFacts, questions, set_facts
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.errors import UnreadableFile
from vlsmctl.files import shown
from vlsmctl.intervals import RULE, bootstrap_interval, known_ends, units
from vlsmctl.mask_files import read_pair
from vlsmctl.metrics import Comparison, Mask, dice
from vlsmctl.predictor import Predictor, usual_cut
from vlsmctl.split_masks import Question, RecordMask, Tick, predict_records

QUESTION = "Does this model read?"
LIMIT = 200  # pictures
MARGIN = 0.05  # of Dice: a smaller change is none
FLOOR = 0.1  # mean Dice of the right prompt below which nothing can fall by much
SAME = 0.8  # mean Dice between masks below which they are others
FEWEST = 10  # patients, sequences or pictures: with fewer, an interval says too little
CONTROL = "paraphrase"  # what the fall with a wrong prompt must exceed

RULES = {
    "pictures": "those in which a target is marked and that have a prompt; where there are more than the "
    "limit, some drawn by their ids and the seed",
    "right prompt": "the prompt of the record that names both place and size, or else one of them, or else "
    "the last one; its words for count, size, place, shape and colour are taken from the true mask",
    "other words": "synonyms for these words within another sentence; what names the class stays",
    "another class": "a class of the same set that is not in the picture; where all are, another of the "
    "set; where the set has only one, a target that no such picture shows; what describes the class is "
    "left out",
    "wrong place, wrong size": "the farthest from what the prompt and the true mask say; asked only where "
    "the prompt names it",
    "presence": "nothing is suppressed by the presence score: the sheet is about pixels",
    "change": "mean of the differences in Dice to the right prompt, picture by picture",
    "same mask": "mean Dice between the mask of a prompt and that of the right prompt: 1 where the words "
    "changed nothing",
    "interval": f"{RULE}; a case is a picture",
    "beyond other words": "mean of the differences in Dice, and in same mask, between a wrong prompt and "
    "the same in other words, picture by picture: what comes of the meaning, not of any change of words",
    "verdict": f"reads: Dice falls by more than {MARGIN:g}, compared with the right prompt and with the "
    "same in other words, and both intervals exclude 0; does not read: "
    f"the whole interval lies within +-{MARGIN:g} and same mask is at least {SAME:g}; reacts, but not as "
    f"meant: Dice rises by more than {MARGIN:g} and the interval excludes 0, or Dice does not change but "
    f"same mask is below {SAME:g}; and same mask is below that of other words by more than {MARGIN:g}, and "
    "the interval excludes 0; cannot be told, other words do as much: Dice falls or the mask is another, "
    f"but not beyond other words; cannot be told: all else, and with fewer than {FEWEST} patients, "
    "sequences or pictures to resample, and where the mean Dice of the right prompt is below "
    f"{FLOOR:g}, so that it cannot fall by much; for other words and for an empty prompt the same goes by "
    "other names, without the comparison with other words",
}
_NOUNS = {"other-class": "class", "wrong-place": "place", "wrong-size": "size"}
_VERDICTS = {
    "paraphrase": {"falls": "not robust", "same": "robust", "reacts": "not robust"},
    "empty": {"falls": "needs words", "same": "needs no words", "reacts": "differs without words"},
    **{
        key: {
            "falls": f"reads the {noun}",
            "same": f"does not read the {noun}",
            "reacts": "reacts, but not as meant",
        }
        for key, noun in _NOUNS.items()
    },
}
_UNKNOWN = "cannot be told"
_AS_MUCH = "cannot be told: other words do as much"
_WHY = "other words for the same change its masks as much"
_IS = {word: f"is {word}" for word in ("robust", "not robust")}
_WITH = {
    "class-alone": "the class alone",
    "paraphrase": "the same in other words",
    "empty": "an empty prompt",
    "other-class": "another class",
    "wrong-place": "a wrong place",
    "wrong-size": "a wrong size",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Sensitivity:
    """The sheet. document: ready for JSON, with question, answer, sentences, rows, rules and counts; see
    `measure`. failed: id and reason of each picture that is in no mean."""

    document: dict[str, Any]
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Picture:
    """What came of one picture: by key, its prompt, the Dice of the mask with the true one and with that of
    the right prompt; or the reason why there is nothing."""

    id: str
    unit: str
    prompts: dict[str, str] = field(default_factory=dict)
    dice: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def measure(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    seed: int,
    folder: Path,
    *,
    limit: int = LIMIT,
    batch_size: int = 16,
    tick: Tick = lambda records, title: records,
) -> Sensitivity:
    """Asks each picture all questions of `datasets.altered`, and compares the masks.

    records: of the manifest; those without a target are left out, and of more than `limit` some are drawn.
    folder: masks go to KEY/ID.png below it. tick: wraps the records as they are asked.

    The document's rows, one a question: key, label, example (the prompt, of a picture that has most of the
    questions), n, and dice, difference, agreement, beyond and agreement_beyond (of wrong prompts: their
    differences to other words), each {mean, interval} or None ([None, None]: unknown), and verdict (None:
    none is due). Pictures that cannot be read are counted, named, and in no mean.
    """
    with_target = [record for record in records if record.foreground > 0]
    asked = _asked(with_target, set_facts(manifest), seed, limit)
    found = predict_records(
        predictor,
        manifest,
        tick([record for record in with_target if record.id in asked], "prompt sensitivity"),
        lambda record: asked[record.id],
        folder,
        replace(usual_cut(predictor), presence=0.0),
        batch_size=batch_size,
    )
    pictures = [
        _compared(list(answers), manifest) for _, answers in groupby(found, key=lambda each: each.record.id)
    ]
    failed = tuple((each.id, shown(each.error)) for each in pictures if each.error is not None)
    done = [each for each in pictures if each.error is None]
    return Sensitivity({**_document(done), **_counts(done, failed, len(with_target), seed, limit)}, failed)


def _asked(
    records: Sequence[Record], facts: SetFacts, seed: int, limit: int
) -> dict[str, tuple[Question, ...]]:
    """The questions of each record that is asked, by its id; which these are hangs on ids and seed."""
    chosen: dict[str, tuple[Question, ...]] = {}
    for record in sorted(records, key=lambda each: hashlib.sha256(f"{seed}\0{each.id}".encode()).digest()):
        if len(chosen) == limit:
            break
        altered = questions(record, facts, seed)
        if altered:
            chosen[record.id] = tuple(Question(each.key, each.prompt) for each in altered)
    return chosen


def _compared(answers: Sequence[RecordMask], manifest: Manifest) -> _Picture:
    """One picture's masks beside the true one, and beside that of the right prompt, which comes first."""
    record = answers[0].record
    picture = _Picture(
        record.id, f"group {record.group}" if record.group is not None else f"case {record.id}"
    )
    right: Mask | None = None
    for answer in answers:
        key = answer.question.key
        if answer.path is None:
            return replace(picture, error=answer.error or "no mask")
        try:
            pair = read_pair(answer.path, manifest.folder / record.mask)
        except UnreadableFile as error:
            return replace(picture, error=str(error))
        right = pair.prediction if right is None else right
        picture.prompts[key] = answer.question.prompt
        picture.dice[key] = _overlap(pair.prediction, pair.target)
        picture.agreement[key] = _overlap(pair.prediction, right)
    return picture


def _overlap(one: Mask, other: Mask) -> float:
    """Dice, without the surface distances that `metrics.compare` would look up."""
    both, first, second = (int(np.count_nonzero(mask)) for mask in (one & other, one, other))
    return dice(Comparison(both, first, second, None, 0.0))


def _counts(
    done: Sequence[_Picture], failed: Sequence[tuple[str, str]], with_target: int, seed: int, limit: int
) -> dict[str, Any]:
    drawn = {each.unit for each in done}
    grouped = any(unit.startswith("group ") for unit in drawn)
    return {
        "n_pictures": len(done),
        "n_groups": len(drawn),
        "resampled_units": units(len(drawn), grouped=grouped, alone="picture"),
        "n_with_target": with_target,
        "n_failed": len(failed),
        "failed": [{"id": name, "reason": reason} for name, reason in failed],
        "limit": limit,
        "seed": seed,
    }


def _document(pictures: Sequence[_Picture]) -> dict[str, Any]:
    rows = {row["key"]: row for row in _rows(pictures)}
    return {
        "question": QUESTION,
        "answer": _answer(rows),
        "sentences": list(_sentences(rows)),
        "rows": list(rows.values()),
        "rules": dict(RULES),
    }


def _rows(pictures: Sequence[_Picture]) -> Iterator[Row]:
    richest = max(pictures, key=lambda each: len(each.prompts), default=None)  # of equal ones the first
    for key, label in LABELS.items():
        asked = [each for each in pictures if key in each.dice]
        if not asked or richest is None:
            continue
        altered = asked if key != RIGHT else []
        controlled = [each for each in asked if key in _NOUNS and CONTROL in each.dice]
        row: Row = {
            "key": key,
            "label": label,
            "example": richest.prompts.get(key, asked[0].prompts[key]),
            "n": len(asked),
            "dice": _mean([each.dice[key] for each in asked], asked),
            "difference": _mean([each.dice[key] - each.dice[RIGHT] for each in altered], altered),
            "agreement": _mean([each.agreement[key] for each in altered], altered),
            "beyond": _mean([each.dice[key] - each.dice[CONTROL] for each in controlled], controlled),
            "agreement_beyond": _mean(
                [each.agreement[key] - each.agreement[CONTROL] for each in controlled], controlled
            ),
        }
        yield {**row, "verdict": _verdict(key, row, asked) if altered else None}


def _mean(values: Sequence[float], pictures: Sequence[_Picture]) -> dict[str, Any] | None:
    """values: one a picture."""
    if not values:
        return None
    ends = bootstrap_interval(values, [each.unit for each in pictures])
    return {"mean": float(np.mean(values)), "interval": known_ends(ends)}


def _verdict(key: str, row: Row, pictures: Sequence[_Picture]) -> str | None:
    """By the rule in RULES; None for a kind of prompt that is there for reference only."""
    if key not in _VERDICTS:
        return None
    effect = _effect(row)
    right = float(np.mean([each.dice[RIGHT] for each in pictures]))
    too_low = right < FLOOR and effect != "reacts"
    too_few = len({each.unit for each in pictures}) < FEWEST
    if too_low or too_few:
        return _UNKNOWN
    if key in _NOUNS and effect in ("falls", "reacts") and not _beyond_other_words(row, effect):
        return _AS_MUCH
    return _VERDICTS[key].get(effect, _UNKNOWN)


def _beyond_other_words(row: Row, effect: str) -> bool:
    """Whether a wrong prompt lowers Dice, or changes the mask, by more than any change of words does."""
    found = row["beyond" if effect == "falls" else "agreement_beyond"]
    return found is not None and _falls(found)


def _falls(difference: Mapping[str, Any]) -> bool:
    high = difference["interval"][1]
    return difference["mean"] < -MARGIN and high is not None and high < 0


def _effect(row: Row) -> str:
    """falls, same, reacts (otherwise than by falling) or unknown."""
    mean, (low, high) = row["difference"]["mean"], row["difference"]["interval"]
    if low is None or high is None:
        return "unknown"
    if _falls(row["difference"]):
        return "falls"
    if mean > MARGIN and low > 0:
        return "reacts"
    if low >= -MARGIN and high <= MARGIN:
        return "same" if row["agreement"]["mean"] >= SAME else "reacts"
    return "unknown"


def _answer(rows: Mapping[str, Row]) -> str:
    """The headline."""
    if not rows:
        return "It cannot be told: no picture with a target and a prompt could be compared."
    of: dict[str, list[str]] = {each: [] for each in ("falls", "same", "reacts", "as much", "unknown")}
    for key, noun in _NOUNS.items():
        if key in rows:
            of[_known(rows[key])].append(noun)
    if not any(of[effect] for effect in ("falls", "same", "reacts")):
        why = f": {_WHY}" if of["as much"] else f" from {_pictures(rows[RIGHT]['n'])}"
        return f"It cannot be told{why}."
    said = [
        f"it reads {_all(of['falls'])}" if of["falls"] else "",
        f"it reacts to {_all(of['reacts'])}, but not as meant" if of["reacts"] else "",
        f"it does not read {_all(of['same'])}" if of["same"] else "",
        f"of {_all(of['unknown'])} it cannot be told" if of["unknown"] else "",
        f"of {_all(of['as much'])} it cannot be told, as {_WHY}" if of["as much"] else "",
    ]
    untold = of["unknown"] or of["as much"]
    word = "In part" if of["same"] or of["reacts"] or untold else "Yes"
    none = "Not as far as can be told" if untold else "No"
    return f"{word if of['falls'] else none}: {'; '.join(filter(None, said))}.{_remarks(rows, of)}"


def _remarks(rows: Mapping[str, Row], of: Mapping[str, Sequence[str]]) -> str:
    """What keeps the headline honest."""
    said = ""
    if of["as much"]:
        return said
    if "empty" in rows and not of["falls"] and _known(rows["empty"]) == "falls":
        said += " It needs some words, but not the right ones."
    if CONTROL in rows and _known(rows[CONTROL]) in ("falls", "reacts"):
        said += " But other words for the same change its masks too."
    return said


def _known(row: Row) -> str:
    """The effect of a row, where its verdict says that it is known, or why it is not."""
    return {_UNKNOWN: "unknown", _AS_MUCH: "as much"}.get(row["verdict"]) or _effect(row)


def _sentences(rows: Mapping[str, Row]) -> Iterator[str]:
    if not rows:
        return
    right = rows[RIGHT]["dice"]
    yield f"With the right prompt the mean Dice is {right['mean']:.3f}{_interval(right['interval'])}."
    if right["mean"] < FLOOR:
        yield "That is too low to fall by much, so that little can be told."
    for key in _WITH:
        if key in rows:
            yield _sentence(key, rows[key])
        elif key in ("wrong-place", "wrong-size"):
            yield f"The prompts name no {_NOUNS[key]}, so that none is made wrong."


def _sentence(key: str, row: Row) -> str:
    told = f"With {_WITH[key]} Dice {_change(row['difference'])}"
    overlap = f"its masks overlap those of the right prompt by {row['agreement']['mean']:.3f}"
    if row["verdict"] is None:
        return f"{told}; {overlap}."
    if row["beyond"] is not None:
        beyond = row["beyond"]
        told += f", compared with other words by {_signed(beyond['mean'])}"
        told += _interval(beyond["interval"], signed=True)
    if row["verdict"] == _AS_MUCH:
        return f"{told}; {overlap}: what that means cannot be told, as {_WHY}."
    if row["verdict"] == _UNKNOWN:
        return f"{told}; {overlap}: what that means cannot be told from {_pictures(row['n'])}."
    return f"{told}; {overlap}: it {_IS.get(row['verdict'], row['verdict'])}."


def _change(difference: Mapping[str, Any]) -> str:
    mean, (low, high) = difference["mean"], difference["interval"]
    if mean <= -MARGIN:
        ends = [None, None] if low is None else [-high, -low]
        return f"falls by {-mean:.3f}{_interval(ends)}"
    word = "rises" if mean >= MARGIN else "changes"
    return f"{word} by {_signed(mean)}{_interval([low, high], signed=True)}"


def _interval(ends: Sequence[float | None], *, signed: bool = False) -> str:
    low, high = ends
    if low is None or high is None:
        return ""
    written = _signed if signed else "{:.3f}".format
    return f" ({written(low)} to {written(high)})"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # + 0.0: no "-0.000"


def _pictures(number: int) -> str:
    return f"{number:,} picture{'s' * (number != 1)}"


def _all(nouns: Sequence[str]) -> str:
    named = [f"the {noun}" for noun in nouns]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
