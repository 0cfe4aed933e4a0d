"""Pairs of mask files in, one row a case out: rules, refusals, units, and all ways to share the work."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.masks import BROKEN, SIZE, block, cube, picture, text, volume
from vlsmctl import evaluation
from vlsmctl.errors import UnreadableFile, UsageError
from vlsmctl.evaluation import Row, Tolerance, score_cases
from vlsmctl.mask_files import read_mask_file
from vlsmctl.metrics import METRICS
from vlsmctl.pairing import CasePair

DIAGONAL = 50.0
USUAL = Tolerance()


def score(*pairs: CasePair, tolerance: Tolerance = USUAL) -> tuple[Row, ...]:
    return score_cases(pairs, workers=0, tolerance=tolerance).rows


# --- one case


def test_scores_of_a_known_pair(tmp_path: Path) -> None:
    pair = CasePair("a", picture(tmp_path / "p.png", block(7)), picture(tmp_path / "t.png", block(5)))
    (row,) = score(pair)
    assert row.outcome == "both_present"
    assert row.unit == "px"
    assert row.scores == {
        "dice": 0.75, "iou": 0.6, "hd95": 2.0, "nsd": 1.0, "precision": 0.75, "recall": 0.75,
        "volume_error": 0.0, "abs_volume_error": 0.0,
    }  # fmt: skip
    assert list(row.scores) == list(METRICS)
    assert row.hd95_inf == 2
    assert (row.target_foreground, row.predicted_foreground, row.elements) == (64, 64, 1200)
    assert row.size_class == "small"
    assert row.note is None


def test_lengths_are_in_mm_and_sizes_in_ml_where_the_affine_tells_them(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(cube().astype(np.uint8), np.diag([500.0, 500, 3000, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "m.nii.gz")
    larger = cube(4)
    larger[0, 0, :8] = True
    pair = CasePair("m", tmp_path / "m.nii.gz", volume(tmp_path / "t.nii.gz", larger))
    (row,) = score(pair)
    assert row.unit == "mm"
    assert row.scores["volume_error"] == pytest.approx(-8 * 0.5 * 0.5 * 3 / 1000)
    shifted = replace(pair, target=volume(tmp_path / "s.nii.gz", cube(4)))
    assert score(shifted)[0].scores["hd95"] == pytest.approx(1.0)


def test_a_single_slice_is_measured_as_a_plane(tmp_path: Path) -> None:
    masks = {"within": block(11, 11, 4), "around": block(3, 3, 22)}
    flat = [volume(tmp_path / f"{name}.nii.gz", mask[:, :, np.newaxis]) for name, mask in masks.items()]
    pictures = [picture(tmp_path / f"{name}.png", mask) for name, mask in masks.items()]
    in_mm, in_px = score(CasePair("a", flat[0], flat[1]), CasePair("b", pictures[0], pictures[1]))
    assert in_mm.scores["hd95"] == pytest.approx(in_px.scores["hd95"] * 0.5)


def test_the_tolerance_is_that_of_the_case_s_unit(tmp_path: Path) -> None:
    """Two pixels apart, of half a millimetre each."""
    masks = block(7)[:, :, np.newaxis], block(5)[:, :, np.newaxis]
    volumes = [volume(tmp_path / f"{number}.nii.gz", mask) for number, mask in enumerate(masks)]
    pictures = [picture(tmp_path / f"{number}.png", mask[..., 0]) for number, mask in enumerate(masks)]
    pairs = CasePair("mm", volumes[0], volumes[1]), CasePair("px", pictures[0], pictures[1])

    def nsd(px: float, mm: float) -> list[float]:
        return [row.scores["nsd"] for row in score(*pairs, tolerance=Tolerance(px=px, mm=mm))]

    assert nsd(2, 1) == [1, 1]
    assert nsd(1.9, 1) == [1, nsd(1.9, 2)[1]]
    assert nsd(1.9, 1)[1] < 1
    assert nsd(2, 0.9)[0] < 1
    assert nsd(2, 0.9)[1] == 1


@pytest.mark.parametrize("bad", [{"px": -1.0}, {"mm": float("nan")}, {"mm": inf}])
def test_a_tolerance_is_a_length(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="a length of 0 or more"):
        Tolerance(**bad)


def test_empty_and_missing_predictions_follow_the_rule(tmp_path: Path) -> None:
    empty = picture(tmp_path / "empty.png", np.zeros(SIZE, dtype=bool))
    full = picture(tmp_path / "full.png", block())
    cases: list[tuple[Path | None, Path]] = [(empty, full), (None, full), (full, empty), (empty, empty)]
    cases += [(None, empty), (None, tmp_path / "gone.png")]
    rows = score(*(CasePair(str(number), *files) for number, files in enumerate(cases)))
    expected = "missed missed false_alarm both_empty both_empty failed"
    assert [row.outcome for row in rows] == expected.split()
    for name in ("dice", "iou", "nsd", "precision", "recall"):
        assert [row.scores[name] for row in rows[:5]] == [0, 0, 0, 1, 1], name
    assert [row.scores["hd95"] for row in rows[:5]] == [DIAGONAL] * 3 + [0, 0]
    assert [row.hd95_inf for row in rows] == [inf, inf, inf, 0, 0, None]
    assert [row.scores["volume_error"] for row in rows[:5]] == [-64, -64, 64, 0, 0]
    assert [row.size_class for row in rows] == ["small", "small", "empty", "empty", "empty", None]


def test_a_missed_volume_has_the_diagonal_in_mm(tmp_path: Path) -> None:
    (row,) = score(CasePair("a", None, volume(tmp_path / "t.nii.gz", cube())))
    assert row.scores["hd95"] == pytest.approx(sqrt(6**2 + 6**2 + 30**2))
    assert row.hd95_inf == inf


# --- what cannot be scored


@pytest.mark.parametrize(("break_it", "name"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_one_bad_file_is_named_and_the_rest_is_scored(
    tmp_path: Path, break_it: Callable[[Path], Path], name: str
) -> None:
    bad = break_it(tmp_path / name)
    with pytest.raises(UnreadableFile):
        read_mask_file(bad)
    good = volume(tmp_path / "g.nii.gz", cube()) if ".nii" in name else picture(tmp_path / "g.png", block())
    rows = score(CasePair("bad", bad, good), CasePair("bad2", good, bad), CasePair("good", good, good))
    assert [row.outcome for row in rows] == ["failed", "failed", "both_present"]
    assert rows[2].scores["dice"] == 1
    for row in rows[:2]:
        assert row.note is not None
        assert str(bad) in row.note
        assert "\n" not in row.note
        assert (row.unit, row.size_class, row.hd95_inf, dict(row.scores)) == (None, None, None, {})


def test_masks_on_other_grids_are_refused_with_both_named(tmp_path: Path) -> None:
    small = picture(tmp_path / "small.png", block(size=(20, 40)))
    large = picture(tmp_path / "large.png", block())
    here = volume(tmp_path / "here.nii.gz", cube())
    moved = np.diag([0.5, 0.5, 3.0, 1.0])
    moved[0, 3] = 2
    there = volume(tmp_path / "there.nii.gz", cube(), moved)
    longer = volume(tmp_path / "longer.nii.gz", cube(size=(12, 12, 11)))
    rows = score(
        CasePair("a", small, large), CasePair("b", there, here), CasePair("c", longer, here),
        CasePair("d", large, here),
    )  # fmt: skip
    expected = ["40 x 20", "2 mm", "12 x 12 x 11", "picture"]
    for row, words in zip(rows, expected, strict=True):
        assert row.outcome == "failed"
        assert row.note is not None
        assert words in row.note
        assert str(row.pair.prediction) in row.note
        assert str(row.pair.target) in row.note


def test_rounding_of_an_affine_is_no_other_grid(tmp_path: Path) -> None:
    nearly = np.diag([0.5, 0.5, 3.0, 1.0]) + 1e-4
    nearly[3] = (0, 0, 0, 1)
    paths = volume(tmp_path / "a.nii.gz", cube(), nearly), volume(tmp_path / "b.nii.gz", cube())
    assert score(CasePair("a", *paths))[0].outcome == "both_present"


def test_a_case_that_failed_before_is_not_read(tmp_path: Path) -> None:
    mask = picture(tmp_path / "m.png", block())
    bad = CasePair("bad", mask, mask, error="the picture is cut off")
    rows = score(bad, CasePair("good", mask, mask))
    assert [row.outcome for row in rows] == ["failed", "both_present"]
    assert rows[0].note == "the picture is cut off"


def test_a_case_too_large_for_the_memory_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = picture(tmp_path / "m.png", block())

    def compare(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(evaluation, "compare", compare)
    (row,) = score(CasePair("a", mask, mask))
    assert row.outcome == "failed"
    assert row.note == f"{mask}: not enough memory to compare it"


# --- many cases


def case_folder(tmp_path: Path, number: int = 12) -> list[CasePair]:
    """Cases of which every one scores otherwise, and the second cannot be read."""
    pairs = [
        CasePair(
            f"c{case}", picture(tmp_path / "pred" / f"c{case}.png", block(5 + case)),
            picture(tmp_path / "gt" / f"c{case}.png", block()), columns={"site": f"s{case % 3}"},
        )
        for case in range(number)
    ]  # fmt: skip
    text(tmp_path / "pred" / "c1.png")
    return pairs


@pytest.mark.parametrize("way", ["threads", "processes"])
def test_the_rows_are_the_same_and_in_order_whoever_does_the_work(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first case is scored here, and the second; then it is known how the rest is done fastest."""
    pairs = case_folder(tmp_path)
    began: list[int] = []
    real = evaluation._WAYS[way]

    def observed(left: Sequence[CasePair], *arguments: Any) -> Iterator[Row]:
        began.append(len(left))
        yield from real(left, *arguments)

    monkeypatch.setitem(evaluation._WAYS, way, observed)
    monkeypatch.setattr(evaluation, "_PROBE", 0)
    monkeypatch.setattr(evaluation, "_fastest_way", lambda *_: way)
    scores = score_cases(pairs, workers=2, extra=[tmp_path / "more.png"], tolerance=Tolerance(3, 4))
    assert began == [len(pairs) - 2]
    assert scores.rows == score(*pairs, tolerance=Tolerance(3, 4))
    assert [row.pair for row in scores.rows] == pairs
    assert (scores.extra, scores.tolerance) == ((tmp_path / "more.png",), Tolerance(3, 4))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("workers", "shared"), [(0, False), (1, False), (2, True), (None, True)])
def test_one_worker_is_this_thread(
    tmp_path: Path, workers: int | None, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fastest(cases: int, each: float, workers: int) -> str:
        assert each > 0
        asked.append(workers)
        return "here"

    monkeypatch.setattr(evaluation, "processors", lambda: 7)
    monkeypatch.setattr(evaluation, "_PROBE", 0)
    monkeypatch.setattr(evaluation, "_fastest_way", fastest)
    score_cases(case_folder(tmp_path), workers=workers)
    assert set(asked) == ({workers or 7} if shared else set())


def test_a_first_case_that_loads_its_reader_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """But one of more than a second is slow in itself, and the rest is not to wait for the next."""
    pairs = [CasePair(f"{number}", None, Path("t.png")) for number in range(5)]
    for first, left in ((0.5, [3, 2, 1, 0]), (2.0, [4, 3, 2, 1, 0])):
        clock, asked = iter([0.0, first, *range(10, 30)]), list[int]()
        monkeypatch.setattr("vlsmctl.evaluation.perf_counter", lambda clock=clock: next(clock))
        monkeypatch.setattr(
            evaluation, "_fastest_way", lambda cases, *_, asked=asked: asked.append(cases) or "here"
        )
        score_cases(pairs, workers=2)
        assert asked == left


@pytest.mark.parametrize(("cases", "each", "workers", "way"), [
    (50, 0.0005, 2, "here"), (500, 0.0005, 64, "here"),  # over before anything has started
    (20_000, 0.0005, 2, "processes"), (20_000, 0.0005, 64, "processes"),  # too small for threads
    (500, 0.003, 2, "threads"), (20_000, 0.003, 16, "processes"),  # 512 x 512
    (20, 0.05, 2, "threads"), (20, 0.05, 16, "threads"), (3, 20.0, 16, "threads"),  # volumes
])  # fmt: skip
def test_the_way_is_the_one_that_pays(cases: int, each: float, workers: int, way: str) -> None:
    assert evaluation._fastest_way(cases, each, workers) == way


def test_progress_sees_every_row(tmp_path: Path) -> None:
    seen: list[str] = []

    def progress(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            seen.append(row.pair.id)
            yield row

    pairs = case_folder(tmp_path)
    score_cases(pairs, workers=1, progress=progress)
    assert seen == [pair.id for pair in pairs]


@dataclass
class Watched:
    """Stands in for the scoring of a case: how many are worked on, at once and in all."""

    seconds: float = 0.002
    now: int = 0
    most: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, tolerance: Tolerance, pair: CasePair) -> Row:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
            self.done += 1
        return Row(pair, {})


def test_no_more_pairs_are_in_memory_than_there_are_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(evaluation, "_score", watched)
    pairs = [CasePair(f"{number}", None, Path("t.png")) for number in range(200)]
    rows = evaluation._in_threads(pairs, 0.01, 3, Tolerance())
    assert next(rows).pair.id == "0"
    time.sleep(0.2)
    assert watched.done < 60  # a window ahead of who takes the rows, however many there are
    assert [row.pair.id for row in rows] == [f"{number}" for number in range(1, 200)]
    assert watched.most == 3


@pytest.mark.parametrize("way", ["threads", "processes"])
def test_an_interrupt_ends_the_work_at_once(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(0.01)
    if way == "threads":
        monkeypatch.setattr(evaluation, "_score", watched)
    monkeypatch.setattr(evaluation, "_PROBE", 0)
    monkeypatch.setattr(evaluation, "_fastest_way", lambda *_: way)
    running = threading.active_count()

    def interrupted(rows: Iterable[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows):
            if number == 5:
                raise KeyboardInterrupt
            yield row

    with pytest.raises(KeyboardInterrupt) as held:
        score_cases(case_folder(tmp_path, 20) * 50, workers=2, progress=interrupted)
    assert threading.active_count() == running
    assert not multiprocessing.active_children()
    assert watched.done < 15  # of 1000
    assert held.traceback  # whose frames hold what has not been ended


class Deadly(CasePair):
    """Ends the process that it is sent to."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_where_processes_die_the_rest_is_scored_here(tmp_path: Path) -> None:
    """Among them those that were there already when it happened, which are not scored again."""
    pairs = case_folder(tmp_path) * 9
    pairs[80] = Deadly(**vars(pairs[80]))
    rows = list(evaluation._in_processes(pairs, 0.01, 2, Tolerance()))
    assert rows == list(score(*pairs))


def test_scoring_imports_no_model_and_no_torch() -> None:
    """Nor anything else that a worker process would have to wait for."""
    code = (
        "import sys, vlsmctl.evaluation, vlsmctl.summary;"
        "heavy = ('torch', 'monai', 'transformers', 'matplotlib', 'pandas');"
        "print([name for name in sys.modules if name.split('.')[0] in heavy])"
    )
    result = subprocess.run(  # noqa: S603 (our own interpreter)
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert result.stdout.strip() == "[]"
