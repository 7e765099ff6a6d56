"""The size and the place of an invented patient's pelvis, and one side of a slice in its coordinates.

Shapes and levels follow the adult pelvis in axial CT; the patient's pelvis is the standard one (`pelvis_shapes`),
stretched, leant and turned. Sources of sizes and their spread:
distance of the anterior superior spines 225 (SD 20) mm in women, 227 (13) mm in men, and a pelvic inlet 11 mm longer in
women: statistical pelvis model of 100 CT (Richards and others, Malaysia);
transverse diameters wider in women at every level of the lesser pelvis: Kolesova 2017, Anat Cell Biol 50:265;
femoral head, vertical diameter about 48 mm in men and 42 mm in women in Europe, 44 and 39 mm in India (Kukadiya 2014);
femoral offset 43 (SD 7) mm, neck-shaft angle 125 (SD 6) degrees: Carmona 2022, 628 hips.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import numpy as np

from sarco.anatomy.build import CORTEX_HU, Build, Labels, Mask, Plane
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.paint import SlicePainter
from sarco.pelvis.shapes import Bounds, Place, by_level

SACRUM_TOP_MM = -98.0  # z of the sacrum's upper plate in a patient, below the disc under `spine`'s L5
PROMONTORY_MM = -90.0  # z of the standard promontory, just below the disc under the fifth lumbar vertebra
CREST_TOP_MM = -36.0  # z of the standard iliac crest's highest point


@dataclass(frozen=True)
class Pelvis:
    """What makes one patient's pelvis.

    Attributes:
        wide: width relative to the standard at the hips and at the crest.
        deep: depth relative to the standard.
        high: height relative to the standard below and above the promontory.
        lean: shift to the back per mm upwards: the pelvic tilt.
        turn_rad: turn about z, from x towards y.
        lift_mm: how much higher the left side lies.
        head_mm: radius of the femoral heads.
        size: thickness of the muscles relative to the standard, by group: "maximus", "abductors", "iliacus",
            "psoas", "hip".
        infiltration: share of fat in the gluteal muscles, 0..0.7.
        marrow_hu: attenuation of cancellous bone.
        origin_mm: x, y and z of the promontory in body coordinates, x and y before they are straightened.
    """

    wide: tuple[float, float]
    deep: float
    high: tuple[float, float]
    lean: float
    turn_rad: float
    lift_mm: float
    head_mm: float
    size: dict[str, float]
    infiltration: float
    marrow_hu: float
    origin_mm: tuple[float, float, float]

    def body_mm(self, build: Build, point: tuple[float, float, float]) -> tuple[float, float, float]:
        """A point of the standard pelvis, x positive to the left, in body coordinates straightened along the spine."""
        x, y, z = point
        dz = z - PROMONTORY_MM
        body_z = self.origin_mm[2] + dz * self.high[dz > 0]
        hips, crest = (float(np.interp(z, (-140, -60), ends)) for ends in ((1, 0), (0, 1)))
        bend_x, bend_y = (float(bend[0]) for bend in build.axis_mm(np.array([body_z])))
        across = self.origin_mm[0] + x * (hips * self.wide[0] + crest * self.wide[1]) - bend_x
        return across, self.origin_mm[1] + (y + self.lean * dz) * self.deep - bend_y, body_z


def draw_pelvis(build: Build, rng: np.random.Generator) -> Pelvis:
    """One pelvis drawn at random.

    Args:
        build: the patient.
        rng: source of randomness.
    """
    female = build.sex == "F"
    strong = (build.psoas_mm - 10) / 12  # 0 wasted .. 1 athletic
    # Gluteus maximus: 17 % fat in the median of healthy people, 26 % with hip pain (Belzunce 2021); far more with age.
    fat = float(np.clip(build.marbling * 1.2 + rng.normal(0.03, 0.05), 0.03, 0.7))
    spread = rng.normal(1, 0.1, 4).clip(0.75, 1.3)
    groups = ("maximus", "abductors", "iliacus", "hip")
    size = {group: float((0.55 + 0.7 * strong) * factor) for group, factor in zip(groups, spread, strict=True)}
    hips = build.hip_half_width_mm / 164 * float(rng.normal(1.02 if female else 1.0, 0.02))
    bend_x, bend_y = build.axis_mm(np.array([SACRUM_TOP_MM]))
    return Pelvis(
        wide=(hips, hips * float(rng.normal(0.95 if female else 1.0, 0.03))),
        deep=float(rng.normal(0.95, 0.04)),
        high=(
            float(rng.normal(0.95 if female else 1.0, 0.04)),
            (build.crest_mm - SACRUM_TOP_MM) / (CREST_TOP_MM - PROMONTORY_MM),
        ),
        lean=float(rng.normal(0, 0.08)),
        turn_rad=math.radians(float(rng.normal(0, 1.5))),
        lift_mm=float(rng.normal(0, 2.5)),
        head_mm=float(rng.normal(21.3 if female else 24.0, 1.2)),
        size={**size, "psoas": build.psoas_mm / 14.8},
        infiltration=fat,
        marrow_hu=float(rng.uniform(40, 260)),
        origin_mm=(float(bend_x[0]), build.spine_mm + float(bend_y[0]), SACRUM_TOP_MM),
    )


class Half:
    """One side of a slice while its pelvis is being painted.

    Attributes:
        build: the patient.
        pelvis: the patient's pelvis.
        side: 1 for the left, -1 for the right.
        grow: size of this side's muscles.
        place: coordinates in the standard pelvis.
        hu: this side of the slice, attenuation in HU.
        labels: this side of the slice, ids of `sarco.anatomy.labels`.
        inside: where the pelvis may be painted: below the fascia.
        cavity: this side of the painter's cavity.
        mottle: fine texture, about -3..3.
        wave: what makes the muscles' outlines irregular, -1..1 mm.
    """

    def __init__(self, painter: SlicePainter, pelvis: Pelvis, side: int) -> None:
        """Takes the side's part of the slice."""
        window = _extent(painter.body & (side * painter.x > -12))
        self.build, self.pelvis, self.side = painter.build, pelvis, side
        self.grow = painter.build.sides[0 if side > 0 else 1]
        self.place = place = _place(painter, pelvis, side, window)
        self.hu: Plane = painter.hu[window]
        self.labels: Labels = painter.labels[window]
        self.inside: Mask = painter.depth[window] > 0.5
        self.cavity: Mask = painter.cavity[window]
        self.mottle: Plane = painter.mottle[window]
        q = painter.build.phases
        slow = np.sin(place.x / 9 + place.y / 14 + place.z / 22 + q[6] * side)
        self.wave = np.asarray(0.6 * slow + 0.4 * np.sin(place.x / 17 - place.y / 7 - place.z / 16 + q[8]), np.float32)

    def near(self, box: Bounds | None) -> Half | None:
        """The part of this side within a box of the standard pelvis; None where it is empty."""
        if box is None:
            return None
        window = self.place.window(box)
        place = self.place
        part = copy(self)
        part.place = Place(place.x[window], place.y[window], place.z if place.z.size == 1 else place.z[window])
        if part.place.x.size == 0:
            return None
        for name in ("hu", "labels", "inside", "cavity", "mottle", "wave"):
            setattr(part, name, getattr(self, name)[window])
        return part

    def fill(self, mask: Mask, hu: Plane | float, label: str) -> None:
        """Paints where `mask` holds, with the id of this name."""
        mask = mask & self.inside
        np.copyto(self.hu, hu, where=mask, casting="unsafe")
        np.copyto(self.labels, np.uint8(INVENTED_IDS[label]), where=mask)

    def label_of(self, muscle: str) -> np.uint8:
        """The id of the muscle on this side."""
        return np.uint8(INVENTED_IDS[f"{muscle}_{'left' if self.side > 0 else 'right'}"])

    def bone(self, outside: Plane, label: str = "bone", cortex_mm: float = 1.8, marrow_hu: float = 0.0) -> None:
        """Paints a bone: a bright shell around what is cancellous.

        Args:
            outside: mm outside the bone.
            label: the bone's name.
            cortex_mm: thickness of the shell.
            marrow_hu: added to the patient's cancellous bone.
        """
        hu = np.where(outside > -cortex_mm, CORTEX_HU, self.pelvis.marrow_hu + marrow_hu + 18 * self.mottle)
        self.fill(outside < 0, hu, label)


def _extent(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns between which a mask holds."""
    spans = []
    for axis in (1, 0):
        where = np.flatnonzero(mask.any(axis=axis))
        spans.append(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0))
    return spans[0], spans[1]


_WIDTHS = by_level([(-140, 1, 0), (-60, 0, 1)])  # share of the hips' and of the crest's width by z


def _place(painter: SlicePainter, pelvis: Pelvis, side: int, window: tuple[slice, slice]) -> Place:
    """Coordinates of one side in the standard pelvis."""
    z = painter.z[window]
    if z.size and np.ptp(z) < 0.05:
        z = z[:1, :1]
    z = z - np.float32(pelvis.origin_mm[2] + side * pelvis.lift_mm / 2)
    z = np.where(z < 0, z / np.float32(pelvis.high[0]), z / np.float32(pelvis.high[1]))
    z = (z + np.float32(PROMONTORY_MM)).astype(np.float32)
    # The pelvis is rigid: neither straightened along the spine nor warped.
    roll, turn = np.float32(painter.build.level_turn_rad), np.float32(pelvis.turn_rad)
    u, v = painter.level_x[window], painter.level_y[window]
    x = np.cos(roll) * u + np.sin(roll) * v - np.float32(pelvis.origin_mm[0])
    y = np.cos(roll) * v - np.sin(roll) * u - np.float32(pelvis.origin_mm[1])
    across, back = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    hips, crest = _WIDTHS[:, Place(x, y, z).level]
    wide = side / (hips * np.float32(pelvis.wide[0]) + crest * np.float32(pelvis.wide[1]))
    return Place(across * wide, back / np.float32(pelvis.deep) - np.float32(pelvis.lean) * (z - PROMONTORY_MM), z)
