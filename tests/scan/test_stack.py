"""Stacks of slices: order, steps, gaps and runs; what goes wrong here puts a slice at the height of another."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turns import rotation

import sarco.scan.stack
from sarco.core.errors import GeometryError
from sarco.scan.geometry import slice_normal
from sarco.scan.stack import UnevenGapsError, split_runs, stack_slices


def test_doctests_hold() -> None:
    """Catches documentation that promises what the code does not do."""
    assert doctest.testmod(sarco.scan.stack).failed == 0


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


def test_a_gap_that_would_fill_the_memory_is_refused() -> None:
    """Catches ten million empty planes between slices that lie 0.01 mm and 90 m apart."""
    positions = [(0, 0, z) for z in (0, 0.01, 0.02, 90000.0)]
    with pytest.raises(GeometryError, match=r"3 slices 0\.01 mm apart .* 1 slice \(z 90000\.0\)"):
        stack_slices(positions, (0, 0, 1))


@pytest.mark.parametrize(
    "heights",
    [
        [0, 5, 10.1, 15, 20, 25],
        [0, 10, 20.25, 30, 40],
        [0, 1, 2.04, 3, 4, 5],
        [0, 0.3, 0.6, 0.91, 1.2],
        [0, 5, 10.1, 20, 25, 30],
        [round(2 * 3.3 * k) / 2 for k in range(12)],
        [round(4 * 2.6 * k) / 4 for k in range(12)],
    ],
)
def test_what_is_nearly_regular_is_one_grid(heights: list[float]) -> None:
    """Catches a series that is refused, with a message that finds no fault in it, for a slice a hair off its plane."""
    stack = stack_slices([(0, 0, z) for z in heights], (0, 0, 1))
    lines = stack.first_position[2] + np.array(stack.plane_index) * stack.step_lps[2]
    assert np.abs(lines - heights).max() < 0.1 * stack.step_lps[2]


@given(
    gaps=st.lists(st.sampled_from([0.3, 0.33, 1.0, 1.04, 2.5, 2.7, 5.0, 5.04, 5.1, 5.3, 10.0, 11.0]), min_size=1),
    tenths=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_runs_and_stacks_agree(gaps: list[float], tenths: bool) -> None:
    """Catches a stack that is refused though it is a single run, and a run that cannot be stacked by itself."""
    points = [(0.0, 0.0, round(float(z), 1 if tenths else 3)) for z in np.cumsum([0, *gaps])]
    runs = split_runs(points, (0, 0, 1))
    assert sorted(place for run in runs for place in run) == list(range(len(points)))
    for run in runs:
        assert stack_slices([points[place] for place in run], (0, 0, 1)).n_planes == len(run)
    try:
        stack_slices(points, (0, 0, 1))
    except UnevenGapsError:
        assert len(runs) > 1


def test_a_step_that_creeps_is_two_runs() -> None:
    """Catches two scans in one grid because each single gap of theirs is nearly that of the other."""
    heights = [*(5.0 * k for k in range(40)), *(195 + 5.2 * k for k in range(1, 40))]
    with pytest.raises(UnevenGapsError, match=r"40 slices 5 mm apart .*, 39 slices 5\.2 mm apart"):
        stack_slices([(0, 0, z) for z in heights], (0, 0, 1))
