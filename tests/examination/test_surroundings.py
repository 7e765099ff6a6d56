"""Couch, covers and devices: where they lie, and what they leave alone."""

import numpy as np
import pytest
from cylinder_room import RADIUS, SIZE, round_room

from sarco.examination.setting import Extent, Room, SettingDraw
from sarco.examination.surroundings import paint_around, paint_couch, paint_covers, paint_devices, paint_on_skin

NOTHING = SettingDraw(couch=0)


def couch(setting: SettingDraw) -> tuple[np.ndarray, Room]:
    """A couch in air."""
    hu, room = np.full((SIZE, SIZE), -1000, np.float32), round_room()
    paint_couch(hu, room, setting, RADIUS)
    return hu, room


def on_body(setting: SettingDraw, paint: str, along_mm: float = 0.0) -> tuple[np.ndarray, Room]:
    """What is painted on or into a body of water."""
    room = round_room(along_mm)
    hu = np.where(room.beyond < 0, 0, -1000).astype(np.float32)
    if paint == "skin":
        paint_on_skin(hu, room, setting)
    elif paint == "covers":
        paint_covers(hu, room, setting, RADIUS, RADIUS)
    else:
        paint_devices(hu, room, setting)
    return hu, room


def test_without_anything_nothing_is_painted() -> None:
    """Catches a couch, covers or devices that are always there."""
    assert (couch(NOTHING)[0] == -1000).all()
    for paint in ("skin", "covers", "devices"):
        hu, room = on_body(NOTHING, paint)
        np.testing.assert_array_equal(hu == 0, room.beyond < 0)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_couch_lies_under_the_body_and_is_as_wide_as_said(kind: int) -> None:
    """Catches a couch through the body, and a width that is not used."""
    for width in (400.0, 500.0):
        hu, room = couch(SettingDraw(couch=kind, couch_width_mm=width, couch_radius_mm=900, couch_gap_mm=6))
        there = hu > -1000
        assert room.down[there & (np.abs(room.across) < 4)].min() == pytest.approx(RADIUS + 6, abs=2)
        assert np.ptp(room.across[there]) == pytest.approx(width, abs=12)


def test_only_curved_couches_are_curved() -> None:
    """Catches kinds that look alike."""
    edge = []
    for kind in (1, 2):
        hu, room = couch(SettingDraw(couch=kind, couch_radius_mm=500, couch_width_mm=440))
        edge.append(room.down[(hu > -1000) & (np.abs(room.across) > 190)].min())
    assert edge[0] == pytest.approx(RADIUS, abs=2)
    assert RADIUS - edge[1] == pytest.approx(200**2 / 1000, abs=8)


def test_a_mattress_lies_between_body_and_couch() -> None:
    """Catches a mattress under the couch."""
    hu, room = couch(SettingDraw(couch=1, mattress_mm=30, mattress_hu=-900))
    column = hu[:, SIZE // 2]
    down = room.down[:, SIZE // 2]
    assert down[column == -900].min() == pytest.approx(RADIUS, abs=4)
    assert down[column == 100].min() == pytest.approx(RADIUS + 30, abs=2)


def test_rails_are_of_metal_below_the_top() -> None:
    """Catches rails beside the body."""
    hu, room = couch(SettingDraw(couch=1, rails=2000))
    assert (hu == 2000).sum() > 20
    assert room.down[hu == 2000].min() > RADIUS + 30


def test_covers_hang_over_the_body_and_not_under_it() -> None:
    """Catches blankets below the back, and layers that are not counted."""
    counts = []
    for blankets in (1, 4):
        hu, room = on_body(SettingDraw(blankets=blankets), "covers")
        cloth = (hu != -1000) & (room.beyond > 2)
        counts.append(cloth.sum())
        assert cloth[room.down < -RADIUS].any()
        assert not cloth[(room.down > 0) & (np.abs(room.across) < 0.9 * RADIUS)].any()
    assert counts[1] > 2 * counts[0]


def test_folds_fill_the_share_that_was_drawn() -> None:
    """Catches crumpled cloth in the body's place or none at all."""
    share = []
    for folds in (0.04, 0.16):
        hu, room = on_body(SettingDraw(folds=folds), "covers")
        space = (room.beyond > 2) & (np.abs(room.across) < RADIUS + 100) & (np.abs(room.down) < 0.5 * RADIUS)
        share.append((hu[space] > -1000).mean())
    assert 0.01 < share[0] < share[1] < 0.5


def test_what_lies_on_the_skin_lies_there() -> None:
    """Catches leads in the air, and tubes inside the body."""
    hu, room = on_body(SettingDraw(leads=4, tubes=2), "skin")
    outside = (hu > -990) & (room.beyond >= 0)
    assert outside.sum() > 15
    assert room.beyond[outside].max() < 18
    hidden = hu.copy()
    hidden[room.beyond < 0] = 0  # the body is painted afterwards
    assert (hidden[room.beyond < 0] == 0).all()


def test_a_bag_holds_gas_over_its_content_on_the_front() -> None:
    """Catches fluid over gas, and a bag on the back or through the whole series."""
    hu, room = on_body(SettingDraw(bag_mm=40, place_6=0.2, place_7=0.5), "skin", along_mm=-60.0)
    bag = (room.beyond > 2) & (room.beyond < 40) & (hu > -1000)
    gas, content = bag & (hu == -990), bag & (hu > -100)
    assert gas.sum() > 30
    assert content.sum() > 30
    assert room.down[gas].mean() < room.down[content].mean()
    assert room.across[bag].max() < 0, "an ileostomy lies on the right"
    assert np.abs(room.turn[bag]).max() < np.pi / 2 + 0.2
    hu, room = on_body(SettingDraw(bag_mm=40), "skin", along_mm=200.0)
    assert (hu[room.beyond > 0] == -1000).all()


def test_a_drain_is_a_tube_that_ends_inside() -> None:
    """Catches a drain without a lumen, or one through the whole body."""
    hu, room = on_body(SettingDraw(drain_mm=5, place_1=0.2), "devices", along_mm=0.0)
    wall, lumen = hu == 300, hu == 8
    assert wall.sum() > 40
    assert lumen.sum() > 10
    assert room.beyond[wall].min() > -90
    assert room.beyond[wall].max() > 0
    assert (on_body(SettingDraw(drain_mm=5), "devices", along_mm=150.0)[0] == 300).sum() == 0


def test_a_device_lies_in_the_fat_under_the_skin() -> None:
    """Catches a pump outside the body, or one of another size than drawn."""
    hu, room = on_body(SettingDraw(device_mm=30), "devices", along_mm=0.0)
    case = hu > 2500
    assert -20 < room.beyond[case].min() < room.beyond[case].max() < -3
    assert np.ptp(room.arc(float(room.turn[case].mean()))[case]) == pytest.approx(60, abs=6)


def test_everything_around_is_painted_by_one_call() -> None:
    """Catches a part that is drawn but left out."""
    setting = SettingDraw(couch=1, blankets=2, arms=1, leads=2, couch_hu=101)
    hu, room = np.full((SIZE, SIZE), -1000, np.float32), round_room()
    paint_around(hu, room, setting, Extent(RADIUS, RADIUS, RADIUS), 55.0, -100.0)
    for part in (101, setting.blanket_hu, 55, 1800):
        assert (hu == part).any(), part
