"""One invented patient's build: lengths in mm at average size, attenuation in HU, and how the spine bends.

Body coordinates are mm of a patient of average size: x to the patient's left, y posterior, z superior. They run along
the spine: the origin lies on the trunk's axis at mid-L3, and x and y are measured from that axis wherever it bends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

PAINTED_AIR_HU, SKIN_HU, FASCIA_HU, CORTEX_HU, MARROW_HU, DISC_HU = -1000, 25, 15, 620, 165, 85
# Costal cartilage of adults: 80 to 130 HU (Lau 2011, doi 10.1016/j.jmbbm.2010.12.003, calcification apart).
CARTILAGE_HU = (75, 140)
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
# Supine, the thoracic spine and the sacrum lie further back than L3: z and y of the axis in mm.
CURVE_Z_MM = (-240.0, -170.0, -110.0, -60.0, -20.0, 20.0, 60.0, 110.0, 170.0, 240.0)
CURVE_Y_MM = (6.0, 6.0, 6.0, 3.0, 0.0, 0.0, 2.0, 8.0, 17.0, 27.0)


@dataclass(frozen=True)
class Build:
    """What makes one patient: lengths in mm at average size, attenuation in HU.

    Attributes:
        scale: size of the patient relative to average (all lengths are multiplied by it).
        sex: "F" or "M".
        half_width_mm: half the width of the trunk inside its subcutaneous fat at L3; likewise for chest and hips.
        front_mm: depth in front of the axis at L3; likewise for the chest.
        spine_mm: y of the vertebral bodies' centre.
        fat_mm: typical thickness of subcutaneous fat.
        margin_mm: how much higher than average the costal margin lies.
        dome_mm: z of the right dome of the diaphragm.
        crest_mm: z of the top of the iliac crest.
        lining_mm: fat between the wall and what lies in the cavity.
        sides: muscle size on the left and on the right, relative to each other.
        marbling: share of the muscle beside the spine replaced by fat, 0..0.5.
        bend: (left, back): how far the spine bends sideways at most, and how strongly it curves (1 as on average).
        phases: phases in radians of the slow waves that make outlines irregular.
        hu: attenuation of the structures that contrast changes; keys of `PHASE_HU`.
        quadratus: thickness of the quadratus lumborum, relative to average.
        back_wide: half width of the muscles of the back beside the ribs, relative to average.
        mantle_mm: thickness of latissimus and trapezius over the muscles of the back.
        cartilage_hu: attenuation of costal cartilage; `cartilage` is its thickness relative to a rib's.
        kidney: size of the kidneys, relative to average.
        kidney_fat_mm: fat around the kidneys; lean people have none to speak of.
        kidney_in_mm: how much nearer to the spine than average the kidneys lie.
        roll_deg: turn of the body in the image, from its left towards its back.
        gravity_deg: where down is in the image: 0 posterior, 90 the patient's left.
    """

    scale: float
    sex: str
    half_width_mm: float
    chest_half_width_mm: float
    hip_half_width_mm: float
    front_mm: float
    chest_front_mm: float
    spine_mm: float
    roundness: float
    fat_mm: float
    fat_front: float
    wall_mm: float
    rectus_mm: float
    rectus_gap_deg: float
    psoas_mm: float
    paraspinal_mm: float
    margin_mm: float
    dome_mm: float
    crest_mm: float
    lining_mm: float
    sides: tuple[float, float]
    marbling: float
    muscle_hu: float
    fat_hu: float
    phase: str
    bend: tuple[float, float]
    phases: tuple[float, ...]
    quadratus: float
    back_wide: float
    mantle_mm: float
    cartilage_hu: float
    cartilage: float
    kidney: float
    kidney_fat_mm: float
    kidney_in_mm: float
    hu: dict[str, float] = field(default_factory=dict)
    roll_deg: float = 0.0
    gravity_deg: float = 0.0

    def axis_mm(self, z: NDArray[np.float64] | float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X and y of the body's axis at heights `z`, before it is straightened."""
        z = np.asarray(z, np.float64)
        x = self.bend[0] * np.sin(z / 70 + self.phases[11])
        return x, self.bend[1] * np.interp(z, CURVE_Z_MM, CURVE_Y_MM)

    @property
    def level_turn_rad(self) -> float:
        """How the body is turned against gravity, from its left towards its back."""
        return math.radians(self.roll_deg + self.gravity_deg)

    @property
    def back_mm(self) -> float:
        """Y of the fascia over the muscles of the back at L3."""
        return self.spine_mm + 26 + 1.45 * self.paraspinal_mm


def draw_build(rng: np.random.Generator) -> Build:
    """One patient drawn at random, from cachectic to a BMI of about 45.

    Args:
        rng: source of randomness; the same state gives the same patient.
    """
    sex = str(rng.choice(["F", "M"]))
    male = float(sex == "M")
    stout = float(rng.beta(1.3, 2.0))  # 0 cachectic .. 1 a BMI of about 45
    belly = float(np.clip(stout + rng.normal(0, 0.15) + 0.1 * (male - 0.5), 0, 1.1))  # visceral fat, men more
    strong = float(np.clip(rng.beta(2.2, 2.0) + 0.12 * (male - 0.5), 0, 1))  # 0 wasted .. 1 athletic
    phase = str(rng.choice(list(PHASE_HU), p=[0.4, 0.15, 0.45]))
    unevenness = float(rng.uniform(-0.09, 0.09))
    fatty = float(rng.beta(1.1, 3.2))  # myosteatosis, 0 none .. 1 severe
    # Muscle of the trunk: 30 to 65 HU in health, down to about 0 in myosteatosis (Aubrey 2014, PMID 24393306).
    muscle_hu = 48 + 14 * strong - 50 * fatty + rng.normal(0, 4) + (0 if phase == "native" else 8)
    return Build(
        scale=float(rng.uniform(0.9, 1.08) + 0.03 * male),
        sex=sex,
        half_width_mm=float(rng.uniform(122, 140) + 34 * belly),
        chest_half_width_mm=float(rng.uniform(128, 148) + 4 * male + 14 * belly),
        hip_half_width_mm=float(rng.uniform(148, 168) + 14 * stout),
        front_mm=float(rng.uniform(78, 98) + 58 * belly),
        chest_front_mm=float(rng.uniform(104, 134) + 22 * belly),
        spine_mm=float(rng.uniform(20, 30)),
        roundness=float(rng.uniform(2.1, 2.6)),
        fat_mm=float(3 + 42 * stout**1.2 * rng.uniform(0.5, 1.2) * (1.15 - 0.3 * male)),
        fat_front=float(rng.uniform(0.1, 0.9)),
        wall_mm=float(7.5 + 13 * strong + rng.normal(0, 1)),
        rectus_mm=float(5 + 9 * strong),
        rectus_gap_deg=float(rng.uniform(2, 9) + 8 * max(0.0, belly - 0.5)),
        psoas_mm=float(9.5 + 11 * strong + rng.normal(0, 1)),
        paraspinal_mm=float(21 + 13 * strong),
        margin_mm=float(rng.normal(0, 9)),
        dome_mm=float(rng.uniform(160, 215)),
        crest_mm=float(rng.uniform(-52, -34)),
        lining_mm=float(rng.uniform(0, 2) + 3 * max(0.0, belly - 0.4)),
        sides=(1 + unevenness, 1 - unevenness),
        marbling=float(np.clip(0.02 + 0.42 * fatty + rng.normal(0, 0.03), 0.01, 0.5)),
        muscle_hu=float(np.clip(muscle_hu, 0, 80)),
        fat_hu=float(rng.uniform(-114, -94)),
        phase=phase,
        bend=(float(rng.normal(0, 3)), float(rng.uniform(0.4, 1.5))),
        phases=tuple(float(p) for p in rng.uniform(0, 2 * math.pi, 12)),
        hu={name: float(value + rng.normal(0, 8 + 0.09 * value)) for name, value in PHASE_HU[phase].items()},
        quadratus=float(rng.uniform(0.8, 1.5)),
        back_wide=float(rng.uniform(0.75, 1.05)),
        mantle_mm=float(rng.uniform(1.5, 5.0) * (0.7 + 0.6 * strong)),
        cartilage_hu=float(rng.uniform(*CARTILAGE_HU)),
        cartilage=float(rng.uniform(1.0, 1.7)),
        kidney=float(rng.uniform(0.85, 1.2)),
        kidney_fat_mm=float(14 * belly * rng.uniform(0, 1) ** 2 + rng.uniform(0, 2)),
        kidney_in_mm=float(rng.uniform(-2, 20)),
    )
