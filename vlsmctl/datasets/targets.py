"""Where a prepared data set goes, and what may not be there already."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vlsmctl.datasets.kinds import DATASETS, OWN
from vlsmctl.datasets.manifest import INFO, MANIFEST
from vlsmctl.datasets.pooling import POOLS
from vlsmctl.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def slug(text: str) -> str:
    """A name for a data set, safe as a folder on every system: lower-case letters, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "dataset"


def target_folder(kind: str, out: Path, rename: str | None, root: Path | None = None) -> Path:
    """The folder to write: `out`/NAME, or, where that is a link, what it leads to. By default the name is
    the kind's; that of one's own data is the raw folder's.

    Raises UsageError: a name that is no folder's on every system, or another set's; or there is something
    else in the way.
    """
    usual = slug(root.resolve().name) if kind == OWN and root is not None else kind
    name = usual if rename is None else rename
    if not _NAME.fullmatch(name):
        raise UsageError(f"the name '{name}': expected letters, digits, - and _, as in '{slug(name)}'")
    if name != kind and (name in DATASETS or name in POOLS):
        raise UsageError(
            f"'{name}' is the name of a public data set, and this is {kind} data",
            hint=f"choose another name: --name my-{name}",
        )
    target = out / name
    target = target.resolve() if target.is_symlink() else target
    _check_free(target, kind)
    return target


def _check_free(target: Path, kind: str) -> None:
    there = kind_of(target)
    if there is None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(
            f"'{target}' exists and was not made by vlsmctl prepare (no {MANIFEST} is in it)",
            hint="choose another place with --out or another name with --name",
        )
    if there not in (None, "", kind):
        raise UsageError(
            f"'{target}' holds {there} data, and this is {kind} data",
            hint="choose another name with --name, or remove that folder first",
        )


def check_apart(root: Path, target: Path) -> None:
    """Raises UsageError when raw data lies where the prepared set is to go, which would replace it."""
    if root.resolve() == target.resolve() or target.resolve() in root.resolve().parents:
        raise UsageError(
            f"the raw data lies in '{target}', where the data set is to go",
            hint="choose another place with --out or another name with --name",
        )


def kind_of(folder: Path) -> str | None:
    """The kind of the prepared set in a folder; "" where it is too damaged to say, None where there is
    none: others, too, call a file dataset.json."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        info = json.loads((folder / INFO).read_bytes())
    except OSError:
        return None
    except ValueError:
        return ""
    return str(info.get("kind", "")) if isinstance(info, dict) else ""
