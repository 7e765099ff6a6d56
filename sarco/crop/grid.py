"""The crop: the square around the body as a small grid, and the warp there and back. Numpy arrays in and out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.crop.body import Body, find_body
from sarco.scan.geometry import Affine, spacing_mm
from sarco.scan.hu import AIR_HU, raise_to_air
from sarco.scan.view import Box, View

FIELD_STEPS = 8  # a field that is too small for a body grows by eighths, so that neighbouring slices keep one scale
SAME_SPACING = 1e-3  # pixels that differ by less lie on each other: 0.1 pixel over 100


def widen_field(field_mm: float, body_mm: float) -> float:
    """How many times its own side a field of view has to have so that a body fits in: 1, 1.125, 1.25 and so on.

    Args:
        field_mm: side of the field.
        body_mm: longer side of the body's box.
    """
    return max(1.0, math.ceil(FIELD_STEPS * body_mm / field_mm - 1e-9) / FIELD_STEPS)


def box_side_mm(box: Box, spacing_mm: tuple[float, float]) -> float:
    """The longer side of a box in mm; ``spacing_mm`` is the distance between rows, then between columns."""
    return max((box.bottom - box.top) * spacing_mm[0], (box.right - box.left) * spacing_mm[1])


def box_around(bodies: Sequence[Body]) -> Box:
    """The box around the bodies in neighbouring slices."""
    return reduce(Box.union, (body.box for body in bodies))


@dataclass(frozen=True)
class CropGrid:
    """A square of ``size`` x ``size`` pixels, square in mm, laid over a slice.

    Attributes:
        start: (row, column) in the slice, in pixels, of the centre of the crop's first pixel.
        scale: pixels of the slice a pixel of the crop, along rows and along columns.
        size: pixels per side.
    """

    start: tuple[float, float]
    scale: tuple[float, float]
    size: int

    @classmethod
    def around(cls, box: Box, spacing_mm: tuple[float, float], size: int, pixel_mm: float | None = None) -> "CropGrid":
        """The square, in mm, with the box in its centre.

        Where its pixels are as large as the slice's they lie on them, so that nothing is blurred and no label shifted;
        the box is off the centre then by half a pixel at most.

        Args:
            box: in pixels of the slice.
            spacing_mm: of the slice: distance between rows, then between columns.
            size: pixels a side of the crop.
            pixel_mm: size of a pixel of the crop; larger where the box would not fit in (`widen_field`). None: as
                small as the box allows.
        """
        side_mm = box_side_mm(box, spacing_mm)
        if pixel_mm is not None:
            side_mm = size * pixel_mm * widen_field(size * pixel_mm, side_mm)
        scale = (side_mm / size / spacing_mm[0], side_mm / size / spacing_mm[1])
        centre = ((box.top + box.bottom) / 2, (box.left + box.right) / 2)
        # Edge coordinates lie half a pixel below index coordinates, on both grids.
        start = [c - (size - 1) / 2 * s - 0.5 for c, s in zip(centre, scale, strict=True)]
        if pixel_mm is not None and all(abs(s - 1) < SAME_SPACING for s in scale):
            start = [round(place) for place in start]
        return cls((float(start[0]), float(start[1])), scale, size)

    @property
    def matrix(self) -> Affine:
        """4x4, (row, column, slice, 1) of the crop to (row, column, slice, 1) of the slice."""
        matrix = np.diag([self.scale[0], self.scale[1], 1.0, 1.0])
        matrix[:2, 3] = self.start
        return matrix

    def crop_image(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Warps a slice onto the crop, linearly; air where the crop reaches beyond the slice.

        A crop coarser than the slice is smoothed first, so that every pixel of the slice counts.
        """
        hu = raise_to_air(hu)
        sigmas = [0.5 * np.sqrt(max(s * s - 1.0, 0.0)) for s in self.scale]
        if max(sigmas) > 0.3:
            hu = cv2.GaussianBlur(hu, (0, 0), sigmaX=max(sigmas[1], 1e-3), sigmaY=max(sigmas[0], 1e-3))
        return self._warp_linear(hu, self.start, self.scale, (self.size, self.size), AIR_HU)

    def crop_label_map(self, label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Takes the nearest label id for each pixel of the crop; background beyond the slice."""
        return self._take_nearest(label_map, self.start, self.scale, (self.size, self.size))

    def restore_probability(self, probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Warps one map on the crop back onto the slice's (rows, columns), linearly; 0 outside the crop."""
        start, scale = self._inverse()
        return self._warp_linear(probability, start, scale, shape, 0.0)

    def restore_label_map(self, label_map: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Takes the nearest value on the crop for each pixel of the slice; 0 outside the crop."""
        start, scale = self._inverse()
        return self._take_nearest(label_map, start, scale, shape, ties_go_up=False)

    def _inverse(self) -> tuple[tuple[float, float], tuple[float, float]]:
        start = (-self.start[0] / self.scale[0], -self.start[1] / self.scale[1])
        return start, (1 / self.scale[0], 1 / self.scale[1])

    @staticmethod
    def _warp_linear(
        source: NDArray[np.float32],
        start: tuple[float, float],
        scale: tuple[float, float],
        shape: tuple[int, int],
        outside: float,
    ) -> NDArray[np.float32]:
        to_source = np.array([[scale[1], 0, start[1]], [0, scale[0], start[0]]])  # OpenCV says (x, y)
        warped = cv2.warpAffine(
            source,
            to_source,
            (shape[1], shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=outside,
        )
        return np.asarray(warped, dtype=np.float32)

    @staticmethod
    def _take_nearest(
        source: NDArray[np.uint8],
        start: tuple[float, float],
        scale: tuple[float, float],
        shape: tuple[int, int],
        ties_go_up: bool = True,
    ) -> NDArray[np.uint8]:
        # OpenCV's nearest neighbour rounds in fixed point and misses 0.2 % of the pixels; this is exact.
        # Half-way between two pixels, the way back has to round against the way there: both up would shift by one.
        half = 0.5 + 1e-6  # what differs from half-way by rounding alone is half-way
        picked = []
        inside = []
        for axis in range(2):
            place = start[axis] + scale[axis] * np.arange(shape[axis])
            nearest = (np.floor(place + half) if ties_go_up else np.ceil(place - half)).astype(np.int64)
            inside.append((nearest >= 0) & (nearest < source.shape[axis]))
            picked.append(nearest.clip(0, source.shape[axis] - 1))
        taken = source[np.ix_(picked[0], picked[1])]
        taken[~inside[0]] = 0
        taken[:, ~inside[1]] = 0
        return taken


@dataclass(frozen=True)
class Placement:
    """Where a crop lies on its slice.

    Attributes:
        view: how the slice is turned before it is cropped.
        grid: the crop, on the turned slice.
        shape: (rows, columns) of the slice as it is stored.
    """

    view: View
    grid: CropGrid
    shape: tuple[int, int]

    @classmethod
    def around_body(
        cls, hu: NDArray[Any], affine_lps: ArrayLike, size: int, pixel_mm: float | None = None
    ) -> "Placement":
        """The crop around the body, for neighbouring slices around all their bodies.

        Args:
            hu: (C, row, column) Hounsfield units.
            affine_lps: 4x4 of the slice, (row, column, slice, 1) to LPS mm.
            size: pixels a side of the crop.
            pixel_mm: of the crop, see `CropGrid.around`.
        """
        row_mm, column_mm, _ = spacing_mm(affine_lps)
        return cls.around([find_body(channel, (row_mm, column_mm)) for channel in hu], affine_lps, size, pixel_mm)

    @classmethod
    def around(
        cls, bodies: Sequence[Body], affine_lps: ArrayLike, size: int, pixel_mm: float | None = None
    ) -> "Placement":
        """The crop around bodies that are known already.

        Args:
            bodies: of a slice, or of neighbouring ones.
            affine_lps: 4x4 of the slice, (row, column, slice, 1) to LPS mm.
            size: pixels a side of the crop.
            pixel_mm: of the crop, see `CropGrid.around`.
        """
        view, shape = View.of(affine_lps), bodies[0].shape
        row_mm, column_mm = bodies[0].spacing_mm
        seen_mm = view.turn_pair(row_mm, column_mm)
        box = view.turn_box(box_around(bodies), shape)
        return cls(view, CropGrid.around(box, seen_mm, size, pixel_mm), shape)

    @property
    def matrix(self) -> Affine:
        """4x4, (row, column, slice, 1) of the crop to (row, column, slice, 1) of the slice."""
        return self.view.matrix(self.shape) @ self.grid.matrix

    @property
    def turned_shape(self) -> tuple[int, int]:
        """(rows, columns) of the slice as it is seen."""
        return self.view.turn_pair(*self.shape)

    def crop_image(self, channels: NDArray[Any]) -> NDArray[np.float32]:
        """(C, row, column) of the slice to (C, S, S), linearly."""
        turned = self.view.turn(channels)
        return np.stack([self.grid.crop_image(channel.astype(np.float32, copy=False)) for channel in turned])

    def crop_label_map(self, channels: NDArray[Any]) -> NDArray[Any]:
        """(C, row, column) of the slice to (C, S, S), the nearest id for each pixel."""
        return np.stack([self.grid.crop_label_map(channel) for channel in self.view.turn(channels)])

    def restore_channels(self, probability: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The likeliest channel of each pixel of the slice: probabilities are warped linearly, then compared.

        What is warped is by how much each label is likelier than background, which spares one map. Never more than two
        are held, and background wins ties, as well as everything outside the crop.

        A label that is nowhere as likely as 1 in K can win nowhere, because one of K always is: it is left out.

        Args:
            probability: (K, S, S) on the crop, background first; K is at most 255.

        Returns:
            (row, column) uint8 channel numbers.
        """
        shape = self.turned_shape
        best = np.zeros(shape, dtype=np.float32)
        channels = np.zeros(shape, dtype=np.uint8)
        least = 0.999 / len(probability)  # less than 1 in K by more than what rounding can do
        for number in range(1, len(probability)):
            if probability[number].max() < least:
                continue
            other = self.grid.restore_probability(probability[number] - probability[0], shape)
            wins = np.asarray(cv2.compare(other, best, cv2.CMP_GT))  # 255 or 0
            cv2.max(best, other, dst=best)
            # Numbers ascend, so where this one wins it is larger than whatever won before: 10 times faster than argmax.
            cv2.max(channels, wins & np.uint8(number), dst=channels)
        return self.view.turn_back(channels[None])[0]
