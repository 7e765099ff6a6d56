"""Changes of HU: each does what it says, and none more than that."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from augmented import EVERYTHING, draw, geometry, random_sample
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sarco.augmentation.appearance import SOFT_TISSUE_HU, change_appearance, change_hu
from sarco.augmentation.draws import TEXTURES, TONE_HU, Augmentation
from sarco.core.training_options import AugmentOptions

SEEDS = st.integers(0, 2**31)


def test_contrast_turns_about_soft_tissue() -> None:
    """Catches contrast about 0 HU or air, which shifts muscle along."""
    hu = np.array([[[SOFT_TISSUE_HU, 150.0, -150.0]]], dtype=np.float32)
    stronger = Augmentation(np.eye(2), None, gain=1.05, shift_hu=0.0, noise_hu=0.0, noise_seed=0)
    assert change_hu(hu, stronger) == pytest.approx(np.array([[[50.0, 155.0, -160.0]]]))
    brighter = Augmentation(np.eye(2), None, gain=1.0, shift_hu=-7.5, noise_hu=0.0, noise_seed=0)
    assert change_hu(hu, brighter) == pytest.approx(hu - 7.5)


def test_noise_is_as_strong_as_stated() -> None:
    """Catches noise of another width, noise that is the same on neighbours, and noise that cannot be repeated."""
    noisy = Augmentation(np.eye(2), None, gain=1.0, shift_hu=0.0, noise_hu=12.0, noise_seed=4)
    noise = change_hu(np.full((3, 128, 128), 40.0, np.float32), noisy) - 40
    assert noise.std() == pytest.approx(12, rel=0.02) and noise.mean() == pytest.approx(0, abs=0.3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    assert np.array_equal(noise, change_hu(np.full((3, 128, 128), 40.0, np.float32), noisy) - 40)


def look(**changes: Any) -> Augmentation:
    """A change of appearance and of nothing else."""
    return replace(geometry(np.eye(2)), noise_seed=7, **changes)


def power(image: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in cycles per pixel, and the power of an image at each."""
    spectrum = np.abs(np.fft.fft2(image - image.mean())) ** 2
    return np.hypot(np.fft.fftfreq(len(image))[:, None], np.fft.fftfreq(len(image))[None]), spectrum


def mean_frequency(image: NDArray[np.floating[Any]]) -> float:
    """Where the power of an image lies on average, in cycles per pixel."""
    frequency, spectrum = power(image)
    return float((frequency * spectrum).sum() / spectrum.sum())


@pytest.mark.parametrize("texture", [0.0, 0.6, 1.0, 1.5, 2.0])
def test_noise_with_a_texture_is_as_strong_as_stated(texture: float) -> None:
    """Catches noise that becomes weaker where two textures mix, that is the same on neighbours, or has a mean."""
    plain = np.full((3, 256, 256), 40.0, np.float32)
    noise = change_hu(plain, look(noise_hu=20.0, texture=texture)) - 40
    assert noise.std() == pytest.approx(20, rel=0.08) and noise.mean() == pytest.approx(0, abs=1)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.15
    assert np.array_equal(noise, change_hu(plain, look(noise_hu=20.0, texture=texture)) - 40)


def test_noise_of_a_sharp_kernel_is_finer_and_none_is_white() -> None:
    """Catches white noise, which no kernel leaves: a ramp lets the lowest frequencies out, a kernel the highest."""
    plain = np.zeros((1, 256, 256), np.float32)
    found = [change_hu(plain, look(noise_hu=20.0, texture=float(texture)))[0] for texture in range(TEXTURES)]
    frequencies = [mean_frequency(noise) for noise in found]
    assert frequencies == sorted(frequencies) and frequencies[0] < 0.12 and frequencies[-1] > 0.25
    for noise in found:
        frequency, spectrum = power(noise)
        assert spectrum[(frequency < 0.015) & (frequency > 0)].mean() < 0.5 * spectrum.max()


def checker(period: int, size: int = 96) -> NDArray[np.float32]:
    """(1, S, S), stripes of +-100 HU that repeat after so many pixels."""
    wave = 100 * np.sin(2 * np.pi * np.arange(size) / period)
    return np.tile(wave.astype(np.float32), (size, 1))[None]


def middle(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image without its border."""
    return hu[..., 16:-16, 16:-16]


@pytest.mark.parametrize("change", [{"coarseness": 3.0}, {"blur_px": 1.5}])
def test_soft_and_coarse_images_lose_fine_detail_only(change: dict[str, float]) -> None:
    """Catches low resolution and blur that leave detail behind, or that take whole organs."""
    fine, wide = checker(4), checker(48)
    assert middle(change_hu(fine, look(**change))).std() < 0.35 * middle(fine).std()
    assert middle(change_hu(wide, look(**change))).std() > 0.85 * middle(wide).std()


def test_coarse_images_do_not_move() -> None:
    """Catches half a pixel of shift between the image and its label map, which stays."""
    disc = np.zeros((1, 96, 96), np.float32)
    rows, columns = np.mgrid[:96, :96]
    disc[0][np.hypot(rows - 40.3, columns - 52.8) < 20] = 100
    before = np.array([(disc[0] * rows).sum(), (disc[0] * columns).sum()]) / disc.sum()
    for coarseness in (1.3, 2.0, 3.7):
        coarse = change_hu(disc, look(coarseness=coarseness))[0]
        after = np.array([(coarse * rows).sum(), (coarse * columns).sum()]) / coarse.sum()
        assert np.abs(after - before).max() < 0.05


def test_a_sharp_kernel_adds_detail_and_overshoots() -> None:
    """Catches a sharp kernel that blurs."""
    assert middle(change_hu(checker(6), look(sharpen=0.8))).std() > 1.3 * middle(checker(6)).std()
    edge = np.zeros((1, 64, 64), np.float32)
    edge[..., 32:] = 100
    found = change_hu(edge, look(sharpen=0.8))
    assert found.max() > 105 and found.min() < -5


@pytest.mark.parametrize("tone_hu", [-TONE_HU, 12.0, TONE_HU])
def test_tone_bends_the_middle_and_keeps_order_and_ends(tone_hu: float) -> None:
    """Catches fat that becomes brighter than muscle, and air or bone that change."""
    hu = np.arange(-1024, 3072, dtype=np.float32)[None, None]
    found = change_hu(hu, look(tone_hu=tone_hu))
    assert (np.diff(found) > 0).all()
    beyond = (hu <= -300) | (hu >= 300)
    assert np.allclose(found[beyond], hu[beyond], atol=1e-3)
    assert found[hu == 0] == pytest.approx(tone_hu, abs=1e-3)


def test_neighbours_mix_as_told() -> None:
    """Catches a middle slice that is not the one labelled, and two-dimensional images that fail."""
    hu = np.stack([np.full((8, 8), value, np.float32) for value in (0, 100, 400)])
    apart = np.array([[1.5, -0.5, 0], [0, 1, 0], [0, -0.5, 1.5]])
    assert change_hu(hu, look(neighbours=apart))[:, 0, 0] == pytest.approx([-50, 100, 550])
    thick = np.array([[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0, 0.25, 0.75]])
    assert change_hu(hu, look(neighbours=thick))[:, 0, 0] == pytest.approx([25, 150, 325])
    assert np.array_equal(change_hu(hu[:1], look(neighbours=thick)), hu[:1])


def test_every_kind_of_neighbours_comes() -> None:
    """Catches a thick slice, a repeated one, or one at the end of a series that is never drawn."""
    found = [draw(seed, AugmentOptions(aug_prob=1.0)).neighbours for seed in range(60)]
    drawn = [matrix for matrix in found if matrix is not None]
    assert all(np.allclose(matrix.sum(axis=1), 1) for matrix in drawn)
    assert any(matrix[1, 1] < 1 for matrix in drawn) and any(np.array_equal(m[:, 1], [1, 1, 1]) for m in drawn)
    assert any((matrix[0, 1] == 1) != (matrix[2, 1] == 1) for matrix in drawn)


@given(SEEDS)
def test_hu_stay_numbers_within_the_range_of_a_scan(seed: int) -> None:
    """Catches overflow and values that are no numbers, whatever comes together."""
    hu, label = random_sample(seed, channels=3)
    hu[:, :10] = -1024
    hu[:, 20:24, 20:24] = 3071
    found, labels = change_appearance(hu, label, draw(seed, EVERYTHING), 1.5)
    assert np.isfinite(found).all() and np.abs(found).max() < 2**15 and found.dtype == np.float32
    assert labels.dtype == label.dtype and set(np.unique(labels)) <= {-1, 0, 1, 2, 3}


@given(SEEDS)
def test_what_was_prepared_stays_as_it_is(seed: int) -> None:
    """Catches a cache that is painted over."""
    hu, label = random_sample(seed, channels=3)
    before = hu.copy(), label.copy()
    change_appearance(hu, label, draw(seed, EVERYTHING), 1.5)
    assert np.array_equal(hu, before[0]) and np.array_equal(label, before[1])
