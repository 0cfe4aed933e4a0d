"""Where the pixels of a raw image and of its mask come from, and how they are decoded.

Sources are small and picklable: they are made when a raw folder is listed, without decoding anything,
and decoded by worker processes. Each has `files`: what it is read from, for noticing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlsmctl.datasets.regions import fill_polygons, unpack_run_lengths
from vlsmctl.datasets.slices import read_label_slice, read_slice, volume_files
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.raster import is_coloured, read_label_picture, read_mask_picture, read_picture

Grey: TypeAlias = NDArray[np.uint8]
RGB: TypeAlias = tuple[int, int, int]

BRIGHT = 127  # a colour channel above it is on
_LISTED = 9


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a volume.

    path: a NIfTI or MetaImage file, or the folder of a DICOM series. index: which slice along `axis`.
    axis: the voxel axis that the slices follow one another along; None: the one that `predict` walks.
    stored: take slices as the array has them (rows downwards, columns to the right, as MetaImage
        means it) instead of turned the way `predict` shows them.
    """

    path: Path
    index: int
    axis: int | None = None
    stored: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return volume_files(self.path)


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """Pictures of which the bright part counts (the union, where there are several). What is bright is
    decided for the whole set, see `encoding`."""

    paths: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return self.paths


@dataclass(frozen=True, slots=True)
class ColourFile:
    """A picture in which each class has a colour of its own; every bright pixel counts. `classes`:
    (name, RGB); the names of those that are there become the attribute `attribute`, joined by " and "."""

    path: Path
    attribute: str
    classes: tuple[tuple[str, RGB], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class LabelPicture:
    """A picture of label numbers (grey values, or the indices of a palette); those in `values` count.
    `named`: all that have a name, where others are to be told."""

    path: Path
    values: tuple[int, ...]
    named: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class LabelSlice:
    """The slice of a label volume that lies on the slice `image` of a volume; `values` count (None:
    everything but 0). `named`: all that have a name, where others are to be told."""

    path: Path
    image: Slice
    values: tuple[int, ...] | None = None
    named: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (*volume_files(self.path), *self.image.files)


@dataclass(frozen=True, slots=True)
class RunLengths:
    """COCO's compressed run lengths. size: (height, width). path: the file that they stand in."""

    path: Path
    counts: str
    size: tuple[int, int]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Polygons:
    """Outlines of (x, y) corners in pixels. size: (height, width). path: the file they stand in."""

    path: Path
    outlines: tuple[tuple[tuple[float, float], ...], ...]
    size: tuple[int, int]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Nothing:
    """An image that is known to show no target."""

    @property
    def files(self) -> tuple[Path, ...]:
        return ()


ImageSource: TypeAlias = Picture | Slice
MaskSource: TypeAlias = MaskFiles | ColourFile | LabelPicture | LabelSlice | RunLengths | Polygons | Nothing


@dataclass(frozen=True)
class Drawn:
    """A decoded mask. grey: uint8 [H, W], as stored where its source has grey values, else 0 and 255.
    coloured: whether it is stored in colour. attributes: what its source tells besides. lossy: whether
    its values come from a JPEG, which blurs them. unnamed: label numbers but 0 that have no name, the nine
    lowest at most, where its source says which have one."""

    grey: Grey
    coloured: bool = False
    attributes: tuple[tuple[str, str], ...] = ()
    lossy: bool = False
    unnamed: tuple[int, ...] = ()


def read_image(source: ImageSource) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3]. Raises UnreadableFile."""
    if isinstance(source, Picture):
        return read_picture(source.path)
    return read_slice(source.path, source.index, source.axis, source.stored)


def read_mask(source: MaskSource, size: tuple[int, int]) -> Drawn:
    """The mask of an image of `size` (height, width); the mask's own size may differ, which is for the
    caller to find. Raises UnreadableFile."""
    return _READERS[type(source)](source, size)


def _mask_files(source: MaskFiles, _: tuple[int, int]) -> Drawn:
    grey = read_mask_picture(source.paths[0])
    for path in source.paths[1:]:
        further = read_mask_picture(path)
        if further.shape != grey.shape:
            expected, found = (f"{shape[1]} x {shape[0]}" for shape in (grey.shape, further.shape))
            raise UnreadableFile(f"{path}: {found} pixels, but {source.paths[0].name} has {expected}")
        grey = np.maximum(grey, further)
    coloured = [path for path in source.paths if is_coloured(path)]
    lossy = any(_is_jpeg(path) for path in source.paths)
    if not lossy:
        for path in coloured:
            _check_one_colour(path)
    return Drawn(grey, bool(coloured), lossy=lossy)


def _check_one_colour(path: Path) -> None:
    """Raises UnreadableFile where parts of a mask differ in colour, as those of several classes do."""
    pixels = read_picture(path)
    if (pixels.max(axis=2) == pixels.min(axis=2)).all():
        return
    marked = pixels[pixels.any(axis=2)]
    colours, counts = np.unique(marked, axis=0, return_counts=True)
    several = colours[counts > CLASS_SHARE * len(marked)]
    if len(several) > 1:
        shown = ", ".join(str(tuple(int(value) for value in colour)) for colour in several[:4])
        raise UnreadableFile(
            f"{path}: expected one class, found several colours: {shown} (of a palette? then say what"
            " its numbers mean with --labels)"
        )


def _colour_file(source: ColourFile, _: tuple[int, int]) -> Drawn:
    pixels = read_picture(source.path)
    grey: Grey = pixels.max(axis=2)
    lit = pixels[grey > BRIGHT].astype(np.int32)
    colours = np.array([colour for _, colour in source.classes], np.int32)
    nearest = np.abs(lit[:, None] - colours[None]).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(colours)) / max(1, len(lit))
    names = [name for (name, _), share in zip(source.classes, shares, strict=True) if share > STRAY]
    attributes = ((source.attribute, " and ".join(names)),) if names else ()
    lit_grey = np.where(grey > BRIGHT, grey, 0).astype(np.uint8)
    return Drawn(lit_grey, attributes=attributes, lossy=_is_jpeg(source.path))


CLASS_SHARE = 0.1  # of the marked pixels of a mask; what has less may be a soft edge
STRAY = 0.02  # JPEG blurs colours along edges: a smaller share of the lit pixels is no class


def _label_picture(source: LabelPicture, _: tuple[int, int]) -> Drawn:
    labels = read_label_picture(source.path)
    return Drawn(_lit(np.isin(labels, source.values)), unnamed=_unnamed(labels, source.named))


def _label_slice(source: LabelSlice, _: tuple[int, int]) -> Drawn:
    image = source.image
    labels = read_label_slice(source.path, image.path, image.index, image.axis, image.stored)
    if source.values is None:  # all of them are told, so that several are noticed over the whole set
        return Drawn(_lit(labels != 0), unnamed=_unnamed(labels, (0,)))
    return Drawn(_lit(np.isin(labels, source.values)), unnamed=_unnamed(labels, source.named))


def _run_lengths(source: RunLengths, _: tuple[int, int]) -> Drawn:
    try:
        return Drawn(_lit(unpack_run_lengths(source.counts, *source.size)))
    except ValueError as error:
        raise UnreadableFile(f"{source.path}: {error}") from error


def _polygons(source: Polygons, _: tuple[int, int]) -> Drawn:
    try:
        return Drawn(_lit(fill_polygons(source.outlines, *source.size)))
    except ValueError as error:
        raise UnreadableFile(f"{source.path}: {error}") from error


def _nothing(_: Nothing, size: tuple[int, int]) -> Drawn:
    return Drawn(np.zeros(size, np.uint8))


def _unnamed(labels: NDArray[np.int64], named: tuple[int, ...]) -> tuple[int, ...]:
    if not named:
        return ()
    others = np.unique(labels[np.isin(labels, (0, *named), invert=True)])
    return tuple(int(value) for value in others[:_LISTED])


def _is_jpeg(path: Path) -> bool:
    """By its content: a JPEG may be called .png, and often is."""
    with path.open("rb") as stream:
        return stream.read(3) == b"\xff\xd8\xff"


def _lit(mask: NDArray[np.bool_]) -> Grey:
    return mask.astype(np.uint8) * np.uint8(255)


_READERS: dict[type, Callable[[Any, tuple[int, int]], Drawn]] = {
    MaskFiles: _mask_files,
    ColourFile: _colour_file,
    LabelPicture: _label_picture,
    LabelSlice: _label_slice,
    RunLengths: _run_lengths,
    Polygons: _polygons,
    Nothing: _nothing,
}
