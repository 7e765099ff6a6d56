"""Bones of the pelvis of an invented patient: sacrum, hip bones, and the upper femora."""

from __future__ import annotations

import numpy as np

from sarco.anatomy.build import Mask, Plane
from sarco.anatomy.labels import INVENTED_IDS
from sarco.pelvis.frame import CREST_TOP_MM, Half
from sarco.pelvis.shapes import Cord, Depth, Place, Rod, Sheet, hull

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
FEMORAL_HEAD = (82.0, -16.0, -178.0)
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
    _paint_ilium(half)
    near = half.near(SOCKET.box(half.place))
    if near is not None:
        near.bone(SOCKET.depth(near.place).outside, marrow_hu=60)
    _paint_rods(half, ISCHIUM)
    _paint_rods(half, PUBIS)
    _paint_rods(half, FEMUR, cortex_mm=3.2, marrow_hu=-120)
    _paint_head(half)


def _paint_rods(half: Half, rods: tuple[Rod, ...], cortex_mm: float = 1.8, marrow_hu: float = 0.0) -> None:
    """Several rods as one bone, which keeps off the midline."""
    boxes = [rod.box(half.place) for rod in rods]
    near = half.near(hull(boxes))
    if near is not None:
        parts = [rod.outside(near.place) for rod, box in zip(rods, boxes, strict=True) if box is not None]
        outside = np.minimum.reduce([*parts])
        near.bone(np.maximum(outside, 2.5 - near.place.x), cortex_mm=cortex_mm, marrow_hu=marrow_hu)


def _paint_ilium(half: Half) -> None:
    """The wing with its crest, and the sacroiliac joint in front of it."""
    near = half.near(ILIUM.box(half.place))
    if near is None:
        return
    ilium = ILIUM.depth(near.place)
    near.fill((ilium.outside < 2.6) & (near.labels == INVENTED_IDS["sacrum"]), 60.0, "body")
    near.bone(ilium.outside)
    near.fill((ilium.outside < 0) & _on_crest(near.place, ilium), near.hu, "iliac_crest")


def _on_crest(place: Place, ilium: Depth) -> Mask:
    """The rim of the iliac wing: its upper 15 mm, forward to the anterior and back to the posterior upper spine."""
    front = (ilium.along < _CREST_RIM_MM) & (place.z > -118)
    return front | (place.z > CREST_TOP_MM - _CREST_RIM_MM)


def _paint_sacrum(half: Half) -> None:
    """Bodies and alae, the wall behind the canal, the canal, and the foramina."""
    parts: tuple[Sheet | Cord, ...] = (ALA, SACRAL_BACK, SACRAL_BODY)
    boxes = [part.box(half.place) for part in parts]
    near = half.near(hull(boxes))
    if near is None:
        return
    for part, box in zip(parts, boxes, strict=True):
        if box is not None:
            near.bone(part.depth(near.place).outside, "sacrum", cortex_mm=1.4)
    if boxes[2] is None:
        return
    place, body = near.place, SACRAL_BODY.depth(near.place)
    if SACRAL_CANAL.box(place) is not None:
        near.fill(SACRAL_CANAL.depth(place).outside < 0, -40.0, "sacrum")
    for x, z in FORAMINA:
        if np.abs(place.z - z).min() < 5:
            hole = np.hypot(place.x - x, (place.z - z) * 1.1)
            near.fill((hole < 4.5) & (body.outside < 4) & (body.across < 2), -60.0, "sacrum")


def _near_head(half: Half, more_mm: float) -> tuple[Half, Plane] | None:
    """The part of a side around the femoral head, and mm from the head's middle there."""
    pelvis = half.pelvis
    reach = pelvis.head_mm + more_mm
    near = half.near(Rod(FEMORAL_HEAD, FEMORAL_HEAD, (reach, reach)).box(half.place, 0.2 * reach))
    if near is None:
        return None
    x, y, z = near.place.x - FEMORAL_HEAD[0], near.place.y - FEMORAL_HEAD[1], near.place.z - FEMORAL_HEAD[2]
    x, y, z = x * pelvis.wide[0], (y + pelvis.lean * z) * pelvis.deep, z * pelvis.high[0]
    return near, np.asarray(np.sqrt(x * x + y * y + z * z), np.float32)


def paint_capsule(half: Half) -> None:
    """The hip joint's capsule with its ligaments, around head and neck."""
    found = _near_head(half, 6)
    if found is not None:
        near, distance = found
        near.fill(distance < half.pelvis.head_mm + 6, CAPSULE_HU, "body")
    neck = half.near(FEMUR[0].box(half.place, 5))
    if neck is not None:
        neck.fill(FEMUR[0].outside(neck.place) < 5, CAPSULE_HU, "body")


def _paint_head(half: Half) -> None:
    """The joint's gap and the head, which is a ball."""
    found = _near_head(half, 3)
    if found is None:
        return
    near, distance = found
    radius = np.float32(half.pelvis.head_mm)
    x, y, z = near.place.x - FEMORAL_HEAD[0], near.place.y - FEMORAL_HEAD[1], near.place.z - FEMORAL_HEAD[2]
    near.fill((distance < radius + 2.5) & (x - 0.4 * y - z < 16), 60.0, "bone")  # the joint, but for the neck's side
    near.bone(distance - radius, cortex_mm=1.2, marrow_hu=120)
