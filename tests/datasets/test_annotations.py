from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from tests.datasets import fakes
from tests.shared import SHARED
from vlsmctl.datasets.annotations import (
    Annotations,
    apply,
    export_medvlsm,
    exported_id,
    find_annotations,
    read_annotations,
)
from vlsmctl.datasets.manifest import Prompts, Record
from vlsmctl.datasets.records import Item, image_stem
from vlsmctl.datasets.sources import MaskFiles, Picture
from vlsmctl.errors import UsageError

PUBLISHED = SHARED.parent / "annotations"
SPLIT_OF = {"a": "train", "b": "train", "c": "val", "d": "test"}


def _entry(name: str, **more: Any) -> dict[str, Any]:
    entry = {
        "bbox": [1, 2, 3, 4], "cat": 0, "segment_id": name, "img_name": f"{name}.png",
        "mask_name": f"{name}.png", "sentences": [{"idx": 0, "sent_id": 1, "sent": ""}],
        "prompts": {"p0": "", "p1": "polyp", "p7": [f"polyp {name}", "polyp"]}, "sentences_num": 1,
    }  # fmt: skip
    return {**entry, **more}


def _write(folder: Path, **splits: Sequence[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, entries in splits.items():
        (folder / f"{split}.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


def _annotations(folder: Path, **splits: Sequence[str]) -> Annotations:
    return read_annotations(
        _write(folder, **{split: [_entry(n) for n in names] for split, names in splits.items()})
    )


def _items(*names: str) -> list[Item]:
    return [
        Item(name, Picture(Path(f"{name}.tif")), MaskFiles((Path(f"{name}.tif"),)), group="g")
        for name in names
    ]


def _record(name: str, split: str, image: str | None = None, **prompts: str | list[str]) -> Record:
    given: Prompts = {"p0": "", **prompts}
    return Record(
        id=name, image=f"images/{image or name}.jpg", mask=f"masks/{name}.png", split=split, prompts=given,
        attributes={}, group=None, width=32, height=32, foreground=0.1, sha256="",
    )  # fmt: skip


@pytest.fixture
def four(tmp_path: Path) -> Annotations:
    return _annotations(tmp_path / "set" / "anns", train=["a", "b"], val=["c"], test=["d"])


def test_a_set_is_read_from_its_folder_or_its_anns(tmp_path: Path, four: Annotations) -> None:
    assert [(entry.img_name, entry.split) for entry in four.entries] == [
        ("a.png", "train"), ("b.png", "train"), ("c.png", "val"), ("d.png", "test"),
    ]  # fmt: skip
    assert read_annotations(tmp_path / "set") == four
    content = (tmp_path / "set" / "anns" / "val.json").read_bytes()
    assert four.hashes["val.json"] == hashlib.sha256(content).hexdigest()
    assert four.entries[0].prompts["p7"] == ["polyp a", "polyp"]
    assert four.entries[0].bbox == (1, 2, 3, 4)


def test_annotations_are_found_in_a_set_among_several_and_in_a_repository(tmp_path: Path) -> None:
    for name in ("kvasir_polyp", "dfu"):
        _annotations(tmp_path / "data" / name / "anns", train=["a"])
    anns = tmp_path / "data" / "dfu" / "anns"
    for given in (anns, anns.parent, tmp_path / "data", tmp_path):
        assert find_annotations(given, "dfu") == anns
    with pytest.raises(UsageError, match=r"no annotations of 'busi'.*found dfu, kvasir_polyp"):
        find_annotations(tmp_path / "data", "busi")
    with pytest.raises(UsageError, match="no such folder"):
        find_annotations(tmp_path / "nowhere", "busi")


def test_older_tests_are_read_only_where_there_is_no_test(tmp_path: Path) -> None:
    new = _annotations(tmp_path / "new", test=["a"], testA=["b"], testB=["c"])
    assert [entry.img_name for entry in new.entries] == ["a.png"]
    old = _annotations(tmp_path / "old", train=["a"], testA=["b", "c"], testB=["c", "d"])
    assert [(entry.img_name, entry.split) for entry in old.entries] == [
        ("a.png", "train"), ("b.png", "test"), ("c.png", "test"), ("d.png", "test"),
    ]  # fmt: skip
    assert set(old.hashes) == {"train.json", "testA.json", "testB.json"}


def test_entries_without_box_and_with_number_ids_are_read(tmp_path: Path) -> None:
    entry = _entry("101570", segment_id=101570, img_name="101570.jpg")
    del entry["bbox"]
    (read,) = read_annotations(_write(tmp_path, train=[entry])).entries
    assert (read.img_name, read.mask_name, read.bbox) == ("101570.jpg", "101570.png", None)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("text", "expected a JSON object"),
        ({"img_name": 7}, "'img_name' to be a file name, found 7"),
        ({"img_name": "\ud800.png"}, "'img_name'"),
        ({"mask_name": ""}, "'mask_name'"),
        ({"prompts": None}, "'prompts'"),
        ({"prompts": {"p1": 3}}, "'p1': 3"),
        ({"prompts": {"p1": ["a", None]}}, "'p1'"),
        ({"prompts": {"p1": []}}, "'p1'"),
        ({"prompts": {"p1": "\udfff"}}, "'p1'"),
        ({"prompts": {"../x": "a"}}, "p0, p1"),
        ({"bbox": [1, 2, 3]}, "'bbox'"),
        ({"bbox": [1, 2, 3, True]}, "'bbox'"),
        ({"bbox": [1, 2, 3, float("nan")]}, "'bbox'"),
        ({"bbox": "1 2 3 4"}, "'bbox'"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(tmp_path: Path, broken: Any, says: str) -> None:
    entry = _entry("b", **broken) if isinstance(broken, dict) else broken
    _write(tmp_path, train=[_entry("a"), entry])
    with pytest.raises(UsageError, match=r"train\.json, entry 2: ") as caught:
        read_annotations(tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[{", b"\xff\xfe\x00", b"[" * 100_000, b"<html>", b'{"a": 1}'])
def test_what_is_no_list_of_entries_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"train\.json: expected"):
        read_annotations(tmp_path)


def test_a_folder_without_annotations_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected train\.json"):
        read_annotations(tmp_path)


def test_prompts_are_taken_as_they_are_and_splits_with_the_protocol(four: Annotations) -> None:
    applied = apply(_items("a", "b", "c", "d"), four, image_stem, protocol=True)
    assert {item.id: item.split for item in applied.items} == SPLIT_OF
    assert all(item.prompts == four.entries[0].prompts | {"p7": [f"polyp {item.id}", "polyp"]}
               for item in applied.items)  # fmt: skip
    assert all(item.group == "g" and item.image_name is None for item in applied.items)
    assert not applied.warnings
    plain = apply(_items("a", "b", "c", "d"), four, image_stem, protocol=False)
    assert [item.split for item in plain.items] == [None] * 4
    assert [item.prompts for item in plain.items] == [item.prompts for item in applied.items]


def test_items_without_an_entry_are_left_out_by_the_protocol_only(four: Annotations) -> None:
    items = _items("a", "x", "y")
    applied = apply(items, four, image_stem, protocol=True)
    assert [item.id for item in applied.items] == ["a"]
    assert applied.left_out == ("x", "y")
    assert any(
        "2 raw items are not in the annotations and left out: x, y" in note for note in applied.notes
    )
    plain = apply(items, four, image_stem, protocol=False)
    assert [(item.id, item.prompts is None) for item in plain.items] == [
        ("a", False), ("x", True), ("y", True),
    ]  # fmt: skip


def test_entries_without_a_raw_file_are_counted_and_named(four: Annotations) -> None:
    applied = apply(_items("a"), four, image_stem, protocol=True)
    assert applied.unmatched == (("b.png", "b.png"), ("c.png", "c.png"), ("d.png", "d.png"))
    assert any("3 entries of the annotations have no raw file: b.png, c.png, d.png" in w
               for w in applied.warnings)  # fmt: skip


def test_a_name_in_several_splits_becomes_a_record_for_each(tmp_path: Path) -> None:
    annotations = _annotations(tmp_path, train=["a", "t", "t"], val=["v"], test=["a", "v"])
    applied = apply(_items("a", "t", "v", "a-2"), annotations, image_stem, protocol=True)
    assert [(item.id, item.image_name, item.split) for item in applied.items] == [
        ("a", "a", "train"), ("a-2-again", "a", "test"), ("t", "t", "train"), ("t-2", "t", "train"),
        ("v", "v", "val"), ("v-2", "v", "test"),
    ]  # fmt: skip
    assert applied.repeated == {"a": ("train", "test"), "t": ("train", "train"), "v": ("val", "test")}
    assert any("3 names stand in the annotations more than once, 2 of them in several splits" in w
               for w in applied.warnings)  # fmt: skip
    plain = apply(_items("a", "t", "v"), annotations, image_stem, protocol=False)
    assert [item.id for item in plain.items] == ["a", "t", "v"]


def test_masks_of_one_image_are_no_repetition(tmp_path: Path) -> None:
    entries = [_entry("i", mask_name=f"i_{label}.png") for label in ("left", "right")]
    annotations = read_annotations(_write(tmp_path, train=entries))
    items = [replace(item, image_name="i") for item in _items("i_left", "i_right")]
    applied = apply(items, annotations, lambda img, mask: PurePosixPath(mask).stem, protocol=True)
    assert [(item.id, item.image_name) for item in applied.items] == [("i_left", "i"), ("i_right", "i")]
    assert not applied.warnings


def test_names_match_without_regard_to_case_and_suffix(tmp_path: Path) -> None:
    annotations = _annotations(tmp_path, train=["Frame-1", "two", "x"])
    applied = apply(_items("frame-1", "two.png", "X", "x.png"), annotations, image_stem, protocol=True)
    assert [item.id for item in applied.items] == ["frame-1", "two.png"]
    assert applied.unmatched == (("x.png", "x.png"),)  # two items could be meant


def test_test_entries_may_be_named_by_a_rule_of_their_own(tmp_path: Path) -> None:
    annotations = _annotations(tmp_path, val=["p1"], test=["p1"])
    applied = apply(
        _items("p1", "test-p1"),
        annotations,
        image_stem,
        protocol=True,
        published_test=lambda img, mask: f"test-{image_stem(img, mask)}",
    )
    assert {item.id: item.split for item in applied.items} == {"p1": "val", "test-p1": "test"}
    assert any("no entries for train" in note for note in applied.notes)


def test_a_rule_that_cannot_take_a_name_apart_finds_nothing(four: Annotations) -> None:
    def strict(img_name: str, mask_name: str) -> str:
        if img_name.startswith("a"):
            return "item"
        raise ValueError(img_name)

    applied = apply(_items("item"), four, strict, protocol=True)
    assert [item.id for item in applied.items] == ["item"]
    assert len(applied.unmatched) == 3


def test_annotations_of_another_set_are_refused(four: Annotations) -> None:
    with pytest.raises(UsageError, match=r"none of the 4 entries.*such as 274, 275; found a\.png, b\.png"):
        apply(_items("274", "275"), four, image_stem, protocol=False)


def test_export_and_import_give_the_same_splits_and_prompts(tmp_path: Path) -> None:
    records = [
        _record("a", "train", p1="polyp", p2=["one pólyp", "息肉"]),
        _record("b", "val", p1="polyp"),
        _record("c-left", "train", image="c", p1="left"),
        _record("c-right", "train", image="c", p1="right"),
    ]
    for at, record in enumerate(records):
        fakes.save(tmp_path / record.mask, fakes.grey(fakes.blob(row=at, column=3)))
    files = export_medvlsm(records, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "anns/train.json", "anns/val.json", "anns/test.json",
    ]  # fmt: skip
    items = _items(*(record.id for record in records))
    applied = apply(items, read_annotations(tmp_path), image_stem, protocol=True)
    expected = {record.id: (record.split, record.prompts) for record in records}
    assert {item.id: (item.split, item.prompts) for item in applied.items} == expected
    assert not applied.warnings


def test_exported_entries_have_the_published_fields(tmp_path: Path) -> None:
    records = [_record("sub/a", "test", p1="polyp"), _record("empty", "test", p1="polyp")]
    fakes.save(tmp_path / "masks/sub/a.png", fakes.grey(fakes.blob(8, 6, 10)))
    fakes.save(tmp_path / "masks/empty.png", np.zeros((20, 30)))
    export_medvlsm(records, tmp_path, tmp_path / "elsewhere")
    entries = json.loads((tmp_path / "elsewhere" / "anns" / "test.json").read_text(encoding="utf-8"))
    assert entries[0] == {
        "bbox": [5, 7, 16, 18], "cat": 0, "segment_id": "a", "img_name": "sub/a.jpg",
        "mask_name": "sub/a.png", "sentences": [{"idx": 0, "sent_id": 0, "sent": ""}],
        "prompts": {"p0": "", "p1": "polyp"}, "sentences_num": 1,
    }  # fmt: skip
    assert entries[1]["bbox"] == [30, 20, 0, 0]
    assert exported_id("sub/a.jpg", "sub/a.png") == "sub-a"
    assert json.loads((tmp_path / "elsewhere" / "anns" / "train.json").read_bytes()) == []


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    fakes.save(tmp_path / "masks/a.png", fakes.grey(fakes.blob()))
    fakes.truncate(tmp_path / "masks/a.png")
    with pytest.raises(Exception, match=r"a\.png"):
        export_medvlsm([_record("a", "train", p1="x")], tmp_path)
    assert not list((tmp_path / "anns").iterdir())


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published annotations here")
@pytest.mark.parametrize(
    ("name", "counts", "repeats"),
    [
        ("clinicdb_polyp", (490, 61, 61), 0),
        ("kvasir_polyp", (800, 100, 100), 0),
        ("bkai_polyp", (800, 100, 100), 4),
    ],
)
def test_the_published_files_are_read_whole(name: str, counts: tuple[int, ...], repeats: int) -> None:
    annotations = read_annotations(find_annotations(PUBLISHED, name))
    splits = [entry.split for entry in annotations.entries]
    assert tuple(splits.count(split) for split in ("train", "val", "test")) == counts
    ids = dict.fromkeys(image_stem(entry.img_name, entry.mask_name) for entry in annotations.entries)
    applied = apply(_items(*ids), annotations, image_stem, protocol=True)
    assert len(applied.items) == sum(counts)
    assert len({item.id for item in applied.items}) == sum(counts)
    assert len(applied.repeated) == repeats
    assert all(item.prompts is not None and item.prompts["p0"] == "" for item in applied.items)
