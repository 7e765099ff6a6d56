"""Skin, fat, the layers of the trunk's wall, the muscles beside the spine, and the fat inside muscles."""

from __future__ import annotations

import numpy as np

from sarco.anatomy.build import FASCIA_HU, SKIN_HU, Build, Mask, Plane
from sarco.anatomy.chest import rib_layer_mm
from sarco.anatomy.labels import INVENTED_IDS, MUSCLE_NAMES
from sarco.anatomy.paint import RIM_MM, SlicePainter
from sarco.anatomy.shapes import BODY, Tube, plateau, rise

_SUBCUTANEOUS, _VISCERAL = INVENTED_IDS["subcutaneous_fat"], INVENTED_IDS["visceral_fat"]
INTERCOSTAL_MM = 7.5
# Half axes of the muscles of the back, by z in mm; areas as measured on living people (20 to 28 cm2 at L1 to L4).
BACK_Z_MM = (-118.0, -95.0, -66.0, -40.0, 0.0, 40.0, 70.0, 100.0, 115.0, 160.0, 245.0)
_BACK_X_MM = (18.0, 20.0, 25.0, 33.0, 36.0, 38.0, 43.0, 40.0, 34.0, 29.0, 26.0)
_BESIDE_SPINES_MM = 6.0  # from the midline to the muscles of the back
_BACK_HALF_X_MM = (7.0, 11.0, 19.0, 28.0, 32.0, 34.0, 39.0, 36.0, 30.0, 25.0, 22.0)
_BACK_HALF_Y = (0.16, 0.22, 0.40, 0.49, 0.50, 0.48, 0.44, 0.38, 0.36, 0.33, 0.30)  # of the thickness at L3
# The psoas runs from T12 and L1 to the lesser trochanter (Standring, Gray's Anatomy); below S1 the pelvis draws it.
PSOAS_Z_MM = (-94.0, -80.0, -50.0, 0.0, 39.0, 60.0, 92.0)


def paint_trunk(painter: SlicePainter) -> None:
    """Skin, fat, the muscle wall and the space inside it."""
    build, depth, layers = painter.build, painter.depth, painter.layers
    painter.fill(painter.body, build.fat_hu + 2 * painter.mottle, _SUBCUTANEOUS)
    painter.fill(painter.body & (depth < 2.2 - layers["fat"]), SKIN_HU, BODY)
    painter.fill((depth > 0) & (painter.y < build.spine_mm + 30), build.fat_hu, BODY)
    painter.fill((depth > 0) & (depth < 1.8) & (painter.away_deg < 90), FASCIA_HU, BODY)  # sheath and linea alba
    painter.fill(painter.cavity, build.fat_hu + 6 + 2 * painter.mottle, _VISCERAL)
    _paint_flat_muscles(painter)
    if painter.z_range[1] > 20:
        _paint_chest_wall(painter)
    rectus = layers["rectus"]
    _layer(painter, np.zeros_like(rectus), rectus, "rectus_abdominis", rectus > 1.5)


def _layer(painter: SlicePainter, start: Plane, thick: Plane, muscle: str, where: Mask) -> None:
    """A muscle between two depths, with its rim."""
    depth = painter.depth
    where = where & painter.body
    rim = where & (depth > start - RIM_MM) & (depth < start + thick + RIM_MM)
    painter.fill_sides(rim, painter.build.fat_hu + 20, muscle)
    np.copyto(painter.hu, painter.build.muscle_hu, where=where & (depth > start) & (depth < start + thick))


def _paint_flat_muscles(painter: SlicePainter) -> None:
    """External and internal oblique and transversus, parted by planes of fat that belong to them."""
    build, depth = painter.build, painter.depth
    lateral = painter.layers["lateral"]
    _layer(painter, np.zeros_like(lateral), lateral, "abdominal_wall", lateral > 1.5)
    share = depth / np.maximum(lateral, 1)
    part = 0.02 + 0.10 * build.marbling
    seam = (
        ((np.abs(share - 0.34) < part) | (np.abs(share - 0.74) < 0.7 * part)) & (lateral > 6) & (painter.away_deg > 46)
    )
    np.copyto(painter.hu, 0.4 * build.muscle_hu + 0.6 * build.fat_hu, where=seam)


def _paint_chest_wall(painter: SlicePainter) -> None:
    """Latissimus, serratus and pectoralis over the ribs, the external oblique in front, muscle between the ribs."""
    layers, build, z, away = painter.layers, painter.build, painter.z, painter.away_deg
    caged = layers["caged"] > 0.45
    start = rib_layer_mm(painter)
    gap = 0.8 + 5 * build.marbling
    _layer(painter, start, np.full_like(start, INTERCOSTAL_MM), "chest_wall", caged & (away > 6) & (away < 166))
    mantle = layers["mantle"]
    oblique = (away < 96 - 0.25 * (z - 60)) & (z < 185)
    for muscle, where in (("abdominal_wall", oblique), ("chest_wall", ~oblique)):
        _layer(painter, np.zeros_like(mantle), np.maximum(mantle - gap, 1), muscle, where & caged & (mantle > 2.5))


def paint_latissimus(painter: SlicePainter) -> None:
    """The latissimus below the ribs: a thin sheet over the flank that narrows down to the crest."""
    if painter.z_range[0] > 110 or painter.z_range[1] < -30:
        return
    size = np.interp(painter.z, (-30, 20, 60, 110), (0, 4.0, 6.5, 7.5)).astype(np.float32)
    away = painter.away_deg
    sheet = size * np.sqrt(np.clip(1 - ((away - 134) / np.interp(painter.z, (-30, 60), (6, 22))) ** 2, 0, 1))
    _layer(painter, np.full_like(sheet, 0.7), sheet, "chest_wall", (sheet > 1.8) & (painter.layers["caged"] < 0.45))


def paint_over_back(painter: SlicePainter) -> None:
    """Latissimus and trapezius over the muscles of the back: thin sheets, down to T12 at the midline, L3 beside it."""
    if painter.z_range[1] < 0:
        return
    away = painter.away_deg
    low = np.interp(away, (120, 150, 170, 180), (20, 25, 100, 118)).astype(np.float32)
    sheet = painter.build.mantle_mm * rise(painter.z, low, 50.0) * plateau(away, 112, 184, 20)
    thick: Plane = sheet.astype(np.float32)
    _layer(painter, np.full_like(thick, 0.5), thick, "chest_wall", thick > 1.0)


def muscles(build: Build) -> list[Tube]:
    """The labelled muscles beside the spine."""
    spine, hu, tubes = build.spine_mm, build.muscle_hu, []
    for side, name in ((1, "left"), (-1, "right")):
        size = build.sides[0 if side == 1 else 1]
        strong = build.paraspinal_mm / 29 * size
        tubes.append(_quadratus(build, side, INVENTED_IDS[f"quadratus_lumborum_{name}"], strong))
        thick = 1.45 * build.paraspinal_mm * size
        half_y = tuple(share * thick for share in _BACK_HALF_Y)
        wide = np.interp(BACK_Z_MM, (60, 110), (1, build.back_wide))
        half_x = tuple(half * strong**0.5 * share for half, share in zip(_BACK_HALF_X_MM, wide, strict=True))
        x = tuple(side * (half + _BESIDE_SPINES_MM) for half in half_x)
        y = tuple(spine + 25 + half for half in half_y)
        turn = tuple(-side * turn for turn in (0, 0, -10, -14, -8, -6, -4, -2, 0, 2, 4))
        label = INVENTED_IDS[f"paraspinal_{name}"]
        tubes.append(Tube(BACK_Z_MM, x, y, half_x, half_y, turn, hu - 3, label, 2.6))
        tubes.append(_psoas(build, side, INVENTED_IDS[f"psoas_{name}"], size))
    return tubes


def _quadratus(build: Build, side: int, label: int, strong: float) -> Tube:
    """From the iliac crest to the twelfth rib, in front of the muscles of the back."""
    spine, low = build.spine_mm, build.crest_mm
    z = (low - 8, low + 6, 0.0, 40.0, 80.0)
    x = tuple(side * value for value in (68.0, 66.0, 61.0, 53.0, 44.0))
    y = tuple(spine + value for value in (17.0, 15.0, 15.0, 16.0, 18.0))
    half_x = tuple(value * strong**0.5 for value in (12.0, 19.0, 19.0, 15.0, 9.0))
    half_y = tuple(value * strong * build.quadratus for value in (5.0, 9.5, 8.5, 6.0, 3.0))
    return Tube(
        z, x, y, half_x, half_y, tuple(side * turn for turn in (15.0, 20, 24, 28, 30)), build.muscle_hu - 2, label
    )


def _psoas(build: Build, side: int, label: int, size: float) -> Tube:
    """Beside the vertebral bodies, growing downwards, as far as the pelvis."""
    spine, p = build.spine_mm, build.psoas_mm * size
    half_x = tuple(p * share for share in (1.15, 1.15, 1.1, 0.92, 0.55, 0.36, 0.16))
    half_y = tuple(p * share for share in (1.15, 1.15, 1.2, 1.12, 1.0, 0.75, 0.3))
    away = (55.0, 51.0, 32 + p, 26 + 0.9 * p, 23 + 0.6 * p, 22 + 0.45 * p, 24.0)
    y = tuple(spine + value for value in (-21.0, -17.0, -9.0, 1.0, 3.0, 4.0, 5.0))
    turn = tuple(side * turn for turn in (0.0, 10, 22, 18, 8, 4, 0))
    return Tube(PSOAS_Z_MM, tuple(side * x for x in away), y, half_x, half_y, turn, build.muscle_hu + 2, label)


def paint_between_spines(painter: SlicePainter) -> None:
    """Fat between the spinous processes, which belongs to the muscles of the back."""
    if painter.z_range[1] < BACK_Z_MM[1]:
        return
    x, y, z = painter.x, painter.y, painter.z
    gap = (np.abs(x) < 4) & (y > painter.build.spine_mm + 36) & (painter.depth > 1.5) & (z > BACK_Z_MM[1])
    painter.fill_sides(gap, painter.build.fat_hu + 30, "paraspinal")


def paint_fat_streaks(painter: SlicePainter) -> None:
    """Fat between the bundles of the muscles: it belongs to their compartments, so labels stay."""
    build, q, z = painter.build, painter.build.phases, painter.z
    x, y = np.abs(painter.x), painter.y - build.spine_mm
    labels = painter.labels
    low = np.clip(-(z + 20) / 90, 0, 1)  # fat is most at L5 and S1
    bend = 2.5 * np.sin(y / 8 + z / 15 + q[3])
    wide = 0.35 + 2.2 * build.marbling + 0.5 * low
    septa = np.abs(x - 17 - 0.25 * (y - 30) - bend) < wide
    septa |= np.abs(x - 43 + 0.35 * (y - 30) - bend) < 0.9 * wide
    back = (labels == _PARASPINAL) | (labels == _PARASPINAL + 1)
    other = (labels > 0) & (labels <= len(MUSCLE_NAMES)) & ~back
    fibre = np.abs(np.sin(x / 3.0 - y / 11 + 1.2 * np.sin(y / 6 + q[0]) + 0.8 * np.sin(painter.x / 9 + z / 12)))
    patchy = np.sin(painter.y / 4.3 + painter.x / 7 + z / 14 + q[1]) + np.sin(painter.x / 5.1 - painter.y / 9 + q[2])
    streak = 0.9 * build.marbling - 0.24 - fibre + 0.2 * patchy
    beside = 0.18 * np.exp(-(((x - 12) / 14) ** 2)) + 0.25 * low  # most fat lies beside the spinous processes
    np.copyto(painter.hu, build.fat_hu + 15, where=back & (septa | (streak + beside > 0)))
    np.copyto(painter.hu, build.fat_hu + 25, where=other & (streak > 0.12))


_PARASPINAL = INVENTED_IDS["paraspinal_left"]
