"""Simple shapes through the painter: their exact areas, sides and rims."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.anatomy.build import Build, draw_build
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.outline import draw_outline, skin_mm
from sarco.anatomy.paint import RIM_MM, SlicePainter
from sarco.anatomy.shapes import Blob, Tube
from sarco.examination.setting import SettingDraw, extent_of

LEFT, RIGHT = INVENTED_IDS["psoas_left"], INVENTED_IDS["psoas_right"]


def straight_build() -> Build:
    """A patient who lies level, whose spine is straight."""
    build = draw_build(np.random.default_rng(0))
    return replace(build, bend=(0.0, 0.0), roll_deg=0.0, half_width_mm=150.0, front_mm=110.0)


def painter(pixel_mm: float = 0.5, z_mm: float = 0.0, size_mm: float = 200.0) -> SlicePainter:
    """A slice of a straight patient around the axis."""
    build = straight_build()
    n = round(size_mm / pixel_mm)
    body_from_index = np.eye(4)
    body_from_index[:3, :3] = [[0, pixel_mm, 0], [pixel_mm, 0, 0], [0, 0, 1]]
    body_from_index[:3, 3] = (-(n - 1) / 2 * pixel_mm, -(n - 1) / 2 * pixel_mm, z_mm)
    return SlicePainter((n, n), body_from_index, build, draw_outline(build))


def area_mm2(mask: NDArray[np.bool_], pixel_mm: float = 0.5) -> float:
    return float(mask.sum()) * pixel_mm**2


@pytest.mark.parametrize("pixel_mm", [0.5, 1.0])
@pytest.mark.parametrize(("half", "turn_deg"), [((20.0, 20.0), 0.0), ((30.0, 12.0), 35.0)])
def test_the_area_of_an_ellipse(pixel_mm: float, half: tuple[float, float], turn_deg: float) -> None:
    """Catches a shape that is scaled, cut by its window or off by a rim; its waves change areas by up to 4 %."""
    one = painter(pixel_mm)
    one.paint([Blob((15, -10, 0), (*half, math.inf), 50.0, LEFT, turn_deg, space="trunk")])
    assert area_mm2(one.labels == LEFT, pixel_mm) == pytest.approx(math.pi * half[0] * half[1], rel=0.04)


def test_the_area_of_a_tube_changes_between_its_knots() -> None:
    """Catches knots that are not interpolated, and a rim that is no part of the label."""
    tube = Tube((-50.0, 50.0), (0.0, 20.0), (0.0, 0.0), (10.0, 30.0), (15.0, 25.0), (0.0, 0.0), 40.0, LEFT, 2.0)
    one = painter(z_mm=0.0)
    one.paint([tube])
    label = one.labels == LEFT
    assert area_mm2(label) == pytest.approx(math.pi * (20 + RIM_MM) * (20 + RIM_MM), rel=0.04)
    assert area_mm2(one.hu == 40) == pytest.approx(math.pi * 20 * 20, rel=0.04)
    assert one.x[label].mean() == pytest.approx(10, abs=0.5)
    assert (one.hu[label & (one.hu != 40)] < -60).all()
    for z in (-51.0, 51.0):
        beyond = painter(z_mm=z)
        beyond.paint([tube])
        assert not beyond.labels.any()


def test_a_ball_is_as_wide_as_its_height_says() -> None:
    """Catches a body axis that is scaled or turned round."""
    ball = Blob((0, 0, 30), (25, 25, 25), 60.0, LEFT, space="trunk")
    for z in (30.0, 45.0, 10.0):
        one = painter(z_mm=z)
        one.paint([ball])
        assert area_mm2(one.labels == LEFT) == pytest.approx(math.pi * (25**2 - (z - 30) ** 2), rel=0.04)


def test_sides_part_at_the_midline() -> None:
    """Catches swapped sides: x grows to the left."""
    one = painter()
    one.fill_sides(np.hypot(one.x, one.y) < 20, 50.0, "psoas")
    assert one.x[one.labels == LEFT].min() >= 0
    assert one.x[one.labels == RIGHT].max() <= 0
    assert area_mm2(one.labels == LEFT) == pytest.approx(math.pi * 200, rel=0.06)


def test_later_shapes_cover_earlier_ones() -> None:
    """Catches a label that stays below what was painted over it."""
    one = painter()
    one.paint([Blob((0, 0, 0), (20, 20, 20), 50.0, LEFT), Blob((0, 0, 0), (10, 10, 20), 70.0, RIGHT)])
    assert one.labels[200, 200] == RIGHT
    assert one.hu[200, 200] == 70


def test_tables_are_read_between_their_knots() -> None:
    """Catches a transposed or shifted table: the fascia lies where the formula of its radius says."""
    build = straight_build()
    outline = draw_outline(build)
    one = painter(1.0, size_mm=400)
    row = np.abs(np.arange(-255.0, 256.0, 15.0)).argmin()
    for turn in (0.0, 0.5 * math.pi, -0.5 * math.pi, 2.4):
        column = round((turn + math.pi) / (2 * math.pi) * 512) % 512
        near = (np.abs(one.turn - turn) < 0.02) & (np.abs(one.depth) < 1.5)
        radius = np.hypot(one.x, one.y)[near]
        assert np.abs(radius - outline.tables["radius"][row, column]).max() < 3


def test_nothing_reaches_below_the_lowest_point() -> None:
    """Catches a couch inside the patient."""
    build = straight_build()
    lowest = extent_of(*skin_mm(build, draw_outline(build)), SettingDraw()).low_mm / build.scale
    for z in (-180.0, -60.0, 60.0, 180.0):
        one = painter(2.0, z, 500)
        assert one.level_y[one.body].max() < lowest + 3
