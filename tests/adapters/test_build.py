from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import CLIPSegConfig

from tests import goldens
from tests.models.small import images, small_config, tokens
from vlsmctl.adapters.build import ADAPTERS, METHODS, attach, count, trained
from vlsmctl.config import MethodsConfig
from vlsmctl.errors import UsageError
from vlsmctl.models.clipseg import ClipSeg, fresh

# Of the published code at full size, image size 224 in the configuration: method, trainable, total
PUBLISHED = [
    ("dense-v", 1_784_448, 152_532_194),
    ("dense-vl", 2_974_464, 153_722_210),
    ("dense-vlc", 3_237_376, 153_985_122),
    ("shallow-v", 2_363_136, 153_110_882),
    ("shallow-vl", 3_939_072, 154_686_818),
    ("shallow-vlc", 4_201_984, 154_949_730),
    ("decoder", 1_127_009, 150_747_746),
    ("full", 150_747_746, 150_747_746),
    ("none", 0, 150_747_746),
]
LARGER_POSITIONS = 221_184  # what 352 instead of 224 pixels adds to the totals


def full_size(image_size: int) -> ClipSeg:
    """CLIPSeg ViT-B/16 rd64 refined, without memory for its weights."""
    config = CLIPSegConfig(
        text_config={"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
                     "num_attention_heads": 8},
        vision_config={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                       "num_attention_heads": 12, "patch_size": 16, "image_size": image_size},
        projection_dim=512, reduce_dim=64, extract_layers=[3, 6, 9], decoder_intermediate_size=2048,
        use_complex_transposed_convolution=True,
    )  # fmt: skip
    return fresh(config)


def small(**changed: object) -> ClipSeg:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fresh(small_config(**changed)).eval()


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Blocks are attached with the same random weights in every run of a test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_methods_are_the_whole_grid() -> None:
    letters = {"v", "l", "c", "vl", "vlc"}
    grid = {f"{family}-{each}" for family in ("dense", "shallow") for each in letters}
    assert set(METHODS) == grid | {"decoder", "full", "none"}
    assert len(METHODS) == len(set(METHODS))
    published = MethodsConfig().model_dump()
    assert {method.split("-")[0] for method in METHODS} == {*published, "none"}
    assert set(ADAPTERS) == {family for family, values in published.items() if "bottleneck" in values}


@pytest.mark.parametrize(("method", "trainable", "total"), PUBLISHED)
def test_parameter_counts_at_full_size(method: str, trainable: int, total: int) -> None:
    with torch.device("meta"):
        model = full_size(224)
        attach(model, method)
    assert count(trained(model)) == trainable
    assert count(dict(model.named_parameters())) == total


def test_a_larger_input_adds_positions_only() -> None:
    with torch.device("meta"):
        totals = [count(dict(full_size(size).named_parameters())) for size in (224, 352)]
    assert totals[1] - totals[0] == LARGER_POSITIONS


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_what_it_should_and_nothing_else(method: str) -> None:
    model = small()
    base = set(dict(model.network.named_parameters(prefix="network")))
    attach(model, method, 4)
    names = set(trained(model))
    parts = {name.split(".")[1] for name in names if name.startswith("adapter.")}
    family, _, letters = method.partition("-")
    if family in ADAPTERS:
        assert parts == {{"v": "vision", "l": "text", "c": "condition"}[letter] for letter in letters}
        assert not names & base
    elif method == "decoder":
        assert names == {name for name in base if name.startswith("network.decoder.")}
    else:
        assert names == (base if method == "full" else set())
    assert count(trained(model)) == sum(value.numel() for value in trained(model).values())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])
def test_a_step_moves_the_trained_and_leaves_the_rest_bit_equal(method: str) -> None:
    model = small()
    attach(model, method, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = trained(model)
    which = torch.tensor([0, 1])
    loss = model(images(2), tokens(), which).square().mean()
    loss.backward()
    reached = {name for name, value in parameters.items() if value.grad is not None and value.grad.any()}
    torch.optim.AdamW(parameters.values(), lr=0.1).step()
    after = model.state_dict()
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    assert moved <= set(parameters)
    if method == "full":
        assert reached <= moved  # what lies behind the last layer used gets no gradient
        return
    assert moved == set(parameters)  # each is wired in, or at least decays
    blocks = {name.rsplit(".", 2)[0] for name in parameters}
    assert {name.rsplit(".", 2)[0] for name in reached} == blocks


@pytest.mark.parametrize("method", [method for method in METHODS if "-" in method])
def test_every_block_changes_the_logits(method: str) -> None:
    model = small()
    attach(model, method, 4)
    arguments = images(1), tokens()[:1], torch.tensor([0])
    with torch.no_grad():
        before = model(*arguments)
        for name in sorted({name.rsplit(".", 2)[0] for name in trained(model)}):
            block = model.get_submodule(name)
            kept = block.up.bias.clone()  # type: ignore[union-attr, operator]
            block.up.bias += torch.linspace(0, 5, len(kept))  # type: ignore[union-attr, operator]
            assert not torch.allclose(model(*arguments), before, atol=1e-5), name
            block.up.bias.copy_(kept)  # type: ignore[union-attr]
        assert model(*arguments).equal(before)


@pytest.mark.parametrize("method", [method for method in METHODS if method.startswith("dense")])
def test_dense_blocks_that_add_nothing_change_nothing(method: str) -> None:
    model = small()
    arguments = images(1), tokens()[:1], torch.tensor([0])
    with torch.no_grad():
        before = model(*arguments)
        attach(model, method, 4)
        for value in trained(model).values():
            value.zero_()
        assert model(*arguments).equal(before)


def test_bottlenecks() -> None:
    for family, bottleneck in (("dense", 64), ("shallow", 512)):
        model = small()
        attach(model, f"{family}-vlc")
        widths = {
            name.split(".")[1]: len(value) for name, value in trained(model).items() if "down.bias" in name
        }
        assert widths == {"vision": bottleneck, "text": bottleneck, "condition": 256}
    model = small()
    attach(model, "dense-vlc", 4)
    widths = {
        name.split(".")[1]: len(value) for name, value in trained(model).items() if "down.bias" in name
    }
    assert widths == {"vision": 4, "text": 4, "condition": 256}  # that of C is fixed, as published


@pytest.mark.parametrize("method", ["shallow-l", "shallow-vl", "shallow-vlc"])
def test_shallow_l_needs_equal_widths(method: str) -> None:
    with pytest.raises(
        UsageError, match=r"text states \(width 16\).*conditional embedding \(width 24\)"
    ) as e:
        attach(small(projection_dim=24), method)
    assert "method=shallow-v" in str(e.value.hint)


@pytest.mark.parametrize("method", ["shallow-v", "shallow-c", "dense-vlc"])
def test_the_others_do_not(method: str) -> None:
    model = small(projection_dim=24)
    attach(model, method, 4)
    assert model(images(1), tokens()[:1], torch.tensor([0])).isfinite().all()


def test_shallow_l_needs_a_text_layer_for_each_extracted_one() -> None:
    text = {**small_config().text_config.to_dict(), "num_hidden_layers": 2}
    with pytest.raises(UsageError, match="needs text layer 2, this model's text encoder has 2 layers"):
        attach(small(text_config=text), "shallow-l")
    shorter = small(text_config=text)
    attach(shorter, "dense-l", 4)
    assert shorter(images(1), tokens()[:1], torch.tensor([0])).isfinite().all()


@pytest.mark.parametrize("method", ["", "dense", "dense-cv", "lora", "decoder-v", "full-v"])
def test_unknown_methods(method: str) -> None:
    with pytest.raises(ValueError, match="known: dense-v, "):
        attach(small(), method)


def test_the_goldens_cover_both_families() -> None:
    methods = {goldens.method_of(goldens.load(case)[0]) for case in goldens.CASES}
    assert methods >= {method for method in METHODS if "-" in method}
