"""Whole patients through the whole painter: every label, its side and its level, and nothing left without a label."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sarco.anatomy.build import draw_build
from sarco.anatomy.illness import Illness
from sarco.anatomy.labels import INVENTED_IDS, INVENTED_LABELS, MUSCLE_NAMES, SIDED, VERTEBRAE, ids_of
from sarco.anatomy.paint import SlicePainter
from sarco.examination.setting import SettingDraw
from sarco.phantom.body import Anatomy, draw_anatomy, paint_slice

PIXEL_MM = 2.5
HEIGHTS_MM = np.arange(-235.0, 236.0, 10.0)


def patient(seed: int) -> Anatomy:
    rng = np.random.default_rng(seed)
    return draw_anatomy(draw_build(rng), rng, SettingDraw(), Illness())


def slice_at(anatomy: Anatomy, z_mm: float, pixel_mm: float = PIXEL_MM) -> SlicePainter:
    """A slice square to the body, 500 mm wide, around the axis."""
    n = round(500 / pixel_mm)
    body_from_index = np.eye(4)
    body_from_index[:3, :3] = [[0, pixel_mm, 0], [pixel_mm, 0, 0], [0, 0, 1]]
    body_from_index[:3, 3] = (-(n - 1) / 2 * pixel_mm, -(n - 1) / 2 * pixel_mm, z_mm)
    return paint_slice((n, n), body_from_index, anatomy)


def area_cm2(painter: SlicePainter, *names: str) -> float:
    return float(np.isin(painter.labels, ids_of(names)).sum()) * PIXEL_MM**2 / 100


@pytest.fixture(scope="module")
def tall() -> list[list[SlicePainter]]:
    """Three patients from the hips to the chest, 10 mm between slices."""
    return [[slice_at(anatomy, z) for z in HEIGHTS_MM] for anatomy in map(patient, range(3))]


def z_of(painters: list[SlicePainter], name: str) -> NDArray[np.float64]:
    """The heights of the slices that hold a label."""
    return np.array([z for z, p in zip(HEIGHTS_MM, painters, strict=True) if (p.labels == INVENTED_IDS[name]).any()])


def test_every_label_of_the_table_is_painted(tall: list[list[SlicePainter]]) -> None:
    """Catches a structure that is named and never drawn, or covered by another."""
    for painters in tall:
        found = set(np.unique(np.concatenate([np.unique(p.labels) for p in painters])))
        assert found == {0, *INVENTED_LABELS}, [INVENTED_LABELS[label] for label in set(INVENTED_LABELS) - found]


def test_all_inside_the_skin_is_labelled_and_nothing_outside(tall: list[list[SlicePainter]]) -> None:
    """Catches a hole between structures, and one that sticks out of the skin."""
    for painters in tall:
        for painter in painters:
            assert (painter.labels[painter.body] > 0).all()
            assert not painter.labels[~painter.body].any()


@pytest.mark.parametrize("muscle", SIDED)
def test_left_is_left_for_every_muscle(tall: list[list[SlicePainter]], muscle: str) -> None:
    """Catches swapped sides: x grows to the patient's left."""
    for painters in tall:
        left, right = (
            np.concatenate([p.x[p.labels == INVENTED_IDS[f"{muscle}_{side}"]] for p in painters])
            for side in ("left", "right")
        )
        assert np.median(left) > 10 > -10 > np.median(right)
        assert np.mean(left > -12) > 0.999
        assert np.mean(right < 12) > 0.999
        assert 0.6 < len(left) / len(right) < 1.6


def test_vertebrae_lie_in_their_order(tall: list[list[SlicePainter]]) -> None:
    """Catches a level that is skipped or named twice, and L3 away from the origin."""
    for painters in tall:
        heights = [z_of(painters, f"vertebra_{name}") for name in VERTEBRAE]
        assert all(lower.max() < upper.min() for upper, lower in pairwise(heights))
        assert abs(heights[VERTEBRAE.index("L3")].mean()) <= 10
        assert z_of(painters, "vertebra_other").min() > heights[0].max()
        assert z_of(painters, "sacrum").max() < heights[-1].max()


def test_landmarks_lie_at_their_levels(tall: list[list[SlicePainter]]) -> None:
    """Catches a twelfth rib off T12 to L2, and an iliac crest off L4 (Standring, Gray's Anatomy)."""
    for painters in tall:
        rib, crest = z_of(painters, "rib_12"), z_of(painters, "iliac_crest")
        assert 30 < rib.min() < rib.max() < 140
        assert -75 < crest.max() < -20
        assert z_of(painters, "quadratus_lumborum_left").min() < crest.max() + 15
        assert z_of(painters, "quadratus_lumborum_left").max() > rib.min()


def test_areas_at_l3_are_human() -> None:
    """Catches muscles of a giant or a child: 144 (SD 28) cm2 in healthy men, 92 (19) in women (Derstine 2018)."""
    whole, back, psoas = [], [], []
    for anatomy in map(patient, range(24)):
        painter = slice_at(anatomy, 0.0, PIXEL_MM)
        scale = anatomy.build.scale**2
        whole.append(area_cm2(painter, *MUSCLE_NAMES) * scale)
        back.append(area_cm2(painter, "paraspinal_left", "paraspinal_right") * scale)
        psoas.append(area_cm2(painter, "psoas_left", "psoas_right") * scale)
    assert 105 < np.mean(whole) < 160
    assert min(whole) > 60
    assert max(whole) < 230
    assert 30 < np.mean(back) < 55
    assert 12 < np.mean(psoas) < 24


def test_muscle_along_the_body_is_as_in_a_person() -> None:
    """Catches a muscle at the wrong level: the back narrows towards T10 and the sacrum, the psoas grows downwards."""
    for seed in range(3):
        anatomy = patient(seed)
        t10, t12, l1, l3, s1 = (slice_at(anatomy, z) for z in (165.0, 105.0, 70.0, 0.0, -98.0))
        back = [area_cm2(painter, "paraspinal_left") for painter in (t10, l1, l3, s1)]
        assert back[0] < 0.75 * back[1]
        assert back[3] < 0.6 * back[2]
        psoas = [area_cm2(painter, "psoas_left") for painter in (t12, l1, l3)]
        assert psoas[0] == 0 < psoas[1] < psoas[2]
        chest, belly = area_cm2(t10, "chest_wall_left"), area_cm2(l3, "chest_wall_left")
        assert belly < 0.3 * chest


def test_lungs_lie_over_liver_and_spleen() -> None:
    """Catches a chest without air, and air in the wall."""
    for seed in range(4):
        anatomy = patient(seed)
        high, low = slice_at(anatomy, 225.0), slice_at(anatomy, 10.0)
        air = (high.hu < -600) & high.body
        assert 0.25 < air.sum() / high.body.sum() < 0.8
        assert (high.depth[air] > 5).all()
        assert ((low.hu < -600) & (low.hu > -950) & low.body).sum() < 0.02 * low.body.sum()


def test_diaphragm_and_its_crura_are_not_labelled_as_muscle() -> None:
    """Catches muscle inside the rib cage: everything of the chest wall lies in its outer layers."""
    anatomy = patient(1)
    for z in (120.0, 160.0, 200.0):
        painter = slice_at(anatomy, z)
        wall = np.isin(painter.labels, ids_of(("chest_wall_left", "chest_wall_right")))
        assert (painter.depth[wall] < painter.layers["lining"][wall] + 1).all()


def test_ribs_are_bone_behind_and_cartilage_in_front() -> None:
    """Catches cartilage that is labelled as muscle or bone: it has a HU of its own, and is body."""
    anatomy = patient(2)
    painter = slice_at(anatomy, 105.0)
    wall = (painter.depth > 0) & (painter.depth < painter.layers["lining"])
    rib = wall & (painter.labels == INVENTED_IDS["bone"])
    cartilage = wall & (np.abs(painter.hu - painter.build.cartilage_hu) < 1)
    assert rib.any()
    assert cartilage.any()
    assert (painter.labels[cartilage] == INVENTED_IDS["body"]).all()
    assert np.median(painter.away_deg[cartilage]) < 50 < np.median(painter.away_deg[rib])


def test_fat_inside_a_muscle_belongs_to_it() -> None:
    """Catches streaks of fat that are left out of their compartment, and muscles without any."""
    rng = np.random.default_rng(5)
    build = draw_build(rng)
    lean, fatty = (replace(build, marbling=share, muscle_hu=50.0) for share in (0.02, 0.45))
    shares = []
    for one in (lean, fatty):
        painter = slice_at(draw_anatomy(one, np.random.default_rng(5), SettingDraw(), Illness()), 0.0, 1.0)
        back = np.isin(painter.labels, ids_of(("paraspinal_left", "paraspinal_right")))
        shares.append(np.mean(painter.hu[back] < -30))
    assert 0.01 < shares[0] < 0.15
    assert 0.2 < shares[1] < 0.7


def test_a_tilted_slice_shows_the_same_body() -> None:
    """Catches anatomy that depends on the slice's angle: both see the same labels along the line they share."""
    anatomy = patient(3)
    n = 201
    flat = slice_at(anatomy, 40.0, 500 / n)
    step, tilt = 500 / n, np.radians(12)
    body_from_index = np.eye(4)
    body_from_index[:3, :2] = [[0, step], [step * np.cos(tilt), 0], [step * np.sin(tilt), 0]]
    middle = (n - 1) / 2
    body_from_index[:3, 3] = (-middle * step, -middle * step * np.cos(tilt), 40 - middle * step * np.sin(tilt))
    tilted = paint_slice((n, n), body_from_index, anatomy)
    assert np.mean(flat.labels[100] == tilted.labels[100]) > 0.98


def test_air_lies_over_fluid_in_every_posture() -> None:
    """Catches levels that stay where a supine patient has them: gas is above the fluid of the same gut, by gravity."""
    for posture in ({"lying_deg": 180.0}, {"lying_deg": 180.0, "told": 0.0}, {"lying_deg": 90.0}, {}):
        gap = []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            build = draw_build(rng)
            painter = slice_at(draw_anatomy(build, rng, SettingDraw(**posture), Illness()), 0.0, 1.5)
            gas = ((painter.hu < -900) & painter.body).astype(np.uint8)
            n_bubbles, bubbles, stats, _ = cv2.connectedComponentsWithStats(gas)
            for bubble in range(1, n_bubbles):
                if stats[bubble, cv2.CC_STAT_AREA] > 20:
                    here = bubbles == bubble
                    near = cv2.dilate(here.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
                    fluid = near & (painter.hu > 5) & (painter.hu < 42)
                    if fluid.any():
                        gap.append(painter.level_y[fluid].mean() - painter.level_y[here].mean())
        assert len(gap) > 3
        assert np.mean(np.array(gap) > 0) > 0.6, posture
