"""How fast `eval` scores mask files, against MONAI called one case at a time, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from vlsmctl.errors import VlsmctlError
from vlsmctl.evaluation import Tolerance, score_cases
from vlsmctl.formats.raster import write_mask_picture
from vlsmctl.mask_files import read_pair
from vlsmctl.metrics import PERCENTILE, Mask
from vlsmctl.pairing import CasePair
from vlsmctl.processors import processors
from vlsmctl.quiet import without_warnings
from vlsmctl.runtime import machine_facts

ALL, ONE, MONAI = "all", "one", "monai"
PARTS = {
    ALL: "eval's scoring, all workers",
    ONE: "eval's scoring, one thread",
    MONAI: "MONAI, one case at a time",
}
TOLERANCE = Tolerance(px=2.0)
AGREE_WITHIN = 1e-4  # MONAI computes in 32 bits
_COMPARED = ("dice", "iou", "hd95", "nsd")
_WARM = 3  # pairs that are scored before it counts
_WAVES = (2, 3, 5)  # in the outline of a lesion

Scored = list[dict[str, float]]


@dataclass(frozen=True)
class ScoringBench:
    """seconds: of each repetition, by the names of `PARTS`. difference: the largest between the scores of
    both, a distance as a share of itself where it is above 1."""

    pairs: int
    size: int
    workers: int
    seconds: Mapping[str, tuple[float, ...]]
    difference: float

    def times_as_fast(self, part: str) -> float:
        """Than MONAI, by the median repetitions."""
        return median(self.seconds[MONAI]) / median(self.seconds[part])


def run_scoring_bench(
    *,
    pairs: int,
    size: int,
    repeats: int,
    workers: int | None = None,
    told: Callable[[], None] = lambda: None,
) -> ScoringBench:
    """Scores the same files in every way `repeats` times, in turn, so that what else the machine does meets
    all alike.

    pairs: of PNG masks of `size` x `size` pixels, lesions as they are found more or less well; they are
    drawn, and lie in a temporary folder. All read them in the same way. Dice, IoU, HD95 and NSD are
    computed by both, precision, recall and sizes by `eval` alone. workers: see `score_cases`. told: called
    after each part.

    Raises VlsmctlError where the scores of both differ: their time would mean nothing.
    """
    with TemporaryDirectory(prefix="vlsmctl-bench-") as name:
        cases = write_pairs(Path(name), pairs, size)
        jobs: dict[str, Callable[[Sequence[CasePair]], Scored]] = {
            ALL: lambda some: _ours(some, workers),
            ONE: lambda some: _ours(some, 0),
            MONAI: monai_scores,
        }
        for part in (ONE, MONAI):
            jobs[part](cases[:_WARM])
        seconds: dict[str, list[float]] = {part: [] for part in jobs}
        found: dict[str, Scored] = {}
        for _ in range(repeats):
            for part, job in jobs.items():
                began = time.perf_counter()
                found[part] = job(cases)
                seconds[part].append(time.perf_counter() - began)
                told()
    apart = max(difference(found[MONAI], found[part]) for part in (ALL, ONE))
    if not apart <= AGREE_WITHIN:
        raise VlsmctlError(f"nothing to measure: the scores differ from MONAI's by up to {apart:.3g}")
    counted = processors() if workers is None else max(1, workers)
    return ScoringBench(pairs, size, counted, {part: tuple(each) for part, each in seconds.items()}, apart)


def write_pairs(folder: Path, pairs: int, size: int) -> list[CasePair]:
    """Masks of drawn lesions below `folder`, and of predictions that miss them a little."""
    cases = []
    for number in range(pairs):
        target, prediction = _lesion_twice(number, size)
        paths = [folder / kind / f"{number:05d}.png" for kind in ("gt", "pred")]
        for mask, path in zip((target, prediction), paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask_picture(mask, path)
        cases.append(CasePair(f"{number:05d}", paths[1], paths[0]))
    return cases


def _lesion_twice(number: int, size: int) -> tuple[Mask, Mask]:
    """An ellipse with a wavy outline, and another guess at it, bool [size, size] each; neither is empty."""
    rng = np.random.default_rng(number)
    across = (np.arange(size) + 0.5) / size
    centre, radii = rng.uniform(0.3, 0.7, 2), rng.uniform(0.1, 0.25, 2)
    phases = rng.uniform(0, 2 * np.pi, len(_WAVES))

    def drawn(centre: Any, radii: Any, phases: Any) -> Mask:
        down, right = (across[:, None] - centre[0]) / radii[0], (across - centre[1]) / radii[1]
        angle = np.arctan2(down, right)
        outline = 1 + sum(
            0.08 * np.cos(wave * angle + phase) for wave, phase in zip(_WAVES, phases, strict=True)
        )
        mask: Mask = np.hypot(down, right) < outline
        return mask

    guess = centre + rng.normal(0, 0.01, 2), radii * rng.uniform(0.85, 1.15), phases + rng.normal(0, 0.5)
    return drawn(centre, radii, phases), drawn(*guess)


def _ours(cases: Sequence[CasePair], workers: int | None) -> Scored:
    rows = score_cases(cases, workers=workers, tolerance=TOLERANCE).rows
    return [{name: row.scores.get(name, float("nan")) for name in _COMPARED} for row in rows]


def monai_scores(cases: Sequence[CasePair]) -> Scored:
    """Dice, IoU, HD95 and NSD of each case by MONAI, one after the other."""
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice

    scores = []
    for case in cases:
        masks = read_pair(case.prediction, case.target)
        found, true = (torch.from_numpy(mask)[None, None] for mask in (masks.prediction, masks.target))
        with without_warnings():  # of its own deprecations
            made = (
                compute_dice(found, true),
                compute_iou(found, true),
                compute_hausdorff_distance(found, true, include_background=True, percentile=PERCENTILE),
                compute_surface_dice(found, true, [TOLERANCE.px], include_background=True),
            )
        scores.append({name: float(value) for name, value in zip(_COMPARED, made, strict=True)})
    return scores


def difference(one: Scored, other: Scored) -> float:
    """The largest between two lists of scores; NaN where one of them has none."""
    pairs = [(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in _COMPARED]
    return float(np.max([abs(a - b) / max(1.0, abs(a)) for a, b in pairs], initial=0.0))


def scoring_document(bench: ScoringBench) -> dict[str, Any]:
    """All that was measured, and on what, ready for JSON."""
    return {
        "pairs": bench.pairs,
        "size": bench.size,
        "workers": bench.workers,
        "threads": torch.get_num_threads(),
        "metrics": list(_COMPARED),
        "parts": {
            part: {
                "what": PARTS[part],
                "seconds": [round(one, 4) for one in seconds],
                "per_second": round(bench.pairs / median(seconds), 3),
                "times_as_fast": round(bench.times_as_fast(part), 4),
            }
            for part, seconds in bench.seconds.items()
        },
        "difference": bench.difference,
        "machine": machine_facts(),
    }
