"""Which values can be HU at all: one rule for DICOM and NIfTI."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.phantom.patient import PhantomOptions, make_phantom
from sarco.scan.hu import OFF_SCALE, describe_difference, describe_no_hu, holds_tissue, judge_scale


def a_slice(
    air: float = -1000,
    fat: float = -100,
    muscle: float = 50,
    padding: float | None = None,
    radius: float = 0.6,
    noise: float = 12.0,
) -> NDArray[np.float32]:
    """A body in air, in a circle of padding if there is any."""
    row, column = np.ogrid[-1:1:128j, -1:1:128j]
    distance = np.hypot(row, column)
    hu = np.where(distance < radius * 2 / 3, muscle, np.where(distance < radius, fat, air))
    hu = hu + np.random.default_rng(0).normal(0, noise, hu.shape)
    if padding is not None:
        hu[distance > 1] = padding
    return hu.astype(np.float32)


def all_but_padding(change: Callable[[NDArray[np.float32]], NDArray[np.float32]], **kind: Any) -> NDArray[np.float32]:
    """A slice whose values were changed, and whose padding was not."""
    hu = a_slice(**kind)
    return np.where(hu < -1500, hu, change(hu)).astype(np.float32)


@pytest.mark.parametrize("padding", [None, -2000, -3024])
def test_ct_is_ct_with_any_padding(padding: float | None) -> None:
    """Catches a rule that refuses what scanners write."""
    assert judge_scale(a_slice(padding=padding)).doubt == ""
    assert describe_no_hu(a_slice(padding=padding, noise=0)) == ""
    assert describe_no_hu(a_slice(padding=padding)) == ""
    assert describe_no_hu(a_slice(padding=padding).astype(np.int16)) == ""
    assert describe_no_hu(a_slice(air=-2000)) == ""  # cut out along the skin
    assert holds_tissue(a_slice(padding=padding))


@pytest.mark.parametrize("noise", [0.0, 6.0, 25.0])
@pytest.mark.parametrize("radius", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("padding", [None, -2000, -3024])
def test_a_lost_intercept_is_seen_behind_padding(padding: float | None, radius: float, noise: float) -> None:
    """Catches values that are 1024 too high because somebody dropped the intercept, however small the body is."""
    for lost in (1000, 1024):
        moved = all_but_padding(lambda hu, by=lost: hu + by, padding=padding, radius=radius, noise=noise)
        assert "no CT in HU" in describe_no_hu(moved)


@pytest.mark.parametrize("padding", [None, -2000, -3024])
@pytest.mark.parametrize("by", [-1024, -400, -224, -100, 100, 224, 324, 524, 700])
def test_air_that_lies_elsewhere_is_told(by: float, padding: float | None) -> None:
    """Catches a wrong intercept that only a flag about missing tissue would tell, or nothing."""
    scale = judge_scale(all_but_padding(lambda hu: hu + by, padding=padding))
    assert scale.fault or scale.doubt.startswith(OFF_SCALE)
    if abs(by) >= 400:
        assert scale.fault


@pytest.mark.parametrize("by", [-30, 30])
def test_air_of_real_scanners_is_no_doubt(by: float) -> None:
    """Catches a doubt about series whose air is a little warm."""
    assert judge_scale(a_slice() + by).doubt == ""


@pytest.mark.parametrize("intercept", [0, -1024])
@pytest.mark.parametrize("factor", [0.5, 2.0, 10.0])
def test_a_wrong_slope_is_told(factor: float, intercept: float) -> None:
    """Catches values times ten, and a slope that leaves air where it is but not tissue."""
    scale = judge_scale((a_slice() - intercept) * factor + intercept)
    assert scale.fault or scale.doubt.startswith(OFF_SCALE)


def test_values_in_another_unit_are_refused() -> None:
    """Catches HU over ten, and fat at -190 that no tissue explains."""
    assert "no CT in HU" in describe_no_hu(a_slice() / 10)
    assert "fat lies at" in judge_scale((a_slice() + 1024) * 0.9 - 1024).doubt


@pytest.mark.parametrize(
    ("window", "is_fault"), [((-160, 240), True), ((-200, 300), False), ((-500, 500), False), ((-1024, 1000), None)]
)
def test_what_was_cut_off_at_a_window_is_told(window: tuple[float, float], is_fault: bool | None) -> None:
    """Catches a window of 8 bits that is read as HU, and a whole range of HU that is doubted."""
    low, high = window
    scale = judge_scale(low + np.rint((a_slice().clip(low, high) - low) / (high - low) * 255) * (high - low) / 255)
    assert bool(scale.fault) == bool(is_fault)
    assert bool(scale.doubt) == (is_fault is False)


def test_a_field_of_view_inside_the_body_is_ct() -> None:
    """Catches a slice that is refused although its volume is read, and one that lost its intercept and is not."""
    phantom = make_phantom(3, PhantomOptions(n_slices=3, rows=160, columns=160, arms=False))
    inside = phantom.hu[60:100, 60:100].astype(np.float32)
    for values in (inside, *np.moveaxis(inside, 2, 0)):
        assert describe_no_hu(values) == ""
        assert "no CT in HU" in describe_no_hu(values + 1024)
        assert "no CT in HU" in describe_no_hu(values + 500)


def test_a_lung_without_air_around_it_is_no_doubt() -> None:
    """Catches a chest in a tight field of view whose lung is taken for air of a wrong scale."""
    assert judge_scale(a_slice(air=-100, fat=-850, muscle=50, radius=0.8)) == judge_scale(a_slice(air=-100, fat=-100))


def test_values_without_heaps_are_left_alone() -> None:
    """Catches a refusal of pixels that are spread from air upwards, as some anonymised series have them."""
    spread = np.random.default_rng(1).uniform(-1024, -770, (128, 128)).astype(np.float32)
    assert judge_scale(spread) == judge_scale(spread[:64])
    assert not judge_scale(spread).fault and not judge_scale(spread).doubt


def test_a_slice_of_grey_levels_is_none_in_hu() -> None:
    """Catches 8 bits, masks and values that were shifted to begin at 0."""
    for other in ((0, 120, 255), (0, 1, 1), (0, 900, 1050)):
        assert "no CT in HU" in describe_no_hu(a_slice(*other, noise=0))
        assert "no CT in HU" in describe_no_hu(a_slice(*other).clip(0))


@pytest.mark.parametrize(("slope", "intercept"), [(1, 24), (1, -40), (1.05, -1024 * 0.05), (0.5, -512), (0, 0)])
def test_another_scale_than_the_neighbours_is_seen(slope: float, intercept: float) -> None:
    """Catches one slice of another intercept or slope, and neighbours that differ by anatomy alone."""
    phantom = make_phantom(4, PhantomOptions(n_slices=2, rows=160, columns=160))
    one, other = (phantom.hu[..., k].astype(np.float32) for k in range(2))
    if not slope:
        assert describe_difference(one, other) == ""
        return
    assert "HU above" in describe_difference(one, other + 24)
    changed = other * slope + (intercept if slope == 1 else 1024 * (slope - 1))
    assert describe_difference(one, changed) != ""
    assert describe_difference(changed, one) != ""


def test_an_intercept_that_counts_twice_leaves_no_tissue() -> None:
    """Catches values that are 1024 too low."""
    assert not holds_tissue(a_slice() - 1024)
    assert "no CT in HU" in describe_no_hu(a_slice() - 4000)
    assert "no CT in HU" in describe_no_hu(a_slice() * 100)
