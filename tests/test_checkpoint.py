from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPSegConfig

from vlsmctl import checkpoint
from vlsmctl.adapters.build import attach, trained
from vlsmctl.checkpoint import (
    ADAPTER_FORMAT,
    AdapterFacts,
    load_adapted,
    put_trained,
    read_adapter,
    read_state,
    save_adapter,
    save_state,
)
from vlsmctl.errors import UsageError
from vlsmctl.models.build import Base
from vlsmctl.models.clipseg import ClipSeg, fresh
from vlsmctl.presence import Presence

SHA = "0" * 64


def small() -> ClipSeg:
    """Always the same small model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
                   "num_attention_heads": 2}  # fmt: skip
        config = CLIPSegConfig(
            text_config={**encoder, "vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49},
            vision_config={**encoder, "patch_size": 8, "image_size": 32},
            projection_dim=16, extract_layers=[0, 1], reduce_dim=8, decoder_num_attention_heads=2,
            decoder_intermediate_size=16,
        )  # fmt: skip
        return fresh(config).eval()


def facts(**changed: Any) -> AdapterFacts:
    known: dict[str, Any] = {
        "base": "tiny", "base_sha256": SHA, "method": "dense-vl", "bottleneck": 4, "image_size": 32,
        "threshold": 0.5, "class_prompt": "polyp", "data": "phantom", "manifest_sha256": SHA,
        "licences": {"base": "Apache-2.0", "data": "unknown"}, "vlsmctl": "0.1.0",
    }  # fmt: skip
    return AdapterFacts(**known | changed)


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Base:
    """The base model; `load_adapted` finds an equal one under any name."""
    monkeypatch.setattr(checkpoint, "build", lambda name, folder=None: Base(name, small(), SHA))
    return Base("tiny", small(), SHA)


def adapted(base: Base, method: str = "dense-vl") -> dict[str, Tensor]:
    """Attaches a method and moves what trains away from where it started."""
    attach(base.model, method, 4)
    with torch.no_grad():
        for value in trained(base.model).values():
            value.add_(0.1)
    return dict(trained(base.model))


def logits(model: ClipSeg) -> Tensor:
    tokens = torch.tensor([[48, 7, 49]])
    image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    with torch.no_grad():
        return model(image, tokens, torch.tensor([0]))  # type: ignore[no-any-return]


def altered(path: Path, **changed: Any) -> None:
    """Writes an adapter file whose facts are changed by hand."""
    document = json.loads(facts().model_dump_json()) | changed
    save_file({"adapter.x": torch.zeros(1)}, path, {"vlsmctl": json.dumps(document)})


@pytest.mark.parametrize("method", ["dense-vl", "dense-c", "shallow-vlc", "decoder", "full"])
def test_a_saved_adapter_gives_the_same_logits(tmp_path: Path, base: Base, method: str) -> None:
    before = logits(base.model)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, adapted(base, method), facts(method=method))
    loaded = load_adapted(path)
    assert logits(loaded.base.model).equal(logits(base.model))
    assert not logits(loaded.base.model).equal(before)
    assert loaded.facts == facts(method=method)


def test_only_trained_parameters_are_written(tmp_path: Path, base: Base) -> None:
    tensors = adapted(base)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, tensors, facts())
    _, found = read_adapter(path)
    assert set(found) == set(tensors)
    assert all(name.startswith("adapter.") for name in found)
    assert all(found[name].equal(tensors[name]) for name in found)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_method_without_parameters(tmp_path: Path, base: Base) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, {}, facts(method="none", bottleneck=None))
    assert logits(load_adapted(path).base.model).equal(logits(base.model))


def test_another_base_model_is_refused_unless_forced(tmp_path: Path, base: Base) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, adapted(base), facts(base_sha256="f" * 64))
    with pytest.raises(UsageError, match=f"expected sha256 {'f' * 12}, found {'0' * 12}") as caught:
        load_adapted(path)
    assert "--force" in str(caught.value.hint)
    assert logits(load_adapted(path, force=True).base.model).equal(logits(base.model))


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"base": "gpt"}, "needs base model 'gpt', known: clipseg, tiny"),
        ({"method": "lora"}, "needs method 'lora', known: dense-v, "),
        ({"bottleneck": 0}, "is not an adapter"),
        ({"image_size": -1}, "is not an adapter"),
        ({"threshold": 2}, "is not an adapter"),
        ({"surprise": 1}, "is not an adapter"),
        ({}, "does not fit its method: "),  # the one tensor in it belongs to no method
    ],
)
def test_facts_that_cannot_be(tmp_path: Path, changed: dict[str, Any], expected: str) -> None:
    path = tmp_path / "adapter.safetensors"
    altered(path, **changed)
    with pytest.raises(UsageError, match=expected):
        load_adapted(path)


def test_presence_is_kept_with_the_adapter(tmp_path: Path, base: Base) -> None:
    path = tmp_path / "adapter.safetensors"
    presence = Presence(
        slope=0.1 + 0.2, intercept=-1e-17, threshold=1 / 3, positives=31, negatives=9, auc=0.97
    )
    save_adapter(path, adapted(base), facts(presence=presence))
    assert load_adapted(path).facts.presence == presence
    for wrong in ({"slope": 1}, presence.model_dump() | {"threshold": -0.1}, [0.5]):
        altered(path, presence=wrong)
        with pytest.raises(UsageError, match="is not an adapter"):
            read_adapter(path)


def test_format_1_is_read_and_has_no_presence(tmp_path: Path) -> None:
    """As the versions before presence wrote it: without the key."""
    path = tmp_path / "adapter.safetensors"
    document = json.loads(facts().model_dump_json()) | {"format": 1}
    del document["presence"]
    save_file({"adapter.x": torch.ones(1)}, path, {"vlsmctl": json.dumps(document)})
    found, tensors = read_adapter(path)
    assert (found, found.format) == (facts(format=1), 1)
    assert found.presence is None
    assert tensors["adapter.x"].tolist() == [1]


def test_a_newer_format_says_so_even_with_facts_unknown_here(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    assert ADAPTER_FORMAT == 2
    altered(path, format=3, something_new=[1])
    with pytest.raises(UsageError, match="adapter format 3, this vlsmctl reads up to 2") as caught:
        read_adapter(path)
    assert caught.value.hint == "pip install --upgrade vlsmctl"


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_damaged_and_foreign_files(tmp_path: Path, base: Base) -> None:
    path, trap = tmp_path / "adapter.safetensors", tmp_path / "executed"
    save_adapter(path, adapted(base), facts())
    whole = path.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    torch.save({"x": torch.zeros(2)}, tmp_path / "torch.pt")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "broken.safetensors", {"vlsmctl": "{"})
    save_file({"x": torch.zeros(1)}, tmp_path / "list.safetensors", {"vlsmctl": "[1]"})
    contents = [
        b"", b"\x00", whole[:7], whole[: header // 2], whole[: header + 8], whole[:-1], whole + b"x",
        b"\xff" * 64, b"not a tensor in sight", pickle.dumps(Trap(trap)),
        *((tmp_path / name).read_bytes() for name in
          ("torch.pt", "foreign.safetensors", "broken.safetensors", "list.safetensors")),
    ]  # fmt: skip
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(
            UsageError, match="is not an adapter that vlsmctl wrote, or is damaged"
        ) as caught:
            read_adapter(path)
        assert "\n" not in str(caught.value)
        with pytest.raises(UsageError, match=r"the resume state cannot be read|another version"):
            read_state(path)
    assert not trap.exists()


def test_no_file_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "x.safetensors"):
        with pytest.raises(UsageError, match="no adapter file at") as caught:
            read_adapter(path)
        assert caught.value.hint == "vlsmctl train --preset NAME"
        with pytest.raises(UsageError, match="the resume state cannot be read"):
            read_state(path)


@pytest.mark.parametrize("change", ["missing", "added", "shape"])
def test_tensors_must_fit_exactly_and_else_nothing_is_changed(base: Base, change: str) -> None:
    tensors = {name: value.detach().clone() for name, value in adapted(base).items()}
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    name = sorted(tensors)[0]
    for value in tensors.values():
        value += 1
    if change == "missing":
        del tensors[name]
    elif change == "added":
        tensors["network.logit_scale"] = torch.zeros(())  # of the base model, which must not move
    else:
        tensors[name] = tensors[name][..., :1]
    with pytest.raises(UsageError, match=r"a\.st does not fit its method: 1 tensors differ"):
        put_trained(base, tensors, Path("a.st"))
    assert all(value.equal(before[key]) for key, value in base.model.state_dict().items())


def test_state_round_trip_is_bit_equal(tmp_path: Path) -> None:
    path = tmp_path / "state" / "last.safetensors"
    tensors = {
        "parameter/a": torch.randn(3, 4).t(), "optimizer/step/a": torch.tensor(7.0),
        "odd": torch.tensor([float("nan"), -0.0, 1e-45]), "count": torch.tensor([2**40]),
        "half": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0, 3),
    }  # fmt: skip
    known = {"progress": {"epoch": 3, "best_dice": -float("inf")}, "lr": 0.1 + 0.2, "scaler": None}
    save_state(path, tensors, known)
    found, loaded = read_state(path)
    assert found == known
    assert set(loaded) == set(tensors)
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        same = loaded[name].contiguous().view(torch.uint8) if value.dim() else loaded[name]
        assert same.equal(value.contiguous().view(torch.uint8) if value.dim() else value)


def test_a_state_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    documents: tuple[Any, ...] = ({"format": 99}, {}, [], 3)
    for document in documents:
        save_file({"x": torch.zeros(1)}, path, {"vlsmctl": json.dumps(document)})
        with pytest.raises(UsageError, match="another version of vlsmctl"):
            read_state(path)


def test_a_failed_write_leaves_the_file_before(tmp_path: Path, base: Base) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, adapted(base), facts())
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        save_adapter(path, {"x": "no tensor"}, facts())  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        save_state(path, {}, {"x": object()})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
