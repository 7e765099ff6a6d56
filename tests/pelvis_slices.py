"""Slices of the pelvis of invented patients who lie level, painted without the rest of the body."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.build import Build, draw_build
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.outline import draw_outline
from sarco.anatomy.paint import SlicePainter
from sarco.pelvis.frame import Pelvis, draw_pelvis
from sarco.pelvis.region import paint_pelvis

PIXEL_MM = 2.0


def pelvis_patient(seed: int) -> tuple[Build, Pelvis]:
    """A patient who lies level."""
    rng = np.random.default_rng(seed)
    build = replace(draw_build(rng), roll_deg=0.0)
    return build, draw_pelvis(build, rng)


def pelvis_slice(
    build: Build, pelvis: Pelvis, z_mm: float, pixel_mm: float = PIXEL_MM, tilt: float = 0.0
) -> SlicePainter:
    """One slice at a height of body coordinates; rows run to the back, columns to the left."""
    size = round(460 / pixel_mm)
    body_from_index = np.eye(4)
    body_from_index[:3, 0] = (0, pixel_mm, tilt)
    body_from_index[:3, 1] = (pixel_mm, 0, 0)
    body_from_index[:3, 3] = (-230, -230, z_mm - tilt * size / 2)
    painter = SlicePainter((size, size), body_from_index, build, draw_outline(build))
    painter.fill(painter.body, build.fat_hu, INVENTED_IDS["subcutaneous_fat"])
    paint_pelvis(painter, pelvis)
    return painter


def pelvis_slices(build: Build, pelvis: Pelvis) -> Iterator[SlicePainter]:
    """Slices from the upper femora to the crest, 10 mm apart."""
    for z_mm in range(-240, -29, 10):
        yield pelvis_slice(build, pelvis, z_mm)


def structure(painter: SlicePainter, name: str) -> NDArray[np.bool_]:
    """Where a structure lies, by its name in the table."""
    return np.asarray(painter.labels == INVENTED_IDS[name])
