from __future__ import annotations

from pathlib import Path

import pytest

from vlsmctl.report.values import amount, count, mapping, number, share, without_folders, words


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.68349, None, "0.683"), (12.345, "px", "12.3 px"), (1234.56, "mm", "1,234.6 mm"),
        (0.01234, "ml", "0.012 ml"), (-3.0, "px", "−3.0 px"), (None, "mm", "–"),
    ],
)  # fmt: skip
def test_numbers_have_their_digits_and_their_unit(value: float | None, unit: str | None, text: str) -> None:
    assert amount(value, unit) == text


def test_differences_have_a_sign_and_zero_has_none() -> None:
    assert [share(value, signed=True) for value in (0.1, -0.1, -0.0001, 0.0)] == [
        "+0.100", "−0.100", "0.000", "0.000",
    ]  # fmt: skip
    assert count(1_234_567) == "1,234,567"


def test_what_is_of_another_kind_is_not_there() -> None:
    document = {"a": {"b": 3, "c": float("nan"), "d": True, "e": "3", "f": [1]}}
    assert number(document["a"], "b") == 3
    assert [number(document["a"], key) for key in "cdefg"] == [None] * 5
    assert mapping(document, "a", "b", "c") == {}
    assert mapping([], "a") == {}
    assert words(document["a"], "f") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/ann/my data/x.png: damaged", "x.png: damaged"),
        ("expected the grid of /srv/masks/a.nii.gz, found", "expected the grid of a.nii.gz, found"),
        (r"C:\Users\ann\x.png: damaged", "x.png: damaged"),
        (r"C:\Users\Jane Roe\x.png: damaged", "x.png: damaged"),
        (r"\\server\share\Jane Roe\x.png", "x.png"),
        ("/home/Jane Roe/x.png and /srv/Dr. Who, MD/y.png", "x.png and y.png"),
        ("my data/x.png, my data/sub/y.png", "x.png, y.png"),
        ("below ann/my data/x.png", "below x.png"),
        ("roe/y.nii.gz: damaged", "y.nii.gz: damaged"),
        ("in path:/srv/Jane Roe/x", "in path:x"),
        ("in ~/Jane Roe/y", "in y"),
        ("size 512/512 px, mm/px. Then 3.5/4.5", "size 512/512 px, mm/px. Then 3.5/4.5"),
        ("a/b/case1 and/or 3 / 4 of 1/2", "a/b/case1 and/or 3 / 4 of 1/2"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_paths_lose_their_folders(text: str, said: str) -> None:
    assert without_folders(text, [Path("/home/ann/my data/x.png"), None]) == said


def test_a_bare_name_has_no_folders() -> None:
    for name in ("x.png", "/x.png", "masks", ""):
        assert without_folders("3 / 4 of x.png, a/b", [name]) == "3 / 4 of x.png, a/b"
