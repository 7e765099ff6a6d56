"""An examination room around a patient who is a cylinder, for tests of what lies around invented patients."""

import numpy as np

from sarco.examination.setting import Room

RADIUS = 150.0  # mm
SIZE = 320  # pixels of 2 mm


def round_room(along_mm: float = 0.0) -> Room:
    """One slice of a supine patient of 300 mm, so many mm towards the head."""
    line = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) * 2
    across, down = np.meshgrid(line, line)
    reach = np.hypot(across, down)
    return Room(across, down, np.full_like(reach, along_mm), reach - RADIUS, np.arctan2(across, -down), reach)
