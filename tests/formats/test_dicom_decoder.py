from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from tests.formats.generators import write_clip
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats import dicom_decoder
from vlsmctl.formats.dicom_pixels import open_pixels, stored_values

CLIP = np.random.default_rng(1).integers(0, 256, (3, 40, 48)).astype(np.uint8)

# A helper that says it is ready, and decodes nothing
_PRETENDS = (
    "import sys, time; sys.path[:] = sys.argv[1:]; from vlsmctl.formats.dicom_decoder import _send;"
    "_send(sys.stdout.buffer, b'ready', b'');"
)


def _kill_helpers() -> None:
    for helper in dicom_decoder._idle:
        helper._process.kill()
        helper._process.wait()


def test_a_decoder_that_dies_costs_nothing_but_its_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom_decoder._end_all()  # those of other tests, one for each thread that decoded
    file = open_pixels(write_clip(tmp_path / "a", CLIP, syntax=uid.JPEG2000Lossless))
    assert np.array_equal(stored_values(file, 0), CLIP[0])
    assert len(dicom_decoder._idle) == 1
    _kill_helpers()  # by no fault of a frame: begun anew
    assert np.array_equal(stored_values(file, 1), CLIP[1])
    _kill_helpers()
    with monkeypatch.context() as patch:
        patch.setattr(dicom_decoder, "_START", _PRETENDS + "sys.exit()")  # as over this frame
        with pytest.raises(UnreadableFile, match="frame 3 cannot be decoded"):
            stored_values(file, 2)
        patch.setattr(dicom_decoder, "_START", "raise SystemExit(1)")
        with pytest.raises(UnreadableFile, match="does not start on this machine"):
            stored_values(file, 2)
    assert np.array_equal(stored_values(file, 2), CLIP[2])
    dicom_decoder._end_all()


@pytest.mark.parametrize(
    ("start", "starting", "reason"),
    [
        # However long it may take to start, a frame has its own time alone
        (_PRETENDS + "time.sleep(60)", 60.0, "frame 1 cannot be decoded"),
        ("import time; time.sleep(60)", 0.2, "does not start on this machine"),
    ],
)
def test_a_decoder_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, starting: float, reason: str
) -> None:
    file = open_pixels(write_clip(tmp_path / "a", CLIP, syntax=uid.JPEGLSLossless))
    dicom_decoder._end_all()
    ended: set[int] = set()
    kill = subprocess.Popen.kill

    def noted(process: subprocess.Popen[bytes]) -> None:
        ended.add(process.pid)
        kill(process)

    monkeypatch.setattr(subprocess.Popen, "kill", noted)
    for name, value in (("_START", start), ("_SECONDS", 0.2), ("_STARTING", starting)):
        monkeypatch.setattr(dicom_decoder, name, value)
    started = time.perf_counter()
    with pytest.raises(UnreadableFile, match=reason):
        stored_values(file, 0)
    assert time.perf_counter() - started < 20
    assert len(ended) == 1  # and not tried again
    assert not dicom_decoder._idle


def test_what_a_decoder_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_pixels(write_clip(tmp_path / "a", CLIP, syntax=uid.JPEGLSLossless))
    dicom_decoder._end_all()
    noisy = (
        "import os, sys; sys.path[:] = sys.argv[1:]; import vlsmctl.formats.dicom_decoder as module;"
        "decoded = module._decoded;"
        "module._decoded = lambda *given: [os.write(1, b'!' * 99), decoded(*given)][1];"
        "module.serve()"
    )
    monkeypatch.setattr(dicom_decoder, "_START", noisy)
    assert np.array_equal(stored_values(file, 1), CLIP[1])
    dicom_decoder._end_all()
