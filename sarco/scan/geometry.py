"""Where voxels lie: affines, planes, LPS and RAS. Numpy only, no files.

Index order is (row, column, slice) everywhere; world coordinates are millimetres in LPS (x to the patient's left,
y posterior, z superior), as DICOM has them (PS3.3 C.7.6.2.1.1). An ``affine_lps`` is 4x4 and maps
``(row, column, slice, 1)`` to ``(x, y, z, 1)``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import GeometryError

Affine = NDArray[np.float64]

COSINE_TOLERANCE = 2e-3  # three decimals stay below 0.0009
FARTHEST_OFF_MM = 0.75  # of a voxel or of the far end of a slice, which three decimals move by up to 0.7
GRID_TOLERANCE_VOXELS = 0.25  # how far two grids that are "the same" may lie apart anywhere (affines get rounded)


def lps_to_ras(affine_lps: ArrayLike) -> Affine:
    """The same mapping with world axes in RAS (as NIfTI has them); the index order is untouched.

    >>> lps_to_ras(np.eye(4)).diagonal().tolist()
    [-1.0, -1.0, 1.0, 1.0]
    """
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine_lps, dtype=np.float64)


ras_to_lps = lps_to_ras  # the swap is its own inverse


def swap_rows_and_columns(affine: ArrayLike) -> Affine:
    """The same mapping for indices given as (column, row, slice) instead of (row, column, slice), and back."""
    return np.asarray(affine, dtype=np.float64)[:, [1, 0, 2, 3]]


def unit_cosines(orientation: Sequence[float]) -> tuple[float, ...]:
    """The two directions of a slice as unit vectors at right angles: those nearest to what six rounded numbers say.

    Without this the rounding would scale the pixels. Both directions are turned by half of what they lack.

    Args:
        orientation: ImageOrientationPatient: direction of growing column index, then of growing row index.

    Raises:
        GeometryError: the numbers are too far from two unit vectors at right angles to say which are meant.

    >>> unit_cosines((0.99, 0, 0, 0, 1, 0))
    Traceback (most recent call last):
    sarco.core.errors.GeometryError: orientation [0.99, 0.0, 0.0, 0.0, 1.0, 0.0] is not two unit vectors at right angles
    >>> unit_cosines((0.9995, 0, 0, 0, 1.0004, 0))
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    """
    cosines = np.asarray(orientation, dtype=np.float64)
    if cosines.shape != (6,) or not np.isfinite(cosines).all():
        raise GeometryError(f"orientation {list(orientation)} is not six finite numbers")
    pair = cosines.reshape(2, 3)
    overlap = pair @ pair.T - np.eye(2)  # on the diagonal twice what a length lacks
    if max(np.abs(overlap.diagonal()).max() / 2, abs(overlap[0, 1])) > COSINE_TOLERANCE:
        raise GeometryError(f"orientation {cosines.tolist()} is not two unit vectors at right angles")
    if not overlap.any():
        return tuple(cosines.tolist())
    left, _, right = np.linalg.svd(pair, full_matrices=False)
    return tuple((left @ right + 0.0).ravel().tolist())


def check_cosines(orientation: Sequence[float], lengths_mm: tuple[float, float]) -> None:
    """Refuses directions that are so coarse, or so far from unit vectors, that nobody knows where the slice ends.

    Rounding turns a slice as well as scaling it. How far it turned is not seen, so the far end counts as off by half
    of the last decimal; directions that are exact unit vectors are taken at their word.

    Args:
        orientation: ImageOrientationPatient as it stands there.
        lengths_mm: of the slice along the first direction, then along the second.

    Raises:
        GeometryError: an end of the slice may lie more than `FARTHEST_OFF_MM` off.
    """
    pair = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    lack = np.linalg.norm(pair - np.reshape(unit_cosines(orientation), (2, 3)), axis=1)
    last_decimal = next((10.0**-n for n in range(1, 6) if np.abs(pair * 10**n - np.rint(pair * 10**n)).max() < 1e-6), 0)
    rounded = np.abs(np.linalg.norm(pair, axis=1) - 1) > 1e-6
    off_mm = float((np.maximum(lack, rounded * last_decimal / 2) * lengths_mm).max())
    if off_mm > FARTHEST_OFF_MM:
        raise GeometryError(
            f"orientation {pair.ravel().tolist()} is too coarse: an end of the slice may lie {off_mm:.2g} mm off"
        )


def slice_normal(orientation: Sequence[float]) -> NDArray[np.float64]:
    """The unit normal of a slice, from ImageOrientationPatient (6 direction cosines).

    Raises:
        GeometryError: the two directions are no unit vectors at right angles.
    """
    along_row, along_column = np.array(unit_cosines(orientation)).reshape(2, 3)
    return np.cross(along_row, along_column)


def slice_affine_lps(
    position: ArrayLike,
    orientation: Sequence[float],
    spacing_mm: tuple[float, float],
    step_lps: ArrayLike,
) -> Affine:
    """The affine of a slice or, with the vector to the next slice as ``step_lps``, of a series.

    Args:
        position: ImagePositionPatient, LPS mm of the centre of the first voxel.
        orientation: ImageOrientationPatient: direction of growing column index, then of growing row index.
        spacing_mm: PixelSpacing: distance between rows, then between columns.
        step_lps: vector from a slice to the next one, LPS mm; it holds the shear of a tilted gantry.

    >>> slice_affine_lps((1, 2, 3), (1, 0, 0, 0, 1, 0), (0.5, 0.7), (0, 0, 5))[:3].tolist()
    [[0.0, 0.7, 0.0, 1.0], [0.5, 0.0, 0.0, 2.0], [0.0, 0.0, 5.0, 3.0]]
    """
    cosines = np.asarray(orientation, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = cosines[3:] * spacing_mm[0]
    affine[:3, 1] = cosines[:3] * spacing_mm[1]
    affine[:3, 2] = np.asarray(step_lps, dtype=np.float64)
    affine[:3, 3] = np.asarray(position, dtype=np.float64)
    return affine


def gantry_tilt_deg(affine: ArrayLike) -> float:
    """Angle between the normal of the slices and the step from one to the next; 0 unless the gantry was tilted."""
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    normal = np.cross(axes[:, 1], axes[:, 0])
    cosine = float(abs(normal @ axes[:, 2]) / (np.linalg.norm(normal) * np.linalg.norm(axes[:, 2])))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def plane_affine(affine: ArrayLike, plane: int) -> Affine:
    """The affine of one plane of a volume, as a volume of its own that begins there."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += plane * moved[:3, 2]
    return moved


def plane_of(affine_lps: ArrayLike, position: ArrayLike) -> int | None:
    """The plane of a grid, or of its continuation, on which a slice with its first voxel there lies; None if none.

    >>> plane_of(np.diag([1, 1, 5, 1]), (0, 0, 15)), plane_of(np.diag([1, 1, 5, 1]), (0, 0, 12))
    (3, None)
    """
    index = np.linalg.inv(np.asarray(affine_lps, dtype=np.float64)) @ [*np.asarray(position, dtype=np.float64), 1]
    plane = int(np.rint(index[2]))
    return plane if float(np.abs(index[:3] - [0, 0, plane]).max()) <= GRID_TOLERANCE_VOXELS else None


def spacing_mm(affine: ArrayLike) -> tuple[float, float, float]:
    """Distance between neighbours along each index axis, mm."""
    lengths = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(lengths[0]), float(lengths[1]), float(lengths[2])


def voxel_volume_mm3(affine: ArrayLike) -> float:
    """Volume of a voxel, right for sheared grids too."""
    return float(abs(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])))


def find_plane(
    volume_affine_lps: ArrayLike,
    volume_shape: tuple[int, int, int],
    slice_affine: ArrayLike,
    slice_shape: tuple[int, int],
) -> tuple[int, int, tuple[int, ...]]:
    """Where the plane of an image slice lies in a volume on another grid, if the two grids coincide there.

    Args:
        volume_affine_lps: affine of the volume, (a, b, c) to LPS mm, its axes in any order and direction.
        volume_shape: size of the volume along (a, b, c).
        slice_affine: ``affine_lps`` of the image slice; only its plane counts.
        slice_shape: (rows, columns) of the image slice.

    Returns:
        ``(axis, index, signs)``: the plane is ``volume.take(index, axis)``; ``signs`` holds, for rows and for
        columns of the slice, the volume axis + 1, negative where it runs the other way.

    Raises:
        GeometryError: the grids differ in spacing, direction, size or place; says in which.
    """
    volume_affine_lps, slice_affine = (np.asarray(one, dtype=np.float64) for one in (volume_affine_lps, slice_affine))
    to_volume = np.linalg.inv(volume_affine_lps) @ slice_affine
    nearest = np.rint(to_volume[:3, :2])
    rows, columns = slice_shape
    # A deviation of the direction counts by what it amounts to at the far end of the slice.
    drift = np.abs(to_volume[:3, :2] - nearest).max(axis=0) * (max(rows - 1, 1), max(columns - 1, 1))
    unit = np.abs(nearest).sum(axis=0)
    if (unit != 1).any() or (nearest[:, 0] @ nearest[:, 1]) != 0 or drift.max() > GRID_TOLERANCE_VOXELS:
        raise GeometryError(_difference_in_plane(volume_affine_lps, slice_affine))
    axes = np.abs(nearest).argmax(axis=0)
    normal_axis = 3 - int(axes.sum())
    start = to_volume[:3, 3]
    index = int(np.rint(start[normal_axis]))
    steps_mm = spacing_mm(volume_affine_lps)
    step_mm = steps_mm[normal_axis]
    if _is_off(start[normal_axis] - index, step_mm) or not 0 <= index < volume_shape[normal_axis]:
        away = abs(start[normal_axis] - np.clip(index, 0, volume_shape[normal_axis] - 1))
        raise GeometryError(
            f"the slice lies {away * step_mm:.4g} mm from the nearest plane of the label map, which has "
            f"{volume_shape[normal_axis]}, {step_mm:.4g} mm apart"
        )
    signs = []
    for image_axis, size in enumerate(slice_shape):
        axis = int(axes[image_axis])
        sign = int(nearest[axis, image_axis])
        if volume_shape[axis] != size:
            raise GeometryError(
                f"the image has {size} {('rows', 'columns')[image_axis]}, the label map {volume_shape[axis]}"
            )
        expected = 0 if sign > 0 else size - 1
        if _is_off(start[axis] - expected, steps_mm[axis]):
            raise GeometryError(f"the two grids are shifted by {abs(start[axis] - expected):.3g} pixels")
        signs.append(sign * (axis + 1))
    return normal_axis, index, tuple(signs)


def _is_off(voxels: float, step_mm: float) -> bool:
    """Whether two grids that should be the same lie so far apart that it is no rounding."""
    return abs(voxels) > GRID_TOLERANCE_VOXELS or abs(voxels) * step_mm > FARTHEST_OFF_MM


def _difference_in_plane(volume_affine_lps: Affine, slice_affine: Affine) -> str:
    """In what two grids differ within the slice: in pixel spacing, with numbers, or in direction."""
    volume_mm, slice_mm = np.array(spacing_mm(volume_affine_lps)), np.array(spacing_mm(slice_affine))
    cosines = np.abs((volume_affine_lps[:3, :3] / volume_mm).T @ (slice_affine[:3, :2] / slice_mm[:2]))
    axes = cosines.argmax(axis=0)
    turned_deg = float(np.degrees(np.arccos(min(1.0, cosines.max(axis=0).min()))))
    if turned_deg > 0.05:
        return f"the two grids are turned against each other by {turned_deg:.3g} degrees"
    image, label = (" x ".join(f"{one:.5g}" for one in mm) for mm in (slice_mm[:2], volume_mm[axes]))
    return f"the two grids differ in pixel spacing ({image} mm in the image, {label} mm in the label map)"


def take_plane(volume: NDArray[np.uint8], plane: tuple[int, int, tuple[int, ...]]) -> NDArray[np.uint8]:
    """The (row, column) array of the plane that `find_plane` found in ``volume``."""
    axis, index, signs = plane
    # The two other axes, in ascending order; np.take would copy a volume that is stored plane after plane.
    picked: NDArray[np.uint8] = np.moveaxis(volume, axis, 0)[index]
    if abs(signs[0]) > abs(signs[1]):
        picked = picked.T
    row_step, column_step = (1 if sign > 0 else -1 for sign in signs)
    return np.ascontiguousarray(picked[::row_step, ::column_step])
