"""The paper's grid: presets x methods x seeds as cells, what is done of each, and who does which.

A cell is a training run and its scores on the test split, in a folder of its own:
`OUT/PRESET/METHOD/seed-41-1a2b3c4d`. The last part stands for the settings and the data, so that those of
other settings never mix. The folders are all there is: no list of what is done is kept beside them.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import TypeVar

from vlsmctl import runs
from vlsmctl.adapters.build import METHODS
from vlsmctl.config import Preset, load_preset, preset_names
from vlsmctl.config.schema import PAPER_METHODS
from vlsmctl.datasets.manifest import INFO, Manifest, data_folder, read_manifest
from vlsmctl.errors import UsageError, VlsmctlError
from vlsmctl.training import preset_hash

T = TypeVar("T")

SEEDS = (41, 42, 43)  # those of the paper
SPLIT = "test"

FINISHED, TRAINED, BEGUN, TODO = "finished", "trained, not scored", "begun", "to do"
PARTLY = "scored, but for some pictures"
NO_DATA, NO_WEIGHTS, UNUSABLE = "data not prepared", "weights missing", "unusable"
_FOLDERS = "seed-*-" + "[0-9a-f]" * 8
_AXES = {"method": "--methods", "train.seed": "--seeds"}


@dataclass(frozen=True)
class Problem:
    """Why a cell cannot be done: an error without what it keeps alive (of one of training: tensors).
    state: of the cell, in words."""

    state: str
    message: str
    hint: str | None
    exit_code: int


@dataclass(frozen=True)
class Cell:
    """One run of the grid. name: of its preset. preset: with method and seed in place. folder: of the run,
    there or not; None where the data are not there that it hangs on. manifest: None where it cannot be
    read, for which `problem` is the reason."""

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
class Shard:
    """Part `number` (1..`of`) of a grid that `of` processes or machines share."""

    number: int = 1
    of: int = 1


@dataclass(frozen=True)
class Grid:
    """cells: all. chosen: those to do, of all shards. shard: which of them are this process's."""

    out: Path
    protocol: str
    cells: tuple[Cell, ...]
    chosen: tuple[Cell, ...]
    shard: Shard = Shard()

    @property
    def mine(self) -> tuple[Cell, ...]:
        return share(self.chosen, self.shard)


def paper_presets() -> list[str]:
    """The shipped presets for which there are published figures."""
    return [name for name in preset_names() if load_preset(name).paper.scores]


def plan_grid(
    presets: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    *,
    data: Path,
    out: Path,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    shard: Shard = Shard(),
    protocol: str = "paper",
) -> Grid:
    """The grid of presets (shipped ones, or paths of YAML files) x methods x seeds, in this order. Presets
    and methods default to those with published figures.

    data: the folder of prepared data sets, or, for one data set, that one. only: see `choose`. Nothing is
    written. Data and weights that are not there are no error here, see `grid_standing`.

    Raises UsageError: an unknown preset, method, key or pattern; two presets of one name; settings that
    cannot be had in one grid.
    """
    methods = _once(methods or tuple(PAPER_METHODS))
    _check_axes(methods, overrides)
    loaded = [
        (name, load_preset(preset, [*overrides, f"method={method}"], seed))
        for (name, preset), method, seed in product(
            _named(presets or paper_presets()).items(), methods, _once(seeds)
        )
    ]
    _check_together(loaded, data)
    read = cache(lambda folder: _read_data(folder))
    cells = tuple(
        _cell(name, preset, out, *read(data_folder(data, preset.data))) for name, preset in loaded
    )
    return Grid(out, protocol, cells, choose(cells, only), shard)


def found_cells(out: Path) -> tuple[list[Cell], list[str]]:
    """The cells of the runs that are there, whatever they were asked for with; and for each run of which
    that cannot be told, why."""
    found, unread = list[Cell](), list[str]()
    for path in sorted(out.glob(f"*/*/{_FOLDERS}/{runs.RUN}")):
        folder = path.parent
        try:
            preset = Preset.model_validate(runs.read_run(folder)["preset"])
        except (UsageError, KeyError, ValueError):
            unread.append(f"{path} cannot be read, so its run is not in the table")
        else:
            found.append(Cell(folder.parts[-3], preset, folder, None))
    return found, unread


def choose(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that one of the patterns names; all where there is no pattern.

    A pattern is held against PRESET/METHOD/SEED part by part; parts may be left out (kvasir, dense-vlc,
    42, kvasir/42, dense-vlc/42), and in each `*`, `?` and `[...]` stand for what they do in file names.

    Raises UsageError: a pattern that names no cell, with the nearest that does.
    """
    for pattern in patterns:
        if not any(_names(pattern, cell) for cell in cells):
            raise _names_nothing(pattern, cells)
    return tuple(cell for cell in cells if not patterns or any(_names(each, cell) for each in patterns))


def share(cells: Sequence[T], shard: Shard) -> tuple[T, ...]:
    """The cells of one shard: every `of`-th, whatever is done of them already, so that all shards together
    are the whole and none does what is another's."""
    return tuple(cells[shard.number - 1 :: shard.of])


def read_shard(text: str) -> Shard:
    """ "2/3": the second of three. Raises UsageError."""
    number, _, of = text.partition("/")
    if not all(part.isascii() and part.isdecimal() for part in (number, of)):
        raise UsageError(f"--shard {text!r}: expected i/n", hint="--shard 1/4 for the first of four")
    if not 1 <= int(number) <= int(of):
        raise UsageError(
            f"--shard {text!r}: expected i from 1 to n", hint=f"--shard 1/{max(1, int(of))} is the first"
        )
    return Shard(int(number), int(of))


def problem_of(error: VlsmctlError, state: str) -> Problem:
    return Problem(state, str(error), error.hint, error.exit_code)


def _once(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _named(presets: Sequence[str]) -> dict[str, str]:
    """The presets by what their cells are called: a file's by its name without the ending."""
    named: dict[str, str] = {}
    for preset in _once(presets):
        name = Path(preset).stem if preset.endswith((".yaml", ".yml")) else preset
        if name in named:
            raise UsageError(f"--presets: {named[name]} and {preset} are both called {name!r}")
        named[name] = preset
    return named


def _check_axes(methods: Sequence[str], overrides: Sequence[str]) -> None:
    for method in methods:
        if method not in METHODS:
            near = difflib.get_close_matches(method, METHODS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"--methods {method!r}: unknown{meant} (known: {', '.join(METHODS)})")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in _AXES:
            raise UsageError(f"--set {override}: of a grid this is given with {_AXES[key]}")


def _check_together(loaded: Sequence[tuple[str, Preset]], data: Path) -> None:
    """What all cells of a grid must share."""
    if len({name for name, _ in loaded}) > 1:
        if (data / INFO).is_file():
            raise UsageError(
                f"--data {data} is one prepared data set, and the grid has several presets",
                hint=f"--data {data.parent}, or one preset",
            )
        shared = [name for name, count in Counter(_data_of(loaded)).items() if count > 1]
        if shared:
            raise UsageError(
                f"several presets would train on the same data set {shared[0]!r}: its figures would stand "
                "under the name of each",
                hint="name one of them with --presets",
            )
    precisions = sorted({preset.train.precision for _, preset in loaded})
    if len(precisions) > 1:
        raise UsageError(
            f"the presets differ in train.precision ({', '.join(precisions)}), which is one for a process",
            hint="--set train.precision=auto",
        )


def _data_of(loaded: Sequence[tuple[str, Preset]]) -> list[str]:
    return [data for _, data in {(name, preset.data) for name, preset in loaded}]


def _read_data(folder: Path) -> tuple[Manifest | None, Problem | None]:
    try:
        return read_manifest(folder), None
    except UsageError as error:
        return None, problem_of(error, UNUSABLE if (folder / INFO).is_file() else NO_DATA)


def _cell(name: str, preset: Preset, out: Path, manifest: Manifest | None, problem: Problem | None) -> Cell:
    place, settings = out / name / preset.method, preset_hash(preset)
    if manifest is None:
        return Cell(name, preset, _only_run(place, preset.train.seed, settings), None, problem)
    mark = hashlib.sha256(f"{settings} {manifest.hash}".encode()).hexdigest()[:8]
    return Cell(name, preset, place / f"seed-{preset.train.seed}-{mark}", manifest, problem)


def _only_run(place: Path, seed: int, settings: str) -> Path | None:
    """The one run of these settings, where the data are not at hand that would tell its name: a table can
    be made of runs that were brought here. None where there is none, or several."""
    found = []
    for path in place.glob(f"seed-{seed}-*/{runs.RUN}"):
        try:
            if runs.read_run(path.parent)["preset_sha256"] == settings:
                found.append(path.parent)
        except (UsageError, KeyError):
            continue
    return found[0] if len(found) == 1 else None


def _names(pattern: str, cell: Cell) -> bool:
    """Whether the pattern's parts are, in this order, some of the cell's."""
    parts, own = pattern.split("/"), (cell.name, cell.method, str(cell.seed))
    return any(
        all(fnmatchcase(found, part) for found, part in zip(chosen, parts, strict=True))
        for chosen in combinations(own, len(parts))
    )


def _names_nothing(pattern: str, cells: Sequence[Cell]) -> UsageError:
    axes = [(cell.name, cell.method, str(cell.seed)) for cell in cells]
    known = _once("/".join(part) for size in (1, 2, 3) for own in axes for part in combinations(own, size))
    near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    listed = "; ".join(", ".join(_once(values)) for values in zip(*axes, strict=True))
    return UsageError(
        f"--only {pattern!r}: no cell PRESET/METHOD/SEED of that name{meant}",
        hint=f"the grid has: {listed}",
    )
