"""Where masks are written: names that mirror the inputs, and never collide."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from vlsmctl.formats.records import Found

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm"),
)
NIFTI_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".img.gz", ".hdr.gz")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
FORMATS = ("auto", "nifti", "png", "dicom-seg")
# Further files of a case, `case1.overlay.png`: no scan's stem may end like that
RESERVED = (".overlay", ".probability")
# Folders with one file a frame: pictures, or slices each in its own place
FRAMES_SUFFIX, SLICES_SUFFIX = ".frames", ".slices"
SEG_SUFFIX, VOLUME_SUFFIX = ".seg.dcm", ".nii.gz"
_NATURAL = {"picture": ".png", "nifti": VOLUME_SUFFIX, "dicom": SEG_SUFFIX}
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
    slugs: dict[str, None] = {}
    for prompt in prompts:
        slug = prompt_slug(prompt)
        slugs[next(name for n in count(1) if (name := _numbered(slug, n)) not in slugs)] = None
    return list(slugs)


def mask_suffix(found: Found, wanted: str) -> str:
    """How the name of a scan's mask ends. wanted: one of FORMATS; what a kind cannot have (a picture has
    no place in space, a NIfTI file no DICOM headers) leaves it its own format."""
    if wanted == "png":
        return ".png" if found.single else FRAMES_SUFFIX
    return VOLUME_SUFFIX if wanted == "nifti" and found.kind == "dicom" else _NATURAL[found.kind]


def mask_path(stem: Path, suffix: str, slug: str | None = None) -> Path:
    """`a/case1` -> `a/case1.png`, with the slug of its prompt `a/case1__polyp.png`."""
    return stem.with_name(f"{stem.name}__{slug}{suffix}" if slug else f"{stem.name}{suffix}")


def output_stems(founds: Sequence[Found], suffixes: Sequence[str]) -> list[Path]:
    """For each scan, the path of its mask relative to the output folder, without the suffix: `a/case1` for
    `a/case1.jpg`; a DICOM series is named after its folder, with `_2`, `_3` for further ones. All of stem
    and suffix together differ, on file systems that ignore case too.

    Scans that would collide keep their extension (`a/case1.jpg`); those that still would (equal names
    below two inputs) go below as many folders of their input's path as tell them apart, whatever the order
    of the inputs; should even that not do, they are numbered.
    """
    stems = [_stem(found, keep_extension=False) for found in founds]
    deepest = max((len(_root_parts(found)) for found in founds), default=0)
    below = [partial(_below, depth=depth, keep_extension=False) for depth in range(1, deepest + 1)]
    ways: list[Callable[[Found], Path]] = [
        _with_extension,
        *below,
        partial(_below, depth=deepest, keep_extension=True),
    ]
    for way in ways:
        keys = [_key(stem, suffix) for stem, suffix in zip(stems, suffixes, strict=True)]
        taken = Counter(keys)
        if len(taken) == len(stems):
            break
        stems = [
            way(found) if taken[key] > 1 else stem
            for stem, key, found in zip(stems, keys, founds, strict=True)
        ]
    return _all_distinct(stems, suffixes)


def _stem(found: Found, *, keep_extension: bool) -> Path:
    name, bare = found.relative.name, found.relative.name
    if found.source == found.files[0]:
        bare = name.removesuffix(scan_suffix(name))
    if not keep_extension and not bare.lower().endswith(RESERVED):
        name = bare
    elif name.lower().endswith(RESERVED):  # a folder, which has no extension to keep
        name += "_"
    number = f"_{found.series_number}" if found.series_number > 1 else ""
    return found.relative.with_name(f"{name}{number}")


def _with_extension(found: Found) -> Path:
    return _stem(found, keep_extension=True)


def _below(found: Found, depth: int, *, keep_extension: bool) -> Path:
    """Below the last folders of the input's path."""
    return Path(*_root_parts(found)[-depth:]) / _stem(found, keep_extension=keep_extension)


def _root_parts(found: Found) -> tuple[str, ...]:
    root = found.root.absolute()
    folder = root.parent if found.root in found.files else root
    return tuple(part for part in folder.parts if part not in (folder.anchor, os.pardir))


def _all_distinct(stems: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    taken = {_key(stem, suffix) for stem, suffix in zip(stems, suffixes, strict=True)}
    seen: set[str] = set()
    distinct = []
    for stem, suffix in zip(stems, suffixes, strict=True):
        number, path = 1, stem
        while _key(path, suffix) in seen or (number > 1 and _key(path, suffix) in taken):
            number += 1
            path = stem.with_name(f"{stem.name}_{number}")
        seen.add(_key(path, suffix))
        distinct.append(path)
    return distinct


def _numbered(slug: str, number: int) -> str:
    return slug if number == 1 else f"{slug}-{number}"


def _key(stem: Path, suffix: str) -> str:
    return (stem.as_posix() + suffix).casefold()
