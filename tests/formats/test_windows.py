from __future__ import annotations

import numpy as np
import pytest

from vlsmctl.errors import UsageError
from vlsmctl.formats.intensity import to_grey
from vlsmctl.formats.records import Window
from vlsmctl.formats.windows import CT_WINDOWS, parse_window


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", None),
        (" AUTO ", None),
        ("40,400", Window(-160, 240)),
        ("-600,1500", Window(-1350, 150)),
        (" 40 , 400 ", Window(-160, 240)),
        ("0.5,1e-1", Window(0.45, 0.55)),
        ("Lung", Window(-1350, 150, ct_only=True)),
        ("soft-tissue", Window(-150, 250, ct_only=True)),
        ("brain", Window(0, 80, ct_only=True)),
        ("bone", Window(-500, 1300, ct_only=True)),
    ],
)
def test_windows_by_name_and_number(text: str, expected: Window | None) -> None:
    assert parse_window(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lungs",
        "40",
        "40,",
        "40,400,1",
        "40;400",
        "40,0",
        "40,-5",
        "nan,400",
        "40,inf",
        "a,b",
        "1e999,1",
    ],
)
def test_anything_else_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert repr(text) in str(caught.value)
    assert all(name in str(caught.value) for name in CT_WINDOWS)
    assert caught.value.hint == "--window 40,400"


# Hounsfield units of what each window is there to tell apart: the first is shown darker than the second,
# and neither is lost in black or white.
TOLD_APART = {
    "brain": (25, 37),  # white and grey matter
    "subdural": (37, 60),  # brain and clotted blood
    "stroke": (25, 35),
    "bone": (150, 1000),  # spongy and compact
    "temporal-bone": (0, 1500),
    "soft-tissue": (-80, 50),  # fat and muscle
    "lung": (-900, -600),  # healthy lung and ground glass
    "mediastinum": (-80, 50),
    "abdomen": (-80, 60),
    "liver": (10, 60),  # fluid and liver
    "spine": (0, 80),  # fluid and disc
    "angio": (150, 350),  # soft plaque and contrast medium
}


def test_every_named_window_shows_what_it_is_for() -> None:
    assert TOLD_APART.keys() == CT_WINDOWS.keys()
    for name, (darker, brighter) in TOLD_APART.items():
        window = parse_window(name)
        assert window is not None
        assert window.ct_only
        dark, bright = to_grey(np.array([darker, brighter], np.int16), window.low, window.high).tolist()
        assert 0 < dark < bright < 255, name
        assert bright - dark >= 25, name
