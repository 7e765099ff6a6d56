"""Shapes of the pelvis: each is a distance in mm, negative inside, over the standard pelvis' coordinates.

The standard pelvis is that of a man of average size: x is the distance from the midline, y runs to the back from the
middle of the promontory, z up from mid-L3; all in mm. What changes from level to level stands in tables by z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.build import Plane

Bounds = tuple[float, float, float, float]  # least and largest x, least and largest y
_LOW_MM, _HIGH_MM, _STEP_MM = -340.0, 60.0, 0.5
_SMOOTH_MM = 4.0


@dataclass(frozen=True)
class Place:
    """Coordinates of one side of a slice in the standard pelvis.

    Attributes:
        x: (row, column) mm from the midline, positive on this side.
        y: (row, column) mm behind the promontory.
        z: (row, column) mm above mid-L3, or (1, 1) where the slice is level.
    """

    x: Plane
    y: Plane
    z: Plane

    @cached_property
    def level(self) -> NDArray[np.int32]:
        """Rows of the tables by z, shaped like `z`."""
        last = round((_HIGH_MM - _LOW_MM) / _STEP_MM)
        return np.rint((self.z - _LOW_MM) / _STEP_MM).clip(0, last).astype(np.int32)

    @cached_property
    def span(self) -> tuple[int, int]:
        """First row of the tables by z that this place needs, and the one after the last."""
        return int(self.level.min()), int(self.level.max()) + 1

    @cached_property
    def _index_from_xy(self) -> tuple[float, float, float, float]:
        """2x2, mm of x and y to rows and columns, taking both for planes."""
        rows, columns = self.x.shape
        (a, b), (c, d) = (
            (float(plane[-1, 0] - plane[0, 0]) / (rows - 1), float(plane[0, -1] - plane[0, 0]) / (columns - 1))
            for plane in (self.x, self.y)
        )
        scale = 1 / (a * d - b * c)
        return d * scale, -b * scale, -c * scale, a * scale

    def window(self, box: Bounds) -> tuple[slice, slice]:
        """Rows and columns that hold all points within a box."""
        rows, columns = self.x.shape
        if min(rows, columns) < 2:
            return slice(0, rows), slice(0, columns)
        a, b, c, d = self._index_from_xy
        margin = 1.0 if self.z.size == 1 else 12.0  # in tilted slices the pelvis widens and leans along the plane
        x, y = (
            (low - margin - zero, high + margin - zero)
            for low, high, zero in zip(box[::2], box[1::2], (float(self.x[0, 0]), float(self.y[0, 0])), strict=True)
        )
        row = [a * u + b * v for u in x for v in y]
        column = [c * u + d * v for u in x for v in y]
        return _span(row, rows), _span(column, columns)


def _span(index: list[float], size: int) -> slice:
    """The whole numbers around some, as far as they lie in an axis of this size."""
    return slice(min(max(math.floor(min(index)), 0), size), min(max(math.ceil(max(index)) + 1, 0), size))


def bounds_by_level(x: NDArray[np.float32], y: NDArray[np.float32], reach: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes by level, (level, 5): least and largest x, least and largest y, and what they grow by with the thickness.

    Args:
        x: (point, level) of the points of a midline.
        y: the same.
        reach: (level,) how far the shape reaches from them; 0 where it has ended.
    """
    return np.stack([x.min(axis=0), x.max(axis=0), y.min(axis=0), y.max(axis=0), reach], axis=1)


def box_at(bounds: NDArray[np.float32], place: Place, grow: float, more_mm: float) -> Bounds | None:
    """What holds a whole shape at the levels of a place; None where they have nothing of it."""
    low, high = place.span
    x0, x1, y0, y1, reach = bounds[low].tolist()
    if high > low + 1:
        part = bounds[low:high]
        (x0, _, y0, _, _), (_, x1, _, y1, reach) = part.min(axis=0).tolist(), part.max(axis=0).tolist()
    if reach <= 0:
        return None
    reach = reach * grow + more_mm
    return x0 - reach, x1 + reach, y0 - reach, y1 + reach


def by_level(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """A table by z every half millimetre.

    Args:
        rows: (z, value, value, ...) with z rising.

    Returns:
        (value, level) float32, interpolated and smoothed along z.
    """
    z, *values = np.array(rows, dtype=np.float64).T
    levels = np.arange(_LOW_MM, _HIGH_MM + _STEP_MM / 2, _STEP_MM)
    table = np.array([np.interp(levels, z, value) for value in values])
    smooth = cv2.GaussianBlur(table, (65, 1), _SMOOTH_MM / _STEP_MM, borderType=cv2.BORDER_REPLICATE)
    return smooth.astype(np.float32)


@dataclass(frozen=True)
class Depth:
    """How deep points lie in a shape.

    Attributes:
        outside: mm outside the shape, negative inside.
        across: mm from its midline.
        along: mm along its midline.
    """

    outside: Plane
    across: Plane
    along: Plane


@dataclass(frozen=True)
class Sheet:
    """A flat muscle or bone as slices cut it: a bent strip between two ends.

    Attributes:
        rows: (z, x and y of the first end, x and y of the second end, thickness, bow) by level; a bow moves the
            middle outward where the sheet runs backwards, and forward where it runs outward.
        wedge: how much thicker the second end is than the first, -1..1.
        skew: where the bow is strongest: 0 in the middle, positive nearer to the first end.
        blunt: whether its ends are square rather than round.
    """

    rows: tuple[tuple[float, float, float, float, float, float, float], ...]
    wedge: float = 0.0
    skew: float = 0.0
    blunt: bool = False

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        return by_level(self.rows)

    @cached_property
    def _bounds(self) -> NDArray[np.float32]:
        x0, y0, x1, y1, thick, _ = self._table
        reach = np.where(thick > 0.8, thick * 0.5 * (1 + abs(self.wedge)), 0)
        return bounds_by_level(np.array([x0, x1]), np.array([y0, y1]), reach)

    @cached_property
    def _sag(self) -> float:
        return float(np.abs(self._table[5]).max()) * (1 + abs(self.skew))

    def box(self, place: Place, grow: float = 1.0) -> Bounds | None:
        """What holds the whole sheet at the levels of a place; None where they have nothing of it.

        Args:
            place: one side of a slice.
            grow: relative thickness.
        """
        return box_at(self._bounds, place, grow, 3 + self._sag)

    def depth(self, place: Place, grow: float = 1.0) -> Depth:
        """The distance at every point, the thickness multiplied by `grow`.

        Args:
            place: one side of a slice.
            grow: relative thickness.
        """
        x0, y0, x1, y1, thick, bow = self._table[:, place.level]
        dx, dy = x1 - x0, y1 - y0
        length = np.sqrt(dx * dx + dy * dy)
        dx, dy = dx / length, dy / length
        u, v = place.x - x0, place.y - y0
        along = u * dx + v * dy
        w = along * (2 / length) - 1
        bulge = np.maximum(1 - w * w, 0)
        across = u * dy - v * dx - bow * bulge * (1 - self.skew * w)
        full = bulge * (2 - bulge)  # 1 - w^4
        full = full * (2 - full) if self.blunt else full
        half = (0.5 * grow * thick) * (1 + self.wedge * w) * np.sqrt(full)
        outside = np.abs(across) - half + 30 * np.maximum(np.abs(w) - 1, 0)
        return Depth(outside, across, along)


@dataclass(frozen=True)
class Cord:
    """A round muscle, vessel or organ that runs through the slices.

    Attributes:
        rows: (z, x, y, half width, half depth) by level; a half width of 0 ends it.
        turn_deg: turn about z, from x towards y.
        power: 2 is an ellipse, more is boxier.
    """

    rows: tuple[tuple[float, float, float, float, float], ...]
    turn_deg: float = 0.0
    power: float = 2.0

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        return by_level(self.rows)

    @cached_property
    def _bounds(self) -> NDArray[np.float32]:
        x, y, wide, deep = self._table
        corners = 1.2 if self.power > 2 else 1.0
        reach = np.where(np.minimum(wide, deep) > 0.5, corners * np.maximum(wide, deep), 0)
        return bounds_by_level(x[None], y[None], reach)

    def box(self, place: Place, grow: float = 1.0) -> Bounds | None:
        """What holds the whole cord at the levels of a place; None where they have nothing of it."""
        return box_at(self._bounds, place, grow, 3)

    def depth(self, place: Place, grow: float = 1.0) -> Depth:
        """The distance at every point, both radii multiplied by `grow`."""
        x, y, wide, deep = self._table[:, place.level]
        wide, deep = np.maximum(grow * wide, 0.1), np.maximum(grow * deep, 0.1)
        sin, cos = math.sin(math.radians(self.turn_deg)), math.cos(math.radians(self.turn_deg))
        u, v = place.x - x, place.y - y
        across, along = cos * v - sin * u, cos * u + sin * v
        a, b = np.abs(along / wide), np.abs(across / deep)
        share = np.sqrt(a * a + b * b) if self.power == 2 else (a**self.power + b**self.power) ** (1 / self.power)
        return Depth((share - 1) * np.minimum(wide, deep), across, along)


@dataclass(frozen=True)
class Rod:
    """A straight bone between two points, thicker or thinner towards its second end.

    Attributes:
        first: (x, y, z) of one end.
        second: (x, y, z) of the other.
        radius: radius at both ends.
    """

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    radius: tuple[float, float]

    def box(self, place: Place, more_mm: float = 0.0) -> Bounds | None:
        """What holds the whole rod, `more_mm` thicker; None where a place's levels have nothing of it."""
        x, y, z = zip(self.first, self.second, strict=True)
        reach = max(self.radius) + more_mm + 1
        low, high = (_LOW_MM + _STEP_MM * level for level in place.span)
        if low > max(z) + reach or high < min(z) - reach:
            return None
        return min(x) - reach, max(x) + reach, min(y) - reach, max(y) + reach

    def outside(self, place: Place) -> Plane:
        """Mm outside the rod at every point, negative inside."""
        u, v, w = place.x - self.first[0], place.y - self.first[1], place.z - self.first[2]
        dx, dy, dz = (b - a for a, b in zip(self.first, self.second, strict=True))
        share = ((u * dx + v * dy + w * dz) / (dx * dx + dy * dy + dz * dz)).clip(0, 1)
        u, v, w = u - share * dx, v - share * dy, w - share * dz
        distance: Plane = np.sqrt(u * u + v * v + w * w) - (self.radius[0] + share * (self.radius[1] - self.radius[0]))
        return distance


def hull(boxes: Sequence[Bounds | None]) -> Bounds | None:
    """The smallest box around several, or None where there are none."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    x0, x1, y0, y1 = zip(*there, strict=True)
    return min(x0), max(x1), min(y0), max(y1)
