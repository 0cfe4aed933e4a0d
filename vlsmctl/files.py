"""Writing files so that nothing half-written is ever found under a final name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """A path beside `final` to write to; on success it is flushed to disk and renamed to `final`, on
    any error it is removed. The temporary name keeps the suffixes, which some writers go by, and
    is cut, because a name may be as long as the file system allows already."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{uuid4().hex[:8]}.part.{final.name[-40:]}")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner may read
        with temporary.open("r+b") as stream:
            os.fsync(stream.fileno())
        temporary.replace(final)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(final: Path, text: str) -> None:
    with atomic_path(final) as path:
        path.write_text(text, encoding="utf-8", newline="\n")


def write_json(final: Path, document: Any) -> None:
    write_text(final, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
