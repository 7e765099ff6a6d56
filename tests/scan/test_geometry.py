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
    find_plane,
    lps_to_ras,
    ras_to_lps,
    slice_affine_lps,
    slice_normal,
    spacing_mm,
    stack_slices,
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


def test_order_follows_the_position_and_not_the_order_of_arrival() -> None:
    """Catches slices ordered as files or instance numbers are."""
    positions = [(1.0, 2.0, z) for z in (15.0, -5.0, 10.0, 0.0, 5.0)]
    stack = stack_slices(positions, (0, 0, 1))
    assert stack.order == (1, 3, 4, 2, 0)
    assert stack.plane_index == (0, 1, 2, 3, 4)
    np.testing.assert_allclose(stack.first_position, (1, 2, -5))
    np.testing.assert_allclose(stack.step_lps, (0, 0, 5))


@pytest.mark.parametrize("step", [1.25, 0.625, 0.75, 3.75, 0.8, 0.55, 2.15])
@pytest.mark.parametrize("missing", [(), (3,), (7, 8, 20)])
@pytest.mark.parametrize("tilt_deg", [0, 14])
def test_positions_rounded_to_a_tenth_are_one_grid(step: float, missing: tuple[int, ...], tilt_deg: float) -> None:
    """Catches rounding that reads as missing slices, and a slice that is missing and hides behind rounding."""
    if tilt_deg and step < 0.7:
        pytest.skip("two rounded coordinates are off by a tenth of the step")
    kept = [place for place in range(30) if place not in missing]
    shear = math.tan(math.radians(tilt_deg))
    normal = (0, -math.sin(math.radians(tilt_deg)), math.cos(math.radians(tilt_deg)))
    points = [(-168.446, round(-37 + step * place * shear, 1), round(-600.3 + step * place, 1)) for place in kept]
    found = stack_slices(points, normal)
    assert found.plane_index == tuple(kept)
    np.testing.assert_allclose(found.step_lps[2], step, atol=0.006)
    np.testing.assert_allclose(found.first_position[2], -600.3, atol=0.06)


@pytest.mark.parametrize(("step", "decimals"), [(2.5, 0), (3.75, 0), (0.45, 1)])
def test_rounding_that_hides_the_step_is_called_so(step: float, decimals: int) -> None:
    """Catches "a slice is missing" where none is, or slices half a step off."""
    with pytest.raises(GeometryError, match="rounded to"):
        stack_slices([(0, 0, round(-600.3 + step * place, decimals)) for place in range(20)], (0, 0, 1))


def test_two_regular_steps_are_told_with_their_places() -> None:
    """Catches a message that names a step nobody chose: that of the seam between two runs."""
    heights = [*(-100 + 4 * place for place in range(14)), *(-46.919 + 7 * place for place in range(14))]
    with pytest.raises(
        GeometryError, match=r"14 slices 4 mm apart \(z -100\.0 to -48\.0\), 14 slices 7 mm apart \(z -46\.9"
    ):
        stack_slices([(0, 0, height) for height in heights], (0, 0, 1))


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


def test_a_gap_of_whole_steps_leaves_a_plane_out() -> None:
    """Catches slices above a gap that are moved down."""
    stack = stack_slices([(0, 0, z) for z in (18.1, 23.1, 28.1, 38.1, 53.1)], (0, 0, 1))
    assert stack.plane_index == (0, 1, 2, 4, 7)
    assert stack.n_planes == 8
    np.testing.assert_allclose(stack.step_lps, (0, 0, 5))


def test_an_uneven_gap_is_named_with_its_place() -> None:
    """Catches a missing slice or two mixed scans that pass unseen."""
    with pytest.raises(
        GeometryError, match=r"3 slices 5 mm apart \(z -422\.5 to -412\.5\), 2 slices 5 mm .*-405\.2 to"
    ):
        stack_slices([(0, 0, -412.5 + d) for d in (-10, -5, 0, 7.3, 12.3)], (0, 0, 1))


def test_a_shared_position_is_named() -> None:
    """Catches two slices of one place, of which one would overwrite the other."""
    with pytest.raises(GeometryError, match=r"share the position \(0\.0, 0\.0, 5\.0\) mm"):
        stack_slices([(0, 0, z) for z in (0, 5, 10, 5)], (0, 0, 1))


def test_a_slice_beside_the_others_is_named() -> None:
    """Catches a slice of another scan that fits along the normal but lies elsewhere in its plane."""
    with pytest.raises(GeometryError, match=r"\(40\.0, 0\.0, 10\.0\) mm lies"):
        stack_slices([(40 if z == 10 else 0, 0, z) for z in (0, 5, 10, 15, 20)], (0, 0, 1))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_refuses_a_position_that_is_no_number(wrong: float) -> None:
    """Catches NaN that sorts anywhere."""
    with pytest.raises(GeometryError, match="finite"):
        stack_slices([(0, 0, 0), (0, 0, wrong)], (0, 0, 1))


def test_a_single_slice_takes_the_step_it_is_given() -> None:
    """Catches a division by no gap at all."""
    stack = stack_slices([(1, 2, 3)], (0, 0, 1), single_step_mm=2.5)
    assert (stack.order, stack.plane_index, stack.n_planes) == ((0,), (0,), 1)
    np.testing.assert_array_equal(stack.step_lps, (0, 0, 2.5))


def test_rounded_positions_do_not_add_up() -> None:
    """Catches a step taken from one rounded gap: 300 slices of 0.625 mm, positions rounded to 0.01 mm."""
    positions = [(0, 0, round(k * 0.625 - 100, 2)) for k in range(300)]
    stack = stack_slices(positions, (0, 0, 1))
    assert stack.plane_index == tuple(range(300))
    lines = stack.first_position + np.arange(300)[:, None] * stack.step_lps
    assert np.abs(lines - positions).max() < 0.02


def test_a_tilted_gantry_gives_a_step_off_the_normal() -> None:
    """Catches a step along the normal where the table moved along z: the far slices would slide away."""
    tilt = math.radians(14)
    normal = slice_normal((1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)))
    stack = stack_slices([(3, 4, 5.0 * k) for k in (2, 0, 1, 3)], normal)
    np.testing.assert_allclose(stack.step_lps, (0, 0, 5), atol=1e-12)
    assert abs(float(normal @ stack.step_lps)) == pytest.approx(5 * math.cos(tilt))


@given(
    planes=st.sets(st.integers(0, 60), min_size=1, max_size=30),
    step=st.floats(0.3, 10),
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_regular_stack_is_put_back_in_order(
    planes: set[int], step: float, angles: tuple[float, float, float], seed: int
) -> None:
    """Catches an order or a plane that depends on direction, spacing or arrival."""
    wanted = np.array(sorted({*planes, 61, 62}))  # one pair of neighbours shows the step
    normal = rotation(*angles)[:, 2]
    positions = np.array([5.0, -7.0, 300.0]) + wanted[:, None] * step * normal
    shuffled = np.random.default_rng(seed).permutation(len(wanted))
    stack = stack_slices(positions[shuffled], normal)
    assert [int(shuffled[i]) for i in stack.order] == list(range(len(wanted)))
    np.testing.assert_array_equal(stack.plane_index, wanted - wanted[0])
    np.testing.assert_allclose(stack.step_lps, step * normal, atol=1e-6)
    np.testing.assert_allclose(stack.first_position, positions[0])


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


def test_a_gap_that_would_fill_the_memory_is_refused() -> None:
    """Catches ten million empty planes between slices that lie 0.01 mm and 90 m apart."""
    positions = [(0, 0, z) for z in (0, 0.01, 0.02, 90000.0)]
    with pytest.raises(GeometryError, match=r"3 slices 0\.01 mm apart .* 1 slice \(z 90000\.0\)"):
        stack_slices(positions, (0, 0, 1))
