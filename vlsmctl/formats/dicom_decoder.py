"""Decoding compressed frames in a process of its own.

The decoders of JPEG 2000, JPEG-LS and lossless JPEG are written in C and C++, and a damaged frame makes
some of them end the process, or work on without end. Neither may cost a batch: a helper process decodes
one frame after another, and is given up when it dies or takes too long. JPEG baseline and run lengths are
decoded here, by decoders that refuse what is damaged.

The helper starts with the first frame that needs it, and ends with this process: it reads its orders from
a pipe, and an end of that is its own.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from vlsmctl.quiet import without_warnings

# Which of the decoders to ask, where there are several; the others only where it is missing
_PREFERRED = {
    **dict.fromkeys(uid.JPEG2000TransferSyntaxes, "pylibjpeg"),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit), "pillow"),
    uid.RLELossless: "pydicom",
}
_TRUSTED = ("pillow", "pydicom")  # these raise errors, and do nothing worse
_SECONDS, _SECONDS_A_MEGAPIXEL = 6.0, 4.0
_STARTING = 60.0  # seconds, until the helper says that it is ready: its imports, from a slow disk
_LENGTHS = struct.Struct("<II")
_START = "import sys; sys.path[:] = sys.argv[1:]; from vlsmctl.formats.dicom_decoder import serve; serve()"

Options = Mapping[str, Any]
Answer = tuple[bytes, bytes]


class DecoderFailed(Exception):
    """A frame could not be decoded."""


class NoDecoder(Exception):
    """The helper does not start: no fault of the frame."""


def is_jpeg_12(syntax: uid.UID, bits_stored: int) -> bool:
    """Whether a frame is a lossy JPEG of more than 8 bits, which GDCM alone decodes."""
    return bool(syntax == uid.JPEGExtended12Bit and bits_stored > 8)


def can_decode(syntax: uid.UID, bits_stored: int) -> bool:
    """Whether this machine has a decoder. Raises NotImplementedError for what is no known compression."""
    if is_jpeg_12(syntax, bits_stored):
        return find_spec("gdcm") is not None
    return bool(get_decoder(syntax).is_available)


def decode_frame(code: bytes, syntax: uid.UID, options: Options) -> NDArray[Any]:
    """One compressed frame -> stored values [H, W], or colours [H, W, 3].

    options: what pydicom's decoders are told (rows, columns, bits_allocated ...). Raises DecoderFailed, or
    NoDecoder.
    """
    if _plugin(syntax) in _TRUSTED and not is_jpeg_12(syntax, int(options["bits_stored"])):
        try:
            return _decoded(code, syntax, options)
        except Exception as error:
            raise DecoderFailed from error
    seconds = _SECONDS + _SECONDS_A_MEGAPIXEL * int(options["rows"]) * int(options["columns"]) / 1e6
    order = json.dumps({"syntax": syntax, "options": {k: _plain(v) for k, v in options.items()}}).encode()
    for _ in range(2):  # once more, in case the helper was ended for no fault of the frame
        try:
            helper = _idle.pop()
        except IndexError:
            helper = _Helper()
        ready = helper.is_ready()
        answer = helper.ask(order, code, seconds) if ready else None
        if answer is not None:
            _idle.append(helper)
            return _unpacked(*answer)
        if helper.late:
            break
    raise DecoderFailed if ready else NoDecoder


class _Helper:
    """The process, as seen from here. late: whether it was ended because it took too long."""

    def __init__(self) -> None:
        self.late = False
        own_group: dict[str, Any] = {"start_new_session": True}  # out of reach of the terminal's Ctrl-C
        if sys.platform == "win32":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        # Isolated, or else it would import modules from the folder that the user works in.
        command = [sys.executable, "-I", "-c", _START, *(path or str(Path.cwd()) for path in sys.path)]
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **own_group
        )
        self._ready = False

    def is_ready(self) -> bool:
        """Waits until it has started. If it does not, it is gone."""
        if not self._ready:
            self._ready = self._within(_STARTING, partial(_receive, self._process.stdout)) is not None
        return self._ready

    def ask(self, order: bytes, code: bytes, seconds: float) -> Answer | None:
        """The answer; None: there is none, and the process is gone."""
        return self._within(seconds, partial(self._exchange, order, code))

    def _exchange(self, order: bytes, code: bytes) -> Answer | None:
        _send(self._process.stdin, order, code)
        return _receive(self._process.stdout)

    def _within(self, seconds: float, exchange: Callable[[], Answer | None]) -> Answer | None:
        self.late = False
        timer = threading.Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        answer = None
        try:
            answer = exchange()
        except OSError:  # a broken pipe
            pass
        finally:
            timer.cancel()
            if answer is None:
                self.end()
        return answer

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()

    def _give_up(self) -> None:
        self.late = True
        self._process.kill()


_idle: list[_Helper] = []  # one for each thread that decodes at the same time


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they belong to the parent


def serve() -> None:
    """The helper's work: says that it is ready, then answers orders from stdin on stdout, until there are
    no more."""
    for name in ("SIGINT", "SIGTERM"):  # it ends with the pipe
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write between the answers, nor the decoders' own code
    _send(answers, b"ready", b"")
    while (received := _receive(orders)) is not None:
        order = json.loads(received[0])
        try:
            values = _decoded(received[1], uid.UID(order["syntax"]), order["options"])
            _send(answers, json.dumps([values.dtype.str, values.shape]).encode(), values.tobytes())
        except Exception:
            _send(answers, b"null", b"")


def _unpacked(head: bytes, content: bytes) -> NDArray[Any]:
    described = json.loads(head)
    if described is None:
        raise DecoderFailed
    return np.frombuffer(content, described[0]).reshape(described[1])


def _send(pipe: Any, head: bytes, content: bytes) -> None:
    pipe.write(_LENGTHS.pack(len(head), len(content)) + head)
    pipe.write(content)
    pipe.flush()


def _receive(pipe: Any) -> Answer | None:
    lengths = pipe.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    parts = [pipe.read(length) for length in _LENGTHS.unpack(lengths)]
    return (parts[0], parts[1]) if [len(part) for part in parts] == list(_LENGTHS.unpack(lengths)) else None


def _plain(value: Any) -> int | str:
    return value if isinstance(value, str) else int(value)


def _plugin(syntax: uid.UID) -> str:
    """The name of the decoder to ask, "" for whichever there is."""
    preferred = _PREFERRED.get(syntax, "")
    return preferred if preferred in get_decoder(syntax).available_plugins else ""


def _decoded(code: bytes, syntax: uid.UID, options: Options) -> NDArray[Any]:
    with without_warnings():
        if is_jpeg_12(syntax, int(options["bits_stored"])):
            return _jpeg_12(code, options)
        told = {**options, "number_of_frames": 1}
        source = encapsulate([code], has_bot=False)
        decoder = get_decoder(syntax)
        return np.asarray(decoder.as_array(source, index=0, decoding_plugin=_plugin(syntax), **told)[0])


def _jpeg_12(code: bytes, options: Options) -> NDArray[Any]:
    """Grey [H, W], by GDCM, which pydicom does not ask for it."""
    gdcm = import_module("gdcm")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(code)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    bits, signed = int(options["bits_stored"]), int(options["pixel_representation"])
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((int(options["columns"]), int(options["rows"]), 1))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, signed))
    monochrome = gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    image.SetPhotometricInterpretation(monochrome)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetDataElement(element)
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<i2" if signed else "<u2")
    return values.reshape(int(options["rows"]), int(options["columns"]))
