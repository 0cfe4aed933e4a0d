"""Every public data set from a fake of its raw layout to scores, through the real command line: what a
person types, with the preset as it ships, on the tiny model and pictures of a few pixels."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.app import vlsmctl
from vlsmctl.datasets.kinds import DATASETS
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.datasets.pooling import POOLS

PUBLIC = [name for name in DATASETS if name not in ("phantom", "generic")]
ONE_STEP = (
    "--set", "model=tiny", "--set", "image_size=32", "--set", "train.epochs=1",
    "--set", "train.min_epochs=1", "--set", "train.batch_size=64",
)  # fmt: skip


def write_fake(name: str, root: Path) -> Path:
    write: Callable[[Path], Path] = importlib.import_module(f"tests.datasets.fakes.{name}").write
    return write(root)


def trained_and_scored(name: str, folder: Path) -> dict[str, object]:
    run = vlsmctl(
        "train", "--preset", name, "--data", folder / "data", "--out", folder / "runs", *ONE_STEP
    ).out.strip()
    document = vlsmctl("eval", run.splitlines()[-1], "--data", folder / "data", "--json").document
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("name", PUBLIC)
def test_from_raw_files_to_scores(name: str, tmp_path: Path) -> None:
    raw = write_fake(name, tmp_path / "downloads")
    found = vlsmctl("prepare", "--raw", tmp_path / "downloads", "--plan", "--json").document
    assert [one["name"] for one in found["recognised"]] == [name]
    vlsmctl("prepare", name, "--raw", raw, "--out", tmp_path / "data")
    manifest = read_manifest(tmp_path / "data" / name)
    assert all(manifest.split(split) for split in ("train", "val", "test"))
    assert {"p0", "p1"} <= manifest.records[0].prompts.keys()
    document = trained_and_scored(name, tmp_path)
    assert document["n"] == len(manifest.split("test"))


@pytest.mark.parametrize("pool", POOLS)
def test_pooled_sets_from_their_raw_folder_to_scores(pool: str, tmp_path: Path) -> None:
    for member in POOLS[pool].members:
        write_fake(member, tmp_path / "raw" / member)
    vlsmctl("prepare", pool, "--raw", tmp_path / "raw", "--out", tmp_path / "data")
    manifest = read_manifest(tmp_path / "data" / pool)
    assert {record.attributes["dataset"] for record in manifest.records} == set(POOLS[pool].members)
    document = trained_and_scored(pool, tmp_path)
    assert document["n"] == len(manifest.split("test"))
