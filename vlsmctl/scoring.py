"""Scores a run on a split: its masks are written as files, then files are scored against files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vlsmctl import runs
from vlsmctl.config import Preset
from vlsmctl.datasets.attributes import WORDS
from vlsmctl.datasets.manifest import (
    Manifest,
    Record,
    columns_of,
    data_folder,
    data_set_of,
    read_manifest,
)  # fmt: skip
from vlsmctl.datasets.prompts import askable, choose_prompt, prompt_keys
from vlsmctl.errors import UsageError
from vlsmctl.evaluation import USUAL_TOLERANCE, Progress, Scores, Tolerance, score_cases
from vlsmctl.files import remove
from vlsmctl.pairing import CasePair
from vlsmctl.predictor import Cut, Predictor, predictor_from_run, usual_cut
from vlsmctl.score_files import SUMMARY, about_of, read_scores, read_summary, write_scores
from vlsmctl.sensitivity import measure
from vlsmctl.split_masks import Question, RecordMask, Tick, predict_records
from vlsmctl.summary import PROTOCOLS, summarise

MASKS, SENSITIVITY = "masks", "sensitivity"  # folders of an evaluation's masks


@dataclass(frozen=True)
class Asked:
    """What a run is to be scored on, and how.

    split: train, val, test or all. prompts: random, p0..pN or all; None: as in the run. data: a prepared
    data set, or the folder that holds the run's; None: the run's own. protocol: see `summary.PROTOCOLS`.
    presence: below this the target counts as absent; None: as the adapter says (the paper's protocol has no
    such thing). by: columns to tell results apart by.
    """

    split: str = "test"
    prompts: str | None = None
    data: Path | None = None
    protocol: str = "default"
    presence: float | None = None
    by: tuple[str, ...] = ()
    tolerance: Tolerance = USUAL_TOLERANCE


@dataclass(frozen=True)
class Scored:
    """Scores, what is said of them, and where both were written."""

    folder: Path
    scores: Scores
    summary: dict[str, Any]


def score_run(
    run: Path,
    asked: Asked,
    *,
    device: torch.device,
    out: Path | None = None,
    batch_size: int = 16,
    weights: Path | None = None,
    force: bool = False,
    workers: int | None = None,
    command: Sequence[str] = (),
    tick: Tick = lambda records, title: records,
    progress: Progress | None = None,
) -> Scored:
    """Predicts the split with the run's adapter and scores the masks; where all prompts are asked, measures
    besides how much the model reads them.

    out: where masks and scores go; None: below the run's `eval/`. command: what was typed, to be written
    down. Raises UsageError, MissingWeights.
    """
    document = runs.read_run(run)
    manifest, asked = data_of_run(document, asked.data), completed(document, asked)
    predictor = predictor_from_run(run, device=device, weights=weights, force=force)
    about = {**_about_run(run, document, manifest, asked), "command": list(command)}
    return score_split(
        predictor, manifest, asked, out or evaluation_folder(run, document, facts_of(manifest), asked),
        seed=document["seed"], about=about, batch_size=batch_size,
        workers=workers, tick=tick, progress=progress,
    )  # fmt: skip


def score_split(
    predictor: Predictor,
    manifest: Manifest,
    asked: Asked,
    folder: Path,
    *,
    seed: int,
    about: Mapping[str, Any],
    batch_size: int = 16,
    workers: int | None = None,
    tick: Tick = lambda records, title: records,
    progress: Progress | None = None,
) -> Scored:
    """As `score_run`, for any model. asked: with `prompts`. about: what is known besides."""
    cut, choice = cut_of(predictor, asked), str(asked.prompts)
    left_out = not_asked(manifest, asked)
    remove(folder / SUMMARY)  # of an earlier run, whose masks are now replaced
    pairs = predict_split(
        predictor,
        manifest,
        asked.split,
        choice,
        seed,
        folder / MASKS,
        cut,
        batch_size=batch_size,
        tick=tick,
    )
    scores = score_cases(pairs, workers=workers, progress=progress, tolerance=asked.tolerance)
    told = {**_about(predictor, manifest, asked, cut, seed), **about}
    summary = summarise(scores, by=asked.by, about=told, protocol=asked.protocol, not_asked=left_out)
    if choice == "all":
        summary["sensitivity"] = measure(
            predictor, manifest, manifest.split(asked.split), seed, folder / SENSITIVITY,
            batch_size=batch_size, tick=tick,
        ).document  # fmt: skip
    write_scores(folder, scores, summary)
    return Scored(folder, scores, summary)


def completed(document: Mapping[str, Any], asked: Asked) -> Asked:
    """With the prompts that a run is scored with when nothing else is asked."""
    return replace(asked, prompts=asked.prompts or str(document["preset"]["prompts"]["eval"]))


def scored_before(run: Path, asked: Asked) -> Scored | None:
    """What an earlier `score_run` wrote where masks, data and rules are the same; None: there is none."""
    document = runs.read_run(run)
    data, asked = _data_facts(document, asked.data), completed(document, asked)
    folder = evaluation_folder(run, document, data, asked)
    try:
        summary, scores = read_summary(folder), read_scores(folder)
        adapter = hashlib.sha256((run / runs.ADAPTER).read_bytes()).hexdigest()
    except (UsageError, OSError):
        return None
    wanted = {**_asked_for(data, asked), "adapter_sha256": adapter}
    same = all(about_of(summary).get(name) == value for name, value in wanted.items())
    return Scored(folder, scores, summary) if same and scores.tolerance == asked.tolerance else None


@dataclass(frozen=True)
class DataFacts:
    """Which data set is meant: its name, and the hash of its manifest."""

    name: str
    manifest_sha256: str


def facts_of(manifest: Manifest) -> DataFacts:
    return DataFacts(manifest.folder.resolve().name, manifest.hash)


def _data_facts(document: Mapping[str, Any], data: Path | None) -> DataFacts:
    """Of the data set that a run is to be scored on; where its own is not there any more, as written
    down. Raises UsageError."""
    try:
        return facts_of(data_of_run(document, data))
    except UsageError:
        if data is not None:
            raise
        return DataFacts(Path(document["data"]["folder"]).name, document["data"]["manifest_sha256"])


def data_of_run(document: Mapping[str, Any], data: Path | None) -> Manifest:
    """The data set that a run is to be scored on. Raises UsageError."""
    if data is None:
        return read_manifest(Path(document["data"]["folder"]))
    return read_manifest(data_folder(data, document["preset"]["data"]))


def evaluation_folder(run: Path, document: Mapping[str, Any], data: DataFacts, asked: Asked) -> Path:
    """Where an evaluation of a run goes: eval/kvasir-test-random; with other rules elsewhere."""
    parts = [data.name, asked.split, str(asked.prompts)]
    parts += [] if asked.protocol == "default" else [asked.protocol]
    parts += [] if asked.presence is None else [f"presence{asked.presence:g}"]
    usual, tolerance = USUAL_TOLERANCE, asked.tolerance
    parts += [] if tolerance.px == usual.px else [f"{tolerance.px:g}px"]
    parts += [] if tolerance.mm == usual.mm else [f"{tolerance.mm:g}mm"]
    own = data.manifest_sha256 == document["data"]["manifest_sha256"]
    parts += [] if own else [data.manifest_sha256[:8]]
    return run / runs.EVALUATIONS / "-".join(parts)


def cut_of(predictor: Predictor, asked: Asked) -> Cut:
    """How probabilities become masks: as the adapter says, or as published. Raises UsageError."""
    if asked.protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {asked.protocol!r}: known are {', '.join(PROTOCOLS)}")
    cut = usual_cut(predictor)
    if asked.protocol == "paper":
        if asked.presence:
            raise UsageError("--presence and --protocol paper do not go together: it has no such thing")
        return replace(cut, presence=0.0, smooth=False)
    return cut if asked.presence is None else replace(cut, presence=asked.presence)


def predict_split(
    predictor: Predictor,
    manifest: Manifest,
    split: str,
    choice: str,
    seed: int,
    folder: Path,
    cut: Cut,
    *,
    batch_size: int = 16,
    tick: Tick = lambda records, title: records,
) -> list[CasePair]:
    """Predicts the records of a split into `folder`; the pairs to score.

    choice: random, one of p0..pN, or all: every key, each into a folder of its own. Pictures without a
    prompt of that key are left out of it. Prompts are those of epoch 0, so that scoring twice gives the
    same scores. Raises UsageError when the data set has no such key.
    """
    keys = _keys(manifest, choice)

    def ask(record: Record) -> list[Question]:
        return [
            Question(key if choice == "all" else "", choose_prompt(record, key, seed, 0))
            for key in keys
            if askable(record, key)
        ]

    records = [record for record in manifest.split(split) if ask(record)]
    found = list(
        predict_records(
            predictor, manifest, tick(records, f"{split}, prompts {choice}"), ask, folder, cut,
            batch_size=batch_size,
        )
    )  # fmt: skip
    order = {key: number for number, key in enumerate(keys)}
    found.sort(key=lambda one: order.get(one.question.key, 0))  # stable: by prompt, then as in the manifest
    return [pair_of(one, manifest) for one in found]


def _keys(manifest: Manifest, choice: str) -> list[str]:
    """Those that are asked. Raises UsageError: the data set has no such one."""
    there = prompt_keys(manifest)
    if choice not in ("random", "all", *there):
        known = ", ".join(("random", "all", *there))
        raise UsageError(f"no prompt {choice!r} in {manifest.folder}; there is: {known}")
    return there if choice == "all" else [choice]


def not_asked(manifest: Manifest, asked: Asked) -> dict[str, int]:
    """Of each prompt key that some pictures of the split do not have, how many, which are in no mean.
    Raises UsageError: no such split, or no such key."""
    records = manifest.split(asked.split)
    left_out = {
        key: sum(not askable(record, key) for record in records)
        for key in _keys(manifest, str(asked.prompts))
    }
    return {key: count for key, count in left_out.items() if count}


def pair_of(found: RecordMask, manifest: Manifest) -> CasePair:
    """The mask of a record beside the true one."""
    record = found.record
    return CasePair(
        id=record.id,
        prediction=found.path,
        target=manifest.folder / record.mask,
        group=record.group,
        prompt=found.question.prompt,
        prompt_key=found.question.key or None,
        error=found.error,
        image=manifest.folder / record.image,
        data_set=data_set_of(record, manifest),
        columns=columns_of(record),
    )


def _asked_for(data: DataFacts, asked: Asked) -> dict[str, Any]:
    """What scores hang on besides the adapter."""
    return {
        "data": data.name,
        "manifest_sha256": data.manifest_sha256,
        "split": asked.split,
        "prompts": asked.prompts,
        "protocol": asked.protocol,
        "presence_asked": asked.presence,
        "vlsmctl": version("vlsmctl"),
    }


def _about(predictor: Predictor, manifest: Manifest, asked: Asked, cut: Cut, seed: int) -> dict[str, Any]:
    """What was scored, so that it can be said and done again."""
    return {
        **_asked_for(facts_of(manifest), asked),
        "data_folder": str(manifest.folder.resolve()),
        "prompts_from_masks": _from_masks(manifest) and asked.prompts not in ("p0", "p1"),
        "model": predictor.name,
        "base_sha256": predictor.base_sha256,
        "adapter_sha256": predictor.adapter_sha256,
        "image_size": predictor.preprocessing.image_size,
        "threshold": cut.threshold,
        "presence": cut.presence,
        "seed": seed,
        "device": str(predictor.device),
    }


def _about_run(run: Path, document: Mapping[str, Any], manifest: Manifest, asked: Asked) -> dict[str, Any]:
    preset = Preset.model_validate(document["preset"])
    return {
        "run": run.resolve().name,
        "method": preset.method,
        "trained_on": preset.data,
        "trained_manifest_sha256": document["data"]["manifest_sha256"],
        "trained_pictures": trained_pictures(document, manifest, asked.split),
        "paper": paper_of(preset, manifest, asked),
    }


def trained_pictures(document: Mapping[str, Any], manifest: Manifest, split: str) -> int | None:
    """How many of the split's pictures, by their pixels, the run trained or was chosen on; None where the
    data set that it was trained on is not there any more."""
    try:
        trained = read_manifest(Path(document["data"]["folder"]))
    except (UsageError, OSError):
        return None
    if trained.hash != document["data"]["manifest_sha256"]:
        return None
    seen = {record.sha256 for record in trained.records if record.split in ("train", "val")}
    return sum(record.sha256 in seen for record in manifest.split(split))


def paper_of(preset: Preset, manifest: Manifest, asked: Asked) -> dict[str, Any] | None:
    """The published scores to lay beside those of this run, on this data set; None where there are none.
    comparable: whether they were made by the same protocol and prompts."""
    row, name = preset.paper_row, manifest.folder.resolve().name
    if row is None or (name, asked.split) != (preset.data, "test") or asked.prompts == "all":
        return None
    remarks = preset.paper.remarks_on(row)
    if preset.model != "clipseg":
        remarks.append(f"the published model is CLIPSeg, this one is {preset.model}")
    if manifest.info.get("protocol") != "medvlsm":
        remarks.append(f"{name} was not prepared with the published split (--protocol medvlsm)")
    comparable = (asked.protocol, asked.prompts) == ("paper", "random")
    if not comparable:
        remarks.insert(0, "the published protocol is --protocol paper --prompts random")
    figures = preset.paper.scores[row].model_dump()
    source = preset.paper.source
    return {"row": row, **figures, "comparable": comparable, "source": source, "remarks": remarks}


def _from_masks(manifest: Manifest) -> bool:
    """Whether prompts hold words that were taken from the true masks."""
    made_of = str(manifest.info.get("templates"))
    published = bool(manifest.info.get("annotations") or manifest.info.get("members"))
    return published or any(f"{{{word}}}" in made_of for word in WORDS)
