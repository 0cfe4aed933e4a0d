"""Masks in: names, what is done again and what is not, faults, geometry, models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from PIL import Image
from safetensors import safe_open

from tests.commands.app import ROOT, SMALL, error_line, vlsmctl
from tests.commands.scans import SECRETS, counts_of, made, predict, tree, write_scans, write_series
from tests.datasets.fakes import picture, save, truncate
from tests.formats.generators import write_dicom, write_nifti


def test_further_files_never_take_the_name_of_a_mask(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.jpg", "x.overlay.jpg", "x.probability.jpg")
    entries = predict(home, "scans", "--overlay", "--probabilities", "8bit").document["entries"]
    files = [entry[kind] for entry in entries for kind in ("output", "overlay", "probabilities")]
    assert len(set(files)) == 9
    assert set(files) | {"predictions.jsonl"} == tree(here / "predictions")


def test_names_mirror_the_inputtree(home: Path, here: Path) -> None:
    write_scans(here / "scans", "a/case1.jpg", "a/b/case2.png", "case3.bmp", "case4.jpg", "case4.png")
    answer = vlsmctl("predict", "scans", "--prompt", "polyp", "--run", home / "runs" / "latest")
    assert tree(here / "predictions") == {
        "predictions.jsonl", "a/case1.png", "a/b/case2.png", "case3.png", "case4.jpg.png", "case4.png.png",
    }  # fmt: skip
    assert "predictions" in answer.out.splitlines()[-1]
    with Image.open(here / "predictions" / "a" / "case1.png") as mask:
        assert (mask.size, mask.mode) == ((64, 48), "L")
        assert set(np.unique(np.asarray(mask))) <= {0, 255}


def test_several_prompts(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    answer = predict(home, "scans", "--prompt", "Skin lesion", "--prompt", "polyp")
    assert tree(here / "predictions") == {
        "predictions.jsonl", "x__polyp.png", "x__skin-lesion.png"
    }  # fmt: skip
    assert counts_of(answer) == made(2)
    entries = [
        json.loads(line) for line in (here / "predictions/predictions.jsonl").read_text().splitlines()
    ]
    assert [(entry["prompt"], entry["output"]) for entry in entries] == [
        ("Skin lesion", "x__skin-lesion.png"), ("polyp", "x__polyp.png"),
    ]  # fmt: skip
    assert entries == answer.document["entries"]


def test_without_a_prompt_the_class_is_asked_for(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    assert predict(home, "scans", prompt=None).document["entries"][0]["prompt"] == "polyp"
    answer = vlsmctl("predict", "scans", "--model", "tiny", "--out", "zero", code=2)
    assert "--prompt TEXT" in error_line(answer)
    assert not (here / "zero").exists()


def test_a_second_run_does_nothing_and_says_so(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    predict(home, "scans")
    stamps = {name: (here / "predictions" / name).stat().st_mtime_ns for name in tree(here / "predictions")}
    answer = vlsmctl("predict", "scans", "--prompt", "polyp", "--run", home / "runs" / "latest")
    assert "2 there already" in answer.out
    assert counts_of(predict(home, "scans")) == made(before=2)
    assert {n: (here / "predictions" / n).stat().st_mtime_ns for n in stamps} == stamps


def test_what_is_done_again(home: Path, here: Path) -> None:
    scans = write_scans(here / "scans", "x.png", "y.png")
    predict(home, "scans")
    save(scans / "x.png", picture(77, 48, 64))
    os.utime(scans / "x.png", ns=(1, 1))
    assert counts_of(predict(home, "scans")) == made(1, before=1)
    (here / "predictions" / "y.png").unlink()
    assert counts_of(predict(home, "scans")) == made(1, before=1)
    assert (here / "predictions" / "y.png").is_file()
    assert counts_of(predict(home, "scans", "--threshold", 0.25)) == made(2)
    assert counts_of(predict(home, "scans", "--threshold", 0.25)) == made(before=2)
    assert counts_of(predict(home, "scans", "--threshold", 0.25, "--overwrite")) == made(2)
    write_scans(scans, "new/z.png")
    assert counts_of(predict(home, "scans", "--threshold", 0.25)) == made(1, before=2)


def test_a_mask_that_another_prompt_has_replaced_is_done_again(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    for prompt in ("polyp", "nothing at all", "polyp"):
        assert counts_of(predict(home, "scans", prompt=prompt)) == made(1), prompt


def test_a_mask_is_not_replaced_by_that_of_another_scan(home: Path, here: Path) -> None:
    for number, folder in enumerate(("one", "two")):
        save(here / folder / "x.png", picture(number, 40 + number, 64))
    assert counts_of(predict(home, "one")) == made(1)
    before = (here / "predictions" / "x.png").read_bytes()
    answer = predict(home, "two", code=2)
    assert "x.png is the mask of one/x.png, from an earlier run" in error_line(answer)
    assert "--overwrite" in answer.err
    assert (here / "predictions" / "x.png").read_bytes() == before
    assert counts_of(predict(home, here / "one")) == made(before=1)  # the same scan by another name
    (here / "one").rename(here / "moved")
    assert counts_of(predict(home, "moved")) == made(before=1)
    (here / "moved").rename(here / "one")
    assert counts_of(predict(home, "two", "--overwrite")) == made(1)
    predict(home, "one", code=2)
    assert counts_of(predict(home, "one", "--overwrite")) == made(1)
    with Image.open(here / "predictions" / "x.png") as mask, Image.open(here / "one" / "x.png") as scan:
        assert mask.size == scan.size


def test_a_file_that_is_no_mask_of_ours_is_not_replaced(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.jpg")
    save(here / "truth" / "x.png", picture(5, 48, 64))
    before = (here / "truth" / "x.png").read_bytes()
    answer = predict(home, "scans", "--out", "truth", code=2)
    assert "exists, and is no mask of ours" in error_line(answer)
    assert tree(here / "truth") == {"x.png"}
    assert (here / "truth" / "x.png").read_bytes() == before
    save(here / "truth" / "y.overlay.png", picture(6, 48, 64))
    write_scans(here / "scans", "y.jpg")
    answer = predict(home, "scans/y.jpg", "--out", "truth", "--overlay", code=2)
    assert "y.overlay.png exists" in error_line(answer)
    predict(home, "scans/y.jpg", "--out", "truth")  # the folder has a ledger now
    assert "x.png exists" in error_line(predict(home, "scans/x.jpg", "--out", "truth", code=2))
    assert (here / "truth" / "x.png").read_bytes() == before
    assert counts_of(predict(home, "scans/x.jpg", "--out", "truth", "--overwrite")) == made(1)


def test_the_mask_of_a_scan_that_now_fails_goes(home: Path, here: Path) -> None:
    scans = write_scans(here / "scans", "x.png", "y.png")
    predict(home, "scans", "--overlay")
    truncate(scans / "x.png")
    assert counts_of(predict(home, "scans", "--overlay", code=3)) == made(before=1, failed=1)
    assert tree(here / "predictions") == {"predictions.jsonl", "y.png", "y.overlay.png"}
    truncate(scans / "y.png")
    predict(home, "scans", "--overlay", "--overwrite", code=4)
    assert tree(here / "predictions") == {"predictions.jsonl"}


def test_a_mask_outlives_an_attempt_that_fails_for_other_reasons(home: Path, here: Path) -> None:
    write_series(here / "scans" / "ct", (0.0, 2.5, 9.0))
    predict(home, "scans")
    predict(home, "scans", "--format", "nifti", code=4)  # no volume: not the scan's fault
    assert tree(here / "predictions") == {"predictions.jsonl", "ct.seg.dcm"}
    assert counts_of(predict(home, "scans")) in (made(before=1), made(1))


def test_what_a_killed_run_was_writing_is_known_for_ours(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    predict(home, "scans")
    ledger = here / "predictions" / "predictions.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    # as a run of two processes leaves it that is killed after the file and before its line
    (here / "predictions" / "predictions.rank0.jsonl").write_bytes(lines[0])
    (here / "predictions" / ".predictions.begun1").write_bytes(b'["y.png", "x.png"]\n["cut')
    ledger.unlink()
    assert counts_of(predict(home, "scans")) == made(1, before=1)
    assert {path.name for path in (here / "predictions").iterdir()} >= {"x.png", "y.png", ledger.name}
    assert counts_of(predict(home, "scans")) == made(before=2)


def test_a_name_too_long_for_its_masks_costs_only_its_case(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", f"{'n' * 245}.png")
    answer = predict(home, "scans", "--prompt", "a red polyp", code=3)
    assert counts_of(answer) == made(2, failed=2)


def test_two_at_once_in_one_folder_are_kept_apart(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    with claimed_by_another(here / "predictions"):
        answer = predict(home, "scans", code=2)
        assert "another vlsmctl predict" in error_line(answer)
        assert "is writing to 'predictions'" in error_line(answer)
    assert counts_of(predict(home, "scans")) == made(1)  # what a killed process left of its claim goes
    assert not list((here / "predictions").glob(".*.lock"))


@contextmanager
def claimed_by_another(folder: Path) -> Iterator[None]:
    program = (
        "import sys, time; from pathlib import Path; from vlsmctl.claims import claimed\n"
        "with claimed(Path(sys.argv[1]), 'predict'): print('in', flush=True); time.sleep(60)"
    )
    folder.mkdir()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_ledger_that_was_cut_off_goes_on(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    predict(home, "scans")
    ledger = here / "predictions" / "predictions.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-10])
    assert counts_of(predict(home, "scans")) == made(1, before=1)
    assert counts_of(predict(home, "scans")) == made(before=2)


def test_a_ledger_that_was_cut_within_a_letter_goes_on(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    predict(home, "scans", prompt="ärztlich")
    ledger = here / "predictions" / "predictions.jsonl"
    content = ledger.read_bytes()
    ledger.write_bytes(content[: content.rindex(b"\\u00e4") + 3])
    assert counts_of(predict(home, "scans", prompt="ärztlich")) == made(1, before=1)
    assert counts_of(predict(home, "scans", prompt="ärztlich")) == made(before=2)


def test_thresholds(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    marked = []
    for threshold in (0.001, 0.2, 0.999):
        entries = predict(home, "scans", "--threshold", threshold, "--overwrite").document["entries"]
        marked.append(sum(entry["foreground"] for entry in entries))
    assert marked[0] >= marked[1] >= marked[2]
    assert marked[0] > marked[2]
    vlsmctl("predict", "scans", "--prompt", "polyp", "--threshold", "1.5", code=2)


def test_masks_of_an_earlier_run_are_no_scans(home: Path, here: Path) -> None:
    write_scans(here, "x.jpg", "sub/y.jpg")
    assert counts_of(predict(home, here)) == made(2)
    assert counts_of(predict(home, here)) == made(before=2)
    assert counts_of(predict(home, ".")) == made(before=2)  # the same scans by another name
    # and yet masks may be asked for by name
    assert counts_of(predict(home, here / "predictions", "--out", "of-masks")) == made(2)


def test_a_scan_is_never_overwritten(home: Path, here: Path) -> None:
    scans = write_scans(here / "scans", "x.png")
    before = (scans / "x.png").read_bytes()
    assert "also an input" in error_line(predict(home, "scans", "--out", "scans", code=2))
    answer = predict(home, "scans/x.png", "--out", "scans", code=2)
    assert "take the place of a scan" in error_line(answer)
    if os.name == "posix":
        (here / "link").symlink_to(scans, target_is_directory=True)
        assert "scan" in error_line(predict(home, "scans/x.png", "--out", "link", code=2))
    assert tree(scans) == {"x.png"}
    assert (scans / "x.png").read_bytes() == before


def test_nothing_to_read(home: Path, here: Path) -> None:
    (here / "empty").mkdir()
    assert "no readable scan in empty" in error_line(predict(home, "empty", code=4))
    answer = predict(home, "absent.png", code=4)
    assert "skipped absent.png: there is no such file" in answer.err
    assert answer.out == ""
    assert tree(here) == set()


def _faults(folder: Path) -> dict[str, Path]:
    save(folder / "cut.png", picture(1, 64, 64))
    truncate(folder / "cut.png")
    (folder / "void.nii.gz").write_bytes(b"")
    (folder / "notes.dcm").write_text("Secret^Person, born 19700101: not a DICOM file at all\n" * 20)
    write_nifti(folder / "cut.nii.gz", np.zeros((8, 8, 8), np.int16), np.eye(4))
    truncate(folder / "cut.nii.gz")
    series = np.random.default_rng(0).integers(0, 500, (16, 16)).astype(np.int16)
    write_dicom(folder / "cut.dcm", series, PatientBirthDate="19700101")
    truncate(folder / "cut.dcm")
    return {path.name: path for path in folder.iterdir()}


def test_one_bad_file_never_costs_the_batch(home: Path, here: Path) -> None:
    bad = _faults(here / "scans")
    write_scans(here / "scans", "good1.png", "good2.jpg")
    answer = predict(home, "scans", code=3)
    counts = counts_of(answer)
    assert counts["made"] == 2
    assert counts["failed"] + counts["skipped"] == len(bad)
    for name in bad:
        told = [line for line in answer.err.splitlines() if name in line]
        assert len(told) == 1, answer.err
        assert told[0].startswith(("skipped ", "failed "))
        assert len(told[0].split(": ", 1)[1]) > 5
    document = answer.document
    reasons = [*document["skipped"], *(e for e in document["entries"] if e["status"] == "failed")]
    assert all(sum(name in entry["input"] + entry["reason"] for entry in reasons) == 1 for name in bad)
    assert {"good1.png", "good2.png"} < tree(here / "predictions")
    everything = answer.out + answer.err + (here / "predictions" / "predictions.jsonl").read_text()
    assert not any(secret in everything for secret in SECRETS)


@pytest.mark.parametrize("name", ["cut.png", "void.nii.gz", "notes.dcm", "cut.nii.gz", "cut.dcm"])
def test_a_bad_file_alone(home: Path, here: Path, name: str) -> None:
    path = _faults(here / "scans")[name]
    answer = predict(home, path, code=4)
    assert error_line(answer)
    assert name in answer.err
    assert not any(secret in answer.out + answer.err for secret in SECRETS)
    assert not [mask for mask in tree(here) if mask.startswith("predictions/") and "jsonl" not in mask]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_name_that_is_no_text(home: Path, here: Path) -> None:
    (here / "scans").mkdir()
    save(here / "x.png", picture(1))
    (here / "x.png").rename(here / "scans" / os.fsdecode(b"caf\xe9.png"))
    write_scans(here / "scans", "good.png")
    answer = predict(home, "scans")
    assert counts_of(answer) == made(2)
    assert counts_of(predict(home, "scans")) == made(before=2)


def test_nifti_keeps_its_affine(home: Path, here: Path) -> None:
    affine = np.array([[-0.7, 0.1, 0, 12], [0, -0.7, 0.2, -3], [0.1, 0, 3.5, 40], [0, 0, 0, 1.0]])
    volume = np.random.default_rng(1).integers(0, 900, (20, 24, 3)).astype(np.int16)
    write_nifti(here / "scans" / "v.nii.gz", volume, affine)
    (entry,) = predict(home, "scans", "--threshold", 0.001).document["entries"]
    mask = nib.load(here / "predictions" / "v.nii.gz")
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    voxels = np.asarray(mask.dataobj)
    assert voxels.shape == volume.shape
    assert set(np.unique(voxels)) <= {0, 1}
    assert entry["frames"] == 3
    assert entry["foreground"] == int(voxels.sum()) > 0
    assert entry["volume_ml"] == pytest.approx(
        voxels.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000, abs=1e-3
    )


def test_a_dicom_series_becomes_a_nifti_where_that_is_asked_for(home: Path, here: Path) -> None:
    write_series(here / "scans" / "head")
    answer = predict(home, "scans", "--format", "nifti")
    assert tree(here / "predictions") == {"predictions.jsonl", "head.nii.gz"}
    mask = nib.load(here / "predictions" / "head.nii.gz")
    assert sorted(mask.shape) == [4, 20, 24]
    np.testing.assert_allclose(sorted(mask.header.get_zooms()), [0.5, 0.8, 2.5], atol=1e-6)
    corners = apply_affine(mask.affine, [[0, 0, 0], np.array(mask.shape) - 1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    # the first voxel of the series, in millimetres: LPS (-10, -20, 30) is RAS (10, 20, 30)
    np.testing.assert_allclose(low, [10 - 0.8 * 23, 20 - 0.5 * 19, 30], atol=1e-4)
    np.testing.assert_allclose(high, [10, 20, 37.5], atol=1e-4)
    everything = answer.out + answer.err + str(mask.header)
    everything += (here / "predictions" / "predictions.jsonl").read_text()
    assert not any(secret in everything for secret in SECRETS)


@pytest.mark.parametrize("thickness", [None, 4.0])
def test_no_volume_is_made_up_for_a_slice_without_thickness(
    home: Path, here: Path, thickness: float | None
) -> None:
    pixels = np.random.default_rng(2).integers(0, 900, (20, 24)).astype(np.int16)
    write_dicom(here / "scans" / "slice.dcm", pixels, SliceThickness=thickness)
    (entry,) = predict(home, "scans", "--threshold", 0.001).document["entries"]
    assert entry["foreground"] > 0
    expected = None if thickness is None else pytest.approx(entry["foreground"] * 0.004, abs=1e-3)
    assert entry["volume_ml"] == expected


def test_a_run_an_adapter_a_model(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    run = (home / "runs" / "latest").resolve()
    shutil.copy(run / "adapter.safetensors", here / "mine.safetensors")
    for number, choice in enumerate(
        (("--run", run), ("--adapter", "mine.safetensors"), ("--model", "tiny"))
    ):
        answer = vlsmctl(
            "predict", "scans", "--prompt", "polyp", *choice, "--out", f"out{number}", "--json"
        )
        assert counts_of(answer) == made(1)
    masks = [(here / f"out{number}" / "x.png").read_bytes() for number in (0, 1)]
    assert masks[0] == masks[1]
    answer = vlsmctl("predict", "scans", "--run", run, "--model", "tiny", code=2)
    assert "one of --run, --adapter and --model" in error_line(answer)
    answer = vlsmctl("predict", "scans", "--model", "tinny", "--prompt", "polyp", code=2)
    assert "known are clipseg, tiny" in error_line(answer)


def test_latest_run_by_default(at_home: Path, tmp_path: Path) -> None:
    write_scans(tmp_path / "scans", "x.png")
    answer = vlsmctl("predict", tmp_path / "scans", "--out", tmp_path / "out", "--json")
    assert answer.document["entries"][0]["prompt"] == "polyp"
    assert "dense-vlc" in answer.err


def test_no_run_and_no_adapter(here: Path) -> None:
    write_scans(here / "scans", "x.png")
    answer = vlsmctl("predict", "scans", "--prompt", "polyp", code=2)
    assert "no run yet" in error_line(answer)
    vlsmctl("predict", "scans", "--prompt", "polyp", "--adapter", "absent.safetensors", code=2)
    (here / "text.safetensors").write_text("not an adapter")
    answer = vlsmctl("predict", "scans", "--prompt", "polyp", "--adapter", "text.safetensors", code=2)
    assert "text.safetensors" in error_line(answer)
    assert tree(here) == {"scans/x.png", "text.safetensors"}


def test_an_adapter_of_another_base(
    home: Path, here: Path, small_clipseg: Path, other_clipseg: Path
) -> None:
    write_scans(here / "scans", "x.png")
    document = vlsmctl(
        "train", "--preset", "phantom", *SMALL, "--set", "train.epochs=1", "--set", "model=clipseg",
        "--set", f"weights={small_clipseg}", "--data", home / "data", "--json",
    ).document  # fmt: skip
    adapter = Path(document["run"]) / "adapter.safetensors"
    with safe_open(adapter, framework="pt") as file:
        assert json.loads(file.metadata()["vlsmctl"])["base"] == "clipseg"
    asked = ("predict", "scans", "--adapter", adapter, "--weights")
    vlsmctl(*asked, small_clipseg, "--out", "same")
    answer = vlsmctl(*asked, other_clipseg, "--out", "other", code=2)
    assert "another 'clipseg' base model" in error_line(answer)
    assert "--force" in answer.err
    assert not (here / "other").exists()
    vlsmctl(*asked, other_clipseg, "--out", "other", "--force")
    assert (here / "other" / "x.png").is_file()


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_refused(home: Path, here: Path, prompt: str) -> None:
    write_scans(here / "in", "a.png")
    assert "what shall be segmented" in error_line(predict(home, here / "in", prompt=prompt, code=2))


def test_a_prompt_that_is_cut_is_said(home: Path, here: Path) -> None:
    write_scans(here / "in", "a.png")
    assert "the end of this prompt is cut off" in predict(home, here / "in", prompt="polyp " * 100).err
