"""Each pair of runs: the mean difference of each metric with its interval, and whether it may be chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.comparison.cases import Shared, shared_cases
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import Row, Scores, Tolerance
from vlsmctl.intervals import RULE, known_ends, units
from vlsmctl.metrics import METRICS
from vlsmctl.paired import Difference, holm, paired_difference
from vlsmctl.summary import RULES as SCORE_RULES
from vlsmctl.summary import has_unit, metric_key, resampled, summaries

LEVEL = 0.05
PRIMARY = "dice"  # the one metric that tells which run is better; the others say in what else
COMPARED = tuple(name for name in METRICS if name != "volume_error")  # a bias is neither better nor worse
RULES = {
    "difference": "second minus first, on the same cases; of HD95 and the absolute volume error, lower is "
    "better, of all else higher",
    "cases": "cases that every run has scored, by data set and id; a case that one of them lacks, or that "
    "failed in one, is in no difference and in no mean here",
    "prompts": "the scores of a case's prompts are averaged first, over those that every run has scored",
    "truth": "in every run a shared case has the same size, unit and number of true foreground elements",
    "interval": f"of the mean, and of the mean difference: {RULE}",
    "p": "two-sided Wilcoxon signed-rank test of the differences, averaged within each patient or sequence "
    "first where these are known; zeros ranked, then left out (Pratt); exact up to 50 differences other "
    "than zero, else the normal approximation with corrections for ties, zeros and continuity; 1 where all "
    "are zero",
    "primary": "Dice is the primary metric: which of two runs is better is asked of it",
    "p_holm": "p adjusted by Holm's method for all pairs of runs, for each metric apart: with the "
    "primary metric alone the chance of any false difference is 5 % at most; the further metrics are not "
    "corrected for being several",
    "better": f"the run that the signed ranks and the mean difference both favour, where p_holm is below "
    f"{LEVEL:g}; null: the scores do not tell which is better",
    **{name: SCORE_RULES[name] for name in ("empty", "no prediction", "unit", "HD95", "NSD")},
}


@dataclass(frozen=True)
class Compared:
    """document: what was found, ready for JSON. rows: for each run, named in that order, one a shared case,
    its prompts averaged; the cases are the same and in the same order."""

    document: dict[str, Any]
    names: tuple[str, ...]
    rows: tuple[tuple[Row, ...], ...]


def compare_scores(
    named: Sequence[tuple[str, Scores]], about: Sequence[Mapping[str, Any]] | None = None
) -> Compared:
    """Every pair of runs on the cases that all have scored; see `RULES`.

    named: two or more, with names that differ (see `short_names`). about: what each is (`about` of its
    summary), if that is to be kept.

    The document has runs (name, about, counts, and `metrics` as in summary.json, of the shared cases), n,
    tested ("group" or "case": what a pair of the tests is, and what intervals resample), n_tested,
    tested_units (both in words), primary (the metric that tells which run is better), differences (one a
    pair of runs and metric), notes (what a reader must know, in sentences) and rules.

    Raises: UsageError where nothing is shared, where a case appears twice, or where a shared case was
    scored against another truth, in another unit, by another tolerance or in another group; ValueError for
    fewer than two, or equal names.
    """
    names = [name for name, _ in named]
    if len(named) < 2 or len(set(names)) != len(names):
        raise ValueError(f"expected two or more names that differ, found {names}")
    shared = shared_cases(named)
    tolerance = _equal_tolerance(named, shared)
    rows = shared.rows[0]
    grouped, n_tested = any(row.pair.group is not None for row in rows), len(set(resampled(rows)))
    runs = [
        {
            "name": name,
            "about": dict(about[number]) if about else {},
            **shared.counts[number],
            "metrics": summaries(shared.rows[number], tolerance, "default"),
        }
        for number, name in enumerate(names)
    ]
    document = {
        "runs": runs,
        "n": len(rows),
        "tested": "group" if grouped else "case",
        "n_tested": n_tested,
        "tested_units": units(n_tested, grouped=grouped),
        "primary": PRIMARY,
        "units": dict(sorted(Counter(str(row.unit) for row in rows).items())),
        "tolerance": {"px": tolerance.px, "mm": tolerance.mm},
        "left_out": shared.left_out,
        "differences": _differences(names, shared, runs[0]["metrics"]),
        "notes": [
            *shared.notes,
            *_otherwise(about or ()),
            *_too_few(len(names), n_tested, grouped=grouped),
        ],
        "rules": RULES,
    }
    return Compared(document, tuple(names), shared.rows)


def _equal_tolerance(named: Sequence[tuple[str, Scores]], shared: Shared) -> Tolerance:
    """That of NSD, in the units that occur. Raises UsageError where they differ."""
    first, own = named[0][0], named[0][1].tolerance
    for unit in sorted({str(row.unit) for row in shared.rows[0]}):
        for name, scores in named[1:]:
            if scores.tolerance.of(unit) != own.of(unit):
                raise UsageError(
                    f"the surface Dice has a tolerance of {own.of(unit):g} {unit} in {first}, of "
                    f"{scores.tolerance.of(unit):g} {unit} in {name}",
                    hint=f"score one of them again: vlsmctl eval ... --tolerance {own.of(unit):g}{unit}",
                )
    return own


def _differences(
    names: Sequence[str], shared: Shared, metrics: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One for each pair of runs and each metric (by its key in summary.json), in that order."""
    pairs = list(combinations(range(len(names)), 2))
    found: dict[tuple[tuple[int, int], str], dict[str, Any]] = {}
    for name in COMPARED:
        for key, chosen in _by_unit(name, shared.rows[0]).items():
            groups = resampled([shared.rows[0][at] for at in chosen])
            values = [_values(rows, name, chosen) for rows in shared.rows]
            differences = [paired_difference(values[a], values[b], groups) for a, b in pairs]
            adjusted = holm([difference.test.p for difference in differences])
            label = {"metric": key, **{part: metrics[key][part] for part in ("label", "unit")}}
            for (a, b), difference, p_holm in zip(pairs, differences, adjusted, strict=True):
                found[(a, b), key] = {
                    **label,
                    "first": names[a],
                    "second": names[b],
                    **_told(difference, p_holm, (names[a], names[b]), name),
                }
    return [found[key] for key in sorted(found, key=lambda one: one[0])]  # stable: metrics keep their order


def _by_unit(name: str, rows: Sequence[Row]) -> dict[str, list[int]]:
    """Which cases are averaged together, by the metric's key in summary.json: mm and px apart."""
    if not has_unit(name):
        return {name: list(range(len(rows)))}
    return {
        metric_key(name, unit): [at for at, row in enumerate(rows) if row.unit == unit]
        for unit in sorted({str(row.unit) for row in rows})
    }


def _values(rows: Sequence[Row], name: str, chosen: Sequence[int]) -> NDArray[np.float64]:
    return np.array([rows[at].scores[name] for at in chosen], dtype=np.float64)


def _told(difference: Difference, p_holm: float, names: tuple[str, str], name: str) -> dict[str, Any]:
    lower_is_better = METRICS[name].measures != "share"
    test = difference.test
    favours = 0
    if p_holm < LEVEL and difference.mean * test.balance > 0:
        favours = 1 if (difference.mean < 0) == lower_is_better else -1
    better, worse = difference.higher, difference.lower
    return {
        "n": difference.n,
        "n_tested": test.n,
        "mean": difference.mean,
        "interval": known_ends(difference.interval),
        "p": test.p,
        "p_holm": p_holm,
        "exact": test.exact,
        "balance": test.balance,
        "better": names[favours > 0] if favours else None,
        "n_second_better": worse if lower_is_better else better,
        "n_second_worse": better if lower_is_better else worse,
        "n_equal": difference.equal,
    }


def _otherwise(about: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What sets runs apart besides their masks."""
    for name in ("data", "split", "prompts", "protocol"):
        found = list(dict.fromkeys(str(each[name]) for each in about if name in each))
        if len(found) > 1:
            yield f"not scored alike: {name} {', '.join(found)}"


def _too_few(runs: int, tested: int, *, grouped: bool) -> Iterator[str]:
    """Where no difference, however large, could be told from chance."""
    pairs = runs * (runs - 1) // 2
    least = pairs * 2.0 ** (1 - tested)
    if least >= LEVEL:
        among = f" and {pairs} pairs of runs" if pairs > 1 else ""
        yield (
            f"too few to tell: with {units(tested, grouped=grouped)}{among}, p (Holm) cannot be "
            f"below {min(least, 1):.2g}, however large the differences"
        )
