"""Augmentation: flips, rotation, scale and elastic deformation as one coordinate map, resampled once; HU changes.

The map says, for each pixel of the result, where in the source it comes from: (S, S, 2), (row, column) in pixels.
On a CPU OpenCV warps sample by sample; on a GPU ``grid_sample`` warps a batch from the same maps.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sarco.core.training_options import AugmentOptions
from sarco.scan.hu import AIR_HU

ROTATION_DEG = 10.0  # uniform within +-
SCALE = 1.3  # size changes by a factor from 1 / this to this: how much of the box a trunk fills differs that much
BEND_POINTS = 6  # control points a side of the elastic deformation
BEND_SHARE = 0.02  # standard deviation of a control point's shift, as a share of the image's side
BEND_LIMIT = 1.4  # in standard deviations; from 1.7 on, the worst combination folds the image over itself
GAIN = 0.08  # contrast changes by a factor within 1 +- this, about soft tissue
SHIFT_HU = 10.0  # brightness, uniform within +-
SOFT_TISSUE_HU = 50.0
NOISE_HU = 15.0  # largest standard deviation of added noise

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """What happens to one sample.

    Attributes:
        matrix: 2x2, from (row, column) offsets to the centre in the result to such offsets in the source.
        bend: (n, n, 2) shifts of control points as a share of the side, or None.
        gain, shift_hu, noise_hu: contrast about soft tissue, brightness, standard deviation of noise.
        noise_seed: of the noise.
    """

    matrix: NDArray[np.float64]
    bend: NDArray[np.float64] | None
    gain: float
    shift_hu: float
    noise_hu: float
    noise_seed: int

    @property
    def mirrors(self) -> bool:
        """Whether left and right of the patient change places; two flips, or a rotation, do not do that."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def moves(self) -> bool:
        """Whether any pixel changes its place."""
        return self.bend is not None or not np.array_equal(self.matrix, np.eye(2))


def draw_augmentation(rng: np.random.Generator, options: AugmentOptions) -> Augmentation:
    """Draws what happens to a sample; each kind of change has probability ``aug_prob``.

    HU changes go along with either flag, because they cost nothing and no geometry speaks against them.

    Args:
        rng: the sample's own generator.
        options: which kinds are wanted.
    """

    def happens(wanted: bool) -> bool:
        return bool(rng.random() < options.aug_prob) and wanted  # drawn in any case: flags do not shift other draws

    matrix = np.eye(2)
    if happens(options.do_flips):
        matrix = np.diag([-1.0, 1.0]) @ matrix
    if happens(options.do_flips):
        matrix = np.diag([1.0, -1.0]) @ matrix
    if happens(options.do_flips):
        matrix = np.array([[0.0, -1.0], [1.0, 0.0]]) @ matrix
    angle = np.deg2rad(rng.uniform(-ROTATION_DEG, ROTATION_DEG))
    if happens(options.do_elastic_transforms):
        matrix = matrix @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = SCALE ** rng.uniform(-1, 1)
    if happens(options.do_elastic_transforms):
        matrix = matrix * scale
    shifts = rng.standard_normal((BEND_POINTS, BEND_POINTS, 2)).clip(-BEND_LIMIT, BEND_LIMIT) * BEND_SHARE
    bend = shifts if happens(options.do_elastic_transforms) else None
    any_wanted = options.do_flips or options.do_elastic_transforms
    contrast, noise = happens(any_wanted), happens(any_wanted)
    gain, shift = rng.uniform(1 - GAIN, 1 + GAIN), rng.uniform(-SHIFT_HU, SHIFT_HU)
    noise_hu = rng.uniform(0, NOISE_HU)
    return Augmentation(
        matrix=matrix,
        bend=bend,
        gain=gain if contrast else 1.0,
        shift_hu=shift if contrast else 0.0,
        noise_hu=noise_hu if noise else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )


def coordinate_map(augmentation: Augmentation, size: int) -> Map:
    """The one map that all geometric changes of a sample make together.

    Returns:
        (S, S, 2) float32, for each pixel of the result the (row, column) in the source.
    """
    offsets = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    rows, columns = np.meshgrid(offsets, offsets, indexing="ij")
    if augmentation.bend is not None:
        bend = cv2.resize((augmentation.bend * size).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        rows, columns = rows + bend[..., 0], columns + bend[..., 1]
    matrix = augmentation.matrix.astype(np.float32)
    centre = np.float32((size - 1) / 2)
    return np.stack(
        [
            matrix[0, 0] * rows + matrix[0, 1] * columns + centre,
            matrix[1, 0] * rows + matrix[1, 1] * columns + centre,
        ],
        axis=-1,
    )


def warp_sample(
    hu: NDArray[np.float32], label: NDArray[np.int16], coordinates: Map
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Warps one sample on the CPU.

    Args:
        hu: (C, S, S), resampled linearly; air outside.
        label: (S, S) channel numbers, the nearest one is taken; background outside.
        coordinates: from `coordinate_map`.
    """
    rows, columns = np.ascontiguousarray(coordinates[..., 0]), np.ascontiguousarray(coordinates[..., 1])
    warped = [
        cv2.remap(channel, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=AIR_HU)
        for channel in hu
    ]
    moved = cv2.remap(label, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.stack(warped), moved


def warp_batch(hu: torch.Tensor, label: torch.Tensor, coordinates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Warps a batch on its device, as `warp_sample` does a sample.

    Args:
        hu: (B, C, S, S).
        label: (B, S, S) integer channel numbers; background outside.
        coordinates: (B, S, S, 2) from `coordinate_map`.
    """
    size = hu.shape[-1]
    grid = ((2 * coordinates + 1) / size - 1).flip(-1)  # grid_sample takes (x, y) in [-1, 1] over pixel edges
    # It knows only 0 as the value outside, so air becomes 0 for the while.
    warped = torch.nn.functional.grid_sample(hu - AIR_HU, grid, mode="bilinear", align_corners=False) + AIR_HU
    # The nearest pixel by indexing: grid_sample's own rounding differs at the last digit.
    nearest = torch.floor(coordinates + 0.5).long()
    inside = ((nearest >= 0) & (nearest < size)).all(-1)
    place = nearest.clamp(0, size - 1)
    batch = torch.arange(len(hu), device=hu.device)[:, None, None]
    moved = label[batch, place[..., 0], place[..., 1]]
    return warped, torch.where(inside, moved, torch.zeros_like(moved))


def change_hu(hu: NDArray[np.float32], augmentation: Augmentation) -> NDArray[np.float32]:
    """Contrast, brightness and noise; the same contrast for all slices of an image, noise for each its own.

    Args:
        hu: (C, S, S).
        augmentation: what to do.
    """
    if augmentation.gain != 1.0 or augmentation.shift_hu != 0.0:
        offset = SOFT_TISSUE_HU * (1 - augmentation.gain) + augmentation.shift_hu
        hu = hu * np.float32(augmentation.gain) + np.float32(offset)
    if augmentation.noise_hu > 0:
        noise = np.random.default_rng(augmentation.noise_seed).standard_normal(hu.shape, dtype=np.float32)
        hu = hu + np.float32(augmentation.noise_hu) * noise
    return hu
