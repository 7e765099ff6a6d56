"""What a scanner makes of a slice, effect by effect and in numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sarco.examination.projections import Grid
from sarco.examination.scanner import ORDINARY_SCANNER, ScannerDraw, draw_scanner, expose, kernel_noise, seen_by_kernel

QUIET = ScannerDraw(mas=1e9)
PIXEL = (1.0, 1.0)
SIDE = 128


def disc(radius: float = 20.0, hu: float = 60.0, around: float = -100.0, centre: tuple[float, float] = (5, -8)) -> Grid:
    """A sphere's section with soft edges, in mm around the middle."""
    row, column = (np.arange(SIDE) - (SIDE - 1) / 2 - c for c in centre)
    share = np.clip(radius + 0.5 - np.hypot(row[:, None], column[None, :]), 0, 1)
    return (around + (hu - around) * share).astype(np.float32)


def water(side: int = SIDE, hu: float = 40.0) -> Grid:
    """A slice of nothing but soft tissue."""
    return np.full((side, side), hu, np.float32)


def measured(hu: Grid, draw: ScannerDraw, seed: int = 0) -> np.ndarray:
    """The exposed slice of one plane."""
    return expose([hu], PIXEL, draw, np.random.default_rng(seed)).astype(np.float64)


EFFECTS = {
    "quiet": QUIET,
    "noise": ScannerDraw(),
    "soft": replace(QUIET, blur_mm=1.0),
    "lung": replace(QUIET, blur_mm=0.3, enhancement=1.0),
    "low dose": ScannerDraw(mas=10, noise_index=60, streaks=0.6),
    "voltage": replace(QUIET, kv=80),
    "motion": replace(QUIET, motion_mm=7.3, motion_deg=33),
    "motion down": replace(QUIET, motion_mm=5, motion_deg=-90),
    "hardening": replace(QUIET, hardening=0.8),
    "circle": replace(QUIET, circle=0.9, rim_hu=200, padding_hu=-3024),
    "8 bits": replace(QUIET, window_width=400),
    "lossy": replace(QUIET, window_width=400, jpeg_quality=30),
}


@pytest.mark.parametrize("effect", EFFECTS)
def test_nothing_moves(effect: str) -> None:
    """Catches a structure that leaves its label: the weighted centre of a disc stays where it was painted."""
    painted = disc()
    shown = np.mean([measured(painted, EFFECTS[effect], seed) for seed in range(6)], axis=0)
    base = np.median(shown[painted < -99])
    shown = (shown - base)[40:96, 28:84]
    weight = np.where(np.abs(shown) > 40, shown, 0)
    row, column = np.arange(40, 96), np.arange(28, 84)
    centre = np.average(row, weights=weight.sum(axis=1)), np.average(column, weights=weight.sum(axis=0))
    assert centre == pytest.approx((63.5 + 5, 63.5 - 8), abs=0.1)


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_same_draw_gives_the_same_bytes_and_leaves_its_planes(effect: str) -> None:
    """Catches randomness from elsewhere, and a slice that changes what the next one is made of."""
    painted = disc()
    before = painted.copy()
    assert measured(painted, EFFECTS[effect]).tobytes() == measured(painted, EFFECTS[effect]).tobytes()
    np.testing.assert_array_equal(painted, before)


def test_partial_volume_is_the_mean_of_the_planes() -> None:
    """Catches a thick slice that is blurred instead of averaged."""
    planes = [disc(radius=r) for r in (12, 20, 26)]
    mean = np.mean(planes, axis=0).astype(np.float32)
    draw = replace(QUIET, thickness_mm=10, planes=3)
    both = (expose(stack, PIXEL, draw, np.random.default_rng(0)) for stack in (planes, [mean]))
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    ("thickness", "planes", "places"), [(10, 5, (-4, -2, 0, 2, 4)), (6, 3, (-2, 0, 2)), (1, 5, (0,))]
)
def test_planes_share_the_slab_and_the_middle_one_is_the_label(
    thickness: float, planes: int, places: tuple[float, ...]
) -> None:
    """Catches planes outside the slab, and a slab without a plane where its labels are painted."""
    assert ScannerDraw(thickness_mm=thickness, planes=planes).plane_offsets_mm() == pytest.approx(places)


def test_every_draw_has_a_middle_plane() -> None:
    """Catches an even number of planes."""
    rng = np.random.default_rng(0)
    offsets = [draw_scanner(rng).plane_offsets_mm() for _ in range(200)]
    assert all(planes[len(planes) // 2] == pytest.approx(0) for planes in offsets)
    assert {len(planes) for planes in offsets} == {1, 3, 5}


@pytest.mark.parametrize(
    ("change", "factor"),
    [({"mas": 25.0}, 2.0), ({"thickness_mm": 12.0}, 0.5), ({"iterative": 0.5}, 0.5), ({"kv": 140.0}, 0.83)],
)
def test_noise_follows_the_square_root_of_dose(change: dict[str, float], factor: float) -> None:
    """Catches noise that ignores dose, thickness, voltage or reconstruction."""
    plain, changed = ScannerDraw(modulation=1.0), replace(ScannerDraw(modulation=1.0), **change)
    ratio = measured(water(), changed).std() / measured(water(), plain).std()
    assert ratio == pytest.approx(factor, rel=0.06)


def test_automatic_exposure_caps_noise() -> None:
    """Catches slices in which nothing can be seen: 5 mAs, 0.6 mm and a lung kernel would give 1000 HU."""
    loud = ScannerDraw(mas=5, thickness_mm=0.6, blur_mm=0.3, enhancement=1.0, noise_index=25, modulation=1.0)
    assert measured(water(), loud).std() == pytest.approx(25, rel=0.06)


def test_a_sharper_kernel_is_noisier() -> None:
    """Catches noise that does not pay for resolution: it goes with the blur to the power of -3/2."""
    sharp, soft = (ScannerDraw(blur_mm=blur).noise_hu for blur in (0.4, 0.8))
    assert sharp / soft == pytest.approx(2**1.5, rel=0.02)
    assert ScannerDraw(enhancement=0.8).noise_hu > 1.3 * ScannerDraw().noise_hu


@pytest.mark.parametrize("blur_mm", [0.5, 1.0])
def test_an_edge_is_as_wide_as_the_kernel(blur_mm: float) -> None:
    """Catches blur in pixels instead of mm: from 16 to 84 % an edge takes two standard deviations of the spread."""
    spacing = 0.25
    edge = np.zeros((64, 256), np.float32)
    edge[:, 128:] = 100
    line = seen_by_kernel(edge, (spacing, spacing), ScannerDraw(blur_mm=blur_mm))[32]
    width = (np.interp(84.1, line, np.arange(256)) - np.interp(15.9, line, np.arange(256))) * spacing
    assert width == pytest.approx(2 * math.hypot(blur_mm, 0.45 * spacing), rel=0.02)


def test_enhancement_overshoots_and_keeps_the_sum() -> None:
    """Catches edge enhancement that changes the HU of flat tissue."""
    painted = disc()
    plain, sharp = (seen_by_kernel(painted, PIXEL, ScannerDraw(enhancement=share)) for share in (0.0, 0.8))
    assert sharp.max() > plain.max() + 5
    assert sharp.min() < plain.min() - 5
    assert sharp.mean() == pytest.approx(float(painted.mean()), abs=0.02)


def correlation(noise: Grid, axis: int, step: int = 1) -> float:
    """Of pixels with their neighbours."""
    first, second = np.moveaxis(noise, axis, 0)[:-step], np.moveaxis(noise, axis, 0)[step:]
    return float((first * second).mean() / noise.var())


def test_noise_has_the_kernel_s_texture() -> None:
    """Catches white noise: its power peaks between low and high frequencies, and further down for a soft kernel."""
    peaks = []
    for blur_mm in (0.4, 0.9):
        noise = kernel_noise((256, 256), (0.8, 0.8), ScannerDraw(blur_mm=blur_mm), np.random.default_rng(0))
        assert noise.std() == pytest.approx(1, abs=0.04)
        power = np.abs(np.fft.fft2(noise)) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256, 0.8), np.fft.fftfreq(256, 0.8)))
        ring = [power[(frequency >= low) & (frequency < low + 0.05)].mean() for low in np.arange(0.01, 0.6, 0.05)]
        peaks.append(0.035 + 0.05 * int(np.argmax(ring)))
        assert ring[0] < 0.7 * max(ring)
    assert peaks[0] > peaks[1]
    assert 0.1 < peaks[1] < 0.25  # 0.13 to 0.26 per mm in real abdomens


def test_drawn_noise_covers_real_scanners() -> None:
    """Catches ranges that miss what was measured on real slices (see `sarco.examination.scanner`)."""
    rng = np.random.default_rng(0)
    draws = [draw_scanner(rng) for _ in range(400)]
    level = np.array([draw.noise_hu for draw in draws])
    assert np.quantile(level, 0.15) < 8
    assert np.quantile(level, 0.75) > 25
    neighbours = [correlation(kernel_noise((96, 96), (0.8, 0.8), draw, rng), 1) for draw in draws[:60]]
    assert np.quantile(neighbours, 0.2) < 0.3
    assert np.quantile(neighbours, 0.8) > 0.6
    coarse = kernel_noise((128, 128), (3.0, 3.0), ScannerDraw(), rng)
    assert abs(correlation(coarse, 1)) < 0.2  # 0.0 to 0.2 in slices of 3 mm pixels


def test_streaks_run_along_the_longest_path() -> None:
    """Catches streak noise of the wrong direction."""
    wide = np.full((SIDE, SIDE), -1000, np.float32)
    wide[44:84, 4:124] = 40
    for hu, along in ((wide, 1), (np.ascontiguousarray(wide.T), 0)):
        noise = measured(hu, ScannerDraw(mas=10, streaks=0.6))[50:78, 50:78]
        noise -= noise.mean()
        assert correlation(noise, along, 4) > 0.1 + correlation(noise, 1 - along, 4)


def test_voltage_moves_iodine_and_fat_but_not_muscle() -> None:
    """Catches contrast that does not depend on kV, and muscle that does. Sources stand beside the numbers."""
    tissues = {"air": -1000.0, "lung": -800.0, "fat": -105.0, "muscle": 55.0, "iodine": 270.0}
    at = {
        kv: {name: np.median(measured(water(hu=hu), replace(QUIET, kv=kv))) for name, hu in tissues.items()}
        for kv in (70, 100, 120, 140)
    }
    assert at[120] == pytest.approx(tissues, abs=0.6)
    assert at[70]["iodine"] - 70 == pytest.approx(1.9 * 200, abs=3)
    assert at[140]["iodine"] < at[120]["iodine"] < at[100]["iodine"]
    assert at[70]["fat"] < at[100]["fat"] < at[120]["fat"] < at[140]["fat"]
    for kv in (70, 100, 140):
        assert at[kv]["muscle"] == pytest.approx(55, abs=1)
        assert at[kv]["air"] == pytest.approx(-1000, abs=1)
        assert at[kv]["lung"] == pytest.approx(-800, abs=10)


@pytest.mark.parametrize("padding", [-1024, -2000, -3024, 0])
def test_padding_lies_outside_the_circle_only(padding: float) -> None:
    """Catches padding inside, and image outside."""
    plain = measured(water(), ScannerDraw())
    cut = measured(water(), ScannerDraw(circle=0.9, padding_hu=padding))
    radius = np.hypot(*np.meshgrid(np.arange(SIDE) - 63.5, np.arange(SIDE) - 63.5))
    outside = radius > 0.9 * SIDE / 2
    assert np.all(cut[outside] == padding)
    np.testing.assert_array_equal(cut[~outside], plain[~outside])


def test_a_body_beyond_the_circle_is_bright_at_its_rim() -> None:
    """Catches a rim in air, or one that reaches the middle."""
    rim = measured(water(), replace(QUIET, circle=0.9, rim_hu=200)) - measured(water(), replace(QUIET, circle=0.9))
    assert rim[63, 63 + 56] > 120
    assert abs(rim[64, 64]) <= 1
    air = measured(water(hu=-1000), replace(QUIET, circle=0.9, rim_hu=200))
    assert air.max() < -990


def test_eight_bits_keep_a_window_alone() -> None:
    """Catches quantised pictures with more than 256 values or values outside their window."""
    ramp = np.linspace(-1000, 1000, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    shown = measured(ramp, replace(QUIET, window_width=400, window_centre=40))
    assert shown.min() == -160
    assert shown.max() == 240
    assert len(np.unique(shown)) <= 256
    inside = np.abs(ramp - 40) < 150
    assert np.abs(shown - ramp)[inside].max() < 14  # the ramp's own blur, and half a grey level


def test_lossy_pictures_lose_more_at_lower_quality() -> None:
    """Catches a quality that is not used."""
    scene = disc() + 30 * np.sin(np.arange(SIDE, dtype=np.float32) / 3)
    windowed = replace(QUIET, window_width=400)
    exact = measured(scene, windowed)
    loss = [np.abs(measured(scene, replace(windowed, jpeg_quality=q)) - exact).mean() for q in (15, 90)]
    assert loss[0] > 2 * loss[1] > 0


def test_motion_makes_ghosts_along_its_direction() -> None:
    """Catches motion across its direction, or none."""
    painted = disc(radius=10)
    moved = measured(painted, replace(QUIET, motion_mm=6, motion_deg=0)) - measured(painted, QUIET)
    spread = [np.abs(moved).sum(axis=axis).nonzero()[0] for axis in (1, 0)]
    assert np.ptp(spread[1]) > np.ptp(spread[0]) + 8
    assert abs(moved.sum()) < 0.01 * np.abs(moved).sum()


def test_hu_stay_within_12_bits() -> None:
    """Catches values that a stored slice cannot hold: metal, and noise of air below -1024."""
    hu = water(hu=-1000)
    hu[60:70, 60:70] = 8000
    shown = expose([hu], PIXEL, ScannerDraw(mas=5), np.random.default_rng(0))
    assert shown.dtype == np.int16
    assert (shown.min(), shown.max()) == (-1024, 3071)


def test_an_ordinary_scanner_has_no_faults() -> None:
    """Catches streaks, padding or 8 bits in data that shows other things than robustness."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        draw = draw_scanner(rng, ORDINARY_SCANNER)
        assert draw.hardening == draw.motion_mm == draw.window_width == draw.tilt_deg == draw.streaks == 0
        assert draw.circle > 2
        assert 2 < draw.noise_hu <= 13
