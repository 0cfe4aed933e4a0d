"""The picture beside a mask: which frames it shows, what it says, and that it is whole or not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vlsmctl import overlays, preview
from vlsmctl.errors import UnreadableFile
from vlsmctl.formats.records import Scan
from vlsmctl.overlays import chosen_frames, write_overlay
from vlsmctl.preview import COLOURS, Tile

Picture = NDArray[np.uint8]
GREY = 40


@dataclass(frozen=True)
class Held:
    """Frames in memory: bool [N, H, W]."""

    array: NDArray[np.bool_]
    dtype = np.dtype(np.bool_)
    scale = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[1], self.array.shape[2]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, number: int, /) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = self.array[number]
        return mask


def masks(*lengths: int, shape: tuple[int, int] = (64, 48), at: int = 10) -> Held:
    """A frame for each length: a square of that many pixels a side."""
    frames = np.zeros((len(lengths), *shape), np.bool_)
    for frame, length in zip(frames, lengths, strict=True):
        frame[at : at + length, at : at + length] = True
    return Held(frames)


def scan(count: int = 1, shape: tuple[int, int] = (64, 48)) -> tuple[Scan, list[int]]:
    """A scan of grey frames, and the numbers of those that were read, in turn."""
    seen: list[int] = []

    def read(number: int) -> Picture:
        seen.append(number)
        return np.full((*shape, 3), GREY, np.uint8)

    return Scan(Path("x"), "nifti", count, shape, None, read), seen


def written(made: Scan, pairs: list[tuple[str, Held]], target: Path) -> Picture:
    write_overlay(made, pairs, target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    with Image.open(target) as image:
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
        return np.asarray(image)


def has(picture: Picture, colour: tuple[int, int, int], minimum: int = 1) -> bool:
    return int((picture == np.array(colour)).all(axis=2).sum()) >= minimum


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles of the sheets, in turn, with their captions."""
    seen: list[Tile] = []
    real = preview.fitted

    def kept(tile: Tile, size: int) -> Tile:
        seen.append(real(tile, size))
        return seen[-1]

    monkeypatch.setattr(overlays, "fitted", kept)
    return seen


@pytest.mark.parametrize(
    ("shape", "tile"),
    [((64, 48), (512, 384)), ((600, 700), (600, 700)), ((2000, 1000), (1024, 512)), ((1, 3000), (1, 1024))],
)
def test_a_picture_gets_one_large_tile(
    tmp_path: Path, tiles: list[Tile], shape: tuple[int, int], tile: tuple[int, int]
) -> None:
    made, _ = scan(1, shape)
    sheet = written(made, [("polyp", masks(20, shape=shape, at=0))], tmp_path / "a.png")
    assert [each.image.shape[:2] for each in tiles] == [tile]
    assert sheet.shape[1] >= 512
    assert has(sheet, COLOURS[0], 100)
    assert tiles[0].caption == f"{min(20, shape[0]) * 20} px"


def test_each_prompt_has_its_colour_and_its_count(tmp_path: Path, tiles: list[Tile]) -> None:
    made, _ = scan()
    pairs = [("polyp", masks(20)), ("wound", masks(10)), ("scar", masks(0))]
    sheet = written(made, pairs, tmp_path / "a.png")
    assert tiles[0].caption == "400 + 100 + 0 px"
    assert [colour for _, colour in tiles[0].outlines] == list(COLOURS[:2])
    for colour in COLOURS[:2]:
        assert has(sheet[-500:], colour, 100)
    assert has(sheet[:-552], COLOURS[2])  # in the legend alone
    assert not has(sheet[-552:], COLOURS[2])


def test_the_outline_lies_where_the_mask_is(tmp_path: Path, tiles: list[Tile]) -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[8:16, 40:60] = True
    made, _ = scan(1, (64, 64))
    written(made, [("polyp", Held(mask[None]))], tmp_path / "a.png")
    rows, columns = np.nonzero(tiles[0].outlines[0][0])
    edges = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert [edge / 8 for edge in edges] == [8, 16, 40, 60]


def test_frames_are_read_again_in_order_and_say_their_numbers(tmp_path: Path, tiles: list[Tile]) -> None:
    made, seen = scan(40)
    lengths = [number % 9 if 5 <= number < 30 else 0 for number in range(40)]
    lengths[17] = 20
    written(made, [("polyp", masks(*lengths))], tmp_path / "a.png")
    assert seen == sorted(set(seen))
    assert len(seen) == 12
    assert {5, 17, 29} <= set(seen)
    assert all(lengths[number] for number in seen)
    assert [each.caption for each in tiles] == [
        f"frame {number + 1} of 40, {lengths[number] ** 2} px" for number in seen
    ]


def test_where_nothing_is_found_a_few_frames_say_so(tmp_path: Path, tiles: list[Tile]) -> None:
    made, seen = scan(40)
    written(made, [("polyp", masks(*[0] * 40)), ("wound", masks(*[0] * 40))], tmp_path / "a.png")
    assert seen == [0, 13, 26, 39]
    assert {each.caption for each in tiles} == {f"frame {n + 1} of 40, nothing found" for n in seen}
    assert not any(each.outlines for each in tiles)


def counts(*rows: dict[int, int], frames: int = 600) -> NDArray[np.int_]:
    made = np.zeros((len(rows), frames), int)
    for row, marked in zip(made, rows, strict=True):
        for number, count in marked.items():
            row[number] = count
    return made


def test_chosen_frames() -> None:
    assert chosen_frames(counts({}, frames=1)) == [0]
    assert chosen_frames(counts({}, frames=3)) == [0, 1, 2]
    assert chosen_frames(counts({7: 1}, {599: 2})) == [7, 599]
    assert chosen_frames(counts(dict.fromkeys(range(100, 112), 5))) == list(range(100, 112))
    everywhere = chosen_frames(counts(dict.fromkeys(range(600), 1)))
    assert (len(everywhere), everywhere[0], everywhere[-1]) == (12, 0, 599)
    assert set(np.diff(everywhere)) <= {54, 55}


@pytest.mark.parametrize("seed", range(20))
def test_the_chosen_are_marked_and_hold_first_last_and_largest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 50, (rng.integers(1, 8), rng.integers(2, 200)))
    made *= rng.random(made.shape) < 0.4
    chosen, marked = chosen_frames(made), np.flatnonzero(made.any(axis=0))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(12, len(marked))
    assert set(chosen) <= set(marked.tolist())
    wanted = {marked[0], marked[-1], *(row.argmax() for row in made if row.any())}
    assert wanted <= set(chosen)


def test_more_prompts_than_places_are_shown_as_far_as_they_go(tmp_path: Path, tiles: list[Tile]) -> None:
    made, _ = scan(30)
    pairs = [(f"prompt {k}", masks(*[5 if n == k else 0 for n in range(30)])) for k in range(30)]
    sheet = written(made, pairs, tmp_path / "a.png")
    assert len(tiles) == 12
    assert sheet.shape[0] < 2000
    assert tiles[0].caption == "frame 1 of 30, 25 px"


@pytest.mark.parametrize(
    "prompt", ["息肉", "a\nb\0c", "x" * 9000, "word " * 900, "😀", "{}", "<b>&amp;[red]", " "]
)
def test_any_prompt_can_be_shown(tmp_path: Path, prompt: str) -> None:
    made, _ = scan()
    sheet = written(made, [(prompt, masks(5)), ("polyp", masks(0))], tmp_path / "a.png")
    words = sheet[: -(512 + 60), 26:]
    assert (words < 100).any()
    assert (words[:, -5:] == 255).all()  # cut, not run off the sheet


def test_nothing_is_left_where_a_frame_cannot_be_read_again(tmp_path: Path) -> None:
    def damaged(number: int) -> Picture:
        raise UnreadableFile("x.nii.gz: damaged")

    made = Scan(Path("x"), "nifti", 3, (64, 48), None, damaged)
    with pytest.raises(UnreadableFile):
        write_overlay(made, [("polyp", masks(3, 3, 3))], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_former_overlay_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = scan()
    target = tmp_path / "deep" / "a.overlay.png"
    before = written(made, [("polyp", masks(5))], target)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space"):
            write_overlay(made, [("polyp", masks(20))], target)
    with Image.open(target) as image:
        assert np.array_equal(np.asarray(image), before)
    assert not np.array_equal(written(made, [("polyp", masks(20))], target), before)


def test_large_frames_are_not_all_held(tmp_path: Path, tiles: list[Tile]) -> None:
    made, _ = scan(12, (1500, 1200))
    written(made, [("polyp", masks(*[900] * 12, shape=(1500, 1200)))], tmp_path / "a.png")
    assert all(each.image.shape == (320, 256, 3) for each in tiles)
    assert all(mask.shape == (320, 256) for each in tiles for mask, _ in each.outlines)
