"""Changes of HU by augmentation: as other scanners, kernels, doses and slices would show the same anatomy."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.augmentation.draws import TEXTURES, Augmentation
from sarco.augmentation.surroundings import add_surroundings, cut_view

SOFT_TISSUE_HU = 50.0
TONE_RANGE_HU = (-300.0, 300.0)  # fat to contrast agent; what lies beyond keeps its HU
_SHARPENED_PX = 1.0  # detail is what a kernel of this standard deviation takes away
# Where the noise of each texture is strongest: cycles per pixel times the square root of 2.
_CUT_OFFS = (0.08, 0.18, 0.45)
_BANK_STEP = 256


def change_appearance(
    hu: NDArray[np.float32], label: NDArray[np.int16], augmentation: Augmentation, pixel_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Everything that happens to a sample but its warp, in the order of a scan: scene, scanner, field of view.

    Args:
        hu: (C, S, S).
        label: (S, S) channel numbers.
        augmentation: what to do.
        pixel_mm: side of a pixel, about.

    Returns:
        New arrays where anything changes; labels change only where metal lies or the view is cut: to background.
    """
    if augmentation.scene:
        hu, label = add_surroundings(hu, label, augmentation, pixel_mm)
    hu = change_hu(hu, augmentation)
    return cut_view(hu, label, augmentation) if "cut" in augmentation.scene else (hu, label)


def change_hu(hu: NDArray[np.float32], augmentation: Augmentation) -> NDArray[np.float32]:
    """Contrast, brightness, tone, neighbours, kernel, resolution and noise.

    All slices of an image change alike; noise is each slice's own.

    Args:
        hu: (C, S, S).
        augmentation: what to do.
    """
    if augmentation.tone_hu != 0.0:
        hu = _change_tone(hu, augmentation.tone_hu)
    if augmentation.gain != 1.0 or augmentation.shift_hu != 0.0:
        offset = SOFT_TISSUE_HU * (1 - augmentation.gain) + augmentation.shift_hu
        hu = hu * np.float32(augmentation.gain)
        hu += np.float32(offset)
    if augmentation.neighbours is not None and len(hu) == 3:
        hu = np.einsum("kc,cij->kij", augmentation.neighbours.astype(np.float32), hu)
    if augmentation.blur_px > 0:
        hu = np.stack([cv2.GaussianBlur(channel, (0, 0), augmentation.blur_px) for channel in hu])
    if augmentation.sharpen > 0:
        share = augmentation.sharpen
        soft = [cv2.GaussianBlur(channel, (0, 0), _SHARPENED_PX) for channel in hu]
        hu = np.stack([cv2.addWeighted(c, 1 + share, s, -share, 0) for c, s in zip(hu, soft, strict=True)])
    if augmentation.coarseness > 1:
        return _coarsen(hu, augmentation)
    return _add_noise(hu, augmentation)


def _change_tone(hu: NDArray[np.float32], tone_hu: float) -> NDArray[np.float32]:
    """A parabola on top: its ends are 0 and its slope is less than 1, so that the order of HU stays."""
    low, high = TONE_RANGE_HU
    share = hu * np.float32(1 / (high - low))
    share += np.float32(low / (low - high))
    np.clip(share, 0, 1, out=share)
    share -= np.square(share)
    share *= np.float32(4 * tone_hu)
    share += hu
    return share


def _coarsen(hu: NDArray[np.float32], augmentation: Augmentation) -> NDArray[np.float32]:
    """Large pixels, with the noise that such pixels have, seen on the fine grid: as a coarse scan is resampled."""
    size = hu.shape[-1]
    small = max(1, round(size / augmentation.coarseness))
    coarse = np.stack([cv2.resize(channel, (small, small), interpolation=cv2.INTER_AREA) for channel in hu])
    coarse = _add_noise(coarse, augmentation)
    return np.stack([cv2.resize(channel, (size, size), interpolation=cv2.INTER_LINEAR) for channel in coarse])


def _add_noise(hu: NDArray[np.float32], augmentation: Augmentation) -> NDArray[np.float32]:
    if augmentation.noise_hu == 0:
        return hu
    rng = np.random.default_rng(augmentation.noise_seed)
    if augmentation.texture is None:
        return hu + np.float32(augmentation.noise_hu) * rng.standard_normal(hu.shape, dtype=np.float32)
    size = hu.shape[-1]
    bank = _noise_bank(-(-size // _BANK_STEP) * _BANK_STEP + _BANK_STEP)
    first = min(int(augmentation.texture), TEXTURES - 2)
    angle = (augmentation.texture - first) * np.pi / 2  # independent noise: squares of shares add up to 1
    shares = augmentation.noise_hu * np.cos(angle), augmentation.noise_hu * np.sin(angle)
    noise = []
    for _ in hu:
        soft, sharp = (_piece(texture, size, rng) for texture in bank[first : first + 2])
        noise.append(cv2.addWeighted(soft, shares[0], sharp, shares[1], 0))
    return hu + np.stack(noise)


def _piece(texture: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    row, column = rng.integers(len(texture) - size + 1, size=2).tolist()
    return texture[row : row + size, column : column + size]


@lru_cache(maxsize=4)
def _noise_bank(side: int) -> NDArray[np.float32]:
    """Noise to cut pieces from, because to draw it anew for every slice would take longer than all else.

    Its power spectrum is a ramp that a kernel ends, f * exp(-(f / cut-off) ** 2): filtered back-projection gives such.
    Source: Riederer, Pelc & Chesler 1978 (Phys Med Biol 23, 446).

    Returns:
        (TEXTURES, side, side), each of standard deviation 1.
    """
    white = np.random.default_rng(0).standard_normal((TEXTURES, side, side), dtype=np.float32)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    bank = np.empty_like(white)
    for out, noise, cut_off in zip(bank, white, _CUT_OFFS, strict=True):
        power = frequency * np.exp(-((frequency / cut_off) ** 2))
        found = np.fft.irfft2(np.fft.rfft2(noise) * np.sqrt(power), s=(side, side))
        out[:] = found / found.std()
    return bank
