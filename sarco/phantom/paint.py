"""Paints the anatomy of `sarco.phantom.anatomy` onto the voxel centres of one slice, layer over layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sarco.phantom.anatomy import (
    CARTILAGE_HU,
    CORTEX_HU,
    FASCIA_HU,
    MARROW_HU,
    PAINTED_AIR_HU,
    PARASPINAL,
    PSOAS,
    QUADRATUS,
    SKIN_HU,
    VERTEBRA_STEP_MM,
    WALL,
    WARP_REACH_MM,
    Blob,
    Build,
    Labels,
    Mask,
    Plane,
    Ring,
)
from sarco.phantom.implants import implants_of, paint_implants
from sarco.phantom.setting import Extent, Room, SettingDraw
from sarco.phantom.surroundings import paint_around, paint_devices

# Rib: z (mm) at the spine, direction (degrees from the front) where its bone ends and where its cartilage ends.
RIBS = ((142.0, 48.0, 24.0), (112.0, 56.0, 30.0), (84.0, 88.0, 74.0), (58.0, 118.0, 110.0))
RIB_SLOPE_MM_PER_DEG = 0.85


def body_from_world(build: Build, position_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4, LPS mm to body coordinates, for a patient whose origin lies at `position_lps`."""
    roll = math.radians(build.roll_deg)
    world_from_body = np.eye(4)
    world_from_body[:2, :2] = [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
    world_from_body[:3, :3] *= build.scale
    world_from_body[:3, 3] = position_lps
    return np.linalg.inv(world_from_body).astype(np.float64)


class SlicePainter:
    """One slice while it is being painted.

    Attributes:
        hu: (row, column) float32, attenuation in HU.
        labels: (row, column) uint8, ids of `phantom_anatomy.GROUP_NAMES`.
        body: (row, column) bool, the trunk with its skin, without arms and table.
    """

    def __init__(self, shape: tuple[int, int], body_from_index: NDArray[np.float64], build: Build, ring: Ring) -> None:
        """Lays out the coordinates.

        Args:
            shape: (rows, columns).
            body_from_index: 4x4, (row, column, 0, 1) to body coordinates.
            build: the patient.
            ring: the patient's trunk outline.
        """
        self.build, self.ring = build, ring
        self._index_from_body = np.linalg.inv(body_from_index)
        rows = np.arange(shape[0], dtype=np.float32)[:, None]
        columns = np.arange(shape[1], dtype=np.float32)[None, :]
        a = body_from_index.astype(np.float32)
        x, y, self.z = (a[i, 0] * rows + a[i, 1] * columns + a[i, 3] for i in range(3))
        roll = math.radians(build.roll_deg + build.gravity_deg)
        self._roll = (math.sin(roll), math.cos(roll))
        self.level_x = math.cos(roll) * x - math.sin(roll) * y  # across the table
        self.level_y = math.sin(roll) * x + math.cos(roll) * y  # down towards it
        self.z_range = (float(self.z.min()), float(self.z.max()))
        q = build.phases
        self.x = x + 2.0 * np.sin(y / 37 + self.z / 53 + q[5]) + 0.7 * np.sin(y / 11 - self.z / 17 + q[6])
        self.y = y + 2.0 * np.sin(x / 41 - self.z / 61 + q[7]) + 0.7 * np.sin(x / 13 + self.z / 19 + q[8])
        self.organ_x = self.x + 3.0 * np.sin(self.y / 15 + self.z / 23 + q[9])
        self.organ_y = self.y + 3.0 * np.sin(self.x / 17 + self.z / 29 + q[10])
        self.mottle = np.sin(self.x / 1.9 + self.y / 3.1 + q[9])
        self.mottle += np.sin(self.y / 2.3 - self.x / 4.7 + self.z / 6 + q[10])
        self.mottle += np.sin(self.x / 7.3 + self.y / 1.6 + self.z / 9 + q[11])
        self.turn = np.arctan2(self.x, -self.y)
        radius = np.hypot(self.x, self.y) * (1 - 0.0005 * self.z)
        self.outside = radius - ring.at(self.turn, "radius_mm")  # mm outside the muscle wall, negative inside
        self.hu = np.full(shape, PAINTED_AIR_HU, dtype=np.float32)
        self.labels: Labels = np.zeros(shape, dtype=np.uint8)
        self.body: Mask = self.outside < ring.at(self.turn, "fat_mm")
        self.cavity: Mask = np.zeros(shape, dtype=np.bool_)

    def fill(self, mask: Mask, hu: Plane | float, label: int = 0) -> None:
        """Paints where `mask` holds."""
        np.copyto(self.hu, hu, where=mask)
        np.copyto(self.labels, np.uint8(label), where=mask)

    def room(self) -> Room:
        """Where the pixels lie in the examination room."""
        scale = np.float32(self.build.scale)
        skin = self.outside - self.ring.at(self.turn, "fat_mm")
        reach = np.hypot(self.x, self.y)
        along = np.broadcast_to(self.z * scale, skin.shape)
        return Room(self.level_x * scale, self.level_y * scale, along, skin * scale, self.turn, reach * scale)

    def paint_trunk(self) -> None:
        """Skin, fat, the muscle wall and the space inside it."""
        build, ring = self.build, self.ring
        fat_mm = ring.at(self.turn, "fat_mm")
        self.fill(self.body, build.fat_hu + 2 * self.mottle)
        self.fill(self.body & (self.outside > fat_mm - 2.2), SKIN_HU)
        depth = -self.outside
        away_deg = np.degrees(np.abs(self.turn))
        high = np.clip((self.z + 10) / 70, 0, 1)  # between the ribs the wall is thinner
        lateral = ring.at(self.turn, "lateral_mm") * (1 - 0.45 * high)
        rectus = ring.at(self.turn, "rectus_mm")
        dorsal = ring.at(self.turn, "dorsal_mm") * high
        wall = np.maximum(np.maximum(lateral, rectus), 1.5)
        self.fill((depth > 0) & (depth < 1.8) & (away_deg < 90), FASCIA_HU)  # sheath and linea alba
        self.fill((depth > 0) & (depth < np.maximum(rectus, lateral)), build.muscle_hu, WALL)
        share = depth / np.maximum(lateral, 1)
        seam = ((np.abs(share - 0.3) < 0.045) | (np.abs(share - 0.72) < 0.03)) & (lateral > 7) & (away_deg > 46)
        np.copyto(self.hu, build.muscle_hu - 75, where=seam)  # thin planes between the three layers belong to them
        gap = 2.5 + 3 * high
        dorsal[dorsal < 2.5] = 0
        self.fill((depth < -gap) & (depth > -gap - dorsal) & (self.outside < fat_mm - 4), build.muscle_hu - 2, WALL)
        self.cavity = (depth > wall + 1.5) & (self.y < build.spine_mm + 27 + 0.5 * np.maximum(np.abs(self.x) - 62, 0))
        self.fill(self.cavity, build.fat_hu + 6 + 2 * self.mottle)

    def paint_ribs(self) -> None:
        """Ribs that run down and forward in the wall, with cartilage in front."""
        away_deg = np.degrees(np.abs(self.turn))
        depth = -self.outside
        tilt = np.where(self.turn > 0, 4.0, -3.0)  # the two sides are never level
        for z_spine, bone_end_deg, end_deg in RIBS:
            path = z_spine + tilt - RIB_SLOPE_MM_PER_DEG * (165 - away_deg)
            if not np.any(np.abs(self.z - path) < 8):
                continue
            beyond = np.maximum(np.maximum(end_deg + 6 - away_deg, away_deg - 159), 0) / 6
            shape = np.sqrt(((self.z - path) / 7.5) ** 2 + ((depth - 5) / 4.6) ** 2 + beyond**2)
            bone = away_deg > bone_end_deg
            self.fill((shape < 1) & ~bone, CARTILAGE_HU)
            self.fill((shape < 1) & bone, CORTEX_HU)
            self.fill((shape < 0.68) & bone, MARROW_HU - 80)

    def paint_blobs(self, blobs: Sequence[Blob]) -> None:
        """Paints shapes in their order, the last one on top."""
        for blob in blobs:
            window = self._window(blob)
            if window is not None:
                self._paint_blob(blob, window)

    def paint_fat_streaks(self) -> None:
        """Fat between the bundles of the muscles beside the spine: not muscle, so not labelled."""
        build, q = self.build, self.build.phases
        x, y = np.abs(self.x), self.y - build.spine_mm
        bend = 2.5 * np.sin(y / 8 + self.z / 15 + q[3])
        septa = np.abs(x - 17 - 0.25 * (y - 30) - bend) < 1.0
        septa |= np.abs(x - 43 + 0.35 * (y - 30) - bend) < 0.9
        paraspinal = (self.labels == PARASPINAL) | (self.labels == PARASPINAL + 1)
        deep = (self.labels == PSOAS) | (self.labels == PSOAS + 1) | (self.labels >= QUADRATUS)
        fibre = np.abs(np.sin(x / 3.0 - y / 11 + 1.2 * np.sin(y / 6 + q[0]) + 0.8 * np.sin(self.x / 9 + self.z / 12)))
        patchy = np.sin(self.y / 4.3 + self.x / 7 + self.z / 14 + q[1]) + np.sin(self.x / 5.1 - self.y / 9 + q[2])
        patchy += 0.9 * np.exp(-(((x - 12) / 14) ** 2))  # most fat lies beside the spinous processes
        streak = 0.25 + 0.9 * build.marbling - fibre + 0.2 * patchy - 0.35
        self.fill(paraspinal & (septa | (streak > 0)), build.fat_hu + 15)
        self.fill(deep & (streak > 0.22), build.fat_hu + 25)

    def _window(self, blob: Blob) -> tuple[slice, slice] | None:
        """The rows and columns that a shape can touch, or None."""
        cx, cy, cz = blob.centre_mm
        low = max(self.z_range[0], cz - blob.half_mm[2])
        high = min(self.z_range[1], cz + blob.half_mm[2])
        if low > high:
            return None
        corners = []
        for z in (low, high):
            growth = max(1 + blob.growth_per_mm * (low - cz), 1 + blob.growth_per_mm * (high - cz), 0)
            reach = 1.2 * growth * max(blob.half_mm[:2]) + WARP_REACH_MM
            x, y = cx + blob.lean[0] * (z - cz), cy + blob.lean[1] * (z - cz)
            corners += [(x + i * reach, y + j * reach, z, 1.0) for i in (-1, 1) for j in (-1, 1)]
        index = self._index_from_body[:2] @ np.array(corners).T
        first = np.floor(index.min(axis=1)).astype(int).clip(0, self.hu.shape)
        last = np.ceil(index.max(axis=1)).astype(int).clip(-1, None) + 1
        if (first >= last).any() or (first >= self.hu.shape).any():
            return None
        return slice(first[0], last[0]), slice(first[1], last[1])

    def _paint_blob(self, blob: Blob, window: tuple[slice, slice]) -> None:
        cx, cy, cz = blob.centre_mm
        soft = blob.space == "cavity"
        dz = self.z[window] - cz
        dx = (self.organ_x if soft else self.x)[window] - (cx + blob.lean[0] * dz)
        dy = (self.organ_y if soft else self.y)[window] - (cy + blob.lean[1] * dz)
        turn = math.radians(blob.turn_deg)
        sin, cos = math.sin(turn), math.cos(turn)
        u = (cos * dx + sin * dy) / blob.half_mm[0]
        v = (cos * dy - sin * dx) / blob.half_mm[1]
        if blob.growth_per_mm:
            growth = np.maximum(1 + blob.growth_per_mm * dz, 1e-3)
            u, v = u / growth, v / growth
        w = dz / blob.half_mm[2]
        flat = u * u + v * v if blob.power == 2 else np.abs(u) ** blob.power + np.abs(v) ** blob.power
        mask = flat + np.abs(w) ** blob.z_power < 1
        if soft:
            mask &= self.cavity[window]
        elif blob.space == "trunk":
            mask &= self.outside[window] < -1.5
        if blob.level_mm is not None:
            mask &= self.level_y[window] < self._roll[0] * cx + self._roll[1] * cy + blob.level_mm
        hu: Plane | float = blob.hu
        if blob.mottle_hu:
            hu = blob.hu + blob.mottle_hu * self.mottle[window]
        np.copyto(self.hu[window], hu, where=mask)
        np.copyto(self.labels[window], np.uint8(blob.label), where=mask)


def paint_slice(
    shape: tuple[int, int],
    body_from_index: NDArray[np.float64],
    build: Build,
    ring: Ring,
    layers: dict[str, list[Blob]],
    setting: SettingDraw,
    extent: Extent,
) -> SlicePainter:
    """A finished slice as it lies in the room, without blur and noise.

    Args:
        shape: (rows, columns).
        body_from_index: 4x4, (row, column, 0, 1) to body coordinates.
        build: the patient.
        ring: the patient's trunk outline.
        layers: shapes named "organs", "muscles" and "bones".
        setting: how the patient lies, and what lies around.
        extent: of the whole body as it lies.
    """
    painter = SlicePainter(shape, body_from_index, build, ring)
    room = painter.room()
    paint_around(painter.hu, room, setting, extent, build.muscle_hu, build.fat_hu)
    painter.paint_trunk()
    painter.paint_blobs(layers["organs"])
    painter.paint_blobs(layers["muscles"])
    painter.paint_fat_streaks()
    painter.paint_blobs(layers["bones"])
    painter.paint_ribs()
    paint_devices(painter.hu, room, setting)
    metal = implants_of(setting, build.spine_mm, (2 * VERTEBRA_STEP_MM, VERTEBRA_STEP_MM, 0, -VERTEBRA_STEP_MM), (), 0)
    paint_implants(painter.hu, painter.x, painter.y, painter.z, metal)
    return painter
