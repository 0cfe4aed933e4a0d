"""A model ready to segment: built from a run, an adapter file or a base model; pictures in, masks out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlsmctl import runs
from vlsmctl.checkpoint import load_adapted
from vlsmctl.models.build import MODELS, build
from vlsmctl.models.clipseg import ClipSeg
from vlsmctl.models.tokens import tokenize
from vlsmctl.preprocessing import Preprocessing, normalise
from vlsmctl.presence import Presence, presence_score, probability

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]

PROMPTS_AT_ONCE = 256
PIXELS_AT_ONCE = 2**24  # of native size, in one step: 64 MiB of logits


@dataclass(frozen=True)
class Predictor:
    """A model ready to segment.

    fingerprint: tells what the masks depend on (base model, adapter, input size) apart. name: in words.
    adapter: its file, where there is one, and its sha256. classes: the words it learned. class_prompt:
    what to ask for when nothing is asked, if known. presence: tells from the logits whether the target is
    in a picture at all, where the adapter's validation set could teach that.
    """

    model: ClipSeg
    preprocessing: Preprocessing
    threshold: float
    device: torch.device
    fingerprint: str
    class_prompt: str | None
    name: str
    base_sha256: str
    adapter: Path | None = None
    adapter_sha256: str | None = None
    classes: tuple[str, ...] = ()
    presence: Presence | None = None


def predictor_from_adapter(
    path: Path, *, device: torch.device, weights: Path | None = None, force: bool = False
) -> Predictor:
    """The model of an adapter file. Raises UsageError, MissingWeights."""
    adapted = load_adapted(path, weights=weights, force=force)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = adapted.facts
    return Predictor(
        model=adapted.base.model.to(device).eval(),
        preprocessing=Preprocessing(facts.image_size),
        threshold=facts.threshold,
        device=device,
        fingerprint=f"{adapted.base.sha256[:16]}-{digest[:16]}-{facts.image_size}",
        class_prompt=facts.class_prompt,
        name=f"{facts.base} with {facts.method}",
        base_sha256=adapted.base.sha256,
        adapter=path,
        adapter_sha256=digest,
        classes=tuple(facts.classes),
        presence=facts.presence,
    )


def predictor_from_run(
    run: Path, *, device: torch.device, weights: Path | None = None, force: bool = False
) -> Predictor:
    """The best adapter of a run, on `weights`, or by default on those that the run was trained with."""
    trained_with = runs.read_run(run)["preset"].get("weights")
    if weights is None and trained_with is not None and Path(trained_with).is_dir():
        weights = Path(trained_with)
    return predictor_from_adapter(run / runs.ADAPTER, device=device, weights=weights, force=force)


def predictor_from_model(name: str, *, device: torch.device, weights: Path | None = None) -> Predictor:
    """A base model alone: zero-shot."""
    base = build(name, weights)
    return Predictor(
        model=base.model.to(device).eval(),
        preprocessing=Preprocessing(MODELS[name].image_size),
        threshold=0.5,
        device=device,
        fingerprint=f"{base.sha256[:16]}-zero-shot-{MODELS[name].image_size}",
        class_prompt=None,
        name=f"{name}, zero-shot",
        base_sha256=base.sha256,
    )


@dataclass(frozen=True)
class Ready:
    """A picture resized for the model, uint8 [S, S, 3], and its native (height, width)."""

    small: Picture
    shape: tuple[int, int]


@dataclass(frozen=True)
class Segmented:
    """What one picture holds of one prompt.

    mask: bool [H, W] at native size. confidence: mean probability of the marked pixels, or, where nothing
    is marked, the largest anywhere (0..1). presence: probability that the target is there at all; None
    where that is not calibrated. probabilities: float32 [H, W], where asked for.
    """

    mask: Mask
    confidence: float
    presence: float | None = None
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Cut:
    """How probabilities become a mask.

    threshold: of a pixel. presence: of a picture; below it nothing is marked. smooth: see
    `Preprocessing.native_logits`. keep_probabilities: whether they are handed out.
    """

    threshold: float = 0.5
    presence: float = 0.0
    smooth: bool = True
    keep_probabilities: bool = False


def usual_cut(predictor: Predictor) -> Cut:
    """As the adapter says."""
    return Cut(predictor.threshold, predictor.presence.threshold if predictor.presence else 0.0)


def moved(predictor: Predictor, device: torch.device) -> Predictor:
    """The same on another device."""
    return replace(predictor, model=predictor.model.to(device), device=device)


def ready(predictor: Predictor, picture: Picture) -> Ready:
    return Ready(predictor.preprocessing.resize_image(picture), (picture.shape[0], picture.shape[1]))


@torch.no_grad()
def encode(predictor: Predictor, prompts: Sequence[str]) -> Tensor:
    """The prompts' conditional embeddings [P, width], to be computed once."""
    parts = [prompts[start : start + PROMPTS_AT_ONCE] for start in range(0, len(prompts), PROMPTS_AT_ONCE)]
    rows = [predictor.model.encode_prompts(tokenize(part).to(predictor.device)) for part in parts]
    return torch.cat(rows)


@torch.no_grad()
def segment(
    predictor: Predictor,
    pictures: Sequence[Ready],
    asked: Sequence[Sequence[int]],
    conditions: Tensor,
    cut: Cut,
    *,
    batch_size: int = 1,
    learned: Sequence[bool] | None = None,
) -> list[list[Segmented]]:
    """For each picture one result a prompt that it is asked for.

    asked: for each picture, rows of `conditions` [P, width]. The image encoder runs once a picture,
    however many prompts there are. batch_size: fewer pictures are filled up to it, because libraries
    sum in another order for other sizes: in batches of one size, a picture's mask has the same bits
    whatever shares the batch. learned: for each row of `conditions`, whether the presence score, which is
    calibrated on the adapter's own classes, says anything of it; None: of all.

    Raises FloatingPointError where the model's output is not finite.
    """
    size = max(batch_size, len(pictures))
    small = np.stack([pictures[min(number, len(pictures) - 1)].small for number in range(size)])
    image = torch.from_numpy(small).permute(0, 3, 1, 2).to(predictor.device)
    activations = predictor.model.encode_images(normalise(image))
    pairs = [(number, row) for number, rows in enumerate(asked) for row in rows]
    found: list[list[Segmented]] = [[] for _ in pictures]
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        filled = part + part[-1:] * (size - len(part))
        numbers = [number for number, _ in filled]
        rows = torch.tensor([row for _, row in filled], device=predictor.device)
        all_in_turn = numbers == list(range(size))
        chosen = activations if all_in_turn else [each[numbers] for each in activations]
        logits = predictor.model.decode(chosen, conditions[rows])[: len(part)].float()
        shapes = [pictures[number].shape for number, _ in part]
        scored = [learned is None or learned[row] for _, row in part]
        for (number, _), result in zip(
            part, _at_native_size(predictor, logits, shapes, scored, cut), strict=True
        ):
            found[number].append(result)
    return found


def _at_native_size(
    predictor: Predictor,
    logits: Tensor,
    shapes: Sequence[tuple[int, int]],
    scored: Sequence[bool],
    cut: Cut,
) -> list[Segmented]:
    """logits: float [N, 1, S, S]. Pictures of one size are resized together, but on a CPU, where that gains
    nothing, one by one, so that the bits of one do not depend on another."""
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("the model's output is not finite")
    presence = _presence(predictor, logits, scored)
    results: dict[int, Segmented] = {}
    at_once = 1 if logits.device.type == "cpu" else PIXELS_AT_ONCE
    for numbers, (height, width) in _of_one_size(shapes, at_once):
        native = predictor.preprocessing.native_logits(logits[numbers], height, width, smooth=cut.smooth)
        probabilities = native[:, 0].sigmoid_()
        marked = probabilities > cut.threshold
        for place, number in enumerate(numbers):
            score = presence[number]
            if score is not None and score < cut.presence:
                marked[place] = False
        confidence = [_confidence(*each) for each in zip(probabilities, marked, strict=True)]
        masks = marked.cpu().numpy()
        kept = probabilities.cpu().numpy() if cut.keep_probabilities else None
        for place, number in enumerate(numbers):
            results[number] = Segmented(
                masks[place],
                confidence[place],
                presence[number],
                None if kept is None else kept[place],
            )
    return [results[number] for number in range(len(shapes))]


def _confidence(probabilities: Tensor, marked: Tensor) -> float:
    """Without a third array of the picture's size, which may be large."""
    inside = probabilities[marked]
    return float(inside.mean() if len(inside) else probabilities.amax())


def _presence(predictor: Predictor, logits: Tensor, scored: Sequence[bool]) -> list[float | None]:
    if predictor.presence is None:
        return [None for _ in scored]
    values = probability(predictor.presence, presence_score(logits)).tolist()
    return [value if wanted else None for value, wanted in zip(values, scored, strict=True)]


def has_learned(predictor: Predictor, prompt: str) -> bool:
    """Whether a prompt names what the adapter learned; True where that is not known."""
    words = [word.casefold() for word in predictor.classes]
    return not words or any(word in prompt.casefold() for word in words)


def _of_one_size(
    shapes: Sequence[tuple[int, int]], pixels: int
) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Numbers of pictures that share a size, no more than make so many pixels at a time, at least one."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        groups[shape].append(number)
    for (height, width), numbers in groups.items():
        at_once = max(1, pixels // (height * width))
        for start in range(0, len(numbers), at_once):
            yield numbers[start : start + at_once], (height, width)
