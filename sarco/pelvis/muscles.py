"""Muscles of the pelvis of an invented patient: compartments with their rim and their inner fat.

Thickness and position by level follow the adult pelvis in axial CT. Gluteus maximus is largest just above the femoral
heads, medius near the lower end of the sacroiliac joint (Homma 2019, Surg Radiol Anat 41:109); medius and minimus
together are about 39 mm thick in young adults (Whiler 2017, Physiother Can 69:212), and medius has three to four times
minimus' volume (Marcon 2016, Skeletal Radiol 45:465). At the upper margin of the symphysis gluteus maximus is nearly
half of all muscle, iliopsoas, obturator internus and medius are about 9 % each, tensor and pectineus 4 %, sartorius and
rectus femoris 3 % (Kooda 1991, J Showa Med Assoc 51:435).
Fat within gluteus maximus: medians of 14 to 26 % (Belzunce 2021, Sci Rep 11:21401); medius 8 % and minimus 10 % in
health (Marcon 2016), more in the old.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sarco.anatomy.build import Mask
from sarco.anatomy.labels import INVENTED_IDS
from sarco.pelvis.frame import Half
from sarco.pelvis.shapes import Cord, Depth, Sheet

# Which share of a sum of three waves (1, 0.8, 0.8) lies above which value.
_STREAK_QUANTILES = (
    (0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    (2.31, 2.02, 1.80, 1.42, 0.94, 0.60, 0.30, 0.0, -0.30, -0.60, -0.94),
)
_RIM_MM = 0.4  # fascia and the sheet of fat between neighbours belong to the compartment


@dataclass(frozen=True)
class Muscle:
    """One muscle of a side.

    Attributes:
        name: in `sarco.anatomy.labels`, without its side.
        group: whose size it shares, a key of `Pelvis.size`.
        shape: where it lies.
        fat: share of fat inside it, relative to the patient's infiltration.
        steady: how little its thickness follows the muscles' size, 0..1.
    """

    name: str
    group: str
    shape: Sheet | Cord
    fat: float = 1.0
    steady: float = 0.0


_GLUTEUS_MAXIMUS = Sheet(
    (
        (-240, 34, 66, 150, 42, 24, 0),
        (-219, 22, 68, 158, 36, 26, 0),
        (-195, 18, 70, 164, 32, 26, 1),
        (-183, 20, 77, 163, 28, 27, 2),
        (-171, 28, 79, 163, 28, 29, 3),
        (-159, 34, 79, 162, 26, 29, 3),
        (-147, 37, 80, 158, 25, 28, 3),
        (-135, 41, 81, 155, 26, 26, 3),
        (-123, 44, 80, 150, 28, 23, 2),
        (-111, 48, 79, 142, 31, 21, 1),
        (-99, 58, 77, 123, 36, 17, 0),
        (-87, 69, 72, 111, 43, 13, 0),
        (-76, 73, 66, 92, 52, 8, 0),
        (-70, 74, 64, 88, 54, 0, 0),
    ),
    wedge=0.12,
)
# Medius covers minimus, which lies on the blade: both are drawn from the bone outwards, the deeper one last.
_GLUTEUS_MEDIUS = Sheet(
    (
        (-198, 140, -24, 138, 6, 0, 0),
        (-184, 148, -34, 138, 18, 18, 5),
        (-171, 145, -44, 132, 22, 24, 8),
        (-159, 139, -47, 119, 24, 28, 12),
        (-147, 135, -50, 108, 27, 30, 16),
        (-135, 131, -52, 98, 30, 32, 19),
        (-123, 132, -52, 84, 35, 34, 22),
        (-111, 135, -48, 78, 40, 32, 22),
        (-99, 136, -36, 74, 44, 31, 20),
        (-87, 140, -21, 73, 48, 24, 12),
        (-75, 141, -9, 71, 50, 22, 5),
        (-63, 137, 1, 74, 47, 17, 2),
        (-51, 120, 13, 88, 35, 10, 0),
        (-44, 112, 16, 96, 26, 0, 0),
    ),
    wedge=0.1,
    skew=0.1,
)
_GLUTEUS_MINIMUS = Sheet(
    (
        (-192, 130, -14, 120, 10, 0, 0),
        (-183, 130, -16, 110, 14, 12, 0),
        (-171, 127, -32, 103, 17, 14, 5),
        (-159, 123, -48, 97, 16, 17, 9),
        (-147, 121, -56, 95, 17, 19, 9),
        (-135, 123, -57, 92, 19, 19, 8),
        (-123, 125, -58, 90, 14, 17, 10),
        (-111, 128, -56, 100, 8, 14, 8),
        (-99, 129, -50, 116, -8, 10, 4),
        (-92, 128, -42, 120, -16, 0, 0),
    )
)
ILIACUS = Sheet(
    (
        (-224, 98, -42, 104, -34, 0, 0),
        (-207, 92, -46, 110, -40, 12, 0),
        (-195, 84, -52, 110, -52, 16, 0),
        (-183, 76, -50, 110, -62, 20, 0),
        (-171, 72, -48, 112, -70, 22, -2),
        (-159, 70, -40, 112, -72, 24, -2),
        (-147, 68, -28, 110, -70, 26, -3),
        (-135, 67, -13, 110, -70, 26, -2),
        (-123, 68, -7, 112, -66, 27, -9),
        (-111, 62, 0, 114, -58, 26, -14),
        (-99, 60, 5, 119, -48, 23, -16),
        (-87, 60, 10, 124, -34, 19, -9),
        (-75, 60, 14, 126, -18, 16, -5),
        (-63, 62, 17, 124, -8, 11, -3),
        (-53, 72, 18, 114, 0, 0, 0),
    ),
    wedge=-0.35,
)
PSOAS = Cord(
    (
        (-240, 106, -18, 0, 0),
        (-228, 104, -28, 7, 7),
        (-207, 99, -46, 10, 10),
        (-195, 94, -53, 12, 11),
        (-183, 88, -58, 14, 11),
        (-171, 83, -56, 14, 12),
        (-159, 79, -50, 14, 14),
        (-147, 76, -44, 15, 16),
        (-135, 73, -38, 16, 16),
        (-123, 69, -31, 17, 17),
        (-111, 63, -25, 17, 17),
        (-99, 58, -21, 17, 17),
        (-87, 53, -19, 17, 17),
        (-80, 51, -18, 17, 17),
        (-76, 50, -17, 0, 0),
    ),
    power=2.2,
)
# What is left of multifidus and erector spinae over the sacrum, between the posterior parts of the iliac wings.
PARASPINAL = Cord(
    (
        (-118, 24, 77, 0, 0),
        (-111, 24, 76, 8, 4),
        (-99, 23, 71, 14, 8),
        (-87, 25, 65, 16, 12),
        (-78, 26, 60, 17, 15),
        (-70, 28, 56, 0, 0),
    ),
    power=2.4,
)
PIRIFORMIS = Sheet(
    (
        (-184, 118, 14, 126, 10, 0, 0),
        (-176, 110, 20, 126, 10, 8, 0),
        (-165, 88, 32, 122, 16, 12, 0),
        (-153, 52, 46, 110, 20, 16, 2),
        (-141, 30, 56, 92, 28, 19, 2),
        (-129, 22, 56, 64, 42, 16, 0),
        (-118, 20, 52, 48, 42, 0, 0),
    )
)
OBTURATOR_INTERNUS = Sheet(
    (
        (-226, 48, -10, 48, 20, 0, 0),
        (-215, 44, -18, 48, 28, 12, 3),
        (-201, 42, -34, 50, 34, 15, 4),
        (-186, 48, -36, 54, 36, 15, 1),
        (-171, 52, -34, 56, 30, 11, 0),
        (-158, 56, -24, 60, 22, 7, 0),
        (-150, 58, -14, 62, 14, 0, 0),
    )
)
GEMELLI = Sheet(
    (
        (-200, 66, 32, 116, 14, 0, 0),
        (-193, 62, 34, 118, 14, 12, 2),
        (-184, 62, 34, 120, 12, 12, 2),
        (-178, 64, 34, 118, 12, 0, 0),
    )
)
QUADRATUS_FEMORIS = Sheet(
    ((-240, 72, 30, 116, 14, 14, 0), (-205, 76, 28, 114, 18, 14, 0), (-198, 78, 26, 112, 18, 0, 0))
)
OBTURATOR_EXTERNUS = Sheet(
    (
        (-240, 22, -26, 66, 10, 0, 0),
        (-226, 20, -26, 80, 14, 30, 0),
        (-210, 34, -32, 94, 12, 26, 0),
        (-200, 50, -30, 102, 8, 14, 0),
        (-194, 60, -20, 108, 6, 0, 0),
    )
)
PECTINEUS = Sheet(
    (
        (-300, 70, -34, 100, -10, 0, 0),
        (-232, 44, -54, 94, -26, 24, 0),
        (-212, 34, -64, 84, -42, 22, 0),
        (-200, 38, -64, 76, -48, 14, 0),
        (-190, 44, -62, 68, -50, 0, 0),
    )
)
ADDUCTORS = Sheet(
    (
        (-300, 30, -60, 34, 40, 48, 0),
        (-232, 18, -68, 40, 0, 34, 0),
        (-218, 14, -72, 38, -30, 20, 0),
        (-208, 16, -70, 30, -52, 0, 0),
    )
)
HAMSTRINGS = Cord(((-300, 78, 34, 26, 18), (-240, 70, 38, 15, 11), (-226, 66, 40, 9, 8), (-218, 64, 40, 0, 0)))
RECTUS_FEMORIS = Cord(
    (
        (-300, 104, -70, 22, 15),
        (-219, 107, -69, 20, 13),
        (-195, 116, -62, 13, 11),
        (-176, 116, -52, 8, 8),
        (-160, 108, -46, 5, 5),
        (-152, 104, -44, 0, 0),
    )
)
SARTORIUS = Cord(
    (
        (-300, 60, -74, 14, 10),
        (-240, 76, -80, 14, 8),
        (-207, 98, -81, 14, 7),
        (-183, 112, -75, 12, 7),
        (-159, 120, -71, 9, 7),
        (-135, 122, -66, 6, 6),
        (-124, 120, -66, 0, 0),
    ),
    turn_deg=22.0,
)
TENSOR = Cord(
    (
        (-300, 150, -48, 9, 18),
        (-230, 143, -54, 11, 20),
        (-195, 139, -56, 11, 19),
        (-171, 133, -60, 10, 17),
        (-147, 128, -62, 8, 13),
        (-128, 126, -62, 4, 7),
        (-120, 126, -62, 0, 0),
    ),
    turn_deg=-28.0,
)
VASTI = Cord(
    ((-300, 128, -20, 34, 34), (-236, 138, -20, 20, 24), (-216, 148, -16, 10, 20), (-206, 150, -14, 0, 0)),
    turn_deg=-20.0,
)

MUSCLES = (
    Muscle("paraspinal", "maximus", PARASPINAL, 1.2, 0.4),
    Muscle("hip_muscle", "hip", VASTI, 0.8, 0.5),
    Muscle("hip_muscle", "hip", ADDUCTORS, 0.8, 0.5),
    Muscle("hip_muscle", "hip", OBTURATOR_EXTERNUS, 0.8, 0.5),
    Muscle("hip_muscle", "hip", PECTINEUS, 0.8, 0.5),
    Muscle("hip_muscle", "hip", HAMSTRINGS, 0.6, 0.4),
    Muscle("hip_muscle", "hip", QUADRATUS_FEMORIS, 0.8, 0.5),
    Muscle("hip_muscle", "hip", OBTURATOR_INTERNUS, 0.7, 0.4),
    Muscle("hip_muscle", "hip", GEMELLI, 0.8, 0.5),
    Muscle("hip_muscle", "hip", PIRIFORMIS, 1.0, 0.4),
    Muscle("gluteus_maximus", "maximus", _GLUTEUS_MAXIMUS),
    Muscle("gluteus_medius", "abductors", _GLUTEUS_MEDIUS, 0.6, 0.2),
    Muscle("gluteus_minimus", "abductors", _GLUTEUS_MINIMUS, 0.9, 0.2),
    Muscle("iliacus", "iliacus", ILIACUS, 0.3, 0.4),
    Muscle("psoas", "psoas", PSOAS, 0.2),
    Muscle("hip_muscle", "hip", RECTUS_FEMORIS, 0.3, 0.4),
    Muscle("hip_muscle", "hip", TENSOR, 1.2, 0.4),
    Muscle("hip_muscle", "hip", SARTORIUS, 0.5, 0.4),
)


def paint_muscles(half: Half) -> None:
    """All muscles of one side, the deep ones over the shallow ones where they share a border."""
    _paint_deep_fat(half)
    for muscle in MUSCLES:
        size = half.pelvis.size[muscle.group] * half.grow
        size = muscle.steady + (1 - muscle.steady) * size
        near = half.near(muscle.shape.box(half.place, size))
        if near is not None:
            _paint_muscle(near, muscle, muscle.shape.depth(near.place, size))


def _paint_deep_fat(half: Half) -> None:
    """Fat in front of gluteus maximus lies between muscles and is not subcutaneous."""
    deep = half.inside & (half.labels == INVENTED_IDS["subcutaneous_fat"])
    if _GLUTEUS_MAXIMUS.box(half.place) is not None:
        deep &= _GLUTEUS_MAXIMUS.depth(half.place).across > 0
    np.copyto(half.labels, np.uint8(INVENTED_IDS["body"]), where=deep)


def _paint_muscle(half: Half, muscle: Muscle, depth: Depth) -> None:
    """A compartment: its own tissue inside a rim of fascia and fat, streaked along its fibres."""
    outside = depth.outside + half.wave
    mask: Mask = (outside < 0) & half.inside
    spots = np.nonzero(mask)
    if not len(spots[0]):
        return
    fat = min(half.pelvis.infiltration * muscle.fat, 0.75)
    across, along = depth.across[spots], depth.along[spots]
    z = np.broadcast_to(half.place.z, mask.shape)[spots]
    q = half.build.phases
    streak = np.sin(across / 1.5 + 1.6 * np.sin(along / 10 + q[9]) + z / 9 + q[0])
    patchy = np.sin(along / 11 - across / 9 + z / 13 + q[1]) + np.sin(along / 23 + across / 15 - z / 31 + q[2])
    fatty = streak + 0.8 * patchy > np.interp(fat, *_STREAK_QUANTILES)
    hu = half.build.muscle_hu + 2 * half.mottle[spots] - 30 * fat * (patchy > 0.4)
    hu[fatty] = half.build.fat_hu + 22
    hu[outside[spots] > -_RIM_MM] = half.build.fat_hu + 20
    half.hu[spots] = hu
    half.labels[spots] = half.label_of(muscle.name)
