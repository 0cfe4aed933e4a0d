"""Promises 2 and 5: the base never moves, nothing is lost, a resumed run ends with the same bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vlsmctl import runs, training
from vlsmctl.checkpoint import load_adapted, read_adapter, read_state
from vlsmctl.config import Preset, load_preset
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import Manifest, read_manifest
from vlsmctl.errors import UsageError
from vlsmctl.formats.raster import read_mask_picture, read_picture
from vlsmctl.losses import LOSSES
from vlsmctl.models.build import build
from vlsmctl.preprocessing import Preprocessing
from vlsmctl.presence import Presence, calibrate, presence_score
from vlsmctl.resume import EpochLine, Progress
from vlsmctl.runtime import StopFlag
from vlsmctl.training import Fitted, fit
from vlsmctl.validation import forward

METHODS = ["dense-vlc", "shallow-vlc", "decoder", "full"]


class Silent:
    """Watches nothing, but can ask for a stop after a given batch."""

    def __init__(self, stop: StopFlag | None = None, epoch: int = 0, batch: int = 0) -> None:
        self.stop, self.where, self.lines = stop, (epoch, batch), list[EpochLine]()

    def started(self, trainable: int, total: int, images: int, device: str) -> None: ...

    def batch_done(self, epoch: int, batch: int, batches: int, loss: torch.Tensor) -> None:
        if self.stop is not None and (epoch, batch) == self.where:
            self.stop.asked = True

    def epoch_done(self, line: EpochLine, progress: Progress) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two of its six validation pictures show no polyp, and plainly so: they are black."""
    out = tmp_path_factory.mktemp("data")
    prepare("phantom", None, out, seed=4, counts=(10, 6, 2))
    manifest = read_manifest(out / "phantom")
    without = [record for record in manifest.split("val") if record.foreground == 0]
    assert len(without) == 2
    for record in without:
        Image.new("RGB", (record.width, record.height)).save(manifest.folder / record.image)
    return manifest


def presence_of(run: Path) -> Presence | None:
    return read_adapter(run / runs.ADAPTER)[0].presence


def preset(method: str, **train: Any) -> Preset:
    settings = {"epochs": 3, "batch_size": 4, "seed": 7} | train
    overrides = [f"train.{key}={value}" for key, value in settings.items()]
    return load_preset("phantom", [f"method={method}", "image_size=64", "train.lr=null", *overrides])


def train(
    manifest: Manifest, run: Path, method: str, *, resume: bool = False, watcher: Silent | None = None,
    stop: StopFlag | None = None, **settings: Any,
) -> Fitted:  # fmt: skip
    run.mkdir(parents=True, exist_ok=True)
    chosen = preset(method, **settings)
    return fit(
        chosen, build(chosen.model), manifest, run, stop=stop or StopFlag(), watcher=watcher or Silent(),
        resume=resume,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["dense-vlc", "shallow-vlc"])
def test_an_adapter_leaves_every_base_tensor_bit_equal(
    manifest: Manifest, tmp_path: Path, method: str
) -> None:
    base = build("tiny")
    before = {name: value.clone() for name, value in base.model.network.state_dict().items()}
    chosen = preset(method)
    fit(chosen, base, manifest, tmp_path, stop=StopFlag(), watcher=Silent())
    after = base.model.network.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    moved = read_adapter(tmp_path / runs.ADAPTER)[1]
    assert moved
    assert all(name.startswith("adapter.") for name in moved)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_gives_bit_equal_logits(manifest: Manifest, tmp_path: Path, method: str) -> None:
    base, chosen = build("tiny"), preset(method, epochs=1)
    fit(chosen, base, manifest, tmp_path, stop=StopFlag(), watcher=Silent())
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    again = load_adapted(tmp_path / runs.ADAPTER).base.model
    cpu = torch.device("cpu")
    with torch.no_grad():
        first = forward(base.model.eval(), image, ["polyp", "red polyp"], cpu)
        second = forward(again, image, ["polyp", "red polyp"], cpu)
    assert torch.equal(first, second)
    untouched = build("tiny").model
    with torch.no_grad():
        assert not torch.equal(first, forward(untouched, image, ["polyp", "red polyp"], cpu))


@pytest.mark.parametrize("method", METHODS)
def test_stopped_within_an_epoch_and_resumed_equals_uninterrupted(
    manifest: Manifest, tmp_path: Path, method: str
) -> None:
    whole = train(manifest, tmp_path / "whole", method, augment="light")
    stop = StopFlag()
    watcher = Silent(stop, epoch=2, batch=2)
    half = train(manifest, tmp_path / "cut", method, augment="light", stop=stop, watcher=watcher)
    assert half.interrupted
    assert half.progress.epoch == 1
    assert half.presence is presence_of(tmp_path / "cut") is None
    assert runs.read_run(tmp_path / "cut")["status"] == "interrupted"
    resumed = train(manifest, tmp_path / "cut", method, augment="light", resume=True)
    assert resumed.progress == whole.progress
    for name in (runs.ADAPTER, runs.STATE):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert resumed.presence == whole.presence == presence_of(tmp_path / "whole") is not None


def test_killed_after_the_adapter_but_before_the_state(manifest: Manifest, tmp_path: Path) -> None:
    """The order of writing: adapter, metrics, state. A kill between them repeats the epoch."""
    whole = train(manifest, tmp_path / "whole", "dense-v")
    train(manifest, tmp_path / "cut", "dense-v", epochs=1)
    state = (tmp_path / "cut" / runs.STATE).read_bytes()
    train(manifest, tmp_path / "cut", "dense-v", epochs=2, resume=True)
    (tmp_path / "cut" / runs.STATE).write_bytes(state)
    with (tmp_path / "cut" / runs.METRICS).open("a", encoding="utf-8") as stream:
        stream.write('{"epoch": 3, "lo')
    train(manifest, tmp_path / "cut", "dense-v", resume=True)
    assert whole.progress.epoch == 3
    for name in (runs.ADAPTER, runs.STATE):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_stops_early_when_validation_no_longer_improves(manifest: Manifest, tmp_path: Path) -> None:
    watcher = Silent()
    fitted = train(
        manifest, tmp_path, "dense-c", epochs=50, min_epochs=2, patience=2, min_delta=1.0, watcher=watcher
    )
    assert fitted.progress.epoch == 3
    assert fitted.progress.best_epoch == 1
    assert [line.epoch for line in watcher.lines] == [1, 2, 3]


def test_the_learning_rate_falls_on_a_plateau_and_the_loss_falls(
    manifest: Manifest, tmp_path: Path
) -> None:
    watcher = Silent()
    train(
        manifest, tmp_path, "dense-vl", epochs=12, min_epochs=12, lr_patience=1, watcher=watcher,
        lr_factor=0.5, min_delta=0.5,
    )  # fmt: skip
    lines = watcher.lines
    assert min(line.lr for line in lines) < lines[0].lr
    assert sum(line.loss for line in lines[-3:]) < sum(line.loss for line in lines[:3])


def test_method_none_trains_nothing_and_is_scored(manifest: Manifest, tmp_path: Path) -> None:
    fitted = train(manifest, tmp_path, "none")
    facts, tensors = read_adapter(tmp_path / runs.ADAPTER)
    assert (fitted.trainable, tensors, facts.method) == (0, {}, "none")
    assert 0 <= fitted.progress.best_dice <= 1
    assert facts.presence == fitted.presence is not None
    before = (tmp_path / runs.ADAPTER).read_bytes()
    train(manifest, tmp_path, "none", resume=True)
    assert (tmp_path / runs.ADAPTER).read_bytes() == before


def test_run_json_says_what_is_needed_to_repeat_it(manifest: Manifest, tmp_path: Path) -> None:
    fitted = train(manifest, tmp_path, "shallow-v", epochs=1)
    document = runs.read_run(tmp_path)
    assert document["status"] == "finished"
    assert document["data"]["manifest_sha256"] == manifest.hash
    assert document["preset"]["train"]["lr"] == 3e-4
    assert document["preset"]["adapter"]["bottleneck"] == 512
    assert document["parameters"]["trainable"] == fitted.trainable == 3 * (2 * 128 * 512 + 512 + 128)
    assert document["versions"]["torch"]
    assert document["best"]["epoch"] == 1
    assert list((tmp_path / "tensorboard").iterdir())
    facts, _ = read_adapter(tmp_path / runs.ADAPTER)
    assert (facts.base, facts.class_prompt, facts.image_size) == ("tiny", "polyp", 64)


def scores_by_hand(run: Path, manifest: Manifest) -> tuple[list[float], list[bool], list[float]]:
    """Score, presence and Dice of the validation pictures by the adapter file alone, one by one."""
    model, preprocessing = load_adapted(run / runs.ADAPTER).base.model, Preprocessing(64)
    scores, present, dice = [], [], []
    for record in sorted(manifest.split("val"), key=lambda record: record.id):
        picture = preprocessing.resize_image(read_picture(manifest.folder / record.image))
        native = read_mask_picture(manifest.folder / record.mask)
        mask = torch.tensor(preprocessing.resize_mask(native) > 127)
        image = torch.tensor(picture).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = forward(model, image, ["polyp"], torch.device("cpu"))
        found, both = logits[0, 0] > 0, int(((logits[0, 0] > 0) & mask).sum())
        sizes = int(found.sum()) + int(mask.sum())
        scores.append(float(presence_score(logits)))
        present.append(bool((native > 127).any()))
        dice.append(2 * both / sizes if sizes else 1.0)
    return scores, present, dice


@pytest.mark.parametrize("method", ["dense-vlc", "none"])
def test_presence_is_calibrated_with_the_adapter_that_is_kept(
    manifest: Manifest, tmp_path: Path, method: str
) -> None:
    """Not with the last epoch's, where the best came before; that one stays in the file."""
    settings = {"method": method, "image_size": 64, "prompts.eval": "p1", "train.lr": "null",
                "train.batch_size": 4, "train.min_delta": 1}  # fmt: skip
    for epochs in (1, 4):
        run = tmp_path / str(epochs)
        run.mkdir()
        changed = [f"{key}={value}" for key, value in settings.items()]
        chosen = load_preset("phantom", [*changed, f"train.epochs={epochs}"])
        fitted = fit(chosen, build("tiny"), manifest, run, stop=StopFlag(), watcher=Silent())
    first, run = tmp_path / "1", tmp_path / "4"
    assert (run / runs.ADAPTER).read_bytes() == (first / runs.ADAPTER).read_bytes()
    assert fitted.progress.best_epoch < fitted.progress.epoch or method == "none"
    expected, found = calibrate(*scores_by_hand(run, manifest)), presence_of(run)
    assert expected is not None
    assert found is not None
    assert found.model_dump() == pytest.approx(expected.model_dump(), rel=1e-3)
    assert (found.positives, found.negatives, found.auc) == (4, 2, 1)
    assert found.slope > 0.1
    assert runs.read_run(run)["presence"] == found.model_dump()
    ended = training.finished(run)
    assert ended is not None
    assert ended.presence == fitted.presence == found


@pytest.mark.parametrize("kept", [True, False])
def test_a_validation_set_of_one_kind_teaches_no_presence(
    manifest: Manifest, tmp_path: Path, kept: bool
) -> None:
    records = tuple(one for one in manifest.records if one.split != "val" or (one.foreground > 0) == kept)
    fitted = train(replace(manifest, records=records), tmp_path, "dense-c", epochs=1)
    document = runs.read_run(tmp_path)
    assert fitted.presence is presence_of(tmp_path) is document["presence"] is None
    with_or_without = "without" if kept else "with"
    assert document["presence_missing"] == f"the validation set has no picture {with_or_without} a target"


@pytest.mark.parametrize("step", ["calibrate_adapter", "_write_end"])
@pytest.mark.parametrize("method", ["dense-vlc", "none"])
def test_killed_around_calibration_and_resumed_equals_uninterrupted(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, step: str
) -> None:
    whole = train(manifest, tmp_path / "whole", method, epochs=2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, step, killed)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "cut", method, epochs=2)
    assert runs.read_run(tmp_path / "cut")["status"] == "running"
    assert training.finished(tmp_path / "cut") is None
    assert (presence_of(tmp_path / "cut") is None) == (step == "calibrate_adapter")
    resumed = train(manifest, tmp_path / "cut", method, epochs=2, resume=True)
    assert resumed.presence == whole.presence is not None
    for name in (runs.ADAPTER, runs.STATE) if method != "none" else (runs.ADAPTER,):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ends = [runs.read_run(tmp_path / name) for name in ("whole", "cut")]
    assert [end["presence"] for end in ends] == [whole.presence.model_dump()] * 2
    assert [end["status"] for end in ends] == ["finished"] * 2


def test_a_damaged_state_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    train(manifest, tmp_path, "dense-c", epochs=1)
    path = tmp_path / runs.STATE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="resume state cannot be read"):
        train(manifest, tmp_path, "dense-c", epochs=2, resume=True)


def test_a_picture_that_is_gone_is_named(manifest: Manifest, tmp_path: Path) -> None:
    copy = tmp_path / "phantom"
    shutil.copytree(manifest.folder, copy)
    changed = read_manifest(copy)
    (copy / changed.split("train")[0].image).unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        train(changed, tmp_path / "run", "dense-c", epochs=1)


def test_the_state_holds_no_more_than_what_trains(manifest: Manifest, tmp_path: Path) -> None:
    train(manifest, tmp_path, "dense-c", epochs=1)
    _, tensors = read_state(tmp_path / runs.STATE)
    assert {key.split("/")[-1].split(".")[0] for key in tensors} == {"adapter"}


def test_a_loss_that_is_no_number_ends_training_with_the_state_kept(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(manifest, tmp_path, "dense-c", epochs=1)
    kept = (tmp_path / runs.STATE).read_bytes(), (tmp_path / runs.ADAPTER).read_bytes()
    monkeypatch.setitem(LOSSES, "dice_ce", lambda logits, mask: logits.sum() * float("nan"))
    with pytest.raises(UsageError, match="loss of epoch 2 is nan"):
        train(manifest, tmp_path, "dense-c", epochs=2, resume=True)
    assert ((tmp_path / runs.STATE).read_bytes(), (tmp_path / runs.ADAPTER).read_bytes()) == kept


def test_a_prompt_that_pictures_lack_is_said_before_training(manifest: Manifest, tmp_path: Path) -> None:
    chosen = load_preset("phantom", ["prompts.train=p9", "image_size=64"])
    with pytest.raises(UsageError, match="no prompt 'p9'"):
        fit(chosen, build("tiny"), manifest, tmp_path, stop=StopFlag(), watcher=Silent())
    assert not list(tmp_path.iterdir())


def test_killed_before_the_first_state_leaves_no_line_twice(manifest: Manifest, tmp_path: Path) -> None:
    train(manifest, tmp_path, "dense-c", epochs=1)
    (tmp_path / runs.STATE).unlink()
    train(manifest, tmp_path, "dense-c", epochs=2, resume=True)
    assert [epoch for epoch, _, _ in losses(tmp_path)] == [1, 2]


@pytest.mark.slow
def test_two_processes_train_as_one(manifest: Manifest, tmp_path: Path) -> None:
    """Data parallel over two CPU processes gives the adapter that one process gives, but for rounding."""
    arguments = [
        "train", "--preset", "phantom", "--data", str(manifest.folder), "--set", "method=dense-v",
        "--set", "image_size=64", "--set", "train.epochs=2", "--set", "train.batch_size=4",
        "--set", "train.augment=none",
    ]  # fmt: skip
    command = Path(sys.executable).with_name("vlsmctl")
    launch: dict[str, Callable[[], list[str]]] = {
        "one": lambda: [str(command)],
        "two": lambda: [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
            "vlsmctl",
        ],
    }  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, start in launch.items():
        subprocess.run(  # noqa: S603
            [*start(), *arguments, "--out", str(tmp_path / name)], check=True, env=environment, timeout=280
        )
    found = {name: runs.find_run(None, tmp_path / name) for name in launch}
    assert runs.read_run(found["two"])["processes"] == 2
    one, two = (read_adapter(folder / runs.ADAPTER)[1] for folder in found.values())
    calibrated = [presence_of(folder) for folder in found.values()]
    assert [(one.positives, one.negatives) for one in calibrated if one] == [(4, 2)] * 2
    assert set(one) == set(two)
    for key, value in one.items():
        # Adam turns rounding into whole steps where a gradient is nearly zero, so single entries may
        # differ by a few steps (1e-3); most must agree.
        assert (value - two[key]).abs().mean() < 1e-4, key
    for first, second in zip(losses(found["one"]), losses(found["two"]), strict=True):
        assert second[1] == pytest.approx(first[1], abs=1e-3)
    assert len(list((tmp_path / "two" / "phantom").iterdir())) == 1


def losses(run: Path) -> list[tuple[int, float, float]]:
    lines = (run / runs.METRICS).read_text(encoding="utf-8").splitlines()
    return [(line["epoch"], line["loss"], line["dice"]) for line in map(json.loads, lines)]
