"""Rows in, a summary out: counts, means with intervals, units that stay apart, results told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlsmctl.errors import UsageError
from vlsmctl.evaluation import Row, Scores, Tolerance
from vlsmctl.metrics import METRICS
from vlsmctl.pairing import CasePair
from vlsmctl.summary import RULES, known_columns, summarise

TARGET = Path("gt") / "t.png"


def case(
    name: str, value: float = 0.5, *, hd95: float = 4.0, unit: str = "px", target: int = 50,
    predicted: int = 50, note: str | None = None, **pair: Any,
) -> Row:  # fmt: skip
    """A row of 1000 elements with `value` for every score but the HD95."""
    prediction = pair.pop("prediction", Path("pred") / "p.png")
    scores = {**dict.fromkeys(METRICS, value), "hd95": hd95}
    return Row(CasePair(name, prediction, TARGET, **pair), scores, unit, target, predicted, 1000, note)


def failed(name: str, reason: str = "cut off", **pair: Any) -> Row:
    return Row(CasePair(name, None, TARGET, **pair), {}, note=reason)


def summary_of(*rows: Row, **how: Any) -> dict[str, Any]:
    return summarise(Scores(rows), **how)


# --- counts


def test_every_outcome_is_counted() -> None:
    summary = summary_of(
        case("a"), case("b"), case("m", 0, predicted=0), case("n", 0, predicted=0, prediction=None),
        case("f", 0, target=0), case("e", 1, target=0, predicted=0), failed("x"), failed("y", group="g"),
    )  # fmt: skip
    counts = {key: value for key, value in summary.items() if key.startswith("n_") or key == "n"}
    assert counts == {
        "n": 6, "n_missed": 2, "n_false_alarm": 1, "n_both_empty": 1, "n_failed": 2, "n_groups": 6,
        "n_without_prediction": 1, "n_not_asked": 0,
    }  # fmt: skip
    assert summary["metrics"]["dice"]["n"] == 6
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(2 / 6)


def test_failed_cases_are_named_and_in_no_mean() -> None:
    summary = summary_of(case("a", 0.8), failed("b", "f.png: cut off", prompt="polyp"), case("c", 0.6))
    assert summary["failed"] == [{"id": "b", "prompt": "polyp", "reason": "f.png: cut off"}]
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(0.7)
    assert summary["metrics"]["dice"]["n"] == 2


def test_missed_cases_are_in_every_mean() -> None:
    """Which a library that drops them would make better."""
    found = [case("a", 0.9, hd95=2), case("b", 0.7, hd95=4)]
    missed = case("c", 0, hd95=90, predicted=0)
    summary = summary_of(*found, missed)
    for name in ("dice", "iou", "nsd_px", "precision", "recall"):
        assert summary["metrics"][name]["mean"] == pytest.approx(1.6 / 3)
    assert summary["metrics"]["hd95_px"]["mean"] == pytest.approx(32)


def test_nothing_scored_is_a_summary_too() -> None:
    for rows in ((), (failed("a"),)):
        summary = summary_of(*rows)
        assert (summary["n"], summary["n_failed"], summary["metrics"]) == (0, len(rows), {})
        json.dumps(summary, allow_nan=False)


def test_cautions_and_left_over_predictions_are_listed() -> None:
    scores = Scores(
        (case("a", note="values reach 7 only"), case("b"), failed("c")), (Path("pred") / "x.png",)
    )
    summary = summarise(scores)
    assert summary["cautions"] == [{"id": "a", "prompt": None, "reason": "values reach 7 only"}]
    assert summary["extra_predictions"] == ["pred/x.png"]


def test_the_rules_what_was_scored_and_the_tolerance_are_written_down() -> None:
    scores = Scores((case("a"), case("b")), tolerance=Tolerance(px=3, mm=1.5))
    summary = summarise(scores, about={"run": "r1"})
    assert summary["about"] == {"run": "r1"}
    assert summary["protocol"] == "default"
    assert summary["tolerance"] == {"px": 3, "mm": 1.5}
    assert summary["metrics"]["nsd_px"]["label"] == "NSD (within 3 px)"
    assert summary["rules"] == RULES
    for words in ("both masks empty", "exactly one empty", "diagonal", "hd95_inf"):
        assert words in summary["rules"]["empty"]


# --- means and intervals


def test_mean_median_and_spread_by_hand() -> None:
    values = [0.2, 0.4, 0.9, 0.4, 0.6]
    rows = [case(f"{number}", value) for number, value in enumerate(values)]
    found = summary_of(*rows)["metrics"]["dice"]
    assert found["mean"] == pytest.approx(0.5)
    assert found["median"] == 0.4
    assert found["sd"] == pytest.approx(sqrt((0.3**2 + 0.1**2 + 0.4**2 + 0.1**2 + 0.1**2) / 4))
    assert 0.2 <= found["interval"][0] < 0.5 < found["interval"][1] <= 0.9


def test_one_case_has_no_interval_and_no_spread() -> None:
    found = summary_of(case("a", 0.3))["metrics"]["dice"]
    assert (found["mean"], found["median"], found["sd"]) == (0.3, 0.3, None)
    assert found["interval"] == [None, None]


def test_a_summary_is_plain_json() -> None:
    rows = case("a"), case("b", unit="mm"), case("c", 0, hd95=99, predicted=0), failed("d")
    summary = summary_of(*rows)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert rows[2].hd95_inf == inf  # which stays in its column


def wide(summary: dict[str, Any], metric: str = "dice") -> float:
    low, high = summary["metrics"][metric]["interval"]
    assert low < summary["metrics"][metric]["mean"] < high
    return float(high - low)


def test_means_lie_within_their_intervals_and_groups_widen_them() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.random(8), 6) + 0.01 * rng.random(48)
    rows = [case(f"c{number}", value, hd95=10 * value) for number, value in enumerate(values)]
    grouped = [replace(row, pair=replace(row.pair, group=f"g{at // 6}")) for at, row in enumerate(rows)]
    alone, together = summary_of(*rows), summary_of(*grouped)
    assert (alone["n_groups"], together["n_groups"]) == (48, 8)
    for metric in ("dice", "hd95_px", "nsd_px", "volume_error_px"):
        assert wide(together, metric) > 1.5 * wide(alone, metric)


def test_several_prompts_on_one_case_are_one_group() -> None:
    """Asking often is no evidence: ten prompts on four cases say no more than four cases."""
    answers = [("a", 0.1), ("b", 0.5), ("c", 0.6), ("d", 0.9)]
    once = summary_of(*(case(name, value) for name, value in answers))
    often = summary_of(
        *(case(name, value, prompt=f"{number}") for number in range(10) for name, value in answers)
    )
    assert (often["n"], often["n_groups"]) == (40, 4)
    assert often["metrics"]["dice"]["interval"] == pytest.approx(once["metrics"]["dice"]["interval"])
    single = summary_of(*(case("a", prompt=prompt) for prompt in ("polyp", "lesion", "growth")))
    assert (single["n"], single["n_groups"]) == (3, 1)
    assert single["metrics"]["dice"]["interval"] == [None, None]


def test_cases_of_one_name_in_two_data_sets_are_two_groups() -> None:
    rows = case("a", data_set="one"), case("a", data_set="two")
    assert summary_of(*rows)["n_groups"] == 2
    patients = case("a", data_set="one", group="1"), case("b", data_set="two", group="1")
    assert summary_of(*patients)["n_groups"] == 2


def test_a_group_and_a_case_of_one_name_are_two() -> None:
    assert summary_of(case("1"), case("a", group="1"))["n_groups"] == 2


# --- units


def test_mm_and_px_are_never_averaged() -> None:
    rows = [case("a", 0.2, hd95=10), case("b", 0.4, hd95=20), case("v", 0.9, hd95=1.5, unit="mm")]
    summary = summary_of(*rows)
    assert summary["mixed_units"] is True
    assert summary["units"] == {"mm": 1, "px": 2}
    assert list(summary["metrics"]) == [
        "dice", "iou", "hd95_mm", "hd95_px", "nsd_mm", "nsd_px", "precision", "recall", "volume_error_ml",
        "volume_error_px", "abs_volume_error_ml", "abs_volume_error_px",
    ]  # fmt: skip
    metrics = summary["metrics"]
    assert (metrics["dice"]["n"], metrics["dice"]["mean"]) == (3, pytest.approx(0.5))
    assert (metrics["hd95_px"]["n"], metrics["hd95_px"]["mean"]) == (2, 15)
    assert (metrics["hd95_mm"]["n"], metrics["hd95_mm"]["mean"]) == (1, 1.5)
    assert (metrics["nsd_px"]["mean"], metrics["nsd_mm"]["mean"]) == (pytest.approx(0.3), 0.9)
    assert (metrics["volume_error_px"]["mean"], metrics["volume_error_ml"]["mean"]) == (
        pytest.approx(0.3),
        0.9,
    )
    labels = {name: metric["label"] for name, metric in metrics.items()}
    assert labels["hd95_mm"] == "HD95 (mm)"
    assert labels["volume_error_px"] == "area error (px)"
    assert labels["abs_volume_error_ml"] == "absolute volume error (ml)"
    units = {name: metric["unit"] for name, metric in metrics.items()}
    assert (units["dice"], units["hd95_px"], units["nsd_mm"], units["volume_error_ml"]) == (
        None,
        "px",
        None,
        "ml",
    )


def test_one_unit_is_not_mixed() -> None:
    summary = summary_of(case("a", unit="mm"), case("b", unit="mm"), failed("c"))
    assert (summary["mixed_units"], summary["units"]) == (False, {"mm": 2})
    assert "hd95_px" not in summary["metrics"]


# --- results told apart


def several_prompts() -> list[Row]:
    """Three cases, each asked three prompts, p10 the worst; one case failed with p1."""
    rows = [
        case(f"c{number}", value - number / 10, prompt=f"words {key}", prompt_key=key)
        for key, value in (("p1", 0.9), ("p10", 0.3), ("p2", 0.8)) for number in range(3)
    ]  # fmt: skip
    rows[1] = failed("c1", prompt="words p1", prompt_key="p1")
    return rows


def test_each_prompt_has_means_and_counts_of_its_own() -> None:
    rows = several_prompts()
    told = summary_of(*rows)["by"]["prompt"]
    assert list(told) == ["p1", "p2", "p10"]
    for key, found in told.items():
        alone = summary_of(*(row for row in rows if row.pair.prompt_key == key))
        assert found["metrics"] == alone["metrics"]
        assert {name: alone[name] for name in found if name != "metrics"} == {
            name: value for name, value in found.items() if name != "metrics"
        }
    assert [found["n"] for found in told.values()] == [2, 3, 3]
    assert [found["n_failed"] for found in told.values()] == [1, 0, 0]


def test_a_value_without_any_score_is_shown_nonetheless() -> None:
    lost = [
        failed(row.pair.id, prompt_key="p2") if row.pair.prompt_key == "p2" else row
        for row in several_prompts()
    ]
    found = summary_of(*lost)["by"]["prompt"]["p2"]
    assert (found["n"], found["n_failed"], found["metrics"]) == (0, 3, {})


def test_where_there_is_one_value_nothing_is_told_apart_unless_asked() -> None:
    rows = case("a", prompt_key="p1", data_set="d"), case("b", prompt_key="p1", data_set="d")
    assert summary_of(*rows)["by"] == {}
    assert list(summary_of(*rows, by=["prompt"])["by"]["prompt"]) == ["p1"]


def test_data_sets_and_size_classes_are_told_apart_by_themselves() -> None:
    """Of 1000 elements: below 1, up to 80, up to 300, above."""
    rows = [
        case("a", 0.1, data_set="one", target=0), case("b", 0.2, data_set="one", target=50),
        case("c", 0.3, data_set="two", target=200), case("d", 0.4, data_set="two", target=700),
        failed("e", data_set="two"),
    ]  # fmt: skip
    by = summary_of(*rows)["by"]
    assert list(by) == ["data_set", "size_class"]
    assert {
        name: found["metrics"]["dice"]["mean"] for name, found in by["data_set"].items()
    } == pytest.approx({"one": 0.15, "two": 0.35})
    assert by["data_set"]["two"]["n_failed"] == 1
    sizes = {
        name: found["metrics"]["dice"]["mean"] for name, found in by["size_class"].items() if found["n"]
    }
    assert sizes == {"empty": 0.1, "small": 0.2, "medium": 0.3, "large": 0.4}
    assert by["size_class"]["(none)"]["n_failed"] == 1
    assert by["size_class"]["empty"]["n_false_alarm"] == 1


def test_any_column_of_the_cases_tells_apart_and_none_is_lost() -> None:
    rows = [
        case("a", 0.1, columns={"site": "colon", "sex": "f"}), case("b", 0.3, columns={"site": "colon"}),
        case("c", 0.5, columns={"site": "rectum"}, group="p1"), case("d", 0.9, group="p1"),
    ]  # fmt: skip
    assert known_columns(rows) == ["prompt", "data_set", "size_class", "group", "sex", "site"]
    by = summary_of(*rows, by=["site", "group"])["by"]
    assert list(by) == ["site", "group"]
    means = {name: found["metrics"]["dice"]["mean"] for name, found in by["site"].items()}
    assert means == pytest.approx({"colon": 0.2, "rectum": 0.5, "(none)": 0.9})
    assert by["group"]["p1"]["n"] == 2
    assert sum(found["n"] for found in by["site"].values()) == len(rows)


def test_units_stay_apart_within_a_value_too() -> None:
    rows = case("a", hd95=3, columns={"k": "x"}), case("b", hd95=7, unit="mm", columns={"k": "x"})
    found = summary_of(*rows, by=["k"])["by"]["k"]["x"]["metrics"]
    assert (found["hd95_px"]["mean"], found["hd95_mm"]["mean"]) == (3, 7)


@pytest.mark.parametrize(
    ("asked", "near"),
    [("siet", "did you mean 'site'?"), ("prompts", "did you mean 'prompt'?"), ("xyz", "known")],
)
def test_a_column_that_no_case_has_is_refused_with_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(UsageError) as refused:
        summary_of(case("a", columns={"site": "colon"}), by=["site", asked])
    message = str(refused.value)
    assert f"--by {asked!r}: no case has such a column" in message
    assert near in message
    assert "prompt, data_set, size_class, group, site" in message
    assert ("did you mean" in message) is (asked != "xyz")


# --- the published protocol


def test_the_papers_protocol_says_what_a_library_leaves_out() -> None:
    rows = [
        case("a", hd95=2), case("b", hd95=6), case("m", 0, hd95=100, predicted=0),
        case("f", 0, hd95=100, target=0), case("e", 1, hd95=0, target=0, predicted=0), failed("x"),
    ]  # fmt: skip
    summary = summary_of(*rows, protocol="paper")
    assert summary["protocol"] == "paper"
    defined = summary["metrics"]["hd95_defined_px"]
    assert (defined["n"], defined["mean"]) == (2, 4)
    assert summary["metrics"]["hd95_px"]["n"] == 5
    assert summary["metrics"]["hd95_px"]["mean"] == pytest.approx(208 / 5)
    assert "hd95_defined" in summary["rules"]["HD95"]
    assert "nearest" in summary["rules"]["protocol"]
    usual = summary_of(*rows)
    assert "hd95_defined_px" not in usual["metrics"]
    assert "protocol" not in usual["rules"]


def test_without_a_pair_that_defines_it_there_is_no_such_mean() -> None:
    summary = summary_of(case("m", 0, predicted=0), case("e", 1, target=0, predicted=0), protocol="paper")
    assert "hd95_defined_px" not in summary["metrics"]
    assert summary["metrics"]["hd95_px"]["n"] == 2


def test_remarks_on_cases_are_counted_by_kind() -> None:
    """Numbers apart, and without those that a count of their own tells."""
    rows = [
        replace(case("a"), note="prediction: 8 labels taken together"),
        replace(case("b"), note="prediction: 3 labels taken together; target: values reach 2.5 only"),
        replace(case("c"), note="no prediction file"),
    ]
    assert summary_of(*rows)["caution_kinds"] == [
        {"n": 2, "text": "prediction: 8 labels taken together", "id": "a"},
        {"n": 1, "text": "target: values reach 2.5 only", "id": "b"},
    ]
