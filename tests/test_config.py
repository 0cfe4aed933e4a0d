from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from vlsmctl.adapters.build import METHODS
from vlsmctl.config import (
    Paper,
    Preset,
    find_preset,
    keys,
    load_preset,
    preset_names,
    presets_folder,
    read_preset,
    resolve_preset,
)
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


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_trains_as_published_or_says_otherwise_itself(name: str) -> None:
    resolved = resolve_preset(name)
    trains = {
        key: origin for key, origin in resolved.origins.items() if key.startswith(("train.", "methods."))
    }
    assert set(trains.values()) <= {"presets/_published.yaml", f"presets/{name}.yaml"}
    assert resolved.preset.methods == Preset(data="x").methods


def test_some_presets_are_shipped() -> None:
    assert {"fuseg", "generic", "phantom", "polyps", "all"} <= set(preset_names())


def test_parents_are_found_by_extends_only() -> None:
    assert (presets_folder() / "_published.yaml").is_file()
    assert not [name for name in preset_names() if name.startswith("_")]
    assert find_preset("_published") is None
    with pytest.raises(UsageError, match="no preset named '_published'"):
        load_preset("_published")


def test_the_published_configuration_and_the_defaults_are_one(tmp_path: Path) -> None:
    """One that extends nothing trains as the shipped ones do; and the file shows all that counts."""
    extended = load_preset(write(tmp_path / "a.yaml", "extends: _published\ndata: x\n"))
    assert extended == load_preset(write(tmp_path / "b.yaml", "data: x\n")) == Preset(data="x")
    shown = resolve_preset(str(tmp_path / "a.yaml")).origins
    silent = {key for key, origin in shown.items() if origin == "default"}
    assert silent == {"weights", "prompts_from", "paper.source", "paper.notes", "paper.scores"}


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
    assert (train.min_delta, train.lr_factor, train.lr_patience, train.augment) == (1e-4, 0.3, 5, "none")
    assert MODELS[Preset(data="x").model].image_size == 352


@pytest.mark.parametrize(
    ("method", "lr", "bottleneck"),
    [("dense-vlc", 1e-3, 64), ("shallow-v", 3e-4, 512), ("decoder", 1e-3, None), ("full", 1e-4, None),
     ("none", None, None)],
)  # fmt: skip
def test_each_method_has_its_published_rate_and_width(
    method: str, lr: float | None, bottleneck: int | None
) -> None:
    preset = load_preset("phantom", [f"method={method}"])
    assert (preset.lr, preset.bottleneck) == (lr, bottleneck)
    given = load_preset("phantom", [f"method={method}", "train.lr=0.5", "adapter.bottleneck=7"])
    assert (given.lr, given.bottleneck) == (0.5, 7)


def test_the_rate_of_a_method_can_be_set_for_that_method_alone(tmp_path: Path) -> None:
    name = write(tmp_path / "p.yaml", "data: x\nmethods: {dense: {lr: 0.01}}\n")
    dense, shallow = (load_preset(name, [f"method={method}"]) for method in ("dense-v", "shallow-v"))
    assert (dense.lr, dense.bottleneck, shallow.lr) == (0.01, 64, 3e-4)
    assert problems("methods.dense.rl=1", "methods.decoder.bottleneck=3", "methods.lora.lr=1") == [
        "methods.dense.rl: unknown key; did you mean methods.dense.lr?",
        "methods.decoder.bottleneck: unknown key; did you mean methods.dense.bottleneck?",
        "methods.lora: unknown key; did you mean methods.full.lr?",
    ]


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
        ["train.lr=1e-3", " train.epochs = 7", "train.grad_clip=null", "method=none",
         "paper.scores.clipseg-dense={dice: 89.1, iou: 82.4, hd95: 48}", "adapter={bottleneck: 8}"],
    )  # fmt: skip
    assert (preset.train.lr, preset.train.epochs, preset.train.grad_clip) == (1e-3, 7, None)
    assert (preset.method, preset.adapter.bottleneck) == ("none", 8)
    assert preset.paper.scores["clipseg-dense"].dice == 89.1
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
        (b"extends: nowhere\n", r"no preset named 'nowhere', which .*p\.yaml extends"),
        (b"extends: nowhere.yaml\n", "no preset named 'nowhere.yaml', which"),
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
        "methods.shallow.bottleneck",
        "paper.scores",
    } <= set(keys())
    for key in keys():
        try:
            resolve_preset("phantom", [f"{key}=1"])
        except UsageError as error:
            assert "unknown key" not in str(error)  # noqa: PT017


def test_where_each_value_comes_from(tmp_path: Path) -> None:
    write(
        tmp_path / "b.yaml", "extends: phantom\ntrain: {epochs: 4, patience: 9}\nadapter: {bottleneck: 8}\n"
    )
    name = write(tmp_path / "c.yaml", "extends: b.yaml\ntrain: {epochs: 5}\nprompts_from: {class: bump}\n")
    resolved = resolve_preset(name, ["train.lr=1", "train={augment: none}", "weights=w"], seed=3)
    assert resolved.preset.train.epochs == 5  # a section given by --set is merged like one of a file
    expected = {
        "train.epochs": name,
        "train.patience": str(tmp_path / "b.yaml"),
        "train.batch_size": "presets/phantom.yaml",
        "train.weight_decay": "presets/_published.yaml",
        "train.lr": "--set",
        "train.augment": "--set",
        "train.seed": "--seed",
        "weights": "--set",
        "adapter.bottleneck": str(tmp_path / "b.yaml"),
        "prompts_from.class": name,
        "prompts_from.templates.p1": "presets/phantom.yaml",
        "prompts_from.descriptions": "default",
        "paper.source": "default",
    }
    assert {key: resolved.origins[key] for key in expected} == expected


def test_every_value_has_an_origin_and_a_section_taken_back_is_no_longer_the_parents(
    tmp_path: Path,
) -> None:
    name = write(tmp_path / "a.yaml", "extends: phantom\nprompts_from: null\n")
    assert resolve_preset(name).origins["prompts_from"] == name
    again = write(tmp_path / "b.yaml", "extends: a.yaml\nprompts_from: {class: bump, templates: {p1: x}}\n")
    origins = resolve_preset(again).origins
    assert {key for key in origins if key.startswith("prompts_from.templates")} == {
        "prompts_from.templates.p1"
    }
    bare = {key for key in keys() if not key.startswith("prompts_from")}
    assert bare <= set(resolve_preset(name).origins)


def test_prompts_are_not_set_at_training() -> None:
    told = problems("prompts_from.class=bump", "prompts_from.templates.p1=x", "train.epoch=3")
    assert told == [
        "prompts_from.class: counts when data is prepared, not at training: "
        "vlsmctl prepare phantom --class WORD",
        "prompts_from.templates.p1: counts when data is prepared, not at training: vlsmctl prepare phantom",
        "train.epoch: unknown key; did you mean train.epochs?",
    ]
    shown = resolve_preset("phantom", ["prompts_from.class=bump"]).preset.prompts_from
    assert shown is not None
    assert shown.class_ == "bump"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("5", "expected a text, or a list of texts, found 5"),
        ("[a, 5]", "expected a text, or a list of texts, found ['a', 5]"),
        ("[]", "expected a text, or a list of texts, found []"),
        ("{a: b}", "expected a text, or a list of texts, found {'a': 'b'}"),
        ("'a {class'", "expected words in braces, such as {class}, and no other braces, found 'a {class'"),
        (
            "'{class.x}'",
            "expected words in braces, such as {class}, and no other braces, found '{class.x}'",
        ),
        ("['{}']", "expected words in braces, such as {class}, and no other braces, found ['{}']"),
    ],
)
@pytest.mark.parametrize("section", ["templates", "absent"])
def test_a_wrong_template_is_told_once(tmp_path: Path, section: str, template: str, expected: str) -> None:
    good = "p2: '{Count} {class}{s}'"
    text = f"data: x\nprompts_from: {{class: c, {section}: {{p1: {template}, {good}}}}}\n"
    told = problems(name=write(tmp_path / "p.yaml", text))
    assert told == [f"prompts_from.{section}.p1: {expected}"]


@pytest.mark.parametrize("key", ["q1", "p", "p01", "P1"])
def test_prompts_are_named_by_numbers(tmp_path: Path, key: str) -> None:
    name = write(tmp_path / "p.yaml", f"data: x\nprompts_from: {{class: c, templates: {{{key}: a}}}}\n")
    (told,) = problems(name=name)
    assert told.startswith(f"prompts_from.templates.{key}: ")


def test_figures_of_the_paper_are_checked(tmp_path: Path) -> None:
    text = "data: x\npaper: {scores: {clipseg-dense: {dice: 189, iou: 1, hd95: -1}, unet: {dice: 1}}}\n"
    told = problems(name=write(tmp_path / "p.yaml", text))
    assert [line.split(": ")[0] for line in told] == [
        "paper.scores.clipseg-dense.dice", "paper.scores.clipseg-dense.hd95", "paper.scores.unet",
        "paper.scores.unet.iou", "paper.scores.unet.hd95",
    ]  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_figures_have_a_source(name: str) -> None:
    paper = load_preset(name).paper
    assert bool(paper.scores) == bool(paper.source)
    for row in paper.scores.values():
        assert row.iou < row.dice


def test_what_the_end_to_end_figures_are_is_said_with_them() -> None:
    figures = {"dice": 87.69, "iou": 81.72, "hd95": 54.02}
    paper = Paper.model_validate({"scores": {"clipseg-end-to-end": figures}, "notes": ["a leak"]})
    assert len(paper.remarks) == 2
    assert "only the decoder" in paper.remarks[0]
    assert Paper(notes=["a leak"]).remarks == ["a leak"]
