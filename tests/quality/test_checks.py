"""The figures of a slice, against masks that can be count_of by hand and bodies of known shape."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.crop.body import find_body
from sarco.quality.checks import check_slice

AIR, TISSUE, BONE = np.float32(-1000), np.float32(40), np.float32(700)


def affine(row_mm: float, column_mm: float) -> NDArray[np.float64]:
    """An axial grid with this spacing."""
    return np.array([[0, column_mm, 0, 5], [row_mm, 0, 0, -7], [0, 0, 3, 1], [0, 0, 0, 1]], dtype=np.float64)


def ellipse(
    shape: tuple[int, int], spacing: tuple[float, float], centre_mm: tuple[float, float], half_mm: tuple[float, float]
) -> NDArray[np.bool_]:
    """An ellipse given in mm, (row, column) everywhere."""
    rows, columns = np.indices(shape)
    return (
        np.hypot((rows * spacing[0] - centre_mm[0]) / half_mm[0], (columns * spacing[1] - centre_mm[1]) / half_mm[1])
        <= 1
    )


def body(shape: tuple[int, int] = (160, 240), *parts: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Air with tissue in it."""
    hu = np.full(shape, AIR)
    for part in parts:
        hu[part] = TISSUE
    return hu


def test_figures_can_be_counted_by_hand() -> None:
    """Catches areas in pixels, shares of the wrong whole, rows and columns swapped, and 255 count_of as muscle."""
    spacing = (2.0, 1.5)  # 3 mm2 a pixel
    hu = body((160, 240), ellipse((160, 240), spacing, (160, 180), (110, 150)))
    ids = np.zeros(hu.shape, np.uint8)
    ids[60:80, 100:150] = 1  # 1000 pixels in one piece
    ids[90:94, 100:105] = 2  # 20 pixels: 0.6 cm2, no small piece
    ids[100:102, 100:105] = 1  # 10 pixels: 0.3 cm2, a small one
    ids[110:130, 100:150] = 255
    hu[60, 100:130] = 301  # 30 pixels of bone
    hu[61, 100:110] = -251  # 10 pixels of gas
    hu[115, 100:120] = 2500  # 20 pixels of metal, where nobody looked
    found = check_slice(hu, ids, affine(*spacing))
    assert found.mask_cm2 == pytest.approx(1030 * 0.03)
    assert found.metal_cm2 == pytest.approx(20 * 0.03)
    assert found.bone_share == pytest.approx(30 / 1030)
    assert found.air_share == pytest.approx(10 / 1030)
    assert (found.small_pieces, found.small_share) == (1, pytest.approx(10 / 1030))
    assert found.body_cm2 == pytest.approx(np.pi * 11 * 15, rel=0.02)
    assert (found.cut_mm, found.mask_at_edge_mm, found.arms) == (0, 0, 0)


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    """Catches a diagonal strand count_of as many pieces."""
    ids = np.zeros((60, 60), np.uint8)
    ids[np.arange(20, 40), np.arange(20, 40)] = 1
    found = check_slice(np.full((60, 60), TISSUE), ids, affine(1, 1))
    assert (found.small_pieces, found.small_share) == (1, 1.0)


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_cut_is_as_long_as_the_body_at_the_edge(side: str) -> None:
    """Catches an edge that is forgotten, and a length that is measured with the other spacing."""
    spacing, shape = (1.25, 2.5), (200, 120)
    block = np.zeros(shape, bool)
    rows, columns = slice(40, 160), slice(30, 90)  # 150 mm by 150 mm
    block[rows, columns] = True
    reach = {"top": (slice(0, 160), columns), "bottom": (slice(40, 200), columns),
             "left": (rows, slice(0, 90)), "right": (rows, slice(30, 120))}[side]  # fmt: skip
    block[reach] = True
    ids = np.zeros(shape, np.uint8)
    ids[reach] = 1
    found = check_slice(body(shape, block), ids, affine(*spacing))
    assert found.cut_mm == pytest.approx(150, abs=2.5)
    assert found.mask_at_edge_mm == pytest.approx(150, abs=5)


@pytest.mark.parametrize("padding", [-3024.0, -2000.0, -1024.0])
def test_the_scanners_circle_is_an_edge_too(padding: float) -> None:
    """Catches a body cut by the round field of view, which lies nowhere at the edge of the picture."""
    spacing, shape = (1.0, 1.0), (300, 300)
    whole = ellipse(shape, spacing, (150, 190), (90, 130))
    circle = ellipse(shape, spacing, (149.5, 149.5), (150, 150))
    hu = body(shape, whole)
    hu += np.random.default_rng(1).normal(0, 8, shape).astype(np.float32)
    ids = whole.astype(np.uint8)
    inside = check_slice(np.roll(hu, -40, axis=1), np.roll(ids, -40, axis=1), affine(*spacing))
    assert inside.cut_mm == inside.mask_at_edge_mm == 0
    hu[~circle] = padding
    ids[~circle] = 0
    found = check_slice(hu, ids, affine(*spacing))
    # Where the ellipse comes within a coarse pixel of the circle, by stepping along the circle in 0.1 degrees.
    turn = np.radians(np.arange(0, 360, 0.1))
    on_circle = np.hypot((147.5 * np.sin(turn)) / 90, (147.5 * np.cos(turn) - 40) / 130) <= 1
    length = on_circle.sum() * np.radians(0.1) * 150
    for count_of in (found.cut_mm, found.mask_at_edge_mm):  # in squares, which make a slanted line longer
        assert 0.9 * length < count_of < np.sqrt(2) * length


def arm_slice(gap_mm: float, with_bone: bool = True) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A trunk with one arm of 80 mm beside it, and where the arm is."""
    shape, spacing = (130, 260), (2.0, 2.0)
    trunk = ellipse(shape, spacing, (130, 200), (100, 150))
    centre = (130, 200 + 150 + 40 + gap_mm)
    arm = ellipse(shape, spacing, centre, (40, 40))
    hu = body(shape, trunk, arm)
    hu[ellipse(shape, spacing, (180, 200), (25, 25))] = BONE
    if with_bone:
        hu[ellipse(shape, spacing, centre, (10, 10))] = BONE
    return hu, arm & ~trunk


@pytest.mark.parametrize("gap_mm", [20, 4, -2, -4])
def test_an_arm_is_found_also_where_it_touches(gap_mm: float) -> None:
    """Catches an arm that counts as trunk because the two touch."""
    hu, arm = arm_slice(gap_mm)
    found = check_slice(hu, np.zeros(hu.shape, np.uint8), affine(2, 2))
    assert found.arms == 1
    assert found.arms_cm2 == pytest.approx(arm.sum() * 0.04, rel=0.15)
    assert found.body_cm2 == pytest.approx(np.pi * 10 * 15, rel=0.04)
    body = find_body(hu, (2.0, 2.0))
    assert np.flatnonzero(body.arms.any(axis=0))[0] * body.pixel_mm[1] > 200 + 150 - 15


def test_what_is_no_arm() -> None:
    """Catches a breast, a second leg, a table and a trunk that its lungs take apart, called arms."""
    hu, _ = arm_slice(-2, with_bone=False)
    assert check_slice(hu, np.zeros(hu.shape, np.uint8), affine(2, 2)).arms == 0
    shape, spacing = (130, 260), (2.0, 2.0)
    legs = [ellipse(shape, spacing, (130, column), (80, 80)) for column in (150, 340)]
    hu = body(shape, *legs)
    for column in (150, 340):
        hu[ellipse(shape, spacing, (130, column), (15, 15))] = BONE
    assert check_slice(hu, np.zeros(shape, np.uint8), affine(2, 2)).arms == 0
    trunk = ellipse(shape, spacing, (120, 250), (100, 150))
    hu = body(shape, trunk)
    for column in (180, 320):  # lungs, which leave thin walls with ribs and the heart between them
        hu[ellipse(shape, spacing, (120, column), (80, 60))] = -850
    hu[ellipse(shape, spacing, (120, 250), (40, 12))] = BONE
    hu[ellipse(shape, spacing, (120, 112), (40, 4))] = BONE
    hu[118:122, 20:250] = np.where(hu[118:122, 20:250] == AIR, np.float32(300), hu[118:122, 20:250])  # a rail
    assert check_slice(hu, np.zeros(shape, np.uint8), affine(2, 2)).arms == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64)])
def test_any_slice_has_figures(shape: tuple[int, int]) -> None:
    """Catches an error on a slice of air, of one pixel, or all muscle."""
    for hu, label in ((AIR, 0), (TISSUE, 1), (np.float32(-3024), 0)):
        found = check_slice(np.full(shape, hu), np.full(shape, label, np.uint8), affine(0.8, 0.8))
        assert np.isfinite([found.body_cm2, found.cut_mm, found.mask_cm2, found.small_share]).all()
        assert found.mask_cm2 == pytest.approx(label * shape[0] * shape[1] * 0.0064)
