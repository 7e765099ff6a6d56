"""Bones of the pelvis: the femoral head is a ball, the crest is a rim."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pelvis_slices import pelvis_patient, pelvis_slice, structure

from sarco.anatomy.build import Build
from sarco.pelvis.bones import FEMORAL_HEAD
from sarco.pelvis.frame import Pelvis


def head_z_mm(build: Build, pelvis: Pelvis, side: int) -> float:
    return pelvis.body_mm(build, FEMORAL_HEAD)[2] + side * pelvis.lift_mm / 2


@pytest.mark.parametrize("seed", range(3))
def test_the_femoral_head_is_a_ball_of_the_drawn_radius(seed: int) -> None:
    """Catches a head that is stretched with the pelvis, or lies at another height than it says."""
    build, pelvis = pelvis_patient(seed)
    pixel_mm = 0.8
    for side in (1, -1):
        middle_z = head_z_mm(build, pelvis, side)
        x, y, _ = pelvis.body_mm(build, (side * FEMORAL_HEAD[0], FEMORAL_HEAD[1], FEMORAL_HEAD[2]))
        for above_mm in (0.0, -8.0):
            bright = replace(pelvis, marrow_hu=2000.0)
            painter = pelvis_slice(build, bright, middle_z + above_mm, pixel_mm)
            bend_x, bend_y = (float(bend) for bend in build.axis_mm(np.array(middle_z)))
            near = np.hypot(painter.level_x - x - bend_x, painter.level_y - y - bend_y)
            cancellous = 2120 + 18 * painter.mottle  # brighter by 120 HU than other bone's
            inside = (near < pelvis.head_mm + 6) & (np.abs(painter.hu - cancellous) < 0.5)
            marrow_mm = pelvis.head_mm - 1.2  # inside its cortex
            area = math.pi * (marrow_mm**2 - above_mm**2)
            assert float(inside.sum()) * pixel_mm**2 == pytest.approx(area, rel=0.03)


def test_the_crest_is_the_upper_rim_of_the_iliac_wing() -> None:
    """Catches a landmark that lies elsewhere: its top is where the patient's crest ends, and below there is wing."""
    for seed in range(4):
        build, pelvis = pelvis_patient(seed)
        pelvis = replace(pelvis, lift_mm=0.0)
        assert not structure(pelvis_slice(build, pelvis, build.crest_mm + 6), "iliac_crest").any()
        top = pelvis_slice(build, pelvis, build.crest_mm - 6)
        assert structure(top, "iliac_crest").any()
        assert not structure(top, "bone").any()
        low = pelvis_slice(build, pelvis, build.crest_mm - 35)
        assert structure(low, "bone").sum() > structure(low, "iliac_crest").sum() > 0


def test_the_sacrum_lies_in_the_middle_and_curves_back() -> None:
    """Catches a sacrum that is not between the iliac wings, or that runs straight down."""
    build, pelvis = pelvis_patient(3)
    y = []
    for z in (-100, -120, -140):
        painter = pelvis_slice(build, pelvis, pelvis.body_mm(build, (0, 0, z))[2])
        sacrum = structure(painter, "sacrum")
        assert abs(float(painter.level_x[sacrum].mean()) - pelvis.origin_mm[0]) < 6
        y.append(float(painter.level_y[sacrum].mean()))
    assert y[0] + 10 < y[1] < y[2]
