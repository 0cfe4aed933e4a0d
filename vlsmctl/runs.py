"""Run folders: `runs/NAME/TIMESTAMP-SEED/`, and which of them is the latest."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from vlsmctl.errors import UsageError
from vlsmctl.files import write_text

ADAPTER = "adapter.safetensors"
RUN = "run.json"
STATE = Path("state") / "last.safetensors"
METRICS = "metrics.jsonl"
EVALUATIONS = "eval"  # the folder of a run's evaluations
LATEST = "latest"
_HINT = "train one (vlsmctl train --preset NAME), or name the folder of one"


def new_run(runs: Path, name: str, seed: int) -> Path:
    """Makes an empty run folder."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
    for number in range(1, 1000):
        folder = runs / name / (stem if number == 1 else f"{stem}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"could not make a run folder below {runs / name}")


def point_latest(runs: Path, run: Path) -> None:
    """Makes `runs/latest` lead to `run`: a relative link, or a one-line file where links fail."""
    latest = runs / LATEST
    target = run.resolve().relative_to(runs.resolve())
    temporary = latest.with_name(".latest.part")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(latest)
    except OSError:
        temporary.unlink(missing_ok=True)
        if latest.is_symlink():
            latest.unlink()  # Windows does not rename over a link to a folder
        write_text(latest, target.as_posix() + "\n")


def find_run(run: Path | None, runs: Path = Path("runs")) -> Path:
    """The run folder that a user named, or the latest one. Raises UsageError."""
    folder = run
    if folder is None or folder.name == LATEST:
        folder = _latest(folder.parent if folder else runs)
    if not (folder / RUN).is_file():
        raise UsageError(f"no run in {str(folder)!r} (expected {RUN} in it)", hint=_HINT)
    return folder


def read_run(folder: Path) -> dict[str, Any]:
    """run.json as a dict. Raises UsageError when it is damaged."""
    try:
        document: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / RUN} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{folder / RUN}: expected a JSON object, found {type(document).__name__}")
    return document


def runs_of(runs: Path, name: str) -> list[Path]:
    """The run folders below `runs`/`name`, the newest first."""
    found = [path.parent for path in (runs / name).glob(f"*/{RUN}")]
    return sorted(found, key=_age, reverse=True)


def _age(run: Path) -> tuple[str, int, str]:
    """Sorts run folders by time, then by the number that tells those of the same second apart."""
    stem, _, number = run.name.partition("_")
    return stem[:15], int(number) if number.isdecimal() else 1, stem


def _latest(runs: Path) -> Path:
    latest = runs / LATEST
    if latest.is_file():
        return runs / latest.read_text(encoding="utf-8").strip()
    if not latest.is_dir():
        raise UsageError(f"no run yet in {str(runs)!r}", hint=_HINT)
    return runs / latest.readlink() if latest.is_symlink() else latest
