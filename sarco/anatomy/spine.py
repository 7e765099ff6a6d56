"""Vertebrae, discs and the spinal canal from T7 to L5, each at its level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from sarco.anatomy.build import CORTEX_HU, DISC_HU, MARROW_HU, Build
from sarco.anatomy.labels import INVENTED_IDS, VERTEBRAE
from sarco.anatomy.shapes import Blob

_BONE = INVENTED_IDS["bone"]


@dataclass(frozen=True)
class Vertebra:
    """One vertebra of an average person, in mm: the middle, height, half width and half depth of its body."""

    name: str
    z_mm: float
    height_mm: float
    half_width_mm: float
    half_depth_mm: float


# Heights, widths and depths of bodies after Panjabi 1991 and 1992 (doi 10.1097/00007632-199108000-00006,
# 10.1097/00007632-199203000-00010), a tenth larger as in living people (Zhou 2000, doi 10.1007/s005860050249);
# discs after Fletcher 2015 (doi 10.1007/s00586-015-3925-y) and Zhou 2000. Each entry: body, then the disc below.
_SIZES = (
    ("T7", 19.5, 4.3, 29.0, 26.5),
    ("T8", 20.5, 4.5, 30.5, 28.0),
    ("T9", 21.0, 5.0, 31.5, 29.5),
    ("T10", 22.0, 5.5, 33.0, 30.5),
    ("T11", 23.0, 6.0, 36.0, 31.5),
    ("T12", 24.5, 7.0, 40.0, 32.5),
    ("L1", 26.0, 8.0, 43.0, 33.5),
    ("L2", 27.0, 9.5, 45.0, 34.5),
    ("L3", 27.0, 10.5, 47.0, 35.0),
    ("L4", 27.0, 11.0, 49.5, 35.0),
    ("L5", 26.0, 10.0, 51.5, 34.5),
)


def _levels() -> tuple[Vertebra, ...]:
    z = {"T7": 0.0}
    for (above, height, disc, *_), (below, height_below, *_) in pairwise(_SIZES):
        z[below] = z[above] - height / 2 - disc - height_below / 2
    return tuple(
        Vertebra(name, z[name] - z["L3"], height, wide / 2, deep / 2) for name, height, _, wide, deep in _SIZES
    )


SPINE_LEVELS = _levels()


def vertebrae(build: Build) -> list[Blob]:
    """Bodies labelled by level, discs, arches with their processes, and the canal with its sac."""
    spine, blobs = build.spine_mm, []
    for level, (_, _, disc_mm, *_) in zip(SPINE_LEVELS, _SIZES, strict=True):
        blobs += _arch(build, level)
        z = level.z_mm - (level.height_mm + disc_mm) / 2
        half = (level.half_width_mm, level.half_depth_mm, disc_mm / 2)
        blobs.append(Blob((0, spine, z), half, DISC_HU, power=2.6, z_power=8, space="trunk"))
        label = INVENTED_IDS[f"vertebra_{level.name}" if level.name in VERTEBRAE else "vertebra_other"]
        half = (level.half_width_mm, level.half_depth_mm, level.height_mm / 2)
        blobs += bone((0, spine, level.z_mm), half, power=2.5, label=label)
    behind = spine + 25.5
    canal = Blob((0, behind, 70), (11.5, 9, 180), -60, z_power=20, space="trunk")
    cord = Blob((0, behind + 1, 70), (4, 2.5, 180), 38, z_power=20, space="trunk")
    return [*blobs, canal, canal.shrunk(1.8, 22), cord]


def _arch(build: Build, level: Vertebra) -> list[Blob]:
    """Spinous process, pedicles, laminae, facets and transverse processes of one vertebra."""
    spine, z, thoracic = build.spine_mm, level.z_mm, level.name.startswith("T")
    long = 1.45 * build.paraspinal_mm * (0.32 if thoracic else 0.36)  # the process ends just below the fascia
    drop = -16 if thoracic else -6
    blobs = bone((0, spine + 33 + long, z + drop), (3.4, long, 10 if thoracic else 13), power=2.5)
    for side in (1, -1):
        blobs += bone((side * 15, spine + 18, z + 4), (5, 10, 8))
        blobs += bone((side * 9, spine + 35, z - 4), (11, 3.6, 14), side * -38.0)
        if thoracic:
            blobs += bone((side * 24, spine + 27, z + 2), (13, 4.2, 6), side * 32.0)
            blobs += bone((side * 25, spine + 14, z + 10), (12, 4.0, 6), side * 42.0)  # neck of the rib
        else:
            blobs += bone((side * 18, spine + 30, z - 10), (6.5, 8, 11), side * 25.0)
            blobs += bone((side * 31, spine + 21, z + 2), (17, 3.6, 6), side * 10.0)
    return blobs


def bone(
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    turn_deg: float = 0.0,
    power: float = 2.0,
    label: int = _BONE,
) -> list[Blob]:
    """Marrow in its cortex."""
    cortex = Blob(centre, half, CORTEX_HU, label, turn_deg=turn_deg, power=power, z_power=power**2, space="trunk")
    return [cortex, replace(cortex.shrunk(1.5, MARROW_HU), mottle_hu=14.0)]
