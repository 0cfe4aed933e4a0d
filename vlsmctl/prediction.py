"""Scans in, masks in native geometry out, one line of a ledger for each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlsmctl import runs
from vlsmctl.ahead import ahead
from vlsmctl.checkpoint import load_adapted
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.scan import Found, Problem, Scan, open_scan, output_names
from vlsmctl.ledger import LEDGER, Entry, append, open_ledger, read_ledger
from vlsmctl.models.build import MODELS, build
from vlsmctl.models.clipseg import ClipSeg
from vlsmctl.models.tokens import tokenize
from vlsmctl.preprocessing import Preprocessing, normalise
from vlsmctl.runtime import StopFlag

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Predictor:
    """A model ready to segment.

    fingerprint: tells what the masks depend on (base model, adapter, input size) apart.
    class_prompt: what to ask for when nothing is asked, if known.
    """

    model: ClipSeg
    preprocessing: Preprocessing
    threshold: float
    device: torch.device
    fingerprint: str
    class_prompt: str | None
    name: str


@dataclass(frozen=True)
class Segmented:
    """A mask at native size (bool [H, W]); probability: mean over the marked pixels, or, where nothing
    is marked, the largest anywhere (0..1)."""

    mask: Mask
    probability: float


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
        name=f"{facts.base} with {facts.method} ({path})",
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
    )


@torch.no_grad()
def encode(predictor: Predictor, prompts: Sequence[str]) -> Tensor:
    """The prompts' conditional embeddings [P, width], to be computed once."""
    return predictor.model.encode_prompts(tokenize(prompts).to(predictor.device))


@torch.no_grad()
def segment(
    predictor: Predictor, pictures: Sequence[Picture], conditions: Sequence[Tensor], threshold: float
) -> list[list[Segmented]]:
    """For each of `conditions` ([B, width], row i for picture i) one result a picture.

    pictures: uint8 RGB [H, W, 3], sizes may differ. The image encoder runs once a picture, however many
    prompts there are. The logits, not the masks, are resized to native size.
    """
    model, preprocessing = predictor.model, predictor.preprocessing
    small = np.stack([preprocessing.resize_image(picture) for picture in pictures])
    image = torch.from_numpy(small).permute(0, 3, 1, 2).to(predictor.device)
    activations = model.encode_images(normalise(image))
    results: list[list[Segmented]] = []
    for condition in conditions:
        logits = model.decode(activations, condition).float()
        native = (
            preprocessing.native_logits(logits[index : index + 1], *picture.shape[:2])[0, 0]
            for index, picture in enumerate(pictures)
        )
        results.append([_thresholded(one, threshold) for one in native])
    return results


def predict(
    predictor: Predictor,
    found: Sequence[Found],
    prompts: Sequence[str],
    out: Path,
    *,
    threshold: float,
    batch_size: int,
    overwrite: bool,
    stop: StopFlag,
    problems: Sequence[Problem] = (),
    told: Callable[[Entry], None] = lambda entry: None,
) -> tuple[list[Entry], int]:
    """Writes one mask for each scan and prompt below `out`, and the ledger.

    A scan that cannot be read is entered as failed, with the reason; the rest goes on. `problems` (what
    was found not to be a scan) are entered as skipped. What the ledger has as done with the same input,
    model and options, and whose mask is still there, is not done again unless `overwrite`. Frames of
    different scans share batches; reading runs ahead of the model. When a stop is asked for, the scans in
    hand are finished first.
    Returns the new entries and how many masks were there before.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = {} if overwrite else read_ledger(out / LEDGER)
    cases: list[_Case] = []
    before = 0
    for one, targets in zip(found, output_names(found, list(prompts)), strict=True):
        case = _Case(one, targets, _fingerprint(predictor, one, threshold), [[] for _ in prompts])
        if all(_is_done(known, case, k, prompt, out) for k, prompt in enumerate(prompts)):
            before += len(prompts)
        else:
            cases.append(case)
    entries: list[Entry] = []
    skipped = [entry for entry in map(_skipped, problems) if known.get((entry.input, "")) != entry]
    if not cases and not skipped:
        return entries, before
    condition = encode(predictor, prompts)
    with open_ledger(out / LEDGER) as ledger:
        for entry in skipped:
            append(ledger, entry)
        for case in _run(predictor, cases, condition, threshold, batch_size, stop):
            for entry in _finish(case, prompts, out):
                append(ledger, entry)
                entries.append(entry)
                told(entry)
    return entries, before


@dataclass
class _Case:
    """A scan on its way: `results` holds a list a prompt, which grows by one entry a frame."""

    found: Found
    targets: tuple[Path, ...]
    fingerprint: str
    results: list[list[Segmented]]
    scan: Scan | None = None
    error: str | None = None
    started: float = 0.0


@dataclass(frozen=True)
class _Frame:
    """A frame to segment, or, without a picture, the end of a case."""

    case: _Case
    picture: Picture | None


def _run(
    predictor: Predictor, cases: Sequence[_Case], condition: Tensor, threshold: float, batch_size: int,
    stop: StopFlag,
) -> Iterator[_Case]:  # fmt: skip
    """Yields the cases as they are finished."""
    waiting: list[_Frame] = []

    def flush() -> Iterator[_Case]:
        frames = [frame for frame in waiting if frame.picture is not None and frame.case.error is None]
        try:
            _segment_frames(predictor, frames, condition, threshold)
        except Exception:  # out of memory, say: then one by one, so that it costs one case at most
            for frame in frames:
                try:
                    _segment_frames(predictor, [frame], condition, threshold)
                except Exception as error:
                    frame.case.error = f"could not be segmented ({type(error).__name__})"
        ended = [frame.case for frame in waiting if frame.picture is None]
        waiting.clear()
        yield from ended

    pictures = 0
    for frame in ahead(_frames(cases, stop), depth=2 * batch_size):
        waiting.append(frame)
        pictures += frame.picture is not None
        if pictures >= batch_size or pictures == 0:  # a case that ends with none before it need not wait
            yield from flush()
            pictures = 0
    yield from flush()


def _segment_frames(
    predictor: Predictor, frames: Sequence[_Frame], condition: Tensor, threshold: float
) -> None:
    """Adds the results of the frames to their cases."""
    if not frames:
        return
    pictures = [frame.picture for frame in frames if frame.picture is not None]
    rows = [row.expand(len(pictures), -1) for row in condition]
    results = segment(predictor, pictures, rows, threshold)
    for number, frame in enumerate(frames):
        for own, found in zip(frame.case.results, results, strict=True):
            own.append(found[number])


def _frames(cases: Iterable[_Case], stop: StopFlag) -> Iterator[_Frame]:
    for case in cases:
        if stop.asked:
            return
        case.started = time.perf_counter()
        try:
            case.scan = open_scan(case.found)
            for number in range(case.scan.frame_count):
                yield _Frame(case, case.scan.read_frame(number))
        except UnreadableFile as error:
            case.error = str(error).removeprefix(f"{case.found.source}: ")
        except Exception as error:  # whatever a decoder does to one file must not cost the batch
            case.error = f"could not be read ({type(error).__name__})"
        yield _Frame(case, None)


def _finish(case: _Case, prompts: Sequence[str], out: Path) -> list[Entry]:
    """Writes the masks of a case whose frames are all there; its ledger entries."""
    return [
        _written(case, prompt, target, results, out)
        for prompt, target, results in zip(prompts, case.targets, case.results, strict=True)
    ]


def _skipped(problem: Problem) -> Entry:
    return Entry(problem.path.as_posix(), None, "", "skipped", problem.reason)


def _written(case: _Case, prompt: str, target: Path, results: list[Segmented], out: Path) -> Entry:
    entry = Entry(
        input=_input_name(case.found),
        output=None,
        prompt=prompt,
        status="failed",
        reason=case.error,
        seconds=round(time.perf_counter() - case.started, 3),
        fingerprint=case.fingerprint,
    )
    if case.error is not None or case.scan is None:
        return entry
    try:
        case.scan.write_mask([result.mask for result in results], out / target)
    except OSError as error:
        return replace(entry, reason=f"the mask cannot be written: {error.strerror or error}")
    except Exception as error:  # the writers' own; it must not cost the batch either
        return replace(entry, reason=f"the mask cannot be written ({type(error).__name__})")
    marked = sum(int(result.mask.sum()) for result in results)
    geometry = case.scan.geometry
    return replace(
        entry,
        output=target.as_posix(),
        status="done" if marked else "empty",
        reason=None if marked else "nothing found",
        frames=len(results),
        foreground=marked,
        volume_ml=round(marked * geometry.voxel_ml, 4) if geometry and geometry.voxel_ml else None,
        confidence=round(_confidence(results, marked), 4),
    )


def _confidence(results: Sequence[Segmented], marked: int) -> float:
    if not marked:
        return max(result.probability for result in results)
    return sum(result.probability * float(result.mask.sum()) for result in results) / marked


def _thresholded(logits: Tensor, threshold: float) -> Segmented:
    """logits: float [H, W]."""
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("the model's output is not finite")
    probability = logits.sigmoid()
    mask = probability > threshold
    value = probability[mask].mean() if bool(mask.any()) else probability.max()
    return Segmented(mask.cpu().numpy(), float(value))


def _is_done(known: dict[tuple[str, str], Entry], case: _Case, number: int, prompt: str, out: Path) -> bool:
    entry = known.get((_input_name(case.found), prompt))
    if entry is None or entry.output is None or entry.fingerprint != case.fingerprint:
        return False
    target = case.targets[number]
    return entry.output == target.as_posix() and (out / target).is_file()


def _fingerprint(predictor: Predictor, found: Found, threshold: float) -> str:
    """Tells apart what a mask depends on: the files (size and time of change), the model, the options."""
    parts = [predictor.fingerprint, repr(threshold)]
    for file in found.files:
        with suppress(OSError):  # a file that is gone will fail when it is opened, with a reason
            stat = file.stat()
            parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _input_name(found: Found) -> str:
    name = found.source.as_posix()
    return name if found.series_number == 1 else f"{name}#{found.series_number}"
