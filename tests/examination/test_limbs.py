"""Arms in the picture: where they lie, what they are made of, and that gaps are kept."""

import math

import numpy as np
import pytest
from cylinder_room import SIZE, round_room

from sarco.examination.limbs import limbs_of, paint_limbs
from sarco.examination.setting import Room, SettingDraw


def painted(setting: SettingDraw, along_mm: float = 0.0) -> tuple[np.ndarray, Room]:
    """Arms in air, without the body that is painted over them."""
    hu, room = np.full((SIZE, SIZE), -1000, np.float32), round_room(along_mm)
    paint_limbs(hu, room, setting, 55.0, -100.0)
    return hu, room


def test_arms_up_are_not_there() -> None:
    """Catches arms in every picture."""
    assert not limbs_of(SettingDraw(arms=0))
    assert (painted(SettingDraw(arms=0))[0] == -1000).all()


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_every_kind_has_skin_fat_muscle_and_bone(kind: int) -> None:
    """Catches a tissue that its neighbour covers entirely."""
    hu, _ = painted(SettingDraw(arms=kind))
    for tissue in (25, -100, 55, 950):
        assert (hu == tissue).sum() > 20, tissue


def test_arms_beside_lie_at_the_sides_and_one_arm_on_the_left() -> None:
    """Catches arms in front, and one arm on both sides."""
    hu, room = painted(SettingDraw(arms=1))
    there = hu > -900
    assert there[room.across > 150].any()
    assert there[room.across < -150].any()
    assert not there[np.abs(room.across) < 60].any()
    hu, room = painted(SettingDraw(arms=4))
    assert (hu > -900)[room.across > 0].any()
    assert not (hu > -900)[room.across < 0].any()


@pytest.mark.parametrize("kind", [2, 3])
def test_forearms_and_hands_lie_on_the_belly(kind: int) -> None:
    """Catches a forearm on the back."""
    hu, room = painted(SettingDraw(arms=kind, place_5=0.25, place_6=0.5), along_mm=0.0)
    front = (hu > -900) & (np.abs(room.turn) < math.radians(50))
    assert front.sum() > 200
    assert not ((hu > -900) & (np.abs(room.turn) > math.radians(165))).any()


def test_a_gap_is_kept_and_a_touching_arm_reaches_the_body() -> None:
    """Catches a gap measured to the arm's middle."""
    for gap in (40.0, 0.0, -4.0):
        hu, room = painted(SettingDraw(arms=4, arm_gap_mm=gap, place_1=0.7))
        assert room.beyond[hu > -900].min() == pytest.approx(gap, abs=2.5)


def test_hands_and_forearms_end() -> None:
    """Catches a hand that runs on through the whole series."""
    for kind in (2, 3):
        hu, room = painted(SettingDraw(arms=kind), along_mm=400.0)
        assert not ((hu > -900) & (np.abs(room.turn) < math.radians(60))).any()
