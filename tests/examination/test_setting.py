"""Posture and room: which way is down, how a body gives way, where pixels lie."""

import math

import numpy as np
import pytest

from sarco.examination.setting import (
    ORDINARY_SETTING,
    Room,
    SettingDraw,
    draw_setting,
    extent_of,
    room_axes,
    sagged,
    window_of,
)

TURN = np.linspace(-math.pi, math.pi, 720, endpoint=False)


def at(values: np.ndarray, degrees: float) -> float:
    """The value of a table around the body at a direction, 0 the front, 90 the left."""
    return float(values[int((degrees + 180) % 360 * 2)])


@pytest.mark.parametrize("told", [0, 1])
@pytest.mark.parametrize(("lying", "direction"), [(0, 180), (90, 90), (180, 0), (-90, -90)])
def test_the_side_that_lies_down_is_lowest(lying: float, direction: float, told: int) -> None:
    """Catches postures that turn the wrong way, or turn both the body and gravity."""
    setting = SettingDraw(lying_deg=lying, told=told)
    difference = math.degrees(setting.down_in_body_rad) - direction
    assert (difference + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
    # The same through the image: a point of the body on that side, turned as the body is, lies down.
    turn = math.radians(setting.body_turn_deg)
    x, y = math.sin(math.radians(direction)), -math.cos(math.radians(direction))
    image = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    across, down = room_axes(setting.gravity_deg) @ image
    assert (across, down) == pytest.approx((0, 1), abs=1e-9)


def test_a_told_posture_leaves_the_body_upright_in_the_image() -> None:
    """Catches a prone patient whose header is right and whose image is turned all the same."""
    assert SettingDraw(lying_deg=180, told=1, roll_deg=3).body_turn_deg == 3
    assert SettingDraw(lying_deg=180, told=0, roll_deg=3).body_turn_deg == 183
    assert SettingDraw(lying_deg=180, told=0).gravity_deg == 0


def test_room_axes_are_a_rotation() -> None:
    """Catches a mirrored room."""
    for degrees in (0, 33, 90, 180, -90):
        axes = room_axes(degrees)
        np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)


@pytest.mark.parametrize(("lying", "direction"), [(0, 180), (90, 90), (180, 0), (-90, -90)])
def test_fat_is_flat_below_and_thick_beside(lying: float, direction: float) -> None:
    """Catches fat that sags towards the ceiling, or does not follow the posture."""
    _, fat = sagged(TURN, np.full(720, 130.0), np.full(720, 30.0), SettingDraw(lying_deg=lying, sag=1.0))
    assert at(fat, direction) < 18
    assert at(fat, direction + 180) < 27
    for side in (-70, 70):
        assert at(fat, direction + side) > 33
    assert fat.min() >= 2.5


def test_softness_is_the_amount() -> None:
    """Catches a body that gives way whatever was drawn, and skin that is pressed away."""
    radius, fat = np.full(720, 130.0), np.full(720, 30.0)
    for same, changed in zip((radius, fat), sagged(TURN, radius, fat, SettingDraw(sag=0.0)), strict=True):
        np.testing.assert_allclose(same, changed)
    assert sagged(TURN, radius, np.full(720, 2.5), SettingDraw(sag=1.0))[1].min() == 2.5


def test_the_belly_falls_and_the_back_keeps_its_outline() -> None:
    """Catches muscles of the back that sag, and a belly that falls upwards on the side."""
    radius, fat = np.full(720, 130.0), np.full(720, 30.0)
    for lying in (0, 90, 180):
        new, _ = sagged(TURN, radius, fat, SettingDraw(lying_deg=lying, sag=1.0))
        assert at(new, 180) == at(new, 150) == 130
        assert np.abs(new / 130 - 1).max() < 0.08
    new, _ = sagged(TURN, radius, fat, SettingDraw(lying_deg=90, sag=1.0))
    assert at(new, 45) > 130 > at(new, -45)


def test_an_arc_is_a_length_around_the_body() -> None:
    """Catches arcs that jump where directions start again, at the back."""
    turn = np.radians(np.array([[170, 179, -179, -170, 90, 0]], np.float32))
    flat = np.zeros_like(turn)
    room = Room(flat, flat, flat, flat, turn, np.full_like(turn, 100))
    expected = np.radians([-10, -1, 1, 10, -90, 180]) * 100
    arc = room.arc(math.pi)[0]
    np.testing.assert_allclose(arc[:5], expected[:5], atol=1e-3)
    assert abs(arc[5]) == pytest.approx(100 * math.pi, abs=1e-3)


def test_a_window_holds_its_mask_alone() -> None:
    """Catches a window that cuts its mask or is larger than it, and one of nothing."""
    mask = np.zeros((9, 7), bool)
    mask[2, 3] = mask[5, 1] = True
    assert window_of(mask) == (slice(2, 6), slice(1, 4))
    assert mask[window_of(np.zeros_like(mask))].size == 0


def test_places_differ() -> None:
    """Catches things that lie on top of each other because they share a place."""
    setting = SettingDraw(**{f"place_{n}": n / 8 for n in range(8)})
    places = [setting.place(n) for n in range(24)]
    assert len({round(place, 6) for place in places}) == 24
    assert all(0 <= place < 1 for place in places)


def test_the_narrower_view_holds() -> None:
    """Catches a cut body that is shown whole."""
    assert SettingDraw(view=1.4, view_cut=0.7).shown == 0.7
    assert SettingDraw(view=1.4).shown == 1.4


@pytest.mark.parametrize(
    ("lying", "low", "high", "half"), [(0, 90, 110, 150), (180, 110, 90, 150), (90, 150, 150, 110)]
)
def test_an_extent_follows_the_posture(lying: float, low: float, high: float, half: float) -> None:
    """Catches a couch at the back of a patient who lies on the belly or on a side."""
    x, y = 150 * np.sin(TURN), -np.where(np.cos(TURN) > 0, 110, 90) * np.cos(TURN)
    for told in (0, 1):
        extent = extent_of(x, y, SettingDraw(lying_deg=lying, told=told))
        assert (extent.low_mm, extent.high_mm, extent.half_width_mm) == pytest.approx((low, high, half), abs=0.1)


def test_an_ordinary_examination_shows_the_whole_supine_body() -> None:
    """Catches rare postures, cut views and devices in data that shows other things than robustness."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        setting = draw_setting(rng, ORDINARY_SETTING)
        assert setting.lying_deg == setting.hips == setting.bag_mm == 0
        assert setting.shown > 1
