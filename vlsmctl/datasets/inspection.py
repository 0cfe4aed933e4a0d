"""Every raw image and mask is decoded once: looked at, described and written the way a prepared set has it.

The work is spread over processes; what comes back is small, in order, and the same for any number of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlsmctl.datasets.attributes import describe
from vlsmctl.datasets.duplicates import perceptual_hash
from vlsmctl.datasets.encoding import GreyValues, grey_values, own_threshold
from vlsmctl.datasets.pairs import relative
from vlsmctl.datasets.processes import result_of, worker_pool
from vlsmctl.datasets.published import describe_published
from vlsmctl.datasets.records import Item, LeftOut
from vlsmctl.datasets.sources import Drawn, ImageSource, Picture, read_image, read_mask
from vlsmctl.datasets.staging import link_or_copy
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.raster import plain_suffix

FACTS_VERSION = 2
CHUNK = 16  # images that a process is given at a time
PARALLEL_FROM = 96  # images from which other processes are worth starting

Words: TypeAlias = tuple[dict[str, str], dict[str, Any]]


def _correct(grey: NDArray[np.uint8], mask: NDArray[np.bool_], pixels: NDArray[np.uint8]) -> Words:
    return describe(mask, pixels)


def _published(grey: NDArray[np.uint8], mask: NDArray[np.bool_], pixels: NDArray[np.uint8]) -> Words:
    """MedVLSM's rule for count, size and place; shape and colour, which it has from a model, are ours."""
    own, _ = describe(mask, pixels)
    words, attributes = describe_published(grey)
    looks: dict[str, str] = {word: own[word] for word in ("shape", "colour") if word in own}
    return {**words, **looks}, {**attributes, **looks}


ATTRIBUTE_RULES: dict[str, Callable[[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8]], Words]] = {
    "correct": _correct,
    "medvlsm": _published,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in an image and its mask, and where they were written (relative paths).

    key: of the raw files and the rule that this hangs on. stamps: size and time of the written files;
    empty where the record was dropped and nothing is written.
    foreground: fraction of the mask that is set. sha256, phash: of the image's RGB pixels (hexadecimal).
    threshold: what the mask was read with. unnamed: label numbers in the mask's file that nobody named.
    """

    id: str
    key: str
    image: str
    mask: str
    stamps: tuple[tuple[int, int], ...]
    width: int
    height: int
    foreground: float
    sha256: str
    phash: str
    words: dict[str, str]
    attributes: dict[str, Any]
    grey: GreyValues
    threshold: int
    unnamed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """The items of one image. threshold: for their masks; None: what each mask looks like on its own."""

    items: tuple[Item, ...]
    keys: tuple[str, ...]
    threshold: int | None = None


Found: TypeAlias = Facts | LeftOut


def tasks(items: Iterable[Item], rule: str) -> list[Task]:
    """One task an image, in the order of the images' names, then of the ids."""
    ordered = sorted(items, key=lambda item: (image_name(item), item.id))
    groups = [tuple(group) for _, group in groupby(ordered, key=image_name)]
    stamp = cache(_raw_stamp)  # slices share the files of their volumes
    return [Task(group, tuple(_key(item, rule, stamp) for item in group)) for group in groups]


def image_name(item: Item) -> str:
    return item.image_name or item.id


def inspect(
    wanted: Sequence[Task],
    root: Path,
    folder: Path,
    rule: str,
    former: Former | None = None,
    workers: int = 1,
) -> Iterator[list[Found]]:
    """What was found for each task, in their order; images and masks are written below `folder`.

    former: what an earlier run found; where nothing has changed since, its files are taken over. A mask of
    another size than its image, or a file that cannot be read, gives a LeftOut. Memory: what lies between
    the processes is bounded, whatever the number of tasks.
    """
    work = partial(_inspect_all, root=root, folder=folder, rule=rule)
    processes = workers if len(wanted) >= PARALLEL_FROM else 0
    rest = iter(wanted)
    with worker_pool(processes) as submit:
        waiting: deque[tuple[list[list[Found] | None], Future[list[list[Found]]] | None]] = deque()
        while part := list(islice(rest, CHUNK if processes else 1)):
            known = [former.reuse(task, folder) if former else None for task in part]
            fresh = [task for task, facts in zip(part, known, strict=True) if facts is None]
            waiting.append((known, submit(work, fresh) if fresh else None))
            while len(waiting) > 3 * processes:
                yield from _merged(*waiting.popleft())
        while waiting:
            yield from _merged(*waiting.popleft())


def inspect_task(task: Task, root: Path, folder: Path, rule: str) -> list[Found]:
    """Decodes one image and its masks, and writes them below `folder`."""
    try:
        return _inspected(task, root, folder, rule)
    except OSError as error:
        raw = [path for item in task.items for path in (*item.image.files, *item.mask.files)]
        gone = next((path for path in raw if error.filename in (path, str(path))), None)
        if gone is None:  # it was about writing
            raise
        told = error.strerror or str(error)
        return [LeftOut(relative(gone, root), "a whole, readable file", told, "unreadable")]


def _inspected(task: Task, root: Path, folder: Path, rule: str) -> list[Found]:
    first = task.items[0]
    try:
        pixels = read_image(first.image)
    except UnreadableFile as error:
        return [_unreadable(first.image.files[0], root, error)]
    found: list[Found] = []
    size = (pixels.shape[0], pixels.shape[1])
    suffix = _plain_suffix(first.image)
    image = f"images/{image_name(first)}{suffix or '.png'}"
    digest, near = hashlib.sha256(pixels.tobytes()).hexdigest(), f"{perceptual_hash(pixels):016x}"
    for item, key in zip(task.items, task.keys, strict=True):
        drawn = _drawn(item, size, root)
        if isinstance(drawn, LeftOut):
            found.append(drawn)
            continue
        values = grey_values(drawn)
        threshold = own_threshold(values) if task.threshold is None else task.threshold
        mask = drawn.grey > threshold
        lit = mask.astype(np.uint8) * np.uint8(255)
        grey = drawn.grey if threshold else lit  # 0 and 1 mean black and white
        words, attributes = ATTRIBUTE_RULES[rule](grey, mask, pixels)
        mask_name = f"masks/{item.id}.png"
        _save(lit, folder / mask_name)
        facts = Facts(
            id=item.id, key=key, image=image, mask=mask_name, stamps=(),
            width=size[1], height=size[0], foreground=round(float(mask.mean()), 8),
            sha256=digest, phash=near, words=words, attributes={**attributes, **dict(drawn.attributes)},
            grey=values, threshold=threshold, unnamed=drawn.unnamed,
        )  # fmt: skip
        found.append(facts)
    if any(isinstance(each, Facts) for each in found):
        if suffix:
            (folder / image).unlink(missing_ok=True)
            shutil.copyfile(first.image.files[0], folder / image)
        else:
            _save(pixels, folder / image)
    return [_stamped(each, folder) if isinstance(each, Facts) else each for each in found]


def _plain_suffix(source: ImageSource) -> str | None:
    """The suffix of a plain 8-bit PNG or JPEG, which is copied as it is; None: it becomes a PNG."""
    return plain_suffix(source.path) if isinstance(source, Picture) else None


class Former:
    """What an earlier run found, read once from front to back, in the order of the tasks."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder = folder
        self.reused = 0
        self._facts = read_facts(path)
        self._next = self._read()

    def reuse(self, task: Task, target: Path) -> list[Found] | None:
        """The facts of a task of which nothing has changed; its files are then linked below `target`."""
        known: dict[str, Facts] = {}
        place = image_name(task.items[0])
        while self._next is not None and _name(self._next) <= place:
            if _name(self._next) == place:
                known[self._next.id] = self._next
            self._next = self._read()
        facts = [known.get(item.id) for item in task.items]
        whole = [each for each in facts if each is not None]
        if len(whole) < len(facts) or not all(map(self._holds, whole, task.keys)):
            return None
        for name in {name for each in whole if each.stamps for name in (each.image, each.mask)}:
            link_or_copy(self.folder / name, target / name)
        self.reused += 1
        return list(whole)

    def _read(self) -> Facts | None:
        """The next facts; None where there are none, or none that can be read: then what follows is looked
        at anew."""
        try:
            return next(self._facts, None)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _holds(self, facts: Facts, key: str) -> bool:
        try:
            return facts.key == key and (not facts.stamps or facts.stamps == _stamps(facts, self.folder))
        except OSError:
            return False


def read_facts(path: Path) -> Iterator[Facts]:
    """The facts in a file, one after another. Raises OSError; ValueError, TypeError or KeyError where it is
    an older version's, or damaged."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield _facts(json.loads(line))


def facts_line(facts: Facts) -> str:
    return json.dumps(asdict(facts), ensure_ascii=False) + "\n"


def _facts(document: dict[str, Any]) -> Facts:
    grey = document["grey"]
    stamps = tuple((int(size), int(time)) for size, time in document["stamps"])
    values = GreyValues(**{**grey, "dim": tuple(grey["dim"])})
    unnamed = tuple(document["unnamed"])
    return Facts(**{**document, "stamps": stamps, "grey": values, "unnamed": unnamed})


def _name(facts: Facts) -> str:
    """The image's name, as tasks are ordered by it."""
    return facts.image.removeprefix("images/").rpartition(".")[0]


def _key(item: Item, rule: str, stamp: Callable[[Path], str]) -> str:
    """Changes when a raw file changes, or what is to be read from it, or the rule."""
    files = dict.fromkeys((*item.image.files, *item.mask.files))
    asked = [repr((FACTS_VERSION, rule, item.image, item.mask)), *map(stamp, files)]
    return hashlib.sha256("\n".join(asked).encode()).hexdigest()[:32]


def _raw_stamp(path: Path) -> str:
    """Name, size and time of a raw file, or of all files in a folder, however deep."""
    stamps = []
    for each in sorted(path.rglob("*")) if path.is_dir() else (path,):
        try:
            status = each.stat()
            stamps.append(f"{each.name} {status.st_size} {status.st_mtime_ns}")
        except OSError:
            stamps.append(f"{each.name} ?")
    return "\n".join(stamps)


def _stamped(facts: Facts, folder: Path) -> Facts:
    return replace(facts, stamps=_stamps(facts, folder))


def _stamps(facts: Facts, folder: Path) -> tuple[tuple[int, int], ...]:
    stats = [(folder / name).stat() for name in (facts.image, facts.mask)]
    return tuple((each.st_size, each.st_mtime_ns) for each in stats)


def _drawn(item: Item, size: tuple[int, int], root: Path) -> Drawn | LeftOut:
    try:
        drawn = read_mask(item.mask, size)
    except UnreadableFile as error:
        return _unreadable(item.mask.files[0], root, error)
    if drawn.grey.shape != size:
        height, width = drawn.grey.shape
        expected = f"a mask of {size[1]} x {size[0]} pixels, as the image"
        path = (*item.mask.files, *item.image.files)[0]
        return LeftOut(relative(path, root), expected, f"{width} x {height} pixels", "size")
    return drawn


def _unreadable(path: Path, root: Path, error: UnreadableFile) -> LeftOut:
    told = str(error).removeprefix(f"{path}: ")
    parts = re.fullmatch(r"expected (.+?), found (.+)", told, re.DOTALL)
    expected, found = parts.groups() if parts else ("a whole, readable file", told)
    return LeftOut(relative(path, root), expected, found, "unreadable")


def _save(pixels: NDArray[np.uint8], target: Path) -> None:
    target.unlink(missing_ok=True)  # it may be a link to a file of the former set, which stays as it is
    Image.fromarray(pixels).save(target, compress_level=4)


def _inspect_all(fresh: Sequence[Task], root: Path, folder: Path, rule: str) -> list[list[Found]]:
    return [inspect_task(task, root, folder, rule) for task in fresh]


def _merged(
    known: list[list[Found] | None], fresh: Future[list[list[Found]]] | None
) -> Iterator[list[Found]]:
    made = iter(result_of(fresh) if fresh else ())
    for facts in known:
        yield next(made) if facts is None else facts
