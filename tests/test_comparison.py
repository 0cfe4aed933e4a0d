"""Runs compared on the cases that they share: by hand, against SciPy, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from vlsmctl.comparison import (
    COMPARISON,
    DIFFERENCES,
    TABLE,
    compare_scores,
    files,
    short_names,
    write_comparison,
)
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import Row, Scores, Tolerance
from vlsmctl.intervals import bootstrap_interval
from vlsmctl.paired import holm
from vlsmctl.pairing import CasePair
from vlsmctl.score_files import read_scores, write_scores
from vlsmctl.summary import summarise

TRUTH = Path("truth.png").absolute()


def row(case: str, dice: float = 0.5, *, hd95: float = 10, unit: str = "px", **pair: Any) -> Row:
    """A case with this Dice; the rest follows from it."""
    scores = {
        "dice": dice, "iou": dice / (2 - dice), "hd95": hd95, "nsd": dice, "precision": dice,
        "recall": dice, "volume_error": -hd95, "abs_volume_error": hd95,
    }  # fmt: skip
    return Row(CasePair(case, None, TRUTH, **{"data_set": "k", **pair}), scores, unit, 100, 90, 1000)


def run(dice: Sequence[float], **pair: Any) -> Scores:
    return Scores(tuple(row(f"c{number:03}", one, **pair) for number, one in enumerate(dice)))


def failed(case: str, **pair: Any) -> Row:
    return Row(CasePair(case, None, TRUTH, **{"data_set": "k", **pair}), {}, note="broken")


def compared(*scores: Scores, names: str = "abcdef") -> dict[str, Any]:
    return compare_scores(list(zip(names, scores, strict=False))).document


def difference(
    document: Mapping[str, Any], metric: str = "dice", first: str = "a", second: str = "b"
) -> dict[str, Any]:
    (found,) = (
        one
        for one in document["differences"]
        if (one["metric"], one["first"], one["second"]) == (metric, first, second)
    )
    return dict(found)


def refused(*scores: Scores) -> UsageError:
    with pytest.raises(UsageError) as caught:
        compared(*scores)
    assert "\n" not in str(caught.value)
    return caught.value


def test_by_hand() -> None:
    first = [0.5, 0.6, 0.7, 0.8, 0.9, 0.5, 0.4]
    second = [0.6, 0.8, 0.7, 0.9, 0.8, 0.9, 0.9]
    document = compared(run(first), run(second))
    found = difference(document)
    differences = [b - a for a, b in zip(first, second, strict=True)]
    assert found["mean"] == pytest.approx(1.2 / 7)
    assert found["interval"] == pytest.approx(bootstrap_interval(differences, None))
    assert found["p"] == found["p_holm"] == 0.125  # ranks 3 (thrice), 5, 6, 7: 4 of 2**6 below, 4 above
    assert [found[f"n_{what}"] for what in ("second_better", "second_worse", "equal")] == [5, 1, 1]
    assert (document["n"], document["tested"], document["n_tested"]) == (7, "case", 7)
    assert document["runs"][1]["metrics"]["dice"]["mean"] == pytest.approx(5.6 / 7)


def test_of_distances_and_errors_the_lower_is_better() -> None:
    near = Scores(tuple(row(f"c{n}", 0.5 + n / 100, hd95=1 + n) for n in range(10)))
    far = Scores(tuple(row(f"c{n}", 0.4 - n / 100, hd95=8 + 3 * n) for n in range(10)))
    document = compared(near, far)
    for one in document["differences"]:
        assert one["better"] == "a", one
        assert (one["n_second_better"], one["n_second_worse"]) == (0, 10)
    assert difference(document, "hd95_px")["mean"] == 7 + 9
    assert difference(document, "dice")["mean"] < 0
    assert {one["metric"] for one in document["differences"]} == {
        "dice", "iou", "hd95_px", "nsd_px", "precision", "recall", "abs_volume_error_px",
    }  # fmt: skip


def test_comparing_the_other_way_round_turns_every_sign() -> None:
    rng = np.random.default_rng(2)
    one, other = (run(list(rng.random(30)), group=f"g{n}") for n in (1, 1))
    forth, back = compared(one, other), compared(other, one)
    for a, b in zip(forth["differences"], back["differences"], strict=True):
        assert a["mean"] == pytest.approx(-b["mean"])
        assert a["p"] == b["p"]
        assert (a["n_second_better"], a["n_second_worse"]) == (b["n_second_worse"], b["n_second_better"])


def test_patients_are_tested_not_their_cases() -> None:
    rng = np.random.default_rng(3)
    groups = [f"p{number % 9}" for number in range(40)]
    first, second = rng.random((2, 40))
    scores = [
        Scores(
            tuple(row(f"c{n:02}", d, group=g) for n, (d, g) in enumerate(zip(dice, groups, strict=True)))
        )
        for dice in (first, second)
    ]
    document = compared(*scores)
    means = [np.mean((second - first)[np.array(groups) == group]) for group in sorted(set(groups))]
    assert difference(document)["p"] == pytest.approx(scipy.stats.wilcoxon(means).pvalue)
    assert difference(document)["interval"] == pytest.approx(bootstrap_interval(second - first, groups))
    assert (document["n"], document["tested"], document["n_tested"]) == (40, "group", 9)


def test_a_group_that_one_of_them_knows_counts_for_both() -> None:
    known, unknown = run([0.1, 0.2, 0.3], group="p"), run([0.2, 0.3, 0.5])
    for document in (compared(known, unknown), compared(unknown, known)):
        assert (document["tested"], document["n_tested"]) == ("group", 1)
        assert difference(document)["interval"] == [None, None]
    error = refused(known, run([0.2, 0.3, 0.5], group="q"))
    assert all(word in str(error) for word in ("'c000'", "'p' in a", "'q' in b"))


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_the_order_of_cases_does_not_matter(random: Random) -> None:
    rng = np.random.default_rng(5)
    rows = [
        [
            row(
                f"c{n}",
                float(rng.random()),
                prompt_key=key,
                group=f"p{n % 5}",
                unit="mm" if n % 3 else "px",
            )
            for n in range(12)
            for key in ("p0", "p1", "p2")
        ]
        for _ in range(2)
    ]
    straight = compared(*(Scores(tuple(one)) for one in rows))
    for one in rows:
        random.shuffle(one)
    assert compared(*(Scores(tuple(one)) for one in rows)) == straight


def test_holm_is_over_the_pairs_of_runs_for_each_metric_apart() -> None:
    rng = np.random.default_rng(6)
    base = rng.random(25) / 2
    document = compared(*(run(list(base + shift + rng.normal(0, 0.02, 25))) for shift in (0.1, 0.11, 0.13)))
    assert len(document["differences"]) == 3 * 7
    for metric in ("dice", "iou"):
        found = [difference(document, metric, *pair) for pair in (("a", "b"), ("a", "c"), ("b", "c"))]
        assert [one["p_holm"] for one in found] == holm([one["p"] for one in found])
        assert any(one["p_holm"] > one["p"] for one in found)
    order = [(one["first"], one["second"]) for one in document["differences"]]
    assert order == sorted(order)
    assert "Holm" in document["rules"]["p_holm"]


def test_dice_is_the_metric_that_tells_which_run_is_better() -> None:
    document = compared(run([0.1] * 8), run([0.2] * 8))
    assert document["primary"] == "dice"
    assert "Dice is the primary metric" in document["rules"]["primary"]
    assert "not corrected for being several" in document["rules"]["p_holm"]


def test_outcomes_of_what_is_averaged_are_counted() -> None:
    """Prompts of a case one by one; what the other run lacks, or where one has failed, in neither."""

    def asked(predicted: Mapping[tuple[str, str], int | None]) -> Scores:
        return Scores(
            tuple(
                failed(case, prompt_key=key)
                if count is None
                else replace(
                    row(case, prompt_key=key),
                    target_foreground=0 if case == "empty" else 100,
                    predicted_foreground=count,
                )
                for (case, key), count in predicted.items()
            )
        )

    first = {("c", "p0"): 0, ("c", "p1"): 9, ("d", "p0"): 0, ("empty", "p0"): 9, ("mine", "p0"): 0}
    second = {("c", "p0"): 9, ("c", "p1"): 0, ("d", "p0"): None, ("empty", "p0"): 0}
    one, other = compared(asked(first), asked(second))["runs"]
    names = ("n_scored", "n_missed", "n_false_alarm", "n_both_empty", "n_failed")
    assert [one[name] for name in names] == [3, 1, 1, 0, 0]
    assert [other[name] for name in names] == [3, 1, 0, 1, 1]


def test_lengths_in_mm_and_px_are_never_averaged() -> None:
    def mixed(shift: float) -> Scores:
        kinds = (("px", 10), ("mm", 4))
        return Scores(
            tuple(row(f"{u}{n}", 0.5, unit=u, hd95=n + shift) for u, count in kinds for n in range(count))
        )

    document = compared(mixed(1), mixed(3))
    assert document["units"] == {"mm": 4, "px": 10}
    assert (difference(document, "hd95_px")["n"], difference(document, "hd95_mm")["n"]) == (10, 4)
    assert difference(document, "abs_volume_error_ml")["n"] == 4
    assert difference(document, "nsd_mm")["n"] == 4
    assert difference(document)["n"] == 14


def test_prompts_of_a_case_are_averaged_first() -> None:
    def asked(*dice: Sequence[float]) -> Scores:
        return Scores(
            tuple(
                row(f"c{n}", d, prompt_key=f"p{k}")
                for n, case in enumerate(dice)
                for k, d in enumerate(case)
            )
        )

    document = compared(asked([0.1, 0.3], [0.5, 0.5]), asked([0.4, 0.2], [0.6, 0.6]))
    found = difference(document)
    assert (document["n"], found["n"]) == (2, 2)
    assert found["mean"] == pytest.approx((0.1 + 0.1) / 2)
    assert document["notes"] == [next(note for note in document["notes"] if "too few" in note)]

    document = compared(asked([0.1, 0.3], [0.5, 0.5]), asked([0.4, 0.2, 0.9], [0.6, 0.6, 0.9]))
    assert difference(document)["mean"] == found["mean"]
    assert any("a: p0, p1, b: p0, p1, p2" in note for note in document["notes"])


def test_prompts_that_are_called_alike_and_say_something_else_are_told() -> None:
    document = compared(run([0.1, 0.2], prompt="polyp"), run([0.2, 0.3], prompt="one small polyp"))
    assert any("2 cases in which the words of the prompts differ" in note for note in document["notes"])


def test_a_prompt_that_failed_in_one_counts_in_none() -> None:
    first = Scores((row("c", 0.2, prompt_key="p0"), row("c", 0.9, prompt_key="p1")))
    second = Scores((row("c", 0.3, prompt_key="p0"), failed("c", prompt_key="p1")))
    document = compared(first, second)
    assert difference(document)["mean"] == pytest.approx(0.1)
    assert document["runs"][0]["metrics"]["dice"]["mean"] == 0.2
    assert document["runs"][1]["n_failed"] == 1
    assert any("1 case counted without the prompts that failed" in note for note in document["notes"])


def test_failed_cases_and_cases_of_one_alone_are_counted_and_named() -> None:
    first = Scores((*run([0.1, 0.2, 0.3]).rows, row("only a", 0.9)))
    second = Scores((failed("c000"), *run([0, 0.4, 0.4]).rows[1:], row("only b"), row("b too")))
    document = compared(first, second)
    assert (document["n"], difference(document)["n"]) == (2, 2)
    assert difference(document)["mean"] == pytest.approx(0.15)
    assert document["left_out"]["failed"] == {"n": 1, "first": ["'c000' of k"]}
    assert [one["n_failed"] for one in document["runs"]] == [0, 1]
    assert [one["only_here"]["n"] for one in document["runs"]] == [1, 2]
    assert document["runs"][1]["only_here"]["first"] == ["'b too' of k", "'only b' of k"]
    notes = " ".join(document["notes"])
    assert all(word in notes for word in ("1 case of a", "'only a'", "2 cases of b", "1 case failed"))


def test_nothing_in_common_names_an_example_of_each() -> None:
    error = refused(run([0.5]), Scores((row("other", data_set="busi"),)))
    assert all(word in str(error) for word in ("a has 'c000' of k", "b has 'other' of busi"))
    assert "vlsmctl eval" in str(error.hint)
    assert "b has none" in str(refused(run([0.5]), Scores(())))
    assert "failed in one" in str(refused(run([0.5]), Scores((failed("c000"),))))


def test_no_prompt_in_common_says_which_there_are() -> None:
    error = refused(run([0.5]), run([0.5], prompt_key="p3"))
    assert "a has one unnamed prompt; b has p3" in str(error)
    assert "--prompts" in str(error.hint)


@pytest.mark.parametrize(
    "change", [{"target_foreground": 101}, {"elements": 1001}, {"unit": "mm"}, {"elements": None}]
)
def test_scores_against_another_truth_are_refused(change: dict[str, Any]) -> None:
    scores = run([0.1, 0.2, 0.3])
    rows = (scores.rows[0], replace(scores.rows[1], **change), scores.rows[2])
    error = refused(scores, Scores(rows))
    assert "'c001' was scored against another truth" in str(error)
    assert str(next(iter(change.values()))) in str(error)


def test_another_tolerance_is_refused_where_it_matters() -> None:
    scores = run([0.1, 0.2])
    error = refused(scores, replace(scores, tolerance=Tolerance(px=4)))
    assert all(word in str(error) for word in ("2 px in a", "4 px in b"))
    assert "--tolerance 2px" in str(error.hint)
    compared(scores, replace(scores, tolerance=Tolerance(mm=4)))  # nothing is in mm


def test_a_case_twice_and_a_score_that_is_no_number_are_refused() -> None:
    scores = run([0.1, 0.2])
    assert "two rows for the case 'c000'" in str(refused(Scores((*scores.rows, row("c000"))), scores))
    assert "c000" in str(refused(run([float("nan"), 0.2]), scores))


def test_masks_of_a_tool_that_names_no_data_set_are_matched_by_id() -> None:
    document = compared(run([0.1, 0.2]), run([0.2, 0.4], data_set=None))
    assert document["n"] == 2
    assert any("ids alone" in note and "in b" in note for note in document["notes"])
    twice = Scores((row("c000"), row("c000", data_set="other")))
    assert "nothing to compare" in str(refused(twice, run([0.2], data_set=None)))


def test_what_is_better_is_null_where_scores_cannot_tell() -> None:
    rng = np.random.default_rng(9)
    document = compared(run(list(rng.random(20))), run(list(rng.random(20))))
    assert all(one["better"] is None for one in document["differences"] if one["p_holm"] >= 0.05)
    assert any(one["p_holm"] >= 0.05 for one in document["differences"])
    # Nearly all cases a little better, one far worse: the ranks say one thing, the mean another
    first = np.full(20, 0.9)
    second = np.array([0.905 + n / 1e4 for n in range(19)] + [0.0])
    found = difference(compared(run(list(first)), run(list(second))))
    assert found["p"] < 0.05
    assert found["mean"] < 0 < found["balance"]
    assert found["better"] is None


def test_equal_runs_and_single_cases_have_numbers_that_json_knows() -> None:
    for scores in (run([0.5] * 8), run([0.5])):
        document = compared(scores, scores)
        json.dumps(document, allow_nan=False)
        assert difference(document)["p"] == 1
        assert difference(document)["n_equal"] == len(scores.rows)


@pytest.mark.parametrize(
    ("runs", "cases", "said"), [(2, 5, True), (2, 6, False), (4, 7, True), (4, 8, False)]
)
def test_where_nothing_could_be_told_that_is_said(runs: int, cases: int, said: bool) -> None:
    scores = [run([0.1 * (number + 1) + n / 1000 * number for n in range(cases)]) for number in range(runs)]
    document = compared(*scores)
    assert any("too few to tell" in note for note in document["notes"]) is said
    assert any(one["better"] for one in document["differences"]) is not said


def test_fewer_than_two_and_equal_names_are_our_own_mistake() -> None:
    scores = run([0.5])
    for named in ([("a", scores)], [("a", scores), ("a", scores)]):
        with pytest.raises(ValueError, match="two or more names"):
            compare_scores(named)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["runs/kvasir/1-42", "runs/kvasir/2-42"], ["1-42", "2-42"]),
        (["runs/kvasir/1-42", "runs/busi/1-42"], ["kvasir", "busi"]),
        (["a/scores", "b/scores", "b/c/scores"], ["a", "b", "c"]),
        (["k/1", "k/2", "b/1"], ["k/1", "k/2", "b/1"]),
        (["runs", "runs/k"], ["runs", "k"]),
    ],
)
def test_short_names_tell_apart(paths: list[str], expected: list[str], tmp_path: Path) -> None:
    assert short_names([tmp_path / path for path in paths]) == expected


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        short_names([tmp_path / "a", tmp_path / "b", tmp_path / "b" / ".." / "a"])


def two(rng: np.random.Generator) -> list[tuple[str, Scores]]:
    return [(name, run(list(rng.random(9)), group="=p")) for name in ("=first", "second, too")]


def test_the_files_say_what_the_document_says(tmp_path: Path) -> None:
    named = two(np.random.default_rng(1))
    result = compare_scores(named, about=[{"run": "x"}, {"run": "y"}])
    write_comparison(tmp_path / "out", result)
    assert json.loads((tmp_path / "out" / COMPARISON).read_text("utf-8")) == result.document
    assert result.document["runs"][1]["about"] == {"run": "y"}
    with (tmp_path / "out" / TABLE).open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == len(result.document["differences"]) == 7
    for line, one in zip(table, result.document["differences"], strict=True):
        assert (line["first"], line["second"], line["metric"]) == ("'=first", "second, too", one["metric"])
        assert float(line["difference"]) == one["mean"]
        assert float(line["mean_second"]) - float(line["mean_first"]) == pytest.approx(one["mean"])
        assert float(line["p_holm"]) == one["p_holm"]
    with (tmp_path / "out" / DIFFERENCES).open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["id"] for line in lines] == [f"c{number:03}" for number in range(9)]
    assert {(line["group"], line["unit"], line["data_set"]) for line in lines} == {("'=p", "px", "k")}
    mean = np.mean([float(line["dice_difference"]) for line in lines])
    assert mean == pytest.approx(difference_of(result.document, "dice"))


def difference_of(document: Mapping[str, Any], metric: str) -> float:
    return float(next(one["mean"] for one in document["differences"] if one["metric"] == metric))


def test_killed_while_writing_no_document_stands_beside_other_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_comparison(tmp_path, compare_scores(two(np.random.default_rng(1))))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write_comparison(tmp_path, compare_scores(two(np.random.default_rng(2))))
    assert not (tmp_path / COMPARISON).exists()


@pytest.mark.parametrize(
    "move", [lambda folder: folder, lambda folder: folder.rename(folder.parent / "moved")]
)
def test_scores_read_from_disk_compare_as_those_in_memory(
    move: Callable[[Path], Path], tmp_path: Path
) -> None:
    named = two(np.random.default_rng(1))
    read = []
    for number, (name, scores) in enumerate(named):
        folder = tmp_path / str(number) / "eval"
        write_scores(folder, scores, summarise(scores))
        read.append((name, read_scores(move(folder))))
    assert compare_scores(read).document == compare_scores(named).document
