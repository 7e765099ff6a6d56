"""Arms that lie in the picture: beside the body, across the belly, hands on it. Their muscle is not labelled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sarco.examination.projections import Grid
from sarco.examination.setting import Room, SettingDraw, window_of

_BESIDE, _ACROSS, _HANDS, _ONE = 1, 2, 3, 4
_SKIN_HU, _CORTEX_HU, _MARROW_HU = 25.0, 950.0, -20.0


@dataclass(frozen=True)
class Limb:
    """A part of an arm, in mm outwards from the skin and around the body.

    Attributes:
        turn_deg: where around the body, 0 the front, 90 the left.
        out_mm: centre's distance from the skin.
        half_mm: half thickness outwards and around the body.
        bones: (outwards, around, half outwards, half around) of each from the limb's centre.
        muscles: the same of each muscle group.
        along_mm: where along the body its middle lies.
        length_mm: half its length along the body.
        lean: shift around the body per mm along it.
    """

    turn_deg: float
    out_mm: float
    half_mm: tuple[float, float]
    bones: tuple[tuple[float, float, float, float], ...]
    muscles: tuple[tuple[float, float, float, float], ...]
    along_mm: float = 0.0
    length_mm: float = math.inf
    lean: float = 0.0


def limbs_of(setting: SettingDraw) -> list[Limb]:
    """The parts of the arms that a setting has within a trunk's slices; none where they are up."""
    kind, half, gap = int(setting.arms), setting.arm_mm, setting.arm_gap_mm
    limbs = []
    if kind in (_BESIDE, _ONE):
        for side in (1, -1)[: 2 if kind == _BESIDE else 1]:
            number = 0 if side > 0 else 2
            turn = side * (88 + 38 * setting.place(number))
            limbs.append(_arm(turn, gap * (0.3 + setting.place(number + 1)), half, side, setting.place(5) < 0.5))
    if kind == _ACROSS:
        for side in (1, -1):
            turn = side * (15 + 35 * setting.place(3 + side))
            middle = 30 * side + 120 * (setting.place(5) - 0.5)
            limbs.append(_forearm(turn, max(gap / 8, -3), 0.75 * half, middle, side * 0.5))
            limbs.append(_arm(side * 105, gap, 0.9 * half, side, upper=True))
    if kind == _HANDS:
        for side in (1, -1):
            turn = side * (12 + 30 * setting.place(1 + side))
            limbs.append(_hand(turn, max(gap / 8, -1), 70 + 20 * setting.place(4), 160 * (setting.place(6) - 0.5)))
            limbs.append(_arm(side * 100, gap, 0.8 * half, side, upper=False))
    return limbs


def _arm(turn_deg: float, gap_mm: float, half: float, side: int, upper: bool) -> Limb:
    """An upper arm, or a forearm that runs along the body: humerus, or radius and ulna."""
    size = half if upper else 0.82 * half
    bones: tuple[tuple[float, float, float, float], ...]
    if upper:
        bones = ((0.0, 0.08 * size, 11.5, 11.5),)
        muscles = ((0.0, 0.42 * size, 0.72 * size, 0.42 * size), (0.05 * size, -0.4 * size, 0.74 * size, 0.46 * size))
    else:
        bones = ((0.1 * size, 0.42 * size, 7.0, 8.0), (-0.1 * size, -0.4 * size, 8.0, 6.5))
        muscles = ((0.42 * size, 0.0, 0.42 * size, 0.78 * size), (-0.42 * size, 0.05 * size, 0.4 * size, 0.74 * size))
    return Limb(turn_deg, gap_mm + size, (size, 1.12 * size), bones, muscles, lean=0.08 * side)


def _forearm(turn_deg: float, gap_mm: float, half: float, along_mm: float, lean: float) -> Limb:
    """A forearm that crosses the belly, cut lengthwise."""
    size = 0.8 * half
    bones = ((0.3 * size, 0.0, 6.0, 95.0), (-0.3 * size, 8.0, 5.5, 95.0))
    muscles = ((0.0, 0.0, 0.84 * size, 98.0),)
    return Limb(turn_deg, gap_mm + size, (size, 105.0), bones, muscles, along_mm, 1.2 * size, lean)


def _hand(turn_deg: float, gap_mm: float, half: float, along_mm: float) -> Limb:
    """A flat hand: metacarpals side by side."""
    bones = tuple((0.0, (n - 2) * 0.36 * half, 4.2, 5.0) for n in range(5))
    muscles = ((-4.0, 0.1 * half, 6.0, 0.84 * half), (0.0, -0.75 * half, 9.0, 0.2 * half))
    return Limb(turn_deg, gap_mm + 14, (14.0, half), bones, muscles, along_mm, 70.0)


def paint_limbs(hu: Grid, room: Room, setting: SettingDraw, muscle_hu: float, fat_hu: float) -> None:
    """Paints the arms; the body comes afterwards, so arms that touch it are pressed flat.

    Args:
        hu: (row, column), painted in place.
        room: where the pixels lie.
        setting: where the arms are.
        muscle_hu: attenuation of the patient's muscle.
        fat_hu: of the fat.
    """
    if not setting.arms:
        return
    near = room.beyond < 2 * setting.arm_mm + max(setting.arm_gap_mm, 0) * 1.3 + 20
    for limb in limbs_of(setting):
        around = room.arc(math.radians(limb.turn_deg))
        window = window_of(near & (np.abs(around) < limb.half_mm[1] + 40))
        up = room.along[window] - np.float32(limb.along_mm)
        around = around[window] - np.float32(limb.lean) * up
        _paint_limb(hu[window], limb, room.beyond[window] - np.float32(limb.out_mm), around, up, muscle_hu, fat_hu)


def _paint_limb(part: Grid, limb: Limb, out: Grid, around: Grid, up: Grid, muscle_hu: float, fat_hu: float) -> None:
    """Paints one limb, given mm outwards, around and along the body from its centre."""
    size = np.sqrt(np.maximum(1 - (up / np.float32(limb.length_mm)) ** 2, np.float32(1e-6)))

    def within(half: tuple[float, float], at: tuple[float, float] = (0.0, 0.0)) -> Grid:
        u, v = (out - at[0]) / (half[0] * size), (around - at[1]) / (half[1] * size)
        return u * u + v * v

    skin = within(limb.half_mm)
    np.copyto(part, _SKIN_HU, where=skin < 1)
    np.copyto(part, fat_hu, where=within((limb.half_mm[0] - 2, limb.half_mm[1] - 2)) < 1)
    for at_out, at_around, half_out, half_around in limb.muscles:
        muscle = within((half_out, half_around), (at_out, at_around))
        np.copyto(part, muscle_hu, where=(muscle < 1) & (skin < 0.86))
    for at_out, at_around, half_out, half_around in limb.bones:
        bone = within((half_out, half_around), (at_out, at_around))
        np.copyto(part, _CORTEX_HU, where=(bone < 1) & (skin < 0.9))
        np.copyto(part, _MARROW_HU, where=(bone < 0.36) & (skin < 0.9))
