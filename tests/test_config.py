from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from vlsmctl.adapters.build import METHODS
from vlsmctl.config import Preset, find_preset, keys, load_preset, preset_names, read_preset
from vlsmctl.errors import UsageError
from vlsmctl.losses import LOSSES
from vlsmctl.models.build import MODELS


def problems(*overrides: str, name: str = "phantom", seed: int | None = None) -> list[str]:
    """The lines of the message that loading ends with, without its first."""
    with pytest.raises(UsageError) as caught:
        load_preset(name, overrides, seed)
    first, *lines = str(caught.value).splitlines()
    count = len(lines)
    assert first == f"preset {name!r} has {count} problem{'s' if count > 1 else ''}:"
    assert caught.value.hint == f"vlsmctl presets show {name}"
    return [line.strip() for line in lines]


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", preset_names())
def test_shipped_presets_are_valid_and_begin_with_their_command(name: str) -> None:
    path = find_preset(name)
    assert path is not None
    assert path.read_text(encoding="utf-8").splitlines()[0] == f"# vlsmctl train --preset {name}"
    preset = load_preset(name)
    assert preset.data == {"generic": "mydata"}.get(name, name)


def test_some_presets_are_shipped() -> None:
    assert {"fuseg", "phantom"} <= set(preset_names())


def test_the_names_a_preset_may_hold_are_those_of_the_registries() -> None:
    def allowed(section: type, field: str) -> set[str]:
        return set(section.model_fields[field].annotation.__args__)  # type: ignore[attr-defined]

    assert allowed(Preset, "model") == set(MODELS)
    assert allowed(Preset, "method") == set(METHODS)
    assert allowed(type(Preset(data="x").train), "loss") == set(LOSSES)


def test_defaults_are_the_published_ones() -> None:
    train = Preset(data="x").train
    found = (train.epochs, train.min_epochs, train.batch_size, train.patience, train.grad_clip, train.seed)
    assert found == (200, 10, 32, 20, 0.5, 42)
    assert (train.weight_decay, train.loss, train.lr) == (1e-3, "dice_ce", None)


def test_a_preset_cannot_be_changed() -> None:
    preset = load_preset("phantom")
    with pytest.raises(ValidationError):
        preset.train.lr = 1.0


def test_every_problem_is_told_at_once_with_dotted_keys_and_nearest_names() -> None:
    told = problems("train.epoch=3", "methd=dense-v", "model=clipsge", "junk", "train.lr=fast")
    assert len(told) == 5
    assert "train.epoch: unknown key; did you mean train.epochs?" in told
    assert "methd: unknown key; did you mean method?" in told
    assert "--set 'junk': expected KEY=VALUE" in told
    assert any(line.startswith("model: ") and "'clipsge'" in line and "'tiny'" in line for line in told)
    assert any(line.startswith("train.lr: ") and line.endswith("found 'fast'") for line in told)


def test_set_reads_numbers_words_and_null() -> None:
    preset = load_preset(
        "phantom",
        ["train.lr=1e-3", " train.epochs = 7", "train.grad_clip=null", "method=none", "paper.dice.x=89.1",
         "adapter={bottleneck: 8}"],
    )  # fmt: skip
    assert (preset.train.lr, preset.train.epochs, preset.train.grad_clip) == (1e-3, 7, None)
    assert (preset.method, preset.adapter.bottleneck) == ("none", 8)
    assert preset.paper["dice"]["x"] == 89.1
    assert preset.train.batch_size == 16  # of the preset: --set goes into a section, it does not replace it


def test_the_last_set_of_a_key_counts_and_a_value_may_hold_equals_signs() -> None:
    preset = load_preset("phantom", ["train.epochs=3", "train.epochs=4", "data=a=b"])
    assert (preset.train.epochs, preset.data) == (4, "a=b")


@pytest.mark.parametrize("override", ["", "=", "=3", "train.lr", " =3"])
def test_malformed_sets(override: str) -> None:
    assert problems(override) == [f"--set {override!r}: expected KEY=VALUE"]


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("train=5", "train: input should be a valid dictionary"),
        ("train.epochs.x=1", "--set 'train.epochs.x=1': epochs is a single value, it has no key 'x'"),
        ("train.lr=[", "--set 'train.lr=[': "),
        ("data=2020-13-45", "--set 'data=2020-13-45': month must be in 1..12"),  # YAML takes it for a date
        ("paper=" + "[" * 1500, "--set "),
        ("train.=5", "train.: unknown key"),
        ("extends=fuseg", "extends: unknown key"),
        ("train.lr=0", "train.lr: "),
        ("train.lr=.inf", "train.lr: "),
        ("train.grad_clip=.nan", "train.grad_clip: "),
        ("threshold=1", "threshold: "),
        ("image_size=100", "image_size: input should be a multiple of 16, found 100"),
        ("prompts.train=all", "prompts.train: "),
        ("prompts.eval=q1", "prompts.eval: "),
        ("adapter.bottleneck=0", "adapter.bottleneck: "),
        ("train.seed=-1", "train.seed: "),
        (f"train.seed={2**64}", "train.seed: "),
    ],
)
def test_wrong_values(override: str, start: str) -> None:
    (told,) = problems(override)
    assert told.startswith(start)
    assert "\n" not in told


def test_seed_comes_last_and_is_checked_too() -> None:
    assert load_preset("phantom", ["train.seed=3"], seed=9).train.seed == 9
    assert load_preset("fuseg", seed=9).train.seed == 9
    assert problems(seed=-1)[0].startswith("train.seed: ")
    assert problems("train=5", seed=1)[0].startswith("train: ")


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no preset named 'phantm'; did you mean 'phantom'\?") as caught:
        load_preset("phantm")
    assert caught.value.hint == "vlsmctl presets"
    assert "fuseg" in str(caught.value)


def test_a_key_that_is_missing(tmp_path: Path) -> None:
    assert problems(name=write(tmp_path / "p.yaml", "model: tiny\n")) == ["data: missing"]


def test_extends_merges_section_by_section(tmp_path: Path) -> None:
    write(tmp_path / "base" / "a.yaml", "data: a\nmodel: tiny\ntrain: {epochs: 3, lr: 0.1}\n")
    write(tmp_path / "base" / "b.yaml", "extends: a.yaml\ntrain: {epochs: 4}\npaper: {dice: 1}\n")
    name = write(tmp_path / "c.yml", "extends: base/b.yaml\ndata: c\npaper: null\n")
    assert read_preset(name) == {
        "data": "c", "model": "tiny", "train": {"epochs": 4, "lr": 0.1}, "paper": None,
    }  # fmt: skip


def test_a_file_may_extend_a_shipped_preset_of_its_own_name(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path / "phantom.yaml", "extends: phantom\ntrain: {epochs: 1}\n"))
    assert (preset.data, preset.train.epochs, preset.train.patience) == ("phantom", 1, 15)


@pytest.mark.parametrize("detour", ["", "sub/../"])
def test_extending_in_a_circle_is_refused(tmp_path: Path, detour: str) -> None:
    (tmp_path / "sub").mkdir()
    name = write(tmp_path / "a.yaml", f"extends: {detour}b.yaml\ndata: a\n")
    write(tmp_path / "b.yaml", f"extends: {detour}a.yaml\n")
    with pytest.raises(UsageError, match="extends itself: a -> b -> a"):
        load_preset(name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected keys and values, found NoneType"),
        (b"- a\n- b\n", "expected keys and values, found list"),
        (b"data: [a\n", "is not valid YAML"),
        (b"data: \xff\xfe\n", "is not valid YAML"),
        (b"data: 2020-13-45\n", "is not valid YAML"),
        (b"data: !!python/object/apply:os.getcwd []\n", "is not valid YAML"),  # nothing is executed
        (b"extends: nowhere\n", "no preset named 'nowhere'"),
    ],
)
def test_damaged_preset_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=expected) as caught:
        load_preset(str(path))
    assert "\n" not in str(caught.value)


def test_every_key_can_be_set() -> None:
    assert {
        "data",
        "method",
        "prompts.eval",
        "prompts_from.class",
        "train.lr",
        "adapter.bottleneck",
    } <= set(keys())
    for key in keys():
        try:
            load_preset("phantom", [f"{key}=1"])
        except UsageError as error:
            assert "unknown key" not in str(error)  # noqa: PT017
