"""Warps of augmentation: one coordinate map for all changes of place, by which a slice is resampled once.

The map says, for each pixel of the result, where in the source it comes from: (S, S, 2), (row, column) in pixels.
On a CPU OpenCV warps sample by sample; on a GPU ``grid_sample`` warps a batch from the same maps.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sarco.augmentation.draws import Augmentation
from sarco.scan.hu import AIR_HU

Map = NDArray[np.float32]


def coordinate_map(augmentation: Augmentation, size: int) -> Map:
    """The one map that all geometric changes of a sample make together.

    Returns:
        (S, S, 2) float32, for each pixel of the result the (row, column) in the source.
    """
    offsets = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    down, right = (np.float32(share * size) for share in augmentation.shift)
    rows, columns = (offsets - down)[:, None], (offsets - right)[None]
    if augmentation.bend is not None:
        bend = cv2.resize((augmentation.bend * size).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        rows, columns = rows + bend[..., 0], columns + bend[..., 1]
    planes = np.empty((2, size, size), dtype=np.float32)  # a plane for rows and one for columns, as OpenCV wants them
    for i, (from_rows, from_columns) in enumerate(augmentation.matrix.astype(np.float32)):
        np.add(from_rows * rows, from_columns * columns, out=planes[i])
    planes += np.float32((size - 1) / 2)
    return np.moveaxis(planes, 0, -1)


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
