from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from vlsmctl.datasets.attributes import PLACES, count_word, place_word, size_word
from vlsmctl.datasets.shapes import (
    NOUNS,
    SHAPES,
    VOCABULARY,
    Scene,
    compose,
    count_matching,
    generator,
    make_choice,
    make_query,
    make_scene,
    matching,
)

SIDE = 64


def scenes(count: int, seed: int = 5) -> list[tuple[np.random.Generator, Scene]]:
    made = []
    for index in range(count):
        rng = generator(seed, index)
        made.append((rng, make_scene(rng, SIDE)))
    return made


def test_the_same_sample_is_drawn_everywhere_and_alone() -> None:
    one, again = make_scene(generator(1, 9), SIDE), make_scene(generator(1, 9), SIDE)
    assert np.array_equal(one.image, again.image)
    assert [thing.mask.tobytes() for thing in one.things] == [
        thing.mask.tobytes() for thing in again.things
    ]
    for seed, index in ((1, 10), (2, 9)):
        assert not np.array_equal(make_scene(generator(seed, index), SIDE).image, one.image)


def test_scenes_hold_what_their_words_say() -> None:
    for _, scene in scenes(60):
        assert scene.image.shape == (SIDE, SIDE, 3)
        assert scene.image.dtype == np.uint8
        assert 1 <= len(scene.things) <= 4
        assert scene.noun in NOUNS
        together = sum(thing.mask.astype(int) for thing in scene.things)
        assert np.max(together) == 1  # objects do not overlap
        for thing in scene.things:
            assert thing.mask.shape == (SIDE, SIDE)
            assert thing.mask.sum() >= 60
            for kind, words in VOCABULARY.items():
                assert getattr(thing, kind) in words
            assert thing.size == size_word(float(thing.mask.mean()))
            row, column = np.argwhere(thing.mask).mean(axis=0)
            assert thing.place == place_word(row, column, SIDE, SIDE)
            assert ndimage.label(thing.mask, np.ones((3, 3)))[1] == 1


def test_objects_stand_out_from_their_ground() -> None:
    gaps = []
    for _, scene in scenes(60):
        ground = ~matching(scene, {})
        for thing in scene.things:
            inside, outside = scene.image[thing.mask], scene.image[ground]
            gaps.append(np.abs(inside.mean(axis=0) - outside.mean(axis=0)).sum())
    assert np.median(gaps) > 100
    assert np.mean(np.array(gaps) < 40) < 0.05


def test_a_number_of_objects_can_be_asked_for() -> None:
    assert {len(make_scene(generator(3, k), SIDE, count=1).things) for k in range(30)} == {1}
    assert {len(make_scene(generator(3, k), SIDE, count=2).things) for k in range(60)} <= {1, 2}


def test_a_query_marks_exactly_the_objects_that_fit() -> None:
    for rng, scene in scenes(60):
        for about, thing in enumerate(scene.things):
            query = make_query(rng, scene, about)
            assert all(getattr(thing, kind) == word for kind, word in query.asked.items())
            assert (query.mask & thing.mask).sum() == thing.mask.sum()
            fitting = [
                each for each in scene.things
                if all(getattr(each, kind) == word for kind, word in query.asked.items())
            ]  # fmt: skip
            assert query.mask.sum() == sum(each.mask.sum() for each in fitting)
            assert scene.noun in query.prompt
            named(query.prompt, query.asked)


def named(prompt: str, asked: dict[str, str]) -> None:
    """Every attribute asked for is in the prompt, in one of its words."""
    for kind, word in asked.items():
        words = SHAPES[word] if kind == "shape" else (word,)
        assert any(each in prompt for each in words), (prompt, asked)


def test_a_query_for_what_is_absent_is_empty() -> None:
    for rng, scene in scenes(120):
        query = make_query(rng, scene, 0, absent=True)
        assert query.asked
        assert not query.mask.any()
        assert count_matching(scene, query.asked) == 0
        named(query.prompt, query.asked)


def test_a_choice_has_two_objects_and_a_prompt_for_each() -> None:
    for index in range(25):
        scene, first, second = make_choice(generator(8, index), SIDE)
        assert len(scene.things) == 2
        assert set(first.asked) == set(second.asked)
        for query, thing in zip((first, second), scene.things, strict=True):
            assert np.array_equal(query.mask, thing.mask)
            assert np.array_equal(matching(scene, query.asked), thing.mask)  # fits that one only
            named(query.prompt, query.asked)


def test_asking_for_nothing_in_particular_marks_all() -> None:
    _, scene = scenes(1)[0]
    assert count_matching(scene, {}) == len(scene.things)
    assert matching(scene, {}).sum() == sum(thing.mask.sum() for thing in scene.things)
    assert not matching(scene, {"colour": "no such"}).any()


def test_prompts_read_like_the_data_sets() -> None:
    asked = {"size": "small", "colour": "red", "shape": "oval", "place": "top left"}
    prompts = {compose(generator(0, k), asked, "polyp", 1) for k in range(200)}
    assert "one small red oval polyp, located in top left of the image" in prompts
    for prompt in prompts:
        assert "  " not in prompt
        assert prompt == prompt.strip()
        assert "polyps" not in prompt
    several = {compose(generator(0, k), {}, "polyp", 3) for k in range(50)}
    assert "three polyps" in several
    assert all(prompt.endswith("polyps") for prompt in several)


@pytest.mark.parametrize(
    ("coverage", "word"),
    [(0, "tiny"), (0.000999, "tiny"), (0.001, "small"), (0.08, "small"), (0.0801, "medium"),
     (0.30, "medium"), (0.301, "large"), (1, "large")],
)  # fmt: skip
def test_size_words(coverage: float, word: str) -> None:
    assert size_word(coverage) == word


@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_places_are_thirds_of_height_and_width(height: int, width: int, down: float, along: float) -> None:
    def third(fraction: float) -> int:
        return min(2, int(3 * fraction))

    word = place_word(down * height, along * width, height, width)
    rows = {third(down - 1e-9), third(down + 1e-9)}
    columns = {third(along - 1e-9), third(along + 1e-9)}
    assert word in {PLACES[row][column] for row in rows for column in columns}


def test_place_words_on_a_picture_that_is_not_square() -> None:
    assert place_word(10, 250, 90, 300) == "top right"
    assert place_word(80, 20, 90, 300) == "bottom left"
    assert place_word(45, 150, 90, 300) == "center"
    assert place_word(0, 0, 90, 300) == "top left"
    assert place_word(90, 300, 90, 300) == "bottom right"


def test_count_words() -> None:
    assert [count_word(number) for number in (0, 1, 2, 10, 11, 250)] == [
        "no", "one", "two", "ten", "eleven", "250",
    ]  # fmt: skip
