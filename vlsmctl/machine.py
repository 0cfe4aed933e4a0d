"""The model at work, and how much it takes at once: less when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlsmctl.predictor import Cut, Predictor, Ready, Segmented, encode, has_learned, moved, segment


class Machine:
    """Segments pictures with prompts that are encoded once.

    When memory runs out the batch is halved, down to one, and then the CPU takes over, for good; `say` is
    told.
    """

    def __init__(
        self, predictor: Predictor, prompts: Sequence[str], cut: Cut, batch_size: int,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.predictor = predictor
        self._cut, self._batch_size, self._say = cut, batch_size, say
        self._learned = [has_learned(predictor, prompt) for prompt in prompts]
        self._conditions: Tensor | None = None
        self._conditions = self._encoded(prompts)

    def segment(
        self, pictures: Sequence[Ready], asked: Sequence[Sequence[int]]
    ) -> list[list[Segmented] | str]:
        """For each picture one result a prompt (asked: their numbers), or the reason why there is none."""
        found: list[list[Segmented] | str] = []
        while len(found) < len(pictures):
            start, end = len(found), len(found) + self._batch_size
            part, rows = pictures[start:end], asked[start:end]
            try:
                found += self._segmented(part, rows)
            except Exception as error:  # it costs one picture at most
                if _out_of_memory(error) and self._make_room():
                    continue
                if len(part) == 1:
                    found.append(f"could not be segmented ({type(error).__name__})")
                else:
                    for picture, own in zip(part, rows, strict=True):
                        found += self.segment([picture], [own])
        return found

    def _segmented(
        self, pictures: Sequence[Ready], asked: Sequence[Sequence[int]]
    ) -> list[list[Segmented]]:
        assert self._conditions is not None  # noqa: S101 (encoded when this was made)
        return segment(
            self.predictor, pictures, asked, self._conditions, self._cut, batch_size=self._batch_size,
            learned=self._learned,
        )  # fmt: skip

    def _encoded(self, prompts: Sequence[str]) -> Tensor:
        while True:
            try:
                return encode(self.predictor, prompts)
            except Exception as error:
                if not (_out_of_memory(error) and self._make_room()):
                    raise

    def _make_room(self) -> bool:
        """False when nothing is left to try."""
        device = self.predictor.device
        if self._batch_size > 1:
            self._batch_size //= 2
            self._say(f"out of memory on {device}: going on with batches of {self._batch_size}")
        elif device.type == "cpu":
            return False
        else:
            cpu = torch.device("cpu")
            self.predictor = moved(self.predictor, cpu)
            if self._conditions is not None:
                self._conditions = self._conditions.to(cpu)
            self._say(
                f"out of memory on {device} for a single picture: going on on the CPU, which is slower"
            )
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return True


def _out_of_memory(error: Exception) -> bool:
    words = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )
