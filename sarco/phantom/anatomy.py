"""The anatomy behind `sarco.phantom.patient`: one invented patient as implicit functions of body coordinates.

Body coordinates are mm of a patient of average size: x to the patient's left, y posterior, z superior; the origin lies
on the trunk's axis at mid-L3. Every structure is a function of these coordinates, painted over what was painted before,
so any grid (oblique, anisotropic, any field of view) is evaluated exactly at its voxel centres.
The anatomy is meant for -110 <= z <= 110 mm, below the lungs and above the hips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Space = Literal["anywhere", "trunk", "cavity"]

GROUP_NAMES = {
    1: "abdominal_wall",
    2: "psoas_left",
    3: "psoas_right",
    4: "paraspinal_left",
    5: "paraspinal_right",
    6: "quadratus_left",
    7: "quadratus_right",
}
WALL, PSOAS, PARASPINAL, QUADRATUS = 1, 2, 4, 6  # left; the paired ones are one higher on the right

PAINTED_AIR_HU, SKIN_HU, FASCIA_HU, CORTEX_HU, MARROW_HU, DISC_HU, CARTILAGE_HU = -1000, 25, 15, 620, 165, 85, 105
# What contrast changes, in HU: three phases of one abdomen.
PHASE_HU: dict[str, dict[str, float]] = {
    "native": {
        "aorta": 42,
        "cava": 40,
        "portal": 42,
        "liver": 56,
        "spleen": 48,
        "cortex": 34,
        "medulla": 32,
        "gut": 40,
        "pancreas": 38,
    },
    "arterial": {
        "aorta": 310,
        "cava": 85,
        "portal": 110,
        "liver": 72,
        "spleen": 115,
        "cortex": 190,
        "medulla": 75,
        "gut": 85,
        "pancreas": 99,
    },
    "venous": {
        "aorta": 155,
        "cava": 140,
        "portal": 165,
        "liver": 106,
        "spleen": 118,
        "cortex": 185,
        "medulla": 160,
        "gut": 82,
        "pancreas": 88,
    },
}
VERTEBRA_STEP_MM = 36.0
WARP_REACH_MM = 8.0  # the most that the warps below move a point in x or y
_TABLE_SIZE = 4096  # directions around the trunk in the polar tables: 0.2 mm apart at the skin


@dataclass(frozen=True)
class Build:
    """What makes one patient: lengths in mm at average size, attenuation in HU.

    Attributes:
        scale: size of the patient relative to average (all lengths are multiplied by it).
        sides: muscle size on the left and on the right, relative to each other.
        marbling: share of the paraspinal muscle replaced by fat, 0..0.3.
        phases: phases in radians of the slow waves that make outlines irregular.
        roll_deg: turn of the body in the image, from its left towards its back.
        gravity_deg: where down is in the image: 0 the back of a body that is not turned, 90 its left.
        hu: attenuation of the structures that contrast changes; keys of `PHASE_HU`.
    """

    scale: float
    half_width_mm: float
    front_mm: float
    back_mm: float
    roundness: float
    fat_mm: float
    fat_front: float
    wall_mm: float
    rectus_mm: float
    rectus_gap_deg: float
    psoas_mm: float
    paraspinal_mm: float
    sides: tuple[float, float]
    marbling: float
    muscle_hu: float
    fat_hu: float
    phase: str
    phases: tuple[float, ...]
    roll_deg: float = 0.0
    gravity_deg: float = 0.0
    hu: dict[str, float] = field(default_factory=dict)

    @property
    def spine_mm(self) -> float:
        """Y of the vertebral bodies' centre."""
        return self.back_mm - 60.0


def draw_build(rng: np.random.Generator) -> Build:
    """One patient drawn at random.

    Args:
        rng: source of randomness; the same state gives the same patient.
    """
    stout = float(rng.beta(1.6, 2.2))  # 0 lean .. 1 obese
    strong = float(rng.beta(2.5, 2.0))  # 0 wasted .. 1 athletic
    phase = str(rng.choice(list(PHASE_HU), p=[0.3, 0.2, 0.5]))
    hu = {name: float(value + rng.normal(0, 4 + 0.05 * value)) for name, value in PHASE_HU[phase].items()}
    unevenness = float(rng.uniform(-0.07, 0.07))
    return Build(
        scale=float(rng.uniform(0.9, 1.1)),
        half_width_mm=float(rng.uniform(130, 146) + 26 * stout),
        front_mm=float(rng.uniform(84, 100) + 38 * stout),
        back_mm=float(rng.uniform(82, 90)),
        roundness=float(rng.uniform(2.15, 2.6)),
        fat_mm=float(7 + 30 * stout * rng.uniform(0.6, 1.2)),
        fat_front=float(rng.uniform(0.1, 0.9)),
        wall_mm=float(10 + 11 * strong + rng.normal(0, 1)),
        rectus_mm=float(7 + 7 * strong),
        rectus_gap_deg=float(rng.uniform(2, 8)),
        psoas_mm=float(13 + 9 * strong + rng.normal(0, 1)),
        paraspinal_mm=float(24 + 9 * strong),
        sides=(1 + unevenness, 1 - unevenness),
        marbling=float(np.clip(rng.beta(1.2, 5) * 0.5 + 0.02, 0.02, 0.3)),
        muscle_hu=float((42 + 14 * strong + rng.normal(0, 4)) + (0 if phase == "native" else 7)),
        fat_hu=float(rng.uniform(-112, -98)),
        phase=phase,
        phases=tuple(float(p) for p in rng.uniform(0, 2 * math.pi, 12)),
        hu=hu,
    )


@dataclass(frozen=True)
class Blob:
    """A superellipsoid painted in one attenuation; it may turn, lean and taper along the body axis.

    Attributes:
        centre_mm: (x, y, z) in body coordinates.
        half_mm: half axes (x, y, z); z may be infinite.
        hu: attenuation.
        label: id in `GROUP_NAMES`, 0 for everything that is not labelled muscle.
        turn_deg: turn about z, from x towards y.
        power: within a slice 2 is an ellipse, more is boxier.
        z_power: the same along the body axis: high for flat ends.
        lean: shift of the centre in x and y per mm of z.
        growth_per_mm: relative change of the x and y half axes per mm of z.
        space: where it may be painted; what lies in the cavity also has a more irregular outline.
        level_mm: painted only above this height relative to the centre (towards the ceiling): air over fluid.
        mottle_hu: amplitude of a coarse mottle (stool).
    """

    centre_mm: tuple[float, float, float]
    half_mm: tuple[float, float, float]
    hu: float
    label: int = 0
    turn_deg: float = 0.0
    power: float = 2.0
    z_power: float = 2.0
    lean: tuple[float, float] = (0.0, 0.0)
    growth_per_mm: float = 0.0
    space: Space = "cavity"
    level_mm: float | None = None
    mottle_hu: float = 0.0

    def shrunk(self, depth_mm: float, hu: float, **changes: int | float) -> Blob:
        """The same shape `depth_mm` further in: a lumen in its wall, marrow in its cortex."""
        x, y, z = (max(half - depth_mm, 0.3) for half in self.half_mm)
        return replace(self, half_mm=(x, y, z), hu=hu, **changes)  # type: ignore[arg-type]


def organs(build: Build, rng: np.random.Generator) -> list[Blob]:
    """Abdominal organs, gut and vessels in painting order; none of them is labelled."""
    hu, spine, front = build.hu, build.spine_mm, -build.front_mm
    wide = build.half_width_mm / 140.0
    inf = math.inf
    blobs = _mesentery(build, rng)
    for _ in range(int(rng.integers(55, 120))):
        centre = (rng.uniform(-84, 92) * wide, rng.uniform(front + 16, spine - 34), rng.uniform(-130, 55))
        half = (rng.uniform(10, 24), rng.uniform(9, 15), rng.uniform(12, 30))
        blobs += _gut(centre, half, build, rng, turn_deg=rng.uniform(-60, 60))
    for x, y in ((-94.0, -4.0), (97.0, 4.0)):  # ascending and descending colon
        half = (rng.uniform(13, 24), rng.uniform(13, 24), inf)
        blobs += _gut((x * wide, y, 0.0), half, build, rng, lean=(rng.uniform(-0.08, 0.08), 0.06))
    for step in range(7):  # transverse colon, right to left in front
        centre = ((-72 + 24 * step) * wide, front + 24 + 3 * abs(step - 3), 34 - 14 * math.sin(step / 2))
        blobs += _gut(centre, (19, rng.uniform(12, 18), 17), build, rng)
    blobs.append(Blob((-28 * wide, spine - 42, 12), (20, 14, 30), hu["gut"] - 12, turn_deg=20))  # duodenum
    for x, y, z in ((-12, -46, 18), (14, -44, 27), (38, -36, 36), (58, -26, 45)):  # pancreas, lobe by lobe
        blobs.append(Blob((x * wide, spine + y, z), (19, 11, 17), hu["pancreas"], turn_deg=-20))
    blobs += _gut((46 * wide, front + 45, 72), (58, 34, 44), build, rng, turn_deg=-25)  # stomach
    blobs += _liver(build, rng)
    blobs.append(Blob((94 * wide, 34, 82), (30, 52, 52), hu["spleen"], turn_deg=18))
    for side, x, z in ((1, 74, 34), (-1, -72, 16)):
        blobs += _kidney(build, side, (x * wide**0.5, spine + rng.uniform(-3, 5), z + rng.uniform(-8, 8)))
    aorta = Blob((10, spine - 29, 0), (10.5, 10.5, inf), hu["aorta"], lean=(-0.03, 0.01), space="trunk")
    blobs += [
        aorta,
        replace(aorta, centre_mm=(-19, spine - 26, 0), half_mm=(13, 9.5, inf), hu=hu["cava"], turn_deg=-15),
    ]
    for across, z in ((17.0, -30), (3.0, -8), (18.0, 22)):  # calcified plaques of the aortic wall
        if rng.random() < 0.5:
            blobs.append(Blob((across, spine - 24, z), (2.2, 3.0, 8), 600, space="trunk"))
    for across, r, name in ((8.0, 4.0, "aorta"), (-6.0, 6.0, "portal")):  # superior mesenteric artery and vein
        blobs.append(Blob((across, spine - 50, 0), (r, r, 70), hu[name], lean=(0.05, 0.12), space="trunk"))
    for side in (1, -1):  # diaphragmatic crura: muscle that body-composition protocols leave out
        crus = Blob((side * 15 + 4, spine - 17, 70), (5.5, 13, 60), build.muscle_hu, turn_deg=side * 25, space="trunk")
        blobs.append(crus)
    return blobs


def _mesentery(build: Build, rng: np.random.Generator) -> list[Blob]:
    """Small vessels and nodes in the visceral fat."""
    hu = (build.hu["portal"], build.hu["aorta"], 45.0)
    blobs = []
    for _ in range(130):
        radius = rng.uniform(1.2, 3.2)
        centre = (rng.uniform(-95, 95), rng.uniform(-build.front_mm + 12, build.spine_mm - 30), rng.uniform(-120, 110))
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
    hu, wide = build.hu, build.half_width_mm / 140.0
    right = Blob(
        (-80 * wide, -6, rng.uniform(92, 125)), (76, 88, 118), hu["liver"], turn_deg=12, power=2.3, lean=(0.12, 0.0)
    )
    left = Blob((-5, -build.front_mm + 38, 112), (76, 30, 66), hu["liver"], turn_deg=-8, lean=(0.3, 0.0))
    blobs = [right, left]
    for _ in range(26):
        centre = (rng.uniform(-110, -45) * wide, rng.uniform(-50, 45), rng.uniform(25, 115))
        half = (rng.uniform(4, 14), rng.uniform(1.8, 4), rng.uniform(8, 18))
        blobs.append(Blob(centre, half, hu["portal"], turn_deg=rng.uniform(0, 180), lean=(rng.uniform(-1, 1), 0.4)))
    bladder = Blob((-48 * wide, -build.front_mm + 42, 18), (15, 17, 26), hu["gut"], turn_deg=30)
    return [*blobs, bladder, bladder.shrunk(2.0, 9.0)]


def _kidney(build: Build, side: int, centre: tuple[float, float, float]) -> list[Blob]:
    """Fat capsule, cortex, medullary pyramids, sinus fat and renal pelvis."""
    x, y, z = centre
    hu = build.hu
    cortex = Blob(centre, (25, 30, 56), hu["cortex"], turn_deg=side * 28, lean=(-side * 0.12, 0.12), space="trunk")
    blobs = [cortex.shrunk(-7, build.fat_hu), cortex]
    for step in range(14):
        turn, height = 2.4 * step, -42 + 6.4 * step
        reach = math.sqrt(max(1 - (height / 56) ** 2, 0.1))
        spot = (x - side * 0.12 * height + 13 * reach * math.cos(turn), y + 0.12 * height + 16 * reach * math.sin(turn))
        blobs.append(Blob((*spot, z + height), (7, 7, 10), hu["medulla"], space="trunk"))
    hilum = (x - side * 13, y - 5, z)
    blobs.append(Blob(hilum, (15, 8, 26), build.fat_hu, turn_deg=side * 28, space="trunk"))
    blobs.append(Blob((x - side * 20, y - 7, z), (14, 3.2, 6), hu["cava"], turn_deg=side * 25, space="trunk"))
    pelvis_hu = 400.0 if hu["aorta"] < 170 and build.phases[0] < 1 else 8.0  # now and then excreted contrast
    return [*blobs, Blob((x - side * 10, y - 3, z - 8), (7, 4.5, 9), pelvis_hu, turn_deg=side * 28, space="trunk")]


def muscles(build: Build) -> list[Blob]:
    """Labelled muscles beside the spine; the wall is a ring of its own."""
    spine, hu, blobs = build.spine_mm, build.muscle_hu, []
    for side, right in ((1, 0), (-1, 1)):
        size = build.sides[right]
        deep = build.paraspinal_mm * size
        quadratus = Blob(
            (side * 63, spine + 17, -15), (21, 8.5 * size, 78), hu - 2, QUADRATUS + right, side * 22.0, 2.2
        )
        psoas_mm = build.psoas_mm * size
        psoas = Blob(
            (side * (26 + 0.85 * psoas_mm), spine + 2, -10),
            (0.92 * psoas_mm, 1.12 * psoas_mm, 105),
            hu + 2,
            PSOAS + right,
            turn_deg=side * 20.0,
            lean=(-side * 0.14, 0.10),
            growth_per_mm=-0.0065,
            power=2.3,
        )
        back = Blob(
            (side * 34, spine + 36, 0), (deep, 0.72 * deep, math.inf), hu - 3, PARASPINAL + right, -side * 8.0, 2.6
        )
        for muscle in (quadratus, back, psoas):
            rim = muscle.shrunk(-1.3, build.fat_hu, label=0)  # a thin sheet of fat parts it from its neighbour
            blobs += [replace(rim, space="trunk"), replace(muscle, space="trunk")]
    return blobs


def bones(build: Build) -> list[Blob]:
    """Vertebrae, discs and the spinal canal, four levels up and down from L3."""
    spine, blobs = build.spine_mm, []
    canal = Blob((0, spine + 25, 0), (12, 9.5, math.inf), -60, space="trunk")
    for level in range(-4, 5):
        z = level * VERTEBRA_STEP_MM
        body = _bone((0, spine, z), (25.5, 18, 14.5), power=2.5)
        disc = Blob((0, spine, z + VERTEBRA_STEP_MM / 2), (25.5, 18, 5), DISC_HU, power=2.6, z_power=8, space="trunk")
        arch = _bone((0, spine + 47, z - 6), (3.6, 14, 13), power=2.5)
        for side in (1, -1):
            arch += _bone((side * 15, spine + 19, z + 4), (5, 10, 8))
            arch += _bone((side * 9, spine + 36, z - 4), (11, 3.6, 14), side * -38.0)
            arch += _bone((side * 18, spine + 31, z - 10), (6.5, 8, 11), side * 25.0)
            arch += _bone((side * 31, spine + 21, z + 2), (17, 3.6, 6), side * 10.0)
        blobs += [disc, *arch, *body]
    return [*blobs, canal, canal.shrunk(1.8, 22), Blob((0, spine + 27, 0), (4, 2.5, math.inf), 38, space="trunk")]


def _bone(
    centre: tuple[float, float, float], half: tuple[float, float, float], turn_deg: float = 0.0, power: float = 2.0
) -> list[Blob]:
    cortex = Blob(centre, half, CORTEX_HU, turn_deg=turn_deg, power=power, z_power=power**2, space="trunk")
    return [cortex, cortex.shrunk(1.5, MARROW_HU, mottle_hu=14.0)]


@dataclass(frozen=True)
class Ring:
    """Polar tables of the trunk, (4096,) each, over the direction -pi..pi from the front (0) to the left (+pi/2).

    Attributes:
        radius_mm: distance from the axis to the outside of the muscle wall.
        fat_mm: thickness of subcutaneous fat with skin.
        rectus_mm: thickness of the rectus muscles.
        lateral_mm: thickness of the three lateral wall muscles.
        dorsal_mm: thickness of the latissimus, which appears in the upper slices.
    """

    radius_mm: Plane
    fat_mm: Plane
    rectus_mm: Plane
    lateral_mm: Plane
    dorsal_mm: Plane

    def at(self, turn: Plane, name: str) -> Plane:
        """A table's values for directions in radians."""
        table: Plane = getattr(self, name)
        place = (turn * (_TABLE_SIZE / (2 * math.pi)) + _TABLE_SIZE / 2).astype(np.int32)
        return np.take(table, place, mode="wrap")


def draw_ring(build: Build) -> Ring:
    """The outline of the trunk and the thickness of its layers, all around."""
    turn = np.linspace(-math.pi, math.pi, _TABLE_SIZE, endpoint=False)
    away_deg = np.degrees(np.abs(turn))
    across, along = np.sin(turn), -np.cos(turn)
    depth = np.where(along < 0, build.front_mm, build.back_mm)
    p, q = build.roundness, build.phases
    radius = (np.abs(across / build.half_width_mm) ** p + np.abs(along / depth) ** p) ** (-1 / p)
    radius *= 1 + 0.012 * np.cos(3 * turn + q[1]) + 0.008 * np.cos(5 * turn + q[2])
    radius -= 8 * np.exp(-(((180 - away_deg) / 6) ** 2))  # the furrow over the spinous processes
    fat = 0.7 + build.fat_front * 0.9 * np.cos(turn / 2) ** 8 + 0.45 * np.exp(-(((away_deg - 140) / 28) ** 2))
    fat = build.fat_mm * (fat + 0.08 * np.cos(2 * turn + q[3]) + 0.05 * np.cos(7 * turn + q[4])) + 2.5
    side = np.where(turn > 0, *build.sides)
    rectus = build.rectus_mm * side * _plateau(away_deg, build.rectus_gap_deg / 2, 36, 9)
    lateral = build.wall_mm * side * _plateau(away_deg, 41, 142, 34)
    dorsal = 7.0 * side * _plateau(away_deg, 118, 163, 14)
    return Ring(*(table.astype(np.float32) for table in (radius, fat, rectus, lateral, dorsal)))


def _plateau(value: NDArray[np.float64], low: float, high: float, edge: float) -> NDArray[np.float64]:
    """1 between `low` and `high`, falling to 0 at both over a width of `edge`."""
    t = np.clip(np.minimum(value - low, high - value) / edge, 0, 1)
    return np.sqrt(t * (2 - t))
