"""Does a model read? Models of which the answer is known, on pictures that any of them can segment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vlsmctl.datasets.altered import LABELS, RIGHT
from vlsmctl.datasets.manifest import Manifest, Record
from vlsmctl.datasets.prompts import DEFAULT_TEMPLATES, fill_templates
from vlsmctl.intervals import bootstrap_interval
from vlsmctl.models.clipseg import ClipSeg
from vlsmctl.models.tokens import tokenize
from vlsmctl.predictor import Predictor, predictor_from_model
from vlsmctl.preprocessing import Preprocessing
from vlsmctl.presence import Presence
from vlsmctl.sensitivity import Sensitivity, _document, _Picture, measure

SIDE = 32
PICTURES = 20  # of ten patients
SPOTS = {"left": slice(4, 10), "right": slice(22, 28)}  # columns; there is one of each in every picture
Reading = Callable[[frozenset[str]], Iterable[str]]


class Stub:
    """A model that sees the spots as they are, and marks those that `reading` takes the words for."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.encoded = 0

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        """The sides to mark, [P, 2]."""
        known = {int(tokenize([word])[0, 1]): word for word in ("left", "right", "polyp", "small", "a")}
        rows = [frozenset(known[each] for each in row.tolist() if each in known) for row in tokens]
        return torch.tensor([[side in tuple(self.reading(words)) for side in SPOTS] for words in rows])

    def encode_images(self, image: Tensor) -> list[Tensor]:
        self.encoded += len(image)
        return [image[:, :1]]

    def decode(self, activations: list[Tensor], condition: Tensor) -> Tensor:
        bright = activations[0] > 0
        sides = torch.zeros_like(bright)
        for number, columns in enumerate(SPOTS.values()):
            sides[..., columns] = condition[:, number].view(-1, 1, 1, 1)
        return torch.where(bright & sides, 9.0, -9.0)


def deaf(words: frozenset[str]) -> Iterable[str]:
    return SPOTS


def reads_places(words: frozenset[str]) -> Iterable[str]:
    """The spots on the sides that are named; without any, all."""
    return words & set(SPOTS) or SPOTS


def reads_backwards(words: frozenset[str]) -> Iterable[str]:
    return set(SPOTS) - words or SPOTS


def wants_polyps(words: frozenset[str]) -> Iterable[str]:
    return SPOTS if "polyp" in words else ()


def predictor(reading: Reading, presence: Presence | None = None) -> Predictor:
    return Predictor(
        model=cast(ClipSeg, Stub(reading)),
        preprocessing=Preprocessing(SIDE),
        threshold=0.5,
        device=torch.device("cpu"),
        fingerprint="stub",
        class_prompt=None,
        name="stub",
        base_sha256="0",
        presence=presence,
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twenty pictures of two spots, of which the true mask has the one on the left or on the right, and one
    picture in whose mask there is nothing."""
    records = [_record(tmp_path, number) for number in range(PICTURES + 1)]
    return Manifest(tmp_path, tuple(records), {"class": "polyp"}, "")


def _record(folder: Path, number: int) -> Record:
    picture, mask = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    side = "left" if number % 2 else "right"
    for columns in SPOTS.values():
        picture[14:20, columns] = 255
    if number < PICTURES:
        mask[14:20, SPOTS[side]] = 255
    for name, pixels in (("images", picture), ("masks", mask)):
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    words = {"count": "one", "size": "small", "place": side, "shape": "square", "colour": "white"}
    prompts = fill_templates(DEFAULT_TEMPLATES, {**words, "class": "polyp", "s": ""})
    return Record(
        id=f"{number:02}", image=f"images/{number:02}.png", mask=f"masks/{number:02}.png", split="test",
        prompts=prompts, attributes=words, group=f"g{number // 2}", width=SIDE, height=SIDE,
        foreground=float((mask > 0).mean()), sha256=str(number),
    )  # fmt: skip


def sheet(manifest: Manifest, reading: Reading, **options: Any) -> Sensitivity:
    found = measure(
        predictor(reading, options.pop("presence", None)), manifest, manifest.split("test"), 42,
        manifest.folder / "asked", **options,
    )  # fmt: skip
    json.dumps(found.document, allow_nan=False)
    return found


def rows(found: Sensitivity) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in found.document["rows"]}


def verdicts(found: Sensitivity) -> dict[str, str | None]:
    return {key: row["verdict"] for key, row in rows(found).items()}


def test_a_model_that_ignores_the_prompt_does_not_read(manifest: Manifest) -> None:
    found = sheet(manifest, deaf)
    assert verdicts(found) == {
        "right": None, "class-alone": None, "paraphrase": "robust", "empty": "needs no words",
        "other-class": "does not read the class", "wrong-place": "does not read the place",
        "wrong-size": "does not read the size",
    }  # fmt: skip
    for key, row in rows(found).items():
        assert row["n"] == PICTURES
        assert row["dice"]["mean"] == pytest.approx(2 / 3)  # of two equal spots, one is the target
        if key != "right":
            assert row["agreement"] == {"mean": 1.0, "interval": [1.0, 1.0]}
            assert row["difference"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    assert rows(found)["right"]["difference"] is rows(found)["right"]["agreement"] is None
    assert found.document["answer"] == "No: it does not read the class, the place and the size."
    assert found.document["question"] == "Does this model read?"


def test_a_model_that_reads_places_is_said_to_read_them_and_nothing_else(manifest: Manifest) -> None:
    found = sheet(manifest, reads_places)
    assert verdicts(found) == {
        "right": None, "class-alone": None, "paraphrase": "robust", "empty": "needs words",
        "other-class": "does not read the class", "wrong-place": "reads the place",
        "wrong-size": "does not read the size",
    }  # fmt: skip
    wrong, empty = rows(found)["wrong-place"], rows(found)["empty"]
    assert wrong["dice"]["mean"] == wrong["agreement"]["mean"] == 0
    assert wrong["difference"] == {"mean": -1.0, "interval": [-1.0, -1.0]}
    assert empty["agreement"]["mean"] == pytest.approx(2 / 3)
    assert found.document["answer"] == (
        "In part: it reads the place; it does not read the class and the size."
    )
    assert wrong["example"] != rows(found)["right"]["example"]


def test_a_model_that_reacts_the_wrong_way_is_not_said_to_read(manifest: Manifest) -> None:
    found = sheet(manifest, reads_backwards)
    assert verdicts(found)["wrong-place"] == "reacts, but not as meant"
    assert found.document["answer"] == (
        "Not as far as can be told: it reacts to the place, but not as meant; of the class and the size it"
        " cannot be told."
    )  # with the right prompt it finds nothing, so that Dice cannot fall


def test_a_model_that_reads_the_class_needs_words(manifest: Manifest) -> None:
    found = sheet(manifest, wants_polyps)
    assert verdicts(found)["other-class"] == "reads the class"
    assert verdicts(found)["empty"] == "needs words"
    assert verdicts(found)["wrong-place"] == "does not read the place"


def brittle(words: frozenset[str]) -> Iterable[str]:
    """Wants "polyp" and not the words that a paraphrase begins with ("a picture that shows ...")."""
    return () if "a" in words or "polyp" not in words else SPOTS


def test_where_other_words_do_as_much_it_is_not_said_to_read(manifest: Manifest) -> None:
    """A fall with another class says nothing where any other words make Dice fall as well."""
    found = sheet(manifest, brittle)
    assert verdicts(found)["paraphrase"] == "not robust"
    assert verdicts(found)["other-class"] == "cannot be told: other words do as much"
    other = rows(found)["other-class"]
    assert other["difference"]["mean"] == pytest.approx(-2 / 3)
    assert other["beyond"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    assert found.document["answer"] == (
        "Not as far as can be told: it does not read the place and the size; of the class it cannot be "
        "told, as other words for the same change its masks as much."
    )
    assert "compared with other words by +0.000 (+0.000 to +0.000)" in " ".join(found.document["sentences"])
    assert "reads: Dice falls" in found.document["rules"]["verdict"]


def pictures(**falls: float) -> list[_Picture]:
    """Twenty pictures; how far Dice falls with a prompt, and some more or less by chance."""
    rng = np.random.default_rng(3)
    made = []
    for number in range(PICTURES):
        fallen = {key.replace("_", "-"): fall + float(rng.normal(0, 0.05)) for key, fall in falls.items()}
        dice = {RIGHT: 0.8, **{key: 0.8 - fall for key, fall in fallen.items()}}
        agreement = {RIGHT: 1.0, **{key: 1 - abs(fall) for key, fall in fallen.items()}}
        made.append(_Picture(str(number), f"case {number}", dict.fromkeys(dice, "words"), dice, agreement))
    return made


@pytest.mark.parametrize(
    ("paraphrase", "wrong", "verdict"),
    [
        (0.0, 0.3, "reads the class"),
        (0.1, 0.3, "reads the class"),
        (0.28, 0.3, "cannot be told: other words do as much"),
        (0.3, 0.3, "cannot be told: other words do as much"),
        (0.4, 0.3, "cannot be told: other words do as much"),
        (0.0, -0.3, "reacts, but not as meant"),
        (0.3, -0.3, "cannot be told: other words do as much"),
        (0.3, 0.0, "does not read the class"),
    ],
)
def test_a_wrong_prompt_is_judged_beside_other_words(paraphrase: float, wrong: float, verdict: str) -> None:
    document = _document(pictures(paraphrase=paraphrase, other_class=wrong))
    found = {row["key"]: row for row in document["rows"]}
    assert found["other-class"]["verdict"] == verdict
    assert found["other-class"]["beyond"]["mean"] == pytest.approx(paraphrase - wrong, abs=0.05)
    assert found["paraphrase"]["beyond"] is None
    told = document["answer"] == "It cannot be told: other words for the same change its masks as much."
    assert told is ("as much" in verdict)


def test_without_other_words_beside_it_a_fall_tells_nothing() -> None:
    found = {row["key"]: row for row in _document(pictures(other_class=0.3))["rows"]}
    assert found["other-class"]["verdict"].startswith("cannot be told")


def test_a_model_to_which_any_words_are_alike_is_hardly_ever_said_to_read() -> None:
    """Of 3 x 60 verdicts; each change of words loses every other mask, whatever they mean."""
    rng, said = np.random.default_rng(11), 0
    keys = ("paraphrase", "other-class", "wrong-place", "wrong-size")
    for _ in range(60):
        made = []
        for number in range(PICTURES):
            dice = {RIGHT: 0.8, **{key: 0.8 * float(rng.random() < 0.5) for key in keys}}
            agreement = {key: float(one > 0) for key, one in dice.items()}
            made.append(
                _Picture(str(number), f"case {number}", dict.fromkeys(dice, "words"), dice, agreement)
            )
        said += sum(str(row["verdict"]).startswith("reads") for row in _document(made)["rows"])
    assert said / 180 < 0.05


def test_a_model_that_reads_and_trips_over_other_words_is_told_with_a_warning() -> None:
    document = _document(pictures(paraphrase=0.1, other_class=0.4))
    assert document["answer"] == (
        "Yes: it reads the class. But other words for the same change its masks too."
    )


def test_masks_that_change_at_equal_dice_are_no_sign_of_not_reading(manifest: Manifest) -> None:
    """Right and wrong prompts may be as good as each other, on quite different pixels."""
    for path in (manifest.folder / "masks").iterdir():
        both = np.zeros((SIDE, SIDE), np.uint8)
        for columns in SPOTS.values():
            both[14:20, columns] = 255
        Image.fromarray(both).save(path)
    found = sheet(manifest, lambda words: ["left" if "polyp" in words else "right"])
    other = rows(found)["other-class"]
    assert other["difference"]["mean"] == other["agreement"]["mean"] == 0
    assert other["verdict"] == "reacts, but not as meant"
    assert rows(found)["empty"]["verdict"] == "differs without words"


def test_masks_are_files_by_question_and_each_picture_is_encoded_once(manifest: Manifest) -> None:
    asked = predictor(deaf)
    told: list[tuple[int, str]] = []

    def tick(records: Iterable[Record], title: str) -> Iterable[Record]:
        listed = list(records)
        told.append((len(listed), title))
        return listed

    measure(
        asked, manifest, manifest.records, 42, manifest.folder / "asked", batch_size=4, tick=tick
    )  # fmt: skip
    assert cast(Stub, asked.model).encoded == PICTURES
    assert told == [(PICTURES, "prompt sensitivity")]
    masks = {path.parent.name for path in (manifest.folder / "asked").glob("*/*.png")}
    assert masks == set(LABELS)
    assert len(list((manifest.folder / "asked" / "wrong-place").iterdir())) == PICTURES


def test_presence_suppresses_nothing(manifest: Manifest) -> None:
    """A score by which every picture holds nothing would hide what the words do to the pixels."""
    never = Presence(slope=0, intercept=-9, threshold=1, positives=1, negatives=1, auc=0.5)
    found = sheet(manifest, reads_places, presence=never)
    assert rows(found)["right"]["dice"]["mean"] == 1


def test_pictures_that_cannot_be_read_are_named_and_in_no_mean(manifest: Manifest) -> None:
    image, mask = (manifest.folder / path for path in ("images/03.png", "masks/04.png"))
    image.write_bytes(image.read_bytes()[:60])
    mask.write_bytes(b"")
    (manifest.folder / "masks" / "05.png").unlink()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(manifest.folder / "masks" / "06.png")
    found = sheet(manifest, reads_places)
    assert [name for name, _ in found.failed] == ["03", "04", "05", "06"]
    assert all(reason for _, reason in found.failed)
    assert found.document["n_failed"] == 4
    assert found.document["n_pictures"] == rows(found)["right"]["n"] == PICTURES - 4
    assert rows(found)["right"]["dice"]["mean"] == 1
    assert [each["id"] for each in found.document["failed"]] == ["03", "04", "05", "06"]


def test_of_many_pictures_the_seed_draws_some(manifest: Manifest) -> None:
    found = sheet(manifest, deaf, limit=5)
    assert (found.document["n_pictures"], found.document["n_with_target"]) == (5, PICTURES)
    first = {path.name for path in (manifest.folder / "asked" / "right").iterdir()}
    sheet(manifest, deaf, limit=5)
    assert {path.name for path in (manifest.folder / "asked" / "right").iterdir()} == first
    measure(predictor(deaf), manifest, manifest.records, 7, manifest.folder / "other", limit=5)
    assert {path.name for path in (manifest.folder / "other" / "right").iterdir()} != first


def test_few_patients_tell_nothing(manifest: Manifest) -> None:
    """Nine groups: the spread between patients is hardly known, however many pictures each has."""
    found = measure(predictor(deaf), manifest, manifest.records[:18], 42, manifest.folder / "asked")
    assert found.document["n_groups"] == 9
    assert found.document["resampled_units"] == "9 patients or sequences"
    assert verdicts(found)["wrong-place"] == "cannot be told"
    assert found.document["answer"] == "It cannot be told from 18 pictures."
    alone = measure(predictor(deaf), manifest, manifest.records[:1], 42, manifest.folder / "asked")
    assert rows(alone)["empty"]["difference"]["interval"] == [None, None]
    json.dumps(alone.document, allow_nan=False)


def test_intervals_resample_patients_not_pictures(manifest: Manifest) -> None:
    """Both pictures of every other patient have both spots in their true mask."""
    for number in (each for each in range(PICTURES) if each % 4 < 2):
        picture = np.asarray(Image.open(manifest.folder / "images" / "00.png"))[..., 0]
        Image.fromarray(picture).save(manifest.folder / "masks" / f"{number:02}.png")
    found = rows(sheet(manifest, reads_places))["right"]["dice"]
    dice = [2 / 3 if number % 4 < 2 else 1.0 for number in range(PICTURES)]
    groups = [f"g{number // 2}" for number in range(PICTURES)]
    assert found["mean"] == pytest.approx(np.mean(dice))
    assert found["interval"] == pytest.approx(bootstrap_interval(dice, groups))
    assert found["interval"] != pytest.approx(bootstrap_interval(dice, None))


def test_where_the_right_prompt_finds_nothing_nothing_can_fall(manifest: Manifest) -> None:
    found = sheet(manifest, lambda words: ())
    assert {each for key, each in verdicts(found).items() if key not in ("right", "class-alone")} == {
        "cannot be told"
    }
    assert "too low to fall" in " ".join(found.document["sentences"])


def test_nothing_to_ask_is_said_and_no_error(manifest: Manifest) -> None:
    found = measure(predictor(deaf), manifest, manifest.records[PICTURES:], 42, manifest.folder / "asked")
    assert found.document["rows"] == []
    assert found.document["answer"].startswith("It cannot be told: no picture")


def test_the_embedded_model_can_be_asked(manifest: Manifest) -> None:
    found = measure(
        predictor_from_model("tiny", device=torch.device("cpu")), manifest, manifest.records, 42,
        manifest.folder / "asked", limit=3,
    )  # fmt: skip
    assert [row["n"] for row in found.document["rows"]] == [3] * 7
