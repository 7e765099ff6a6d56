"""Line integrals and what goes wrong along lines, against closed formulas."""

import numpy as np
import pytest

from sarco.examination.projections import (
    ANGLES,
    SIDE,
    WATER_PER_MM,
    Grid,
    dense_artefacts,
    enlarge,
    path_noise,
    project,
    reconstruct,
    shrink,
)


def ellipse(shape: tuple[int, int], half: tuple[float, float], centre: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A mask in pixels around the middle of an image: (down, across)."""
    row, column = (np.arange(n) - (n - 1) / 2 - c for n, c in zip(shape, centre, strict=True))
    return (row[:, None] / half[0]) ** 2 + (column[None, :] / half[1]) ** 2 < 1


def body(shape: tuple[int, int] = (160, 160), half: tuple[float, float] = (45, 70)) -> Grid:
    """Water in air."""
    return np.where(ellipse(shape, half), 0, -1000).astype(np.float32)


def test_a_line_through_a_disc_is_as_long_as_its_chord() -> None:
    """Catches projections off centre, in pixels instead of mm, or of another angle than said."""
    disc = ellipse((SIDE, SIDE), (24, 24), (6, -9)).astype(np.float32)
    lines = project(disc, 2.0, ANGLES)
    turn = np.pi * np.arange(ANGLES) / ANGLES
    offset = 9 * np.cos(turn) + 6 * np.sin(turn)  # of the disc's middle from the grid's, along the detector
    for sign in (1, -1):  # which way round the angles run is free
        place = (SIDE - 1) / 2 - offset if sign > 0 else (SIDE - 1) / 2 - (9 * np.cos(turn) - 6 * np.sin(turn))
        middle = (lines * np.arange(SIDE)).sum(axis=1) / lines.sum(axis=1)
        if np.abs(middle - place).max() < 0.2:
            break
    else:
        pytest.fail("the disc's shadow is not where the disc is")
    assert lines.max(axis=1) == pytest.approx(2 * 24 * 2.0, rel=0.03)


def test_filtered_back_projection_gives_the_image_back() -> None:
    """Catches a wrong scale or a turned image: artefacts would have the wrong size, or lie elsewhere."""
    image = ellipse((SIDE, SIDE), (30, 40)).astype(np.float32) + ellipse((SIDE, SIDE), (6, 6), (8, -15))
    back = reconstruct(project(image, 1.5, ANGLES), 1.5)
    inside = ellipse((SIDE, SIDE), (4, 4), (8, -15)), ellipse((SIDE, SIDE), (6, 6), (-10, 15))
    assert back[inside[0]].mean() == pytest.approx(2, abs=0.12)
    assert back[inside[1]].mean() == pytest.approx(1, abs=0.06)
    assert back[~ellipse((SIDE, SIDE), (34, 44))].mean() == pytest.approx(0, abs=0.09)


@pytest.mark.parametrize("shape", [(100, 160), (160, 100), (96, 96), (70, 70)])
def test_the_coarse_grid_lies_on_the_slice(shape: tuple[int, int]) -> None:
    """Catches artefacts that are shifted against what causes them, by half a pixel or on slices that are not square."""
    spacing = (2.0, 1.5)
    hu = np.where(ellipse(shape, (15, 18), (9, -12)), 500, -1000).astype(np.float32)
    square, pixel_mm = shrink(hu, spacing, SIDE)
    back = enlarge(square, shape, spacing, pixel_mm)
    for axis in (0, 1):
        centre = [np.average(np.arange(shape[axis]), weights=(x + 1000).sum(axis=1 - axis)) for x in (hu, back)]
        assert centre[0] == pytest.approx(centre[1], abs=0.35)


def test_noise_behind_300_mm_of_water_is_1() -> None:
    """Catches a noise map that is not calibrated."""
    water = body((160, 160), (75, 75))  # 2 mm pixels: a disc of 300 mm
    relative, _ = path_noise(water, (2.0, 2.0), 0.0)
    assert relative[75:85, 75:85].mean() == pytest.approx(1, abs=0.05)


def test_noise_follows_the_path() -> None:
    """Catches noise that is the same in all patients and places: it grows with the path as exp(path / 2)."""
    thin, thick = (path_noise(body(half=(radius, radius)), (2.0, 2.0), 0.0)[0] for radius in (50, 70))
    assert thick[80, 80] / thin[80, 80] == pytest.approx(np.exp(WATER_PER_MM * 80 / 2), rel=0.08)
    assert thick[80, 80] > 1.5 * thick[80, 14]
    even = path_noise(body(half=(70, 70)), (2.0, 2.0), 1.0)[0]
    assert even[80, 80] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("half", "across"), [((45, 70), True), ((70, 45), False)])
def test_the_longest_path_is_known(half: tuple[float, float], across: bool) -> None:
    """Catches streaks across the short side of a body."""
    assert path_noise(body(half=half), (2.0, 2.0), 0.0)[1] is across


def test_a_dark_band_lies_between_two_bones_and_grows_with_hardening() -> None:
    """Catches beam hardening that brightens, or lies elsewhere than between what is dense."""
    hu = body()
    for side in (-22, 22):
        hu[ellipse(hu.shape, (7, 7), (6, side))] = 900
    rng = np.random.default_rng(0)
    between, beside = (slice(83, 90), slice(70, 90)), (slice(55, 62), slice(70, 90))
    band = [dense_artefacts(hu, (2.0, 2.0), hardening, 0.01, rng)[between].mean() for hardening in (0.2, 0.8)]
    assert band[1] < 2 * band[0] < 0
    elsewhere = dense_artefacts(hu, (2.0, 2.0), 0.8, 0.01, rng)[beside].mean()
    assert abs(elsewhere) < 0.35 * abs(band[1])
    assert -90 < band[1] < -10


def test_nothing_dense_nothing_wrong() -> None:
    """Catches artefacts in soft tissue alone."""
    assert np.abs(dense_artefacts(body(), (2.0, 2.0), 0.25, 0.01, np.random.default_rng(0))).max() == 0


def test_metal_streaks() -> None:
    """Catches metal without streaks, and streaks that do not fade with the distance."""
    hu = body()
    hu[ellipse(hu.shape, (6, 6), (10, 20))] = 20000
    wrong = dense_artefacts(hu, (2.0, 2.0), 0.1, 0.005, np.random.default_rng(0))
    near = ellipse(hu.shape, (16, 16), (10, 20)) & ~ellipse(hu.shape, (9, 9), (10, 20))
    far = ellipse(hu.shape, (45, 70)) & ~ellipse(hu.shape, (60, 60), (10, 20))
    assert wrong[near].std() > 60
    assert 5 < wrong[far].std() < 0.6 * wrong[near].std()
