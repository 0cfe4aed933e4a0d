"""`vlsmctl presets`: the data sets that can be trained on, and the settings for each."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlsmctl.console import out, table
from vlsmctl.datasets.manifest import SPLITS
from vlsmctl.errors import UsageError

if TYPE_CHECKING:
    from vlsmctl.config import Preset, Resolved

INLINE = 72  # characters of a section or a list that is shown in one line
MARGIN = 60  # where comments stand, unless a line is longer
COLUMNS = ("preset", "data set", " / ".join(SPLITS), "whole set", "licence", "paper: dense", "shallow")
NARROW = tuple(column for column in COLUMNS if column not in ("data set", "licence"))
WIDE = 120  # columns of a terminal that has room for all
OWN_SHOWN = 10  # prepared sets of one's own that are named
LICENCE = 40  # characters of a licence in the table


def list_presets(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(help="The folder of prepared data sets (default: data).", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the data sets: what is on disk, its licence, and what the paper scored on it."""
    if context.invoked_subcommand is not None:
        if data is not None:
            raise UsageError(
                f"--data is for the list of presets, not for '{context.invoked_subcommand}'",
                hint=f"vlsmctl presets {context.invoked_subcommand} NAME",
            )
        return
    rows, own = _rows(data or Path("data"))
    if as_json:
        out().print(json.dumps(rows + own), markup=False)
        return
    screen = out()
    columns = COLUMNS if screen.width >= WIDE else NARROW
    screen.print(table(columns, [[_cells(row)[column] for column in columns] for row in rows]))
    for line in (*_own_line(own), *_footnotes(rows)):
        out().print(line, markup=False)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A shipped preset, or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a preset key; repeat.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same as --set train.seed=N.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a preset: every key that --set takes, its value, and where that comes from."""
    from vlsmctl.config import resolve_preset

    resolved = resolve_preset(name, overrides or (), seed)
    above = context.parent.params if context.parent else {}
    if as_json or above.get("as_json"):  # `presets --json show NAME` means it too
        preset = resolved.preset.model_dump(mode="json", by_alias=True)
        out().print(json.dumps({"preset": preset, "origins": resolved.origins}), markup=False)
        return
    for line in annotated(resolved):
        out().print(line, markup=False)


def annotated(resolved: Resolved) -> Iterator[str]:
    """A preset as YAML, line by line, with where each value comes from as a comment."""
    preset, remarks = resolved.preset, _remarks(resolved.preset)
    values = preset.model_dump(mode="json", by_alias=True)
    lines = [line for key in values for line in _lines((key,), values[key], resolved.origins)]
    commented = [len(text) for text, key in lines if key]
    margin = min(MARGIN, max(commented))
    for text, key in lines:
        if key:
            comment = "; ".join(filter(None, (resolved.origins[key], remarks.get(key))))
            yield f"{text:<{margin}}  # {comment}"
        else:
            yield text
    if preset.paper.scores:
        yield "# paper: dice and iou in %, hd95 in pixels of the masks at their own size"
    yield from (f"# paper: {remark}" for remark in preset.paper.remarks)


def _remarks(preset: Preset) -> dict[str, str]:
    """What null stands for, by key."""
    remarks: dict[str, str] = {}
    if preset.train.lr is None and preset.lr is not None:
        remarks["train.lr"] = f"null is methods.{preset.family}.lr, {preset.lr:g}"
    if preset.adapter.bottleneck is None and preset.bottleneck is not None:
        remarks["adapter.bottleneck"] = f"null is methods.{preset.family}.bottleneck, {preset.bottleneck}"
    if preset.image_size is None:
        remarks["image_size"] = "null is the model's own, see vlsmctl models"
    return remarks


def _lines(path: tuple[str, ...], value: Any, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the key whose origin is to be told beside it, or ""."""
    indent, key = "  " * (len(path) - 1), ".".join(path)
    start = f"{indent}{path[-1]}:"
    flow = _flow(value)
    if not value or not isinstance(value, (dict, list)):
        yield f"{start} {flow}", key
    elif isinstance(value, list):
        if len(flow) <= INLINE:
            yield f"{start} {flow}", key
            return
        yield start, key
        yield from ((f"{indent}  - {_flow(item)}", "") for item in value)
    else:
        below = [one for one in origins if one.startswith(f"{key}.")]
        same = len({origins[one] for one in below}) == 1
        if same and len(below) == len(value) and len(flow) <= INLINE:
            yield f"{start} {flow}", below[0]
            return
        yield start, ""
        for each in value:
            yield from _lines((*path, each), value[each], origins)


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    import yaml

    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    text = text.strip().removesuffix("...").rstrip()
    return json.dumps(value) if "\n" in text else text  # JSON is YAML too


def _rows(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each preset, and one for each prepared set in `data` that no preset is for."""
    from vlsmctl.config import load_preset, preset_names
    from vlsmctl.datasets.folders import read_folder
    from vlsmctl.datasets.kinds import OWN
    from vlsmctl.datasets.recognition import located

    presets = {name: load_preset(name) for name in preset_names()}
    raw = {name: path for name, path in located(data / "raw").items() if name != OWN}
    rows = [_row(name, preset, data, raw.get(name)) for name, preset in presets.items()]
    known = {preset.data for preset in presets.values()}
    others = [name for name in read_folder(data).folders if name not in known]
    return rows, [row for name in others if (row := _own_row(data / name)) is not None]


def _row(name: str, preset: Preset, data: Path, raw: Path | None) -> dict[str, Any]:
    """What is known of a preset and its data set. raw: where its raw data lie, if they do."""
    info = _prepared(data / preset.data / "dataset.json")
    return {
        "name": name,
        "preset": True,
        **_known(name),
        "data": str(data / preset.data),
        "raw": None if raw is None else str(raw),
        "prepared": info is not None,
        "counts": _counts(info or {}),
        "model": preset.model,
        "method": preset.method,
        "paper": preset.paper.model_dump(mode="json"),
    }


def _own_row(folder: Path) -> dict[str, Any] | None:
    """The same, as far as it goes, of a prepared set that no preset is for; None where there is none."""
    info = _prepared(folder / "dataset.json")
    if info is None:
        return None
    told = {key: str(info.get(key) or "") for key in ("title", "licence", "source")}
    return {
        "name": folder.name,
        "preset": False,
        **told,
        "expected": None,
        "data": str(folder),
        "raw": None,
        "prepared": True,
        "counts": _counts(info),
        "model": None,
        "method": None,
        "paper": None,
    }


def _known(name: str) -> dict[str, Any]:
    """The data set's title, number of records, licence and page."""
    from vlsmctl.datasets.kinds import DATASETS
    from vlsmctl.datasets.pooling import POOLS

    if name in POOLS:
        members = ", ".join(POOLS[name].members)
        return {
            "title": POOLS[name].title,
            "expected": None,
            "licence": f"of each member ({members})",
            "source": members,
        }
    kind = DATASETS[name]
    return {
        "title": kind.title,
        "expected": kind.expected,
        "licence": kind.licence,
        "source": kind.source,
    }


def _prepared(path: Path) -> dict[str, Any] | None:
    """dataset.json; None where there is none that can be read."""
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) else None


def _counts(info: dict[str, Any]) -> dict[str, int] | None:
    counts = info.get("counts")
    return {split: counts.get(split, 0) for split in SPLITS} if isinstance(counts, dict) else None


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """A preset's row of the table, by heading."""
    absent = "downloaded" if row["raw"] else "not prepared"
    scores = row["paper"]["scores"]
    dense, shallow = (f"{scores[each]['dice']:.2f}" if each in scores else "" for each in _SHOWN)
    cells = (
        row["name"],
        row["title"].split(":")[0],
        _in_splits(row) if row["prepared"] else absent,
        str(row["expected"] or ""),
        _short(row["licence"]),
        dense,
        shallow,
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _in_splits(row: dict[str, Any]) -> str:
    counts = row["counts"]
    return " / ".join(str(counts[split]) for split in SPLITS) if counts else "yes"


_SHOWN = ("clipseg-dense", "clipseg-shallow")


def _short(licence: str) -> str:
    """The first words of a licence, as far as they make sense alone."""
    return textwrap.shorten(re.split(r"[;,(]", licence)[0].strip(), LICENCE, placeholder=" ...")


def _own_line(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The prepared sets that no preset is for."""
    from vlsmctl.datasets.wording import listed

    if rows:
        named = [f"{row['name']} ({_in_splits(row)})" for row in rows]
        yield (
            f"also prepared: {listed(named, shown=OWN_SHOWN)}; to train on one: "
            f"vlsmctl train --preset generic --set data={rows[0]['name']}"
        )


def _footnotes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Where the paper's figures are from, and what to know of them."""
    sources = dict.fromkeys(row["paper"]["source"] for row in rows if row["paper"]["scores"])
    yield from (f"paper: test Dice in % of the adapters on CLIPSeg; {source}" for source in sources)
    for row in rows:
        yield from (f"{row['name']}: {note}" for note in row["paper"]["notes"])
    yield "settings and all figures: vlsmctl presets show NAME; data: vlsmctl prepare NAME"
