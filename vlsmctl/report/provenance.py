"""What was trained on what, and how to do it again: from run.json, without the paths of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from vlsmctl.report.reading import Epoch, Run
from vlsmctl.report.values import count, duration, mapping, number, share, whole, words

PRESET = "preset.yaml"  # what the resolved preset is called in the commands
_USUAL = ("prompt", "data_set", "size_class")  # columns that results are told apart by without --by


@dataclass(frozen=True)
class Fact:
    """code: whether it is a hash, or something else to copy."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Provenance:
    """preset: the resolved one as YAML, "" where it is not known."""

    facts: tuple[Fact, ...]
    versions: tuple[tuple[str, str], ...]
    preset: str
    commands: tuple[str, ...]


def provenance(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> Provenance:
    """evaluations: the `summary` of each, the newest first."""
    document = run.document
    preset = without_folders_of(mapping(document, "preset"))
    versions = mapping(document, "versions")
    text = yaml.safe_dump(preset, sort_keys=False, allow_unicode=True, width=88) if preset else ""
    return Provenance(
        tuple(_facts(run, evaluations)),
        tuple((str(name), str(version)) for name, version in versions.items()),
        text,
        tuple(_commands(run, preset, evaluations)),
    )


def title_of(run: Run) -> str:
    """The method, the model and the data set, in a few words."""
    preset = mapping(run.document, "preset")
    method, model, data = (words(preset, key) for key in ("method", "model", "data"))
    return f"{method} on {model}, trained on {data}" if method and model and data else run_name(run.folder)


def run_name(folder: Path) -> str:
    """As it is below the folder of runs; no more of the path, which may hold the names of people."""
    parts = folder.resolve().parts
    return "/".join(parts[-3:]) if len(parts) > 3 and parts[-3] == "runs" else folder.resolve().name


def without_folders_of(preset: Mapping[str, Any]) -> dict[str, Any]:
    """The preset with the bare name where the weights lie in a folder of this machine."""
    made = dict(preset)
    weights = made.get("weights")
    if isinstance(weights, str) and (PurePosixPath(weights).is_absolute() or ":" in weights[:3]):
        made["weights"] = PureWindowsPath(weights).name
    return made


def best_epoch(run: Run) -> int | None:
    """As run.json has it, else as the curves show."""
    stated = whole(mapping(run.document, "best"), "epoch")
    if stated is not None:
        return stated or None
    scored: list[tuple[float, Epoch]] = [(each.dice, each) for each in run.epochs if each.dice is not None]
    return max(scored, key=lambda pair: pair[0])[1].epoch if scored else None


def _facts(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> list[Fact]:
    document = run.document
    preset, base = mapping(document, "preset"), mapping(document, "base")
    data, best = mapping(document, "data"), mapping(document, "best")
    parameters, train = mapping(document, "parameters"), mapping(preset, "train")
    trainable, total = number(parameters, "trainable"), number(parameters, "total")
    trained = count(trainable)
    if trainable is not None and total:
        trained += f" of {count(total)} ({100 * trainable / total:.1f} %)"
    adapter = next(
        (found for each in evaluations if (found := words(mapping(each, "about"), "adapter_sha256"))), ""
    )
    presence, precision = mapping(document, "presence"), words(document, "precision")
    stopped = f"{whole(document, 'epochs') or len(run.epochs)} of at most {words(train, 'epochs')}"
    facts = [
        Fact("run", run_name(run.folder), code=True),
        Fact("status", words(document, "status")),
        Fact("base model", words(base, "name")),
        Fact("sha256 of the base model", words(base, "sha256"), code=True),
        Fact("method", words(preset, "method")),
        Fact("parameters trained", trained if trainable is not None else ""),
        Fact("sha256 of the adapter file", adapter, code=True),
        Fact("data set", _name(words(data, "folder")) or words(preset, "data")),
        Fact("sha256 of its manifest", words(data, "manifest_sha256"), code=True),
        Fact("sha256 of the preset", words(document, "preset_sha256"), code=True),
        Fact("seed", words(document, "seed")),
        Fact("device", words(document, "device")),
        Fact("precision", "fp32" if precision == "no" else precision),
        Fact("processes", words(document, "processes")),
        Fact("epochs", stopped if words(train, "epochs") else words(document, "epochs")),
        Fact("best validation Dice", _best(best)),
        Fact("training time", duration(number(document, "seconds")) if number(document, "seconds") else ""),
        Fact("presence", _presence(presence) or words(document, "presence_missing")),
    ]
    return [fact for fact in facts if fact.value]


def _best(best: Mapping[str, Any]) -> str:
    dice, epoch = number(best, "val_dice"), whole(best, "epoch")
    return "" if dice is None else f"{share(dice)}{f' in epoch {epoch}' if epoch else ', without training'}"


def _presence(presence: Mapping[str, Any]) -> str:
    auc, cut = number(presence, "auc"), number(presence, "threshold")
    if auc is None or cut is None:
        return ""
    seen = (
        f"{words(presence, 'positives')} pictures with and {words(presence, 'negatives')} without a target"
    )
    return (
        f"ROC AUC {auc:.2f} on {seen}; {f'nothing marked below {cut:.2f}' if cut else 'never suppressed'}"
    )


def _name(path: str) -> str:
    """The last part of a path, of whatever system."""
    return PureWindowsPath(path).name


def _commands(run: Run, preset: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    name = run_name(run.folder)
    commands = []
    if preset:
        commands.append(f"vlsmctl train --preset {PRESET}")
    own = [each for each in evaluations if words(mapping(each, "about"), "run")]
    commands += [f"vlsmctl eval {quoted(name)}{_options(each)}" for each in own]
    return list(dict.fromkeys([*commands, f"vlsmctl report {quoted(name)}"]))


def _options(summary: Mapping[str, Any]) -> str:
    about = mapping(summary, "about")
    data, trained = words(about, "data"), words(about, "trained_on")
    options = [("--split", words(about, "split")), ("--prompts", words(about, "prompts"))]
    if data and data != trained:
        options.append(("--data", f"data/{data}"))
    if words(summary, "protocol") not in ("", "default"):
        options.append(("--protocol", words(summary, "protocol")))
    elif words(about, "presence_asked"):
        options.append(("--presence", words(about, "presence_asked")))
    options += [("--by", column) for column in mapping(summary, "by") if column not in _USUAL]
    for unit, value in mapping(summary, "tolerance").items():
        if value != 2:
            options.append(("--tolerance", f"{value}{unit}"))
    return "".join(f" {option} {quoted(value)}" for option, value in options if value)


def quoted(text: str) -> str:
    """As it must be typed, in most shells."""
    plain = text and all(letter.isalnum() or letter in "._-/+" for letter in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
