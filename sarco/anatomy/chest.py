"""The lower chest: lungs over the domes of the diaphragm, the heart's base, ribs with their cartilages, the sternum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sarco.anatomy.build import CORTEX_HU, MARROW_HU, Plane
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.outline import forward
from sarco.anatomy.paint import SlicePainter
from sarco.anatomy.shapes import BODY

_BONE, _VISCERAL = INVENTED_IDS["bone"], INVENTED_IDS["visceral_fat"]
CHEST_FROM_MM = 30.0  # below, there are neither ribs nor lungs
LEFT_DOME_LOWER_MM = 13.0
RIB_HALF_MM = 4.3  # half the thickness of a rib; its height is half as much again


@dataclass(frozen=True)
class Rib:
    """A rib: it runs down and forward from the spine; its cartilage turns up to the sternum or to the one above.

    Attributes:
        number: 4 to 12.
        spine_mm: z at the spine.
        slope: mm down for a degree forward.
        end_deg: direction from the front where the bone ends.
        rise: mm up for a degree forward in the cartilage.
        tip_deg: direction where the cartilage ends.
    """

    number: int
    spine_mm: float
    slope: float
    end_deg: float
    rise: float
    tip_deg: float


RIBS = (
    Rib(4, 318, 0.90, 30, 0.5, 8),
    Rib(5, 296, 0.95, 32, 0.9, 8),
    Rib(6, 272, 1.00, 36, 1.3, 6),
    Rib(7, 248, 1.05, 41, 1.6, 6),
    Rib(8, 224, 1.08, 48, 1.9, 20),
    Rib(9, 199, 1.10, 56, 1.9, 36),
    Rib(10, 173, 1.12, 66, 1.9, 50),
    Rib(11, 146, 1.15, 84, 0.0, 80),
    Rib(12, 117, 1.35, 122, 0.0, 120),
)
_START_DEG = 167.0


def paint_chest(painter: SlicePainter) -> None:
    """Heart, lungs and diaphragm; what is left of the cavity belongs to the abdomen."""
    if painter.z_range[1] < CHEST_FROM_MM + 30:
        return
    build, q = painter.build, painter.build.phases
    dome = _dome_mm(painter)
    above = painter.cavity & (painter.z > dome)
    if not above.any():
        return
    x, y, z = painter.organ_x, painter.organ_y, painter.z
    middle = ((x - 6) / 40) ** 2 + ((y + 18) / 82) ** 2 < 1
    heart = ((x - 22) / 66) ** 2 + ((y + 34) / 44) ** 2 + ((z - build.dome_mm - 38) / 46) ** 2 < 1
    painter.fill(above & middle, build.fat_hu, _VISCERAL)
    lungs = above & ~middle & ~heart
    vessel = np.sin(x / 4.1 + 2 * np.sin(y / 9 + q[0])) * np.sin(y / 3.7 + z / 8 + q[1]) > 0.93
    painter.fill(lungs, -905 + 90 * np.sin(q[2]) + 0.9 * (painter.level_y + 60) + 12 * painter.mottle, BODY)
    painter.fill(lungs & vessel, 10, BODY)
    painter.fill(above & heart, build.hu["aorta"] * 0.6 + 16, BODY)
    painter.fill(painter.cavity & ~above & (z > dome - 5.5) & ~middle, build.muscle_hu, BODY)  # the diaphragm
    painter.cavity &= z < dome - 4


def _dome_mm(painter: SlicePainter) -> Plane:
    """Z of the diaphragm: a dome on each side that falls to the costal margin in front and to L1 at the back."""
    build = painter.build
    wide = build.chest_half_width_mm / 140
    x0 = np.where(painter.left, 68 * wide, -66 * wide)
    apex = build.dome_mm - LEFT_DOME_LOWER_MM * painter.left
    rim = np.interp(painter.away_deg, (0, 40, 90, 150), (150, 132, 98, 84)).astype(np.float32) + build.margin_mm
    across = (painter.organ_x - x0) / ((build.chest_half_width_mm - 16) - np.abs(x0))
    across = np.where(np.abs(painter.organ_x) < np.abs(x0), 0.42 * across, across)  # between the domes lies a saddle
    along = (painter.organ_y + 8) / np.where(painter.organ_y < -8, build.chest_front_mm - 22, build.back_mm - 22)
    out = np.minimum(across * across + along * along, 1.6)
    return np.asarray(apex - (apex - np.minimum(rim, apex - 10)) * out**1.4, np.float32)


def paint_ribs(painter: SlicePainter) -> None:
    """Ribs 4 to 12 in their layer of the wall, with cartilage in front, and the sternum."""
    if painter.z_range[1] < CHEST_FROM_MM:
        return
    build = painter.build
    inward = painter.depth - rib_layer_mm(painter)
    band = (inward > -5) & (inward < 13) & (painter.layers["caged"] > 0.05)
    place = np.flatnonzero(band)
    if not len(place):
        return
    away_deg, z, inward = (plane.ravel()[place] for plane in (painter.away_deg, painter.z, inward))
    z = z - np.where(painter.left.ravel()[place], 3.0, -3.0)  # the two sides are never level
    z = z - build.margin_mm * forward(away_deg)
    depth = (inward - RIB_HALF_MM) / RIB_HALF_MM
    hu, labels = painter.hu.ravel(), painter.labels.ravel()  # views
    for rib in RIBS:
        bony = away_deg > rib.end_deg
        end_mm = rib.spine_mm - rib.slope * (_START_DEG - rib.end_deg)
        path = np.where(
            bony, rib.spine_mm - rib.slope * (_START_DEG - away_deg), end_mm + rib.rise * (rib.end_deg - away_deg)
        )
        beyond = np.maximum(np.maximum(rib.tip_deg - away_deg, away_deg - _START_DEG), 0) / 3
        # A rib's height is measured across it; where it runs steeply, a slice cuts it longer.
        high = np.where(bony, 1.6, (1.75 + 0.35 * rib.rise) * build.cartilage) * RIB_HALF_MM
        shape = ((z - path) / high) ** 2 + (depth / np.where(bony, 1, build.cartilage)) ** 2 + beyond**2
        name = INVENTED_IDS["rib_12"] if rib.number == 12 else _BONE
        for inside, tissue, label in (
            ((shape < 1.1) & ~bony, build.cartilage_hu, BODY),
            ((shape < 1) & bony, CORTEX_HU, name),
            ((shape < 0.4) & bony, MARROW_HU - 80, name),
        ):
            hu[place[inside]], labels[place[inside]] = tissue, label
    sternum = (away_deg < 10) & (z > 172) & (np.abs(depth) < 1)
    hu[place[sternum]], labels[place[sternum]] = MARROW_HU, _BONE
    rind = sternum & ((np.abs(depth) > 0.7) | (away_deg > 8.5))
    hu[place[rind]] = CORTEX_HU - 200


def rib_layer_mm(painter: SlicePainter) -> Plane:
    """How deep below the fascia the layer of ribs and intercostal muscle starts."""
    return np.maximum(painter.layers["mantle"], painter.layers["dorsal"])
