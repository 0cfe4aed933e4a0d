"""What `vlsmctl bench` measures is what `predict` and `eval` do, and its figures fit together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.commands.app import error_line, vlsmctl
from vlsmctl import bench, bench_scoring
from vlsmctl.evaluation import score_cases
from vlsmctl.formats.raster import read_picture
from vlsmctl.pairing import CasePair
from vlsmctl.predictor import predictor_from_model

SMALL = ("--frames", "3", "--size", "48", "--batch-size", "2", "--workers", "1", "--device", "cpu")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_figures_fit_together_and_nothing_is_left_behind(here: Path, scratch: Path) -> None:
    document = vlsmctl("bench", *SMALL, "--repeats", "2", "--json").document
    assert list(document["parts"]) == ["forward", "volume", "pictures"]
    forward = document["parts"]["forward"]["per_second"]
    for part in document["parts"].values():
        assert len(part["seconds"]) == 2
        assert part["per_second"] == pytest.approx(3 / np.median(part["seconds"]), rel=0.05)
        assert part["ratio"] == pytest.approx(part["per_second"] / forward, rel=0.01)
        assert part["gpu_peak_bytes"] is None
        assert 2**20 < part["peak_bytes"] <= document["peak_bytes"]
    assert document["parts"]["forward"]["ratio"] == 1
    facts = {"frames": 3, "size": 48, "batch_size": 2, "workers": 1, "device": "cpu", "input_size": 160}
    assert facts.items() <= document.items()
    assert document["machine"]["torch"] == torch.__version__.split("+")[0]
    assert not list(here.iterdir())
    assert not list(scratch.iterdir())


def test_a_table_for_people(here: Path, scratch: Path) -> None:
    answer = vlsmctl("bench", *SMALL, "--repeats", "1", "--model", "tiny")
    for what in (*bench.PARTS.values(), "tiny, zero-shot", "3 frames of 48 x 48", "MiB", "cpu cores"):
        assert what in answer.out
    assert "on the GPU" not in answer.out


def test_a_run_is_measured_with_its_adapter(home: Path, here: Path, scratch: Path) -> None:
    run = home / "runs" / "latest"
    document = vlsmctl("bench", *SMALL, "--repeats", "1", "--run", run, "--json").document
    assert document["model"] == "tiny with dense-vlc"
    assert document["input_size"] == 64


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--model", "tiny", "--adapter", "a.safetensors"), "give one of --run, --adapter and --model"),
        (("--model", "large"), "--model 'large': known are"),
        (("--device", "cuda:99"), "--device 'cuda:99'"),
    ],
)
def test_what_cannot_be_measured(here: Path, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in error_line(vlsmctl("bench", *arguments, code=2))


def test_failed_scans_give_no_figures(here: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.write_pictures

    def one_broken(folder: Path, count: int, size: int) -> None:
        real(folder, count, size)
        (folder / "00001.png").write_bytes((folder / "00001.png").read_bytes()[:200])

    monkeypatch.setattr(bench, "write_pictures", one_broken)
    answer = vlsmctl("bench", *SMALL, "--json", code=1)
    assert "nothing to measure: predict failed" in error_line(answer)
    assert not answer.out
    assert not list(scratch.iterdir())


def test_every_part_does_the_work_it_is_measured_by(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = predictor_from_model("tiny", device=torch.device("cpu"))
    images, prompts, rounds = list[int](), list[int](), list[list[int]]()
    encode_images, encode_prompts = predictor.model.encode_images, predictor.model.encode_prompts

    def counted_images(image: torch.Tensor) -> list[torch.Tensor]:
        images.append(len(image))
        return encode_images(image)

    def counted_prompts(tokens: torch.Tensor) -> torch.Tensor:
        prompts.append(len(tokens))
        return encode_prompts(tokens)

    def told() -> None:
        rounds.append(images.copy())
        images.clear()

    monkeypatch.setattr(predictor.model, "encode_images", counted_images)
    monkeypatch.setattr(predictor.model, "encode_prompts", counted_prompts)
    bench.run_bench(predictor, frames=5, size=32, repeats=2, batch_size=2, workers=1, told=told)
    assert len(rounds) == 6
    rounds[0] = rounds[0][-3:]  # before them, the warming up
    assert rounds[0] == rounds[3] == [2, 2, 1]
    assert all(sum(each) in (5, 6) for each in rounds)  # predict may fill up a batch
    assert set(prompts) == {1}


def test_the_volume_is_a_volume_of_int16(tmp_path: Path) -> None:
    bench.write_volume(tmp_path / "deep" / "v.nii.gz", 3, 40)
    bench.write_pictures(tmp_path / "p", 3, 40)
    volume = nibabel.load(tmp_path / "deep" / "v.nii.gz")
    values = np.asarray(volume.dataobj)
    assert (values.shape, volume.get_data_dtype()) == ((40, 40, 3), np.int16)
    assert volume.header.get_zooms() == pytest.approx((0.7, 0.7, 2.5))
    for number in range(3):
        picture = read_picture(tmp_path / "p" / f"{number:05d}.png")
        assert picture.shape == (40, 40, 3)
        assert np.array_equal(values[..., number], picture[..., 0].astype(int) * 8 - 1024)
    assert not np.array_equal(values[..., 0], values[..., 1])


def test_memory_is_sampled_meanwhile() -> None:
    with bench.sampled_memory() as samples:
        held = np.ones(2**26, np.uint8)
        time.sleep(0.1)
        del held
    assert len(samples) > 3
    assert max(samples) - samples[0] > 2**25


# --- scoring


SCORING = ("--eval", "--pairs", "5", "--size", "48", "--workers", "1")


def test_scoring_beside_monai_in_one_run(here: Path, scratch: Path) -> None:
    document = vlsmctl("bench", *SCORING, "--repeats", "2", "--json").document
    assert list(document["parts"]) == ["all", "one", "monai"]
    theirs = np.median(document["parts"]["monai"]["seconds"])
    for part in document["parts"].values():
        assert len(part["seconds"]) == 2
        assert part["per_second"] == pytest.approx(5 / np.median(part["seconds"]), rel=0.05)
        assert part["times_as_fast"] == pytest.approx(theirs / np.median(part["seconds"]), rel=0.05)
    assert document["parts"]["monai"]["times_as_fast"] == 1
    assert 0 <= document["difference"] < 1e-4
    assert {"pairs": 5, "size": 48, "workers": 1}.items() <= document.items()
    assert document["metrics"] == ["dice", "iou", "hd95", "nsd"]
    assert not list(here.iterdir())
    assert not list(scratch.iterdir())


def test_scoring_as_a_table_for_people(here: Path, scratch: Path) -> None:
    answer = vlsmctl("bench", *SCORING, "--repeats", "1")
    for what in (
        *bench_scoring.PARTS.values(),
        "times as fast as MONAI",
        "5 pairs of 48 x 48",
        "agree within",
    ):
        assert what in answer.out


def test_scores_that_differ_from_monai_s_give_no_figures(
    here: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench_scoring.monai_scores

    def off(cases: Sequence[CasePair]) -> list[dict[str, float]]:
        scores = real(cases)
        scores[-1]["nsd"] -= 0.01
        return scores

    monkeypatch.setattr(bench_scoring, "monai_scores", off)
    answer = vlsmctl("bench", *SCORING, "--json", code=1)
    assert "differ from MONAI's by up to 0.01" in error_line(answer)
    assert not answer.out
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    "option", [("--model", "tiny"), ("--adapter", "a"), ("--weights", "w"), ("--batch-size", "2")]
)
def test_scoring_takes_no_model(here: Path, option: tuple[str, str]) -> None:
    assert "takes no model" in error_line(vlsmctl("bench", *SCORING, *option, code=2))


def test_what_is_scored_are_lesions_found_more_or_less_well(tmp_path: Path) -> None:
    cases = bench_scoring.write_pairs(tmp_path, 12, 64)
    rows = score_cases(cases, workers=0).rows
    assert {row.outcome for row in rows} == {"both_present"}
    dice = [row.scores["dice"] for row in rows]
    assert all(0.5 < value < 1 for value in dice)
    assert len(set(dice)) == 12
    assert all(0.02 < (row.target_foreground or 0) / 64**2 < 0.3 for row in rows)
    assert bench_scoring.write_pairs(tmp_path / "again", 12, 64) != cases
    again = score_cases(bench_scoring.write_pairs(tmp_path / "again", 12, 64), workers=0).rows
    assert [row.scores for row in again] == [row.scores for row in rows]


@pytest.mark.parametrize("size", [16, 40])
def test_the_smallest_lesions_are_not_empty(tmp_path: Path, size: int) -> None:
    rows = score_cases(bench_scoring.write_pairs(tmp_path, 40, size), workers=0).rows
    assert {row.outcome for row in rows} == {"both_present"}
