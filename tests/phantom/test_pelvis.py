"""The pelvis of invented patients: where its muscles and bones lie, on which side, and how large they are."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.phantom.build import Build, draw_build
from sarco.phantom.labels import INVENTED_IDS, MUSCLE_NAMES
from sarco.phantom.outline import draw_outline
from sarco.phantom.paint import SlicePainter
from sarco.phantom.pelvis import paint_pelvis
from sarco.phantom.pelvis_bones import HEAD
from sarco.phantom.pelvis_frame import Pelvis, draw_pelvis
from sarco.phantom.pelvis_organs import limit_cavity, pelvic_organs

PIXEL_MM = 2.0
GLUTEALS = ("gluteus_maximus", "gluteus_medius", "gluteus_minimus")


def draw(seed: int) -> tuple[Build, Pelvis]:
    """A patient who lies level."""
    rng = np.random.default_rng(seed)
    build = replace(draw_build(rng), roll_deg=0.0)
    return build, draw_pelvis(build, rng)


def paint(build: Build, pelvis: Pelvis, z_mm: float, pixel_mm: float = PIXEL_MM, tilt: float = 0.0) -> SlicePainter:
    """One slice at a height of body coordinates; rows run to the back, columns to the left."""
    size = round(460 / pixel_mm)
    body_from_index = np.eye(4)
    body_from_index[:3, 0] = (0, pixel_mm, tilt)
    body_from_index[:3, 1] = (pixel_mm, 0, 0)
    body_from_index[:3, 3] = (-230, -230, z_mm - tilt * size / 2)
    painter = SlicePainter((size, size), body_from_index, build, draw_outline(build))
    painter.fill(painter.body, build.fat_hu, INVENTED_IDS["subcutaneous_fat"])
    paint_pelvis(painter, pelvis)
    return painter


def slices(build: Build, pelvis: Pelvis) -> Iterator[SlicePainter]:
    """Slices from the upper femora to the crest, 10 mm apart."""
    for z_mm in range(-240, -29, 10):
        yield paint(build, pelvis, z_mm)


def mask(painter: SlicePainter, name: str) -> NDArray[np.bool_]:
    return np.asarray(painter.labels == INVENTED_IDS[name])


def middle(painter: SlicePainter, name: str) -> NDArray[np.float64]:
    """X and y of a structure's middle."""
    where = mask(painter, name)
    return np.array([painter.x[where].mean(), painter.y[where].mean()], dtype=np.float64)


def head_z_mm(build: Build, pelvis: Pelvis, side: int) -> float:
    return pelvis.body_mm(build, HEAD)[2] + side * pelvis.lift_mm / 2


@pytest.mark.parametrize("seed", range(6))
def test_every_label_of_the_pelvis_appears_on_both_sides(seed: int) -> None:
    """Catches a muscle that a small patient loses, and a label that is never painted."""
    build, pelvis = draw(seed)
    seen = {int(label) for painter in slices(build, pelvis) for label in np.unique(painter.labels)}
    muscles = [name for name in MUSCLE_NAMES if name.startswith(("gluteus", "iliacus", "psoas", "hip", "paraspinal"))]
    wanted = [*muscles, "bone", "sacrum", "iliac_crest", "body"]
    assert not [name for name in wanted if INVENTED_IDS[name] not in seen]


@pytest.mark.parametrize("seed", range(6))
def test_left_muscles_lie_left(seed: int) -> None:
    """Catches sides that are swapped, and muscles that reach over the midline."""
    build, pelvis = draw(seed)
    for painter in slices(build, pelvis):
        raw_x = painter.level_x - pelvis.origin_mm[0]
        for name in MUSCLE_NAMES:
            where = mask(painter, name)
            if where.any():
                assert (raw_x[where] * (1 if name.endswith("left") else -1)).min() > -12, name


@pytest.mark.parametrize("seed", range(6))
def test_the_gluteal_muscles_lie_behind_each_other_outside_the_iliac_wing(seed: int) -> None:
    """Catches a wrong order of the gluteal muscles, and an iliacus that is not inside the wing."""
    build, pelvis = draw(seed)
    z_mm = pelvis.body_mm(build, (0, 0, -125))[2]
    painter = paint(build, pelvis, z_mm)
    for side, name in ((1, "left"), (-1, "right")):
        maximus, medius, minimus = (middle(painter, f"{muscle}_{name}") for muscle in GLUTEALS)
        assert maximus[1] > medius[1] > minimus[1]
        wing = mask(painter, "bone") & (side * painter.x > 0)
        inward = [mask(painter, f"{muscle}_{name}") for muscle in ("gluteus_medius", "gluteus_minimus")]
        inward += [wing, mask(painter, f"iliacus_{name}")]
        for outer, inner in pairwise(inward):  # at the same depth, each lies outside of the next
            rows = np.flatnonzero(outer.any(axis=1) & inner.any(axis=1))
            assert len(rows) > 8
            for row in rows:
                assert side * painter.x[row][outer[row]].mean() > side * painter.x[row][inner[row]].mean()


def test_the_muscles_of_a_fit_man_have_the_areas_of_living_people() -> None:
    """Catches thicknesses that were halved or doubled on the way: areas in cm2 measured at these levels on CT."""
    build, pelvis = draw(0)
    build = replace(build, scale=1.0, sides=(1.0, 1.0))
    size = dict.fromkeys(pelvis.size, 1.0)
    pelvis = replace(pelvis, wide=(1, 1), deep=1.0, high=(1, 1), lean=0.0, turn_rad=0.0, lift_mm=0.0, size=size)
    for name, z, area in (
        ("gluteus_maximus", -165, 33),
        ("gluteus_medius", -125, 24),
        ("gluteus_minimus", -147, 11),
        ("psoas", -99, 9),
    ):
        painter = paint(build, pelvis, pelvis.body_mm(build, (0, 0, z))[2])
        for side in ("left", "right"):
            cm2 = float(mask(painter, f"{name}_{side}").sum()) * PIXEL_MM**2 / 100
            assert cm2 == pytest.approx(area, rel=0.2), name


@pytest.mark.parametrize("seed", range(3))
def test_the_femoral_head_is_a_ball_of_the_drawn_radius(seed: int) -> None:
    """Catches a head that is stretched with the pelvis, or lies at another height than it says."""
    build, pelvis = draw(seed)
    pixel_mm = 0.8
    for side in (1, -1):
        middle_z = head_z_mm(build, pelvis, side)
        x, y, _ = pelvis.body_mm(build, (side * HEAD[0], HEAD[1], HEAD[2]))
        for above_mm in (0.0, -8.0):
            bright = replace(pelvis, marrow_hu=2000.0)
            painter = paint(build, bright, middle_z + above_mm, pixel_mm)
            bend_x, bend_y = (float(bend) for bend in build.axis_mm(np.array(middle_z)))
            near = np.hypot(painter.level_x - x - bend_x, painter.level_y - y - bend_y)
            cancellous = 2120 + 18 * painter.mottle  # brighter by 120 HU than other bone's
            inside = (near < pelvis.head_mm + 6) & (np.abs(painter.hu - cancellous) < 0.5)
            marrow_mm = pelvis.head_mm - 1.2  # inside its cortex
            area = math.pi * (marrow_mm**2 - above_mm**2)
            assert float(inside.sum()) * pixel_mm**2 == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_of_the_pelvis_lies_outside_the_fascia(seed: int) -> None:
    """Catches muscles and bones in the subcutaneous fat, in the skin or in the air."""
    build, pelvis = draw(seed)
    for painter in slices(build, pelvis):
        outside = painter.depth < 0
        assert set(np.unique(painter.labels[outside])) <= {0, INVENTED_IDS["subcutaneous_fat"]}
        assert (painter.labels[~painter.body] == 0).all()


def test_muscles_grow_with_strength_and_hold_more_fat_with_infiltration() -> None:
    """Catches sizes and fat that do not reach the painter, and fat that leaves the compartment."""
    build, pelvis = draw(2)
    z_mm = pelvis.body_mm(build, (0, 0, -150))[2]
    lean, fatty = (replace(pelvis, infiltration=share) for share in (0.05, 0.5))
    first, second = (paint(build, which, z_mm) for which in (lean, fatty))
    name = "gluteus_maximus_left"
    assert np.array_equal(mask(first, name), mask(second, name))
    shares = [float((painter.hu[mask(painter, name)] < -30).mean()) for painter in (first, second)]
    assert shares[1] > shares[0] + 0.25
    small, large = (
        replace(pelvis, size={group: factor * value for group, value in pelvis.size.items()}) for factor in (0.6, 1.2)
    )
    areas = [mask(paint(build, which, z_mm), name).sum() for which in (small, large)]
    assert areas[1] > 1.5 * areas[0]


def test_a_slightly_tilted_slice_shows_the_same_pelvis() -> None:
    """Catches tables that are read at one height for a whole slice that spans several."""
    build, pelvis = draw(1)
    level, tilted = paint(build, pelvis, -150), paint(build, pelvis, -150, tilt=0.1)
    row = level.labels.shape[0] // 2  # where both lie at the same height
    same = level.labels[row] == tilted.labels[row]
    assert same.mean() > 0.97
    assert (level.labels != tilted.labels).mean() > 0.01


def test_organs_lie_between_the_hips() -> None:
    """Catches gut in the thighs: below the brim the cavity narrows to the lesser pelvis."""
    for seed in range(4):
        build, pelvis = draw(seed)
        outline = draw_outline(build)
        body_from_index = np.array([[0, 2.0, 0, -230], [2.0, 0, 0, -230], [0, 0, 1, -190], [0, 0, 0, 1]])
        painter = SlicePainter((230, 230), body_from_index, build, outline)
        before = painter.cavity.sum()
        limit_cavity(painter, pelvis)
        assert 0 < painter.cavity.sum() < 0.6 * before
        assert np.abs(painter.x[painter.cavity]).max() < 95
        organs = pelvic_organs(build, pelvis, np.random.default_rng(seed))
        assert organs == pelvic_organs(build, pelvis, np.random.default_rng(seed))
        painter.paint(organs)
        assert (painter.labels[painter.depth < 0] == 0).all()


def test_pelves_differ_between_women_and_men() -> None:
    """Catches a sex that is ignored: women's hips are wider for their crest, and their femoral heads smaller."""
    drawn: dict[str, list[tuple[float, float]]] = {"F": [], "M": []}
    for seed in range(120):
        build, pelvis = draw(seed)
        drawn[build.sex].append((pelvis.wide[0] / pelvis.wide[1], pelvis.head_mm))
    women, men = (np.mean(drawn[sex], axis=0) for sex in "FM")
    assert women[0] > men[0] + 0.02
    assert women[1] < men[1] - 1.5
