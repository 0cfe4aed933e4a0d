"""Scans to predict, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.commands.app import Answer, vlsmctl
from tests.datasets.fakes import picture, save
from tests.formats.generators import write_dicom

SECRETS = ("Secret", "SECRET", "19700101")


def write_scans(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        save(root / name, picture(number, 48, 64))
    return root


def predict(home: Path, *arguments: object, code: int = 0, prompt: str | None = "polyp") -> Answer:
    asked = () if prompt is None else ("--prompt", prompt)
    return vlsmctl("predict", *arguments, *asked, "--run", home / "runs" / "latest", "--json", code=code)


def counts_of(answer: Answer) -> dict[str, int]:
    counts = answer.document["counts"]
    return {
        "made": counts["done"] + counts["empty"], "before": counts["before"], "failed": counts["failed"],
        "skipped": counts["skipped"],
    }  # fmt: skip


def made(made: int = 0, before: int = 0, failed: int = 0, skipped: int = 0) -> dict[str, int]:
    return {"made": made, "before": before, "failed": failed, "skipped": skipped}


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write_series(
    folder: Path, positions: Sequence[float] = (30.0, 32.5, 35.0, 37.5), **elements: Any
) -> Path:
    """A series of CT slices, axial, in a shuffled order of files."""
    rng, study = np.random.default_rng(2), "1.2.826.0.1.3680043.8.498.1"
    for number, position in enumerate(positions):
        write_dicom(
            folder / f"im{(7 * number + 3) % len(positions)}.dcm",
            rng.integers(0, 900, (20, 24)).astype(np.int16),
            **{
                "ImagePositionPatient": [-10.0, -20.0, position], "PixelSpacing": [0.5, 0.8],
                "PatientBirthDate": "19700101", "StudyDate": "19700101", "StudyInstanceUID": study,
                "FrameOfReferenceUID": f"{study}.9", "SeriesDescription": "Head 2.5", **elements,
            },
        )  # fmt: skip
    return folder
