"""Rotations that tests turn grids by."""

import numpy as np
from numpy.typing import NDArray


def rotation(alpha: float, beta: float, gamma: float) -> NDArray[np.float64]:
    """3x3 rotation by three angles."""
    c, s = np.cos([alpha, beta, gamma]), np.sin([alpha, beta, gamma])
    about_z = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    about_y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    about_x = np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    return about_z @ about_y @ about_x
