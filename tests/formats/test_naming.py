from __future__ import annotations

from pathlib import Path

import numpy as np

from vlsmctl.formats.naming import mask_path, mask_suffix, output_stems, prompt_slug, prompt_slugs
from vlsmctl.formats.records import Found


def _picture(root: Path, relative: str) -> Found:
    path = root / relative
    return Found(root, path, Path(relative), "picture", (path,), single=True)


def _names(*founds: Found, wanted: str = "auto") -> list[str]:
    suffixes = [mask_suffix(found, wanted) for found in founds]
    stems = output_stems(founds, suffixes)
    return [mask_path(stem, suffix).as_posix() for stem, suffix in zip(stems, suffixes, strict=True)]


def test_names_that_would_collide() -> None:
    site = Path("a")
    files = [_picture(site, name) for name in ("Z.png", "x.jpg", "x.png", "y.png", "z.jpg")]
    assert _names(*files) == ["Z.png.png", "x.jpg.png", "x.png.png", "y.png", "z.jpg.png"]
    names = _names(*files, _picture(Path("b"), "y.png"))
    assert names[3] == "a/y.png"
    assert names[-1] == "b/y.png"
    inputs = [Path(folder, "y", "1.png") for folder in "st"]
    named = [Found(path, path, Path("1.png"), "picture", (path,), single=True) for path in inputs]
    assert len(set(_names(*named))) == 2


def test_the_format_says_how_a_name_ends() -> None:
    folder = Path("scans", "ct.v1")
    files = (folder / "1", folder / "2")
    first = Found(folder.parent, folder, Path("ct.v1"), "dicom", files)
    second = Found(folder.parent, folder, Path("ct.v1"), "dicom", files[:1], series_number=2, single=True)
    assert _names(first, second) == ["ct.v1.seg.dcm", "ct.v1_2.seg.dcm"]
    assert _names(first, second, wanted="nifti") == ["ct.v1.nii.gz", "ct.v1_2.nii.gz"]
    assert _names(second, wanted="png") == ["ct.v1_2.png"]
    assert _names(first, wanted="png") == ["ct.v1.frames"]


def test_every_name_is_its_own_whatever_the_inputs() -> None:
    picks = np.random.default_rng(0)
    parts = ["x", "X", "x_2", "x.png", "y__a", "y"]
    for _ in range(50):
        founds = []
        for _ in range(12):
            relative = Path(*picks.choice(parts, picks.integers(1, 3)))
            suffix = str(picks.choice([".png", ".jpg", ".tif"]))
            name = relative.with_name(relative.name + suffix).as_posix()
            founds.append(_picture(Path(str(picks.choice(parts))), name))
        names = [name.casefold() for name in _names(*founds)]
        assert len(set(names)) == 12


def test_prompts_become_slugs() -> None:
    assert prompt_slugs(["polyp"]) == [None]
    assert mask_path(Path("a/case1.v2"), ".png", None) == Path("a/case1.v2.png")
    slugs = prompt_slugs(["polyp", "Skin  lesion", "skin lesion!", "../é"])
    assert [mask_path(Path("case1"), ".png", slug).name for slug in slugs] == [
        "case1__polyp.png",
        "case1__skin-lesion.png",
        "case1__skin-lesion-2.png",
        "case1__e.png",
    ]
    assert prompt_slug("瘤") == "prompt"


def test_names_below_two_inputs_do_not_depend_on_their_order() -> None:
    one, two = (_picture(Path("site") / patient / "img", "k.jpg") for patient in ("a", "b"))
    names = dict(zip("ab", _names(one, two), strict=True))
    assert names == {"a": "a/img/k.png", "b": "b/img/k.png"}
    assert dict(zip("ba", _names(two, one), strict=True)) == names
