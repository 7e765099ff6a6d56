"""How an invented patient lies in the examination room, and what lies around: posture, couch, covers, arms, devices.

Drawn once for a series (`draw_setting`). Everything is placed in a `Room`: mm in the directions of gravity, and mm from
the skin. None of it is labelled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from sarco.examination.projections import Grid
from sarco.examination.variation import Variation, among, draw_all

_DEVICES = ("leads", "tubes", "bag_mm", "drain_mm", "device_mm", "hips", "screws", "clips")
_SELDOM = ("lying_deg", "rails", "folds", *_DEVICES, "view_cut")
_ANYWHERE = Variation(0, 1, source="a place that the part's own range scales")
SETTING: dict[str, Variation] = {
    # Posture.
    "lying_deg": among(180, 180, 90, -90, chance=0.2, source="prone for colonography and biopsies, sides for drains"),
    "told": among(1, 1, 1, 0, source="whether the header told the posture; where not, the body is turned in the image"),
    "roll_deg": Variation(-12, 12, source="nobody lies quite straight"),
    "sag": Variation(0.1, 1.0, source="fat and belly give way, from firm to soft"),
    # Couch: flat board, two curved shells, a trapezoid with slanting sides.
    "couch": among(1, 2, 2, 3, chance=0.9, source="kinds seen; none after a table was removed from the image"),
    "couch_width_mm": Variation(380, 540, source="tops of 400 to 530 mm"),
    "couch_radius_mm": Variation(280, 1200, log=True),
    "couch_thick_mm": Variation(25, 110, log=True),
    "couch_hu": Variation(-500, 400, source="1 to 3 mm of carbon or glass fibre, thinner than a pixel"),
    "couch_gap_mm": Variation(0, 12, chance=0.6),
    "mattress_mm": Variation(8, 55, chance=0.6),
    "mattress_hu": Variation(-985, -780, source="foam of 20 to 200 kg/m3"),
    "rails": Variation(300, 3000, chance=0.25, source="HU of rails and cables under the top"),
    # Covers.
    "blankets": among(1, 2, 3, 4, 5, chance=0.6),
    "blanket_hu": Variation(-970, -500, source="a cloth of 1 to 3 mm, thinner than a pixel"),
    "folds": Variation(0.04, 0.16, chance=0.35, source="share of the space beside the body that crumpled cloth fills"),
    "sheet_mm": Variation(2, 9, chance=0.4, source="cloth between the body and the couch"),
    # Arms: 0 up, out of the picture; 1 beside; 2 forearms across the belly; 3 hands on the belly; 4 one beside.
    "arms": among(1, 1, 1, 2, 3, 4, chance=0.45, source="down where a patient cannot lift them; PET often"),
    "arm_gap_mm": Variation(-4, 55, source="touching, to on the couch's edge"),
    "arm_mm": Variation(34, 62, source="half thickness; circumferences of 220 to 440 mm, NHANES"),
    # On and in the body.
    "leads": among(1, 2, 3, 4, chance=0.2),
    "tubes": among(1, 2, chance=0.2),
    "bag_mm": Variation(12, 45, chance=0.04, source="a stoma bag's thickness"),
    "drain_mm": Variation(2.0, 5.5, chance=0.07, source="radius: 12 to 32 French"),
    "device_mm": Variation(9, 34, chance=0.04, source="radius: ports 12 mm, neurostimulators 25, infusion pumps 38"),
    "hips": among(1, 2, 3, chance=0.03, source="artificial ones: 1 left, 2 right, 3 both"),
    "screws": among(1, 2, 3, chance=0.03, source="vertebrae with pedicle screws"),
    "clips": among(1, 2, 4, 7, chance=0.05, source="after removal of a gallbladder, kidney or lymph nodes"),
    # What the image shows: its width relative to the body with arms, and how far off its middle.
    "view": Variation(1.03, 1.6),
    "view_cut": Variation(0.6, 1.0, chance=0.12, absent=9.0, source="spine and organ views, obesity"),
    "view_shift": Variation(-0.12, 0.12, source="of the width"),
    "pixel_mm": Variation(0.5, 3.0, log=True, source="0.5 to 0.98 in clinics, 1.4 to 3 in PET-CT and shared data"),
    **{f"place_{n}": _ANYWHERE for n in range(8)},
}  # fmt: skip


# A supine patient on a couch, wholly in the picture.
ORDINARY_SETTING = SETTING | {
    "roll_deg": Variation(-4, 4),
    "sag": Variation(0.1, 0.4),
    "couch": among(1, 2, 2, 3),
    "couch_hu": Variation(0, 250),
    "blankets": among(1, 2, chance=0.3),
    "arms": among(1, chance=0.3),
    "arm_gap_mm": Variation(5, 25),
    "view": Variation(1.1, 1.35),
    "view_shift": Variation(-0.02, 0.02),
    **{name: replace(SETTING[name], chance=0.0) for name in _SELDOM},
}


@dataclass(frozen=True)
class SettingDraw:
    """One examination; fields are those of `SETTING`, kinds are numbered as it says.

    Attributes:
        lying_deg: which side of the body lies down: 0 the back, 90 the left side, 180 the belly.
        told: 1 where the image keeps the body upright and gravity turns, 0 where the body is turned in the image.
        roll_deg: further turn of the body in the image.
        sag: how far fat and belly give way to gravity, 0..1.
        couch: kind, 0 for none; then its width, radius of its curve, thickness, HU of its shells.
        couch_gap_mm: air between body and couch.
        mattress_mm: thickness, 0 for none, and its HU.
        rails: HU of metal under the couch, 0 for none.
        blankets: how many layers of cloth over the body, and their HU.
        folds: share of the space beside the body that crumpled cloth fills.
        sheet_mm: cloth under the body, 0 for none.
        arms: kind.
        arm_gap_mm: from skin to skin; below 0 pressed against the body.
        arm_mm: half the thickness of an arm beside the body.
        leads: electrodes on the skin with their wires.
        tubes: tubes on the skin or the couch.
        bag_mm: thickness of a stoma bag, 0 for none.
        drain_mm: radius of a drain through the wall, 0 for none.
        device_mm: radius of a device under the skin, 0 for none.
        hips: artificial ones: 1 left, 2 right, 3 both.
        screws: how many vertebrae have them.
        clips: how many.
        view: width of the image relative to the body.
        view_cut: the same where the image cuts the body; the smaller one holds.
        view_shift: how far off the body's middle the image lies, in its widths.
        pixel_mm: pixel size for whoever has no other.
        place_0: where each thing lies, 0..1, to `place_7`.
    """

    lying_deg: float = 0.0
    told: float = 1
    roll_deg: float = 0.0
    sag: float = 0.3
    couch: float = 2
    couch_width_mm: float = 430.0
    couch_radius_mm: float = 460.0
    couch_thick_mm: float = 30.0
    couch_hu: float = 100.0
    couch_gap_mm: float = 0.0
    mattress_mm: float = 0.0
    mattress_hu: float = -930.0
    rails: float = 0.0
    blankets: float = 0
    blanket_hu: float = -800.0
    folds: float = 0.0
    sheet_mm: float = 0.0
    arms: float = 0
    arm_gap_mm: float = 10.0
    arm_mm: float = 45.0
    leads: float = 0
    tubes: float = 0
    bag_mm: float = 0.0
    drain_mm: float = 0.0
    device_mm: float = 0.0
    hips: float = 0
    screws: float = 0
    clips: float = 0
    view: float = 1.2
    view_cut: float = 9.0
    view_shift: float = 0.0
    pixel_mm: float = 1.5
    place_0: float = 0.5
    place_1: float = 0.5
    place_2: float = 0.5
    place_3: float = 0.5
    place_4: float = 0.5
    place_5: float = 0.5
    place_6: float = 0.5
    place_7: float = 0.5

    @property
    def body_turn_deg(self) -> float:
        """How far the body is turned in the image, from its left towards its back."""
        return self.roll_deg if self.told else self.roll_deg + self.lying_deg

    @property
    def gravity_deg(self) -> float:
        """Where down is in the image: 0 posterior (+y of LPS), 90 the patient's left (+x)."""
        return self.lying_deg if self.told else 0.0

    @property
    def down_in_body_rad(self) -> float:
        """The direction around the body that lies lowest: 0 the front, pi/2 the left, pi the back."""
        return math.pi - math.radians(self.gravity_deg + self.body_turn_deg)

    @property
    def shown(self) -> float:
        """Width of the image relative to the body's."""
        return min(self.view, self.view_cut)

    def place(self, number: int) -> float:
        """Where a thing lies, 0..1; eight places that any number of things share."""
        value: float = getattr(self, f"place_{number % 8}")
        return (value + 0.381966 * (number // 8)) % 1.0


def draw_setting(rng: np.random.Generator, table: Mapping[str, Variation] = SETTING) -> SettingDraw:
    """An examination from the whole range, or from another table; the same state of `rng` gives the same."""
    return SettingDraw(**draw_all(table, rng))


@dataclass(frozen=True)
class Room:
    """Where each pixel of a slice lies in the room; all (row, column) float32, in mm of the patient's own size.

    Attributes:
        across: horizontally, from the body's origin; to the patient's left for a supine patient.
        down: along gravity, from the body's origin.
        along: towards the head.
        beyond: outside the skin, negative inside the body.
        turn: direction around the body in radians: 0 the front, pi/2 the left.
        reach: distance from the body's axis.
    """

    across: Grid
    down: Grid
    along: Grid
    beyond: Grid
    turn: Grid
    reach: Grid

    def part(self, window: tuple[slice, slice]) -> Room:
        """Some rows and columns of it."""
        return Room(*(getattr(self, plane.name)[window] for plane in fields(self)))

    def arc(self, turn_rad: float) -> Grid:
        """Mm around the body from a direction, as far out as the pixel lies."""
        away = self.turn - np.float32(turn_rad)
        away -= np.float32(2 * math.pi) * np.rint(away / np.float32(2 * math.pi))
        return away * self.reach


def window_of(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns from the first to the last that a mask touches; empty where it touches none."""
    found = (np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1))
    rows, columns = (slice(index[0], index[-1] + 1) if index.size else slice(0, 0) for index in found)
    return rows, columns


def room_axes(gravity_deg: float) -> NDArray[np.float64]:
    """(2, 2): rows are across and down, columns x and y of LPS."""
    turn = math.radians(gravity_deg)
    return np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])


@dataclass(frozen=True)
class Extent:
    """How far a body reaches from its origin in the room, in mm of the patient's own size.

    Attributes:
        low_mm: down, where the couch begins.
        high_mm: up, positive.
        half_width_mm: to either side, the larger one.
    """

    low_mm: float
    high_mm: float
    half_width_mm: float


def extent_of(x: NDArray[np.float64], y: NDArray[np.float64], setting: SettingDraw) -> Extent:
    """What a skin with these points (mm to the body's left and back, any shape) takes up as it lies."""
    turn = math.radians(setting.gravity_deg + setting.body_turn_deg)
    across, down = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    return Extent(float(down.max()), float(-down.min()), float(np.abs(across).max()))


def sagged(
    turn: NDArray[np.float64],
    radius_mm: NDArray[np.float64],
    fat_mm: NDArray[np.float64],
    setting: SettingDraw,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The outline of a body that gives way to gravity.

    Where it lies on the couch the fat is pressed flat and goes to the sides; elsewhere it hangs a little lower. The
    belly, which has no bone, sinks towards the side that lies down. The back's muscles lie on bone and keep their
    outline.

    Args:
        turn: (n,) directions around the body in radians, 0 the front.
        radius_mm: (n,) distance of the muscle wall's outside from the axis.
        fat_mm: (n,) thickness of the fat with the skin, 2.5 mm at least.
        setting: posture and softness.

    Returns:
        The new radius and fat, (n,) each.
    """
    lowest = setting.down_in_body_rad
    towards = np.cos(turn - lowest)  # 1 lowest, -1 highest
    from_back = math.cos(lowest - math.pi)  # 1 supine, -1 prone, 0 on a side
    belly = np.clip(np.cos(turn), 0, 1) ** 2
    fall = 0.07 * setting.sag * belly * (towards if abs(from_back) < 0.9 else -0.6 * np.ones_like(turn))
    radius = radius_mm * (1 + fall)
    pressed = np.clip((towards - 0.72) / 0.28, 0, 1)
    beside = np.exp(-(((towards - 0.35) / 0.3) ** 2))
    above = np.clip(-towards, 0, 1) ** 2
    change = -0.55 * pressed + 0.35 * beside - 0.18 * above
    fat = np.maximum(fat_mm * (1 + setting.sag * change), 2.5)
    return radius, fat
