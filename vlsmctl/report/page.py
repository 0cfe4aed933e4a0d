"""`report.html`: one file, made of the files of a run or an evaluation, that loads nothing from elsewhere.

The same files give the same bytes. All that comes from files is escaped; the page's own script is named by
its hash in the Content-Security-Policy, so that no other could run, whatever a prompt or a name holds.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vlsmctl.errors import UsageError
from vlsmctl.figures import COUNTS
from vlsmctl.files import shown, write_text
from vlsmctl.report.plots import training_curve
from vlsmctl.report.provenance import (
    Provenance,
    best_epoch,
    provenance,
    provenance_of_scores,
    run_name,
    title_of,
)
from vlsmctl.report.reading import (
    Evaluation,
    Run,
    evaluation_folders,
    is_evaluation,
    is_run,
    read_evaluation,
    read_run,
)
from vlsmctl.report.sections import Plot, Section, section, sentence_of
from vlsmctl.report.sections import title_of as title_of_evaluation
from vlsmctl.report.tables import Whisker, interval, whisker
from vlsmctl.report.values import amount, count, mapping, number, share, words

REPORT = "report.html"
TEMPLATE = "page.html.j2"
FULL_SECTIONS = 6  # evaluations that are told in full; older ones stand in the overview only
PICTURES = 3
OVERVIEW_COUNTS = ("n", "n_missed", "n_false_alarm", "n_both_empty", "n_failed")


@dataclass(frozen=True)
class OverviewLine:
    """An evaluation in one line. key: of its section; "" where it has none."""

    key: str
    name: str
    title: str
    dice: tuple[str, str]
    whisker: Whisker | None
    iou: str
    hd95: str
    counts: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """All that the page says. sentence: the result, "" where there is none. older: evaluations that are not
    told in full. hint: the next command. made_by: the program and its version."""

    title: str
    name: str
    sentence: str
    overview: tuple[OverviewLine, ...]
    older: int
    sections: tuple[Section, ...]
    curves: tuple[Plot, ...]
    origin: Provenance | None
    missing: tuple[str, ...]
    hint: str
    made_by: str


def write_report(folder: Path, *, pictures: int = PICTURES) -> Path:
    """Writes `report.html` into a run folder (with all its evaluations), or into the folder of one.

    pictures: how many of the worst, of the median and of the best cases are shown, each; 0: no image gets
    into the page. What is missing or damaged among the files costs its own place only, and the page says
    so.

    Raises UsageError when the folder is neither, OSError when the page cannot be written.
    """
    if is_run(folder):
        page = run_page(folder, pictures)
    elif is_evaluation(folder):
        page = evaluation_page(folder, pictures)
    else:
        raise UsageError(
            f"neither a run nor scores in {str(folder)!r} (expected run.json or summary.json in it)",
            hint="vlsmctl report RUN, or vlsmctl eval --pred DIR --gt DIR first",
        )
    target = folder / REPORT
    write_text(target, render(page))
    return target


def run_page(folder: Path, pictures: int = PICTURES) -> Page:
    """What is said of a run."""
    run, folders = read_run(folder), evaluation_folders(folder)
    shown_in_full = folders[:FULL_SECTIONS]
    full = [read_evaluation(each, shown(each.name)) for each in shown_in_full]
    older = [read_evaluation(each, shown(each.name), rows=False) for each in folders[FULL_SECTIONS:]]
    everything = [*full, *older]
    return Page(
        title=shown(title_of(run)),
        name=shown(run_name(folder)),
        sentence=_headline(full),
        overview=_overview(everything) if len(everything) > 1 else (),
        older=len(older),
        sections=_sections(full, pictures),
        curves=_curves(run),
        origin=provenance(run, [each.summary for each in everything]),
        missing=run.missing,
        hint="" if everything else f"vlsmctl eval {run_name(folder)}",
        made_by=_made_by(),
    )


def evaluation_page(folder: Path, pictures: int = PICTURES) -> Page:
    """What is said of masks that were scored against masks."""
    evaluation = read_evaluation(folder, shown(folder.resolve().name))
    return Page(
        title=f"Scores: {title_of_evaluation(evaluation)}",
        name=evaluation.name,
        sentence=sentence_of(evaluation),
        overview=(),
        older=0,
        sections=tuple(
            replace(each, title="Results", about=(), command="")
            for each in _sections([evaluation], pictures)
        ),
        curves=(),
        origin=provenance_of_scores(evaluation.summary, evaluation.name),
        missing=(),
        hint="",
        made_by=_made_by(),
    )


def render(page: Page) -> str:
    """The page as HTML."""
    here = Path(__file__).parent
    script = (here / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    text = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            page=page,
            counts=[COUNTS[key][0] for key in OVERVIEW_COUNTS],
            style=Markup((here / "page.css").read_text(encoding="utf-8")),  # noqa: S704 (files of ours)
            script=Markup(script),  # noqa: S704
            script_hash=f"sha256-{digest}",
        )
    )
    return shown(text)


@cache
def _environment() -> Environment:
    """All that a template shows is escaped."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _headline(evaluations: Sequence[Evaluation]) -> str:
    """Of the newest evaluation of the run itself; its folder may hold others, such as of the bare model."""
    own = [each for each in evaluations if words(mapping(each.summary, "about"), "run")]
    return sentence_of((own or evaluations)[0]) if evaluations else ""


def _sections(evaluations: Sequence[Evaluation], pictures: int) -> tuple[Section, ...]:
    return tuple(
        section(each, f"e{number_of}", pictures=pictures, sections=len(evaluations))
        for number_of, each in enumerate(evaluations, 1)
    )


def _overview(evaluations: Sequence[Evaluation]) -> tuple[OverviewLine, ...]:
    return tuple(
        _overview_line(each, f"e{number_of}" if number_of <= FULL_SECTIONS else "")
        for number_of, each in enumerate(evaluations, 1)
    )


def _overview_line(evaluation: Evaluation, key: str) -> OverviewLine:
    summary = evaluation.summary
    dice = mapping(summary, "metrics", "dice")
    hd95 = (mapping(summary, "metrics", name) for name in ("hd95_mm", "hd95_px"))
    lengths = (amount(number(metric, "mean"), words(metric, "unit")) for metric in hd95 if metric)
    return OverviewLine(
        key,
        evaluation.name,
        title_of_evaluation(evaluation),
        (share(number(dice, "mean")), interval(dice) if dice else ""),
        whisker(dice),
        share(number(mapping(summary, "metrics", "iou"), "mean")),
        ", ".join(lengths),
        tuple(count(number(summary, key)) for key in OVERVIEW_COUNTS),
    )


def _curves(run: Run) -> tuple[Plot, ...]:
    """Loss, validation Dice and learning rate, each where it was written down for two epochs at least."""
    best = best_epoch(run)
    texts = {
        "loss": ("Training loss", "Mean loss of each epoch."),
        "dice": ("Validation Dice", "Mean Dice on the validation split, at the model’s input size."),
        "lr": ("Learning rate", "Lowered when validation Dice no longer improves."),
    }
    made = []
    for name, (title, caption) in texts.items():
        values = [value for each in run.epochs if (value := getattr(each, name)) is not None]
        if len(values) < 2:
            continue
        digits = ".1e" if name == "lr" else ".3f"
        marked = f"; the best epoch is {best}" if best else ""
        ends = f"from {values[0]:{digits}} to {values[-1]:{digits}}"
        description = f"{title} over {len(values)} epochs, {ends}{marked}."
        svg = Markup(training_curve(run.epochs, name, best, f"t{name}"))  # noqa: S704 (numbers alone)
        made.append(Plot(title, svg, description, caption))
    return tuple(made)


def _made_by() -> str:
    return f"vlsmctl {version('vlsmctl')}"
