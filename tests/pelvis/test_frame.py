"""Sizes of pelves, and their coordinates."""

from dataclasses import replace

import numpy as np
import pytest
from pelvis_slices import PIXEL_MM, pelvis_patient, pelvis_slice

from sarco.anatomy.spine import SPINE_LEVELS
from sarco.pelvis.frame import SACRUM_TOP_MM, Half


def test_pelves_differ_between_women_and_men() -> None:
    """Catches a sex that is ignored: women's hips are wider for their crest, and their femoral heads smaller."""
    drawn: dict[str, list[tuple[float, float]]] = {"F": [], "M": []}
    for seed in range(120):
        build, pelvis = pelvis_patient(seed)
        drawn[build.sex].append((pelvis.wide[0] / pelvis.wide[1], pelvis.head_mm))
    women, men = (np.mean(drawn[sex], axis=0) for sex in "FM")
    assert women[0] > men[0] + 0.02
    assert women[1] < men[1] - 1.5


@pytest.mark.parametrize("seed", range(4))
def test_points_of_the_standard_pelvis_are_found_again_in_the_patient(seed: int) -> None:
    """Catches a way into the body that is not the way back: shapes and organs would not meet."""
    build, pelvis = pelvis_patient(seed)
    pelvis = replace(pelvis, turn_rad=0.0)
    for side, point in ((1, (40.0, 20.0, -150.0)), (-1, (-60.0, -30.0, -90.0))):
        x, y, z = pelvis.body_mm(build, point)
        bend_x, bend_y = (float(bend) for bend in build.axis_mm(np.array(z)))
        painter = pelvis_slice(build, pelvis, z + side * pelvis.lift_mm / 2)
        half = Half(painter, pelvis, side)
        there = np.hypot(half.place.x - abs(point[0]), half.place.y - point[1])
        assert float(half.place.z.min()) == pytest.approx(point[2], abs=0.6)
        half.hu[np.unravel_index(int(there.argmin()), there.shape)] = 9999  # the same pixel of the whole slice
        found = painter.hu == 9999
        assert found.sum() == 1
        assert float(painter.level_x[found][0]) == pytest.approx(x + bend_x, abs=1.5 * PIXEL_MM)
        assert float(painter.level_y[found][0]) == pytest.approx(y + bend_y, abs=1.5 * PIXEL_MM)


def test_a_part_of_a_side_holds_its_box() -> None:
    """Catches windows that cut shapes off, in level and in tilted slices."""
    build, pelvis = pelvis_patient(4)
    for tilt in (0.0, 0.2):
        half = Half(pelvis_slice(build, pelvis, -150, tilt=tilt), pelvis, 1)
        x, y = half.place.x, half.place.y
        held = int(((x > 60) & (x < 90) & (y > -40) & (y < 10)).sum())
        near = half.near((60, 90, -40, 10))
        assert near is not None
        x, y = near.place.x, near.place.y
        assert int(((x > 60) & (x < 90) & (y > -40) & (y < 10)).sum()) == held > 100
        assert near.place.x.size < half.place.x.size / 2
        assert half.near((400, 420, 0, 10)) is None


def test_the_sacrum_starts_below_the_last_disc() -> None:
    """Catches a gap or an overlap where vertebrae that move leave the pelvis behind."""
    last = SPINE_LEVELS[-1]
    assert last.name == "L5"
    assert last.z_mm - last.height_mm / 2 - 10 == pytest.approx(SACRUM_TOP_MM, abs=1)
