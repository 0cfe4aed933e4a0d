"""What was trained and scored on what, and how to do it again, without the paths of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vlsmctl.console import duration
from vlsmctl.report.reading import Epoch, Run
from vlsmctl.report.values import (
    count,
    entries,
    last_part,
    mapping,
    number,
    share,
    whole,
    without_folders,
    words,
)

PRESET = "preset.yaml"  # what the resolved preset is called in the commands
_PATHS = (
    "predictions",
    "targets",
    "data_folder",
    "cases",
    "images",
    "weights",
)  # of what is said of scores
_ELSEWHERE = ("paper", "notes", "command")
_CALLED = {
    "vlsmctl": "version of vlsmctl", "label": "label", "pred_label": "label in the predictions",
    "presence_asked": "presence cut that was asked for",
}  # fmt: skip
_OWN = ("runs", "data")  # folders that the commands make and find, so that paths below them stay whole


@dataclass(frozen=True)
class Fact:
    """code: whether it is a hash, or something else to copy."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Provenance:
    """preset: the resolved one as YAML, "" where it is not known. cut: whether paths in the commands are
    not whole."""

    facts: tuple[Fact, ...]
    versions: tuple[tuple[str, str], ...]
    preset: str
    commands: tuple[str, ...]
    cut: bool


def provenance_of_scores(summary: Mapping[str, Any], folder: str) -> Provenance:
    """Of masks that were scored against masks, with the scores in `folder`."""
    command, report = command_of(summary), f"vlsmctl report {quoted(folder)}"
    return Provenance(scored_facts(summary), (), "", (*filter(None, [command]), report), _is_cut(summary))


def provenance(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> Provenance:
    """evaluations: the `summary` of each, the newest first."""
    document = run.document
    preset = _named_weights(mapping(document, "preset"))
    versions = mapping(document, "versions")
    text = yaml.safe_dump(preset, sort_keys=False, allow_unicode=True, width=88) if preset else ""
    return Provenance(
        tuple(_facts(run, evaluations)),
        tuple((str(name), str(version)) for name, version in versions.items()),
        text,
        tuple(_commands(run, preset, evaluations)),
        any(map(_is_cut, evaluations)),
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


def _named_weights(preset: Mapping[str, Any]) -> dict[str, Any]:
    """The preset with the bare name of the file of weights."""
    weights = words(preset, "weights")
    return {**preset, "weights": last_part(weights)} if weights else dict(preset)


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
        Fact("data set", last_part(words(data, "folder")) or words(preset, "data")),
        Fact("sha256 of its manifest", words(data, "manifest_sha256"), code=True),
        Fact("sha256 of the preset", words(document, "preset_sha256"), code=True),
        Fact("seed", words(document, "seed")),
        Fact("device", words(document, "device")),
        Fact("precision", "fp32" if precision == "no" else precision),
        Fact("processes", words(document, "processes")),
        Fact("epochs", stopped if words(train, "epochs") else words(document, "epochs")),
        Fact("best validation Dice", _best(best)),
        Fact("training time", duration(seconds) if (seconds := number(document, "seconds")) else ""),
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


def _commands(run: Run, preset: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    name = run_name(run.folder)
    commands = [f"vlsmctl train --preset {PRESET}"] * bool(preset)
    own = [each for each in evaluations if words(mapping(each, "about"), "run")]
    commands += [command_of(each) or _command_like(each, name) for each in own]
    return list(dict.fromkeys([*commands, f"vlsmctl report {quoted(name)}"]))


def command_of(summary: Mapping[str, Any]) -> str:
    """What was typed to make these scores; of paths the last part, but for those in the folders of the
    program itself. "" where that is not known."""
    typed = [str(word) for word in entries(mapping(summary, "about"), "command")]
    columns = {at + 1 for at, word in enumerate(typed) if word == "--by"}
    return " ".join(quoted(word if at in columns else _cut(word)) for at, word in enumerate(typed))


def _command_like(summary: Mapping[str, Any], run: str) -> str:
    """What might have been typed, where another command than eval has scored."""
    about, protocol = mapping(summary, "about"), words(summary, "protocol")
    options = {
        "--split": words(about, "split"),
        "--prompts": words(about, "prompts"),
        "--protocol": "" if protocol == "default" else protocol,
        "--presence": words(about, "presence_asked"),
    }
    given = [f" {option} {quoted(value)}" for option, value in options.items() if value]
    return f"vlsmctl eval {quoted(run)}{''.join(given)}"


def _is_cut(summary: Mapping[str, Any]) -> bool:
    return any(_cut(str(word)) != word for word in entries(mapping(summary, "about"), "command"))


def _cut(word: str) -> str:
    parts = word.replace("\\", "/").split("/")
    return word if parts[0] in _OWN and ".." not in parts else last_part(word)


def paths_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Files and folders that were named when these scores were made."""
    about = mapping(summary, "about")
    named = [words(about, key) for key in _PATHS]
    typed = [str(word) for word in entries(about, "command")]
    return tuple(path for path in (*named, *typed) if last_part(path) != path)


def scored_facts(summary: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What was scored, and how, as far as it is not said elsewhere on the page."""
    about, known = mapping(summary, "about"), paths_of(summary)
    protocol = words(summary, "protocol") or words(about, "protocol")
    told = [Fact("protocol", protocol)] if protocol else []
    for key, value in about.items():
        text = "all that is marked" if key == "label" and value is None else _in_words(value)
        if key in ("protocol", *_ELSEWHERE) or not text:
            continue
        text = last_part(text) if key in _PATHS else without_folders(text, known)
        told.append(Fact(_CALLED.get(key, key.replace("_", " ")), text, code=key.endswith("sha256")))
    tolerance = mapping(summary, "tolerance")
    if tolerance:
        told.append(
            Fact("tolerance of NSD", ", ".join(f"{value} {unit}" for unit, value in tolerance.items()))
        )
    return tuple(told)


def _in_words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_in_words(each) for each in value)
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def quoted(text: str) -> str:
    """As it must be typed, in most shells."""
    plain = text and all(letter.isalnum() or letter in "._-/+" for letter in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
