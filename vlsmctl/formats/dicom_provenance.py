"""What a DICOM object that is derived from others takes over from them: references, patient and study.

Sources are often de-identified, or broken: what is missing or against the rules is left empty, and a UID
that is missing is made from what the source does state, so that the same source gives the same UID.
Patient data go into the derived object alone.

Source: DICOM PS3.3 C.7.1.1 (patient), C.7.2.1 (study), C.7.6.1.1.5 (lossy compression); PS3.5 6.2 (value
representations) and B.2 (UIDs made from UUIDs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage
from pydicom.uid import UltrasoundImageStorage as USImageStorage

from vlsmctl.formats.dicom_header import read_elements, refusing_dicom

if TYPE_CHECKING:
    from vlsmctl.formats.dicom_frames import SourceFrame


@dataclass(frozen=True)
class Instance:
    """A stored object, as others refer to it."""

    sop_class: str
    sop_instance: str


@dataclass(frozen=True)
class Provenance:
    """What is taken over from the files of a scan.

    instances: file -> what to refer to. study, series: UIDs.
    frame_of_reference: UID; None unless all frames have a place, and that in one frame of reference.
    copied: keyword -> value of the patient's, the study's and other elements, valid or empty.
    orientation: where rows and columns lead (PatientOrientation), of a single file, or empty; for frames
        without a place.
    series_number: of the source, at least 1; None where it states none.
    """

    instances: Mapping[Path, Instance]
    study: str
    series: str
    frame_of_reference: str | None
    copied: Mapping[str, Any]
    orientation: tuple[str, ...]
    series_number: int | None


def read_provenance(sources: Sequence[SourceFrame]) -> Provenance:
    """Reads the header of each file once. Raises UnreadableFile: a file that is gone or damaged."""
    headers = {path: read_elements(path, _NAMES) for path in dict.fromkeys(each.path for each in sources)}
    first_path, first = next(iter(headers.items()))
    with refusing_dicom(first_path):
        instances = {path: _instance(path, header) for path, header in headers.items()}
        made_from = sorted(each.sop_instance for each in instances.values())
        series = _uid(first, "SeriesInstanceUID") or derived_uid("series", *made_from)
        references = {_uid(header, "FrameOfReferenceUID") for header in headers.values()} - {""}
        placed = all(each.place is not None for each in sources) and len(references) <= 1
        made = derived_uid("frame of reference", series)
        lossy = next((item for item in headers.items() if _is_lossy(item[1])), None)
        return Provenance(
            instances=instances,
            study=_uid(first, "StudyInstanceUID") or derived_uid("study", series),
            series=series,
            frame_of_reference=next(iter(references), made) if placed else None,
            copied={**_person_and_study(first), **(_compression(*lossy) if lossy else _NOT_LOSSY)},
            orientation=_orientation(first) if len(headers) == 1 else (),
            series_number=_series_number(first),
        )


def derived_uid(*parts: str) -> str:
    """A valid UID that depends on the parts alone."""
    return f"2.25.{uuid5(NAMESPACE_OID, json.dumps(['vlsmctl', *parts])).int}"


def data_set(**elements: Any) -> Any:
    """A pydicom data set of these elements, by keyword."""
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def one_line(text: str, limit: int) -> str:
    """A text that any line of a DICOM object can hold: no backslash, no control characters, at most
    `limit` characters."""
    plain = "".join(each if each.isprintable() else " " for each in text.replace("\\", "/"))
    return " ".join(plain.split())[:limit].rstrip()


def _instance(path: Path, header: Any) -> Instance:
    meta = header.file_meta
    sop_class = _uid(header, "SOPClassUID") or _uid(meta, "MediaStorageSOPClassUID")
    sop_instance = _uid(header, "SOPInstanceUID") or _uid(meta, "MediaStorageSOPInstanceUID")
    return Instance(
        sop_class or _CLASSES.get(_line(header, "Modality", 16), SecondaryCaptureImageStorage),
        sop_instance or derived_uid("instance", _hash(path)),
    )


_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "US": USImageStorage}


def _hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _value(header: Any, name: str) -> Any:
    """The value of an element; None where it is missing or cannot be read as what it should be."""
    try:
        value = header.get(name)
        str(value)  # names and numbers are decoded when they are used
    except Exception:  # pydicom raises all kinds
        return None
    return None if value is None or isinstance(value, bytes) else value


def _uid(header: Any, name: str) -> str:
    """Digits and dots; leading zeros, which some write, are kept: a reference must match."""
    text = str(_value(header, name) or "").strip(" \0")
    return text if len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) else ""


def _line(header: Any, name: str, limit: int) -> str:
    value = _value(header, name)
    text = "" if value is None or isinstance(value, MultiValue) else str(value).strip()
    return text if _is_line(text, limit) else ""


def _is_line(text: str, limit: int) -> bool:
    return len(text) <= limit and text.isprintable() and not set(text) & {"\\", "\ufffd"}


def _short(header: Any, name: str) -> str:
    return _line(header, name, 16)


def _long(header: Any, name: str) -> str:
    return _line(header, name, 64)


def _name(header: Any, name: str) -> str:
    text = _line(header, name, 3 * 64 + 2)
    groups = text.split("=")
    fits = len(groups) <= 3 and all(len(each) <= 64 and each.count("^") < 5 for each in groups)
    return text if fits else ""


def _date(header: Any, name: str) -> str:
    return _if_time(_short(header, name), r"\d{8}", "%Y%m%d")


def _time(header: Any, name: str) -> str:
    text = _short(header, name)
    whole = text.partition(".")[0]
    known = {2: "%H", 4: "%H%M", 6: "%H%M%S"}.get(len(whole), "")
    return text if _if_time(whole, r"\d+", known) and re.fullmatch(r"\d+|\d{6}\.\d{1,6}", text) else ""


def _if_time(text: str, form: str, known: str) -> str:
    if not re.fullmatch(form, text, re.ASCII):
        return ""
    try:
        datetime.strptime(text, known)
    except ValueError:
        return ""
    return text


def _sex(header: Any, name: str) -> str:
    text = _short(header, name)
    return text if text in ("M", "F", "O") else ""


# Always there, if empty (type 2)
_REQUIRED: Mapping[str, Callable[[Any, str], str]] = {
    "PatientName": _name,
    "PatientID": _long,
    "PatientBirthDate": _date,
    "PatientSex": _sex,
    "StudyDate": _date,
    "StudyTime": _time,
    "StudyID": _short,
    "AccessionNumber": _short,
    "ReferringPhysicianName": _name,
    "PositionReferenceIndicator": _long,
}
_OPTIONAL: Mapping[str, Callable[[Any, str], str]] = {
    "IssuerOfPatientID": _long,
    "StudyDescription": _long,
}
_REMOVED, _HOW, _HOW_CODED = (
    *("PatientIdentityRemoved", "DeidentificationMethod"),
    "DeidentificationMethodCodeSequence",
)
_CODE = {"CodeValue": 16, "CodingSchemeDesignator": 16, "CodeMeaning": 64}
_RATIO, _METHOD = "LossyImageCompressionRatio", "LossyImageCompressionMethod"
_NOT_LOSSY = {"LossyImageCompression": "00"}
# Transfer syntaxes that always lose something -> how
_LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
}
_NAMES = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("SeriesNumber", "Modality", "FrameOfReferenceUID", "PatientOrientation"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("LossyImageCompression", _RATIO, _METHOD),
    *_REQUIRED,
    *_OPTIONAL,
    *(_REMOVED, _HOW, _HOW_CODED),
)


def _person_and_study(header: Any) -> dict[str, Any]:
    copied: dict[str, Any] = {name: read(header, name) for name, read in _REQUIRED.items()}
    copied |= {name: text for name, read in _OPTIONAL.items() if (text := read(header, name))}
    return copied | _deidentification(header)


def _deidentification(header: Any) -> dict[str, Any]:
    """That the identity was removed is only said together with how."""
    if _short(header, _REMOVED) != "YES":
        return {}
    methods = [str(each) for each in _several(_value(header, _HOW)) if _is_line(str(each), 64)]
    items = [
        {name: _line(item, name, limit) for name, limit in _CODE.items()}
        for item in _several(_value(header, _HOW_CODED))
        if isinstance(item, Dataset)
    ]
    coded = [data_set(**item) for item in items if all(item.values())]
    how = ({_HOW: methods} if any(methods) else {}) | ({_HOW_CODED: coded} if coded else {})
    return {_REMOVED: "YES", **how} if how else {}


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _numbers(header: Any, name: str) -> list[float]:
    try:
        return [float(each) for each in _several(_value(header, name))]
    except (TypeError, ValueError):
        return []


def _orientation(header: Any) -> tuple[str, ...]:
    letters = tuple(str(each) for each in _several(_value(header, "PatientOrientation")))
    named = len(letters) == 2 and all(re.fullmatch(r"[APRLHF]{1,3}", each) for each in letters)
    return letters if named else ()


def _series_number(header: Any) -> int | None:
    number = next(iter(_numbers(header, "SeriesNumber")), 0)
    return int(number) if 1 <= number < 2**31 else None


def _syntax(header: Any) -> str:
    return str(_value(header.file_meta, "TransferSyntaxUID") or "")


def _is_lossy(header: Any) -> bool:
    return _short(header, "LossyImageCompression") == "01" or _syntax(header) in _LOSSY


def _compression(path: Path, header: Any) -> dict[str, Any]:
    """That the pixels were compressed with loss, how and how much; worked out from the file where it
    does not say so itself."""
    ratios = [each for each in _numbers(header, _RATIO) if 0 < each < 1e6]
    methods = [str(each) for each in _several(_value(header, _METHOD))]
    named = all(re.fullmatch(r"[A-Z0-9_ ]{1,16}", each) for each in methods)
    if not ratios or len(ratios) != len(methods) or not named:
        if _syntax(header) not in _LOSSY:
            return {"LossyImageCompression": "01"}
        methods = [_LOSSY[_syntax(header)]]
        sizes = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
        amounts = [next(iter(_numbers(header, name)), 1.0) or 1.0 for name in sizes]
        raw = amounts[0] * amounts[1] * amounts[2] * amounts[3] * amounts[4] / 8
        ratios = [max(1.0, raw / path.stat().st_size)]
    return {
        "LossyImageCompression": "01",
        _RATIO: [round(each, 3) for each in ratios],
        _METHOD: methods,
    }
