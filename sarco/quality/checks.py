"""What speaks against trusting one slice, in figures: field of view, arms, metal, implausible mask. Judges nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco.crop.body import BODY_THRESHOLD_HU, Body, find_body
from sarco.quality.likeness import coarsen_labels, slice_features
from sarco.scan.geometry import spacing_mm
from sarco.scan.hu import Scale, holds_tissue, judge_scale
from sarco.scan.labels import IGNORE_ID
from sarco.scan.view import View

METAL_HU = 2500.0  # cortical bone reaches about 2000; a 12-bit scale ends at 3071
BONE_HU = 300.0  # muscle stays below 150 with contrast and noise; cancellous bone begins at about 200, cortex at 500
AIR_BELOW_HU = -250.0  # fat ends at -190; half-way from muscle to gas lies at about -450
PADDING_HU = -1100.0  # no tissue and no air; scanners write -2000 or -3024 beyond their circle
PADDED_SHARE = 0.3  # of a coarse pixel: with more of it, the rest does not reach the body's threshold
SMALL_PIECE_CM2 = 0.5


@dataclass(frozen=True)
class SliceFindings:
    """One slice in figures.

    Attributes:
        scale: where air lies, and what speaks against the scale of the values.
        holds_tissue: whether pixels have the HU of soft tissue, see `sarco.scan.hu.holds_tissue`.
        body_cm2: area of the body without arms and table; 0 where none was found.
        body_width_mm, body_depth_mm: of the same, along columns and rows of the view; 0 where none was found.
        cut_mm: length over which the body lies at the edge of the field of view.
        arms, arms_cm2: arms in the picture, and their area.
        mask_cm2: area of all labels.
        mask_at_edge_mm: length over which labels lie at the edge of the field of view.
        metal_cm2: area at or above `METAL_HU`.
        bone_share, air_share: shares of the labels' area above `BONE_HU` and below `AIR_BELOW_HU`; 0 without labels.
        small_pieces, small_share: pieces of the labels below `SMALL_PIECE_CM2`, and their share of the area.
        features: what is compared with the training data (see `sarco.quality.likeness`).
    """

    scale: Scale
    holds_tissue: bool
    body_cm2: float
    body_width_mm: float
    body_depth_mm: float
    cut_mm: float
    arms: int
    arms_cm2: float
    mask_cm2: float
    mask_at_edge_mm: float
    metal_cm2: float
    bone_share: float
    air_share: float
    small_pieces: int
    small_share: float
    features: Mapping[str, float] = field(default_factory=dict)


def check_slice(
    hu: NDArray[np.float32], label_map: NDArray[np.uint8], affine_lps: ArrayLike, body: Body | None = None
) -> SliceFindings:
    """The figures of one slice.

    Args:
        hu: (row, column) Hounsfield units.
        label_map: (row, column) label ids; `sarco.scan.labels.IGNORE_ID` counts as background.
        affine_lps: (row, column, slice, 1) to LPS mm; its spacing counts.
        body: of the slice, where it is known already.
    """
    row_mm, column_mm, _ = spacing_mm(affine_lps)
    hu = np.ascontiguousarray(hu, dtype=np.float32)
    body = body or find_body(hu, (row_mm, column_mm))
    pixel_cm2 = body.pixel_cm2
    beyond = _beyond_view(body.coarse_hu, hu)
    at_edge = _grow(np.pad(beyond, 1, constant_values=True))[1:-1, 1:-1] & ~beyond
    # The opening of the body wears off a pixel.
    at_body = _grow(body.trunk) & (body.coarse_hu > BODY_THRESHOLD_HU) & ~body.arms
    muscle_share = coarsen_labels(label_map, body.trunk.shape)
    edge_mm = sum(body.pixel_mm) / 2
    mask = (label_map > 0) & (label_map < IGNORE_ID)
    values = hu[mask]
    extent_mm = [float(np.count_nonzero(body.trunk.any(axis=1 - axis)) * body.pixel_mm[axis]) for axis in (0, 1)]
    depth_mm, width_mm = View.of(affine_lps).turn_pair(*extent_mm)
    small, small_share = _small_pieces(mask, row_mm * column_mm / 100)
    return SliceFindings(
        scale=judge_scale(hu),
        holds_tissue=holds_tissue(hu),
        body_cm2=float(body.trunk.sum()) * pixel_cm2,
        body_width_mm=width_mm,
        body_depth_mm=depth_mm,
        cut_mm=float((at_body & at_edge).sum()) * edge_mm,
        arms=body.n_arms,
        arms_cm2=float(body.arms.sum()) * pixel_cm2,
        mask_cm2=values.size * row_mm * column_mm / 100,
        mask_at_edge_mm=float(((muscle_share > 0) & at_edge).sum()) * edge_mm,
        metal_cm2=float(np.count_nonzero(hu >= METAL_HU)) * row_mm * column_mm / 100,
        bone_share=float((values > BONE_HU).mean()) if values.size else 0.0,
        air_share=float((values < AIR_BELOW_HU).mean()) if values.size else 0.0,
        small_pieces=small,
        small_share=small_share,
        features=slice_features(body.coarse_hu, muscle_share, body.trunk, pixel_cm2),
    )


def _beyond_view(coarse: NDArray[np.float32], hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which coarse pixels the scanner did not see: padding, and what lies beyond its circle where that is one value."""
    beyond = np.zeros(coarse.shape, dtype=np.bool_)
    if float(hu.min()) < PADDING_HU:
        padding = (hu < PADDING_HU).astype(np.float32)
        beyond |= cv2.resize(padding, coarse.shape[::-1], interpolation=cv2.INTER_AREA) > PADDED_SHARE
    distance = _from_centre(coarse.shape[0], coarse.shape[1])
    pixel = 1.0 / coarse.shape[0]
    values = coarse[distance > 0.5 + 1.5 * pixel]  # nearer ones may hold a little of what is inside
    if values.size and float(np.ptp(values)) == 0:
        beyond |= distance > 0.5 - pixel / 4  # the circle runs through these
    return beyond


@lru_cache(maxsize=8)
def _from_centre(rows: int, columns: int) -> NDArray[np.float64]:
    """Distance of each pixel from the centre, in widths of the picture; 0 in pictures that are not square.

    Those have no circle: somebody has cut them already.
    """
    if abs(rows - columns) > 1:
        return np.zeros((rows, columns))
    row, column = np.indices((rows, columns))
    return np.hypot((row + 0.5) / rows - 0.5, (column + 0.5) / columns - 0.5)


def _grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its neighbours."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0


def _small_pieces(mask: NDArray[np.bool_], pixel_cm2: float) -> tuple[int, float]:
    """How many pieces of a mask are small, and their share of its area."""
    whole = mask.view(np.uint8)
    left, top, width, height = cv2.boundingRect(whole)
    if not width:
        return 0, 0.0
    filled = np.ascontiguousarray(whole[top : top + height, left : left + width])
    count, pieces = cv2.connectedComponents(filled, connectivity=8)  # with its own statistics 7 times slower
    areas = np.bincount(pieces.ravel(), minlength=count)[1:] * pixel_cm2
    small = areas < SMALL_PIECE_CM2
    return int(small.sum()), float(areas[small].sum() / areas.sum())
