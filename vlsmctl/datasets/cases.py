"""What the folders of one's own data say: patients, ids, groups.

All of it is text; no file and no folder is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

# Folders inside that of a patient which are gone into, beside ses-01, ses-02, ...
INNER = (
    "anat",
    "images",
    "image",
    "masks",
    "mask",
    "labels",
    "label",
    "seg",
    "segmentation",
    "nifti",
    "data",
)
_SESSION = re.compile(r"ses(sion)?[-_]?\w+", re.IGNORECASE)
# What people call a patient, or one examination of a patient, before its number.
_CASE_WORDS = (
    "p", "pt", "pat", "patient", "patients", "case", "cases", "sub", "subj", "subject", "s", "id", "person",
    "animal", "mouse", "specimen", "seq", "sequence", "video", "vid", "clip", "vol", "volume", "scan",
    "study", "exam", "mr", "ct", "us",
)  # fmt: skip
_YEAR = re.compile(r"(19|20)\d\d")
_HEXADECIMAL = re.compile(r"(?=.*\d)[0-9a-f]{8}[0-9a-f-]{4,}", re.IGNORECASE)
_FEW_NUMBERS, _FEW_NAMED, _MANY = 3, 3, 8
_FEW_GROUPS = 6


def are_cases(names: Sequence[str], called_so: bool) -> bool:
    """Whether folders beside one another look like the patients or cases of one data set, not like
    several data sets.

    Each must have a number in its name, and the same first word ("p1", "sub-001", "BraTS20_Training_001").
    Two are enough after a word that means a patient or an examination; three where all are bare numbers
    (years apart) or hexadecimal, or `called_so`: where the files in them are called by their folder; else
    eight of one pattern, as "polyps1", "polyps2" may as well be data sets.
    """
    if len(names) < 2:
        return False
    if all(_HEXADECIMAL.fullmatch(name) for name in names):
        return len(names) >= _FEW_NUMBERS
    words = {_first_word(name) for name in names}
    if len(words) > 1 or not all(re.search(r"\d", name) for name in names):
        return False
    (word,) = words
    if word in _CASE_WORDS:
        return True
    patterns = {re.sub(r"\d+", "#", name.lower()) for name in names}
    if word == "":
        bare = all(re.fullmatch(r"[\d_.-]+", name) for name in names)
        return bare and len(names) >= _FEW_NUMBERS and not all(_YEAR.fullmatch(name) for name in names)
    return (called_so and len(names) >= _FEW_NAMED) or (len(patterns) == 1 and len(names) >= _MANY)


def may_be_cases(names: Collection[str]) -> bool:
    """Whether `are_cases` may say so of most of these folders; keeps others from being read."""
    numbered = sum(any(letter.isdigit() for letter in name) for name in names)
    return numbered >= 2 and 3 * numbered >= 2 * len(names)


def is_inner(name: str) -> bool:
    """Whether a folder inside that of a patient is gone into."""
    return name.lower() in INNER or _SESSION.fullmatch(name) is not None


def called_by_folder(stems: Iterable[str]) -> bool:
    """Whether all names begin with the name of their first folder: TCGA_CS_4941/TCGA_CS_4941_1."""
    parts = [stem.split("/") for stem in stems if "/" in stem]
    return bool(parts) and all(_begins(each[-1], each[0]) for each in parts)


def short_names(stems: Sequence[str], alone: bool = False) -> dict[str, str]:
    """Ids for stems with folders: "p1/a" -> "p1-a".

    Folders that the name repeats, and those that tell nothing, are left out where all stay different.
    alone: where a first folder has one stem only, it is the id.
    """
    ways = (_first, _short, _joined) if alone else (_short, _joined)
    for way in ways:
        names = {stem: way(stem) for stem in stems}
        if len(set(names.values())) == len(names):
            return names
    return {stem: stem.replace("/", "--") for stem in stems}


def first_folders(stems: Collection[str]) -> dict[str, str | None]:
    """The patient of each stem: its first folder, those that all have in common passed over; None for
    those in no folder, and for all where folders tell nothing apart."""
    folders = {stem: stem.split("/")[:-1] for stem in stems}
    common = 0
    while len({tuple(each[: common + 1]) for each in folders.values()}) == 1 and any(
        len(each) > common for each in folders.values()
    ):
        common += 1
    return {stem: each[common] if len(each) > common else None for stem, each in folders.items()}


def told_groups(groups: Iterable[str | None], where: str) -> tuple[str, str]:
    """A note on groups that were taken from folders, and a warning (or "") where they may be none.

    where: the folders, in words.
    """
    names = sorted({name for name in groups if name is not None})
    if not names:
        return "", ""
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    note = f"groups are taken from {where}: {len(names)} ({some}); a group never lies in two splits"
    if len(names) >= _FEW_GROUPS or are_cases(names, called_so=True):
        return note, ""
    return note, (
        f"the folders {some} are taken for patients (groups); if they are classes or the like, a column"
        " 'group' in prompts.csv tells the patients"
    )


def _first_word(name: str) -> str:
    return re.split(r"[^a-z]", name.lower(), maxsplit=1)[0]


def _begins(name: str, with_name: str) -> bool:
    """Whether a name is another, or goes on from it at a boundary: "p1_a" from "p1", not "p10"."""
    rest = name[len(with_name) :]
    return name.lower().startswith(with_name.lower()) and not rest[:1].isalnum()


def _repeats(name: str, folder: str) -> bool:
    """Whether a name holds a folder's name as a whole word, or begins with its number."""
    inside = rf"(?<![a-z0-9]){re.escape(folder.lower())}(?![a-z0-9])"
    return _begins(name, folder) or (not folder.isdigit() and re.search(inside, name.lower()) is not None)


def _first(stem: str) -> str:
    return stem.split("/")[0]


def _short(stem: str) -> str:
    *folders, name = stem.split("/")
    kept = [each for each in folders if each.lower() not in INNER and not _repeats(name, each)]
    return "-".join([*kept, name])


def _joined(stem: str) -> str:
    return stem.replace("/", "-")
