from __future__ import annotations

import pytest
import torch

from vlsmctl.models.tokens import CONTEXT_LENGTH, distinct, tokenize

START, END = 49406, 49407


def test_ids_are_clips() -> None:
    assert tokenize(["a photo of a cat"]).tolist() == [[START, 320, 1125, 539, 320, 2368, END]]
    assert tokenize([""]).tolist() == [[START, END]]
    assert tokenize(["Polyp"]).equal(tokenize(["  polyp\n"]))


def test_rows_are_padded_to_the_longest_prompt_here() -> None:
    ids = tokenize(["polyp", "", "one small polyp"])
    assert ids.dtype == torch.int64
    assert ids.shape == (3, 6)
    assert ids[1].tolist() == [START, END, 0, 0, 0, 0]
    assert ids[0, :4].equal(tokenize(["polyp"])[0])


@pytest.mark.parametrize("prompt", ["!°", "polyp!", "!" * 40, "polyp °!° polyp", "!ö!ä!", "0 !"])
def test_trimming_never_cuts_the_end_token(prompt: str) -> None:
    """Id 0 is padding, and also the token of a "!" that something follows."""
    (row,) = tokenize([prompt]).tolist()
    assert row[-1] == END
    assert row.count(END) == 1


def test_the_exclamation_mark_can_be_id_0() -> None:
    assert 0 in tokenize(["!°"])[0, :-1].tolist()  # else the test above tests nothing


def test_prompts_that_are_too_long_are_cut_and_still_end() -> None:
    ids = tokenize(["polyp " * 200, "polyp"])
    assert ids.shape == (2, CONTEXT_LENGTH)
    assert ids[0, -1] == END


def test_no_prompts() -> None:
    assert tokenize([]).shape == (0, 2)


def test_distinct() -> None:
    words, which = distinct(["b", "a", "b", "b", "c", "a"])
    assert words == ["b", "a", "c"]
    assert which.tolist() == [0, 1, 0, 0, 2, 1]
    assert which.dtype == torch.int64
    assert distinct([])[0] == []
