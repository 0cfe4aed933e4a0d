from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from tests.shared import SHARED
from vlsmctl.datasets.audit import AuditCase, Shared, audit, audit_lines, leak_lines, repeat_lines

# Sequences of CVC-ClinicDB: the last frame of each
ENDS = (25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428, 447,
        466, 478, 503, 528, 546, 571, 591, 612)  # fmt: skip


def case(known: str, split: str, **given: object) -> AuditCase:
    """One that has nothing in common with others, but for what is given."""
    digest = random.Random(known).getrandbits(63) | 1  # noqa: S311
    plain = AuditCase(
        known, split, None, f"pixels of {known}", digest, f"images/{known}.png", f"{known}.jpg"
    )
    return replace(plain, **given)  # type: ignore[arg-type]


CLEAN = [*(case(f"t{n}", "train", group=f"g{n}") for n in range(6)),
         *(case(f"v{n}", "val", group=f"h{n // 2}") for n in range(3)),
         *(case(f"x{n}", "test", group=f"k{n}") for n in range(4))]  # fmt: skip


def test_clean_splits_leak_nothing() -> None:
    found = audit(CLEAN)
    assert [(leak.split, leak.against, leak.any) for leak in found.leaks] == [
        ("val", "train", 0), ("test", "train", 0), ("test", "val", 0),
    ]  # fmt: skip
    assert [(one.images, one.groups, one.ungrouped) for one in found.counts.values()] == [
        (6, 6, 0), (3, 2, 0), (4, 4, 0),
    ]  # fmt: skip
    assert leak_lines(found) == repeat_lines(found) == []
    assert audit_lines(found) == [
        "train: 6 images from 6 groups",
        "val: 3 images from 2 groups",
        "test: 4 images from 4 groups",
        "no image of val or test shares a group, pixels or looks with another split",
    ]


def test_each_kind_of_leak_is_counted_by_itself_and_all_together() -> None:
    train = CLEAN[0]
    leaking = [
        case("grouped", "test", group=train.group),
        case("identical", "test", pixels=train.pixels, phash=train.phash),
        case("near", "test", phash=train.phash ^ 0b1110),
        case("same hash, other pixels", "test", phash=train.phash),
        case("all three", "test", group="g1", pixels=CLEAN[1].pixels, phash=CLEAN[2].phash ^ 2),
    ]
    found = audit([*CLEAN, *leaking])
    leak = found.leaks[1]
    assert (leak.split, leak.against, leak.images) == ("test", "train", 9)
    assert leak.groups == Shared(2, (("all three", "t1"), ("grouped", "t0")))
    assert leak.identical == Shared(2, (("all three", "t1"), ("identical", "t0")))
    assert leak.near == Shared(3, (("all three", "t2"), ("near", "t0"), ("same hash, other pixels", "t0")))
    assert leak.any == 5
    assert [other.any for other in (found.leaks[0], found.leaks[2])] == [0, 0]
    assert found.identical_sets == 2
    assert found.near_sets == 2
    assert found.near_images == 6
    text = "\n".join(audit_lines(found))
    assert "test: 2 of 9 images are also in train, pixel for pixel: all three ~ t1, identical ~ t0" in text
    assert "groups (sequences, patients or volumes) are not known for 3 images" in text


def test_val_against_train_and_test_against_val_are_told_too() -> None:
    val = case("v", "val", pixels=CLEAN[0].pixels)
    test = case("x", "test", phash=val.phash ^ 1 << 20)
    found = audit([*CLEAN, val, test])
    assert [leak.any for leak in found.leaks] == [1, 0, 1]
    assert len(leak_lines(found)) == 2


def test_copies_are_not_near_duplicates_too() -> None:
    copies = [case(f"c{n}", "train", pixels="same", phash=0b1011) for n in range(3)]
    found = audit([*CLEAN, *copies])
    assert (found.identical_sets, found.identical_images) == (1, 3)
    assert (found.near_sets, found.near_images) == (0, 0)
    other = audit([*CLEAN, *copies, case("d", "train", phash=0b1011)])
    assert (other.near_sets, other.near_images) == (1, 4)
    assert repeat_lines(other) == [
        "3 images identical to another, in 1 set",
        "4 images that look like another, in 1 set",
    ]


def test_a_picture_with_nothing_in_it_is_like_no_other() -> None:
    found = audit([case("a", "train", phash=0), case("b", "test", phash=0)])
    assert found.leaks[0].any == 0
    assert found.near_sets == 0


def test_records_of_one_image_count_once_and_are_no_duplicates() -> None:
    several = [
        replace(case("r", split), id=f"r-{finding}")
        for split in ("train", "test")
        for finding in ("edema", "atelectasis", "lesion")
    ]
    apart = audit([one for one in several if one.split == "train"])
    assert apart.counts["train"].images == 1
    assert (apart.identical_sets, apart.near_sets, apart.names_within.count) == (0, 0, 0)
    torn = audit(several)  # but the same image in two splits is a leak
    assert torn.leaks[0].identical.images == torn.leaks[0].images == 1
    assert torn.identical_sets == 0
    assert torn.names_across.examples == (("r.jpg", ("train", "test")),)


def test_repeated_names_are_told_within_and_across_splits() -> None:
    listed = [
        *CLEAN,
        case("t0", "train"),  # listed twice
        case("v9", "val", name="t1.jpg"),  # another image under the same name
        case("x9", "test", name="x1.jpg"),
    ]
    found = audit(listed)
    assert found.names_within.count == 2
    assert found.names_within.examples == (("t0.jpg", ("train", "train")), ("x1.jpg", ("test", "test")))
    assert found.names_across.examples == (("t1.jpg", ("train", "val")),)
    assert repeat_lines(found) == [
        "1 name in several splits: t1.jpg (train, val)",
        "2 names twice in a split: t0.jpg (train, train), x1.jpg (test, test)",
    ]


def test_examples_are_few_and_the_rest_is_counted() -> None:
    leaking = [case(f"y{n}", "test", group="g0") for n in range(9)]
    found = audit([*CLEAN, *leaking], examples=2)
    assert found.leaks[1].groups == Shared(9, (("y0", "t0"), ("y1", "t0")))
    assert any(line.endswith("y0 ~ t0, y1 ~ t0 and 7 more") for line in leak_lines(found))


def test_the_order_of_the_cases_does_not_matter_and_all_of_it_is_json() -> None:
    cases = [*CLEAN, *(case(f"y{n}", "test", group="g0", phash=CLEAN[n].phash ^ 1) for n in range(6))]
    shuffled = cases[:]
    random.Random(1).shuffle(shuffled)  # noqa: S311
    assert audit(shuffled) == audit(cases)
    document = json.loads(json.dumps(audit(cases).as_dict()))
    assert document["leaks"][1]["near"]["images"] == 6
    assert document["counts"]["train"] == {"images": 6, "groups": 6, "ungrouped": 0}


def test_nothing_to_audit() -> None:
    assert audit([]).leaks == ()
    assert leak_lines(audit([case("a", "train")])) == []


def test_the_published_split_of_clinicdb_shares_every_sequence() -> None:
    folder = SHARED.parent / "annotations" / "clinicdb_polyp" / "anns"
    if not folder.is_dir():
        pytest.skip("no published annotations here")
    cases = []
    for split in ("train", "val", "test"):
        for entry in json.loads((folder / f"{split}.json").read_text(encoding="utf-8")):
            number = int(entry["img_name"].split(".")[0])
            sequence = next(at for at, end in enumerate(ENDS, 1) if number <= end)
            cases.append(case(f"{number}", split, group=f"sequence-{sequence:02d}"))
    found = audit(cases)
    assert [(leak.groups.images, leak.images) for leak in found.leaks[:2]] == [(61, 61), (61, 61)]
    assert any(
        line.startswith("test: 61 of 61 images come from groups (sequences, patients or volumes) that are")
        for line in audit_lines(found)
    )
