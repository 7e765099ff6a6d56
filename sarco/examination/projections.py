"""Line integrals through a slice and back: noise that follows the path, bands between bones, streaks of metal.

A scanner sees a slice along lines. Lines through hips or metal carry few photons or hardened ones, and what is wrong
with a line is wrong all along it. So these faults are made where they arise: in the line integrals.
The grids are square, `SIDE` pixels, cover the larger side of the slice and share its middle.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]

# Attenuation of water per mm at the mean energy of a 120 kV beam, about 70 keV (NIST XCOM: 0.193/cm).
WATER_PER_MM = 0.0193
DENSE_HU = 200.0  # what lies above hardens the beam more than water does
LEAST_METAL_HU = 2500.0  # above every bone; titanium has about 10000, cobalt-chrome 30000, though 3071 are stored
_MAP_SIDE, _MAP_ANGLES = 48, 24
SIDE, ANGLES = 96, 72


def shrink(hu: Grid, spacing_mm: tuple[float, float], side: int) -> tuple[Grid, float]:
    """A slice on a square grid of `side` pixels around its middle; air beyond it.

    Returns:
        (side, side) HU, and its pixel size in mm.
    """
    rows, columns = hu.shape
    pixel_mm = max(rows * spacing_mm[0], columns * spacing_mm[1]) / side
    size = [max(round(n * mm / pixel_mm), 1) for n, mm in zip((rows, columns), spacing_mm, strict=True)]
    small = cv2.resize(hu, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    square = np.full((side, side), -1000, np.float32)
    square[top : top + size[0], left : left + size[1]] = small
    return square, pixel_mm


def enlarge(square: Grid, shape: tuple[int, int], spacing_mm: tuple[float, float], pixel_mm: float) -> Grid:
    """What was computed on the grid of `shrink`, on the slice's own pixels again."""
    side = square.shape[0]
    size = [max(round(n * mm / pixel_mm), 1) for n, mm in zip(shape, spacing_mm, strict=True)]
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    part = square[top : top + size[0], left : left + size[1]]
    return cv2.resize(part, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=4)
def _turns(side: int, angles: int) -> tuple[NDArray[np.float64], ...]:
    """2x3 matrices that turn a square grid about its middle, one for each direction over half a turn."""
    middle = ((side - 1) / 2, (side - 1) / 2)
    return tuple(cv2.getRotationMatrix2D(middle, 180 * k / angles, 1.0) for k in range(angles))


def project(square: Grid, pixel_mm: float, angles: int) -> Grid:
    """Line integrals (angle, place) of a square image per mm; at angle 0 the lines run along the columns."""
    size = square.shape
    lines = [cv2.reduce(cv2.warpAffine(square, turn, size), 0, cv2.REDUCE_SUM) for turn in _turns(size[0], angles)]
    return np.concatenate(lines).astype(np.float32) * np.float32(pixel_mm)


def back_project(lines: Grid) -> Grid:
    """The mean over all lines through each pixel: (place, place) of (angle, place)."""
    angles, side = lines.shape
    total = np.zeros((side, side), np.float32)
    for line, turn in zip(lines, _turns(side, angles), strict=True):
        smeared = np.ascontiguousarray(np.broadcast_to(line, (side, side)))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        total += cv2.warpAffine(smeared, turn, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return total / np.float32(angles)


def reconstruct(lines: Grid, pixel_mm: float) -> Grid:
    """The image of line integrals: filtered back projection with a ramp that is rounded off at the finest detail."""
    side = lines.shape[1]
    frequency = np.fft.rfftfreq(2 * side, pixel_mm)
    ramp = frequency * np.cos(math.pi * frequency * pixel_mm / 2)
    filtered = np.fft.irfft(np.fft.rfft(lines, 2 * side, axis=1) * ramp, axis=1)[:, :side]
    return np.float32(math.pi) * back_project(filtered.astype(np.float32))


def path_noise(hu: Grid, spacing_mm: tuple[float, float], modulation: float) -> tuple[Grid, bool]:
    """How noisy each pixel is, by what the beams through it have to pass.

    The variance of a line is that of counted photons, exp(attenuation); a pixel has the mean of its lines.

    Args:
        hu: (row, column) the slice.
        spacing_mm: distance of rows and of columns.
        modulation: how far the tube's current follows the attenuation: 0 not at all, 1 until noise is the same for all.

    Returns:
        (row, column) standard deviation relative to the centre of 300 mm of water, and whether the noisiest lines run
        across the image rather than down; across where both are alike, for a cut view hides a body's width.

    Source: 10.2967/jnmt.106.037846 (Goldman 2007) for noise against dose and thickness.
    """
    square, pixel_mm = shrink(hu, spacing_mm, _MAP_SIDE)
    path = project(np.maximum(square, -1000) * np.float32(WATER_PER_MM / 1000) + np.float32(WATER_PER_MM), pixel_mm, 24)
    excess = np.clip((1 - modulation) * (path - WATER_PER_MM * 300), -6, 5)
    variance = np.exp(excess)
    across = variance[_MAP_ANGLES // 4 : 3 * _MAP_ANGLES // 4].max() > 0.6 * variance.max()
    relative = np.sqrt(back_project(variance))
    return enlarge(relative, hu.shape, spacing_mm, pixel_mm), bool(across)


def dense_artefacts(
    hu: Grid, spacing_mm: tuple[float, float], hardening: float, metal: float, rng: np.random.Generator
) -> Grid:
    """What hardened and starved beams add to a slice, in HU: dark bands between dense bones, streaks around metal.

    Args:
        hu: (row, column) the slice.
        spacing_mm: distance of rows and of columns.
        hardening: share of a dense path's attenuation that is lost per unit of it.
        metal: least share of photons that still seem to arrive behind metal; scatter, less is worse.
        rng: source of the starved lines' noise.
    """
    square, pixel_mm = shrink(np.clip(hu, -1000, 30000), spacing_mm, SIDE)
    dense = np.maximum(square - DENSE_HU, 0) * np.float32(WATER_PER_MM / 1000)
    lines = project(dense, pixel_mm, ANGLES)
    seen = lines - hardening * lines**2 / (1 + lines)
    if (hu > LEAST_METAL_HU).any():
        arrived = np.exp(-seen) + metal
        starved = rng.standard_normal(lines.shape, dtype=np.float32) * np.minimum(0.004 / arrived, 0.3)
        seen = -np.log(arrived / (1 + metal)) + np.where(lines > 1, starved, 0)
    wrong = reconstruct((seen - lines).astype(np.float32), pixel_mm) * np.float32(1000 / WATER_PER_MM)
    return enlarge(wrong.clip(-900, 900), hu.shape, spacing_mm, pixel_mm)
