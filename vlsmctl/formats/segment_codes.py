"""Coded concepts for what a prompt names: which category and type a DICOM SEG gives a segment.

Source: DICOM PS3.16, context groups 7150 (segmentation property categories), 7151 (types) and 7159
(lesions); SNOMED CT for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from vlsmctl.errors import UsageError
from vlsmctl.formats.records import Code

OPTION = "--segment-code"
FORM = '--segment-code "[PROMPT=][CATEGORY/]TYPE", where each code is SCHEME:VALUE:MEANING'
EXAMPLE = f'{OPTION} "polyp=SCT:49755003:Morphologically Abnormal Structure/SCT:41329004:Polyp"'


def _sct(value: str, meaning: str) -> Code:
    return Code("SCT", value, meaning)


ABNORMAL = _sct("49755003", "Morphologically Abnormal Structure")
ANATOMY = _sct("91723000", "Anatomical Structure")
OBJECT = _sct("260787004", "Physical object")
TISSUE = _sct("85756007", "Tissue")

_LESION = _sct("52988006", "Lesion")
_NEOPLASM = _sct("108369006", "Neoplasm")
_SECONDARY = _sct("14799000", "Neoplasm, Secondary")
_MELANOMA = _sct("1162635006", "Malignant melanoma")
_CARCINOMA = _sct("1187425009", "Carcinoma")
_HEMORRHAGE = _sct("50960005", "Hemorrhage")
_EDEMA = _sct("79654002", "Edema")
_LEFT_VENTRICLE = _sct("87878005", "Left ventricle")
_RIGHT_VENTRICLE = _sct("53085002", "Right ventricle")
_LEFT_ATRIUM = _sct("82471001", "Left atrium")
_RIGHT_ATRIUM = _sct("73829009", "Right atrium")
_LV_MYOCARDIUM = _sct("49848007", "Left Ventricle Myocardium")
_HEART = _sct("80891009", "Heart")
_LUNG = _sct("39607008", "Lung")
_BLADDER = _sct("89837001", "Bladder")

# Words of prompts -> type. An opacity, a consolidation or a collapsed part of the lung has no code of its
# own in DICOM's lists: it is a lesion.
_ABNORMALITIES: Mapping[str, Code] = {
    "polyp": _sct("41329004", "Polyp"),
    "melanoma": _MELANOMA,
    "skin lesion": _sct("95324001", "Skin lesion"),
    "lesion": _LESION,
    "ulcer": _sct("56208002", "Ulcer"),
    "tumor": _NEOPLASM,
    "tumour": _NEOPLASM,
    "neoplasm": _NEOPLASM,
    "cancer": _NEOPLASM,
    "carcinoma": _CARCINOMA,
    "adenoma": _sct("1187375007", "Adenoma"),
    "metastasis": _SECONDARY,
    "metastases": _SECONDARY,
    "mass": _sct("4147007", "Mass"),
    "nodule": _sct("27925004", "Nodule"),
    "cyst": _sct("367643001", "Cyst"),
    "abscess": _sct("44132006", "Abscess"),
    "hemorrhage": _HEMORRHAGE,
    "haemorrhage": _HEMORRHAGE,
    "bleeding": _HEMORRHAGE,
    "hematoma": _sct("35566002", "Hematoma"),
    "haematoma": _sct("35566002", "Hematoma"),
    "edema": _EDEMA,
    "oedema": _EDEMA,
    "necrosis": _sct("6574001", "Necrosis"),
    "thrombus": _sct("396339007", "Thrombus"),
    "pleural effusion": _sct("60046008", "Pleural effusion"),
    "pericardial effusion": _sct("373945007", "Pericardial effusion"),
    "effusion": _sct("41699000", "Effusion"),
    "pneumothorax": _sct("36118008", "Pneumothorax"),
    "cardiomegaly": _sct("287272002", "Cardiomegaly"),
    "opacity": _LESION,
    "opacities": _LESION,
    "consolidation": _LESION,
    "atelectasis": _LESION,
}
_OBJECTS: Mapping[str, Code] = {
    "support device": OBJECT,
    "instrument": _sct("57134006", "Instrument, device"),
    "catheter": _sct("19923001", "Catheter"),
    "stent": _sct("65818007", "Stent"),
    "pacemaker": _sct("14106009", "Cardiac pacemaker"),
}
_STRUCTURES: Mapping[str, Code] = {
    "left ventricle": _LEFT_VENTRICLE,
    "left ventricular cavity": _LEFT_VENTRICLE,
    "right ventricle": _RIGHT_VENTRICLE,
    "right ventricular cavity": _RIGHT_VENTRICLE,
    "left atrium": _LEFT_ATRIUM,
    "left atrium cavity": _LEFT_ATRIUM,
    "left atrial cavity": _LEFT_ATRIUM,
    "right atrium": _RIGHT_ATRIUM,
    "right atrial cavity": _RIGHT_ATRIUM,
    # The myocardium that data sets outline is that of the left ventricle; SNOMED's code says so.
    "myocardium": _LV_MYOCARDIUM,
    "left ventricular myocardium": _LV_MYOCARDIUM,
    "heart": _HEART,
    "heart structure": _HEART,
    "cardiac silhouette": _HEART,
    "aorta": _sct("15825003", "Aorta"),
    "mediastinum": _sct("72410000", "Mediastinum"),
    "cardiomediastinum": _sct("72410000", "Mediastinum"),
    "lung": _LUNG,
    "trachea": _sct("44567001", "Trachea"),
    "esophagus": _sct("32849002", "Esophagus"),
    "oesophagus": _sct("32849002", "Esophagus"),
    "kidney": _sct("64033007", "Kidney"),
    "liver": _sct("10200004", "Liver"),
    "spleen": _sct("78961009", "Spleen"),
    "pancreas": _sct("15776009", "Pancreas"),
    "gallbladder": _sct("28231008", "Gallbladder"),
    "stomach": _sct("69695003", "Stomach"),
    "duodenum": _sct("38848004", "Duodenum"),
    "small intestine": _sct("30315005", "Small intestine"),
    "colon": _sct("71854001", "Colon"),
    "rectum": _sct("34402009", "Rectum"),
    "bladder": _BLADDER,
    "urinary bladder": _BLADDER,
    "prostate": _sct("41216001", "Prostate"),
    "uterus": _sct("35039007", "Uterus"),
    "breast": _sct("76752008", "Breast"),
    "thyroid": _sct("69748006", "Thyroid"),
    "brain": _sct("12738006", "Brain"),
    "spinal cord": _sct("2748008", "Spinal cord"),
    "vertebra": _sct("51282000", "Vertebra"),
    "femur": _sct("71341001", "Femur"),
    "bone": _sct("3138006", "Bone"),
    "muscle": _sct("91727004", "Muscle"),
    "skin": _sct("39937001", "Skin"),
}

# An abnormality before an object before an organ: in "kidney tumour" the organ only says where.
DEFAULTS: tuple[tuple[Code, Mapping[str, Code]], ...] = (
    (ABNORMAL, _ABNORMALITIES),
    (OBJECT, _OBJECTS),
    (ANATOMY, _STRUCTURES),
)

# What may come after an organ that is itself meant: "liver in CT", not "liver vessel" or "kidney stone".
_AFTER_STRUCTURE = (
    r"(?=\s*(?:$|[^\w\s'-]|(?:in|of|on|at|with|within|inside|from|and|or|is|are|has|as|shown|seen|visible|"
    r"region|area|organ|tissue|structure)\b))"
)


def code_for(prompt: str) -> tuple[Code, Code]:
    """The category and the type of what a prompt names, by the words in it; Tissue and Tissue, as 3D
    Slicer has it, where none is known."""
    for category, types in DEFAULTS:
        found = _words_of(tuple(types), category == ANATOMY).search(prompt)
        if found:
            return category, types[" ".join(re.split(r"[\s_-]+", found["words"].lower()))]
    return TISSUE, TISSUE


@cache
def _words_of(known: tuple[str, ...], structures: bool) -> re.Pattern[str]:
    """The first of the known words in a text; of those that begin at one place, the longest."""
    longest_first = sorted(known, key=len, reverse=True)
    words = "|".join(r"[\s_-]+".join(re.escape(part) for part in each.split()) for each in longest_first)
    after = _AFTER_STRUCTURE if structures else ""
    return re.compile(rf"(?<![^\W_])(?P<words>{words})(?:e?s|e)?(?![^\W_]){after}", re.IGNORECASE)


@dataclass(frozen=True)
class SegmentCodes:
    """The codes that a user gave, and the defaults where there are none.

    given: prompt (None holds for all others) -> category (None: the default one) and type.
    """

    given: Mapping[str | None, tuple[Code | None, Code]] = field(default_factory=dict)

    def codes(self, prompt: str) -> tuple[Code, Code]:
        """The category and the type for a segment of this prompt."""
        category, kind = self.given.get(_plain(prompt)) or self.given.get(None) or (None, None)
        if kind is None:
            return code_for(prompt)
        return category or _category_of(kind) or code_for(prompt)[0], kind

    def unused(self, prompts: Sequence[str]) -> list[str]:
        """The prompts that codes were given for and that are not among `prompts`."""
        known = {_plain(prompt) for prompt in prompts}
        return [prompt for prompt in self.given if prompt is not None and prompt not in known]


def parse_segment_codes(texts: Sequence[str]) -> SegmentCodes:
    """What the texts of `--segment-code` say: "[PROMPT=][CATEGORY/]TYPE", each code SCHEME:VALUE:MEANING,
    such as SCT:41329004:Polyp. Without PROMPT= it holds for all prompts that have none of their own.

    Raises UsageError: another form; a scheme or value of more than 16 characters, a meaning of more than
    64 (the limits of DICOM); two for the same prompt.
    """
    given: dict[str | None, tuple[Code | None, Code]] = {}
    for text in texts:
        prompt, category, kind = _parsed(text)
        if prompt in given:
            whose = "all prompts" if prompt is None else repr(prompt)
            raise UsageError(f"{OPTION} {text!r}: codes for {whose} were given before", hint=FORM)
        given[prompt] = category, kind
    return SegmentCodes(given)


_CODE = r"(?P<{0}_scheme>[^\s:/=]+):(?P<{0}_value>[^\s:/=]+):(?P<{0}_meaning>\S.*?)"
_TEXT = re.compile(
    rf"(?:(?P<prompt>.*\S)\s*=)??\s*(?:{_CODE.format('category')}\s*/\s*)?{_CODE.format('kind')}\s*"
)
_LIMITS = {"scheme": 16, "value": 16, "meaning": 64}


def _parsed(text: str) -> tuple[str | None, Code | None, Code]:
    found = _TEXT.fullmatch(text.strip())
    if found is None or "\\" in text or not text.isprintable():
        raise UsageError(f"{OPTION} {text!r}: expected {FORM}", hint=EXAMPLE)
    kind = _code(text, found, "kind")
    category = _code(text, found, "category") if found["category_value"] else None
    return (_plain(found["prompt"]) if found["prompt"] else None), category, kind


def _code(text: str, found: re.Match[str], which: str) -> Code:
    parts = {part: found[f"{which}_{part}"] for part in _LIMITS}
    for part, limit in _LIMITS.items():
        if len(parts[part]) > limit:
            raise UsageError(
                f"{OPTION} {text!r}: the {part} {parts[part]!r} has {len(parts[part])} characters; "
                f"DICOM allows {limit}",
                hint=FORM,
            )
    return Code(**parts)


def _category_of(kind: Code) -> Code | None:
    """The category of a type that the defaults know."""
    return next((category for category, types in DEFAULTS if kind in types.values()), None)


def _plain(prompt: str) -> str:
    return " ".join(prompt.split()).casefold()
