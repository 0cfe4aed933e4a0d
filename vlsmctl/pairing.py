"""Which prediction belongs to which target: folders of mask files, whoever wrote them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlsmctl.errors import NoReadableInput, UsageError
from vlsmctl.formats.naming import FRAMES_SUFFIX, SLICES_SUFFIX, scan_suffix
from vlsmctl.mask_files import MASK_SUFFIXES, shown

# What `predict` writes beside its masks, and folders that hold one mask in many files
_BESIDE = (".overlay.png", *(f".probability{suffix}" for suffix in (".png", ".nii.gz", ".tif", ".seg.dcm")))
_IN_PARTS = (FRAMES_SUFFIX, SLICES_SUFFIX)


@dataclass(frozen=True)
class CasePair:
    """One target and its prediction, if there is one.

    id: what the case is called in tables; group: patient or sequence, whose cases are resampled
    together; prompt: the one that the prediction answers; prompt_key: the name of its kind (p0..pN, or
    the prompt in the file name), where each kind is to get a mean of its own; error: why there can be
    no prediction: the case has failed, and its files are not read. prediction_label, target_label: the
    value of a label map, or segment of a DICOM SEG, that is meant; None: all foreground. image: the picture
    or scan that the masks belong to, where known. data_set: its name, where known. columns: further
    facts, by which results may be told apart.
    """

    id: str
    prediction: Path | None
    target: Path
    group: str | None = None
    prompt: str | None = None
    prompt_key: str | None = None
    error: str | None = None
    prediction_label: int | None = None
    target_label: int | None = None
    image: Path | None = None
    data_set: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def match_folders(pred: Path, gt: Path) -> tuple[list[CasePair], list[Path]]:
    """Pairs every mask below `gt` with its prediction below `pred`: same folder, same stem.

    As `predict` names its files, the prediction for `a/case1` may be `a/case1.png`, `a/case1.nii.gz`,
    `a/case1.jpg.png` (two inputs that would collide keep their extension) or, one for each prompt,
    `a/case1__polyp.png`. Stems compare case-sensitively, extensions do not. With several prompts every
    target is expected to have a prediction for each. Hidden files and other kinds are passed over, and so
    is what `predict` writes beside its masks: overlays, probabilities (`case1.overlay.png`,
    `case1.probability.nii.gz`), and folders with a file a frame or slice (`case1.frames/`).

    Returns the pairs, sorted by id and prompt, and the predictions that belong to no target.

    Raises: UsageError when a folder is not there, when nothing matches, or when two files claim one
    place; NoReadableInput when a folder holds no masks.
    """
    targets = _targets_by_id(gt)
    found: dict[str, dict[str | None, Path]] = defaultdict(dict)
    extra: list[Path] = []
    predictions = _mask_files(pred, "--pred")
    for path in predictions:
        claims = ((case, prompt) for case, prompt in _claims(_key(path, pred)) if case in targets)
        case, prompt = next(claims, (None, None))
        if case is None:
            extra.append(path)
        elif (rival := _rival(found[case], prompt)) is not None:
            raise UsageError(
                f"two predictions for {case!r}: {rival} and {path}",
                hint="keep one of the two below --pred, or give them names that match different targets",
            )
        else:
            found[case][prompt] = path
    if len(extra) == len(predictions):
        raise UsageError(
            f"no prediction below {pred} has the relative path and stem of a target below {gt}: "
            f"for example {_key(predictions[0], pred)!r} and {next(iter(targets))!r}",
            hint="give the predictions the names of the targets (a/case1.png for a/case1.png)",
        )
    return list(_pairs(targets, found)), extra


def _pairs(
    targets: Mapping[str, Path], found: Mapping[str, Mapping[str | None, Path]]
) -> Iterator[CasePair]:
    """Every target with each prompt that it should have an answer to."""
    asked = {prompt for predictions in found.values() for prompt in predictions}
    slugs = sorted(prompt for prompt in asked if prompt is not None)
    unanswered: list[str | None] = [None] if None in asked else [*slugs]
    for case, target in sorted(targets.items()):
        predictions = found.get(case, {})
        for prompt in [None] if None in predictions else slugs if predictions else unanswered:
            yield CasePair(shown(case), predictions.get(prompt), target, prompt=prompt, prompt_key=prompt)


def _rival(taken: Mapping[str | None, Path], prompt: str | None) -> Path | None:
    """The prediction already found that leaves no room for this one: one for the same prompt, or one
    that names a prompt beside one that names none."""
    for other, path in taken.items():
        if other == prompt or None in (other, prompt):
            return path
    return None


def _targets_by_id(gt: Path) -> dict[str, Path]:
    targets: dict[str, Path] = {}
    for path in _mask_files(gt, "--gt"):
        rival = targets.setdefault(_key(path, gt), path)
        if rival != path:
            raise UsageError(
                f"two targets of one name: {rival} and {path}",
                hint="keep one of the two below --gt",
            )
    return targets


def _mask_files(folder: Path, option: str) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(
            f"{option} is not a folder: {folder}", hint="give the folder that holds the mask files"
        )
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.name.lower().endswith(MASK_SUFFIXES)
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    masks = [path for path in files if not _is_no_mask_alone(path.relative_to(folder))]
    if not masks:
        kinds = " ".join(MASK_SUFFIXES)
        passed_over = (
            f" (passed over: {len(files)} overlays, probabilities and single frames)" if files else ""
        )
        raise NoReadableInput(
            f"no mask files below {folder} ({option}){passed_over}; expected files ending in {kinds}"
        )
    return masks


def _is_no_mask_alone(path: Path) -> bool:
    """Whether a file is a picture of a mask, its probabilities, or one frame or slice of many. path: below
    the folder that was given."""
    return path.name.lower().endswith(_BESIDE) or any(
        folder.lower().endswith(_IN_PARTS) for folder in path.parts[:-1]
    )


def _key(path: Path, folder: Path) -> str:
    """Relative path without the extension; composed Unicode, as macOS may spell a name otherwise."""
    relative = path.relative_to(folder).as_posix()
    return unicodedata.normalize("NFC", _without_extension(relative))


def _without_extension(name: str) -> str:
    return name.removesuffix(scan_suffix(name))


def _claims(key: str) -> Iterator[tuple[str, str | None]]:
    """The cases and prompts that a prediction's key may stand for, the likeliest first."""
    bare = _without_extension(key)
    yield key, None
    yield bare, None
    case, mark, slug = bare.rpartition("__")
    if mark and slug and "/" not in slug:
        yield case, slug
        yield _without_extension(case), slug
