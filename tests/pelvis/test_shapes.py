"""Shapes of the pelvis: distances that can be worked out by hand."""

import numpy as np
import pytest

from sarco.pelvis.shapes import Cord, Place, Rod, Sheet, by_level, hull

X, Y = (plane.astype(np.float32) for plane in np.meshgrid(np.arange(-60, 61, 0.5), np.arange(-60, 61, 0.5)))


def level(z_mm: float) -> Place:
    """A level slice, half a millimetre a pixel."""
    return Place(X, Y, np.array([[z_mm]], np.float32))


def area_mm2(outside: np.ndarray) -> float:
    return float((outside < 0).sum()) * 0.25


def test_a_table_is_linear_between_its_levels() -> None:
    """Catches rows in the wrong order, and smoothing that moves values."""
    table = by_level([(-200, 0, 5), (-100, 10, 5)])
    row = Place(X, Y, np.array([[-150.0]], np.float32)).level[0, 0]
    assert table[:, row] == pytest.approx([5, 5], abs=0.1)
    assert table[:, 0] == pytest.approx([0, 5])


def test_a_cord_has_the_area_of_its_ellipse() -> None:
    """Catches radii taken for diameters, and a turn the wrong way."""
    cord = Cord(((-300, 3, -5, 20, 10), (0, 3, -5, 20, 10)), turn_deg=30.0)
    outside = cord.depth(level(-100)).outside
    assert area_mm2(outside) == pytest.approx(np.pi * 200, rel=0.01)
    end = outside[np.hypot(X - 3 - 18 * np.cos(np.pi / 6), Y + 5 - 18 * np.sin(np.pi / 6)) < 0.6]
    assert (end < 0).all()
    assert area_mm2(cord.depth(level(-100), 0.5).outside) == pytest.approx(np.pi * 50, rel=0.02)


def test_a_sheet_is_as_thick_as_it_says_and_bows_to_its_side() -> None:
    """Catches thickness taken twice, and a bow to the other side."""
    rows = tuple((z, -40.0, 0.0, 40.0, 0.0, 12.0, 10.0) for z in (-300, 0))
    outside = Sheet(rows).depth(level(-100)).outside
    column = np.flatnonzero(outside[:, X.shape[1] // 2] < 0)
    assert len(column) * 0.5 == pytest.approx(12, abs=0.6)
    assert Y[column, 0].mean() == pytest.approx(-10, abs=0.3)  # what runs outward bows forward
    assert area_mm2(Sheet(rows, blunt=True).depth(level(-100)).outside) > area_mm2(outside)


def test_a_rod_is_a_ball_at_its_ends() -> None:
    """Catches a cone that is cut off, and radii that are swapped."""
    rod = Rod((0, 0, -100), (0, 0, -150), (20, 10))
    for z, radius in ((-100, 20.0), (-90, np.sqrt(300.0)), (-125, 15.0), (-155, np.sqrt(75.0))):
        assert area_mm2(rod.outside(level(z))) == pytest.approx(np.pi * radius**2, rel=0.04)


@pytest.mark.parametrize("grow", [0.6, 1.4])
def test_boxes_hold_their_shapes(grow: float) -> None:
    """Catches windows in which a shape is cut off."""
    rows = ((-200, -30.0, 10.0, 20.0, -20.0, 14.0, 8.0), (-100, -20.0, 0.0, 40.0, 10.0, 10.0, -8.0))
    shapes = (Sheet(rows, wedge=0.3, skew=0.5), Cord(((-200, 5, 5, 20, 9), (-100, -9, 0, 8, 16)), 25.0, 2.6))
    for z in (-190, -150, -110):
        place = level(z)
        for shape in shapes:
            box = shape.box(place, grow)
            assert box is not None
            inside = shape.depth(place, grow).outside < 0
            assert box[0] < X[inside].min() and X[inside].max() < box[1]
            assert box[2] < Y[inside].min() and Y[inside].max() < box[3]


def test_what_has_ended_has_no_box() -> None:
    """Catches work for shapes that the slice does not meet."""
    cord = Cord(((-200, 0, 0, 0, 0), (-180, 0, 0, 9, 9), (0, 0, 0, 9, 9)))
    assert cord.box(level(-230)) is None
    assert cord.box(level(-100)) is not None
    assert Rod((0, 0, -100), (0, 0, -150), (20, 10)).box(level(-175)) is None
    assert hull([None, (0, 1, 2, 3), (-1, 0, 5, 6)]) == (-1, 1, 2, 6)
    assert hull([None]) is None
