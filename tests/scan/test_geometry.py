"""Affines, slice order and grids: what goes wrong here puts muscles into the wrong place without a sign of it."""

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from turns import rotation

import sarco.scan.geometry
from sarco.core.errors import GeometryError
from sarco.scan.geometry import (
    check_cosines,
    find_plane,
    lps_to_ras,
    ras_to_lps,
    slice_affine_lps,
    slice_normal,
    spacing_mm,
    swap_rows_and_columns,
    take_plane,
    unit_cosines,
    voxel_volume_mm3,
)

Vector = NDArray[np.float64]
TURNS = [
    (list(perm), flips) for perm in itertools.permutations(range(3)) for flips in itertools.product((0, 1), repeat=3)
]


def grid_affine(angles: tuple[float, float, float], spacing: tuple[float, float, float]) -> Vector:
    """An affine_lps of a turned, anisotropic grid."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) @ np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]) * spacing
    affine[:3, 3] = (-123.4, -56.7, 891.0)
    return affine


OBLIQUE = grid_affine((0.2, -0.1, 0.3), (0.7, 0.9, 5.0))


def turned_volume(
    volume: NDArray[np.uint8], affine: Vector, perm: list[int], flips: tuple[int, ...]
) -> tuple[NDArray[np.uint8], Vector]:
    """The same voxels at the same world points in an array with other axes."""
    volume, turned = volume.transpose(perm), affine[:, [*perm, 3]].copy()
    for axis in np.flatnonzero(flips):
        volume = np.flip(volume, axis)
        turned[:3, 3] += turned[:3, axis] * (volume.shape[axis] - 1)
        turned[:3, axis] *= -1
    return volume, turned


def plane_affine(affine: Vector, plane: int) -> Vector:
    """The affine of one plane."""
    moved = affine.copy()
    moved[:3, 3] += plane * affine[:3, 2]
    return moved


def numbered_volume() -> NDArray[np.uint8]:
    """A volume on which no two voxels are alike and no two axes are equally long."""
    return np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)


def test_doctests_hold() -> None:
    """Catches an example in a docstring that is not true any more."""
    result = doctest.testmod(sarco.scan.geometry)
    assert result.attempted >= 2
    assert result.failed == 0


def test_affine_follows_the_dicom_formula() -> None:
    """Catches swapped spacings or swapped directions (PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1)."""
    turn = rotation(0.3, -0.2, 0.5)
    along_row, along_column = turn[:, 0], turn[:, 1]  # directions of growing column index and growing row index
    position, between_rows, between_columns = np.array([10.0, -20.0, 30.0]), 0.6, 0.9
    step = turn[:, 2] * 4.0
    affine = slice_affine_lps(position, [*along_row, *along_column], (between_rows, between_columns), step)
    for row, column, plane in [(0, 0, 0), (7, 0, 0), (0, 7, 0), (3, 11, 2)]:
        expected = position + along_row * between_columns * column + along_column * between_rows * row + step * plane
        np.testing.assert_allclose((affine @ [row, column, plane, 1])[:3], expected, atol=1e-12)
    np.testing.assert_allclose(spacing_mm(affine), (0.6, 0.9, 4.0))
    assert voxel_volume_mm3(affine) == pytest.approx(0.6 * 0.9 * 4.0)


def test_volume_of_a_sheared_voxel_is_smaller_than_the_product_of_its_sides() -> None:
    """Catches a volume that is the product of the spacings, which is wrong for a tilted gantry."""
    tilt = math.radians(14)
    affine = slice_affine_lps((0, 0, 0), (1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)), (0.4, 0.4), (0, 0, 5))
    assert voxel_volume_mm3(affine) == pytest.approx(0.4 * 0.4 * 5 * math.cos(tilt))


def test_axes_swaps_are_their_own_inverse_and_keep_the_point() -> None:
    """Catches a swap on the wrong side of the affine."""
    np.testing.assert_array_equal(ras_to_lps(lps_to_ras(OBLIQUE)), OBLIQUE)
    np.testing.assert_allclose(lps_to_ras(OBLIQUE) @ [1, 2, 3, 1], (OBLIQUE @ [1, 2, 3, 1]) * [-1, -1, 1, 1])
    np.testing.assert_allclose(swap_rows_and_columns(OBLIQUE) @ [2, 1, 3, 1], OBLIQUE @ [1, 2, 3, 1])


@pytest.mark.parametrize(
    "wrong",
    [
        (1, 0, 0, 0, 1),
        (1, 0, 0, 0, 1, math.nan),
        (1, 0, 0, 1, 0, 0),
        (0, 0, 0, 0, 0, 0),
        (2, 0, 0, 0, 1, 0),
        (1, 0, 0, 0.1, 0.995, 0),
        (0.99, 0, 0, 0, 1, 0),
        (0.95, 0.3, 0, -0.29, 0.95, 0),
    ],
    ids=["five numbers", "NaN", "parallel", "zeros", "not unit", "not at right angles", "short", "two decimals"],
)
def test_refuses_an_orientation_that_is_none(wrong: tuple[float, ...]) -> None:
    """Catches directions from which no plane can be made."""
    with pytest.raises(GeometryError, match="orientation"):
        slice_normal(wrong)


def test_normal_of_an_axial_slice_points_to_the_head() -> None:
    """Catches the cross product the wrong way round."""
    np.testing.assert_array_equal(slice_normal((1, 0, 0, 0, 1, 0)), (0, 0, 1))
    np.testing.assert_array_equal(slice_normal((-1, 0, 0, 0, 1, 0)), (0, 0, -1))


@pytest.mark.parametrize("decimals", [3, 4, 5, 6])
@pytest.mark.parametrize("angles", [(0.2, -0.1, 0.3), (0.05, 0.4, 0), (0, 0, 0)])
def test_rounded_cosines_do_not_scale_the_pixels(decimals: int, angles: tuple[float, float, float]) -> None:
    """Catches spacing that is multiplied by the length of a direction that is no unit vector."""
    turn = rotation(*angles)
    exact = np.concatenate([turn[:, 0], turn[:, 1]])
    cosines = unit_cosines(np.round(exact, decimals).tolist())
    pair = np.array(cosines).reshape(2, 3)
    np.testing.assert_allclose(pair @ pair.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(cosines, exact, atol=0.6 * 10**-decimals)
    np.testing.assert_allclose(spacing_mm(slice_affine_lps((0, 0, 0), cosines, (0.431, 0.432), (0, 0, 5)))[:2],
                               (0.431, 0.432), atol=1e-12)  # fmt: skip


@pytest.mark.parametrize(("perm", "flips"), TURNS)
def test_every_turn_of_a_label_map_gives_back_the_same_voxels(perm: list[int], flips: tuple[int, ...]) -> None:
    """Catches a transpose or a flip that is forgotten or done twice, in all 48 ways to lay a volume."""
    volume = numbered_volume()
    turned, affine = turned_volume(volume, OBLIQUE, perm, flips)
    for plane in range(volume.shape[2]):
        found = find_plane(affine, turned.shape, plane_affine(OBLIQUE, plane), volume.shape[:2])
        np.testing.assert_array_equal(take_plane(turned, found), volume[:, :, plane])


@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    turn=st.sampled_from(TURNS),
    plane=st.integers(0, 5),
    rounding=st.floats(-0.04, 0.04),
)
@settings(max_examples=80, deadline=None)
def test_any_grid_gives_back_the_same_voxels(
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
    turn: tuple[list[int], tuple[int, ...]],
    plane: int,
    rounding: float,
) -> None:
    """Catches a match that depends on the direction of the patient, or on the last digit of an affine."""
    volume, affine = numbered_volume(), grid_affine(angles, spacing)
    turned, turned_affine = turned_volume(volume, affine, *turn)
    turned_affine[:3, 3] += rounding
    found = find_plane(turned_affine, turned.shape, plane_affine(affine, plane), volume.shape[:2])
    np.testing.assert_array_equal(take_plane(turned, found), volume[:, :, plane])


def test_a_sheared_grid_gives_back_the_same_voxels() -> None:
    """Catches a match that needs right angles."""
    volume = numbered_volume()
    sheared = OBLIQUE.copy()
    sheared[:3, 2] += 0.9 * OBLIQUE[:3, 0]
    for plane in range(6):
        found = find_plane(sheared, volume.shape, plane_affine(sheared, plane), volume.shape[:2])
        np.testing.assert_array_equal(take_plane(volume, found), volume[:, :, plane])


ROW_MM, COLUMN_MM, STEP_MM = np.linalg.norm(OBLIQUE[:3, :3], axis=0)
HALF_A_STEP, ONE_STEP, FOUR_STEPS = (
    f"lies {steps * STEP_MM:.4g} mm from the nearest plane of the label map, which has 6, {STEP_MM:.4g} mm apart"
    for steps in (0.5, 1, 4)
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a @ np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "shifted by 0.5 pixels"),
        (lambda a: a @ np.array([[1, 0, 0, 0], [0, 1, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1]]), "shifted by 3 pixels"),
        (lambda a: a @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]]), HALF_A_STEP),
        (lambda a: a @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 9], [0, 0, 0, 1]]), FOUR_STEPS),
        (lambda a: a @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -1], [0, 0, 0, 1]]), ONE_STEP),
        (lambda a: a @ np.diag([1.2, 1, 1, 1]), f"spacing .{1.2 * ROW_MM:.5g} x {COLUMN_MM:.5g} mm in the image, "),
        (lambda a: a @ np.diag([1, 2.0, 1, 1]), f" in the image, {ROW_MM:.5g} x {COLUMN_MM:.5g} mm in the label map"),
        (
            lambda a: np.block([[rotation(0.2, 0, 0) @ a[:3, :3], a[:3, 3:]], [0, 0, 0, 1]]),
            r"turned against each other",
        ),
        (lambda a: np.full((4, 4), np.nan), "differ in pixel spacing"),
    ],
)
def test_another_grid_is_refused_with_the_reason(change: object, says: str) -> None:
    """Catches labels that are laid over the wrong place."""
    with pytest.raises(GeometryError, match=says):
        find_plane(OBLIQUE, (4, 5, 6), change(OBLIQUE), (4, 5))  # type: ignore[operator]


def test_a_small_difference_in_spacing_counts_at_the_far_end() -> None:
    """Catches a tolerance per pixel: 0.1 % of 512 pixels is half a pixel."""
    affine = grid_affine((0, 0, 0), (0.7, 0.7, 5))
    with pytest.raises(GeometryError, match="spacing"):
        find_plane(affine, (512, 512, 3), affine @ np.diag([1.001, 1, 1, 1]), (512, 512))
    find_plane(affine, (512, 512, 3), affine @ np.diag([1.0001, 1, 1, 1]), (512, 512))


@pytest.mark.parametrize(("shape", "says"), [((4, 6), "6 columns, the label map 5"), ((3, 5), "3 rows")])
def test_another_size_is_refused_with_both_sizes(shape: tuple[int, int], says: str) -> None:
    """Catches a label map of another crop of the image."""
    with pytest.raises(GeometryError, match=says):
        find_plane(OBLIQUE, (4, 5, 6), OBLIQUE, shape)


@pytest.mark.parametrize(
    ("degrees", "decimals", "length_mm", "fits"),
    [
        (33, 2, 500, False),
        (40, 2, 400, False),
        (33, 2, 120, True),
        (33, 3, 800, True),
        (14, 4, 500, True),
        (0, 1, 500, True),
    ],
)
def test_cosines_are_judged_by_where_the_slice_ends(
    degrees: float, decimals: int, length_mm: float, fits: bool
) -> None:
    """Catches two decimals that turn the far end of a slice by two millimetres, and a refusal of three."""
    turn = math.radians(degrees)
    orientation = (1, 0, 0, 0, round(math.cos(turn), decimals), round(math.sin(turn), decimals))
    if fits:
        check_cosines(orientation, (length_mm, length_mm))
    else:
        with pytest.raises(GeometryError, match="too coarse"):
            check_cosines(orientation, (length_mm, length_mm))


def test_a_slice_turned_to_an_exact_unit_vector_is_taken_at_its_word() -> None:
    """Catches a refusal of 0.6 and 0.8, which are no rounding."""
    check_cosines((1, 0, 0, 0, 0.8, 0.6), (500, 500))
