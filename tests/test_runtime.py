from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from vlsmctl import runtime
from vlsmctl.errors import UsageError
from vlsmctl.runtime import machine_facts, make_repeatable, mixed_precision, pick_device, polite_stop


def has_cuda(monkeypatch: pytest.MonkeyPatch, count: int, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    # as torch says it: by default a card that only emulates bf16, slowly, counts too
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation
    )


def has_mps(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, mps, expected in ((2, False, "cuda"), (0, True, "mps"), (0, False, "cpu")):
        has_cuda(monkeypatch, count)
        has_mps(monkeypatch, mps)
        assert pick_device() == torch.device(expected)


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 2)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_here_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 0)
    has_mps(monkeypatch, False)
    with pytest.raises(UsageError, match=f"--device '{name}': no ") as caught:
        pick_device(name)
    assert caught.value.hint == "--device cpu"


def test_a_number_beyond_the_last_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 2)
    with pytest.raises(UsageError, match=r"--device 'cuda:2': this machine has 2 CUDA device"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "banana", "cuda:x", "cuda:-1", "meta", "xpu", "CPU "])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps"):
        pick_device(name)


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 0)
    assert [mixed_precision(word) for word in ("auto", "fp32", "bf16")] == ["no", "no", "bf16"]
    has_cuda(monkeypatch, 1, bf16=True)
    assert mixed_precision("auto") == "bf16"
    has_cuda(monkeypatch, 1, bf16=False)
    assert [mixed_precision(word) for word in ("auto", "fp32", "fp16")] == ["fp16", "no", "fp16"]


@pytest.fixture
def as_before() -> Iterator[None]:
    """Puts torch's own switches back."""
    state, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_rng_state(state)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("as_before")
def test_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    drawn = []
    for seed in (1, 1, 2):
        make_repeatable(seed, deterministic=True)
        drawn.append(torch.rand(4))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # the user's own choice stays
    make_repeatable(1, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # the handler runs between two steps of the interpreter


posix = pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process at once on Windows")


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with polite_stop() as stop:
        assert not stop.asked
        send(number)
        assert stop.asked
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@posix
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_that_stops_at_once(first: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT)
    reached: list[str] = []

    def work() -> None:
        with polite_stop():
            send(first)
            reached.append("after the first")
            send(signal.SIGINT)
            reached.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["after the first"]
    assert signal.getsignal(signal.SIGINT) == before


@posix
def test_sigterm_may_come_twice() -> None:
    with polite_stop() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert stop.asked


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="inside"), polite_stop():
        raise ValueError("inside")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_may_not_set_handlers_and_need_not() -> None:
    asked: list[bool] = []

    def work() -> None:
        with polite_stop() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


def test_machine_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 0)
    has_mps(monkeypatch, False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    facts = machine_facts()
    assert facts["device"] == "cpu (no GPU found)"
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert facts["network"] == "off (--offline)"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "off" not in machine_facts()["network"]


def test_one_process_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert runtime.is_main_process()
    assert runtime.decided_by_main(lambda: 5) == 5
    monkeypatch.setenv("RANK", "1")
    assert not runtime.is_main_process()
