"""Where voxels lie: affines, slice order, gaps, LPS and RAS. Numpy only, no files.

Index order is (row, column, slice) everywhere; world coordinates are millimetres in LPS (x to the patient's left,
y posterior, z superior), as DICOM has them (PS3.3 C.7.6.2.1.1). An ``affine_lps`` is 4x4 and maps
``(row, column, slice, 1)`` to ``(x, y, z, 1)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import GeometryError
from sarco.core.messages import count_of

Affine = NDArray[np.float64]

GAP_TOLERANCE_MM = 0.05  # positions are often rounded to 0.01 mm
GAP_TOLERANCE_SHARE = 0.01  # of the step
STRAY_SHARE = 0.1  # of the step, by which rounded positions may miss their plane
COSINE_TOLERANCE = 2e-3  # three decimals stay below 0.0009; two put the far end of a slice up to 2 mm off
LARGEST_GAP_STEPS = 1000  # a wider one would fill the memory with planes that nobody scanned
MOST_RUNS_TOLD = 4
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


@dataclass(frozen=True)
class SliceStack:
    """Slices that lie on one regular grid, in order of position along their normal.

    Attributes:
        order: for each place in the stack, the index of the slice as it was given.
        plane_index: for each place in the stack, its plane on the regular grid; 0, 1, 3 where one slice is missing.
        first_position: LPS mm of the first slice.
        step_lps: vector from one plane to the next, LPS mm.
    """

    order: tuple[int, ...]
    plane_index: tuple[int, ...]
    first_position: NDArray[np.float64]
    step_lps: NDArray[np.float64]

    @property
    def n_planes(self) -> int:
        """Planes of the regular grid, missing ones included."""
        return self.plane_index[-1] + 1


class UnevenGapsError(GeometryError):
    """Slices are spaced unevenly; each run of equal steps could be used by itself."""


def stack_slices(positions: ArrayLike, normal: ArrayLike, single_step_mm: float = 1.0) -> SliceStack:
    """Orders parallel slices by position and finds the regular grid on which they lie.

    A gap of a whole multiple of the step is allowed: curated folders have such gaps. The step comes from the
    positions, never from SliceThickness, except for a single slice. Positions may be rounded: to 0.1 mm, say, where
    the step is 1.25 mm, so that gaps are 1.2 and 1.3 mm.

    Args:
        positions: (N, 3) ImagePositionPatient of each slice, LPS mm, in any order.
        normal: unit normal of the slices.
        single_step_mm: the step of a stack of one slice, which has none of its own.

    Raises:
        UnevenGapsError: a gap is no whole multiple of the step; names the runs of equal steps.
        GeometryError: two slices share a position, or one lies off the line of the others; names the place.
    """
    points = np.asarray(positions, dtype=np.float64)
    direction = np.asarray(normal, dtype=np.float64)
    if not np.isfinite(points).all():
        raise GeometryError("a slice has a position that is not three finite numbers")
    along = points @ direction
    order = np.argsort(along, kind="stable")
    points, along = points[order], along[order]
    if len(points) == 1:
        return SliceStack((0,), (0,), points[0], direction * single_step_mm)
    gaps = np.diff(along)
    if float(gaps.min()) < 1e-3:
        place = int(gaps.argmin())
        raise GeometryError(f"two slices share the position {_mm(points[place])}; keep one of them")
    rounding_mm = _rounding_mm(points, direction)
    multiples = _multiples_of_step(gaps)
    is_rounded = multiples is None
    if multiples is None:
        multiples = _multiples_of_rounded_step(gaps, rounding_mm)
    if multiples is None:
        raise UnevenGapsError(_describe_runs(points, direction, rounding_mm))
    planes = np.concatenate([[0], np.cumsum(multiples)])
    first, step_lps = points[0], (points[-1] - points[0]) / planes[-1]
    if is_rounded:  # the line through all is better than that through the ends
        step_lps, first = np.polyfit(planes, points, 1)
    step = float(np.linalg.norm(step_lps))
    stray = np.linalg.norm(points - first - planes[:, None] * step_lps, axis=1)
    if stray.max() > max(2 * _gap_tolerance(step), STRAY_SHARE * step, 2 * rounding_mm):
        raise GeometryError(
            f"the slice at {_mm(points[int(stray.argmax())])} lies {stray.max():.4g} mm off the line of the others; "
            "two scans share the folder"
        )
    return SliceStack(tuple(order.tolist()), tuple(planes.tolist()), first, step_lps)


def _gap_tolerance(gap: float) -> float:
    return max(GAP_TOLERANCE_MM, GAP_TOLERANCE_SHARE * gap)


def _multiples_of_step(gaps: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """How many steps each gap has; None where they have no common step."""
    # One gap may be rounded, and one may be wrong; the mean over the usual single steps is exact.
    singles = np.sort(gaps[gaps < 1.5 * gaps.min()])
    usual = float(singles[(len(singles) - 1) // 2])
    step = float(singles[np.abs(singles - usual) <= _gap_tolerance(usual)].mean())
    multiples = np.maximum(np.rint(gaps / step), 1).astype(np.intp)
    wrong = (np.abs(gaps - multiples * step) > _gap_tolerance(usual)) | (multiples > LARGEST_GAP_STEPS)
    return None if wrong.any() else multiples


def _multiples_of_rounded_step(gaps: NDArray[np.float64], rounding_mm: float) -> NDArray[np.intp] | None:
    """The same for positions that are each off by up to ``rounding_mm``, which may be a tenth of the step."""
    singles = gaps[gaps < 1.5 * gaps.min()]
    if float(singles.max() - singles.min()) > 4 * rounding_mm + 1e-6:  # both ends of two gaps
        return None
    multiples = np.maximum(np.rint(gaps / singles.mean()), 1).astype(np.intp)
    planes = np.concatenate([[0], np.cumsum(multiples)])
    along = np.concatenate([[0], np.cumsum(gaps)])
    step, start = np.polyfit(planes, along, 1)
    off = float(np.abs(along - start - planes * step).max())
    fits = off <= 1.5 * rounding_mm and rounding_mm <= STRAY_SHARE * step and multiples.max() <= LARGEST_GAP_STEPS
    return multiples if fits else None


def _rounding_mm(points: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """How far the rounding of positions to 1, 0.1 or 0.01 mm moves slices along their normal; 0 for finer ones."""
    counts = np.abs(normal) > 1e-9  # x and y of axial slices may be exact
    for unit in (1.0, 0.1, 0.01):
        steps = points[:, counts] / unit
        if np.abs(steps - np.rint(steps)).max() < 1e-4:
            return unit / 2 * float(np.abs(normal[counts]).sum())
    return 0.0


def _describe_runs(points: NDArray[np.float64], normal: NDArray[np.float64], rounding_mm: float) -> str:
    """What uneven slices are: runs of equal steps, with their places."""
    runs = split_runs(points, normal)
    told = []
    axis = int(np.abs(normal).argmax())
    for run in runs[:MOST_RUNS_TOLD]:
        ends = " to ".join(f"{points[place][axis]:.1f}" for place in dict.fromkeys((run[0], run[-1])))
        step = f" {abs(float((points[run[1]] - points[run[0]]) @ normal)):.4g} mm apart" if len(run) > 1 else ""
        told.append(f"{count_of(len(run), 'slice')}{step} ({'xyz'[axis]} {ends})")
    more = f", and {len(runs) - len(told)} more runs" if len(runs) > len(told) else ""
    why = "slices are missing in between, or two scans share the folder"
    if rounding_mm > STRAY_SHARE * float(np.diff(points @ normal).min()):
        why += f"; positions seem to be rounded to {2 * rounding_mm:.2g} mm, too coarse to tell"
    return f"the steps between slices differ: {', '.join(told)}{more}; {why}"


def split_runs(positions: ArrayLike, normal: ArrayLike) -> list[tuple[int, ...]]:
    """Cuts parallel slices into runs of equal steps, for series whose gaps fit no single grid.

    Args:
        positions: (N, 3) ImagePositionPatient of each slice, LPS mm, in any order.
        normal: unit normal of the slices.

    Returns:
        Runs in order of position, each the indices of its slices as they were given.

    >>> split_runs([(0, 0, z) for z in (0, 5, 10, 17, 22, 40)], (0, 0, 1))
    [(0, 1, 2), (3, 4), (5,)]
    """
    points, direction = np.asarray(positions, dtype=np.float64), np.asarray(normal, dtype=np.float64)
    along = points @ direction
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order]).tolist()
    rounding_mm = _rounding_mm(points, direction)
    blocks: list[list[int]] = []  # places of consecutive gaps that are equal
    for place, gap in enumerate(gaps):
        tolerance = max(_gap_tolerance(gap), min(2 * rounding_mm, STRAY_SHARE * gap) + 1e-6)
        if blocks and abs(gap - gaps[blocks[-1][0]]) <= tolerance:
            blocks[-1].append(place)
        else:
            blocks.append([place])
    # Two blocks share the slice between them: the longer one gets it, then the one with the smaller step.
    blocks.sort(key=lambda block: (-len(block), gaps[block[0]]))
    free = set(range(len(order)))
    runs = []
    for block in blocks:
        members = [place for place in range(block[0], block[-1] + 2) if place in free]
        if len(members) > 1:
            runs.append(members)
            free.difference_update(members)
    runs += [[place] for place in free]
    return [tuple(int(order[place]) for place in run) for run in sorted(runs)]


def gantry_tilt_deg(affine: ArrayLike) -> float:
    """Angle between the normal of the slices and the step from one to the next; 0 unless the gantry was tilted."""
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    normal = np.cross(axes[:, 1], axes[:, 0])
    cosine = float(abs(normal @ axes[:, 2]) / (np.linalg.norm(normal) * np.linalg.norm(axes[:, 2])))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def _mm(point: NDArray[np.float64]) -> str:
    return "({:.1f}, {:.1f}, {:.1f}) mm".format(*point)


def plane_affine(affine: ArrayLike, plane: int) -> Affine:
    """The affine of one plane of a volume, as a volume of its own that begins there."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += plane * moved[:3, 2]
    return moved


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
    if abs(start[normal_axis] - index) > GRID_TOLERANCE_VOXELS or not 0 <= index < volume_shape[normal_axis]:
        away = abs(start[normal_axis] - np.clip(index, 0, volume_shape[normal_axis] - 1))
        step_mm = spacing_mm(volume_affine_lps)[normal_axis]
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
        if abs(start[axis] - expected) > GRID_TOLERANCE_VOXELS:
            raise GeometryError(f"the two grids are shifted by {abs(start[axis] - expected):.3g} pixels")
        signs.append(sign * (axis + 1))
    return normal_axis, index, tuple(signs)


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
    picked: NDArray[np.uint8] = np.take(volume, index, axis)  # the two other axes, in ascending order
    if abs(signs[0]) > abs(signs[1]):
        picked = picked.T
    row_step, column_step = (1 if sign > 0 else -1 for sign in signs)
    return np.ascontiguousarray(picked[::row_step, ::column_step])
