"""Metal: where it lies, what it leaves alone, and that it streaks."""

import numpy as np
import pytest

from sarco.examination.implants import COBALT_HU, LINER_HU, TITANIUM_HU, MetalRod, implants_of, paint_implants
from sarco.examination.projections import LEAST_METAL_HU
from sarco.examination.setting import SettingDraw

LEVELS = (0.0, -37.0, -74.0)
HIPS = ((90.0, 10.0, -190.0), (-90.0, 10.0, -192.0))
COLUMN, ROW = np.meshgrid(np.arange(-140.0, 141, 1, np.float32), np.arange(-100.0, 101, 1, np.float32))


def slice_of(setting: SettingDraw, z_mm: float) -> np.ndarray:
    """Soft tissue with a patient's metal at one height, 1 mm pixels."""
    hu = np.full(COLUMN.shape, 40, np.float32)
    rods = implants_of(setting, 25.0, LEVELS, HIPS, 23.0)
    paint_implants(hu, COLUMN, ROW, np.full_like(COLUMN, z_mm), rods)
    return hu


def test_a_rod_has_round_ends_and_its_thickness() -> None:
    """Catches radius taken for diameter, and rods without end."""
    along = MetalRod((0.5, 0.5, 0), (40.5, 0.5, 0), 6, 1).holds(COLUMN, ROW, np.zeros_like(COLUMN))
    assert along.sum() == pytest.approx(40 * 12 + np.pi * 36, rel=0.08)
    ball = MetalRod((0, 0, 0), (0, 0, 0), 10, 1)
    assert ball.holds(COLUMN, ROW, np.full_like(COLUMN, 6)).sum() == pytest.approx(np.pi * 64, rel=0.06)
    assert not ball.holds(COLUMN, ROW, np.full_like(COLUMN, 11)).any()


@pytest.mark.parametrize(("hips", "sides"), [(0, ()), (1, (1,)), (2, (-1,)), (3, (1, -1))])
def test_hips_lie_on_their_side(hips: int, sides: tuple[int, ...]) -> None:
    """Catches left and right exchanged: x grows to the patient's left."""
    metal = slice_of(SettingDraw(hips=hips), -190.0) > LEAST_METAL_HU
    assert tuple(side for side in (1, -1) if metal[:, COLUMN[0] * side > 40].any()) == sides
    stem = slice_of(SettingDraw(hips=hips), -300.0) > LEAST_METAL_HU
    assert stem.any() == bool(hips)
    assert not (slice_of(SettingDraw(hips=hips), -100.0) > LEAST_METAL_HU).any()


def test_a_hip_is_a_ball_in_a_liner_in_a_cup() -> None:
    """Catches parts painted in the wrong order."""
    seen = slice_of(SettingDraw(hips=1), -190.0)
    line = seen[110, COLUMN[0] <= 90][::-1]
    edges = line[np.flatnonzero(np.diff(line, prepend=0))]
    assert list(edges) == [COBALT_HU, LINER_HU, TITANIUM_HU, 40]


def test_screws_run_from_behind_into_as_many_bodies_as_said() -> None:
    """Catches screws in front of the spine or in the canal, and levels that are left out."""
    for screws in (1, 2, 3):
        setting = SettingDraw(screws=screws, place_2=0.0)
        for number, z in enumerate(LEVELS):
            metal = slice_of(setting, z + 6) > LEAST_METAL_HU
            assert metal.any() == (number < screws)
            assert not metal[(np.abs(COLUMN) < 6) & (ROW > 30) & (ROW < 55)].any(), "the canal"
            assert not metal[ROW < 10].any()
        between = slice_of(setting, -18.0) > LEAST_METAL_HU
        assert between.any() == (screws > 1)


def test_clips_are_small_and_inside() -> None:
    """Catches clips in the spine, and one clip instead of several."""
    setting = SettingDraw(clips=7)
    seen = [slice_of(setting, z) > LEAST_METAL_HU for z in np.arange(-100, 100, 0.5)]
    assert sum(metal.any() for metal in seen) > 12
    assert max(metal.sum() for metal in seen) < 30
    assert not any(metal[ROW > 0].any() for metal in seen)
