"""What illness and surgery do to an invented patient's anatomy; none of it is muscle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sarco.anatomy.build import PAINTED_AIR_HU, Build
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.paint import SlicePainter
from sarco.anatomy.shapes import BODY, Blob
from sarco.examination.variation import Variation, among, draw_all

_VISCERAL, _SUBCUTANEOUS = INVENTED_IDS["visceral_fat"], INVENTED_IDS["subcutaneous_fat"]
ILLNESS: dict[str, Variation] = {
    "ascites": Variation(0.15, 1.0, chance=0.06, source="from a rim around the liver to a belly full of it"),
    "ascites_hu": Variation(-5, 30, source="serous 0 to 15 HU, protein, blood and pus more"),
    "oedema": Variation(0.2, 1.0, chance=0.10, source="anasarca of heart, liver and kidney failure"),
    "cysts": among(1, 2, 3, 5, 8, chance=0.20, source="simple renal cysts: a third of people over 60"),
    "masses": among(1, 2, 3, 6, chance=0.15, source="tumours, lymph nodes, metastases"),
    "mass_mm": Variation(6, 45, log=True),
    "aneurysm": Variation(1.4, 3.5, chance=0.06, absent=1.0, source="of an aorta of 21 mm, to 75 mm"),
    "lost_kidney": among(1, -1, chance=0.03, source="nephrectomy and agenesis"),
    "stoma": among(1, -1, chance=0.03, source="colostomies left, ileostomies and urostomies right"),
    "hernia_mm": Variation(8, 40, chance=0.06, source="umbilical and incisional hernias"),
    "place": Variation(0, 1),
}
HEALTHY = {name: Variation(part.absent, part.absent, 0.0, part.absent) for name, part in ILLNESS.items()}


@dataclass(frozen=True)
class Illness:
    """What one patient has; fields are those of `ILLNESS`.

    Attributes:
        ascites: how much of the fat around the organs has fluid in its place, 0..1, and its HU.
        oedema: water in the subcutaneous fat, 0..1.
        cysts: how many, of kidneys and liver.
        masses: how many, anywhere in the cavity, and their half diameter.
        aneurysm: size of the aorta, relative to average.
        lost_kidney: 1 left, -1 right, 0 none; likewise `stoma`, where gut leaves through the rectus.
        hernia_mm: half diameter of a sac of fat and gut in front of the midline, 0 for none.
        place: where each thing lies, 0..1.
    """

    ascites: float = 0.0
    ascites_hu: float = 10.0
    oedema: float = 0.0
    cysts: float = 0
    masses: float = 0
    mass_mm: float = 10.0
    aneurysm: float = 1.0
    lost_kidney: float = 0
    stoma: float = 0
    hernia_mm: float = 0.0
    place: float = 0.5


def draw_illness(rng: np.random.Generator, table: Mapping[str, Variation] = ILLNESS) -> Illness:
    """What a patient has; the same state of `rng` gives the same."""
    return Illness(**draw_all(table, rng))


def growths(build: Build, illness: Illness, rng: np.random.Generator) -> list[Blob]:
    """Cysts, masses and the aneurysm, painted over the organs.

    Args:
        build: the patient.
        illness: what the patient has.
        rng: source of where cysts and masses lie.
    """
    blobs, spine = [], build.spine_mm
    wide = build.half_width_mm / 140
    for _ in range(int(illness.cysts)):
        radius, side = rng.uniform(4, 28), rng.choice([1, -1])
        x = rng.uniform(40, 95) * side * wide
        centre = (float(x), spine + rng.uniform(-70, -5), float(rng.uniform(0, 110)))
        blobs.append(Blob(centre, (radius, radius, radius), rng.uniform(-2, 22)))
    for _ in range(int(illness.masses)):
        half = illness.mass_mm * rng.uniform(0.5, 1.5, 3)
        centre = (rng.uniform(-100, 100) * wide, rng.uniform(-build.front_mm, spine), rng.uniform(-160, 180))
        hu = build.hu["gut"] + rng.normal(0, 25)
        mass = Blob(centre, tuple(half.tolist()), hu, turn_deg=rng.uniform(0, 180), power=1.8)
        blobs.append(mass)
        if rng.random() < 0.3:  # dead in its middle
            blobs.append(mass.shrunk(float(half.min()) * 0.4, rng.uniform(5, 25)))
    if illness.aneurysm > 1:
        size = 10.5 * illness.aneurysm
        centre = (9.0, spine - 19.5 - size, float(np.interp(illness.place, (0, 1), (-10, 40))))
        sac = Blob(centre, (size, size, size * 2.2), 38, space="trunk")
        blobs += [sac, sac.shrunk(size * rng.uniform(0.05, 0.5), build.hu["aorta"])]
    return blobs


def openings(build: Build, illness: Illness) -> list[Blob]:
    """Gut that leaves the cavity: through the rectus to a stoma, or into a hernia; painted over the wall."""
    front, gut_hu, blobs = -build.front_mm, build.hu["gut"], []
    if illness.stoma:
        x = illness.stoma * (34 + 22 * illness.place)
        centre = (x, front * math.sqrt(max(1 - (x / build.half_width_mm) ** 2, 0.2)) - 6, -30 + 30 * illness.place)
        loop = Blob(centre, (13, 24 + build.fat_mm, 14), gut_hu, BODY, power=2.4, space="anywhere")
        blobs += [loop, loop.shrunk(4, PAINTED_AIR_HU + 30.0 if illness.place < 0.3 else 15)]
    if illness.hernia_mm:
        size = min(illness.hernia_mm, 0.6 * build.fat_mm + 4)
        centre = (6 * illness.place - 3, front - 0.75 * size, -60 + 80 * illness.place)
        sac = Blob(centre, (1.4 * size, size, 1.4 * size), build.fat_hu + 12, _VISCERAL, space="anywhere")
        blobs.append(sac)
        if size > 10 and illness.place > 0.4:
            blobs += [sac.shrunk(0.35 * size, gut_hu, label=BODY), sac.shrunk(0.35 * size + 3, 12, label=BODY)]
    return blobs


def paint_fluids(painter: SlicePainter, illness: Illness) -> None:
    """Ascites in the cavity's fat, nearest to the wall first, and water in the subcutaneous fat, where it settles."""
    if illness.ascites:
        inward = painter.depth - painter.layers["lining"]
        reach = 45 * illness.ascites + 0.25 * painter.level_y
        fluid = painter.cavity & (inward < reach) & (painter.labels == _VISCERAL)
        painter.fill(fluid, illness.ascites_hu, BODY)
    if illness.oedema:
        fat = painter.labels == _SUBCUTANEOUS
        strands = np.maximum(np.sin(painter.x / 3.3 + painter.mottle) + np.sin(painter.y / 2.7 - painter.z / 9), 0)
        settled = np.clip(0.6 + painter.level_y / 250, 0.2, 1.2)
        painter.hu[fat] += (illness.oedema * settled * (25 + 45 * strands))[fat]
