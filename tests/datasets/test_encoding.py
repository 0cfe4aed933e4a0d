from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.datasets import fakes
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.encoding import Encoding, GreyValues, Survey, grey_values, own_threshold
from vlsmctl.datasets.inspection import Facts, facts_line, read_facts
from vlsmctl.datasets.sources import Drawn
from vlsmctl.errors import UsageError
from vlsmctl.formats.raster import read_mask_picture

SOFT = tuple(range(20, 250, 10))


def seen(*values: int, sizes: tuple[int, ...] = (), lossy: bool = False) -> GreyValues:
    """What is found in a mask of 4096 pixels with these values, 100 pixels of each (or `sizes`)."""
    pixels = np.zeros(64 * 64, np.uint8)
    lit = np.repeat(np.array(values, np.uint8), sizes or 100)
    pixels[: lit.size] = lit
    return grey_values(Drawn(pixels.reshape(64, 64), lossy=lossy))


def read(*masks: GreyValues) -> Encoding:
    survey = Survey()
    for each in masks:
        survey.add(each)
    return survey.encoding()


# --- one mask


def test_the_values_of_a_mask() -> None:
    grey = np.array([[0, 0, 255, 254], [32, 255, 255, 0]], np.uint8)
    assert grey_values(Drawn(grey, coloured=True)) == GreyValues(
        peak=255, dim=(32, 254, 255), nonzero=5, at_peak=4, between=2, pixels=8, coloured=True, lossy=False
    )
    assert grey_values(Drawn(grey[:, :2], lossy=True)) == GreyValues(
        peak=255, dim=(32, 255), nonzero=2, at_peak=1, between=1, pixels=4, coloured=False, lossy=True
    )
    assert seen() == GreyValues(0, (), 0, 0, 0, 4096, False, False)


def test_up_to_nine_values_are_told() -> None:
    assert seen(*range(1, 10)).dim == tuple(range(1, 10))
    assert seen(*range(1, 11)).dim == ()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), values=st.lists(st.integers(0, 255), min_size=1, max_size=12))
def test_counts_are_those_of_numpy(seed: int, values: list[int]) -> None:
    grey = np.random.default_rng(seed).choice(np.array(values, np.uint8), (7, 9))
    found = grey_values(Drawn(grey))
    different = sorted(set(grey[grey > 0].tolist()))
    assert found.dim == (tuple(different) if len(different) <= 9 else ())
    assert (found.peak, found.pixels) == (grey.max(), grey.size)
    assert found.nonzero == (grey > 0).sum()
    assert found.between == ((grey > 0) & (grey < 255)).sum()
    assert own_threshold(found) == (127 if grey.max() > 127 else 0)


# --- sets without a bright value


@pytest.mark.parametrize("value", [1, 2, 100, 127])
def test_one_dim_value_is_the_foreground(value: int) -> None:
    assert read(seen(value), seen(), seen(value)) == Encoding(
        0, (f"the masks hold 0 and {value}: read as 0 and 255",)
    )


@pytest.mark.parametrize(
    ("masks", "message", "hint"),
    [
        ([seen(1, 2)], "the values 0, 1, 2: expected two values", "--labels 1=NAME,2=NAME "),
        ([seen(1), seen(2), seen(3), seen(7)], "0, 1, 2, 3, 7:", "--labels 1=NAME,2=NAME,3=NAME "),
        ([seen(*range(1, 21))], "many values, up to 20:", "--labels NUMBER=NAME"),
        ([seen(5), seen(*range(1, 21))], "many values, up to 20:", "--labels NUMBER=NAME"),
        ([seen(1, 2, lossy=True)], "JPEG files, with values up to 2:", "as PNG files"),
        ([seen(1), seen(*range(1, 21), lossy=True)], "JPEG files, with values up to 20:", "as PNG files"),
    ],
)
def test_several_dim_values_are_refused(masks: list[GreyValues], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(*masks)
    assert hint in str(caught.value.hint)


def test_an_all_empty_set_is_a_warning() -> None:
    assert read(seen(), seen(lossy=True)) == Encoding(127, (), ("all masks are empty",))


# --- sets with bright values


def test_black_and_white_needs_no_word() -> None:
    assert read(seen(255), seen(), seen(255)) == Encoding(127)


@pytest.mark.parametrize("value", [128, 200, 254])
def test_one_bright_value_is_the_foreground(value: int) -> None:
    assert read(seen(value), seen(), seen(value)) == Encoding(
        127, (f"the masks hold 0 and {value}: read as 0 and 255",)
    )


@pytest.mark.parametrize("counts", [(3, 100), (50, 51), (100, 3)])
def test_dim_masks_among_bright_ones_are_a_warning_with_both_counts(counts: tuple[int, int]) -> None:
    dim, bright = counts
    found = read(*[seen(1)] * dim, *[seen(255)] * bright, seen())
    assert (found.threshold, found.notes) == (127, ())
    (warning,) = found.warnings
    assert f"{dim} of {dim + bright + 1} masks have no value above 127 (they hold 1)" in warning
    assert f"read as empty, because {bright} have one" in warning
    assert "store all masks alike, with 0 and 255" in warning


def test_dim_masks_with_many_values_are_warned_of_too() -> None:
    (warning,) = read(seen(255), seen(*range(1, 21))).warnings
    assert warning.startswith(
        "1 of 2 masks have no value above 127 and are read as empty, because 1 have one"
    )


def test_of_dim_jpeg_files_there_is_a_note() -> None:
    found = read(seen(255), seen(1, 2, lossy=True))
    assert found == Encoding(127, ("1 of 2 masks are JPEG files without a value above 127: read as empty",))


@pytest.mark.parametrize(
    ("masks", "values"),
    [
        ([seen(85, 170, 255)] * 3, (85, 170, 255)),
        ([seen(1, 2, 255, sizes=(900, 300, 200))] * 3, (1, 2, 255)),  # with a border that means nothing
        ([seen(1, 255, sizes=(900, 100))] * 2 + [seen(1)] * 30, (1, 255)),  # most of them without it
        ([seen(128, 255)] * 3 + [seen(255)] * 5, (128, 255)),
        ([seen(100, 200)] * 3, (100, 200)),
        ([seen(85), seen(170), seen(255)], (85, 170, 255)),  # one class a mask
        ([seen(85), seen(120), seen(255)], (85, 120, 255)),
        ([seen(170), seen(255)], (170, 255)),
        ([seen(1, 2), seen(255)], (1, 2, 255)),
        ([seen(85, 170, 255)] * 3 + [seen(*SOFT)], (85, 170, 255)),  # one odd file excuses nothing
        ([seen(85, 170, 255)] * 3 + [seen(*SOFT, lossy=True)], (85, 170, 255)),
    ],
)
def test_label_numbers_are_refused(masks: list[GreyValues], values: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        read(*masks, seen())
    listed = ", ".join(map(str, (0, *values)))
    assert str(caught.value).startswith(f"the masks hold the values {listed}: expected two values")
    assert "--labels " + ",".join(f"{value}=NAME" for value in values[:3]) in str(caught.value.hint)


def test_label_numbers_that_differ_from_mask_to_mask_are_a_warning() -> None:
    found = read(*(seen(20 * n, 20 * n + 10, 250 - n) for n in range(1, 8)))
    (warning,) = found.warnings
    assert "classes are lost" in warning
    assert "--labels NUMBER=NAME" in warning


def test_a_few_stray_pixels_are_a_note() -> None:
    strays = seen(32, 255, sizes=(3, 1000))
    assert read(*[seen(255)] * 99, strays) == Encoding(
        127,
        (
            "grey values between 0 and 255 in 1 of 100 masks (value 32): threshold 127 changes 0.00073 %"
            " of pixels",
        ),
    )


@pytest.mark.parametrize("strays", [9, 11])
def test_strays_are_up_to_a_tenth_of_what_is_not_0(strays: int) -> None:
    masks = [seen(60, 255, sizes=(10 * strays, 1000 - 10 * strays))] * 3
    if strays > 10:
        with pytest.raises(UsageError, match="0, 60, 255"):
            read(*masks)
    else:
        assert read(*masks).warnings == ()


def test_white_that_is_not_quite_white_is_white() -> None:
    found = read(seen(254), seen(255), seen(252, 253, 255))
    assert found.warnings == ()
    assert found.notes == (
        "grey values between 0 and 255 in 2 of 3 masks (value 252, 253, 254): threshold 127 changes 2.4 %"
        " of pixels",
    )


def test_soft_edges_are_a_note() -> None:
    found = read(*[seen(*SOFT)] * 3, seen(255))
    assert found == Encoding(
        127,
        (
            "grey values between 0 and 255 in 3 of 4 masks (soft edges): threshold 127 changes 42 % of"
            " pixels",
        ),
    )


def test_among_soft_edges_few_values_count_less() -> None:
    (note,) = read(seen(60, 255, sizes=(200, 800)), *[seen(*SOFT)] * 3).notes
    assert "in 4 of 4 masks (soft edges)" in note
    (note,) = read(seen(200), seen(*SOFT)).notes
    assert "in 2 of 2 masks (soft edges)" in note


def test_jpeg_noise_is_a_note_whatever_its_values() -> None:
    jpeg = seen(1, 254, 255, sizes=(100, 100, 900), lossy=True)
    assert read(jpeg, seen(85, 170, 255, lossy=True)) == Encoding(
        127,
        (
            "grey values between 0 and 255 in 2 of 2 masks (JPEG noise): threshold 127 changes 4.9 % of"
            " pixels",
        ),
    )


def test_coloured_masks_are_counted() -> None:
    coloured = grey_values(Drawn(np.full((4, 4), 255, np.uint8), coloured=True))
    assert read(coloured, seen(255)).notes == (
        "1 of 2 masks are stored in colour: the brightest channel counts",
    )


# --- properties


def _outcome(masks: list[GreyValues]) -> object:
    try:
        return read(*masks)
    except UsageError as error:
        return str(error), error.hint


ANY_MASK = st.builds(
    lambda values, lossy: seen(*values, lossy=lossy),
    st.one_of(
        st.sampled_from([(), (1,), (255,), (1, 255), (85,), (170,), (200,), SOFT]),
        st.lists(st.integers(1, 255), max_size=12, unique=True),
    ),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ANY_MASK, min_size=1, max_size=8).flatmap(
        lambda masks: st.tuples(st.just(masks), st.permutations(masks))
    )
)
def test_the_order_of_masks_does_not_matter(masks: tuple[list[GreyValues], list[GreyValues]]) -> None:
    assert _outcome(masks[0]) == _outcome(masks[1])


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY_MASK, min_size=1, max_size=8))
def test_no_mask_is_emptied_without_a_word(masks: list[GreyValues]) -> None:
    try:
        found = read(*masks)
    except UsageError:
        return
    lost = [each for each in masks if 0 < each.peak <= found.threshold]
    if lost:
        assert any("read as empty" in line for line in (*found.notes, *found.warnings))
    if any(not each.lossy for each in lost):
        assert any("read as empty" in warning for warning in found.warnings)
    if not any(each.peak for each in masks):
        assert found.warnings == ("all masks are empty",)


@given(ANY_MASK)
def test_facts_survive_json(tmp_path_factory: pytest.TempPathFactory, grey: GreyValues) -> None:
    facts = Facts(
        id="a", key="k", image="images/a.png", mask="masks/a.png", stamps=((1, 2), (3, 4)), width=64,
        height=64, foreground=0.5, sha256="0", phash="0", words={}, attributes={}, grey=grey, threshold=127,
        unnamed=(3,),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    path.write_text(facts_line(facts) * 2, encoding="utf-8")
    assert list(read_facts(path)) == [facts, facts]
    assert all(type(value) in (int, bool, list) for value in json.loads(json.dumps(asdict(grey))).values())


# --- through prepare


def test_prepare_refuses_levels_and_warns_of_emptied_masks(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    fakes.save(raw / "masks" / "case02.png", fakes.grey(fakes.blob(), high=1))
    outcome = prepare("generic", raw, tmp_path / "data", workers=1)
    assert any("1 of 10 masks have no value above 127 (they hold 1)" in line for line in outcome.warnings)
    assert not read_mask_picture(outcome.folder / "masks" / "case02.png").any()

    levels = fakes.grey(fakes.blob(), 85) + fakes.grey(fakes.blob(20, 20), 170)
    for number in range(10):
        fakes.save(
            raw / "masks" / f"case{number:02d}.png", np.maximum(levels, fakes.grey(fakes.blob(8, 20)))
        )
    with pytest.raises(UsageError, match="the values 0, 85, 170, 255: expected two values"):
        prepare("generic", raw, tmp_path / "data", workers=1)


def test_prepare_takes_jpeg_masks_of_any_name(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    for number in range(10):
        mask = fakes.grey(fakes.blob(9 + number % 3, 7, 13))
        path = raw / "masks" / f"case{number:02d}.png"
        Image.fromarray(mask).save(path, format="JPEG", quality=60)
        assert set(np.unique(read_mask_picture(path))) - {0, 255}
    outcome = prepare("generic", raw, tmp_path / "data", workers=1)
    assert any("JPEG noise" in note for note in outcome.notes)
    for number in range(10):
        written = read_mask_picture(outcome.folder / "masks" / f"case{number:02d}.png")
        assert (written == fakes.grey(fakes.blob(9 + number % 3, 7, 13))).mean() > 0.98
