"""Table and arms, of which nothing is labelled, and what a scanner makes of a slice."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.phantom.build import CORTEX_HU, SKIN_HU, Build, Plane
from sarco.phantom.outline import Outline
from sarco.phantom.paint import SlicePainter, lowest_point_mm
from sarco.phantom.shapes import Blob


def paint_table(painter: SlicePainter, outline: Outline) -> None:
    """Two thin curved shells with foam between, below the back."""
    surface = lowest_point_mm(painter.build, outline) + painter.build.table_gap_mm
    depth = painter.level_y - surface + 0.0011 * painter.level_x**2
    across = np.abs(painter.level_x) < 205 / painter.build.scale
    painter.fill(across & (depth > 0) & (depth < 30), -930, 0)
    for top, thick, hu in ((0.0, 3.2, 60.0), (3.2, 10.0, -830.0), (28.0, 3.2, 220.0)):
        painter.fill(across & (depth > top) & (depth < top + thick), hu, 0)


def arms(build: Build) -> list[Blob]:
    """Both upper arms beside the body; their muscle is not labelled."""
    blobs = []
    for side in (1, -1):
        x = side * (build.chest_half_width_mm + build.fat_mm + 58)
        skin = Blob(
            (x, 26 - 6 * side, 0), (42, 45, math.inf), SKIN_HU, lean=(side * 0.1, 0.05), space="anywhere", label=0
        )
        bone = replace(skin.shrunk(30, CORTEX_HU), centre_mm=(x + 5, 30, 0))
        blobs += [skin, skin.shrunk(2, build.fat_hu)]
        for dx, dy, half in ((-2, -15, (32, 21)), (3, 16, (31, 20))):  # flexors and extensors
            muscle = replace(skin, centre_mm=(x + dx, 26 - 6 * side + dy, 0), half_mm=(*half, math.inf))
            blobs.append(replace(muscle, hu=build.muscle_hu))
        blobs += [bone, bone.shrunk(5, -30)]
    return blobs


def add_scanner(
    hu: Plane, spacing_mm: tuple[float, float], blur_mm: float, noise_hu: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """What a scanner makes of a slice: in-plane blur, noise that neighbours share, whole HU.

    Args:
        hu: (row, column) attenuation in HU.
        spacing_mm: distance of rows and of columns.
        blur_mm: standard deviation of the point spread in mm.
        noise_hu: standard deviation of the noise in HU.
        rng: source of the noise.
    """
    down, across = (math.hypot(blur_mm / spacing, 0.45) for spacing in spacing_mm)  # a pixel averages over its area
    image = cv2.GaussianBlur(hu, (0, 0), sigmaX=across, sigmaY=down)
    fine = cv2.GaussianBlur(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0), 0.7)
    coarse = cv2.GaussianBlur(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0), 2.5)
    noise = fine * (0.92 / float(fine.std())) + coarse * (0.4 / float(coarse.std()))
    return np.rint(image + noise_hu * noise).clip(-1024, 3071).astype(np.int16)
