"""Names that belong together, and those that only look like it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from vlsmctl.pairing.names import (
    OF_PREDICTIONS,
    OF_TARGETS,
    Links,
    endings,
    image_claims,
    key,
    link,
    mask_claims,
    resembling,
)


def linked(items: str, names: str) -> tuple[dict[str, str], Links]:
    """Item -> name."""
    own, others = items.split(), names.split()
    links = link([list(mask_claims(item)) for item in own], [(name,) for name in others])
    return {own[number]: others[name] for number, (name, _) in links.found.items()}, links


@pytest.mark.parametrize(
    ("relative", "name"),
    [
        ("a/case1.nii.gz", "a/case1"), ("head.seg.dcm", "head"), ("HEAD.Seg.DCM", "HEAD"),
        ("1.2.840.dcm", "1.2.840"),
        ("v1.2.png", "v1.2"), ("case1.jpg.png", "case1.jpg"), ("a/.png", "a/"), ("x.mha", "x"), ("x", "x"),
        ("pie\u0301.png", "pi\u00e9"),
    ],
)  # fmt: skip
def test_the_name_of_a_file(relative: str, name: str) -> None:
    assert key(relative) == name


def test_what_a_name_may_stand_for() -> None:
    assert list(image_claims("a/case1.jpg")) == [("a/case1.jpg", None), ("a/case1", None)]
    assert list(mask_claims("a/b.jpg__polyp")) == [
        ("a/b.jpg__polyp", None), ("a/b.jpg", "polyp"), ("a/b", "polyp"),
    ]  # fmt: skip
    assert list(mask_claims("a__b/case")) == [("a__b/case", None)]


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ("c1_mask c2_mask", "c1 c2"),
        ("c1 c2", "c1_mask c2_mask"),
        ("c1-seg c2", "c1 c2"),
        ("c1.seg c2_Segmentation", "c1 C2"),
        ("C1 c2", "c1 c2"),
        ("c1_0000 c2_0000", "c1 c2"),
        ("a/c1/pred a/c2/pred", "a/c1/mask a/c2/mask"),
        ("c1 c2", "c1/mask c2/mask"),
        ("c1/pred c2", "c1 c2"),
        ("c1_prediction__polyp", "c1"),
        ("c1__mask c2_-_pred", "c1 c2"),
        ("c1 c2", "c1__mask c2_-gt"),
        ("c1_0000__polyp c1_0000__wound", "c1"),
    ],
)  # fmt: skip
def test_what_is_left_over_gets_a_second_try(items: str, names: str) -> None:
    found, links = linked(items, names)
    assert set(found.values()) == set(names.split())
    assert set(found) == set(items.split())
    assert links.notes


@pytest.mark.parametrize(
    ("items", "names", "sure"),
    [
        ("c1_mask c1_pred", "c1", {}),
        ("c1_pred c2_pred", "c1 c1_mask c2", {"c2_pred": "c2"}),
        ("c1 c1_pred c2_pred", "c1 c2", {"c1": "c1", "c2_pred": "c2"}),
        ("c1_pred c1", "c1_gt", {}),
        ("c1_pred c2", "c1 c2_gt", {}),
        ("c1 c2", "c1/mask c1/gt c2/mask", {"c2": "c2/mask"}),
        ("C1", "c1 c1_mask", {}),
        ("C1 c1_mask", "c1", {}),
        ("c1_mask c2_pred c1_pred", "c1 c2 c3", {"c2_pred": "c2"}),
    ],
)
def test_a_choice_ends_the_second_try_of_the_names_in_question(
    items: str, names: str, sure: dict[str, str]
) -> None:
    found, links = linked(items, names)
    assert found == sure
    assert len([note for note in links.notes if "not matched" in note]) == 1


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ("c1_gt c2_label", "c1 c2"), ("c1", "c1_pred"), ("c1_truth", "c1"),
        ("c1_x", "c1"), ("c1mask", "c1"), ("c10", "c1"), ("a/c1", "b/c1"), ("_mask", "mask"),
        ("a/_mask a/y", "a"), ("a/x", "a"), ("a", "a/x"), ("p1/p2 p2/p1", "p1/mask p2/mask"),
        ("c1_pred c2_pred", "c1_gt c2_gt"), ("c1/pred", "c1_mask"),
        ("p1_t2 p2_t1", "p1_t1 p2_ct"), ("p1/dwi", "p1/flair"), ("scan_ct", "scan_us"), ("p1", "p1_flair"),
        ("c1_image c2_img", "c1 c2"), ("us", "us/img"),
        ("seq", "seq_0000"), ("seq_0000", "seq_gt"), ("seq_0000 seq_0001", "seq"), ("seq_0001", "seq"),
        ("a/x", "a/y"), ("c1_mask", "c2"), ("a/x a/y", "a"),
    ],
)  # fmt: skip
def test_nothing_else_is_taken_for_the_same(items: str, names: str) -> None:
    found, links = linked(items, names)
    assert found == {}
    assert links.notes == []


def test_equal_names_leave_no_room_for_a_second_try() -> None:
    found, links = linked("c1 c1_mask", "c1")
    assert found == {"c1": "c1"}
    assert links.notes == []  # every name has its item


def test_what_was_taken_off_is_said() -> None:
    items = ["c1_pred", "c2_pred", "D/e"]
    lines = link([list(mask_claims(item)) for item in items], [("C1",), ("c2",), ("d/e",)]).notes
    assert lines == [
        "1 predictions matched with upper and lower case taken for the same: 'D/e' for 'd/e'",
        "2 predictions matched with '_pred' taken off the name of the prediction: 'c1_pred' for 'C1'",
    ]


def test_two_items_for_one_place_are_rivals() -> None:
    _, links = linked("c1 c1.jpg", "c1")
    assert links.rivals == [(0, 1, 0)]
    for slots, rivals in (
        ([("p",), ("q",)], []),
        ([("p", "q"), ("q",)], [(0, 1, 0)]),
        ([None, ("q",)], [(0, 1, 0)]),
    ):
        own: Sequence[Sequence[str] | None] = slots
        claims = [[("c1", None)], [("c1", None)]]
        assert link(claims, [("c1",)], slots=own.__getitem__).rivals == rivals


def test_a_further_name_of_two_is_that_of_neither() -> None:
    names = [("a", "picture"), ("b", "picture"), ("c", "alone", "a")]
    found = link([[("picture", None)], [("alone", None)], [("a", None)]], names).found
    assert found == {1: (2, None), 2: (0, None)}


@pytest.mark.parametrize(
    ("item", "name", "resembles"),
    [
        ("p2_seg", "p2_label", True), ("P2", "p2", True), ("p2_seg_pred", "p2", True),
        ("p2/pred", "P2_gt", True),
        ("p2__gt", "p2", True), ("p2", "p20", False), ("p2_x", "p2", False), ("a/p2", "b/p2", False),
        ("pred", "mask", False),
    ],
)  # fmt: skip
def test_names_that_resemble_each_other(item: str, name: str, resembles: bool) -> None:
    assert (
        resembling([list(mask_claims(item))], [("other",), (name,)], {0, 1}) == [(item, name)] * resembles
    )
    assert resembling([list(mask_claims(item))], [("other",), (name,)], {0}) == []


def test_endings() -> None:
    assert list(endings("A/C1_Mask", OF_TARGETS)) == [("", "a/c1_mask"), ("_mask", "a/c1")]
    assert list(endings("c1/mask", OF_TARGETS)) == [("", "c1/mask"), ("/mask", "c1")]
    assert list(endings("C1 (2) mask", OF_TARGETS)) == [("", "c1 (2) mask"), (" mask", "c1 (2)")]
    assert list(endings("c1/x", OF_TARGETS)) == [("", "c1/x")]
    assert list(endings("c1__mask", OF_TARGETS)) == [("", "c1__mask"), ("__mask", "c1")]
    assert list(endings("a/_mask", OF_TARGETS)) == [("", "a/_mask")]
    assert list(endings("c1_gt", OF_PREDICTIONS)) == [("", "c1_gt")]
    assert list(endings("c1_pred", OF_TARGETS)) == [("", "c1_pred")]
    assert list(endings("mask", OF_TARGETS)) == [("", "mask")]


def test_the_order_of_names_changes_nothing() -> None:
    generator = random.Random(3)  # noqa: S311
    bases = [f"{folder}case{number}" for folder in ("", "a/", "b/") for number in range(6)]
    tails = ("", "", "_mask", "_pred", "-seg", "__polyp", ".jpg", "_0000")
    for _ in range(200):
        items = sorted({generator.choice(bases) + generator.choice(tails) for _ in range(8)})
        names = sorted({generator.choice(bases) + generator.choice(("", "_gt")) for _ in range(8)})
        first = linked(" ".join(items), " ".join(names))
        mixed = linked(
            " ".join(generator.sample(items, len(items))), " ".join(generator.sample(names, len(names)))
        )
        assert bool(first[1].rivals) == bool(mixed[1].rivals)
        assert len(first[1].notes) == len(mixed[1].notes)
        if not first[1].rivals:
            assert first[0] == mixed[0]
