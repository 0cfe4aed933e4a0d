"""The grid's table as files: CSV and JSON for programs, Markdown and LaTeX for people."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict
from typing import Any

from vlsmctl.files import write_text
from vlsmctl.reproduce.grid import Grid
from vlsmctl.reproduce.table import COUNTS, FIGURES, PAPER_ROWS, Figure, Line, Table, make_table

NAMES = ("table.csv", "table.md", "table.tex", "table.json")
PAPER_ONLY = " (paper only)"  # after the name of what only the paper has
HEADINGS = {"dice": "Dice (%)", "iou": "IoU (%)", "hd95": "HD95 (px)"}
AMISS = "missed / false alarms"
_AGAIN = 5  # times at most that tables are made once more
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
}  # fmt: skip


def write_tables(grid: Grid) -> Table:
    """Makes the table of what the folders hold, and writes it into the grid's folder in four forms.

    Several processes may do so at once: each file is whole, and who wrote last looks whether the folders
    have changed since, so that the last table is that of all.
    """
    table = make_table(grid)
    for _ in range(_AGAIN):
        for name, text in texts(table).items():
            write_text(grid.out / name, text)
        made, table = table, make_table(grid)
        if made == table:
            break
    return table


def texts(table: Table) -> dict[str, str]:
    """What is in each file, by its name."""
    forms = (
        as_csv(table),
        as_markdown(table),
        as_latex(table),
        json.dumps(as_document(table), indent=1) + "\n",
    )
    return dict(zip(NAMES, forms, strict=True))


def as_document(table: Table) -> dict[str, Any]:
    """Ready for JSON."""
    return asdict(table)


def as_csv(table: Table) -> str:
    """One line a preset and method; a cell is empty where there is no figure. Full precision."""
    stream = io.StringIO()
    rows = [_record(line, table) for line in table.lines]
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()


def as_markdown(table: Table) -> str:
    """A table, with its caption and remarks below."""
    headings = ["data set", "method", "seeds", "trained", "in the paper"]
    for heading in HEADINGS.values():
        headings += [heading, "paper", "difference"]
    headings += [AMISS, "training"]
    rows = [[markdown(cell) for cell in _cells(line)] for line in table.lines]
    aligned = ["---", "---"] + ["---:"] * (len(headings) - 2)
    lines = [f"| {' | '.join(row)} |" for row in (headings, aligned, *rows)]
    notes = [f"- {markdown(remark)}" for remark in table.remarks]
    return "\n".join([*lines, "", markdown(table.caption), "", *notes]).rstrip() + "\n"


def as_latex(table: Table) -> str:
    """A `table` for booktabs and graphicx, with its caption, and its remarks below."""
    groups = " & ".join(rf"\multicolumn{{3}}{{c}}{{{latex(heading)}}}" for heading in HEADINGS.values())
    rules = "".join(rf"\cmidrule(lr){{{start}-{start + 2}}}" for start in (6, 9, 12))
    under = " & ".join(["ours & paper & diff."] * len(HEADINGS))
    body: list[str] = []
    for number, line in enumerate(table.lines):
        new = number == 0 or table.lines[number - 1].preset != line.preset
        body += [r"\midrule"] * new
        cells = _cells(line)
        shown = [cells[0] if new else "", *cells[1:]]
        body.append(" & ".join(_latex_number(cell) for cell in shown) + r" \\")
    notes = [rf"\par {latex(remark)}" for remark in table.remarks]
    small = [r"\par\smallskip\footnotesize\raggedright"] if notes else []
    parts = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}", r"\centering", rf"\caption{{{latex(table.caption)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{ll{'r' * 14}}}", r"\toprule",
        rf" & & & \multicolumn{{2}}{{c}}{{Trained}} & {groups} & & \\", rf"\cmidrule(lr){{4-5}}{rules}",
        rf"Data set & Method & Seeds & ours & paper & {under} & {AMISS.capitalize()} & Training \\",
        *body, r"\bottomrule", r"\end{tabular}}", *small, *notes,
        r"\end{table}",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def latex(text: str) -> str:
    """Plain text, so that TeX prints it as it is."""
    escaped = "".join(_TEX.get(sign, sign) for sign in text)
    apart = re.sub("-(?=-)", "-{}", escaped)  # two hyphens would become a dash
    return apart.replace("±", r"\ensuremath{\pm}")


def markdown(text: str) -> str:
    """Plain text, so that Markdown prints it as it is, in one cell."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))


def mean_and_sd(one: Figure) -> str:
    """ "88.73 ± 0.41"; "-" where there is none."""
    if one.mean is None:
        return "-"
    return f"{one.mean:.2f}" if one.sd is None else f"{one.mean:.2f} ± {one.sd:.2f}"


def plain(value: float | None, *, signed: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if signed else ''}.2f}"


def seeds_done(line: Line) -> str:
    return f"{len(line.seeds)}/{line.planned}" if line.method else "-"


def named(line: Line) -> str:
    """The method, or what the paper calls a row that only it has."""
    if line.method is not None:
        return line.title
    return f"{PAPER_ROWS[line.published][0]}{PAPER_ONLY}" if line.published else "-"


def amiss(line: Line) -> str:
    """Cases missed and false alarms, of all seeds together: "3 / 1 of 200"; and failed, where there are."""
    if not line.seeds:
        return "-"
    counts = line.counts
    failed = f" + {counts['n_failed']} failed" if counts["n_failed"] else ""
    return f"{counts['n_missed']} / {counts['n_false_alarm']} of {counts['n']}{failed}"


def parameters(count: int | None) -> str:
    """ "1.13 M", "42.3 k"; "-" where it is not known."""
    if count is None:
        return "-"
    return (
        f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k" if count >= 1e3 else str(count)
    )


def hours(line: Line) -> str:
    """Hours of training in the unit that suits them: "1.52 GPU h"; both kinds where there are both."""
    kinds = (("GPU", line.gpu_hours), ("CPU", line.cpu_hours))
    return " + ".join(_spent(value, kind) for kind, value in kinds if value is not None) or "-"


def _spent(value: float, kind: str) -> str:
    if value < 0.03:
        return f"{value * 3600:.1f} {kind} s"
    return f"{value * 60:.1f} {kind} min" if value < 1.5 else f"{value:.2f} {kind} h"


def _cells(line: Line) -> list[str]:
    published = PAPER_ROWS[line.published][1] if line.published else "-"
    cells = [line.preset, named(line), seeds_done(line), parameters(line.trainable), published]
    for name in HEADINGS:
        one = line.figures[name]
        cells += [mean_and_sd(one), plain(one.paper), plain(one.difference, signed=True)]
    return [*cells, amiss(line), hours(line)]


def _latex_number(cell: str) -> str:
    """A minus, not a hyphen, before a number."""
    return re.sub(r"^-(?=\d)", r"$-$", latex(cell)) if cell != "-" else "--"


def _record(line: Line, table: Table) -> dict[str, Any]:
    record: dict[str, Any] = {
        "preset": line.preset,
        "method": line.method,
        "settings": line.mark,
        "model": line.model,
        "paper_row": line.published,
        "protocol": table.protocol,
        "seeds_done": len(line.seeds),
        "seeds_planned": line.planned,
        "seeds": " ".join(map(str, line.seeds)),
        "trainable": line.trainable,
        "trainable_paper": PAPER_ROWS[line.published][1] if line.published else None,
    }
    for name in FIGURES:
        one = line.figures[name]
        record |= {f"{name}_mean": one.mean, f"{name}_sd": one.sd, f"{name}_seeds": one.seeds}
        if name in HEADINGS:
            record |= {f"{name}_paper": one.paper, f"{name}_difference": one.difference}
    record |= {"gpu_hours": line.gpu_hours, "cpu_hours": line.cpu_hours}
    return record | {name: line.counts[name] for name in COUNTS}
