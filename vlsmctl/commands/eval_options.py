"""The options of `vlsmctl eval`, checked and put together by what they are for."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlsmctl.errors import UsageError

if TYPE_CHECKING:
    from vlsmctl.evaluation import Tolerance

_TOLERANCE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(px|mm)")
_ALWAYS = {"--out", "--json", "--workers", "--tolerance"}
_MODEL = {
    "--split", "--prompts", "--data", "--protocol", "--presence", "--device", "--batch-size", "--weights",
    "--force",
}  # fmt: skip
_PAGE = {"--by", "--report", "--no-report", "--pictures"}
_MASKS = {"--pred", "--gt", "--label", "--pred-label", "--cases", "--images", "--split"}
# What may be given, by what is to be done
OF_RUN = _ALWAYS | _MODEL | _PAGE
OF_MASKS = _ALWAYS | _MASKS | _PAGE
OF_COMPARED_RUNS = _ALWAYS | _MODEL | {"--compare"}
OF_COMPARED_SCORES = {"--compare", "--out", "--json"}


@dataclass(frozen=True)
class Masks:
    """The masks of any tool, and what is known of them."""

    pred: Path
    gt: Path
    label: int | None
    pred_label: int | None
    cases: Path | None
    images: Path | None


@dataclass(frozen=True)
class Running:
    """With what, and how much at once."""

    device: str
    batch_size: int
    workers: int | None
    weights: Path | None
    force: bool


def tolerance_of(texts: Sequence[str]) -> Tolerance:
    """["2px", "1.5mm"] -> both. Raises UsageError."""
    from vlsmctl.evaluation import Tolerance

    given: dict[str, float] = {}
    for text in texts:
        found = _TOLERANCE.fullmatch(text.strip())
        if found is None or found[2] in given:
            raise UsageError(
                f"--tolerance {text!r}: expected a number with unit, each unit once, such as 2px or 1.5mm"
            )
        given[found[2]] = float(found[1])
    return Tolerance(**given)


def check(named: Sequence[Path], given: Collection[str]) -> None:
    """Raises UsageError: options that do not go together. named: runs; given: names of options."""
    masks = {"--pred", "--gt"} & set(given)
    if len(masks) == 1:
        raise UsageError("--pred and --gt go together: a folder of predicted masks and one of true masks")
    if "--compare" in given:
        _check_compared(named, given)
    elif len(named) > 1:
        raise UsageError(
            f"expected one run, found {len(named)}", hint="vlsmctl eval --compare RUN_A RUN_B compares them"
        )
    elif masks and named:
        raise UsageError("give a run, or --pred and --gt, not both")
    elif masks:
        _refuse(given, OF_MASKS, "a run; --pred and --gt name the masks themselves")
    else:
        _refuse(given, OF_RUN, "masks of any tool: --pred DIR --gt DIR")


def _check_compared(named: Sequence[Path], given: Collection[str]) -> None:
    if "--pred" in given:
        raise UsageError(
            "--compare takes runs or folders of scores, not --pred and --gt",
            hint="vlsmctl eval --pred A --gt TRUE --out scores-a, the same for B, then "
            "vlsmctl eval --compare scores-a scores-b",
        )
    if len(named) < 2:
        raise UsageError(
            f"--compare expects two or more runs, found {len(named)}",
            hint="vlsmctl eval --compare RUN_A RUN_B",
        )
    from vlsmctl.score_files import SCORES

    if all((path / SCORES).is_file() for path in named):
        _refuse(given, OF_COMPARED_SCORES, "scoring; these folders hold scores already")
    _refuse(given, OF_COMPARED_RUNS, "a single evaluation, not for --compare")


def _refuse(given: Collection[str], allowed: Collection[str], whose: str) -> None:
    wrong = [name for name in given if name not in allowed]
    if wrong:
        raise UsageError(f"{wrong[0]} is for {whose}", hint="vlsmctl eval --help")


def _told(inputs: object) -> str:
    if isinstance(inputs, dict):
        known = [f"{name}: {value}" for name, value in inputs.items() if value is not None]
        return ", ".join(known) or "unknown ones"
    return ", ".join(map(str, inputs)) if isinstance(inputs, list) else str(inputs)


def refuse_others(folder: Path, file: str, before: object, now: object) -> None:
    """Raises UsageError where a folder holds results of other inputs, which would be replaced."""
    if before is not None and before != now:
        raise UsageError(
            f"{folder / file} is of other inputs ({_told(before)}), and would be replaced",
            hint="give these results a folder of their own: --out FOLDER",
        )
