"""Hounsfield units that mean something everywhere: air, what values can be HU at all, and the window of abdomens."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

AIR_HU = -1024.0  # what stands where a scanner saw nothing; the lowest HU of a 12-bit scale
WINDOW_HU = (-160.0, 240.0)  # the soft-tissue window that radiologists read abdomens with
FLOOR_HU = -200.0  # below lies air, which every slice holds, above fat and all else of a body
_PADDING_HU = -1200.0  # air has -1000, and noise around it; what is lower stands where a scanner saw nothing
_BONE_HU, _MOST_BONE = 500.0, 0.2  # bones never fill more of a slice than this
_RANGE = (-32768.0, 65536.0)
_TISSUE_HU = (-200.0, 300.0)
_LEAST_TISSUE = 0.01  # of the pixels of a slice through a body


def raise_to_air(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """A slice without what lies below air: padding of -3024 would outweigh its neighbours where pixels are averaged."""
    return np.maximum(hu, np.float32(AIR_HU)) if hu.min() < AIR_HU else hu


def describe_no_hu(values: NDArray[Any]) -> str:
    """Why values of a slice or a volume are no HU; empty where they may be. The one rule for DICOM and NIfTI.

    Air has to be among them, or padding around tissue. Where an intercept was lost, air is 0 and tissue about 1000.
    """
    lowest, highest = float(values.min()), float(values.max())
    told = f"values run from {lowest:g} to {highest:g}, which is no CT in HU (air is -1000)"
    if lowest > FLOOR_HU or lowest < _RANGE[0] or highest > _RANGE[1] or highest < _PADDING_HU:
        return told
    if lowest < _PADDING_HU:  # what else is there?
        seen = values[values >= _PADDING_HU]
        if float(seen.min()) > FLOOR_HU and float(np.mean(seen > _BONE_HU)) > _MOST_BONE:
            return f"{told}: without padding they begin at {float(seen.min()):g}"
    return ""


def holds_tissue(hu: NDArray[Any]) -> bool:
    """Whether a slice (row, column) holds soft tissue, as one through a body does."""
    tissue = (hu > _TISSUE_HU[0]) & (hu < _TISSUE_HU[1])
    return float(np.count_nonzero(tissue)) >= _LEAST_TISSUE * hu.size
