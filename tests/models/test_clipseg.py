from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from tests import goldens
from tests.models.small import PATCH, SIDE, images, small_config, tokens
from vlsmctl.adapters.build import attach
from vlsmctl.models.clipseg import ClipSeg, fresh
from vlsmctl.models.tokens import distinct, tokenize

METHODS = ("none", "dense-vlc", "shallow-vlc")


def small(method: str = "none", **changed: object) -> ClipSeg:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fresh(small_config(**changed)).eval()
        attach(model, method, 4)
    return model


def asked(model: ClipSeg, image: Tensor, ids: Tensor, *which: int) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(image, ids, torch.tensor(which))
    return logits


def rows_seen(model: ClipSeg) -> dict[str, list[int]]:
    """Counts the rows that go into every layer of both encoders and into the decoder, by layer."""
    seen: dict[str, list[int]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            first = arguments[0]
            seen.setdefault(name, []).append(len(first[0] if isinstance(first, list) else first))

        module.register_forward_pre_hook(hook)

    clip = model.network.clip
    for part, encoder in (("vision", clip.vision_model.encoder), ("text", clip.text_model.encoder)):
        for number, layer in enumerate(encoder.layers):
            watch(f"{part}.{number}", layer)
    watch("decoder", model.network.decoder)
    return seen


@pytest.mark.parametrize("method", METHODS)
def test_padding_beyond_the_longest_prompt_changes_nothing(method: str) -> None:
    model, image = small(method), images(3)
    expected = asked(model, image, tokens(), 0, 1, 2)
    for more, padding in ((1, 0), (40, 0), (5, 49)):  # CLIP itself pads with the end token
        padded = nn.functional.pad(tokens(), (0, more), value=padding)
        assert (asked(model, image, padded, 0, 1, 2) - expected).abs().max() <= 1e-5


def test_a_golden_prompt_trimmed_to_its_own_length() -> None:
    """In the goldens, prompts are padded to the full context; rows 0 and 2 are shorter."""
    model = goldens.model("dense_vlc")
    image, ids, _ = goldens.inputs(goldens.load("dense_vlc")[1])
    lengths = [int(row.argmax()) + 1 for row in ids]
    assert sorted(lengths)[0] < sorted(lengths)[1] < ids.shape[1]
    together = asked(model, image, ids, 0, 1, 2)
    for row, length in enumerate(lengths):
        alone = asked(model, image[row : row + 1], ids[row : row + 1, :length], 0)
        assert (together[row : row + 1] - alone).abs().max() <= 1e-5


def test_prompts_and_pictures_do_matter() -> None:
    """Else the tests of equality here would test nothing."""
    for method in METHODS:
        model = small(method)
        one, other = asked(model, images(1).expand(2, -1, -1, -1), tokens(), 0, 1)
        assert (one - other).abs().max() > 1e-3
        first, second = asked(model, images(2), tokens(), 0, 0)
        assert (first - second).abs().max() > 1e-3


def test_no_vision_layer_after_the_last_extracted_one_is_run() -> None:
    model = small()
    seen = rows_seen(model)
    asked(model, images(2), tokens(), 0, 1)
    vision = {name: counts for name, counts in seen.items() if name.startswith("vision")}
    assert vision == {"vision.0": [2], "vision.1": [2], "vision.2": [2]}  # extracted: 0 and 2; 3 is spared


def test_each_distinct_prompt_is_encoded_once() -> None:
    model = small()
    seen = rows_seen(model)
    asked(model, images(5), tokens()[:2], 1, 0, 0, 1, 1)
    assert {name: counts for name, counts in seen.items() if name.startswith("text")} == {
        f"text.{number}": [2] for number in range(4)
    }
    assert seen["decoder"] == [5]


def test_which_row_of_the_prompts_goes_with_which_image() -> None:
    prompts = ["polyp", "foot ulcer", "polyp", "polyp", "foot ulcer"]
    words, which = distinct(prompts)
    text = {**small_config().text_config.to_dict(), "vocab_size": 49408, "eos_token_id": 49407}
    model, image = small(text_config=text), images(5)
    with torch.no_grad():
        together = model(image, tokenize(words), which)
    for number, prompt in enumerate(prompts):
        alone = asked(model, image[number : number + 1], tokenize([prompt]), 0)
        assert (together[number : number + 1] - alone).abs().max() <= 1e-5
    assert Counter(which.tolist()) == {0: 3, 1: 2}


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_one_equals_its_row_of_a_batch(method: str) -> None:
    model, image = small(method), images(4)
    which = (0, 1, 2, 1)
    together = asked(model, image, tokens(), *which)
    for number, prompt in enumerate(which):
        alone = asked(model, image[number : number + 1], tokens()[prompt : prompt + 1], 0)
        assert (together[number : number + 1] - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("side", [PATCH, 2 * PATCH, SIDE, 5 * PATCH, 9 * PATCH])
@pytest.mark.parametrize("method", METHODS)
def test_any_multiple_of_the_patch(side: int, method: str) -> None:
    logits = asked(small(method), images(2, side), tokens(), 0, 1)
    assert logits.shape == (2, 1, side, side)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_the_plain_transposed_convolution_too() -> None:
    model = small(use_complex_transposed_convolution=False)
    assert asked(model, images(2, 48), tokens(), 0, 1).shape == (2, 1, 48, 48)


def test_activations_are_those_of_the_extracted_layers() -> None:
    model = small()
    with torch.no_grad():
        handed = model.encode_images(images(2))
        everything = model.network.clip.vision_model(images(2), output_hidden_states=True).hidden_states
    assert [tuple(each.shape) for each in handed] == [(2, 1 + (SIDE // PATCH) ** 2, 24)] * 2
    for each, layer in zip(handed, (0, 2), strict=True):
        torch.testing.assert_close(each, everything[layer + 1], atol=1e-5, rtol=0)


def test_it_is_transformers_own_forward() -> None:
    model = small()
    ids = tokens()
    with torch.no_grad():
        theirs = model.network(
            input_ids=ids, pixel_values=images(3), attention_mask=(ids != 0).long()
        ).logits
    ours = asked(model, images(3), ids, 0, 1, 2)
    assert (ours[:, 0] - theirs).abs().max() <= 1e-5


def test_a_new_decoder_starts_with_logits_of_a_sane_size() -> None:
    assert asked(small(), images(4), tokens(), 0, 1, 2, 0).abs().max() < 10


def test_conditions_can_be_computed_once_and_used_again() -> None:
    model, image = small("shallow-vlc"), images(2)
    with torch.no_grad():
        condition = model.encode_prompts(tokens())
        assert condition.shape == (3, 16)
        again = model.decode(model.encode_images(image), condition[[2, 0]])
    assert again.equal(asked(model, image, tokens(), 2, 0))


@pytest.mark.parametrize("method", ["dense-vlc", "shallow-vlc"])
def test_attaching_to_one_model_leaves_another_alone(method: str) -> None:
    untouched, before = small(), asked(small(), images(1), tokens(), 0)
    small(method)
    assert asked(untouched, images(1), tokens(), 0).equal(before)
    assert not list(untouched.adapter.parameters())


def test_places_depth_is_the_last_extracted_layer() -> None:
    places = small().places
    assert places.depth == 2
    assert (places.vision.width, places.text.width, places.condition_width) == (24, 16, 16)
    assert (len(places.vision.attention), len(places.text.mlp), len(places.activations)) == (4, 4, 2)
