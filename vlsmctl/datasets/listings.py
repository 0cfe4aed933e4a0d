"""What lies in a raw folder, as the user wants it: label numbers, axes, annotations, empty masks."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlsmctl.datasets import generic
from vlsmctl.datasets.annotations import apply, find_annotations, read_annotations
from vlsmctl.datasets.folders import read_folder
from vlsmctl.datasets.kinds import DATASETS, OWN
from vlsmctl.datasets.pairs import relative
from vlsmctl.datasets.records import LeftOut, Listing, first_left_out
from vlsmctl.datasets.sources import Slice
from vlsmctl.errors import NoReadableInput, UsageError

LONGEST = 200  # bytes of a name; file systems take 255, suffix included
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)  # devices on Windows
EMPTY_SLICES = "0.1"  # of one's own volumes
EMPTY_SHARES = {"keep": 1.0, "drop": 0.0}


def list_raw(
    name: str, root: Path, labels: Mapping[int, str] | None = None, axis: int | None = None
) -> Listing:
    """The items of a raw folder of kind `name`, of which there is at least one, with ids of their own.

    Raises UsageError: labels or an axis for a public set, or two pictures that would be called alike.
    NoReadableInput: nothing usable.
    """
    kind = DATASETS[name]
    if name == OWN:
        listing = generic.list_items(root, labels=labels, axis=axis)
    elif labels or axis is not None:
        given = "--labels" if labels else "--axis"
        raise UsageError(f"{given} is for one's own data; {name} has its own", hint=f"leave out {given}")
    else:
        listing = kind.list_items(root)
    listing = with_safe_names(listing, root)
    if kind.make is None and not kind.matches(read_folder(root)):
        told = f"by its names '{root.name}' does not look like {kind.title}; it is taken for it as you said"
        listing = replace(listing, warnings=(*listing.warnings, told))
    if not listing.items:
        told = first_left_out(listing.left_out)
        raise NoReadableInput(f"no usable pair in '{root}': expected {kind.layout}{told}")
    double = [name for name, count in Counter(item.id for item in listing.items).items() if count > 1]
    if double:
        raise UsageError(f"'{root}' has several pictures that would be called {', '.join(double[:5])}")
    return listing


def with_safe_names(listing: Listing, root: Path) -> Listing:
    """The listing with ids and image names that every system can store; files whose own names are not
    even text are left out."""
    items, left_out = [], []
    for item in listing.items:
        unreadable = next((path for path in item.image.files + item.mask.files if not _is_text(path)), None)
        if unreadable is not None:
            name = relative(unreadable, root)
            left_out.append(LeftOut(_as_text(name), "a name in Unicode", "another encoding", "kind"))
            continue
        named = None if item.image_name is None else safe_name(item.image_name)
        items.append(replace(item, id=safe_name(item.id), image_name=named))
    told = [replace(one, file=_as_text(one.file), found=_as_text(one.found)) for one in listing.left_out]
    return replace(listing, items=tuple(items), left_out=(*told, *left_out))


def safe_name(name: str) -> str:
    """The name, if every system can store it as a file's (with a suffix added); else with what is not safe
    replaced, cut, and a mark that tells it from others."""
    safe = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", name).rstrip(". ")
    safe = safe.encode()[:LONGEST].decode(errors="ignore")
    if _RESERVED.fullmatch(safe.partition(".")[0]) or not safe:
        safe = f"_{safe}"
    if safe == name:
        return name
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_text(name: str) -> str:
    return name.encode(errors="replace").decode()


def annotated(
    name: str, listing: Listing, annotations: Path | None, protocol: str
) -> tuple[Listing, dict[str, Any] | None]:
    """The listing with MedVLSM's prompts and, for that protocol, its splits; and where these came from.

    Raises UsageError: annotations that cannot be read, or are missing for that protocol.
    """
    kind = DATASETS[name]
    if annotations is None:
        if protocol != "default":
            raise UsageError(
                f"--protocol {protocol} needs MedVLSM's annotation files",
                hint=f"vlsmctl prepare {name} --protocol {protocol} --annotations DIR   (or --accept-terms,"
                " to download them from https://github.com/naamiinepal/medvlsm, MIT licence)",
            )
        return listing, None
    found = read_annotations(find_annotations(annotations, kind.annotations or name))
    applied = apply(
        listing.items, found, kind.published, protocol=protocol == "medvlsm",
        published_test=kind.published_test,
    )  # fmt: skip
    changed = replace(
        listing,
        items=applied.items,
        notes=listing.notes + applied.notes,
        warnings=listing.warnings + applied.warnings,
    )
    return changed, {"source": "MedVLSM annotations", "sha256": found.hashes}


def empty_share(text: str) -> float:
    """ "keep", "drop" or a number from 0 to 1 -> the share of empty masks to keep. Raises UsageError."""
    try:
        share = EMPTY_SHARES[text] if text in EMPTY_SHARES else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--empty '{text}': expected keep, drop or a share from 0 to 1, as 0.1")
    return share


def usual_empty(name: str, listing: Listing) -> str:
    """What happens to empty masks unless the user says otherwise. Most slices of one's own volumes show no
    target, and training on all of them would be training on nothing."""
    own_slices = name == OWN and any(isinstance(item.image, Slice) for item in listing.items)
    return EMPTY_SLICES if own_slices else DATASETS[name].empty
