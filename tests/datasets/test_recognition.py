from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.datasets import fakes
from tests.datasets.fakes import bkai, busi, colondb, cvc300, kvasir
from vlsmctl.datasets.jobs import named_jobs, recognised_jobs
from vlsmctl.datasets.recognition import find_root, located, recognise
from vlsmctl.errors import NoReadableInput, UsageError


def test_sets_are_found_however_deep_they_lie(tmp_path: Path) -> None:
    kvasir.write(tmp_path / "a" / "b" / "c" / "downloads")
    busi.write(tmp_path / "usb stick" / "Dataset_BUSI")
    bkai.write(tmp_path / "kaggle" / "bkai-igh-neopolyp")
    found = recognise(tmp_path)
    assert [root.name for root in found.roots] == ["kvasir", "bkai", "busi"]
    assert all(root.records and root.expected for root in found.roots)
    assert (found.own, found.archives) == ((), ())


def test_of_two_copies_the_larger_is_taken_and_the_other_told(tmp_path: Path) -> None:
    whole = kvasir.write(tmp_path / "z")
    copy = kvasir.write(tmp_path / "a")
    for part in ("images", "masks"):
        next(iter(sorted(find_root("kvasir", copy).joinpath(part).glob("*.jpg")))).unlink()
    found = recognise(tmp_path)
    assert [root.path for root in found.roots] == [find_root("kvasir", whole)]
    assert [root.path for root in found.others] == [find_root("kvasir", copy)]
    assert find_root("kvasir", tmp_path) == found.roots[0].path


def test_pranets_test_sets_are_told_apart(tmp_path: Path) -> None:
    colondb.write(tmp_path)
    cvc300.write(tmp_path)
    assert [root.name for root in recognise(tmp_path).roots] == ["cvc300", "colondb"]


def test_prepared_sets_hidden_folders_and_links_in_a_circle_are_passed_over(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "raw" / "mine")
    fakes.generic(tmp_path / "raw" / "done")
    for name in ("dataset.json", "manifest.jsonl"):
        (tmp_path / "raw" / "done" / name).write_text("{}", encoding="utf-8")
    (tmp_path / "raw" / "mine" / "dataset.json").write_text("{}", encoding="utf-8")  # nnU-Net has one, too
    fakes.generic(tmp_path / "raw" / ".mine.1234.part" / "set")
    (tmp_path / "raw" / "up").symlink_to(tmp_path / "raw", target_is_directory=True)
    assert [root.path for root in recognise(tmp_path / "raw").own] == [tmp_path / "raw" / "mine"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "elsewhere" / "mine")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(recognise(tmp_path / "raw").own) == 1


def test_archives_are_recognised_by_name_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "kvasir-seg.zip").write_bytes(b"not even a zip")
    (tmp_path / "holiday.zip").write_bytes(b"")
    found = recognise(tmp_path)
    assert [(one.name, one.path.name) for one in found.archives] == [
        (None, "holiday.zip"),
        ("kvasir", "kvasir-seg.zip"),
    ]
    with pytest.raises(UsageError, match="not unpacked") as refused:
        find_root("kvasir", tmp_path)
    assert str(refused.value.hint).endswith('kvasir-seg.zip"')


def test_own_data_is_offered_and_made_when_its_class_is_said(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "raw" / "My Polyps")
    _, jobs, offers = recognised_jobs(tmp_path / "raw", tmp_path / "data")
    assert jobs == []
    assert "--name my-polyps --class WORD" in offers[0].command
    _, jobs, offers = recognised_jobs(tmp_path / "raw", tmp_path / "data", class_word="polyp")
    assert ([job.target for job in jobs], offers) == (["my-polyps"], [])


def test_names_become_jobs(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    (job,) = named_jobs(["mydata"], raw, tmp_path / "data", class_word="polyp")
    assert (job.kind, job.target, job.raw) == ("generic", "mydata", raw)
    (job,) = named_jobs(["anything"], raw, tmp_path / "data", rename="mine")
    assert (job.kind, job.target) == ("generic", "mine")
    (job,) = named_jobs(["phantom"], None, tmp_path / "data")
    assert job.raw is None
    (job,) = named_jobs(["mydata"], raw, tmp_path / "data")  # a raw folder says that it is one's own
    assert (job.kind, job.target) == ("generic", "mydata")
    with pytest.raises(UsageError, match="unknown data set 'mydata'"):
        named_jobs(["mydata"], None, tmp_path / "data")
    for word in (None, "polyp"):
        with pytest.raises(UsageError, match="did you mean 'kvasir'"):
            named_jobs(["Kvasri"], raw, tmp_path / "data", class_word=word)
    (job,) = named_jobs(["kvasri"], raw, tmp_path / "data", rename="kvasri")  # well then
    assert job.target == "kvasri"
    with pytest.raises(UsageError, match="one data set, but there are 2"):
        named_jobs(["kvasir", "busi"], raw, tmp_path / "data", rename="x")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(NoReadableInput, match=r"no known data set.*found notes.txt"):
        recognise(tmp_path)
    with pytest.raises(NoReadableInput, match="no kvasir data"):
        find_root("kvasir", tmp_path)
    with pytest.raises(UsageError, match="found nothing"):
        recognise(tmp_path / "absent")


def test_several_places_with_own_data_are_not_chosen_from(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "a")
    for number in range(4):
        fakes.save(tmp_path / "b" / f"{number}.png", fakes.picture(number))
        fakes.save(tmp_path / "b" / f"{number}_mask.png", fakes.grey(fakes.blob()))
    with pytest.raises(UsageError, match="several places: a, b"):
        find_root("generic", tmp_path)


def test_one_bad_folder_does_not_cost_the_survey(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "good")
    bad = fakes.generic(tmp_path / "bad")
    (bad / "prompts.csv").write_text("id,split\ncase00,trian\n", encoding="utf-8")
    found = recognise(tmp_path)
    assert [root.path.name for root in found.own] == ["good"]
    assert [(one.path.name, "trian" in one.reason) for one in found.troubles] == [("bad", True)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="rights do not bind this user")
def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    fakes.generic(tmp_path / "good")
    (tmp_path / "closed").mkdir(mode=0)
    assert [one.path.name for one in recognise(tmp_path).troubles] == ["closed"]


def test_sets_are_located_by_names_alone(tmp_path: Path) -> None:
    kvasir.write(tmp_path / "k")
    fakes.generic(tmp_path / "mine")
    assert set(located(tmp_path)) == {"kvasir", "generic"}
    assert located(tmp_path / "absent") == {}
