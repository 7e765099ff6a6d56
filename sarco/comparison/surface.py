"""Distances between the surfaces of two masks, in mm, on grids whose three spacings differ. Numpy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """How far two surfaces lie apart.

    Attributes:
        hd95_mm: the larger of the two directed 95th percentiles (linear between ranks), as MONAI and nnU-Net have it.
        asd_mm: the average over all surface voxels of both masks of the distance to the other surface.
    """

    hd95_mm: float
    asd_mm: float


def compare_surfaces(truth: Mask, prediction: Mask, spacing_mm: tuple[float, float, float]) -> SurfaceDistances:
    """The distances between two masks; NaN throughout where either is empty, because then there is no distance.

    Args:
        truth: (row, column, slice).
        prediction: likewise, on the same grid.
        spacing_mm: distance between rows, columns and slices; the three axes stand at right angles.
    """
    if not truth.any() or not prediction.any():
        return SurfaceDistances(np.nan, np.nan)
    box = _box_of(truth | prediction)
    surfaces = [find_surface(mask)[box] for mask in (truth, prediction)]
    there = squared_distance(surfaces[1], spacing_mm)[surfaces[0]]
    back = squared_distance(surfaces[0], spacing_mm)[surfaces[1]]
    one, two = np.sqrt(there.astype(np.float64)), np.sqrt(back.astype(np.float64))
    return SurfaceDistances(
        hd95_mm=float(max(np.percentile(one, 95), np.percentile(two, 95))),
        asd_mm=float((one.sum() + two.sum()) / (one.size + two.size)),
    )


def find_surface(mask: Mask) -> Mask:
    """The voxels of a mask of which one of the six neighbours lies outside; beyond the grid all is outside.

    A volume of one slice has no neighbours above and below: there four count, else all of it would be surface.

    Args:
        mask: (row, column, slice).
    """
    inside = mask.copy()
    for axis in range(2 if mask.shape[2] == 1 else 3):
        along = np.moveaxis(mask, axis, 0)
        kept = np.moveaxis(inside, axis, 0)
        kept[1:] &= along[:-1]
        kept[:-1] &= along[1:]
        kept[[0, -1]] = False
    return mask & ~inside


def squared_distance(points: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """The exact squared distance, mm2, of every voxel to the nearest of some points; infinite without points.

    Axis by axis: the nearest point along rows, then the lower envelope along columns and along slices. Shifts end once
    the shift alone is longer than any distance left.

    Source: Felzenszwalb & Huttenlocher 2012, doi:10.4086/toc.2012.v008a019 (that the axes can be done in turn).

    Args:
        points: (row, column, slice).
        spacing_mm: distance between rows, columns and slices.
    """
    squared = np.full((points.shape[2], *points.shape[:2]), np.inf, dtype=np.float32)
    for plane in range(points.shape[2]):  # a plane at a time stays in the processor's cache
        if points[:, :, plane].any():
            along_rows = _nearest_along_rows(points[:, :, plane], spacing_mm[0])
            squared[plane] = _lower_envelope(along_rows.T, spacing_mm[1]).T
    return _lower_envelope(squared, spacing_mm[2]).transpose(1, 2, 0)


def _nearest_along_rows(points: Mask, step_mm: float) -> NDArray[np.float32]:
    """Squared distance to the nearest point of the same column."""
    far = 2 * len(points) + 1
    place = np.arange(len(points))[:, None]
    above = place - np.maximum.accumulate(np.where(points, place, -far), axis=0)
    below = np.minimum.accumulate(np.where(points, place, len(points) + far)[::-1], axis=0)[::-1] - place
    steps = np.minimum(above, below)
    return np.where(steps < len(points), (steps * step_mm) ** 2, np.inf).astype(np.float32)


def _lower_envelope(squared: NDArray[np.float32], step_mm: float) -> NDArray[np.float32]:
    """For each place along the first axis the minimum over all others of their value + squared distance to them."""
    nearest = squared.copy()
    for shift in range(1, len(squared)):
        cost = np.float32((shift * step_mm) ** 2)
        if cost >= nearest.max():
            break
        np.minimum(nearest[shift:], squared[:-shift] + cost, out=nearest[shift:])
        np.minimum(nearest[:-shift], squared[shift:] + cost, out=nearest[:-shift])
    return nearest


def _box_of(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds a mask."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
