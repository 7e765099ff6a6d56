"""What augmentation draws: changes of place (`warp` carries them out) and of appearance (`appearance` does)."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sarco.core.training_options import AugmentOptions

# Light.
ROTATION_DEG = 10.0  # uniform within +-
SCALE = 1.3  # size changes by a factor from 1 / this to this: how much of the box a trunk fills differs that much
BEND_POINTS = 6  # control points a side of the elastic deformation
BEND_SHARE = 0.02  # standard deviation of a control point's shift, as a share of the image's side
BEND_LIMIT = 1.4  # in standard deviations; from 1.7 on, the worst combination folds the image over itself
GAIN = 0.08  # contrast changes by a factor within 1 +- this, about soft tissue
SHIFT_HU = 10.0  # brightness, uniform within +-
NOISE_HU = 15.0  # largest standard deviation of added noise

# Strong: the probability of each kind at the usual --aug_prob; in proportion to it elsewhere.
USUAL_PROBABILITY = 0.2
STRONG_PROBABILITIES = {
    "mirror": 0.5,  # and never more: a patient who is always mirrored is as one-sided as one who never is
    "rotation": 0.7,
    "size": 0.7,
    "stretch": 0.4,
    "shift": 0.5,
    "elastic": 0.4,
    "contrast": 0.4,
    "tone": 0.3,
    "noise": 0.4,
    "focus": 0.3,
    "coarseness": 0.35,
    "neighbours": 0.4,
    "arms": 0.1,
    "table": 0.15,
    "metal": 0.04,
    "cut": 0.15,
}
STRONG_ROTATION_DEG = 20.0
STRONG_SIZES = (0.7, 1.4)
STRETCH = 1.15  # wider by up to this and flatter by as much, or the other way round
MOVE = 0.1  # shift, a share of the image's side
STRONG_GAINS = (0.8, 1.25)  # tube voltage changes the contrast of soft tissue by about a tenth, agents by more
STRONG_SHIFT_HU = 25.0
TONE_HU = 30.0  # what gamma does to the middle of the soft-tissue range: 0.5 ** 0.86 of 600 HU is 30 HU off the middle
STRONG_NOISE_HU = (4.0, 40.0)  # from a slow scan of thick slices to a low-dose one of thin slices
TEXTURES = 3  # kinds of noise that `sarco.augmentation.appearance` knows, soft to sharp
BLUR_MM = (0.5, 2.0)  # standard deviation of a soft kernel beyond that of the scan
SHARPEN = (0.2, 1.0)  # share of the detail that is added once more
LOWEST_RESOLUTION_MM = 5.0  # spacing that low resolution goes down to: 3 mm is usual for volumes that were resampled
THICKNESS = (0.2, 0.67)  # share of the neighbours in a thick slice; 0.67 averages three
STEPS = (0.3, 1.5)  # distance of the neighbours, in steps of the series

_NO_SHIFT = (0.0, 0.0)


@dataclass(frozen=True)
class Augmentation:
    """What happens to one sample.

    Attributes:
        matrix: 2x2, from (row, column) offsets to the centre in the result to such offsets in the source.
        bend: (n, n, 2) shifts of control points as a share of the side, or None.
        gain, shift_hu, noise_hu: contrast about soft tissue, brightness, standard deviation of noise.
        noise_seed: of the noise, and of the details of arms, table, metal and cut.
        shift: (down, right), how far the picture moves as a share of the side.
        tone_hu: how much brighter the middle of the soft-tissue range becomes while its ends stay, as gamma does.
        texture: of the noise, from 0 (soft kernel) to TEXTURES - 1 (sharp kernel); None for white noise.
        blur_px: standard deviation of a soft kernel; 0 for none.
        sharpen: share of the detail that a sharp kernel adds; 0 for none.
        coarseness: how many pixels make one of low resolution; 1 for none.
        neighbours: 3x3, which slices make up each of three, row by row; None where they stay.
        scene: which of arms, table, metal and cut are there.
    """

    matrix: NDArray[np.float64]
    bend: NDArray[np.float64] | None
    gain: float
    shift_hu: float
    noise_hu: float
    noise_seed: int
    shift: tuple[float, float] = _NO_SHIFT
    tone_hu: float = 0.0
    texture: float | None = None
    blur_px: float = 0.0
    sharpen: float = 0.0
    coarseness: float = 1.0
    neighbours: NDArray[np.float64] | None = None
    scene: frozenset[str] = frozenset()

    @property
    def mirrors(self) -> bool:
        """Whether left and right of the patient change places; two flips, or a rotation, do not do that."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def moves(self) -> bool:
        """Whether any pixel changes its place."""
        return self.bend is not None or self.shift != _NO_SHIFT or not np.array_equal(self.matrix, np.eye(2))


def draw_augmentation(
    rng: np.random.Generator, options: AugmentOptions, pixel_mm: float = 1.0, may_mirror: bool = False
) -> Augmentation:
    """Draws what happens to a sample.

    Args:
        rng: the sample's own generator.
        options: which kinds are wanted.
        pixel_mm: side of a pixel, about.
        may_mirror: whether strong augmentation may mirror the patient; flips that are asked for always do.
    """
    if options.augment != "strong":
        return _draw_light(rng, options.do_flips, options.do_elastic_transforms or options.augment == "light", options)
    flips = _draw_light(rng, True, False, options).matrix if options.do_flips else np.eye(2)
    return _draw_strong(rng, options.aug_prob / USUAL_PROBABILITY, flips, pixel_mm, may_mirror)


def _draw_light(rng: np.random.Generator, flips: bool, elastic: bool, options: AugmentOptions) -> Augmentation:
    """Each kind of change has probability ``aug_prob``; HU changes go along with either kind of change of place."""

    def happens(wanted: bool) -> bool:
        return bool(rng.random() < options.aug_prob) and wanted  # drawn in any case: flags do not shift other draws

    matrix = np.eye(2)
    if happens(flips):
        matrix = np.diag([-1.0, 1.0]) @ matrix
    if happens(flips):
        matrix = np.diag([1.0, -1.0]) @ matrix
    if happens(flips):
        matrix = np.array([[0.0, -1.0], [1.0, 0.0]]) @ matrix
    angle = np.deg2rad(rng.uniform(-ROTATION_DEG, ROTATION_DEG))
    if happens(elastic):
        matrix = matrix @ _rotation(angle)
    scale = SCALE ** rng.uniform(-1, 1)
    if happens(elastic):
        matrix = matrix * scale
    shifts = _draw_bend(rng)
    bend = shifts if happens(elastic) else None
    any_wanted = flips or elastic
    contrast, noise = happens(any_wanted), happens(any_wanted)
    gain, shift = rng.uniform(1 - GAIN, 1 + GAIN), rng.uniform(-SHIFT_HU, SHIFT_HU)
    noise_hu = rng.uniform(0, NOISE_HU)
    return Augmentation(
        matrix=matrix,
        bend=bend,
        gain=gain if contrast else 1.0,
        shift_hu=shift if contrast else 0.0,
        noise_hu=noise_hu if noise else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )


def _draw_strong(
    rng: np.random.Generator, factor: float, flips: NDArray[np.float64], pixel_mm: float, may_mirror: bool
) -> Augmentation:
    """Every kind by its own probability times a factor, after flips; a number is drawn whether its kind happens or not.

    Where the picture is turned, stretched and so on, the patient is mirrored first, then stretched along his own axes.
    """
    chance = dict(zip(STRONG_PROBABILITIES, rng.random(len(STRONG_PROBABILITIES)).tolist(), strict=True))
    happens = {kind: chance[kind] < STRONG_PROBABILITIES[kind] * factor for kind in chance}
    happens["mirror"] = may_mirror and chance["mirror"] < min(0.5, STRONG_PROBABILITIES["mirror"] * factor)
    angle = np.deg2rad(rng.uniform(-STRONG_ROTATION_DEG, STRONG_ROTATION_DEG))
    size = _draw_factor(rng, *STRONG_SIZES)
    stretch = STRETCH ** rng.uniform(-0.5, 0.5)
    down, right = rng.uniform(-MOVE, MOVE, 2).tolist()
    bend = _draw_bend(rng) * rng.uniform(0.3, 1)
    matrix = flips @ np.diag([1.0, -1.0]) if happens["mirror"] else flips
    if happens["stretch"]:
        matrix = matrix @ np.diag([stretch, 1 / stretch])
    if happens["rotation"]:
        matrix = matrix @ _rotation(angle)
    place = Augmentation(
        matrix=matrix / size if happens["size"] else matrix,
        bend=bend if happens["elastic"] else None,
        gain=1.0,
        shift_hu=0.0,
        noise_hu=0.0,
        noise_seed=int(rng.integers(2**31)),
        shift=(down, right) if happens["shift"] else _NO_SHIFT,
        scene=frozenset(kind for kind in ("arms", "table", "metal", "cut") if happens[kind]),
    )
    return _draw_look(rng, place, happens, pixel_mm)


def _draw_look(
    rng: np.random.Generator, place: Augmentation, happens: dict[str, bool], pixel_mm: float
) -> Augmentation:
    """Adds what strong augmentation does to HU."""
    gain, shift_hu = _draw_factor(rng, *STRONG_GAINS), rng.uniform(-STRONG_SHIFT_HU, STRONG_SHIFT_HU)
    tone_hu = rng.uniform(-TONE_HU, TONE_HU)
    noise_hu, texture = _draw_factor(rng, *STRONG_NOISE_HU), rng.uniform(0, TEXTURES - 1)
    soft, blur_mm, sharpen = rng.random() < 0.5, rng.uniform(*BLUR_MM), rng.uniform(*SHARPEN)
    coarseness = _draw_factor(rng, 1.0, max(1.0, LOWEST_RESOLUTION_MM / pixel_mm))
    neighbours = _draw_neighbours(rng)
    return replace(
        place,
        gain=gain if happens["contrast"] else 1.0,
        shift_hu=shift_hu if happens["contrast"] else 0.0,
        tone_hu=tone_hu if happens["tone"] else 0.0,
        noise_hu=noise_hu if happens["noise"] else 0.0,
        texture=texture,
        blur_px=blur_mm / pixel_mm if happens["focus"] and soft else 0.0,
        sharpen=sharpen if happens["focus"] and not soft else 0.0,
        coarseness=coarseness if happens["coarseness"] else 1.0,
        neighbours=neighbours if happens["neighbours"] else None,
    )


def _draw_neighbours(rng: np.random.Generator) -> NDArray[np.float64]:
    """3x3: slices nearer or further apart, repeated as at the end of a series, or thick and so averaged."""
    kind, thickness = rng.random(), rng.uniform(*THICKNESS)
    below = above = rng.uniform(*STEPS)
    if kind < 0.2:
        below = above = 0.0
    elif kind < 0.3:
        below, above = (0.0, 1.0) if rng.random() < 0.5 else (1.0, 0.0)
    elif kind < 0.65:  # a thick slice of the same step
        half = thickness / 2
        return np.array([[1 - half, half, 0], [half, 1 - thickness, half], [0, half, 1 - half]])
    return np.array([[below, 1 - below, 0], [0, 1, 0], [0, 1 - above, above]])


def _draw_bend(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.standard_normal((BEND_POINTS, BEND_POINTS, 2)).clip(-BEND_LIMIT, BEND_LIMIT) * BEND_SHARE


def _draw_factor(rng: np.random.Generator, least: float, most: float) -> float:
    """Uniform in its logarithm: twice as large is as likely as half as large."""
    return math.exp(rng.uniform(math.log(least), math.log(most)))


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
