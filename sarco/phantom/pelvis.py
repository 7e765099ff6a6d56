"""The pelvis of an invented patient, from the iliac crest to the upper femora."""

from __future__ import annotations

from sarco.phantom.paint import SlicePainter
from sarco.phantom.pelvis_bones import paint_bones, paint_capsule
from sarco.phantom.pelvis_frame import Half, Pelvis
from sarco.phantom.pelvis_muscles import paint_muscles
from sarco.phantom.pelvis_organs import paint_vessels

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
