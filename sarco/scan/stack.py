"""Stacks of parallel slices: their order, the regular grid that they lie on, and runs of equal steps. Numpy only.

World is LPS in mm, as in `sarco.scan.geometry`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.core.errors import GeometryError
from sarco.core.messages import count_of

STRAY_MM = 0.1  # by which slices may miss the line through the others
STRAY_SHARE = 0.1  # of the step, by which slices may miss their plane
LARGEST_GAP_STEPS = 1000  # a wider one would fill the memory with planes that nobody scanned
MOST_RUNS_TOLD = 4
_STRAIGHT_MM = 0.05  # beyond it the line through all slices is better than that through the ends
_ROUNDINGS_MM = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)


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
    found = _find_planes(along, rounding_mm)
    if found is None:
        raise UnevenGapsError(_describe_runs(points, direction, rounding_mm))
    planes, is_rounded = found
    first, step_lps = points[0], (points[-1] - points[0]) / planes[-1]
    if is_rounded or _off_line(points, planes, first, step_lps).max() > _STRAIGHT_MM:
        step_lps, first = np.polyfit(planes, points, 1)
    step = float(np.linalg.norm(step_lps))
    stray = _off_line(points, planes, first, step_lps)
    if stray.max() > max(STRAY_MM, STRAY_SHARE * step, 2 * rounding_mm):
        raise GeometryError(
            f"the slice at {_mm(points[int(stray.argmax())])} lies {stray.max():.4g} mm off the line of the others; "
            "two scans share the folder"
        )
    return SliceStack(tuple(order.tolist()), tuple(planes.tolist()), first, step_lps)


def _off_line(
    points: NDArray[np.float64], planes: NDArray[np.intp], first: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far each slice lies from its plane of a regular grid."""
    distances: NDArray[np.float64] = np.linalg.norm(points - first - planes[:, None] * step, axis=1)
    return distances


def _gap_tolerance(gap: float) -> float:
    """By how much equal gaps may differ: 3 percent, and up to 5 of small ones, whose positions are rounded more."""
    return max(0.03 * gap, min(0.05, 0.05 * gap))


def _find_planes(along: NDArray[np.float64], rounding_mm: float) -> tuple[NDArray[np.intp], bool] | None:
    """The plane of each slice of a regular grid.

    Args:
        along: places of the slices along their normal, ascending, at least two.
        rounding_mm: by how much each may be rounded, which may be a tenth of the step.

    Returns:
        The planes, from 0, and whether rounding alone explains them; None where there is no common step.
    """
    gaps = np.diff(along)
    smallest = float(gaps.min())
    if smallest <= 0 or float(gaps.max()) > 2 * LARGEST_GAP_STEPS * smallest:
        return None
    # One gap may be rounded, and one may be wrong; the mean over the usual single steps is exact.
    singles = np.sort(gaps[gaps < 1.5 * smallest])
    usual = float(singles[(len(singles) - 1) // 2])
    steps = (float(singles[np.abs(singles - usual) <= _gap_tolerance(usual)].mean()), float(singles.mean()))
    spread = float(singles.max() - singles.min())
    for step, is_rounded in zip(steps, (False, True), strict=True):
        multiples = np.maximum(np.rint(gaps / step), 1).astype(np.intp)
        planes = np.concatenate([[0], np.cumsum(multiples)])
        fitted, start = np.polyfit(planes, along, 1)
        off = float(np.abs(along - start - planes * fitted).max())
        if is_rounded:
            even = spread <= 4 * rounding_mm + 1e-6 and rounding_mm <= STRAY_SHARE * fitted + 1e-9
            limit = 1.5 * rounding_mm
        else:
            even = float(np.abs(gaps - multiples * step).max()) <= _gap_tolerance(usual) + 1e-6
            limit = STRAY_SHARE * fitted
        if even and off <= limit and multiples.max() <= LARGEST_GAP_STEPS:
            return planes, is_rounded
    return None


def _rounding_mm(points: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """How far the rounding of positions moves slices along their normal; 0 where they are finer than 0.01 mm."""
    counts = np.abs(normal) > 1e-9  # x and y of axial slices may be exact
    for unit in _ROUNDINGS_MM:
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
    order = np.argsort(points @ direction, kind="stable")
    runs = _runs_of(points[order], direction, list(range(len(order))))
    return [tuple(int(order[place]) for place in run) for run in runs]


def _runs_of(points: NDArray[np.float64], normal: NDArray[np.float64], places: list[int]) -> list[list[int]]:
    """Cuts places of slices, in order of position, into runs that each lie on a regular grid without a gap."""
    along = points[places] @ normal
    gaps = np.diff(along).tolist()
    blocks: list[list[int]] = []  # places of consecutive gaps that are equal
    for place in range(len(gaps)):
        if blocks and _continues(points[places], normal, gaps, blocks[-1]):
            blocks[-1].append(place)
        else:
            blocks.append([place])
    # Two blocks share the slice between them: the longer one gets it, then the one with the smaller step.
    blocks.sort(key=lambda block: (-len(block), gaps[block[0]]))
    free = set(range(len(places)))
    runs = []
    for block in blocks:
        members = [place for place in range(block[0], block[-1] + 2) if place in free]
        if len(members) > 1:
            runs.append(members)
            free.difference_update(members)
    runs += [[place] for place in free]
    if len(runs) == 1:
        return [places]
    return [part for run in sorted(runs) for part in _runs_of(points, normal, [places[place] for place in run])]


def _continues(points: NDArray[np.float64], normal: NDArray[np.float64], gaps: list[float], block: list[int]) -> bool:
    """Whether the gap after a block of equal ones is as they are, so that their slices still make one grid."""
    first, gap = gaps[block[0]], gaps[block[-1] + 1]
    members = points[block[0] : block[-1] + 3]
    rounding_mm = _rounding_mm(members, normal)
    if abs(gap - first) > max(_gap_tolerance(gap), min(2 * rounding_mm, STRAY_SHARE * gap) + 1e-6):
        return False
    found = _find_planes(members @ normal, rounding_mm)
    return found is not None and int(found[0][-1]) == len(members) - 1


def _mm(point: NDArray[np.float64]) -> str:
    return "({:.1f}, {:.1f}, {:.1f}) mm".format(*point)
