"""What the frames of a case came to, and the files that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlsmctl.cases import OVERLAY, PROBABILITY, Case, Options
from vlsmctl.errors import UnreadableFile
from vlsmctl.files import remove
from vlsmctl.formats.dicom_geometry import is_sheared
from vlsmctl.formats.naming import FRAMES_SUFFIX, SEG_SUFFIX, SLICES_SUFFIX, VOLUME_SUFFIX
from vlsmctl.formats.raster import write_pictures
from vlsmctl.formats.records import Frames, Origin, Scan, Segment, check_frames
from vlsmctl.formats.spool import Spool
from vlsmctl.ledger import Entry
from vlsmctl.overlays import write_overlay
from vlsmctl.predictor import Segmented

Target = Callable[[Path], Path]  # a path below the output folder -> the file to write


@dataclass
class Tally:
    """What is counted of one prompt over the frames of a case."""

    marked: int = 0
    weighted: float = 0.0
    largest: float = 0.0
    presence: float | None = None

    def add(self, result: Segmented, marked: int) -> None:
        self.marked += marked
        self.weighted += result.confidence * marked
        self.largest = max(self.largest, 0.0 if marked else result.confidence)
        if result.presence is not None:
            self.presence = max(self.presence or 0.0, result.presence)

    @property
    def confidence(self) -> float:
        return self.weighted / self.marked if self.marked else self.largest


@dataclass
class Results:
    """The frames of a case as they come, one call of `add` a frame, in frame order.

    masks: one spool a prompt, or a single one with label numbers (`combine`). probabilities: one a prompt,
    where they are asked for.
    """

    masks: list[Spool]
    probabilities: list[Spool]
    tallies: list[Tally]
    labels: tuple[int, ...] | None
    frames: int = field(default=0)

    def add(self, results: Sequence[Segmented]) -> None:
        self.frames += 1
        marked = [int(np.count_nonzero(result.mask)) for result in results]
        if self.labels is not None:
            labelled = _combined(results, self.labels)
            self.masks[0].append(labelled)
            marked = [int(np.count_nonzero(labelled == label)) for label in self.labels]
        else:
            for spool, result in zip(self.masks, results, strict=True):
                spool.append(result.mask)
        for tally, result, count in zip(self.tallies, results, marked, strict=True):
            tally.add(result, count)
        for spool, result in zip(self.probabilities, results, strict=bool(self.probabilities)):
            if result.probabilities is not None:
                spool.append(_stored(result.probabilities, spool.dtype))

    def close(self) -> None:
        for spool in (*self.masks, *self.probabilities):
            spool.close()


def results_for(case: Case, scan: Scan, options: Options) -> Results:
    """Room for what the frames of an opened scan will come to."""
    shape, prompts = scan.frame_shape, case.prompts
    combined = options.combine and case.suffix != SEG_SUFFIX
    masks = [Spool(shape, np.uint8)] if combined else [Spool(shape, np.bool_) for _ in prompts]
    kinds: dict[str, tuple[Any, float]] = {"float": (np.float32, 1.0), "8bit": (np.uint8, 1 / 255)}
    dtype, scale = kinds[options.probabilities or "float"]
    wanted = prompts if options.probabilities else ()
    return Results(
        masks=masks,
        probabilities=[Spool(shape, dtype, scale) for _ in wanted],
        tallies=[Tally() for _ in prompts],
        labels=tuple(row + 1 for row in case.rows) if combined else None,
    )


def why_not_writable(case: Case, scan: Scan, options: Options) -> str | None:
    """Why the masks of an opened scan cannot be written in the format asked for; said before any work."""
    if case.suffix != VOLUME_SUFFIX or scan.write_volume is not None:
        return None
    if scan.write_slices is not None:
        if options.allow_uneven:
            return None
        return (
            f"makes no volume: {scan.no_volume}; --format dicom-seg, or --allow-uneven for a file a slice"
        )
    return f"makes no volume: {scan.no_volume}; --format dicom-seg or png"


def write_case(
    case: Case, scan: Scan, results: Results, out: Path, *, origin: Origin, options: Options
) -> list[Entry]:
    """Writes all files of a case below `out`; its entries, one a prompt, in which `seconds` is not set.

    origin: of which the fingerprint is the case's own.

    Raises OSError and whatever the writers raise; then none of the files that it wrote is left (what lay
    there before and was not reached is).
    """
    suffix, before = _true_suffix(case.suffix, scan), dict[Path, object]()

    def target(path: Path) -> Path:
        before[out / path] = _identity(out / path)
        return out / path

    try:
        masks = _write_masks(case, scan, results, target, origin, options, suffix)
        probabilities = _write_probabilities(case, scan, results, target, origin, options, suffix)
        overlay = case.path(OVERLAY) if options.overlay else None
        if overlay is not None:
            shown = zip(case.prompts, _masks_apart(results), strict=True)
            write_overlay(scan, list(shown), target(overlay))
    except BaseException:
        for path, identity in before.items():
            if _identity(path) != identity:
                remove(path)
        raise
    return [
        _entry(
            case,
            scan,
            results,
            number,
            output=masks[number],
            probabilities=probabilities[number] if probabilities else None,
            overlay=overlay,
            label=_label(results, suffix, number),
            presence=options.cut.presence,
        )
        for number in range(len(case.prompts))
    ]


def _identity(path: Path) -> object:
    """Changes when another file takes the name."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def failed(case: Case, reason: str) -> list[Entry]:
    """The entries of a case that came to nothing."""
    return [
        Entry(case.input, None, prompt, "failed", reason, fingerprint=fingerprint, scan=case.files)
        for prompt, fingerprint in zip(case.prompts, case.fingerprints, strict=True)
    ]


def _entry(
    case: Case, scan: Scan, results: Results, number: int, *, output: Path, probabilities: Path | None,
    overlay: Path | None, label: int | None, presence: float,
) -> Entry:  # fmt: skip
    tally = results.tallies[number]
    voxel = scan.geometry.voxel_ml if scan.geometry and scan.volumes == 1 else None
    return Entry(
        input=case.input,
        output=output.as_posix(),
        prompt=case.prompts[number],
        status="done" if tally.marked else "empty",
        reason=None if tally.marked else _why_empty(tally, presence),
        label=label,
        frames=results.frames,
        foreground=tally.marked,
        volume_ml=None if voxel is None else round(tally.marked * voxel, 4),
        confidence=round(tally.confidence, 4),
        presence=None if tally.presence is None else round(tally.presence, 4),
        probabilities=None if probabilities is None else probabilities.as_posix(),
        overlay=None if overlay is None else overlay.as_posix(),
        note=_note(scan, output),
        fingerprint=case.fingerprints[number],
        scan=case.files,
    )


def _why_empty(tally: Tally, presence: float) -> str:
    if tally.presence is not None and tally.presence < presence:
        return f"nothing found: its presence score is {tally.presence:.3f}, below {presence:.3f}"
    return "nothing found"


def _note(scan: Scan, output: Path) -> str | None:
    """DICOM SEG says for each frame which slice it lies on, and so is right wherever the slices lie; but
    some viewers (3D Slicer's reader among them) lay its frames on an even grid at right angles."""
    if scan.volumes > 1:
        return f"holds {scan.volumes} volumes: marked voxels are counted over all of them"
    placed = scan.kind == "dicom" and scan.write_slices is not None and scan.frame_count > 1
    if not placed or not output.name.endswith((SEG_SUFFIX, VOLUME_SUFFIX)):
        return None
    if scan.geometry is None:
        return (
            f"makes no even volume ({scan.no_volume}): viewers that lay masks on one will show it shifted"
        )
    if is_sheared(scan.geometry.affine):
        return (
            "has slices that are sheared (gantry tilt): viewers that cannot show that will show it shifted"
        )
    return None


def _label(results: Results, suffix: str, number: int) -> int | None:
    if results.labels is not None:
        return results.labels[number]
    return number + 1 if suffix == SEG_SUFFIX else None


def _true_suffix(suffix: str, scan: Scan) -> str:
    return SLICES_SUFFIX if suffix == VOLUME_SUFFIX and scan.write_volume is None else suffix


def _write_masks(
    case: Case, scan: Scan, results: Results, target: Target, origin: Origin, options: Options, suffix: str
) -> list[Path]:
    """Their paths, one a prompt: the same one where prompts share a file."""
    shared = case.path(suffix)
    if suffix == SEG_SUFFIX:
        _write_segments(case, scan, results.masks, target(shared), origin, options)
    elif results.labels is not None:
        _write_frames(scan, results.masks[0], target(shared), suffix)
    else:
        paths = [case.path(suffix, number) for number in range(len(case.prompts))]
        for path, frames in zip(paths, results.masks, strict=True):
            _write_frames(scan, frames, target(path), suffix)
        return paths
    return [shared for _ in case.prompts]


def _write_frames(scan: Scan, frames: Frames, path: Path, suffix: str) -> None:
    check_frames(frames, scan.frame_count, scan.frame_shape)
    if suffix == VOLUME_SUFFIX and scan.write_volume is not None:
        scan.write_volume(frames, path)
    elif suffix == SLICES_SUFFIX and scan.write_slices is not None:
        scan.write_slices(frames, path)
    else:
        write_pictures(frames, path, single=suffix != FRAMES_SUFFIX)


def _write_segments(
    case: Case, scan: Scan, frames: Sequence[Frames], path: Path, origin: Origin, options: Options
) -> None:
    if scan.write_segments is None:
        raise UnreadableFile(f"{case.input}: no DICOM SEG can be written for it")
    segments = [
        Segment(prompt, own, *options.codes.codes(prompt))
        for prompt, own in zip(case.prompts, frames, strict=True)
    ]
    scan.write_segments(segments, replace(origin, fingerprint=case.fingerprints[0]), path)


def _write_probabilities(
    case: Case, scan: Scan, results: Results, target: Target, origin: Origin, options: Options, suffix: str
) -> list[Path]:
    """Their paths, one a prompt: in the format of the masks, where that holds such numbers."""
    if not results.probabilities:
        return []
    if suffix == SEG_SUFFIX and options.probabilities == "8bit":
        path = case.path(PROBABILITY + SEG_SUFFIX)
        _write_segments(case, scan, results.probabilities, target(path), origin, options)
        return [path for _ in case.prompts]
    kind = suffix
    if suffix == SEG_SUFFIX:
        kind = VOLUME_SUFFIX if scan.write_volume is not None else FRAMES_SUFFIX
    ending = ".tif" if kind == ".png" and options.probabilities == "float" else kind
    paths = [case.path(PROBABILITY + ending, number) for number in range(len(case.prompts))]
    for path, frames in zip(paths, results.probabilities, strict=True):
        _write_frames(scan, frames, target(path), kind)
    return paths


def _combined(results: Sequence[Segmented], labels: Sequence[int]) -> NDArray[np.uint8]:
    """One label a pixel; where masks overlap, that with the larger probability."""
    combined = np.zeros(results[0].mask.shape, np.uint8)
    best = np.zeros(combined.shape, np.float32)
    for result, label in zip(results, labels, strict=True):
        values = result.mask.astype(np.float32) if result.probabilities is None else result.probabilities
        wins = result.mask & (values > best)
        combined[wins], best[wins] = label, values[wins]
    return combined


def _stored(probabilities: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    return probabilities if dtype == np.float32 else np.rint(probabilities * 255).astype(np.uint8)


@dataclass(frozen=True)
class _OneLabel:
    """The mask of one label of a label map (see `records.Frames`)."""

    frames: Frames
    label: int
    scale: float = 1.0
    dtype: np.dtype[Any] = np.dtype(np.bool_)  # noqa: RUF009 (immutable)

    @property
    def shape(self) -> tuple[int, int]:
        return self.frames.shape

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int, /) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = self.frames[number] == self.label
        return mask


def _masks_apart(results: Results) -> list[Frames]:
    if results.labels is None:
        return [*results.masks]
    return [_OneLabel(results.masks[0], label) for label in results.labels]


def timed(entries: Sequence[Entry], seconds: float) -> list[Entry]:
    return [replace(entry, seconds=round(seconds, 3)) for entry in entries]
