"""Prompts made wrong on purpose: wrong in what they are meant to be wrong in, and in nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared import SHARED
from vlsmctl.config import read_preset
from vlsmctl.config.loading import presets_folder
from vlsmctl.datasets.altered import LABELS, RIGHT, STRANGERS, SetFacts, questions, set_facts
from vlsmctl.datasets.attributes import COLOURS, COUNT_WORDS, PLACES, SIZES
from vlsmctl.datasets.manifest import Manifest, Prompts, Record
from vlsmctl.datasets.prompts import DEFAULT_TEMPLATES, choose_prompt, fill_templates

ANNOTATIONS = SHARED.parent / "annotations"
ALL_PLACES = [place for row in PLACES for place in row]
PRESETS = sorted(path.stem for path in presets_folder().glob("*.yaml") if path.name[0] not in "_.")
OWN_CLASSES = {  # of records, where the preset's own class is a stand-in
    "camus": ("left ventricular cavity", "myocardium", "left atrium cavity"),
    "chexlocalize": ("Cardiomegaly", "Edema", "Airspace Opacity", "Pleural Effusion"),
}
WRONG: dict[str, set[str]] = {"camus": set(), "chexlocalize": {"wrong-place"}}  # what their prompts name
SIDE = {
    "view": "two-chamber", "phase": "diastole", "sex": "female", "age": "one hundred and one",
    "quality": "medium", "kind": "benign", "regularity": "regular",
    "findings": "Cardiomegaly, Lung Opacity",
}  # fmt: skip
SEEN = ("count", "size", "place", "shape", "colour")


def record(
    prompts: Prompts, attributes: dict[str, Any] | None = None, name: str = "a", foreground: float = 0.1
) -> Record:
    return Record(
        name,
        "images/a.png",
        "masks/a.png",
        "test",
        prompts,
        attributes or {},
        None,
        64,
        64,
        foreground,
        "f0",
    )


def asked(one: Record, facts: SetFacts, seed: int = 42) -> dict[str, str]:
    return {each.key: each.prompt for each in questions(one, facts, seed)}


def of_preset(name: str, word: str, words: dict[str, str]) -> tuple[Record, SetFacts]:
    """A record as `prepare` makes it of the words, and the facts of its set."""
    source: dict[str, Any] = read_preset(name).get("prompts_from") or {}
    prompts = fill_templates(
        source.get("templates") or DEFAULT_TEMPLATES,
        {**SIDE, **words, "class": word},
        descriptions=source.get("descriptions", ()),
        extra=tuple(SIDE),
    )
    attributes = {key: words[key] for key in SEEN}
    own = OWN_CLASSES.get(name, ())
    if own:
        attributes["class"] = word
    return record(prompts, attributes), SetFacts(
        source.get("class"), own or (word,), {}, tuple(source.get("descriptions", ()))
    )


WORDS = [
    {"count": "one", "size": "small", "place": "top left", "shape": "oval", "colour": "red", "s": ""},
    {
        "count": "three", "size": "tiny, medium", "place": "left, bottom, center", "shape": "irregular",
        "colour": "tan", "s": "s",
    },
    {"count": "two", "size": "large", "place": "center", "shape": "square", "colour": "white", "s": "s"},
]  # fmt: skip


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words["count"])
@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_s_prompts_are_altered_in_one_thing_only(name: str, words: dict[str, str]) -> None:
    source: dict[str, Any] = read_preset(name).get("prompts_from") or {}
    for word in OWN_CLASSES.get(name, (str(source.get("class") or "polyp"),)):
        one, facts = of_preset(name, word, words)
        found = asked(one, facts)
        right = found.pop(RIGHT)
        assert right in _texts(one)
        assert set(found) >= {"class-alone", "paraphrase", "empty", "other-class"}
        assert all(text != right for text in found.values())
        assert found["empty"] == ""
        _check_class(word, right, found)
        _check_wrong(right, words, found)
        assert {"wrong-place", "wrong-size"} & set(found) == WRONG.get(name, {"wrong-place", "wrong-size"})


def _texts(one: Record) -> list[str]:
    return [text for each in one.prompts.values() for text in ([each] if isinstance(each, str) else each)]


def _check_class(word: str, right: str, found: dict[str, str]) -> None:
    named = word if word.lower() in right.lower() else word.split()[-1]  # "tumor" of "breast tumor"
    times = right.lower().count(named.lower())
    assert times
    for key in {"paraphrase", "wrong-place", "wrong-size"} & set(found):
        assert found[key].lower().count(named.lower()) == times, key
    assert named.lower() not in found["other-class"].lower()
    assert found["other-class"]


def _check_wrong(right: str, words: dict[str, str], found: dict[str, str]) -> None:
    """What differs is the words for place or size, and these are none of the record's."""
    for key, word, every in (("wrong-place", "place", ALL_PLACES), ("wrong-size", "size", SIZES)):
        if key in found:
            assert right.count(words[word]) == 1
            others = [other for other in every if other not in words[word].split(", ")]
            assert found[key] in [right.replace(words[word], other) for other in others]


def test_what_a_heart_structure_is_called_is_no_place_and_the_quality_of_a_picture_no_size() -> None:
    """CAMUS: its prompts name neither, whatever words are in them."""
    one, facts = of_preset(
        "camus", "left ventricular cavity", {**WORDS[0], "place": "left", "size": "medium"}
    )
    found = asked(one, facts)
    assert found[RIGHT].startswith("Left ventricular cavity of oval shape in two-chamber view")
    assert found[RIGHT].endswith("medium image quality")
    assert not {"wrong-place", "wrong-size"} & set(found)
    assert found["paraphrase"].startswith(
        "a picture that shows left ventricular cavity of elliptical shape in two-chamber view"
    )
    assert found["paraphrase"].endswith(
        "of a one hundred and one-year-old female with medium image quality"
    )


def test_what_a_paraphrase_says() -> None:
    templates = {"p1": DEFAULT_TEMPLATES["p6"]}
    words = {"count": "two", "size": "tiny, large", "place": "top left, right", "shape": "round", "s": "s"}
    one = record(
        fill_templates(templates, {**words, "class": "polyp", "colour": "pink"}), {"place": "left"}
    )
    assert asked(one, SetFacts("polyp"))["paraphrase"] == (
        "a picture that shows a pair of minuscule, big rosy circular polyp, in the upper left part and in"
        " the right-hand part of the image"
    )


@pytest.mark.parametrize(
    ("word", "text", "place", "size", "other"),
    [
        # published texts: joined sizes and places, repeats, shapes that name sizes and places
        (
            "polyp",
            "one medium, large pink round polyp, located in center, top left of the image",
            "one medium, large pink round polyp, located in {} of the image",
            "one {} pink round polyp, located in center, top left of the image",
            "one medium, large pink round foot ulcer, located in center, top left of the image",
        ),
        (
            "polyp",
            "ten tiny red a large, flat polyp which is small at the top located in left, top of the image",
            "ten tiny red a large, flat polyp which is small at the top located in {} of the image",
            "ten {} red a large, flat polyp which is small at the top located in left, top of the image",
            "ten tiny red a large, flat foot ulcer located in left, top of the image",
        ),
        (
            "foot ulcer",
            "one small red right foot foot ulcer, located in bottom right of the image",
            "one small red right foot foot ulcer, located in {} of the image",
            "one {} red right foot foot ulcer, located in bottom right of the image",
            "one small red right foot polyp, located in bottom right of the image",
        ),
        # of the user's own wording
        (
            "polyp",
            "Polyps in the upper-left corner.",
            "Polyps in the {} corner.",
            None,
            "Foot ulcers in the",
        ),
        ("small bowel", "large Small-Bowel", None, "{} Small-Bowel", "large Foot ulcer"),
        ("small bowel", "one Small bowel", None, None, "one Foot ulcer"),
        ("left lung", "left lung, left", None, None, "polyp, left"),
        ("kidney", "kidney in the left abdomen", None, None, "polyp in the left abdomen"),
        ("artery", "Two arteries", None, None, "polyp"),
    ],
)
def test_texts_of_others(word: str, text: str, place: str | None, size: str | None, other: str) -> None:
    found = asked(record({"p0": "", "p1": text}), SetFacts(word))
    assert found[RIGHT] == text
    places = [place.format(each) for each in ALL_PLACES] if place else []
    sizes = [size.format(each) for each in SIZES] if size else []
    assert (found.get("wrong-place") in places) if place else ("wrong-place" not in found)
    assert (found.get("wrong-size") in sizes) if size else ("wrong-size" not in found)
    assert found["other-class"].startswith(other)


def test_a_hundred_is_not_one() -> None:
    found = asked(record({"p1": "One hundred small polyps"}), SetFacts("polyp"))
    assert found["paraphrase"] == "a picture that shows one hundred little polyps"


def test_a_place_without_a_preposition_is_known_from_the_record() -> None:
    found = asked(record({"p1": "top right polyp"}, {"place": "top right"}), SetFacts("polyp"))
    assert found["wrong-place"] == "bottom left polyp"
    assert found["paraphrase"] == "a picture that shows upper right polyp"


def test_a_wrong_place_is_the_farthest_also_from_what_the_mask_shows() -> None:
    """The published words have a mistake in them: the true mask's place counts as well."""

    def wrong(place: str, own: str) -> set[str]:
        text = f"polyp, located in {place} of the image"
        records = [record({"p1": text}, {"place": own}, name=str(number)) for number in range(40)]
        found = {asked(one, SetFacts("polyp"))["wrong-place"] for one in records}
        return {each.removeprefix("polyp, located in ").removesuffix(" of the image") for each in found}

    assert wrong("top left", "top left") == {"bottom right"}
    assert wrong("right", "top left") == {"bottom left"}
    assert wrong("center", "center") == {"top left", "top right", "bottom left", "bottom right"}
    assert wrong("left, left, left, bottom", "left, bottom") == {"top right"}


def test_a_mask_all_over_the_picture_has_no_wrong_place_or_size() -> None:
    text = f"nine {', '.join(SIZES)} polyp, located in {', '.join(ALL_PLACES)} of the image"
    assert not {"wrong-place", "wrong-size"} & set(asked(record({"p1": text}), SetFacts("polyp")))


def test_the_other_class_is_one_that_is_not_in_the_picture() -> None:
    """As far as the set has one: a finding that is said to be there counts, though nobody outlined it."""
    classes = OWN_CLASSES["chexlocalize"]
    records = tuple(
        record({"p1": f"{name} in a chest Xray."}, attributes, name=name, foreground=foreground)
        for name, attributes, foreground in (
            ("Cardiomegaly", {"class": "Cardiomegaly", "findings": ["Cardiomegaly", "Lung Opacity"]}, 0.1),
            ("Edema", {"class": "Edema"}, 0.2),
            ("Pleural Effusion", {"class": "Pleural Effusion"}, 0.0),
            ("Airspace Opacity", {"class": "Airspace Opacity"}, 0.0),
        )
    )
    facts = set_facts(Manifest(Path("chex"), records, {"class": "finding"}, ""))
    assert facts.classes == tuple(sorted(classes))
    for seed in range(10):
        assert asked(records[0], facts, seed)["other-class"] == "Pleural Effusion in a chest Xray."
    everywhere = SetFacts("x", classes, {"images/a.png": frozenset(each.casefold() for each in classes)})
    found = {asked(records[0], everywhere, seed)["other-class"].split(" in ")[0] for seed in range(40)}
    assert found == set(classes) - {"Cardiomegaly"}


def test_a_pool_s_records_have_classes_of_their_own() -> None:
    """Where neither the set nor the record says, p1 does, also within a sentence."""
    texts = {"a": "polyp", "b": "Tumor in the breast ultrasound image.", "c": "skin melanoma"}
    records = tuple(record({"p0": "", "p1": text}, name=name) for name, text in texts.items())
    facts = set_facts(Manifest(Path("pool"), records, {"members": {}}, ""))
    assert facts.classes == ("breast tumor", "polyp", "skin melanoma")
    assert asked(records[1], facts)["other-class"] in (
        "Polyp in the breast ultrasound image.", "Skin melanoma in the breast ultrasound image."
    )  # fmt: skip


def test_the_strangers_are_the_presets_own_classes_and_no_kin_of_what_they_replace() -> None:
    words = {str((read_preset(name).get("prompts_from") or {}).get("class")) for name in PRESETS}
    assert set(STRANGERS) <= words
    for name, family in STRANGERS.items():
        for stem in (name, *family):
            found = asked(record({"p1": f"one {stem}"}), SetFacts(f"{stem}"))
            assert found["other-class"].removeprefix("one ") in set(STRANGERS) - {name}


def test_a_class_that_the_prompt_does_not_name_is_asked_for_alone() -> None:
    found = asked(record({"p1": "a bright area"}), SetFacts("mydata"))
    assert found["other-class"] == "polyp"
    assert "class-alone" not in found  # it is the right prompt itself


@pytest.mark.parametrize(
    "one",
    [
        record({"p0": "", "p1": "polyp"}, foreground=0.0),
        record({"p0": "", "p1": "no polyp"}),
        record({"p0": "", "p1": "No polyp in the picture."}),
        record({"p0": ""}),
        record({"p0": "", "p1": " "}),
    ],
    ids=["nothing is marked", "no", "No", "no prompt", "blank"],
)
def test_nothing_is_asked_where_there_is_nothing_right_to_say(one: Record) -> None:
    assert questions(one, SetFacts("polyp"), 42) == ()


def test_a_text_of_a_list_is_the_one_that_the_run_s_seed_draws() -> None:
    one = record({"p1": [f"polyp number {number}" for number in range(20)]})
    texts = [asked(one, SetFacts("polyp"), seed)[RIGHT] for seed in range(10)]
    assert texts == [choose_prompt(one, "p1", seed, 0) for seed in range(10)]
    assert len(set(texts)) > 1


lists_of_places = st.lists(st.sampled_from(ALL_PLACES), min_size=1, max_size=4)
lists_of_sizes = st.lists(st.sampled_from(SIZES), min_size=1, max_size=3, unique=True)
classes = st.sampled_from(
    ["polyp", "left ventricular cavity", "small bowel", "right lower lobe", "Large cell"]
)
shapes = st.sampled_from(["round", "large round", "right ear", "bottom", "tiny", "two-chamber"])


@given(
    classes, lists_of_places, lists_of_sizes, shapes, st.sampled_from(sorted(COLOURS)),
    st.sampled_from(COUNT_WORDS[1:]), st.integers(0, 3),
)  # fmt: skip
def test_whatever_the_words_only_the_place_and_the_size_are_made_wrong(
    word: str, places: list[str], sizes: list[str], shape: str, colour: str, count: str, seed: int
) -> None:
    words = {
        "class": word, "place": ", ".join(places), "size": ", ".join(sizes), "shape": shape,
        "colour": colour, "count": count, "s": "",
    }  # fmt: skip
    one = record(fill_templates(DEFAULT_TEMPLATES, words), {key: words[key] for key in SEEN})
    found = asked(one, SetFacts(word), seed)
    right = found[RIGHT]
    assert list(found) == [key for key in LABELS if key in found]
    assert found == asked(one, SetFacts(word), seed)
    begin, _, end = right.rpartition(words["place"])
    assert found["wrong-place"] in {f"{begin}{other}{end}" for other in set(ALL_PLACES) - set(places)}
    head = f"{count} "
    others = {head + other + right[len(head + words["size"]) :] for other in set(SIZES) - set(sizes)}
    assert found["wrong-size"] in others
    assert found["paraphrase"].lower().count(word.lower()) >= 1
    assert found["other-class"] != right


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the published annotations are not there")
def test_each_published_text_is_altered_where_it_names_place_and_size() -> None:
    """All of three polyp sets, with the shapes that a model called them ("right ear", "a large bone")."""
    made = 0
    for path in sorted(ANNOTATIONS.glob("*/anns/*.json")):
        for number, entry in enumerate(json.loads(path.read_bytes())):
            found = asked(record(entry["prompts"], name=f"{path.parent}{number}"), SetFacts("polyp"))
            if not found:
                assert entry["prompts"]["p1"] == "no polyp"
                continue
            begin, places, end = re.fullmatch(r"(.* located in )(.*)( of the image)", found[RIGHT]).groups()  # type: ignore[union-attr]
            wrong = [f"{begin}{each}{end}" for each in ALL_PLACES if each not in places.split(", ")]
            assert found["wrong-place"] in wrong
            sizes = re.fullmatch(r"\w+ (\w+(?:, \w+)*) .*", found["wrong-size"])
            assert sizes is not None
            assert sizes[1] in SIZES
            assert found[RIGHT].split(" ")[1].strip(",") != sizes[1]
            assert "which" not in found["other-class"]
            made += 1
    assert made > 2000
