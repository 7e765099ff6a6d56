"""Hounsfield units that mean something everywhere: air, and the window that abdomens are read with."""

import numpy as np
from numpy.typing import NDArray

AIR_HU = -1024.0  # what stands where a scanner saw nothing; the lowest HU of a 12-bit scale


def raise_to_air(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """A slice without what lies below air: padding of -3024 would outweigh its neighbours where pixels are averaged."""
    return np.maximum(hu, np.float32(AIR_HU)) if hu.min() < AIR_HU else hu


WINDOW_HU = (-160.0, 240.0)  # the soft-tissue window that radiologists read abdomens with
