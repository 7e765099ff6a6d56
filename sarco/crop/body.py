"""Where the body is in a slice: HU in, box out."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.scan.hu import raise_to_air
from sarco.scan.view import Box

BODY_THRESHOLD_HU = -300  # between lung or air and fat, half-way up the skin's edge
COARSE_PIXEL_MM = 2.5  # the box is found on pixels of about this size: 15 times faster and at most 1 pixel off
OPENING_MM = 15.0  # what is thinner than this is table, tube or blanket, not trunk
SHARE_OF_LARGEST = 0.3  # a second part this large is a body part too (the other leg); an arm is 0.1-0.2 of a trunk
SMALLEST_BODY_CM2 = 15.0
MARGIN_MM = 5.0
ARM_SEAM_MM = 40.0  # an arm that lies against the trunk touches it over less than that
ARM_BONE_HU = 200.0  # on coarse pixels
SMALLEST_ARM_CM2, SMALLEST_ARM_BONE_CM2 = 12.0, 0.3  # a thin forearm has 20 cm2; a table's rail has no 12 cm2


@dataclass(frozen=True)
class Body:
    """What was found of the body in a slice. Masks lie on coarse pixels, of about `COARSE_PIXEL_MM`.

    Attributes:
        coarse_hu: (row, column) the slice, averaged onto coarse pixels; nothing in it is below `AIR_HU`.
        trunk: (row, column) mask of the body without table and arms; empty where no body was found.
        arms: (row, column) mask of the arms.
        n_arms: how many there are.
        shape: (rows, columns) of the slice.
        spacing_mm: of the slice: distance between rows, then between columns.
    """

    coarse_hu: NDArray[np.float32]
    trunk: NDArray[np.bool_]
    arms: NDArray[np.bool_]
    n_arms: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]

    @property
    def pixels_spanned(self) -> tuple[float, float]:
        """How many pixels of the slice a coarse pixel spans, along rows and along columns."""
        return self.shape[0] / self.trunk.shape[0], self.shape[1] / self.trunk.shape[1]

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Size of a coarse pixel along rows and along columns."""
        rows, columns = self.pixels_spanned
        return rows * self.spacing_mm[0], columns * self.spacing_mm[1]

    @property
    def pixel_cm2(self) -> float:
        """Area of a coarse pixel."""
        return self.pixel_mm[0] * self.pixel_mm[1] / 100

    @property
    def box(self) -> Box:
        """The box around the trunk in pixels of the slice, with a small margin; the whole slice where there is none."""
        rows = np.flatnonzero(self.trunk.any(axis=1))
        columns = np.flatnonzero(self.trunk.any(axis=0))
        if not rows.size:
            return Box(0.0, 0.0, float(self.shape[0]), float(self.shape[1]))
        per_row, per_column = self.pixels_spanned
        row_margin, column_margin = MARGIN_MM / self.spacing_mm[0], MARGIN_MM / self.spacing_mm[1]
        return Box(
            top=float(rows[0] * per_row - row_margin),
            left=float(columns[0] * per_column - column_margin),
            bottom=float((rows[-1] + 1) * per_row + row_margin),
            right=float((columns[-1] + 1) * per_column + column_margin),
        )


def find_body(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> Body:
    """Finds trunk and arms in a slice.

    Args:
        hu: (row, column) Hounsfield units; what scanners write beyond their circle (-2000, -3024) counts as air.
        spacing_mm: distance between rows, then between columns.
    """
    rows, columns = hu.shape
    coarse_rows = max(1, min(rows, round(rows * spacing_mm[0] / COARSE_PIXEL_MM)))
    coarse_columns = max(1, min(columns, round(columns * spacing_mm[1] / COARSE_PIXEL_MM)))
    coarse = average_onto((coarse_rows, coarse_columns), raise_to_air(hu))
    pixel_mm = rows / coarse_rows * spacing_mm[0], columns / coarse_columns * spacing_mm[1]
    tissue = (coarse > BODY_THRESHOLD_HU).astype(np.uint8)
    opened = _open(tissue, pixel_mm)
    arms, count = _find_arms(opened, coarse > ARM_BONE_HU, pixel_mm)
    if count:  # opened again without them, which takes the rim that an arm leaves at the trunk
        opened = _open(tissue & ~arms, pixel_mm)
    return Body(coarse, _large_parts(opened, pixel_mm), arms, count, (rows, columns), spacing_mm)


def average_onto(shape: tuple[int, ...], image: NDArray[Any]) -> NDArray[Any]:
    """An image averaged onto fewer pixels.

    Where it is at least twice as fine it is halved first: four times as fast, and a pixel of the result takes in less
    than one pixel of the image beyond its own edges.

    Args:
        shape: (rows, columns) of the result.
        image: (row, column) of any kind of number; the result is of the same kind.
    """
    rows, columns = image.shape
    if rows % 2 == 0 and columns % 2 == 0 and rows >= 2 * shape[0] and columns >= 2 * shape[1]:
        image = cv2.resize(image, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _large_parts(opened: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """The largest part of a mask and those that are nearly as large; none where all are tiny."""
    count, parts = cv2.connectedComponents(opened, connectivity=4)
    areas = np.bincount(parts.ravel(), minlength=count).astype(np.float64)
    areas[0] = 0  # the background
    smallest = max(areas.max() * SHARE_OF_LARGEST, SMALLEST_BODY_CM2 * 100 / (pixel_mm[0] * pixel_mm[1]))
    keep = areas >= smallest if count > 1 else np.zeros(1, dtype=bool)
    return opened > 0 if keep[1:].all() else keep[parts]


def _find_arms(
    opened: NDArray[np.uint8], bone: NDArray[np.bool_], pixel_mm: tuple[float, float]
) -> tuple[NDArray[np.bool_], int]:
    """The arms in a slice, also where they lie against the trunk.

    An arm is a part beside the trunk, much smaller than it, with bone inside. It comes apart under an erosion wider
    than where it touches; gas and lungs are filled first, so that nothing inside the trunk does. Parts of the body
    that are nearly as large as the largest are legs.

    Args:
        opened: (row, column) tissue on coarse pixels, without what is thin.
        bone: (row, column) which of them hold bone.
        pixel_mm: size of a coarse pixel along rows and along columns.

    Returns:
        Mask of the arms on coarse pixels, and how many there are.
    """
    arms = np.zeros(opened.shape, dtype=np.bool_)
    parts = _cut_apart(_fill(opened), pixel_mm)
    pixel_cm2 = pixel_mm[0] * pixel_mm[1] / 100
    areas_cm2 = [float(np.count_nonzero(part)) * pixel_cm2 for part in parts]
    count = 0
    for part, area_cm2 in zip(parts, areas_cm2, strict=True):
        is_slim = SMALLEST_ARM_CM2 <= area_cm2 < SHARE_OF_LARGEST * max(areas_cm2)
        if is_slim and float(np.count_nonzero(part & bone)) * pixel_cm2 >= SMALLEST_ARM_BONE_CM2:
            arms |= part
            count += 1
    return arms, count


def _cut_apart(solid: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> list[NDArray[np.bool_]]:
    """The parts of a mask that hang together over less than `ARM_SEAM_MM`; slim parts on their own stay whole."""
    eroded = _erode(solid, ARM_SEAM_MM, pixel_mm)
    count, wholes = cv2.connectedComponents(solid, connectivity=4)
    survives = np.bincount(wholes[eroded > 0], minlength=count) > 0
    parts = [wholes == k for k in range(1, count) if not survives[k]]
    count, cores = cv2.connectedComponents(eroded, connectivity=4)
    if count == 2:
        parts.append(survives[wholes] & (wholes > 0))
    for k in range(1, count if count > 2 else 1):
        parts.append(_grow_back((cores == k).astype(np.uint8), solid, pixel_mm))
    return parts


def _grow_back(core: NDArray[np.uint8], solid: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """What an erosion by `ARM_SEAM_MM` left of a part, with what it took; only looked for around it: saves time."""
    left, top, width, height = cv2.boundingRect(core)
    down, across = (round(ARM_SEAM_MM / mm) for mm in pixel_mm)
    around = (
        slice(max(0, top - down), top + height + down),
        slice(max(0, left - across), left + width + across),
    )
    part = np.zeros(solid.shape, dtype=np.bool_)
    part[around] = (_dilate(core[around], ARM_SEAM_MM, pixel_mm) > 0) & (solid[around] > 0)
    return part


def _open(mask: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> NDArray[np.uint8]:
    """The mask without what is thinner than `OPENING_MM`; a body that the field of view cuts is whole at the edge."""
    return _dilate(_erode(mask, OPENING_MM, pixel_mm), OPENING_MM, pixel_mm)


def _erode(mask: NDArray[np.uint8], size_mm: float, pixel_mm: tuple[float, float]) -> NDArray[np.uint8]:
    """Beyond the picture a mask counts as going on, so that nothing is worn off at its edge."""
    return cv2.erode(mask, _disc(size_mm, pixel_mm), borderType=cv2.BORDER_REPLICATE)


def _dilate(mask: NDArray[np.uint8], size_mm: float, pixel_mm: tuple[float, float]) -> NDArray[np.uint8]:
    return cv2.dilate(mask, _disc(size_mm, pixel_mm), borderType=cv2.BORDER_CONSTANT, borderValue=0)


def _disc(size_mm: float, pixel_mm: tuple[float, float]) -> NDArray[np.uint8]:
    size = [max(1, 2 * round((size_mm / mm - 1) / 2) + 1) for mm in pixel_mm]
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size[1], size[0]))


def _fill(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask without holes."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, thickness=cv2.FILLED)
