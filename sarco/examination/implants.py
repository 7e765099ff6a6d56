"""Metal in an invented patient: artificial hips, pedicle screws with rods, clips. It covers HU, and labels stay.

Everything is made of rods with round ends in body coordinates, so it runs on through the slices. The scanner makes the
streaks (`sarco.examination.projections`): HU here are those that metal would have if a scale went that far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco.examination.projections import Grid
from sarco.examination.setting import SettingDraw

TITANIUM_HU, COBALT_HU, LINER_HU = 9000.0, 25000.0, 120.0
Point = tuple[float, float, float]


@dataclass(frozen=True)
class MetalRod:
    """All within `radius_mm` of the way between two points in body coordinates (mm); a ball where they are the same."""

    start_mm: Point
    end_mm: Point
    radius_mm: float
    hu: float

    def holds(self, x: Grid, y: Grid, z: Grid) -> NDArray[np.bool_]:
        """Which of these points lie in it."""
        way = np.subtract(self.end_mm, self.start_mm)
        dx, dy, dz = (plane - np.float32(at) for plane, at in zip((x, y, z), self.start_mm, strict=True))
        length = float(way @ way)
        share = np.clip((dx * way[0] + dy * way[1] + dz * way[2]) / length, 0, 1) if length else np.float32(0)
        away = (dx - share * way[0]) ** 2 + (dy - share * way[1]) ** 2 + (dz - share * way[2]) ** 2
        inside: NDArray[np.bool_] = away < self.radius_mm**2
        return inside


def implants_of(
    setting: SettingDraw, spine_mm: float, levels_mm: Sequence[float], hips_mm: Sequence[Point], head_mm: float
) -> list[MetalRod]:
    """The metal of a patient, in painting order.

    Args:
        setting: what there is.
        spine_mm: y of the vertebral bodies' centre.
        levels_mm: z of vertebral bodies from above down, where screws may be; neighbours are joined by rods.
        hips_mm: centres of the left and the right femoral head.
        head_mm: their radius.
    """
    rods: list[MetalRod] = []
    n_levels = min(int(setting.screws), len(levels_mm))
    first = int(setting.place(2) * (len(levels_mm) - n_levels + 1))
    chosen = levels_mm[first : first + n_levels]
    for side in (1, -1):
        for z in chosen:  # along the pedicle: 35 to 50 mm long, 5 to 7 mm thick
            rods.append(MetalRod((side * 22, spine_mm + 38, z + 7), (side * 10, spine_mm - 8, z + 5), 3.1, TITANIUM_HU))
            rods.append(
                MetalRod((side * 22, spine_mm + 36, z + 7), (side * 23, spine_mm + 46, z + 7), 6.0, TITANIUM_HU)
            )
        if len(chosen) > 1:
            top, bottom = chosen[0] + 17, chosen[-1] - 3
            rods.append(
                MetalRod((side * 23, spine_mm + 43, top), (side * 23, spine_mm + 43, bottom), 2.75, TITANIUM_HU)
            )
    for bit, side, hip in zip((1, 2), (1, -1), hips_mm, strict=False):
        if int(setting.hips) & bit:
            x, y, z = hip
            neck, tip = (x + side * 42, y + 4, z - 38), (x + side * 40, y + 12, z - 150)
            rods.append(MetalRod(hip, hip, head_mm + 3, TITANIUM_HU))  # cup, liner, ball, neck, stem
            rods.append(MetalRod(hip, hip, head_mm - 1, LINER_HU))
            rods.append(MetalRod(hip, hip, 15.0, COBALT_HU))
            rods += [MetalRod(hip, neck, 7.0, COBALT_HU), MetalRod(neck, tip, 8.5, COBALT_HU)]
    for number in range(int(setting.clips)):
        turn, size = 6 * setting.place(number), 3.0 + 2 * setting.place(number + 3)
        across, up = -60 + 120 * setting.place(3 * number + 1), 180 * (setting.place(2 * number) - 0.5)
        start = (across, spine_mm - 40 - 50 * setting.place(number + 5), up)
        end = (start[0] + size * math.cos(turn), start[1] + size * math.sin(turn), up + 2)
        rods.append(MetalRod(start, end, 0.9, TITANIUM_HU))
    return rods


def paint_implants(hu: Grid, x: Grid, y: Grid, z: Grid, rods: Sequence[MetalRod]) -> None:
    """Paints rods over a finished body.

    Args:
        hu: (row, column), painted in place.
        x: body coordinates in mm, likewise `y` and `z`.
        y: towards the back.
        z: towards the head.
        rods: in their order, the last one on top.
    """
    low, high = float(z.min()), float(z.max())
    for rod in rods:
        if min(rod.start_mm[2], rod.end_mm[2]) - rod.radius_mm < high and (
            max(rod.start_mm[2], rod.end_mm[2]) + rod.radius_mm > low
        ):
            np.copyto(hu, np.float32(rod.hu), where=rod.holds(x, y, z))
