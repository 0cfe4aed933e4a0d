from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report import fakes
from tests.report.pages import Page, page_of
from vlsmctl.config import load_preset
from vlsmctl.pairing import CasePair
from vlsmctl.report import write_report
from vlsmctl.report.cases import case_table


def test_the_result_in_one_sentence(written: tuple[str, Page]) -> None:
    _, page = written
    assert re.search(
        r"Dice 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) on 45 answers to 15 pictures of phantom test; \d missed, "
        r"\d false alarms?\.",
        page.text,
    )
    assert "dense-vlc on tiny, trained on phantom" in page.text
    assert "For research; not a medical device." in page.text


def test_every_score_and_count_of_the_summary_is_there(made: Path, written: tuple[str, Page]) -> None:
    _, page = written
    for name in ("phantom-test-random", "phantom-test-all"):
        summary = json.loads((made / "eval" / name / "summary.json").read_text())
        for metric in summary["metrics"].values():
            assert metric["label"] in page.text
            digits = 1 if metric["unit"] else 3
            assert f"{abs(metric['mean']):,.{digits}f}" in page.text
            low, high = (f"{abs(end):,.{digits}f}" for end in metric["interval"])
            assert re.search(rf"{re.escape(low)} to [−+]?{re.escape(high)}", page.text)
        for key, words in {
            "n_missed": "missed",
            "n_both_empty": "both empty",
            "n_failed": "failed",
        }.items():
            assert f"{summary[key]} {words} (" in page.text
        for rule in summary["rules"].values():
            assert " ".join(rule.split()) in page.text


def test_the_paper_stands_beside_ours_with_the_difference(made: Path, written: tuple[str, Page]) -> None:
    text, page = written
    summary = json.loads((made / "eval" / "phantom-test-random" / "summary.json").read_text())
    dice = summary["metrics"]["dice"]["mean"]
    cells = re.search(r'<th scope="row">Dice</th>(?:(?!</tr>).)*0\.891(?:(?!</tr>).)*</tr>', text)
    assert cells is not None
    assert f"{dice - 0.891:+.3f}".replace("-", "−") in cells[0]
    beside = {
        heading: "47.8 px" in line
        for heading, line in re.findall(r'<th scope="row">([^<]*)</th>((?:(?!</tr>).)*)</tr>', text)
        if heading.startswith("HD95")
    }
    assert beside == {"HD95 (px)": False, "HD95 (px), where both are there": True}
    assert "VLSM-Adapter (arXiv 2405.06196), Table 1" in page.text
    assert "This one is another model." in page.text


@pytest.mark.parametrize("known", [{"comparable": False}, {"comparable": None}])
def test_a_paper_that_was_made_otherwise_has_no_difference(
    tmp_path: Path, pairs: list[CasePair], known: dict[str, bool | None]
) -> None:
    paper = {**fakes.PAPER, **known, "remarks": ["the published protocol is another"]}
    fakes.evaluation(tmp_path / "e", pairs, fakes.about(paper=paper))
    text, page = page_of(tmp_path / "e")
    assert "0.891" in page.text
    assert "difference</th>" not in text
    assert "so no difference is shown" in page.text
    assert "The published protocol is another." in page.text
    assert "Its HD95, 47.8 px, leaves out cases with an empty mask" in page.text
    assert text.count("47.8 px") == 1


def test_counts_stand_in_every_table(tmp_path: Path, pairs: list[CasePair]) -> None:
    """Also of pictures that were not asked for want of a prompt."""
    fakes.evaluation(
        tmp_path / "e", fakes.each_prompt(pairs), n_not_asked=7, not_asked={"p1": 3, "p2": 4, "p5": 0}
    )
    text, page = page_of(tmp_path / "e")
    assert "7 not asked (" in page.text
    assert "4 pictures without a prompt p2, and not scored with it." in page.text
    table = text.partition("<h3>By prompt</h3>")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="col" class="number">([^<]*)<', table)[-6:] == [
        "cases", "missed", "false alarms", "both empty", "failed", "not asked",
    ]  # fmt: skip
    part = json.loads((tmp_path / "e" / "summary.json").read_text())["by"]["prompt"]["p1"]
    line = re.search(r'<th scope="row" class="long">p1.*?</tr>', table, re.DOTALL)
    assert line is not None
    counts = [part[f"n{key}"] for key in ("", "_missed", "_false_alarm", "_both_empty", "_failed")]
    assert part["n_both_empty"]
    assert re.findall(r'<td class="number">(\d+)</td>', line[0]) == [*map(str, counts), "3"]
    other = text.partition("<h3>By site</h3>")[2].partition("</table>")[0]
    assert "both empty" in other
    assert "not asked" not in other


def test_a_value_without_scores_hides_nothing_of_the_others(tmp_path: Path, pairs: list[CasePair]) -> None:
    """Failed cases have no size, and so the first line of that table no mean."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    fakes.evaluation(tmp_path / "e", [*pairs, replace(pairs[0], id="bad", prediction=broken)])
    text, _ = page_of(tmp_path / "e")
    table = text.partition("<h3>By size of the target</h3>")[2].partition("</table>")[0]
    lines = table.split("<tr>")[2:]
    assert ">(none)<" in lines[0]
    assert ['class="whisker"' in line for line in lines] == [False] + [True] * (len(lines) - 1)


def test_what_intervals_rest_on(tmp_path: Path, pairs: list[CasePair]) -> None:
    fakes.evaluation(tmp_path / "e", pairs)
    assert "95 % intervals resample 10 patients or sequences." in page_of(tmp_path / "e")[1].text
    alone = [replace(pair, group=None) for pair in pairs]
    fakes.evaluation(tmp_path / "e", alone)
    assert "95 % intervals resample 30 cases." in page_of(tmp_path / "e")[1].text
    fakes.evaluation(tmp_path / "e", pairs[:9])
    _, page = page_of(tmp_path / "e")
    assert "intervals are unknown: 3 patients or sequences are too few, as 5 are needed." in page.text
    assert "95 % intervals resample" not in page.text
    assert "(unknown: fewer than 5 patients, sequences or cases)" in page.text


def test_the_command_is_shown_with_the_last_parts_of_paths(tmp_path: Path, pairs: list[CasePair]) -> None:
    typed = [
        "vlsmctl", "eval", "runs/phantom/r", "--data", "data/phantom", "--weights", "/home/Jane Roe/w.bin",
        "--cases", r"C:\Users\Jane Roe\facts.csv", "--images", "../Jane Roe/images", "--by", "left/right",
    ]  # fmt: skip
    run = fakes.run(tmp_path)
    fakes.evaluation(run / "eval" / "a", pairs, fakes.about(command=typed))
    text, page = page_of(run)
    said = (
        "vlsmctl eval runs/phantom/r --data data/phantom --weights w.bin --cases facts.csv --images images "
        "--by left/right"
    )
    assert page.text.count(said) == 2  # under To do it again, and beside what was scored
    assert "Of paths the last part is shown" in page.text
    assert "Jane" not in text
    fakes.evaluation(run / "eval" / "a", pairs, fakes.about(command=[]))
    _, page = page_of(run)
    assert "vlsmctl eval runs/phantom/20260101-120000-42 --split test --prompts random" in page.text
    assert "Of paths the last part is shown" not in page.text


def test_groups_prompts_and_the_sheet(written: tuple[str, Page]) -> None:
    text, page = written
    for words in ("By prompt", "By size of the target", "By site", "p1 of a polyp", "left", "right"):
        assert words in page.text
    assert "Partly: it finds the class by its name, and ignores places." in page.text
    assert "−0.210" in page.text
    assert "it tells classes apart" in page.text
    assert "The intervals resample 12 patients or sequences." in page.text
    assert text.count('class="whisker"') > 10


def test_training_and_how_to_do_it_again(written: tuple[str, Page], tmp_path: Path) -> None:
    text, page = written
    for words in (
        "Training loss",
        "Validation Dice",
        "Learning rate",
        "0.712 in epoch 9",
        "41,234 of 1,234,567",
    ):
        assert words in page.text
    assert fakes.HASH in page.text
    assert fakes.HASH[::-1] in page.text
    assert "vlsmctl eval runs/phantom/20260101-120000-42 --prompts all" in page.text
    shown = re.search(r"as it was resolved</summary>\s*<pre><code>(.*?)</code></pre>", text, re.DOTALL)
    assert shown is not None
    import html

    path = tmp_path / "preset.yaml"
    path.write_text(html.unescape(shown[1]), encoding="utf-8")
    assert load_preset(str(path)) == load_preset("phantom")


def test_no_path_and_no_user_of_this_machine(
    made: Path, written: tuple[str, Page], pairs: list[CasePair]
) -> None:
    text, _ = written
    assert "/home/someone" not in text
    assert str(pairs[0].target.parent) not in text
    assert str(made.parents[2]) not in text


def test_folders_that_are_called_after_people_stay_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute, relative and of Windows; in notes, reasons, cautions, commands and what was scored."""
    monkeypatch.chdir(tmp_path)
    home = Path("Jane Roe") / "my scans"
    pairs = fakes.data_set(home, 6)
    broken = home / "predicted" / "broken.png"
    broken.write_bytes(b"")
    named = [str(home / "predicted"), str((home / "masks").resolve())]
    about = {
        "predictions": named[0], "targets": named[1], "split": "all", "label": None, "cases": None,
        "pred_label": 3, "vlsmctl": "0.1.0",
        "command": ["vlsmctl", "eval", "--pred", named[0], "--gt", named[1]],
        "notes": [
            f"nothing was read in {named[0]}, nor in {named[1]}", r"C:\Users\Jane Roe\x.png is a picture",
            f"{home / 'predicted' / 'sub' / 'a.png'}, and /srv/Jane Roe/b.png",
            "without one: a/case1, b/case2",
        ],
    }  # fmt: skip
    scored = [*pairs, replace(pairs[0], id="Roe/case", prediction=broken)]
    kinds = [{"n": 2, "text": f"{home.resolve() / 'masks' / 'm.png'}: odd", "id": "a"}]
    folder = tmp_path / "scores"
    fakes.evaluation(folder, scored, about, caution_kinds=kinds)
    for damage in (False, True):
        if damage:
            (folder / "scores.csv").unlink()
        text, page = page_of(folder)
        assert "Jane" not in text
        assert "scans" not in text
        assert "Nothing was read in predicted, nor in masks." in page.text
        assert "X.png is a picture." in page.text
        assert "Without one: a/case1, b/case2." in page.text
        assert "2 cases, such as a: m.png: odd." in page.text
        assert re.search(r"Roe/case “polyp” ?: broken\.png: the file is empty", page.text)
        assert "vlsmctl eval --pred predicted --gt masks" in page.text


def test_nothing_is_loaded_from_elsewhere(written: tuple[str, Page]) -> None:
    text, page = written
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, name, value)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]


def test_it_is_a_sound_page(written: tuple[str, Page]) -> None:
    text, page = written
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("href", "for", "aria-labelledby"):
            target = attributes.get(name)
            if target and (name != "href" or target.startswith("#")):
                assert target.lstrip("#") in ids
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_the_same_files_give_the_same_bytes(made: Path) -> None:
    first = write_report(made).read_bytes()
    assert write_report(made).read_bytes() == first
    assert not list(made.glob(".*"))


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "\" onload='alert(1)' data-x=\"", "</script><b>&amp;"]
)
def test_names_and_prompts_are_text(tmp_path: Path, evil: str) -> None:
    pairs = [
        replace(pair, id=f"{evil}{n}", prompt=evil, prompt_key=f"{evil}{n % 2}", group=evil, data_set=evil,
                columns={evil[:9]: f"{evil} {n % 2}"})
        for n, pair in enumerate(fakes.data_set(tmp_path / "set", 6))
    ]  # fmt: skip
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    pairs.append(replace(pairs[0], id=evil, prediction=broken))
    sheet = json.loads(json.dumps(fakes.SENSITIVITY).replace("a kidney", json.dumps(evil)[1:-1]))
    run = fakes.run(tmp_path, base={"name": evil, "sha256": evil}, versions={evil: evil})
    fakes.evaluation(
        run / "eval" / "x", pairs,
        fakes.about(evil, split=evil, paper={**fakes.PAPER, "source": evil, "remarks": [evil]}),
        sensitivity=sheet,
    )  # fmt: skip
    plain = fakes.run(tmp_path / "plain")
    fakes.evaluation(plain / "eval" / "x", fakes.data_set(tmp_path / "set", 6), fakes.about())
    text, page = page_of(run)
    assert evil in " ".join(page.words)
    assert text.count("<script") == 1
    kinds = {tag for tag, _ in page.tags}
    names = {name for _, attributes in page.tags for name in attributes}
    _, ordinary = page_of(plain)
    assert kinds <= {tag for tag, _ in ordinary.tags} | {"br", "details", "summary"}
    assert not {"onload", "data-x"} & names


def test_two_hundred_cases_make_no_large_file(tmp_path: Path) -> None:
    pairs = fakes.data_set(tmp_path / "set", 200, side=64)
    run = fakes.run(tmp_path)
    for name in ("a", "b"):
        fakes.evaluation(run / "eval" / name, pairs, fakes.about())
    text, _ = page_of(run)
    assert len(text.encode()) < 3_000_000
    assert text.count('data-outcome="') == 400


def test_pictures_can_be_left_out_or_be_more(made: Path, pairs: list[CasePair]) -> None:
    text, page = page_of(made, pictures=0)
    assert "data:image/jpeg" not in text
    assert "Lowest Dice" not in page.text
    _, page = page_of(made, pictures=4)
    images = [attributes for tag, attributes in page.tags if tag == "image"]
    assert len(images) == 2 * 12
    _, page = page_of(made)
    assert len([tag for tag, _ in page.tags if tag == "image"]) == 2 * 9
    for heading in ("Lowest Dice", "Around the median", "Highest Dice"):
        assert page.text.count(heading) == 2


def test_at_most_a_thousand_cases_the_worst_first(pairs: list[CasePair], tmp_path: Path) -> None:
    rows = fakes.evaluation(tmp_path / "e", pairs).rows * 50
    table = case_table(rows)
    assert (table.shown, table.total, len(table.lines)) == (1000, 1500, 1000)
    place = [column.heading for column in table.columns].index("Dice")
    dice = [float(line.cells[place].key) for line in table.lines]
    assert dice == sorted(dice)
    assert dice[-1] <= sorted(row.scores["dice"] for row in rows)[1000]


def test_only_the_newest_are_told_in_full(run: Path) -> None:
    for number in range(8):
        shutil.copytree(run / "eval" / "phantom-test-random", run / "eval" / f"older-{number}")
        fakes.age(run / "eval" / f"older-{number}", 1000 * (number + 1))
    text, page = page_of(run, pictures=1)
    assert len(re.findall(r'<section id="e\d+"', text)) == 6
    assert "The newest 6 are told in full below." in page.text
    assert page.text.index("phantom-test-all") < page.text.index("older-0") < page.text.index("older-7")
