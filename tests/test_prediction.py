"""Promise 4: one bad file never costs the batch; and masks do not depend on how frames share batches."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from vlsmctl import prediction
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.errors import UnreadableFile
from vlsmctl.evaluation import score_cases
from vlsmctl.formats.raster import read_mask_picture
from vlsmctl.formats.scan import Found, Scan, find_scans, open_scan
from vlsmctl.ledger import LEDGER, Entry, read_ledger
from vlsmctl.prediction import Predictor, encode, predict, predictor_from_model, segment
from vlsmctl.runtime import StopFlag
from vlsmctl.scoring import predict_split


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return predictor_from_model("tiny", device=torch.device("cpu"))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four pictures of different sizes and a volume of five slices."""
    folder, rng = tmp_path / "scans", np.random.default_rng(1)
    folder.mkdir()
    for number, size in enumerate([(64, 80), (100, 90), (30, 30), (200, 150)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        pixels[5:20, 5:20] = (200, 30, 30)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    volume = rng.integers(0, 1000, (20, 24, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1.0, 5.0, 1.0])), folder / "volume.nii.gz")
    return folder


def run(
    predictor: Predictor,
    folder: Path,
    out: Path,
    batch_size: int = 3,
    stop: StopFlag | None = None,
    threshold: float = 0.5,
) -> tuple[list[Entry], int]:
    found, problems = find_scans([folder])
    assert not problems
    return predict(
        predictor, found, ["red polyp"], out, threshold=threshold, batch_size=batch_size, overwrite=False,
        stop=stop or StopFlag(),
    )  # fmt: skip


def masks(out: Path) -> dict[str, np.ndarray]:
    found = {path.name: read_mask_picture(path) for path in out.glob("*.png")}
    found["volume"] = np.asarray(nibabel.load(out / "volume.nii.gz").dataobj)
    return found


def test_masks_do_not_depend_on_the_batch_size(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    entries, _ = run(predictor, scans, tmp_path / "a", batch_size=1)
    run(predictor, scans, tmp_path / "b", batch_size=4)
    first, second = masks(tmp_path / "a"), masks(tmp_path / "b")
    assert first.keys() == second.keys() == {"0.png", "1.png", "2.png", "3.png", "volume"}
    for name, mask in first.items():
        # rounding may tip single pixels that lie on the threshold
        assert (mask != second[name]).mean() < 1e-3, name
    assert [entry.frames for entry in entries] == [1, 1, 1, 1, 5]
    assert any(0 < mask.mean() < mask.max() for mask in first.values())  # there was something to compare


@pytest.mark.parametrize("fault", [UnreadableFile("broken"), ValueError("a decoder's own"), MemoryError()])
def test_a_scan_that_fails_half_way_costs_only_itself(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def opened(found: Found) -> Scan:
        scan = open_scan(found)
        if found.kind != "nifti":
            return scan

        def read(number: int) -> np.ndarray:
            if number == 3:
                raise fault
            return scan.read_frame(number)

        return Scan(**{**vars(scan), "read_frame": read})

    monkeypatch.setattr(prediction, "open_scan", opened)
    entries, _ = run(predictor, scans, tmp_path / "out")
    status = {Path(entry.input).name: entry.status for entry in entries}
    assert status.pop("volume.nii.gz") == "failed"
    assert set(status.values()) <= {"done", "empty"}
    assert len(status) == 4
    assert not (tmp_path / "out" / "volume.nii.gz").exists()


def test_a_mask_that_cannot_be_written_is_a_failure_of_that_case(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "1.png").mkdir(parents=True)  # something is in the way
    entries, _ = run(predictor, scans, tmp_path / "out")
    failed = [entry for entry in entries if entry.status == "failed"]
    assert [Path(entry.input).name for entry in failed] == ["1.png"]
    assert "cannot be written" in str(failed[0].reason)


def test_a_second_run_does_only_what_is_missing_or_changed(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(predictor, scans, out)
    assert run(predictor, scans, out) == ([], 5)
    (out / "0.png").unlink()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(scans / "1.png")
    with (out / LEDGER).open("a", encoding="utf-8") as stream:
        stream.write('{"input": "cut o')  # as a killed run may leave it
    entries, before = run(predictor, scans, out)
    assert sorted(Path(entry.input).name for entry in entries) == ["0.png", "1.png"]
    assert before == 3
    assert read_mask_picture(out / "1.png").shape == (40, 40)
    assert run(predictor, scans, out) == ([], 5)  # so no entry was glued to the cut-off line


def test_a_stop_finishes_what_is_in_hand(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    stop = StopFlag()
    stop.asked = True
    assert run(predictor, scans, tmp_path / "out", stop=stop) == ([], 0)
    assert run(predictor, scans, tmp_path / "out")[1] == 0


def test_the_ledger_is_json_lines_and_keeps_the_last_word(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    entries, _ = run(predictor, scans, tmp_path / "out", threshold=1e-6)
    lines = (tmp_path / "out" / LEDGER).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["input"] for line in lines] == [entry.input for entry in entries]
    known = read_ledger(tmp_path / "out" / LEDGER)
    volume = next(entry for entry in known.values() if entry.output == "volume.nii.gz")
    assert volume.foreground
    assert volume.volume_ml == pytest.approx(volume.foreground * 5 / 1000, abs=1e-4)


def test_the_prompt_is_what_decides(predictor: Predictor) -> None:
    """Conditions of several prompts give the results of each prompt alone."""
    picture = np.full((96, 96, 3), 120, np.uint8)
    condition = encode(predictor, ["red polyp", "blue polyp"])
    both = segment(predictor, [picture], [condition[:1], condition[1:]], 0.5)
    alone = segment(predictor, [picture], [encode(predictor, ["blue polyp"])], 0.5)
    assert both[1][0].probability == pytest.approx(alone[0][0].probability, abs=1e-5)
    assert both[0][0].probability != both[1][0].probability


def test_what_is_no_scan_is_in_the_ledger_too(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    (scans / "text.dcm").write_text("not a scan", encoding="utf-8")
    found, problems = find_scans([scans])
    for _ in range(2):  # the second run finds it there already
        predict(
            predictor, found, ["polyp"], tmp_path / "out", threshold=0.5, batch_size=4, overwrite=False,
            stop=StopFlag(), problems=problems,
        )  # fmt: skip
    lines = (tmp_path / "out" / LEDGER).read_text(encoding="utf-8").splitlines()
    skipped = [line for line in map(json.loads, lines) if line["status"] == "skipped"]
    assert [Path(line["input"]).name for line in skipped] == ["text.dcm"]
    assert skipped[0]["reason"]


def test_output_that_is_not_finite_is_a_failure_of_that_case(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predictor.model.decode

    def decode(activations: list[torch.Tensor], condition: torch.Tensor) -> torch.Tensor:
        logits = whole(activations, condition)
        return logits * float("nan") if len(logits) == 1 else logits

    monkeypatch.setattr(predictor.model, "decode", decode)
    entries, _ = run(predictor, scans, tmp_path / "out", batch_size=4)  # 9 frames: the last is alone
    failed = [Path(entry.input).name for entry in entries if entry.status == "failed"]
    assert failed == ["volume.nii.gz"]


def test_a_batch_that_does_not_fit_is_done_one_by_one(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predictor.model.encode_images

    def encode_images(image: torch.Tensor) -> list[torch.Tensor]:
        if len(image) > 1:
            raise torch.OutOfMemoryError("as a small GPU would say")
        return whole(image)

    monkeypatch.setattr(predictor.model, "encode_images", encode_images)
    entries, _ = run(predictor, scans, tmp_path / "out", batch_size=4)
    assert [entry.frames for entry in entries] == [1, 1, 1, 1, 5]


def test_an_unreadable_picture_of_a_data_set_fails_alone(predictor: Predictor, tmp_path: Path) -> None:
    prepare("phantom", None, tmp_path, counts=(4, 2, 4))
    manifest = read_manifest(tmp_path / "phantom")
    broken = manifest.split("test")[1]
    (manifest.folder / broken.image).write_bytes(b"cut")
    pairs = predict_split(predictor, manifest, "test", "random", 0, tmp_path / "masks")
    scores = score_cases(pairs, workers=0)
    assert [row.pair.id for row in scores.rows if row.outcome == "failed"] == [broken.id]
    assert len(scores.rows) == 4
