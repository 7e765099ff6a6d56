"""Where the body is in a slice: HU in, box out."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

AIR_HU = -1024.0  # what stands where a scanner saw nothing; the lowest HU of a 12-bit scale
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
class Box:
    """A rectangle in pixel units: row 0 reaches from edge 0 to edge 1.

    Attributes:
        top, left, bottom, right: edges along rows (top, bottom) and columns (left, right).
    """

    top: float
    left: float
    bottom: float
    right: float

    def union(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


def find_body_mask(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> tuple[NDArray[np.bool_], float, float]:
    """A coarse mask of the body without table and arms.

    Args:
        hu: (row, column) Hounsfield units.
        spacing_mm: distance between rows, then between columns.

    Returns:
        (row, column) mask on coarse pixels, and how many pixels of the slice one coarse pixel spans along rows and
        along columns. The mask is empty where no body was found.
    """
    coarse, per_row, per_column = coarsen(hu, spacing_mm)
    pixel_mm = per_row * spacing_mm[0], per_column * spacing_mm[1]
    arms, count = find_arms(coarse, pixel_mm)
    if count:  # without them first, so that the opening takes the rim that an arm leaves at the trunk
        coarse = np.where(arms, np.float32(AIR_HU), coarse)
    return body_of_coarse(coarse, pixel_mm), per_row, per_column


def coarsen(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> tuple[NDArray[np.float32], float, float]:
    """A slice averaged onto pixels of about `COARSE_PIXEL_MM`.

    Args:
        hu: (row, column) Hounsfield units.
        spacing_mm: distance between rows, then between columns.

    Returns:
        (row, column) HU, and how many pixels of the slice one coarse pixel spans along rows and along columns.
    """
    rows, columns = hu.shape
    coarse_rows = max(1, min(rows, round(rows * spacing_mm[0] / COARSE_PIXEL_MM)))
    coarse_columns = max(1, min(columns, round(columns * spacing_mm[1] / COARSE_PIXEL_MM)))
    coarse = cv2.resize(hu, (coarse_columns, coarse_rows), interpolation=cv2.INTER_AREA)
    return coarse, rows / coarse_rows, columns / coarse_columns


def body_of_coarse(coarse: NDArray[np.float32], pixel_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """The mask of `find_body_mask` on a slice that is coarse already.

    Args:
        coarse: (row, column) HU of `coarsen`.
        pixel_mm: distance between its rows, then between its columns.
    """
    tissue = (coarse > BODY_THRESHOLD_HU).astype(np.uint8)
    kernel = cv2.getStructuringElement(
        cv2.MORPH_ELLIPSE, (_odd(OPENING_MM / pixel_mm[1]), _odd(OPENING_MM / pixel_mm[0]))
    )
    # A body that the field of view cuts must not be worn off at the edge, so outside counts as tissue.
    opened = cv2.erode(tissue, kernel, borderType=cv2.BORDER_REPLICATE)
    opened = cv2.dilate(opened, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)

    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0  # the background
    smallest = max(areas.max() * SHARE_OF_LARGEST, SMALLEST_BODY_CM2 * 100 / (pixel_mm[0] * pixel_mm[1]))
    keep = areas >= smallest if count > 1 else np.zeros(1, dtype=bool)
    return keep[parts]


def find_arms(coarse: NDArray[np.float32], pixel_mm: tuple[float, float]) -> tuple[NDArray[np.bool_], int]:
    """The arms in a slice, also where they lie against the trunk.

    An arm is a part beside the trunk, much smaller than it, with bone inside. It comes apart under an erosion wider
    than where it touches; gas and lungs are filled first, so that nothing inside the trunk does. Parts of the body
    that are nearly as large as the largest are legs.

    Args:
        coarse: (row, column) HU of `sarco.body.coarsen`.
        pixel_mm: size of a coarse pixel along rows and along columns.

    Returns:
        Mask of the arms on coarse pixels, and how many there are.
    """
    arms = np.zeros(coarse.shape, dtype=np.bool_)
    tissue = (coarse > BODY_THRESHOLD_HU).astype(np.uint8)
    solid = _fill(_dilate(_erode(tissue, OPENING_MM, pixel_mm), OPENING_MM, pixel_mm))
    parts = _cut_apart(solid, pixel_mm)
    pixel_cm2 = pixel_mm[0] * pixel_mm[1] / 100
    areas_cm2 = [float(part.sum()) * pixel_cm2 for part in parts]
    bone = coarse > ARM_BONE_HU
    count = 0
    for part, area_cm2 in zip(parts, areas_cm2, strict=True):
        is_slim = SMALLEST_ARM_CM2 <= area_cm2 < SHARE_OF_LARGEST * max(areas_cm2)
        if is_slim and float((part & bone).sum()) * pixel_cm2 >= SMALLEST_ARM_BONE_CM2:
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
        grown = _dilate((cores == k).astype(np.uint8), ARM_SEAM_MM, pixel_mm)
        parts.append((grown > 0) & (solid > 0))
    return parts


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


def find_body_box(hu: NDArray[np.float32], spacing_mm: tuple[float, float]) -> Box:
    """The box around the body in a slice, with a small margin; the whole slice where no body was found.

    Args:
        hu: (row, column) Hounsfield units.
        spacing_mm: distance between rows, then between columns.
    """
    mask, per_row, per_column = find_body_mask(hu, spacing_mm)
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Box(0.0, 0.0, float(hu.shape[0]), float(hu.shape[1]))
    row_margin, column_margin = MARGIN_MM / spacing_mm[0], MARGIN_MM / spacing_mm[1]
    return Box(
        top=float(rows[0] * per_row - row_margin),
        left=float(columns[0] * per_column - column_margin),
        bottom=float((rows[-1] + 1) * per_row + row_margin),
        right=float((columns[-1] + 1) * per_column + column_margin),
    )


def _odd(size: float) -> int:
    return max(1, 2 * round((size - 1) / 2) + 1)
