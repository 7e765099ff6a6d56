"""The shapes of which bodies are made: superellipsoids, and tubes whose section changes along the body."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.labels import INVENTED_IDS

Space = Literal["anywhere", "trunk", "cavity"]
BODY = INVENTED_IDS["body"]


@dataclass(frozen=True)
class Blob:
    """A superellipsoid painted in one attenuation; it may turn, lean and taper along the body axis.

    Attributes:
        centre_mm: (x, y, z) in body coordinates.
        half_mm: half axes (x, y, z); z may be infinite.
        hu: attenuation.
        label: id of `INVENTED_LABELS`.
        turn_deg: turn about z, from x towards y.
        power: within a slice 2 is an ellipse, more is boxier.
        z_power: the same along the body axis: high for flat ends.
        lean: shift of the centre in x and y per mm of z.
        growth_per_mm: relative change of the x and y half axes per mm of z.
        space: where it may be painted; what lies in the cavity also has a more irregular outline.
        level_mm: painted only above this height relative to the centre (towards the ceiling): air over fluid.
        mottle_hu: amplitude of a coarse mottle (stool).
    """

    centre_mm: tuple[float, float, float]
    half_mm: tuple[float, float, float]
    hu: float
    label: int = BODY
    turn_deg: float = 0.0
    power: float = 2.0
    z_power: float = 2.0
    lean: tuple[float, float] = (0.0, 0.0)
    growth_per_mm: float = 0.0
    space: Space = "cavity"
    level_mm: float | None = None
    mottle_hu: float = 0.0

    def shrunk(self, depth_mm: float, hu: float, **changes: int | float) -> Blob:
        """The same shape `depth_mm` further in: a lumen in its wall, marrow in its cortex."""
        x, y, z = (max(half - depth_mm, 0.3) for half in self.half_mm)
        return replace(self, half_mm=(x, y, z), hu=hu, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tube:
    """A muscle that runs along the body: its section is a superellipse that changes from knot to knot of z.

    Attributes:
        z_mm: knots, rising; it ends at the first and the last.
        x_mm: centre at each knot, and likewise for `y_mm`.
        half_x_mm: half axis at each knot, and likewise for `half_y_mm`.
        turn_deg: turn about z at each knot, from x towards y.
        hu: attenuation.
        label: id of `INVENTED_LABELS`.
        power: 2 is an ellipse, more is boxier.
    """

    z_mm: tuple[float, ...]
    x_mm: tuple[float, ...]
    y_mm: tuple[float, ...]
    half_x_mm: tuple[float, ...]
    half_y_mm: tuple[float, ...]
    turn_deg: tuple[float, ...]
    hu: float
    label: int
    power: float = 2.3


def plateau(value: NDArray[np.float64], low: float, high: float, edge: float) -> NDArray[np.float64]:
    """1 between `low` and `high`, falling to 0 at both over a width of `edge`."""
    t = np.clip(np.minimum(value - low, high - value) / edge, 0, 1)
    return np.sqrt(t * (2 - t))


def rise(value: NDArray[np.float64], start: NDArray[np.float64] | float, width: float) -> NDArray[np.float64]:
    """0 below `start`, 1 above `start + width`, smooth between."""
    t = np.clip((value - start) / width, 0, 1)
    return t * t * (3 - 2 * t)
