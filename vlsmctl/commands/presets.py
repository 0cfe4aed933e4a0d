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
from vlsmctl.errors import UsageError

if TYPE_CHECKING:
    from vlsmctl.config import Preset, Resolved

INLINE = 72  # characters of a section or a list that is shown in one line
MARGIN = 60  # where comments stand, unless a line is longer
SPLITS = ("train", "val", "test")
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
    from vlsmctl.config import preset_names

    rows = [_row(name, data or Path("data")) for name in preset_names()]
    if as_json:
        out().print(json.dumps(rows), markup=False)
        return
    headings = ["preset", "data set", " / ".join(SPLITS), "whole set", "licence", "paper: dense", "shallow"]
    out().print(table(headings, [_cells(row) for row in rows]))
    for line in _footnotes(rows):
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


def _row(name: str, data: Path) -> dict[str, Any]:
    """What is known of a preset and its data set."""
    from vlsmctl.config import load_preset

    preset = load_preset(name)
    info = _prepared(data / preset.data / "dataset.json")
    return {
        "name": name,
        **_known(name),
        "data": str(data / preset.data),
        "prepared": info is not None,
        "counts": _counts(info or {}),
        "model": preset.model,
        "method": preset.method,
        "paper": preset.paper.model_dump(mode="json"),
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


def _cells(row: dict[str, Any]) -> list[str]:
    counts = row["counts"]
    there = " / ".join(str(counts[split]) for split in SPLITS) if counts else "yes"
    scores = row["paper"]["scores"]
    dice = [f"{scores[each]['dice']:.2f}" if each in scores else "" for each in _SHOWN]
    expected = str(row["expected"] or "")
    return [
        row["name"],
        row["title"].split(":")[0],
        there if row["prepared"] else "not prepared",
        expected,
        _short(row["licence"]),
        *dice,
    ]


_SHOWN = ("clipseg-dense", "clipseg-shallow")


def _short(licence: str) -> str:
    """The first words of a licence, as far as they make sense alone."""
    return textwrap.shorten(re.split(r"[;,(]", licence)[0].strip(), LICENCE, placeholder=" ...")


def _footnotes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Where the paper's figures are from, and what to know of them."""
    sources = dict.fromkeys(row["paper"]["source"] for row in rows if row["paper"]["scores"])
    yield from (f"paper: test Dice in % of the adapters on CLIPSeg; {source}" for source in sources)
    for row in rows:
        yield from (f"{row['name']}: {note}" for note in row["paper"]["notes"])
    yield "settings and all figures: vlsmctl presets show NAME; data: vlsmctl prepare NAME"
