from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats.generators import write_dicom, write_nifti
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.scan import Found, find_scans, open_scan, output_name, output_names, prompt_slug


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 3)).save(path)
    return path


def _series(folder: Path, uid: str = "1.2.3", prefix: str = "") -> Path:
    for number in range(2):
        position = [0.0, 0.0, float(number)]
        path = folder / f"{prefix}{number}"
        write_dicom(path, np.zeros((3, 3), np.uint8), ImagePositionPatient=position, SeriesInstanceUID=uid)
    return folder


def _names(*inputs: Path) -> list[str]:
    founds, problems = find_scans(inputs)
    assert not problems
    return [paths[0].as_posix() for paths in output_names(founds)]


def test_a_tree_of_everything(tmp_path: Path) -> None:
    _picture(tmp_path / "a" / "case1.jpg")
    _picture(tmp_path / "a" / "CASE2.PNG")
    write_nifti(tmp_path / "b" / "vol.nii.gz", np.zeros((3, 3, 3), np.uint8), np.eye(4))
    write_nifti(tmp_path / "b" / "pair.hdr", np.zeros((3, 3, 3), np.uint8), np.eye(4))
    _series(tmp_path / "c" / "head.v1")
    _series(tmp_path / "c" / "head.v1", uid="1.2.4", prefix="x")
    for passed_over in ("README.txt", ".hidden.png", "Thumbs.db", "__MACOSX/a.png", "a/table.json"):
        (tmp_path / passed_over).parent.mkdir(exist_ok=True)
        (tmp_path / passed_over).write_text("x")
    assert _names(tmp_path) == [
        "a/CASE2.png",
        "a/case1.png",
        "b/pair.nii.gz",
        "b/vol.nii.gz",
        "c/head.v1.nii.gz",
        "c/head.v1_2.nii.gz",
    ]
    founds, _ = find_scans([tmp_path])
    assert founds[4].source == tmp_path / "c" / "head.v1"
    assert [found.series_number for found in founds[4:]] == [1, 2]
    assert pickle.loads(pickle.dumps(founds)) == founds  # noqa: S301  (travels to worker processes)
    assert [open_scan(found).frame_count for found in founds] == [1, 1, 3, 3, 2, 2]


def test_each_file_once(tmp_path: Path) -> None:
    picture = _picture(tmp_path / "a" / "x.png")
    inputs = [picture, tmp_path, tmp_path / "a", tmp_path / "a" / ".." / "a" / "x.png"]
    try:
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "same.png").symlink_to(picture)
    except OSError:
        pass  # links are not allowed here
    founds, problems = find_scans(inputs)
    assert (len(founds), problems) == (1, [])
    assert founds[0].relative == Path("x.png")


def test_problems_are_named_and_the_rest_is_found(tmp_path: Path) -> None:
    good = _picture(tmp_path / "good.png")
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.dcm").write_text("no image " * 50)
    (tmp_path / "half.img").write_bytes(b"x" * 400)
    (tmp_path / "vol.nrrd").write_text("NRRD0004")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    write_dicom(tmp_path / "cut.dcm", np.zeros((3, 3), np.uint8))
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:150])
    founds, problems = find_scans([tmp_path])
    assert [found.source for found in founds] == [good]
    reasons = {problem.path.name: problem.reason for problem in problems}
    assert set(reasons) == {"empty.nii.gz", "text.dcm", "half.img", "vol.nrrd", "clip.mp4", "cut.dcm"}
    assert "0 bytes" in reasons["empty.nii.gz"]
    assert "not a DICOM file" in reasons["text.dcm"]
    assert "half.hdr" in reasons["half.img"]
    assert "not supported" in reasons["vol.nrrd"]
    assert not [reason for reason in reasons.values() if "\n" in reason or str(tmp_path) in reason]


def test_what_a_folder_passes_over_is_a_problem_when_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    write_dicom(tmp_path / "mask.dcm", np.zeros((3, 3), np.uint8), Modality="SEG")
    assert find_scans([tmp_path]) == ([], [])
    inputs = [tmp_path / "notes.txt", tmp_path / "mask.dcm", tmp_path / "missing"]
    founds, problems = find_scans(inputs)
    assert not founds
    assert {problem.path for problem in problems} == set(inputs)


def test_dicom_is_known_by_its_preamble_and_files_named_together_make_a_series(tmp_path: Path) -> None:
    folder = _series(tmp_path / "ct")
    (folder / "1").rename(folder / "1.2.840.5")
    founds, problems = find_scans(sorted(folder.iterdir()))
    assert not problems
    assert [len(found.files) for found in founds] == [2]
    assert output_names(founds) == [(Path("ct.nii.gz"),)]
    assert _names(folder) == ["ct.nii.gz"]
    assert _names(folder / "1.2.840.5") == ["1.2.840.5.nii.gz"]
    assert open_scan(founds[0]).frame_count == 2


def test_names_that_would_collide(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "a/x.png", "a/y.png", "b/y.png", "a/Z.png", "a/z.jpg"):
        _picture(tmp_path / name)
    assert _names(tmp_path / "a") == ["Z.png.png", "x.jpg.png", "x.png.png", "y.png", "z.jpg.png"]
    names = _names(tmp_path / "a", tmp_path / "b")
    assert names[3] == "a/y.png"
    assert names[-1] == "b/y.png"
    files = [_picture(tmp_path / site / "y" / "1.png") for site in ("s", "t")]
    assert len(set(_names(*files))) == 2


def test_every_name_is_its_own_whatever_the_inputs(tmp_path: Path) -> None:
    picks = np.random.default_rng(0)
    parts = ["x", "X", "x_2", "x.png", "y__a", "y"]
    for _ in range(50):
        founds = []
        for _ in range(12):
            root = tmp_path / picks.choice(parts)
            relative = Path(*picks.choice(parts, picks.integers(1, 3)))
            relative = relative.with_name(relative.name + str(picks.choice([".png", ".jpg", ".tif"])))
            founds.append(Found(root, root / relative, relative, "picture", (root / relative,), ".png"))
        names = [
            path.as_posix().casefold() for paths in output_names(founds, ["A b", "a-b!"]) for path in paths
        ]
        assert len(set(names)) == 24


def test_prompts_become_slugs(tmp_path: Path) -> None:
    founds, _ = find_scans([_picture(tmp_path / "case1.jpg")])
    assert output_names(founds, ["polyp"]) == [(Path("case1.png"),)]
    several = output_names(founds, ["polyp", "Skin  lesion", "skin lesion!", "../é"])
    assert [path.name for path in several[0]] == [
        "case1__polyp.png",
        "case1__skin-lesion.png",
        "case1__skin-lesion-2.png",
        "case1__e.png",
    ]
    assert prompt_slug("瘤") == "prompt"
    assert output_name(founds[0], ".png", "polyp", keep_extension=True) == Path("case1.jpg__polyp.png")


def test_opening_what_turned_out_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("no picture")
    founds, problems = find_scans([tmp_path])
    assert not problems  # pictures are not opened to be listed
    with pytest.raises(UnreadableFile, match="not a picture"):
        open_scan(founds[0])
