"""What is read of mask files: foreground and labels, files without a place, and those that are refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.formats.seg_fakes import KINDS, ORIGIN, blobs, segment, spooled
from tests.formats.whole_segs import UPRIGHT, write_whole
from tests.masks import block, picture, volume
from tests.pairs import organ, refusal, scores
from vlsmctl.errors import UnreadableFile
from vlsmctl.evaluation import score_cases
from vlsmctl.formats.dicom_seg import write_seg
from vlsmctl.mask_files import is_mask_name, read_mask_file, read_pair
from vlsmctl.pairing import CasePair


def test_places_and_pictures_do_not_mix(tmp_path: Path) -> None:
    seg = write_whole(tmp_path / "a.dcm", organ())
    flat = picture(tmp_path / "a.png", block())
    nifti = volume(tmp_path / "a.nii.gz", organ(), UPRIGHT)
    (source,) = KINDS["photograph"](tmp_path)
    photograph = tmp_path / "photo.seg.dcm"
    write_seg([source], [segment("mole", spooled(blobs(1, 1, ())))], ORIGIN, photograph)
    assert "a picture file and a DICOM SEG with places" in refusal(seg, flat)
    assert "a NIfTI file and a DICOM SEG without places" in refusal(nifti, photograph)
    assert "a DICOM SEG with places in space, found a DICOM SEG without" in refusal(photograph, seg)
    assert "has 30 x 37 pixels, not 30 x 40" in refusal(photograph, flat)


def test_segmentations_of_photographs_are_measured_in_pixels(tmp_path: Path) -> None:
    (source,) = KINDS["photograph"](tmp_path)
    paths = [tmp_path / name for name in ("p.seg.dcm", "t.seg.dcm")]
    drawn = [blobs(1, seed, ())[0] for seed in (1, 2)]
    for path, mask in zip(paths, drawn, strict=True):
        write_seg([source], [segment("mole", spooled([mask]))], ORIGIN, path)
    expected = scores(
        read_pair(picture(tmp_path / "p.png", drawn[0]), picture(tmp_path / "t.png", drawn[1]))
    )
    for pair in (read_pair(*paths), read_pair(tmp_path / "p.png", paths[1])):
        assert (pair.unit, pair.element, pair.cautions, pair.whole) == ("px", 1, (), True)
        assert scores(pair) == expected


def test_frames_in_time_are_scored_one_by_one(tmp_path: Path) -> None:
    sources = KINDS["clip"](tmp_path)

    def clip(name: str, *lit: int) -> Path:
        path = tmp_path / name
        frames = blobs(6, 1, [number for number in range(6) if number not in lit])
        write_seg(sources, [segment("lesion", spooled(frames))], ORIGIN, path)
        return path

    one, other, two, none = clip("1.dcm", 3), clip("2.dcm", 4), clip("3.dcm", 3, 4), clip("4.dcm")
    assert scores(read_pair(one, one))["dice"] == 1
    assert scores(read_pair(none, one))["recall"] == 0
    assert read_pair(None, one).target.shape == (30, 37)
    for pair in ((two, two), (one, two), (other, one), (None, two)):
        assert "2 frames that do not say where they lie: time is no length" in refusal(*pair)


def test_one_frame_of_copies_of_an_image(tmp_path: Path) -> None:
    """De-identified copies have other UIDs."""
    paths = []
    for name in ("a", "b"):
        (source,) = KINDS["photograph"](tmp_path / name)
        dataset = pydicom.dcmread(source.path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{ord(name)}"
        pydicom.dcmwrite(source.path, dataset)
        paths.append(tmp_path / f"{name}.seg.dcm")
        write_seg([source], [segment("mole", spooled(blobs(1, 1, ())))], ORIGIN, paths[-1])
    pair = read_pair(*paths)
    assert np.array_equal(pair.prediction, pair.target)
    assert pair.cautions == ("the two refer to different images",)


def three_labels() -> NDArray[np.uint8]:
    drawn = organ()
    drawn[8:11, 1:4, 2:5] = 2
    drawn[9:12, 6:9, 0] = 3
    return drawn


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_one_label_or_all(tmp_path: Path, kind: str) -> None:
    seg = write_whole(tmp_path / "a.dcm", three_labels(), kind=kind)
    nifti = volume(tmp_path / "a.nii.gz", three_labels(), UPRIGHT)
    pair = read_pair(seg, nifti)
    assert np.array_equal(pair.prediction, three_labels() > 0)
    assert np.array_equal(pair.prediction, pair.target)
    said = "3 {} taken together as foreground"
    assert pair.cautions == (f"target: {said.format('labels')}", f"prediction: {said.format('segments')}")
    assert pair.caution == "; ".join(pair.cautions)
    for ours, theirs in ((1, 1), (2, 2), (3, 1)):
        pair = read_pair(seg, nifti, prediction_label=ours, target_label=theirs)
        assert np.array_equal(pair.prediction, three_labels() == ours)
        assert np.array_equal(pair.target, three_labels() == theirs)
        assert (pair.cautions, pair.caution, pair.whole) == ((), None, True)
        swapped = read_pair(nifti, seg, prediction_label=ours, target_label=theirs)
        assert np.array_equal(swapped.target, pair.target)
    pair = read_pair(seg, nifti, prediction_label=7, target_label=9)
    assert pair.cautions == (
        "target: label 9 is not in this file, which has labels up to 3",
        "prediction: segment 7 is not in this file, which has segments up to 3",
    )
    assert not pair.prediction.any()
    assert not pair.target.any()


def test_labels_of_pictures_are_their_values(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", block(), 3)
    other = picture(tmp_path / "b.png", block())
    with pytest.raises(UnreadableFile, match=r"a\.png: .*found values up to 3 only"):
        read_pair(other, path)
    pair = read_pair(path, other)
    assert not pair.prediction.any()
    assert pair.cautions == ("prediction: values reach 3 only, so nothing is marked",)
    pair = read_pair(path, other, prediction_label=3)
    assert np.array_equal(pair.prediction, pair.target)
    assert pair.cautions == ()


def test_probabilities_are_said_to_be_cut(tmp_path: Path) -> None:
    seg = write_whole(tmp_path / "p.dcm", organ() * 0.7, kind="FRACTIONAL")
    pair = read_pair(seg, volume(tmp_path / "t.nii.gz", organ(), UPRIGHT))
    assert np.array_equal(pair.prediction, pair.target)
    assert pair.cautions == ("prediction: fractional: more than half counts as foreground",)


def test_volumes_in_time_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.nii.gz", np.ones((6, 5, 4, 3)))
    assert "6 x 5 x 4 x 3: time is no length, so score each time point by itself; split it" in refusal(
        path, path
    )


def test_kinds_that_are_not_read_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.seg.nrrd"
    path.write_bytes(b"NRRD0004")
    with pytest.raises(UnreadableFile, match=r"store it as NIfTI \(\.nii\.gz\)"):
        read_pair(path, path)
    assert not is_mask_name(path.name)
    assert all(map(is_mask_name, ("a.SEG.DCM", "a.dcm", "a.nii.gz", "a.png")))


def test_a_broken_segmentation_never_costs_the_batch(tmp_path: Path) -> None:
    good = write_whole(tmp_path / "good.dcm", organ())
    nifti = volume(tmp_path / "good.nii.gz", organ(), UPRIGHT)
    whole = good.read_bytes()
    cases = [CasePair("good", good, nifti)]
    for number, content in enumerate((b"", b"no mask", whole[:300], whole[:-40], whole[: len(whole) // 2])):
        bad = tmp_path / f"bad{number}.dcm"
        bad.write_bytes(content)
        pairs = ((bad, nifti), (nifti, bad), (bad, good), (good, bad))
        cases += [CasePair(str(number), *pair) for pair in pairs]
    rows = score_cases(cases, workers=0).rows
    assert [row.outcome for row in rows] == ["both_present", *["failed"] * 20]
    assert all(f"bad{row.pair.id}.dcm: " in str(row.note) for row in rows[1:])


def test_values_of_a_prediction_never_cost_a_case(tmp_path: Path) -> None:
    """Cases that fail are in no mean: a model whose masks are bad where it is bad must not gain by it."""
    shades = np.add.outer(np.arange(30) * 4, np.arange(40) * 3).astype(np.uint8)
    Image.fromarray(shades).save(tmp_path / "soft.png")
    picture(tmp_path / "dim.png", block(), 90)
    target = picture(tmp_path / "t.png", block())
    cube, fractions = organ(), np.linspace(0, 1, organ().size).reshape(organ().shape)
    true = volume(tmp_path / "t.nii.gz", cube, UPRIGHT)
    nibabel.save(nibabel.Nifti1Image(fractions.astype(np.float32), UPRIGHT), tmp_path / "p.nii.gz")
    pairs = [(tmp_path / "soft.png", target), (tmp_path / "dim.png", target), (tmp_path / "p.nii.gz", true)]
    rows = score_cases([CasePair(path.name, path, wanted) for path, wanted in pairs], workers=0).rows
    assert [row.outcome for row in rows] == ["both_present", "missed", "both_present"]
    assert all(str(row.note).startswith("prediction: ") for row in rows)
    swapped = [CasePair(path.name, wanted, path) for path, wanted in pairs]
    assert [row.outcome for row in score_cases(swapped, workers=0).rows] == ["failed"] * 3
    assert read_mask_file(tmp_path / "dim.png", truth=False).cautions
    with pytest.raises(UnreadableFile):
        read_mask_file(tmp_path / "dim.png")
