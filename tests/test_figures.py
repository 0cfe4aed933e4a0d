from __future__ import annotations

import pytest

from vlsmctl.figures import figure, published

PAPER = {"row": "clipseg-dense", "dice": 89.1, "iou": 82.39, "hd95": 47.79}


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (0.68349, None, False, "0.683"), (1234.56, "mm", False, "1,234.6"), (12.345, "px", True, "+12.3"),
        (0.01234, "ml", False, "0.012"), (-0.0001, None, True, "0.000"), (0.0, "px", True, "0.0"),
    ],
)  # fmt: skip
def test_digits_follow_the_unit(value: float, unit: str | None, signed: bool, text: str) -> None:
    assert figure(value, unit, signed=signed) == text


def test_the_papers_figures_stand_beside_what_means_the_same() -> None:
    ours = {"dice": 1, "iou": 1, "hd95_px": 1, "hd95_mm": 1}
    assert published(PAPER, ours) == pytest.approx({"dice": 0.891, "iou": 0.8239})
    assert published(PAPER, {**ours, "hd95_defined_px": 1})["hd95_defined_px"] == 47.79
    assert published({**PAPER, "dice": None}, {"dice": 1}) == {}
    assert published(None, ours) == {}
