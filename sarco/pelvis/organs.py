"""What lies in the pelvis of an invented patient (bladder, rectum, uterus or prostate, vessels), and its cavity.

Sizes: uterus 7 to 9 cm long before the menopause and 4 to 6 cm after it, 4 to 6 cm wide (ultrasound reference values,
Merz 1996, Ultrasound Obstet Gynecol 7:38); prostate 25 to 80 ml (Berry 1984, J Urol 132:474, autopsies by age); bladder
from empty to 500 ml; external iliac artery about 8 to 10 mm wide.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sarco.anatomy.build import PAINTED_AIR_HU, Build
from sarco.anatomy.paint import SlicePainter
from sarco.anatomy.shapes import Blob
from sarco.pelvis.bones import ILIUM
from sarco.pelvis.frame import Half, Pelvis
from sarco.pelvis.shapes import Cord, Sheet

# The cavity between the bones: above, the iliac wings; then the brim, the side walls and the pelvic floor.
CAVITY = Cord(
    (
        (-225, 0, 6, 0, 0),
        (-216, 0, 6, 22, 34),
        (-205, 0, -4, 38, 54),
        (-190, 0, -16, 52, 78),
        (-171, 0, -20, 60, 86),
        (-159, 0, -20, 72, 92),
        (-147, 0, -22, 92, 92),
        (-135, 0, -28, 112, 96),
        (-123, 0, -32, 128, 98),
        (-108, 0, -40, 160, 110),
        (-95, 0, -40, 300, 300),
    ),
    power=2.3,
)
ARTERY = Cord(
    (
        (-300, 78, -62, 5, 5),
        (-219, 78, -68, 5, 5),
        (-183, 70, -71, 5, 5),
        (-159, 66, -66, 5, 5),
        (-147, 61, -60, 5, 5),
        (-123, 49, -42, 5, 5),
        (-105, 38, -32, 5.5, 5.5),
        (-88, 28, -30, 6, 6),
        (-70, 18, -30, 6, 6),
        (-60, 12, -30, 6, 6),
        (-54, 10, -30, 0, 0),
    )
)
VEIN = Cord(
    (
        (-300, 70, -54, 6, 6),
        (-219, 68, -60, 6, 6),
        (-183, 58, -65, 7, 6),
        (-159, 56, -58, 7, 6),
        (-147, 54, -50, 7, 6),
        (-123, 46, -28, 7, 6),
        (-105, 36, -16, 7, 6),
        (-88, 24, -22, 8, 6),
        (-76, 14, -24, 9, 6),
        (-70, 10, -25, 0, 0),
    )
)
INTERNAL_ILIAC = Cord(
    ((-160, 46, 24, 2, 2), (-135, 44, 16, 3, 3), (-115, 44, -6, 4, 4), (-102, 38, -24, 4, 4), (-98, 37, -26, 0, 0))
)
LEVATOR = Sheet(
    ((-222, 8, 30, 12, 44, 0, 0), (-212, 12, 4, 12, 46, 5, 2), (-196, 36, 4, 10, 62, 5, 6), (-186, 46, 8, 10, 68, 0, 6))
)


def limit_cavity(painter: SlicePainter, pelvis: Pelvis) -> None:
    """Takes the hips and the thighs out of the space in which organs lie; before the trunk is painted."""
    if painter.z_range[0] > -40:
        return
    for side in (1, -1):
        half = Half(painter, pelvis, side)
        place = half.place
        keep = np.zeros(half.inside.shape, np.bool_)
        if CAVITY.box(place) is not None:
            keep = (CAVITY.depth(place).outside < 0) & (place.y < 78)
        if ILIUM.box(place) is not None:
            keep &= ILIUM.depth(place).across < 0
        half.cavity[...] &= keep | (place.x < 0)


def pelvic_organs(build: Build, pelvis: Pelvis, rng: np.random.Generator) -> list[Blob]:
    """Loops of gut, rectum and anal canal, uterus or prostate, and the bladder, the last one on top."""
    soft = build.hu["gut"]
    blobs = []
    for _ in range(int(rng.integers(5, 12))):  # sigmoid and ileum
        point = (rng.uniform(-45, 45), rng.uniform(-60, 30), rng.uniform(-165, -100))
        loop = Blob(pelvis.body_mm(build, point), (rng.uniform(9, 22), rng.uniform(9, 14), rng.uniform(10, 25)), soft)
        blobs += _hollow(replace(loop, turn_deg=float(rng.uniform(-80, 80)), power=2.2), rng)
    wide = float(rng.uniform(9, 24))
    for y, z, share in ((48, -128, 0.9), (42, -150, 1.2), (36, -172, 1.2), (32, -192, 0.9)):
        centre = pelvis.body_mm(build, (rng.uniform(-4, 4), y, z))
        blobs += _hollow(Blob(centre, (wide * share, min(wide * share, 17), 17), soft, z_power=3), rng)
    anal = Blob(pelvis.body_mm(build, (0, 36, -214)), (11, 14, 16), build.muscle_hu, lean=(0, -0.3), space="trunk")
    blobs += [anal, anal.shrunk(8, soft - 30)]
    blobs += _uterus(build, pelvis, rng) if build.sex == "F" else _prostate(build, pelvis, rng)
    return blobs + _bladder(build, pelvis, rng)


def _hollow(wall: Blob, rng: np.random.Generator) -> list[Blob]:
    """A piece of gut with what it holds."""
    kind = str(rng.choice(["collapsed", "fluid", "stool", "air"], p=[0.35, 0.25, 0.25, 0.15]))
    if kind == "collapsed":
        return [wall, wall.shrunk(min(wall.half_mm) * 0.7, wall.hu - 15)]
    lumen = wall.shrunk(2.5, float(rng.uniform(5, 35)))
    if kind == "stool":
        return [wall, replace(lumen, hu=-20.0, mottle_hu=110.0)]
    if kind == "air":
        return [wall, lumen, replace(lumen, hu=PAINTED_AIR_HU + 30.0, level_mm=float(rng.uniform(-4, 8)))]
    return [wall, lumen]


def _uterus(build: Build, pelvis: Pelvis, rng: np.random.Generator) -> list[Blob]:
    """Body with its cavity, cervix, vagina, and an ovary on either side."""
    size = float(rng.uniform(0.55, 1.2))
    hu = build.hu["gut"] + float(rng.uniform(0, 30)) + (0 if build.phase == "native" else 25)
    aside = float(rng.uniform(-18, 18))
    lean = (0.0, float(rng.uniform(-0.9, 0.3)))  # anteverted or retroverted
    fundus = Blob(
        pelvis.body_mm(build, (aside, -6, -146)), (26 * size, 22 * size, 27 * size), hu, lean=lean, space="trunk"
    )
    neck = Blob(pelvis.body_mm(build, (aside / 3, 6, -174)), (14, 13, 17), hu, space="trunk")
    vagina = Blob(pelvis.body_mm(build, (0, 8, -202)), (16, 6, 24), build.hu["gut"], power=2.4, space="trunk")
    blobs = [vagina, neck, fundus, replace(fundus, half_mm=(10 * size, 3, 14 * size), hu=hu - 30)]
    for side in (1, -1):
        centre = pelvis.body_mm(build, (side * rng.uniform(34, 48), rng.uniform(-14, 12), rng.uniform(-150, -132)))
        ovary = Blob(centre, (9 + 6 * size, 8, 11), build.hu["gut"], space="trunk")
        blobs += [ovary, replace(ovary, half_mm=(4.0, 4.0, 5.0), hu=14.0)]
    return blobs


def _prostate(build: Build, pelvis: Pelvis, rng: np.random.Generator) -> list[Blob]:
    """Prostate, seminal vesicles, and the root of the penis."""
    size = float(rng.uniform(0.85, 1.45))
    hu = build.hu["gut"] + float(rng.uniform(0, 15))
    gland = Blob(pelvis.body_mm(build, (0, -6, -202)), (23 * size, 17 * size, 17 * size), hu, power=2.3, space="trunk")
    blobs = [gland]
    for side in (1, -1):
        centre = pelvis.body_mm(build, (side * 19, 12, -182))
        blobs.append(Blob(centre, (17, 5.5, 8), hu - 12, turn_deg=side * 12.0, space="trunk"))
        centre = pelvis.body_mm(build, (side * 16, -14, -228))
        blobs.append(Blob(centre, (7, 7, 14), build.hu["gut"], lean=(side * -0.3, 0.3), space="trunk"))
    root = Blob(pelvis.body_mm(build, (0, -22, -228)), (9, 11, 12), build.hu["gut"], space="trunk")
    return [*blobs, root]


def _bladder(build: Build, pelvis: Pelvis, rng: np.random.Generator) -> list[Blob]:
    """From empty to full; with contrast that was excreted in few."""
    full = float(rng.beta(1.3, 1.5))
    half = (20 + 26 * full, 14 + 28 * full, 12 + 34 * full)
    centre = pelvis.body_mm(build, (rng.uniform(-5, 5), -50 + 6 * full, -193 + half[2]))
    wall = Blob(centre, half, build.hu["gut"], power=2.3)
    urine = wall.shrunk(float(rng.uniform(1.5, 3) + 3 * (1 - full)), float(rng.uniform(-2, 14)))
    if build.phase == "venous" and rng.random() < 0.15:
        return [wall, urine, replace(urine, hu=float(rng.uniform(150, 600)), level_mm=None, half_mm=urine.half_mm)]
    return [wall, urine]


def paint_vessels(half: Half) -> None:
    """Iliac and femoral vessels of one side, and the pelvic floor."""
    near = half.near(LEVATOR.box(half.place))
    if near is not None:
        near.fill(LEVATOR.depth(near.place).outside < 0, half.build.muscle_hu - 5, "body")
    hard = half.build.phases[3] < 2
    vein = 0.5 * (half.build.hu["cava"] + half.build.hu["portal"])
    for vessel, hu in ((INTERNAL_ILIAC, half.build.hu["aorta"]), (VEIN, vein), (ARTERY, half.build.hu["aorta"])):
        near = half.near(vessel.box(half.place))
        if near is None:
            continue
        depth = vessel.depth(near.place)
        near.fill(depth.outside < 0, hu, "body")
        if vessel is ARTERY and hard:
            plaque = (depth.outside < 0) & (depth.outside > -1.5) & (depth.across > 2) & (np.sin(near.place.z / 11) > 0)
            near.fill(plaque, 550.0, "body")
