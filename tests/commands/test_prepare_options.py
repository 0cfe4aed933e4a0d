"""What `vlsmctl prepare` does besides preparing: labels, audits, previews, exports, --strict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.app import error_line, vlsmctl
from tests.datasets import fakes
from tests.datasets.fakes import busi, clinicdb, fuseg, kvasir
from tests.datasets.fakes.volumes import write_nnunet
from vlsmctl.datasets.manifest import Manifest, read_manifest


def prompts_and_splits(manifest: Manifest) -> dict[str, tuple[str, object]]:
    return {record.id: (record.split, record.prompts) for record in manifest.records}


@pytest.mark.parametrize("name", ["clinicdb", "busi"])
def test_an_export_read_again_gives_the_same_prompts_and_splits(name: str, tmp_path: Path) -> None:
    raw = (clinicdb if name == "clinicdb" else busi).write(tmp_path / "raw")
    asked = ("prepare", name, "--raw", raw, "--out", tmp_path / "data")
    exported = vlsmctl(*asked, "--export", "medvlsm", "--json").document["datasets"][0]["export"]
    first = prompts_and_splits(read_manifest(tmp_path / "data" / name))
    vlsmctl(*asked, "--name", "again", "--protocol", "medvlsm", "--annotations", exported)
    again = read_manifest(tmp_path / "data" / "again")
    assert prompts_and_splits(again) == first
    assert again.info["protocol"] == "medvlsm"


def test_an_audit_needs_no_raw_data_once_a_set_is_prepared(tmp_path: Path) -> None:
    raw, out = clinicdb.write(tmp_path / "raw"), tmp_path / "data"
    vlsmctl("prepare", "clinicdb", "--raw", raw, "--out", out)
    told = vlsmctl("prepare", "clinicdb", "--out", out, "--audit", "--strict").out
    assert "no image of val or test shares a group" in told
    vlsmctl("prepare", "clinicdb", "--out", out, "--export", "medvlsm")
    theirs = tmp_path / "clinicdb_polyp" / "anns"
    theirs.parent.mkdir()
    (out / "clinicdb" / "medvlsm" / "anns").rename(theirs)
    moved = json.loads((theirs / "train.json").read_text(encoding="utf-8"))
    (theirs / "train.json").write_text(json.dumps(moved[1:]), encoding="utf-8")
    (theirs / "test.json").write_text(json.dumps(moved[:1]), encoding="utf-8")  # a frame of a known video
    published = ("--protocol", "medvlsm", "--annotations", tmp_path, "--json")
    (document,) = vlsmctl("prepare", "clinicdb", "--out", out, "--audit", *published).document["datasets"]
    assert document["audit"]["counts"]["test"]["images"] == 1
    assert any("1 of 1 images come from groups" in text for text in document["leaks"])
    vlsmctl("prepare", "clinicdb", "--out", out, "--audit", "--strict", *published, code=3)


def test_a_pool_follows_its_members(tmp_path: Path) -> None:
    out = tmp_path / "data"
    for member in (kvasir, clinicdb):
        member.write(tmp_path / "raw" / member.__name__)
    vlsmctl("prepare", "polyps", "kvasir", "--raw", tmp_path / "raw", "--out", out)
    before = read_manifest(out / "polyps")
    record = next(one for one in before.records if one.attributes["dataset"] == "kvasir" and one.foreground)
    mask = tmp_path.joinpath("raw").rglob(f"masks/{record.id.removeprefix('kvasir-')}.*").__next__()
    with Image.open(mask) as opened:
        moved = np.roll(np.asarray(opened.convert("L")), 1, axis=0)
    Image.fromarray(moved).save(mask, quality=100)
    vlsmctl("prepare", "kvasir", "--raw", tmp_path / "raw", "--out", out)
    old = (out / "polyps" / record.mask).read_bytes()
    vlsmctl("prepare", "polyps", "--out", out)
    assert (out / "polyps" / record.mask).read_bytes() != old
    told = vlsmctl("prepare", "polyps", "--out", out, "--audit").out
    assert "look like" in told or "looks" in told
    assert "was not compared" not in told
    for wrong in (("--class", "x"), ("--empty", "drop"), ("--axis", "1")):
        assert "pooled set" in vlsmctl("prepare", "polyps", "--out", out, *wrong, code=2).err
    published = ("--protocol", "medvlsm", "--annotations", out)
    refused = vlsmctl("prepare", "polyps", "--out", out, "--audit", *published, code=2)
    assert "single data sets" in refused.err


def test_an_export_of_another_protocol_is_made_of_it(tmp_path: Path) -> None:
    raw, out = clinicdb.write(tmp_path / "raw"), tmp_path / "data"
    vlsmctl("prepare", "clinicdb", "--raw", raw, "--out", out, "--export", "medvlsm")
    theirs = tmp_path / "clinicdb_polyp" / "anns"
    theirs.parent.mkdir()
    (out / "clinicdb" / "medvlsm" / "anns").rename(theirs)
    moved = json.loads((theirs / "train.json").read_text(encoding="utf-8"))
    (theirs / "train.json").write_text(json.dumps(moved[1:]), encoding="utf-8")
    (theirs / "test.json").write_text(json.dumps(moved[:1]), encoding="utf-8")
    published = ("--protocol", "medvlsm", "--annotations", tmp_path)
    (out / "raw").symlink_to(raw, target_is_directory=True)  # where raw data is looked for
    vlsmctl("prepare", "clinicdb", "--out", out, "--export", "medvlsm", *published)
    manifest = read_manifest(out / "clinicdb")
    assert (manifest.info["protocol"], len(manifest.split("test"))) == ("medvlsm", 1)
    assert "MedVLSM published" in manifest.info["split_rule"]


def test_a_folder_that_cannot_be_used_is_told_and_counts(tmp_path: Path) -> None:
    kvasir.write(tmp_path / "raw" / "k")
    bad = fakes.generic(tmp_path / "raw" / "bad")
    (bad / "prompts.csv").write_text("id,split\ncase00,trian\n", encoding="utf-8")
    told = vlsmctl("prepare", "--raw", tmp_path / "raw", "--out", tmp_path / "data", code=3).out
    assert f"passed over: {bad}" in told
    assert read_manifest(tmp_path / "data" / "kvasir").records


def test_leaks_by_official_splits_are_warnings_and_strict_counts_them(tmp_path: Path) -> None:
    asked = ("prepare", "fuseg", "--raw", fuseg.write(tmp_path / "raw"), "--out", tmp_path / "data")
    told = vlsmctl(*asked).out
    assert "warning: test: 1 of 4 images are also in train, pixel for pixel" in told
    vlsmctl(*asked, "--strict", code=3)
    quiet = ("--raw", fakes.generic(tmp_path / "quiet"), "--out", tmp_path / "data")
    vlsmctl("prepare", "generic", *quiet, "--class", "polyp", "--strict")


def test_a_preview_is_a_picture_of_every_split(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    asked = ("prepare", "mine", "--out", tmp_path / "data", "--preview", "--class", "polyp")
    vlsmctl(*asked, "--raw", raw)
    with Image.open(tmp_path / "data" / "mine" / "preview.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert (pixels == (0, 158, 115)).all(axis=1).sum() > 100  # outlines
    (tmp_path / "data" / "mine" / "preview.png").unlink()
    assert "preview.png" in vlsmctl(*asked).out  # now from what is prepared


def test_label_maps_become_a_record_a_class(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number in range(12):
        labels = np.zeros((32, 32), np.uint8)
        labels[4:12, 4:12], labels[16:28, 16:28] = 1, 2 * (number != 3)
        fakes.save(raw / "images" / f"{number}.png", fakes.picture(number))
        fakes.save(raw / "masks" / f"{number}.png", labels)
    asked = ("prepare", "hearts", "--raw", raw, "--out", tmp_path / "data", "--class", "heart")
    told = error_line(vlsmctl(*asked, code=2))
    assert "0, 1, 2" in told
    vlsmctl(*asked, "--labels", '1="left ventricle",2=myocardium')
    records = {record.id: record for record in read_manifest(tmp_path / "data" / "hearts").records}
    assert len(records) == 24
    one, two = records["0-left-ventricle"], records["0-myocardium"]
    assert (one.prompts["p1"], two.prompts["p1"]) == ("left ventricle", "myocardium")
    assert (one.image, one.split) == (two.image, two.split)
    assert (one.foreground, two.foreground) == (64 / 1024, 144 / 1024)
    assert records["3-myocardium"].foreground == 0
    for wrong, told in (("ventricle", "NUMBER=NAME"), ("1=a,1=b", "a name already"), ("0=x", "background")):
        assert told in vlsmctl(*asked, "--labels", wrong, code=2).err
    told = vlsmctl(*asked, "--labels", "1=left ventricle,7=ghost").out
    assert "warning: no mask holds the label 7 (ghost)" in told
    assert "note: labels was" in told
    assert read_manifest(tmp_path / "data" / "hearts").info["labels"] == {
        "1": "left ventricle",
        "7": "ghost",
    }
    assert "warning: labels in the masks that --labels does not name, and that are not used: 2" in told


def test_classes_that_nobody_told_apart_are_not_merged(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "volumes")
    asked = ("--raw", tmp_path / "volumes", "--out", tmp_path / "data", "--class", "organ")
    told = vlsmctl("prepare", "organs", *asked, code=2)
    assert "the label volumes hold the labels 1, 2: expected one" in error_line(told)
    assert "--labels 1=NAME,2=NAME" in told.err
    for number in range(3):
        colours = np.zeros((32, 32, 3), np.uint8)
        colours[4:12, 4:12], colours[16:28, 16:28] = (128, 0, 0), (0, 128, 0)
        fakes.save(tmp_path / "c" / "images" / f"{number}.png", fakes.picture(number))
        fakes.save(tmp_path / "c" / "masks" / f"{number}.png", colours)
    asked = ("--raw", tmp_path / "c", "--out", tmp_path / "data", "--class", "x")
    refused = vlsmctl("prepare", "colours", *asked, code=4).err
    assert "several colours: (0, 128, 0), (128, 0, 0)" in refused


def test_a_misspelt_name_is_not_taken_for_own_data(here: Path, tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    refused = vlsmctl("prepare", "kvasri", "--raw", raw, "--out", tmp_path / "data", code=2)
    assert "did you mean 'kvasir'" in error_line(refused)
    assert (
        "--labels is for one's own data"
        in vlsmctl(
            "prepare", "clinicdb", "--raw", clinicdb.write(tmp_path / "c"), "--labels", "1=polyp", code=2
        ).err
    )
