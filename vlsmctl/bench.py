"""How fast and in how much memory: `predict` against the model's bare forward pass, in one run."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image

from vlsmctl.cases import Options, plan_cases
from vlsmctl.errors import VlsmctlError
from vlsmctl.formats.scan import find_scans
from vlsmctl.prediction import predict
from vlsmctl.predictor import Predictor, encode, usual_cut
from vlsmctl.preprocessing import normalise
from vlsmctl.runtime import StopFlag, machine_facts

FORWARD, VOLUME, PICTURES = "forward", "volume", "pictures"
PARTS = {
    FORWARD: "the model alone (images encoded, mask decoded)",
    VOLUME: "predict on a volume (.nii.gz, int16)",
    PICTURES: "predict on a folder of PNG pictures",
}
PROMPT = "polyp"
_SAMPLE_EVERY = 0.01  # seconds between looks at the process's memory
_SPACING = (0.7, 0.7, 2.5)  # mm


@dataclass(frozen=True)
class Measured:
    """One part. seconds: of each repetition. peak_bytes: the largest resident memory of the whole process
    meanwhile; gpu_peak_bytes: what torch held on a CUDA GPU at most, else None."""

    frames: int
    seconds: tuple[float, ...]
    peak_bytes: int
    gpu_peak_bytes: int | None

    @property
    def per_second(self) -> float:
        """Frames, by the median repetition."""
        return self.frames / median(self.seconds)


@dataclass(frozen=True)
class Bench:
    """parts: by the names of `PARTS`. before_bytes: resident memory after warming up."""

    frames: int
    size: int
    options: Options
    predictor: Predictor
    parts: Mapping[str, Measured]
    before_bytes: int

    def ratio(self, part: str) -> float:
        """Its frames a second by those of the model alone."""
        return self.parts[part].per_second / self.parts[FORWARD].per_second


def run_bench(
    predictor: Predictor,
    *,
    frames: int,
    size: int,
    repeats: int,
    batch_size: int,
    workers: int,
    told: Callable[[], None] = lambda: None,
) -> Bench:
    """Measures every part `repeats` times, in turn, so that what else the machine does meets all alike; a
    first round of few frames, to warm up, does not count.

    frames: slices of a volume, and pictures, of `size` x `size` pixels; they are drawn, and lie in a
    temporary folder. Masks are written as `predict` does, below that folder. told: called after each part.
    """
    options = Options(cut=usual_cut(predictor), batch_size=batch_size, workers=workers, overwrite=True)
    with TemporaryDirectory(prefix="vlsmctl-bench-") as name:
        folder = Path(name)
        write_volume(folder / "volume" / "scan.nii.gz", frames, size)
        write_pictures(folder / "pictures", frames, size)
        write_volume(folder / "warm" / "scan.nii.gz", min(frames, batch_size), size)

        def masks_of(part: str) -> Callable[[], None]:
            return lambda: _predict(predictor, folder / part, folder / "masks" / part, options)

        _forward(predictor, min(frames, batch_size), batch_size)()
        masks_of("warm")()
        jobs = {
            FORWARD: _forward(predictor, frames, batch_size),
            VOLUME: masks_of(VOLUME),
            PICTURES: masks_of(PICTURES),
        }
        before = psutil.Process().memory_info().rss
        rounds: dict[str, list[Measured]] = {part: [] for part in jobs}
        for _ in range(repeats):
            for part, job in jobs.items():
                rounds[part].append(_measured(job, frames, predictor.device))
                told()
    parts = {part: _together(each) for part, each in rounds.items()}
    return Bench(frames, size, options, predictor, parts, before)


def _measured(job: Callable[[], None], frames: int, device: torch.device) -> Measured:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with sampled_memory() as memory:
        began = time.perf_counter()
        job()
        seconds = time.perf_counter() - began
    gpu = torch.cuda.max_memory_allocated(device) if on_gpu else None
    return Measured(frames, (seconds,), max(memory), gpu)


def _together(rounds: list[Measured]) -> Measured:
    gpu = [one.gpu_peak_bytes for one in rounds if one.gpu_peak_bytes is not None]
    return Measured(
        frames=rounds[0].frames,
        seconds=tuple(one.seconds[0] for one in rounds),
        peak_bytes=max(one.peak_bytes for one in rounds),
        gpu_peak_bytes=max(gpu, default=None),
    )


def _forward(predictor: Predictor, frames: int, batch_size: int) -> Callable[[], None]:
    """The model on ready batches; the prompt is encoded beforehand."""
    side = predictor.preprocessing.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (min(batch_size, frames), 3, side, side), generator=generator)
    image = normalise(pixels.to(torch.uint8).to(predictor.device))
    condition = encode(predictor, [PROMPT]).expand(len(image), -1)

    @torch.no_grad()
    def forward() -> None:
        for start in range(0, frames, len(image)):
            count = min(len(image), frames - start)
            predictor.model.decode(predictor.model.encode_images(image[:count]), condition[:count])
        _wait_for(predictor.device)

    return forward


def _wait_for(device: torch.device) -> None:
    """GPUs work on after a call has come back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _predict(predictor: Predictor, scans: Path, out: Path, options: Options) -> None:
    """`predict` on a folder, from looking for scans to the last line of the ledger.

    Raises VlsmctlError where a mask did not come about: its time would mean nothing.
    """
    founds, _ = find_scans([scans])
    cases = plan_cases(founds, [(PROMPT,)] * len(founds), predictor, options)
    outcome = predict(predictor, cases, out, options, stop=StopFlag())
    wrong = [entry for entry in outcome.entries if entry.status not in ("done", "empty")]
    if wrong or len(outcome.entries) != len(cases) or not cases:
        reason = wrong[0].reason if wrong else f"{len(outcome.entries)} masks for {len(cases)} scans"
        raise VlsmctlError(f"nothing to measure: predict failed on the drawn scans below {scans}: {reason}")


@contextmanager
def sampled_memory() -> Iterator[list[int]]:
    """Resident memory of this process, bytes, sampled until it ends; at least at its begin and its end."""
    process, ended = psutil.Process(), threading.Event()
    samples = [process.memory_info().rss]

    def sample() -> None:
        while not ended.wait(_SAMPLE_EVERY):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        samples.append(process.memory_info().rss)


def write_volume(path: Path, slices: int, size: int) -> None:
    """A NIfTI volume of int16, `size` x `size` x `slices`, written slice by slice to need little memory."""
    header = nib.Nifti1Header()
    header.set_data_shape((size, size, slices))
    header.set_data_dtype(np.int16)
    header.set_qform(np.diag([*_SPACING, 1.0]), code=1)  # which sets the spacing, too
    header.set_sform(np.diag([*_SPACING, 1.0]), code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + b"\0" * 4)
        for number in range(slices):
            values = _drawn(number, size)[..., 0].astype(np.int16) * 8 - 1024
            stream.write(values.tobytes(order="F"))


def write_pictures(folder: Path, count: int, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(_drawn(number, size)).save(folder / f"{number:05d}.png", compress_level=1)


def _drawn(number: int, size: int) -> NDArray[np.uint8]:
    """A noisy disc on a noisy ground, uint8 RGB [size, size, 3]; another for each number."""
    rng = np.random.default_rng(number)
    across = np.arange(size) / size - 0.5
    row, column = rng.uniform(-0.2, 0.2, 2)
    disc = np.hypot(across[:, None] - row, across - column) < rng.uniform(0.1, 0.25)
    shade = 90 + 60 * across[:, None, None] + 60 * disc[..., None] * np.array([1.0, 0.6, 0.5])
    noisy: NDArray[np.uint8] = (shade + rng.integers(0, 16, (size, size, 1))).astype(np.uint8)
    return noisy


def bench_document(bench: Bench) -> dict[str, Any]:
    """All that was measured, and on what, ready for JSON; rates in frames a second, memory in bytes."""
    return {
        "model": bench.predictor.name,
        "device": str(bench.predictor.device),
        "input_size": bench.predictor.preprocessing.image_size,
        "frames": bench.frames,
        "size": bench.size,
        "batch_size": bench.options.batch_size,
        "workers": bench.options.workers,
        "threads": torch.get_num_threads(),
        "parts": {
            part: {
                "what": PARTS[part],
                "per_second": round(measured.per_second, 3),
                "ratio": round(bench.ratio(part), 4),
                "seconds": [round(one, 4) for one in measured.seconds],
                "peak_bytes": measured.peak_bytes,
                "gpu_peak_bytes": measured.gpu_peak_bytes,
            }
            for part, measured in bench.parts.items()
        },
        "before_bytes": bench.before_bytes,
        "peak_bytes": max(measured.peak_bytes for measured in bench.parts.values()),
        "machine": machine_facts(),
    }
