"""What illness does to a patient's slices, and that it never becomes muscle."""

from dataclasses import fields

import numpy as np
import pytest

from sarco.anatomy.build import draw_build
from sarco.anatomy.illness import HEALTHY, ILLNESS, Illness, draw_illness
from sarco.anatomy.labels import INVENTED_IDS, MUSCLE_NAMES
from sarco.anatomy.paint import SlicePainter
from sarco.examination.setting import SettingDraw
from sarco.phantom.body import draw_anatomy, paint_slice

FAT = INVENTED_IDS["visceral_fat"]


def slice_of(illness: Illness, z_mm: float = 0.0, seed: int = 4) -> SlicePainter:
    """A slice of one patient with this illness, 2 mm pixels."""
    build_rng, organ_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    anatomy = draw_anatomy(draw_build(build_rng), organ_rng, SettingDraw(), illness)
    body_from_index = np.eye(4)
    body_from_index[:3, :3] = [[0, 2, 0], [2, 0, 0], [0, 0, 1]]
    body_from_index[:3, 3] = -240, -240, z_mm
    return paint_slice((241, 241), body_from_index, anatomy)


def test_a_healthy_table_draws_nobody_ill() -> None:
    """Catches a field that the healthy table leaves to chance, and one that the table does not know."""
    assert set(ILLNESS) == {field.name for field in fields(Illness)}
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = draw_illness(rng, HEALTHY)
        none = (drawn.ascites, drawn.oedema, drawn.cysts, drawn.masses, drawn.lost_kidney, drawn.stoma, drawn.hernia_mm)
        assert none == (0,) * 7
        assert drawn.aneurysm == 1
    assert any(draw_illness(rng).ascites for _ in range(200))


@pytest.mark.parametrize(
    ("illness", "z_mm"),
    [
        (Illness(ascites=1.0), 0.0),
        (Illness(oedema=1.0), 0.0),
        (Illness(cysts=8), 60.0),
        (Illness(masses=6, mass_mm=25.0), 20.0),
        (Illness(aneurysm=3.0), 10.0),
        (Illness(lost_kidney=1), 40.0),
    ],
)
def test_illness_changes_the_slice_and_adds_no_muscle(illness: Illness, z_mm: float) -> None:
    """Catches an illness that is drawn and never painted, and one that a label calls muscle."""
    ill, healthy = slice_of(illness, z_mm), slice_of(Illness(), z_mm)
    changed = ill.hu != healthy.hu
    assert changed.sum() > 100
    muscles = [INVENTED_IDS[name] for name in MUSCLE_NAMES]
    assert not (np.isin(ill.labels, muscles) & ~np.isin(healthy.labels, muscles)).any()


def test_fluid_takes_the_place_of_visceral_fat_alone() -> None:
    """Catches ascites that flows into muscle, organs or the fat under the skin."""
    ill, healthy = slice_of(Illness(ascites=1.0, ascites_hu=12.0)), slice_of(Illness())
    fluid = (ill.labels == INVENTED_IDS["body"]) & (healthy.labels == FAT)
    assert fluid.sum() * 0.04 > 20  # cm2
    assert (ill.labels[~fluid] == healthy.labels[~fluid]).all()


def test_a_lost_kidney_is_lost_on_its_side() -> None:
    """Catches left taken for right: the other side stays as it was."""
    for lost in (1, -1):
        ill, healthy = slice_of(Illness(lost_kidney=lost), 40.0), slice_of(Illness(), 40.0)
        changed = ill.hu != healthy.hu
        assert changed[ill.left].any() == (lost == 1)
        assert changed[~ill.left].any() == (lost == -1)


def test_a_stoma_makes_a_hole_in_its_rectus() -> None:
    """Catches gut that ends behind the wall, and muscle labelled where there is none."""
    for side, name in ((1, "left"), (-1, "right")):
        ill, healthy = slice_of(Illness(stoma=side), -15.0), slice_of(Illness(), -15.0)
        rectus = INVENTED_IDS[f"rectus_abdominis_{name}"]
        assert (ill.labels == rectus).sum() < 0.9 * (healthy.labels == rectus).sum()
        gone = (healthy.labels == rectus) & (ill.labels != rectus)
        assert (ill.labels[gone] == INVENTED_IDS["body"]).all()


def test_a_hernia_lies_outside_the_wall() -> None:
    """Catches a sac that is hidden behind the muscles."""
    illness = Illness(hernia_mm=30.0, place=0.75)
    ill, healthy = slice_of(illness, 0.0), slice_of(Illness(), 0.0)
    sac = (ill.labels == FAT) & (healthy.labels == INVENTED_IDS["subcutaneous_fat"])
    assert sac.any()
    assert (ill.depth[sac] < 0).all()
