"""Synthetic endoscopy frames with polyp-like lesions, for trying the tool without any real data.

A frame shows reddish mucosa with folds around a dark lumen, vessels, wet highlights, residue, and
the dark border of the scope; a lesion is a raised soft-edged blob whose colour is close to that of
the ground. That is on purpose unlike the flat bright objects of `shapes.py`: a model that learned
there has something left to adapt to.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vlsmctl.datasets.folders import Folder
from vlsmctl.datasets.generic import PROMPTS_FILE, list_items
from vlsmctl.datasets.manifest import SPLITS
from vlsmctl.datasets.records import Kind, Progress

FloatImage: TypeAlias = NDArray[np.float32]

EMPTY_CHANCE = 0.1
TWO_CHANCE = 0.22
SIDE = 192
GROUP = 4


@dataclass(frozen=True)
class Look:
    """What the frames of one group (a synthetic patient and scope) have in common.

    `mucosa`: RGB 0..1 of the lining; `vessels`: how strongly they show, 0..1; `view`: radius of the
    visible disc as a fraction of the picture's side; `cut`: whether the disc is cut to an octagon;
    `exposure`: a factor around 1; `noise`: standard deviation of the sensor noise, of 0..1.
    """

    mucosa: tuple[float, float, float]
    vessels: float
    view: float
    cut: bool
    exposure: float
    noise: float


def make_look(rng: np.random.Generator) -> Look:
    """Draws what a group's frames have in common."""
    red = rng.uniform(0.72, 0.88)
    return Look(
        mucosa=(red, red * rng.uniform(0.46, 0.6), red * rng.uniform(0.34, 0.5)),
        vessels=float(rng.uniform(0.25, 0.9)),
        view=float(rng.uniform(0.5, 0.64)),
        cut=bool(rng.random() < 0.5),
        exposure=float(rng.uniform(0.95, 1.2)),
        noise=float(rng.uniform(0.006, 0.02)),
    )


def make_phantom(
    rng: np.random.Generator, size: int = SIDE, look: Look | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draws one frame: image uint8 [size, size, 3] and lesion mask bool [size, size], which is empty
    in one frame out of ten. `look`: what it shares with its group (drawn when not given)."""
    look = look or make_look(rng)
    y, x = _coordinates(size)
    relief, depth = _mucosa(rng, size, y, x)
    colour = np.asarray(look.mucosa, np.float32) * (1 + 0.1 * _smooth(rng, size, 5)[..., None])
    colour = colour * (1 - _vessels(rng, size)[..., None] * np.float32(look.vessels) * (0.14, 0.38, 0.3))
    mask = np.zeros((size, size), bool)
    for _ in range(_lesion_count(rng)):
        relief, colour, mask = _add_lesion(rng, y, x, look, relief, colour, mask)
    colour = _add_residue(rng, size, colour, mask)
    canvas = _lit(rng, relief, depth, colour) * np.float32(look.exposure)
    canvas = _add_highlights(rng, canvas, relief)
    canvas = canvas + rng.normal(0, look.noise, (size, size, 1)).astype(np.float32)
    inside = _view(size, y, x, look.view, look.cut)
    image = (255 * np.clip(canvas * inside[..., None] + 0.012, 0, 1)).astype(np.uint8)
    blur = float(rng.choice([0.0, 0.5, 0.9]))
    if blur:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(blur * size / 192)))
    return image, mask & (inside > 0.5)


def write_raw(folder: Path, seed: int, counts: Sequence[int], progress: Progress) -> None:
    """Writes a raw data set in the generic layout: `counts` images for train, val and test, four of one
    look in a group. Image `n` of a split hangs on (seed, split, n) alone."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    wanted = [(at, n) for at, count in enumerate(counts) for n in range(count)]
    rows = [("id", "split", "group")]
    for at, n in progress(wanted, "Drawing phantoms", len(wanted)):
        look = make_look(np.random.default_rng((seed, at, n // GROUP)))
        image, mask = make_phantom(np.random.default_rng((seed, at, n // GROUP, n)), SIDE, look)
        name = f"{SPLITS[at]}-{n:04d}"
        Image.fromarray(image).save(folder / "images" / f"{name}.png", compress_level=1)
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / "masks" / f"{name}.png")
        rows.append((name, SPLITS[at], f"{SPLITS[at]}-{n // GROUP:03d}"))
    with (folder / PROMPTS_FILE).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def _nowhere(_: Folder) -> bool:
    """Phantoms are made, not found."""
    return False


def _lesion_count(rng: np.random.Generator) -> int:
    if rng.random() < EMPTY_CHANCE:
        return 0
    return 2 if rng.random() < TWO_CHANCE else 1


def _coordinates(size: int) -> tuple[FloatImage, FloatImage]:
    """Rows and columns as float32 [size, 1] and [1, size], -1 to 1."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    return line[:, None], line[None, :]


def _smooth(rng: np.random.Generator, size: int, cells: int) -> FloatImage:
    """Smooth noise, float32 [size, size], about -1 to 1, with `cells` random values along a side."""
    grid = Image.fromarray(rng.normal(0, 0.6, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def _mucosa(
    rng: np.random.Generator, size: int, y: FloatImage, x: FloatImage
) -> tuple[FloatImage, FloatImage]:
    """Relief and depth: folds ring a lumen that lies off-centre, and everything darkens towards it."""
    row, column = rng.uniform(-0.75, 0.75, 2)
    squeeze = rng.uniform(0.7, 1.4)
    warp = _smooth(rng, size, 4)
    away = np.sqrt(((y - np.float32(row)) * np.float32(squeeze)) ** 2 + (x - np.float32(column)) ** 2)
    away = np.maximum(away * (1 + 0.35 * warp), 0.02).astype(np.float32)
    phase = np.float32(rng.uniform(4.5, 8)) * np.log(away + 0.25) + 1.6 * _smooth(rng, size, 3)
    ridges = np.exp(-4 * (1 - np.sin(phase + np.float32(rng.uniform(0, 6.28)))) / 2)
    presence = np.clip(0.5 + 0.9 * _smooth(rng, size, 4), 0, 1)
    relief = np.float32(rng.uniform(0.12, 0.34)) * ridges * presence * np.minimum(away, 1)
    relief = relief + 0.07 * _smooth(rng, size, 6) + 0.006 * _smooth(rng, size, size // 6)
    reach = np.float32(rng.uniform(0.1, 0.55))
    depth = np.clip((away / reach) ** 1.2, 0.1, 1) if rng.random() < 0.75 else np.ones_like(away)
    return relief.astype(np.float32), depth.astype(np.float32)


def _vessels(rng: np.random.Generator, size: int) -> FloatImage:
    """A net of branching vessels, float32 [size, size], 0 to 1."""
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 8))):
        point, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
        starts = [(point, angle, 14, 2)]
        while starts:
            point, angle, steps, width = starts.pop()
            line = [(float(point[0]), float(point[1]))]
            for _ in range(steps):
                angle += rng.normal(0, 0.35)
                point = point + size * 0.035 * np.array([np.cos(angle), np.sin(angle)])
                line.append((float(point[0]), float(point[1])))
                if steps > 5 and rng.random() < 0.2:
                    starts.append((point, angle + rng.choice([-0.8, 0.8]), steps // 2, 1))
            draw.line(line, fill=230 if width > 1 else 150, width=max(1, width * size // 192))
    soft = picture.filter(ImageFilter.GaussianBlur(1.1 * size / 192))
    return np.asarray(soft, np.float32) / np.float32(255)


def _add_lesion(
    rng: np.random.Generator,
    y: FloatImage,
    x: FloatImage,
    look: Look,
    relief: FloatImage,
    colour: FloatImage,
    mask: NDArray[np.bool_],
) -> tuple[FloatImage, FloatImage, NDArray[np.bool_]]:
    """Raises one blob clear of those drawn before; unchanged when it finds no room."""
    for _ in range(8):
        reach = float(np.exp(rng.uniform(np.log(0.14), np.log(0.5))))
        free = max(0.05, 1.75 * look.view - reach)
        angle, off = rng.uniform(0, 2 * np.pi), free * np.sqrt(rng.random())
        outline = _outline(
            rng, y - np.float32(off * np.sin(angle)), x - np.float32(off * np.cos(angle)), reach
        )
        own = outline < 1
        if not (mask & (outline < 1.25)).any():
            break
    else:
        return relief, colour, mask
    size = mask.shape[0]
    height = np.float32(reach * rng.uniform(0.2, 0.7))
    dome = np.clip(1 - outline**2.4, 0, 1) ** np.float32(rng.uniform(0.7, 1.3))
    foot = np.exp(-(((outline - 1) / 0.16) ** 2)) * (outline >= 1)
    alpha = np.clip((1 - outline) * reach * size / np.float32(rng.uniform(2.5, 8)) + 0.5, 0, 1)[..., None]
    relief = relief * (1 - 0.6 * alpha[..., 0]) + height * dome - 0.015 * foot
    shift = (rng.uniform(0.98, 1.14), rng.uniform(0.85, 1.22), rng.uniform(0.85, 1.22))
    surface = np.asarray(look.mucosa, np.float32) * np.asarray(shift, np.float32)
    mottle = 0.1 * _smooth(rng, size, size // 8) + 0.08 * _smooth(rng, size, size // 16)
    surface = surface * (1 + np.float32(rng.uniform(0.4, 1.2)) * mottle[..., None] * (0.6, 1.1, 1.0))
    colour = (colour + alpha * (surface - colour)) * (
        1 - np.float32(rng.uniform(0, 0.18)) * foot[..., None]
    )
    return relief.astype(np.float32), colour.astype(np.float32), mask | own


def _outline(rng: np.random.Generator, dy: FloatImage, dx: FloatImage, reach: float) -> FloatImage:
    """A field that is below 1 inside an irregular closed outline of about `reach` around the origin."""
    stretch, turn = rng.uniform(0.65, 1.0), rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = cos * dx + sin * dy, (cos * dy - sin * dx) / np.float32(stretch)
    theta = np.arctan2(v, u)
    radius = np.ones_like(theta)
    for wave in (2, 3, 4, 6):
        amount, phase = rng.normal(0, 0.16 / wave), rng.uniform(0, 2 * np.pi)
        radius += np.float32(amount) * np.cos(wave * theta + np.float32(phase))
    field = np.sqrt(u * u + v * v) / (np.float32(reach) * np.maximum(radius, 0.4))
    return field.astype(np.float32)


def _add_residue(
    rng: np.random.Generator, size: int, colour: FloatImage, mask: NDArray[np.bool_]
) -> FloatImage:
    """Patches of yellow-green liquid on the ground, a distractor in one frame out of four."""
    if rng.random() > 0.25:
        return colour
    field = _smooth(rng, size, 5) + 0.3 * _smooth(rng, size, 20)
    alpha = 0.75 * np.clip((field - 0.75) * 8, 0, 1) * ~mask
    return (colour + alpha[..., None] * (np.array((0.72, 0.6, 0.24), np.float32) - colour)).astype(
        np.float32
    )


def _lit(rng: np.random.Generator, relief: FloatImage, depth: FloatImage, colour: FloatImage) -> FloatImage:
    """The scene under the scope's own lamp: slopes that face away from it are darker, and what lies
    deep is darker and redder."""
    size = relief.shape[0]
    slope_y, slope_x = np.gradient(relief * (size / 2))
    lamp_y, lamp_x = rng.uniform(-0.6, 0.6, 2)
    facing = (1 - lamp_y * slope_y - lamp_x * slope_x) / np.sqrt(1 + slope_y**2 + slope_x**2)
    light = np.clip(0.32 + 0.68 * facing, 0.08, 1.35) * depth * (1 + 0.1 * _smooth(rng, size, 3))
    falloff = np.power(np.maximum(light, 0.03)[..., None], np.array((0.8, 1.05, 1.1)))
    lit: FloatImage = (colour * falloff).astype(np.float32)
    return lit


def _add_highlights(rng: np.random.Generator, canvas: FloatImage, relief: FloatImage) -> FloatImage:
    """Wet white spots, where the light comes back: mostly on what stands out, now and then anywhere."""
    size = relief.shape[0]
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    raised = np.flatnonzero(relief.ravel() > np.quantile(relief[::4, ::4], 0.85))
    for _ in range(int(rng.integers(2, 9))):
        row, column = divmod(int(rng.choice(raised)), size)
        if rng.random() < 0.4:
            row, column = (int(value) for value in rng.integers(0, size, 2))
        for _ in range(int(rng.integers(1, 5))):
            a, b = rng.uniform(0.4, 2.4, 2) * size / 192
            cy, cx = row + rng.normal(0, size * 0.02), column + rng.normal(0, size * 0.02)
            draw.ellipse((cx - a, cy - b, cx + a, cy + b), fill=255)
    glow = (
        np.asarray(picture.filter(ImageFilter.GaussianBlur(0.7 * size / 192)), np.float32)[..., None] / 255
    )
    return (canvas + glow * (np.array((1.0, 0.97, 0.95), np.float32) - canvas)).astype(np.float32)


def _view(size: int, y: FloatImage, x: FloatImage, radius: float, cut: bool) -> FloatImage:
    """The scope's field of view with its soft dark border, float32 [size, size], 0 to 1."""
    away = np.sqrt(y * y + x * x)
    border = away
    if cut:
        side = np.maximum(np.abs(y), np.abs(x) * np.float32(1.12))
        border = np.maximum(side * np.float32(1.15), (np.abs(y) + np.abs(x)) * np.float32(0.8))
    edge = np.clip((2 * radius - border) * size / 6 + 0.5, 0, 1)
    return (edge * (1 - 0.3 * np.clip(away / (2 * radius), 0, 1) ** 3)).astype(np.float32)


PHANTOM = Kind(
    title="phantom: synthetic endoscopy frames",
    layout="none: phantoms are drawn, without --raw",
    source="drawn by vlsmctl; synthetic, no patient was involved",
    licence="Apache-2.0",
    split_rule="drawn split by split; a group (frames of one look) never lies in two splits",
    matches=_nowhere,
    list_items=list_items,
    make=write_raw,
)
