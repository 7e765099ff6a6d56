"""The outline of the trunk and the layers of its wall, as tables over height and direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.build import Build
from sarco.anatomy.shapes import plateau, rise
from sarco.examination.setting import SettingDraw, sagged

WALL_LAYERS = ("radius", "fat", "rectus", "lateral", "mantle", "dorsal", "caged", "lining")
TABLE_Z_MM = np.arange(-255.0, 256.0, 15.0)
TABLE_TURNS = 512
# The trunk's shape along the body, relative to the chest, L3 and the hips: knots of z in mm.
_KNOTS_MM = (-240.0, -200.0, -140.0, -90.0, -40.0, 0.0, 40.0, 100.0, 150.0, 200.0, 250.0)
_SEAT_MM = (-240.0, -200.0, -140.0, -90.0, -40.0)
_CHEST = (0, 0, 0, 0, 0, 0.05, 0.45, 0.95, 1, 1, 1)
_HIPS = (1.02, 1, 0.85, 0.4, 0.08, 0, 0, 0, 0, 0, 0)
_DORSAL = (0.5, 0.5, 0.55, 0.7, 0.97, 1, 0.98, 0.8, 0.68, 0.6, 0.58)  # thickness of the muscles of the back


@dataclass(frozen=True)
class Outline:
    """Polar tables of the trunk over height and direction: 0 is the front, +pi/2 the left.

    Attributes:
        tables: `WALL_LAYERS` -> (z, turn) float32 in mm over `TABLE_Z_MM` and -pi..pi:
            radius, from the axis to the fascia outside the muscles; fat, with skin, outside that; rectus, lateral (the
            three flat muscles), mantle (muscle over the ribs) and dorsal (muscles of the back), their thickness;
            caged, 0..1, where ribs and what lies between them make the wall; lining, how deep below the fascia the
            cavity starts.
    """

    tables: dict[str, NDArray[np.float32]]


def draw_outline(build: Build) -> Outline:
    """The trunk's outline and the thickness of its layers, all around and from the chest to the hips."""
    turn = np.linspace(-math.pi, math.pi, TABLE_TURNS, endpoint=False)[None, :]
    z = TABLE_Z_MM[:, None]
    away_deg = np.degrees(np.abs(turn))
    side = np.where(turn > 0, *build.sides)
    radius = _radius(build, z, turn)
    fat = _fat(build, z, turn)
    caged = rise(z, costal_margin_mm(build, away_deg), 9.0)
    # The flat muscles end at the iliac crest and at the inguinal ligament, which runs from it down to the pubis.
    end_mm = wall_end_mm(build, away_deg)
    ends = rise(z, end_mm - 16, 12.0)
    lateral = build.wall_mm * side * plateau(away_deg, 41, 142, 34) * ends * (1 - 0.25 * rise(z, 20, 40))
    edge_deg = 34 + 8 * rise(z, 60, 90)
    rectus = build.rectus_mm * side * _between(away_deg, build.rectus_gap_deg / 2, edge_deg, 9)
    rectus = rectus * rise(z, -192, 16) * (1 - rise(z, 190, 30)) * (1 - 0.3 * rise(z, 100, 60))
    mantle = _mantle(build, z, away_deg) * side * caged
    thick = 1.45 * build.paraspinal_mm * np.interp(z, _KNOTS_MM, _DORSAL)
    half_deg = np.interp(z, (-110, -40, 60, 130, 240), (20, 40, 42, 34, 27))
    dorsal = thick * side * plateau(away_deg, 180 - half_deg - 10, 200, 22)
    dorsal = dorsal + 16 * np.exp(-(((180 - away_deg) / 13) ** 2)) * rise(z, -120, 60)
    rib_mm = 9.0 * caged
    lining = np.maximum(np.maximum(rectus, lateral * (1 - caged)), np.maximum(mantle + rib_mm, dorsal + rib_mm)) + 1.0
    layers = (radius, fat, rectus, lateral * (1 - caged), mantle, dorsal, caged, lining + build.lining_mm)
    return Outline(
        {name: np.ascontiguousarray(table, np.float32) for name, table in zip(WALL_LAYERS, layers, strict=True)}
    )


def wall_end_mm(build: Build, away_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z where the flat muscles end, by direction from the front in degrees.

    They end at the inguinal ligament, from the pubis up to the anterior superior iliac spine, and at the iliac crest.
    """
    spine_deg, crest_deg = 66.0, 104.0  # directions of the anterior superior spine and of the highest point
    along = np.clip((away_deg - spine_deg) / (crest_deg - spine_deg), 0, 1)
    crest = -119 + (build.crest_mm + 119) * np.sqrt(along)
    return np.where(away_deg > spine_deg, crest, np.interp(away_deg, (0, 20, 30, spine_deg), (-195, -192, -180, -119)))


def laid_down(outline: Outline, setting: SettingDraw) -> Outline:
    """The outline of a body that gives way to gravity."""
    turn = np.linspace(-math.pi, math.pi, TABLE_TURNS, endpoint=False)[None, :]
    radius, fat = (outline.tables[name].astype(np.float64) for name in ("radius", "fat"))
    radius, fat = sagged(turn, radius, fat, setting)
    return Outline(outline.tables | {"radius": radius.astype(np.float32), "fat": fat.astype(np.float32)})


def skin_mm(build: Build, outline: Outline) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and y of the skin all around and from top to bottom, (z, turn) each, in mm of the patient's own size."""
    turn = np.linspace(-math.pi, math.pi, TABLE_TURNS, endpoint=False)[None, :]
    away = (outline.tables["radius"] + outline.tables["fat"]).astype(np.float64)
    axis_x, axis_y = (axis[:, None] for axis in build.axis_mm(TABLE_Z_MM))
    return (away * np.sin(turn) + axis_x) * build.scale, (axis_y - away * np.cos(turn)) * build.scale


def costal_margin_mm(build: Build, away_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z of the lower edge of the rib cage, by direction from the front in degrees.

    The arch rises to the xiphoid at T9 to T10; at the side the tenth rib reaches L2 to L3 (Standring, Gray's Anatomy).
    """
    arch = np.interp(away_deg, (0, 8, 62, 118, 160, 180), (158, 150, 44, 44, 104, 112))
    return arch + build.margin_mm * forward(away_deg)


def forward(away_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 at the spine, 1 from the flank on: ribs start at their vertebrae and lie higher or lower only in front."""
    return np.clip((165 - away_deg) / 50, 0, 1)


def _between(value: NDArray[np.float64], low: float, high: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    t = np.clip(np.minimum(value - low, high - value) / edge, 0, 1)
    return np.sqrt(t * (2 - t))


def _radius(build: Build, z: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the axis to the fascia: a superellipse whose width and depths change along the body."""
    chest, hips = np.interp(z, _KNOTS_MM, _CHEST), np.interp(z, _KNOTS_MM, _HIPS)
    belly = 1 - chest - hips
    half_width = chest * build.chest_half_width_mm + belly * build.half_width_mm + hips * build.hip_half_width_mm
    low_front = np.interp(z, _SEAT_MM, (60, 72, 88, 92, 92)) + 0.25 * (build.front_mm - 78)
    sag = 4 * np.exp(-(((z + 40) / 50) ** 2)) * (build.front_mm - 78) / 58
    front = chest * build.chest_front_mm + belly * build.front_mm + hips * low_front + sag
    front = front - 14 * rise(z, 170, 80)  # the sternum recedes upwards
    thick = 1.45 * build.paraspinal_mm * np.interp(z, _KNOTS_MM, _DORSAL)
    back = build.spine_mm + 26 - 5 * rise(z, 60, 100) + thick
    back = back + np.interp(z, (*_SEAT_MM, 0.0), (24, 30, 36, 26, 6, 0))
    across, along = np.sin(turn), -np.cos(turn)
    depth = np.where(along < 0, front, back)
    p, q = build.roundness + 0.25 * chest + 0.6 * hips * (along > 0), build.phases
    radius = (np.abs(across / half_width) ** p + np.abs(along / depth) ** p) ** (-1 / p)
    radius = radius * (1 + 0.012 * np.cos(3 * turn + q[1]) + 0.008 * np.cos(5 * turn + q[2] + z / 90))
    away_deg = np.degrees(np.abs(turn))
    furrow = 7 * np.exp(-(((180 - away_deg) / 6) ** 2)) * rise(z, -120, 60)  # over the spinous processes
    cleft = 16 * np.exp(-(((180 - away_deg) / 5) ** 2)) * (1 - rise(z, -200, 60))
    return np.asarray(radius - furrow - cleft)


def _fat(build: Build, z: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thickness of subcutaneous fat with skin: thin over the chest, thickest over buttocks and lower belly."""
    away_deg, q = np.degrees(np.abs(turn)), build.phases
    front = build.fat_front * 0.9 * np.cos(turn / 2) ** 8
    flank = 0.45 * np.exp(-(((away_deg - 140) / 28) ** 2))
    share = 0.7 + front * np.interp(z, (-150, -40, 40, 130), (1.1, 1.2, 0.9, 0.4)) + flank
    share = share + 0.08 * np.cos(2 * turn + q[3]) + 0.05 * np.cos(7 * turn + q[4] + z / 60)
    along = np.interp(z, (-240, -160, -80, -20, 60, 120, 200), (1.1, 1.15, 1.25, 1.1, 0.8, 0.6, 0.55))
    return np.asarray(build.fat_mm * share * along + 2.5)


def _mantle(build: Build, z: NDArray[np.float64], away_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Muscle over the ribs: external oblique, serratus anterior, latissimus, and the lower edge of pectoralis."""
    size = 0.55 + 0.045 * (build.wall_mm - 8)
    oblique = 8.5 - 3 * rise(z, 50, 60)
    oblique = oblique * plateau(away_deg, 24, 118, 22) * (1 - rise(z, 150, 70))
    serratus = 8.5 * plateau(away_deg, 62, 128, 24) * rise(z, 110, 70)
    latissimus = 9.0 * plateau(away_deg, 98, 160, 26) * (0.55 + 0.45 * rise(z, 60, 130))
    pectoral = 8.0 * plateau(away_deg, 8, 74, 18) * rise(z, 195, 30)
    return np.asarray(size * np.maximum(np.maximum(oblique, serratus), np.maximum(latissimus, pectoral)))
