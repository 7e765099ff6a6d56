"""Organs and the cavity of the pelvis."""

import numpy as np
from pelvis_slices import pelvis_patient

from sarco.anatomy.outline import draw_outline
from sarco.anatomy.paint import SlicePainter
from sarco.pelvis.organs import limit_cavity, pelvic_organs


def test_organs_lie_between_the_hips() -> None:
    """Catches gut in the thighs: below the brim the cavity narrows to the lesser pelvis."""
    for seed in range(4):
        build, pelvis = pelvis_patient(seed)
        outline = draw_outline(build)
        body_from_index = np.array([[0, 2.0, 0, -230], [2.0, 0, 0, -230], [0, 0, 1, -190], [0, 0, 0, 1]])
        painter = SlicePainter((230, 230), body_from_index, build, outline)
        before = painter.cavity.sum()
        limit_cavity(painter, pelvis)
        assert 0 < painter.cavity.sum() < 0.6 * before
        assert np.abs(painter.x[painter.cavity]).max() < 95
        organs = pelvic_organs(build, pelvis, np.random.default_rng(seed))
        assert organs == pelvic_organs(build, pelvis, np.random.default_rng(seed))
        painter.paint(organs)
        assert (painter.labels[painter.depth < 0] == 0).all()
