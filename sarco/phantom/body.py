"""One invented patient, drawn once, and their slices, painted structure over structure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.abdomen import organs
from sarco.anatomy.build import Build
from sarco.anatomy.chest import paint_chest, paint_ribs
from sarco.anatomy.illness import Illness, growths, openings, paint_fluids
from sarco.anatomy.outline import Outline, draw_outline, laid_down, skin_mm
from sarco.anatomy.paint import SlicePainter
from sarco.anatomy.shapes import Blob, Tube
from sarco.anatomy.soft_tissue import (
    muscles,
    paint_between_spines,
    paint_fat_streaks,
    paint_latissimus,
    paint_over_back,
    paint_trunk,
)
from sarco.anatomy.spine import SPINE_LEVELS, vertebrae
from sarco.examination.implants import MetalRod, implants_of, paint_implants
from sarco.examination.setting import Extent, SettingDraw, extent_of
from sarco.examination.surroundings import paint_around, paint_devices
from sarco.pelvis.bones import FEMORAL_HEAD
from sarco.pelvis.frame import Pelvis, draw_pelvis
from sarco.pelvis.organs import limit_cavity, pelvic_organs
from sarco.pelvis.region import paint_pelvis


@dataclass(frozen=True)
class Anatomy:
    """What lies where in one patient and around: outline, pelvis, shapes of each layer in painting order, setting."""

    build: Build
    outline: Outline
    pelvis: Pelvis
    organs: list[Blob]
    muscles: list[Tube]
    bones: list[Blob]
    openings: list[Blob]
    metal: list[MetalRod]
    illness: Illness
    setting: SettingDraw
    extent: Extent


def draw_anatomy(build: Build, rng: np.random.Generator, setting: SettingDraw, illness: Illness) -> Anatomy:
    """The anatomy of a patient of this build, as it lies.

    Args:
        build: the patient.
        rng: source of what the build leaves open.
        setting: how the patient lies, and what lies around.
        illness: what the patient has.
    """
    build = replace(build, roll_deg=setting.body_turn_deg, gravity_deg=setting.gravity_deg)
    pelvis = draw_pelvis(build, rng)
    inside = organs(build, rng, int(illness.lost_kidney)) + pelvic_organs(build, pelvis, rng)
    inside += growths(build, illness, rng)
    outline = laid_down(draw_outline(build), setting)
    screwed_mm = [level.z_mm for level in SPINE_LEVELS if level.name in ("L1", "L2", "L3", "L4", "L5")]
    hips_mm = [pelvis.body_mm(build, (side * FEMORAL_HEAD[0], *FEMORAL_HEAD[1:])) for side in (1, -1)]
    metal = implants_of(setting, build.spine_mm, screwed_mm, hips_mm, pelvis.head_mm)
    extent = extent_of(*skin_mm(build, outline), setting)
    return Anatomy(
        build,
        outline,
        pelvis,
        inside,
        muscles(build),
        vertebrae(build),
        openings(build, illness),
        metal,
        illness,
        setting,
        extent,
    )


def paint_slice(shape: tuple[int, int], body_from_index: NDArray[np.float64], anatomy: Anatomy) -> SlicePainter:
    """A finished slice without blur and noise.

    Args:
        shape: (rows, columns).
        body_from_index: 4x4, (row, column, 0, 1) to body coordinates.
        anatomy: the patient.
    """
    painter = SlicePainter(shape, body_from_index, anatomy.build, anatomy.outline)
    room = painter.room()
    paint_around(painter.hu, room, anatomy.setting, anatomy.extent, anatomy.build.muscle_hu, anatomy.build.fat_hu)
    limit_cavity(painter, anatomy.pelvis)
    paint_trunk(painter)
    paint_fluids(painter, anatomy.illness)
    paint_chest(painter)
    painter.paint(anatomy.organs)
    paint_latissimus(painter)
    painter.paint(anatomy.muscles)
    paint_over_back(painter)
    paint_between_spines(painter)
    paint_fat_streaks(painter)
    painter.paint(anatomy.bones)
    paint_ribs(painter)
    paint_pelvis(painter, anatomy.pelvis)
    painter.paint(anatomy.openings)
    paint_implants(painter.hu, painter.x, painter.y, painter.z, anatomy.metal)
    paint_devices(painter.hu, room, anatomy.setting)
    return painter
