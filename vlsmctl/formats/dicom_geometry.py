"""Where the slices of a DICOM series lie, by position, orientation and pixel spacing alone.

Source: DICOM PS3.3 C.7.6.2.1.1 (the equation that maps pixels to patient coordinates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlsmctl.formats.records import Geometry

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ORTHONORMAL = 1e-3  # cosines are often written with few decimals
# Of the direction cosines of slices that are parallel: 0.06 degrees, half a pixel across 512. Rounding when
# they are written differs by less, tilts of a gantry by more.
SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-4  # relative
# How far a slice may lie off an even spacing: positions are often written with two decimals, or with one,
# which matters less the farther apart slices are.
_ABSOLUTE, _RELATIVE, _AT_MOST = 0.01, 0.1, 0.1  # mm; of the slice distance; mm
_JITTER = 0.3  # of the slice distance: what is off by more is another place, not the same one ill written
_STEEPEST = 45  # degrees; gantries tilt by 30 at most
_GAP = 3  # times the thickness of a slice
MOST_MM, _LEAST_MM = 1e7, 1e-7  # what lies beyond is damage, and would overflow


@dataclass(frozen=True)
class Place:
    """Where one slice lies, as its header says.

    position: float64 [3], centre of the first pixel, mm, LPS.
    along_row, along_column: float64 [3], unit vectors from column to column and from row to row, LPS.
    row_spacing, column_spacing: mm from row to row and from column to column.
    thickness: mm to the next slice, as far as a single slice can say; None where it does not.
    """

    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    row_spacing: float
    column_spacing: float
    thickness: float | None

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.along_row, self.along_column)


def place(
    *,
    position: Sequence[float],
    orientation: Sequence[float],
    spacing: Sequence[float],
    thickness: float | None,
) -> Place:
    """The place of a slice, checked.

    position, orientation, spacing: the numbers of ImagePositionPatient, ImageOrientationPatient and
    PixelSpacing. Raises ValueError with the reason: too few or too many numbers, not finite, spacing
    not above 0, orientation not orthonormal.
    """
    for name, numbers, count in (
        ("ImagePositionPatient", position, 3),
        ("ImageOrientationPatient", orientation, 6),
        ("PixelSpacing", spacing, 2),
    ):
        if len(numbers) != count or not np.isfinite(numbers).all() or np.abs(numbers).max() > MOST_MM:
            raise ValueError(f"{name} is not {count} finite numbers")
    if min(spacing) <= _LEAST_MM:
        raise ValueError("PixelSpacing is not above 0")
    along_row, along_column = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if np.abs(lengths - 1).max() > _ORTHONORMAL or abs(along_row @ along_column) > _ORTHONORMAL:
        raise ValueError("ImageOrientationPatient is not two perpendicular unit vectors")
    return Place(
        position=np.asarray(position, dtype=np.float64),
        along_row=along_row,
        along_column=along_column,
        row_spacing=float(spacing[0]),
        column_spacing=float(spacing[1]),
        thickness=thickness,
    )


def slice_order(places: Sequence[Place]) -> list[int]:
    """The numbers of the slices, sorted along the normal of the first one; those at one position keep
    their order."""
    normal = places[0].normal
    return sorted(range(len(places)), key=lambda number: float(places[number].position @ normal))


def volume_faults(places: Sequence[Place]) -> str | None:
    """Why slices make no volume that can be trusted, everything in one line; None: they make one.

    places: in slice order. Slices make a volume when all are parallel, of the same pixel spacing, at
    different positions, and one constant step apart (sideways too: a constant gantry tilt will do, up to
    45 degrees). None may lie farther off the grid of the volume than 10 % of their distance, at most
    0.1 mm (but always 0.01 mm), and no step may differ from the others by more than twice that.
    """
    if len(places) < 2:
        return None
    return "; ".join(_grid_faults(places) or _step_faults(places) or _tilt_faults(places)) or None


def same_positions(places: Sequence[Place]) -> int:
    """How many slices lie at the position of another one. places: in slice order."""
    if len(places) < 2:
        return 0
    heights = np.array([each.position for each in places]) @ places[0].normal
    return int((np.diff(heights) <= _ABSOLUTE).sum())


def series_geometry(places: Sequence[Place]) -> Geometry:
    """The one affine of a whole series; voxel index is (column, row, slice).

    places: in slice order, without `volume_faults`. A gantry tilt gives a sheared affine: the step from
    slice to slice is the step between positions, whatever the normal; positions are those of the straight
    line that fits them best. A single slice gets the thickness that it states along its normal, else
    1 mm, marked as assumed. Slices more than 3 times as far apart as they are thick have gaps.
    """
    first = places[0]
    origin, step = first.position, first.normal * (first.thickness or 1.0)
    if len(places) > 1:
        origin, step = _line(np.array([each.position for each in places]))
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.column_spacing
    affine[:3, 1] = first.along_column * first.row_spacing
    affine[:3, 2] = step
    affine[:3, 3] = origin
    thickest = max((each.thickness for each in places if each.thickness is not None), default=None)
    return Geometry(
        _LPS_TO_RAS @ affine,
        thickness_assumed=len(places) == 1 and first.thickness is None,
        gaps=thickest is not None and float(step @ first.normal) > _GAP * thickest,
    )


def is_sheared(affine: NDArray[np.float64]) -> bool:
    """Whether the axes of a grid are not at right angles (beyond the rounding of written cosines)."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _ORTHONORMAL)


def _grid_faults(places: Sequence[Place]) -> list[str]:
    first = places[0]
    cosines = [np.concatenate([each.along_row, each.along_column]) for each in places]
    spacings = np.array([[each.row_spacing, each.column_spacing] for each in places])
    faults = []
    if np.abs(np.array(cosines) - cosines[0]).max() > SAME_DIRECTION:
        faults.append("its slices have different orientations")
    if np.abs(spacings / [first.row_spacing, first.column_spacing] - 1).max() > _SAME_SPACING:
        faults.append("its slices have different pixel spacings")
    return faults


def _step_faults(places: Sequence[Place]) -> list[str]:
    positions = np.array([each.position for each in places])
    normal = places[0].normal
    steps = np.diff(positions, axis=0)
    distances = steps @ normal
    if duplicates := same_positions(places):
        return [f"{duplicates} of its {len(places)} slices lie at the position of another one"]
    distance = float(np.median(distances))
    tolerance = max(_ABSOLUTE, min(_AT_MOST, _RELATIVE * distance))
    shifts = steps - np.outer(distances, normal)
    uneven = float(np.abs(distances - distance).max())
    sideways = float(np.linalg.norm(shifts - np.median(shifts, axis=0), axis=1).max())
    origin, step = _line(positions)
    even = origin + np.outer(np.arange(len(positions)), step)
    drift = float(np.linalg.norm(positions - even, axis=1).max())
    # A step is off by the rounding of two positions.
    if max(uneven, sideways) <= 2 * tolerance:
        # Steps that each pass may still add up to a slice that lies elsewhere than one affine says.
        return [f"its slices lie up to {drift:.2f} mm off an even spacing"] if drift > tolerance else []
    if max(uneven, drift) <= _JITTER * distance:
        return [f"the positions of its slices jitter: they lie up to {drift:.2f} mm off an even line"]
    faults = []
    if uneven > 2 * tolerance:
        faults.append(
            f"the distance from slice to slice changes ({_span(distances)} mm): "
            "slices are missing, or it is several series in one"
        )
    if sideways > 2 * tolerance:
        lengths = np.linalg.norm(shifts, axis=1)
        faults.append(
            f"the sideways shift from slice to slice changes ({_span(lengths)} mm), "
            "as with a changing gantry tilt"
        )
    return faults


def _tilt_faults(places: Sequence[Place]) -> list[str]:
    """Of slices without other faults: a step that leads sideways rather than from slice to slice."""
    _, step = _line(np.array([each.position for each in places]))
    normal = places[0].normal
    along = float(step @ normal)
    angle = float(np.degrees(np.arctan2(np.linalg.norm(step - along * normal), along)))
    if angle <= _STEEPEST:
        return []
    return [
        f"its slices follow one another at {angle:.1f} degrees to their normal, "
        f"and no gantry tilts by more than {_STEEPEST}"
    ]


def _line(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The evenly spaced points nearest to some (least squares): the first, and the step to the next.

    positions: float64 [N, 3], at least 2.
    """
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    number = np.arange(len(positions))
    # What is left to fit is 0 where positions are exact, and so is the correction.
    rest = positions - positions[0] - np.outer(number, step)
    centred = number - number.mean()
    correction = centred @ rest / (centred @ centred)
    origin = positions[0] + rest.mean(axis=0) - number.mean() * correction
    return origin, step + correction


def _span(lengths: NDArray[np.float64]) -> str:
    return f"{lengths.min():.2f} to {lengths.max():.2f}"
