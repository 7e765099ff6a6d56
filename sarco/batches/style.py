"""The style of real slices, lent to invented ones: where fat and muscle lie in HU, and how the noise looks.

A style is measured on what the network sees, a slice on the run's crop, so that sizes of pixels need no thought. It
needs no labels, and no pixel is kept. What is lent is a map of HU that never changes their order, so that labels stay
right, and noise.

Soft tissue is measured in the hindmost fifth of the trunk: there it is muscle in nearly everybody, where the rest is
liver in one slice and bowel in the next. On labelled slices of two people its median lies within 2 HU of the muscle's
peak; that of all soft tissue lies up to 40 HU above it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sarco.augmentation.appearance import change_hu
from sarco.augmentation.draws import TEXTURES, Augmentation
from sarco.core.errors import InputError, SarcoError
from sarco.core.messages import count_of
from sarco.crop.body import find_body
from sarco.crop.grid import Placement
from sarco.io.images import find_images, read_hu
from sarco.scan.series import Series, SliceHeader, pick_evenly

# The other half stays as painted: a folder shows one scanner or a few, and a network has to know others too.
LENT_SHARE = 0.5
MOST_LENDERS = 64  # slices of all series together; they are measured at the start of every run
FAT_HU, SOFT_HU = (-190.0, -50.0), (0.0, 160.0)  # what is measured; between them lie pixels that hold some of both
QUANTILES = (0.25, 0.5, 0.75)
FIXED_HU = (-300.0, -30.0, 400.0)  # the skin's edge, the border of both tissues, dense bone; what is beyond stays too
# Quartiles spread or draw together by this much at most: what differs more is another organ, or noise.
MOST_GAIN = 1.25
_HIND_SHARE = 0.2
_LEAST_GAP_HU = 0.5  # between quartiles
_LEAST_PIXELS = 20  # of fat and of soft tissue; of fewer, quartiles say nothing
_EDGE_PX = 3  # a median over this takes most of the noise away and leaves edges where they are
_BLOCK_PX = 6  # a side; small, because on coarse pixels fat lies between all organs
_CALM_SHARE = 0.1  # of the blocks in soft tissue; in most of the others lie edges
_CALM_SHARE_OF_NOISE = 0.25  # of those blocks that hold nothing but noise, to measure as much
_LEAST_BLOCKS = 10
_CALM_HU = (-10.0, 160.0)  # mean of a block
_TEXTURES = np.linspace(0.5, TEXTURES - 1, 7)  # softer noise looks like a trend in a block
_FIELD_MM = 400.0  # about what an image shows, where the size of its pixels depends on the patient


@dataclass(frozen=True)
class Style:
    """What a slice looks like to the network.

    Attributes:
        fat_hu: `QUANTILES` of fat, in HU without noise.
        soft_hu: likewise of soft tissue at the back.
        noise_hu: standard deviation in calm blocks.
        correlation: of neighbouring pixels there.
    """

    fat_hu: tuple[float, ...]
    soft_hu: tuple[float, ...]
    noise_hu: float
    correlation: float


def find_styles(folder: Path, crop_size: tuple[int, float | None]) -> tuple[tuple[Style, ...], str]:
    """The styles of up to `MOST_LENDERS` slices, evenly spread over all series in a folder.

    Args:
        folder: holds axial CT, as DICOM or NIfTI, without labels.
        crop_size: pixels a side of what the network sees, and the size of one in mm or None.

    Returns:
        The styles, and a line for the user that says what there was.

    Raises:
        InputError: there is no CT, it cannot be read, or no slice shows enough of a body.
    """
    try:
        found = find_images(folder)
        if not found.series:
            raise found.refused[-1]
        slices = list(_choose(found.series))
        measured = [measure_style(_seen(header, crop_size), crop_size[1]) for header in slices]
    except SarcoError as error:
        raise InputError(f"--style_from={folder}: {str(error).removeprefix(f'{folder}: ')}") from None
    styles = tuple(style for style in measured if style)
    if not styles:
        raise InputError(
            f"--style_from={folder}: no style in {count_of(len(slices), 'slice')}, because none shows a body with "
            "fat, muscle and calm tissue; give axial CT of the abdomen"
        )
    some = f"{len(styles)} of " if len(styles) < len(slices) else ""
    source = f"{some}{count_of(len(slices), 'slice')} of {count_of(len(found.series), 'series', 'series')}"
    lost = f"; {count_of(len(found.failed), 'series', 'series')} cannot be read" if found.failed else ""
    return styles, f"style of {LENT_SHARE:.0%} of the invented slices: from {source}{lost}"


def _choose(series: Sequence[Series]) -> Iterator[SliceHeader]:
    """Each series gives as many slices, evenly spread over it."""
    chosen = pick_evenly(range(len(series)), MOST_LENDERS)
    for number in chosen:
        slices = series[number].slices
        yield from (slices[place] for place in pick_evenly(range(len(slices)), MOST_LENDERS // len(chosen)))


def _seen(header: SliceHeader, crop_size: tuple[int, float | None]) -> NDArray[np.float32]:
    """(S, S) HU of a slice as the network sees it."""
    hu = read_hu(header)[None]
    return Placement.around_body(hu, header.affine_lps, *crop_size).crop_image(hu)[0]


def measure_style(hu: NDArray[np.float32], pixel_mm: float | None) -> Style | None:
    """The style of a slice; None where it has too little fat, soft tissue at the back, or calm tissue.

    Args:
        hu: (S, S) on the run's crop, the back below.
        pixel_mm: size of a pixel; None where it depends on the patient.
    """
    trunk = _find_trunk(hu, pixel_mm)
    rows = np.flatnonzero(trunk.any(axis=1))
    if not rows.size:
        return None
    calm = cv2.medianBlur(hu, _EDGE_PX)
    hind = trunk.copy()
    hind[: rows[-1] - int(_HIND_SHARE * (rows[-1] - rows[0]))] = False
    fat, soft = _quantiles(calm, trunk, FAT_HU), _quantiles(calm, hind, SOFT_HU)
    noise = _measure_noise(hu, trunk)
    return Style(fat, soft, *noise) if fat and soft and noise else None


def lend_style(
    hu: NDArray[np.float32], styles: Sequence[Style], rng: np.random.Generator, pixel_mm: float | None
) -> NDArray[np.float32]:
    """An invented slice as a real scanner would show it, or as it was painted: `LENT_SHARE`.

    Fat and soft tissue come to lie where one of the styles has them, by a map of HU that rises everywhere. Fat stays
    below `FIXED_HU`'s middle and soft tissue above it. Then noise is added, as much as the slice has less than the
    style. A slice that has more keeps it, but for what the map draws together. A slice without a style of its own stays
    as it is.

    Args:
        hu: (C, S, S) on the run's crop; left as it is.
        styles: of real slices, one of which is drawn.
        rng: the slice's own generator.
        pixel_mm: size of a pixel; None where it depends on the patient.
    """
    lends, style = rng.random() < LENT_SHARE, styles[int(rng.integers(len(styles)))]
    noise_seed = int(rng.integers(1 << 32))
    own = measure_style(hu[len(hu) // 2], pixel_mm) if lends else None
    if own is None:
        return hu
    lent = np.interp(hu, *_map_of(own, style)).astype(np.float32)
    middle = lent[len(hu) // 2]
    noise = _measure_noise(middle, _find_trunk(middle, pixel_mm))
    missing = style.noise_hu**2 - noise[0] ** 2 if noise else 0.0
    return lent if missing <= 0 else _add_grain(lent, missing**0.5, style.correlation, noise_seed)


def _find_trunk(hu: NDArray[np.float32], pixel_mm: float | None) -> NDArray[np.bool_]:
    side_mm = pixel_mm or _FIELD_MM / len(hu)
    trunk = find_body(hu, (side_mm, side_mm)).trunk.astype(np.uint8)
    return cv2.resize(trunk, hu.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def _quantiles(hu: NDArray[np.float32], where: NDArray[np.bool_], between: tuple[float, float]) -> tuple[float, ...]:
    """`QUANTILES` of a tissue without its edge, which holds a share of its neighbour; nothing where there is little."""
    tissue = (where & (hu > between[0]) & (hu < between[1])).astype(np.uint8)
    inside = hu[cv2.erode(tissue, np.ones((3, 3), np.uint8)) > 0]
    return tuple(np.quantile(inside, QUANTILES).tolist()) if inside.size >= _LEAST_PIXELS else ()


def _map_of(own: Style, other: Style) -> tuple[list[float], list[float]]:
    """Places in HU, and where a map that rises everywhere takes them; what lies beyond `FIXED_HU` stays."""
    skin, border, dense = FIXED_HU
    fat, lent_fat = _follow(own.fat_hu, other.fat_hu, skin, border)
    soft, lent_soft = _follow(own.soft_hu, other.soft_hu, border, dense)
    lowest, highest = -32768.0, 32767.0
    places = [lowest, skin, *fat, border, *soft, dense, highest]
    return places, [lowest, skin, *lent_fat, border, *lent_soft, dense, highest]


def _follow(own: Sequence[float], other: Sequence[float], low: float, high: float) -> tuple[list[float], list[float]]:
    """Quartiles of a slice, and where they come to lie: the median on the other's, the others within `MOST_GAIN`."""
    gaps = np.maximum(np.diff(own), _LEAST_GAP_HU)
    gains = np.clip(np.maximum(np.diff(other), _LEAST_GAP_HU) / gaps, 1 / MOST_GAIN, MOST_GAIN)
    return _between(own[1], gaps, low, high), _between(other[1], gaps * gains, low, high)


def _between(median: float, gaps: NDArray[np.float64], low: float, high: float) -> list[float]:
    """Median and quartiles, none of them beyond the ends of its tissue."""
    below, above = min(gaps[0], (median - low) / 2), min(gaps[1], (high - median) / 2)
    return [float(median - below), median, float(median + above)]


def _measure_noise(
    hu: NDArray[np.float32], trunk: NDArray[np.bool_], calm_share: float = _CALM_SHARE
) -> tuple[float, float] | None:
    """Standard deviation and correlation of neighbours in calm blocks of soft tissue; None where there are too few."""
    shape, step = (_BLOCK_PX, _BLOCK_PX), _BLOCK_PX // 2
    inside = sliding_window_view(trunk, shape)[::step, ::step].all(axis=(2, 3))
    blocks = sliding_window_view(hu, shape)[::step, ::step][inside]
    means = blocks.mean(axis=(1, 2))
    return _judge_blocks(blocks[(means > _CALM_HU[0]) & (means < _CALM_HU[1])], calm_share)


def _judge_blocks(blocks: NDArray[np.float32], calm_share: float) -> tuple[float, float] | None:
    """The same of the calmest among (n, rows, columns), each less its quadratic trend."""
    if len(blocks) < _LEAST_BLOCKS:
        return None
    trend = _trend_basis()
    flat = blocks.reshape(len(blocks), -1).astype(np.float64)
    flat -= (flat @ trend) @ trend.T
    variances = np.square(flat).sum(axis=1) / (len(trend) - trend.shape[1])
    variance = float(np.quantile(variances, calm_share))
    calm = flat[variances <= variance].reshape(-1, *blocks.shape[1:])
    across, down = (calm[:, :, 1:] * calm[:, :, :-1]).mean(), (calm[:, 1:] * calm[:, :-1]).mean()
    return variance**0.5, float((across + down) / 2 / max(np.square(calm).mean(), 1e-6))


@cache
def _trend_basis() -> NDArray[np.float64]:
    """(pixels of a block, 6), orthonormal: all that is constant, linear or quadratic."""
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : _BLOCK_PX * 1j, -1 : 1 : _BLOCK_PX * 1j])
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))
    return np.asarray(basis)


def _add_grain(hu: NDArray[np.float32], noise_hu: float, correlation: float, seed: int) -> NDArray[np.float32]:
    """Noise that measures as much in calm blocks, and as coarse, as it was asked for."""
    correlations, shares = _measure_grains()
    texture = float(np.interp(correlation, correlations[::-1], _TEXTURES[::-1]))
    share = float(np.interp(texture, _TEXTURES, shares))
    return change_hu(hu, _only_noise(noise_hu / share, texture, seed))


@cache
def _measure_grains() -> tuple[list[float], list[float]]:
    """Of each of `_TEXTURES`: correlation of neighbours, and the share of the deviation that calm blocks measure."""
    flat, everywhere = np.zeros((1, 256, 256), np.float32), np.ones((256, 256), np.bool_)
    found = []
    for texture in _TEXTURES:
        grain = change_hu(flat + np.float32(np.mean(_CALM_HU)), _only_noise(1.0, float(texture), 0))
        found.append(_measure_noise(grain[0], everywhere, _CALM_SHARE_OF_NOISE) or (1.0, 0.0))
    return [correlation for _, correlation in found], [deviation for deviation, _ in found]


def _only_noise(noise_hu: float, texture: float, seed: int) -> Augmentation:
    return Augmentation(np.eye(2), None, gain=1.0, shift_hu=0.0, noise_hu=noise_hu, noise_seed=seed, texture=texture)
