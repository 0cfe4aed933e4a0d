"""The grid's scores over seeds, beside the paper's: one line for each preset and method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from vlsmctl.config import Preset
from vlsmctl.config.schema import PaperRow
from vlsmctl.reproduce.grid import Grid, found_cells
from vlsmctl.reproduce.kinds import Held, Kind, differences, kinds
from vlsmctl.reproduce.remarks import Remarks, remarks_on
from vlsmctl.reproduce.standing import standing, training_seconds

# The paper's name of each row of its table, and the parameters that it says are trained
PAPER_ROWS: dict[PaperRow, tuple[str, str]] = {
    "clipseg-end-to-end": ("CLIPSeg end-to-end", "150 M"),
    "cris-end-to-end": ("CRIS end-to-end", "147 M"),
    "san": ("SAN", "8.4 M"),
    "clipseg-shallow": ("CLIPSeg shallow adapter", "4.2 M"),
    "clipseg-dense": ("CLIPSeg dense adapter", "3 M"),
}
FIGURES = ("dice", "iou", "hd95", "hd95_all")
COUNTS = ("n", "n_missed", "n_false_alarm", "n_both_empty", "n_failed")
_OF_PAPER = {
    "hd95": "HD95 as published: over the cases in which neither mask is empty (table.csv has that of all "
    "cases, too, in which an empty mask against one that is not counts the image's diagonal)",
    "cut": "masks as published: cut at the model's input size, then resized with nearest neighbours",
}
_OF_DEFAULT = {
    "hd95": "HD95 of all cases, in which an empty mask against one that is not counts the diagonal of the "
    "image; the published HD95 leaves such cases out",
    "cut": "masks as predict makes them, not as published",
}


@dataclass(frozen=True)
class Figure:
    """One score over seeds. sd: standard deviation with n - 1; None with one seed. seeds: how many it is
    made of. paper: the published mean, where there is one. difference: mean - paper, of what may be
    compared."""

    mean: float | None = None
    sd: float | None = None
    seeds: int = 0
    paper: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Line:
    """One preset with one method, or, with none, a row that only the paper has.

    mark: tells lines of one preset and method, but other settings or data, apart; mostly None. figures: by
    `FIGURES`; Dice and IoU in %, HD95 in px. counts: cases of all seeds together, by `COUNTS`. trainable:
    parameters. gpu_hours, cpu_hours: of training, of all seeds together; None where there was none on such
    a device.
    """

    preset: str
    method: str | None
    published: PaperRow | None
    model: str | None
    seeds: tuple[int, ...]
    planned: int
    trainable: int | None
    figures: Mapping[str, Figure]
    counts: Mapping[str, int]
    gpu_hours: float | None = None
    cpu_hours: float | None = None
    mark: str | None = None

    @property
    def title(self) -> str:
        """Its method, with the mark where there is one."""
        return f"{self.method} ({self.mark})" if self.mark else str(self.method)


@dataclass(frozen=True)
class Table:
    """caption: what the numbers are. remarks: what to know when comparing."""

    lines: tuple[Line, ...]
    caption: str
    remarks: tuple[str, ...]
    protocol: str
    seeds: tuple[int, ...]


def make_table(grid: Grid) -> Table:
    """The table of what the folders hold: every run that is there, whatever it was asked for with, besides
    what was chosen of the grid; and for each preset what only the paper has."""
    there, unread = found_cells(grid.out)
    known = {cell.folder for cell in grid.cells}
    cells = (*grid.cells, *(cell for cell in there if cell.folder not in known))
    chosen = {cell.key for cell in grid.chosen}
    shown = [
        kind
        for kind in kinds([(cell, standing(cell, grid.protocol)) for cell in cells])
        if any(cell.key in chosen or now.document is not None for cell, now in kind.cells)
    ]
    lines, remarks = list[Line](), Remarks()
    for name in dict.fromkeys(kind.name for kind in shown):
        own = [kind for kind in shown if kind.name == name]
        lines += [_line(kind, grid.protocol) for kind in own]
        preset = own[0].cells[0][0].preset
        lines += _paper_only(name, preset, {line.published for line in lines if line.preset == name})
        remarks_on(remarks, name, [each for kind in own for each in kind.cells])
    for text in (*differences(shown), *unread):
        remarks.add(text)
    papers = [kind.cells[0][0].preset.paper for kind in shown]
    sources = dict.fromkeys(paper.source for paper in papers if paper.scores)
    seeds = tuple(sorted({cell.seed for kind in shown for cell, _ in kind.cells}))
    _of_lines(remarks, lines, grid.protocol)
    return Table(
        tuple(lines), _caption(grid.protocol, seeds, sources), remarks.texts(), grid.protocol, seeds
    )


def figure(values: Sequence[float], paper: float | None = None, *, comparable: bool = True) -> Figure:
    """Mean and standard deviation (n - 1) over seeds, beside the paper's mean."""
    if not values:
        return Figure(paper=paper)
    mean = fmean(values)
    difference = mean - paper if paper is not None and comparable else None
    return Figure(mean, stdev(values) if len(values) > 1 else None, len(values), paper, difference)


def _line(kind: Kind, protocol: str) -> Line:
    cell = kind.cells[0][0]
    done = [(each, now) for each, now in kind.cells if now.summary is not None]
    documents = [now.document for _, now in done if now.document is not None]
    summaries = [now.summary for _, now in done if now.summary is not None]
    row = cell.preset.paper_row
    comparable = all(map(_comparable, summaries))
    gpu, cpu = (_hours(done, on_cpu=on_cpu) for on_cpu in (False, True))
    return Line(
        preset=cell.name,
        method=cell.method,
        published=row,
        model=cell.preset.model,
        seeds=tuple(each.seed for each, _ in done),
        planned=len(kind.cells),
        trainable=documents[0]["parameters"]["trainable"] if documents else None,
        figures={
            name: figure(_values(summaries, name, protocol), _published(cell.preset, row, name),
                         comparable=comparable)
            for name in FIGURES
        },
        counts={name: sum(summary[name] for summary in summaries) for name in COUNTS},
        gpu_hours=gpu,
        cpu_hours=cpu,
        mark=kind.mark,
    )  # fmt: skip


def _comparable(summary: Mapping[str, Any]) -> bool:
    """Whether a score may be subtracted from the paper's: of all pictures, and made as published."""
    paper = summary["about"].get("paper")
    return bool(paper) and paper.get("comparable", True) and not summary["n_failed"]


def _paper_only(name: str, preset: Preset, shown: set[PaperRow | None]) -> list[Line]:
    return [
        Line(
            name, None, row, None, (), 0, None,
            {each: Figure(paper=_published(preset, row, each)) for each in FIGURES},
            dict.fromkeys(COUNTS, 0),
        )
        for row in PAPER_ROWS
        if row in preset.paper.scores and row not in shown
    ]  # fmt: skip


def _published(preset: Preset, row: PaperRow | None, name: str) -> float | None:
    if row is None or name == "hd95_all":
        return None
    return float(getattr(preset.paper.scores[row], name))


def _values(summaries: Sequence[Mapping[str, Any]], name: str, protocol: str) -> list[float]:
    """One mean a seed; fewer where a seed has none, as HD95 where no case has both masks."""
    key, scale = {
        "dice": ("dice", 100.0),
        "iou": ("iou", 100.0),
        "hd95": ("hd95_defined_px" if protocol == "paper" else "hd95_px", 1.0),
        "hd95_all": ("hd95_px", 1.0),
    }[name]
    found = [summary["metrics"].get(key) for summary in summaries]
    return [scale * one["mean"] for one in found if one is not None]


def _hours(done: Iterable[Held], *, on_cpu: bool) -> float | None:
    """Of training: seconds x processes."""
    seconds = [
        training_seconds(cell, document) * int(document["processes"])
        for cell, now in done
        if (document := now.document) is not None and str(document["device"]).startswith("cpu") == on_cpu
    ]
    return sum(seconds) / 3600 if seconds else None


def _of_lines(remarks: Remarks, lines: Sequence[Line], protocol: str) -> None:
    """What is to be said of single lines of the table."""
    for line in lines:
        what, made_of = f"{line.preset} {line.title}", line.figures["hd95"].seeds
        if made_of < len(line.seeds):
            remarks.add(f"HD95 of {what}: of {made_of} of its {len(line.seeds)} seeds; none elsewhere")
    if protocol != "paper":
        return
    told = []
    for line in lines:
        left_out = sum(line.counts[name] for name in ("n_missed", "n_false_alarm", "n_both_empty"))
        if left_out:
            told.append(f"{line.preset} {line.title} {left_out} of {line.counts['n']}")
    if told:
        remarks.add(f"cases that HD95 leaves out, of all seeds together: {', '.join(told)}")


def _caption(protocol: str, seeds: Sequence[int], sources: Iterable[str]) -> str:
    words = _OF_PAPER if protocol == "paper" else _OF_DEFAULT
    parts = [
        "means over the test split: mean and standard deviation over the seeds "
        f"({', '.join(map(str, seeds))} where all are done)",
        "Dice and IoU in %, HD95 in pixels of the masks at their own size",
        words["hd95"],
        words["cut"],
        "training: of all seeds done together",
    ]
    parts += [f"paper: {source}; it prints means only, differences are of means" for source in sources]
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]
