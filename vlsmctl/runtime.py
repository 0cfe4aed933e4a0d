"""The machine: device, precision, seeds, several processes, and a polite way to stop."""

from __future__ import annotations

import atexit
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from types import FrameType
from typing import Any, TypeVar

import psutil
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast_object_list, gather_object

from vlsmctl.errors import PeerLost, UsageError, VlsmctlError
from vlsmctl.network import is_offline

T = TypeVar("T")

STOP_INTERVAL = 10  # batches
_PATIENCE = timedelta(days=30)


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name (auto, cpu, cuda, cuda:1, mps); auto takes a GPU where there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    expected = f"--device {name!r}: expected auto, cpu, cuda, cuda:N or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(expected) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(expected)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name!r}: no CUDA device on this machine", hint="--device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {name!r}: this machine has {torch.cuda.device_count()} CUDA device(s), "
            "counted from 0",
            hint="--device cuda:0",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {name!r}: no Apple GPU on this machine", hint="--device cpu")
    return device


def mixed_precision(wanted: str) -> str:
    """accelerate's word for a preset's `train.precision`: auto is bf16 on a GPU that has it, fp16 on
    other CUDA GPUs, fp32 elsewhere."""
    cuda = torch.cuda.is_available()
    if wanted == "fp16" and not cuda:
        raise UsageError(
            "train.precision='fp16' needs a CUDA GPU, and there is none",
            hint="--set train.precision=auto",
        )
    if wanted == "auto":
        if not cuda:
            return "no"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "no" if wanted == "fp32" else wanted


def make_accelerator(precision: str, *, unused_parameters: bool) -> Accelerator:
    """One process or, under `torchrun` or `accelerate launch`, one of several; a GPU or the CPU.

    unused_parameters: some trainable parameters get no gradient (they lie behind the last layer used).
    """
    return Accelerator(
        mixed_precision=mixed_precision(precision),
        cpu=pick_device().type == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)],
    )


def make_repeatable(seed: int, deterministic: bool) -> None:
    """Seeds torch and, with `deterministic`, allows only operations that give equal bits every time."""
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)


def share_work() -> tuple[int, int]:
    """(rank, ranks) of this process: (0, 1), or under `torchrun` its place among those that share the work,
    which are made able to talk to one another. They may end hours apart, and need no GPU to talk."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        PartialState(cpu=True, timeout=_PATIENCE)
        atexit.register(_leave)
    return int(os.environ.get("RANK", "0")), ranks


@contextmanager
def _peers_needed() -> Iterator[None]:
    """Talking to processes that have gone is a RuntimeError of torch."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            "another of the processes that share the work has ended; what is done is kept",
            hint="the same command again goes on where it was",
        ) from error


def _leave() -> None:
    """Ends the connection: a process that ends without it may be aborted when the other one has gone."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def own_device(name: str) -> torch.device:
    """As `pick_device`; of several GPUs, each process of a machine takes its own."""
    device = pick_device(name)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return device


def from_all(items: list[T]) -> list[T]:
    """The items of all processes, in the order of their ranks; waits until all have come this far."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return items
    with _peers_needed():
        gathered: list[T] = gather_object(items)
    return gathered


def is_main_process() -> bool:
    """Whether this is the only process, or the first of several started by a launcher."""
    return os.environ.get("RANK", "0") == "0"


def decided_by_main(decide: Callable[[], T]) -> T:
    """The value of `decide()`, called by the first process alone and given to all; so is its error."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return decide()
    PartialState(cpu=pick_device().type == "cpu")
    outcome: list[Any] = [None, None]
    if is_main_process():
        try:
            outcome[0] = decide()
        except VlsmctlError as error:
            outcome[1] = error
    with _peers_needed():
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    value: T = outcome[0]
    return value


class StopFlag:
    """Set when the user or the system asks the process to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def polite_stop() -> Iterator[StopFlag]:
    """Within it, the first Ctrl-C or SIGTERM only sets the flag, so that the work in hand is finished;
    a second Ctrl-C stops at once."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if flag.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.asked = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def mean_over_processes(total: float, number: float, accelerator: Accelerator) -> float:
    """total / number, both summed over the processes."""
    if accelerator.num_processes > 1:
        pair = torch.tensor([total, number], device=accelerator.device)
        total, number = accelerator.reduce(pair, reduction="sum").tolist()
    return total / number


def stop_asked_anywhere(stop: StopFlag, accelerator: Accelerator, batch: int) -> bool:
    """Whether any process was asked to stop; they must leave the loop together, so several ask one
    another, but not in every batch, because asking waits for the GPU."""
    if accelerator.num_processes == 1:
        return stop.asked
    if batch % STOP_INTERVAL != 1:
        return False
    flag = torch.tensor(float(stop.asked), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum").item())


def machine_facts() -> dict[str, str]:
    """What `vlsmctl doctor` tells of this machine, in words."""
    memory = psutil.virtual_memory()
    packages = ("vlsmctl", "torch", "transformers", "monai", "accelerate", "nibabel", "pydicom")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "device": _device_words(),
        "cpu cores": str(os.cpu_count()),
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free",
        "network": "off (--offline)"
        if is_offline()
        else "used by `weights fetch` and `prepare --download` only",
    }


def _device_words() -> str:
    device = pick_device()
    if device.type != "cuda":
        return {"cpu": "cpu (no GPU found)", "mps": "mps (Apple GPU)"}[device.type]
    free, total = torch.cuda.mem_get_info()
    bf16 = "with" if torch.cuda.is_bf16_supported(including_emulation=False) else "without"
    names = ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
    return f"cuda: {names} ({free / 2**30:.0f} of {total / 2**30:.0f} GiB free, {bf16} bf16)"
