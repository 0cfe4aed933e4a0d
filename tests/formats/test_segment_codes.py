from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from vlsmctl.errors import UsageError
from vlsmctl.formats.records import Code
from vlsmctl.formats.segment_codes import (
    ABNORMAL,
    ANATOMY,
    DEFAULTS,
    OBJECT,
    TISSUE,
    SegmentCodes,
    code_for,
    parse_segment_codes,
)

POLYP = Code("SCT", "41329004", "Polyp")
NOT_IN_PYDICOM = {POLYP.value}  # SNOMED CT's morphologic abnormality; DICOM has a code of the colon's only


@pytest.mark.parametrize(
    ("prompt", "category", "meaning"),
    [
        ("polyp", ABNORMAL, "Polyp"),
        ("One small pink round polyp, located in the top left of the image", ABNORMAL, "Polyp"),
        ("polyps", ABNORMAL, "Polyp"),
        ("skin melanoma", ABNORMAL, "Malignant melanoma"),
        ("skin lesion", ABNORMAL, "Skin lesion"),
        ("skin_lesion", ABNORMAL, "Skin lesion"),
        ("Foot Ulcers", ABNORMAL, "Ulcer"),
        ("a benign breast tumor in the ultrasound image", ABNORMAL, "Neoplasm"),
        ("malignant breast tumour", ABNORMAL, "Neoplasm"),
        ("Left ventricular cavity in two-chamber view of the heart", ANATOMY, "Left ventricle"),
        ("myocardium", ANATOMY, "Left Ventricle Myocardium"),
        ("left atrium cavity", ANATOMY, "Left atrium"),
        ("both lungs", ANATOMY, "Lung"),
        ("Pleural Effusion", ABNORMAL, "Pleural effusion"),
        ("effusion", ABNORMAL, "Effusion"),
        ("Enlarged Cardiomediastinum", ANATOMY, "Mediastinum"),
        ("Airspace Opacity", ABNORMAL, "Lesion"),
        ("Support Devices", OBJECT, "Physical object"),
        ("kidney", ANATOMY, "Kidney"),
        ("vertebrae", ANATOMY, "Vertebra"),
        ("kidney tumour", ABNORMAL, "Neoplasm"),  # the organ only says where
        ("colon with a polyp", ABNORMAL, "Polyp"),
        ("liver in abdominal CT", ANATOMY, "Liver"),
    ],
)
def test_known_words(prompt: str, category: Code, meaning: str) -> None:
    found, kind = code_for(prompt)
    assert (found, kind.meaning) == (category, meaning)


@pytest.mark.parametrize("prompt", ["", "thing", "kidney stone", "liver vessel", "polypropylene", "slung"])
def test_unknown_words_are_tissue(prompt: str) -> None:
    assert code_for(prompt) == (TISSUE, TISSUE)


def test_every_default_is_a_code_that_pydicom_knows() -> None:
    known = {value for codes in concepts["SCT"].values() for value in codes}
    used = {TISSUE, *(category for category, _ in DEFAULTS)}
    used |= {kind for _, types in DEFAULTS for kind in types.values()}
    assert {code.value for code in used} - known == NOT_IN_PYDICOM
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in used)
    for value in {code.value for code in used}:
        assert len({code.meaning for code in used if code.value == value}) == 1


def test_codes_for_one_prompt_and_for_all_others() -> None:
    codes = parse_segment_codes(
        [
            "Polyp = SCT:49755003:Morphologically Altered Structure/SCT:41329004:Polyp",
            "99LOCAL:A1:Anything / or: nothing",
        ]
    )
    assert codes.codes(" polyp")[0].meaning == "Morphologically Altered Structure"
    assert codes.codes("polyp")[1] == POLYP
    assert codes.codes("liver") == (ANATOMY, Code("99LOCAL", "A1", "Anything / or: nothing"))
    assert codes.unused(["liver"]) == ["polyp"]
    assert codes.unused(["POLYP"]) == []


def test_a_type_alone_gets_the_category_that_fits_it() -> None:
    assert parse_segment_codes(["SCT:41329004:Polyp"]).codes("thing") == (ABNORMAL, POLYP)
    assert parse_segment_codes(["SCT:1:New"]).codes("polyp")[0] == ABNORMAL
    assert parse_segment_codes(["SCT:1:New"]).codes("thing")[0] == TISSUE


def test_without_options_the_defaults_hold() -> None:
    assert SegmentCodes().codes("polyp") == (ABNORMAL, POLYP)
    assert parse_segment_codes([]).codes("thing") == (TISSUE, TISSUE)


def test_a_prompt_may_hold_an_equals_sign() -> None:
    codes = parse_segment_codes(["size=big polyp=SCT:41329004:Polyp"])
    assert codes.unused([]) == ["size=big polyp"]


@pytest.mark.parametrize(
    "text",
    [
        "", "polyp", "polyp=", "polyp=SCT", "SCT:41329004", "polyp=SCT::Polyp", "SCT:1:", ":1:Polyp",
        "SCT:1:a\\b", "SCT:1:a\nb", "SC T:1:Polyp",
    ],
)  # fmt: skip
def test_bad_text_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"SCHEME:VALUE:MEANING") as raised:
        parse_segment_codes([text])
    assert "SCT:41329004:Polyp" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{'S' * 17}:1:Polyp", "scheme .* 17 characters; DICOM allows 16"),
        (f"SCT:{'1' * 17}:Polyp", "value .* 17 characters; DICOM allows 16"),
        (f"p=SCT:1:a/SCT:1:{'x' * 65}", "meaning .* 65 characters; DICOM allows 64"),
    ],
)
def test_the_limits_of_dicom(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_segment_codes([text])
    assert parse_segment_codes([f"{'S' * 16}:{'1' * 16}:{'x' * 64}"]).given


def test_two_for_one_prompt() -> None:
    with pytest.raises(UsageError, match="'polyp' were given before"):
        parse_segment_codes(["polyp=SCT:1:a", "Polyp=SCT:2:b"])
    with pytest.raises(UsageError, match="all prompts were given before"):
        parse_segment_codes(["SCT:1:a", "SCT:2:b"])
