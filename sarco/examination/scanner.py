"""What a scanner makes of a painted slice: resolution, noise, faults of the beam and of motion, and what is stored.

Everything is drawn once for a series (`draw_scanner`) and applied slice by slice (`expose`). Nothing here moves a
structure, so labels stay what they were painted as: membership of the voxel centres in the slice's middle plane, also
where the slice is thick. (A majority over the slab would differ only where a surface bends within a slice.)

Noise of real scanners, standard deviation in calm 16x16 blocks after a quadratic trend, and correlation of neighbours:
9 HU and 0.3 (253 mAs, 3 mm, Br38 iterative, 0.98 mm), 8 HU and 0.4 (80 mA, 140 kV, 5 mm, soft, 0.98 mm), 14 HU and 0.4
(200 mAs, 5 mm, standard, 0.68 mm), 25 HU and 0.3 (1.25 mm, standard, 0.81 mm), 13 HU and 0.1 (resampled to 3 mm). Their
power peaks at 0.13 to 0.26 per mm. The ranges below hold all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.examination.projections import LEAST_METAL_HU, Grid, dense_artefacts, path_noise
from sarco.examination.variation import Variation, among, draw_all

_FAULTS = ("enhancement", "streaks", "hardening", "motion_mm", "circle", "window_width", "tilt_deg")
# Attenuation relative to that at 120 kV: of iodine and bone (10.1186/s41747-020-00184-z: 90 % more at 70 kV;
# 10.1155/2012/150980: 35 % more at 100 kV, 35 % less at 140 kV, here both halved for bone's sake), and of fat's
# distance from water (the latter paper's oil moves by 13 %; adipose tissue is one fifth water).
_KV = (70.0, 80.0, 100.0, 120.0, 140.0)
_DENSE_AT_KV = (1.9, 1.6, 1.25, 1.0, 0.85)
_FAT_AT_KV = (1.25, 1.18, 1.08, 1.0, 0.94)

SCANNER: dict[str, Variation] = {
    "kv": among(120, 120, 120, 100, 100, 140, 80, 70, source="stations of today's tubes; 120 is the commonest"),
    "mas": Variation(5, 300, log=True, source="5 to 10 attenuation CT of PET, 20 to 60 low dose, 100 to 250 abdomen"),
    "modulation": Variation(0, 0.9, source="tube current modulation, from none to nearly full"),
    "blur_mm": Variation(
        0.3, 1.0, log=True, source="Gaussian point spread, 10.1118/1.595706; FWHM 0.7 mm (lung) to 2.4 mm (soft)"
    ),
    "enhancement": Variation(0.1, 1.0, chance=0.35, source="overshoot at edges, as sharp kernels have it"),
    "iterative": Variation(0.3, 1.0, chance=0.5, absent=1.0, source="iterative reconstruction takes up to 70 %"),
    "thickness_mm": Variation(0.6, 10, log=True),
    "planes": among(1, 1, 3, 5, source="cost: a plane is painted anew; thin slices need one"),
    "streaks": Variation(0.1, 0.7, chance=0.3, source="share of noise that runs along the longest path, at low dose"),
    "hardening": Variation(0.15, 0.9, chance=0.15, source="makes bands of 5 to 40 HU between the hips"),
    "noise_index": Variation(5, 80, log=True, source="noise that a protocol allows at most: 10 to 25 HU in abdomen"),
    "metal": Variation(0.001, 0.05, log=True, source="photons that seem to arrive behind a prosthesis"),
    "motion_mm": Variation(1, 8, chance=0.1, source="breathing moves the abdomen by about 10 mm, in part of a turn"),
    "motion_deg": Variation(-90, 90),
    "circle": Variation(0.8, 1.1, chance=0.2, absent=9.0, source="share of the slice's larger side"),
    "padding_hu": among(-1024, -1024, -2000, -3024, -1000, 0, source="-2000, -3024 by GE, Philips; 0 without a tag"),
    "rim_hu": Variation(30, 300, chance=0.4, source="cupping where the body leaves the circle"),
    "window_width": Variation(350, 2000, chance=0.06, log=True, source="8-bit pictures of common windows"),
    "window_centre": Variation(0, 80),
    "jpeg_quality": Variation(15, 95, chance=0.6, source="of those; PACS exports, teaching files"),
    "tilt_deg": Variation(-25, 25, chance=0.07, source="gantries tilt by up to 30 degrees"),
}  # fmt: skip
# An ordinary abdominal CT of one hospital, for data on which other things are shown than a network's robustness.
ORDINARY_SCANNER = SCANNER | {
    "kv": among(120),
    "mas": Variation(80, 200),
    "blur_mm": Variation(0.5, 0.85),
    "noise_index": Variation(6, 13),
    "thickness_mm": Variation(2, 5),
    "planes": among(1),
    **{name: replace(SCANNER[name], chance=0.0) for name in _FAULTS},
}
_REFERENCE_HU = (
    12.0  # noise behind 300 mm of water: 120 kV, 100 mAs, 3 mm, _REFERENCE_BLUR_MM, filtered back projection
)
_REFERENCE_BLUR_MM = 0.65


@dataclass(frozen=True)
class ScannerDraw:
    """One scanner's settings for a series; fields are those of `SCANNER`.

    Attributes:
        kv: tube voltage in kV; painted HU are those at 120.
        mas: tube current times time in mAs.
        modulation: how far the current follows the patient's attenuation, 0..1.
        blur_mm: standard deviation of the kernel's point spread in mm.
        enhancement: overshoot of the kernel: this share of a wider blur is taken away from a sharper one.
        iterative: noise relative to filtered back projection, 0..1.
        thickness_mm: slice thickness.
        planes: how many planes are averaged over it; the middle one holds the labels.
        streaks: share of the noise that runs along the longest path.
        hardening: loss of attenuation of dense paths.
        noise_index: the noise behind 300 mm of water that automatic exposure does not exceed, in HU.
        metal: least share of photons behind metal.
        motion_mm: how far the body moved.
        motion_deg: in which direction, from across the image to down.
        circle: diameter of what was reconstructed, relative to the slice's larger side.
        padding_hu: what stands outside of it.
        rim_hu: what the body has too much at the circle.
        window_width: width of the window that 8 bits hold, 0 for whole HU.
        window_centre: its centre in HU.
        jpeg_quality: of those 8 bits, 0 for none.
        tilt_deg: of the gantry, top towards the feet.
    """

    kv: float = 120.0
    mas: float = 100.0
    modulation: float = 0.5
    blur_mm: float = 0.65
    enhancement: float = 0.0
    iterative: float = 1.0
    thickness_mm: float = 3.0
    planes: float = 1
    streaks: float = 0.0
    hardening: float = 0.0
    noise_index: float = 80.0
    metal: float = 0.01
    motion_mm: float = 0.0
    motion_deg: float = 0.0
    circle: float = 9.0
    padding_hu: float = -1024
    rim_hu: float = 0.0
    window_width: float = 0.0
    window_centre: float = 40.0
    jpeg_quality: float = 0.0
    tilt_deg: float = 0.0

    @property
    def noise_hu(self) -> float:
        """Standard deviation of the noise behind 300 mm of water: by dose, voltage, thickness and kernel.

        Photons rise with the current and about the square of the voltage or more; the noise of filtered back
        projection with the power of the kernel, the integral of its f^2 MTF^2 over frequency f.
        """
        photons = self.mas / 100 * (self.kv / 120) ** 2.4 * self.thickness_mm / 3
        kernel = math.sqrt(_kernel_power(self.blur_mm, self.enhancement) / _kernel_power(_REFERENCE_BLUR_MM, 0))
        return min(_REFERENCE_HU * self.iterative * kernel / math.sqrt(photons), self.noise_index)

    def plane_offsets_mm(self) -> NDArray[np.float64]:
        """Where the planes lie along the slice's normal, from its middle: centres of equal slabs; (planes,), odd."""
        n_planes = int(self.planes) if self.thickness_mm > 1.5 else 1
        return self.thickness_mm * ((np.arange(n_planes) + 0.5) / n_planes - 0.5)


def draw_scanner(rng: np.random.Generator, table: Mapping[str, Variation] = SCANNER) -> ScannerDraw:
    """A scanner from the whole range, or from another table; the same state of `rng` gives the same."""
    return ScannerDraw(**draw_all(table, rng))


def expose(
    planes: list[Grid], spacing_mm: tuple[float, float], draw: ScannerDraw, rng: np.random.Generator
) -> NDArray[np.int16]:
    """A slice as it is stored.

    Args:
        planes: (row, column) float32 HU at 120 kV, painted at `plane_offsets_mm`; left as they are. Metal has more
            than `LEAST_METAL_HU`.
        spacing_mm: distance of rows and of columns.
        draw: the scanner.
        rng: source of this slice's noise.

    Returns:
        (row, column) HU.
    """
    hu = _at_kv(mean_of(planes), draw.kv)
    if draw.hardening or (hu > LEAST_METAL_HU).any():
        hu = hu + dense_artefacts(hu, spacing_mm, draw.hardening, draw.metal, rng)
    if draw.motion_mm:
        hu = _moved(hu, spacing_mm, draw.motion_mm, draw.motion_deg)
    relative, across = path_noise(hu, spacing_mm, draw.modulation)
    noise = kernel_noise(hu.shape, spacing_mm, draw, rng)
    if draw.streaks:
        along = _streak_noise(hu.shape, spacing_mm, across, rng)
        noise = math.sqrt(1 - draw.streaks**2) * noise + np.float32(draw.streaks) * along
    image = seen_by_kernel(hu, spacing_mm, draw) + relative * np.float32(draw.noise_hu) * noise
    if draw.rim_hu and draw.circle < math.sqrt(2):
        image = image + _rim(image, spacing_mm, draw)
    stored = np.rint(image).clip(-1024, 3071)
    if draw.circle < math.sqrt(2):
        np.copyto(stored, np.float32(draw.padding_hu), where=_inside_mm(hu.shape, spacing_mm, draw.circle) < 0)
    return _reduced(stored, draw).astype(np.int16)


def mean_of(planes: list[Grid]) -> Grid:
    """True partial volume: the mean of the planes through a slice."""
    if len(planes) == 1:
        return planes[0]
    return np.mean(planes, axis=0, dtype=np.float32)


def _at_kv(hu: Grid, kv: float) -> Grid:
    """HU at another tube voltage: iodine, calcium and fat change, water and muscle hardly."""
    if kv == 120:
        return hu
    dense = np.float32(np.interp(kv, _KV, _DENSE_AT_KV) - 1)
    fat = np.float32(np.interp(kv, _KV, _FAT_AT_KV) - 1)
    fatty = np.clip(hu, -120, -10) + 10
    airy = np.clip(hu, -1000, -200) + 200  # from lung to air water is missing, not replaced
    changed = hu + dense * np.maximum(hu - 70, 0) + fat * (fatty - np.float32(110 / 800) * airy)
    return changed.astype(np.float32, copy=False)


def seen_by_kernel(hu: Grid, spacing_mm: tuple[float, float], draw: ScannerDraw) -> Grid:
    """The slice through the kernel's point spread and the pixel's own area; its sum is unchanged."""
    image = _blurred(hu, spacing_mm, draw.blur_mm)
    if draw.enhancement:
        image += np.float32(draw.enhancement) * (image - _blurred(hu, spacing_mm, 2.0 * draw.blur_mm))
    return image


def _blurred(hu: Grid, spacing_mm: tuple[float, float], blur_mm: float) -> Grid:
    down, across = (math.hypot(blur_mm / spacing, 0.45) for spacing in spacing_mm)  # a pixel averages over its area
    return cv2.GaussianBlur(hu, (0, 0), sigmaX=across, sigmaY=down)


def _transfer(frequency: NDArray[np.floating], blur_mm: float, enhancement: float) -> NDArray[np.floating]:
    """The kernel's MTF over frequency in 1/mm."""
    square = -2 * (math.pi * blur_mm * frequency) ** 2
    sharp = np.exp(square)
    return sharp + enhancement * (sharp - sharp**4) if enhancement else sharp


def _kernel_power(blur_mm: float, enhancement: float) -> float:
    """The variance that a kernel leaves of a line's noise, up to a constant: the integral of (f MTF)^2."""
    frequency = np.linspace(0, 4, 800)
    return float(np.sum((frequency * _transfer(frequency, blur_mm, enhancement)) ** 2))


def kernel_noise(
    shape: tuple[int, int], spacing_mm: tuple[float, float], draw: ScannerDraw, rng: np.random.Generator
) -> Grid:
    """Noise of unit variance with the texture of filtered back projection."""
    blur_mm = draw.blur_mm / math.sqrt(draw.iterative)  # iterative noise is coarser
    white = cv2.dft(rng.standard_normal(shape, dtype=np.float32), flags=cv2.DFT_COMPLEX_OUTPUT)
    white *= _noise_spectrum(shape, spacing_mm, blur_mm, draw.enhancement)[..., None]
    noise: Grid = cv2.idft(white, flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    return noise


@lru_cache(maxsize=2)
def _noise_spectrum(
    shape: tuple[int, int], spacing_mm: tuple[float, float], blur_mm: float, enhancement: float
) -> Grid:
    """Amplitude of the noise by frequency, mean square 1: power f MTF(f)^2, and a floor.

    What a coarse grid cannot hold of it folds back: there the noise is nearly white, as it is in real slices.
    """
    down = np.fft.fftfreq(shape[0], spacing_mm[0]).astype(np.float32)[:, None]
    right = np.fft.fftfreq(shape[1], spacing_mm[1]).astype(np.float32)[None, :]
    frequency = np.sqrt(down * down + right * right)
    power = (frequency + np.float32(0.02)) * _transfer(frequency, blur_mm, enhancement) ** 2
    fine = np.linspace(0, 4, 400)
    whole = fine * (fine + 0.02) * _transfer(fine, blur_mm, enhancement) ** 2
    folded = float(whole[fine > 0.5 / max(spacing_mm)].sum() / whole.sum())
    amplitude: Grid = np.sqrt((1 - folded) * power / power.mean() + folded).astype(np.float32)
    return amplitude


def _streak_noise(
    shape: tuple[int, int], spacing_mm: tuple[float, float], across: bool, rng: np.random.Generator
) -> Grid:
    """Noise of unit variance that a few starved directions share: long one way, fine the other."""
    long_px, fine_px = 22 / spacing_mm[across], 0.8 / spacing_mm[not across]
    sigma = (long_px, fine_px) if across else (fine_px, long_px)
    noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), sigmaX=sigma[0], sigmaY=sigma[1])
    return noise / np.float32(max(float(noise.std()), 1e-6))


def _moved(hu: Grid, spacing_mm: tuple[float, float], motion_mm: float, motion_deg: float) -> Grid:
    """Ghosts on both sides of every edge along one direction, and a blur between them; balanced, so nothing shifts."""
    turn = math.radians(motion_deg)
    step = np.array([math.sin(turn) / spacing_mm[0], math.cos(turn) / spacing_mm[1]]) * motion_mm
    reach = np.ceil(np.abs(step)).astype(int) + 1
    kernel = np.zeros(2 * reach + 1, np.float32)
    for place, weight in ((0.0, 0.55), (0.33, 0.05), (0.66, 0.05), (1.0, 0.125)):
        for sign in (-1, 1):
            row, column = reach + sign * place * step
            r, c = int(row), int(column)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (1 - abs(row - r - i)) * (1 - abs(column - c - j))
                if share > 0:
                    kernel[r + i, c + j] += weight * share
    kernel /= kernel.sum()
    return cv2.filter2D(hu, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)


def _inside_mm(shape: tuple[int, int], spacing_mm: tuple[float, float], circle: float) -> Grid:
    """How far each pixel lies inside the circle of reconstruction, negative outside."""
    size_mm = [n * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    down, right = (
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(mm) for n, mm in zip(shape, spacing_mm, strict=True)
    )
    return np.float32(circle * max(size_mm) / 2) - np.sqrt(down[:, None] ** 2 + right[None, :] ** 2)


def _rim(image: Grid, spacing_mm: tuple[float, float], draw: ScannerDraw) -> Grid:
    """What a body that reaches beyond the circle has too much along it."""
    inside_mm = _inside_mm(image.shape, spacing_mm, draw.circle)
    return np.float32(draw.rim_hu) * np.exp(-np.abs(inside_mm) / 8) * (image > -400)


def _reduced(hu: Grid, draw: ScannerDraw) -> Grid:
    """What is left of HU in a picture of 8 bits, and in a lossy one."""
    if not draw.window_width:
        return hu
    low = draw.window_centre - draw.window_width / 2
    grey = np.rint((hu - low) * (255 / draw.window_width)).clip(0, 255).astype(np.uint8)
    if draw.jpeg_quality:
        _, packed = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(draw.jpeg_quality)])
        grey = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
    return np.rint(grey.astype(np.float32) * np.float32(draw.window_width / 255) + np.float32(low))
