"""The pelvis of an invented patient, from the iliac crest to the upper femora."""

from __future__ import annotations

from sarco.anatomy.paint import SlicePainter
from sarco.pelvis.bones import paint_bones, paint_capsule
from sarco.pelvis.frame import Half, Pelvis
from sarco.pelvis.muscles import paint_muscles
from sarco.pelvis.organs import paint_vessels

TOP_MM = -25.0  # nothing of the pelvis lies above


def paint_pelvis(painter: SlicePainter, pelvis: Pelvis) -> None:
    """Paints muscles, vessels and bones over the trunk and what lies in its cavity.

    Args:
        painter: a slice with its trunk and its organs.
        pelvis: the patient's pelvis.
    """
    if painter.z_range[0] > TOP_MM:
        return
    for side in (1, -1):
        half = Half(painter, pelvis, side)
        paint_capsule(half)
        paint_muscles(half)
        paint_vessels(half)
        paint_bones(half)
