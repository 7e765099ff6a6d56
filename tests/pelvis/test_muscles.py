"""Muscles of the pelvis: their order, their areas, their size and the fat inside them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from pelvis_slices import PIXEL_MM, pelvis_patient, pelvis_slice, structure

from sarco.anatomy.paint import SlicePainter

GLUTEALS = ("gluteus_maximus", "gluteus_medius", "gluteus_minimus")


def middle(painter: SlicePainter, name: str) -> NDArray[np.float64]:
    """X and y of a structure's middle."""
    where = structure(painter, name)
    return np.array([painter.x[where].mean(), painter.y[where].mean()], dtype=np.float64)


@pytest.mark.parametrize("seed", range(6))
def test_the_gluteal_muscles_lie_behind_each_other_outside_the_iliac_wing(seed: int) -> None:
    """Catches a wrong order of the gluteal muscles, and an iliacus that is not inside the wing."""
    build, pelvis = pelvis_patient(seed)
    z_mm = pelvis.body_mm(build, (0, 0, -125))[2]
    painter = pelvis_slice(build, pelvis, z_mm)
    for side, name in ((1, "left"), (-1, "right")):
        maximus, medius, minimus = (middle(painter, f"{muscle}_{name}") for muscle in GLUTEALS)
        assert maximus[1] > medius[1] > minimus[1]
        wing = structure(painter, "bone") & (side * painter.x > 0)
        inward = [structure(painter, f"{muscle}_{name}") for muscle in ("gluteus_medius", "gluteus_minimus")]
        inward += [wing, structure(painter, f"iliacus_{name}")]
        for outer, inner in pairwise(inward):  # at the same depth, each lies outside of the next
            rows = np.flatnonzero(outer.any(axis=1) & inner.any(axis=1))
            assert len(rows) > 8
            for row in rows:
                assert side * painter.x[row][outer[row]].mean() > side * painter.x[row][inner[row]].mean()


def test_the_muscles_of_a_fit_man_have_the_areas_of_living_people() -> None:
    """Catches thicknesses that were halved or doubled on the way: areas in cm2 measured at these levels on CT."""
    build, pelvis = pelvis_patient(0)
    build = replace(build, scale=1.0, sides=(1.0, 1.0))
    size = dict.fromkeys(pelvis.size, 1.0)
    pelvis = replace(pelvis, wide=(1, 1), deep=1.0, high=(1, 1), lean=0.0, turn_rad=0.0, lift_mm=0.0, size=size)
    for name, z, area in (
        ("gluteus_maximus", -165, 33),
        ("gluteus_medius", -125, 24),
        ("gluteus_minimus", -147, 11),
        ("psoas", -99, 9),
    ):
        painter = pelvis_slice(build, pelvis, pelvis.body_mm(build, (0, 0, z))[2])
        for side in ("left", "right"):
            cm2 = float(structure(painter, f"{name}_{side}").sum()) * PIXEL_MM**2 / 100
            assert cm2 == pytest.approx(area, rel=0.2), name


def test_muscles_grow_with_strength_and_hold_more_fat_with_infiltration() -> None:
    """Catches sizes and fat that do not reach the painter, and fat that leaves the compartment."""
    build, pelvis = pelvis_patient(2)
    z_mm = pelvis.body_mm(build, (0, 0, -150))[2]
    lean, fatty = (replace(pelvis, infiltration=share) for share in (0.05, 0.5))
    first, second = (pelvis_slice(build, which, z_mm) for which in (lean, fatty))
    name = "gluteus_maximus_left"
    assert np.array_equal(structure(first, name), structure(second, name))
    shares = [float((painter.hu[structure(painter, name)] < -30).mean()) for painter in (first, second)]
    assert shares[1] > shares[0] + 0.25
    small, large = (
        replace(pelvis, size={group: factor * value for group, value in pelvis.size.items()}) for factor in (0.6, 1.2)
    )
    areas = [structure(pelvis_slice(build, which, z_mm), name).sum() for which in (small, large)]
    assert areas[1] > 1.5 * areas[0]
