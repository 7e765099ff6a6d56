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

from sarco.phantom.build import Plane

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

    def depth(self, place: Place, grow: float = 1.0) -> Depth | None:
        """The distance at every point, the thickness multiplied by `grow`; None where no point of these levels is in.

        Args:
            place: one side of a slice.
            grow: relative thickness.
        """
        x0, y0, x1, y1, thick, bow = self._table[:, place.level]
        if not (thick > 0.8).any():
            return None
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

    def depth(self, place: Place, grow: float = 1.0) -> Depth | None:
        """The distance at every point, both radii multiplied by `grow`; None where no point of these levels is in."""
        x, y, wide, deep = self._table[:, place.level]
        if not (np.minimum(wide, deep) > 0.5).any():
            return None
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

    def outside(self, place: Place) -> Plane | None:
        """The distance at every point, or None where the slice does not touch it."""
        ends = np.array([self.first, self.second])
        reach = max(self.radius) + 1
        if place.z.min() > ends[:, 2].max() + reach or place.z.max() < ends[:, 2].min() - reach:
            return None
        u, v, w = place.x - self.first[0], place.y - self.first[1], place.z - self.first[2]
        dx, dy, dz = (float(d) for d in ends[1] - ends[0])
        share = ((u * dx + v * dy + w * dz) / (dx * dx + dy * dy + dz * dz)).clip(0, 1)
        u, v, w = u - share * dx, v - share * dy, w - share * dz
        distance: Plane = np.sqrt(u * u + v * v + w * w) - (self.radius[0] + share * (self.radius[1] - self.radius[0]))
        return distance
