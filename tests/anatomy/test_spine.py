"""Levels of the spine, against published sums."""

from itertools import pairwise

import pytest

from sarco.anatomy.spine import SPINE_LEVELS


def test_levels_are_spaced_as_in_people() -> None:
    """Catches a wrong sum of heights: T12 to L5 is about 180 mm from middle to middle in adults, each step rising."""
    z = {level.name: level.z_mm for level in SPINE_LEVELS}
    assert z["L3"] == 0
    assert z["T12"] - z["L5"] == pytest.approx(178, abs=8)
    steps = [upper.z_mm - lower.z_mm for upper, lower in pairwise(SPINE_LEVELS)]
    assert all(20 < step < 41 for step in steps)
    assert all(above < below + 1 for above, below in pairwise(steps))


def test_bodies_do_not_touch() -> None:
    """Catches discs that vanish."""
    for upper, lower in pairwise(SPINE_LEVELS):
        assert 4 < upper.z_mm - upper.height_mm / 2 - (lower.z_mm + lower.height_mm / 2) < 12
