"""Bones of the pelvis of an invented patient: sacrum, hip bones, and the upper femora."""

from __future__ import annotations

import numpy as np

from sarco.phantom.build import Mask, Plane
from sarco.phantom.labels import INVENTED_IDS
from sarco.phantom.pelvis_frame import CREST_TOP_MM, Half
from sarco.phantom.pelvis_shapes import Cord, Depth, Place, Rod, Sheet

_CREST_RIM_MM = 15.0

ILIUM = Sheet(
    (
        (-164, 80, -40, 72, 26, 0, 0),
        (-158, 84, -40, 70, 27, 36, 2),
        (-147, 95, -52, 68, 24, 25, 1),
        (-135, 105, -54, 66, 28, 19, 2),
        (-123, 116, -67, 53, 50, 13, 9),
        (-111, 117, -72, 50, 62, 14, 15),
        (-99, 119, -69, 54, 68, 13, 15),
        (-87, 129, -58, 53, 70, 12, 5),
        (-75, 137, -47, 57, 70, 12, 2),
        (-63, 138, -33, 62, 60, 12, 1),
        (-51, 136, -18, 67, 44, 10, 0),
        (-41, 124, -4, 92, 18, 8, 0),
        (-36, 116, 2, 100, 14, 0, 0),
    ),
    wedge=0.1,
    skew=0.35,
)
SOCKET = Cord(((-206, 60, -10, 0, 0), (-200, 64, -8, 12, 24), (-178, 70, -5, 18, 36), (-158, 78, -8, 16, 34), (-150, 78, -8, 0, 0)))
HEAD = (82.0, -16.0, -178.0)
PUBIS_AND_ISCHIUM = (
    Rod((64, -36, -174), (22, -54, -203), (10, 8)),  # superior ramus
    Rod((15, -54, -203), (9, -44, -221), (13, 8)),  # body beside the symphysis
    Rod((9, -42, -221), (50, 22, -234), (6, 8)),  # inferior ramus
    Rod((64, 20, -166), (59, 28, -196), (14, 13)),  # posterior column
    Rod((60, 28, -196), (60, 32, -224), (13, 15)),  # tuberosity
)
FEMUR = (
    Rod((100, -12, -186), (128, 0, -204), (16, 17)),  # neck
    Rod((133, 4, -186), (130, 6, -210), (13, 17)),  # greater trochanter
    Rod((121, 0, -210), (112, -4, -300), (20, 15)),  # shaft
    Rod((108, 10, -230), (108, 8, -236), (9, 8)),  # lesser trochanter
)
# The sacrum: (z, x, y, half width, half depth). Its upper plate is S1, its lower end the coccyx.
SACRAL_BODY = Cord(
    (
        (-190, 0, 68, 0, 0),
        (-186, 0, 70, 4, 3),
        (-171, 0, 77, 12, 4),
        (-159, 0, 78, 22, 5),
        (-147, 0, 76, 32, 8),
        (-135, 0, 72, 38, 10),
        (-123, 0, 58, 40, 13),
        (-111, 0, 36, 36, 16),
        (-99, 0, 13, 30, 17),
        (-92, 0, 2, 26, 18),
        (-89, 0, 0, 0, 0),
    ),
    power=2.6,
)
ALA = Sheet(
    (
        (-132, 10, 62, 50, 60, 0, 0),
        (-123, 10, 60, 52, 52, 20, 0),
        (-111, 10, 40, 60, 36, 26, 0),
        (-99, 10, 24, 66, 26, 24, 0),
        (-90, 15, 22, 64, 28, 16, 0),
        (-86, 15, 22, 62, 30, 0, 0),
    )
)
SACRAL_BACK = Cord(
    ((-140, 0, 80, 0, 0), (-132, 0, 80, 14, 4), (-111, 0, 70, 20, 6), (-99, 0, 60, 22, 6), (-88, 0, 56, 14, 5), (-84, 0, 54, 0, 0))
)
SACRAL_CANAL = Cord(((-150, 0, 78, 0, 0), (-140, 0, 72, 7, 3), (-111, 0, 55, 12, 6), (-99, 0, 38, 13, 8), (-84, 0, 30, 14, 9)))
FORAMINA = ((24.0, -104.0), (22.0, -123.0), (20.0, -140.0))  # x, z


def paint_bones(half: Half) -> None:
    """Sacrum, hip bone and femur of one side, over what was painted before."""
    _paint_sacrum(half)
    ilium = ILIUM.depth(half.place)
    if ilium is not None:
        joint = (ilium.outside < 2.6) & (half.labels == INVENTED_IDS["sacrum"])
        half.fill(joint, 60.0, "body")
        half.bone(ilium.outside)
        half.fill((ilium.outside < 0) & _on_crest(half.place, ilium), half.hu, "iliac_crest")
    socket = SOCKET.depth(half.place)
    half.bone(None if socket is None else socket.outside, marrow_hu=60)
    for rod in PUBIS_AND_ISCHIUM:
        half.bone(_off_midline(rod.outside(half.place), half.place))
    _paint_femur(half)


def _off_midline(outside: Plane | None, place: Place) -> Plane | None:
    """Keeps the gap of the symphysis free."""
    return None if outside is None else np.maximum(outside, 2.5 - place.x)


def _on_crest(place: Place, ilium: Depth) -> Mask:
    """The rim of the iliac wing: its upper 15 mm, forward to the anterior and back to the posterior upper spine."""
    front = (ilium.along < _CREST_RIM_MM) & (place.z > -118)
    return front | (place.z > CREST_TOP_MM - _CREST_RIM_MM)


def _paint_sacrum(half: Half) -> None:
    place = half.place
    body, ala, back = SACRAL_BODY.depth(place), ALA.depth(place), SACRAL_BACK.depth(place)
    parts = [part.outside for part in (ala, back, body) if part is not None]
    for outside in parts:
        half.bone(outside, "sacrum", cortex_mm=1.4)
    if body is None:
        return
    canal = SACRAL_CANAL.depth(place)
    if canal is not None:
        half.fill(canal.outside < 0, -40.0, "sacrum")
    for x, z in FORAMINA:
        if np.abs(place.z - z).min() > 5:
            continue
        hole = np.hypot(place.x - x, (place.z - z) * 1.1)
        half.fill((hole < 4.5) & (body.outside < 6), -60.0, "sacrum")


def _paint_femur(half: Half) -> None:
    """Neck, trochanters and shaft, then the joint's gap and the head, which is a ball."""
    for rod in FEMUR[:3]:
        half.bone(rod.outside(half.place), cortex_mm=3.0, marrow_hu=-120)
    half.bone(FEMUR[3].outside(half.place), cortex_mm=3.0)
    pelvis, place = half.pelvis, half.place
    x, y, z = place.x - HEAD[0], place.y - HEAD[1], place.z - HEAD[2]
    x, y, z = x * pelvis.wide[0], (y + pelvis.lean * z) * pelvis.deep, z * pelvis.high[0]
    distance = np.sqrt(x * x + y * y + z * z)
    if distance.min() > pelvis.head_mm + 4:
        return
    half.fill((distance < pelvis.head_mm + 2.5) & (y * 0.35 + z * 0.9 - x * 0.3 > -14), 60.0, "bone")
    half.bone(distance - np.float32(pelvis.head_mm), cortex_mm=1.2, marrow_hu=150)
