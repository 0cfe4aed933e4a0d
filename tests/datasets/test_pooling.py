from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from tests.datasets.fakes import blob, etis, grey, kvasir, picture, save
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.duplicates import perceptual_hash
from vlsmctl.datasets.manifest import MANIFEST, Record, read_manifest, write_manifest
from vlsmctl.datasets.pooling import POOLS, Pooled, pool
from vlsmctl.datasets.staging import FACTS
from vlsmctl.errors import UsageError
from vlsmctl.formats.raster import read_picture


def record(name: str, split: str, sha256: str | None = None, group: str | None = None) -> Record:
    return Record(
        id=name, image=f"images/{name}.png", mask=f"masks/{name}.png", split=split,
        prompts={"p0": "", "p1": "polyp"}, attributes={"count": 1}, group=group,
        width=32, height=32, foreground=0.1, sha256=sha256 or f"pixels of {name}",
    )  # fmt: skip


def prepared(data: Path, name: str, records: Iterable[Record], kind: str | None = None) -> Path:
    """A prepared data set; pictures of different records differ. kind: by default as its name."""
    records = list(records)
    for one in records:
        save(data / name / one.image, picture(crc32(f"{name}/{one.image}".encode())))
        save(data / name / one.mask, grey(blob()))
    info = {"name": name, "kind": kind or name, "licence": f"licence of {name}"}
    write_manifest(data / name, records, info)
    return data / name


def of(prefix: str, *splits: str) -> list[Record]:
    return [record(f"{prefix}{n}", split) for n, split in enumerate(splits)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    prepared(folder, "kvasir", [replace(one, group="p1") for one in of("k", "train", "val", "test")])
    prepared(folder, "etis", of("e", "train", "test"))
    return folder


def splits(pooled: Pooled) -> dict[str, str]:
    return {one.id: one.split for one in pooled.records}


def test_members_keep_their_splits_but_for_those_that_are_only_tested_on(
    data: Path, tmp_path: Path
) -> None:
    pooled = pool("polyps", data, tmp_path / "out")
    assert splits(pooled) == {
        "kvasir-k0": "train", "kvasir-k1": "val", "kvasir-k2": "test",
        "etis-e0": "test", "etis-e1": "test",
    }  # fmt: skip
    assert pooled.counts == {"train": 1, "val": 1, "test": 3}
    assert pooled.members["etis"]["counts"] == {"train": 0, "val": 0, "test": 2}
    assert pooled.members["etis"]["manifest_hash"] == read_manifest(data / "etis").hash
    assert pooled.members["kvasir"]["licence"] == "licence of kvasir"
    assert not pooled.notes
    assert not pooled.left_out


def test_the_pool_is_a_prepared_data_set_with_the_same_files(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pooled = pool("polyps", data, out)
    write_manifest(out, pooled.records, {"name": "polyps"})
    again = read_manifest(out).records
    assert again == pooled.records
    first = again[0]
    assert (first.image, first.mask) == ("images/kvasir/k0.png", "masks/kvasir/k0.png")
    assert first.group == "kvasir/p1"
    assert again[-1].group is None
    assert first.attributes == {"count": 1, "dataset": "kvasir"}
    assert first.prompts == {"p0": "", "p1": "polyp"}
    for one in again:
        member, name = one.id.split("-")
        for path, kind in ((one.image, "images"), (one.mask, "masks")):
            source = data / member / kind / f"{name}.png"
            assert (out / path).read_bytes() == source.read_bytes()
    assert sum(path.is_file() for path in out.rglob("*.png")) == 2 * len(again)


def test_files_are_linked_or_else_copied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool("polyps", data, tmp_path / "linked")
    source = data / "kvasir" / "images" / "k0.png"
    assert source.samefile(tmp_path / "linked/images/kvasir/k0.png")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(os, "link", refuse)
    pool("polyps", data, tmp_path / "copied")
    copy = tmp_path / "copied/images/kvasir/k0.png"
    assert not copy.samefile(source)
    assert copy.read_bytes() == source.read_bytes()


def test_records_of_one_image_share_its_file(data: Path, tmp_path: Path) -> None:
    both = [replace(record("b0", "train"), id=f"b0-{n}", mask=f"masks/b0-{n}.png") for n in range(2)]
    prepared(data, "bkai", both)
    pooled = pool("polyps", data, tmp_path / "out")
    assert {one.image for one in pooled.records if one.id.startswith("bkai")} == {"images/bkai/b0.png"}
    assert {"bkai-b0-0", "bkai-b0-1"} <= set(splits(pooled))


def test_the_same_image_in_two_test_sets_counts_once(data: Path, tmp_path: Path) -> None:
    prepared(data, "colondb", [record(f"{n}", "train", f"frame {n}") for n in range(1, 7)])
    prepared(data, "cvc300", [record(f"{n}", "test", f"frame {n}") for n in (3, 4, 5, 9)])
    pooled = pool("polyps", data, tmp_path / "out")
    members = Counter(one.attributes["dataset"] for one in pooled.records)
    assert members == {"kvasir": 3, "colondb": 6, "cvc300": 1, "etis": 2}
    assert pooled.notes == ("left out of cvc300, since colondb has the same in test: 3 images",)
    assert not (tmp_path / "out/images/cvc300/3.png").exists()


@pytest.mark.parametrize(("split", "kept"), [("train", False), ("val", False), ("test", True)])
def test_what_another_set_tests_on_is_not_trained_on(
    data: Path, tmp_path: Path, split: str, kept: bool
) -> None:
    prepared(data, "clinicdb", [record("c0", split, "pixels of e0"), record("c1", "train")])
    pooled = pool("polyps", data, tmp_path / "out")
    assert ("clinicdb-c0" in splits(pooled)) is kept
    assert ("etis-e0" in splits(pooled)) is not kept  # of two in test the earlier member's
    leaks = [line for line in pooled.warnings if "left out" in line]
    assert bool(leaks) is not kept
    if leaks:
        assert leaks == [
            f"left out of the {split} images of clinicdb, since etis has the same in test: 1 images"
        ]
    pixels: dict[str, set[str]] = {}
    for one in pooled.records:
        pixels.setdefault(one.sha256, set()).add(one.split)
    assert all(len(found) == 1 for found in pixels.values())


def test_what_one_member_has_twice_is_left_alone(data: Path, tmp_path: Path) -> None:
    prepared(data, "clinicdb", [record("c0", "train", "same"), record("c1", "test", "same")])
    assert {"clinicdb-c0", "clinicdb-c1"} <= set(splits(pool("polyps", data, tmp_path / "out")))


def test_missing_members_are_named_with_their_commands(data: Path, tmp_path: Path) -> None:
    (warning,) = pool("polyps", data, tmp_path / "out").warnings
    assert "not in 'polyps': clinicdb, bkai, colondb, cvc300;" in warning
    assert f"vlsmctl prepare bkai --raw PATH --out {data}" in warning
    assert warning.endswith(f"vlsmctl prepare polyps --out {data}")


def test_fewer_than_two_members_are_refused_with_the_commands(tmp_path: Path) -> None:
    prepared(tmp_path / "data", "camus", of("c", "train"))
    with pytest.raises(
        UsageError, match=r"at least two of them in .*, found camus; it takes kvasir"
    ) as caught:
        pool("all", tmp_path / "data", tmp_path / "out")
    assert "vlsmctl prepare busi --raw PATH" in str(caught.value.hint)
    assert "prepare camus" not in str(caught.value.hint)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="found none"):
        pool("polyps", tmp_path / "data", tmp_path / "out")


def test_an_unknown_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known are polyps, all"):
        pool("feet", tmp_path, tmp_path / "out")


def test_a_record_without_its_file_is_left_out(data: Path, tmp_path: Path) -> None:
    (data / "kvasir" / "masks" / "k1.png").unlink()
    pooled = pool("polyps", data, tmp_path / "out")
    assert "kvasir-k1" not in splits(pooled)
    assert len(pooled.records) == 4
    assert [one.file for one in pooled.left_out] == ["kvasir/masks/k1.png"]
    assert pooled.counts == {"train": 1, "val": 0, "test": 3}
    assert not (tmp_path / "out/images/kvasir/k1.png").exists()


@pytest.mark.parametrize("kind", ["etis", "generic"])
def test_a_member_that_is_another_kind_of_set_is_refused(data: Path, tmp_path: Path, kind: str) -> None:
    prepared(data, "bkai", of("b", "train"), kind)
    with pytest.raises(UsageError, match=rf"bkai': expected .*'bkai', found .*'{kind}'") as caught:
        pool("polyps", data, tmp_path / "out")
    assert f"vlsmctl prepare bkai --raw PATH --out {data}" in str(caught.value.hint)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members as `prepare` leaves them."""
    folder = tmp_path_factory.mktemp("real")
    prepare("etis", etis.write(folder / "raw etis"), folder / "data", workers=1)
    prepare("kvasir", kvasir.write(folder / "raw kvasir"), folder / "data", workers=1)
    return folder / "data"


def test_perceptual_hashes_come_with_the_pool(real: Path, tmp_path: Path) -> None:
    pooled = pool("polyps", real, tmp_path)
    assert pooled.hashes == {
        one.id: perceptual_hash(read_picture(tmp_path / one.image)) for one in pooled.records
    }
    assert {name.partition("-")[0] for name in pooled.hashes} == {"etis", "kvasir"}


@pytest.mark.parametrize("damage", ["gone", "cut", "of other pixels"])
def test_a_member_without_usable_facts_has_no_hashes(real: Path, tmp_path: Path, damage: str) -> None:
    whole = pool("polyps", real, tmp_path / "whole").hashes
    shutil.copytree(real, tmp_path / "data")
    facts = tmp_path / "data" / "etis" / FACTS
    if damage == "gone":
        facts.unlink()
    elif damage == "cut":
        facts.write_bytes(facts.read_bytes()[:30])
    else:
        lines = [json.loads(line) for line in facts.read_text(encoding="utf-8").splitlines()]
        facts.write_text("".join(json.dumps({**line, "sha256": "0"}) + "\n" for line in lines))
    pooled = pool("polyps", tmp_path / "data", tmp_path / "out")
    assert pooled.hashes == {name: one for name, one in whole.items() if name.startswith("kvasir")}
    assert sum(one.id.startswith("etis") for one in pooled.records) >= 12


def test_a_damaged_member_is_named(data: Path, tmp_path: Path) -> None:
    path = data / "etis" / MANIFEST
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match="etis"):
        pool("polyps", data, tmp_path / "out")


def test_the_pools_are_made_of_known_sets() -> None:
    from vlsmctl.datasets.kinds import DATASETS

    for each in POOLS.values():
        assert set(each.test_only) < set(each.members)
        assert set(each.members) <= set(DATASETS)
        assert len(set(each.members)) == len(each.members)
    assert "fuseg" not in POOLS["all"].members
    assert set(POOLS["polyps"].members) < set(POOLS["all"].members)
