from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vlsmctl.datasets.manifest import Manifest, Prompts, Record
from vlsmctl.datasets.prompts import (
    DEFAULT_TEMPLATES,
    check_templates,
    choose_prompt,
    fill_templates,
    prompt_keys,
)
from vlsmctl.errors import UsageError

WORDS = {
    "class": "polyp", "count": "two", "size": "small", "place": "top left", "shape": "round",
    "colour": "pink", "s": "s",
}  # fmt: skip
RECORD = Record(
    id="a", image="images/a.png", mask="masks/a.png", split="train",
    prompts={"p0": "", "p1": "polyp", "p2": ["b", "c", "d"]}, attributes={}, group=None, width=1, height=1,
    foreground=0.5, sha256="",
)  # fmt: skip


def test_templates_are_filled() -> None:
    filled = fill_templates(DEFAULT_TEMPLATES, WORDS)
    assert filled["p0"] == ""
    assert filled["p6"] == "two small pink round polyp, located in top left of the image"
    assert list(filled) == [f"p{n}" for n in range(7)]


def test_texts_whose_words_are_missing_are_left_out() -> None:
    templates: Prompts = {
        "p1": "{class}",
        "p2": "{size} {class}",
        "p3": ["{size}"],
        "p4": ["{class} a", "{place} b"],
    }
    assert fill_templates(templates, {"class": "polyp"}) == {"p0": "", "p1": "polyp", "p4": ["polyp a"]}


def test_a_description_makes_a_list() -> None:
    templates: Prompts = {
        "p1": "{class}",
        "p2": "{class} {description}",
        "p3": ["a {class}", "{size} {class} {description}"],
    }
    filled = fill_templates(templates, WORDS, descriptions=("which is {red}", "that bulges"))
    assert filled == {
        "p0": "",
        "p1": "polyp",
        "p2": ["polyp which is {red}", "polyp that bulges"],  # braces in a description are its own
        "p3": ["a polyp", "small polyp which is {red}", "small polyp that bulges"],
    }
    assert fill_templates({"p1": "{class} {description}"}, WORDS, descriptions=["x"])["p1"] == ["polyp x"]
    assert fill_templates({"p1": "{class} {description}"}, WORDS) == {"p0": ""}


def test_plurals_and_capitals() -> None:
    text = "{Count} {size} {class}{s}: {Place}, {Class}"
    assert fill_templates({"p1": text}, WORDS)["p1"] == "Two small polyps: Top left, Polyp"
    one = {**WORDS, "count": "one", "s": "", "class": "CT scan"}
    assert fill_templates({"p1": "{Count} {class}{s}, {Class}"}, one)["p1"] == "One CT scan, CT scan"


def test_an_empty_mask_takes_the_texts_for_absence() -> None:
    templates: Prompts = {"p1": "{class}", "p2": ["{count} {class}"]}
    absent: Prompts = {"p1": "no {class}", "p3": ["no {class} in the {view} view", "nothing"]}
    words = {"class": "tumor"}
    assert fill_templates(templates, words, absent=absent, extra=["view"]) == {
        "p0": "",
        "p1": "no tumor",
        "p3": ["nothing"],
    }
    assert fill_templates(templates, {**words, "count": "one"}, absent=absent) == {
        "p0": "",
        "p1": "tumor",
        "p2": ["one tumor"],
    }
    assert fill_templates(templates, words) == {"p0": "", "p1": "tumor"}


def test_side_files_may_know_further_words() -> None:
    words = {**WORDS, "kind": "benign"}
    assert fill_templates({"p1": "{Kind} {class}"}, words, extra=("kind",))["p1"] == "Benign polyp"
    with pytest.raises(UsageError, match="'kind' is unknown"):
        fill_templates({"p1": "{kind} {class}"}, words)


@pytest.mark.parametrize(
    "template",
    [
        "{red}",
        "{class.__class__}",
        "{class[0]}",
        "{class!r}",
        "{class:>9}",
        "{",
        "{}",
        "{CLASS}",
        ["{view}"],
    ],
)
def test_unknown_or_tricky_placeholders_are_refused(template: str | list[str]) -> None:
    for words in (WORDS, {"class": "polyp"}):
        with pytest.raises(UsageError, match="p1"):
            fill_templates({"p1": template}, words)
    with pytest.raises(UsageError, match="p1"):
        check_templates({"p1": template})


def test_a_misspelt_placeholder_names_what_was_meant_and_what_is_known() -> None:
    with pytest.raises(
        UsageError, match=r"'color' is unknown \(did you mean \{colour\}\?\); known are.*\{view\}"
    ):
        fill_templates({"p1": "{color} {class}"}, WORDS, extra=("view",))


def test_good_templates_are_not_complained_about() -> None:
    check_templates(DEFAULT_TEMPLATES)
    check_templates(None)
    with pytest.raises(UsageError, match="'q1'"):
        check_templates({"q1": "x"})


def test_keys_other_than_p_and_a_number_are_refused() -> None:
    with pytest.raises(UsageError, match="'q1'"):
        fill_templates({"q1": "{class}"}, WORDS)


def test_the_draw_is_fixed_for_ever() -> None:
    # Written down once: another machine, Python or NumPy must draw the same.
    drawn = "".join(choose_prompt(RECORD, "random", seed=42, epoch=epoch)[0] for epoch in range(24))
    assert drawn == "bbppbbddcpcdppddpbdpdbdc"


def test_random_is_uniform_over_keys_then_over_the_list() -> None:
    draws = 6000
    drawn = Counter(choose_prompt(replace(RECORD, id=str(n)), "random", 1, n % 7) for n in range(draws))
    assert set(drawn) == {"polyp", "b", "c", "d"}
    assert drawn["polyp"] == pytest.approx(draws / 2, rel=0.05)
    for text in "bcd":
        assert drawn[text] == pytest.approx(draws / 6, rel=0.12)


def test_the_draw_hangs_on_seed_id_and_epoch() -> None:
    def drawn(seed: int, name: str, start: int) -> list[str]:
        one = replace(RECORD, id=name)
        return [choose_prompt(one, "p2", seed, epoch) for epoch in range(start, start + 40)]

    assert drawn(1, "a", 0) == drawn(1, "a", 0)
    assert len({tuple(drawn(*key)) for key in [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 40)]}) == 4


def test_a_named_key_gives_its_text() -> None:
    assert choose_prompt(RECORD, "p1", 0, 0) == "polyp"
    assert choose_prompt(RECORD, "p0", 0, 0) == ""


@pytest.mark.parametrize("choice", ["p9", "P1", "all", "p", ""])
def test_an_unknown_choice_names_what_there_is(choice: str) -> None:
    with pytest.raises(UsageError, match="there is: random, p0, p1, p2"):
        choose_prompt(RECORD, choice, 0, 0)


def test_an_empty_mask_falls_back_to_the_class_prompt() -> None:
    empty = replace(RECORD, foreground=0.0)
    assert choose_prompt(empty, "p4", 0, 0) == "polyp"
    with pytest.raises(UsageError):
        choose_prompt(empty, "nonsense", 0, 0)


def test_prompt_keys_are_in_the_order_of_their_numbers() -> None:
    other = replace(RECORD, prompts={"p10": "x", "p0": "", "p3": "y"})
    manifest = Manifest(Path(), (RECORD, other), {}, "")
    assert prompt_keys(manifest) == ["p0", "p1", "p2", "p3", "p10"]
