"""The procedural corpus that the embedded tiny model learned from: pictures, prompts, masks.

A picture holds one to four objects with a shape, a colour, a size and a place, on a textured
ground among thin distractors. A prompt names some of these attributes; its mask is the union of
the objects that fit all of them, and is empty when none does. Everything about sample `index` is
drawn from a generator seeded with (seed, index), so the corpus is the same on every machine and
with any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vlsmctl.datasets.attributes import PLACES, place_word, size_word

FloatImage = NDArray[np.float32]
ByteImage = NDArray[np.uint8]

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (25, 25, 28), "gray": (128, 128, 128), "white": (240, 240, 238),
    "red": (200, 35, 35), "pink": (238, 150, 175), "orange": (240, 140, 30),
    "brown": (115, 70, 35), "tan": (210, 180, 140), "yellow": (235, 220, 50),
    "purple": (125, 50, 150), "green": (45, 150, 60), "blue": (45, 80, 200),
}  # fmt: skip
SHAPES: dict[str, tuple[str, ...]] = {
    "round": ("round", "circular"),
    "oval": ("oval", "elliptical"),
    "square": ("square",),
    "rectangular": ("rectangular",),
    "triangular": ("triangular",),
    "star": ("star-shaped",),
    "irregular": ("irregular",),
}
NOUNS = (
    "polyp", "lesion", "ulcer", "tumor", "wound", "nodule", "spot", "object", "shape", "melanoma",
    "foot ulcer", "skin lesion", "mass", "region",
)  # fmt: skip
VOCABULARY: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": ("small", "medium", "large"),
    "place": tuple(word for row in PLACES for word in row),
}
COVERAGES = {"small": (0.012, 0.065), "medium": (0.095, 0.24), "large": (0.32, 0.45)}


@dataclass(frozen=True)
class Thing:
    """One object of a picture: its words, and its mask (bool [S, S]), before occlusion is applied."""

    shape: str
    colour: str
    size: str
    place: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """`image`: uint8 [S, S, 3]; `things`: the objects in it, their masks without overlap."""

    image: ByteImage
    things: tuple[Thing, ...]
    noun: str


@dataclass(frozen=True)
class Query:
    """A prompt for a scene, the mask it asks for (bool [S, S], empty when nothing fits), and the
    attributes that the prompt names."""

    prompt: str
    mask: NDArray[np.bool_]
    asked: dict[str, str]


def generator(seed: int, index: int) -> np.random.Generator:
    """The random generator of sample `index`."""
    return np.random.default_rng((seed, index))


def make_scene(rng: np.random.Generator, size: int = 160, count: int | None = None) -> Scene:
    """Draws one picture of `size` x `size` pixels with `count` objects (1 to 4 when not given)."""
    ground_colour = str(rng.choice(list(COLOURS)))
    canvas = _ground(rng, size, ground_colour)
    canvas = _distractors(rng, canvas)
    wanted = count or int(rng.choice([1, 2, 3, 4], p=[0.25, 0.4, 0.25, 0.1]))
    things: list[Thing] = []
    taken = np.zeros((size, size), bool)
    for _ in range(wanted * 6):
        if len(things) == wanted:
            break
        drawn = _thing(rng, size, ground_colour, taken, alone=wanted == 1)
        if drawn is None:
            continue
        thing, alpha, rgb = drawn
        canvas += alpha[..., None] * (rgb - canvas)
        taken |= alpha > 0.02
        things.append(thing)
    canvas = canvas * np.float32(rng.uniform(0.75, 1.15)) + rng.normal(
        0, rng.uniform(1, 9), (size, size, 1)
    ).astype(np.float32)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
        image = np.asarray(blurred)
    return Scene(image, tuple(things), str(rng.choice(NOUNS)))


def make_query(rng: np.random.Generator, scene: Scene, about: int, absent: bool = False) -> Query:
    """A prompt about object `about`; with `absent`, one that no object of the scene fits."""
    thing = scene.things[about]
    words = {"shape": thing.shape, "colour": thing.colour, "size": thing.size, "place": thing.place}
    number = int(rng.choice([0, 1, 2, 3, 4], p=[0.06, 0.46, 0.28, 0.14, 0.06]))
    kept = [str(key) for key in rng.choice(list(words), number, replace=False, p=[0.3, 0.27, 0.1, 0.33])]
    if absent:
        kept = kept or [str(rng.choice(["shape", "colour", "place"]))]
        words = _made_unfit(rng, scene, words, kept)
    asked = {key: words[key] for key in words if key in kept}
    mask = matching(scene, asked)
    return Query(compose(rng, asked, scene.noun, count_matching(scene, asked)), mask, asked)


def make_choice(rng: np.random.Generator, size: int = 160) -> tuple[Scene, Query, Query]:
    """A picture with exactly two objects that differ in colour, shape or place, and a prompt for
    each that fits only that one: the test of whether a model reads."""
    while True:
        scene = make_scene(rng, size, count=2)
        if len(scene.things) != 2:
            continue
        first, second = scene.things
        differing = [
            key for key in ("shape", "colour", "place") if getattr(first, key) != getattr(second, key)
        ]
        if not differing:
            continue
        kept = {str(rng.choice(differing))} | {
            key for key in ("shape", "colour", "place") if rng.random() < 0.4
        }
        queries = []
        for thing in scene.things:
            asked = {key: str(getattr(thing, key)) for key in VOCABULARY if key in kept}
            queries.append(Query(compose(rng, asked, scene.noun, 1), thing.mask, asked))
        return scene, queries[0], queries[1]


def matching(scene: Scene, asked: dict[str, str]) -> NDArray[np.bool_]:
    """The union of the objects that fit every attribute asked for."""
    mask = np.zeros(scene.image.shape[:2], bool)
    for thing in scene.things:
        if _fits(thing, asked):
            mask |= thing.mask
    return mask


def count_matching(scene: Scene, asked: dict[str, str]) -> int:
    return sum(_fits(thing, asked) for thing in scene.things)


def compose(rng: np.random.Generator, asked: dict[str, str], noun: str, count: int) -> str:
    """A prompt such as "one small red oval polyp, located in top left of the image"."""
    parts = [str(rng.choice(["", "", "a", "the"]))]
    if rng.random() < 0.4:
        parts = [{0: "one", 1: "one", 2: "two", 3: "three"}.get(count, "four")]
    if "size" in asked:
        parts.append(asked["size"])
    if "colour" in asked:
        parts.append(asked["colour"])
    if "shape" in asked:
        parts.append(str(rng.choice(SHAPES[asked["shape"]])))
    parts.append(noun + "s" if count > 1 else noun)
    text = " ".join(part for part in parts if part)
    if "place" in asked:
        forms = (", located in {} of the image", " located in {} of the image", " in the {}", ", {}")
        text += str(rng.choice(forms, p=[0.45, 0.25, 0.2, 0.1])).format(asked["place"])
    return text


def _fits(thing: Thing, asked: dict[str, str]) -> bool:
    return all(getattr(thing, key) == word for key, word in asked.items())


def _made_unfit(
    rng: np.random.Generator, scene: Scene, words: dict[str, str], kept: list[str]
) -> dict[str, str]:
    """Changes one kept attribute to a word that leaves no object fitting."""
    for _ in range(20):
        key = str(rng.choice(kept))
        changed = words | {key: str(rng.choice(VOCABULARY[key]))}
        if not any(_fits(thing, {k: changed[k] for k in kept}) for thing in scene.things):
            return changed
    kept[:] = ["colour"]
    unused = set(COLOURS) - {thing.colour for thing in scene.things}
    return words | {"colour": str(rng.choice(sorted(unused)))}


def _noise(rng: np.random.Generator, size: int, cells: int) -> FloatImage:
    """Smooth noise [S, S] of about unit size: `cells` random values across, interpolated."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BILINEAR), np.float32)


def _texture(rng: np.random.Generator, size: int, strength: float) -> FloatImage:
    """A brightness pattern [S, S], of size `strength` (grey levels): noise, stripes, a slope or nothing."""
    kind = rng.integers(5)
    if kind == 0:
        return np.zeros((size, size), np.float32)
    if kind <= 2:
        return np.float32(strength) * _noise(rng, size, int(rng.integers(4, 40)))
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
    if kind == 3:
        period = 4 * size
    line = np.arange(size, dtype=np.float32)
    phase = (np.cos(angle) * line[:, None] + np.sin(angle) * line[None, :]) * (2 * np.pi / period)
    stripes: FloatImage = np.sin(phase + rng.uniform(0, 6)).astype(np.float32)
    return np.float32(1.4 * strength) * stripes


def _tint(rng: np.random.Generator, name: str) -> FloatImage:
    return np.asarray(COLOURS[name], np.float32) + rng.normal(0, 8, 3).astype(np.float32)


def _ground(rng: np.random.Generator, size: int, colour: str) -> FloatImage:
    base = np.broadcast_to(_tint(rng, colour), (size, size, 3))
    return base + _texture(rng, size, rng.uniform(3, 18))[..., None]


def _distractors(rng: np.random.Generator, canvas: FloatImage) -> FloatImage:
    """Thin lines, arcs and dots: things that no prompt asks for."""
    number = int(rng.integers(0, 5))
    if number == 0:
        return canvas
    size = canvas.shape[0]
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(number):
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        x0, y0, x1, y1 = (int(value) for value in rng.integers(0, size, 4))
        kind = rng.integers(3)
        if kind == 0:
            draw.line((x0, y0, x1, y1), fill=colour, width=int(rng.integers(1, 3)))
        elif kind == 1:
            box = (min(x0, x1), min(y0, y1), max(x0, x1) + 4, max(y0, y1) + 4)
            draw.arc(box, int(rng.integers(0, 180)), int(rng.integers(180, 360)), fill=colour, width=2)
        else:
            draw.ellipse((x0, y0, x0 + 3, y0 + 3), fill=colour)
    return np.asarray(picture).astype(np.float32)


def _distance(
    shape: str, rng: np.random.Generator, u: FloatImage, v: FloatImage
) -> tuple[FloatImage, float]:
    """A field that is below 1 inside the shape of unit scale, and the shape's area at that scale."""
    if shape in ("round", "oval"):
        ratio = float(rng.uniform(0.92, 1.0) if shape == "round" else rng.uniform(0.42, 0.68))
        return np.sqrt(u * u + (v / ratio) ** 2), np.pi * ratio
    if shape in ("square", "rectangular"):
        ratio = float(rng.uniform(0.93, 1.0) if shape == "square" else rng.uniform(0.35, 0.62))
        return np.maximum(np.abs(u), np.abs(v) / ratio), 4 * ratio
    if shape == "triangular":
        sides = [np.cos(a) * u + np.sin(a) * v for a in (np.pi / 2, np.pi * 7 / 6, np.pi * 11 / 6)]
        return np.maximum.reduce(sides).astype(np.float32), float(3 * np.sqrt(3))
    theta = np.arctan2(v, u)
    radius = np.ones_like(u)
    if shape == "star":
        radius += np.float32(0.42) * np.cos(5 * theta)
        area = np.pi * (1 + 0.42**2 / 2)
    else:
        sizes = rng.uniform(0.1, 0.28, 3)
        for wave, amount in zip((2, 3, 5), sizes, strict=True):
            radius += np.float32(amount) * np.cos(wave * theta + np.float32(rng.uniform(0, 6.28)))
        area = np.pi * (1 + float((sizes**2).sum()) / 2)
    field = np.sqrt(u * u + v * v) / np.maximum(radius, 0.15)
    return field.astype(np.float32), float(area)


def _thing(
    rng: np.random.Generator, size: int, ground: str, taken: NDArray[np.bool_], alone: bool
) -> tuple[Thing, FloatImage, FloatImage] | None:
    """Tries to place one object clear of those drawn before: the object, its opacity [S, S] and its
    colours [S, S, 3]; None when there was no room."""
    shape = str(rng.choice(list(SHAPES)))
    colour = str(rng.choice([name for name in COLOURS if _apart(name, ground)]))
    chances = [0.4, 0.4, 0.2] if alone else [0.7, 0.3, 0.0]
    low, high = COVERAGES[str(rng.choice(list(COVERAGES), p=chances))]
    coverage = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    angle = float(rng.uniform(0, 2 * np.pi))
    reach = 0.5 * np.sqrt(coverage)
    row, column = rng.uniform(min(reach, 0.45), max(1 - reach, 0.55), 2) * size
    line = np.arange(size, dtype=np.float32)
    dy, dx = line[:, None] - np.float32(row), line[None, :] - np.float32(column)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cos * dx + sin * dy, -sin * dx + cos * dy
    field, unit_area = _distance(shape, rng, u, v)
    scale = float(np.sqrt(coverage * size * size / unit_area))
    softness = float(rng.choice([1.0, 1.0, 2.5]))
    alpha = np.clip((scale - field) / softness + 0.5, 0, 1).astype(np.float32)
    mask = alpha >= 0.5
    pixels = int(mask.sum())
    if pixels < 60 or pixels < 0.8 * coverage * size * size or bool((taken & (alpha > 0.02)).any()):
        return None
    rgb = _tint(rng, colour) + _texture(rng, size, rng.uniform(2, 12))[..., None]
    rows, columns = np.nonzero(mask)
    place = place_word(float(rows.mean()), float(columns.mean()), size, size)
    thing = Thing(shape, colour, size_word(pixels / (size * size)), place, mask)
    return thing, alpha, rgb


def _apart(first: str, second: str) -> bool:
    """Whether two colours differ enough for an object to stand out from its ground."""
    gap = np.subtract(COLOURS[first], COLOURS[second])
    return float(np.abs(gap).sum()) > 110
