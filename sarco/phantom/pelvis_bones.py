"""Bones of the pelvis of an invented patient: sacrum, hip bones, and the upper femora."""

from __future__ import annotations

import numpy as np

from sarco.phantom.build import Mask, Plane
from sarco.phantom.labels import INVENTED_IDS
from sarco.phantom.pelvis_frame import CREST_TOP_MM, Half
from sarco.phantom.pelvis_shapes import Cord, Depth, Place, Rod, Sheet

_CREST_RIM_MM = 15.0
CAPSULE_HU = 38.0

ILIUM = Sheet(
    (
        (-164, 80, -40, 72, 26, 0, 0),
        (-158, 84, -40, 70, 27, 34, 2),
        (-147, 97, -54, 68, 26, 22, 1),
        (-135, 107, -58, 65, 30, 17, 2),
        (-123, 116, -69, 52, 52, 13, 10),
        (-111, 119, -76, 50, 66, 13, 17),
        (-99, 121, -71, 53, 70, 12, 18),
        (-87, 131, -60, 53, 72, 11, 10),
        (-75, 138, -49, 56, 72, 11, 7),
        (-63, 139, -35, 61, 62, 11, 5),
        (-51, 136, -20, 66, 46, 10, 1),
        (-41, 124, -6, 90, 20, 8, 0),
        (-36, 116, 2, 100, 14, 0, 0),
    ),
    wedge=0.1,
    skew=0.5,
    blunt=True,
)
SOCKET = Cord(
    (
        (-206, 60, -8, 0, 0),
        (-200, 64, -6, 12, 24),
        (-186, 66, -4, 16, 36),
        (-171, 74, -6, 21, 37),
        (-160, 80, -7, 22, 36),
        (-152, 82, -8, 18, 32),
        (-146, 82, -8, 0, 0),
    ),
    power=2.5,
)
HEAD = (82.0, -16.0, -178.0)
PUBIS = (
    Rod((66, -34, -176), (24, -52, -204), (10, 9)),  # superior ramus
    Rod((15, -54, -203), (10, -44, -220), (14, 8)),  # body beside the symphysis
    Rod((10, -42, -221), (50, 22, -234), (6, 8)),  # inferior ramus
)
ISCHIUM = (
    Rod((64, 20, -166), (59, 28, -196), (13, 13)),  # posterior column
    Rod((60, 28, -196), (61, 32, -224), (13, 15)),  # tuberosity
)
FEMUR = (
    Rod((92, -16, -184), (136, 2, -204), (14, 16)),  # neck
    Rod((140, 4, -186), (140, 6, -212), (10, 15)),  # greater trochanter
    Rod((104, -10, -209), (134, 0, -218), (13, 18)),  # between the trochanters
    Rod((123, -3, -218), (112, -6, -300), (19, 15)),  # shaft
    Rod((106, 8, -230), (106, 6, -236), (9, 8)),  # lesser trochanter
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
        (-138, 10, 66, 46, 62, 0, 0),
        (-129, 10, 64, 50, 56, 14, 0),
        (-120, 10, 54, 62, 40, 26, 0),
        (-111, 10, 42, 72, 26, 34, 0),
        (-99, 10, 28, 74, 22, 26, 0),
        (-90, 15, 24, 70, 26, 16, 0),
        (-86, 15, 22, 62, 30, 0, 0),
    ),
    blunt=True,
)
SACRAL_BACK = Cord(
    (
        (-140, 0, 80, 0, 0),
        (-132, 0, 80, 14, 4),
        (-111, 0, 70, 20, 6),
        (-99, 0, 60, 22, 6),
        (-88, 0, 56, 14, 5),
        (-84, 0, 54, 0, 0),
    )
)
SACRAL_CANAL = Cord(
    ((-150, 0, 78, 0, 0), (-140, 0, 72, 7, 3), (-111, 0, 55, 12, 6), (-99, 0, 38, 13, 8), (-84, 0, 30, 14, 9))
)
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
    half.bone(_union(ISCHIUM, half.place))
    pubis = _union(PUBIS, half.place)
    half.bone(None if pubis is None else np.maximum(pubis, 2.5 - half.place.x))  # free of the symphysis
    _paint_femur(half)


def _union(rods: tuple[Rod, ...], place: Place) -> Plane | None:
    """The distance to the nearest of several rods, or None where the slice touches none."""
    parts = [outside for rod in rods if (outside := rod.outside(place)) is not None]
    return np.minimum.reduce(parts) if parts else None


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
        half.fill((hole < 4.5) & (body.outside < 4) & (body.across < 2), -60.0, "sacrum")


def _head_distance(half: Half) -> Plane:
    """Mm from the middle of the femoral head."""
    pelvis, place = half.pelvis, half.place
    x, y, z = place.x - HEAD[0], place.y - HEAD[1], place.z - HEAD[2]
    x, y, z = x * pelvis.wide[0], (y + pelvis.lean * z) * pelvis.deep, z * pelvis.high[0]
    distance: Plane = np.sqrt(x * x + y * y + z * z)
    return distance


def paint_capsule(half: Half) -> None:
    """The hip joint's capsule with its ligaments, around head and neck."""
    distance = _head_distance(half)
    if distance.min() < half.pelvis.head_mm + 6:
        half.fill(distance < half.pelvis.head_mm + 6, CAPSULE_HU, "body")
    neck = FEMUR[0].outside(half.place)
    if neck is not None:
        half.fill(neck < 5, CAPSULE_HU, "body")


def _paint_femur(half: Half) -> None:
    """Neck, trochanters and shaft, then the joint's gap and the head, which is a ball."""
    half.bone(_union(FEMUR, half.place), cortex_mm=3.2, marrow_hu=-120)
    distance, radius = _head_distance(half), np.float32(half.pelvis.head_mm)
    if distance.min() > radius + 4:
        return
    x, y, z = half.place.x - HEAD[0], half.place.y - HEAD[1], half.place.z - HEAD[2]
    half.fill((distance < radius + 2.5) & (x - 0.4 * y - z < 16), 60.0, "bone")  # the joint, but for the neck's side
    half.bone(distance - radius, cortex_mm=1.2, marrow_hu=120)
