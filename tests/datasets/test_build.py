"""What holds for every kind of data set: what is written, what is left out, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands.app import start, wait_until
from tests.datasets import fakes
from vlsmctl.datasets import build, inspection
from vlsmctl.datasets.build import prepare
from vlsmctl.datasets.manifest import read_manifest
from vlsmctl.datasets.sources import Drawn, MaskSource
from vlsmctl.datasets.staging import FACTS, build_folder
from vlsmctl.datasets.targets import slug
from vlsmctl.errors import NoReadableInput, UsageError
from vlsmctl.formats.raster import read_picture


def test_the_folder_holds_what_the_manifest_says(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "My Polyps", empty=(3,))
    outcome = prepare("generic", raw, tmp_path / "data")
    assert outcome.folder == tmp_path / "data" / "my-polyps"
    assert (sum(outcome.counts.values()), outcome.empty, outcome.left_out) == (10, 1, ())
    manifest = read_manifest(outcome.folder)
    assert manifest.info["counts"] == outcome.counts
    for record in manifest.records:
        pixels = read_picture(outcome.folder / record.image)
        with Image.open(outcome.folder / record.mask) as opened:
            assert opened.mode == "L"
            mask = np.asarray(opened)
        assert pixels.shape == (record.height, record.width, 3)
        assert mask.shape == (record.height, record.width)
        assert set(np.unique(mask)) <= {0, 255}
        assert record.foreground == pytest.approx((mask == 255).mean())
        assert record.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert record.prompts["p1"] == "my polyps"
    assert sorted(path.name for path in outcome.folder.iterdir()) == [
        ".facts.jsonl", "dataset.json", "images", "manifest.jsonl", "masks",
    ]  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    """What a set holds, but the notes for the next run, which know when the files were written."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != FACTS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    one, two = (prepare("generic", raw, tmp_path / out).folder for out in ("one", "two"))
    assert files_of(one) == files_of(two)


def test_any_number_of_processes_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = fakes.generic(tmp_path / "raw", count=24, empty=(3,))
    fakes.truncate(raw / "images" / "case05.png")
    alone = prepare("generic", raw, tmp_path / "alone", workers=1)
    monkeypatch.setattr(inspection, "PARALLEL_FROM", 1)
    monkeypatch.setattr(inspection, "CHUNK", 5)
    together = prepare("generic", raw, tmp_path / "together", workers=2)
    assert files_of(alone.folder) == files_of(together.folder)
    assert alone.left_out == together.left_out != ()


def test_a_second_run_looks_at_what_changed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = fakes.generic(tmp_path / "raw", count=12, empty=(3,))
    first = prepare("generic", raw, tmp_path / "data", empty="drop")
    looked_at: list[str] = []
    inspect_task = inspection.inspect_task

    def watched(task: inspection.Task, *arguments: Any) -> list[inspection.Found]:
        looked_at.extend(item.id for item in task.items)
        return inspect_task(task, *arguments)

    monkeypatch.setattr(inspection, "inspect_task", watched)
    before = {path: path.stat().st_ino for path in first.folder.rglob("*")}
    second = prepare("generic", raw, tmp_path / "data", empty="drop")
    assert (looked_at, second.reused, second.images) == ([], 12, 12)
    assert {path: path.stat().st_ino for path in first.folder.rglob("*")} == before  # not even moved
    fakes.save(raw / "masks" / "case07.png", fakes.grey(fakes.blob(side=20)))
    fakes.save(raw / "images" / "new.png", fakes.picture(99))
    fakes.save(raw / "masks" / "new.png", fakes.grey(fakes.blob()))
    (raw / "images" / "case00.png").unlink()
    (first.folder / "images" / "case08.png").write_bytes(b"spoilt")
    prepare("generic", raw, tmp_path / "data", empty="drop")
    assert looked_at == ["case07", "case08", "new"]
    assert files_of(first.folder) == files_of(
        prepare("generic", raw, tmp_path / "anew", empty="drop").folder
    )
    looked_at.clear()
    kept = prepare("generic", raw, tmp_path / "data", empty="keep")  # the one that was left out
    assert (looked_at, kept.empty) == (["case03"], 1)
    assert files_of(kept.folder) == files_of(
        prepare("generic", raw, tmp_path / "kept", empty="keep").folder
    )
    looked_at.clear()
    prepare("generic", raw, tmp_path / "data", attributes="medvlsm")
    assert len(looked_at) == 12


def test_old_or_damaged_notes_mean_that_everything_is_looked_at(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    folder = prepare("generic", raw, tmp_path / "data").folder
    before = files_of(folder)
    lines = (folder / FACTS).read_text(encoding="utf-8").splitlines()
    for text in (
        "{",
        "[]",
        json.dumps({**json.loads(lines[0]), "further": 1}),
        "\n".join(lines[:4]) + '\n{"id',
    ):
        (folder / FACTS).write_text(text, encoding="utf-8")
        assert prepare("generic", raw, tmp_path / "data").reused <= 4
        assert files_of(folder) == before


def test_empty_masks_are_kept_dropped_or_thinned_out(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=30, empty=tuple(range(20)))
    counted = {
        empty: sum(prepare("generic", raw, tmp_path / "data", empty=empty).counts.values())
        for empty in ("keep", "0.5", "drop")
    }
    assert counted == {"keep": 30, "0.5": 20, "drop": 10}
    folder = tmp_path / "data" / "raw"
    assert len(list((folder / "images").iterdir())) == len(list((folder / "masks").iterdir())) == 10
    assert read_manifest(folder).info["checks"]["empty_dropped"] == 20
    with pytest.raises(UsageError, match="expected keep, drop or a share"):
        prepare("generic", raw, tmp_path / "data", empty="most")


def test_noise_in_an_empty_mask_is_not_taken_for_a_mask_of_zeros_and_ones(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=8)
    noise = fakes.grey(fakes.blob(), 1)
    fakes.save(raw / "masks" / "case00.png", noise)
    folder = prepare("generic", raw, tmp_path / "data").folder
    by_id = {record.id: record for record in read_manifest(folder).records}
    assert (by_id["case00"].foreground, "p2" in by_id["case00"].prompts) == (0, False)
    for path in (raw / "masks").iterdir():
        fakes.save(path, noise)  # and now they all are
    folder = prepare("generic", raw, tmp_path / "data").folder
    assert all(record.foreground > 0 for record in read_manifest(folder).records)


def test_files_that_others_share_by_links_are_never_written_to(tmp_path: Path) -> None:
    """Pools link the files of their members, and a new set those of the old one."""
    raw = fakes.generic(tmp_path / "raw", count=6, high=1)
    folder = prepare("generic", raw, tmp_path / "data").folder
    (tmp_path / "pool").mkdir()
    for path in (folder / "masks").iterdir():
        os.link(path, tmp_path / "pool" / path.name)
    before = {path.name: path.read_bytes() for path in (tmp_path / "pool").iterdir()}
    for number in (6, 7):  # now the first six are read as noise, and are looked at again
        fakes.save(raw / "images" / f"case0{number}.png", fakes.picture(number))
        fakes.save(raw / "masks" / f"case0{number}.png", fakes.grey(fakes.blob()))
    prepare("generic", raw, tmp_path / "data")
    assert {path.name: path.read_bytes() for path in (tmp_path / "pool").iterdir()} == before


def test_names_that_not_every_system_can_store_are_made_safe(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=4)
    names = ["a:b", "c|d?", "CON", "x" * 240, "trailing. "] if os.name == "posix" else ["CON1"]
    for number, name in enumerate(names):
        fakes.save(raw / "images" / f"{name}.png", fakes.picture(100 + number))
        fakes.save(raw / "masks" / f"{name}.png", fakes.grey(fakes.blob()))
    folder = prepare("generic", raw, tmp_path / "data").folder
    records = read_manifest(folder).records  # which refuses paths that lead elsewhere
    assert len(records) == 4 + len(names)
    assert all((folder / record.image).is_file() and (folder / record.mask).is_file() for record in records)
    assert all(len(record.id.encode()) < 220 and not set(record.id) & set(':|?*"<>') for record in records)


@pytest.mark.skipif(os.name != "posix", reason="only here may names be no text")
def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=4)
    for part in ("images", "masks"):
        (raw / part / "case00.png").rename(os.fsdecode(os.fsencode(raw / part) + b"/bad\xff.png"))
    outcome = prepare("generic", raw, tmp_path / "data")
    assert len(read_manifest(outcome.folder).records) == 3
    assert [one.expected for one in outcome.left_out] == ["a name in Unicode"]


def test_a_set_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    with pytest.raises(UsageError, match="'kvasir' is the name of a public data set"):
        prepare("generic", raw, tmp_path / "data", rename="kvasir")
    prepare("phantom", None, tmp_path / "data", rename="mine", counts=(2, 1, 1))
    with pytest.raises(UsageError, match="holds phantom data, and this is generic data"):
        prepare("generic", raw, tmp_path / "data", rename="mine")


def test_files_of_others_called_alike_are_not_taken_for_a_set(tmp_path: Path) -> None:
    theirs = fakes.generic(tmp_path / "data" / "task7")
    (theirs / "dataset.json").write_text('{"name": "theirs"}', encoding="utf-8")
    before = files_of(theirs)
    raw = fakes.generic(tmp_path / "raw")
    with pytest.raises(UsageError, match="was not made by vlsmctl"):
        prepare("generic", raw, tmp_path / "data", rename="task7")
    assert files_of(theirs) == before
    folder = prepare("generic", raw, tmp_path / "data", rename="mine").folder
    with pytest.raises(UsageError, match="is a prepared data set, not raw data"):
        prepare("generic", folder, tmp_path / "data", rename="again")
    inner = fakes.generic(folder / "more")
    with pytest.raises(UsageError, match="where the data set is to go"):
        prepare("generic", inner, tmp_path / "data", rename="mine")


def test_a_raw_file_that_vanishes_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = fakes.generic(tmp_path / "raw")
    read_mask = inspection.read_mask

    def vanishing(mask: MaskSource, size: tuple[int, int]) -> Drawn:
        if mask.files[0].name == "case03.png":
            (raw / "images" / "case03.png").unlink()
        return read_mask(mask, size)

    monkeypatch.setattr(inspection, "read_mask", vanishing)
    outcome = prepare("generic", raw, tmp_path / "data")
    assert [one.file for one in outcome.left_out] == ["images/case03.png"]
    assert len(read_manifest(outcome.folder).records) == 9


def test_masks_that_mark_nearly_everything_are_told(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    for path in (raw / "masks").iterdir():
        fakes.save(path, fakes.grey(~fakes.blob(side=5)))
    (told,) = [text for text in prepare("generic", raw, tmp_path / "data").warnings if "90%" in text]
    assert told.startswith("10 of 10 masks")


def test_a_target_that_is_a_link_stays_one(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    (tmp_path / "large-disk" / "mine").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").symlink_to(tmp_path / "large-disk" / "mine", target_is_directory=True)
    for _ in range(2):
        prepare("generic", raw, tmp_path / "data", rename="mine")
        (raw / "images" / "case00.png").unlink(missing_ok=True)
    assert (tmp_path / "data" / "mine").is_symlink()
    assert len(read_manifest(tmp_path / "large-disk" / "mine").records) == 9


def test_two_runs_at_a_time_do_not_meet_in_one_place(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    with (
        build_folder(tmp_path / "data" / "raw"),
        pytest.raises(UsageError, match="is being made by another vlsmctl prepare"),
    ):
        prepare("generic", raw, tmp_path / "data")
    prepare("generic", raw, tmp_path / "data")


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=400)
    process = start("prepare", "generic", "--raw", raw, "--out", tmp_path / "data", cwd=tmp_path)
    wait_until(lambda: any((tmp_path / "data").glob(".*.part/set/masks/*.png")), process)
    process.kill()
    process.communicate()
    assert list((tmp_path / "data").glob(".*.part"))
    prepare("generic", raw, tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_changed_settings_are_told(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    prepare("generic", raw, tmp_path / "data", class_word="polyp")
    outcome = prepare("generic", raw, tmp_path / "data", class_word="wound", seed=7)
    assert outcome.notes[:2] == ("class was 'polyp', and is now 'wound'", "seed was 42, and is now 7")
    again = prepare("generic", raw, tmp_path / "data", class_word="wound", seed=7)
    assert not any("is now" in note for note in again.notes)


def test_nothing_but_empty_masks(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=4, empty=(0, 1, 2, 3))
    assert "all masks are empty" in prepare("generic", raw, tmp_path / "data").warnings
    with pytest.raises(NoReadableInput, match=r"every mask in .* is empty"):
        prepare("generic", raw, tmp_path / "data", empty="drop")
    assert len(read_manifest(tmp_path / "data" / "raw").records) == 4


def test_pictures_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    for number in range(24):
        fakes.save(tmp_path / "raw" / "images" / f"{number}.png", fakes.picture(number, 512, 512))
        fakes.save(
            tmp_path / "raw" / "masks" / f"{number}.png", fakes.grey(fakes.blob(height=512, width=512))
        )
    prepare("generic", tmp_path / "raw", tmp_path / "warm")  # what is imported and kept once
    tracemalloc.start()
    prepare("generic", tmp_path / "raw", tmp_path / "data")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 512 * 512 * 3  # the 24 pictures are 24 times that


def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=400)
    process = start("prepare", "generic", "--raw", raw, "--out", tmp_path / "data", cwd=tmp_path)
    wait_until(lambda: any((tmp_path / "data").glob(".*.part/set/masks/*.png")), process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "data" / "raw").exists()
    with pytest.raises(UsageError, match="no manifest"):
        read_manifest(tmp_path / "data" / "raw")
    assert sum(prepare("generic", raw, tmp_path / "data").counts.values()) == 400


def test_again_in_place_keeps_added_files_and_drops_old_images(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    folder = prepare("generic", raw, tmp_path / "data").folder
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (raw / "images" / "case00.png").unlink()
    (raw / "masks" / "case00.png").unlink()
    prepare("generic", raw, tmp_path / "data")
    assert len(read_manifest(folder).records) == 9
    assert not (folder / "images" / "case00.png").exists()
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_a_folder_that_prepare_did_not_make_is_left_alone(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    precious = tmp_path / "data" / "raw" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="not made by vlsmctl"):
        prepare("generic", raw, tmp_path / "data")
    assert precious.exists()


@pytest.mark.parametrize("stop", ["write_manifest", "put_in_place", "gather"])
def test_a_run_that_ends_early_leaves_the_former_set_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    raw = fakes.generic(tmp_path / "raw")
    folder = prepare("generic", raw, tmp_path / "data").folder
    before = read_manifest(folder)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, stop, interrupted)
    (raw / "images" / "case00.png").unlink()
    with pytest.raises(KeyboardInterrupt):
        prepare("generic", raw, tmp_path / "data")
    assert read_manifest(folder) == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("fault", "raised", "told"),
    [
        (PermissionError(13, "Permission denied", "set"), UsageError, "Permission denied"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_a_swap_that_fails_or_is_interrupted_puts_the_former_set_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: BaseException,
    raised: type[BaseException],
    told: str,
) -> None:
    raw = fakes.generic(tmp_path / "raw")
    folder = prepare("generic", raw, tmp_path / "data").folder
    before = read_manifest(folder)
    (raw / "images" / "case00.png").unlink()  # else there is nothing to swap
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "set":
            raise fault
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(raised, match=told):
        prepare("generic", raw, tmp_path / "data")
    assert read_manifest(folder) == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


@pytest.mark.parametrize("emptied", [False, True])
def test_a_run_killed_within_the_swap_loses_nothing(tmp_path: Path, emptied: bool) -> None:
    raw = fakes.generic(tmp_path / "raw")
    folder = prepare("generic", raw, tmp_path / "data").folder
    before = read_manifest(folder)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    folder.rename(tmp_path / "data" / ".raw.0000.former")  # killed before the new one took its place
    if emptied:
        folder.mkdir()
    for path in [*(raw / "images").iterdir()]:
        fakes.truncate(path)
    with pytest.raises(NoReadableInput):
        prepare("generic", raw, tmp_path / "data")
    assert read_manifest(folder) == before
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_a_run_killed_after_the_swap_loses_no_added_file(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    folder = prepare("generic", raw, tmp_path / "data").folder
    for name in ("notes.txt", "both.txt"):
        (folder / name).write_text("mine", encoding="utf-8")
    folder.rename(tmp_path / "data" / ".raw.0000.former")
    prepare("generic", raw, tmp_path / "elsewhere").folder.rename(folder)  # killed before they moved along
    (folder / "both.txt").write_text("newer", encoding="utf-8")
    prepare("generic", raw, tmp_path / "data")
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (folder / "both.txt").read_text(encoding="utf-8") == "newer"
    assert len(read_manifest(folder).records) == 10
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_prompts_come_from_what_a_preset_extends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "base.yaml").write_text(
        "prompts_from: {class: ulcer, templates: {p0: '', p1: 'an {class}'}}", encoding="utf-8"
    )
    (presets / "feet.yaml").write_text("extends: base\nprompts_from: {class: foot ulcer}", encoding="utf-8")
    monkeypatch.setattr("vlsmctl.config.loading.presets_folder", lambda: presets)
    outcome = prepare("generic", fakes.generic(tmp_path / "feet", count=1), tmp_path / "data")
    (record,) = read_manifest(outcome.folder).records
    assert record.prompts == {"p0": "", "p1": "an foot ulcer"}


def test_what_a_killed_run_left_goes_after_a_day(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    old, young = tmp_path / "data" / ".raw.0000.part", tmp_path / "data" / ".raw.1111.part"
    for folder in (old, young):
        folder.mkdir(parents=True)
    yesterday = time.time() - 2 * 24 * 3600
    os.utime(old, (yesterday, yesterday))
    prepare("generic", raw, tmp_path / "data")
    assert (old.exists(), young.exists()) == (False, True)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw")
    (tmp_path / "data").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match="could not make"):
        prepare("generic", raw, tmp_path / "data")


def test_bad_files_are_named_and_the_rest_is_done(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=12)
    (raw / "masks" / "case00.png").unlink()
    (raw / "images" / "case01.png").unlink()
    fakes.truncate(raw / "images" / "case02.png")
    (raw / "masks" / "case03.png").write_bytes(b"")
    fakes.save(raw / "masks" / "case04.png", fakes.grey(fakes.blob(height=32, width=48)))
    fakes.save(raw / "images" / "case05.jpg", fakes.picture(5))
    (raw / "images" / "notes.txt").write_text("hello", encoding="utf-8")
    (raw / "images" / "case06.png").write_text("not a picture", encoding="utf-8")
    (raw / "images" / "more").mkdir()
    (raw / "images" / ".DS_Store").write_bytes(b"x")
    outcome = prepare("generic", raw, tmp_path / "data")
    left_out = {one.file: (one.expected, one.found) for one in outcome.left_out}
    assert set(left_out) == {
        "images/case00.png", "masks/case01.png", "images/case02.png", "masks/case03.png",
        "masks/case04.png", "images/case05.jpg", "masks/case05.png", "images/notes.txt",
        "images/case06.png", "images/more",
    }  # fmt: skip
    assert left_out["masks/case04.png"] == ("a mask of 32 x 32 pixels, as the image", "48 x 32 pixels")
    assert "case05.jpg, case05.png" in left_out["images/case05.jpg"][1]
    assert str(tmp_path) not in str(left_out)
    records = read_manifest(outcome.folder).records
    assert [record.id for record in records] == [f"case{n:02d}" for n in (7, 8, 9, 10, 11)]
    assert not (outcome.folder / "images" / "case04.png").exists()
    written = json.loads((outcome.folder / "dataset.json").read_text(encoding="utf-8"))
    assert {one["file"] for one in written["left_out"]} == set(left_out)


def test_plain_files_are_copied_and_others_become_png(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=3)
    Image.fromarray(fakes.picture(50)).save(raw / "images" / "plain.jpeg", quality=80)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(fakes.picture(51, 32, 48)).save(raw / "images" / "turned.jpg", exif=turned)
    fakes.save(raw / "images" / "scan.tif", fakes.picture(52))
    Image.fromarray(fakes.picture(53)).convert("P").save(raw / "images" / "palette.png")
    for name in ("plain", "scan", "palette"):
        fakes.save(raw / "masks" / f"{name}.png", fakes.grey(fakes.blob()))
    fakes.save(raw / "masks" / "turned.png", fakes.grey(fakes.blob(height=48, width=32)))
    outcome = prepare("generic", raw, tmp_path / "data")
    assert outcome.left_out == ()
    images = {record.id: record for record in read_manifest(outcome.folder).records}
    names = {images[name].image for name in ("plain", "turned", "scan", "palette")}
    assert names == {"images/plain.jpg", "images/turned.png", "images/scan.png", "images/palette.png"}
    assert (images["turned"].height, images["turned"].width) == (48, 32)
    copied = (outcome.folder / "images" / "plain.jpg").read_bytes()
    assert copied == (raw / "images" / "plain.jpeg").read_bytes()
    for name in ("turned", "scan", "palette"):
        source = next((raw / "images").glob(f"{name}.*"))
        assert (read_picture(outcome.folder / images[name].image) == read_picture(source)).all()


def test_nothing_usable_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoReadableInput, match=r"expected images/ and masks/.*found nothing"):
        prepare("generic", tmp_path / "empty", tmp_path / "data")
    raw = fakes.generic(tmp_path / "raw", count=2)
    for path in (raw / "images").iterdir():
        fakes.truncate(path)
    with pytest.raises(NoReadableInput, match=r"images/case00\.png"):
        prepare("generic", raw, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_wrong_arguments_are_usage_errors(tmp_path: Path) -> None:
    raw = fakes.generic(tmp_path / "raw", count=1)
    with pytest.raises(UsageError, match=r"unknown data set 'fuseq'.*fuseg"):
        prepare("fuseq", raw, tmp_path / "data")
    with pytest.raises(UsageError, match="--raw is missing"):
        prepare("fuseg", None, tmp_path / "data")
    with pytest.raises(UsageError, match="found nothing"):
        prepare("generic", tmp_path / "nowhere", tmp_path / "data")
    for name in ("../up", "a/b", "a b", "-x", ""):
        with pytest.raises(UsageError, match="expected letters, digits"):
            prepare("generic", raw, tmp_path / "data", rename=name)


@pytest.mark.parametrize(
    ("text", "name"), [("Kvasir-SEG", "kvasir-seg"), ("ä b__c", "b-c"), ("..", "dataset"), ("x", "x")]
)
def test_slug(text: str, name: str) -> None:
    assert slug(text) == name
