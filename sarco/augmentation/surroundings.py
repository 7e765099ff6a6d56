"""What else lies in the picture: arms beside the trunk, a table below it, metal with its streaks, an edge of the view.

Sizes are in mm, so that they fit any grid; what is pasted goes into the air around the body and never onto it.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco.augmentation.draws import Augmentation
from sarco.scan.hu import AIR_HU

Slice = NDArray[np.float32]
Mask = NDArray[np.bool_]

_BODY_HU = -300.0  # between air and fat
_SEARCH_SIDE = 128  # pixels a side that are enough to find the body
_PARTS = ("arms", "table", "metal", "cut")  # each with chance of its own

# An arm: ellipse of fat, in it muscle, in that one bone (upper arm) or two (forearm) with marrow.
_ARM_MM = (28.0, 55.0)  # half its diameter
_ARM_FAT_MM = (3.0, 10.0)
_ARM_BONE_MM = (7.0, 12.0)  # half its diameter
_FAT_HU, _MUSCLE_HU = (-115.0, -85.0), (35.0, 70.0)
_CORTEX_HU, _MARROW_HU = (500.0, 1100.0), (-50.0, 300.0)
# A table: two shells of carbon fibre with foam between them, which is as dark as air in every soft-tissue window.
_TABLE_MM = (400.0, 530.0)  # width
_TABLE_GAP_MM, _TABLE_DEPTH_MM, _TABLE_CURVE_MM = (0.0, 25.0), (15.0, 60.0), (0.0, 70.0)
_SHELL_MM, _SHELL_HU = (1.5, 4.0), (-150.0, 300.0)
# Metal: a clip, a screw, a rod.
_METAL_MM, _METAL_HU = (1.5, 6.0), (2000.0, 3000.0)
_BONE_HU = 200.0
_STREAK_HU, _STREAK_MM = (50.0, 200.0), (20.0, 60.0)  # strength beside the metal, and where half of it is left
_RAYS = 180  # directions of streaks, over half a turn
_HIGHEST_HU = 3071.0  # of a 12-bit scale
# A cut of the view, in shares of the body's box.
_DISC_RADIUS, _DISC_OFF = (0.75, 1.05), 0.15
_SIDE_CUT = 0.2


@dataclass(frozen=True)
class BodyOutline:
    """Where the body is.

    Attributes:
        around: (s, s), air around the body on a coarser grid, a pixel of it further; air in lungs and bowel is not.
        top, left, bottom, right: its box in pixels; bottom and right lie behind it.
    """

    around: NDArray[np.uint8]
    top: int
    left: int
    bottom: int
    right: int

    @property
    def centre(self) -> tuple[float, float]:
        """(row, column) of the middle of the box."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2

    def inside(self, hu: Slice) -> Mask:
        """(S, S), all but the air around the body."""
        near = cv2.resize(self.around, hu.shape[::-1], interpolation=cv2.INTER_NEAREST)
        return cv2.bitwise_and(near, cv2.compare(hu, _BODY_HU, cv2.CMP_LE)) == 0


def find_outline(hu: Slice) -> BodyOutline | None:
    """The largest thing in a slice (S, S); None where there is nothing but air."""
    step = max(1, len(hu) // _SEARCH_SIDE)
    filled = cv2.copyMakeBorder(
        (hu[::step, ::step] > _BODY_HU).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    cv2.floodFill(filled, None, (0, 0), 2)
    around = (filled[1:-1, 1:-1] == 2).astype(np.uint8)
    n, _, stats, _ = cv2.connectedComponentsWithStats(1 - around)
    if n < 2:
        return None
    left, top, width, height, _ = (step * int(value) for value in stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())])
    wide = cv2.dilate(around, np.ones((3, 3), np.uint8))
    return BodyOutline(wide, top, left, top + height, left + width)


def add_surroundings(
    hu: NDArray[np.float32], label: NDArray[np.int16], augmentation: Augmentation, pixel_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Pastes arms and a table into the air around the body, and puts metal into it.

    Args:
        hu: (C, S, S); all slices get the same.
        label: (S, S) channel numbers; background where metal lies.
        augmentation: its ``scene`` says what, its ``noise_seed`` how.
        pixel_mm: side of a pixel, about.

    Returns:
        New arrays where there is a body.
    """
    middle = hu[len(hu) // 2]
    outline = find_outline(middle)
    if outline is None:
        return hu, label
    hu, label = hu.copy(), label.copy()
    pasted = np.full_like(middle, AIR_HU)
    if "arms" in augmentation.scene:
        _draw_arms(pasted, outline, _chance_of("arms", augmentation), pixel_mm)
    if "table" in augmentation.scene:
        _draw_table(pasted, outline, _chance_of("table", augmentation), pixel_mm)
    if augmentation.scene & {"arms", "table"}:
        pasted = cv2.GaussianBlur(pasted, (0, 0), 0.6)  # edges as a scanner shows them
        pasted[outline.inside(middle)] = AIR_HU
        np.maximum(hu, pasted, out=hu)
    if "metal" in augmentation.scene:
        _put_metal(hu, label, outline, _chance_of("metal", augmentation), pixel_mm)
    return hu, label


def cut_view(
    hu: NDArray[np.float32], label: NDArray[np.int16], augmentation: Augmentation
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Cuts the body with a disc or a rectangle, as a field of view that is too small does.

    Outside there is air and background, because a network can only say background where it sees nothing.

    Args:
        hu: (C, S, S).
        label: (S, S) channel numbers.
        augmentation: its ``noise_seed`` says how.
    """
    outline = find_outline(hu[len(hu) // 2])
    if outline is None:
        return hu, label
    outside = _draw_view(hu.shape[-1], outline, _chance_of("cut", augmentation)) == 0
    return np.where(outside, np.float32(AIR_HU), hu), np.where(outside, label.dtype.type(0), label)


def _chance_of(part: str, augmentation: Augmentation) -> np.random.Generator:
    return np.random.default_rng((augmentation.noise_seed, 1 + _PARTS.index(part)))


def _draw_arms(canvas: Slice, outline: BodyOutline, rng: np.random.Generator, pixel_mm: float) -> None:
    """Draws one arm or both, beside the body or a little before it."""
    which = rng.choice([-1, 0, 1])  # the left one, both, the right one
    height = outline.bottom - outline.top
    for side, edge in ((-1, outline.left), (1, outline.right)):
        radii = rng.uniform(*_ARM_MM) * rng.uniform(0.8, 1.2, 2) / pixel_mm
        column = edge + side * radii[1] * rng.uniform(0.8, 1.3)
        row = outline.centre[0] + height * rng.uniform(-0.45, 0.3)
        _draw_arm(canvas, (row, column), radii, rng, pixel_mm) if which in (0, side) else None


def _draw_arm(
    canvas: Slice, centre: tuple[float, float], radii: NDArray[np.float64], rng: np.random.Generator, pixel_mm: float
) -> None:
    turn = rng.uniform(0, 180)
    _fill_ellipse(canvas, centre, radii, turn, rng.uniform(*_FAT_HU))
    muscle = np.maximum(radii - rng.uniform(*_ARM_FAT_MM) / pixel_mm, 1)
    _fill_ellipse(canvas, centre, muscle, turn, rng.uniform(*_MUSCLE_HU))
    bone = rng.uniform(*_ARM_BONE_MM) * np.ones(2) / pixel_mm
    away = muscle.min() * 0.45 * np.array([np.sin(np.deg2rad(turn)), np.cos(np.deg2rad(turn))])
    for place in [-1, 1] if rng.random() < 0.5 else [0]:
        spot = (centre[0] + place * away[0], centre[1] + place * away[1])
        size = bone * (0.75 if place else 1.0)
        _fill_ellipse(canvas, spot, size, 0, rng.uniform(*_CORTEX_HU))
        _fill_ellipse(canvas, spot, size * 0.55, 0, rng.uniform(*_MARROW_HU))


def _fill_ellipse(
    canvas: NDArray[Any], centre: tuple[float, float], radii: NDArray[np.float64], turn_deg: float, value: float
) -> None:
    """Fills an ellipse; centre and radii are (row, column) in pixels, to a 16th of one."""
    middle = (round(16 * centre[1]), round(16 * centre[0]))
    axes = (max(1, round(16 * radii[1])), max(1, round(16 * radii[0])))
    cv2.ellipse(canvas, middle, axes, turn_deg, 0, 360, value, cv2.FILLED, cv2.LINE_8, 4)


def _draw_table(canvas: Slice, outline: BodyOutline, rng: np.random.Generator, pixel_mm: float) -> None:
    """Draws two shells below the body, flat or hollow."""
    half = rng.uniform(*_TABLE_MM) / 2 / pixel_mm
    top = outline.bottom + rng.uniform(*_TABLE_GAP_MM) / pixel_mm
    depth, curve = rng.uniform(*_TABLE_DEPTH_MM) / pixel_mm, rng.uniform(*_TABLE_CURVE_MM) / pixel_mm
    middle = outline.centre[1] + half * rng.uniform(-0.1, 0.1)
    shell_px, shell_hu = rng.uniform(*_SHELL_MM) / pixel_mm, rng.uniform(*_SHELL_HU)
    share = min(1.0, shell_px)  # a shell thinner than a pixel shows fainter
    across = np.linspace(-1, 1, 33)
    bulge = rng.uniform(0.5, 1.5)  # of the lower shell
    for low, bend in ((top, curve), (top + depth, curve * bulge)):
        points = np.stack([middle + half * across, low - bend * across**2], axis=-1)
        shell = np.rint(16 * points).astype(np.int32)
        level = AIR_HU + share * (shell_hu - AIR_HU)
        cv2.polylines(canvas, [shell], False, level, max(1, round(shell_px)), cv2.LINE_8, 4)


def _put_metal(
    hu: NDArray[np.float32], label: NDArray[np.int16], outline: BodyOutline, rng: np.random.Generator, pixel_mm: float
) -> None:
    """Puts metal into bone where there is any, into other unlabelled tissue elsewhere, and draws its streaks."""
    middle = hu[len(hu) // 2]
    free = (label == 0) & (middle > _BODY_HU) & outline.inside(middle)
    places = np.flatnonzero(free & (middle > _BONE_HU))
    places = places if len(places) else np.flatnonzero(free)
    if not len(places):
        return
    row, column = divmod(int(rng.choice(places)), len(label))
    radius = max(0.7, rng.uniform(*_METAL_MM) / pixel_mm)
    offsets = np.arange(len(label), dtype=np.float32)
    down, right = np.meshgrid(offsets - np.float32(row), offsets - np.float32(column), indexing="ij")
    distance, angle = cv2.cartToPolar(right, down)
    rays = cv2.GaussianBlur(np.tile(rng.standard_normal(_RAYS).astype(np.float32), 3)[None], (0, 0), rng.uniform(1, 3))
    rays = rays[0, _RAYS : 2 * _RAYS]
    rays -= rays.mean()
    rays *= np.float32(rng.uniform(*_STREAK_HU)) / rays.std()
    half_mm = rng.uniform(*_STREAK_MM) / pixel_mm
    streaks = rays[(angle * np.float32(_RAYS / np.pi)).astype(np.int32) % _RAYS]  # both ways through the metal alike
    streaks *= np.float32(half_mm) / (distance + np.float32(half_mm))
    spot = distance <= radius
    hu += streaks
    hu[:, spot] = rng.uniform(*_METAL_HU)
    np.clip(hu, AIR_HU, _HIGHEST_HU, out=hu)
    label[spot] = 0


def _draw_view(size: int, outline: BodyOutline, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(S, S), 1 where the scanner sees."""
    view = np.zeros((size, size), np.uint8)
    height, width = outline.bottom - outline.top, outline.right - outline.left
    row, column = outline.centre
    if rng.random() < 0.6:
        radius = max(height, width) / 2 * rng.uniform(*_DISC_RADIUS)
        off = rng.uniform(-_DISC_OFF, _DISC_OFF, 2)
        _fill_ellipse(view, (row + off[0] * height, column + off[1] * width), np.array([radius, radius]), 0, 1)
        return view
    cuts = rng.uniform(0, _SIDE_CUT, 4) * (rng.random(4) < 0.4)
    if not cuts.any():
        cuts[rng.integers(4)] = rng.uniform(0, _SIDE_CUT)
    first_row = round(outline.top + cuts[0] * height) if cuts[0] else 0
    last_row = round(outline.bottom - cuts[1] * height) if cuts[1] else size
    first_column = round(outline.left + cuts[2] * width) if cuts[2] else 0
    last_column = round(outline.right - cuts[3] * width) if cuts[3] else size
    view[first_row:last_row, first_column:last_column] = 1
    return view
