from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.app import error_line, vlsmctl
from tests.datasets.fakes import blob, grey, kvasir, picture, save
from vlsmctl.config import Preset, load_preset, preset_names, resolve_preset
from vlsmctl.datasets.recognition import located

ODD = {
    "data": "a: b # c",
    "prompts_from": {
        "class": "éclair\nline",
        "descriptions": ["", "- x", "yes", "1e-05", "a\nb", "x" * 90],
        "templates": {"p0": "", "p1": "{class}: {size} # no comment", "p2": ["'", '"', "null"]},
    },
    "paper": {
        "source": "a page",
        "notes": ["a leak"],
        "scores": {
            "clipseg-dense": {"dice": 89.1, "iou": 82.39, "hd95": 47.79},
            "clipseg-end-to-end": {"dice": 87.69, "iou": 81.72, "hd95": 54.02},
        },
    },
}


def prepared(folder: Path, info: dict[str, Any]) -> None:
    """As much of a prepared set as the list looks at."""
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(info), encoding="utf-8")


def test_list_says_what_is_prepared(at_home: Path) -> None:
    rows = {row["name"]: row for row in vlsmctl("presets", "--json").document}
    assert (rows["phantom"]["prepared"], rows["phantom"]["counts"]) == (
        True,
        {"train": 8, "val": 4, "test": 4},
    )
    assert (rows["fuseg"]["prepared"], rows["fuseg"]["counts"]) == (False, None)
    shown = vlsmctl("presets").out
    assert "8 / 4 / 4" in shown
    assert "not prepared" in shown


def test_list_looks_where_it_is_told(here: Path, home: Path) -> None:
    assert not any(row["prepared"] for row in vlsmctl("presets", "--json").document)
    rows = vlsmctl("presets", "--data", home / "data", "--json").document
    assert [row["name"] for row in rows if row["prepared"]] == ["phantom"]


def test_list_says_what_is_downloaded(here: Path) -> None:
    root = kvasir.write(here / "data" / "raw" / "from the web")
    rows = {row["name"]: row for row in vlsmctl("presets", "--json").document}
    assert {name: row["raw"] for name, row in rows.items() if row["raw"]} == {
        "kvasir": str(root.relative_to(here))
    }
    cells = [line.split("│") for line in vlsmctl("presets").out.splitlines() if "│" in line]
    told = {line[1].strip(): line[3].strip() for line in cells}
    assert (told["kvasir"], told["camus"]) == ("downloaded", "not prepared")
    prepared(here / "data" / "kvasir", {"counts": {"train": 6, "val": 2, "test": 3}})
    (line,) = [line for line in vlsmctl("presets").out.splitlines() if " kvasir " in line]
    assert "6 / 2 / 3" in line
    assert "downloaded" not in line


def test_pictures_of_ones_own_are_not_said_to_be_downloaded(here: Path) -> None:
    for name in ("a.png", "b.png"):
        save(here / "data" / "raw" / "images" / name, picture(1))
        save(here / "data" / "raw" / "masks" / name, grey(blob()))
    assert list(located(here / "data" / "raw")) == ["generic"]
    assert not any(row["raw"] for row in vlsmctl("presets", "--json").document)


def test_list_tells_of_prepared_sets_of_ones_own(here: Path) -> None:
    assert "also prepared" not in vlsmctl("presets").out
    counts = {"train": 6, "val": 2, "test": 3}
    prepared(here / "data" / "wounds", {"title": "pictures", "licence": "ours", "counts": counts})
    prepared(here / "data" / "odd", {"counts": None, "title": 3})
    prepared(here / "data" / "etis", {"counts": counts})  # a preset is for that
    prepared(here / "data" / ".wounds.1234.part", {"counts": counts})
    (here / "data" / "empty").mkdir()
    (line,) = [line for line in vlsmctl("presets").out.splitlines() if line.startswith("also prepared")]
    assert line.startswith("also prepared: odd (yes), wounds (6 / 2 / 3); to train on one: vlsmctl train ")
    assert line.endswith(" --preset generic --set data=odd")
    rows = vlsmctl("presets", "--json").document
    assert [row["name"] for row in rows if row["preset"]] == preset_names()
    assert [row["name"] for row in rows if not row["preset"]] == ["odd", "wounds"]
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert (rows[-1]["counts"], rows[-1]["licence"], rows[-1]["prepared"]) == (counts, "ours", True)


def test_list_tells_licence_page_and_figures(here: Path) -> None:
    rows = {row["name"]: row for row in vlsmctl("presets", "--json").document}
    assert list(rows) == preset_names()
    for row in rows.values():
        assert row["title"], row["name"]
        assert row["licence"], row["name"]
        assert row["source"], row["name"]
    assert rows["kvasir"]["expected"] == 1000
    assert rows["kvasir"]["paper"]["scores"]["clipseg-dense"] == {
        "dice": 89.10,
        "iou": 82.39,
        "hd95": 47.79,
    }
    assert "kvasir" in rows["polyps"]["source"]
    (line,) = [line for line in vlsmctl("presets").out.splitlines() if " kvasir " in line]
    for cell in ("Kvasir", "not prepared", "1000", "89.10", "86.85"):
        assert cell in line
    assert "2405.06196" in vlsmctl("presets").out
    assert [
        line for line in vlsmctl("presets").out.splitlines() if line.startswith("clinicdb: ")
    ]  # its leak


@pytest.mark.parametrize("content", ["", "[]", '{"counts": {"train"', "\x00"])
def test_a_damaged_data_set_does_not_stop_the_list(here: Path, content: str) -> None:
    folder = here / "data" / "phantom"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(content)
    rows = {row["name"]: row for row in vlsmctl("presets", "--json").document}
    assert rows["phantom"]["prepared"] is False
    vlsmctl("presets")


@pytest.mark.parametrize("counts", ["{}", "5", '{"train": 3}', "null"])
def test_nor_does_one_with_other_counts(here: Path, counts: str) -> None:
    folder = here / "data" / "phantom"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(f'{{"counts": {counts}}}')
    assert "phantom" in vlsmctl("presets").out


@pytest.mark.parametrize("name", [*preset_names(), "odd"])
def test_what_show_prints_is_a_preset(tmp_path: Path, name: str) -> None:
    if name == "odd":
        name = str(tmp_path / "odd.yaml")
        Path(name).write_text(yaml.safe_dump(ODD), encoding="utf-8")
    copy = tmp_path / "copy.yaml"
    copy.write_text(vlsmctl("presets", "show", name).out, encoding="utf-8")
    assert load_preset(str(copy)) == load_preset(name)
    document = vlsmctl("presets", "show", name, "--json").document
    assert Preset.model_validate(document["preset"]) == load_preset(name)
    assert document["origins"] == resolve_preset(name).origins


def test_show_tells_where_each_value_comes_from(here: Path) -> None:
    shown = vlsmctl(
        "presets", "show", "phantom", "--set", "train.weight_decay=0", "--set", "prompts_from.class=bump",
        "--seed", 3,
    ).out.splitlines()  # fmt: skip
    comments = {line.split(":")[0].strip(): line.partition("  # ")[2] for line in shown}
    assert comments["weight_decay"] == comments["class"] == "--set"
    assert comments["seed"] == "--seed"
    assert comments["model"] == comments["p1"] == comments["p5"] == "presets/phantom.yaml"
    assert comments["grad_clip"] == comments["dense"] == "presets/_published.yaml"
    assert comments["weights"] == "default"
    assert comments["lr"] == "presets/_published.yaml; null is methods.dense.lr, 0.001"
    short = [
        line.index("  # ") for line in shown if "  # " in line and len(line.partition("  # ")[0]) <= 60
    ]
    assert len(set(short)) == 1  # aligned


def test_show_tells_the_papers_figures_and_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(ODD), encoding="utf-8")
    shown = vlsmctl("presets", "show", path).out.splitlines()
    figures = [
        line for line in shown if line.strip().startswith("clipseg-dense: {dice: 89.1, iou: 82.39, ")
    ]
    assert len(figures) == 1
    assert figures[0].endswith(f"# {path}")
    told = [line for line in shown if line.startswith("# paper: ")]
    assert "pixels" in told[0]
    assert "only the decoder" in told[1]
    assert told[2:] == ["# paper: a leak"]
    assert not [
        line for line in vlsmctl("presets", "show", "phantom").out.splitlines() if line.startswith("#")
    ]


def test_options_of_the_list_before_show(here: Path) -> None:
    document = json.loads(vlsmctl("presets", "--json", "show", "phantom").out)
    assert document == vlsmctl("presets", "show", "phantom", "--json").document
    answer = vlsmctl("presets", "--data", "x", "show", "phantom", code=2)
    assert "--data is for the list" in error_line(answer)


def test_unknown_preset_names_the_nearest() -> None:
    answer = vlsmctl("presets", "show", "phantm", code=2)
    assert "phantom" in answer.err
    assert "'phantm'" in error_line(answer)
    assert "train.epochs" in vlsmctl("presets", "show", "phantom", "--set", "train.epoch=3", code=2).err


def test_a_preset_that_is_no_yaml(tmp_path: Path) -> None:
    for number, text in enumerate(("data: [", "- a\n- b\n", "!!python/object/apply:os.getcwd []")):
        path = tmp_path / f"bad{number}.yaml"
        path.write_text(text)
        assert path.name in error_line(vlsmctl("presets", "show", path, code=2))


def test_training_refuses_what_only_counts_at_preparing(at_home: Path) -> None:
    answer = vlsmctl("train", "--preset", "phantom", "--set", "prompts_from.class=bump", code=2)
    assert "vlsmctl prepare phantom --class WORD" in answer.err
