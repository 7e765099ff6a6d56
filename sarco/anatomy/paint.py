"""Paints structures onto the voxel centres of one slice, layer over layer; what they are is said elsewhere.

A structure is a function of a `SlicePainter`: it makes a mask from `x`, `y`, `z` (mm), `turn`, `away_deg`, `depth` and
calls `fill(mask, hu, label)`. Later structures cover earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.anatomy.build import PAINTED_AIR_HU, Build, Labels, Mask, Plane
from sarco.anatomy.labels import INVENTED_IDS
from sarco.anatomy.outline import TABLE_TURNS, TABLE_Z_MM, Outline
from sarco.anatomy.shapes import Blob, Tube
from sarco.examination.setting import Room

WARP_REACH_MM = 8.0  # the most that the warps below move a point in x or y
_Window = tuple[slice, slice]
RIM_MM = 0.3  # a compartment's outline lies this far outside the muscle's own tissue, on its fascia


def body_from_world(build: Build, position_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4, LPS mm to body coordinates, for a patient whose origin lies at `position_lps`."""
    roll = math.radians(build.roll_deg)
    world_from_body = np.eye(4)
    world_from_body[:2, :2] = [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
    world_from_body[:3, :3] *= build.scale
    world_from_body[:3, 3] = position_lps
    return np.linalg.inv(world_from_body).astype(np.float64)


class SlicePainter:
    """One slice while it is being painted; all planes are (row, column).

    Attributes:
        build: the patient.
        x, y, z: body coordinates in mm, irregular by up to 3 mm as bodies are.
        organ_x, organ_y: the same, more irregular, for what lies in the cavity.
        level_x, level_y: across the couch and down towards it, in mm: which way fluid settles.
        turn: direction from the axis in radians, 0 the front, +pi/2 the left.
        away_deg: the same in degrees from the front, 0..180, left and right alike.
        depth: mm below the fascia around the trunk's muscles, negative in subcutaneous fat and outside.
        layers: thickness of the wall's layers there, by name of `outline.WALL_LAYERS`.
        left: whether a point lies left of the midline.
        mottle: noise-like texture, -3..3.
        hu: float32, attenuation in HU.
        labels: uint8, ids of `INVENTED_LABELS`, 0 outside the skin.
        body: the trunk with its skin, without arms and table.
        cavity: where organs may lie.
    """

    def __init__(
        self, shape: tuple[int, int], body_from_index: NDArray[np.float64], build: Build, outline: Outline
    ) -> None:
        """Lays out the coordinates.

        Args:
            shape: (rows, columns).
            body_from_index: 4x4, (row, column, 0, 1) to body coordinates.
            build: the patient.
            outline: the patient's trunk outline.
        """
        self.build = build
        self._index_from_body = np.linalg.inv(body_from_index)
        rows = np.arange(shape[0], dtype=np.float32)[:, None]
        columns = np.arange(shape[1], dtype=np.float32)[None, :]
        a = body_from_index.astype(np.float32)
        x, y, self.z = (a[i, 0] * rows + a[i, 1] * columns + a[i, 3] for i in range(3))
        roll = build.level_turn_rad
        self._roll = (math.sin(roll), math.cos(roll))
        self.level_x = math.cos(roll) * x - math.sin(roll) * y
        self.level_y = math.sin(roll) * x + math.cos(roll) * y
        self.z_range = (float(self.z.min()), float(self.z.max()))
        bend_x, bend_y = build.axis_mm(TABLE_Z_MM)
        x, y = x - self.at_z(TABLE_Z_MM, bend_x), y - self.at_z(TABLE_Z_MM, bend_y)
        q = build.phases
        self.x = x + 2.0 * np.sin(y / 37 + self.z / 53 + q[5]) + 0.7 * np.sin(y / 11 - self.z / 17 + q[6])
        self.y = y + 2.0 * np.sin(x / 41 - self.z / 61 + q[7]) + 0.7 * np.sin(x / 13 + self.z / 19 + q[8])
        self.organ_x = self.x + 3.0 * np.sin(self.y / 15 + self.z / 23 + q[9])
        self.organ_y = self.y + 3.0 * np.sin(self.x / 17 + self.z / 29 + q[10])
        bent = 1.7 * np.sin(self.y / 5.3 + q[9]), 1.7 * np.sin(self.x / 6.1 + self.y / 11 + q[10])
        self.mottle = np.sin(self.x / 1.9 + self.y / 3.1 + bent[0] + q[9])
        self.mottle += np.sin(self.y / 2.3 - self.x / 4.7 + self.z / 6 + bent[1] + q[10])
        self.mottle += np.sin(self.x / 7.3 + self.y / 1.6 + self.z / 9 - bent[0] + q[11])
        self.turn = np.arctan2(self.x, -self.y)
        self.away_deg = np.abs(self.turn) * np.float32(180 / math.pi)
        self.left: Mask = self.x > 0
        self.layers = self._layers(outline)
        self.depth = self.layers["radius"] - np.hypot(self.x, self.y)
        self.hu = np.full(shape, PAINTED_AIR_HU, dtype=np.float32)
        self.labels: Labels = np.zeros(shape, dtype=np.uint8)
        self.body: Mask = self.depth > -self.layers["fat"]
        self.cavity: Mask = self.depth > self.layers["lining"]

    def _layers(self, outline: Outline) -> dict[str, Plane]:
        """The tables of `outline` at every pixel, between its knots."""
        column = (self.turn + np.float32(math.pi)) * np.float32(TABLE_TURNS / (2 * math.pi))
        row = (self.z - np.float32(TABLE_Z_MM[0])) * np.float32(1 / (TABLE_Z_MM[1] - TABLE_Z_MM[0]))
        row = np.ascontiguousarray(np.broadcast_to(row, column.shape))
        maps = cv2.convertMaps(column, row, cv2.CV_16SC2)
        layers = {}
        for name, table in outline.tables.items():
            closed = np.hstack([table, table[:, :2]])  # the last direction meets the first
            layers[name] = cv2.remap(closed, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return layers

    def room(self) -> Room:
        """Where the pixels lie in the examination room."""
        scale = np.float32(self.build.scale)
        skin = -(self.depth + self.layers["fat"])
        along = np.broadcast_to(self.z * scale, skin.shape)
        reach = np.hypot(self.x, self.y) * scale
        return Room(self.level_x * scale, self.level_y * scale, along, skin * scale, self.turn, reach)

    def at_z(
        self,
        z_mm: Sequence[float] | NDArray[np.float64],
        values: Sequence[float] | NDArray[np.float64],
        window: _Window = (slice(None), slice(None)),
    ) -> Plane | np.float32:
        """What changes along the body, between its knots: one number where the slice lies square to the body."""
        if self.z_range[1] - self.z_range[0] < 0.02:
            return np.float32(np.interp(sum(self.z_range) / 2, z_mm, values))
        return np.interp(self.z[window], z_mm, values).astype(np.float32)

    def fill(self, mask: Mask, hu: Plane | float, label: int) -> None:
        """Paints where `mask` holds."""
        np.copyto(self.hu, hu, where=mask)
        np.copyto(self.labels, np.uint8(label), where=mask)

    def fill_sides(self, mask: Mask, hu: Plane | float, muscle: str) -> None:
        """Paints where `mask` holds, labelled as the left or the right muscle of this name."""
        np.copyto(self.hu, hu, where=mask)
        left, right = (np.uint8(INVENTED_IDS[f"{muscle}_{side}"]) for side in ("left", "right"))
        np.copyto(self.labels, np.where(self.left, left, right), where=mask)

    def paint(self, shapes: Sequence[Blob | Tube]) -> None:
        """Paints shapes in their order, the last one on top."""
        for shape in shapes:
            if isinstance(shape, Tube):
                self._paint_tube(shape)
            else:
                self._paint_blob(shape)

    def _window(self, low: float, high: float, xy_mm: tuple[tuple[float, float], ...], reach: float) -> _Window | None:
        """The rows and columns within `reach` of points (x, y) between two heights, or None."""
        low, high = max(self.z_range[0], low), min(self.z_range[1], high)
        if low > high:
            return None
        corners = []
        for z in (low, high):
            bend_x, bend_y = (float(v) for v in self.build.axis_mm(z))
            corners += [
                (x + bend_x + i * reach, y + bend_y + j * reach, z, 1.0)
                for x, y in xy_mm
                for i in (-1, 1)
                for j in (-1, 1)
            ]
        index = self._index_from_body[:2] @ np.array(corners).T
        first = np.floor(index.min(axis=1)).astype(int).clip(0, self.hu.shape)
        last = np.ceil(index.max(axis=1)).astype(int).clip(-1, None) + 1
        if (first >= last).any() or (first >= self.hu.shape).any():
            return None
        return slice(first[0], last[0]), slice(first[1], last[1])

    def _paint_blob(self, blob: Blob) -> None:
        cx, cy, cz = blob.centre_mm
        low, high = max(self.z_range[0], cz - blob.half_mm[2]), min(self.z_range[1], cz + blob.half_mm[2])
        if low > high:
            return
        growth = max(1 + blob.growth_per_mm * (low - cz), 1 + blob.growth_per_mm * (high - cz), 0)
        ends = tuple((cx + blob.lean[0] * (z - cz), cy + blob.lean[1] * (z - cz)) for z in (low, high))
        window = self._window(low, high, ends, 1.2 * growth * max(blob.half_mm[:2]) + WARP_REACH_MM)
        if window is None:
            return
        soft = blob.space == "cavity"
        dz = self.z[window] - cz
        dx = (self.organ_x if soft else self.x)[window] - (cx + blob.lean[0] * dz)
        dy = (self.organ_y if soft else self.y)[window] - (cy + blob.lean[1] * dz)
        turn = math.radians(blob.turn_deg)
        sin, cos = math.sin(turn), math.cos(turn)
        u = (cos * dx + sin * dy) / blob.half_mm[0]
        v = (cos * dy - sin * dx) / blob.half_mm[1]
        if blob.growth_per_mm:
            grown = np.maximum(1 + blob.growth_per_mm * dz, 1e-3)
            u, v = u / grown, v / grown
        w = dz / blob.half_mm[2]
        flat = u * u + v * v if blob.power == 2 else np.abs(u) ** blob.power + np.abs(v) ** blob.power
        mask = flat + np.abs(w) ** blob.z_power < 1
        if soft:
            mask &= self.cavity[window]
        elif blob.space == "trunk":
            mask &= self.depth[window] > 0.5
        if blob.level_mm is not None:
            mask &= self.level_y[window] < self._roll[0] * cx + self._roll[1] * cy + blob.level_mm
        hu: Plane | float = blob.hu
        if blob.mottle_hu:
            hu = blob.hu + blob.mottle_hu * self.mottle[window]
        np.copyto(self.hu[window], hu, where=mask)
        np.copyto(self.labels[window], np.uint8(blob.label), where=mask)

    def _paint_tube(self, tube: Tube) -> None:
        """A muscle with its rim: the rim is fat by attenuation and muscle by label, as its fascia is."""
        points = tuple(zip(tube.x_mm, tube.y_mm, strict=True))
        reach = 1.2 * max(*tube.half_x_mm, *tube.half_y_mm) + WARP_REACH_MM
        window = self._window(tube.z_mm[0], tube.z_mm[-1], points, reach)
        if window is None:
            return
        x, y, half_x, half_y, turn = (
            self.at_z(tube.z_mm, knots, window)
            for knots in (tube.x_mm, tube.y_mm, tube.half_x_mm, tube.half_y_mm, np.radians(tube.turn_deg))
        )
        dx, dy = self.x[window] - x, self.y[window] - y
        u, v = np.abs(np.cos(turn) * dx + np.sin(turn) * dy), np.abs(np.cos(turn) * dy - np.sin(turn) * dx)
        inside = (self.depth[window] > 0.5) & (self.z[window] >= tube.z_mm[0]) & (self.z[window] <= tube.z_mm[-1])
        for rim, hu in ((RIM_MM, self.build.fat_hu + 20), (0.0, tube.hu)):
            a, b = np.maximum(half_x, 0.5) + rim, np.maximum(half_y, 0.5) + rim
            mask = inside & ((u / a) ** tube.power + (v / b) ** tube.power < 1)
            np.copyto(self.hu[window], np.float32(hu), where=mask)
            np.copyto(self.labels[window], np.uint8(tube.label), where=mask)
