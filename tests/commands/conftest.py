from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.app import SMALL, vlsmctl
from vlsmctl.datasets.build import prepare


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """No test here may use the network, and none may find weights that lie on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("VLSMCTL_WEIGHTS", raising=False)
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in: `data/phantom`, and `runs` with one run of one epoch."""
    home = tmp_path_factory.mktemp("home")
    prepare("phantom", None, home / "data", counts=(8, 4, 4))
    vlsmctl(
        "train", "--preset", "phantom", "--data", home / "data", "--out", home / "runs", *SMALL,
        "--set", "train.epochs=1",
    )  # fmt: skip
    return home


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, as the working directory."""
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache for this process."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def _save_clipseg(folder: Path, seed: int) -> Path:
    import torch
    from transformers import CLIPSegConfig

    from vlsmctl.models.clipseg import fresh

    torch.manual_seed(seed)
    layers = {"num_hidden_layers": 4, "num_attention_heads": 2}
    config = CLIPSegConfig(
        vision_config={
            **layers,
            "hidden_size": 32,
            "intermediate_size": 64,
            "image_size": 64,
            "patch_size": 16,
        },
        text_config={**layers, "hidden_size": 16, "intermediate_size": 32},
        projection_dim=16,
        extract_layers=[1, 2, 3],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        use_complex_transposed_convolution=True,
    )
    fresh(config).network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small CLIPSeg, laid out as on the hub: config.json and model.safetensors."""
    return _save_clipseg(tmp_path_factory.mktemp("clipseg"), 0)


@pytest.fixture(scope="session")
def other_clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with other numbers in it."""
    return _save_clipseg(tmp_path_factory.mktemp("other"), 1)
