"""The paper's grid: presets x methods x seeds as cells, what is done of each, and who does which.

A cell is a training run and its scores on the test split, in a folder of its own:
`OUT/PRESET/METHOD/seed-41-1a2b3c4d`. The last part stands for the settings and the data, so that those of
other settings never mix. The folders are all there is: no list of what is done is kept beside them.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

from vlsmctl import runs
from vlsmctl.adapters.build import METHODS
from vlsmctl.config import Preset, load_preset, preset_names
from vlsmctl.config.schema import PAPER_METHODS
from vlsmctl.datasets.manifest import INFO, Manifest, data_folder, read_manifest
from vlsmctl.errors import UsageError, VlsmctlError
from vlsmctl.models.weights import locate
from vlsmctl.score_files import SUMMARY, read_summary
from vlsmctl.scoring import EVALUATIONS
from vlsmctl.training import preset_hash

SEEDS = (41, 42, 43)  # those of the paper
SPLIT = "test"

FINISHED, TRAINED, BEGUN, TODO = "finished", "trained, not scored", "begun", "to do"
NO_DATA, NO_WEIGHTS, UNUSABLE = "data not prepared", "weights missing", "cannot be used"
_AXES = {"method": "--methods", "train.seed": "--seeds"}


@dataclass(frozen=True)
class Problem:
    """Why a cell cannot be done: an error without what it keeps alive (tensors, of those of training)."""

    message: str
    hint: str | None
    exit_code: int


@dataclass(frozen=True)
class Cell:
    """One run of the grid. name: of its preset. preset: with method and seed in place. folder: of the run,
    there or not; None where that hangs on data that are not there. manifest: None where it cannot be read,
    for which `problem` is the reason."""

    name: str
    preset: Preset
    folder: Path | None
    manifest: Manifest | None
    problem: Problem | None = None

    @property
    def method(self) -> str:
        return self.preset.method

    @property
    def seed(self) -> int:
        return self.preset.train.seed

    @property
    def key(self) -> str:
        """ "kvasir/dense-vlc/42"."""
        return f"{self.name}/{self.method}/{self.seed}"


@dataclass(frozen=True)
class Standing:
    """What is done of a cell. document: run.json, where there is one. summary: of the scores, where they
    are those of this adapter, data and protocol. problem: why nothing more can be done."""

    state: str
    document: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Shard:
    """Part `number` (1..`of`) of a grid that `of` processes or machines share."""

    number: int = 1
    of: int = 1


@dataclass(frozen=True)
class Grid:
    """cells: all. chosen: those to do, of all shards. mine: those of this shard."""

    out: Path
    protocol: str
    cells: tuple[Cell, ...]
    chosen: tuple[Cell, ...]
    mine: tuple[Cell, ...]


def paper_presets() -> list[str]:
    """The shipped presets for which there are published figures."""
    return [name for name in preset_names() if load_preset(name).paper.scores]


def plan_grid(
    presets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    data: Path,
    out: Path,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    shard: Shard = Shard(),
    protocol: str = "paper",
) -> Grid:
    """The grid of shipped presets (or paths of YAML files) x methods x seeds, in this order.

    data: the folder of prepared data sets, or, for one data set, that one. only: see `choose`. Nothing is
    written. Data and weights that are not there are no error here, see `standing`.

    Raises UsageError: an unknown preset, method, key or pattern; two presets of one name; settings that
    cannot be had in one grid.
    """
    _check_axes(methods, overrides)
    names = _names(presets)
    loaded = [
        (name, load_preset(preset, [*overrides, f"method={method}"], seed))
        for (name, preset), method, seed in product(names.items(), _once(methods), _once(seeds))
    ]
    _check_together([preset for _, preset in loaded], data)
    read = cache(lambda name: _read_data(data, name))
    cells = tuple(_cell(name, preset, out, *read(preset.data)) for name, preset in loaded)
    chosen = choose(cells, only)
    return Grid(out, protocol, cells, chosen, share(chosen, shard))


def choose(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that one of the patterns names; all where there is none.

    A pattern is matched against PRESET/METHOD/SEED part by part; parts may be left out (kvasir, dense-vlc,
    42, kvasir/42, dense-vlc/42), and in each `*`, `?` and `[...]` stand for what they do in file names.

    Raises UsageError: a pattern that names no cell, with the nearest that does.
    """
    for pattern in patterns:
        if not any(_named_by(cell, pattern) for cell in cells):
            raise _names_nothing(cells, pattern)
    return tuple(
        cell for cell in cells if not patterns or any(_named_by(cell, pattern) for pattern in patterns)
    )


def share(cells: Sequence[Cell], shard: Shard) -> tuple[Cell, ...]:
    """The cells of one shard: every `of`-th, whatever is done of them already, so that all shards together
    are the whole and none does what is another's."""
    return tuple(cells[shard.number - 1 :: shard.of])


def read_shard(text: str) -> Shard:
    """ "2/3": the second of three. Raises UsageError."""
    number, _, of = text.partition("/")
    if not (number.isascii() and of.isascii() and number.isdecimal() and of.isdecimal()):
        raise UsageError(f"--shard {text!r}: expected i/n, such as 1/4", hint="--shard 1/4")
    if not 1 <= int(number) <= int(of):
        raise UsageError(f"--shard {text!r}: shards are counted from 1 to n, here from 1/{of} to {of}/{of}")
    return Shard(int(number), int(of))


def standing(cell: Cell, protocol: str) -> Standing:
    """What is done of the cell, from its folder. A finished cell needs neither data nor weights."""
    try:
        document = _document(cell)
    except UsageError as error:
        return Standing(UNUSABLE, problem=problem_of(error))
    state = TODO if document is None else BEGUN
    if cell.folder is not None and document is not None and document["status"] == "finished":
        summary = _scores_of(cell.folder, document, protocol)
        if summary is not None:
            return Standing(FINISHED, document, summary)
        state = TRAINED
    if cell.problem is not None:
        there = cell.manifest is not None or cell.problem.message.startswith("no manifest")
        return Standing(NO_DATA if there else UNUSABLE, document, problem=cell.problem)
    missing = _missing_weights(cell.preset)
    if missing is not None:
        return Standing(NO_WEIGHTS, document, problem=missing)
    return Standing(state, document)


def problem_of(error: VlsmctlError) -> Problem:
    return Problem(str(error), error.hint, error.exit_code)
