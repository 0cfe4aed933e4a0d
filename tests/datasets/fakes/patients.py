"""Pictures of one's own in folders of patients or cases."""

from __future__ import annotations

from pathlib import Path

from tests.datasets import fakes

PATIENTS, EACH = 6, 3


def mask_number(number: int) -> tuple[int, int]:
    """Row and side of the blob in the mask of a picture: no two are alike."""
    return 1 + number % 12, 4 + number // 2


def write(
    root: Path,
    images: str = "images/{p}/{n}.png",
    masks: str = "masks/{p}/{n}.png",
    patient: str = "p{}",
    direct: int = 0,
) -> Path:
    """{p}: the patient's folder, {n}: the picture's name, the same again in each patient. direct: further
    pictures that lie in no folder of a patient."""
    number = 0
    for p in range(PATIENTS):
        for n in range(EACH):
            _pair(root, images, masks, patient.format(p + 1), f"a{n}", number)
            number += 1
    for n in range(direct):
        _pair(root, images, masks, ".", f"direct{n}", number + n)
    return root


def _pair(root: Path, images: str, masks: str, patient: str, name: str, number: int) -> None:
    row, side = mask_number(number)
    width = 32 + 4 * (number % 2)
    fakes.save(root / images.format(p=patient, n=name), fakes.picture(number, 32, width))
    blob = fakes.blob(row=row, side=side, width=width)
    fakes.save(root / masks.format(p=patient, n=name), fakes.grey(blob))
