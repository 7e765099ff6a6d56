"""Slices as a training keeps them, made of invented patients."""

import numpy as np
from numpy.typing import NDArray

from sarco.crop.body import find_body
from sarco.crop.grid import CropGrid
from sarco.phantom.patient import Phantom


def crops(phantom: Phantom, size: int, pixel_mm: float | None = None) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """The slices of a phantom as training keeps them: (N, 1, S, S) and (N, S, S)."""
    row_mm, column_mm, _ = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    images, label_maps = [], []
    for k in range(phantom.hu.shape[2]):
        hu = phantom.hu[..., k].astype(np.float32)
        grid = CropGrid.around(find_body(hu, (row_mm, column_mm)).box, (row_mm, column_mm), size, pixel_mm)
        images.append(grid.crop_image(hu).round().astype(np.int16)[None])
        label_maps.append(grid.crop_label_map(phantom.label_map[..., k]))
    return np.array(images), np.array(label_maps)
