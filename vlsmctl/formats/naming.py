"""Where masks are written: names that mirror the inputs, and never collide."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vlsmctl.formats.records import Found

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm"),
)
NIFTI_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".img.gz", ".hdr.gz")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_LONGEST_SLUG = 60


def scan_suffix(name: str) -> str:
    """The part of a file's name that says which kind of scan it is, as written; "" where nothing does."""
    for suffix in (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES, *DICOM_SUFFIXES):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[-len(suffix) :]
    return ""


def prompt_slug(prompt: str) -> str:
    """A prompt as part of a file name: "Skin lesion" -> "skin-lesion"."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower())[:_LONGEST_SLUG].strip("-") or "prompt"


def prompt_slugs(prompts: Sequence[str]) -> list[str | None]:
    """One distinct slug a prompt; a single prompt needs none."""
    if len(prompts) < 2:
        return [None for _ in prompts]
    slugs: list[str | None] = []
    for prompt in prompts:
        slug = prompt_slug(prompt)
        taken = slugs.count
        number = next(n for n in range(1, len(prompts) + 1) if not taken(_numbered(slug, n)))
        slugs.append(_numbered(slug, number))
    return slugs


def output_name(found: Found, suffix: str, slug: str | None, keep_extension: bool) -> Path:
    """The mask's path relative to the output folder.

    `a/case1.jpg` -> `a/case1.png`, with the slug of its prompt `a/case1__polyp.png`, with its extension
    kept `a/case1.jpg.png`; a DICOM series is named after its folder, with `_2`, `_3` for further ones.
    """
    name = found.relative.name
    is_file = found.source == found.files[0]
    if is_file and not keep_extension:
        name = name.removesuffix(scan_suffix(name))
    number = f"_{found.series_number}" if found.series_number > 1 else ""
    prompt = f"__{slug}" if slug else ""
    return found.relative.with_name(f"{name}{number}{prompt}{suffix}")


def output_names(founds: Sequence[Found], prompts: Sequence[str] = ("",)) -> list[tuple[Path, ...]]:
    """For each scan, one path (relative to the output folder) a prompt. All paths differ, on file
    systems that ignore case too.

    Scans that would collide keep their extension; those that still would (equal names below two
    inputs) go below the name of their input; should even that not do, they are numbered.
    """
    bases = [output_name(found, found.suffix, None, False) for found in founds]
    for way in (_with_extension, _below_root, _below_root_with_extension):
        taken = Counter(map(_key, bases))
        if len(taken) == len(bases):
            break
        bases = [
            way(found) if taken[_key(base)] > 1 else base for found, base in zip(founds, bases, strict=True)
        ]
    slugs = prompt_slugs(prompts)
    distinct = _all_distinct(bases, founds)
    return [
        tuple(_with_slug(base, found.suffix, slug) for slug in slugs)
        for base, found in zip(distinct, founds, strict=True)
    ]


def _with_extension(found: Found) -> Path:
    return output_name(found, found.suffix, None, True)


def _below_root(found: Found) -> Path:
    return Path(_root_name(found)) / output_name(found, found.suffix, None, False)


def _below_root_with_extension(found: Found) -> Path:
    return Path(_root_name(found)) / output_name(found, found.suffix, None, True)


def _root_name(found: Found) -> str:
    root = found.root.absolute()
    return root.parent.name if found.root in found.files else root.name


def _all_distinct(bases: Sequence[Path], founds: Sequence[Found]) -> list[Path]:
    taken = {_key(base) for base in bases}
    seen: set[str] = set()
    distinct = []
    for base, found in zip(bases, founds, strict=True):
        number, path = 1, base
        while _key(path) in seen or (number > 1 and _key(path) in taken):
            number += 1
            path = base.with_name(f"{base.name.removesuffix(found.suffix)}_{number}{found.suffix}")
        seen.add(_key(path))
        distinct.append(path)
    return distinct


def _with_slug(base: Path, suffix: str, slug: str | None) -> Path:
    return base.with_name(f"{base.name.removesuffix(suffix)}__{slug}{suffix}") if slug else base


def _numbered(slug: str, number: int) -> str:
    return slug if number == 1 else f"{slug}-{number}"


def _key(path: Path) -> str:
    return path.as_posix().casefold()
