"""Organs, gut and vessels of the abdomen, in painting order; they are body, and none of them is muscle."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sarco.anatomy.build import PAINTED_AIR_HU, Build
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.shapes import Blob

_VISCERAL = INVENTED_IDS["visceral_fat"]


def organs(build: Build, rng: np.random.Generator, lost_kidney: int = 0) -> list[Blob]:
    """Abdominal organs, gut and vessels in painting order; none of them is labelled.

    Args:
        build: the patient.
        rng: source of what the build leaves open.
        lost_kidney: 1 where the left one is missing, -1 the right one.
    """
    hu, spine, front = build.hu, build.spine_mm, -build.front_mm
    wide = build.half_width_mm / 140.0
    blobs = _mesentery(build, rng)
    for _ in range(int(rng.integers(55, 130))):
        centre = (rng.uniform(-88, 96) * wide, rng.uniform(front + 12, spine - 34), rng.uniform(-130, 55))
        half = (rng.uniform(10, 24), rng.uniform(9, 15), rng.uniform(12, 30))
        blobs += _gut(centre, half, build, rng, turn_deg=rng.uniform(-60, 60))
    for x, y in ((-94.0, -4.0), (97.0, 4.0)):  # ascending and descending colon
        half = (rng.uniform(12, 28), rng.uniform(12, 26), 92)
        blobs += _gut(
            (x * wide, y + rng.uniform(-6, 12), -20.0), half, build, rng, lean=(rng.uniform(-0.08, 0.08), 0.06)
        )
    for step in range(7):  # transverse colon, right to left in front
        centre = ((-72 + 24 * step) * wide, front + 24 + 3 * abs(step - 3), 34 - 14 * math.sin(step / 2))
        blobs += _gut(centre, (19, rng.uniform(12, 18), 17), build, rng)
    blobs.append(Blob((-28 * wide, spine - 42, 12), (20, 14, 30), hu["gut"] - 12, turn_deg=20))  # duodenum
    for x, y, z in ((-12, -46, 18), (14, -44, 27), (38, -36, 36), (58, -26, 45)):  # pancreas, lobe by lobe
        blobs.append(Blob((x * wide, spine + y, z), (19, 11, 17), hu["pancreas"], turn_deg=-20))
    stomach = (44 * wide, 42 - build.chest_front_mm + rng.uniform(0, 20), build.dome_mm - rng.uniform(70, 95))
    blobs += _gut(stomach, (58, rng.uniform(24, 42), rng.uniform(48, 75)), build, rng, turn_deg=-25)
    fundus = (rng.uniform(40, 54) * wide, rng.uniform(-8, 14), build.dome_mm - rng.uniform(45, 60))
    blobs += _gut(fundus, (rng.uniform(30, 46), rng.uniform(30, 48), 38), build, rng)
    for _ in range(5):  # left flexure of the colon
        centre = (rng.uniform(70, 105) * wide, rng.uniform(-60, 15), rng.uniform(45, 105))
        blobs += _gut(centre, (rng.uniform(14, 24), rng.uniform(14, 24), rng.uniform(18, 32)), build, rng)
    blobs += _liver(build, rng)
    blobs += _spleen(build, rng)
    for side, x, z in ((1, 74, 46), (-1, -72, 24)):
        across = x * wide**0.5 - side * build.kidney_in_mm
        kidney = _kidney(build, side, (across, spine + rng.uniform(-18, -2), z + rng.uniform(-28, 26)))
        blobs += [] if side == lost_kidney else kidney
    blobs += _great_vessels(build)
    for across, z in ((17.0, -30), (3.0, -8), (18.0, 22)):  # calcified plaques of the aortic wall
        if rng.random() < 0.5:
            blobs.append(Blob((across, spine - 24, z), (2.2, 3.0, 8), 600, space="trunk"))
    for across, r, name in ((8.0, 4.0, "aorta"), (-6.0, 6.0, "portal")):  # superior mesenteric artery and vein
        blobs.append(Blob((across, spine - 50, 0), (r, r, 70), hu[name], lean=(0.05, 0.12), space="trunk"))
    for side in (1, -1):  # diaphragmatic crura: muscle that body-composition protocols leave out
        crus = Blob((side * 15 + 4, spine - 17, 90), (5.5, 13, 75), build.muscle_hu, turn_deg=side * 25, space="trunk")
        blobs.append(crus)
    return blobs


def _great_vessels(build: Build) -> list[Blob]:
    """Aorta and vena cava, which part at L4 and L5; the iliac vessels belong to the pelvis."""
    hu, spine = build.hu, build.spine_mm
    aorta = Blob((9, spine - 30, 105), (10.5, 10.5, 150), hu["aorta"], lean=(-0.03, 0.01), z_power=20, space="trunk")
    cava = Blob((-19, spine - 27, 90), (13, 9.5, 160), hu["cava"], turn_deg=-15, z_power=20, space="trunk")
    return [aorta, cava]


def _spleen(build: Build, rng: np.random.Generator) -> list[Blob]:
    """It lies under the left dome, against the wall and the back of the chest; 8 to 13 cm long."""
    size, wide = rng.uniform(0.75, 1.3), build.chest_half_width_mm / 140
    centre = (rng.uniform(90, 104) * wide, rng.uniform(22, 44), build.dome_mm - rng.uniform(75, 105))
    return [Blob(centre, (34 * size, 50 * size, 54 * size), build.hu["spleen"], turn_deg=18)]


def _mesentery(build: Build, rng: np.random.Generator) -> list[Blob]:
    """Small vessels and nodes in the visceral fat."""
    hu = (build.hu["portal"], build.hu["aorta"], 45.0)
    blobs = []
    for _ in range(130):
        radius = rng.uniform(1.2, 3.2)
        centre = (rng.uniform(-95, 95), rng.uniform(-build.front_mm + 12, build.spine_mm - 30), rng.uniform(-130, 130))
        lean = (rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6))
        half = (radius * rng.uniform(1, 3), radius, rng.uniform(8, 25))
        blobs.append(Blob(centre, half, float(rng.choice(hu)), turn_deg=rng.uniform(0, 180), lean=lean))
    return blobs


def _gut(
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    build: Build,
    rng: np.random.Generator,
    turn_deg: float = 0.0,
    lean: tuple[float, float] = (0.0, 0.0),
) -> list[Blob]:
    """A loop of gut: its wall and what it holds; fluid and contrast may carry air above a level."""
    wall = Blob(centre, half, build.hu["gut"] + rng.normal(0, 6), turn_deg=turn_deg, lean=lean, power=2.2)
    kind = str(rng.choice(["collapsed", "fluid", "contrast", "stool", "air"], p=[0.25, 0.3, 0.15, 0.15, 0.15]))
    if kind == "collapsed":
        return [wall, wall.shrunk(min(half) * 0.75, rng.uniform(5, 30))]
    content_hu = {"fluid": rng.uniform(8, 40), "contrast": rng.uniform(160, 320), "stool": -20.0, "air": 25.0}[kind]
    lumen = wall.shrunk(rng.uniform(2.0, 3.5), content_hu, mottle_hu=110.0 if kind == "stool" else 0.0)
    if kind == "air" or rng.random() < 0.3:
        level = half[1] * rng.uniform(-0.6, 0.7 if kind == "air" else 0.0)
        return [wall, lumen, replace(lumen, hu=PAINTED_AIR_HU + 30.0, mottle_hu=0.0, level_mm=level)]
    return [wall, lumen]


def _liver(build: Build, rng: np.random.Generator) -> list[Blob]:
    """Two lobes with portal branches, and the gallbladder below."""
    hu, wide = build.hu, build.chest_half_width_mm / 140.0
    top, front = build.dome_mm, build.chest_front_mm
    tip = rng.uniform(-20, 60)  # how far down the right lobe reaches
    centre = (-78 * wide, rng.uniform(-14, 0), (top + 30 + tip) / 2)
    half = (rng.uniform(72, 88) * wide, rng.uniform(0.76, 0.92) * front, (top + 30 - tip) / 2)
    right = Blob(centre, half, hu["liver"], turn_deg=12, power=2.3, lean=(0.12, 0.0))
    centre = (rng.uniform(-15, 15), -front + rng.uniform(36, 50), top - rng.uniform(40, 60))
    left = Blob(centre, (rng.uniform(66, 96), rng.uniform(28, 44), 64), hu["liver"], turn_deg=-8, lean=(0.3, 0.0))
    blobs = [right, left]
    for _ in range(26):
        centre = (rng.uniform(-110, -45) * wide, rng.uniform(-50, 45), rng.uniform(25, top - 25))
        half = (rng.uniform(4, 14), rng.uniform(1.8, 4), rng.uniform(8, 18))
        blobs.append(Blob(centre, half, hu["portal"], turn_deg=rng.uniform(0, 180), lean=(rng.uniform(-1, 1), 0.4)))
    bladder = Blob((-48 * wide, -build.front_mm + 42, tip + 12), (15, 17, 26), hu["gut"], turn_deg=30)
    return [*blobs, bladder, bladder.shrunk(2.0, 9.0)]


def _kidney(build: Build, side: int, centre: tuple[float, float, float]) -> list[Blob]:
    """Fat capsule, cortex, medullary pyramids, sinus fat and renal pelvis."""
    x, y, z = centre
    hu = build.hu
    half = (25 * build.kidney, 30 * build.kidney, 56 * build.kidney)
    cortex = Blob(centre, half, hu["cortex"], turn_deg=side * 28, lean=(-side * 0.12, 0.12), space="trunk")
    blobs = [cortex.shrunk(-build.kidney_fat_mm, build.fat_hu, label=_VISCERAL), cortex]
    for step in range(14):
        turn, height = 2.4 * step, -42 + 6.4 * step
        reach = math.sqrt(max(1 - (height / 56) ** 2, 0.1))
        spot = (x - side * 0.12 * height + 13 * reach * math.cos(turn), y + 0.12 * height + 16 * reach * math.sin(turn))
        blobs.append(Blob((*spot, z + height), (7, 7, 10), hu["medulla"], space="trunk"))
    hilum = (x - side * 13, y - 5, z)
    blobs.append(Blob(hilum, (15, 8, 26), build.fat_hu, _VISCERAL, turn_deg=side * 28, space="trunk"))
    blobs.append(Blob((x - side * 20, y - 7, z), (14, 3.2, 6), hu["cava"], turn_deg=side * 25, space="trunk"))
    pelvis_hu = 400.0 if hu["aorta"] < 170 and build.phases[0] < 1 else 8.0  # now and then excreted contrast
    return [*blobs, Blob((x - side * 10, y - 3, z - 8), (7, 4.5, 9), pelvis_hu, turn_deg=side * 28, space="trunk")]
