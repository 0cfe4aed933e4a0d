"""What tells the images of one DICOM series apart, other than where they lie: whose they are, in which
frame of reference, and, in enhanced objects of one frame, what their functional groups say.

Source: DICOM PS3.3 C.7.1.1 (patient), C.7.6.16 (functional groups).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Elements of single-frame images -> where enhanced ones hold the same
_IN_GROUPS = {
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "PixelSpacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
}
# Lost with the process: what is made with it cannot be traced back to a patient, even by trying all names.
_KEY = os.urandom(16)


@dataclass(frozen=True)
class Stated:
    """The elements of a header, those of its functional groups before its own."""

    header: Any
    groups: Mapping[str, Any]

    def get(self, name: str) -> Any:
        return self.groups[name] if name in self.groups else self.header.get(name)


def patient_marks(header: Any) -> tuple[bytes | None, ...]:
    """For each of PATIENT, a digest that is the same for the same value (within this process, and whatever
    the case); None where it is not stated. Nothing readable."""
    return tuple(_digest(header, name) for name in PATIENT)


def group_values(header: Any) -> dict[str, Any]:
    """What the functional groups of an object of one frame state, by the keyword of the element that holds
    it in single-frame images: the frame's own groups before the shared ones."""
    groups = [items[0] for name in reversed(GROUPS) if (items := header.get(name))]
    values = {name: _value(groups, *where) for name, where in _IN_GROUPS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _value(groups: Sequence[Any], macro: str, element: str) -> Any:
    try:
        item = next((items[0] for group in groups if (items := group.get(macro))), None)
        return None if item is None else item.get(element)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # a damaged value: who needs it refuses the image, or does without
        return None


def _digest(header: Any, name: str) -> bytes | None:
    element = header.get_item(name)  # as stored: decoding could fail, and is not needed to compare
    value = None if element is None else element.value
    content = value if isinstance(value, bytes) else str(value or "").encode(errors="replace")
    content = content.strip(b" \0^").upper()  # what is left empty of a name may be written, or not
    return blake2b(content, digest_size=16, key=_KEY).digest() if content else None
