"""The pelvis as a whole: its labels, its sides, and where it ends."""

import numpy as np
import pytest
from pelvis_slices import pelvis_patient, pelvis_slice, pelvis_slices, structure

from sarco.anatomy.labels import INVENTED_IDS, MUSCLE_NAMES


@pytest.mark.parametrize("seed", range(4))
def test_every_label_of_the_pelvis_appears_on_both_sides(seed: int) -> None:
    """Catches a muscle that a small patient loses, and a label that is never painted."""
    build, pelvis = pelvis_patient(seed)
    seen = {int(label) for painter in pelvis_slices(build, pelvis) for label in np.unique(painter.labels)}
    muscles = [name for name in MUSCLE_NAMES if name.startswith(("gluteus", "iliacus", "psoas", "hip", "paraspinal"))]
    wanted = [*muscles, "bone", "sacrum", "iliac_crest", "body"]
    assert not [name for name in wanted if INVENTED_IDS[name] not in seen]


@pytest.mark.parametrize("seed", range(4))
def test_left_muscles_lie_left(seed: int) -> None:
    """Catches sides that are swapped, and muscles that reach over the midline."""
    build, pelvis = pelvis_patient(seed)
    for painter in pelvis_slices(build, pelvis):
        raw_x = painter.level_x - pelvis.origin_mm[0]
        for name in MUSCLE_NAMES:
            where = structure(painter, name)
            if where.any():
                assert (raw_x[where] * (1 if name.endswith("left") else -1)).min() > -12, name


@pytest.mark.parametrize("seed", range(4))
def test_nothing_of_the_pelvis_lies_outside_the_fascia(seed: int) -> None:
    """Catches muscles and bones in the subcutaneous fat, in the skin or in the air."""
    build, pelvis = pelvis_patient(seed)
    for painter in pelvis_slices(build, pelvis):
        outside = painter.depth < 0
        assert set(np.unique(painter.labels[outside])) <= {0, INVENTED_IDS["subcutaneous_fat"]}
        assert (painter.labels[~painter.body] == 0).all()


def test_a_slightly_tilted_slice_shows_the_same_pelvis() -> None:
    """Catches tables that are read at one height for a whole slice that spans several."""
    build, pelvis = pelvis_patient(1)
    level, tilted = pelvis_slice(build, pelvis, -150), pelvis_slice(build, pelvis, -150, tilt=0.1)
    row = level.labels.shape[0] // 2  # where both lie at the same height
    same = level.labels[row] == tilted.labels[row]
    assert same.mean() > 0.97
    assert (level.labels != tilted.labels).mean() > 0.01
