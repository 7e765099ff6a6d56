"""One invented patient, drawn once, and their slices, painted structure over structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco.phantom.abdomen import organs
from sarco.phantom.bedside import arms, paint_table
from sarco.phantom.build import Build
from sarco.phantom.chest import paint_chest, paint_ribs
from sarco.phantom.outline import Outline, draw_outline
from sarco.phantom.paint import SlicePainter
from sarco.phantom.pelvis import paint_pelvis
from sarco.phantom.pelvis_frame import Pelvis, draw_pelvis
from sarco.phantom.pelvis_organs import limit_cavity, pelvic_organs
from sarco.phantom.shapes import Blob, Tube
from sarco.phantom.soft_tissue import muscles, paint_between_spines, paint_fat_streaks, paint_latissimus, paint_trunk
from sarco.phantom.spine import vertebrae


@dataclass(frozen=True)
class Anatomy:
    """What lies where in one patient: outline, pelvis, and the shapes of each layer in painting order."""

    build: Build
    outline: Outline
    pelvis: Pelvis
    organs: list[Blob]
    muscles: list[Tube]
    bones: list[Blob]
    arms: list[Blob]


def draw_anatomy(build: Build, rng: np.random.Generator) -> Anatomy:
    """The anatomy of a patient of this build.

    Args:
        build: the patient.
        rng: source of what the build leaves open.
    """
    pelvis = draw_pelvis(build, rng)
    inside = organs(build, rng) + pelvic_organs(build, pelvis, rng)
    limbs = arms(build) if build.arms else []
    return Anatomy(build, draw_outline(build), pelvis, inside, muscles(build), vertebrae(build), limbs)


def paint_slice(shape: tuple[int, int], body_from_index: NDArray[np.float64], anatomy: Anatomy) -> SlicePainter:
    """A finished slice without blur and noise.

    Args:
        shape: (rows, columns).
        body_from_index: 4x4, (row, column, 0, 1) to body coordinates.
        anatomy: the patient.
    """
    painter = SlicePainter(shape, body_from_index, anatomy.build, anatomy.outline)
    paint_table(painter, anatomy.outline)
    painter.paint(anatomy.arms)
    limit_cavity(painter, anatomy.pelvis)
    paint_trunk(painter)
    paint_chest(painter)
    painter.paint(anatomy.organs)
    paint_latissimus(painter)
    painter.paint(anatomy.muscles)
    paint_between_spines(painter)
    paint_fat_streaks(painter)
    painter.paint(anatomy.bones)
    paint_ribs(painter)
    paint_pelvis(painter, anatomy.pelvis)
    return painter
