"""Options of predict: formats, windows, axes, the list, prompts from a file, overlays, presence."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.commands.app import error_line, vlsmctl
from tests.commands.scans import SECRETS, counts_of, made, predict, tree, write_scans, write_series
from tests.formats.generators import write_nifti
from vlsmctl.checkpoint import read_adapter, save_adapter
from vlsmctl.presence import Presence


def test_a_dicom_series_becomes_a_dicom_seg(home: Path, here: Path) -> None:
    scans = write_series(here / "scans" / "head")
    asked = ("scans", "--prompt", "lung tumour", "--threshold", 0.001)
    answer = predict(home, *asked)
    assert tree(here / "predictions") == {"predictions.jsonl", "head.seg.dcm"}
    entries = answer.document["entries"]
    assert [(e["prompt"], e["output"], e["label"]) for e in entries] == [
        ("lung tumour", "head.seg.dcm", 1), ("polyp", "head.seg.dcm", 2),
    ]  # fmt: skip
    assert all(
        entry["volume_ml"] == pytest.approx(entry["foreground"] * 0.001, abs=1e-3) for entry in entries
    )
    seg = pydicom.dcmread(here / "predictions" / "head.seg.dcm")
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in scans.iterdir()}
    referenced = {
        item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced == sources
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["lung tumour", "polyp"]
    assert seg.PatientName == "Secret^Person"
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    adapter = (home / "runs" / "latest" / "adapter.safetensors").read_bytes()
    assert algorithm.AlgorithmName == "vlsmctl"
    assert algorithm.AlgorithmVersion == version("vlsmctl")
    assert hashlib.sha256(adapter).hexdigest() in algorithm.AlgorithmParameters
    said = answer.out + answer.err + (here / "predictions" / "predictions.jsonl").read_text()
    assert not any(secret in said for secret in SECRETS)
    assert counts_of(predict(home, *asked)) == made(before=2)
    assert counts_of(predict(home, "scans", "--threshold", 0.001)) == made(
        1
    )  # its file has one segment now
    assert counts_of(predict(home, *asked)) == made(2)


def test_codes_of_segments(home: Path, here: Path) -> None:
    write_series(here / "scans" / "head")
    code = "polyp=SCT:49755003:Morphologically Altered Structure/SCT:108369006:Neoplasm"
    predict(home, "scans", "--segment-code", code)
    seg = pydicom.dcmread(here / "predictions" / "head.seg.dcm")
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert "SCHEME:VALUE:MEANING" in error_line(predict(home, "scans", "--segment-code", "polyp", code=2))
    answer = predict(home, "scans", "--segment-code", code.replace("polyp", "pollyp"), code=2)
    assert "pollyp" in error_line(answer)


def test_an_uneven_series_is_refused_as_a_volume_and_done_otherwise(home: Path, here: Path) -> None:
    write_series(here / "scans" / "head", (0.0, 2.5, 5.0, 9.0))
    answer = predict(home, "scans", "--format", "nifti", code=4)
    assert "the distance from slice to slice changes" in answer.err
    assert "--allow-uneven" in answer.err
    (entry,) = predict(home, "scans", "--format", "nifti", "--allow-uneven").document["entries"]
    assert entry["output"] == "head.slices"
    assert entry["volume_ml"] is None
    slices = sorted((here / "predictions" / "head.slices").iterdir())
    heights = [nib.load(path).affine[2, 3] for path in slices]
    np.testing.assert_allclose(heights, [0.0, 2.5, 5.0, 9.0], atol=1e-5)
    assert counts_of(predict(home, "scans", "--format", "nifti", "--allow-uneven")) == made(before=1)
    assert predict(home, "scans").document["entries"][0]["output"] == "head.seg.dcm"
    predict(home, "scans", "--format", "png")
    assert len(list((here / "predictions" / "head.frames").iterdir())) == 4


def test_formats_that_a_scan_cannot_have_leave_it_its_own(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.jpg")
    write_nifti(here / "scans" / "v.nii.gz", np.zeros((20, 24, 3), np.int16), np.eye(4))
    for wanted, names in (("nifti", {"x.png", "v.nii.gz"}), ("dicom-seg", {"x.png", "v.nii.gz"})):
        predict(home, "scans", "--format", wanted, "--out", wanted)
        assert tree(here / wanted) == {"predictions.jsonl", *names}
    assert "expected one of" in error_line(predict(home, "scans", "--format", "tiff", code=2))


def test_the_axis_of_a_volume(home: Path, here: Path) -> None:
    write_nifti(here / "scans" / "v.nii.gz", np.zeros((20, 24, 3), np.int16), np.diag([1.0, 1, 4, 1]))
    for axis, frames in (
        ("auto", 3),
        ("0", 20),
        ("1", 24),
        ("axial", 3),
        ("coronal", 24),
        ("sagittal", 20),
    ):
        (entry,) = predict(home, "scans", "--axis", axis, "--out", axis).document["entries"]
        assert entry["frames"] == frames
        assert nib.load(here / axis / "v.nii.gz").shape == (20, 24, 3)
    predict(home, "scans", "--axis", "3", code=2)


def test_windows_change_what_is_seen(home: Path, here: Path) -> None:
    write_series(here / "scans" / "head", RescaleSlope=1, RescaleIntercept=-1000)
    seen = {}
    for window in ("auto", "lung", "40,400", "40,1"):
        entries = predict(home, "scans", "--window", window, "--out", window).document["entries"]
        seen[window] = entries[0]["confidence"]
    assert len(set(seen.values())) > 2
    assert "brain" in error_line(predict(home, "scans", "--window", "lunge", code=2))


def test_the_list(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.jpg")
    write_series(here / "scans" / "head")
    write_series(here / "scans" / "uneven", (0.0, 2.5, 9.0), SeriesInstanceUID="1.2.4")
    write_nifti(here / "scans" / "v.nii.gz", np.zeros((20, 24, 3), np.int16), np.diag([1.0, 1, 4, 1]))
    (here / "scans" / "notes.dcm").write_text("Secret^Person")
    answer = vlsmctl("predict", "scans", "--list", "--json", code=3)  # no run, no model, no prompt
    scans = {Path(one["input"]).name: one for one in answer.document["scans"]}
    assert scans.keys() == {"x.jpg", "head", "uneven", "v.nii.gz"}
    assert scans["head"]["frames"] == 4
    assert scans["head"]["size"] == [24, 20]
    assert scans["head"]["orientation"] == "axial"
    assert scans["head"]["description"] == "Head 2.5"
    np.testing.assert_allclose(sorted(scans["head"]["spacing"]), [0.5, 0.8, 2.5])
    assert "distance" in scans["uneven"]["note"]
    assert [Path(one["input"]).name for one in answer.document["skipped"]] == ["notes.dcm"]
    shown = vlsmctl("predict", "scans", "--list", code=3)
    assert "Head 2.5" in shown.out
    assert "4 scans, 11 frames; 1 skipped" in shown.out
    assert not any(secret in shown.out + shown.err for secret in SECRETS)
    assert not (here / "predictions").exists()
    (here / "empty").mkdir()
    vlsmctl("predict", "empty", "--list", code=4)


def test_prompts_from_a_file(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png", "z.png")
    (here / "prompts.csv").write_text("input,prompt\nx.png,red polyp\ny.png,blue polyp\nelse.png,x\n")
    answer = predict(home, "scans", "--prompts", "prompts.csv", prompt="polyp", code=3)
    asked = {Path(e["input"]).name: e["prompt"] for e in answer.document["entries"]}
    assert asked == {"x.png": "red polyp", "y.png": "blue polyp", "z.png": "polyp"}
    assert "skipped else.png (line 4): named in prompts.csv, and not among the scans" in answer.err
    assert tree(here / "predictions") == {"predictions.jsonl", "x.png", "y.png", "z.png"}
    answer = vlsmctl(
        "predict", "scans", "--prompts", "prompts.csv", "--model", "tiny", "--out", "zero", "--json", code=3
    )
    skipped = [Path(one["input"]).name for one in answer.document["skipped"]]
    assert skipped == ["else.png (line 4)", "z.png"]
    (here / "prompts.csv").write_text("input,prompt\nx.png,red polyp\nx.png,blue polyp\ny.png,tool\n")
    predict(home, "scans", "--prompts", "prompts.csv", "--out", "several")
    assert tree(here / "several") == {
        "predictions.jsonl", "x__red-polyp.png", "x__blue-polyp.png", "y__tool.png", "z__polyp.png",
    }  # fmt: skip
    (here / "prompts.csv").write_text("file,prompt\nx.png,polyp\n")
    assert "input" in error_line(predict(home, "scans", "--prompts", "prompts.csv", code=2))


def test_overlays_and_probabilities_are_made_and_kept_up(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    write_series(here / "scans" / "head")
    asked = ("scans", "--overlay", "--probabilities", "8bit")
    predict(home, *asked)
    assert tree(here / "predictions") == {
        "predictions.jsonl", "x.png", "x.overlay.png", "x.probability.png",
        "head.seg.dcm", "head.overlay.png", "head.probability.seg.dcm",
    }  # fmt: skip
    assert counts_of(predict(home, *asked)) == made(before=2)
    (here / "predictions" / "head.overlay.png").unlink()
    assert counts_of(predict(home, *asked)) == made(1, before=1)
    assert counts_of(predict(home, *asked)) == made(before=2)


def test_the_presence_threshold(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png", "y.png")
    facts, tensors = read_adapter(home / "runs" / "latest" / "adapter.safetensors")
    presence = Presence(slope=0.5, intercept=0.1, threshold=0.0, positives=9, negatives=9, auc=0.9)
    save_adapter(here / "calibrated.safetensors", tensors, facts.model_copy(update={"presence": presence}))

    def entries(*arguments: object) -> list[dict[str, Any]]:
        asked = ("predict", "scans", "--adapter", "calibrated.safetensors", "--threshold", 0.001, "--json")
        found: list[dict[str, Any]] = vlsmctl(*asked, *arguments).document["entries"]
        return sorted(found, key=lambda entry: str(entry["input"]))

    low = entries()
    assert all(0 < entry["presence"] < 1 and entry["status"] == "done" for entry in low)
    high = entries("--presence", 1)
    assert [entry["presence"] for entry in high] == [entry["presence"] for entry in low]
    assert all(entry["status"] == "empty" and "presence score" in entry["reason"] for entry in high)
    assert not np.asarray(Image.open(here / "predictions" / "x.png")).any()


def test_what_changes_nothing_and_what_was_never_learned_is_said(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    idle = ("--axis", "axial", "--window", "lung", "--format", "nifti", "--allow-uneven", "--presence", 0.5)
    told = predict(home, "scans", *idle, prompt="skull").err
    for option in idle[::2][:4]:
        assert f"note: {option} changes nothing here" in told
    assert "note: this adapter learned 'polyp'; what it marks for 'skull' may be that instead" in told
    quiet = predict(home, "scans", "--out", "plain", prompt="a red polyp").err
    assert "note:" not in quiet


def test_masks_of_earlier_runs_are_named(home: Path, here: Path) -> None:
    write_scans(here / "scans", "k.jpg")
    predict(home, "scans")
    write_scans(here / "scans", "k.bmp")
    answer = predict(home, "scans")
    assert tree(here / "predictions") == {"predictions.jsonl", "k.png", "k.jpg.png", "k.bmp.png"}
    assert "holds masks of these scans that earlier runs made otherwise: 'k.png'" in answer.err
    (here / "predictions" / "k.png").unlink()
    answer = predict(home, "scans")
    assert "earlier runs" not in answer.err
    assert {entry["output"] for entry in answer.document["before"]} == {"k.jpg.png", "k.bmp.png"}


def test_the_output_folder_is_a_file(home: Path, here: Path) -> None:
    write_scans(here / "scans", "x.png")
    assert "expected a folder" in error_line(predict(home, "scans", "--out", "scans/x.png", code=2))
