"""Couch, mattress, blankets, tubes and devices, painted into the air around an invented patient and onto its skin."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sarco.examination.limbs import paint_limbs
from sarco.examination.projections import Grid
from sarco.examination.setting import Extent, Room, SettingDraw, window_of

_WIRE_HU, _SNAP_HU, _CASE_HU = 1800.0, 2400.0, 9000.0
_TUBE_HU, _PAD_HU, _BAG_HU = 220.0, 140.0, 30.0
_SHEET_HU = -850.0
_FOAM_HU = -960.0
Where = NDArray[np.bool_]


def paint_around(hu: Grid, room: Room, setting: SettingDraw, extent: Extent, muscle_hu: float, fat_hu: float) -> None:
    """Paints all that lies around a body, before the body itself is painted.

    Args:
        hu: (row, column) of air, painted in place.
        room: where the pixels lie.
        setting: what there is.
        extent: of the whole body, so that all slices have one couch.
        muscle_hu: of the patient, for arms.
        fat_hu: likewise.
    """
    paint_couch(hu, room, setting, extent.low_mm)
    paint_covers(hu, room, setting, extent.high_mm, extent.half_width_mm)
    paint_limbs(hu, room, setting, muscle_hu, fat_hu)
    paint_on_skin(hu, room, setting)


def paint_couch(hu: Grid, room: Room, setting: SettingDraw, lowest_mm: float) -> None:
    """Paints the couch with what lies on it and under it; the body is painted over it afterwards.

    Args:
        hu: (row, column), painted in place.
        room: where the pixels lie.
        setting: what kind of couch.
        lowest_mm: how far down the body reaches, so that the couch lies level through all slices.
    """
    surface = lowest_mm + setting.couch_gap_mm
    window = window_of(room.down > surface - 95)
    hu, room = hu[window], room.part(window)
    if setting.sheet_mm:
        _paint_sheet(hu, room, setting, surface)
        surface += setting.sheet_mm
    half_mm = setting.couch_width_mm / 2
    bend_mm = room.across**2 / np.float32(2 * setting.couch_radius_mm) if setting.couch != 1 else np.float32(0)
    depth = room.down - np.float32(surface) + np.minimum(bend_mm, 90)
    if setting.mattress_mm:
        inside = (np.abs(room.across) < half_mm - 12) & (depth > 0) & (depth < setting.mattress_mm)
        np.copyto(hu, setting.mattress_hu, where=inside)
        np.copyto(hu, setting.mattress_hu + 500, where=inside & (np.minimum(depth, setting.mattress_mm - depth) < 1.2))
        depth = depth - np.float32(setting.mattress_mm)
    if not setting.couch:
        return
    thick = np.full_like(depth, setting.couch_thick_mm)
    if setting.couch == 2:  # the lower shell is more curved, until both meet at the edges
        thick = thick * np.clip(1.05 - (room.across / half_mm) ** 2, 0.0, 1)
    if setting.couch == 3:  # a trapezoid
        thick = thick * np.clip(1.9 * (1 - np.abs(room.across) / half_mm), 0, 1)
    body = (np.abs(room.across) < half_mm) & (depth > 0) & (depth < thick)
    np.copyto(hu, _FOAM_HU, where=body)
    np.copyto(hu, setting.couch_hu, where=body & ((depth < 2.2) | (depth > thick - 2.2)))
    if setting.couch == 2:
        np.copyto(hu, setting.couch_hu - 250, where=body & (np.abs(depth - 8) < 1.1))
    if setting.rails:
        for side, low in ((-1, 10.0), (1, 10.0), (0.35, 30.0)):
            x, y = side * (half_mm - 20), surface + setting.mattress_mm + setting.couch_thick_mm + low
            np.copyto(hu, setting.rails, where=(np.abs(room.across - x) < 5) & (np.abs(room.down - y) < 3.5))


def _paint_sheet(hu: Grid, room: Room, setting: SettingDraw, surface: float) -> None:
    """Cloth with wrinkles under the body."""
    wave = 0.5 + 0.5 * np.sin(room.across / 9 + 3 * setting.place(0) + 2 * np.sin(room.across / 31 + room.along / 40))
    depth = room.down - np.float32(surface)
    layer = (depth > 0) & (depth < setting.sheet_mm) & (np.abs(room.across) < setting.couch_width_mm / 2)
    np.copyto(hu, _SHEET_HU + 300, where=layer & (np.abs(depth - wave * setting.sheet_mm) < 1.0))


def paint_covers(hu: Grid, room: Room, setting: SettingDraw, highest_mm: float, half_width_mm: float) -> None:
    """Paints blankets that hang from the body's top to the couch, and crumpled cloth beside it.

    Args:
        hu: (row, column), painted in place; the body comes afterwards.
        room: where the pixels lie.
        setting: how many layers.
        highest_mm: how far the body reaches against gravity, positive.
        half_width_mm: half its width.
    """
    if setting.blankets or setting.folds:
        top = -np.float32(highest_mm + 3) + np.maximum(np.abs(room.across) - 0.45 * half_width_mm, 0) * np.float32(
            0.55 + 0.9 * setting.place(1)
        )
    if setting.folds:
        bend = np.sin(room.down / 13 + 2 * np.sin(room.across / 23)) + np.sin(room.down / 29 + room.along / 50)
        crumple = np.abs(np.sin(room.across / 17 + 1.6 * bend + 6 * setting.place(2)) + 0.4 * np.sin(room.down / 7))
        space = (room.down > top) & (room.beyond > 2) & (room.down < 0.8 * highest_mm)
        space &= np.abs(room.across) < half_width_mm + 110
        np.copyto(hu, setting.blanket_hu, where=space & (crumple < 2.2 * setting.folds))
    for layer in range(int(setting.blankets)):
        lift = 7.0 * layer + 5 * np.sin(room.across / (21 + 9 * layer) + 6 * setting.place(3 + layer) + room.along / 45)
        clearance = np.abs(room.down - top + lift + 6 * setting.place(4))
        np.copyto(hu, setting.blanket_hu - 20 * layer, where=clearance < 1.0 + 0.8 * setting.place(layer))


def paint_on_skin(hu: Grid, room: Room, setting: SettingDraw) -> None:
    """Paints electrodes with wires, tubes and a stoma bag on the skin; the body comes afterwards."""
    for number in range(int(setting.leads)):
        arc = room.arc(math.radians(-75 + 150 * setting.place(number)))
        near = np.abs(room.along - 180 * (setting.place(number + 3) - 0.5)) < 18
        np.copyto(hu, _PAD_HU, where=near & (np.abs(arc) < 17) & (room.beyond < 2.2))
        np.copyto(hu, _SNAP_HU, where=near & (np.abs(arc) < 3) & (room.beyond < 5))
        wire = np.hypot(arc - 25 - 20 * np.sin(room.along / 30), room.beyond - 4)
        np.copyto(hu, _WIRE_HU, where=wire < 1.3)
    for number in range(int(setting.tubes)):
        arc = room.arc(math.radians(-110 + 220 * setting.place(number + 5)))
        radius = 2.5 + 5 * setting.place(number + 1)
        away = np.hypot(arc + 30 * np.sin(room.along / 60), room.beyond - radius - 1)
        np.copyto(hu, _TUBE_HU, where=away < radius)
        np.copyto(hu, 5.0 if setting.place(number) < 0.5 else -1000.0, where=away < radius - 1.2)
    if setting.bag_mm:
        _paint_bag(hu, room, setting)


def _paint_bag(hu: Grid, room: Room, setting: SettingDraw) -> None:
    """A bag of film on the front, with gas over what it collected."""
    side = -1 if setting.place(6) < 0.6 else 1  # ileostomies lie on the right
    arc = room.arc(math.radians(side * (18 + 28 * setting.place(2))))
    shape = (arc / 62) ** 2 + ((room.along + 60) / 90) ** 2
    thick = setting.bag_mm * np.sqrt(np.clip(1 - shape, 0, 1))
    inside = (room.beyond > 0) & (room.beyond < thick)
    bend = 2 * np.sin(room.down / 11 + room.along / 17)
    mottle = np.sin(room.across / 3.3 + bend) + np.sin(room.down / 2.7 - room.across / 7.1 + bend)
    content = 15 + 35 * mottle * (setting.place(1) > 0.4)
    np.copyto(hu, content.astype(np.float32), where=inside)
    if inside.any():
        down = room.down[inside]
        level = np.quantile(down, 0.2 + 0.6 * setting.place(7))
        np.copyto(hu, -990.0, where=inside & (room.down < level))
    np.copyto(hu, _BAG_HU, where=inside & ((room.beyond > thick - 1.1) | (room.beyond < 1.3)))


def paint_devices(hu: Grid, room: Room, setting: SettingDraw) -> None:
    """Paints a drain through the wall and a device under the skin, over the finished body; labels stay as they are."""
    if setting.drain_mm:
        _paint_drain(hu, room, setting)
    if setting.device_mm:
        side = 1 if setting.place(3) < 0.5 else -1
        arc = room.arc(math.radians(side * (25 + 50 * setting.place(4))))
        flat = np.hypot(arc, room.along - 160 * (setting.place(5) - 0.5)) / setting.device_mm
        depth = -room.beyond
        case = (flat < 1) & (depth > 4) & (depth < 6 + 0.35 * setting.device_mm)
        np.copyto(hu, _CASE_HU, where=case)
        np.copyto(hu, 900.0, where=case & (flat < 0.8) & (depth > 6) & (depth < 4.5 + 0.35 * setting.device_mm))


def _paint_drain(hu: Grid, room: Room, setting: SettingDraw) -> None:
    """A tube that enters through the skin, runs inwards and then along the body."""
    arc = room.arc(math.radians(-100 + 200 * setting.place(0)))
    entry_mm, end_mm = 140 * (setting.place(6) - 0.5), 40 + 35 * setting.place(7)
    depth = -room.beyond
    inwards = np.hypot(arc, room.along - entry_mm) + np.maximum(depth - end_mm, 0) + np.maximum(-60 - depth, 0)
    below = np.maximum(room.along - entry_mm, 0) + np.maximum(entry_mm - 90 - room.along, 0)
    away = np.minimum(inwards, np.hypot(arc, depth - end_mm) + below)
    np.copyto(hu, _TUBE_HU + 80, where=away < setting.drain_mm)
    np.copyto(hu, 8.0 if setting.place(1) < 0.5 else -950.0, where=away < 0.6 * setting.drain_mm)
