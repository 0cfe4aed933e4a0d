"""Promise 4: one bad file never costs the batch; and masks do not depend on how frames share batches."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from vlsmctl import prediction
from vlsmctl.cases import Options, plan_cases
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.errors import DiskFull, UnreadableFile
from vlsmctl.evaluation import score_cases
from vlsmctl.formats.raster import read_label_picture, read_mask_picture
from vlsmctl.formats.records import Found, Reading, Scan
from vlsmctl.formats.scan import find_scans, open_scan
from vlsmctl.formats.spool import Spool
from vlsmctl.ledger import LEDGER, Entry, read_ledger
from vlsmctl.prediction import Watch, predict
from vlsmctl.predictor import Cut, Predictor, encode, predictor_from_model, ready, segment, usual_cut
from vlsmctl.presence import Presence
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
    prompts: tuple[str, ...] = ("red polyp",),
    **options: Any,
) -> tuple[list[Entry], int]:
    found, problems = find_scans([folder])
    chosen = Options(cut=Cut(threshold), batch_size=batch_size, **options)
    cases = plan_cases(found, [prompts for _ in found], predictor, chosen)
    outcome = predict(predictor, cases, out, chosen, stop=stop or StopFlag(), problems=problems)
    return outcome.entries, len(outcome.before)


def by_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    return {Path(entry.input).name: entry for entry in entries}


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
    assert by_name(entries)["volume.nii.gz"].frames == 5
    assert any(0 < mask.mean() < mask.max() for mask in first.values())  # there was something to compare


@pytest.mark.parametrize("fault", [UnreadableFile("broken"), ValueError("a decoder's own"), MemoryError()])
def test_a_scan_that_fails_half_way_costs_only_itself(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def opened(found: Found, reading: Reading) -> Scan:
        scan = open_scan(found, reading)
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
    known = read_ledger(tmp_path / "out")
    volume = next(entry for entry in known.values() if entry.output == "volume.nii.gz")
    assert volume.foreground
    assert volume.volume_ml == pytest.approx(volume.foreground * 5 / 1000, abs=1e-4)


def test_the_prompt_is_what_decides(predictor: Predictor) -> None:
    """Several prompts give the results of each prompt alone; pictures may be asked different things."""
    rng = np.random.default_rng(3)
    pictures = [ready(predictor, rng.integers(0, 256, (96, 80, 3), dtype=np.uint8)) for _ in range(3)]
    conditions = encode(predictor, ["red polyp", "blue polyp"])
    mixed = segment(predictor, pictures, [[0, 1], [1], []], conditions, Cut())
    assert [len(results) for results in mixed] == [2, 1, 0]
    for number, row, result in ((0, 0, mixed[0][0]), (0, 1, mixed[0][1]), (1, 1, mixed[1][0])):
        ((alone,),) = segment(predictor, [pictures[number]], [[row]], conditions, Cut())
        assert result.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert mixed[0][0].confidence != mixed[0][1].confidence


def test_in_batches_of_one_size_a_mask_has_the_same_bits_whatever_shares_the_batch(
    predictor: Predictor,
) -> None:
    rng = np.random.default_rng(5)
    pictures = [ready(predictor, rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)) for _ in range(6)]
    conditions, cut = encode(predictor, ["red polyp"]), Cut(keep_probabilities=True)

    def probabilities(*numbers: int) -> list[np.ndarray]:
        chosen = [pictures[number] for number in numbers]
        found = segment(predictor, chosen, [[0] for _ in chosen], conditions, cut, batch_size=4)
        return [results[0].probabilities for results in found]  # type: ignore[misc]

    alone = [probabilities(number)[0] for number in range(6)]
    for numbers in ((0, 1, 2, 3), (5, 4), (3, 2, 5)):
        for number, found in zip(numbers, probabilities(*numbers), strict=True):
            assert np.array_equal(found, alone[number])


def test_below_the_presence_threshold_nothing_is_marked(predictor: Predictor) -> None:
    rng = np.random.default_rng(7)
    pictures = [ready(predictor, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]
    calibrated = replace(
        predictor,
        presence=Presence(slope=1.0, intercept=0.0, threshold=0.5, positives=1, negatives=1, auc=1.0),
    )
    conditions, asked = encode(predictor, ["red polyp"]), [[0]] * 4
    before = [one for (one,) in segment(calibrated, pictures, asked, conditions, Cut(1e-6))]
    values = sorted(one.presence or 0.0 for one in before)
    assert len(set(values)) == 4
    between = (values[1] + values[2]) / 2
    after = [one for (one,) in segment(calibrated, pictures, asked, conditions, Cut(1e-6, between))]
    assert [bool(one.mask.any()) for one in after] == [(one.presence or 0.0) > between for one in before]
    assert [one.presence for one in after] == [one.presence for one in before]


def test_what_is_no_scan_is_in_the_ledger_too(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    (scans / "text.dcm").write_text("not a scan", encoding="utf-8")
    for _ in range(2):  # the second run finds it there already
        run(predictor, scans, tmp_path / "out")
    lines = (tmp_path / "out" / LEDGER).read_text(encoding="utf-8").splitlines()
    skipped = [line for line in map(json.loads, lines) if line["status"] == "skipped"]
    assert [Path(line["input"]).name for line in skipped] == ["text.dcm"]
    assert skipped[0]["reason"]


def test_output_that_is_not_finite_is_a_failure_of_that_case(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predictor.model.encode_images

    def encode_images(image: torch.Tensor) -> list[torch.Tensor]:
        dark = image.flatten(1).mean(1) < -1.5  # the black picture, whatever shares its batch
        factor = torch.where(dark, float("nan"), 1.0)[:, None, None]
        return [state * factor for state in whole(image)]

    Image.new("RGB", (40, 40)).save(scans / "1.png")
    monkeypatch.setattr(predictor.model, "encode_images", encode_images)
    entries, _ = run(predictor, scans, tmp_path / "out", batch_size=4)
    failed = [entry for entry in entries if entry.status == "failed"]
    assert [Path(entry.input).name for entry in failed] == ["1.png"]
    assert "FloatingPointError" in str(failed[0].reason)


def _predict_all(
    predictor: Predictor, scans: Path, out: Path, batch_size: int
) -> tuple[list[Entry], list[str]]:
    said: list[str] = []
    found, _ = find_scans([scans])
    options = Options(batch_size=batch_size)
    cases = plan_cases(found, [("polyp",) for _ in found], predictor, options)
    outcome = predict(predictor, cases, out, options, stop=StopFlag(), watch=Watch(say=said.append))
    return outcome.entries, said


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("GPU"), RuntimeError("MPS backend out of memory")]
)
def test_a_batch_that_does_not_fit_is_halved_down_to_one(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole, sizes = predictor.model.encode_images, []

    def encode_images(image: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(len(image))
        if len(image) > 1:
            raise error
        return whole(image)

    monkeypatch.setattr(predictor.model, "encode_images", encode_images)
    entries, said = _predict_all(predictor, scans, tmp_path / "out", 4)
    assert {entry.status for entry in entries} <= {"done", "empty"}
    assert sizes == [4, 2] + [1] * 9  # nothing is tried again at a size that failed
    assert [text.rsplit(" ", 1)[1] for text in said] == ["2", "1"]


def test_out_of_memory_for_one_picture_goes_on_on_the_cpu(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is played: its device says cuda until the model is moved."""
    played = replace(predictor, device=_PlayedGpu())  # type: ignore[arg-type]
    monkeypatch.setattr("vlsmctl.machine.moved", lambda one, device: replace(one, device=device))
    monkeypatch.setattr("vlsmctl.machine.encode", lambda _, prompts: encode(predictor, prompts))
    whole = segment

    def on_gpu(one: Predictor, *arguments: Any, **further: Any) -> Any:
        if isinstance(one.device, _PlayedGpu):
            raise torch.OutOfMemoryError("GPU")
        return whole(one, *arguments, **further)

    monkeypatch.setattr("vlsmctl.machine.segment", on_gpu)
    entries, said = _predict_all(played, scans, tmp_path / "out", 2)
    assert {entry.status for entry in entries} <= {"done", "empty"}
    assert len(said) == 2
    assert "CPU" in said[-1]


class _PlayedGpu:
    type = "played"

    def __str__(self) -> str:
        return "played:0"


def test_out_of_memory_on_the_cpu_for_one_picture_costs_that_case(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predictor.model.encode_images

    def encode_images(image: torch.Tensor) -> list[torch.Tensor]:
        if len(image) > 1 or bool(image.mean() < -1.5):
            raise MemoryError
        return whole(image)

    Image.new("RGB", (40, 40)).save(scans / "2.png")
    monkeypatch.setattr(predictor.model, "encode_images", encode_images)
    entries, _ = _predict_all(predictor, scans, tmp_path / "out", 2)
    assert [Path(entry.input).name for entry in entries if entry.status == "failed"] == ["2.png"]


def test_out_of_memory_while_prompts_are_encoded(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), torch.OutOfMemoryError("GPU")]

    def fail_first(one: Predictor, prompts: Sequence[str]) -> torch.Tensor:
        if errors:
            raise errors.pop()
        return encode(one, prompts)

    monkeypatch.setattr("vlsmctl.machine.encode", fail_first)
    entries, said = _predict_all(predictor, scans, tmp_path / "out", 4)
    assert {entry.status for entry in entries} <= {"done", "empty"}
    assert len(said) == 2


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_workers_change_nothing(predictor: Predictor, scans: Path, tmp_path: Path, workers: int) -> None:
    run(predictor, scans, tmp_path / "out", workers=workers)
    run(predictor, scans, tmp_path / "expected", workers=2)
    first, second = masks(tmp_path / "out"), masks(tmp_path / "expected")
    for name, mask in first.items():
        assert np.array_equal(mask, second[name]), name


def test_several_prompts_one_file_each_or_one_label_map(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    prompts = ("red polyp", "blue polyp")
    entries, _ = run(predictor, scans, tmp_path / "apart", prompts=prompts, threshold=0.05)
    assert {entry.output for entry in entries} >= {"0__red-polyp.png", "volume__blue-polyp.nii.gz"}
    entries, _ = run(predictor, scans, tmp_path / "one", prompts=prompts, threshold=0.05, combine=True)
    assert {entry.output for entry in entries} == {"0.png", "1.png", "2.png", "3.png", "volume.nii.gz"}
    for name in ("0", "1", "2", "3"):
        labels = read_label_picture(tmp_path / "one" / f"{name}.png")
        apart = [
            read_mask_picture(tmp_path / "apart" / f"{name}__{slug}.png") > 0
            for slug in ("red-polyp", "blue-polyp")
        ]
        assert np.array_equal(labels > 0, apart[0] | apart[1])
        for label, mask in ((1, apart[0]), (2, apart[1])):
            assert not (labels == label)[~mask].any()
            counted = next(e for e in entries if e.output == f"{name}.png" and e.label == label)
            assert counted.foreground == int((labels == label).sum())
    assert run(predictor, scans, tmp_path / "one", prompts=prompts, threshold=0.05, combine=True)[1] == 10


@pytest.mark.parametrize(("kind", "name"), [("float", "0.probability.tif"), ("8bit", "0.probability.png")])
def test_probabilities_agree_with_the_mask(
    predictor: Predictor, scans: Path, tmp_path: Path, kind: str, name: str
) -> None:
    entries, _ = run(predictor, scans, tmp_path / "out", probabilities=kind, threshold=0.25)
    with Image.open(tmp_path / "out" / name) as picture:
        values = np.asarray(picture, np.float32) / (1 if kind == "float" else 255)
    mask = read_mask_picture(tmp_path / "out" / "0.png") > 0
    assert 0 <= values.min() <= values.max() <= 1
    assert not (mask & (values < 0.248)).any()
    assert not (~mask & (values > 0.252)).any()
    volume = by_name(entries)["volume.nii.gz"]
    assert volume.probabilities == "volume.probability.nii.gz"
    numbers = nibabel.load(tmp_path / "out" / "volume.probability.nii.gz").get_fdata()
    mask = np.asarray(nibabel.load(tmp_path / "out" / "volume.nii.gz").dataobj) > 0
    assert not (mask & (numbers < 0.248)).any()
    assert not (~mask & (numbers > 0.252)).any()


def test_the_published_resizing_makes_blocks(predictor: Predictor, tmp_path: Path) -> None:
    """Nearest neighbour repeats pixels of the model's size; the smooth way does not."""
    size = predictor.preprocessing.image_size
    picture = np.random.default_rng(4).integers(0, 256, (4 * size, 4 * size, 3), dtype=np.uint8)
    conditions = encode(predictor, ["polyp"])

    def probabilities(smooth: bool) -> np.ndarray:
        cut = Cut(smooth=smooth, keep_probabilities=True)
        ((found,),) = segment(predictor, [ready(predictor, picture)], [[0]], conditions, cut)
        assert found.probabilities is not None
        return found.probabilities

    blocks = probabilities(False)
    assert np.array_equal(blocks, np.kron(blocks[::4, ::4], np.ones((4, 4), np.float32)))
    smooth = probabilities(True)
    assert np.abs(smooth - blocks).max() > 0
    assert np.abs(smooth[2::4, 2::4] - blocks[2::4, 2::4]).mean() < 0.05


def test_a_frame_that_cannot_be_kept_costs_its_case_and_shifts_nothing(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the temporary files fills up within a batch: no frame may come twice or be left out."""
    whole, shapes = Spool.append, []

    def append(self: Spool, frame: np.ndarray) -> None:
        shapes.append(frame.shape)
        if frame.shape == (30, 30):
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(self, frame)

    run(predictor, scans, tmp_path / "expected", batch_size=4)
    monkeypatch.setattr(Spool, "append", append)
    entries, _ = run(predictor, scans, tmp_path / "out", batch_size=4)
    failed = [entry for entry in entries if entry.status == "failed"]
    assert [Path(entry.input).name for entry in failed] == ["2.png"]
    assert "No space left" in str(failed[0].reason)
    assert len(shapes) == 9  # every frame once
    expected = np.asarray(nibabel.load(tmp_path / "expected" / "volume.nii.gz").dataobj)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "out" / "volume.nii.gz").dataobj), expected)


def test_a_case_whose_last_file_fails_leaves_none(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a drawing library's own")

    monkeypatch.setattr("vlsmctl.writing.write_overlay", fail)
    entries, _ = run(predictor, scans, tmp_path / "out", overlay=True, probabilities="8bit")
    assert {entry.status for entry in entries} == {"failed"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LEDGER]


def test_a_full_disk_ends_the_run(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vlsmctl.writing.write_pictures", fail)
    before = threading.active_count()
    with pytest.raises(DiskFull, match="no space left"):
        run(predictor, scans, tmp_path / "out")
    assert threading.active_count() == before


def test_what_failed_before_for_the_same_reason_is_entered_once(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    (scans / "broken.png").write_bytes(b"cut")
    for _ in range(3):
        entries, before = run(predictor, scans, tmp_path / "out")
    assert [(Path(entry.input).name, entry.status) for entry in entries] == [("broken.png", "failed")]
    assert before == 5
    lines = (tmp_path / "out" / LEDGER).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    (scans / "broken.png").write_bytes(b"")
    run(predictor, scans, tmp_path / "out")
    assert len((tmp_path / "out" / LEDGER).read_text(encoding="utf-8").splitlines()) == 7


def test_an_unreadable_picture_of_a_data_set_fails_alone(predictor: Predictor, tmp_path: Path) -> None:
    prepare("phantom", None, tmp_path, counts=(4, 2, 4))
    manifest = read_manifest(tmp_path / "phantom")
    broken = manifest.split("test")[1]
    (manifest.folder / broken.image).write_bytes(b"cut")
    pairs = predict_split(
        predictor, manifest, "test", "random", 0, tmp_path / "masks", usual_cut(predictor)
    )
    scores = score_cases(pairs, workers=0)
    assert [row.pair.id for row in scores.rows if row.outcome == "failed"] == [broken.id]
    assert len(scores.rows) == 4
